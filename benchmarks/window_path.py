"""Where the time of a window goes, from the samples in the ring to the label, for the beat model.

    python benchmarks/window_path.py [--model ecg-beat-aami] [--seconds 400] [--rounds 5] [--out benchmarks/results/window_path.json]

The windows of a simulated patient, at his true beats, one after the other in one thread. The whole path is timed as the daemon walks it;
its stages are timed on the same windows by themselves, so that they add up to the whole but for what timing costs. ``engine
over bare``: what the engine takes beyond set_tensor, invoke and get_tensor on arrays that are quantised already. Exit status 1 if
a bound is not kept; figures of a busy machine are figures of that machine.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run from a checkout
    sys.path.insert(0, str(ROOT))

from benchmarks import rig  # noqa: E402
from edge_agent.inference.engine import CpuEngine  # noqa: E402
from edge_agent.inference.feeder import Feeder  # noqa: E402
from edge_agent.inference.judge import Judge  # noqa: E402
from edge_agent.inference.labels import label_of  # noqa: E402
from edge_agent.inference.loaded import LoadedModel, load_models, shipped_models  # noqa: E402
from edge_agent.signal import windows  # noqa: E402
from edge_agent.signal.ring import Ring  # noqa: E402
from edge_agent.signal.rr import RrHistory  # noqa: E402
from edge_agent.sources.simulated.patient import SimulatedPatient  # noqa: E402
from edge_agent.sources.simulated.script import Episode, Script  # noqa: E402

FS = 360.0
SETTLED = 50
"""Beats until caches and histories are full."""
INVOKE_US, OVERHEAD_US, PATH_US = 60.0, 3.0, 150.0


class Clock:
    """Microseconds by stage."""

    def __init__(self) -> None:
        self.us: dict[str, list[float]] = {}

    def __call__(self, stage: str, call: Callable[[], Any]) -> Any:
        began = time.perf_counter_ns()
        made = call()
        self.us.setdefault(stage, []).append((time.perf_counter_ns() - began) / 1000)
        return made


def patient(seconds: float) -> tuple[Ring, list[int]]:
    source = SimulatedPatient(FS, ("II",), Script((Episode("sinus", seconds),)), seed=4)
    blocks = []
    while (block := source.read(round(FS))) is not None:
        blocks.append(block.values)
    x = np.ascontiguousarray(np.concatenate(blocks, axis=1), np.float32)
    ring = Ring(1, x.shape[1])
    ring.push(x)
    margin = round(1.5 * FS)
    return ring, [int(b.sample) for b in source.truth.beats if margin < b.sample < x.shape[1] - margin]


# ruff: noqa: B023 - every lambda below is called before its loop goes on
def whole(model: LoadedModel, ring: Ring, beats: Sequence[int], clock: Clock) -> list[Any]:
    """As the daemon goes; the windows."""
    feeder, rr, asked = (
        Feeder(model.artifact.manifest, "II", 0, FS),
        RrHistory(FS),
        Judge({model.artifact.name: model}),
    )
    kept = []
    for number, beat in enumerate(beats):
        rr.beat(beat)
        use = clock if number >= SETTLED else Clock()
        for pending in use("features of the intervals, at the beat", lambda: list(feeder.at_beat(beat, beat + 10, rr))):
            began = time.perf_counter_ns()
            window = feeder.cut(pending, ring, ())
            cut = time.perf_counter_ns()
            asked.ask(window)
            done = time.perf_counter_ns()
            for stage, ns in (
                ("window: cut, normalised, compared", cut - began),
                ("verdict", done - cut),
                ("PATH", done - began),
            ):
                use.us.setdefault(stage, []).append(ns / 1000)
            kept.append((pending, window))
    return kept


def stages(model: LoadedModel, ring: Ring, kept: Sequence[Any], clock: Clock) -> None:
    """Each by itself, on the same windows."""
    manifest, engine = model.artifact.manifest, model.engine
    assert isinstance(engine, CpuEngine)
    bound = engine._bound
    interpreter, inputs, output = bound.interpreter, bound.inputs, bound.output
    feeder = Feeder(manifest, "II", 0, FS)
    ready = [(one.index, one.array) for one in inputs]
    for pending, window in kept[SETTLED:]:
        if window.abstain:
            continue
        cutters = list(feeder._cutters.values())
        views = [ring.view(0, pending.sample + c.first, pending.sample + c.end) for c in cutters]
        cut = clock("- cut and resample", lambda: [one.cut(x) for one, x in zip(cutters, views, strict=True)])
        usual = feeder._usual
        if usual is not None:
            clock("- compare with the usual beat, learn", lambda: usual.feed(cut[-1], pending.long))
        clock("- normalise", lambda: [
            windows.normalise(window.inputs[i], part.normalisation)
            for i, part in enumerate(manifest.inputs) if part.kind == "signal"
        ])  # fmt: skip
        clock("- quantise", lambda: [one.fill(x, 0) for one, x in zip(inputs, window.inputs, strict=True)])
        clock("- set", lambda: [interpreter.set_tensor(index, array) for index, array in ready])
        clock("- invoke", interpreter.invoke)
        raw = clock("- get", lambda: interpreter.get_tensor(output.index))
        scores = clock("- dequantise", lambda: bound.floats(raw))
        clock("- label", lambda: label_of(scores, manifest))

        def bare() -> None:
            for index, array in ready:
                interpreter.set_tensor(index, array)
            interpreter.invoke()
            interpreter.get_tensor(output.index)

        began = time.perf_counter_ns()
        bare()
        between = time.perf_counter_ns()
        engine.invoke(window.inputs)
        ended = time.perf_counter_ns()
        clock.us.setdefault("BARE", []).append((between - began) / 1000)
        clock.us.setdefault("ENGINE", []).append((ended - between) / 1000)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="ecg-beat-aami")
    parser.add_argument("--seconds", type=float, default=400.0, help="of signal (default %(default)s)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "window_path.json")
    args = parser.parse_args(argv)
    load_before = rig.load()
    model = load_models(shipped_models(), [args.model])[args.model]
    ring, beats = patient(args.seconds)
    clock = Clock()
    for _ in range(args.rounds):
        kept = whole(model, ring, beats, clock)
        stages(model, ring, kept, clock)
    found = {
        stage: {"p50_us": rig.percentile(us, 50), "p99_us": rig.percentile(us, 99), "calls": len(us)}
        for stage, us in clock.us.items()
    }
    over = sorted(e - b for e, b in zip(clock.us["ENGINE"], clock.us["BARE"], strict=True))
    over_us = over[len(over) // 2]
    bounds = {"ENGINE": INVOKE_US, "PATH": PATH_US}
    rows = [
        [
            stage,
            f"{one['p50_us']:.1f}",
            f"{one['p99_us']:.1f}",
            f"at most {bounds[stage]:.0f}" if stage in bounds else "",
        ]
        for stage, one in found.items()
    ]
    rows.append(["engine over bare", f"{over_us:.2f}", "", f"at most {OVERHEAD_US:.0f}"])
    print(rig.table(["stage", "p50, us", "p99, us", "bound of p50"], rows))
    kernel = "compiled kernel" if windows.KERNEL else "no compiled kernel"
    print(f"\n{model.engine.backend}, {kernel}; load before {load_before}, after {rig.load()}; {rig.machine()}")
    kept_all = over_us <= OVERHEAD_US and all(found[stage]["p50_us"] <= bound for stage, bound in bounds.items())
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "model": args.model,
        "backend": model.engine.backend,
        "stages": found,
        "engine_over_bare_us": over_us,
        "machine": rig.machine(),
        "load_before": load_before,
        "load_after": rig.load(),
        "bounds_us": {"invoke": INVOKE_US, "overhead": OVERHEAD_US, "path": PATH_US},
        "kept": kept_all,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if kept_all else 1


if __name__ == "__main__":
    sys.exit(main())
