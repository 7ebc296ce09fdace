"""How the beat model's nets are shown their examples: some of each class an epoch, no patient too often."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_train.arrays import Floats, Ints


class Smoothed:
    """Running mean of the weights at the ends of epochs: steadier than the last ones, at no cost."""

    def __init__(self, keep: float = 0.6) -> None:
        self._keep = keep
        self.weights: list[Any] = []

    def add(self, weights: list[Any]) -> None:
        if not self.weights:
            self.weights = [w.copy() for w in weights]
        else:
            self.weights = [
                self._keep * old + (1 - self._keep) * new for old, new in zip(self.weights, weights, strict=True)
            ]


def by_root(pool: Ints, group: NDArray[Any]) -> Floats:
    """Chances to be drawn: patients by the root of how many beats they have."""
    _, inverse, count = np.unique(group[pool], return_inverse=True, return_counts=True)
    chance = 1 / np.sqrt(count[inverse])
    return np.asarray(np.cumsum(chance) / chance.sum())


def draw(pools: list[tuple[Ints, Floats, int]], rng: np.random.Generator) -> Ints:
    chosen = [pool[np.searchsorted(chance, rng.random(n)).clip(0, pool.size - 1)] for pool, chance, n in pools]
    order: Ints = rng.permutation(np.concatenate(chosen))
    return order


def rate_at(rate: float, epoch: int, epochs: int) -> float:
    return rate * (0.03 + 0.97 * 0.5 * (1 + float(np.cos(np.pi * epoch / epochs))))
