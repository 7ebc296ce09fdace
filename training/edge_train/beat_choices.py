"""Where a class begins: offsets and the logistic, chosen on patients, not on beats."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_train.data import Floats

Truth = NDArray[np.bool_]


def best_offset(margin: Floats, truth: Truth, record: NDArray[np.str_], fewest: int = 10) -> tuple[float, float]:
    """Offset of a class by the mean F1 over the patients who have it; the false alarms of those who have none weigh on each.

    Pooled over beats, one patient would decide (209 has four tenths of DS1's S). ``margin``: the class's logit above the
    best of the others.
    """
    names, count = np.unique(record[truth], return_counts=True)
    having = names[count >= fewest]
    rest = ~np.isin(record, having)
    grid = np.arange(-6, 6.01, 0.1)
    means = []
    for offset in grid:
        said = margin + offset > 0
        false_rate = float((said & ~truth)[rest].sum()) / max(1, int(rest.sum()))
        each = []
        for name in having:
            at = record == name
            hit = float((said & truth)[at].sum())
            wrong = float((said != truth)[at].sum()) + false_rate * float(at.sum())
            each.append(2 * hit / max(1.0, 2 * hit + wrong))
        means.append(float(np.mean(each)) if each else 0.0)
    good = np.flatnonzero(np.array(means) >= max(means) - 0.005)  # the middle of the best stretch, not its edge
    return float(np.mean(grid[good])), float(max(means))


def v_margin(logits: Floats) -> Floats:
    return np.asarray(logits[:, 1] - np.delete(logits, 1, axis=1).max(axis=1), np.float32)


def fit_logistic(x: Floats, truth: Truth, weight_of_true: float, ridge: float) -> Floats:
    """Weights of the columns of ``x`` and a bias, by Newton's method; columns are standardised for the ridge.

    Beats count as they come, an S some times more. With every patient weighing alike the P wave is trusted far too much in
    fibrillation, whose patients have most of the false ones.
    """
    mean, spread = x.mean(axis=0), x.std(axis=0) + 1e-6
    z = np.concatenate([(x - mean) / spread, np.ones((len(x), 1))], axis=1)
    weight = np.where(truth, weight_of_true, 1.0)
    weight = weight / weight.sum()
    hold = ridge * np.concatenate([np.ones(x.shape[1]), [1e-6]])
    found = np.zeros(z.shape[1])
    for _ in range(40):
        p = 1 / (1 + np.exp(-np.clip(z @ found, -40, 40)))
        slope = z.T @ (weight * (p - truth)) + hold * found
        curve = (z * (weight * p * (1 - p) + 1e-9)[:, None]).T @ z + np.diag(hold)
        found = found - np.linalg.solve(curve, slope)
    weights = found[:-1] / spread
    return np.asarray([*weights, found[-1] - float(weights @ mean)], np.float32)


def f1_at_zero(margin: Floats, truth: Truth, record: NDArray[np.str_], fewest: int = 10) -> tuple[int, float]:
    names, count = np.unique(record[truth], return_counts=True)
    each = []
    for name in names[count >= fewest]:
        said, true = margin[record == name] > 0, truth[record == name]
        each.append(2 * float((said & true).sum()) / max(1.0, float(said.sum() + true.sum())))
    return len(each), float(np.mean(each)) if each else 0.0
