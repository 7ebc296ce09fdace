"""Reports made by hand, for what reads them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from edge_agent.bench.distribution import Series, agreement, spread
from edge_agent.bench.environment import environment
from edge_agent.bench.method import Method
from edge_agent.bench.report import Deadline, Report, Result
from edge_agent.hardware import Hardware


def series(p50_us: float = 30.0, *, wobble: float = 0.01, count: int = 4000, parts: int = 20, seed: int = 0) -> Series:
    """Segments whose medians differ by ``wobble``."""
    draw = np.random.default_rng(seed)
    made = Series()
    for part in range(parts):
        level = p50_us * 1000 * (1 + wobble * float(draw.standard_normal()))
        made.add((level * np.exp(0.05 * draw.standard_normal(count // parts))).astype(int).tolist())
        made.cut(part + 1.0)
    return made


def result(
    p50_us: float = 30.0, *, reasons: Sequence[str] = (), wobble: float = 0.01, seed: int = 0, **more: Any
) -> Result:
    taken = series(p50_us, wobble=wobble, seed=seed)
    found = taken.distribution()
    assert found is not None
    fields = {
        "scenario": "single",
        "name": "call",
        "backend": "cpu/test",
        "measured": "made by hand",
        "valid": not reasons,
        "reasons": list(reasons),
        "method": Method().as_dict(),
        "started": "2026-01-02T03:04:05Z",
        "seconds": 20.0,
        "first_us": 99.0,
        "latency": found,
        "deadline": Deadline(limit_ms=20, misses=0, of=found.count),
        "segments": taken.segments,
        "spread": spread(taken.segments),
        "agreement": agreement(taken.segments, found.p50_us),
    }
    return Result.model_validate({**fields, **more})


def report(*results: Result, model: str | None = "m", device: str = "here", digest: str = "d" * 64) -> Report:
    around = environment(device, board=Hardware())
    return Report(
        model=model, version="1.0.0", digest=digest, task="ecg-beat", environment=around, results=list(results)
    )


OLD: dict[str, Any] = {
    "schema": "edge-agent/bench/1",
    "model": "m",
    "version": "0.9.0",
    "digest": "e" * 64,
    "environment": {"device": "here", "time": "2025-01-02T03:04:05Z", "cpu": None},
    "results": [
        {
            "scenario": "single",
            "backend": "cpu/test",
            "method": {"run_s": 2.0},
            "count": 1000,
            "first_us": 50.0,
            "mean_us": 31.0,
            "max_us": 200.0,
            "percentiles_us": {"p50": 40.0, "p90": 41.0, "p95": 42.0, "p99": 50.0, "p99.9": 90.0},
            "valid": True,
            "reasons": [],
        }
    ],
}
"""As the first form of edge-bench wrote them."""
