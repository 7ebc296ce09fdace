"""Quality of ECG and pressure: every reason with a signal that has the fault and the same signal without it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.journey import Beat, Onset, Pulse, Quality
from edge_agent.signal.abp_quality import PressureQuality
from edge_agent.signal.ecg_quality import EcgQuality
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.quality_grid import longest_run, mended, moving_mean
from edge_agent.signal.slope_beats import agreement

FS = 250.0
SECONDS = 40.0
FAULT_FROM = 20.0
Floats = NDArray[np.float64]
RNG = np.random.default_rng(5)
FLOOR = RNG.normal(0, 0.006, round(SECONDS * FS))  # what electrodes and amplifiers always give: 6 uV
T = np.arange(round(SECONDS * FS)) / FS
LATE = T >= FAULT_FROM


# -- an ECG and its beats ----------------------------------------------------------------------------------------------------


def ecg(beats_s: Sequence[float], wide: Sequence[float] = (), t: Floats = T) -> Floats:
    x = np.zeros(len(t))
    for b in beats_s:
        x += np.exp(-(((t - b) / 0.012) ** 2)) - 0.25 * np.exp(-(((t - b - 0.03) / 0.012) ** 2))
        x += 0.25 * np.exp(-(((t - b - 0.28) / 0.05) ** 2)) + 0.12 * np.exp(-(((t - b + 0.16) / 0.025) ** 2))
    for b in wide:
        x += 1.6 * np.exp(-(((t - b) / 0.05) ** 2)) - 0.7 * np.exp(-(((t - b - 0.25) / 0.08) ** 2))
    return x


RHYTHM = [0.5 + 0.8 * k for k in range(49)]
CLEAN = ecg(RHYTHM) + FLOOR


def known(beats_s: Sequence[float], fs: float = FS) -> list[Beat]:
    return [Beat("II", round(b * fs), round((b + 0.35) * fs), 1.0) for b in beats_s]


def never(_first: int) -> bool:
    return False


def judge_ecg(
    x: Floats, beats: Sequence[Beat], cuts: Sequence[int] = (25,), lead_off: Callable[[int], bool] = never
) -> list[Quality]:
    quality = EcgQuality(FS, "II")
    x32 = x.astype(np.float32)
    out: list[Quality] = []
    at = k = 0
    while at < len(x32):
        n = min(cuts[k % len(cuts)], len(x32) - at)
        out += quality.feed(x32[at : at + n], at, lead_off(at), [b for b in beats if at <= b.known < at + n])
        at, k = at + n, k + 1
    return out


def reasons(qualities: list[Quality], since_s: float, until_s: float = SECONDS) -> Counter[str]:
    """Of windows that lie in this time altogether."""
    return Counter(
        r for q in qualities if q.first >= since_s * FS and q.sample <= until_s * FS for r in (q.reasons or ("good",))
    )


def test_the_grid_and_what_is_known() -> None:
    out = judge_ecg(CLEAN, known(RHYTHM))
    assert [q.sample for q in out] == [round(k * 125) for k in range(4, 81)]
    assert all(q.known == q.sample - 1 and q.sample - q.first == 500 for q in out)
    assert all(q.good and 0.5 < q.score <= 1.0 for q in out)


def saturated(x: Floats) -> Floats:
    y = x.copy()
    y[LATE] += 0.9 * np.sin(2 * np.pi * 0.3 * T[LATE])
    return np.clip(y, -0.55, 1.15)


ECG_FAULTS: dict[str, tuple[Floats, Sequence[float]]] = {
    "flat": (np.where(LATE, 0.31, CLEAN), [b for b in RHYTHM if b < FAULT_FROM]),
    "saturated": (saturated(CLEAN), RHYTHM),
    "noise": (CLEAN + LATE * RNG.normal(0, 0.3, len(T)), RHYTHM),
    "wander": (CLEAN + LATE * 1.6 * np.sin(2 * np.pi * 0.35 * T), RHYTHM),
    "hum": (CLEAN + LATE * 0.5 * np.sin(2 * np.pi * 50.02 * T), RHYTHM),
    # The given beats are not those that are seen: every other one is missing, and some were made up.
    "disagreement": (CLEAN, [b for b in RHYTHM if b < FAULT_FROM] + [FAULT_FROM + 0.37 + 0.55 * k for k in range(34)]),
}


@pytest.mark.parametrize("reason", ECG_FAULTS)
def test_ecg_fault(reason: str) -> None:
    x, beats = ECG_FAULTS[reason]
    out = judge_ecg(x, known(beats))
    before, after = reasons(out, 0.0, FAULT_FROM), reasons(out, FAULT_FROM + 8.0)
    assert set(before) == {"good"}
    assert after[reason] >= 0.7 * sum(1 for q in out if q.first >= (FAULT_FROM + 8.0) * FS)
    assert all(q.score <= 0.5 for q in out if not q.good)


@pytest.mark.parametrize("hum_hz", [50.0, 60.0])
def test_hum_at_either_frequency_is_called_hum_and_not_noise(hum_hz: float) -> None:
    out = judge_ecg(CLEAN + LATE * 0.2 * np.sin(2 * np.pi * hum_hz * T), known(RHYTHM))
    assert set(reasons(out, FAULT_FROM)) == {"hum"}


@pytest.mark.parametrize("hum_hz", [50.02, 59.97])
def test_hum_that_hides_nothing_is_borne_whatever_the_heart_does(hum_hz: float) -> None:
    hum = 0.12 * np.sin(2 * np.pi * hum_hz * T)
    out = judge_ecg(CLEAN + LATE * hum, known(RHYTHM))
    late = [q for q in out if q.first >= (FAULT_FROM + 2) * FS]
    assert all(q.good and q.borne == ("hum",) and q.score < 0.5 for q in late)
    chaos = 0.5 * np.sin(2 * np.pi * 4.6 * T) + 0.25 * np.sin(2 * np.pi * 6.1 * T + 1)
    out = judge_ecg(np.where(LATE, chaos + hum, CLEAN), known([b for b in RHYTHM if b < FAULT_FROM]))
    assert set(reasons(out, FAULT_FROM + 2)) <= {"good", "disagreement"}


def test_noise_is_borne_while_two_detectors_find_the_same_beats_and_not_otherwise() -> None:
    noisy = CLEAN + LATE * RNG.normal(0, 0.1, len(T))
    seen = judge_ecg(noisy, known(RHYTHM))
    late = [q for q in seen if q.first >= (FAULT_FROM + 2) * FS]
    assert all(q.good for q in late)
    assert sum(q.borne == ("noise",) for q in late) > len(late) / 2
    made_up = [b for b in RHYTHM if b < FAULT_FROM] + [FAULT_FROM + 0.37 + 0.55 * k for k in range(34)]
    unsure = judge_ecg(noisy, known(made_up))
    late = [q for q in unsure if q.first >= (FAULT_FROM + 8) * FS]
    assert sum("noise" in q.reasons for q in late) > len(late) / 2


def test_a_pause_makes_no_lead_unsure() -> None:
    """Of a heart that stands still in noise both detectors say the same: nothing."""
    still = np.where(LATE, 0.0, CLEAN) + RNG.normal(0, 0.09, len(T))
    out = judge_ecg(still, known([b for b in RHYTHM if b < FAULT_FROM]))
    late = [q for q in out if q.first >= (FAULT_FROM + 1) * FS]
    assert sum(q.good for q in late) > 0.9 * len(late)


def test_where_no_beat_was_ever_found_a_line_s_own_noise_makes_no_beats() -> None:
    """An asystole from the first sample on is seen as clearly as one that comes later."""
    still = np.random.default_rng(3).normal(0, 0.004, len(T))
    assert set(reasons(judge_ecg(still, []), 0.0)) == {"good"}


def test_ecg_lead_off_by_flag_and_by_missing_values() -> None:
    flagged = judge_ecg(CLEAN, known(RHYTHM), (25,), lambda first: first == 5000)
    assert [q.sample for q in flagged if not q.good] == [5125, 5250, 5375, 5500]
    x = CLEAN.copy()
    x[5000:5030] = np.nan
    assert [q.reasons for q in judge_ecg(x, known(RHYTHM)) if not q.good] == [("missing",)] * 4
    both = judge_ecg(x, known(RHYTHM), (25,), lambda first: first == 5000)
    assert [q.reasons for q in both if not q.good] == [("lead_off",)] * 4
    x = CLEAN.copy()
    x[5001] = np.inf  # one bad sample is mended
    assert all(q.good for q in judge_ecg(x, known(RHYTHM)))


def test_an_asystole_is_seen_clearly() -> None:
    beats = [b for b in RHYTHM if b < FAULT_FROM]
    out = judge_ecg(ecg(beats) + FLOOR, known(beats))
    assert set(reasons(out, 0.0)) == {"good"}
    # Even on a converter of 5 uV, where a still line repeats itself.
    out = judge_ecg(np.round((ecg(beats) + 0.6 * FLOOR) / 0.005) * 0.005, known(beats))
    assert set(reasons(out, 0.0)) == {"good"}


def test_a_fibrillation_is_seen_clearly() -> None:
    beats = [b for b in RHYTHM if b < FAULT_FROM]
    phase = 2 * np.pi * np.cumsum(4.5 + 0.5 * np.sin(2 * np.pi * 0.2 * T)) / FS
    x = ecg(beats) + FLOOR + LATE * 0.5 * (1 + 0.3 * np.sin(2 * np.pi * 0.4 * T)) * np.sin(phase)
    made_up = [FAULT_FROM + 0.3 + 0.41 * k for k in range(45)]  # nobody knows the beats of it
    out = judge_ecg(x, known(beats + made_up))
    assert reasons(out, FAULT_FROM + 1.0)["good"] >= 0.9 * sum(reasons(out, FAULT_FROM + 1.0).values())


@pytest.mark.parametrize("every", [2, 1])
def test_ventricular_beats_are_no_noise(every: int) -> None:
    """Bigeminy, and a tachycardia at 150 /min."""
    narrow = [b for b in RHYTHM if b < FAULT_FROM]
    late = [FAULT_FROM + 0.4 + 0.4 * k for k in range(48)] if every == 1 else [b for b in RHYTHM if b >= FAULT_FROM]
    wide = late[::every]
    narrow += [b for b in late if b not in wide]
    out = judge_ecg(ecg(narrow, wide) + FLOOR, known(sorted(narrow + wide)))
    assert set(reasons(out, 0.0)) == {"good"}


def test_the_qrs_is_the_measure_not_the_millivolt() -> None:
    for scale in (0.05, 20.0):
        out = judge_ecg(scale * CLEAN, known(RHYTHM))
        assert set(reasons(out, 4.0)) == {"good"}
        x, beats = ECG_FAULTS["noise"]
        assert reasons(judge_ecg(scale * x, known(beats)), FAULT_FROM)["noise"] > 30


# -- pressure ------------------------------------------------------------------------------------------------------------------


def line(systolic: Floats | float = 120.0, diastolic: Floats | float = 80.0, rr: float = 0.8, t: Floats = T) -> Floats:
    s = t % rr
    rise = np.where(s < 0.13, np.sin(np.pi / 2 * s / 0.13), 0.0)
    fall = np.where(s >= 0.13, ((rr - s) / (rr - 0.13)) ** 1.5 + 0.1 * np.exp(-(((s - 0.35) / 0.05) ** 2)), 0.0)
    return np.asarray(diastolic + (np.asarray(systolic) - diastolic) * (rise + fall))


FLICKER = RNG.normal(0, 0.12, len(T))
LINE = line() + FLICKER
LINE_MEAN = float(line().mean())


def judge_line(
    x: Floats, kind: str = "abp", cuts: Sequence[int] = (25,), lead_off: Callable[[int], bool] = never
) -> list[Quality]:
    quality = PressureQuality(FS, "ABP", kind)  # type: ignore[arg-type]
    detector = PressureDetector(FS, "ABP", kind)  # type: ignore[arg-type]
    x32 = x.astype(np.float32)
    out: list[Quality] = []
    at = k = 0
    while at < len(x32):
        piece = x32[at : at + cuts[k % len(cuts)]]
        made: list[Onset | Pulse] = detector.feed(piece, at)
        out += quality.feed(piece, at, lead_off(at), [m for m in made if isinstance(m, Pulse)])
        at, k = at + len(piece), k + 1
    return out


def damped(keep_mean: bool) -> Floats:
    """The last half with a fifth of the pulse, smoothed, at the old mean or far below it."""
    small = np.convolve(line() - LINE_MEAN, np.ones(60) / 60, mode="same") * 0.3
    return np.where(LATE, small + (LINE_MEAN if keep_mean else 45.0), line()) + FLICKER


def flush(x: Floats) -> Floats:
    y = x.copy()
    y[(T > 25.0) & (T < 27.0)] = 298.0 + FLICKER[(T > 25.0) & (T < 27.0)]
    return y


PRESSURE_FAULTS: dict[str, tuple[Floats, tuple[float, float]]] = {
    "flat": (np.where(LATE, 82.0 + FLICKER, LINE), (FAULT_FROM, SECONDS)),
    "calibration": (np.where(LATE, 0.4 + FLICKER, LINE), (FAULT_FROM, SECONDS)),
    "clipped": (np.where(LATE, np.minimum(LINE, 105.0), LINE), (FAULT_FROM, SECONDS)),
    "damped": (damped(True), (FAULT_FROM + 0.5, SECONDS)),
    "flush": (flush(LINE), (24.5, 27.5)),
    "drift": (LINE + np.clip(T - FAULT_FROM, 0, None) * 2.0, (33.0, SECONDS)),
    "noise": (LINE + LATE * RNG.normal(0, 5.0, len(T)), (FAULT_FROM, SECONDS)),
}


@pytest.mark.parametrize("reason", PRESSURE_FAULTS)
def test_pressure_fault(reason: str) -> None:
    x, (since, until) = PRESSURE_FAULTS[reason]
    out = judge_line(x)
    assert set(reasons(out, 0.0, FAULT_FROM)) == {"good"}
    after = reasons(out, since, until)
    assert after[reason] >= 0.9 * sum(1 for q in out if q.first >= since * FS and q.sample <= until * FS) > 0


def test_a_clean_line_stays_good() -> None:
    out = judge_line(LINE)
    assert [q.sample for q in out] == [round(k * 125) for k in range(4, 81)]
    assert all(q.good and q.score > 0.5 and q.known == q.sample - 1 for q in out)


@pytest.mark.parametrize("rr", [0.55, 1.0, 2.0])
def test_a_pressure_that_jumps_up_and_pulses_is_no_flush(rr: float) -> None:
    """Hypertension after shock: its late diastole lies far above what was the systolic pressure; a slow heart's is flat."""
    x = np.where(LATE, line(240.0, 130.0, rr), line(75.0, 40.0)) + FLICKER
    out = judge_line(x)
    assert "flush" not in reasons(out, 0.0)
    assert reasons(out, FAULT_FROM + 5.0)["good"] >= 20
    up_there = np.where(LATE, 240.0 + 3.0 * np.sin(7.0 * T), line(75.0, 40.0)) + FLICKER
    assert reasons(judge_line(up_there), FAULT_FROM)["flush"] > 30


@pytest.mark.parametrize("level", [12.0, 30.0])
def test_a_pulse_that_comes_back_after_minutes_without_is_no_fault(level: float) -> None:
    t = np.arange(round(200 * FS)) / FS
    flicker = np.random.default_rng(5).normal(0, 0.12, len(t))
    away = (t > 20.13) & (t < 160.13)
    x = np.where(away, level + (100.0 - level) * np.exp(-np.clip(t - 20.13, 0, None) / 1.8), line(t=t)) + flicker
    out = judge_line(x)
    assert set(reasons(out, 163.0, 200.0)) == {"good"}
    # What was learned of the pulse before is still there: a line that returns damped is called so.
    small = np.convolve(line(t=t) - LINE_MEAN, np.ones(60) / 60, mode="same") * 0.3 + LINE_MEAN + flicker
    out = judge_line(np.where(t >= 160.13, small, x))
    assert reasons(out, 163.0, 200.0)["damped"] > 60


def test_a_line_that_clots_soon_after_its_pressure_has_changed_is_damped() -> None:
    """The median of three minutes is still that of the shock before."""
    t = np.arange(round(225 * FS)) / FS
    flicker = np.random.default_rng(6).normal(0, 0.12, len(t))
    x = np.where(t < 150.0, line(75.0, 40.0, t=t), line(t=t))
    x = np.where(t < 195.0, x, np.convolve(line(t=t) - LINE_MEAN, np.ones(60) / 60, mode="same") * 0.3 + LINE_MEAN)
    out = judge_line(x + flicker)
    assert reasons(out, 175.0, 195.0)["good"] >= 15
    assert "damped" not in reasons(out, 0.0, 195.0)
    assert reasons(out, 198.0, 225.0)["damped"] > 45


def test_half_a_pulse_without_its_upstroke_is_damped_and_a_long_pause_is_not() -> None:
    """Damping takes the upstroke first. In a pause the pressure runs off by as much as half a pulse, and nothing rises."""
    smooth = np.convolve(line(rr=0.8) - LINE_MEAN, np.hanning(150) / np.hanning(150).sum(), mode="same") + LINE_MEAN
    part = float(np.ptp(smooth[2000:3000])) / 40.0
    assert 0.5 < part < 0.65
    assert reasons(judge_line(np.where(LATE, smooth, LINE) + FLICKER), FAULT_FROM + 0.5, 38.0)["damped"] > 25
    pause = np.where((T > 20.0) & (T < 24.0), 80.0 + 22.0 * np.exp(-(T - 20.0) / 0.9), line()) + FLICKER
    assert "damped" not in reasons(judge_line(pause), 0.0)


def test_a_falling_pressure_is_not_damping() -> None:
    """The pulse shrinks just as much, but the mean falls with it: shock."""
    assert reasons(judge_line(damped(True)), FAULT_FROM + 0.5)["damped"] > 30
    assert "damped" not in reasons(judge_line(damped(False)), FAULT_FROM + 2.0)
    share = np.clip((T - 15.0) / 20.0, 0.0, 1.0)
    out = judge_line(line(120.0 - 55.0 * share, 80.0 - 42.0 * share) + FLICKER)
    assert set(reasons(out, 0.0)) == {"good"}


@pytest.mark.parametrize("kind", ["abp", "pleth"])
def test_an_asystole_is_no_fault_of_the_line(kind: str) -> None:
    since = np.clip(T - 20.13, 0, None)
    x = np.where(since > 0, 14.0 + 106.0 * np.exp(-since / 1.8), line()) + FLICKER
    out = judge_line(x, kind)
    assert set(reasons(out, 0.0)) == {"good"}


def test_pressure_lead_off() -> None:
    out = judge_line(LINE, lead_off=lambda first: 5000 <= first < 5500)
    assert [q.sample for q in out if q.reasons == ("lead_off",)] == list(range(5125, 6000, 125))
    x = LINE.copy()
    x[5000:] = np.nan
    assert set(reasons(judge_line(x), FAULT_FROM)) == {"missing"}


def test_a_pleth_without_a_unit() -> None:
    x = 1e-3 * (line(1.0, 0.0) + 0.002 * FLICKER)
    assert set(reasons(judge_line(x, "pleth"), 0.0)) == {"good"}
    assert set(reasons(judge_line(np.where(LATE, x[0], x), "pleth"), FAULT_FROM)) == {"flat"}
    assert reasons(judge_line(x + LATE * RNG.normal(0, 2e-4, len(x)), "pleth"), FAULT_FROM)["noise"] > 30


# -- what holds for both ---------------------------------------------------------------------------------------------------------


def messy() -> tuple[Floats, Floats]:
    e, p = ECG_FAULTS["noise"][0].copy(), flush(LINE)
    e[2000:2200] = np.nan
    p[3000:3020] = np.inf
    e[7000:7600] = 0.2
    p[8000:8400] = 0.0
    return e, p


MESSY_ECG, MESSY_LINE = messy()


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 900), min_size=1, max_size=50))
def test_any_cut_gives_the_same(cuts: list[int]) -> None:
    beats = known(RHYTHM)
    assert judge_ecg(MESSY_ECG, beats, cuts) == judge_ecg(MESSY_ECG, beats, (10_000,))
    assert judge_line(MESSY_LINE, "abp", cuts) == judge_line(MESSY_LINE, "abp", (10_000,))


def test_a_pulse_counts_from_when_it_is_known() -> None:
    """Also where one block holds many grid points; and pulses that ring make the line bad."""
    ringing = [
        Pulse("ABP", s, s + 260, s + 200, 120, 80, 95, 10, 75.0, ("ragged",) if s >= 5000 else ())
        for s in range(100, 9700, 200)
    ]
    x = LINE.astype(np.float32)
    whole = PressureQuality(FS, "ABP").feed(x, 0, False, ringing)
    pieces, quality = [], PressureQuality(FS, "ABP")
    for at in range(0, len(x), 25):
        pieces += quality.feed(x[at : at + 25], at, False, [p for p in ringing if at <= p.known < at + 25])
    assert whole == pieces
    assert all(q.good for q in whole if q.known < 5260)
    assert all(q.reasons == ("noise",) for q in whole if q.known > 5260 + 4 * FS)


@pytest.mark.parametrize("fs", [100.0, 128.0, 360.0, 1000.0])
def test_any_rate(fs: float) -> None:
    t = np.arange(round(30 * fs)) / fs
    beats = [b for b in RHYTHM if b < 29.5]
    floor = np.random.default_rng(2).normal(0, 0.006, len(t))
    quality = EcgQuality(fs, "II")
    good = quality.feed((ecg(beats, t=t) + floor).astype(np.float32), 0, False, known(beats, fs))
    assert len(good) == 57
    assert all(q.good for q in good)
    noisy = EcgQuality(fs, "II").feed((ecg(beats, t=t) + 100 * floor).astype(np.float32), 0, False, known(beats, fs))
    assert sum("noise" in q.reasons for q in noisy) > 50
    pressure = PressureQuality(fs, "ABP")
    assert all(q.good for q in pressure.feed((line(t=t) + 20 * floor).astype(np.float32), 0, False, []))


def test_a_gap_is_a_new_beginning() -> None:
    x = CLEAN.astype(np.float32)
    worn = EcgQuality(FS, "II")
    worn.feed(MESSY_ECG.astype(np.float32), 0, False, known(RHYTHM))
    at = 20_007
    beats = [Beat("II", b.sample + at, b.known + at, 1.0) for b in known(RHYTHM)]
    fresh = EcgQuality(FS, "II", at).feed(x, at, False, beats)
    assert worn.feed(x, at, False, beats) == fresh
    assert fresh[0].first >= at
    y = LINE.astype(np.float32)
    line_worn = PressureQuality(FS, "ABP")
    line_worn.feed(MESSY_LINE.astype(np.float32), 0, False, [])
    assert line_worn.feed(y, at, False, []) == PressureQuality(FS, "ABP", first=at).feed(y, at, False, [])


@pytest.mark.parametrize("value", [0.0, np.nan, np.inf, -1e30, 1e30])
def test_an_hour_of_nothing(value: float) -> None:
    x = np.full(100 * 3600, value, np.float32)
    ecg_out = EcgQuality(100.0, "II").feed(x, 0, False, [])
    line_out = PressureQuality(100.0, "ABP").feed(x, 0, False, [])
    assert {q.reasons for q in ecg_out} == {("flat",) if value == 0.0 else ("missing",)}
    assert {q.reasons for q in line_out} == {("calibration",) if value == 0.0 else ("missing",)}
    assert all(q.score == 0.0 for q in ecg_out + line_out)


def test_the_tools() -> None:
    assert agreement([10, 20, 30], [11, 29], 2) == pytest.approx(0.8)
    assert agreement([], [], 2) == 0.0
    assert longest_run(np.array([0, 1, 1, 0, 1, 1, 1], bool)) == 3
    assert longest_run(np.zeros(4, bool)) == 0
    assert np.allclose(moving_mean(np.arange(6.0), 3), [1, 2, 3, 4])
    assert mended(np.array([1.0, np.nan, 3.0]), 0.5) == pytest.approx([1, 2, 3])
    assert mended(np.array([1.0, np.nan, np.inf]), 0.5) is None
