"""Lines of text from a board: a number per column, bytes in and samples out, whatever the cuts between reads.

Boards start in the middle of a line, print greetings, and drop characters: a line that is not the right number of numbers
is counted and skipped, never guessed at. A cell that says that it holds none (``NO_VALUE``, or nothing) is a sample without a
value: time goes on. A line that looks like a damaged sample rather than like prose is told apart
(``damaged``), so that whoever counts samples can keep time.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from edge_agent.journey import Samples

LONGEST_LINE = 1024
_GREATEST = float(np.finfo(np.float32).max)
_SEPARATORS = {",": ",", ";": ";", "tab": "\t", "blank": None}
NO_VALUE = frozenset({"", "nan", "+nan", "-nan", "inf", "+inf", "-inf", "ovf"})
"""What C's printf, Python and Arduino's print make of a number that is none, in small letters; nothing where a sensor is silent."""


@dataclass(frozen=True, slots=True)
class Format:
    """What a line looks like."""

    columns: tuple[str, ...]
    """'-' for a column to ignore."""
    separator: str = ","
    scale: tuple[float, ...] = (1.0,)
    """Physical units per number: one for all, or one each."""
    lead_off: frozenset[str] = frozenset({"!"})
    comment: tuple[str, ...] = ()
    """A line that begins so is a remark: neither a sample nor a fault."""


@dataclass(slots=True)
class Counters:
    lines: int = 0
    bad_lines: int = 0
    remarks: int = 0
    damaged: int = 0
    """Bad lines between samples that were samples once, by their looks."""
    skipped_bytes: int = 0


@dataclass(slots=True)
class Decoder:
    format: Format
    counters: Counters = field(default_factory=Counters)
    _rest: bytes = b""
    _skipping: bool = True  # the first line may have been joined in its middle
    damaged: list[int] = field(default_factory=list)
    """Of the last call: how many damaged lines came before each of its samples, since the sample before."""
    _damaged: int = 0
    _began: bool = False
    _comment: tuple[bytes, ...] = ()

    def __post_init__(self) -> None:
        self._comment = tuple(word.encode() for word in self.format.comment)

    def decode(self, data: bytes) -> tuple[Samples, list[frozenset[str]]]:
        """Samples (channels, n) and, for each, the channels whose lead is off."""
        names = [name for name in self.format.columns if name != "-"]
        *lines, self._rest = (self._rest + data).split(b"\n")
        values: list[list[float]] = []
        off: list[frozenset[str]] = []
        self.damaged = []
        for line in lines:
            if self._skipping or len(line) > LONGEST_LINE:  # too long is too long, in one read or in many
                self._skipping = False
                self.counters.skipped_bytes += len(line) + 1
                continue
            if self._comment and line.lstrip().startswith(self._comment):
                self.counters.remarks += 1
                continue
            parsed = self._line(line)
            if parsed is None:
                self.counters.bad_lines += 1
                self.counters.skipped_bytes += len(line) + 1
                self._damaged += self._began and _was_a_sample(line)
                continue
            self._began = True
            self.damaged.append(self._damaged)
            self.counters.damaged += self._damaged
            self._damaged = 0
            self.counters.lines += 1
            values.append(parsed[0])
            off.append(parsed[1])
        if len(self._rest) > LONGEST_LINE:  # after the lines before it: what is skipped is its own end
            self.counters.skipped_bytes += len(self._rest)
            self._rest, self._skipping = b"", True
        if not values:
            return np.empty((len(names), 0), np.float32), []
        return np.array(values, np.float32).T, off

    def _line(self, line: bytes) -> tuple[list[float], frozenset[str]] | None:
        try:
            text = line.decode("ascii").strip(" \r" if self.format.separator == "tab" else None)
        except UnicodeDecodeError:
            return None
        columns, lead_off = self.format.columns, self.format.lead_off
        if not text.strip():
            return None  # an empty line, not an empty cell
        if text.strip() in lead_off:  # one word for the whole line (SparkFun's '!')
            names = frozenset(name for name in columns if name != "-")
            return [float("nan")] * len(names), names
        cells = text.split(_SEPARATORS[self.format.separator])
        if len(cells) != len(columns):
            return None
        scale = self.format.scale if len(self.format.scale) > 1 else self.format.scale * len(columns)
        values: list[float] = []
        off: set[str] = set()
        for name, cell, factor in zip(columns, cells, scale, strict=True):
            if name == "-":
                continue
            word = cell.strip()
            if word in lead_off:
                off.add(name)
                values.append(float("nan"))
                continue
            try:
                if word.lower() in NO_VALUE:
                    values.append(float("nan"))
                    continue
                # float() also takes '1_0'; a board does not write it on purpose
                if word.strip("+-.0123456789eE"):
                    return None
                values.append(float(word) * factor)
                if not abs(values[-1]) <= _GREATEST:
                    return None
            except ValueError:
                return None
        return values, frozenset(off)


def _was_a_sample(line: bytes) -> bool:
    """Numbers with at most one strange character among them: a flipped or a dropped byte, not a sentence."""
    return any(byte in b"0123456789" for byte in line) and len(line.translate(None, _OF_NUMBERS)) <= 1


_OF_NUMBERS = b"0123456789+-.eE,; \t\r!"
