"""``soak``: hours of it, with the temperature, the memory and the throttling over time.

Windows go their whole way back to back, which is more than any patient asks, and once a minute (or sixty times in all, if that is
more often) the device is looked at. What is wanted: a last hour like the first.
"""

from __future__ import annotations

import time

from edge_agent.bench.environment import state
from edge_agent.bench.method import Contender, Method, Session
from edge_agent.bench.report import Result, State
from edge_agent.bench.scenarios.common import Run
from edge_agent.bench.scenarios.single import WINDOW
from edge_agent.bench.variants import Variant
from edge_agent.bench.windows import WindowPath
from edge_agent.hardware import Hardware

LOOKS = 60
LOOK_S = 60.0
TURN_NS = 200_000_000
GROWS_MB = 20.0


def soak(variant: Variant, method: Method, session: Session, board: Hardware, seconds: float) -> Result:
    path = WindowPath(variant.artifact, variant.engine)
    one = Contender(path, (None,))
    one.turn(int(method.warmup_s * 1e9), method.warmup_calls, session)
    run = Run("soak", method, session, board)
    progress = session.progress(f"{variant.artifact.name} soak")
    began = time.monotonic()
    every_s = min(LOOK_S, seconds / LOOKS)
    states: list[State] = [state(board, 0.0)]
    at_s = 0.0
    while at_s < seconds and not session.interrupted:
        while at_s < states[-1].at_s + every_s and not session.interrupted:
            one.series.add(one.turn(min(TURN_NS, int(every_s * 1e9) + 1), 1, session))
            at_s = time.monotonic() - began
        one.series.cut(at_s)
        states.append(state(board, at_s))
        warm = max(states[-1].temperature_c.values(), default=None)
        progress.step(at_s / seconds, "" if warm is None else f"{warm:.0f} C")
    one.series.cut(at_s)
    progress.close()
    faults = [*variant.faults, *run.faults()]
    throttled = sum(1 for one_state in states if one_state.throttled)
    if throttled and not any(fault.startswith("throttled") for fault in faults):
        faults.append(f"throttled (at {throttled} of {len(states)} looks)")
    # What is there after a tenth of the time is what it takes; what comes on top of that is a leak.
    first, last = states[len(states) // 10].resident_mb, states[-1].resident_mb
    if first is not None and last is not None and last - first > GROWS_MB:
        faults.append(f"memory grew by {last - first:.0f} MB")
    return run.result(
        name=f"{seconds / 3600:.3g} h",
        backend=variant.backend,
        measured=WINDOW,
        series=one.series,
        seconds=at_s,
        faults=faults,
        soak=states,
    )
