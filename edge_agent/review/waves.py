"""A recording's samples, any stretch of them, without the whole in memory.

WFDB records in formats 16 and 212 (the recorder's own, and most of PhysioNet's) are read as they lie; everything else goes through the
readers of ``edge_agent.sources``, whose libraries may take more memory.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import Signal
from edge_agent.sources.open import open_recording
from edge_agent.sources.recording import make_signals

Digital = NDArray[np.int16]
INVALID = -32768
MOST_CHANNELS = 64
MOST_HEADER = 1 << 20
_GAIN = re.compile(r"([-+0-9.eE]+)(?:\((-?\d+)\))?(?:/(\S+))?")


class Waves(Protocol):
    """All channels at one rate."""

    fs: float
    signals: tuple[Signal, ...]
    samples: int
    began: datetime | None

    def read(self, first: int, end: int) -> Samples:
        """Channels x samples, NaN where there is none."""

    def extremes(self, first: int, end: int, width: int) -> tuple[Samples, Samples]:
        """The least and the greatest of every ``width`` samples, channels x buckets; the last bucket may be short."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class _File:
    """Read, not mapped: mapped pages would count as the server's memory, and a file that shrinks would end the process."""

    path: Path
    packed: bool
    """Format 212, else 16."""
    channels: int

    def bytes(self, first: int, end: int) -> bytes:
        """Fewer where the file has become shorter. Raises SourceError where it has gone."""
        try:
            with self.path.open("rb", buffering=0) as file:
                return os.pread(file.fileno(), end - first, first)
        except OSError as error:
            raise SourceError(f"{self.path}: {error.strerror or error}") from None


class PlainWaves:
    """A WFDB record of one segment, in formats of which any stretch can be read by itself."""

    def __init__(self, header: Path) -> None:
        lines = _lines(header)
        fields = lines[0].split()
        if len(fields) < 2 or "/" in fields[0]:
            raise NotImplementedError("several segments")
        count = int(fields[1])
        rate = fields[2].split("/")[0].split("(")[0] if len(fields) > 2 else "250"
        self.fs = float(rate)
        said = int(fields[3]) if len(fields) > 3 else 0
        self.began = _began(fields[4:])
        if not 0 < count <= MOST_CHANNELS or len(lines) < count + 1 or not 0 < self.fs < 1e6:
            raise NotImplementedError("unusual")
        specs = [_Spec(line) for line in lines[1 : count + 1]]
        self.signals, factors = make_signals([spec.name for spec in specs], [spec.unit for spec in specs])
        self._scale = np.array([f / spec.gain for f, spec in zip(factors, specs, strict=True)], np.float32)[:, None]
        self._zero = np.array([spec.baseline for spec in specs], np.float32)[:, None]
        self._files: list[_File] = []
        lengths = []
        at = 0
        while at < count:
            same = [spec for spec in specs[at:] if spec.file == specs[at].file]
            n = len(same)
            if [spec.file for spec in specs[at : at + n]] != [specs[at].file] * n or "/" in same[0].file:
                raise NotImplementedError("channels of a file apart")
            packed = same[0].fmt == "212"
            path = header.parent / same[0].file
            if not path.is_file():
                raise SourceError(f"{path}: no such file", remedy="the record's header names it: fetch it too")
            size = path.stat().st_size
            there = (size * 2 // 3) // n if packed else size // 2 // n
            self._files.append(_File(path, packed, n))
            lengths.append(there)
            at += n
        self.samples = min([*lengths, said] if said else lengths)
        if self.samples < 1:
            raise SourceError(f"{header}: the record is empty", remedy="its signal file holds no samples")

    def _digital(self, first: int, end: int) -> Digital:
        """Samples x channels."""
        parts = [_unpack(file, first, end) if file.packed else _plain(file, first, end) for file in self._files]
        return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)

    def read(self, first: int, end: int) -> Samples:
        first, end = max(0, first), min(end, self.samples)
        if end <= first:
            return np.empty((len(self.signals), 0), np.float32)
        return self._physical(np.ascontiguousarray(self._digital(first, end).T))

    def _physical(self, digital: Digital) -> Samples:
        values = (digital.astype(np.float32) - self._zero) * self._scale
        values[digital == INVALID] = np.nan
        return values

    def extremes(self, first: int, end: int, width: int) -> tuple[Samples, Samples]:
        first, end = max(0, first), min(end, self.samples)
        digital = self._digital(first, end)
        least, greatest = _least(digital, width), _greatest(digital, width)
        if least.size and least.min() == INVALID:
            # INVALID is the least of all numbers; one less is the greatest, so what is missing never counts as the minimum
            with np.errstate(over="ignore"):
                apart = _least(digital - np.int16(1), width)
                least = np.where(greatest == INVALID, np.int16(INVALID), apart + np.int16(1))
        low = self._physical(np.ascontiguousarray(least.T))
        high = self._physical(np.ascontiguousarray(greatest.T))
        upside_down = self._scale[:, 0] < 0
        low[upside_down], high[upside_down] = high[upside_down], low[upside_down]
        return low, high

    def close(self) -> None:
        self._files = []


class _Spec:
    """One signal's line of a header."""

    def __init__(self, line: str) -> None:
        fields = line.split(None, 8)
        self.file, self.fmt = fields[0], fields[1]
        if self.fmt not in ("16", "212"):  # also several samples a frame, skew and offsets
            raise NotImplementedError(f"format {self.fmt}")
        found = _GAIN.fullmatch(fields[2]) if len(fields) > 2 else None
        gain = float(found.group(1)) if found else 0.0
        self.gain = gain or 200.0
        adc_zero = int(fields[4]) if len(fields) > 4 else 0
        self.baseline = int(found.group(2)) if found and found.group(2) else adc_zero
        self.unit = (found.group(3) if found else None) or "mV"
        self.name = fields[8] if len(fields) > 8 else ""


def _lines(header: Path) -> list[str]:
    if header.stat().st_size > MOST_HEADER:
        raise NotImplementedError("no header")
    text = header.read_text(encoding="utf-8", errors="replace")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.lstrip().startswith("#")]


def _began(fields: list[str]) -> datetime | None:
    if len(fields) < 2:
        return None
    for form in ("%H:%M:%S.%f %d/%m/%Y", "%H:%M:%S %d/%m/%Y"):
        try:
            return datetime.strptime(" ".join(fields[:2]), form).replace(tzinfo=UTC)
        except ValueError:
            continue
    return None


def _plain(file: _File, first: int, end: int) -> Digital:
    """Format 16."""
    n = file.channels
    there = file.bytes(2 * n * first, 2 * n * end)
    made = np.frombuffer(there, "<i2", len(there) // 2 // n * n).reshape(-1, n)
    if len(made) < end - first:  # it was cut off while we looked
        made = np.concatenate([made, np.full((end - first - len(made), n), INVALID, np.int16)])
    return made


def _unpack(file: _File, first: int, end: int) -> Digital:
    """Format 212: two samples of 12 bits in three bytes."""
    n = file.channels
    begin, stop = first * n, end * n
    pair = begin // 2
    there = file.bytes(3 * pair, 3 * (-(-stop // 2)))
    raw = np.frombuffer(there.ljust(3 * (-(-stop // 2) - pair), b"\0"), np.uint8)  # the last may be half a pair
    low, middle, high = (part.astype(np.int16) for part in raw.reshape(-1, 3).T)
    out = np.empty(2 * low.size, np.int16)
    out[0::2] = low | (middle & 0x0F) << 8
    out[1::2] = high | (middle & 0xF0) << 4
    out = (out << 4) >> 4  # the sign
    out[out == -2048] = INVALID
    return out[begin - 2 * pair : begin - 2 * pair + stop - begin].reshape(-1, n)


def _starts(n: int, width: int) -> NDArray[np.int64]:
    return np.arange(0, n, width)


def _least(x: Digital, width: int) -> Digital:
    whole = len(x) // width * width
    made = x[:whole].reshape(-1, width, x.shape[1]).min(1)
    return made if whole == len(x) else np.concatenate([made, x[whole:].min(0, keepdims=True)])


def _greatest(x: Digital, width: int) -> Digital:
    whole = len(x) // width * width
    made = x[:whole].reshape(-1, width, x.shape[1]).max(1)
    return made if whole == len(x) else np.concatenate([made, x[whole:].max(0, keepdims=True)])


class ReadWaves:
    """Whatever else there is a reader for; gaps between its runs are NaN."""

    def __init__(self, path: Path) -> None:
        self._recording = open_recording(path)
        info = self._recording.info
        self.fs, self.signals, self.began = info.fs, info.signals, info.began
        self.samples = self._recording.runs[-1][1]

    def read(self, first: int, end: int) -> Samples:
        first, end = max(0, first), min(end, self.samples)
        out = np.full((len(self.signals), max(0, end - first)), np.nan, np.float32)
        for begin, stop in self._recording.runs:
            at = max(first, begin)
            while at < min(end, stop):
                got = self._recording.read(at, min(end, stop) - at)
                if not got.shape[1]:
                    break
                out[:, at - first : at - first + got.shape[1]] = got
                at += got.shape[1]
        return out

    def extremes(self, first: int, end: int, width: int) -> tuple[Samples, Samples]:
        x = self.read(first, end)
        n = x.shape[1]
        if not n:
            return x, x
        starts = _starts(n, width)
        return (
            np.asarray(np.fmin.reduceat(x, starts, axis=1), np.float32),
            np.asarray(np.fmax.reduceat(x, starts, axis=1), np.float32),
        )

    def close(self) -> None:
        self._recording.close()


def open_waves(path: Path) -> Waves:
    """``path`` as `open_recording` takes it. Raises SourceError."""
    header = path if path.suffix == ".hea" else Path(f"{path}.hea")
    if header.is_file():
        try:
            return PlainWaves(header)
        except (NotImplementedError, ValueError, IndexError, ArithmeticError):
            pass  # the full reader knows more, or says what is wrong with it
        except OSError as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(f"{header}: {error.strerror or error}") from None
    return ReadWaves(path)
