"""A page of plots that is one file: no script, no library, nothing fetched. It follows the reader's light or dark colours."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from pathlib import Path

from edge_agent.bench import plots, svg, table
from edge_agent.bench.files import whole
from edge_agent.bench.report import BenchSummary, Report
from edge_agent.errors import OutputError

STYLE = """
:root { color-scheme: light dark; --ink: #1c2430; --paper: #fff; --soft: #dde3ea; --bad: #b3261e; --good: #1b7f4b; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e5e9ef; --paper: #14181d; --soft: #343c46; --bad: #ff8a80; --good: #6fd29b; }
}
body { font: 15px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); margin: 2rem auto; max-width: 60rem;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; } h3 { font-size: 1rem; margin: 1.5rem 0 .3rem; }
svg { width: 100%; height: auto; } svg text { font: 12px system-ui, sans-serif; fill: var(--ink); }
svg .grid { stroke: var(--soft); } svg line.limit { stroke: var(--bad); stroke-dasharray: 5 4; } svg text.limit { fill: var(--bad); }
pre { overflow-x: auto; font-size: 12.5px; line-height: 1.4; } .bad { color: var(--bad); } .good { color: var(--good); }
"""


def page(reports: Sequence[Report]) -> str:
    title = "edge-bench: " + ", ".join(
        dict.fromkeys(f"{r.model or 'agent'} on {r.environment.device}" for r in reports)
    )
    parts: list[str] = []
    for report in reports:
        head, *rest = table.tables(report)
        parts.append(f"<h2>{escape(head.removeprefix('## '))}</h2>")
        parts += [_verdict(report)]
        parts += [_paragraph(text) for text in rest]
        parts += _drawn(plots.plots(report))
    return _html(title, parts)


def fleet_page(summaries: Sequence[BenchSummary]) -> str:
    return _html(
        f"edge-bench: {len({one.device for one in summaries})} devices",
        [_paragraph(table.fleet(summaries)), *_drawn(plots.fleet(summaries))],
    )


def _verdict(report: Report) -> str:
    bad = [one for one in report.results if not one.valid]
    if not bad:
        return '<p class="good">VALID</p>'
    reasons = dict.fromkeys(reason for one in bad for reason in one.reasons)
    return f'<p class="bad">{len(bad)} of {len(report.results)} INVALID: {escape("; ".join(reasons))}</p>'


def _paragraph(text: str) -> str:
    return f"<pre>{escape(text)}</pre>" if text.startswith("|") else f"<p>{escape(text)}</p>"


def _drawn(all_plots: Iterable[plots.Plot]) -> list[str]:
    return [f"<h3>{escape(plot.title)}</h3>\n{svg.draw(plot)}" for plot in all_plots]


def _html(title: str, parts: Iterable[str]) -> str:
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(parts)
        + "\n</body>\n</html>\n"
    )


def write(text: str, path: Path) -> Path:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as beside:
            beside.write_text(text, encoding="utf-8")
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    return path
