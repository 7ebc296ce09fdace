"""Reports side by side: ratios, and whether a difference is more than the runs' own spread.

A run's spread is the standard deviation of a percentile over the run's segments. A difference counts when it exceeds twice the root
of both runs' squared spreads: what two runs of the same thing differ by is seldom as much. Of a report of the earlier schema
the spread is not known, and the table says so.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from edge_agent.bench.files import Read, Row
from edge_agent.bench.table import percent, table, us

METRICS = ("p50", "p90", "p95", "p99", "p99.9", "max", "mean")
SHOWN = ("p50", "p99")
SPREADS = 2.0
MOST_PERCENT = 1_000_000
_LIMIT = re.compile(r"(?P<metric>[\w.]+):\+(?P<percent>\d+(?:\.\d+)?)%")


@dataclass(frozen=True, slots=True)
class Limit:
    """``p99:+20%``: no more than a fifth above the first report."""

    metric: str
    most: float

    @staticmethod
    def parse(text: str) -> Limit:
        """ValueError says what is wrong."""
        match = _LIMIT.fullmatch(text.strip())
        if match is None or match["metric"] not in METRICS:
            raise ValueError(f"{text!r}: METRIC:+N% is wanted, METRIC one of {', '.join(METRICS)}")
        percent_more = float(match["percent"])
        if percent_more > MOST_PERCENT:
            raise ValueError(f"{text!r}: more than {MOST_PERCENT} % limits nothing")
        return Limit(match["metric"], 1 + percent_more / 100)


@dataclass(frozen=True, slots=True)
class Pair:
    """The same measurement in the first report and in another."""

    model: str
    base: Row
    base_of: Read
    other: Row
    other_of: Read

    @property
    def what(self) -> str:
        return f"{self.model}: {self.other.scenario} {self.other.name}"

    @property
    def sides(self) -> tuple[tuple[Read, Row], tuple[Read, Row]]:
        return (self.base_of, self.base), (self.other_of, self.other)

    def ratio(self, metric: str) -> float | None:
        before, after = self.base.us.get(metric), self.other.us.get(metric)
        return after / before if before and after is not None else None

    def beyond_spread(self, metric: str) -> bool | None:
        """None where the spread of one of them is not known."""
        before, after = self.base.us.get(metric), self.other.us.get(metric)
        spreads = self.base.spread_us.get(metric), self.other.spread_us.get(metric)
        if before is None or after is None or spreads[0] is None or spreads[1] is None:
            return None
        return abs(after - before) > SPREADS * math.hypot(*spreads)  # type: ignore[arg-type]  # both are numbers here

    def said(self, metric: str) -> str:
        beyond, ratio = self.beyond_spread(metric), self.ratio(metric)
        if ratio is None:
            return "not in both"
        if beyond is None:
            return "spread not known"
        if not beyond:
            return "within the spread"
        return "slower" if ratio > 1 else "faster"


def pairs(reports: Sequence[Read]) -> list[Pair]:
    """Every measurement of the later reports that is also in the first of its model; a scenario with streams goes by its scenario.

    Two engines of one model are the same measurement if each report has one of them alone.
    """
    found = []
    first: dict[str, Read] = {}
    for report in reports:
        base = first.setdefault(report.model, report)
        if base is not report:
            found += list(_paired(base, report))
    return found


def _paired(base: Read, other: Read) -> Iterator[Pair]:
    for row in other.rows:
        if row.scenario in ("streams", "pipeline", "accuracy", "soak"):
            same = [one for one in base.rows if (one.scenario, one.backend) == (row.scenario, row.backend)]
            same = [one for one in same if one.name == row.name] or same[:1]
        else:
            same = [one for one in base.rows if one.key == row.key]
            alike = [one for one in base.rows if one.key[:2] == row.key[:2]]
            if not same and len(alike) == 1 == sum(one.key[:2] == row.key[:2] for one in other.rows):
                same = alike
        if same:
            yield Pair(other.model, same[0], base, row, other)


def compare(reports: Sequence[Read]) -> str:
    """A table; what is only in one of them is named below it."""
    rows = []
    found = pairs(reports)
    for one in found:
        for metric in SHOWN:
            ratio = one.ratio(metric)
            rows.append(
                [
                    one.what, _named(one.base_of, one.base), _named(one.other_of, one.other), metric,
                    us(one.base.us.get(metric)), us(one.other.us.get(metric)),
                    "-" if ratio is None else f"{ratio:.3f}", one.said(metric),
                ]
            )  # fmt: skip
        for name, before, after in _other_figures(one):
            rows.append(
                [one.what, _named(one.base_of, one.base), _named(one.other_of, one.other), name, before, after, "", ""]
            )
    head = ["measured", "first", "other", "figure", "first us", "other us", "ratio", "difference"]
    lines = [table(head, rows, left=4)] if rows else ["nothing is in more than one of the reports"]
    paired = {id(row) for one in found for row in (one.base, one.other)}
    alone = [
        f"{r.model}: {row.scenario} {row.name} ({r.path.name})"
        for r in reports
        for row in r.rows
        if id(row) not in paired
    ]
    if alone:
        lines.append("only once: " + ", ".join(alone))
    invalid = dict.fromkeys(
        f"{r.path.name}: {row.scenario} {row.name} is INVALID: {'; '.join(row.reasons)}"
        for r in reports
        for row in r.rows
        if not row.valid
    )
    return "\n\n".join([*lines, *([("\n".join(invalid))] if invalid else [])])


def _named(report: Read, row: Row) -> str:
    return f"{report.device}, {report.time[:10]}, {row.backend}{'' if row.valid else ' (INVALID)'}"


def _other_figures(one: Pair) -> Iterator[tuple[str, str, str]]:
    if one.base.carried is not None and one.other.carried is not None:
        yield "streams carried", str(one.base.carried), str(one.other.carried)
    if one.base.cost_us is not None and one.other.cost_us is not None:
        yield "us per stream-second", us(one.base.cost_us), us(one.other.cost_us)
    if one.base.macro_f1 is not None and one.other.macro_f1 is not None:
        yield "macro-F1 %", percent(one.base.macro_f1), percent(one.other.macro_f1)


def exceeded(reports: Sequence[Read], limits: Sequence[Limit]) -> list[str]:
    """Each limit that is passed, in words; that nothing could be held against it, or what is INVALID, is said too:
    a gate must not open for want of figures."""
    said = []
    found = list(pairs(reports))
    for limit in limits:
        if not any(one.ratio(limit.metric) is not None for one in found):
            said.append(f"{limit.metric}: is in no two of the reports: nothing was compared")
    for one in found:
        for limit in limits:
            ratio = one.ratio(limit.metric)
            invalid = [of.path.name for of, row in one.sides if not row.valid]
            if ratio is not None and invalid:
                said.append(f"{one.what}: {limit.metric} proves nothing: INVALID in {' and '.join(invalid)}")
            elif ratio is not None and ratio > limit.most:
                said.append(
                    f"{one.what} ({one.other_of.path.name}): {limit.metric} is {100 * (ratio - 1):+.1f} %, "
                    f"allowed +{100 * (limit.most - 1):g} %"
                )
    return said
