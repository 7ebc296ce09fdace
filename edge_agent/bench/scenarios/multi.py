"""``multi``: k windows that come at once, as the beats of k patients do: until the last of them has its scores."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edge_agent.bench.method import Contender, Method, Session, in_turns
from edge_agent.bench.report import Result
from edge_agent.bench.scenarios.common import Run
from edge_agent.bench.variants import Variant
from edge_agent.bench.windows import Inputs, golden
from edge_agent.hardware import Hardware

COUNTS = (2, 4, 8, 16)


def multi(
    variant: Variant, method: Method, session: Session, board: Hardware, counts: tuple[int, ...] = COUNTS
) -> list[Result]:
    inputs = golden(variant.artifact)
    contenders = [Contender(_together(variant.engine.invoke), _groups(inputs, count)) for count in counts]
    run = Run("multi", method, session, board)
    seconds = in_turns(contenders, method, session, f"{variant.artifact.name} multi")
    faults = [*variant.faults, *run.faults()]
    return [
        run.result(
            name=f"{count} at once",
            backend=variant.backend,
            measured=f"{count} calls of the engine one after the other, until the last has its scores",
            series=one.series,
            seconds=seconds,
            faults=faults,
            first_us=None if one.first_ns is None else one.first_ns / 1000,
        )
        for count, one in zip(counts, contenders, strict=True)
    ]


def _groups(inputs: list[Inputs], count: int) -> list[list[Inputs]]:
    """Each begins with another window."""
    many = len(inputs)
    return [[inputs[(start + i) % many] for i in range(count)] for start in range(many)]


def _together(invoke: Callable[[Inputs], Any]) -> Callable[[list[Inputs]], None]:
    def call(group: list[Inputs]) -> None:
        for one in group:
            invoke(one)

    return call
