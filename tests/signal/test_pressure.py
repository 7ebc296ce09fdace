"""Onsets and pulses: hand-made pulses whose foot, pressures and area are known, and what must never happen."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.journey import Onset, Pulse
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.pulse_rules import PulseNumbers, PulseRules

RISE_S = 0.13
RATES = (100.0, 125.0, 180.0, 250.0, 360.0, 500.0, 1000.0)


def pulse_train(
    fs: float,
    feet_s: list[float],
    until_s: float,
    systolic: float = 120.0,
    diastolic: float = 80.0,
    notch: float = 0.12,
) -> NDArray[np.float32]:
    """Pulses that rise as a quarter of a sine (steepest at the foot) and fall back with a dicrotic wave."""
    t = np.arange(round(until_s * fs)) / fs
    x = np.full(len(t), diastolic)
    for foot, following in zip(feet_s, [*feet_s[1:], until_s + 1.0], strict=True):
        rr = min(following - foot, 1.2)
        at = (t >= foot) & (t < foot + rr)
        s = t[at] - foot
        up = np.sin(np.pi / 2 * np.minimum(s / RISE_S, 1.0))
        fall = np.clip((rr - s) / (rr - RISE_S), 0.0, 1.0) ** 1.5
        wave = notch * np.exp(-(((s - 0.36) / 0.05) ** 2)) * fall
        x[at] = diastolic + (systolic - diastolic) * np.where(s < RISE_S, up, np.minimum(fall + wave, 1.0))
    return x.astype(np.float32)


def run(
    x: NDArray[np.float32], fs: float, kind: str = "abp", cut: int | None = None, first: int = 0
) -> list[Onset | Pulse]:
    detector = PressureDetector(fs, "ABP", kind, first)  # type: ignore[arg-type]
    cut = cut or round(0.1 * fs)
    out: list[Onset | Pulse] = []
    for i in range(0, len(x), cut):
        made = detector.feed(x[i : i + cut], first + i)
        end = first + min(len(x), i + cut)
        assert all(end - cut <= m.known < end for m in made), (
            "said by the block that holds what was needed, and by no other"
        )
        out += made
    return out + detector.flush()


def onsets(out: list[Onset | Pulse]) -> list[Onset]:
    return [m for m in out if isinstance(m, Onset)]


def pulses(out: list[Onset | Pulse]) -> list[Pulse]:
    return [m for m in out if isinstance(m, Pulse)]


@pytest.mark.parametrize("fs", RATES)
def test_hand_made_pulses_are_found_with_their_numbers(fs: float) -> None:
    feet = [0.4 + 0.8 * k for k in range(30)]
    x = pulse_train(fs, feet, 25.0)
    out = run(x, fs)
    expected = [f for f in feet if f > 3.0]
    found = [o for o in onsets(out) if o.sample / fs > 2.9]
    assert len(found) == len(expected)
    for o, foot in zip(found, expected, strict=True):
        assert abs(o.sample / fs - foot) <= 0.016
        assert 0 < o.known - o.sample <= 0.150 * fs
    t = np.arange(len(x)) / fs
    whole = [p for p in pulses(out) if p.rate_per_min is not None and p.sample / fs > 2.9]
    assert len(whole) >= 25
    for p in whole:
        assert p.rate_per_min == pytest.approx(75.0, abs=2.0)
        assert p.systolic == pytest.approx(120.0, abs=1.5)
        assert p.diastolic == pytest.approx(80.0, abs=1.0)
        own = x[(t >= p.sample / fs) & (t < p.end / fs)]
        assert p.mean == pytest.approx(float(own.mean()), abs=0.7)
        assert p.area == pytest.approx(float((own - own.min()).sum()) / fs, rel=0.05)
        assert p.systolic - p.diastolic == pytest.approx(40.0, abs=2.0)
    assert all(not p.reasons for p in whole[1:])


def test_order_and_ends_meet() -> None:
    fs = 250.0
    out = run(pulse_train(fs, [0.3 + 0.7 * k for k in range(40)], 28.0), fs)
    assert [m.known for m in out] == sorted(m.known for m in out)
    made = pulses(out)
    assert [p.end for p in made[:-1]] == [p.sample for p in made[1:]]
    assert {p.sample for p in made} == {o.sample for o in onsets(out)}


def test_it_speaks_within_three_seconds() -> None:
    fs = 250.0
    out = run(pulse_train(fs, [0.1 + 0.9 * k for k in range(6)], 5.0), fs)
    assert out[0].known < 3.2 * fs


@pytest.mark.parametrize("rate", [35, 60, 120, 190])
def test_rates(rate: int) -> None:
    fs, rr = 250.0, 60.0 / rate
    feet = [0.2 + rr * k for k in range(int(30 / rr))]
    found = onsets(run(pulse_train(fs, feet, 30.0), fs))
    expected = [f for f in feet if f > 3.5]
    assert len([o for o in found if o.sample / fs > 3.4]) == len(expected)


def test_premature_and_dropped_beats() -> None:
    fs = 250.0
    feet = [0.4 + 0.8 * k for k in range(12)]
    feet += [feet[-1] + 0.5, feet[-1] + 2.1] + [feet[-1] + 2.1 + 0.8 * k for k in range(1, 8)]
    found = [o.sample / fs for o in onsets(run(pulse_train(fs, feet, feet[-1] + 1.0), fs)) if o.sample > 3 * fs]
    assert np.allclose(found, [f for f in feet if f > 3.0], atol=0.02)


@pytest.mark.parametrize("scale", [1e-3, 1e-2, 1.0, 40.0, 1e3])
def test_a_pleth_has_no_unit(scale: float) -> None:
    fs = 125.0
    x = pulse_train(fs, [0.4 + 0.75 * k for k in range(30)], 23.0, systolic=1.0, diastolic=0.0)
    plain = [o.sample for o in onsets(run(x, fs, "pleth"))]
    assert len(plain) >= 26
    scaled = [o.sample for o in onsets(run((scale * x).astype(np.float32), fs, "pleth"))]
    assert scaled == plain


def test_noise_moves_no_foot_far_and_makes_none() -> None:
    fs = 250.0
    feet = [0.4 + 0.8 * k for k in range(60)]
    x = pulse_train(fs, feet, 49.0) + np.random.default_rng(3).normal(0, 1.0, round(49.0 * fs)).astype(np.float32)
    found = [o.sample / fs for o in onsets(run(x, fs)) if o.sample > 3 * fs]
    expected = [f for f in feet if f > 3.0]
    assert len(found) == len(expected)
    assert max(abs(a - b) for a, b in zip(found, expected, strict=True)) < 0.03


def noisy_recording() -> NDArray[np.float32]:
    rng = np.random.default_rng(8)
    fs = 250.0
    feet = np.cumsum(rng.uniform(0.35, 1.3, 40)).tolist()
    x = pulse_train(fs, feet, 25.0) + rng.normal(0, 1.5, 6250).astype(np.float32)
    x[2000:2003] = np.nan
    x[3000:3400] = np.inf
    x[4500] = -1e30
    x[5000:5200] = 300.0
    return x.astype(np.float32)


NOISY = noisy_recording()


@pytest.mark.parametrize("fs", [100.0, 250.0, 360.0, 1000.0])
@pytest.mark.parametrize("first", [0, 7, 123457])
def test_blocks_do_not_matter(fs: float, first: int) -> None:
    whole = run(NOISY, fs, cut=len(NOISY), first=first)
    assert len(onsets(whole)) > 5
    for cut in (1, 3, 25, 997):
        assert run(NOISY, fs, cut=cut, first=first) == whole


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 700), min_size=3, max_size=60))
def test_any_cut_gives_the_same(cuts: list[int]) -> None:
    whole = run(NOISY, 250.0, cut=len(NOISY))
    detector = PressureDetector(250.0, "ABP")
    out: list[Onset | Pulse] = []
    at = k = 0
    while at < len(NOISY):
        n = cuts[k % len(cuts)]
        out += detector.feed(NOISY[at : at + n], at)
        at, k = min(at + n, len(NOISY)), k + 1
    assert out + detector.flush() == whole


def test_a_gap_is_a_new_beginning() -> None:
    fs = 250.0
    x = pulse_train(fs, [0.4 + 0.8 * k for k in range(20)], 16.0)
    detector = PressureDetector(fs, "ABP")
    before = detector.feed(x, 0)
    assert len(onsets(before)) > 15
    later = 16 * 250 + 5001
    after = detector.feed(x, later)
    assert after == PressureDetector(fs, "ABP", first=later).feed(x, later)
    assert all(p.sample >= later for p in pulses(after)), "no pulse bridges the gap"
    detector.reset(17)
    assert detector.feed(x, 17) == PressureDetector(fs, "ABP", first=17).feed(x, 17)


@pytest.mark.parametrize("hole_s", [0.02, 0.5, 4.0])
def test_missing_values_end_a_pulse_and_it_recovers(hole_s: float) -> None:
    fs = 250.0
    x = pulse_train(fs, [0.4 + 0.8 * k for k in range(30)], 24.5)
    a, b = round(10.1 * fs), round((10.1 + hole_s) * fs)
    x[a:b] = np.nan
    out = run(x, fs)
    assert not any(p.sample < b and p.end > a for p in pulses(out))
    recovered = [o for o in onsets(out) if o.sample >= b]
    assert recovered[0].sample < b + 3.5 * fs
    assert len(recovered) >= (24.0 - 10.1 - hole_s - 3.5) / 0.8


@pytest.mark.parametrize("kind", ["abp", "pleth"])
@pytest.mark.parametrize("level", [0.0, 80.0])
def test_nothing_is_invented_in_an_hour_of_stillness(kind: str, level: float) -> None:
    x = np.full(100 * 3600, level, np.float32)
    assert run(x, 100.0, kind, cut=1000) == []


def test_noise_alone_is_no_pulse() -> None:
    x = 80.0 + np.random.default_rng(4).normal(0, 0.6, 250 * 120)
    x += 0.8 * np.sin(2 * np.pi * 1.2 * np.arange(len(x)) / 250.0)
    assert onsets(run(x.astype(np.float32), 250.0)) == []


def test_a_creeping_upstroke_is_not_waited_for() -> None:
    """However slow the rise, an onset is said within 150 ms of the foot that it names."""
    fs = 250.0
    t = np.arange(round(30 * fs)) / fs % 1.0
    x = np.where(t < 0.5, 80.0 + 80.0 * t, 120.0 - 80.0 * (t - 0.5)) + 6.0 * np.sin(np.pi * np.clip(t / 0.5, 0, 1)) ** 3
    found = onsets(run(x.astype(np.float32), fs))
    assert len(found) > 20
    assert max(o.known - o.sample for o in found) <= 0.150 * fs


def test_an_asystole_is_heard_as_silence() -> None:
    fs = 250.0
    feet = [0.4 + 0.8 * k for k in range(25)]
    x = pulse_train(fs, feet, 80.0).astype(np.float64)
    stop = round((feet[-1] + RISE_S) * fs)
    t = np.arange(len(x) - stop) / fs
    x[stop:] = 15.0 + 105.0 * np.exp(-t / 1.8)
    x += np.random.default_rng(1).normal(0, 0.3, len(x))
    out = run(x.astype(np.float32), fs)
    assert not [o for o in onsets(out) if o.sample > stop]
    last = pulses(out)[-1]
    assert last.rate_per_min is None
    assert last.end - last.sample == pytest.approx(3.0 * fs, abs=2)
    assert "rate_range" in last.reasons


def test_memory_stays_small() -> None:
    fs = 250.0
    detector = PressureDetector(fs, "ABP")
    x = np.full(250 * 60, 80.0, np.float32)
    for k in range(20):
        detector.feed(x, k * len(x))
        assert len(detector._values) < 4 * fs


def test_rates_that_are_no_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="4000 Hz"):
        PressureDetector(10.0, "ABP")


# -- the rules ------------------------------------------------------------------------------------------------------------

WIDE = {"systolic": 235.0, "diastolic": 70.0, "mean": 125.0, "onset": 70.0, "period_s": 330 / 605}
GOOD = {"systolic": 120.0, "diastolic": 80.0, "mean": 95.0, "onset": 80.0, "fall_per_s": -60.0, "period_s": 0.8}


def judged(*changes: dict[str, float], kind: str = "abp") -> list[tuple[str, ...]]:
    rules = PulseRules(kind)  # type: ignore[arg-type]
    return [rules.judge(PulseNumbers(**{**GOOD, **c})) for c in changes]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rule", "within", "beyond"),
    [
        ("systolic_range", {"systolic": 300.0, "diastolic": 100.0}, {"systolic": 300.1, "diastolic": 100.0}),
        ("diastolic_range", {"diastolic": 20.0}, {"diastolic": 19.9}),
        ("mean_range", {"mean": 30.0}, {"mean": 29.9}),
        ("mean_range", {"mean": 200.0}, {"mean": 200.1}),
        ("rate_range", {"period_s": 3.0}, {"period_s": 3.01}),
        ("rate_range", {"period_s": 0.3}, {"period_s": 0.299}),
        ("pulse_pressure", {"systolic": 100.0}, {"systolic": 99.9}),
        ("ragged", {"fall_per_s": -375.0}, {"fall_per_s": -375.1}),
        # wide and fast: 235/70 at 110 /min falls faster, however smooth
        ("ragged", WIDE | {"fall_per_s": -605.0}, WIDE | {"fall_per_s": -605.1}),
    ],
)
def test_a_rule_at_its_bound(rule: str, within: dict[str, float], beyond: dict[str, float]) -> None:
    assert judged(within) == [()]
    assert judged(beyond) == [(rule,)]


@pytest.mark.parametrize(
    ("rule", "within", "beyond"),
    [
        ("systolic_jump", {"systolic": 140.0}, {"systolic": 140.1}),
        ("systolic_jump", {"systolic": 100.0}, {"systolic": 99.99, "diastolic": 79.9}),
        ("diastolic_jump", {"diastolic": 60.0}, {"diastolic": 59.9}),
        ("onset_jump", {"onset": 100.0}, {"onset": 100.1}),
        ("period_jump", {"period_s": 1.3}, {"period_s": 1.301}),
    ],
)
def test_a_jump_at_its_bound(rule: str, within: dict[str, float], beyond: dict[str, float]) -> None:
    assert judged({}, within) == [(), ()]
    assert judged({}, beyond) == [(), (rule,)]


def test_bad_good_bad_is_bad_all_along_and_trust_needs_two() -> None:
    wild = {"systolic": 190.0}
    assert [bool(r) for r in judged({}, wild, {}, wild, {}, {}, {})] == [False, True, True, True, True, False, False]
    assert judged({}, wild, {})[2] == ("after_bad",)


def test_a_true_step_is_not_bad_for_ever() -> None:
    higher = {"systolic": 160.0, "diastolic": 110.0, "mean": 130.0, "onset": 110.0}
    reasons = judged({}, *[higher] * 12)
    assert all(reasons[1:6])
    assert not any(reasons[-4:])


def test_a_pleth_is_judged_against_itself() -> None:
    small = {"systolic": 0.5, "diastolic": 0.0, "mean": 0.2, "onset": 0.0}
    reasons = judged(*[small] * 8, {**small, "systolic": 0.17}, small, small, {**small, "systolic": 1.3}, kind="pleth")
    assert not any(reasons[:8])
    assert reasons[8] == ("pulse_pressure",)
    assert reasons[11] == ("pulse_pressure",)


def test_a_faint_upstroke_puts_its_pulse_in_doubt() -> None:
    fs = 250.0
    feet = [0.4 + 1.0 * k for k in range(20)]
    x = pulse_train(fs, feet, 20.5)
    plain = {p.sample: p.reasons for p in pulses(run(x, fs)) if 4 * fs < p.sample < 15 * fs}
    assert not any(plain.values())
    t = np.arange(len(x)) / fs
    x += (9.0 * np.exp(-(((t - 10.4 - 0.72) / 0.06) ** 2))).astype(np.float32)
    faint = [p.sample / fs for p in pulses(run(x, fs)) if "faint_upstroke" in p.reasons]
    assert faint == pytest.approx([10.4], abs=0.02)


# -- a recording ------------------------------------------------------------------------------------------------------------


def test_a_patient_line_keeps_step_with_itself(shared: Path) -> None:
    """A record with a clean line: neighbouring onsets agree, and the numbers are those of a patient."""
    wfdb = pytest.importorskip("wfdb")
    record = wfdb.rdrecord(str(shared / "data" / "challenge2015" / "v518s"))
    x = record.p_signal[:, record.sig_name.index("ABP")].astype(np.float32)
    out = run(x, float(record.fs))
    intervals = np.diff([o.sample for o in onsets(out)]) / record.fs
    assert np.mean(np.abs(intervals / np.median(intervals) - 1.0) < 0.25) > 0.97
    made = pulses(out)
    assert np.mean([not p.reasons for p in made]) > 0.9
    assert max(o.known - o.sample for o in onsets(out)) <= 0.150 * record.fs
