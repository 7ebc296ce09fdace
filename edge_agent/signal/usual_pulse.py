"""What the patient's usual pulse looks like, and how much this one resembles it: one template, causal, bounded.

The template is the median of the pulses that began between 16 s and 150 s ago, aligned at their feet: what happens now cannot
have become usual, and an artefact in three pulses of ten does not show in a median. Compared is the first 0.4 s, which holds
the upstroke, the systolic peak and the beginning of its fall at any heart rate; size does not count here (`alarms.pulses`
weighs that).
"""

from __future__ import annotations

import math
from collections import deque

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

COMPARED_S = 0.4
USUAL_FROM_S, USUAL_TO_S = 150.0, 16.0
LEAST_PULSES = 8
MOST_PULSES = 64
LEARN_EVERY = 8
"""Pulses from one lesson to the next."""


class UsualPulse:
    """One channel's. Feed it the pulses in order."""

    def __init__(self, hz: float) -> None:
        self._hz = hz
        self._width = round(COMPARED_S * hz)
        self._shapes: deque[tuple[float, Array]] = deque(maxlen=4 * MOST_PULSES)
        self._pulses = 0
        self._usual: Array | None = None

    def feed(self, foot: float, body: Array) -> float | None:
        """-1 to 1: how much a pulse that begins at ``foot`` (in values) resembles the usual one; None while that is not known."""
        shape = body[: self._width]
        if len(shape) < self._width:  # the next one came early: as if it had stayed where it was
            shape = np.concatenate((shape, np.full(self._width - len(shape), body[-1])))
        shape = shape - shape.mean()
        norm = math.sqrt(float((shape * shape).sum()))
        if norm <= 0.0:
            return None if self._usual is None else 0.0
        shape /= norm
        if self._pulses % LEARN_EVERY == 0 or self._usual is None:
            self._learn(foot)
        self._pulses += 1
        self._shapes.append((foot, shape))
        return None if self._usual is None else float((shape * self._usual).sum())

    def _learn(self, now: float) -> None:
        since, until = now - USUAL_FROM_S * self._hz, now - USUAL_TO_S * self._hz
        while self._shapes and self._shapes[0][0] < since:
            self._shapes.popleft()
        old = [shape for foot, shape in self._shapes if foot < until][-MOST_PULSES:]
        if len(old) < LEAST_PULSES:
            return
        usual = np.median(np.array(old), axis=0)
        usual -= usual.mean()
        norm = math.sqrt(float((usual * usual).sum()))
        if norm > 0.0:
            self._usual = usual / norm
