"""What the QRS detector promises to what comes after it: order, delay, blocks, gaps, the end."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.signal import qrs
from edge_agent.signal.qrs import make_qrs_detector
from edge_agent.signal.qrs_design import INPUTS
from tests.signal.qrs_signals import detect, ecg, feed, shares, stretch

METHODS = qrs.METHODS
DELAY_S = {"native": 0.35, "native:rules": 0.36, "native:rules-fast": 0.27}


@settings(max_examples=40, deadline=None)
@given(
    st.sampled_from(METHODS),
    st.lists(st.integers(1, 3000), min_size=1, max_size=40),
    st.integers(0, 1 << 40),
    st.booleans(),
)
def test_blocks_make_no_difference(method: str, sizes: list[int], first: int, spoilt: bool) -> None:
    x, _ = ecg(200, 40, noise_mv=0.08)
    if spoilt:
        x[2000:2300], x[5000] = np.nan, np.inf
    whole = make_qrs_detector(200, "II", method, first)
    expected = [*whole.feed(x, first), *whole.flush()]
    cut = make_qrs_detector(200, "II", method, first)
    found, at = [], 0
    while at < len(x):
        size = sizes[at % len(sizes)]
        found += cut.feed(x[at : at + size], first + at)
        at += size
    assert [*found, *cut.flush()] == expected
    assert len(expected) > 30


@pytest.mark.parametrize("method", METHODS)
def test_one_sample_at_a_time(method: str) -> None:
    x, _ = ecg(128, 15)
    one = detect(x, 128, method, block_s=1 / 128)
    assert one == detect(x, 128, method, block_s=100)
    assert len(one) > 12


@pytest.mark.parametrize("method", METHODS)
def test_finds_every_beat_in_time_and_in_order(method: str) -> None:
    x, peaks = ecg(360, 120)
    found = detect(x, 360, method)
    assert shares([b.sample / 360 for b in found], [p / 360 for p in peaks], 0.01) == (1.0, 1.0)
    assert all(a.known <= b.known for a, b in pairwise(found))
    delays = [(b.known - b.sample) / 360 for b in found if b.sample > 4 * 360]
    assert min(delays) > 0
    assert np.mean(delays) <= DELAY_S[method]
    assert all(0 <= b.confidence <= 1 for b in found)
    assert {b.channel for b in found} == {"II"}


@pytest.mark.parametrize("fs", [100.0, 360.0, 1000.0])
@pytest.mark.parametrize("method", METHODS)
def test_learns_within_three_seconds_and_says_so(method: str, fs: float) -> None:
    x, peaks = ecg(fs, 20)
    quiet = np.zeros(round(7 * fs), np.float32)
    detector = make_qrs_detector(fs, "II", method)
    assert feed(detector, quiet, 0, 50) == []
    assert not detector.learned
    found = feed(detector, x[: round(3 * fs)], len(quiet), 10)
    assert detector.learned
    true = [(p + len(quiet)) / fs for p in peaks if p < 2.6 * fs]
    assert shares([b.sample / fs for b in found], true, 0.02) == (1.0, 1.0)


def test_confidence_is_lower_where_there_is_noise() -> None:
    clean = detect(ecg(360, 120, noise_mv=0.005)[0], 360)
    noisy = detect(ecg(360, 120, noise_mv=0.4)[0], 360)
    assert np.mean([b.confidence for b in clean]) > 0.98
    assert np.mean([b.confidence for b in noisy]) < np.mean([b.confidence for b in clean]) - 0.01


@pytest.mark.parametrize("method", METHODS)
def test_the_last_beat_comes_with_the_end(method: str) -> None:
    x, peaks = ecg(250, 30)
    x = x[: peaks[-1] + 20]
    detector = make_qrs_detector(250, "II", method)
    before = detector.feed(x, 0)
    rest = detector.flush()
    assert abs(rest[-1].sample - peaks[-1]) <= 3
    assert rest[-1].known == len(x) - 1
    assert len(before) + len(rest) == len(peaks)


def test_a_stream_shorter_than_the_learning_gives_its_beats_at_the_end() -> None:
    x, peaks = ecg(250, 2.2, 80)
    detector = make_qrs_detector(250, "II")
    assert detector.feed(x, 0) == []
    assert shares([b.sample / 250 for b in detector.flush()], [p / 250 for p in peaks], 0.02) == (1.0, 1.0)


def test_flush_of_nothing_is_nothing() -> None:
    assert make_qrs_detector(250, "II").flush() == []


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("lost", [1, 40, 2000, 250 * 40])
def test_nothing_bridges_a_gap(method: str, lost: int) -> None:
    x, peaks = ecg(250, 60)
    cut = peaks[30] + 12  # just after an R peak, before it is decided
    detector = make_qrs_detector(250, "II", method)
    before = detector.feed(x[:cut], 0)
    detector.reset(cut + lost)
    after = [*feed(detector, x[cut:], cut + lost, 25), *detector.flush()]
    assert all(b.sample < cut for b in before)
    assert all(b.sample >= cut + lost for b in after)
    true = [(p + lost) / 250 for p in peaks if p > cut + 25]
    assert shares([b.sample / 250 for b in after], true, 0.02) == (1.0, 1.0)
    delay = (after[0].known - after[0].sample) / 250
    assert delay < 0.45 if lost < 250 * 30 else delay > 0.45  # a long gap has to be learned anew


def test_a_jump_of_the_index_is_a_gap() -> None:
    x, _ = ecg(250, 60)
    told, jumped = make_qrs_detector(250, "II"), make_qrs_detector(250, "II")
    expected = told.feed(x[:5000], 0)
    told.reset(5100)
    expected += told.feed(x[5100:], 5100)
    assert jumped.feed(x[:5000], 0) + jumped.feed(x[5100:], 5100) == expected


def test_refuses_what_it_was_not_made_for() -> None:
    with pytest.raises(ValueError, match="native:rules"):
        make_qrs_detector(250, "II", "pan")
    for fs in (50.0, 5000.0, float("nan")):
        with pytest.raises(ValueError, match="samples per second"):
            make_qrs_detector(fs, "II")


@pytest.mark.parametrize("record", ["100", "103", "119", "200", "208", "221", "233"])
def test_recordings(mitdb: Path, record: str) -> None:
    x, beats = stretch(mitdb, record, 300, 600)
    found = detect(x, 360)
    sensitivity, precision = shares([b.sample / 360 for b in found], [b / 360 for b in beats], 0.15)
    assert sensitivity > 0.99
    assert precision > 0.99
    away = [min(abs(b.sample - true) for true in beats) / 360 for b in found]
    assert np.median(away) <= 0.025


def test_the_weights_say_where_they_come_from() -> None:
    found = json.loads(Path(qrs.__file__).with_name("qrs_weights.json").read_text(encoding="utf-8"))
    assert found["provenance"]["chosen"].startswith("median")
    by_seed = found["provenance"]["f1_by_seed"]
    assert len(by_seed) >= 5
    shipped = by_seed[str(found["provenance"]["seed"])]
    assert sorted(by_seed.values())[(len(by_seed) - 1) // 2] == shipped
    weights = qrs.weights()
    assert len(weights.w1) == INPUTS
    assert {len(row) for row in weights.w1} == {len(weights.b1)} == {len(weights.w2)}
