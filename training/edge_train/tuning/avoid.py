"""What tuning does not try again: points that failed, and their neighbourhoods.

Each entry says why, which parameters it blames (a net that is too big is so whatever its rate) and how near is too near, in
the normalised space of `edge_train.tuning.space.distance`. The list is part of the study on disk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from edge_train.tuning.space import Params, Space, distance

SAME = 1e-9
"""Finished or pruned: that very point is not tried again, its neighbours may be."""
NEAR = 0.08
"""Failed for reasons of its own: neighbours would too."""
BLAMED = {
    "too big": ("architecture", "size", "extra.width"),
    "out of memory": ("architecture", "size", "extra.width", "batch"),
    "not a number": ("architecture", "size", "rate", "batch", "loss"),
}
"""Which parameters a failure is put down to; all of them where it is not named here."""


@dataclass(frozen=True, slots=True)
class Avoided:
    trial: int
    params: dict[str, Any]
    why: str
    radius: float
    names: tuple[str, ...] | None
    """The parameters blamed; None for all."""

    def near(self, space: Space, params: Params) -> bool:
        return distance(space, self.params, params, self.names) <= self.radius

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def from_json(entries: Iterable[dict[str, Any]]) -> list[Avoided]:
    return [
        Avoided(
            entry["trial"], entry["params"], entry["why"], entry["radius"],
            None if entry["names"] is None else tuple(entry["names"]),
        )
        for entry in entries
    ]  # fmt: skip


def entry(trial: int, params: Params, kind: str, detail: str = "") -> Avoided:
    """A failure of this kind. ``done`` and ``pruned`` are no failures: only the very point is not tried again."""
    harmless = kind in ("done", "pruned")
    names = BLAMED.get(kind)
    radius = SAME if harmless else NEAR
    return Avoided(trial, dict(params), f"{kind}: {detail}" if detail else kind, radius, names)


def reason(avoided: Sequence[Avoided], space: Space, params: Params) -> Avoided | None:
    """The entry that speaks against this point."""
    return next((each for each in avoided if each.near(space, params)), None)


def farthest(avoided: Sequence[Avoided], space: Space, candidates: Sequence[Params]) -> Params | None:
    """Of points drawn at random, the one farthest from all that is avoided; None where all of them are near something."""
    free = [params for params in candidates if reason(avoided, space, params) is None]
    return max(
        free,
        key=lambda params: min((distance(space, each.params, params, each.names) for each in avoided), default=0.0),
        default=None,
    )
