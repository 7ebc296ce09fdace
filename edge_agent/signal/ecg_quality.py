"""What an ECG lead is worth, twice a second, with the reason when it is worth little.

Seven faults, measured on the last two seconds against **the patient's own QRS** (its usual peak-to-peak, from the beats that
the detector found while the lead was good), because a millivolt means nothing by itself:

``lead_off``
    flagged by the source, or a twentieth of the window has no value.
``flat``
    the last second does not move at all, or by less than a two-thousandth of the usual QRS (0.5 uV of 1 mV). That is *not*
    asystole: electrodes on skin and any amplifier's input give several microvolts even where the heart gives none, so a
    line that moves by less comes from an input that is not connected or a converter that has stopped.
``saturated``
    the greatest (or least) value ever seen is held for 40 ms and more: a peak is not that flat, a rail is.
``noise``
    out of band: what moves faster than a QRS, *between* the QRS (a low quantile over tenths of a second, so that QRS, pacing
    spikes and T waves do not count), against the usual QRS, or fast bursts in a fifth of the window; in band: the same for
    5-20 Hz, unless the window is one oscillation (flutter, fibrillation and ventricular tachycardia are narrow; movement and
    muscle are broad), or a swing of four times the usual QRS, which hardly a ventricular beat reaches.
``wander``
    the baseline moves by more than the usual QRS within the window.
``hum``
    a line at 50 or 60 Hz that stands out from its neighbours and reaches a twentieth of the usual QRS.
``disagreement``
    two unlike detectors found different beats in the last ten seconds, or two that are one's alone in the last 2.5: the one
    given, and the energy of the slope with a plain threshold (`second_opinion`). After Li, Mark & Clifford 2008 (bSQI). Not
    held against a lead that shows one quick oscillation: nobody agrees on the beats of a fibrillation.

What it does not see: a slow movement that stays below the height of a QRS and lets the beats be found.
No beats is no fault: a quiet line after a good rhythm is an asystole seen clearly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Beat, Quality
from edge_agent.signal.quality_grid import GridWindow, longest_run, mended, moving_mean
from edge_agent.signal.second_opinion import SlopeBeats, agreement

WINDOW_S = 2.0
MOST_MISSING = 0.05
FLAT_PART = 0.0005
UNKNOWN_QRS_MV = 1.0
RAIL_S = 0.04
RAIL_STEPS = 20  # a window of fewer steps of the converter has no rail
NOISE_PART = 0.05
BAND_PART = 0.15
BURST_PART = 0.08
BURST_SHARE = 0.2
SWING_PART = 4.0
WANDER_PART = 1.0
HUM_PART = 0.05
CONCENTRATED = 0.6
OSCILLATION_HZ = 2.0  # 120 /min: slower is movement or a rhythm whose beats can be agreed on
AGREE_S = 10.0
AGREE_LAG_S = 1.0
LEAST_AGREEMENT = 0.85
LEAST_BEATS = 5
LATELY_S = 2.5
LATELY_ALONE = 2


class EcgQuality:
    """Judges one lead on the half-second grid; says nothing of the first two seconds."""

    def __init__(self, fs: float, channel: str, first: int = 0) -> None:
        self.fs = fs
        self.channel = channel
        self._window = GridWindow(fs, WINDOW_S, first)
        n = self._window.length
        self._taper = np.hanning(n)
        hz = np.fft.rfftfreq(n, 1.0 / fs).astype(np.float64)
        self._hz = hz
        self._slow = _bins(hz, 1.0, 30.0)
        self._band = _bins(hz, 1.0, 10.0)
        self._mains = [
            (_bins(hz, f - 1.0, f + 1.0), _bins(hz, f - 6.0, f - 2.0), _bins(hz, f + 2.0, f + 6.0))
            for f in (50.0, 60.0)
            if f + 6.0 < fs / 2
        ]
        self.reset(first)

    def reset(self, first: int) -> None:
        """Begin anew at ``first``."""
        self._window.reset(first)
        self._beats: deque[Beat] = deque(maxlen=64)
        self._unmeasured: deque[Beat] = deque(maxlen=16)
        self._sizes: deque[float] = deque(maxlen=16)
        self._second = SlopeBeats(self.fs)
        self._highest = -math.inf
        self._lowest = math.inf
        self._was_good = True

    def feed(self, x: NDArray[np.float32], first: int, lead_off: bool, beats: Sequence[Beat]) -> list[Quality]:
        """Qualities for the grid points in this block; ``beats`` are those that this very block made known."""
        if first != self._window.next:
            self.reset(first)
        out: list[Quality] = []
        waiting = deque(beats)
        for end, window, off in self._window.feed(x, lead_off):
            while waiting and waiting[0].known < end:
                self._take(waiting.popleft())
            reasons, score = self._judge(end, window, off)
            self._was_good = not reasons
            out.append(Quality(self.channel, end - self._window.length, end, end - 1, score, tuple(reasons)))
        for beat in waiting:
            self._take(beat)
        return out

    def _take(self, beat: Beat) -> None:
        self._beats.append(beat)
        self._unmeasured.append(beat)

    def _judge(self, end: int, window: NDArray[np.float64], off: bool) -> tuple[list[str], float]:
        w = None if off else mended(window, MOST_MISSING)
        if w is None:
            self._second.skip(end)
            return ["lead_off"], 0.0
        qrs = self._qrs_size(end, w)
        second = w[-round(self.fs) :]
        if float(second.max() - second.min()) <= FLAT_PART * qrs:
            self._second.skip(end)
            return ["flat"], 0.0
        faults = self._faults(end, w, qrs)
        reasons = [name for name, value in faults.items() if value >= 1.0]
        score = round(max(0.0, 1.0 - 0.5 * max(faults.values())), 3)
        return reasons, score

    def _faults(self, end: int, w: NDArray[np.float64], qrs: float) -> dict[str, float]:
        """Each is a fault when it reaches 1; the score falls from 1 as the worst of them rises."""
        faults = {"saturated": self._saturated(w)}
        spectrum = np.fft.rfft((w - float(w.sum()) / len(w)) * self._taper)
        power = spectrum.real**2 + spectrum.imag**2
        hum = self._hum(power)
        faults["hum"] = hum / (HUM_PART * qrs)
        broad = self._concentration(power) < CONCENTRATED
        fast, band, bursts = self._between_beats(w, BURST_PART * qrs)
        fast = math.sqrt(
            max(0.0, fast * fast - 0.6 * hum * hum)
        )  # half for a sine, a tenth for what the estimate misses
        faults["noise"] = max(
            fast / (NOISE_PART * qrs * (1.0 if broad else 2.0)),  # an oscillation is steep all along: nothing between
            bursts / BURST_SHARE if faults["hum"] < 1.0 else 0.0,
            band / (BAND_PART * qrs) if broad else 0.0,
            float(w.max() - w.min()) / (SWING_PART * qrs),
        )
        level = moving_mean(w, round(0.5 * self.fs))
        faults["wander"] = float(level.max() - level.min()) / (WANDER_PART * qrs)
        self._second.step(end, w, learn=bool(self._beats) and self._beats[-1].sample >= end - len(w))
        faults["disagreement"] = self._disagreement(end) if broad else 0.0
        return faults

    def _qrs_size(self, end: int, w: NDArray[np.float64]) -> float:
        """The usual peak-to-peak of this patient's QRS in this lead; until it is known, that of the window, or 1 mV."""
        start = end - len(w)
        half = round(0.06 * self.fs)
        while self._unmeasured and self._unmeasured[0].sample + half < end:
            at = self._unmeasured.popleft().sample - start
            if at - half >= 0 and (self._was_good or len(self._sizes) < 4):
                piece = w[at - half : at + half + 1]
                self._sizes.append(float(piece.max() - piece.min()))
        if len(self._sizes) >= 3:
            return max(median(self._sizes), 1e-9)
        return max(float(w.max() - w.min()), UNKNOWN_QRS_MV)

    def _saturated(self, w: NDArray[np.float64]) -> float:
        high, low = float(w.max()), float(w.min())
        self._highest = max(self._highest, high)
        self._lowest = min(self._lowest, low)
        least = max(4.0, RAIL_S * self.fs)
        run = 0
        for at_rail, held in ((high >= self._highest, w >= high), (low <= self._lowest, w <= low)):
            if at_rail and np.count_nonzero(held) >= least / 2:
                run = max(run, longest_run(held))
        if run <= 2:
            return 0.0
        steps = np.abs(w[1:] - w[:-1])
        if high - low < RAIL_STEPS * float(steps[steps > 0.0].min()):
            return 0.0
        return run / least

    def _hum(self, power: NDArray[np.float64]) -> float:
        """Amplitude of the stronger mains line, 0 if none stands out."""
        strongest = 0.0
        for line, below, above in self._mains:
            here = power[line]
            around = float(power[below].sum() + power[above].sum()) / (
                below.stop - below.start + above.stop - above.start
            )
            total = float(here.sum())
            if total > 10.0 * len(here) * around:
                # A sine of amplitude a has a^2 n^2 * 3/32 in the main lobe under this taper.
                strongest = max(strongest, math.sqrt(total * 32.0 / 3.0) / len(self._taper))
        return strongest

    def _concentration(self, power: NDArray[np.float64]) -> float:
        """Share of 1-30 Hz that lies within 1 Hz of the highest peak below 10 Hz and of its double."""
        total = float(power[self._slow].sum())
        if total <= 0.0:
            return 0.0
        peak = self._band.start + int(power[self._band].argmax())
        hz = float(self._hz[peak])
        if hz < OSCILLATION_HZ:
            return 0.0
        apart = float(self._hz[1])
        reach = round(1.0 / apart)
        first = slice(max(self._slow.start, peak - reach), peak + reach + 1)
        second = slice(max(first.stop, 2 * peak - reach), min(self._slow.stop, 2 * peak + reach + 1))
        return float(power[first].sum() + power[second].sum()) / total

    def _between_beats(self, w: NDArray[np.float64], burst: float) -> tuple[float, float, float]:
        """Root mean square between the QRS of what is faster than 20 Hz or so, and of 5-20 Hz; share of fast bursts."""
        fs = self.fs
        narrow = max(2, round(0.02 * fs))
        wide = max(narrow + 2, round(0.1 * fs))
        smooth = moving_mean(w, narrow)
        middle = (narrow - 1) // 2
        fast = w[middle : middle + len(smooth)] - smooth
        broad = moving_mean(w, wide)
        shift = (wide - narrow) // 2
        band = smooth[shift : shift + len(broad)] - broad
        piece = round(0.05 * fs)
        n = len(fast) // piece
        energy = (fast * fast)[: n * piece].reshape(n, piece).sum(axis=1)
        bursts = np.count_nonzero(energy > burst * burst * piece) / n
        return self._quiet_part(fast), self._quiet_part(band), bursts

    def _quiet_part(self, x: NDArray[np.float64]) -> float:
        """The third lowest of ten tenths of a second, in the noisier of the last two seconds."""
        tenth = round(0.1 * self.fs) - 1
        half = len(x) // tenth // 2
        x = x[len(x) - 2 * half * tenth :]
        energy = (x * x).reshape(2, half, tenth).sum(axis=2)
        energy.sort(axis=1)
        return math.sqrt(float(energy[:, half * 3 // 10].max()) / tenth)

    def _disagreement(self, end: int) -> float:
        """Over ten seconds how much they differ, and over the last few whether two beats in a row are one's alone."""
        until = end - round(AGREE_LAG_S * self.fs)
        near = round(0.15 * self.fs)
        since = max(until - round(AGREE_S * self.fs), self._second.since + near)
        given = [b.sample for b in self._beats if since <= b.sample < until]
        own = self._second.within(since, until)
        worst = 0.0
        if len(given) + len(own) >= 2 * LEAST_BEATS:
            worst = (1.0 - agreement(given, own, near)) / (1.0 - LEAST_AGREEMENT)
            lately = until - round(LATELY_S * self.fs)
            given = [b for b in given if b >= lately]
            own = [b for b in own if b >= lately]
            alone = len(given) + len(own) - round(agreement(given, own, near) * (len(given) + len(own)))
            worst = max(worst, alone / LATELY_ALONE)
        return worst


def _bins(hz: NDArray[np.float64], low: float, high: float) -> slice:
    """The bins from ``low`` to ``high``, both included."""
    return slice(int(np.searchsorted(hz, low - 1e-6)), int(np.searchsorted(hz, high + 1e-6)))
