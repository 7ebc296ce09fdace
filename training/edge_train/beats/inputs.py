"""What the beat model is given of each beat, as its manifest says it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_agent.inference.manifest import Manifest
from edge_agent.signal.usual_beat import BEFORE, RATE_HZ, SAMPLES, SHAPE_FEATURES

RR_FEATURES = (
    "rr_last_log",
    "rr_median8_log",
    "rr_prev_median8_log",
    *(f"rr_p{percent}_{seconds}s_log" for seconds in (60, 300) for percent in (50, 75, 90)),
    *(f"rr_prev_p{percent}_{seconds}s_log" for seconds in (60, 300) for percent in (75, 90)),
    *(f"rr_p{percent}_p50_{seconds}s_log" for seconds in (10, 60, 300) for percent in (10, 90)),
    *(f"rr_{name}_{seconds}s" for seconds in (10, 30, 60) for name in ("cv", "mad", "step")),
)
"""What the beat model asks of edge_agent.signal.rr, in its order."""
P_NUMBERS = tuple(name for name in SHAPE_FEATURES if name.startswith("p_"))
"""What the P nets see."""
P_COLUMNS = [SHAPE_FEATURES.index(name) for name in P_NUMBERS]


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of signal around the R peak."""

    rate_hz: float
    samples: int
    before: int


GRID = Stretch(RATE_HZ, SAMPLES, BEFORE)
"""Of the beat model: 0.4 s before the R peak to 0.3 s after it. With the resampling filter's reach it is known 0.39 s after it."""


def _signal(name: str, source: str) -> dict[str, Any]:
    return {
        "kind": "signal",
        "name": name,
        "signal": "ecg",
        "source": source,
        "rate_hz": GRID.rate_hz,
        "samples": GRID.samples,
        "before": GRID.before,
        "normalisation": "usual",
    }


INPUTS: list[dict[str, Any]] = [
    _signal("beat", "signal"),
    {"kind": "features", "name": "rr", "features": list(RR_FEATURES)},
    {"kind": "features", "name": "shape", "features": list(SHAPE_FEATURES)},
    _signal("usual", "usual"),
]
"""As the manifest lists them: in order of name, which is the order in which the daemon gives them to a file."""


def feeding() -> Manifest:
    """A manifest that asks the daemon's feeder for these inputs; of no model."""
    nothing = "0" * 64
    return Manifest.model_validate(
        {
            "schema": "edge-agent/model/1",
            "name": "training",
            "version": "0.0.0",
            "task": "ecg-beat",
            "labels": ["N", "V"],
            "anchor": {"kind": "beat"},
            "inputs": INPUTS,
            "output": {"scores": "none"},
            "golden": {"tolerance": 1.0},
            "files": {"model.tflite": nothing, "golden.npz": nothing},
            "training": {"data": ["none"], "licence": "none", "protocol": "none"},
            "minimum_agent_version": "0.1.0",
        }
    )
