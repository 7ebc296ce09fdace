"""RR intervals: every number against its plain definition, and nothing that bridges what was not seen."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.inference.manifest import RR_FEATURES
from edge_agent.signal.rr import _FEATURES, HISTORY, LONGEST_RR_S, RrHistory

FS = 250.0


def history_of(steps: list[int]) -> RrHistory:
    """After a first beat and one more after each of these numbers of samples."""
    rr = RrHistory(FS)
    at = 1000
    rr.beat(at)
    for step in steps:
        at += step
        rr.beat(at)
    return rr


def naive(name: str, rr: list[float]) -> float:
    """The feature as a person would write it down: ``rr`` in seconds, oldest first, the last one the newest beat's."""
    newest, before = rr[-1], rr[:-1]

    def within(seconds: float) -> list[float]:
        """The intervals before the newest that together last no longer than that."""
        kept: list[float] = []
        for interval in reversed(before):
            if sum(kept) + interval > seconds + 1e-9:
                break
            kept.append(interval)
        return kept

    def against(reference: list[float], percent: float, value: float) -> float:
        return math.log(value / float(np.percentile(reference, percent))) if len(reference) >= 3 else 0.0

    def spread(intervals: list[float]) -> float:
        return float(np.std(intervals) / np.mean(intervals)) if len(intervals) >= 4 else 0.0

    def step(intervals: list[float]) -> float:
        jumps = [abs(b - a) for a, b in itertools.pairwise(intervals)]
        return float(np.median(jumps) / np.mean(intervals)) if len(intervals) >= 4 else 0.0

    def middle_deviation(intervals: list[float]) -> float:
        if len(intervals) < 3:
            return 0.0
        middle = float(np.median(intervals))
        return float(np.median([abs(one - middle) for one in intervals])) / middle

    match name:
        case "rr_last_log":
            return math.log(newest / before[-1]) if before else 0.0
        case "rr_median8_log":
            return math.log(newest / float(np.median(before[-8:]))) if len(before) >= 2 else 0.0
        case "rr_mean32_log":
            return math.log(newest / float(np.mean(before[-32:]))) if len(before) >= 2 else 0.0
        case "rr_prev_median8_log":
            return math.log(before[-1] / float(np.median(before[:-1][-8:]))) if len(before) >= 3 else 0.0
        case "rr_cv16":
            return spread(rr[-16:])
        case "rr_step8":
            return step(rr[-9:])
    last = within(int(re.findall(r"_(\d+)s", name)[0]))
    match name.split("_")[1:]:
        case ["cv", _]:
            return spread(last)
        case ["mad", _]:
            return middle_deviation(last)
        case ["step", _]:
            return step(last[::-1])
        case [percentile, "p50", _, "log"]:
            return against(last, 50, float(np.percentile(last, int(percentile[1:])))) if last else 0.0
        case ["prev", percentile, _, "log"]:
            return against(last, int(percentile[1:]), before[-1]) if before else 0.0
        case [percentile, _, "log"]:
            return against(last, int(percentile[1:]), newest)
    raise AssertionError(f"no definition of {name} here")


@given(st.lists(st.integers(50, 750), min_size=1, max_size=60))
@settings(deadline=None)
def test_every_feature_is_what_it_says(steps: list[int]) -> None:
    rr = history_of(steps)
    seconds = [step / FS for step in steps]
    found = rr.features(RR_FEATURES)
    assert found.dtype == np.float32
    for name, value in zip(RR_FEATURES, found, strict=True):
        assert value == pytest.approx(naive(name, seconds), abs=2e-6), name


def test_long_histories_too() -> None:
    """Past a minute, five minutes and the buffer's own length."""
    steps = np.random.default_rng(5).integers(90, 400, 1500).tolist()
    rr = history_of(steps)
    assert len(rr.intervals_s) == HISTORY
    seconds = [step / FS for step in steps]
    for name, value in zip(RR_FEATURES, rr.features(RR_FEATURES), strict=True):
        assert value == pytest.approx(naive(name, seconds), abs=2e-6), name


def test_the_buffer_holds_five_minutes_of_the_fastest_rhythm() -> None:
    """rr_p75_300s_log asks for them: at 200 per minute."""
    assert HISTORY >= 5 * 200


def test_features_come_in_the_order_asked() -> None:
    rr = history_of([200, 180, 260, 210, 190, 300])
    a, b = rr.features(["rr_last_log", "rr_cv16"]), rr.features(["rr_cv16", "rr_last_log"])
    assert a.tolist() == b.tolist()[::-1]
    assert a[0] == pytest.approx(math.log(300 / 190))


def test_every_feature_of_a_manifest_is_known_here() -> None:
    assert set(RR_FEATURES) == set(_FEATURES)
    assert history_of([200] * 40).features(RR_FEATURES).shape == (len(RR_FEATURES),)


def test_features_do_not_depend_on_the_absolute_rate() -> None:
    """Ratios carry over from patient to patient, seconds do not."""
    steps = np.random.default_rng(2).integers(100, 140, 9).tolist()  # under 10 s at either rate
    slow = history_of([2 * step for step in steps])
    np.testing.assert_allclose(slow.features(RR_FEATURES), history_of(steps).features(RR_FEATURES), atol=1e-6)


def test_a_first_beat_has_no_interval_and_no_features() -> None:
    rr = RrHistory(FS)
    assert not rr.features(RR_FEATURES).any()
    assert rr.beat(500) is None
    assert not rr.features(RR_FEATURES).any()
    assert rr.sequence(2, "seconds") is None
    assert rr.beat(700) == pytest.approx(0.8)


def test_a_gap_is_not_bridged_and_the_past_stays() -> None:
    rr = history_of([200, 220, 180, 240, 210])
    rr.gap()
    assert not rr.features(RR_FEATURES).any()
    assert rr.beat(99_000) is None
    assert not rr.features(RR_FEATURES).any()  # the newest interval is not this beat's
    assert list(rr.intervals_s) == [step / FS for step in (200, 220, 180, 240, 210)]
    assert rr.beat(99_100) == pytest.approx(0.4)
    assert rr.features(["rr_last_log"])[0] == pytest.approx(math.log(100 / 210), abs=1e-6)


def test_a_pause_is_said_but_not_learned_from() -> None:
    rr = history_of([200, 200, 200])
    last = 1000 + 600
    just, longer = round(LONGEST_RR_S * FS), round(LONGEST_RR_S * FS) + 1
    assert rr.beat(last + longer) == pytest.approx(longer / FS)  # who publishes it wants it as it was
    assert len(rr.intervals_s) == 3
    assert not rr.features(RR_FEATURES).any()
    assert rr.beat(last + longer + just) == pytest.approx(LONGEST_RR_S)
    assert rr.intervals_s[-1] == LONGEST_RR_S


def test_beats_out_of_order_are_no_interval() -> None:
    """Two detectors' answers merged wrongly must not poison the logarithms."""
    rr = history_of([200, 200])
    assert rr.beat(1400) == 0
    assert rr.beat(1390) is not None
    assert list(rr.intervals_s) == [0.8, 0.8]
    assert not rr.features(RR_FEATURES).any()


def test_sequences() -> None:
    rr = history_of([250, 125, 500])
    assert rr.sequence(4, "seconds") is None
    seconds = rr.sequence(3, "seconds")
    logs = rr.sequence(3, "log_median")
    newest = rr.sequence(2, "seconds")
    assert seconds is not None
    assert logs is not None
    assert newest is not None
    assert seconds.dtype == logs.dtype == np.float32
    assert seconds.tolist() == [1.0, 0.5, 2.0]  # oldest first
    assert newest.tolist() == [0.5, 2.0]
    np.testing.assert_allclose(logs, [0, math.log(0.5), math.log(2)], atol=1e-6)
