"""Measures what README and docs quote, and writes it where it is quoted (`make figures`).

`tools/figures.toml` names the measurements: a command, how its result is read, how long it takes. A page quotes a figure between
marks that no reader sees:

    F1 <!--= qrs-f1 -->99.908<!--/--> %

`benchmarks/results/figures.json` keeps what was measured last, when, and how busy the machine was; `docs/figures.md` is made from it.
A round goes over all measurements but the heavy ones and can be stopped at any time: the same command goes on with what this round
has not measured. One that fails is named, what was kept of it stays, the others go on, and the exit status is 1. What needs the data
of training (`EDGE_TRAIN_BUILD`) stays as it is kept where they are not, and is named. While one runs, what it says is in
`reports/figures/NAME.txt` and `.err`.

    python -m tools.figures --list                 what there is, how long it took, when it was measured last
    python -m tools.figures --dry-run              what would be measured now, in which order, and how long that takes
    python -m tools.figures                        go on with the round (--again: begin another)
    python -m tools.figures --heavy                with those that take long
    python -m tools.figures --only delay,start     these alone, whatever the round says
    python -m tools.figures --quick                each command in its short form: does it run, can it be read? Nothing is kept
    python -m tools.figures --write                write what is kept into the pages; measure nothing
    python -m tools.figures --check                exit status 1 if a page does not say what is kept
    python -m tools.figures --adopt 2026-11-21     take what pages say as measured on that day, where nothing is kept
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from threading import Lock
from typing import Any

from tools.measures import FigureFault, Measure, Running, Stopped, apart, lacking, now, registry, run
from tools.place import ROOT
from tools.quotes import LISTED, adopt, faults, in_round, keep, kept, listed, texts, took, write

STOPPED = 130
_SHORT = 60
"""Letters of a figure that are shown; tables are longer."""


def chosen(measures: Sequence[Measure], state: Mapping[str, Any], arguments: argparse.Namespace) -> list[Measure]:
    """What is to be measured; those that may run beside each other first."""
    if arguments.only is not None:
        wanted = arguments.only.split(",")
        unknown = set(wanted) - {measure.name for measure in measures}
        if unknown:
            raise FigureFault(f"no such measurement: {', '.join(sorted(unknown))}")
        found = [measure for measure in measures if measure.name in wanted]
    else:
        done = set() if arguments.quick else in_round(state)
        found = [one for one in measures if one.name not in done and (arguments.heavy or not one.heavy)]
    if arguments.most_minutes is not None:
        found = [measure for measure in found if took(measure, state) <= arguments.most_minutes]
    return sorted(found, key=lambda measure: not measure.beside)


def minutes(measures: Sequence[Measure], state: Mapping[str, Any], jobs: int) -> float:
    """How long they take: those that may run beside each other, then the others."""
    beside = [took(one, state) for one in measures if one.beside]
    return max(sum(beside) / jobs, max(beside, default=0)) + sum(took(one, state) for one in measures if not one.beside)


def show(measures: Iterable[Measure], state: Mapping[str, Any]) -> str:
    lines = [f"{'measurement':<20}{'minutes':>8}  {'measured':<18}{'load':<16}figures"]
    done, failed = in_round(state), state.get("failed", {})
    for measure in measures:
        one = state["measures"].get(measure.name, {})
        lacks = lacking(measure)
        said = ["heavy"] if measure.heavy else [] if measure.name in done else ["not in this round yet"]
        if lacks:
            said.append(f"not here: {', '.join(lacks)}")
        if measure.name in failed:
            said.append(f"failed {failed[measure.name]['when']}")
        about = "" if "seconds" in one else "~"
        lines.append(
            f"{measure.name:<20}{f'{about}{took(measure, state):.1f}':>8}  {one.get('measured', 'never'):<18}"
            f"{one.get('load', 'by hand' if one else '-'):<16}{len(measure.figures):<4}{'; '.join(said)}".rstrip()
        )
    return "\n".join(lines)


def carry_out(
    measures: Sequence[Measure], jobs: int, measured: Callable[[Measure, Running], None], running: Running
) -> None:
    """Those that measure no time side by side, then the others one by one."""
    beside = [measure for measure in measures if measure.beside]
    pool = ThreadPoolExecutor(jobs)
    try:
        for done in as_completed([pool.submit(measured, measure, running) for measure in beside]):
            done.result()
        for measure in measures:
            if not measure.beside:
                measured(measure, running)
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        running.stop()


class Round:
    """What has become of the measurements so far; every one that is through is on the disk and in the pages."""

    def __init__(self, every: Sequence[Measure], asked: Sequence[Measure], state: dict[str, Any], quick: bool) -> None:
        self._every, self._quick, self._state = every, quick, state
        self._many, self._begun = len(asked), 0
        self._lock = Lock()
        self.good: list[str] = []
        self.bad: list[str] = []

    def measure(self, measure: Measure, running: Running) -> None:
        with self._lock:
            self._begun += 1
            place, about = f"[{self._begun} of {self._many}]", took(measure, self._state)
            print(f"{place} {measure.name}: about {about:.1f} min", flush=True)
        try:
            entry = run(measure, self._quick, running)
        except FigureFault as fault:
            with self._lock:
                self._failed(measure, str(fault))
        except Stopped:
            return
        else:
            with self._lock:
                self._made(measure, entry)

    def _failed(self, measure: Measure, why: str) -> None:
        self.bad.append(measure.name)
        print(f"  {measure.name} FAILED: {why}", flush=True)
        if not self._quick:
            self._state.setdefault("failed", {})[measure.name] = {"when": now(), "why": why[:400]}
            keep(self._state)

    def _made(self, measure: Measure, entry: dict[str, Any]) -> None:
        self.good.append(measure.name)
        before = texts(self._state)
        lines = [f"  {measure.name}: {entry['seconds']} s{', ' + entry['note'] if entry['note'] else ''}"]
        for name, text in entry["figures"].items():
            old = before.get(name, text)
            brief = len(text) < _SHORT and "\n" not in text
            changed = f" (was {old})" if brief and old != text else " (changed)" if old != text else ""
            lines.append(f"    {name}: {text if brief else '(a table)'}{changed}")
        print("\n".join(lines), flush=True)
        if not self._quick:
            self._state["measures"][measure.name] = entry
            self._state.get("failed", {}).pop(measure.name, None)
            keep(self._state)
            put(self._every, self._state)


def put(measures: Iterable[Measure], state: Mapping[str, Any]) -> None:
    """What is kept, into the pages and the list."""
    for path in write(texts(state)):
        print(f"  {os.path.relpath(path, ROOT)}: written", flush=True)
    LISTED.write_text(listed(measures, apart(), state), encoding="utf-8")


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="figures", description="Measures what README and docs quote, and writes it there."
    )
    parser.add_argument("--list", action="store_true", help="what there is, how long it took, when it was measured")
    parser.add_argument("--dry-run", action="store_true", help="what would be measured now, and how long that takes")
    parser.add_argument("--only", metavar="NAME,...")
    parser.add_argument("--heavy", action="store_true", help="with those that take long")
    parser.add_argument("--quick", action="store_true", help="short forms; nothing is kept")
    parser.add_argument("--again", action="store_true", help="begin another round")
    parser.add_argument("--write", action="store_true", help="into the pages, what is kept")
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--adopt", metavar="DATE")
    parser.add_argument("--most-minutes", type=float, metavar="N", help="leave out what takes longer")
    parser.add_argument(
        "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="side by side, of those that measure no time"
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _arguments(argv)
    state = kept()
    try:
        measures = registry()
        if arguments.again:
            state["round"], state["failed"] = now(), {}
            if not arguments.dry_run:
                keep(state)
        asked = chosen(measures, state, arguments)
    except FigureFault as fault:
        print(f"figures: {fault}", file=sys.stderr)
        return 2
    if arguments.list:
        print(show(measures, state))
        return 0
    if arguments.adopt is not None:
        adopt(measures, state, arguments.adopt)
        keep(state)
    if arguments.write or arguments.adopt is not None:
        put(measures, state)
        return 0
    if arguments.check:
        found = faults(measures, state)
        print("\n".join(found) or "every page says what is kept")
        return 1 if found else 0
    if arguments.only is None:
        for one in (spared := [measure for measure in asked if measure.or_kept and lacking(measure)]):
            print(f"{one.name}: what is kept stays; not here: {', '.join(lacking(one))}")
        asked = [measure for measure in asked if measure not in spared]
    about = minutes(asked, state, arguments.jobs)
    if arguments.dry_run:
        print(show(asked, state))
        print("\n".join(f"\n{one.name}: {one.quick if arguments.quick else one.command}" for one in asked))
        print(f"\n{len(asked)} measurements, some {about:.0f} minutes on an idle machine")
        return 0
    if not asked:
        print(f"all of the round that began {state['round']} is measured; --again begins another")
        return 0
    print(f"{len(asked)} measurements, some {about:.0f} minutes", flush=True)
    work = Round(measures, asked, state, arguments.quick)
    try:
        carry_out(asked, arguments.jobs, work.measure, Running())
    except KeyboardInterrupt:
        print(f"\nstopped after {len(work.good)}; the same command goes on", file=sys.stderr)
        return STOPPED
    print(f"{len(work.good)} measured" + (f", {len(work.bad)} FAILED: {', '.join(work.bad)}" if work.bad else ""))
    return 1 if work.bad else 0


if __name__ == "__main__":
    for number in (signal.SIGTERM, signal.SIGINT):  # one that was started with & would not hear Ctrl-C
        signal.signal(number, signal.default_int_handler)
    sys.exit(main())
