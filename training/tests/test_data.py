"""What must never be trained on, and the one message that says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_train import augment, data
from edge_train.cli import main

from edge_agent.signal.windows import Cutter, normalise


def test_split_has_no_patient_on_both_sides() -> None:
    data.check_split(data.TRAIN, data.DS2)
    data.check_split(*data.FOLDS)
    with pytest.raises(data.DataError, match=r"both sides.*202"):
        data.check_split(data.DS1, data.DS2)  # the usual split: 201 and 202 are one man


def test_split_covers_the_whole_of_ds1_but_201() -> None:
    assert set(data.DS1) - set(data.TRAIN) == {"201"}
    assert sorted(record for fold in data.FOLDS for record in fold) == sorted(data.TRAIN)
    assert len(data.DS1) == len(data.DS2) == 22
    assert not set(data.DS1) & set(data.DS2)


def _record(signals: np.ndarray, sample: list[int], label: list[int], fs: float = 360.0) -> data.Record:
    return data.Record("x", fs, signals.astype(np.float32), ("MLII",), np.array(sample), np.array(label))


def test_nan_in_a_signal_is_refused() -> None:
    signal = np.zeros((1, 3600))
    assert len(data.cut_beats(_record(signal, [2000], [0]), 0)) == 1
    signal[0, 2100] = np.nan
    with pytest.raises(data.DataError, match="not numbers"):
        data.cut_beats(_record(signal, [2000], [0]), 0)


def test_nan_in_a_stored_record_is_refused(tmp_path: Path) -> None:
    import wfdb

    signal = np.zeros((2000, 1))
    signal[700] = np.nan
    wfdb.wrsamp("bad", fs=360, units=["mV"], sig_name=["MLII"], p_signal=signal, fmt=["16"], write_dir=str(tmp_path))
    wfdb.wrann("bad", "atr", np.array([500]), symbol=["N"], write_dir=str(tmp_path))
    with pytest.raises(data.DataError, match="1 samples are not numbers"):
        data.read_record(tmp_path, "bad")


def test_a_half_downloaded_record_is_one_clear_message(tmp_path: Path) -> None:
    with pytest.raises(data.DataError, match="cannot be read"):
        data.read_record(tmp_path, "100")


def test_missing_data_is_one_line_and_exit_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "--shared", str(tmp_path / "nowhere"), "--data", str(tmp_path / "out")]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "nowhere" in message
    assert not (tmp_path / "out").exists()


def test_fitting_without_prepared_data_says_what_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fit", "--data", str(tmp_path), "--runs", str(tmp_path / "runs")]) == 1
    assert "edge-train data" in capsys.readouterr().err


def test_a_class_without_examples_is_named() -> None:
    with pytest.raises(data.DataError, match="no example of class S, Q"):
        data.require_classes(np.array([0, 0, 2, 3]), data.LABELS, "DS1")


def test_beats_at_the_ends_have_no_window_but_stay_in_the_rhythm() -> None:
    beats = data.cut_beats(_record(np.zeros((1, 3600)), [1300, 1650, 2050, 2450, 2850, 3590], [0] * 6), 0)
    assert beats.sample.tolist() == [1650, 2050, 2450, 2850]
    assert beats.features[0, data.FEATURES.index("rr_last_log")] == 0
    later = beats.features[1, data.FEATURES.index("rr_last_log")]
    assert later == pytest.approx(np.log(400 / 350), abs=1e-6)


def test_features_are_causal() -> None:
    rng = np.random.default_rng(1)
    at = np.cumsum(rng.integers(200, 400, 200)).tolist()
    whole = data.rr_features(at, 360.0)
    changed = data.rr_features(at[:100] + [b + 77 for b in at[100:]], 360.0)
    assert np.array_equal(whole[:100], changed[:100])
    assert not np.array_equal(whole[100:], changed[100:])


def test_zscore_is_the_daemon_s() -> None:
    rng = np.random.default_rng(2)
    x = rng.normal(3, 2, (5, 216)).astype(np.float32)
    x[4] = 1.0
    one_by_one = np.array([normalise(row, "zscore") for row in x])
    assert np.allclose(augment.zscore(x), one_by_one, atol=1e-5)


def test_without_strength_the_windows_are_the_daemon_s_own() -> None:
    rng = np.random.default_rng(3)
    signal = np.cumsum(rng.normal(0, 1, (1, 6000)), axis=1)
    record = _record(signal, [2000, 2500, 3100, 3500], [0] * 4)
    beat, past = augment.windows(data.cut_beats(record, 0), rng, augment.NONE)
    for made, part in ((beat, data.BEAT), (past, data.PAST)):
        cutter = Cutter(fs=360, rate_hz=part.rate_hz, samples=part.samples, before=part.before, normalisation="zscore")
        for window, r in zip(made, record.sample.tolist(), strict=True):
            assert np.allclose(window, cutter.cut(record.signals[0, r + cutter.first : r + cutter.end]), atol=2e-4)


@pytest.mark.parametrize("fs", [125, 250, 360, 500])
def test_the_windows_need_at_most_350_ms_after_the_beat(fs: int) -> None:
    for part in (data.BEAT, data.PAST):
        cutter = Cutter(fs=fs, rate_hz=part.rate_hz, samples=part.samples, before=part.before, normalisation="zscore")
        assert (cutter.end - 1) / fs <= 0.35


def test_vitaldb_fibrillation_is_no_ectopy_and_a_gap_is_not_bridged(tmp_path: Path) -> None:
    rows = ["time_second,beat_type,rhythm_label,bad_signal_quality,bad_signal_quality_label"]
    rows += [f"{i * 0.8:.3f},N,N,False," for i in range(10)]
    rows += ["8.5,S,SR-mPAC-BT,False,", "9.5,S,AFIB/AFL,False,", "10.3,V,N,False,", "11.1,U,N,True,", "11.9,N,N,False,"]
    path = tmp_path / "Annotation_file_7.csv"
    path.write_text("\n".join(rows) + "\n", encoding="utf-8-sig")
    beats = data.read_vitaldb(path)
    assert beats.premature.tolist() == [0.0] * 10 + [1.0, 0.0, 0.0]
    assert not beats.features[-1].any(), "the beat after the unusable one closes no interval"
    assert set(beats.patient) == {"7"}


def test_rr_features_of_a_known_rhythm() -> None:
    """Regular at 0.8 s, then one early beat: every baseline is 0.8 s, so every ratio is log(0.5 / 0.8)."""
    at = [*range(0, 288 * 40, 288), 288 * 39 + 180]
    found = dict(zip(data.FEATURES, data.rr_features(at, 360.0)[-1].tolist(), strict=True))
    early = np.log(180 / 288)
    for name, value in found.items():
        if name.startswith("rr_prev"):
            assert value == pytest.approx(0, abs=1e-6), name
        elif name.endswith("_log"):
            assert value == pytest.approx(early, abs=1e-6), name
    assert [found[name] for name in ("rr_cv_60s", "rr_mad_60s", "rr_step_60s", "rr_step8")] == pytest.approx(
        [0] * 4, abs=1e-6
    )
    assert found["rr_cv16"] > 0.05


def test_baselines_expose_a_patient_whose_early_beats_are_the_median() -> None:
    """Three early beats to each long interval (as in record 232): the median calls them normal, the long percentiles do not."""
    at = np.cumsum([0] + [216, 216, 216, 400] * 60 + [216]).tolist()
    found = dict(zip(data.FEATURES, data.rr_features(at, 360.0)[-1].tolist(), strict=True))
    assert found["rr_median8_log"] == found["rr_p50_60s_log"] == 0
    assert found["rr_p90_60s_log"] == found["rr_p90_300s_log"] == pytest.approx(np.log(216 / 400))


def test_percentiles_are_numpy_s() -> None:
    rng = np.random.default_rng(4)
    intervals = rng.uniform(0.5, 1.2, 80)
    at = np.cumsum(np.rint(intervals * 1000)).astype(int)
    rr = np.diff(at) / 1000
    past = rr[:-1]
    minute = past[np.cumsum(past[::-1])[::-1] <= 60]
    found = dict(zip(data.FEATURES, data.rr_features(at.tolist(), 1000.0)[-1].tolist(), strict=True))
    for percent in (10, 50, 75, 90):
        assert found[f"rr_p{percent}_60s_log"] == pytest.approx(
            np.log(rr[-1] / np.percentile(minute, percent)), abs=1e-6
        )
