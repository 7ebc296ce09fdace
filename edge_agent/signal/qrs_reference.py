"""The QRS detector in plain Python, sample by sample: the specification that the compiled kernel is held to.

*Candidates.* The signal is differentiated once and twice under a Gaussian of 11 ms (slope and curvature), the squares are
added and smoothed over 0.12 s; a candidate is a maximum of that energy within +-0.12 s. Gaussians are cascades of boxes
(Wells 1986), kept as running sums: a few additions a sample whatever the rate. The samples are made integers first, so
these sums are exact and never drift; the energy's sums, in floating point, are made anew once a window instead.

*Decisions*, each a fixed time after its candidate. Levels of beats and noise follow Pan & Tompkins (1985) and Hamilton &
Tompkins (1986); departures: the T wave's test is graded (what it takes falls to nothing between two intervals), and
levels move at decisions only. The learned verifier replaces the rules by a small network over what the rules look at and
more (``inputs``): its levels, rhythm, what came before, what follows, scale and resemblance.

Nothing depends on how the samples were cut into blocks: the state moves by one sample at a time.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal.qrs_design import GRID, LIMIT, NEVER, QUANTUM, SHAPE, Design, Weights

Found = tuple[int, int, float]
"""Sample of the R peak, newest sample needed, confidence."""


def ratio(x: float, y: float) -> float:
    """log(x / y), held within +-4."""
    if not x > y * 0.018315638888734179:
        return -4.0
    if not x < y * 54.598150033144236:
        return 4.0
    return math.log(x / y)


def _near(x: float) -> int:
    return int(x - 0.5 if x < 0 else x + 0.5)


def _median(values: Sequence[float]) -> float:
    return sorted(values)[len(values) // 2]


class Reference:
    """See the module. ``feed`` and ``flush`` give (R peak, known, confidence) for every beat."""

    def __init__(self, design: Design, weights: Weights | None, first: int) -> None:
        self.d = d = design
        self.weights = weights
        fs = d.fs
        self.mask = d.ring - 1
        self.slope_half = int(0.06 * fs + 0.5)
        self.hold = int(0.04 * fs)
        self.grid = [min(_near((-0.36 + 0.03 * g) * fs), d.ahead) for g in range(GRID)]
        self.shape_at = [_near(0.012 * (g - SHAPE // 2) * fs) for g in range(SHAPE)]
        self.past_step = int(0.025 * fs + 0.5)
        self.past_count = int(1.38 * fs) // self.past_step
        self.fine = max(1, int(0.006 * fs + 0.5))
        self.coarse = max(1, int(0.03 * fs + 0.5))
        self.scale = 1.0 / d.box_energy
        self._forget_patient()
        self._forget_signal(first)

    # What is known of the signal, and what is known of the patient.

    def _forget_signal(self, first: int) -> None:
        n = self.d.ring
        self.origin = first
        self.t = self.offset = self.last_u = self.sum_a = self.sum_c = self.bad = self.phase = 0
        self.started = False
        self.s1 = self.f1 = self.s2 = self.f2 = 0.0
        self.best = -1.0
        self.best_t = -1
        self.signal_from = -1
        self.u, self.smooth, self.step = [0] * n, [0] * n, [0] * n
        self.slope, self.power, self.energy1, self.energy = [0.0] * n, [0.0] * n, [0.0] * n, [0.0] * n
        self.queue: list[int] = []
        self.last = self.last2 = self.previous_q = self.loud_q = NEVER
        self.loud_e = self.out1 = self.out2 = self.previous_e = self.reject_e = 0.0
        self.stand_out = 0
        self.back: tuple[int, float, float] | None = None

    def _forget_patient(self) -> None:
        self.learned = False
        self.level = self.noise = self.floor = self.slope_level = self.last_slope = self.rr = self.typical = 0.0
        self.rrs: list[float] = []
        self.tops: list[float] = []
        self.usual: list[float] | None = None
        self.other: list[float] | None = None
        self.found: list[Found] = []

    # The outside.

    def feed(self, x: NDArray[np.float32], first: int) -> list[Found]:
        if first != self.origin + self.t:
            self.reset(first)
        for v in x.tolist():
            self._sample(v)
        found, self.found = self.found, []
        return found

    def reset(self, first: int) -> None:
        """After lost samples: the filters and the rhythm begin anew; the patient's levels stay if it was not for long."""
        end = self.origin + self.t
        if first < end or first > end + int(30 * self.d.fs):
            self._forget_patient()
        self._forget_signal(first)

    def flush(self) -> list[Found]:
        last = self.origin + self.t - 1
        if self.signal_from >= 0 and not self.learned:
            for _ in range(self.d.delay + self.d.apart):
                self._sample(math.nan)
            if not self.learned:
                self._learn()
            for _ in range(self.d.ahead - self.d.apart + 1):
                self._sample(math.nan)
        else:
            for _ in range(self.d.delay + self.d.ahead + 1):
                self._sample(math.nan)
        found, self.found = self.found, []
        self._forget_signal(last + 1)
        return [(s, min(known, last), c) for s, known, c in found if s <= last]

    # Per sample.

    def _sample(self, v: float) -> None:
        d, t, m = self.d, self.t, self.mask
        if abs(v) < LIMIT:
            q = int(v * QUANTUM)
            if not self.started:
                self.offset = q
                self.started = True
            elif self.bad > self.hold:
                self.offset = q - self.last_u  # go on from where it stopped: a step would look like a beat
            self.bad = 0
            u = self.last_u = q - self.offset
        else:
            self.bad += 1
            u = self.last_u
        self.u[t & m] = u
        self.sum_a += u - self.u[(t - d.box_a) & m]
        self.smooth[t & m] = self.sum_a
        step = self.sum_a - self.smooth[(t - d.box_b) & m]
        bend = step - self.step[(t - d.box_c) & m]
        self.step[t & m] = step
        self.sum_c += bend
        slope, curve = d.gain_slope * self.sum_c, d.gain_curve * bend
        self.slope[t & m] = slope
        power = slope * slope + curve * curve
        w = d.box_energy
        self.f1 += power
        self.s1 = (self.s1 + power) - self.power[(t - w) & m]
        self.power[t & m] = power
        self.f2 += self.s1
        self.s2 = (self.s2 + self.s1) - self.energy1[(t - w) & m]
        self.energy1[t & m] = self.s1
        self.phase += 1
        if self.phase == w:  # the sums since the last time are the windows' own: what had rounded is gone
            self.phase = 0
            self.s1, self.s2, self.f1, self.f2 = self.f1, self.f2, 0.0, 0.0
        energy = self.s2 if self.s2 > 0 else 0.0
        self.energy[t & m] = energy
        if energy > self.best:
            self.best, self.best_t = energy, t
        elif t == self.best_t + d.apart:
            self._candidate()
        if self.signal_from < 0 and energy > 0:
            self.signal_from = t
        if not self.learned and self.signal_from >= 0 and t - self.signal_from >= d.learn:
            self._learn()
        if self.learned:
            while self.queue and t >= self.queue[0] + d.ahead:
                self._decide(self.queue.pop(0), t)
            if self.back and self.rrs and t >= self.last + d.ahead + int(d.back * self.rr * d.fs):
                self._search_back(t)
        self.t = t + 1

    def _candidate(self) -> None:
        q, best, m = self.best_t, self.best, self.mask
        self.best = -1.0
        if best > 0 and all(self.energy[j & m] < best for j in range(q - self.d.apart, q)):
            self.queue.append(q)

    def _learn(self) -> None:
        tops = sorted((math.sqrt(self.energy[q & self.mask]) * self.scale for q in self.queue), reverse=True)
        if tops:
            second = tops[1] if len(tops) > 1 else 0.0
            self.level = 0.8 * max(second, 0.5 * tops[0])
            self.noise = 0.1 * self.level
            self.floor = 0.0
            self.learned = True

    # Per candidate.

    def _decide(self, q: int, t: int) -> None:
        d, m = self.d, self.mask
        energy = self.energy[q & m]
        e = math.sqrt(energy) * self.scale
        dt = (q - self.last) / d.fs
        mid = q - (d.box_energy - 1)
        slope = max(abs(self.slope[j & m]) for j in range(mid - self.slope_half, mid + self.slope_half + 1))
        # Too soon, too small, or no more than the P wave of a heart that stands still.
        skip = dt < d.refractory_s or e < 0.04 * self.level or (dt < 60 and e < 0.75 * self.floor)
        if dt >= d.refractory_s and e > 6 * self.level:
            if q - self.loud_q < 2.5 * d.fs:  # twice: not the signal but the level was wrong
                self._relevel(0.8 * min(e, self.loud_e))
                self.loud_q = NEVER
            else:
                self.loud_q, self.loud_e = q, e
        past, half, quarter = self._past(q, energy)
        shape: list[float] = []
        norm = likeness = 0.0
        if d.verifier:
            shape = [self.slope[(mid + s) & m] for s in self.shape_at]
            square = 1e-30
            for s in shape:
                square += s * s
            norm = math.sqrt(square)
            likeness = _likeness(self.usual, shape, norm)
        if d.verifier and self.weights:
            rest = _likeness(self.other, shape, norm)
            x = self._inputs(q, e, dt, slope, past, half, quarter, likeness, rest)
            confidence = _probability(self.weights, x)
            need = d.threshold
            familiar = likeness > 0.85 and 0.55 * self.typical < e < 1.8 * self.typical
            if self.rrs and dt > 1.5 * self.rr and familiar:
                need *= 0.3  # nothing for long, and then what has been a beat all along
            elif dt > 2.5 and e > 2.5 * past and 0.5 * self.level < e < 2 * self.level and e > 3 * self.floor:
                need *= 0.1  # nothing for longer, and then what stands out at the level of beats
            beat = not skip and confidence >= need
        else:
            confidence, beat = self._rules(q, e, dt, slope)
            beat = beat and not skip
        self.previous_q, self.previous_e = q, e
        if beat:
            if d.verifier:
                if self.usual is None or likeness > 0.7:
                    self.usual = _follow(self.usual, shape, norm)
                else:
                    self.other = _follow(self.other, shape, norm)
            self._accept(q, e, slope, t, confidence)
        elif dt >= d.refractory_s:
            self._reject(q, e, dt, slope, past)

    def _past(self, q: int, energy: float) -> tuple[float, float, float]:
        """Of the 1.5 s before: root mean square, and the shares above a half and a quarter of the candidate."""
        total, n, half, quarter = 0.0, 0, 0, 0
        j = q - self.d.apart
        for _ in range(self.past_count):
            if j < self.signal_from:
                break
            v = self.energy[j & self.mask]
            total += v
            half += v > 0.25 * energy
            quarter += v > 0.0625 * energy
            n += 1
            j -= self.past_step
        return (math.sqrt(total / n) * self.scale, half / n, quarter / n) if n else (0.0, 0.0, 0.0)

    def _rules(self, q: int, e: float, dt: float, slope: float) -> tuple[float, bool]:
        d = self.d
        share = d.share
        if self.rrs and dt > d.late * self.rr:
            share *= max(1 - d.late_fall * (dt / self.rr - d.late), d.late_least)
        threshold = self.noise + share * (self.level - self.noise)
        beat = e > threshold
        if beat and dt < d.t_until_s:
            least = d.t_slope * (1 if dt < d.t_from_s else (d.t_until_s - dt) / (d.t_until_s - d.t_from_s))
            beat = slope > least * self.last_slope
        if beat:
            most = d.next_energy * self.energy[q & self.mask]
            beat = not any(self.energy[j & self.mask] > most for j in range(q + d.apart, q + d.ahead + 1))
        return e / (e + threshold), beat

    def _inputs(
        self,
        q: int,
        e: float,
        dt: float,
        slope: float,
        past: float,
        half: float,
        quarter: float,
        likeness: float,
        rest: float,
    ) -> list[float]:
        d, m, u = self.d, self.mask, self.u
        around = [math.sqrt(self.energy[(q + g) & m]) * self.scale for g in self.grid]
        after = 0.0
        for v in around[13:]:
            after += v
        c, f = q - d.delay, self.fine
        mid, wide = q - (d.box_energy - 1), 2 * self.slope_half
        near = range(c - self.slope_half, c + self.slope_half + 1)
        fine = float(max(abs(u[(j - f) & m] - 2 * u[j & m] + u[(j + f) & m]) for j in near))
        far = range(mid - wide, mid + wide + 1, f)
        coarse = float(max(abs(self.smooth[(j + self.coarse) & m] - self.smooth[(j - self.coarse) & m]) for j in far))
        curve = float(max(abs(self.step[j & m]) for j in far))
        since_previous = (q - self.previous_q) / d.fs
        rhythm = bool(self.rrs)
        return [
            ratio(e, self.level),
            ratio(e, self.noise),
            ratio(e, self.typical) if self.tops else 0.0,
            ratio(slope, self.slope_level),
            ratio(slope, e),
            ratio(fine * (1.0 / QUANTUM), e),
            ratio(coarse * (1.0 / (QUANTUM * d.box_a)), e),
            ratio(curve * (1.0 / (QUANTUM * d.box_a)), e),
            min(dt, 3.0),
            min(dt, 0.6),
            ratio(dt, self.rr) if rhythm else 0.0,
            ratio((q - self.last2) / d.fs, self.rr) if rhythm else 0.0,
            self.rr if rhythm else 0.8,
            ratio(max(around[16:]), e),
            ratio(after / (GRID - 13), e),
            ratio(min(e, *around[2:11]), e),
            ratio(past, e),
            ratio(past, self.level),
            ratio(self.noise, self.level),
            half,
            quarter,
            ratio(self.reject_e, e),
            ratio(self.previous_e, e),
            min(since_previous, 1.0),
            likeness,
            rest,
            ratio(slope, self.last_slope) if self.last_slope > 0 else 0.0,
            0.0 if dt < 3 else (math.log(dt / 3) if dt < 30 else 2.302585092994046),
            *(v / (v + e) for v in around),
        ]

    def _accept(self, q: int, e: float, slope: float, t: int, confidence: float) -> None:
        d = self.d
        dt = (q - self.last) / d.fs
        usual = (
            len(self.tops) == 8 and 0.5 * self.typical < e < 2 * self.typical and 0.65 * self.rr < dt < 1.35 * self.rr
        )
        if (
            usual and self.energy[(q - 2 * d.apart) & self.mask] > 0
        ):  # between a recorder's rails there is nothing at all
            self.floor += 0.03 * (0.2 * self.level - self.floor)
        if dt < 3.0:
            self.rrs = [*self.rrs[-7:], dt]
            self.rr = _median(self.rrs)
        self.tops = [*self.tops[-7:], e]
        self.typical = _median(self.tops)
        self.level += d.level_gain * (min(e, d.level_cap * self.level) - self.level)
        if self.slope_level == 0:
            self.slope_level = slope
        else:
            self.slope_level += 0.13 * (min(slope, 2 * self.slope_level) - self.slope_level)
        self.last, self.last2, self.last_slope = q, self.last, slope
        self.out1 = self.out2 = self.reject_e = 0.0
        self.stand_out = 0
        self.back = None
        self.found.append((self.origin + self._locate(q), self.origin + t, confidence))

    def _reject(self, q: int, e: float, dt: float, slope: float, past: float) -> None:
        d = self.d
        self.noise += d.noise_gain * (min(e, d.noise_cap * self.level) - self.noise)
        self.reject_e = max(self.reject_e, e)
        if not d.verifier and dt > 0.3 and (self.back is None or e > self.back[1]):
            self.back = (q, e, slope)
        if e > 2.5 * past:
            # It stands out. With no beat for long, the level was wrong; but a rhythm that was once learned keeps it above
            # the P waves of a heart that stands still.
            if e > self.out1:
                self.out1, self.out2 = e, self.out1
            elif e > self.out2:
                self.out2 = e
            if dt > 2.0:
                self.stand_out += 1
                if self.stand_out >= 2:
                    to = 0.8 * self.out2
                    if dt < 60 and to < self.floor:
                        to = self.floor
                    if to < self.level:
                        self._relevel(to)
                    self.out1 = self.out2 = 0.0
                    self.stand_out = 0

    def _relevel(self, to: float) -> None:
        """The level was wrong: so was what was measured beside it."""
        factor = to / self.level
        self.level = to
        self.slope_level *= factor
        self.last_slope *= factor
        self.typical *= factor
        self.tops = [e * factor for e in self.tops]
        self.noise = min(self.noise, 0.2 * to)

    def _search_back(self, t: int) -> None:
        if self.back:
            q, e, slope = self.back
            self.back = None
            if e > self.noise + self.d.back_share * (self.level - self.noise) and e >= 0.75 * self.floor:
                self._accept(q, e, slope, t, 0.5)

    def _locate(self, q: int) -> int:
        """The largest deflection near the candidate from the mean of what is before and after it."""
        fs, m, u = self.d.fs, self.mask, self.u
        c, half, edge = q - self.d.delay, int(0.08 * fs + 0.5), int(0.12 * fs + 0.5)
        base = sum(u[(c - edge + j) & m] + u[(c + edge + j) & m] for j in range(-2, 3))
        return max(range(max(c - half, 0), c + half + 1), key=lambda j: abs(10 * u[j & m] - base))


def _likeness(template: list[float] | None, shape: list[float], norm: float) -> float:
    if template is None:
        return 0.0
    dot, square = 0.0, 1e-9
    for a, s in zip(template, shape, strict=True):
        dot += a * s
        square += a * a
    return dot / (norm * math.sqrt(square))


def _follow(template: list[float] | None, shape: list[float], norm: float) -> list[float]:
    if template is None:
        return [s / norm for s in shape]
    return [a + 0.1 * (s / norm - a) for a, s in zip(template, shape, strict=True)]


def _probability(weights: Weights, x: list[float]) -> float:
    hidden = list(weights.b1)
    for v, row in zip(x, weights.w1, strict=True):
        for j, w in enumerate(row):
            hidden[j] += w * v
    z = weights.b2
    for w, h in zip(weights.w2, hidden, strict=True):
        z += w * math.tanh(h)
    return 1 / (1 + math.exp(-z)) if z > -700 else 0.0
