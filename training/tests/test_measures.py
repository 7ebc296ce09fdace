"""Figures that are reported: against counting by hand, and against the daemon's own rule."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from edge_train.measuring import measures, metrics

from edge_agent.inference.labels import label_of
from edge_agent.inference.manifest import Output

RNG = np.random.default_rng(7)
LABELS = ("N", "S", "V")


def test_decide_is_the_daemon_s_rule() -> None:
    output = Output(scores="none", thresholds={"S": 0.4, "N": 0.3})
    manifest = SimpleNamespace(output=output, labels=list(LABELS))
    scores = np.round(RNG.dirichlet([1, 1, 1], 500) * 20) / 20  # coarse, so that there are ties and thresholds hit
    scores = scores.astype(np.float32)
    said = metrics.decide(scores, LABELS, output.thresholds)
    for row, ours in zip(scores, said.tolist(), strict=True):
        label, _, _ = label_of(row, manifest)  # type: ignore[arg-type]
        assert (label is None and ours == metrics.SILENT) or label == LABELS[ours]


def test_no_label_reaches_its_threshold() -> None:
    scores = np.array([[0.5, 0.3, 0.2]], np.float32)
    assert metrics.decide(scores, LABELS, {"N": 0.9, "S": 0.9, "V": 0.9}).tolist() == [metrics.SILENT]


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.7])
def test_two_thresholds_leave_no_score_between(threshold: float) -> None:
    found = metrics.two_thresholds(("normal", "odd"), "odd", threshold)
    odd = np.arange(256) / 256
    for error in (-1 / 256, 0, 1 / 256):  # an int8 softmax's two scores do not always sum to 1
        scores = np.stack([1 - odd + error, odd], 1).astype(np.float32)
        said = metrics.decide(scores, ("normal", "odd"), found)
        assert (said >= 0).all()
        assert (said == (odd >= threshold))[np.abs(odd - threshold) > 3 / 256].all()


def _pairs(score: np.ndarray, truth: np.ndarray) -> float:
    """Mann and Whitney: how often a positive is above a negative, ties half."""
    difference = score[truth][:, None] - score[~truth][None, :]
    return float(((difference > 0) + 0.5 * (difference == 0)).mean())


def test_roc_area_is_the_share_of_pairs_in_order() -> None:
    truth = RNG.random(300) < 0.3
    score = np.round(RNG.normal(truth * 0.8, 1), 1)
    assert metrics.roc_area(score, truth) == pytest.approx(_pairs(score, truth))


def test_average_precision_by_hand() -> None:
    score, truth = np.array([0.9, 0.8, 0.7, 0.6]), np.array([True, False, True, False])
    assert metrics.average_precision(score, truth) == pytest.approx(0.5 * 1 + 0.5 * 2 / 3)
    tied = np.zeros(4)
    assert metrics.average_precision(tied, truth) == pytest.approx(0.5)  # not the luck of their order


def test_best_threshold_is_inside_the_gap() -> None:
    score = np.concatenate([RNG.uniform(0, 0.3, 200), RNG.uniform(0.6, 1, 50)])
    truth = np.arange(250) >= 200
    assert 0.35 < metrics.best_threshold(score, truth, metrics.f_measure) < 0.55


def _two_patients() -> np.ndarray:
    """Rows true, columns said, the last one silence."""
    a = np.array([[90, 5, 3, 2], [4, 6, 0, 0], [0, 0, 10, 0]])
    b = np.array([[50, 0, 0, 0], [20, 0, 0, 0], [0, 0, 10, 0]])
    return np.array([a, b])


def test_measures_by_hand() -> None:
    found = measures.of_tables(_two_patients(), LABELS, ["a", "b"])
    assert found["classes"]["S"]["recall"] == pytest.approx(6 / 30)
    assert found["classes"]["S"]["precision"] == pytest.approx(6 / 11)
    assert found["classes"]["N"]["recall"] == pytest.approx(140 / 150)
    assert found["classes"]["S"]["tp"] == 6
    hits, true, said = 166, 200, 198
    assert found["accuracy"] == pytest.approx(hits / true)
    assert found["micro_f1"] == pytest.approx(2 * hits / (true + said))
    each = [2 * 140 / (150 + 164), 2 * 6 / (30 + 11), 2 * 20 / (20 + 23)]
    assert [found["classes"][label]["f1"] for label in LABELS] == pytest.approx(each)
    assert found["macro_f1"] == found["macro_f1_nsv"] == pytest.approx(np.mean(each))
    chance = (150 * 164 + 30 * 11 + 20 * 23) / 200**2
    kappa = (166 / 200 - chance) / (1 - chance)
    assert found["kappa"] == pytest.approx(kappa)
    assert found["j_kappa"] == pytest.approx(0.5 * kappa + 0.125 * (6 / 30 + 20 / 20 + 6 / 11 + 20 / 23))
    assert found["patients"]["b"]["S"] == {"examples": 20, "recall": 0.0, "precision": None}


def test_a_false_beat_counts_against_precision_alone() -> None:
    plain = measures.of_tables(_two_patients(), LABELS)
    row = np.zeros((2, 1, 4), np.int64)
    row[0, 0, 2] = 20
    with_false = measures.of_tables(np.concatenate([_two_patients(), row], 1), LABELS)
    assert with_false["classes"]["V"]["recall"] == plain["classes"]["V"]["recall"]
    assert with_false["classes"]["V"]["precision"] == pytest.approx(20 / 43)


def test_intervals_are_over_patients_not_over_windows() -> None:
    """Twenty patients who are each all right or all wrong: the interval must be as wide as for twenty coins."""
    truth = np.zeros(2000, np.int64)
    patient = np.repeat([f"p{i}" for i in range(20)], 100)
    said = np.repeat(np.arange(20) % 2, 100).astype(np.int64)
    scores = np.eye(2, dtype=np.float32)[said]
    low, high = measures.measure(scores, said, truth, patient, ("a", "b"))["intervals"]["accuracy"]
    assert low < 0.35
    assert high > 0.65


def test_a_class_that_is_not_there_has_no_figures() -> None:
    table = np.array([[[10, 0, 0, 0], [0, 0, 0, 0], [0, 0, 5, 0]]])
    found = measures.of_tables(table, LABELS)
    assert found["classes"]["S"]["f1"] is None
    assert found["macro_f1"] == pytest.approx(1.0)


def test_calibration_of_honest_and_boastful_scores() -> None:
    right = RNG.random(20_000) < 0.8
    truth = np.where(right, 0, 1)
    for said, error in ((0.8, 0.0), (0.99, 0.19)):
        scores = np.tile(np.array([said, 1 - said], np.float32), (right.size, 1))
        found = measures.calibration(scores, truth)
        assert found["ece"] == pytest.approx(error, abs=0.01)
        assert sum(each["examples"] for each in found["bins"]) == right.size


def test_over_seeds() -> None:
    one = measures.of_tables(_two_patients(), LABELS)
    other = measures.of_tables(_two_patients()[:1], LABELS)
    found = measures.over_seeds([one, other], LABELS)
    assert found["accuracy"]["mean"] == pytest.approx((one["accuracy"] + other["accuracy"]) / 2)
    assert found["accuracy"]["deviation"] == pytest.approx(abs(one["accuracy"] - other["accuracy"]) / np.sqrt(2))
    assert found["S recall"]["seeds"] == 2
