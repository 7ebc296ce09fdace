"""``edge-bench``: the command line. Exit status 0, 1 for what went wrong, 2 for usage, 3 for a limit passed, 130 for Ctrl-C."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

from edge_agent.bench.arguments import build_parser, plan
from edge_agent.bench.files import ReportError
from edge_agent.bench.report import BenchSummary
from edge_agent.errors import EdgeAgentError
from edge_agent.shown import lines, plain

LIMIT_PASSED = 3


def main(argv: Sequence[str] | None = None) -> int:
    parser = build_parser()
    arguments = parser.parse_args(_with_command(sys.argv[1:] if argv is None else argv))
    try:
        return {"run": _run, "compare": _compare, "publish": _publish, "collect": _collect, "page": _page}[
            arguments.command
        ](arguments)
    except EdgeAgentError as error:
        print(f"edge-bench: {lines(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1


def _with_command(argv: Sequence[str]) -> list[str]:
    """``edge-bench --device-name pi4`` runs, as it always did."""
    first = argv[0] if argv else ""
    known = ("run", "compare", "publish", "collect", "page", "-h", "--help", "--version")
    return list(argv) if first in known else ["run", *argv]


def _run(arguments: argparse.Namespace) -> int:
    from edge_agent.bench import page, plots, png, table
    from edge_agent.bench.method import Session
    from edge_agent.bench.run import run
    from edge_agent.hardware import Hardware

    if arguments.png:
        png.possible()
    session = Session(show_progress=False if arguments.quiet else None)

    def stop(_number: int, _frame: FrameType | None) -> None:
        if session.interrupted:
            raise KeyboardInterrupt
        session.interrupted = True
        print("\nedge-bench: stopping; what was measured is written (Ctrl-C again: not even that)", file=sys.stderr)

    before = signal.signal(signal.SIGINT, stop)
    valid, checks = True, []
    try:
        for report, path in run(plan(arguments), session, Hardware(), lambda text: print(text, file=sys.stderr)):
            for text in table.tables(report):
                print(f"{lines(text)}\n")
            if arguments.html:
                page.write(page.page([report]), path.with_suffix(".html"))
            if arguments.png:
                png.write(list(plots.plots(report)), path.with_suffix(".png"))
            if arguments.markdown:
                page.write("\n\n".join(table.tables(report)) + "\n", path.with_suffix(".md"))
            print(f"{path}\n", flush=True)
            valid = valid and all(one.valid for one in report.results)
            checks += [one.self_check.passed for one in report.results if one.self_check is not None]
    finally:
        signal.signal(signal.SIGINT, before)
    if session.interrupted:
        return 130
    if session.failed:
        print(f"edge-bench: not measured: {len(session.failed)} (said above)", file=sys.stderr)
        return 1
    if arguments.self_check and not (checks and all(checks)):
        print("edge-bench: its own overhead is above the limit", file=sys.stderr)
        return LIMIT_PASSED
    if arguments.strict and not valid:
        print("edge-bench: not all of it is VALID", file=sys.stderr)
        return LIMIT_PASSED
    return 0


def _listed(paths: Sequence[Path]) -> list[Path]:
    """A folder stands for the reports in it."""
    return [one for path in paths for one in (sorted(path.glob("*.json")) if path.is_dir() else ()) or [path]]


def _compare(arguments: argparse.Namespace) -> int:
    from edge_agent.bench import page
    from edge_agent.bench.compare import compare, exceeded, pairs
    from edge_agent.bench.files import read

    reports = [read(path) for path in _listed(arguments.reports)]
    if not pairs(reports):
        raise ReportError(
            f"nothing is in more than one of the {len(reports)} reports: nothing was compared",
            remedy="what is compared is of one model, with the same scenario and engine",
        )
    print(lines(compare(reports)))
    if arguments.html is not None:
        whole = [one.report for one in reports if one.report is not None]
        print(page.write(page.page(whole), arguments.html))
    passed = exceeded(reports, arguments.fail_if)
    for text in passed:
        print(f"edge-bench: {plain(text)}", file=sys.stderr)
    return LIMIT_PASSED if passed else 0


def _publish(arguments: argparse.Namespace) -> int:
    from edge_agent import config
    from edge_agent.bench.files import read, summary
    from edge_agent.bench.fleet import publish

    newest: dict[tuple[str, str], BenchSummary] = {}
    for path in _listed(arguments.reports):
        report = read(path).report
        if report is None:
            raise ReportError(f"{path}: of the earlier schema: it compares, but cannot be published")
        one = summary(report)
        before = newest.setdefault((one.device, one.model), one)
        if one.time >= before.time:  # reports/*.json has a day's second before its first
            newest[one.device, one.model] = one
    for topic in publish(config.load(arguments.config, streams=False, table="mqtt").mqtt, list(newest.values())):
        print(topic)
    return 0


def _collect(arguments: argparse.Namespace) -> int:
    from edge_agent import config
    from edge_agent.bench import page, plots, png, table
    from edge_agent.bench.fleet import collect

    if arguments.png is not None:
        png.possible()
    found, damaged = collect(config.load(arguments.config, streams=False, table="mqtt").mqtt)
    for text in damaged:
        print(f"edge-bench: passed over: {plain(text)}", file=sys.stderr)
    if not found:
        print("edge-bench: no summary on the broker\n  edge-bench publish REPORT... puts one there", file=sys.stderr)
        return 1
    print(lines(table.fleet(found)))
    if arguments.html is not None:
        print(page.write(page.fleet_page(found), arguments.html))
    if arguments.png is not None:
        print(png.write(list(plots.fleet(found)), arguments.png))
    return 0


def _page(arguments: argparse.Namespace) -> int:
    from edge_agent.bench import page, plots, png
    from edge_agent.bench.files import read

    if arguments.out.suffix.lower() == ".png":
        png.possible()
    reports = []
    for path in _listed(arguments.reports):
        report = read(path).report
        if report is None:
            raise ReportError(f"{path}: of the earlier schema: it holds nothing to be drawn")
        reports.append(report)
    out: Path = arguments.out
    if out.suffix.lower() == ".png":
        print(png.write([plot for report in reports for plot in plots.plots(report)], out))
    else:
        print(page.write(page.page(reports), out))
    return 0


if __name__ == "__main__":
    sys.exit(main())
