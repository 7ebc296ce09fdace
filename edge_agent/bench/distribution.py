"""Times that were measured, kept whole: an HDR histogram of nanoseconds, and a segment now and then.

Gil Tene's histograms keep every value to three digits in some kilobytes, so that a p99.9 is a count of what happened, hours of
calls fit, and whoever gets a report can ask for percentiles that nobody thought of.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from hdrh.histogram import HdrHistogram

from edge_agent.bench.report import Agreement, Distribution, Segment, Spread

LONGEST_NS = 3_600_000_000_000
DIGITS = 3
LEAST_SEGMENTS = 3
AGREES = 0.05


@dataclass(slots=True)
class Series:
    """Nanoseconds of one thing, in the order measured. ``cut`` ends a segment and gives its memory back."""

    segments: list[Segment] = field(default_factory=list)
    count: int = 0
    _open: list[int] = field(default_factory=list)
    _histogram: HdrHistogram = field(default_factory=lambda: HdrHistogram(1, LONGEST_NS, DIGITS))
    _least: int = LONGEST_NS
    _most: int = 0
    _sum: int = 0

    def add(self, ns: Iterable[int]) -> None:
        self._open.extend(ns)

    def cut(self, at_s: float) -> None:
        """Nothing was measured since the last cut: no segment."""
        if not self._open:
            return
        values = np.array(self._open, np.int64)
        self._open.clear()
        np.clip(values, 1, LONGEST_NS, out=values)
        for value, many in zip(*(part.tolist() for part in np.unique(values, return_counts=True)), strict=True):
            self._histogram.record_value(value, many)
        self.count += len(values)
        self._least = min(self._least, int(values.min()))
        self._most = max(self._most, int(values.max()))
        self._sum += int(values.sum())
        p50, p90, p99 = np.percentile(values, (50, 90, 99)) / 1000
        self.segments.append(
            Segment(
                at_s=at_s,
                count=len(values),
                p50_us=float(p50),
                p90_us=float(p90),
                p99_us=float(p99) if len(values) >= 100 else None,
                max_us=float(values.max()) / 1000,
            )
        )

    def distribution(self) -> Distribution | None:
        """Of all that was cut; None if nothing was."""
        if not self.count:
            return None
        return Distribution(
            count=self.count,
            min_us=self._least / 1000,
            mean_us=self._sum / self.count / 1000,
            p50_us=self._percentile(50.0) or 0.0,
            p90_us=self._percentile(90.0),
            p95_us=self._percentile(95.0),
            p99_us=self._percentile(99.0),
            p99_9_us=self._percentile(99.9),
            max_us=self._most / 1000,
            histogram=self._histogram.encode().decode("ascii"),
        )

    def _percentile(self, percent: float) -> float | None:
        """Of ten calls no p99 is known: there must be one call in the part above it."""
        if percent > 50.0 and self.count * (100.0 - percent) / 100.0 < 1.0 - 1e-9:
            return None
        return float(min(self._most, max(self._least, self._histogram.get_value_at_percentile(percent)))) / 1000

    def above(self, limit_ms: float) -> int:
        """How many were longer, to the histogram's three digits."""
        limit = round(limit_ms * 1e6)
        return sum(
            step.count_at_value_iterated_to
            for step in self._histogram.get_recorded_iterator()
            if step.value_iterated_to > limit
        )


def distribution(ns: Sequence[int]) -> Distribution | None:
    series = Series()
    series.add(ns)
    series.cut(0.0)
    return series.distribution()


def read_histogram(encoded: str) -> HdrHistogram:
    """The histogram of a report; ValueError where it is damaged."""
    try:
        return HdrHistogram.decode(encoded.encode("ascii"))
    except Exception as error:  # noqa: BLE001  # whatever zlib, base64 or ctypes make of damage
        raise ValueError(f"no HDR histogram ({type(error).__name__})") from None


def spread(segments: Sequence[Segment]) -> Spread:
    """How much the percentiles differ from one stretch of the run to the next: the noise that a comparison must exceed."""

    def deviation(values: list[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return float(np.std(known, ddof=1)) if len(known) >= LEAST_SEGMENTS else None

    return Spread(
        p50_us=deviation([one.p50_us for one in segments]),
        p90_us=deviation([one.p90_us for one in segments]),
        p99_us=deviation([one.p99_us for one in segments]),
    )


def agreement(
    segments: Sequence[Segment], p50_us: float | None, previous: tuple[str, float] | None = None
) -> Agreement | None:
    """``previous``: a report's name and its p50."""
    halves = None
    if len(segments) >= 2 * LEAST_SEGMENTS:
        middle = len(segments) // 2
        first, second = (
            float(np.median([one.p50_us for one in part])) for part in (segments[:middle], segments[middle:])
        )
        halves = second / first if first > 0 else None
    before = previous[1] if previous is not None else None
    ratio = p50_us / before if p50_us is not None and before else None
    known = [one for one in (halves, ratio) if one is not None]
    if not known:
        return None
    return Agreement(
        halves_p50_ratio=halves,
        previous=previous[0] if previous is not None else None,
        previous_p50_ratio=ratio,
        within_5_percent=all(abs(math.log(one)) <= math.log1p(AGREES) for one in known),
    )
