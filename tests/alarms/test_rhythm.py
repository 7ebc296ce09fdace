"""Fibrillation or not, from beats alone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable

import numpy as np
import pytest

from edge_agent.alarms.rhythm import CONFIRM, ENTER, INTERVALS, MOST_TOLD, STEADY, RhythmFollower, cosen, steady, told

FS = 250.0


def changes(
    intervals_s: Iterable[float], follower: RhythmFollower | None = None, at: int = 0
) -> list[tuple[int, str, int]]:
    """(beat's number, rhythm, since) of every change."""
    follower = follower or RhythmFollower(FS)
    found = []
    for number, interval in enumerate([0.0, *intervals_s]):
        at += round(interval * FS)
        since = follower.beat(at)
        if since is not None:
            found.append((number, follower.rhythm, since))
    return found


def sinus(n: int, mean_s: float = 0.8, seed: int = 1) -> list[float]:
    """Regular with breathing and a little noise."""
    noise = np.random.default_rng(seed).normal(0, 0.012, n)
    return [mean_s * (1 + 0.04 * math.sin(i / 3)) + noise[i] for i in range(n)]


def fibrillation(n: int, mean_s: float = 0.7, seed: int = 1) -> list[float]:
    """Independent intervals with the spread that fibrillation has (about a fifth of the mean)."""
    drawn = np.random.default_rng(seed).gamma(22, mean_s / 22, n)
    return [float(one) for one in np.clip(drawn, 0.3, 1.8)]


@pytest.mark.parametrize("mean_s", [0.4, 0.6, 0.8, 1.2])
@pytest.mark.parametrize("seed", range(5))
def test_sinus_rhythm_at_any_rate_is_n_and_stays_so(mean_s: float, seed: int) -> None:
    found = changes(sinus(400, mean_s, seed))
    assert [rhythm for _, rhythm, _ in found] == ["N"]
    assert found[0][2] == 0  # since the first beat, as far as the beats show


@pytest.mark.parametrize("deep", [0.09, 0.11])
def test_breathing_that_sways_the_intervals_widely_is_no_fibrillation(deep: float) -> None:
    """Breathing and the slower wave of the blood pressure: their entropy alone is that of a fibrillation."""
    noise = np.random.default_rng(4).normal(0, 0.012, 300)
    waves = [math.sin(2 * math.pi * i / 4.2) + math.sin(2 * math.pi * i / 9.3) for i in range(300)]
    swaying = [0.9 * (1 + deep * wave) + noise[i] for i, wave in enumerate(waves)]
    pieces = [np.array(swaying[i : i + INTERVALS]) for i in range(0, 270, 5)]
    assert sum(cosen(piece) > ENTER for piece in pieces) > len(pieces) / 2
    assert all(told(piece) > MOST_TOLD for piece in pieces)
    assert [rhythm for _, rhythm, _ in changes(swaying)] == ["N"]


def test_what_is_told_of_the_next_interval() -> None:
    assert told(np.full(INTERVALS, 0.8)) == 0.0
    fibrillating = [told(np.array(fibrillation(INTERVALS, seed=seed))) for seed in range(200)]
    assert sum(one > MOST_TOLD for one in fibrillating) <= 1
    assert float(np.median(fibrillating)) < 0.2


@pytest.mark.parametrize("mean_s", [0.5, 0.7, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_irregular_intervals_are_fibrillation(mean_s: float, seed: int) -> None:
    found = changes(fibrillation(300, mean_s, seed))
    assert [rhythm for _, rhythm, _ in found] == ["AFIB"]
    assert found[0][0] <= INTERVALS + CONFIRM + 15


@pytest.mark.parametrize(
    "pattern",
    [(0.5, 1.1), (0.8, 0.8, 0.5, 1.1), (0.8, 0.5, 1.1), (0.8,) * 7 + (0.5, 1.1)],
    ids=["bigeminy", "quadrigeminy", "trigeminy", "now and then"],
)
def test_ectopic_beats_in_a_pattern_are_not_fibrillation(pattern: tuple[float, ...]) -> None:
    noise = np.random.default_rng(4).normal(0, 0.01, 400)
    intervals = [one + noise[i] for i, one in enumerate(itertools.islice(itertools.cycle(pattern), 400))]
    assert [rhythm for _, rhythm, _ in changes(intervals)] == ["N"]


def test_onset_and_end_are_found_and_dated_near_where_they_were() -> None:
    intervals = sinus(100) + fibrillation(200) + sinus(200, seed=9)
    found = changes(intervals)
    assert [rhythm for _, rhythm, _ in found] == ["N", "AFIB", "N"]
    times = np.cumsum([0.0, *intervals])
    for (number, _, since), first in zip(found[1:], (100, 300), strict=True):
        assert first < number <= first + 60
        assert abs(since / FS - times[first]) < 8


def test_nothing_is_said_of_fewer_beats_than_it_needs() -> None:
    assert changes(fibrillation(INTERVALS + CONFIRM - 2)) == []
    assert changes(sinus(INTERVALS + CONFIRM - 2)) == []
    assert len(changes(sinus(INTERVALS + CONFIRM - 1))) == 1


def test_intervals_across_a_gap_do_not_count() -> None:
    follower = RhythmFollower(FS)
    assert changes(fibrillation(INTERVALS + CONFIRM - 2), follower) == []
    follower.gap()
    assert changes(fibrillation(INTERVALS + CONFIRM - 2, seed=2), follower, at=100_000) == []
    assert follower.rhythm == "unknown"


def test_a_change_that_a_gap_interrupted_is_dated_after_the_gap() -> None:
    """What leaned towards fibrillation before the gap is no evidence for since when it is so after."""
    follower = RhythmFollower(FS)
    intervals = [*sinus(100), *fibrillation(60)]
    samples = iter(np.round(np.cumsum(intervals) * FS).astype(int).tolist())
    while follower._leaning != "AFIB":
        follower.beat(next(samples))
    assert follower.rhythm == "N"
    follower.gap()
    ((_, rhythm, since),) = changes(fibrillation(100, seed=3), follower, at=1_000_000)
    assert rhythm == "AFIB"
    assert since >= 1_000_000


def naive_cosen(rr: list[float], tolerance: float = 0.03) -> float:
    """Lake & Moorman's definition with counted pairs."""
    n = len(rr)
    for _ in range(12):
        one = sum(abs(rr[i] - rr[j]) < tolerance for i in range(n) for j in range(i + 1, n))
        two = sum(
            abs(rr[i] - rr[j]) < tolerance and abs(rr[i + 1] - rr[j + 1]) < tolerance
            for i in range(n - 1)
            for j in range(i + 1, n - 1)
        )
        if two >= 5:
            return -math.log(two / one) + math.log(2 * tolerance) - math.log(sum(rr) / n)
        tolerance *= 1.25
    return math.inf


@pytest.mark.parametrize("seed", range(10))
def test_the_entropy_is_the_paper_s(seed: int) -> None:
    for rr in (fibrillation(INTERVALS, seed=seed), sinus(INTERVALS, seed=seed), fibrillation(12, 0.5, seed)):
        assert cosen(np.array(rr)) == pytest.approx(naive_cosen(rr))


def test_the_entropy_of_extremes() -> None:
    """A constant rhythm has the lowest there is; intervals that are all different, the highest."""
    assert cosen(np.full(INTERVALS, 0.8)) < -2
    assert cosen(np.arange(1.0, INTERVALS + 1.0)) == math.inf


def with_premature(n: int, per_beat: float, variability: float, seed: int) -> list[float]:
    """Sinus rhythm that sways, with atrial beats that come early and set the sinus node anew."""
    rng = np.random.default_rng(seed)
    sway = 1 + variability * (math.sqrt(2) * np.sin(1.7 * np.arange(n)) + rng.normal(0, 0.15, n))
    found = [float(one) for one in 0.8 * sway]
    early = False
    for i in range(n):
        if not early and rng.uniform() < per_beat:
            found[i] *= rng.uniform(0.62, 0.7)
            early = True
        else:
            found[i] *= 1.08 if early else 1.0
            early = False
    return found


@pytest.mark.parametrize("seed", range(8))
def test_premature_atrial_beats_in_a_rhythm_that_sways_are_no_fibrillation(seed: int) -> None:
    found = changes(with_premature(400, 0.15, 0.05, seed))
    assert {rhythm for _, rhythm, _ in found} == {"N"}


def test_what_is_left_without_the_early_ones_must_hardly_vary() -> None:
    calm = np.array(with_premature(INTERVALS, 0.15, 0.04, 1))
    assert calm.std() > STEADY * calm.mean()
    assert steady(calm)
    assert not any(steady(np.array(fibrillation(INTERVALS, seed=seed))) for seed in range(50))


@pytest.mark.parametrize(("beats", "ended"), [(26, False), (90, True)])
def test_a_fibrillation_that_looks_like_waves_for_a_while_goes_on(beats: int, ended: bool) -> None:
    """Some seconds of it are chance; when the intervals are waves and nothing else it has ended."""
    waves = [0.8 + 0.18 * math.sin(0.5 * i) for i in range(beats)]
    found = changes([*sinus(60), *fibrillation(80), *waves, *fibrillation(30, seed=4)])
    assert [rhythm for _, rhythm, _ in found][:2] == ["N", "AFIB"]
    assert ("N" in [rhythm for _, rhythm, _ in found][2:]) is ended
