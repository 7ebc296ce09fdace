"""How calls are timed: after a warm-up, until both a least time and a least count are reached, several things in turns.

After TFLite's ``benchmark_model`` (a warm-up and a run, both by time and count) and MLPerf's loadgen (the run ends only when both
are met; a verdict with reasons). What neither does: the things to be compared take turns of some milliseconds, so that whatever
else the machine does meets all of them alike.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from edge_agent.bench.distribution import Series
from edge_agent.progress import Progress

SEGMENTS = 20
TURN_NS = 20_000_000
MOST_TIMES = 20
"""A run that does not come to its count in so many times its least time ends, as INVALID: too few samples."""


@dataclass(frozen=True, slots=True)
class Method:
    """Warm-up and run go on until both their time and their count are reached."""

    warmup_s: float = 0.5
    warmup_calls: int = 50
    run_s: float = 3.0
    run_calls: int = 1000
    deadline_ms: float = 20.0
    core: int | None = None
    """For ``streams``: the core to be pinned to; None for the last one allowed."""

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True)
class Session:
    """What Ctrl-C and the terminal have to do with it: set by the command line, looked at between calls."""

    interrupted: bool = False
    failed: list[str] = field(default_factory=list)
    """What could not be measured, in one line each: the rest goes on."""
    show_progress: bool | None = None

    def progress(self, label: str) -> Progress:
        return Progress(label, 1.0, enabled=self.show_progress)


@dataclass(slots=True)
class Contender:
    """One thing to be called. ``arguments`` are taken in turn."""

    call: Callable[[Any], object]
    arguments: Sequence[Any]
    series: Series = field(default_factory=Series)
    first_ns: int | None = None
    _next: int = 0

    def turn(self, least_ns: int, least: int, session: Session) -> list[int]:
        """Calls for so long, and so many."""
        call, arguments, clock = self.call, self.arguments, time.perf_counter_ns
        many, index = len(arguments), self._next
        taken: list[int] = []
        end = clock() + least_ns
        now = 0
        while (now < end or len(taken) < least) and not session.interrupted:
            argument = arguments[index]
            index = index + 1 if index + 1 < many else 0
            start = clock()
            call(argument)
            now = clock()
            taken.append(now - start)
        self._next = index
        if self.first_ns is None and taken:
            self.first_ns = taken[0]
        return taken


def in_turns(
    contenders: Sequence[Contender],
    method: Method,
    session: Session,
    label: str,
    *,
    warmed: Callable[[], None] | None = None,
) -> float:
    """Time all of them, each by the method; the seconds that the run took, warm-up aside. ``warmed``: called after that."""
    for one in contenders:
        one.turn(0, 1, session)  # the first call, which is kept apart
        one.turn(int(method.warmup_s * 1e9), method.warmup_calls, session)
    if warmed is not None:
        warmed()
    progress = session.progress(label)
    counts = [0] * len(contenders)
    spent = [0] * len(contenders)
    began = time.perf_counter_ns()
    longest = method.run_s * MOST_TIMES * len(contenders)
    # A turn must fit often into a segment, or the last one is most of the run.
    turn_ns = min(TURN_NS, int(method.run_s * 1e9 / SEGMENTS / 2) + 1)
    for turn in itertools.count(1):
        for i, one in enumerate(contenders):
            taken = one.turn(turn_ns, 1, session)
            one.series.add(taken)
            counts[i] += len(taken)
            spent[i] += sum(taken)
        seconds = (time.perf_counter_ns() - began) / 1e9
        done = min(
            min(used / 1e9 / method.run_s, count / method.run_calls) for used, count in zip(spent, counts, strict=True)
        )
        ends = done >= 1.0 or session.interrupted or seconds > longest
        if ends or done * SEGMENTS >= len(contenders[0].series.segments) + 1:
            for one in contenders:
                one.series.cut(seconds)
        if ends:
            break
        if turn % 4 == 0:
            progress.step(done, f"{min(counts)} calls")
    progress.close()
    return (time.perf_counter_ns() - began) / 1e9
