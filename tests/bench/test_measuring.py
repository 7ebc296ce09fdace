"""Distributions, the method, and taking the journey apart."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from edge_agent.bench import stages
from edge_agent.bench.distribution import Series, agreement, distribution, read_histogram, spread
from edge_agent.bench.method import SEGMENTS, Contender, Method, Session, in_turns
from edge_agent.bench.report import Segment
from edge_agent.inference.loaded import load_models, shipped_models

MODEL = "ecg-beat-aami"


def test_a_distribution_is_whole_and_any_hdr_library_reads_it() -> None:
    ns = np.random.default_rng(1).lognormal(10, 0.5, 20_000).astype(int).tolist()
    found = distribution(ns)
    assert found is not None
    assert found.count == 20_000
    for name, percent in (("p50_us", 50), ("p90_us", 90), ("p95_us", 95), ("p99_us", 99), ("p99_9_us", 99.9)):
        exact = np.percentile(ns, percent) / 1000
        assert getattr(found, name) == pytest.approx(exact, rel=3e-3), name
    assert found.min_us == min(ns) / 1000
    assert found.max_us == max(ns) / 1000
    theirs = HdrHistogram.decode(found.histogram)
    assert theirs.get_total_count() == 20_000
    assert theirs.get_value_at_percentile(97) / 1000 == pytest.approx(np.percentile(ns, 97) / 1000, rel=3e-3)


@pytest.mark.parametrize(("count", "known"), [(9, 0), (10, 1), (99, 2), (100, 3), (999, 3), (1000, 4)])
def test_of_few_calls_no_high_percentile_is_said(count: int, known: int) -> None:
    found = distribution([1000 + i for i in range(count)])
    assert found is not None
    given = [found.p90_us, found.p95_us, found.p99_us, found.p99_9_us]
    expected = {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}[known]
    assert sum(one is not None for one in given) == expected


def test_late_calls_are_counted_over_all_segments() -> None:
    series = Series()
    for _ in range(4):
        series.add([1_000_000] * 10 + [30_000_000])
        series.cut(0.0)
    assert series.above(20.0) == 4
    assert series.count == 44
    assert len(series.segments) == 4


def test_nothing_measured_is_no_distribution_and_no_segment() -> None:
    series = Series()
    series.cut(1.0)
    assert series.distribution() is None
    assert series.segments == []


@pytest.mark.parametrize("damage", ["", "HISTF", "no base64 !", "HISTFAAAAB"])
def test_a_damaged_histogram_is_a_value_error(damage: str) -> None:
    with pytest.raises(ValueError, match="no HDR histogram"):
        read_histogram(damage)


def segments(*p50s: float) -> list[Segment]:
    return [Segment(at_s=i, count=100, p50_us=p, p90_us=p, p99_us=None, max_us=p) for i, p in enumerate(p50s)]


def test_spread_and_agreement() -> None:
    assert spread(segments(10, 10)).p50_us is None
    assert spread(segments(9, 10, 11)).p50_us == pytest.approx(1.0)
    assert spread(segments(9, 10, 11)).p99_us is None
    even = agreement(segments(10, 10, 10, 10.2, 10.2, 10.2), 10.1)
    assert even is not None
    assert even.within_5_percent
    drifting = agreement(segments(10, 10, 10, 11, 11, 11), 10.5)
    assert drifting is not None
    assert drifting.within_5_percent is False
    far_from_before = agreement(segments(10, 10, 10, 10, 10, 10), 10, ("old.json", 12.0))
    assert far_from_before is not None
    assert far_from_before.within_5_percent is False
    assert agreement(segments(10, 10), 10) is None


def test_a_run_ends_when_both_time_and_count_are_reached() -> None:
    quick, slow = Contender(lambda _: None, (None,)), Contender(lambda _: time.sleep(0.002), (None,))
    method = Method(warmup_s=0.001, warmup_calls=3, run_s=0.05, run_calls=40)
    seconds = in_turns([quick, slow], method, Session(), "test")
    assert slow.series.count >= 40  # the time alone would be 25 of them
    assert quick.series.count >= 40
    assert seconds >= 0.08
    assert slow.first_ns is not None
    assert 3 <= len(slow.series.segments) <= SEGMENTS + 1
    assert sum(one.count for one in slow.series.segments) == slow.series.count


def test_turns_are_short_so_that_load_meets_all_alike() -> None:
    order: list[str] = []
    contenders = [Contender(lambda _, name=name: order.append(name), (None,)) for name in "ab"]  # type: ignore[misc]
    in_turns(contenders, Method(warmup_s=0.001, warmup_calls=1, run_s=0.2, run_calls=10), Session(), "test")
    changes = sum(a != b for a, b in itertools.pairwise(order))
    assert changes >= SEGMENTS


def test_an_interruption_ends_the_run_and_keeps_what_there_is() -> None:
    session = Session()
    calls = itertools.count()

    def call(_: object) -> None:
        if next(calls) == 200:
            session.interrupted = True

    one = Contender(call, (None,))
    in_turns([one], Method(warmup_s=1e-9, warmup_calls=5, run_s=60, run_calls=10**6), session, "test")
    assert 100 < one.series.count <= 201


# -- stages -----------------------------------------------------------------------------------------------------------


def test_every_stage_is_where_the_table_says() -> None:
    """If this fails the code has moved: bench/stages.py names its places."""
    assert stages.missing() == []
    assert {place.stage for place in stages.places()} | {"dequantise"} == {name for name, _ in stages.STAGES}


class Clock:
    """Time that passes when it is told to: the machine may be as busy as it likes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.ns = 0
        monkeypatch.setattr("edge_agent.bench.stages.time.perf_counter_ns", lambda: self.ns)

    def passes(self, ms: float) -> None:
        self.ns += round(ms * 1e6)


def test_own_time_is_without_what_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Clock(monkeypatch)
    clock = stages.StageClock()
    inner = clock.timed(lambda: wall.passes(20), "invoke", "dequantise")

    def outer() -> None:
        wall.passes(10)
        inner()
        wall.passes(5)

    clock.timed(outer, "quantise", None)()
    clock.lap()
    assert clock.taken == {"quantise": [10_000_000], "invoke": [20_000_000], "dequantise": [5_000_000]}


def test_a_lap_sums_what_belongs_to_one_window(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Clock(monkeypatch)
    clock = stages.StageClock()
    step = clock.timed(wall.passes, "rules", None)
    for _ in range(2):
        step(3)
        step(4)
        clock.lap()
    assert clock.taken == {"rules": [7_000_000, 7_000_000]}


def test_what_a_generators_reader_does_is_not_the_generators_time(monkeypatch: pytest.MonkeyPatch) -> None:
    wall = Clock(monkeypatch)
    clock = stages.StageClock()

    def numbers() -> Iterator[int]:
        for i in range(3):
            wall.passes(2)
            yield i

    for _ in clock.timed(numbers, "rules", None)():
        wall.passes(20)
    assert clock.totals() == {"rules": 6_000_000}


def test_the_classes_are_as_they_were_afterwards() -> None:
    before = [(place.owner, place.method, getattr(place.owner, place.method)) for place in stages.places()]

    def fail() -> None:
        with stages.taken_apart(stages.StageClock()):
            assert getattr(*before[0][:2]) is not before[0][2]
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    for owner, method, function in before:
        assert getattr(owner, method) is function, method


def test_a_call_is_taken_apart_into_its_three_stages() -> None:
    model = load_models(shipped_models(), [MODEL])[MODEL]
    clock = stages.StageClock()
    inputs = tuple(array[0] for array in model.artifact.golden_inputs)
    with stages.taken_apart(clock):
        model.engine.invoke(inputs)
    clock.lap()
    assert {"quantise", "invoke", "dequantise"} == clock.taken.keys()
