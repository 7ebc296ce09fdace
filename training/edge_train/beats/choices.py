"""Where a class begins: offsets, chosen on patients, not on beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_train.arrays import Floats

Truth = NDArray[np.bool_]


def f1_by_patient(said: Truth, truth: Truth, record: NDArray[np.str_], fewest: int = 10) -> list[float]:
    """F1 of every patient who has the class; the false alarms of those who have none weigh on each."""
    names, count = np.unique(record[truth], return_counts=True)
    having = names[count >= fewest]
    rest = ~np.isin(record, having)
    false_rate = float((said & ~truth)[rest].sum()) / max(1, int(rest.sum()))
    each = []
    for name in having:
        at = record == name
        hit = float((said & truth)[at].sum())
        wrong = float((said != truth)[at].sum()) + false_rate * float(at.sum())
        each.append(2 * hit / max(1.0, 2 * hit + wrong))
    return each


def best_offset(margin: Floats, truth: Truth, record: NDArray[np.str_]) -> tuple[float, float]:
    """Offset of a class by the mean F1 over the patients who have it, and that mean.

    Pooled over beats, one patient would decide (209 has four tenths of DS1's S). ``margin``: the class's logit above the
    best of the others.
    """
    grid = np.arange(-6, 6.01, 0.1)
    each = [f1_by_patient(margin + offset > 0, truth, record) for offset in grid]
    means = np.array([float(np.mean(one)) if one else 0.0 for one in each])
    good = np.flatnonzero(means >= means.max() - 0.005)  # the middle of the best stretch, not its edge
    return float(np.mean(grid[good])), float(means.max())


def v_margin(logits: Floats) -> Floats:
    return np.asarray(logits[:, 1] - np.delete(logits, 1, axis=1).max(axis=1), np.float32)
