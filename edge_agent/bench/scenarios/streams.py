"""``streams``: how many patients one core carries.

N streams of one ECG lead deliver a block every so many milliseconds, one after the other within that time as boards do that know
nothing of each other. One thread takes each block when it has come: decoding, the daemon's own pipeline and verdict lane with all
models, every message's bytes. N is raised until the 99th percentile of a message's age (queue and compute) passes the limit, or a
stream has to wait so long that samples are lost.

The daemon gives each stream a thread of its own; Python runs one at a time, so one core is what they share either way.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_agent.bench.distribution import Series
from edge_agent.bench.journeys import Journey, signals, warm
from edge_agent.bench.method import Method, Session
from edge_agent.bench.report import Load, Result, StreamsFigures
from edge_agent.bench.scenarios.common import Run
from edge_agent.bench.stages import StageClock, taken_apart
from edge_agent.hardware import Hardware
from edge_agent.inference.loaded import LoadedModel
from edge_agent.journey import Samples
from edge_agent.process.collecting import settled

LOST_S = 1.0
"""Longer than that a block must not wait: about what a serial driver's buffer holds."""
COUNTS = (10, 50, 100, 250, 500, 750, 1000, 1250, 1500, 2000)
HALVINGS = 2
"""Between the last N that held and the first that did not."""
PARTS_STREAMS = 50
WARM_ROUNDS = 8
"""Blocks of each stream as fast as it goes: a multiple of what vital signs and quality take turns in."""
MEASURED = "of every message: from its block's arrival to the message's bytes (queue and compute)"


@dataclass(frozen=True, slots=True)
class Plan:
    """What is asked of the device."""

    fs: float = 360.0
    block_s: float = 0.25
    counts: tuple[int, ...] = COUNTS
    step_s: float = 10.0
    warm_s: float = 60.0
    """Of each stream, as fast as it goes, before it counts: histories of the heart are a minute long."""
    limit_ms: float = 20.0

    @property
    def block(self) -> int:
        return max(1, round(self.block_s * self.fs))


def streams(
    models: Mapping[str, LoadedModel], plan: Plan, method: Method, session: Session, board: Hardware
) -> list[Result]:
    ecg = {name: model for name, model in models.items() if model.artifact.manifest.signal == "ecg"}
    with one_core(method.core) as core, settled():
        run = Run("streams", method, session, board)
        return [_raised(ecg, plan, run, core)]


def _raised(models: Mapping[str, LoadedModel], plan: Plan, run: Run, core: int | None) -> Result:
    session = run.session
    rows = signals(plan.fs, plan.warm_s + 3 * plan.step_s)
    beds: list[Journey] = []
    steps: list[Load] = []
    everything: dict[int, Series] = {}
    progress = session.progress("streams")
    waiting = list(plan.counts)
    held, failed, halvings = 0, 0, HALVINGS
    began = time.monotonic()
    while waiting and not session.interrupted:
        count = waiting.pop(0)
        progress.step(len(steps) / (len(plan.counts) + HALVINGS), f"{count} streams: warming up")
        while len(beds) < count and not session.interrupted:
            beds.append(_warmed(len(beds), plan, rows, models))
        if session.interrupted:
            break
        load, series = live(beds[:count], plan, session)
        steps.append(load)
        everything[count] = series
        progress.step(len(steps) / (len(plan.counts) + HALVINGS), f"{count} streams")
        if load.held:
            held = max(held, count)
        else:
            failed, waiting = count, []
        if failed and halvings and failed - held > max(10, held // 20):
            halvings -= 1
            waiting = [_between(held, failed)]
    progress.close()
    parts, overhead, beds_taken = ({}, None, 0) if session.interrupted else _parts(plan, rows, models, session)
    costs = [step.warm_us_per_stream_s for step in steps if step.streams in plan.counts]
    figures = StreamsFigures(
        carried=held or None,
        limit_reached=bool(failed),
        limit_ms=plan.limit_ms,
        fs=plan.fs,
        block_ms=plan.block_s * 1000,
        core=core,
        steps=sorted(steps, key=lambda step: step.streams),
        flatness=max(costs) / min(costs) if len(costs) > 1 else None,
        parts_us_per_stream_s=parts,
        parts_streams=beds_taken,
        parts_overhead=overhead,
    )
    shown = everything.get(held) or next(iter(everything.values()), Series())
    backends = sorted({model.engine.backend for model in models.values()}) or ["no model"]
    limited = replace(run.method, deadline_ms=plan.limit_ms)
    return Run("streams", limited, session, run.board, run.started, run.began_ns, run.before).result(
        name=f"{held} streams",
        backend=", ".join(backends),
        measured=MEASURED,
        series=shown,
        seconds=time.monotonic() - began,
        least=1,
        streams=figures,
    )


def _between(held: int, failed: int) -> int:
    middle = (held + failed) // 2
    return max(1, round(middle, -1) if middle > 50 else middle)


def _warmed(number: int, plan: Plan, rows: Sequence[Samples], models: Mapping[str, LoadedModel]) -> Journey:
    row = rows[number % len(rows)]
    bed = Journey(number, plan.fs, row, number * 7919, plan.block, models)
    # Boards that know nothing of each other were not switched on together: their seconds of quality and vital signs take turns.
    warm([bed], round(plan.warm_s / plan.block_s) + number % WARM_ROUNDS)
    return bed


def live(beds: Sequence[Journey], plan: Plan, session: Session) -> tuple[Load, Series]:
    """So many streams for ``step_s``."""
    many, period = len(beds), int(plan.block_s * 1e9)
    rounds = max(1, round(plan.step_s / plan.block_s))
    said: list[int] = []
    ages, queue, taken_ns = Series(), Series(), 0
    lost, why = 0, None
    # The first round is not counted: what happens once at the start happens.
    origin = time.monotonic_ns() + 50_000_000
    used = cut = 0.0
    counted_from = 0
    for turn in range(rounds + 1):
        if turn == 1:
            used, counted_from, taken_ns = time.process_time(), time.monotonic_ns(), 0
            ages, queue = Series(), Series()
        for i, bed in enumerate(beds):
            due = origin + turn * period + i * period // many
            wait = due - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            began = bed.take(due, said.append)
            ages.add([moment - due for moment in said])
            queue.add((began - due,))
            said.clear()
            ended = time.monotonic_ns()
            taken_ns += ended - began
            if began - due > LOST_S * 1e9:
                lost += plan.block
            prepared = time.process_time()
            bed.prepare()
            used += time.process_time() - prepared  # a board's work, not ours
        at_s = (time.monotonic_ns() - origin) / 1e9
        if at_s - cut >= plan.step_s / 10 or turn == rounds or lost:
            ages.cut(at_s)
            queue.cut(at_s)
            cut = at_s
        if session.interrupted or lost:
            break
    ages.cut(0.0)
    queue.cut(0.0)
    seconds = max(1e-9, (time.monotonic_ns() - counted_from) / 1e9)
    used = time.process_time() - used
    latency, waited = ages.distribution(), queue.distribution()
    assert latency is not None and waited is not None, "vital signs alone are a message every two seconds"  # noqa: PT018
    p99_ms = (latency.p99_us if latency.p99_us is not None else latency.max_us) / 1000
    if lost:
        why = f"samples lost: a block waited for more than {LOST_S:g} s"
    elif p99_ms > plan.limit_ms:
        why = f"p99 of queue and compute is {p99_ms:.1f} ms"
    elif session.interrupted:
        why = "interrupted"
    blocks = max(1, waited.count)
    stream_s = blocks * plan.block_s
    load = Load(
        streams=many,
        seconds=seconds,
        held=why is None,
        why_not=why,
        messages=latency.count,
        cpu_us_per_stream_s=used * 1e6 / stream_s,
        busy_us_per_stream_s=taken_ns / 1000 / stream_s,
        warm_us_per_stream_s=_busy(beds, WARM_ROUNDS) / 1000 / (many * WARM_ROUNDS * plan.block_s),
        core_share=used / seconds,
        lost_samples=lost,
        latency=latency,
        queue=waited,
    )
    return load, ages


def _parts(
    plan: Plan, rows: Sequence[Samples], models: Mapping[str, LoadedModel], session: Session
) -> tuple[dict[str, float], float | None, int]:
    """Where a stream-second goes, as fast as it goes; and how much more all of it took for being taken apart."""
    count = min(PARTS_STREAMS, max(plan.counts))
    rounds = max(1, round(min(plan.step_s, 5.0) / plan.block_s))
    plain = _busy([_warmed(i, plan, rows, models) for i in range(count)], rounds)
    beds = [_warmed(i, plan, rows, models) for i in range(count)]
    clock = StageClock()
    with taken_apart(clock):
        apart = _busy(beds, rounds)
    stream_s = count * rounds * plan.block_s
    parts = {stage: ns / 1000 / stream_s for stage, ns in clock.totals().items()}
    parts["other"] = parts.get("other", 0.0)
    if session.interrupted:
        return {}, None, 0
    return dict(sorted(parts.items(), key=lambda part: -part[1])), apart / plain - 1.0, count


def _busy(beds: Sequence[Journey], rounds: int) -> int:
    """Nanoseconds of the processor, not of the clock: what others do meanwhile is not counted."""
    busy = 0
    for _ in range(rounds):
        for bed in beds:
            began = time.process_time_ns()
            bed.take(time.monotonic_ns(), _nobody)
            busy += time.process_time_ns() - began
            bed.prepare()
    return busy


def _nobody(_: int) -> None:
    pass


@contextlib.contextmanager
def one_core(core: int | None) -> Iterator[int | None]:
    """This process on one core: the last one that it may use, unless told; None where that cannot be done."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    before = os.sched_getaffinity(0)
    chosen = max(before) if core is None else core
    try:
        os.sched_setaffinity(0, {chosen})
    except OSError:
        yield None
        return
    try:
        yield chosen
    finally:
        os.sched_setaffinity(0, before)
