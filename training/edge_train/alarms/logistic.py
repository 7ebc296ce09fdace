"""Logistic regression on a handful of numbers, small enough to be read: fit, cross-validate by record, choose nothing by looking.

Numbers are standardised by the training records' means and deviations, cut off at three deviations (one wild record must not
decide), and the weights are held down by a ridge (the same as scikit-learn's C = 1). Newton's method, to the end. A hundred and
fifty records allow no more than that.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Table = NDArray[np.float64]
Truth = NDArray[np.bool_]

CUT = 3.0
RIDGE = 1.0
FOLDS = 10
THRESHOLD = 0.2
"""A missed alarm costs as much as five false ones, and both are weighed against about 85 points already won: 1 / (2 + 4 x .85) = .19."""


@dataclass(frozen=True, slots=True)
class Logistic:
    mean: Table
    deviation: Table
    weights: Table
    bias: float

    def __call__(self, numbers: Table) -> Table:
        """Rows to probabilities."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.scaled(numbers) @ self.weights + self.bias))), np.float64)

    def scaled(self, numbers: Table) -> Table:
        return np.clip((numbers - self.mean) / self.deviation, -CUT, CUT)


def fit(numbers: Table, truth: Truth) -> Logistic:
    mean, deviation = numbers.mean(axis=0), numbers.std(axis=0) + 1e-9
    x = np.clip((numbers - mean) / deviation, -CUT, CUT)
    x = np.hstack((x, np.ones((len(x), 1))))
    ridge = np.diag([RIDGE] * numbers.shape[1] + [0.0])
    weights = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1.0 / (1.0 + np.exp(-x @ weights))
        gradient = x.T @ (p - truth) + ridge @ weights
        step = np.linalg.solve((x * (p * (1.0 - p))[:, None]).T @ x + ridge + 1e-9 * np.eye(len(ridge)), gradient)
        weights -= step
        if float(np.abs(step).max()) < 1e-9:
            break
    return Logistic(mean, deviation, weights[:-1], float(weights[-1]))


def folds(truth: Truth, seed: int) -> NDArray[np.int64]:
    """The fold of each record: true and false ones dealt out alike, in a seeded order."""
    rng = np.random.default_rng(seed)
    dealt = np.zeros(len(truth), np.int64)
    dealt[rng.permutation(np.flatnonzero(truth))] = np.arange(int(truth.sum())) % FOLDS
    dealt[rng.permutation(np.flatnonzero(~truth))] = FOLDS - 1 - np.arange(int((~truth).sum())) % FOLDS
    return dealt


def cross_validated(numbers: Table, truth: Truth, seed: int) -> Table:
    """Each record's probability, from the records of the other folds."""
    dealt = folds(truth, seed)
    out = np.zeros(len(truth))
    for fold in range(FOLDS):
        held = dealt == fold
        if held.any():
            out[held] = fit(numbers[~held], truth[~held])(numbers[held])
    return out
