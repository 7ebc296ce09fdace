"""A part of the data, to see the way through with: evenly spread, always the same, and of everything at least one."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TypeVar

T = TypeVar("T")
WHOLE = 1.0


def thinned(items: Sequence[T], part: float) -> list[T]:
    """Every so many of them, in their order."""
    if part >= WHOLE:
        return list(items)
    kept = [item for i, item in enumerate(items) if int((i + 1) * part + 1e-9) > int(i * part + 1e-9)]
    return kept or list(items[:1])


def thinned_by(items: Sequence[T], part: float, kind: Callable[[T], Hashable]) -> list[T]:
    """The same of every kind alike, so that none is lost."""
    kinds: dict[Hashable, list[int]] = {}
    for i, item in enumerate(items):
        kinds.setdefault(kind(item), []).append(i)
    return [items[i] for i in sorted(at for places in kinds.values() for at in thinned(places, part))]
