"""Reports on disk: written so that no run hides another, read whatever their age, refused in one line where they are damaged."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, NoReturn

from pydantic import ValidationError

from edge_agent import plain_file
from edge_agent.bench import believable
from edge_agent.bench.report import SCHEMA, SUMMARY_SCHEMA, BenchSummary, Report, Result, SummaryRow
from edge_agent.errors import EdgeAgentError, OutputError
from edge_agent.section import first_in_words

OLD_SCHEMA = "edge-agent/bench/1"
AGENT = "agent"
"""In names, where a report is of no single model."""
MOST_BYTES = 64 * 1024 * 1024
MOST_A_DAY = 1000
RISING = ("p50", "p90", "p95", "p99", "p99.9", "max")


class ReportError(EdgeAgentError, ValueError):
    """A report that cannot be read."""


def safe(text: str) -> str:
    """As a part of a file's name."""
    return re.sub(r"[^A-Za-z0-9_.]+", "-", text).strip("-.") or "unnamed"


def stem(report: Report, day: date | None = None) -> str:
    return f"summary-{safe(report.environment.device)}-{safe(report.model or AGENT)}-{day or date.today():%Y-%m-%d}"


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside it to be written to, which takes its place once it is whole and on the disk; nothing of it is left otherwise."""
    beside = path.with_name(f".{path.name}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())  # a full disk may be said only here
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def can_write(folder: Path) -> None:
    """Before anything is measured: minutes of measuring must not end with a folder that takes no report."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole(folder / "trial.json") as trial:
            trial.write_text("\n", encoding="utf-8")
        (folder / "trial.json").unlink()
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}", remedy="another folder: --out DIR") from None


def write(report: Report, folder: Path) -> Path:
    """``summary-DEVICE-MODEL-DAY.json``; the day's second is ``...-DAY-2.json``: nothing that was measured is overwritten."""
    text = json.dumps(report.model_dump(mode="json", by_alias=True), indent=1) + "\n"
    name = stem(report)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(1, MOST_A_DAY):
            path = folder / (f"{name}.json" if number == 1 else f"{name}-{number}.json")
            try:
                path.open("x").close()  # the name is ours from here on
            except FileExistsError:
                continue
            try:
                with whole(path) as beside:
                    beside.write_text(text, encoding="utf-8")
            except BaseException:
                with contextlib.suppress(OSError):
                    path.unlink()
                raise
            return path
    except OSError as error:
        raise OutputError(f"{folder}: {error.strerror or error}", remedy="another folder: --out DIR") from None
    raise OutputError(f"{folder}: holds {MOST_A_DAY} reports named {name}", remedy="another folder: --out DIR")


@dataclass(frozen=True, slots=True)
class Read:
    """A report of any schema, as far as comparing goes."""

    path: Path
    device: str
    model: str
    version: str | None
    time: str
    rows: list[Row]
    report: Report | None
    """None for one of the earlier schema."""


@dataclass(frozen=True, slots=True)
class Row:
    scenario: str
    name: str
    backend: str
    valid: bool
    reasons: list[str]
    count: int | None
    us: dict[str, float | None]
    """p50, p90, p95, p99, p99.9, max, mean."""
    spread_us: dict[str, float | None]
    carried: int | None = None
    cost_us: float | None = None
    macro_f1: float | None = None

    @property
    def key(self) -> tuple[str, str, str]:
        return self.scenario, self.name, self.backend


def read(path: Path) -> Read:
    """A report of this schema or the one before it; `ReportError`, in one line, for anything else."""
    try:
        data = json.loads(plain_file.read(path, MOST_BYTES).decode("utf-8"), parse_constant=_no_number)
        absurd = believable.numbers(data)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror or error}") from None
    except (ValueError, RecursionError):
        raise ReportError(f"{path}: damaged, or no report: it is not JSON") from None
    if absurd is not None:
        raise ReportError(f"{path}: damaged: {absurd}")
    schema = data.get("schema") if isinstance(data, dict) else None
    if schema == OLD_SCHEMA:
        try:
            found = _old(path, data)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ReportError(f"{path}: damaged: a report of {OLD_SCHEMA} without {error}") from None
        for one in found.rows:
            problem = believable.figures(one.count, [one.us.get(metric) for metric in RISING])
            if problem is not None:
                raise ReportError(f"{path}: damaged: {one.scenario}: {problem}")
        return found
    if schema == SUMMARY_SCHEMA:
        raise ReportError(f"{path}: a summary as it is published, not a report")
    if schema != SCHEMA:
        said = f"its schema is {schema!r}" if schema is not None else "it names no schema"
        raise ReportError(f"{path}: no report of edge-bench: {said}")
    try:
        report = Report.model_validate(data)
        unbelievable = believable.report(report)
    except ValidationError as error:
        raise ReportError(f"{path}: damaged: {first_in_words(error, 'report')}") from None
    except ValueError as error:
        raise ReportError(f"{path}: damaged: {error}") from None
    if unbelievable is not None:
        raise ReportError(f"{path}: damaged: {unbelievable}")
    return Read(
        path=path,
        device=report.environment.device,
        model=report.model or AGENT,
        version=report.version,
        time=report.environment.time,
        rows=[row(result) for result in report.results],
        report=report,
    )


def _no_number(text: str) -> NoReturn:
    """Python's own additions to JSON: NaN and Infinity."""
    raise ValueError(text)


def row(result: Result) -> Row:
    d, s = result.latency, result.spread
    return Row(
        scenario=result.scenario,
        name=result.name,
        backend=result.backend,
        valid=result.valid,
        reasons=result.reasons,
        count=None if d is None else d.count,
        us={}
        if d is None
        else {
            "p50": d.p50_us, "p90": d.p90_us, "p95": d.p95_us, "p99": d.p99_us, "p99.9": d.p99_9_us, "max": d.max_us,
            "mean": d.mean_us,
        },
        spread_us={} if s is None else {"p50": s.p50_us, "p90": s.p90_us, "p99": s.p99_us},
        carried=None if result.streams is None else result.streams.carried,
        cost_us=None if result.streams is None or not result.streams.steps else _cost(result),
        macro_f1=None if result.accuracy is None else result.accuracy.macro_f1,
    )  # fmt: skip


def _cost(result: Result) -> float | None:
    """Of the largest step that held."""
    held = [step for step in result.streams.steps if step.held] if result.streams is not None else []
    return held[-1].cpu_us_per_stream_s if held else None


def _old(path: Path, data: dict[str, Any]) -> Read:
    rows = [
        Row(
            scenario=str(one["scenario"]),
            name="call",  # what the first form measured: the engine's whole call
            backend=str(one["backend"]),
            valid=bool(one["valid"]),
            reasons=[str(reason) for reason in one["reasons"]],
            count=int(one["count"]),
            us={
                **{name: float(value) for name, value in one["percentiles_us"].items()},
                "max": float(one["max_us"]),
                "mean": float(one["mean_us"]),
            },
            spread_us={},
        )
        for one in data["results"]
    ]
    around = data["environment"]
    return Read(path, str(around["device"]), str(data["model"]), str(data["version"]), str(around["time"]), rows, None)


def previous(folder: Path, report: Report) -> Read | None:
    """The newest report of this device and model in the folder, other days included; a damaged one is passed over."""
    pattern = f"summary-{safe(report.environment.device)}-{safe(report.model or AGENT)}-????-??-??*.json"
    newest: Read | None = None
    for path in folder.glob(pattern):
        try:
            found = read(path)
        except ReportError:
            continue
        if (
            found.report is not None
            and found.report.digest == report.digest
            and (newest is None or found.time >= newest.time)
        ):
            newest = found
    return newest


def summary(report: Report) -> BenchSummary:
    around = report.environment
    rows = [
        SummaryRow(
            scenario=result.scenario,
            name=result.name,
            backend=result.backend,
            valid=result.valid,
            reasons=result.reasons,
            count=result.latency.count if result.latency else None,
            p50_us=result.latency.p50_us if result.latency else None,
            p90_us=result.latency.p90_us if result.latency else None,
            p99_us=result.latency.p99_us if result.latency else None,
            p99_9_us=result.latency.p99_9_us if result.latency else None,
            max_us=result.latency.max_us if result.latency else None,
            misses=result.deadline.misses if result.deadline else None,
            carried_streams=result.streams.carried if result.streams else None,
            cpu_us_per_stream_s=_cost(result),
            macro_f1=result.accuracy.macro_f1 if result.accuracy else None,
        )
        for result in report.results
    ]
    return BenchSummary(
        device=around.device,
        model=report.model or AGENT,
        version=report.version,
        digest=report.digest,
        time=around.time,
        agent=around.agent,
        board=around.board,
        cpu=around.cpu,
        governor=around.governor,
        choice=report.choice.backend if report.choice else None,
        rows=rows,
    )
