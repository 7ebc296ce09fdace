"""The two fibrillation models' data, nets and measures: rows as the daemon makes them, figures that count what they say."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from edge_train.af import figures as af_figures
from edge_train.af import rr as af_rr
from edge_train.af import simulated as af_simulate
from edge_train.af import strips as af_strips
from edge_train.af import ten_seconds as af_10s
from edge_train.af.courses import Course, courses, fifths, sequences
from edge_train.data.windows import Split
from edge_train.errors import DataError

from edge_agent.alarms.rhythm import ENTER, LEAVE, cosen
from edge_agent.inference.feeder import Feeder
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models
from edge_agent.journey import Window
from edge_agent.signal.ring import Ring

RNG = np.random.default_rng(7)


def course(at_ms: list[int], fibrillates: list[bool], bad: set[int] = frozenset()) -> Course:  # type: ignore[assignment]
    n = len(at_ms)
    return Course(
        "vitaldb-x",
        np.array(at_ms, np.int64),
        np.array([i not in bad for i in range(n)]),
        np.array(fibrillates, bool),
        np.full(n, "N", "U12"),
    )


# --- rows --------------------------------------------------------------------------------------------------------------


def test_a_row_holds_the_last_intervals_and_nothing_bridges_a_bad_beat() -> None:
    at = np.cumsum([500, 700, 600, 800, 900, 650, 750, 500, 520]).tolist()
    made = sequences(course(at, [False] * 9, bad={4}), 3, 1, "seconds")
    # The intervals to and from beat 4 are no intervals: 700 600 800 | 750 500 520
    assert made.rows[-1].tolist() == pytest.approx([0.75, 0.5, 0.52])
    assert made.rows[0].tolist() == pytest.approx([0.7, 0.6, 0.8])
    assert 4 not in made.beat.tolist()
    assert made.rows[made.beat.tolist().index(6)].tolist() == pytest.approx([0.6, 0.8, 0.75])


def test_the_share_of_fibrillation_is_of_the_rows_own_intervals() -> None:
    made = sequences(course(np.arange(0, 8000, 800).tolist(), [False] * 5 + [True] * 5), 4, 1)
    assert made.share.tolist() == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert made.beat.tolist() == [4, 5, 6, 7, 8, 9]


def test_every_patient_is_dealt_once_and_the_sick_are_spread() -> None:
    found = [
        replace(course([0, 800], [ill, ill]), patient=f"{base}-{i}")
        for base, ill, many in (("vitaldb", True, 12), ("vitaldb", False, 30), ("ltafdb", True, 5))
        for i in range(many)
    ]
    found = [replace(one, patient=f"{one.patient}-{one.fibrillates[0]}") for one in found]
    dealt = fifths(found)
    assert set(dealt) == {one.patient for one in found}
    for fifth in range(5):
        names = [name for name, place in dealt.items() if place == fifth]
        assert 2 <= sum(name.startswith("vitaldb") and name.endswith("True") for name in names) <= 3
        assert sum(name.startswith("ltafdb") for name in names) == 1


def test_missing_and_damaged_annotations_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.csv annotations"):
        courses(tmp_path)
    folder = tmp_path / "vitaldb_arr" / "Annotation_Files_250907"
    folder.mkdir(parents=True)
    (folder / "Annotation_file_1.csv").write_text("time_second,beat_type\n1.0,N\n")
    (tmp_path / "ltafdb_ann").mkdir()
    (tmp_path / "ltafdb_ann" / "00.atr").write_bytes(b"\x01")
    with pytest.raises(DataError, match="Annotation_file_1"):
        courses(tmp_path)


def test_a_strips_windows_are_the_daemons() -> None:
    from edge_train.packing.pack import unpacked

    values = RNG.normal(0, 1, 300 * 14).astype(np.float32)
    strip = af_strips.Strip("A", 300.0, values, 0)
    rows, ends = af_strips.cut(strip, af_10s.cutter(300.0), 2.0)
    about = af_10s.TASK.about("ecg-af-10s", {"digest": "0"}, 0, {})
    feeder = Feeder(unpacked(about, "ecg-af-10s"), "ecg", 0, 300.0)
    ring = Ring(1, values.size)
    ring.push(values[None])
    assert len(rows) >= 2
    for row, end in zip(rows, ends.tolist(), strict=True):
        pending = feeder.at_instant(end)
        assert pending.known < end + 0.1 * 300  # the resampling filter's reach is all that is waited for
        np.testing.assert_array_equal(feeder.cut(pending, ring, ()).inputs[0], row)


def test_a_strip_that_is_too_short_has_no_window() -> None:
    strip = af_strips.Strip("A", 300.0, np.zeros(2900, np.float32), 0)
    rows, ends = af_strips.cut(strip, af_10s.cutter(300.0), 2.0)
    assert len(rows) == len(ends) == 0


def test_labels_that_are_none_are_refused(tmp_path: Path) -> None:
    folder = tmp_path / "cinc2017"
    with pytest.raises(DataError, match="REFERENCE"):
        af_strips.labels(tmp_path)
    folder.mkdir()
    (folder / "REFERENCE.csv").write_text("A1,N\nA2,~\nA3,A\n")
    assert af_strips.labels(tmp_path) == {"A1": 0, "A2": 3, "A3": 1}
    (folder / "REFERENCE.csv").write_text("A1,N\nA2,X\n")
    with pytest.raises(DataError, match="A2"):
        af_strips.labels(tmp_path)
    with pytest.raises(DataError, match="A1"):
        af_strips.read(tmp_path, "A1", 0)


def test_no_recording_is_on_both_sides_whatever_the_fold() -> None:
    found = {f"A{i:03d}": i % 4 for i in range(203)}
    tested = []
    for fold in range(af_strips.FOLDS):
        sets = af_10s.by_set(found, fold)
        assert sum(map(len, sets.values())) == len(set().union(*sets.values())) == len(found)
        assert {found[name] for name in sets["validation"]} == {0, 1, 2, 3}
        tested += sets["test"]
    assert sorted(tested) == sorted(found)


# --- simulated rhythms and observers --------------------------------------------------------------------------------------


def test_simulated_fibrillation_has_the_entropy_of_fibrillation_and_sinus_rhythm_has_not() -> None:
    rng = np.random.default_rng(0)
    ill = np.array([cosen(row[-30:]) for row in np.clip(af_simulate.fibrillation(rng, 200, 64), 0.2, 3)])
    well = np.array([cosen(row[-30:]) for row in np.clip(af_simulate.sinus(rng, 200, 64), 0.2, 3)])
    assert (ill > ENTER).mean() > 0.9
    assert (well < LEAVE).mean() > 0.8


@pytest.mark.parametrize("make", [make for make, _ in af_simulate.REGULAR] + [af_simulate.fibrillation])
def test_simulated_intervals_are_positive_and_as_many_as_asked(make: object) -> None:
    x = make(np.random.default_rng(1), 50, 70)  # type: ignore[operator]
    assert x.shape == (50, 70)
    assert np.isfinite(x).all()
    assert (x > 0).all()


def test_jitter_moves_beats_and_no_time_is_lost() -> None:
    x = np.full((40, 64), 0.8)
    moved = af_simulate.jitter(x, np.random.default_rng(2), 1.0)
    assert (np.abs(moved - x).max(1) > 0).all()
    assert np.abs(moved.sum(1) - x.sum(1)).max() < 0.2  # the two ends alone


def test_a_missed_beat_makes_one_interval_of_two_and_a_false_one_two_of_one() -> None:
    rng = np.random.default_rng(3)
    row = np.full(64, 1.0)
    seen = set()
    for _ in range(50):
        made = af_simulate.misheard(row, rng)
        assert made.shape == row.shape
        seen |= {"missed"} if (made > 1.9).any() else set()
        seen |= {"false"} if (made < 0.71).any() else set()
    assert seen == {"missed", "false"}


def test_augmented_rows_stay_what_the_daemon_would_give() -> None:
    rows = af_rr.logarithms(af_simulate.with_fibrillation(np.random.default_rng(4), 300, af_rr.INTERVALS))
    made = af_rr.TASK.augment({"rr": rows}, np.random.default_rng(5), 1.0)["rr"]
    assert made.shape == rows.shape
    assert np.isfinite(made).all()
    assert np.abs(made).max() <= af_rr.CLIP
    assert np.abs(np.median(made, 1)).max() < 0.05  # still about its own median
    assert (made != rows).any(1).mean() > 0.4
    ecg = RNG.normal(0, 1, (64, af_10s.SAMPLES)).astype(np.float32)
    changed = af_10s.TASK.augment({"ecg": ecg}, np.random.default_rng(5), 1.0)["ecg"]
    assert changed.shape == ecg.shape
    assert np.abs(changed.mean(1)).max() < 1e-4
    assert np.abs(changed.std(1) - 1).max() < 1e-3


# --- the net -----------------------------------------------------------------------------------------------------------


def test_the_recurrence_net_begins_as_a_count_of_matches() -> None:
    """Its maps before any training, against a count in plain Python."""
    import tensorflow as tf
    from edge_train.fitting.architectures import build
    from edge_train.fitting.rhythm_nets import LAGS, TOLERANCES

    model = build(af_rr.TASK, af_rr.TASK.plans["ecg-af-rr"])
    maps = tf.keras.Model(model.inputs, model.get_layer("rr_maps").output)
    row = RNG.normal(0, 0.1, af_rr.INTERVALS).astype(np.float32)
    found = maps(row.reshape(1, 1, -1, 1)).numpy()[0, 0]
    for start in (0, 11, af_rr.INTERVALS - LAGS - 1):
        for lag in (1, 2, LAGS):
            apart = abs(float(row[start + lag] - row[start]))
            expected = [max(0.0, 1 - apart / tolerance) for tolerance in TOLERANCES]
            assert found[start, len(TOLERANCES) * (lag - 1) :][: len(TOLERANCES)] == pytest.approx(expected, abs=1e-5)


def test_from_simulated_patients_to_a_verdict_of_the_daemon(tmp_path: Path) -> None:
    """Fit, int8, pack, load and ask: what fibrillates is told from what is merely irregular, by rows never seen."""
    from edge_train.fitting.fit import fit, load_fit
    from edge_train.packing.export import representative_windows, to_int8, tpu_problems
    from edge_train.packing.pack import pack

    task = af_rr.TASK
    train, other = (af_rr._simulated(np.random.default_rng(seed)) for seed in (0, 1))
    pick = RNG.permutation(len(other))[:1500]
    split = Split(train, other.pick(pick), other.pick(pick[:10]), {"digest": "none"})
    plan = replace(task.plans["ecg-af-rr"], epochs=2, per_epoch=8000)
    facts = fit(task, split, plan, 0, tmp_path / "run")
    assert facts["validation"] > 0.85
    tflite = to_int8(load_fit(task, tmp_path / "run", batch=1)[0], representative_windows(split.train, 200, 0))
    assert not tpu_problems(tflite)
    assert len(tflite) < 100_000
    shown = representative_windows(split.train, 16, 0)
    pack(
        tflite,
        task.about("ecg-af-rr", {"digest": "0"}, 0, facts["thresholds"]),
        shown,
        tmp_path / "models" / "ecg-af-rr",
    )
    judge = Judge(load_models(tmp_path / "models"))
    right = []
    for label in (0, 1):
        for row in other.inputs["rr"][other.label == label][:150]:
            verdict = judge.ask(Window("ecg-af-rr", "ecg", 1, 1, (row,), None))
            right.append(verdict.label == task.labels[label])
    assert np.mean(right) > 0.8


# --- figures -----------------------------------------------------------------------------------------------------------


def test_time_is_counted_to_the_next_verdict_and_no_longer_than_it_holds() -> None:
    edges = np.array([0.0, 10.0, 20.0, 40.0])
    truth = np.array([False, True, False, False])
    made = af_figures.in_time(np.array([5.0, 12.0, 22.0]), np.array([False, True, False]), edges, truth)
    # 5-10 none/none; 10-12 late; 12-20 hit; 20-22 false; 22-32 none/none, then nothing is said
    assert (made.hit, made.missed, made.quiet, made.false) == (8.0, 2.0, 15.0, 2.0)
    assert made.sensitivity == pytest.approx(80)
    assert made.specificity == pytest.approx(100 * 15 / 17)


def test_flutter_left_out_counts_neither_way() -> None:
    edges, names = np.array([0.0, 10.0, 20.0, 30.0]), np.array(["N", "AFL", "AFIB"])
    newest, said = np.array([0.0, 14.0, 22.0]), np.array([False, True, True])
    made = af_figures._without(newest, said, edges, names, names == "AFL")
    assert (made.hit, made.missed, made.quiet, made.false) == (10.0, 0.0, 10.0, 0.0)


def test_recordings_are_weighted_to_the_whole_set() -> None:
    truth = np.array([0, 0, 1, 1, 2, 2, 3, 3])
    scores = np.eye(4, dtype=np.float32)[[0, 1, 1, 1, 2, 2, 3, 3]]
    made = af_figures.strip_measures(truth, scores, intervals=False)
    assert made["as here"]["F1 A"] == pytest.approx(80)
    share = 5050 / 2  # one of the two N is called A
    assert made["whole set's proportions"]["F1 A"] == pytest.approx(200 * 738 / (2 * 738 + share), abs=0.01)
    assert made["confusion"][0] == [1, 1, 0, 0]


def test_the_best_threshold_is_the_one_with_most_to_spare() -> None:
    score = np.concatenate([np.linspace(0.5, 1, 100), np.linspace(0, 0.45, 100)]).astype(np.float32)
    ill = np.arange(200) < 100
    points = af_rr.operating_points(score, ill, np.array(["a"] * 100 + ["b"] * 100))
    assert 0.44 < af_rr.best_point(points) < 0.51


def test_a_recording_is_the_geometric_mean_of_its_windows() -> None:
    names, scores = af_strips.aggregate(
        np.array([[0.9, 0.1], [0.1, 0.9], [0.2, 0.8]], np.float32), np.array(["b", "b", "a"])
    )
    assert names.tolist() == ["a", "b"]
    assert scores[1].tolist() == pytest.approx([0.5, 0.5])
    assert scores[0].tolist() == pytest.approx([0.2, 0.8], abs=1e-6)
