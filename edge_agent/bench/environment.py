"""What the figures were measured on, and whether that makes them worth believing."""

from __future__ import annotations

import hashlib
import os
import platform
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

import numpy as np

from edge_agent import __version__
from edge_agent.bench import edge_tpus
from edge_agent.bench.report import Environment, Scenario, State
from edge_agent.config import default_device
from edge_agent.errors import EngineError
from edge_agent.hardware import NOW_BITS, THROTTLE_BITS, Hardware, Times
from edge_agent.inference.engine import find_runtime
from edge_agent.process.memory import resident_mb

OTHERS_SHARE = 0.1
"""Of all cores, that other processes may take while something is measured."""
STEAL_SHARE = 0.02
COARSE_CLOCK_NS = 1000
FREQUENCY_FELL = 0.9
"""Of the highest frequency: what runs back to back and ends below it was slowed down."""
STEADY: frozenset[Scenario] = frozenset({"single", "multi"})
"""Their figures are of a processor at its full clock. The other scenarios have pauses, and what a governor makes of those is
part of what they measure."""

# Loading a library runs its code: in a process of its own, which may die or hang.
_ASK_LIBRARY = (
    "import ctypes, sys; library = ctypes.CDLL(sys.argv[1]); library.edgetpu_version.restype = ctypes.c_char_p; "
    "print(library.edgetpu_version().decode())"
)


def runtime() -> str | None:
    """Name and version of what runs the models on the CPU."""
    try:
        name = find_runtime()[0]
        return f"{name} {metadata.version(name)}"
    except (EngineError, metadata.PackageNotFoundError):
        return None


def environment(
    device: str | None = None,
    *,
    board: Hardware | None = None,
    models: Mapping[str, str] | None = None,
    configuration: Path | None = None,
) -> Environment:
    board = board or Hardware()
    delegate = edge_tpus.delegate(board)
    said = board.ask([sys.executable, "-c", _ASK_LIBRARY, delegate]) if delegate is not None else None
    try:
        digest = None if configuration is None else hashlib.sha256(configuration.read_bytes()).hexdigest()
    except OSError:
        digest = None
    throttled = board.throttled()
    return Environment(
        device=device or default_device(),
        board=board.model(),
        revision=board.revision(),
        cpu=board.cpu(),
        machine=platform.machine() or None,
        cores=board.cores(),
        cores_allowed=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None,
        virtual=board.virtual(),
        governor=board.governor(),
        frequency_mhz=board.frequency_mhz("scaling_cur_freq"),
        frequency_most_mhz=board.frequency_mhz("cpuinfo_max_freq"),
        memory_mb=board.memory_mb(),
        kernel=board.kernel(),
        os=board.os(),
        python=platform.python_version(),
        numpy=np.__version__,
        runtime=runtime(),
        delegate=delegate,
        libedgetpu=said.strip() or None if said is not None else None,
        tpu_clock=edge_tpus.tpu_clock(board),
        tpus=edge_tpus.tpus(board),
        temperature_c=board.temperatures_c(),
        throttled_before=throttled,
        throttled_after=throttled,
        load_1min=board.load_1min(),
        agent=__version__,
        configuration_sha256=digest,
        models=dict(models or {}),
        time=utc_now(),
    )


def utc_now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def state(board: Hardware, at_s: float) -> State:
    """One moment of a soak."""
    throttled = board.throttled()
    now = {name for bit, name in THROTTLE_BITS.items() if bit < NOW_BITS}
    hot = [tpu.temperature_c for tpu in edge_tpus.tpus(board) or () if tpu.temperature_c is not None]
    return State(
        at_s=at_s,
        temperature_c=board.temperatures_c(),
        frequency_mhz=board.frequency_mhz("scaling_cur_freq"),
        throttled=None if throttled is None else [name for name in throttled if name in now],
        memory_available_mb=board.memory_mb("MemAvailable"),
        resident_mb=resident_mb(),
        load_1min=board.load_1min(),
        tpu_temperature_c=max(hot, default=None),
    )


@dataclass(frozen=True, slots=True)
class Conditions:
    """Looked at before a scenario and after it; what changed meanwhile may spoil it."""

    throttled: list[str] | None
    throttle_count: int | None
    times: Times | None
    own_s: float
    monotonic_ns: int
    utc_ns: int

    @staticmethod
    def now(board: Hardware) -> Conditions:
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return Conditions(
            throttled=board.throttled(),
            throttle_count=board.throttle_count(),
            times=board.times(),
            own_s=sum(one.ru_utime + one.ru_stime for one in used),
            monotonic_ns=time.monotonic_ns(),
            utc_ns=time.time_ns(),
        )


def reasons(
    scenario: Scenario, before: Conditions, after: Conditions, board: Hardware, *, own_children_s: float = 0.0
) -> list[str]:
    """Why a scenario that ran between the two is not to be believed. ``own_children_s``: of processes that still run."""
    found = []
    if after.throttled is not None:
        flags = sorted(
            {*after.throttled} - {*(before.throttled or ())} | _now(before.throttled) | _now(after.throttled)
        )
        if flags:
            found.append(f"throttled ({', '.join(flags)})")
    if (
        before.throttle_count is not None
        and after.throttle_count is not None
        and after.throttle_count > before.throttle_count
    ):
        found.append(f"throttled (cores slowed down {after.throttle_count - before.throttle_count} times)")
    if scenario in STEADY:
        governor = board.governor()
        if governor is not None and governor != "performance":
            found.append(f"governor ({governor}; figures at full clock want performance)")
        is_mhz, most_mhz = board.frequency_mhz("scaling_cur_freq"), board.frequency_mhz("cpuinfo_max_freq")
        if (
            governor == "performance"
            and is_mhz is not None
            and most_mhz is not None
            and is_mhz < FREQUENCY_FELL * most_mhz
        ):
            found.append(f"clock (the processor's: {is_mhz:.0f} of {most_mhz:.0f} MHz at the end)")
    found += _clock(before, after)
    found += _load(before, after, own_children_s)
    return found


def _now(flags: list[str] | None) -> set[str]:
    return {name for bit, name in THROTTLE_BITS.items() if bit < NOW_BITS} & {*(flags or ())}


def _clock(before: Conditions, after: Conditions) -> list[str]:
    steps = []
    last = time.perf_counter_ns()
    for _ in range(1000):
        now = time.perf_counter_ns()
        if now != last:
            steps.append(now - last)
        last = now
    finest = min(steps, default=COARSE_CLOCK_NS + 1)
    if finest > COARSE_CLOCK_NS:
        return [f"clock (its steps are {finest / 1000:.1f} us)"]
    passed, said = after.monotonic_ns - before.monotonic_ns, after.utc_ns - before.utc_ns
    if abs(said - passed) > 0.5e9 + 0.001 * passed:
        return [f"clock (UTC was set by {(said - passed) / 1e9:+.1f} s meanwhile)"]
    return []


def _load(before: Conditions, after: Conditions, own_children_s: float) -> list[str]:
    if before.times is None or after.times is None:
        return []
    total = after.times.total - before.times.total
    if total <= 0:
        return []
    own = (after.own_s - before.own_s + own_children_s) * os.sysconf("SC_CLK_TCK")
    # Ticks are of 10 ms: of a short run some are rounding.
    others = max(0.0, after.times.busy - before.times.busy - own - 4) / total
    steal = max(0.0, after.times.steal - before.times.steal - 1) / total
    found = []
    if others > OTHERS_SHARE:
        found.append(f"other load ({others:.0%} of the processors)")
    if steal > STEAL_SHARE:
        found.append(f"other load ({steal:.0%} taken by the host)")
    return found
