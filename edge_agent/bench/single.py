"""The ``single`` scenario: one window after the other, back to back, after a warm-up."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from edge_agent.inference.judge import LoadedModel
from edge_agent.progress import Progress

PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


@dataclass(frozen=True, slots=True)
class Method:
    """Warm-up and run go on until both their time and their count are reached."""

    warmup_s: float = 0.5
    warmup_calls: int = 10
    run_s: float = 2.0
    run_calls: int = 1000


def measure(model: LoadedModel, method: Method, *, show_progress: bool | None = None) -> dict[str, Any]:
    """Microseconds of ``engine.invoke`` (quantising, running and dequantising one window), golden inputs in turn."""
    engine = model.engine
    golden = model.artifact.golden_inputs
    windows = [tuple(array[case] for array in golden) for case in range(golden[0].shape[0])]
    began = time.perf_counter_ns()
    engine.invoke(windows[0])
    first_us = (time.perf_counter_ns() - began) / 1000
    _run(engine.invoke, windows, method.warmup_s, method.warmup_calls, None)
    progress = Progress(model.artifact.name, method.run_s, enabled=show_progress)
    taken_us = _run(engine.invoke, windows, method.run_s, method.run_calls, progress)
    progress.close()
    reasons = [] if len(taken_us) >= method.run_calls else ["too few samples"]
    return {
        "scenario": "single",
        "backend": engine.backend,
        "method": asdict(method),
        "count": len(taken_us),
        "first_us": round(first_us, 2),
        "mean_us": round(float(taken_us.mean()), 3),
        "max_us": round(float(taken_us.max()), 3),
        "percentiles_us": {f"p{p:g}": round(float(np.percentile(taken_us, p)), 3) for p in PERCENTILES},
        "valid": not reasons,
        "reasons": reasons,
    }


def _run(invoke: Any, windows: list[Any], least_s: float, least: int, progress: Progress | None) -> Any:
    taken: list[int] = []
    began = time.perf_counter_ns()
    end = began + int(least_s * 1e9)
    index, now = 0, began
    while now < end or len(taken) < least:
        window = windows[index]
        index = (index + 1) % len(windows)
        start = time.perf_counter_ns()
        invoke(window)
        now = time.perf_counter_ns()
        taken.append(now - start)
        if progress is not None and len(taken) % 512 == 0:
            progress.step((now - began) / 1e9, f"{len(taken)} calls")
    return np.array(taken, np.float64) / 1000
