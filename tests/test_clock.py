"""Time: the sample index is the clock; the time of day is looked up and moves no interval."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from edge_agent import clock
from edge_agent.clock import LiveClock, RecordedClock, utc_of_monotonic
from edge_agent.events import Beat, Gap
from edge_agent.stamp import REPLAYED, Moment, Stamp

FS = 250.0
BLOCK = 10
SECOND = 1_000_000_000


class Clocks:
    """The machine's two clocks, in our hands."""

    def __init__(self) -> None:
        self.ns = 5_000 * SECOND
        self.utc_at_zero = datetime(2026, 3, 1, tzinfo=UTC)

    def utc(self) -> datetime:
        return self.utc_at_zero + timedelta(microseconds=self.ns / 1000)


@pytest.fixture
def clocks(monkeypatch: pytest.MonkeyPatch) -> Clocks:
    made = Clocks()

    class Datetime(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            assert tz is UTC
            return made.utc()

    monkeypatch.setattr(time, "monotonic_ns", lambda: made.ns)
    monkeypatch.setattr(clock, "datetime", Datetime)
    return made


def play(
    live: LiveClock,
    clocks: Clocks,
    seconds: float,
    *,
    real_fs: float = FS,
    first: int = 0,
    jitter_s: float = 0.0,
    seed: int = 0,
) -> int:
    """Blocks of ``BLOCK`` samples taken at ``real_fs``, each arriving late by up to ``jitter_s``; the last one's end.

    Sample i is taken at clock zero + i / real_fs; a block arrives when its last sample has been taken.
    """
    late = np.random.default_rng(seed)
    zero = clocks.ns - round(first / real_fs * SECOND)
    end = first
    while (end - first) / real_fs < seconds:
        end += BLOCK
        clocks.ns = max(clocks.ns, zero + round((end / real_fs + late.uniform(0, jitter_s)) * SECOND))
        live.arrived(end, clocks.ns)
    return end


def seconds(found: datetime | None, wanted: datetime) -> float:
    assert found is not None
    return (found - wanted).total_seconds()


def test_nothing_is_known_before_anything_arrived() -> None:
    live = LiveClock(FS)
    assert live.utc(100) is None
    assert live.measured_fs is None


def test_a_steady_board_is_dated_to_the_millisecond(clocks: Clocks) -> None:
    live = LiveClock(FS)
    began = clocks.utc()
    play(live, clocks, 60)
    for sample in (0, 1, 7_000, 14_000):
        assert abs(seconds(live.utc(sample), began + timedelta(seconds=sample / FS))) < 0.001
    assert live.measured_fs == pytest.approx(FS, rel=1e-6)


@pytest.mark.parametrize("real_fs", [0.98 * FS, 1.02 * FS])
def test_a_crystal_that_is_off_by_2_percent_is_reported_and_times_do_not_run_away(
    clocks: Clocks, real_fs: float
) -> None:
    live = LiveClock(FS)
    began = clocks.utc()
    end = 0
    worst = 0.0
    for _ in range(60):  # ten minutes: 12 s off by the sample count alone
        end = play(live, clocks, 10, real_fs=real_fs, first=end)
        worst = max(worst, abs(seconds(live.utc(end), began + timedelta(seconds=end / real_fs))))
    assert live.measured_fs == pytest.approx(real_fs, rel=1e-4)
    assert worst < 0.45  # what two stretches of 10 s drift apart


def test_the_rate_is_not_guessed_from_too_little(clocks: Clocks) -> None:
    live = LiveClock(FS)
    play(live, clocks, LiveClock.TRUSTED_AFTER_S)
    assert live.measured_fs is None
    play(live, clocks, 30, first=round(LiveClock.TRUSTED_AFTER_S * FS))
    assert live.measured_fs is not None


@pytest.mark.parametrize("seed", range(3))
def test_late_arrivals_move_neither_the_times_nor_the_rate(clocks: Clocks, seed: int) -> None:
    """Blocks late by up to 80 ms: the least delayed one of each ten seconds tells."""
    live = LiveClock(FS)
    began = clocks.utc()
    end = play(live, clocks, 120, jitter_s=0.08, seed=seed)
    assert abs(seconds(live.utc(end), began + timedelta(seconds=end / FS))) < 0.005
    assert live.measured_fs == pytest.approx(FS, rel=2e-4)


def test_one_long_stall_is_not_taken_for_drift(clocks: Clocks) -> None:
    """The reader slept for two seconds, then took all that had waited."""
    live = LiveClock(FS)
    began = clocks.utc()
    end = play(live, clocks, 30)
    woken = clocks.ns + 2 * SECOND
    clocks.ns = woken
    for _ in range(50):
        end += BLOCK
        live.arrived(end, woken)
    end = play(live, clocks, 30, first=end)
    assert abs(seconds(live.utc(end), began + timedelta(seconds=end / FS))) < 0.001
    assert live.measured_fs == pytest.approx(FS, rel=1e-5)


@pytest.mark.parametrize("real_fs", [200.0, 250.0, 360.0])
def test_a_wrong_rate_is_seen_after_ten_seconds_despite_a_backlog_at_the_start(clocks: Clocks, real_fs: float) -> None:
    live = LiveClock(FS)
    live.arrived(2000, clocks.ns)
    end = play(live, clocks, 9.5, real_fs=real_fs, first=2000)
    assert live.rough_fs is None
    play(live, clocks, 1, real_fs=real_fs, first=end)
    assert live.rough_fs == pytest.approx(real_fs, rel=0.02)


def test_no_sample_is_later_than_its_arrival(clocks: Clocks) -> None:
    """A loss that was guessed too great makes indices run ahead of the clock, and a board may be faster than it says."""
    live = LiveClock(FS)
    end = play(live, clocks, 25)
    end += round(3 * FS)
    for _ in range(1000):
        end += BLOCK
        clocks.ns += round(BLOCK / (1.3 * FS) * SECOND)
        live.arrived(end, clocks.ns)
        assert seconds(live.utc(end), clocks.utc()) <= 1e-5


def test_a_step_of_utc_moves_the_time_of_day_and_no_interval(clocks: Clocks) -> None:
    live = LiveClock(FS)
    play(live, clocks, 60)
    before = [live.utc(sample) for sample in (1000, 1250, 14_000)]
    rate = live.measured_fs
    clocks.utc_at_zero -= timedelta(hours=3)
    after = [live.utc(sample) for sample in (1000, 1250, 14_000)]
    for old, new in zip(before, after, strict=True):
        assert old is not None
        assert new is not None
        assert old - new == timedelta(hours=3)
    assert live.measured_fs == rate
    play(live, clocks, 60, first=15_000)
    assert live.measured_fs == pytest.approx(FS, rel=1e-6)


def test_faster_than_life(clocks: Clocks) -> None:
    """A recording at ten times its speed is measured at its own rate and dated by when its samples came."""
    live = LiveClock(FS, speed=10)
    began = clocks.utc()
    end = play(live, clocks, 60, real_fs=10 * FS)
    assert live.measured_fs == pytest.approx(FS, rel=1e-5)
    assert abs(seconds(live.utc(end), began + timedelta(seconds=end / FS / 10))) < 0.001


def test_the_utc_of_a_monotonic_moment(clocks: Clocks) -> None:
    moment, then = clocks.ns, clocks.utc()
    clocks.ns += 7 * SECOND
    assert abs(seconds(utc_of_monotonic(moment), then)) < 1e-5


def test_a_recording_with_a_date_and_one_without() -> None:
    began = datetime(1999, 12, 31, 23, 59, 59, tzinfo=UTC)
    dated = RecordedClock(FS, began)
    assert dated.utc(0) == began
    assert dated.utc(375) == began + timedelta(seconds=1.5)
    undated = RecordedClock(FS, None)
    undated.arrived(100, 100)
    assert undated.utc(0) is None
    assert undated.measured_fs is None


def test_the_stamp_measures_what_it_can_and_says_null_for_the_rest(clocks: Clocks) -> None:
    stamp = Stamp(device="d", stream="s", session="x", fs=FS, clock=RecordedClock(FS, None))
    replayed = stamp(Beat, 1000, 1100, REPLAYED)
    assert replayed["time"] is None
    assert replayed["arrived"] is None
    latency = replayed["latency"]
    assert (latency.algorithm_ms, latency.queue_ms, latency.compute_ms) == (400.0, None, None)  # type: ignore[attr-defined]
    arrived = clocks.ns
    clocks.ns += 5_000_000
    live = stamp(Beat, 1000, 1100, Moment(arrived, arrived + 2_000_000))
    latency = live["latency"]
    assert (latency.queue_ms, latency.compute_ms) == (2.0, 3.0)  # type: ignore[attr-defined]
    assert abs(seconds(live["arrived"], clocks.utc() - timedelta(milliseconds=5))) < 1e-5  # type: ignore[arg-type]
    assert (replayed["seq"], live["seq"]) == (0, 1)
    assert stamp(Gap, 1000, 1100, REPLAYED)["seq"] == 0  # of each kind apart
