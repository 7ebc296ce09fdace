"""One measurement of tools/figures.toml: its command, how its result is read, and what running it leaves."""

from __future__ import annotations

import contextlib
import json
import math
import os
import platform
import re
import signal
import statistics
import subprocess
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tools.place import ROOT, environment, is_there, shared, shims

REGISTRY = ROOT / "tools" / "figures.toml"
RESULTS = ROOT / "reports" / "figures"
PATIENCE = 6.0
"""A command that takes so many times its minutes (and half an hour at least) is hung."""
_LEAST_LIMIT_S = 1800.0
_SAID_EVERY_S = 60.0


class FigureFault(Exception):
    """A measurement that cannot be made or read, in words."""


class Stopped(Exception):
    """Somebody wants an end of it: no fault of the measurement's."""


class Running:
    """The commands that run, so that one hand can end them all."""

    def __init__(self) -> None:
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.stopped = False

    def stop(self) -> None:
        self.stopped = True
        for process in list(self.processes):
            end(process)


@dataclass(frozen=True)
class Measure:
    name: str
    command: str
    figures: Mapping[str, tuple[str, str]]  # by name: a Python expression over the result, and how it is written
    minutes: float
    quick: str | None = None
    result: str | None = None  # the file of JSON that the command leaves; "-": what it prints; None: no JSON
    status: tuple[int, ...] = (0,)
    needs: tuple[str, ...] = ()
    heavy: bool = False  # takes long, or wants what hours of training leave: only when asked for
    or_kept: bool = False  # where what it needs is not here, what is kept stays, and that is no failure
    beside: bool = False  # measures no time: another such one may run beside it
    note: str | None = None  # an expression: what is to be known about the result, "" if nothing


@dataclass(frozen=True)
class Apart:
    """Figures in the pages that are not written by machine."""

    name: str
    command: str
    takes: str
    when: str
    page: str


def registry(path: Path = REGISTRY) -> list[Measure]:
    found = []
    for one in tomllib.loads(path.read_text(encoding="utf-8"))["measure"]:
        figures = {
            name: (text, "") if isinstance(text, str) else (text[0], text[1]) for name, text in one["figures"].items()
        }
        rest = {key: one[key] for key in ("quick", "result", "heavy", "or_kept", "beside", "note") if key in one}
        unknown = set(one) - {*rest, "name", "command", "figures", "minutes", "status", "needs"}
        if unknown:
            raise FigureFault(f"{path.name}: {one['name']}: no such key: {', '.join(sorted(unknown))}")
        status, needs = tuple(one.get("status", [0])), tuple(one.get("needs", []))
        found.append(
            Measure(one["name"], one["command"], figures, float(one["minutes"]), status=status, needs=needs, **rest)
        )
    for names in ([measure.name for measure in found], [name for measure in found for name in measure.figures]):
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise FigureFault(f"{path.name}: named twice: {', '.join(sorted(twice))}")
    return found


def apart(path: Path = REGISTRY) -> list[Apart]:
    return [Apart(**one) for one in tomllib.loads(path.read_text(encoding="utf-8")).get("apart", [])]


# ------------------------------------------------------------------------------------------------ reading a result


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    cells = list(head)
    lines = ["| " + " | ".join(cells) + " |", "|---" * len(cells) + "|"]
    return "\n".join([*lines, *("| " + " | ".join(row) + " |" for row in rows)])


def _sig(number: float) -> str:
    """Two digits at least, and no decimals of what has more."""
    decimals = 0 if number == 0 else max(0, 1 - math.floor(math.log10(abs(number))))
    return f"{number:,.{decimals}f}"


def _reader(result: Any, said: str) -> Callable[[str], Any]:
    """What computes an expression over the JSON (``r``) and what was printed: the registry's head says which words it has."""

    def text(pattern: str) -> str:
        found = re.search(pattern, said, re.MULTILINE)
        if found is None:
            raise LookupError(f"nothing printed is like {pattern!r}")
        return "".join(found.groups()).rstrip()

    known = {
        "r": result,
        "find": lambda pattern: float(text(pattern).replace(",", "")),
        "said": text,
        "table": _table,
        "sig": _sig,
        "mean": statistics.mean,
        "median": statistics.median,
        "stdev": statistics.stdev,
    }
    # The registry is a file of this repository, read by whoever runs its benchmarks.
    return lambda expression: eval(expression, dict(known))


def values(measure: Measure, result: Any, said: str) -> dict[str, str]:
    """The figures as they will be written."""
    read, written = _reader(result, said), {}
    for name, (expression, form) in measure.figures.items():
        try:
            value = read(expression)
            if value is None:
                raise LookupError("nothing was measured")
            written[name] = format(value, form) if form else str(value)
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError, NameError) as error:
            raise FigureFault(f"{name} = {expression}: {type(error).__name__}: {error}") from None
    return written


# ------------------------------------------------------------------------------------------------ running


def now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%MZ")


def filled(text: str) -> str:
    """`{build}`: where training's prepared data and runs are."""
    return text.replace("{build}", os.environ.get("EDGE_TRAIN_BUILD", "training/build"))


def lacking(measure: Measure) -> list[str]:
    return [need for need in map(filled, measure.needs) if not is_there(need)]


def run(measure: Measure, quick: bool, running: Running) -> dict[str, Any]:
    """The entry that is kept."""
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
    status = _carry_out(measure, filled(command).replace("{out}", str(out)), out, running)
    said = out.with_suffix(".txt").read_text(encoding="utf-8", errors="replace")
    if status not in measure.status:
        last = out.with_suffix(".err").read_text(encoding="utf-8", errors="replace").splitlines()[-8:]
        raise FigureFault("\n    ".join([f"exit status {status}", *last]))
    result = None
    try:
        if result_file is not None:
            if not result_file.exists() or result_file.stat().st_mtime < began - 1:
                raise FigureFault(f"left no {result_file}")
            result = json.loads(result_file.read_text(encoding="utf-8"))
        elif measure.result == "-":
            result = json.loads(said)
    except ValueError as error:
        raise FigureFault(f"left what is no JSON: {error}") from None
    figures = values(measure, result, said)
    notes = [] if status == 0 else [f"exit status {status}: a bound is not kept"]
    if measure.note is not None:
        asked = Measure(measure.name, command, {"note": (measure.note, "")}, 0)
        notes += filter(None, values(asked, result, said).values())
    made_of = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return {
        "measured": now(),
        "seconds": round(time.time() - began),
        "load": load,
        "note": "; ".join(notes),
        "commit": made_of.stdout.strip(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "figures": figures,
    }


def _carry_out(measure: Measure, command: str, out: Path, running: Running) -> int:
    """Its exit status. What it prints is in `out`.txt and .err while it runs; what it left running is ended with it."""
    with (
        tempfile.TemporaryDirectory() as folder,
        out.with_suffix(".txt").open("wb") as printed,
        out.with_suffix(".err").open("wb") as told,
    ):
        shims(Path(folder))
        made = environment(ROOT, Path(folder))
        if recordings := shared():
            made["EDGE_AGENT_SHARED"] = str(recordings)
        process = subprocess.Popen(
            ["bash", "-c", command],
            cwd=ROOT,
            env=made,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=told,
            start_new_session=True,
        )
        running.processes.add(process)
        try:
            status = _awaited(process, measure)
        finally:
            end(process)
            running.processes.discard(process)
    if running.stopped:
        raise Stopped
    return status


def _awaited(process: subprocess.Popen[bytes], measure: Measure) -> int:
    began, limit_s = time.monotonic(), max(_LEAST_LIMIT_S, 60 * measure.minutes * PATIENCE)
    while True:
        try:
            return process.wait(_SAID_EVERY_S)
        except subprocess.TimeoutExpired:
            taken_s = time.monotonic() - began
            if taken_s > limit_s:
                raise FigureFault(f"had not ended after {taken_s / 60:.0f} min") from None
            print(f"  {measure.name}: {taken_s / 60:.0f} of about {measure.minutes:g} min", flush=True)


def end(process: subprocess.Popen[bytes]) -> None:
    """A command, and what it left running."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, how)
            for _ in range(50):
                process.poll()  # its entry would stand for the group
                os.killpg(process.pid, 0)
                time.sleep(0.1)
    process.wait()
