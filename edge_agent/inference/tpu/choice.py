"""Which engine a model runs on: both are timed on this device, and the faster one is taken, unless it is hardly faster.

For models of a few thousand weights the way to the TPU and back takes longer than the CPU takes to compute, so nobody should
believe either without having measured it here.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from edge_agent.journey import Samples

CALLS = 200
MOST_S = 1.0
"""A model that takes long is timed on fewer calls."""
BETTER = 0.8
"""Who is not in use must need less than this part of the other's 99th percentile: a choice must not turn with the weather."""


@dataclass(frozen=True, slots=True)
class Timing:
    calls: int
    p50_us: float
    p99_us: float


@dataclass(frozen=True, slots=True)
class Choice:
    engine: Literal["cpu", "tpu"]
    why: str


Call = Callable[[tuple[Samples, ...]], object]


def measure(engines: Sequence[Call], cases: Sequence[tuple[Samples, ...]]) -> list[Timing]:
    """In turns, so that whatever else the machine does meets all of them."""
    taken: list[list[int]] = [[] for _ in engines]
    ends = time.monotonic() + MOST_S * len(engines)
    for case in itertools.islice(itertools.cycle(cases), CALLS):
        for engine, times in zip(engines, taken, strict=True):
            began = time.perf_counter_ns()
            engine(case)
            times.append(time.perf_counter_ns() - began)
        if time.monotonic() > ends:
            break
    return [timing(times) for times in taken]


def timing(ns: Sequence[int]) -> Timing:
    """Nearest rank."""
    ordered = sorted(ns)
    return Timing(len(ns), *(ordered[math.ceil(len(ns) * part) - 1] / 1000 for part in (0.5, 0.99)))


def choose(wanted: str, in_use: str, cpu: Timing, tpu: Timing) -> Choice:
    """``wanted``: auto or tpu. ``in_use``: the engine that has the advantage of being in use."""
    figures = f"p99 of {tpu.calls} calls: TPU {tpu.p99_us:.0f} us, CPU {cpu.p99_us:.0f} us"
    if wanted == "tpu":
        return Choice("tpu", f"as configured; {figures}")
    if in_use == "tpu":
        if cpu.p99_us < BETTER * tpu.p99_us:
            return Choice("cpu", f"the CPU is faster; {figures}")
        return Choice("tpu", f"the CPU is not clearly faster; {figures}")
    if tpu.p99_us < BETTER * cpu.p99_us:
        return Choice("tpu", f"the TPU is faster; {figures}")
    return Choice("cpu", f"the TPU is not clearly faster; {figures}")
