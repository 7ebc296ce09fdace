"""What an ECG lead is worth, twice a second, with the reason when it is worth little.

Eight faults, measured on the last two seconds against **the patient's own QRS** (its usual peak-to-peak, from the beats that
the detector found while the lead was good), because a millivolt means nothing by itself:

``lead_off``
    flagged by the source.
``missing``
    a twentieth of the window has no value, and no electrode is said to be off: torn lines, a recording's invalid samples.
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
    given, and the energy of the slope with a plain threshold (`slope_beats`). After Li, Mark & Clifford 2008 (bSQI). Not
    held against a lead that shows one quick oscillation: nobody agrees on the beats of a fibrillation.

Noise and hum are faults for what they hide. A mains line up to three times that height (``SURE_PART``) hides nothing: it is
taken out, and the rest is judged. And while the two detectors find the same beats three times as much noise out of band is
borne; what lies in the band of the QRS is borne no more than ever. A lead stays sure until a detector finds beats that are
its alone: a pause makes no lead unsure. The score knows nothing of this: it says how clean a lead is, the reasons whether it
can be used.

What it does not see: a slow movement that stays below the height of a QRS and lets the beats be found.
No beats is no fault: a quiet line after a good rhythm is an asystole seen clearly.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Beat, Quality
from edge_agent.signal.measure import between_beats, extents, lines, tapered
from edge_agent.signal.quality_grid import WILD, GridWindow, longest_run, mended
from edge_agent.signal.slope_beats import SlopeBeats, agreement

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
MAINS_HZ = (50.0, 60.0)
CONCENTRATED = 0.6
OSCILLATION_HZ = 2.0  # 120 /min: slower is movement or a rhythm whose beats can be agreed on
AGREE_S = 10.0
AGREE_LAG_S = 1.0
LEAST_AGREEMENT = 0.85
LEAST_BEATS = 5
LATELY_S = 2.5
LATELY_ALONE = 2
SURE_PART = 3.0
"""12 dB of muscle noise or of hum (a sine's, as the MIT-BIH Noise Stress Test counts) are .14 and .13 of the QRS."""
SURE_BEATS = 4
UNSURE_ALONE = 2
BORNE = frozenset({"noise", "hum"})


class EcgQuality:
    """Judges one lead on the half-second grid; says nothing of the first two seconds."""

    def __init__(self, fs: float, channel: str, first: int = 0) -> None:
        self.fs = fs
        self.channel = channel
        self._window = GridWindow(fs, WINDOW_S, first)
        n = self._window.length
        self._taper = np.hanning(n)
        hz = np.fft.rfftfreq(n, 1.0 / fs).astype(np.float64)
        self._tapered = np.empty(n)
        slow, band = _bins(hz, 1.0, 30.0), _bins(hz, 1.0, 10.0)
        reach, least = round(1.0 / float(hz[1])), int(np.searchsorted(hz, OSCILLATION_HZ))
        self._bands = (band.start, band.stop, slow.start, slow.stop, reach, least)
        self._mains = [
            (_bins(hz, f - 1.0, f + 1.0), _bins(hz, f - 6.0, f - 2.0), _bins(hz, f + 2.0, f + 6.0))
            for f in MAINS_HZ
            if f + 6.0 < fs / 2
        ]
        places = [[end for part in line for end in (part.start, part.stop)] for line in self._mains]
        turn = 2.0 * np.pi * np.arange(n) / fs
        self._waves = [np.array([np.cos(f * turn), np.sin(f * turn)]) for f in MAINS_HZ if f + 6.0 < fs / 2]
        self._places = np.array(places, "l").reshape(-1, 6)
        narrow = max(2, round(0.02 * fs))
        self._widths = (
            narrow,
            max(narrow + 2, round(0.1 * fs)),
            round(0.05 * fs),
            round(0.1 * fs) - 1,
            round(0.5 * fs),
        )
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
        self._sure = False

    def feed(self, x: NDArray[np.float32], first: int, lead_off: bool, beats: Sequence[Beat]) -> list[Quality]:
        """Qualities for the grid points in this block; ``beats`` are those that this very block made known."""
        if first != self._window.next:
            self.reset(first)
        out: list[Quality] = []
        waiting = deque(beats)
        for end, window, off in self._window.feed(x, lead_off):
            while waiting and waiting[0].known < end:
                self._take(waiting.popleft())
            reasons, borne, score = self._judge(end, window, off)
            self._was_good = not reasons
            first = end - self._window.length
            out.append(Quality(self.channel, first, end, end - 1, score, tuple(reasons), tuple(borne)))
        for beat in waiting:
            self._take(beat)
        return out

    def _take(self, beat: Beat) -> None:
        self._beats.append(beat)
        self._unmeasured.append(beat)

    def _judge(self, end: int, window: NDArray[np.float64], off: bool) -> tuple[list[str], list[str], float]:
        w: NDArray[np.float64] | None = window
        extent = _Extent(*extents(window, round(self.fs)))
        if not (extent.low > -WILD and extent.high < WILD):  # both are NaN where a value is
            w = mended(window, MOST_MISSING)
            extent = extent if w is None else _Extent(*extents(w, round(self.fs)))
        if off or w is None:
            self._second.skip(end)
            return ["lead_off" if off else "missing"], [], 0.0
        qrs = self._qrs_size(end, w, extent)
        if extent.last_high - extent.last_low <= FLAT_PART * qrs:
            self._second.skip(end)
            return ["flat"], [], 0.0
        faults, broad = self._faults(end, w, qrs, extent)
        reasons = [name for name, value in faults.items() if value >= 1.0]
        borne: list[str] = []
        if reasons and BORNE.issuperset(reasons) and self._borne(w, qrs, extent, faults["hum"], broad):
            borne, reasons = reasons, borne
        score = round(max(0.0, 1.0 - 0.5 * max(faults.values())), 3)
        return reasons, borne, score

    def _faults(self, end: int, w: NDArray[np.float64], qrs: float, extent: _Extent) -> tuple[dict[str, float], bool]:
        """Each is a fault when it reaches 1; the score falls from 1 as the worst of them rises. And whether it is no oscillation."""
        faults = {"saturated": self._saturated(w, extent)}
        tapered(w, self._taper, self._tapered)
        # Concentration: share of 1-30 Hz that lies within 1 Hz of the highest peak below 10 Hz and of its double.
        mains, concentration = lines(np.fft.rfft(self._tapered), self._places, *self._bands)
        hum = self._hum(mains)
        faults["hum"] = hum / (HUM_PART * qrs)
        broad = concentration < CONCENTRATED
        # Between the QRS: what is faster than 20 Hz or so, and 5-20 Hz; share of fast bursts.
        fast, band, bursts, wander = between_beats(w, *self._widths, BURST_PART * qrs)
        fast = math.sqrt(
            max(0.0, fast * fast - 0.6 * hum * hum)
        )  # half for a sine, a tenth for what the estimate misses
        faults["noise"] = max(
            fast / (NOISE_PART * qrs * (1.0 if broad else 2.0)),  # an oscillation is steep all along: nothing between
            bursts / BURST_SHARE if faults["hum"] < 1.0 else 0.0,
            band / (BAND_PART * qrs) if broad else 0.0,
            (extent.high - extent.low) / (SWING_PART * qrs),
        )
        faults["wander"] = wander / (WANDER_PART * qrs)
        self._second.step(end, w, bool(self._beats) and self._beats[-1].sample >= end - len(w))
        disagreement = self._disagreement(end)
        faults["disagreement"] = disagreement if broad else 0.0
        return faults, broad

    def _borne(self, w: NDArray[np.float64], qrs: float, extent: _Extent, hum: float, broad: bool) -> bool:
        """Whether what is out of band hides nothing: the rest without the mains line, and three times as much of it around beats that
        two detectors agree on."""
        if hum >= SURE_PART or extent.high - extent.low > SWING_PART * qrs:
            return False
        if hum >= 1.0:
            w = w - float(w.sum()) / len(w)
            for wave in self._waves:
                w = w - (2.0 / len(w)) * (w @ wave.T) @ wave
        more = SURE_PART if self._sure else 1.0
        fast, band, bursts, _ = between_beats(w, *self._widths, more * BURST_PART * qrs)
        quiet = fast < more * NOISE_PART * qrs * (1.0 if broad else 2.0)
        return quiet and bursts < BURST_SHARE and (band < BAND_PART * qrs or not broad)

    def _qrs_size(self, end: int, w: NDArray[np.float64], extent: _Extent) -> float:
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
        return max(extent.high - extent.low, UNKNOWN_QRS_MV)

    def _saturated(self, w: NDArray[np.float64], extent: _Extent) -> float:
        high, low = extent.high, extent.low
        self._highest = max(self._highest, high)
        self._lowest = min(self._lowest, low)
        least = max(4.0, RAIL_S * self.fs)
        run = 0
        if high >= self._highest and extent.highest >= least / 2:
            run = longest_run(w >= high)
        if low <= self._lowest and extent.lowest >= least / 2:
            run = max(run, longest_run(w <= low))
        if run <= 2:
            return 0.0
        steps = np.abs(w[1:] - w[:-1])
        if high - low < RAIL_STEPS * float(steps[steps > 0.0].min()):
            return 0.0
        return run / least

    def _hum(self, mains: Sequence[tuple[float, float]]) -> float:
        """Amplitude of the stronger mains line, 0 if none stands out."""
        strongest = 0.0
        for (total, beside), (line, below, above) in zip(mains, self._mains, strict=True):
            around = beside / (below.stop - below.start + above.stop - above.start)
            if total > 10.0 * (line.stop - line.start) * around:
                # A sine of amplitude a has a^2 n^2 * 3/32 in the main lobe under this taper.
                strongest = max(strongest, math.sqrt(total * 32.0 / 3.0) / len(self._taper))
        return strongest

    def _disagreement(self, end: int) -> float:
        """Over ten seconds how much they differ, and over the last few whether two beats in a row are one's alone."""
        until = end - round(AGREE_LAG_S * self.fs)
        near = round(0.15 * self.fs)
        since = max(until - round(AGREE_S * self.fs), self._second.since + near)
        given = [b.sample for b in self._beats if since <= b.sample < until]
        own = self._second.within(since, until)
        both = len(given) + len(own)
        agreed = agreement(given, own, near)
        if both - round(agreed * both) >= UNSURE_ALONE:
            self._sure = False
        elif both >= 2 * SURE_BEATS:
            self._sure = True
        if both < 2 * LEAST_BEATS:
            return 0.0
        lately = until - round(LATELY_S * self.fs)
        given = [b for b in given if b >= lately]
        own = [b for b in own if b >= lately]
        alone = len(given) + len(own) - round(agreement(given, own, near) * (len(given) + len(own)))
        return max((1.0 - agreed) / (1.0 - LEAST_AGREEMENT), alone / LATELY_ALONE)


class _Extent(NamedTuple):
    """Of a window."""

    low: float
    high: float
    last_low: float
    """Of its last second,"""
    last_high: float
    highest: int
    """and how many of its values are the highest,"""
    lowest: int
    """and the lowest."""


def _bins(hz: NDArray[np.float64], low: float, high: float) -> slice:
    """The bins from ``low`` to ``high``, both included."""
    return slice(int(np.searchsorted(hz, low - 1e-6)), int(np.searchsorted(hz, high + 1e-6)))
