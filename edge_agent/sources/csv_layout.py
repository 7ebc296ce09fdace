"""What a CSV file looks like: its separator, its decimal mark, its header, its row of units; what counts as a number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from edge_agent.sources.recording import SCALE

MISSING = frozenset({"", "-", "--", "nan", "na", "n/a", "#n/a", "null", "none", "nil", "?", "inf", "-inf"})
TIME_UNITS = {
    "s": 1.0,
    "sec": 1.0,
    "second": 1.0,
    "seconds": 1.0,
    "ms": 1e-3,
    "msec": 1e-3,
    "millis": 1e-3,
    "milliseconds": 1e-3,
    "us": 1e-6,
    "µs": 1e-6,
    "μs": 1e-6,
    "usec": 1e-6,
    "microseconds": 1e-6,
    "ns": 1e-9,
    "min": 60.0,
    "minutes": 60.0,
}
_TIME_WORDS = ("time", "t", "timestamp", "elapsed", "elapsed time", "date", "datetime", "date time", "clock", "utc")
_INDEX_WORDS = ("sample", "sample #", "samples", "sample number", "sample interval", "index", "idx", "n", "#")
_CLOCK = re.compile(r"\[?(\d+:)?\d{1,2}:\d{2}([.,]\d+)?( \d{2}/\d{2}/\d{4})?\]?")
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}(:\d{2}([.,]\d+)?)?(Z|[+-]\d{2}:?\d{2})?)?")
_OTHER_UNITS = frozenset(
    {"nu", "adu", "au", "raw", "%", "bpm", "ohm", "degc", "l", "l/min", "counts", "samples", "hh:mm:ss.mmm"}
)


@dataclass(frozen=True)
class Layout:
    """How the lines are to be read."""

    delimiter: str
    decimal_comma: bool


def layout_of(sample: str) -> Layout:
    """From the first lines of the file."""
    lines = [line for line in sample.splitlines() if line.strip()][:-1][:20] or sample.splitlines()
    for delimiter in "\t;,":
        counts = [line.count(delimiter) for line in lines]
        if min(counts) > 0 and (len(set(counts)) == 1 or delimiter != ","):
            cells = [cell for line in lines[1:] or lines for cell in line.split(delimiter)]
            if delimiter == "," and any(
                re.search(r"\d\s+[-+\d]", cell) and not is_time(cell) and not re.search("[:/]", cell) for cell in cells
            ):
                return Layout(" ", True)  # "0,004 1,5": the commas are in the numbers
            return Layout(delimiter, delimiter != "," and any("," in cell and is_number(cell, True) for cell in cells))
    if any("," in line for line in lines):
        return Layout(",", False)
    body = lines[1] if len(lines) > 1 else ""
    # A blank separates only where nothing else does, and in the numbers too: "II (mV)" is one name.
    return Layout(" " if " " in body.strip() and not is_time(body) else ",", False)


def remarks(sample: str) -> int:
    """How many lines that begin with ``#`` stand above the header, to be skipped.

    One with as many separators as the line below them is no remark but the header (``#,II``; numpy's ``# time,II``).
    """
    lines = sample.splitlines()
    first = next((i for i, line in enumerate(lines) if line.strip() and not line.lstrip().startswith("#")), len(lines))
    if first == len(lines):
        return 0
    if first and re.sub("[^\t;,]", "", lines[first]) == re.sub("[^\t;,]", "", lines[first - 1]) != "":
        return first - 1
    return first if any(line.lstrip().startswith("#") for line in lines[:first]) else 0


def is_missing(text: str) -> bool:
    return text.strip().lower() in MISSING


def is_number(text: str, decimal_comma: bool = False) -> bool:
    if is_missing(text):
        return True
    try:
        number(text, decimal_comma)
    except ValueError:
        return False
    return True


def number(text: str, decimal_comma: bool) -> float:
    """Without what only Python takes for a number: '1_000' is a slip of the keyboard."""
    text = text.strip().replace(",", ".", 1) if decimal_comma else text.strip()
    if "_" in text:
        raise ValueError(text)
    return float(text)


def is_time(text: str) -> bool:
    """A date, a time of day, or both."""
    text = text.strip().strip("'\"")
    return bool(_CLOCK.fullmatch(text) or _DATE.fullmatch(text))


def is_header(row: list[str], layout: Layout) -> bool:
    return not all(is_number(cell, layout.decimal_comma) or is_time(cell) for cell in row)


def is_row_of_units(row: list[str], layout: Layout) -> bool:
    """PhysioNet's tools write one below the names: 'seconds','mV','mmHg'."""
    cells = [plain(cell).lower() for cell in row]
    if any(cell and is_number(cell, layout.decimal_comma) and not is_missing(cell) for cell in cells):
        return False
    known = SCALE.keys() | TIME_UNITS.keys() | _OTHER_UNITS
    return any(cell in known or interval(cell) for cell in cells if cell) and not any(is_time(cell) for cell in cells)


def plain(cell: str) -> str:
    """Without the blanks and quotes around it."""
    return cell.strip().strip("'\"").strip()


def name_and_unit(name: str) -> tuple[str, str]:
    """``ABP (mmHg)`` and ``II [mV]`` carry their unit."""
    for left, right in (("(", ")"), ("[", "]")):
        if name.endswith(right) and left in name:
            label, _, unit = name[:-1].rpartition(left)
            return label.strip(), unit.strip()
    return name.strip(), ""


def interval(unit: str) -> float | None:
    """``0.00277778 sec`` below a column of sample numbers: the seconds between two of them."""
    found = re.fullmatch(r"(\d*\.\d+) ?s(ec)?", unit.strip().lower())
    return float(found[1]) if found and float(found[1]) > 0 else None


def time_factor(name: str, unit: str) -> float | None:
    """Seconds per unit of a column of times; None if it is no such column, 0 if its unit is not said."""
    name = name.strip().lower()
    if unit.lower() in TIME_UNITS and (name in _TIME_WORDS or not name):
        return TIME_UNITS[unit.lower()]
    if name in _TIME_WORDS:
        return 0.0
    for word, factor in TIME_UNITS.items():
        if name in (word, f"time_{word}", f"t_{word}", f"timestamp_{word}", f"time {word}", f"elapsed_{word}"):
            return factor if len(word) > 1 or "_" in name or " " in name else None
    return None


def is_index(name: str) -> bool:
    return name.strip().lower() in _INDEX_WORDS
