"""Simulated courses of RR intervals, and the mistakes of observers: rhythms that few annotated patients have.

Irregular without fibrillation is what a model of RR intervals takes for it: breathing, premature beats in every pattern,
sinus pauses, Wenckebach's groups, bursts of tachycardia, a wandering pacemaker. The annotated patients under anaesthesia do
not breathe by themselves, and each of the other rhythms is known from a handful of them. Fibrillation itself is simulated as
skewed, hardly correlated log-normal intervals above a refractory floor (it lies within what the annotated patients show).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]
Rng = np.random.Generator
SHORTEST_S = 0.2
LONGEST_S = 3.0


def _between(rng: Rng, low: float, high: float, size: tuple[int, ...] | None = None) -> Doubles:
    """Logarithmically even."""
    return np.asarray(np.exp(rng.uniform(np.log(low), np.log(high), size)))


def sinus(rng: Rng, n: int, intervals: int) -> Doubles:
    """Breathing of 2.5 to 9 beats' period, slow drift, jitter."""
    base = np.exp(rng.normal(np.log(0.85), 0.25, (n, 1)))
    period = rng.uniform(2.5, 9, (n, 1)) * np.exp(rng.normal(0, 0.12, (n, intervals)))
    phase = 2 * np.pi * (np.cumsum(1 / period, 1) + rng.random((n, 1)))
    drift = np.cumsum(rng.normal(0, 1, (n, intervals)), 1) * _between(rng, 0.0005, 0.012, (n, 1))
    jitter = rng.normal(0, 1, (n, intervals)) * _between(rng, 0.002, 0.02, (n, 1))
    depth = _between(rng, 0.003, 0.14, (n, 1))
    return np.asarray(base * np.exp(depth * np.sin(phase) + drift - drift.mean(1, keepdims=True) + jitter))


def _premature(rng: Rng, intervals: int) -> NDArray[np.bool_]:
    """Which beats come early: at random, every k-th, now every second and now every third, in couplets."""
    place, share = np.arange(intervals), float(_between(rng, 0.03, 0.4))
    mode = rng.integers(5)
    if mode == 1:
        early = (place + rng.integers(6)) % rng.integers(2, 6) == 0
    elif mode == 2:
        every = 2 + (np.cumsum(rng.random(intervals) < 0.15) + rng.integers(3)) % 3
        early = np.cumsum(1 / every) % 1 < 1 / every - 1e-9
    elif mode == 3:
        early = rng.random(intervals) < share
        early |= np.roll(early, 1) & (rng.random(intervals) < 0.7)
    elif mode == 4:
        early = ((place + rng.integers(5)) % rng.integers(2, 5) == 0) & (rng.random(intervals) < 0.8)
    else:
        early = rng.random(intervals) < share
    early[-1] = False
    return np.asarray(early)


def ectopic(rng: Rng, n: int, intervals: int) -> Doubles:
    """Premature beats from one focus or two, their coupling more or less fixed, with and without compensation."""
    x = sinus(rng, n, intervals)
    for row in x:
        early = np.flatnonzero(_premature(rng, intervals))
        coupling = rng.uniform(0.45, 0.85, 2)[np.where(rng.random(early.size) < 0.5, 0, rng.integers(2))]
        ratio = np.clip(coupling * np.exp(rng.normal(0, float(_between(rng, 0.01, 0.12)), early.size)), 0.3, 0.97)
        usual = row.copy()
        row[early] = usual[early] * ratio
        alone = ~np.isin(early + 1, early)
        after = early[alone] + 1
        if rng.random() < 0.15:  # interpolated: it takes no time from the rhythm
            row[after] = usual[early[alone]] * (1 - ratio[alone]) + 0.25
        else:
            row[after] = usual[after] * (1 + rng.choice([0.0, 1.0, 1.0, 0.4]) * (1 - ratio[alone]))
    return x


def _blocked_course(rng: Rng, intervals: int, base: float) -> Doubles:
    made: list[float] = []
    mode, group, varied = rng.integers(4), int(rng.integers(3, 8)), rng.random() < 0.5
    growth, share = rng.uniform(0.03, 0.25), rng.uniform(0.03, 0.35)
    factor = rng.choice([2.0, 1.5, 1.35]) * np.exp(rng.normal(0, 0.05))
    while len(made) < intervals:
        count = max(2, group + int(rng.integers(-1, 2))) if varied else group
        if mode == 0:  # Wenckebach: PR grows by less and less, then a beat is dropped
            growing = growth * np.exp(-0.7 * np.arange(count - 1))
            made += [*(base * (1 + growing)), base * (2 - growing.sum())]
        elif mode == 1:  # exit block at random
            made.append(base * (factor if rng.random() < share else 1.0))
        elif mode == 2:  # a pause, from which the sinus node recovers over some beats
            made += list(base * (1 + rng.uniform(0.1, 0.6) * np.exp(-np.arange(count + 2) / rng.uniform(0.7, 4))))
        else:  # every n-th dropped
            made += [base] * (count - 1) + [base * factor]
    return np.array(made[-intervals:])


def blocked(rng: Rng, n: int, intervals: int) -> Doubles:
    """Sinus pauses, exit block, Wenckebach's groups, n to n - 1 block."""
    x = sinus(rng, n, intervals)
    for i, row in enumerate(x):
        base = float(row.mean())
        breathing = (row / base) ** rng.uniform(0, 1)
        jitter = np.exp(rng.normal(0, float(_between(rng, 0.004, 0.06)), intervals))
        x[i] = _blocked_course(rng, intervals, base) * breathing * jitter
    return x


def wandering(rng: Rng, n: int, intervals: int) -> Doubles:
    """Bursts of tachycardia, or intervals that wander from beat to beat."""
    x = sinus(rng, n, intervals)
    for i, row in enumerate(x):
        if rng.random() < 0.5:
            change = rng.random(intervals)
            fast, factor = False, rng.uniform(0.35, 0.7)
            for t in range(intervals):
                fast ^= bool(change[t] < (0.12 if fast else 0.04))
                if fast:
                    row[t] = row.mean() * factor * np.exp(rng.normal(0, 0.015))
        else:
            memory, spread = rng.uniform(0.75, 0.97), rng.uniform(0.02, 0.16)
            push = rng.normal(0, 1.5 * spread * np.sqrt(1 - memory**2), intervals)
            walk = np.zeros(intervals)
            for t in range(1, intervals):
                walk[t] = memory * walk[t - 1] + push[t]
            x[i] = np.exp(rng.normal(np.log(0.75), 0.25) + walk)
    return x


def fibrillation(rng: Rng, n: int, intervals: int) -> Doubles:
    base = np.exp(rng.normal(np.log(0.68), 0.28, (n, 1)))
    spread = _between(rng, 0.09, 0.32, (n, 1))
    push = rng.normal(0, 1, (n, intervals))
    push += 0.5 * rng.uniform(0, 0.5, (n, 1)) * (push**2 - 1)
    push /= push.std(1, keepdims=True)
    walk = push.copy()
    walk[:, 1:] += rng.uniform(-0.35, 0.2, (n, 1)) * push[:, :-1]
    floor = base * np.exp(-rng.uniform(1.2, 2.2, (n, 1)) * spread)
    x = np.maximum(base * np.exp(spread * walk), floor * np.exp(np.abs(rng.normal(0, 0.04, (n, intervals)))))
    for row in (x[i] for i in np.flatnonzero(rng.random(n) < 0.25)):  # ventricular beats, at a coupling of their own
        early = np.flatnonzero(rng.random(intervals - 1) < rng.uniform(0.03, 0.15))
        row[early] = rng.uniform(0.35, 0.5) * np.exp(rng.normal(0, 0.03, early.size))
        row[early + 1] *= rng.uniform(1.05, 1.3)
    return np.asarray(x)


REGULAR: tuple[tuple[Callable[[Rng, int, int], Doubles], float], ...] = (
    (sinus, 0.20),
    (ectopic, 0.40),
    (blocked, 0.25),
    (wandering, 0.15),
)
"""What is no fibrillation, and how often each is drawn."""


def without_fibrillation(rng: Rng, n: int, intervals: int) -> Doubles:
    counts = rng.multinomial(n, [share for _, share in REGULAR])
    parts = [make(rng, int(count), intervals) for (make, _), count in zip(REGULAR, counts, strict=True) if count]
    return np.clip(np.concatenate(parts), SHORTEST_S, LONGEST_S)


def with_fibrillation(rng: Rng, n: int, intervals: int) -> Doubles:
    return np.clip(fibrillation(rng, n, intervals), SHORTEST_S, LONGEST_S)


# --- the mistakes of observers ------------------------------------------------------------------------------------------


def jitter(x: Doubles, rng: Rng, share: float) -> Doubles:
    """R peaks marked 2 to 15 ms off (of a median interval of 1, as part of it): each moves two intervals against each other."""
    n, intervals = x.shape
    size = np.where(rng.random(n) < share, _between(rng, 0.002, 0.018, (n,)), 0.0)[:, None]
    return np.asarray(np.maximum(x + np.diff(size * rng.normal(0, 1, (n, intervals + 1)), axis=1), 0.15))


def misheard(row: Doubles, rng: Rng) -> Doubles:
    """One to three beats missed (two intervals become one) or heard where none is (one becomes two)."""
    made = row
    for _ in range(rng.integers(1, 4)):
        at = int(rng.integers(1, made.size - 1))
        if rng.random() < 0.5:
            new = [made[at - 1] + made[at]]
            made = np.concatenate([made[: at - 1], new, made[at + 1 :]])
        else:
            part = rng.uniform(0.3, 0.7)
            made = np.concatenate([made[:at], [made[at] * part, made[at] * (1 - part)], made[at + 1 :]])
    made = made[-row.size :]
    return np.concatenate([rng.choice(row, row.size - made.size), made])


def disturbed(x: Doubles, rng: Rng) -> Doubles:
    """Premature beats where there were none, among any rhythm: one focus, at random or every k-th."""
    for row in x:
        early = np.flatnonzero(_premature(rng, row.size))
        ratio = np.clip(
            rng.uniform(0.5, 0.85) * np.exp(rng.normal(0, rng.choice([0.0, 0.03, 0.06]), early.size)), 0.35, 0.95
        )
        cut = row[early] * (1 - ratio)
        row[early] -= cut
        row[early + 1] += cut * rng.choice([0.0, 0.5, 1.0])
    return x
