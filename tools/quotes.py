"""The figures as pages quote them, between marks that no reader sees, and what is kept of the measurements behind them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from tools.measures import REGISTRY, Apart, Measure, now
from tools.place import ROOT, pages

KEPT = ROOT / "benchmarks" / "results" / "figures.json"
LISTED = ROOT / "docs" / "figures.md"
_QUOTED = re.compile(r"<!--= ([\w.-]+) -->(.*?)<!--/-->", re.DOTALL)


def kept() -> dict[str, Any]:
    if KEPT.exists():
        read: dict[str, Any] = json.loads(KEPT.read_text(encoding="utf-8"))
        return read
    return {"round": now(), "measures": {}}


def keep(state: Mapping[str, Any]) -> None:
    KEPT.parent.mkdir(parents=True, exist_ok=True)
    new = KEPT.with_suffix(".new")
    new.write_text(json.dumps(state, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    new.replace(KEPT)


def texts(state: Mapping[str, Any]) -> dict[str, str]:
    return {name: text for one in state["measures"].values() for name, text in one["figures"].items()}


def in_round(state: Mapping[str, Any]) -> set[str]:
    """The measurements that the round has made."""
    return {name for name, one in state["measures"].items() if one["measured"] >= state["round"] and "seconds" in one}


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


def adopt(measures: Iterable[Measure], state: dict[str, Any], day: str) -> None:
    """What pages say counts as measured on that day, where nothing is kept."""
    said = {name: text for _, name, text in quoted()}
    values_now = texts(state)
    for measure in measures:
        taken = {name: said[name] for name in measure.figures if name in said and name not in values_now}
        if taken:
            entry = state["measures"].setdefault(measure.name, {"measured": day, "figures": {}})
            entry["figures"].update(taken)


# ------------------------------------------------------------------------------------------------ the list


def took(measure: Measure, state: Mapping[str, Any]) -> float:
    """Minutes: the last time's, else what the registry says."""
    seconds = state["measures"].get(measure.name, {}).get("seconds")
    return measure.minutes if seconds is None else float(seconds) / 60


def _row(measure: Measure, state: Mapping[str, Any], where: Mapping[str, set[str]]) -> str:
    one = state["measures"].get(measure.name, {})
    names = sorted({page for name in measure.figures for page in where.get(name, ())})
    links = ", ".join(f"[{Path(page).stem}]({page})" for page in names)
    command = measure.command.replace("{out}", "OUT").replace("|", "\\|")
    if len(command) > 150:
        command = f"{command[:70].rstrip()} ... {command[-50:].lstrip()}"
    when, load = one.get("measured", "never"), one.get("load", "by hand")
    if note := one.get("note"):
        load += f" ({note})"
    minutes = f"{took(measure, state):.1f}" if "seconds" in one else f"some {measure.minutes:g}"
    return f"| {measure.name} | `{command}` | {minutes} | {when} | {load} | {links} |"


def listed(measures: Iterable[Measure], others: Iterable[Apart], state: Mapping[str, Any]) -> str:
    where: dict[str, set[str]] = {}
    for path, name, _ in quoted():
        where.setdefault(name, set()).add(os.path.relpath(path, LISTED.parent))
    every = list(measures)
    light, heavy = [one for one in every if not one.heavy], [one for one in every if one.heavy]
    done = in_round(state)
    left = [one.name for one in light if one.name not in done]
    taken = sum(took(one, state) for one in light)
    head = ["| measured | command | minutes | when | load | quoted in |", "|---|---|---|---|---|---|"]
    lines = [
        "# Figures",
        "",
        "Made by `make figures`; do not edit. What each figure of these pages was measured with, when, and how busy the machine was",
        "(load averages of 1, 5 and 15 minutes before it began). *By hand*: before this list was kept, with the same command.",
        "Commands are whole in `tools/figures.toml`, figures in `benchmarks/results/figures.json`. `{build}` (`EDGE_TRAIN_BUILD`, else",
        "`training/build`) is what `make -C training results` leaves after two and a half hours, `train-python` (`EDGE_TRAIN_PYTHON`, else",
        "`training/.venv`) its interpreter; without them these figures stay as they are kept.",
        "",
        "## The round",
        "",
        f"Begun {state['round']}; {len(light) - len(left)} of {len(light)} are measured in it"
        + (f", not yet: {', '.join(left)}." if left else f", in {taken:.0f} minutes of measuring."),
        "",
        *head,
        *(_row(one, state, where) for one in light),
        "",
        "## Heavy",
        "",
        "Kept from a run of the day that is given; `make figures ARGS=--heavy` makes them again.",
        "",
        *head,
        *(_row(one, state, where) for one in heavy),
        "",
        "## Apart",
        "",
        "Written by hand from what these print.",
        "",
        "| what | command | takes | when | page |",
        "|---|---|---|---|---|",
        *(f"| {one.name} | `{one.command}` | {one.takes} | {one.when} | {one.page} |" for one in others),
    ]
    return "\n".join(lines) + "\n"
