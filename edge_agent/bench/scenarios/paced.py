"""``paced``: one window for each beat of a heart, when it comes.

Between two beats a processor sleeps, lowers its clock and forgets what was in its caches, and a USB device may suspend: a call
that takes 30 us back to back takes its real time only here. The intervals are a simulated patient's: sinus rhythm with breathing,
slow waves and extra beats.
"""

from __future__ import annotations

import itertools
import time

from edge_agent.bench.distribution import Series
from edge_agent.bench.method import SEGMENTS, Method, Session
from edge_agent.bench.report import Result
from edge_agent.bench.scenarios.common import Run
from edge_agent.bench.scenarios.single import WINDOW
from edge_agent.bench.stages import StageClock, taken_apart
from edge_agent.bench.variants import Variant
from edge_agent.bench.windows import FS, SINUS, WindowPath
from edge_agent.hardware import Hardware
from edge_agent.sources.simulated.patient import SimulatedPatient

LEAST_BEATS = 30
"""So few are a run in a test; the default of a minute gives 75."""


def intervals_s(seconds: float, seed: int = 2) -> list[float]:
    """From each beat of a simulated patient to the next, for about so long."""
    patient = SimulatedPatient(FS, ("II",), SINUS, seed)
    for _ in range(int(seconds) + 5):
        patient.read(round(FS))
    return [(b.sample - a.sample) / FS for a, b in itertools.pairwise(patient.truth.beats)]


def paced(variant: Variant, method: Method, session: Session, board: Hardware, *, speed: float = 1.0) -> Result:
    """``speed``: of the heart; tests have no minute."""
    clock = StageClock()
    series, late = Series(), Series()
    with taken_apart(clock):  # a tenth of a microsecond a stage does not show at this pace
        path = WindowPath(variant.artifact, variant.again())
        clock.clear()
        run = Run("paced", method, session, board)
        progress = session.progress(f"{variant.artifact.name} paced")
        began = time.monotonic()
        due, cut = began, 0.0
        for interval in itertools.cycle(intervals_s(max(60.0, method.run_s))):
            due += interval / speed
            _sleep_until(due, session)
            if session.interrupted:
                break
            woke = time.monotonic()
            start = time.perf_counter_ns()
            path(None)
            series.add((time.perf_counter_ns() - start,))
            clock.lap()
            late.add((max(1, int((woke - due) * 1e9)),))
            at_s = woke - began
            if at_s - cut >= method.run_s / SEGMENTS:
                series.cut(at_s)
                cut = at_s
            done = min(at_s / method.run_s, (series.count or 1) / LEAST_BEATS)
            progress.step(min(at_s / method.run_s, 1.0), f"{series.count} beats")
            if done >= 1.0:
                break
        series.cut(time.monotonic() - began)
        late.cut(0.0)
    progress.close()
    faults = [*variant.faults, *run.faults()]
    result = run.result(
        name="window",
        backend=variant.backend,
        measured=f"{WINDOW}, at a heart's pace",
        series=series,
        seconds=time.monotonic() - began,
        least=LEAST_BEATS,
        faults=faults,
        parts=clock.taken,
        first_us=None,
    )
    woken = late.distribution()
    parts = result.parts | ({"waking (not in the sum)": woken} if woken is not None else {})
    return result.model_copy(update={"parts": parts})


def _sleep_until(due: float, session: Session) -> None:
    while not session.interrupted:
        left = due - time.monotonic()
        if left <= 0:
            return
        time.sleep(min(left, 0.5))
