"""Measures from scores and truth, in NumPy: what is reported, and what early stopping and thresholds look at."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_train.arrays import Floats, Ints

SILENT = -1
"""What ``decide`` says where no label reaches its threshold."""
Doubles = NDArray[np.float64]
Table = NDArray[np.int64]
"""True class by said class; the last column (where there is one more than rows) counts silence."""


def decide(scores: Floats, labels: Sequence[str], thresholds: Mapping[str, float]) -> Ints:
    """Index of the label that the daemon would say (edge_agent.inference.labels.label_of): of those that reach their
    threshold the best, the first of equals."""
    least = np.array([thresholds.get(label, 0.0) for label in labels], np.float32)
    allowed = np.where(scores >= least, scores, -np.inf)
    said = allowed.argmax(1)
    return np.where(np.isfinite(allowed.max(1)), said, SILENT).astype(np.int64)


def confusion(truth: Ints, said: Ints, classes: int) -> Table:
    """(classes, classes + 1): silence in the last column."""
    table = np.zeros((classes, classes + 1), np.int64)
    np.add.at(table, (truth, np.where(said == SILENT, classes, said)), 1)
    return table


def f1(table: Table) -> Doubles:
    """Per class; not a number where the class was neither there nor said."""
    classes = len(table)
    hit = np.diag(table[:, :classes]).astype(np.float64)
    both = table.sum(1) + table[:, :classes].sum(0)
    return np.where(both > 0, 2 * hit / np.maximum(both, 1), np.nan)


def average_precision(score: NDArray[Any], truth: NDArray[Any]) -> float:
    """Area under the precision-recall curve, ties taken together; needs no threshold."""
    recall, precision = precision_recall(score, truth)
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def _steps(score: NDArray[Any], truth: NDArray[Any]) -> tuple[Doubles, Doubles]:
    """Hits and all that are said, as the threshold falls past each different score."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.flatnonzero(np.diff(score[order])), order.size - 1)
    return np.cumsum(truth[order].astype(np.float64))[last], (last + 1).astype(np.float64)


def precision_recall(score: NDArray[Any], truth: NDArray[Any]) -> tuple[Doubles, Doubles]:
    hit, said = _steps(score, truth)
    return hit / max(1.0, float(truth.sum())), hit / said


def roc(score: NDArray[Any], truth: NDArray[Any]) -> tuple[Doubles, Doubles]:
    """False-alarm rate and sensitivity, from nothing said to everything said."""
    hit, said = _steps(score, truth)
    positive = float(truth.sum())
    false = (said - hit) / max(1.0, truth.size - positive)
    return np.append(0.0, false), np.append(0.0, hit / max(1.0, positive))


def roc_area(score: NDArray[Any], truth: NDArray[Any]) -> float:
    false, sensitivity = roc(score, truth)
    return float(np.sum(np.diff(false) * (sensitivity[1:] + sensitivity[:-1]) / 2))


def best_threshold(score: Floats, truth: NDArray[Any], measure: Callable[[float, float, float], float]) -> float:
    """The threshold with the best ``measure(hits, false, missed)``: the middle of the stretch that is nearly as good, not
    its edge."""
    grid = np.arange(1, 256) / 256  # an int8 model's softmax knows no others
    positive = np.sort(score[truth])
    negative = np.sort(score[~truth])
    hits = positive.size - np.searchsorted(positive, grid, side="left")
    false = negative.size - np.searchsorted(negative, grid, side="left")
    values = np.array([measure(float(h), float(f), float(positive.size - h)) for h, f in zip(hits, false, strict=True)])
    best = int(values.argmax())
    low = high = best
    while low > 0 and values[low - 1] >= values[best] - 0.002:
        low -= 1
    while high < grid.size - 1 and values[high + 1] >= values[best] - 0.002:
        high += 1
    return float(grid[(low + high) // 2])


def f_measure(hits: float, false: float, missed: float) -> float:
    return 2 * hits / max(1.0, 2 * hits + false + missed)


def two_thresholds(labels: Sequence[str], positive: str, threshold: float) -> dict[str, float]:
    """Of two labels, ``positive`` where its score reaches the threshold, the other elsewhere.

    The other's is two steps of an int8 softmax lower than 1 - threshold: rounding must not leave a score between the two.
    """
    other = next(label for label in labels if label != positive)
    return {positive: threshold, other: max(0.0, 1 - threshold - 2 / 256)}
