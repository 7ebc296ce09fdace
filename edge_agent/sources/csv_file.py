"""CSV files: a column per signal, with or without a header, with a time column (seconds) or a rate from outside."""

from __future__ import annotations

import csv
import math
from array import array
from pathlib import Path

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import StreamInfo
from edge_agent.sources.recording import make_signals

TIME_NAMES = frozenset({"time", "t", "time_s", "seconds", "time_second", "timestamp", "elapsed", "time (s)"})
MISSING = frozenset({"", "-", "nan", "na", "null", "none"})


class CsvRecording:
    """Read whole at opening: a CSV has no index, and a day of one channel at 250 Hz is 86 MB as float32."""

    def __init__(self, path: Path, fs: float | None) -> None:
        if path.exists() and not path.is_dir() and not path.is_file():
            raise SourceError(f"{path}: is no plain file")
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                sample = file.read(4096)
                if not sample.strip():
                    raise SourceError(f"{path}: the file is empty")
                file.seek(0)
                rows = csv.reader(file, delimiter=_delimiter(sample), skipinitialspace=True)
                names, first_row = _header(rows, path)
                data = _numbers(rows, first_row, len(names), path)
        except OSError as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{path}: {error.strerror or error}") from None
        except UnicodeDecodeError:
            raise SourceError(f"{path}: is not text in UTF-8") from None
        except csv.Error as error:
            raise SourceError(f"{path}: is not a CSV file ({error})") from None
        time_column = next((i for i, name in enumerate(names) if name.strip().lower() in TIME_NAMES), None)
        if time_column is not None:
            fs = _told_or_measured(fs, data[:, time_column], path)
            data = np.delete(data, time_column, axis=1)
            names = [name for i, name in enumerate(names) if i != time_column]
        if fs is None:
            raise SourceError(
                f"{path}: has no time column, so its rate is unknown",
                remedy="give it: --fs 250 (replay), or fs = 250 in the source's table",
            )
        if not names:
            raise SourceError(f"{path}: has no signal column")
        signals, factors = make_signals(*_names_and_units(names))
        self._data = np.ascontiguousarray(data.T * np.array(factors)[:, None], np.float32)
        self.info = StreamInfo(fs=fs, signals=signals, samples=self._data.shape[1])

    def read(self, first: int, n: int) -> Samples:
        return self._data[:, first : first + n]

    def close(self) -> None:
        pass


def _delimiter(sample: str) -> str:
    first, *rest = [line for line in sample.splitlines() if line.strip()]
    if any(char in first for char in ",;\t"):
        return max(",;\t", key=first.count)
    # A blank separates only where nothing else does, and in the numbers too: "II (mV)" is one name.
    return " " if " " in (rest[0] if rest else first).strip() else ","


def _is_number(text: str) -> bool:
    if text.strip().lower() in MISSING:
        return True
    try:
        float(text)
    except ValueError:
        return False
    return True


def _header(rows: object, path: Path) -> tuple[list[str], list[str] | None]:
    """Column names, and the first row when it already held numbers."""
    first = next(rows, None)  # type: ignore[call-overload]  # csv's reader has no public type
    if not first:
        raise SourceError(f"{path}: the file is empty")
    if all(_is_number(cell) for cell in first):
        # Without names a lone column is taken for an ECG: that is what such files mostly hold.
        names = ["ECG"] if len(first) == 1 else [f"ECG{i}" for i in range(1, len(first) + 1)]
        return names, first
    return [cell.strip().strip("'") for cell in first], None


def _numbers(rows: object, first_row: list[str] | None, columns: int, path: Path) -> np.ndarray:
    values = array("d")  # a list of floats would take four times as much
    count = 0
    pending = [first_row] if first_row is not None else []
    for source in (pending, rows):
        for row in source:  # type: ignore[attr-defined]
            if not row:
                continue
            count += 1
            if len(row) != columns:
                line = rows.line_num  # type: ignore[attr-defined]
                raise SourceError(f"{path}: line {line} has {len(row)} columns, the first has {columns}")
            for cell in row:
                try:
                    values.append(float(cell))
                except ValueError:
                    if cell.strip().lower() not in MISSING:
                        line = rows.line_num  # type: ignore[attr-defined]
                        raise SourceError(f"{path}: line {line}: {cell.strip()!r} is not a number") from None
                    values.append(math.nan)
    if not count:
        raise SourceError(f"{path}: has a header and no samples")
    return np.array(values, np.float64).reshape(count, columns)


def _told_or_measured(told: float | None, time_s: np.ndarray, path: Path) -> float:
    """A rate from outside stands in for times that are no use; against good ones it is a mistake."""
    if told is None:
        return _rate(time_s, path)
    try:
        measured = _rate(time_s, path)
    except SourceError:
        return told
    if abs(measured / told - 1) > 0.01:
        raise SourceError(
            f"{path}: its time column says {measured:g} Hz, it was told {told:g}", remedy="leave out the rate"
        )
    return measured


def _rate(time_s: np.ndarray, path: Path) -> float:
    steps = np.diff(time_s)
    if steps.size == 0 or not np.isfinite(steps).all() or (steps <= 0).any():
        raise SourceError(f"{path}: its time column does not rise steadily", remedy="give the rate instead: --fs 250")
    # From end to end: rounding of single times cancels out.
    fs = steps.size / float(time_s[-1] - time_s[0])
    if float(np.max(np.abs(steps * fs - 1))) > 0.6:
        raise SourceError(
            f"{path}: its time column has gaps (largest step {float(steps.max()):.4g} s at about {fs:.4g} Hz)",
            remedy="cut the file at the gaps, or give the rate to ignore the times: --fs 250",
        )
    # A whole number if it counts the same samples from end to end: the rest is the rounding of the times.
    whole = round(fs)
    return whole if whole and abs(float(time_s[-1] - time_s[0]) * whole - steps.size) < 1 else fs


def _names_and_units(names: list[str]) -> tuple[list[str], list[str]]:
    """``ABP (mmHg)`` and ``II [mV]`` carry their unit."""
    plain, units = [], []
    for name in names:
        for left, right in (("(", ")"), ("[", "]")):
            if name.endswith(right) and left in name:
                name, _, unit = name[:-1].rpartition(left)
                break
        else:
            unit = ""
        plain.append(name.strip())
        units.append(unit.strip())
    return plain, units
