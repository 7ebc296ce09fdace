"""What int8 costs: F1 of every class, float against int8, on windows that decided nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.inference.engine import CpuEngine
from edge_agent.inference.labels import softmax
from edge_train.arrays import Floats, Ints
from edge_train.counted import counted
from edge_train.data.windows import Windows
from edge_train.errors import DataError
from edge_train.measuring import metrics

ALLOWED_POINTS = 0.5
"""Of F1, in percent: what any class may lose by int8."""
FEWEST = 100
"""Examples that a class needs for its F1 to count: with fewer, one window weighs more than the gate."""


@dataclass(frozen=True, slots=True)
class Loss:
    """F1 in percent by class."""

    float_f1: Mapping[str, float]
    int8_f1: Mapping[str, float]
    examples: Mapping[str, int]

    def points(self) -> dict[str, float]:
        """What each class loses by int8, of those with examples enough."""
        return {
            label: self.float_f1[label] - self.int8_f1[label] for label, many in self.examples.items() if many >= FEWEST
        }

    @property
    def worst(self) -> float:
        """The most that any class loses; negative where all gain."""
        points = self.points()
        if not points:
            raise DataError(f"no class has {FEWEST} examples: int8 cannot be compared with float")
        return max(points.values())

    @property
    def passed(self) -> bool:
        return self.worst <= ALLOWED_POINTS

    def as_json(self) -> dict[str, Any]:
        return {
            "float_f1": dict(self.float_f1),
            "int8_f1": dict(self.int8_f1),
            "examples": dict(self.examples),
            "worst_points": self.worst,
            "allowed_points": ALLOWED_POINTS,
            "passed": self.passed,
        }

    def brief(self) -> str:
        cells = [
            f"{label} {self.float_f1[label]:.2f} -> {self.int8_f1[label]:.2f} ({many})"
            for label, many in self.examples.items()
        ]
        return f"F1 float -> int8 (examples): {', '.join(cells)}; the most lost {self.worst:.2f} points"


def engine_scores(tflite: bytes, windows: Windows, names: Sequence[str], labels: int) -> Floats:
    """Every window through the daemon's own engine."""
    ordered = [np.asarray(windows.inputs[name], np.float32) for name in names]
    engine = CpuEngine(tflite, [x.shape[1] for x in ordered], labels)
    rows = [engine.invoke(tuple(x[i] for x in ordered)) for i in counted("windows asked", range(len(windows)))]
    return np.array(rows, np.float32).reshape(len(rows), labels)


def model_scores(model: Any, windows: Windows, batch: int = 512) -> Floats:
    """Every window through the float model."""
    made = []
    for first in range(0, len(windows), batch):
        inputs = [
            np.asarray(windows.inputs[part.name][first : first + batch], np.float32).reshape(-1, *part.shape[1:])
            for part in model.inputs
        ]
        made.append(np.asarray(model(inputs, training=False), np.float32))
    return np.concatenate(made) if made else np.zeros((0, model.output.shape[-1]), np.float32)


def as_said(scores: Floats, output: str) -> Floats:
    """The manifest's ``output.scores`` applied, as the daemon does."""
    if output == "softmax":
        return np.array([softmax(row) for row in scores], np.float32).reshape(scores.shape)
    if output == "sigmoid":
        with np.errstate(over="ignore"):
            return np.asarray(1 / (1 + np.exp(-scores)), np.float32)
    return scores


def class_f1(scores: Floats, truth: Ints, labels: Sequence[str], thresholds: Mapping[str, float]) -> dict[str, float]:
    """F1 in percent by class, the label as the daemon says it."""
    said = metrics.decide(scores, labels, thresholds)
    each = metrics.f1(metrics.confusion(truth, said, len(labels)))
    return {label: 100 * float(np.nan_to_num(value)) for label, value in zip(labels, each, strict=True)}


def int8_loss(
    model: Any,
    tflite: bytes,
    windows: Windows,
    labels: Sequence[str],
    thresholds: Mapping[str, float],
    output: str = "none",
) -> Loss:
    """Float and int8 on the same windows; the test set has no part in it."""
    if not len(windows):
        raise DataError("no windows to compare float and int8 on")
    names = sorted(windows.inputs)
    return Loss(
        class_f1(as_said(model_scores(model, windows), output), windows.label, labels, thresholds),
        class_f1(
            as_said(engine_scores(tflite, windows, names, len(labels)), output), windows.label, labels, thresholds
        ),
        {label: int((windows.label == i).sum()) for i, label in enumerate(labels)},
    )
