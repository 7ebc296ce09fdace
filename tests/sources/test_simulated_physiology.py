"""The simulated patient as a patient: rhythms, waves, pressures, noise and faults, as the script and the truth say.

Numbers are measured on the samples, not read from the model.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.signal import welch

from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.pressure import FILLING_MMHG
from edge_agent.sources.simulated.script import NOISES, Episode, Script
from edge_agent.sources.simulated.truth import TrueBeat, TruePulse

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Tape:
    fs: float
    rows: dict[str, Floats]
    beats: tuple[TrueBeat, ...]
    pulses: tuple[TruePulse, ...]

    def rr_s(self) -> Floats:
        return np.diff([beat.sample for beat in self.beats]) / self.fs

    def cut(self, name: str, from_s: float, to_s: float) -> Floats:
        return self.rows[name][round(from_s * self.fs) : round(to_s * self.fs)]


def tape(
    *episodes: Episode,
    fs: float = 360.0,
    seed: int = 0,
    channels: tuple[str, ...] = ("II", "V", "ABP", "PLETH"),
) -> Tape:
    patient = SimulatedPatient(fs, channels, Script(episodes), seed)
    parts = []
    while (block := patient.read(10_000)) is not None:
        parts.append(block.values.astype(float))
    joined = np.concatenate(parts, axis=1)
    return Tape(fs, dict(zip(channels, joined, strict=True)), patient.truth.beats, patient.truth.pulses)


# ---- rhythms


@pytest.mark.parametrize("rate", [30, 45, 70, 110, 160])
def test_sinus_rhythm_has_its_rate_and_variability(rate: float) -> None:
    rr = np.concatenate([tape(Episode("x", 120, rate_per_min=rate), seed=seed).rr_s() for seed in range(3)])
    assert 60 / rr.mean() == pytest.approx(rate, rel=0.02)
    assert rr.std() / rr.mean() == pytest.approx(0.03, rel=0.35)


def test_variability_has_the_bands_asked_for() -> None:
    """Low (0.04 to 0.15 Hz) against high (0.15 to 0.4 Hz) power of the RR intervals follows `lf_hf`."""
    ratios = []
    for lf_hf in (0.3, 1.0, 4.0):
        found = tape(Episode("x", 600, lf_hf=lf_hf, variability=0.05), fs=250, channels=("II",))
        rr, t = found.rr_s(), np.array([beat.sample for beat in found.beats[1:]]) / 250
        even = np.interp(np.arange(t[0], t[-1], 0.25), t, rr)
        hz, power = welch(even - even.mean(), 4.0, nperseg=512)
        low, high = (power[(hz >= a) & (hz < b)].sum() for a, b in ((0.04, 0.15), (0.15, 0.4)))
        ratios.append(low / high)
    # Interpolation between beats takes some of the high band, beat-to-beat jitter adds some: the order is what counts.
    for found_ratio, lf_hf in zip(ratios, (0.3, 1.0, 4.0), strict=True):
        assert lf_hf / 2 < found_ratio < lf_hf * 2


def test_fibrillation_is_irregular_without_p_waves() -> None:
    af, sinus = (tape(Episode("x", 120, name, rate), seed=2) for name, rate in (("af", 90), ("sinus", 60)))
    rr = af.rr_s()
    assert 60 / rr.mean() == pytest.approx(90, rel=0.06)
    assert 0.15 < rr.std() / rr.mean() < 0.35
    assert abs(np.corrcoef(rr[:-1], rr[1:])[0, 1]) < 0.2
    assert {beat.label for beat in af.beats} == {"N"}
    heights = []
    for found in (af, sinus):
        # The average before the QRS: what is bound to the beats stays, f waves average out.
        late = [b for b, rr_s in zip(found.beats[1:], found.rr_s(), strict=True) if rr_s > 0.65]
        windows = [found.rows["II"][b.sample - 90 : b.sample - 25] for b in late]
        heights.append(np.ptp(np.mean(windows, axis=0)))
    assert heights[0] < 0.4 * heights[1]
    # and between beats f waves: power at 4 to 9 Hz where sinus rhythm is silent
    quiet = []
    for found in (af, sinus):
        tails = [
            found.rows["V"][b.sample - 130 : b.sample - 75].std()
            for b, rr_s in zip(found.beats[1:], found.rr_s(), strict=True)
            if rr_s > 0.8
        ]
        quiet.append(np.mean(tails))
    assert quiet[0] > 3 * quiet[1]


def test_premature_ventricular_beats() -> None:
    found = tape(Episode("x", 300, rate_per_min=70, pvc_per_min=8), seed=1)
    labels = [beat.label for beat in found.beats]
    assert labels.count("V") / 5 == pytest.approx(8, rel=0.3)
    assert {beat.shape for beat in found.beats} == {"normal", "pvc_a", "pvc_b"}
    rr = found.rr_s()
    usual = np.median(rr)
    for index, label in enumerate(labels[:-1]):
        if label == "V":
            assert rr[index - 1] < 0.75 * usual
            # a full compensatory pause: two intervals from normal beat to normal beat
            assert rr[index - 1] + rr[index] == pytest.approx(2 * usual, rel=0.12)


def test_premature_atrial_beats_reset_the_sinus_node() -> None:
    found = tape(Episode("x", 300, rate_per_min=70, pac_per_min=6), seed=1)
    labels = [beat.label for beat in found.beats]
    assert labels.count("S") / 5 == pytest.approx(6, rel=0.35)
    rr = found.rr_s()
    usual = np.median(rr)
    for index, label in enumerate(labels[:-1]):
        if label == "S":
            assert rr[index - 1] < 0.85 * usual
            assert rr[index - 1] + rr[index] < 1.95 * usual


@pytest.mark.parametrize(
    ("rhythm", "pattern"), [("bigeminy", "NV"), ("trigeminy", "NNV"), ("couplets", "NNNNVV"), ("paced", "Q")]
)
def test_patterns(rhythm: str, pattern: str) -> None:
    labels = "".join(beat.label for beat in tape(Episode("x", 60, rhythm)).beats)
    assert pattern * 8 in labels


def _width_ms(found: Tape, beat: TrueBeat) -> float:
    """QRS duration in lead II: where the signal moves at more than 6 % of its fastest."""
    around = found.rows["II"][beat.sample - 54 : beat.sample + 55]
    slope = np.abs(np.gradient(around))
    # from the peak outwards to the first quiet 10 ms
    fast = slope > 0.06 * slope.max()
    quiet = np.convolve(fast, np.ones(4), mode="same") == 0
    left = np.flatnonzero(quiet[:54])
    right = np.flatnonzero(quiet[55:])
    first = left[-1] if len(left) else 0
    last = 55 + right[0] if len(right) else 108
    return float((last - first) * 1000 / found.fs)


def test_qrs_widths() -> None:
    found = tape(Episode("x", 120, pvc_per_min=10), seed=4)
    normal = [_width_ms(found, beat) for beat in found.beats[2:-1] if beat.label == "N"]
    wide = [_width_ms(found, beat) for beat in found.beats[2:-1] if beat.label == "V"]
    assert 75 < np.median(normal) < 115
    assert 130 < np.median(wide) < 210


def test_ventricular_t_waves_are_discordant() -> None:
    found = tape(Episode("x", 120, pvc_per_min=10), seed=4)
    for beat in found.beats[2:-1]:
        if beat.label == "V":
            late = found.rows["II"][beat.sample + 80 : beat.sample + 150]
            assert np.sign(late[np.argmax(np.abs(late))]) == -np.sign(found.rows["II"][beat.sample])


@pytest.mark.parametrize("lead", ["II", "V", "I", "V5"])
@pytest.mark.parametrize("rhythm", ["sinus", "af", "bigeminy", "couplets", "paced", "lbbb", "rbbb", "vt", "svt"])
@pytest.mark.parametrize("fs", [250.0, 1000.0])
def test_truth_is_at_the_peak(fs: float, rhythm: str, lead: str) -> None:
    """The true sample is the largest deflection about it in the first channel: within 8 ms (2 samples at 250 Hz)."""
    reach = round(0.03 * fs)
    near = []
    for seed in range(3):
        found = tape(Episode("x", 20, rhythm), fs=fs, seed=seed, channels=(lead,))
        x = found.rows[lead]
        for beat in found.beats[1:-1]:
            around = x[beat.sample - reach : beat.sample + reach + 1]
            near.append(abs(int(np.argmax(np.sign(x[beat.sample]) * around)) - reach) <= 0.008 * fs)
    # In a lead that hardly sees a beat, the T wave before it, f waves and breathing can move a flat top.
    assert np.mean(near) > (0.995 if lead in ("II", "V") else 0.9)


def test_ventricular_tachycardia() -> None:
    found = tape(Episode("x", 10), Episode("vt", 15, "vt", 180), Episode("x", 10), seed=3)
    run = [beat for beat in found.beats if beat.rhythm == "vt"]
    assert {beat.label for beat in run} == {"V"}
    assert len({beat.shape for beat in run}) == 1
    assert 60 / np.mean(np.diff([beat.sample for beat in run]) / 360) == pytest.approx(180, rel=0.03)
    assert min(beat.sample for beat in run) < 11 * 360
    assert max(beat.sample for beat in run) > 24.5 * 360


def test_ventricular_fibrillation_is_a_band_of_waves_without_beats() -> None:
    for seed in range(3):
        found = tape(Episode("x", 5), Episode("vf", 60, "vf"), seed=seed)
        assert all(beat.sample < 5 * 360 for beat in found.beats)
        hz, power = welch(found.cut("II", 8, 60), 360, nperseg=1440)
        assert 3.5 < hz[np.argmax(power)] < 7
        inside = power[(hz > 2.5) & (hz < 9)].sum() / power.sum()
        assert inside > 0.85
        # no pure tone: the largest line holds a small part
        assert power.max() / power.sum() < 0.35
        assert 0.1 < found.cut("II", 8, 60).std() < 1.0


def test_asystole_is_flat() -> None:
    found = tape(Episode("x", 10), Episode("gone", 12, "asystole"), Episode("x", 10))
    assert not [beat for beat in found.beats if 10 * 360 <= beat.sample < 22 * 360]
    assert np.ptp(found.cut("II", 11, 21.5)) < 0.1
    assert np.ptp(found.cut("II", 23, 31)) > 0.8


@pytest.mark.parametrize("fs", [100.0, 250.0, 360.0, 1000.0])
def test_paced_beats_have_spikes(fs: float) -> None:
    found = tape(Episode("x", 20, "paced"), fs=fs)
    x = found.rows["II"]
    for beat in found.beats[1:-1]:
        before = x[beat.sample - round(0.11 * fs) : beat.sample - round(0.05 * fs)]
        jump = np.abs(np.diff(before)).max()
        # 2 ms of about 1.2 mV, averaged over the sample's interval
        assert jump > 0.4 * min(1.0, 0.002 * fs / 2)
    assert np.std(found.rr_s()) < 1.5 / fs


# ---- pressure


def test_pressure_is_as_set() -> None:
    for systolic, diastolic, rate in ((120, 80, 70), (180, 95, 70), (75, 45, 95), (130, 60, 45), (110, 70, 150)):
        found = tape(Episode("x", 60, rate_per_min=rate, systolic_mmhg=systolic, diastolic_mmhg=diastolic), seed=1)
        pulses = [pulse for pulse in found.pulses if pulse.sample > 10 * 360]
        assert np.mean([pulse.systolic for pulse in pulses]) == pytest.approx(systolic, abs=4)
        assert np.mean([pulse.diastolic for pulse in pulses]) == pytest.approx(diastolic, abs=4)
        assert np.std([pulse.systolic for pulse in pulses]) > 0.5


def test_pulses_are_as_the_samples_show() -> None:
    found = tape(Episode("x", 60, pvc_per_min=8), seed=6)
    x = found.rows["ABP"]
    for one, after in pairwise(found.pulses):
        stretch = x[one.sample : after.sample]
        assert one.systolic == pytest.approx(stretch.max(), abs=0.8)
        assert one.diastolic == pytest.approx(stretch[0], abs=0.8)
        assert one.mean == pytest.approx(stretch.mean(), abs=0.2)
        # The foot is a foot: lower than 50 ms before and after.
        assert x[one.sample] < x[one.sample - 18] + 0.5
        assert x[one.sample] < x[one.sample + 18] + 0.5
        assert x[one.sample : one.sample + 72].max() > x[one.sample] + 3


def test_each_pulse_follows_its_beat_by_the_transit_time() -> None:
    for transit_ms in (150, 190, 260):
        found = tape(Episode("x", 60, transit_ms=transit_ms), fs=500, seed=2)
        beats = {beat.sample for beat in found.beats}
        delays = []
        for pulse in found.pulses:
            assert pulse.beat in beats
            delays.append((pulse.sample - pulse.beat) / 0.5)
        assert np.mean(delays) == pytest.approx(transit_ms, abs=12)
        assert np.std(delays) < 12
        # PLETH comes later still.
        pleth = found.rows["PLETH"]
        lag = [np.argmax(np.diff(pleth[p.sample : p.sample + 250])) for p in found.pulses[:-1]]
        steepest = [np.argmax(np.diff(found.rows["ABP"][p.sample : p.sample + 250])) for p in found.pulses[:-1]]
        assert np.median(lag) > np.median(steepest) + 20


def test_dicrotic_notch() -> None:
    found = tape(Episode("x", 30), seed=0)
    for pulse in found.pulses[3:-1]:
        x = found.rows["ABP"][pulse.sample : pulse.sample + 240]
        x = np.convolve(x, np.ones(5) / 5, mode="valid")
        peak = int(np.argmax(x))
        later = x[peak : peak + 140]
        rising = np.flatnonzero(np.diff(later) > 0.02)
        assert len(rising) > 3, "pressure rises again after the notch"


def test_premature_beats_eject_less_and_the_beat_after_more() -> None:
    found = tape(Episode("x", 180, pvc_per_min=8), seed=1)
    label = {beat.sample: beat.label for beat in found.beats}
    height = {pulse.beat: pulse.systolic - pulse.diastolic for pulse in found.pulses}
    order = [beat.sample for beat in found.beats]
    usual, early, late = [], [], []
    for before, here in pairwise(order[5:]):
        if label[here] == "V":
            early.append(height.get(here, 0.0))
        elif label[before] == "V":
            late.append(height[here])
        elif here in height:
            usual.append(height[here])
    assert np.mean(early) < 0.6 * np.mean(usual)
    assert np.mean(late) > 1.05 * np.mean(usual)


def test_pulse_deficit() -> None:
    """Some beats of fast fibrillation and tachycardia make no pulse; sinus rhythm misses none."""

    def share(*episodes: Episode) -> float:
        pulses = beats = 0
        for seed in range(4):
            found = tape(*episodes, fs=250, seed=seed)
            inside = [beat.sample for beat in found.beats if 12 * 250 < beat.sample < 55 * 250]
            reached = {pulse.beat for pulse in found.pulses}
            beats += len(inside)
            pulses += sum(sample in reached for sample in inside)
        return pulses / beats

    assert share(Episode("x", 60)) == 1.0
    assert 0.7 < share(Episode("x", 60, "af", 140)) < 0.99
    assert 0.6 < share(Episode("x", 10), Episode("x", 50, "vt", 190)) < 0.97


def test_tachycardia_lowers_the_pressure() -> None:
    before, during = [], []
    for seed in range(4):
        found = tape(Episode("x", 20), Episode("vt", 30, "vt", 175), seed=seed)
        before.append(found.cut("ABP", 8, 19).mean())
        during.append(found.cut("ABP", 28, 49).mean())
        pulses = [p.systolic - p.diastolic for p in found.pulses if p.sample > 28 * 360]
        assert 3 < np.median(pulses) < 22
    assert np.mean(during) < 0.8 * np.mean(before)


@pytest.mark.parametrize(
    "episode", [Episode("x", 25, "vf"), Episode("x", 25, "asystole"), Episode("x", 25, pulseless=True)]
)
def test_pressure_collapses_without_ejection(episode: Episode) -> None:
    found = tape(Episode("x", 15), episode, Episode("x", 20))
    # The last beat's pulse reaches the wrist .2 s late and lasts .7 s.
    x = found.cut("ABP", 16.2, 19.2) - FILLING_MMHG
    logs = np.log(x)
    t = np.arange(len(x)) / 360
    line = np.polynomial.Polynomial.fit(t, logs, 1)
    assert np.abs(logs - line(t)).max() < 0.1, "an exponential decay"
    assert found.cut("ABP", 30, 39).max() < FILLING_MMHG + 8
    assert np.ptp(found.cut("PLETH", 30, 39)) < 0.03
    assert found.cut("ABP", 50, 59).mean() == pytest.approx(found.cut("ABP", 5, 14).mean(), abs=5)
    if episode.pulseless:
        assert [beat for beat in found.beats if 20 * 360 < beat.sample < 38 * 360]


def test_a_new_setting_is_reached_slowly() -> None:
    found = tape(Episode("x", 20), Episode("low", 60, systolic_mmhg=75, diastolic_mmhg=45))
    assert found.cut("ABP", 10, 20).mean() > 90
    assert 65 < found.cut("ABP", 21, 22.7).mean() < 98
    assert found.cut("ABP", 35, 79).mean() < 62


# ---- noise


@pytest.mark.parametrize("kinds", [*((kind,) for kind in NOISES), NOISES])
@pytest.mark.parametrize(("fs", "snr_db"), [(100.0, 6.0), (360.0, 0.0), (360.0, 12.0)])
def test_noise_is_as_loud_as_asked(kinds: tuple[str, ...], fs: float, snr_db: float) -> None:
    clean = tape(Episode("x", 120), fs=fs, seed=3)
    noisy = tape(Episode("x", 120, snr_db=snr_db, noise=kinds), fs=fs, seed=3)
    half = round(0.07 * fs)
    for lead in ("II", "V"):
        x = clean.rows[lead]
        heights = [np.ptp(x[beat.sample - half : beat.sample + half]) for beat in clean.beats[1:-1]]
        power = np.mean((noisy.rows[lead] - x) ** 2)
        assert 10 * np.log10(np.mean(heights) ** 2 / 8 / power) == pytest.approx(snr_db, abs=1.0)
    np.testing.assert_array_equal(clean.rows["ABP"], noisy.rows["ABP"])


def test_noises_have_their_bands() -> None:
    clean = tape(Episode("x", 120), seed=3)

    def share(kind: str, low_hz: float, high_hz: float) -> float:
        noisy = tape(Episode("x", 120, snr_db=6, noise=(kind,)), seed=3)
        hz, power = welch(noisy.rows["II"] - clean.rows["II"], 360, nperseg=7200)
        return float(power[(hz >= low_hz) & (hz <= high_hz)].sum() / power.sum())

    assert share("wander", 0, 0.7) > 0.95
    assert share("muscle", 15, 180) > 0.9
    assert share("motion", 0, 10) > 0.9
    assert share("mains", 49.5, 50.5) > 0.9
    assert share("white", 0, 90) == pytest.approx(0.5, abs=0.05)


def test_movement_noise_of_the_pulse_channels() -> None:
    clean = tape(Episode("x", 120), seed=3)
    noisy = tape(Episode("x", 120, pulse_snr_db=6), seed=3)
    for name, pulse in (("ABP", 40.0), ("PLETH", None)):
        height = pulse or np.mean([np.ptp(clean.rows[name][p.sample : p.sample + 300]) for p in clean.pulses[2:-1]])
        power = np.mean((noisy.rows[name] - clean.rows[name]) ** 2)
        assert 10 * np.log10(height**2 / 8 / power) == pytest.approx(6, abs=2.0)
    np.testing.assert_array_equal(clean.rows["II"], noisy.rows["II"])


# ---- what a detector makes of it


@pytest.mark.parametrize("fs", [250.0, 360.0])
@pytest.mark.parametrize(
    "episode",
    [
        Episode("sinus", 300),
        Episode("fibrillation", 300, "af", 105),
        Episode("premature", 300, pvc_per_min=10, pac_per_min=4),
    ],
    ids=lambda episode: episode.name if isinstance(episode, Episode) else str(episode),
)
def test_a_standard_detector_finds_the_true_beats(fs: float, episode: Episode) -> None:
    sleepecg = pytest.importorskip("sleepecg")
    true, right, found_in_all = 0, 0, 0
    for seed in range(2):
        found = tape(episode, fs=fs, seed=seed, channels=("II",))
        detected = np.asarray(sleepecg.detect_heartbeats(found.rows["II"], fs))
        detected = detected[(detected > 4 * fs) & (detected < 299 * fs)]
        wanted = [beat.sample for beat in found.beats if 4 * fs < beat.sample < 299 * fs]
        true += len(wanted)
        found_in_all += len(detected)
        right += sum(bool(np.abs(detected - sample).min() <= 0.15 * fs) for sample in wanted)
    assert right / true >= 0.995
    assert right / found_in_all >= 0.99
