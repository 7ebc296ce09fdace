"""What stands in for labels that nobody made, and where the beats without labels come from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_train import errors
from edge_train.beats import p_wave as beat_p
from edge_train.beats.inputs import RR_FEATURES

from edge_agent.signal.usual_beat import SHAPE_FEATURES


def _beats(n: int, rhythm: str, **numbers: float) -> beat_p.Unlabelled:
    """All alike: a usual beat in a steady rhythm, but for the numbers given."""
    shape = dict.fromkeys(SHAPE_FEATURES, 0.0) | {"qrs_correlation": 0.99, "qrs_difference": 0.1, "p_correlation": 0.9}
    rr = dict.fromkeys(RR_FEATURES, 0.0) | {"rr_step_30s": 0.02}
    for name, value in numbers.items():
        (shape if name in shape else rr)[name] = value
    rows = [np.array([list(one.values())] * n, np.float32) for one in (rr, shape)]
    return beat_p.Unlabelled(*rows, np.array(["a"] * n), np.array([rhythm] * n))


EARLY = np.array([3.0, -3.0, 0.0], np.float32)


def test_where_the_experts_are_sure_they_stand_in() -> None:
    assert beat_p.stand_ins(_beats(3, beat_p.UNKNOWN), EARLY).tolist() == [1, 0, -1]


@pytest.mark.parametrize("rhythm", [beat_p.SINUS, beat_p.FIBRILLATION])
def test_a_strip_that_was_found_to_be_one_rhythm_has_no_premature_beat(rhythm: str) -> None:
    """However early: sinus arrhythmia and fibrillation are what must not be called S."""
    assert beat_p.stand_ins(_beats(3, rhythm), EARLY).tolist() == [0, 0, 0]


@pytest.mark.parametrize(
    ("number", "value"),
    [("qrs_correlation", 0.85), ("qrs_difference", 0.6), ("qrs_size_log", 0.4), ("qrs_slope_log", -0.4), ("rr_step_30s", 0.1)],
)  # fmt: skip
def test_early_is_not_enough(number: str, value: float) -> None:
    """A QRS of another shape may be V; an unsteady rhythm has early beats by chance."""
    assert beat_p.stand_ins(_beats(3, beat_p.UNKNOWN, **{number: value}), EARLY).tolist() == [-1, 0, -1]


def test_a_beat_without_a_usual_one_or_an_interval_tells_nothing() -> None:
    some = _beats(3, beat_p.SINUS)
    unseen = beat_p.Unlabelled(some.rr, np.zeros_like(some.shape), some.patient, some.rhythm)
    first = beat_p.Unlabelled(np.zeros_like(some.rr), some.shape, some.patient, some.rhythm)
    assert beat_p.stand_ins(unseen, EARLY).tolist() == beat_p.stand_ins(first, EARLY).tolist() == [-1, -1, -1]


def _strip(folder: Path, name: str, seed: int, leads: tuple[str, ...] = ("ECG",)) -> None:
    import wfdb

    rng = np.random.default_rng(seed)
    signal = rng.normal(0, 0.01, (300 * 20, len(leads)))
    t = np.arange(-60, 90) / 300
    for r in range(400, 5600, 250):
        wave = np.exp(-0.5 * (t / 0.012) ** 2) + 0.1 * np.exp(-0.5 * ((t + 0.16) / 0.02) ** 2)
        signal[r - 60 : r + 90, -1] += wave
    folder.mkdir(parents=True, exist_ok=True)
    units = ["mV"] * len(leads)
    wfdb.wrsamp(
        name, fs=300, units=units, sig_name=list(leads), p_signal=signal, fmt=["16"] * len(leads), write_dir=str(folder)
    )


def test_strips_and_icu_records_are_read_without_the_noisy_ones(tmp_path: Path) -> None:
    strips = tmp_path / "cinc2017"
    for seed, name in enumerate(["S1", "S2", "S3", "S4"]):
        _strip(strips, name, seed)
    (strips / "REFERENCE.csv").write_text("record,label\nS1,N\nS2,A\nS3,O\nS4,~\nS5,N\n")
    _strip(tmp_path / "challenge2015", "a1", 9, ("V", "II"))  # only II has beats
    found = beat_p.read(tmp_path)
    rhythms = {str(name): str(found.rhythm[found.patient == name][0]) for name in np.unique(found.patient)}
    assert rhythms == {"cincS1": "N", "cincS2": "A", "cincS3": "?", "icua1": "?"}
    assert len(found) == found.rr.shape[0] == found.shape.shape[0] > 60
    beat_p.store(found, tmp_path)
    assert np.array_equal(beat_p.load(tmp_path).shape, found.shape)
    named = {path.name for path in beat_p.files(tmp_path)}
    assert {"S1.hea", "S1.dat", "REFERENCE.csv", "a1.dat"} <= named


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    _strip(tmp_path / "cinc2017", "S1", 0)
    with pytest.raises(errors.DataError, match="challenge2015: no records"):
        beat_p.files(tmp_path)
    with pytest.raises(errors.DataError, match="run: edge-train data"):
        beat_p.load(tmp_path)
