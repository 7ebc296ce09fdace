"""Real arterial lines, and what may be said of a ten-second stretch of them without having been told.

Nobody has marked artefacts in the Challenge 2015. What is known comes from four witnesses, none of them a net: the daemon's own
quality (every half second), jSQI's rules on its pulses, the ECG beside the line, and the rest of the record, before and after. A stretch is

``normal``
    no bad half second in it or just beside it, every pulse that begins in it keeps every rule, the line is not rougher than twice what
    it is in the record as a whole, and its pulse is not smaller than 0.6 of it; or
``arrhythmic``
    no bad half second, and pulses break only rules that an arrhythmia breaks (jumps from beat to beat, small pulses, rate) while the
    ECG shows that arrhythmia: every pulse follows a QRS, and the intervals of the ECG jump where those of the pressure do. Also the
    end of a record whose alarm was true, where the line is good: a heart that stops takes the pressure with it, and the line is right;
``bad``
    bad for at least a second and a half, or most pulses break rules that no heart breaks (weak labels);
``unknown``
    all the rest: neither trained on nor counted.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Pulse, Quality
from edge_agent.signal.abp_quality import PressureQuality
from edge_agent.signal.detectors import make_detector
from edge_agent.signal.ecg_quality import EcgQuality
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.quality_grid import longest_run, moving_mean
from edge_train.arrays import Floats
from edge_train.errors import DataError

Verdict = Literal["normal", "arrhythmic", "bad", "unknown"]
LENGTH_S = 10.0
BAD_S = 1.5
"""A stretch with less than this of bad half seconds is nobody's."""
TICK_S = 0.5
JUMPS = ("period_jump", "systolic_jump", "diastolic_jump", "onset_jump")
HEART = frozenset((*JUMPS, "pulse_pressure", "faint_upstroke", "after_bad", "rate_range"))
"""Rules that a heart out of step breaks."""
SURE = frozenset(("flat", "calibration", "flush"))
"""Reasons of the quality that no heart gives."""
USUAL = 0.3
"""A reason that holds for more than this share of a record may be a steep pulse."""
LINE = frozenset(("ragged", "systolic_range", "diastolic_range", "mean_range"))
"""Rules that are broken by lines, or by patients near death."""
ROUGH_PART, ROUGH_MMHG, SMALL_PART = 2.0, 1.0, 0.6
"""Against the record as a whole: roughness, the least of it that matters, and the pulse."""
PULSE_AFTER_S = (0.04, 0.60)
"""A pulse's foot after its QRS."""
UNEVEN = 0.12
"""Intervals of the ECG that differ by more than this from the usual."""
ALARM_S = (132.0, 180.0)
"""Where a true alarm's event is, in records that begin 150 s before it."""


@dataclass(frozen=True, slots=True)
class Line:
    """One record's pressure, with what the witnesses say of it."""

    name: str
    fs: float
    abp: Floats
    quality: tuple[Quality, ...]
    pulses: tuple[Pulse, ...]
    beats: NDArray[np.int64]
    """QRS of the better lead."""
    ecg_bad: NDArray[np.bool_]
    """Per half second of that lead."""
    true_alarm: bool = False
    usual: Mapping[str, float] = field(default_factory=dict)
    """Reason of the quality to the share of the record for which it holds."""
    rough: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    """Root mean square of what is faster than a pulse, second by second."""


def names(folder: Path) -> list[str]:
    """The records that have an arterial pressure."""
    headers = sorted(folder.glob("*.hea"))
    if not headers:
        raise DataError(f"{folder}: no WFDB records there")
    return [path.stem for path in headers if any(row.split()[-1] == "ABP" for row in _signal_rows(path))]


def _signal_rows(header: Path) -> list[str]:
    rows = [row for row in header.read_text().splitlines() if row.strip() and not row.startswith("#")]
    return rows[1:]


def alarms(folder: Path) -> dict[str, bool]:
    """Record to whether its alarm was true."""
    try:
        rows = [row.split(",") for row in (folder / "ALARMS").read_text().splitlines() if row.strip()]
    except OSError as error:
        raise DataError(f"{folder / 'ALARMS'}: cannot be read ({error.strerror or error})") from None
    return {row[0]: row[2].strip() == "1" for row in rows}


def half_of(name: str) -> str:
    """The half of the records that a name belongs to: the daemon's pressure quality was developed on ``develop``."""
    return "develop" if hashlib.sha256(name.encode()).digest()[0] % 2 == 0 else "report"


def read(folder: Path, name: str, true_alarm: bool = False) -> Line:
    """A WFDB record with an ABP channel, heard by the daemon's own detectors."""
    import wfdb

    try:
        record = wfdb.rdrecord(str(folder / name))
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / name}: record cannot be read ({error}); is the download complete?") from None
    values = record.p_signal.astype(np.float32)
    ecg = [
        i for i, unit in enumerate(record.units) if unit == "mV" and record.sig_name[i] not in ("ABP", "PLETH", "RESP")
    ]
    abp = np.ascontiguousarray(values[:, record.sig_name.index("ABP")])
    return listen(name, float(record.fs), abp, [np.ascontiguousarray(values[:, i]) for i in ecg], true_alarm)


def listen(name: str, fs: float, abp: Floats, ecg: Sequence[Floats], true_alarm: bool = False) -> Line:
    """A line with what is found in it; of the ECG leads, the one that is good for longer."""
    detector, judge = PressureDetector(fs, "abp"), PressureQuality(fs, "abp")
    quality: list[Quality] = []
    pulses: list[Pulse] = []
    step = round(fs)
    for first in range(0, len(abp), step):
        piece = abp[first : first + step]
        found = [each for each in detector.feed(piece, first) if isinstance(each, Pulse)]
        quality += judge.feed(piece, first, False, found)
        pulses += found
    pulses += [each for each in detector.flush() if isinstance(each, Pulse)]
    best: tuple[NDArray[np.int64], NDArray[np.bool_]] = (np.zeros(0, np.int64), np.ones(len(abp) // step * 2 + 2, bool))
    for lead in ecg:
        beats, bad = _lead(fs, lead)
        if bad.mean() < best[1].mean():
            best = beats, bad
    why = Counter(reason for each in quality for reason in each.reasons)
    usual = {reason: count / len(quality) for reason, count in why.items()}
    return Line(name, fs, abp, tuple(quality), tuple(pulses), *best, true_alarm, usual, _roughness(abp, fs))


def _roughness(abp: Floats, fs: float) -> NDArray[np.float64]:
    x = np.nan_to_num(abp.astype(np.float64))
    width = max(3, round(0.048 * fs) | 1)
    smooth = moving_mean(moving_mean(x, width), width)
    fast = np.zeros(len(x))
    fast[width - 1 : width - 1 + len(smooth)] = x[width - 1 : width - 1 + len(smooth)] - smooth
    step = round(fs)
    whole = len(fast) // step
    return np.asarray(np.sqrt((fast[: whole * step].reshape(whole, step) ** 2).mean(1)))


def _unlike_the_rest(line: Line, first: int, end: int) -> bool:
    """Rougher, or with a smaller pulse, than the record is as a whole."""
    here = line.rough[int(first / line.fs) : int(np.ceil(end / line.fs))]
    moving = line.rough[line.rough > 0]
    if here.size and moving.size and here.max() > max(ROUGH_MMHG, ROUGH_PART * float(np.median(moving))):
        return True
    size = {p.sample: p.systolic - p.diastolic for p in line.pulses if not p.reasons}
    own = [height for sample, height in size.items() if first <= sample < end]
    return len(own) >= 3 and float(np.median(own)) < SMALL_PART * float(np.quantile(list(size.values()), 0.75))


def _lead(fs: float, lead: Floats) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    detector, judge = make_detector(fs, "ecg"), EcgQuality(fs, "ecg")
    beats: list[int] = []
    bad = np.ones(int(len(lead) / fs / TICK_S) + 2, bool)
    step = round(fs)
    for first in range(0, len(lead), step):
        found = list(detector.feed(lead[first : first + step], first))
        beats += [beat.sample for beat in found]
        for each in judge.feed(lead[first : first + step], first, False, found):
            bad[round(each.sample / fs / TICK_S)] = not each.good
    beats += [beat.sample for beat in detector.flush()]
    return np.array(sorted(beats), np.int64), bad


def verdict(line: Line, first: int, length_s: float = LENGTH_S) -> Verdict:
    """What may be said of the stretch that begins at sample ``first``."""
    fs = line.fs
    end = first + round(length_s * fs)
    inside = [q for q in line.quality if q.first >= first and q.sample <= end]
    after = line.quality[0].sample - line.quality[0].first if line.quality else 0
    beside = [q for q in line.quality if q.sample > first and q.sample <= end + after]
    pulses = [p for p in line.pulses if first <= p.sample < end]
    bad_s = TICK_S * sum(not q.good for q in inside)
    if not inside or not np.isfinite(line.abp[first:end]).all():
        return "unknown"
    broken = sum(bool(LINE & set(p.reasons)) for p in pulses)
    dying = line.true_alarm and first / fs < ALARM_S[1] and end / fs > ALARM_S[0]
    if bad_s >= BAD_S or (not dying and broken >= 3 and broken > len(pulses) / 2):
        reasons = {r for q in inside for r in q.reasons}
        if reasons & SURE and TICK_S * sum(bool(SURE & set(q.reasons)) for q in inside) >= BAD_S:
            return "bad"
        # What fails at a true alarm may be the patient; what fails all the time may be what this patient's line is like.
        return "unknown" if dying or max((line.usual.get(r, 0.0) for r in reasons), default=1.0) > USUAL else "bad"
    if any(not q.good for q in beside) or first < 5 * fs:  # the detectors learn first
        return "unknown"
    if not dying and _unlike_the_rest(line, first, end):
        return "unknown"
    broken_rules = {r for p in pulses for r in p.reasons}
    if len(pulses) >= 4 and not broken_rules:
        return "normal"
    if dying:
        return "arrhythmic"
    if len(pulses) >= 4 and broken_rules <= HEART and broken_rules != {"after_bad"} and _ecg_agrees(line, first, end):
        return "arrhythmic"
    return "unknown"


def _ecg_agrees(line: Line, first: int, end: int) -> bool:
    """Whether the ECG is good, leads every pulse, and is uneven itself."""
    fs = line.fs
    if line.ecg_bad[int(first / fs / TICK_S) : int(end / fs / TICK_S) + 2].any():
        return False
    beats = line.beats[(line.beats > first - fs) & (line.beats < end)]
    if len(beats) < 4:
        return False
    feet = np.array([pulse.sample for pulse in line.pulses], np.int64)
    after = (feet[None, :] - beats[:, None]) / fs
    led = (after > PULSE_AFTER_S[0]) & (after < PULSE_AFTER_S[1])
    here = (feet >= first) & (feet < end)
    if not led[:, here].any(0).all() or here.sum() > (beats >= first - fs / 2).sum():
        return False
    # A premature beat or two may move no blood; a heart that goes on without any pulse is behind a cuff or a stopcock.
    if longest_run(~led.any(1) & (beats < end - PULSE_AFTER_S[1] * fs)) > 2:
        return False
    intervals = np.diff(beats)
    uneven = np.abs(intervals / np.median(intervals) - 1.0) > UNEVEN
    fast = np.median(intervals) / fs < 0.5  # above 120 /min small pulses need no unevenness
    return bool(uneven.any() or fast)
