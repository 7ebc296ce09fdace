"""Whether a report's figures can be what was measured: a file that was damaged or edited must not pass for a faster device."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

from hdrh.histogram import HdrHistogram

from edge_agent.bench.distribution import read_histogram
from edge_agent.bench.report import Distribution, Report, Result

MOST = 1e15
"""No figure of a report is larger: a thousand million seconds in microseconds."""
HELD_WITHIN = 0.005
"""A histogram of three digits is within a thousandth."""
ORDERED_WITHIN = 1.005
"""Percentiles are rounded, and a mean may lie beside them: what is out of order by more was not measured."""


def numbers(data: Any, place: str = "") -> str | None:
    """What is wrong with the first number that is none, or is absurd; of anything that JSON can hold."""
    match data:
        case bool() | str() | None:
            return None
        case int() | float():
            if not abs(data) <= MOST:  # which holds for no NaN
                return f"{place}: {_short(data)} is no figure"
        case list():
            return next(filter(None, (numbers(one, f"{place}.{i}") for i, one in enumerate(data))), None)
        case dict():
            return next(
                filter(None, (numbers(one, f"{place}.{name}" if place else str(name)) for name, one in data.items())),
                None,
            )
    return None


def _short(value: float) -> str:
    return f"{float(value):g}" if abs(value) < 1e300 or isinstance(value, float) else "a number of hundreds of digits"


def report(found: Report) -> str | None:
    """What cannot have been measured."""
    for i, result in enumerate(found.results):
        for problem in _of_result(result):
            return f"results.{i} ({result.scenario} {result.name}): {problem}"
    return None


def figures(count: int | None, us: Sequence[float | None]) -> str | None:
    """``us``: in rising order, as percentiles are."""
    if count is not None and count < 1:
        return f"{count} calls"
    known = [one for one in us if one is not None]
    if any(one < 0 for one in known):
        return f"{min(known):g} us"
    for before, after in itertools.pairwise(known):
        if before > after * ORDERED_WITHIN + 0.002:  # of what is rounded to 0.001
            return f"percentiles that fall: {before:g} us, then {after:g} us"
    return None


def _of_result(result: Result) -> Iterator[str]:
    named = [("latency", result.latency), ("loop", result.loop), *result.parts.items()]
    if result.pipeline is not None:
        named += [("algorithm", result.pipeline.algorithm), *result.pipeline.by_kind.items()]
    for name, one in named:
        if one is not None:
            problem = _of_distribution(one)
            if problem is not None:
                yield f"{name}: {problem}"
    for segment in result.segments:
        problem = figures(segment.count, [segment.p50_us, segment.p90_us, segment.p99_us, segment.max_us])
        if problem is not None:
            yield f"segments: {problem}"
    if result.deadline is not None and not 0 <= result.deadline.misses <= result.deadline.of:
        yield f"{result.deadline.misses} of {result.deadline.of} calls late"
    if result.spread is not None:
        known = [one for one in (result.spread.p50_us, result.spread.p90_us, result.spread.p99_us) if one is not None]
        if any(one < 0 for one in known):
            yield "a spread below 0"
    if result.streams is not None:
        for step in result.streams.steps:
            if step.streams < 1 or step.cpu_us_per_stream_s < 0:
                yield f"{step.streams} streams at {step.cpu_us_per_stream_s:g} us a second"


def _of_distribution(one: Distribution) -> str | None:
    problem = figures(one.count, [one.min_us, one.p50_us, one.p90_us, one.p95_us, one.p99_us, one.p99_9_us, one.max_us])
    if problem is not None:
        return problem
    if not one.min_us <= one.mean_us * ORDERED_WITHIN + 0.002 or not one.mean_us <= one.max_us * ORDERED_WITHIN + 0.002:
        return f"a mean of {one.mean_us:g} us, all of them between {one.min_us:g} and {one.max_us:g}"
    histogram = read_histogram(one.histogram)
    held = histogram.get_total_count()
    if held != one.count:
        return f"{one.count} calls, {held} in the histogram"
    return _beside_the_histogram(one, histogram)


def _beside_the_histogram(one: Distribution, histogram: HdrHistogram) -> str | None:
    """The figures are the histogram's own, but for its three digits and for a percentile beyond the least or longest call."""
    least, most = histogram.get_min_value() / 1000, histogram.get_max_value() / 1000
    held = {
        "min": (one.min_us, least),
        "max": (one.max_us, most),
        "mean": (one.mean_us, histogram.get_mean_value() / 1000),
    }
    for percent, said in ((50, one.p50_us), (90, one.p90_us), (95, one.p95_us), (99, one.p99_us), (99.9, one.p99_9_us)):
        if said is not None:
            held[f"p{percent:g}"] = said, min(most, max(least, histogram.get_value_at_percentile(percent) / 1000))
    for name, (said, found) in held.items():
        if abs(said - found) > found * HELD_WITHIN + 0.002:
            return f"{name} is {said:g} us, in the histogram {found:g} us"
    return None
