"""A network of one hidden layer, trained by Adam (Kingma & Ba 2015) in numpy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal.qrs_design import Weights

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]


class Net:
    def __init__(self, x: F32, hidden: int, rng: np.random.Generator) -> None:
        inputs = x.shape[1]
        self.mean: F32 = x.mean(0).astype(np.float32)
        self.spread: F32 = (x.std(0) + 1e-3).astype(np.float32)
        self.parts: list[F32] = [
            (rng.normal(size=(inputs, hidden)) / np.sqrt(inputs)).astype(np.float32),
            np.zeros(hidden, np.float32),
            (rng.normal(size=hidden) / np.sqrt(hidden)).astype(np.float32),
            np.zeros(1, np.float32),
        ]
        self._first = [np.zeros_like(p) for p in self.parts]
        self._second = [np.zeros_like(p) for p in self.parts]
        self._steps = 0

    def fit(
        self, x: F32, y: F32, weight: F32, epochs: int, rate: float, rng: np.random.Generator, batch: int = 1024
    ) -> float:
        """Weighted cross-entropy, the step falling as half a cosine. Gives the loss at the end."""
        x = (x - self.mean) / self.spread
        weight = (weight / weight.mean()).astype(np.float32)
        n = len(x) // batch
        for epoch in range(epochs):
            order = rng.permutation(len(x))
            for k in range(n):
                rows = order[k * batch : (k + 1) * batch]
                step = 0.5 * rate * (1 + np.cos(np.pi * (epoch * n + k) / (epochs * n))) + 1e-5
                self._step(x[rows], y[rows], weight[rows], float(step))
        z = self._logit(x)
        return float(np.mean(weight * (np.logaddexp(0, z) - y * z)))

    def _logit(self, x: F32) -> F32:
        w1, b1, w2, b2 = self.parts
        z: F32 = np.tanh(x @ w1 + b1) @ w2 + b2
        return z

    def _step(self, x: F32, y: F32, weight: F32, rate: float, decay: float = 1e-6) -> None:
        w1, b1, w2, b2 = self.parts
        hidden = np.tanh(x @ w1 + b1)
        wrong = (1 / (1 + np.exp(-(hidden @ w2 + b2))) - y) * weight / len(x)
        back = np.outer(wrong, w2) * (1 - hidden * hidden)
        slopes = [x.T @ back + decay * w1, back.sum(0), hidden.T @ wrong, np.asarray([wrong.sum()], np.float32)]
        self._steps += 1
        one, two = 1 - 0.9**self._steps, 1 - 0.999**self._steps
        for part, slope, first, second in zip(self.parts, slopes, self._first, self._second, strict=True):
            first *= 0.9
            first += 0.1 * slope
            second *= 0.999
            second += 0.001 * slope * slope
            part -= (rate / one) * first / (np.sqrt(second / two) + 1e-8)

    def folded(self) -> tuple[F64, F64, F64, float]:
        """The standardisation taken into the first layer."""
        w1, b1, w2, b2 = (np.asarray(p, np.float64) for p in self.parts)
        return w1 / self.spread[:, None], b1 - (self.mean / self.spread) @ w1, w2, float(b2[0])


def mean_of(members: list[Net]) -> Weights:
    """Networks that differ in how they began, made one whose logit is their mean; six digits.

    One alone now and then rejects a whole run of some patient's beats; which one does is chance.
    """
    parts = [member.folded() for member in members]
    w1 = np.concatenate([p[0] for p in parts], axis=1)
    b1 = np.concatenate([p[1] for p in parts])
    w2 = np.concatenate([p[2] for p in parts]) / len(parts)
    b2 = sum(p[3] for p in parts) / len(parts)
    rows = tuple(tuple(_six(v) for v in row) for row in w1.tolist())
    return Weights(rows, tuple(map(_six, b1.tolist())), tuple(map(_six, w2.tolist())), _six(b2))


def _six(v: float) -> float:
    return float(f"{v:.6g}")
