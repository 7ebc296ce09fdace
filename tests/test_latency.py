"""The statistics of delay: right percentiles, the last minute apart from the whole, and nothing that was not measured."""

from __future__ import annotations

import gc
import threading
import time

import numpy as np
import pytest

from edge_agent import events
from edge_agent.outputs.latency import STAGES, LatencyBook


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "monotonic", clock)
    return clock


def test_percentiles_are_those_of_the_numbers() -> None:
    book = LatencyBook()
    rng = np.random.default_rng(1)
    values = rng.lognormal(0.5, 1.0, 20_000)
    for value in values.tolist():
        book.record("queue", value)
    found = book.report()["queue"].since_start
    assert found is not None
    assert found.count == 20_000
    for name, percent in (("p50_ms", 50), ("p90_ms", 90), ("p95_ms", 95), ("p99_ms", 99), ("p99_9_ms", 99.9)):
        assert getattr(found, name) == pytest.approx(np.percentile(values, percent), rel=0.02), name
    assert found.max_ms == pytest.approx(values.max(), rel=0.01)


def test_the_last_minute_forgets_and_the_whole_does_not(clock: Clock) -> None:
    book = LatencyBook()
    book.record("queue", 900.0)
    clock.now += 30
    for _ in range(10):
        book.record("queue", 1.0)
    spans = book.report()["queue"]
    assert spans.last_minute is not None
    assert (spans.last_minute.count, round(spans.last_minute.max_ms, -1)) == (11, 900)
    clock.now += 35  # the first is older than a minute now
    spans = book.report()["queue"]
    assert spans.last_minute is not None
    assert (spans.last_minute.count, round(spans.last_minute.max_ms)) == (10, 1)
    clock.now += 60
    spans = book.report()["queue"]
    assert spans.last_minute is None
    assert spans.since_start is not None
    assert spans.since_start.count == 11
    for _ in range(50):  # slices are used again, not heaped up
        clock.now += 10
        book.record("queue", 2.0)
    spans = book.report()["queue"]
    assert spans.last_minute is not None
    assert spans.last_minute.count == 6


def beat(queue_ms: float | None, compute_ms: float | None) -> events.Beat:
    latency = events.Latency(algorithm_ms=340.0, queue_ms=queue_ms, compute_ms=compute_ms)
    return events.Beat(
        seq=0, session="s", device="d", stream="x", sample=0, time=None, known=0, arrived=None, latency=latency,
        channel="II", confidence=1.0, rr_ms=None,
    )  # fmt: skip


def test_only_what_was_measured_is_said() -> None:
    book = LatencyBook()
    assert book.report() == {}
    book.event(beat(None, None))  # of a replay
    assert book.report() == {}
    book.event(beat(1.0, 0.5))
    report = book.report()
    assert set(report) == {"algorithm", "queue", "compute", "end_to_end"}
    assert set(report) < set(STAGES)
    end = report["end_to_end"].since_start
    assert end is not None
    assert end.p50_ms == pytest.approx(341.5, rel=0.01)


def test_many_threads_lose_nothing() -> None:
    book = LatencyBook()

    def record() -> None:
        for _ in range(5000):
            book.record("queue", 1.0)

    threads = [threading.Thread(target=record) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = book.report()["queue"].since_start
    assert found is not None
    assert found.count == 20_000


def test_a_report_leaves_nothing_for_the_search_for_garbage() -> None:
    """Health reports every few seconds for months; a histogram is 20 KB and a circle of objects."""
    book = LatencyBook()
    book.record("compute", 2.0)
    first = book.report()
    gc.collect()
    gc.disable()
    try:
        assert all(book.report() == first for _ in range(5))
        assert gc.collect() == 0
    finally:
        gc.enable()
