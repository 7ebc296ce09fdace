"""Figures as Markdown tables: for the terminal, for a wiki, for a pull request."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_agent.bench.report import BenchSummary, Report, Result


def table(head: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """``left``: so many columns of words; numbers stand right. Padded, so that it reads well as it is."""
    cells = [[cell.replace("|", "/").replace("\n", " ") for cell in row] for row in [head, *rows]]
    widths = [max(3, *(len(row[i]) for row in cells)) for i in range(len(head))]

    def line(row: Sequence[str]) -> str:
        padded = [
            cell.ljust(w) if i < left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        return "| " + " | ".join(padded) + " |"

    rule = "|" + "|".join("-" * (w + 2) if i < left else "-" * (w + 1) + ":" for i, w in enumerate(widths)) + "|"
    return "\n".join([line(cells[0]), rule, *(line(row) for row in cells[1:])])


def us(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def _ratio(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def verdict(valid: bool, reasons: Sequence[str]) -> str:
    return "VALID" if valid else "INVALID: " + "; ".join(reasons)


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.2f}"


def tables(report: Report) -> Iterator[str]:
    """All that a report says, a paragraph or a table at a time."""
    around = report.environment
    model = f"{report.model} {report.version}" if report.model else "the agent with all its models"
    yield f"## {model} on {around.device}"
    words = (around.board, around.cpu, around.runtime, around.kernel, f"governor {around.governor or 'not known'}")
    throttled = "not known" if around.throttled_after is None else ", ".join(around.throttled_after) or "none"
    yield (
        "; ".join(word for word in words if word)
        + f"; throttling flags: {throttled}; load {'not known' if around.load_1min is None else f'{around.load_1min:.2f}'}; "
        + f"edge-agent {around.agent}; {around.time}"
    )
    timed = [one for one in report.results if one.latency is not None and one.scenario != "accuracy"]
    if timed:
        yield table(
            [
                "us",
                "backend",
                "calls",
                "first",
                "p50",
                "p90",
                "p95",
                "p99",
                "p99.9",
                "max",
                "late",
                "halves",
                "before",
                "verdict",
            ],
            [_row(one) for one in timed],
            left=2,
        )
        yield (
            "halves: p50 of the run's second half over the first's; before: this p50 over the last report's. "
            + _agree(timed)
        )
    with_parts = [one for one in timed if one.parts]
    if with_parts:
        names = list(dict.fromkeys(name for one in with_parts for name in one.parts))
        rows = [
            [
                f"{one.scenario} {one.name}",
                *(us(one.parts[name].p50_us) if name in one.parts else "-" for name in names),
            ]
            for one in with_parts
        ]
        yield "Stages, medians in us, from a run of their own:"
        yield table(["stage", *names], rows)
    for one in report.results:
        yield from _more(one)
    if report.choice is not None:
        yield f"The daemon takes {report.choice.backend}: {report.choice.reason}."


def _agree(results: Sequence[Result]) -> str:
    known = [one.agreement.within_5_percent for one in results if one.agreement is not None]
    far = [f"{one.scenario} {one.name}" for one in results if one.agreement and one.agreement.within_5_percent is False]
    if not known:
        return "Too little was measured to say whether it comes again."
    return f"NOT within 5 %: {', '.join(far)}." if far else "All are within 5 %."


def _row(one: Result) -> list[str]:
    d = one.latency
    assert d is not None
    again = one.agreement
    halves, before = (None, None) if again is None else (again.halves_p50_ratio, again.previous_p50_ratio)
    late = "-" if one.deadline is None else f"{one.deadline.misses} > {one.deadline.limit_ms:g} ms"
    return [
        f"{one.scenario} {one.name}", one.backend, str(d.count), us(one.first_us), us(d.p50_us), us(d.p90_us), us(d.p95_us),
        us(d.p99_us), us(d.p99_9_us), us(d.max_us), late,
        _ratio(halves), _ratio(before), verdict(one.valid, one.reasons),
    ]  # fmt: skip


def _more(one: Result) -> Iterator[str]:
    head = f"{one.scenario} {one.name}, {one.backend}"
    if one.self_check is not None and one.loop is not None:
        check = one.self_check
        yield (
            f"{head}: measuring adds {check.overhead_us:.2f} us (limit {check.limit_us:g}): the runtime's call is "
            f"{check.measured_p50_us:.2f} us here, {check.bare_p50_us:.2f} us in a bare loop in turns with it."
        )
    if one.streams is not None:
        yield from _streams(one)
    if one.pipeline is not None:
        p = one.pipeline
        rows = [
            [
                kind,
                str(d.count),
                *(f"{value / 1000:.2f}" if value is not None else "-" for value in (d.p50_us, d.p99_us, d.max_us)),
            ]
            for kind, d in p.by_kind.items()
        ]
        yield f"Beyond the method's own delay (p50 {p.algorithm.p50_us / 1000:.0f} ms), ms, broker {p.broker}, QoS {p.qos}:"
        yield table(["message", "count", "p50", "p99", "max"], rows)
    if one.accuracy is not None:
        a = one.accuracy
        yield (
            f"{a.data}: {a.windows} windows, {a.abstained} abstentions; accuracy {percent(a.accuracy)} %, "
            f"macro-F1 {percent(a.macro_f1)} %, kappa {'-' if a.kappa is None else f'{a.kappa:.3f}'}"
        )
        yield table(
            ["class", "windows", "sensitivity %", "precision %", "F1 %"],
            [[c.label, str(c.count), percent(c.sensitivity), percent(c.precision), percent(c.f1)] for c in a.classes],
        )
    if one.golden is not None:
        g = one.golden
        yield (
            f"{head}: golden vectors: {g.cases} cases, largest difference {g.worst:.4g} (tolerance {g.tolerance:.4g}), "
            f"{g.same_label} with the same label."
        )
    if one.soak is not None and one.soak:
        hottest = max((max(s.temperature_c.values()) for s in one.soak if s.temperature_c), default=None)
        hot = "no thermometer" if hottest is None else f"at most {hottest:.1f} C"
        flagged = [s for s in one.soak if s.throttled]
        known = any(s.throttled is not None for s in one.soak)
        flags = f"throttled at {len(flagged)} of {len(one.soak)} looks" if known else "throttling not known"
        yield f"{head}: {hot}; {flags}; resident {us(one.soak[0].resident_mb)} to {us(one.soak[-1].resident_mb)} MB."


def _streams(one: Result) -> Iterator[str]:
    s = one.streams
    assert s is not None
    most = "no number of streams" if s.carried is None else f"{s.carried} streams"
    yield (
        f"One core carries {most} of {s.fs:g} Hz in blocks of {s.block_ms:g} ms"
        + ("" if s.limit_reached else " and perhaps more: that was the most that was tried")
        + f" (p99 of queue and compute at most {s.limit_ms:g} ms, nothing lost)."
    )
    yield table(
        ["streams", "held", "p50 ms", "p99 ms", "max ms", "core %", "us per stream-second", "without pauses", "why not"],
        [
            [
                str(step.streams), "yes" if step.held else "no", f"{step.latency.p50_us / 1000:.2f}",
                f"{(step.latency.p99_us or step.latency.max_us) / 1000:.2f}", f"{step.latency.max_us / 1000:.1f}",
                f"{100 * step.core_share:.0f}", us(step.cpu_us_per_stream_s), us(step.warm_us_per_stream_s), step.why_not or "",
            ]
            for step in s.steps
        ],
    )  # fmt: skip
    if s.parts_us_per_stream_s:
        total = sum(s.parts_us_per_stream_s.values())
        yield (
            f"Where a stream-second goes ({s.parts_streams} streams as fast as they go; taking it apart cost "
            f"{percent(s.parts_overhead)} % more):"
        )
        yield table(
            ["stage", "us", "%"],
            [[name, us(value), f"{100 * value / total:.1f}"] for name, value in s.parts_us_per_stream_s.items()],
        )


def fleet(summaries: Sequence[BenchSummary]) -> str:
    rows = [
        [
            one.device, one.model, f"{row.scenario} {row.name}", row.backend, us(row.p50_us), us(row.p99_us), us(row.max_us),
            "-" if row.carried_streams is None else str(row.carried_streams), percent(row.macro_f1), one.time,
            verdict(row.valid, row.reasons),
        ]
        for one in sorted(summaries, key=lambda one: (one.model, one.device))
        for row in one.rows
    ]  # fmt: skip
    head = [
        "device",
        "model",
        "measured",
        "backend",
        "p50 us",
        "p99 us",
        "max us",
        "streams",
        "F1 %",
        "time",
        "verdict",
    ]
    return table(head, rows, left=4)
