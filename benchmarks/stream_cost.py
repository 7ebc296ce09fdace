"""What a second of one ECG stream costs the processor, on a machine that does other things, too.

    python benchmarks/stream_cost.py [--laps 30] [--seconds 100] [--block-s 0.25]

A simulated patient's row of 360 Hz goes round and round through the daemon's own pipeline and verdict lane; of each block the
least time of all laps counts, so that what others did meanwhile does not. Then the same live, in medians: after a sleep before
each block, as few streams have it, and with the caches emptied before each block, as many have it. Last, a model's window path.
`edge-bench --scenario streams` says how many streams a core carries; it wants an idle machine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from edge_agent.bench.journeys import Journey, signals
from edge_agent.bench.windows import WindowPath
from edge_agent.inference.loaded import by_default, load_models, shipped_models
from edge_agent.process.collecting import settled

FS = 360.0
BEFORE_S = 200.0
"""Histories of the heart are two and a half minutes long."""
CACHES_MB = 48


def _take(journey: Journey, clock: Callable[[], int]) -> float:
    began = clock()
    journey.take(time.monotonic_ns(), lambda _: None)
    taken = clock() - began
    journey.prepare()
    return taken / 1000


def measured(laps: int, seconds: float, block_s: float) -> dict[str, float]:
    models = by_default(load_models(shipped_models()))
    ecg = {name: model for name, model in models.items() if model.artifact.manifest.signal == "ecg"}
    many = round(seconds / block_s)
    row = signals(FS, many * block_s, 1)[0]
    journey = Journey(0, FS, row, 0, round(block_s * FS), ecg)
    for _ in range(round(BEFORE_S / block_s)):
        _take(journey, time.perf_counter_ns)
    per_s = 1 / block_s
    with settled():
        laps_us = [[_take(journey, time.perf_counter_ns) for _ in range(many)] for _ in range(laps)]
        found = {"least_us_per_stream_s": float(np.min(laps_us, axis=0).sum()) / (many * block_s)}
        found["median_us_per_stream_s"] = per_s * median(_take(journey, time.thread_time_ns) for _ in range(many))
        slept = []
        for _ in range(min(many, 400)):
            time.sleep(0.004)
            slept.append(_take(journey, time.thread_time_ns))
        found["after_a_sleep_us_per_stream_s"] = per_s * median(slept)
        other, emptied = np.zeros(CACHES_MB * 125_000), []
        for _ in range(min(many, 400)):
            other.sum()
            emptied.append(_take(journey, time.thread_time_ns))
        found["caches_empty_us_per_stream_s"] = per_s * median(emptied)
        for name, model in ecg.items():
            if model.artifact.manifest.anchor.kind == "alarm":
                continue
            path = WindowPath(model.artifact, model.engine)
            times = []
            for _ in range(2000):
                began = time.perf_counter_ns()
                path(None)
                times.append((time.perf_counter_ns() - began) / 1000)
            found[f"window_path_p50_us {name}"] = median(times)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--laps", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=100.0)
    parser.add_argument("--block-s", type=float, default=0.25)
    arguments = parser.parse_args()
    found = measured(arguments.laps, arguments.seconds, arguments.block_s)
    print(json.dumps({name: round(value, 1) for name, value in found.items()}, indent=2))


if __name__ == "__main__":
    main()
