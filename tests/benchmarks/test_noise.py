"""Noise is what its name and its level say."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import ec57, noise

FS = 360.0
MINUTES = 11
N = int(MINUTES * 60 * FS)
BEGIN = int(300 * FS)


def made_ecg(amplitude: float = 1.5) -> tuple[NDArray[np.float64], ec57.Annotations]:
    """Triangular complexes of known height, twice as tall where the beat is ventricular."""
    x = np.zeros(N)
    marks = np.arange(200, N - 200, 300)
    labels = ["V" if k % 7 == 3 else "N" for k in range(len(marks))]
    up = np.maximum(0, 1 - np.abs(np.arange(-15, 16)) / 15)
    for mark, label in zip(marks, labels, strict=True):
        x[mark - 15 : mark + 16] += amplitude * up * (2 if label == "V" else 1)
    return x, ec57.beats(marks, labels)


def test_signal_is_measured_on_beats_that_are_not_ventricular() -> None:
    x, reference = made_ecg(1.5)
    assert noise.qrs_amplitude(x, reference, FS) == pytest.approx(1.5)
    assert noise.qrs_amplitude(-x + 3.0, reference, FS) == pytest.approx(1.5)


def test_signal_amplitude_leaves_out_the_extremes() -> None:
    x, reference = made_ecg(1.0)
    x[reference.samples[0]] = 500.0
    assert noise.qrs_amplitude(x, reference, FS) == pytest.approx(1.0)


def test_noise_is_measured_second_by_second_without_its_drift() -> None:
    steps = np.repeat(np.arange(60.0) * 100, 360)
    sine = np.sqrt(2) * np.sin(2 * np.pi * 10 * np.arange(len(steps)) / FS)
    assert noise.noise_rms(steps + sine, FS) == pytest.approx(1.0)


def test_gain_by_the_definition_of_nst() -> None:
    """At 0 dB the noise's RMS is that of a sine as tall as the QRS complexes."""
    assert noise.noise_gain(2.0, 1.0, 0.0) == pytest.approx(1 / math.sqrt(2))
    assert noise.noise_gain(2.0, 0.5, 0.0) == pytest.approx(2 / math.sqrt(2))
    assert noise.noise_gain(2.0, 1.0, 20.0) == pytest.approx(0.1 / math.sqrt(2))
    assert noise.noise_gain(1.0, 1.0, 6.0) == pytest.approx(10 ** (-0.3) * math.sqrt(2.0) / 4.0)
    with pytest.raises(noise.NoiseError, match="no power"):
        noise.noise_gain(1.0, 0.0, 6.0)


@pytest.mark.parametrize("kind", noise.KINDS)
@pytest.mark.parametrize("snr", [24.0, 6.0, 0.0])
def test_what_was_added_has_the_stated_power(kind: str, snr: float) -> None:
    x, reference = made_ecg()
    added = noise.Source(seed=3).make(kind, "100", N, FS)
    y = noise.add_noise(x, added, snr, reference, FS)
    np.testing.assert_array_equal(y[:BEGIN], x[:BEGIN])
    rms = noise.noise_rms(added, FS)
    gain = 1.5 / (2 * math.sqrt(2)) / rms * 10 ** (-snr / 20)
    np.testing.assert_allclose(np.diff((y - x)[BEGIN:]), gain * np.diff(added[BEGIN:]), atol=1e-9)


@pytest.mark.parametrize("protocol", noise.PROTOCOLS)
def test_switching_noise_on_and_off_makes_no_jump(protocol: str) -> None:
    x, reference = made_ecg()
    drift = 5.0 + np.arange(N) / N + 0.01 * np.sin(2 * np.pi * np.arange(N) / FS)
    y = noise.add_noise(x, drift, 0.0, reference, FS, protocol)
    gain = noise.noise_gain(1.5, noise.noise_rms(drift, FS), 0.0)
    assert np.max(np.abs(np.diff(y - x))) <= gain * np.max(np.abs(np.diff(drift))) * (1 + 1e-9)
    assert np.ptp((y - x)[BEGIN:]) > 0


def test_nst_protocol_is_clean_every_other_two_minutes() -> None:
    x, reference = made_ecg()
    added = noise.Source().make("ma", "100", N, FS)
    y = noise.add_noise(x, added, 6.0, reference, FS, "nst")
    turn = int(120 * FS)
    clean = [np.ptp((y - x)[a : a + turn]) == pytest.approx(0, abs=1e-9) for a in range(BEGIN, N - turn + 1, turn)]
    assert clean == [False, True, False]


def test_the_same_seed_and_record_give_the_same_noise_and_others_do_not() -> None:
    first = noise.Source(seed=1).make("em", "100", 20_000, FS)
    np.testing.assert_array_equal(first, noise.Source(seed=1).make("em", "100", 20_000, FS))
    for other in (
        noise.Source(seed=2).make("em", "100", 20_000, FS),
        noise.Source(seed=1).make("em", "101", 20_000, FS),
    ):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.5


def share(x: NDArray[np.float64], low: float, high: float) -> float:
    """Of the power, between two frequencies."""
    power = np.abs(np.fft.rfft(x - x.mean())) ** 2
    f = np.fft.rfftfreq(len(x), 1 / FS)
    return float(power[(f >= low) & (f < high)].sum() / power.sum())


def test_each_kind_lies_where_its_name_says() -> None:
    made = {kind: noise.Source(seed=5).make(kind, "100", N, FS) for kind in noise.KINDS}
    assert share(made["bw"], 0.0, 1.0) > 0.99
    assert share(made["ma"], 10.0, 180.0) > 0.9
    assert share(made["em"], 0.0, 10.0) > 0.85
    assert share(made["em"], 1.0, 20.0) > 0.2, "electrode motion reaches into the band of the QRS complex"
    assert all(np.isfinite(x).all() and x.shape == (N,) for x in made.values())
    assert all(noise.noise_rms(x, FS) == pytest.approx(1.0) for x in made.values())


def test_the_mixture_has_the_three_in_equal_parts() -> None:
    source = noise.Source(seed=5)
    mix = source.make("mix", "100", N, FS)
    parts = np.stack([source.make(kind, "100", N, FS) for kind in ("em", "ma", "bw")])
    weights = np.linalg.lstsq(parts.T, mix, rcond=None)[0]
    assert weights == pytest.approx([weights[0]] * 3)


def write_nstdb(folder: Path, seconds: int, fs: int = 360) -> dict[str, NDArray[np.float64]]:
    wfdb = pytest.importorskip("wfdb")
    rng = np.random.default_rng(0)
    signals = {}
    for kind in ("em", "ma", "bw"):
        signals[kind] = rng.integers(-800, 800, (seconds * fs, 2)) / 200
        wfdb.wrsamp(
            kind,
            fs=fs,
            units=["mV", "mV"],
            sig_name=["a", "b"],
            p_signal=signals[kind],
            fmt=["16", "16"],
            adc_gain=[200.0, 200.0],
            baseline=[0, 0],
            write_dir=str(folder),
        )
    return signals


def test_nstdbs_own_records_are_used_where_they_are_given(tmp_path: Path) -> None:
    signals = write_nstdb(tmp_path, 30)
    source = noise.source(tmp_path)
    assert "Noise Stress Test" in source.title
    made = source.make("em", "100", 5000, FS)
    assert np.corrcoef(made, signals["em"][:5000, 0])[0, 1] == pytest.approx(1.0)
    assert noise.source(None).title.startswith("synthetic")


def test_recorded_noise_that_is_too_short_goes_round_without_a_jump(tmp_path: Path) -> None:
    signals = write_nstdb(tmp_path, 10)["ma"][:, 0]
    made = noise.source(tmp_path).make("ma", "100", 9000, FS)
    scale = (made[1] - made[0]) / (signals[1] - signals[0])
    assert made[3600] == pytest.approx(made[3599]), "the second time round begins where the first ended"
    np.testing.assert_allclose(np.diff(made[3600:7200]), scale * np.diff(signals), atol=1e-9)


def test_recorded_noise_follows_the_rate_of_the_record(tmp_path: Path) -> None:
    write_nstdb(tmp_path, 10)
    made = noise.source(tmp_path).make("bw", "100", 2500, 250.0)
    assert made.shape == (2500,)
    assert abs(made[1250:] - made[:1250]).max() > 0


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    x, reference = made_ecg()
    with pytest.raises(noise.NoiseError, match="holds no record em, ma, bw"):
        noise.source(tmp_path)
    with pytest.raises(noise.NoiseError, match="no noise is called 'hum'"):
        noise.Source().make("hum", "100", N, FS)
    with pytest.raises(noise.NoiseError, match="no protocol"):
        noise.add_noise(x, x, 6.0, reference, FS, "always")
    with pytest.raises(noise.NoiseError, match="no QRS complex"):
        noise.qrs_amplitude(x, ec57.beats([]), FS)
    with pytest.raises(noise.NoiseError, match="less than a second"):
        noise.noise_rms(x[:300], FS)
