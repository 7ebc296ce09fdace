"""What all scenarios share: when they began, whether what they measured is valid, and how it becomes a result."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_agent.bench.distribution import Series, agreement, distribution, spread
from edge_agent.bench.environment import Conditions, reasons, utc_now
from edge_agent.bench.method import Method, Session
from edge_agent.bench.report import Deadline, Result, Scenario
from edge_agent.hardware import Hardware


@dataclass(slots=True)
class Run:
    """One scenario while it runs."""

    scenario: Scenario
    method: Method
    session: Session
    board: Hardware
    started: str = field(default_factory=utc_now)
    began_ns: int = field(default_factory=time.monotonic_ns)
    before: Conditions | None = None

    def __post_init__(self) -> None:
        if self.before is None:
            self.before = Conditions.now(self.board)

    def faults(self, *, own_children_s: float = 0.0) -> list[str]:
        """Why nothing of it is to be believed, so far."""
        assert self.before is not None
        found = ["interrupted"] if self.session.interrupted else []
        after = Conditions.now(self.board)
        return found + reasons(self.scenario, self.before, after, self.board, own_children_s=own_children_s)

    def result(
        self,
        *,
        name: str,
        backend: str,
        measured: str,
        series: Series,
        seconds: float,
        least: int | None = None,
        faults: Sequence[str] | None = None,
        parts: Mapping[str, Sequence[int]] | None = None,
        **more: Any,
    ) -> Result:
        """``least``: how many there must be (the method's by default); ``faults``: those of the run, if asked already."""
        found = list(self.faults() if faults is None else faults)
        least = self.method.run_calls if least is None else least
        if series.count < least:
            found.append(f"too few samples ({series.count} of {least})")
        latency = series.distribution()
        taken = {stage: distribution(ns) for stage, ns in (parts or {}).items()}
        return Result(
            scenario=self.scenario,
            name=name,
            backend=backend,
            measured=measured,
            valid=not found,
            reasons=found,
            method=self.method.as_dict(),
            started=self.started,
            seconds=seconds,
            latency=latency,
            parts={stage: one for stage, one in taken.items() if one is not None},
            deadline=None
            if latency is None
            else Deadline(
                limit_ms=self.method.deadline_ms, misses=series.above(self.method.deadline_ms), of=latency.count
            ),
            segments=series.segments,
            spread=spread(series.segments),
            agreement=agreement(series.segments, latency.p50_us if latency else None),
            **more,
        )
