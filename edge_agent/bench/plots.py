"""What there is to be seen in a report, as plain data: ``svg`` and ``png`` draw it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import floor, log10

from edge_agent.bench.distribution import read_histogram
from edge_agent.bench.report import BenchSummary, Distribution, Report, Result
from edge_agent.bench.stages import STAGES

Points = Sequence[tuple[float, float]]
ORDER = {stage: i for i, (stage, _) in enumerate(STAGES)}
STEPS_PER_DECADE = 40
PERCENTILES = (50.0, 75.0, 90.0, 95.0, 97.5, 99.0, 99.5, 99.9, 99.95, 99.99)


@dataclass(frozen=True, slots=True)
class Lines:
    title: str
    x_label: str
    y_label: str
    series: Sequence[tuple[str, Points]]
    x_log: bool = False
    y_log: bool = False
    limits: Sequence[tuple[str, float]] = field(default_factory=tuple)
    x_names: Sequence[tuple[float, str]] = field(default_factory=tuple)
    """Marks on the axis, where numbers would not say it."""


@dataclass(frozen=True, slots=True)
class Stacks:
    title: str
    unit: str
    bars: Sequence[tuple[str, Sequence[tuple[str, float]]]]


Plot = Lines | Stacks


def label(result: Result) -> str:
    return f"{result.scenario} {result.name}, {result.backend}"


def plots(report: Report) -> Iterator[Plot]:
    """Those that the report has something for."""
    timed = [result for result in report.results if result.latency is not None]
    calls = [result for result in timed if result.scenario not in ("multi", "accuracy")]
    series = [(label(one), shares(one.latency)) for one in calls if one.latency is not None]
    series += [(f"bare loop, {one.backend}", shares(one.loop)) for one in calls if one.loop is not None]
    if series:
        yield Lines("Distribution", "us", "share of calls per step, %", series, x_log=True)
    tails = [(label(one), tail(one.latency)) for one in calls if one.latency is not None]
    if tails:
        names = [(100 / (100 - p), f"p{p:g}") for p in (50.0, 90.0, 99.0, 99.9, 99.99)]
        yield Lines("Percentiles", "percentile", "us", tails, x_log=True, y_log=True, x_names=names)
    for one in calls:
        if len(one.segments) > 1:
            lines: list[tuple[str, Points]] = [
                ("p50", [(segment.at_s, segment.p50_us) for segment in one.segments]),
                ("p90", [(segment.at_s, segment.p90_us) for segment in one.segments]),
            ]
            p99 = [(segment.at_s, segment.p99_us) for segment in one.segments if segment.p99_us is not None]
            lines += [("p99", p99)] if p99 else []
            lines.append(("longest", [(segment.at_s, segment.max_us) for segment in one.segments]))
            yield Lines(f"Over time: {label(one)}", "s", "us", lines, y_log=True)
    bars = [(label(one), _parts(one)) for one in timed if one.parts and one.scenario != "pipeline"]
    if bars:
        yield Stacks("Stages, medians", "us", bars)
    for one in report.results:
        yield from _of_scenario(one)


def _parts(result: Result) -> list[tuple[str, float]]:
    known = [(name, part.p50_us) for name, part in result.parts.items() if "not in the sum" not in name]
    return sorted(known, key=lambda part: ORDER.get(part[0], len(ORDER)))


def _of_scenario(one: Result) -> Iterator[Plot]:
    if one.pipeline is not None:
        bars = [("median message", [(name, part.p50_us / 1000) for name, part in one.parts.items()])]
        yield Stacks("From a board's line to the subscriber, beyond the method's own delay", "ms", bars)
    if one.streams is not None and one.streams.steps:
        steps = one.streams.steps
        yield Lines(
            "Streams against latency",
            "streams",
            "ms, queue and compute",
            [
                ("p50", [(step.streams, step.latency.p50_us / 1000) for step in steps]),
                ("p99", [(step.streams, (step.latency.p99_us or step.latency.max_us) / 1000) for step in steps]),
            ],
            y_log=True,
            limits=[("limit", one.streams.limit_ms)],
        )
        yield Lines(
            "Cost of a stream-second",
            "streams",
            "us",
            [
                ("live", [(step.streams, step.cpu_us_per_stream_s) for step in steps]),
                ("as fast as it goes", [(step.streams, step.warm_us_per_stream_s) for step in steps]),
            ],
        )
        if one.streams.parts_us_per_stream_s:
            parts = sorted(one.streams.parts_us_per_stream_s.items(), key=lambda part: ORDER.get(part[0], len(ORDER)))
            bars = [(f"{one.streams.parts_streams} streams", parts)]
            yield Stacks("Where a stream-second goes", "us", bars)
    if one.soak is not None and len(one.soak) > 1:
        names = sorted({name for state in one.soak for name in state.temperature_c})
        warm = [
            (name, [(s.at_s / 60, s.temperature_c[name]) for s in one.soak if name in s.temperature_c])
            for name in names
        ]
        warm += [("TPU", [(s.at_s / 60, s.tpu_temperature_c) for s in one.soak if s.tpu_temperature_c is not None])]
        warm = [(name, points) for name, points in warm if points]
        if warm:
            yield Lines("Temperature", "minutes", "degrees C", warm)
        memory = [(s.at_s / 60, s.resident_mb) for s in one.soak if s.resident_mb is not None]
        if memory:
            yield Lines("Memory", "minutes", "MB resident", [("edge-bench", memory)])
        flags = [(s.at_s / 60, float(len(s.throttled))) for s in one.soak if s.throttled is not None]
        if flags:
            yield Lines("Throttling", "minutes", "flags that are set", [("flags", flags)])


def shares(found: Distribution) -> list[tuple[float, float]]:
    """Per cent of the calls in each of equal steps of the logarithm."""
    counts: dict[int, int] = {}
    histogram = read_histogram(found.histogram)
    for step in histogram.get_recorded_iterator():
        place = _place(step.value_iterated_to / 1000)
        counts[place] = counts.get(place, 0) + step.count_at_value_iterated_to
    if not counts:
        return []
    total = sum(counts.values())
    wide = range(min(counts) - 1, max(counts) + 2)
    return [(10 ** ((place + 0.5) / STEPS_PER_DECADE), 100 * counts.get(place, 0) / total) for place in wide]


def _place(us: float) -> int:
    return floor(log10(max(us, 1e-3)) * STEPS_PER_DECADE)


def tail(found: Distribution) -> list[tuple[float, float]]:
    """Against one in how many calls takes longer; only what so many calls can tell."""
    histogram = read_histogram(found.histogram)
    return [
        (100 / (100 - percent), histogram.get_value_at_percentile(percent) / 1000)
        for percent in PERCENTILES
        if found.count * (100 - percent) / 100 >= 1 - 1e-9 or percent == 50.0
    ]


def fleet(summaries: Sequence[BenchSummary]) -> Iterator[Plot]:
    """p50 and what p99 adds to it, a bar for each device, a plot for each model and measurement."""
    kinds = sorted({(one.model, row.scenario, row.name) for one in summaries for row in one.rows if row.p50_us})
    for model, scenario, name in kinds:
        bars = [
            (
                f"{one.device}, {row.backend}{'' if row.valid else ' (INVALID)'}",
                [("p50", row.p50_us), ("to p99", max(0.0, (row.p99_us or row.p50_us) - row.p50_us))],
            )
            for one in sorted(summaries, key=lambda one: one.device)
            for row in one.rows
            if one.model == model and (row.scenario, row.name) == (scenario, name) and row.p50_us is not None
        ]
        yield Stacks(f"{model}: {scenario} {name}", "us", bars)
