"""``single``: one window after the other, back to back. The engine's call, and the whole way of a window.

Three things take turns: the engine's call as the daemon makes it, the same call taken apart into its stages, and a bare loop
around the runtime's ``invoke`` with inputs that never change, which is what TFLite's ``benchmark_model`` measures. So the report
can say what the engine adds to the runtime, what measuring adds to the engine, and that neither is the machine's mood.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from edge_agent.bench.distribution import Series, distribution
from edge_agent.bench.method import Contender, Method, Session, in_turns
from edge_agent.bench.report import Result, SelfCheck
from edge_agent.bench.scenarios.common import Run
from edge_agent.bench.stages import StageClock, taken_apart
from edge_agent.bench.variants import Variant
from edge_agent.bench.windows import WindowPath, golden
from edge_agent.hardware import Hardware
from edge_agent.inference.engine import find_runtime

OVERHEAD_US = 3.0
"""What measuring may add to a call of the runtime."""
CALL = "the engine's call: quantising, the runtime, dequantising"
WINDOW = "a window's whole way: context, cutting and resampling, the engine, the label"


@dataclass(slots=True)
class BareLoop(Contender):
    """Nothing but the call between two looks at the clock."""

    invoke: Callable[[], object] = int

    def turn(self, least_ns: int, least: int, session: Session) -> list[int]:
        invoke, clock = self.invoke, time.perf_counter_ns
        taken: list[int] = []
        end, now = clock() + least_ns, 0
        while (now < end or len(taken) < least) and not session.interrupted:
            start = clock()
            invoke()
            now = clock()
            taken.append(now - start)
        return taken


def _never(_: object) -> None:
    raise AssertionError("a bare loop calls nothing but the runtime")


def bare_loop(tflite: bytes) -> BareLoop:
    """An interpreter of its own with one thread and random inputs, set once."""
    interpreter = find_runtime()[1](model_content=tflite, num_threads=1)
    interpreter.allocate_tensors()
    draw = np.random.default_rng(0)
    for detail in interpreter.get_input_details():
        if np.issubdtype(detail["dtype"], np.integer):
            limits = np.iinfo(detail["dtype"])
            filling = draw.integers(limits.min, limits.max, detail["shape"], detail["dtype"], endpoint=True)
        else:
            filling = draw.standard_normal(detail["shape"]).astype(detail["dtype"])
        interpreter.set_tensor(detail["index"], filling)
    return BareLoop(_never, (), invoke=interpreter.invoke)


def single(variant: Variant, method: Method, session: Session, board: Hardware) -> list[Result]:
    calls = call(variant, method, session, board)
    if variant.artifact.manifest.anchor.kind == "alarm":  # its inputs are numbers already: nothing is cut
        return [calls]
    return [calls, window(variant, method, session, board)]


def call(variant: Variant, method: Method, session: Session, board: Hardware) -> Result:
    inputs = golden(variant.artifact)
    plain = Contender(variant.engine.invoke, inputs)
    loops = [
        bare_loop(variant.artifact.tflite) if variant.bare is None else BareLoop(_never, (), invoke=variant.bare)
        for _ in range(2)
    ]
    run = Run("single", method, session, board)
    label = f"{variant.artifact.name} single"
    seconds = in_turns([plain, loops[0]], method, session, label)
    clock = StageClock()
    with taken_apart(clock):
        apart = Contender(clock.lapped(variant.again().invoke), inputs)
        in_turns([apart, loops[1]], method, session, f"{label}, stages", warmed=clock.clear)
    check = _self_check(loops[1].series, clock)
    faults = [*variant.faults, *run.faults()]
    if check is not None and not check.passed:
        faults.append(f"clock (measuring adds {check.overhead_us:.1f} us)")
    return run.result(
        name="call",
        backend=variant.backend,
        measured=CALL,
        series=plain.series,
        seconds=seconds,
        faults=faults,
        parts=clock.taken,
        init_ms=variant.init_ms,
        first_us=None if plain.first_ns is None else plain.first_ns / 1000,
        loop=loops[0].series.distribution(),
        self_check=check,
    )


def _self_check(bare: Series, clock: StageClock) -> SelfCheck | None:
    ours, alone = distribution(clock.taken.get("invoke", ())), bare.distribution()
    if ours is None or alone is None:
        return None
    overhead = ours.p50_us - alone.p50_us
    return SelfCheck(
        bare_p50_us=alone.p50_us,
        measured_p50_us=ours.p50_us,
        overhead_us=overhead,
        limit_us=OVERHEAD_US,
        passed=overhead <= OVERHEAD_US,
    )


def window(variant: Variant, method: Method, session: Session, board: Hardware) -> Result:
    path = WindowPath(variant.artifact, variant.engine)
    plain = Contender(path, (None,))
    run = Run("single", method, session, board)
    label = f"{variant.artifact.name} window"
    seconds = in_turns([plain], method, session, label)
    clock = StageClock()
    with taken_apart(clock):
        apart = Contender(clock.lapped(WindowPath(variant.artifact, variant.again())), (None,))
        in_turns([apart], method, session, f"{label}, stages", warmed=clock.clear)
    faults = [*variant.faults, *run.faults()]
    if path.abstained:
        faults.append(f"too few samples ({path.abstained} windows were not judged)")
    return run.result(
        name="window",
        backend=variant.backend,
        measured=WINDOW,
        series=plain.series,
        seconds=seconds,
        faults=faults,
        parts=clock.taken,
    )
