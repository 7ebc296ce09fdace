"""What must never be trained on, and the one message that says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_train import errors
from edge_train.beats import augment, cut, vitaldb
from edge_train.beats import inputs as beat_inputs
from edge_train.cli import main
from edge_train.data import mitdb

from edge_agent.inference.feeder import Feeder


def test_split_has_no_patient_on_both_sides() -> None:
    mitdb.check_split(mitdb.TRAIN, mitdb.DS2)
    mitdb.check_split(*mitdb.FOLDS)
    with pytest.raises(errors.DataError, match=r"both sides.*202"):
        mitdb.check_split(mitdb.DS1, mitdb.DS2)  # the usual split: 201 and 202 are one man


def test_split_covers_the_whole_of_ds1_but_201() -> None:
    assert set(mitdb.DS1) - set(mitdb.TRAIN) == {"201"}
    assert sorted(record for fold in mitdb.FOLDS for record in fold) == sorted(mitdb.TRAIN)
    assert len(mitdb.DS1) == len(mitdb.DS2) == 22
    assert not set(mitdb.DS1) & set(mitdb.DS2)


def _record(signals: np.ndarray, sample: list[int], label: list[int], fs: float = 360.0) -> mitdb.Record:
    return mitdb.Record("x", fs, signals.astype(np.float32), ("MLII",), np.array(sample), np.array(label))


def test_nan_in_a_signal_is_refused() -> None:
    signal = np.zeros((1, 3600))
    assert len(cut.cut_beats(_record(signal, [2000], [0]), 0, oracle=True)) == 1
    signal[0, 2100] = np.nan
    with pytest.raises(errors.DataError, match="not numbers"):
        cut.cut_beats(_record(signal, [2000], [0]), 0, oracle=True)


def test_nan_in_a_stored_record_is_refused(tmp_path: Path) -> None:
    import wfdb

    signal = np.zeros((2000, 1))
    signal[700] = np.nan
    wfdb.wrsamp("bad", fs=360, units=["mV"], sig_name=["MLII"], p_signal=signal, fmt=["16"], write_dir=str(tmp_path))
    wfdb.wrann("bad", "atr", np.array([500]), symbol=["N"], write_dir=str(tmp_path))
    with pytest.raises(errors.DataError, match="1 samples are not numbers"):
        mitdb.read_record(tmp_path, "bad")


def test_a_half_downloaded_record_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(errors.DataError, match="cannot be read"):
        mitdb.read_record(tmp_path, "100")


def test_missing_data_is_one_line_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["data", "prepare", "ecg-beat", "--shared", str(tmp_path / "nowhere"), "--build", str(tmp_path / "out")])
        == 1
    )
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "nowhere" in message
    assert not (tmp_path / "out").exists()


def test_fitting_without_prepared_data_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "ecg-beat", "--build", str(tmp_path)]) == 1
    assert "edge-train data" in capsys.readouterr().err


def test_a_class_without_examples_is_named() -> None:
    with pytest.raises(errors.DataError, match="no example of class S, Q"):
        cut.require_classes(np.array([0, 0, 2, 3]), mitdb.LABELS, "DS1")


def test_beats_at_the_ends_have_no_window_but_stay_in_the_rhythm() -> None:
    beats = cut.cut_beats(_record(np.zeros((1, 3600)), [100, 450, 850, 1250, 1650, 3590], [0] * 6), 0, oracle=True)
    assert beats.sample.tolist() == [450, 850, 1250, 1650]
    assert beats.rr[0, beat_inputs.RR_FEATURES.index("rr_last_log")] == 0
    later = beats.rr[1, beat_inputs.RR_FEATURES.index("rr_last_log")]
    assert later == pytest.approx(np.log(400 / 350), abs=1e-6)


def test_by_the_own_detector_what_it_invents_is_no_example() -> None:
    signal, at = _wavy(5)
    record = _record(signal, at[:40] + at[60:], [0] * (len(at) - 20))  # twenty that the reference does not know
    own, oracle = cut.cut_beats(record, 0), cut.cut_beats(record, 0, oracle=True)
    assert abs(len(own) - (len(at) - 20)) <= 3
    assert not np.isin(np.arange(at[40], at[59]), own.sample).any()
    last = beat_inputs.RR_FEATURES.index("rr_last_log")
    after = int(np.searchsorted(own.sample, at[60] - 50))
    assert abs(own.rr[after, last]) < 0.6, "its interval is the real one"
    assert oracle.rr[int(np.searchsorted(oracle.sample, at[60])), last] == 0, "a pause of 16 s closes no interval"


def _wavy(seed: int, n: int = 60_000) -> tuple[np.ndarray, list[int]]:
    rng = np.random.default_rng(seed)
    at = np.cumsum(rng.integers(220, 360, n // 370)) + 400
    signal = rng.normal(0, 0.02, (1, n))
    t = np.arange(-80, 120) / 360
    for r in at.tolist():
        signal[0, r - 80 : r + 120] += np.exp(-0.5 * (t / 0.015) ** 2) + 0.15 * np.exp(-0.5 * ((t + 0.16) / 0.02) ** 2)
    return signal, at.tolist()


def test_inputs_are_causal() -> None:
    """What comes 0.4 s after a beat or later changes none of its inputs."""
    signal, at = _wavy(1)
    whole = cut.cut_beats(_record(signal, at, [0] * len(at)), 0, oracle=True)
    end = at[100] + round(0.4 * 360)
    other = signal.copy()
    other[0, end:] = np.random.default_rng(9).normal(0, 1, signal.shape[1] - end)
    changed = cut.cut_beats(_record(other, [*at[:101], *(b + 37 for b in at[101:])], [0] * len(at)), 0, oracle=True)
    for name in ("beat", "rr", "shape", "usual"):
        assert np.array_equal(getattr(whole, name)[:101], getattr(changed, name)[:101]), name
        assert not np.array_equal(getattr(whole, name)[101:], getattr(changed, name)[101:]), name


def test_a_changed_copy_keeps_its_beats_and_their_labels() -> None:
    signal, at = _wavy(2)
    label = np.random.default_rng(3).integers(0, 3, len(at)).tolist()
    record = _record(signal, at, label)
    copy = augment.changed(record, np.random.default_rng(4), faster=True)
    assert 0.97 * len(at) <= len(copy.sample) <= len(at)
    assert abs(np.bincount(copy.label, minlength=3) - np.bincount(label, minlength=3)).max() <= 4
    assert (np.diff(copy.sample) > 0).all()
    assert np.diff(copy.sample).min() < 0.8 * np.diff(at).min(), "some stretch is faster"
    from scipy.signal import find_peaks

    wave = copy.signals[0] - np.median(copy.signals[0])
    wave = wave if abs(wave.max()) > abs(wave.min()) else -wave
    peaks = find_peaks(wave, height=0.5 * wave.max(), distance=70)[0]
    nearest = np.abs(copy.sample[:, None] - peaks[None, :]).min(axis=1)
    assert np.median(nearest) <= 4, "the positions went with the signal"


def test_a_simulated_patient_has_beats_of_several_kinds_and_repeats() -> None:
    one, again = augment.simulated(1003), augment.simulated(1003)
    assert np.array_equal(one.signals, again.signals)
    assert np.array_equal(one.sample, again.sample)
    assert {0, 2} <= set(one.label.tolist())


def test_windows_are_varied_only_as_much_as_said() -> None:
    rng = np.random.default_rng(1)
    inputs = [rng.normal(0, 1, (50, n)).astype(np.float32) for n in (63, 28, 14, 63)]
    for given, made in zip(inputs, augment.vary(inputs, rng, augment.Strength(0.0, 0.0, 0.0, 0.0)), strict=True):
        assert np.array_equal(given, made)
    made = augment.vary(inputs, rng, augment.Strength(rr_dropout=0.5, usual_dropout=0.5))
    forgotten = ~made[1].any(axis=1)
    assert 10 <= forgotten.sum() <= 40
    assert np.array_equal(~made[2].any(axis=1), ~made[3].any(axis=1)), (
        "no usual beat: neither its picture nor its numbers"
    )


@pytest.mark.parametrize("fs", [125, 250, 360, 500])
def test_the_windows_need_at_most_400_ms_after_the_beat(fs: int) -> None:
    assert (Feeder(beat_inputs.feeding(), "ecg", 0, fs).reach[1] - 1) / fs <= 0.4


def test_vitaldb_fibrillation_is_no_ectopy_and_a_gap_is_not_bridged(tmp_path: Path) -> None:
    rows = ["time_second,beat_type,rhythm_label,bad_signal_quality,bad_signal_quality_label"]
    rows += [f"{i * 0.8:.3f},N,N,False," for i in range(10)]
    rows += ["8.5,S,SR-mPAC-BT,False,", "9.5,S,AFIB/AFL,False,", "10.3,V,N,False,", "11.1,U,N,True,", "11.9,N,N,False,"]
    path = tmp_path / "Annotation_file_7.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    beats = vitaldb.read_vitaldb(path)
    assert [mitdb.LABELS[label] for label in beats.label] == ["N"] * 10 + ["S", "N", "V", "N"]
    assert not beats.features[-1].any(), "the beat after the unusable one closes no interval"
    assert set(beats.patient) == {"7"}
