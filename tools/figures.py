"""Measures what README and docs quote, and writes it where it is quoted (`make figures`).

`tools/figures.toml` names the measurements: a command, how its result is read, how long it takes. A page quotes a figure between
marks that no reader sees:

    F1 <!--= qrs-f1 -->99.908<!--/--> %

`benchmarks/results/figures.json` keeps what was measured last, when, and how busy the machine was; `docs/figures.md` is made from it.
A round goes over all measurements and can be stopped at any time: the same command goes on with what this round has not measured.

    python -m tools.figures --list                 what there is, how long it takes, when it was measured last
    python -m tools.figures                        go on with the round (--again: begin another)
    python -m tools.figures --only delay,start     these alone, whatever the round says
    python -m tools.figures --quick                each command in its short form: does it run, can it be read? Nothing is kept
    python -m tools.figures --write                write what is kept into the pages; measure nothing
    python -m tools.figures --check                exit status 1 if a page does not say what is kept
    python -m tools.figures --adopt 2026-11-21     take what pages say as measured on that day, where nothing is kept
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.place import ROOT, environment, is_there, pages, shared, shims

REGISTRY = ROOT / "tools" / "figures.toml"
KEPT = ROOT / "benchmarks" / "results" / "figures.json"
LISTED = ROOT / "docs" / "figures.md"
RESULTS = ROOT / "reports" / "figures"
_QUOTED = re.compile(r"<!--= ([\w.-]+) -->(.*?)<!--/-->", re.DOTALL)


class FigureFault(Exception):
    """A measurement that cannot be made or read, in words."""


@dataclass(frozen=True)
class Measure:
    name: str
    command: str
    figures: Mapping[str, tuple[str, str]]  # by name: a Python expression over the result, and how it is written
    minutes: float
    quick: str | None
    result: str | None  # the file of JSON that the command leaves; "-": what it prints; None: no JSON
    status: tuple[int, ...]
    needs: tuple[str, ...]


def registry(path: Path = REGISTRY) -> list[Measure]:
    found = []
    for one in tomllib.loads(path.read_text(encoding="utf-8"))["measure"]:
        figures = {
            name: (text, "") if isinstance(text, str) else (text[0], text[1]) for name, text in one["figures"].items()
        }
        found.append(
            Measure(
                one["name"],
                one["command"],
                figures,
                float(one["minutes"]),
                one.get("quick"),
                one.get("result"),
                tuple(one.get("status", [0])),
                tuple(one.get("needs", [])),
            )
        )
    names = [name for measure in found for name in measure.figures]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise FigureFault(f"{path.name}: named twice: {', '.join(sorted(twice))}")
    return found


# ------------------------------------------------------------------------------------------------ what is kept


def kept() -> dict[str, Any]:
    if KEPT.exists():
        read: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
        return read
    return {"round": _now(), "measures": {}}


def _keep(state: Mapping[str, Any]) -> None:
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    new = KEPT.with_suffix(".new")
    new.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    new.replace(KEPT)


def texts(state: Mapping[str, Any]) -> dict[str, str]:
    return {name: text for one in state["measures"].values() for name, text in one["figures"].items()}


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")


# ------------------------------------------------------------------------------------------------ the pages


def quoted(paths: Iterable[Path] | None = None) -> list[tuple[Path, str, str]]:
    """Page, figure, and what the page says of it."""
    found = []
    for path in pages() if paths is None else paths:
        if path != LISTED and path.exists():
            found += [
                (path, name, text.strip("\n")) for name, text in _QUOTED.findall(path.read_text(encoding="utf-8"))
            ]
    return found


def write(values: Mapping[str, str], paths: Iterable[Path] | None = None) -> list[Path]:
    """Put the figures where they are quoted; what is not known stays as it is. The pages that changed."""

    def put(found: re.Match[str]) -> str:
        name, old = found[1], found[2]
        if name not in values:
            return found[0]
        edge = "\n" if old.startswith("\n") else ""
        return f"<!--= {name} -->{edge}{values[name]}{edge}<!--/-->"

    changed = []
    for path in pages() if paths is None else paths:
        if path == LISTED or not path.exists():
            continue
        old = path.read_text(encoding="utf-8")
        new = _QUOTED.sub(put, old)
        if new != old:
            path.write_text(new, encoding="utf-8")
            changed.append(path)
    return changed


def faults(measures: Iterable[Measure], state: Mapping[str, Any]) -> list[str]:
    """What does not fit together: pages, registry, what is kept."""
    known = {name for measure in measures for name in measure.figures}
    values, cited, found = texts(state), set(), []
    for path, name, text in quoted():
        cited.add(name)
        place = path.relative_to(ROOT)
        if name not in known:
            found.append(f"{place}: no figure is called {name}")
        elif name not in values:
            found.append(f"{place}: {name} was never measured (--adopt DATE takes what stands there)")
        elif values[name] != text:
            found.append(f"{place}: {name} is {values[name]}, the page says {text}")
    found += [f"{REGISTRY.name}: {name} is quoted nowhere" for name in sorted(known - cited)]
    return found


def listed(measures: Iterable[Measure], state: Mapping[str, Any]) -> str:
    where: dict[str, set[str]] = {}
    for path, name, _ in quoted():
        where.setdefault(name, set()).add(os.path.relpath(path, LISTED.parent))
    lines = [
        "# Figures",
        "",
        "Made by `make figures`; do not edit. What each figure of these pages was measured with, when, and how busy the machine was (load",
        "averages of 1, 5 and 15 minutes before it began). *By hand*: before this list was kept, with the same command.",
        "",
        "| measured | command | minutes | when | load | quoted in |",
        "|---|---|---|---|---|---|",
    ]
    for measure in measures:
        one = state["measures"].get(measure.name, {})
        names = sorted({page for name in measure.figures for page in where.get(name, ())})
        links = ", ".join(f"[{Path(page).stem}]({page})" for page in names)
        command = measure.command.replace("{out}", "OUT").replace("|", "\\|")
        when, load = one.get("measured", "never"), one.get("load", "by hand")
        lines.append(f"| {measure.name} | `{command}` | {measure.minutes:g} | {when} | {load} | {links} |")
    return "\n".join(lines) + "\n"


# ------------------------------------------------------------------------------------------------ measuring


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = list(head)
    lines = ["| " + " | ".join(cells) + " |", "|---" * len(cells) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def values(measure: Measure, result: Any, said: str) -> dict[str, str]:
    """The figures as they will be written. ``r`` in an expression is the JSON, ``find(PATTERN)`` the number in what was printed."""

    def find(pattern: str) -> float:
        found = re.search(pattern, said)
        if found is None:
            raise LookupError(f"nothing printed is like {pattern!r}")
        return float(found[1].replace(",", ""))

    known = {
        "r": result,
        "find": find,
        "table": _table,
        "mean": statistics.mean,
        "median": statistics.median,
        "stdev": statistics.stdev,
    }
    written = {}
    for name, (expression, form) in measure.figures.items():
        try:
            # The registry is a file of this repository, read by whoever runs its benchmarks.
            value = eval(expression, known)
            written[name] = format(value, form) if form else str(value)
        except (LookupError, TypeError, ValueError, ZeroDivisionError) as error:
            raise FigureFault(f"{name} = {expression}: {type(error).__name__}: {error}") from None
    return written


def _filled(text: str) -> str:
    """`{build}`: where training's prepared data and runs are."""
    return text.replace("{build}", os.environ.get("EDGE_TRAIN_BUILD", "training/build"))


def lacking(measure: Measure) -> list[str]:
    return [need for need in map(_filled, measure.needs) if not is_there(need)]


def run(measure: Measure, quick: bool) -> dict[str, Any]:
    missing = lacking(measure)
    if missing:
        raise FigureFault(f"not here: {', '.join(missing)}")
    command = measure.quick if quick else measure.command
    if command is None:
        raise FigureFault("has no short form")
    RESULTS.mkdir(parents=True, exist_ok=True)
    out = RESULTS / f"{measure.name}{'-quick' if quick else ''}"
    result_file = Path(measure.result.replace("{out}", str(out))) if measure.result not in (None, "-") else None
    load, began = " ".join(f"{one:.1f}" for one in os.getloadavg()), time.time()
    with tempfile.TemporaryDirectory() as folder:
        shims(Path(folder))
        made = environment(ROOT, Path(folder))
        if recordings := shared():
            made["EDGE_AGENT_SHARED"] = str(recordings)
        ended = subprocess.run(
            ["bash", "-c", _filled(command).replace("{out}", str(out))],
            cwd=ROOT,
            env=made,
            capture_output=True,
            check=False,
        )
    said = ended.stdout.decode(errors="replace")
    out.with_suffix(".txt").write_text(said + ended.stderr.decode(errors="replace"), encoding="utf-8")
    if ended.returncode not in measure.status:
        last = "\n".join(ended.stderr.decode(errors="replace").splitlines()[-8:])
        raise FigureFault(f"exit status {ended.returncode}: {last}")
    result = None
    if result_file is not None:
        if not result_file.exists() or result_file.stat().st_mtime < began - 1:
            raise FigureFault(f"left no {result_file}")
        result = json.loads(result_file.read_text(encoding="utf-8"))
    elif measure.result == "-":
        result = json.loads(said)
    made_of = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "measured": _now(),
        "seconds": round(time.time() - began),
        "load": load,
        "status": ended.returncode,
        "commit": made_of.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "figures": values(measure, result, said),
    }


# ------------------------------------------------------------------------------------------------ the command


def _chosen(measures: list[Measure], only: str | None, state: Mapping[str, Any], everything: bool) -> list[Measure]:
    if only is not None:
        wanted = only.split(",")
        unknown = set(wanted) - {measure.name for measure in measures}
        if unknown:
            raise FigureFault(f"no such measurement: {', '.join(sorted(unknown))}")
        return [measure for measure in measures if measure.name in wanted]
    if everything:
        return measures
    done = {name for name, one in state["measures"].items() if one["measured"] >= state["round"] and "seconds" in one}
    return [measure for measure in measures if measure.name not in done]


def _show(measures: Iterable[Measure], state: Mapping[str, Any]) -> None:
    print(f"{'measurement':<20}{'minutes':>8}  {'measured':<18}{'load':<16}figures")
    for measure in measures:
        one = state["measures"].get(measure.name, {})
        lacks = lacking(measure)
        print(
            f"{measure.name:<20}{measure.minutes:>8g}  {one.get('measured', 'never'):<18}{one.get('load', '-'):<16}{len(measure.figures)}"
            + (f"  (not here: {', '.join(lacks)})" if lacks else "")
        )


def _adopt(measures: Iterable[Measure], state: dict[str, Any], day: str) -> None:
    said = {name: text for _, name, text in quoted()}
    values_now = texts(state)
    for measure in measures:
        taken = {name: said[name] for name in measure.figures if name in said and name not in values_now}
        if taken:
            entry = state["measures"].setdefault(measure.name, {"measured": day, "figures": {}})
            entry["figures"].update(taken)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="figures", description="Measures what README and docs quote, and writes it there."
    )
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", metavar="NAME,...")
    parser.add_argument("--quick", action="store_true", help="short forms; nothing is kept")
    parser.add_argument("--again", action="store_true", help="begin another round")
    parser.add_argument("--write", action="store_true", help="into the pages, what is kept")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--adopt", metavar="DATE")
    parser.add_argument("--most-minutes", type=float, metavar="N", help="leave out what takes longer")
    arguments = parser.parse_args()
    state = kept()
    try:
        measures = registry()
        if arguments.list:
            _show(measures, state)
            return 0
        if arguments.adopt is not None:
            _adopt(measures, state, arguments.adopt)
            _keep(state)
        if arguments.write or arguments.adopt is not None:
            for path in write(texts(state)):
                print(f"{path.relative_to(ROOT)}: written")
            LISTED.write_text(listed(measures, state), encoding="utf-8")
            return 0
        if arguments.check:
            found = faults(measures, state)
            print("\n".join(found) or "every page says what is kept")
            return 1 if found else 0
        if arguments.again:
            state["round"] = _now()
            _keep(state)
        chosen = _chosen(measures, arguments.only, state, arguments.quick)
    except FigureFault as fault:
        print(f"figures: {fault}", file=sys.stderr)
        return 2
    if arguments.most_minutes is not None:
        chosen = [measure for measure in chosen if measure.minutes <= arguments.most_minutes]
    if not chosen:
        print(f"all of the round that began {state['round']} is measured; --again begins another")
    failed = 0
    for measure in chosen:
        print(f"{measure.name}: {measure.minutes:g} min ...", flush=True)
        try:
            entry = run(measure, arguments.quick)
        except FigureFault as fault:
            failed += 1
            print(f"  FAILED: {fault}", flush=True)
            continue
        before = texts(state)
        for name, text in entry["figures"].items():
            print(
                f"  {name}: {text if len(text) < 60 else '(a table)'}"
                + (f" (was {before[name]})" if before.get(name, text) != text and len(text) < 60 else "")
            )
        print(
            f"  {entry['seconds']} s"
            + (f", exit status {entry['status']}: a bound is not kept" if entry["status"] else ""),
            flush=True,
        )
        if not arguments.quick:
            state["measures"][measure.name] = entry
            _keep(state)
            write(texts(state))
            LISTED.write_text(listed(measures, state), encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
