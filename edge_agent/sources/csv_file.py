"""CSV files: a column per signal, with or without a header, with a column of times or a rate from outside.

Lines that begin with ``#`` above the header are remarks and are skipped.
"""

from __future__ import annotations

import csv
import itertools
import logging
import math
import time
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources import csv_guess, csv_time
from edge_agent.sources.base import StreamInfo
from edge_agent.sources.csv_layout import (
    Layout,
    interval,
    is_header,
    is_index,
    is_missing,
    is_row_of_units,
    is_time,
    layout_of,
    name_and_unit,
    number,
    plain,
    remarks,
    time_factor,
)
from edge_agent.sources.recording import NO_UNIT, SCALE, Run, make_signals, run_at, warn

MOST_LINE = 1 << 16
"""Characters of a line: a file that is one endless line is no CSV, and would take all the memory."""
MOST_COLUMNS = 256
SILENT_S = 2.0
"""Ten million rows take a minute: whoever waits longer than this is told for what."""
LOOK_LINES = 1 << 14
Table = NDArray[np.float64]
Rows = Iterator[tuple[int, list[str]]]
"""Each with its line's number, as an editor counts them."""
MOST_SAMPLES = 2**53
"""Beyond it, indices are no longer whole numbers everywhere."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Columns:
    """Above the numbers."""

    names: list[str]
    units: list[str]
    times: int | None
    """The column of times."""
    factor: float
    """Seconds per number there; 0 if that is not said."""
    as_text: bool
    """They are dates or times of day."""
    drop: frozenset[int]
    fs: float | None
    """From the interval that the row of units names."""
    named: bool
    """By a header: what unnamed columns are is a guess."""


class CsvRecording:
    """Read whole at opening: a CSV has no index, and a day of one channel at 250 Hz is 86 MB as float32."""

    def __init__(self, path: Path, fs: float | None) -> None:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise SourceError(f"{path}: is no plain file", remedy='to read from a pipe, use type = "stdin"')
        try:
            columns, data = _read(path)
        except OSError as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{path}: {error.strerror or error}", remedy="look at the source's path") from None
        except UnicodeDecodeError:
            raise SourceError(f"{path}: is not text in UTF-8", remedy="save it as text, in UTF-8") from None
        except csv.Error as error:
            raise SourceError(f"{path}: is not a CSV file ({error})", remedy="one line per sample, please") from None
        began = None
        told = fs if fs is not None else columns.fs
        if not columns.named:
            columns = _guessed(columns, data, told, path)
        self.runs: tuple[Run, ...] = ((0, data.shape[0]),)
        if columns.times is not None:
            times = data[:, columns.times]
            bad = np.flatnonzero(~np.isfinite(times))
            if told is None and bad.size:
                raise _no_time(path, int(bad[0]), columns.times)
            times = csv_time.over_midnight(times) if columns.as_text else csv_time.in_seconds(times, columns.factor)
            try:
                told, self.runs = csv_time.rate_and_runs(times, told, str(path))
            except csv_time.FallsBack as error:
                raise SourceError(
                    f"{error.what}: not at line {_line(path, error.row)[0]}", remedy=error.remedy
                ) from None
            if self.runs[-1][1] > MOST_SAMPLES:
                raise SourceError(
                    f"{path}: its times lie {self.runs[-1][1] / told:.3g} s apart", remedy="is one of them damaged?"
                )
            began = csv_time.began(times)
        if told is None:
            raise csv_guess.no_rate(str(path), columns.names, data, named=columns.named)
        kept = [i for i in range(len(columns.names)) if i != columns.times and i not in columns.drop]
        if not kept:
            raise SourceError(f"{path}: has no signal column", remedy="a column per signal, besides the times")
        signals, factors = make_signals([columns.names[i] for i in kept], [columns.units[i] for i in kept])
        with np.errstate(over="ignore"):  # 1e300 mV are no value, as text that is none
            values = np.ascontiguousarray(data[:, kept].T * np.array(factors)[:, None], np.float32)
        values[np.isinf(values)] = np.nan
        self._data = values
        self.info = StreamInfo(fs=told, signals=signals, began=began, samples=self.runs[-1][1])
        for i, signal in zip(kept, signals, strict=True):
            unit = columns.units[i].strip().lower()
            if signal.kind in ("ecg", "abp") and unit not in SCALE and unit not in NO_UNIT:
                usual = "mV" if signal.kind == "ecg" else "mmHg"
                warn(f"{path}: {signal.name!r} is in {columns.units[i]!r}, a unit that is not known: taken as {usual}")
        for doubt in csv_guess.doubts(signals, values, told):
            warn(f"{path}: {doubt}")

    def read(self, first: int, n: int) -> Samples:
        run = run_at(self.runs, first)
        if run is None:
            return self._data[:, :0]
        missing = 0  # samples that the gaps before this run leave out
        for before, after in itertools.pairwise(self.runs):
            if after[0] <= run[0]:
                missing += after[0] - before[1]
        return self._data[:, first - missing : min(run[1], first + n) - missing]

    def close(self) -> None:
        pass


def _begun(file: TextIO, path: Path) -> tuple[Columns, Rows, int, Layout]:
    """The columns, the rows of numbers, and the number of lines above those."""
    sample = file.read(MOST_LINE).partition("\0")[0]
    if not sample.strip():
        raise SourceError(f"{path}: the file is empty", remedy="was it fetched whole?")
    if len(sample) == MOST_LINE and "\n" not in sample and "\r" not in sample:
        raise _too_long(path, 1)
    file.seek(0)
    skipped = remarks(sample)
    layout = layout_of("".join(sample.splitlines(keepends=True)[skipped:])[:4096])
    lines = itertools.islice(_lines(file, path), skipped, None)
    reader = csv.reader(lines, delimiter=layout.delimiter, skipinitialspace=True)
    rows = ((reader.line_num + skipped, row) for row in reader if row)
    columns, body, above = _columns(rows, layout, path)
    return columns, body, max(above, skipped), layout


def _no_time(path: Path, row: int, column: int) -> SourceError:
    line, cells, names = _line(path, row)
    return _no_value(path, line, cells[column].strip(), names[column], a_time=True)


def _line(path: Path, row: int) -> tuple[int, list[str], list[str]]:
    """Which line that is, blank ones and all, is known when it is counted; its cells, and the names of the columns."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        columns, body, _, _ = _begun(file, path)
        line, cells = next(itertools.islice(body, row, None))
    return line, cells, columns.names


def _guessed(columns: Columns, data: Table, told: float | None, path: Path) -> Columns:
    """Without a header: the first of several columns may be a time. What each was taken for is said."""
    if columns.times is None and len(columns.names) > 1:
        first = csv_guess.first_column(data[:, 0], told, str(path))
        if first is not None:
            names = ["sample" if first.counts else "time", *_ecgs(len(columns.names) - 1)]
            drop = frozenset({0}) if first.counts else frozenset[int]()
            columns = replace(
                columns, names=names, times=None if first.counts else 0, factor=first.factor, drop=columns.drop | drop
            )
            log.info("%s: no header: column 1 is taken for %s%s", path, first.word, _taken(columns, 1))
            return columns
    log.info("%s: no header: %s", path, _taken(columns, 0).removeprefix(", "))
    return columns


def _taken(columns: Columns, first: int) -> str:
    """In words, from that column on."""
    return "".join(
        f", column {i + 1} is taken for {'the time' if i == columns.times else f'{columns.names[i]} in mV'}"
        for i in range(first, len(columns.names))
    )


def _ecgs(count: int) -> list[str]:
    """Without names a lone column is taken for an ECG: that is what such files mostly hold."""
    return ["ECG"] if count == 1 else [f"ECG{i}" for i in range(1, count + 1)]


def _read(path: Path) -> tuple[Columns, Table]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        columns, body, above, layout = _begun(file, path)
        data = None
        if not columns.as_text and not layout.decimal_comma and layout.delimiter != " ":
            data = _plain_numbers(path, layout, above)
        if data is None or data.shape[1] != len(columns.names):
            data = _numbers(body, columns, layout, path)
    return columns, np.where(np.isfinite(data), data, np.nan)


def _lines(file: TextIO, path: Path) -> Iterator[str]:
    """To the end, or to where nothing but NULs follow: what a file system writes for what a power cut took."""
    began, said = time.monotonic(), False
    for at in itertools.count(1):
        line = file.readline(MOST_LINE + 1)
        if "\0" in line:
            line, _, rest = line.partition("\0")
            while rest:
                if rest.strip("\0\r\n"):
                    raise SourceError(f"{path}: line {at} holds NULs", remedy="mend or cut that line")
                rest = file.read(MOST_LINE)
            if line.strip():
                yield line
            return
        if len(line) > MOST_LINE:
            raise _too_long(path, at)
        if not line:
            return
        if at % LOOK_LINES == 0 and not said and time.monotonic() - began > SILENT_S:
            said = True
            log.info("reading %s ...", path)
        yield line


def _torn(path: Path) -> bool:
    """It ends within a line, or in NULs."""
    with path.open("rb") as file:
        file.seek(-1, 2)
        return file.read(1) not in (b"\n", b"\r")


def _too_long(path: Path, line: int) -> SourceError:
    return SourceError(
        f"{path}: line {line} is longer than {MOST_LINE} characters", remedy="is it a CSV? one line per sample, please"
    )


def _columns(rows: Rows, layout: Layout, path: Path) -> tuple[Columns, Rows, int]:
    """The columns, the rows of numbers, and the number of lines above those."""
    first = next(rows, None)
    if first is None:
        raise SourceError(f"{path}: the file is empty", remedy="was it fetched whole?")
    if len(first[1]) > MOST_COLUMNS:
        raise SourceError(
            f"{path}: line {first[0]} has {len(first[1])} columns, {MOST_COLUMNS} are the most",
            remedy="a line per sample and a column per signal, please: is the table on its side?",
        )
    above = 0
    named = is_header(first[1], layout)
    if named:
        names, units = map(list, zip(*(name_and_unit(plain(cell)) for cell in first[1]), strict=True))
        above = first[0]
        first = next(rows, None)
        if first is not None and len(first[1]) == len(names) and is_row_of_units(first[1], layout):
            units = [plain(cell) or unit for cell, unit in zip(first[1], units, strict=True)]
            above = first[0]
            first = next(rows, None)
        if first is None:
            raise SourceError(f"{path}: has a header and no samples", remedy="was it fetched whole?")
    else:
        dated = [is_time(cell) and not _is_plain(cell) for cell in first[1]]
        others = len(first[1]) - dated[:1].count(True)
        names = (["time"] if dated[0] else []) + _ecgs(others)
        units = [""] * len(names)
    times, factor, fs = None, 0.0, None
    drop = set()
    for i, (name, unit) in enumerate(zip(names, units, strict=True)):
        found = time_factor(name, unit if unit.lower() != "hh:mm:ss.mmm" else "")
        if is_index(name) or interval(unit):
            drop.add(i)
            step = interval(unit)
            fs = fs if step is None else _whole(1 / step)
        elif found is not None and times is None:
            times, factor = i, found
    as_text = (
        times is not None and times < len(first[1]) and is_time(first[1][times]) and not _is_plain(first[1][times])
    )
    columns = Columns(names, units, times, factor, as_text, frozenset(drop), fs, named)
    return columns, itertools.chain([first], rows), above


def _is_plain(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _whole(fs: float) -> float:
    """An interval is written with few digits."""
    return float(round(fs)) if round(fs) and abs(fs / round(fs) - 1) < 1e-3 else fs


def _plain_numbers(path: Path, layout: Layout, above: int) -> Table | None:
    """Many times as fast as line by line, but it knows numbers only: None when there is anything else."""
    try:
        with path.open(encoding="utf-8-sig") as file:
            table: Table = np.loadtxt(
                _lines(file, path),
                np.float64,
                comments=None,
                delimiter=layout.delimiter,
                skiprows=above,
                ndmin=2,
                quotechar='"',
            )
    except ValueError:  # also UnicodeDecodeError
        return None
    return table


def _no_value(path: Path, line: int, cell: str, column: str, *, a_time: bool) -> SourceError:
    remedy = "mend or cut that line"
    if a_time and (":" in cell or "/" in cell):
        remedy = "known are 23:59:40.004 and 2024-03-31T23:59:40.004 (24 hours, the year first): write them so, or as seconds"
    return SourceError(
        f"{path}: line {line}: {cell!r} is not a {'time' if a_time else 'number'} (column {column!r})",
        remedy=remedy,
    )


def _numbers(rows: Rows, columns: Columns, layout: Layout, path: Path) -> Table:
    values = array("d")  # a list of floats would take four times as much
    width = len(columns.names)
    for line, row in rows:
        try:
            values.extend(_values(line, row, columns, layout, path))
        except SourceError as error:
            if not values or not _torn(path) or next(rows, None) is not None:
                raise
            warn(f"{error.what}; it is the last, and cut off: left out")
    return np.array(values, np.float64).reshape(-1, width)


def _values(line: int, row: list[str], columns: Columns, layout: Layout, path: Path) -> list[float]:
    if len(row) != len(columns.names):
        raise SourceError(
            f"{path}: line {line} has {len(row)} columns, the first has {len(columns.names)}",
            remedy="mend or cut that line",
        )
    values = []
    times = columns.times if columns.as_text else None
    for i, cell in enumerate(row):
        try:
            values.append(csv_time.seconds_of(cell) if i == times else number(cell, layout.decimal_comma))
        except ValueError:
            if i not in columns.drop and not is_missing(cell):
                raise _no_value(path, line, cell.strip(), columns.names[i], a_time=i == columns.times) from None
            values.append(math.nan)
    return values
