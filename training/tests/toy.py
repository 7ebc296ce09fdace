"""A task small enough to be learned in a second: two seconds of pressure with or without a spike."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from edge_train.arrays import Floats
from edge_train.data.windows import Split, Windows
from edge_train.task import Plan, Task

RATE_HZ, SAMPLES = 50.0, 100
PLAN = Plan("conv", "tiny", epochs=6, patience=6, batch=32, rate=5e-3, per_epoch=256, dropout=0.1, augment=0.0)


def pulse(n: int, rng: np.random.Generator, fs: float = RATE_HZ) -> Floats:
    """Something like a pressure, in mmHg."""
    t = np.arange(n) / fs
    wave = np.abs(np.sin(np.pi * (t * rng.uniform(1.0, 1.5) + rng.random()))) ** 2
    return np.asarray(80 + 40 * wave + rng.normal(0, 0.5, n), np.float32)


def spoil(x: Floats, rng: np.random.Generator) -> int:
    """A spike somewhere inside; where."""
    at = int(rng.integers(15, x.size - 15))
    x[at - 3 : at + 4] += np.array([40, 80, 120, 140, 120, 80, 40], np.float32)
    return at


def windows(n: int, seed: int, groups: str) -> Windows:
    rng = np.random.default_rng(seed)
    label = (np.arange(n) % 2).astype(np.int64)
    rows = []
    for one in label.tolist():
        x = pulse(SAMPLES, rng)
        if one:
            spoil(x, rng)
        rows.append(x - np.median(x))
    group = np.array([f"{groups}{i % 4}" for i in range(n)])
    return Windows({"wave": np.array(rows, np.float32)}, label, group, np.array([f"{groups}:{i}" for i in range(n)]))


def split() -> Split:
    return Split(
        windows(320, 0, "a"), windows(480, 1, "b"), windows(200, 2, "c"), {"digest": "toy", "data": ["made up"]}
    )


class Toy:
    """See edge_train.task.Task."""

    name = "toy"
    labels: tuple[str, ...] = ("clean", "spoiled")
    positive: str | None = None
    plans: Mapping[str, Plan] = {"toy": PLAN}

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"wave": (1, SAMPLES, 1)}

    def prepare(self, data: Path, oracle: bool, part: float = 1.0) -> Split:  # noqa: ARG002
        return split()

    def augment(self, inputs: Mapping[str, Floats], rng: np.random.Generator, strength: float) -> dict[str, Floats]:
        return {"wave": (inputs["wave"] + rng.normal(0, 0.02 * strength, inputs["wave"].shape)).astype(np.float32)}

    def about(
        self,
        artifact: str,  # noqa: ARG002 - every task takes it
        facts: Mapping[str, Any],
        seed: int,
        thresholds: Mapping[str, float],
    ) -> dict[str, Any]:
        part = {
            "kind": "signal", "name": "wave", "signal": "abp", "rate_hz": RATE_HZ, "samples": SAMPLES, "before": SAMPLES,
            "normalisation": "centre",
        }  # fmt: skip
        return {
            "task": "abp-segment",
            "labels": list(self.labels),
            "anchor": {"kind": "slide", "stride_s": 2.0},
            "inputs": [part],
            "output": {"scores": "none", "thresholds": dict(thresholds)},
            "training": {"data": list(facts["data"]), "licence": "none needed", "protocol": f"made up; seed {seed}"},
        }


TASK: Task = Toy()
