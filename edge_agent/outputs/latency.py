"""How long each stage takes: HDR histograms over the last minute and since the start.

Gil Tene's histograms keep the whole distribution at a fixed precision, so a p99.9 is a count of what happened and no estimate.
"""

from __future__ import annotations

import threading
import time
from collections import deque

from hdrh.histogram import HdrHistogram

from edge_agent import events

STAGES = ("algorithm", "queue", "compute", "invoke", "end_to_end", "acknowledge")
"""algorithm: signal that the method waits for; queue: from arrival to processing; compute: from there to the message; invoke:
inside a model's engine; end_to_end: the first three; acknowledge: from the message's being handed over to the broker's answer."""
LONGEST_US = 120_000_000
DIGITS = 2
SLICE_S = 10.0
SLICES = 6
PERCENTILES = (50.0, 90.0, 95.0, 99.0, 99.9)


def _histogram() -> HdrHistogram:
    return HdrHistogram(1, LONGEST_US, DIGITS)


class _Stage:
    """One stage: everything since the start, and the last minute in slices."""

    def __init__(self) -> None:
        self.total = _histogram()
        self.slices: deque[tuple[float, HdrHistogram]] = deque(maxlen=SLICES)
        self.joined = _histogram()
        """For ``minute``: a histogram is a circle of objects, and those of every second would wait for the search for garbage."""

    def record(self, us: int, now: float) -> None:
        self.total.record_value(us)
        if not self.slices or now - self.slices[-1][0] >= SLICE_S:
            spare = self.slices.popleft()[1] if len(self.slices) == SLICES else _histogram()
            spare.reset()
            self.slices.append((now, spare))
        self.slices[-1][1].record_value(us)

    def minute(self, now: float) -> HdrHistogram:
        """Until it is asked again."""
        self.joined.reset()
        for began, histogram in self.slices:
            if now - began < SLICE_S * SLICES:
                self.joined.add(histogram)
        return self.joined


class LatencyBook:
    """Takes what messages say of their own age; safe from any thread."""

    def __init__(self) -> None:
        self._stages = {name: _Stage() for name in STAGES}
        self._lock = threading.Lock()

    def record(self, stage: str, ms: float) -> None:
        with self._lock:
            self._stages[stage].record(max(1, min(LONGEST_US, round(ms * 1000))), time.monotonic())

    def event(self, event: events.Event) -> None:
        """Beats and verdicts: the messages that come with the signal, not at intervals or in gaps."""
        if not isinstance(event, events.Beat | events.Verdict):
            return
        latency = event.latency
        if latency.queue_ms is None or latency.compute_ms is None:
            return
        self.record("algorithm", latency.algorithm_ms)
        self.record("queue", latency.queue_ms)
        self.record("compute", latency.compute_ms)
        self.record("end_to_end", latency.algorithm_ms + latency.queue_ms + latency.compute_ms)
        if isinstance(event, events.Verdict) and event.invoke_us is not None:
            self.record("invoke", event.invoke_us / 1000)

    def report(self) -> dict[str, events.StageLatency]:
        """Stages that were measured; nothing of those that were not."""
        now = time.monotonic()
        with self._lock:
            return {
                name: events.StageLatency(last_minute=_summary(stage.minute(now)), since_start=_summary(stage.total))
                for name, stage in self._stages.items()
                if stage.total.get_total_count()
            }


def _summary(histogram: HdrHistogram) -> events.Percentiles | None:
    count = histogram.get_total_count()
    if not count:
        return None
    p50, p90, p95, p99, p999 = (histogram.get_value_at_percentile(one) / 1000 for one in PERCENTILES)
    return events.Percentiles(
        count=count,
        p50_ms=p50,
        p90_ms=p90,
        p95_ms=p95,
        p99_ms=p99,
        p99_9_ms=p999,
        max_ms=histogram.get_max_value() / 1000,
    )
