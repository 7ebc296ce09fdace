"""EDF, EDF+ and BDF files, read as their specification says (Kemp 1992, Kemp & Olivan 2003); no library is needed.

Interrupted EDF+ files (``EDF+D``) say in each data record when it began; what is missing in between is a gap here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import StreamInfo
from edge_agent.sources.recording import Run, known_unit, make_signals, resampled, run_at, runs_of, warn_of_more

FIELDS = (("label", 16), ("transducer", 80), ("unit", 8), ("low", 8), ("high", 8), ("digital_low", 8))
MORE_FIELDS = (("digital_high", 8), ("prefilter", 80), ("count", 8), ("reserved", 32))
ANNOTATIONS = ("EDF Annotations", "BDF Annotations")
MOST_RECORD_BYTES = 64 << 20


@dataclass(frozen=True)
class Channel:
    label: str
    unit: str
    gain: float
    offset: float
    """Physical value = gain * digital + offset."""
    count: int
    """Samples in a data record."""
    at: int
    """Of its first sample in a data record, in samples."""


class EdfRecording:
    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise SourceError(f"{path}: no such file", remedy="look at the source's path")
        self._path = path
        try:
            with path.open("rb") as file:
                head = file.read(256)
                count = _number(head, 252, 4, int)
                if not 1 <= count <= 4096:
                    raise ValueError(f"{count} signals")
                fields = file.read(256 * count)
            size = path.stat().st_size
            if len(fields) < 256 * count:
                raise ValueError("the header is cut off")
            self._width = 3 if head[:1] == b"\xff" else 2
            self._record_s = _number(head, 244, 8, float)
            self._channels, notes, self._record = _channels(fields, count)
            self._header = _number(head, 184, 8, int)
            records = _number(head, 236, 8, int)
            if self._header != 256 * (count + 1):
                raise ValueError(f"a header of {self._header} bytes for {count} signals")
        except (OSError, ValueError) as error:
            if isinstance(error, SourceError):
                raise
            raise SourceError(
                f"{path}: not a readable EDF file ({error})", remedy="is it EDF, EDF+ or BDF, and was it fetched whole?"
            ) from None
        if not self._channels:
            raise SourceError(f"{path}: holds no signal", remedy="it has annotations only")
        if self._record_s <= 0:
            raise SourceError(f"{path}: its data records last {self._record_s:g} s", remedy="export it again")
        there = (size - self._header) // (self._record * self._width)
        if records > there:
            raise SourceError(
                f"{path}: its header says {records} data records, {there} are there",
                remedy="fetch it again; or write the true number into bytes 236-243",
            )
        if 0 < records < there:
            warn_of_more(path, "its header", records, there, "data records")
        records = there if records < 0 else records  # -1: the recorder did not come to write it
        if not records:
            raise SourceError(f"{path}: the recording is empty", remedy="it was never stopped properly, or cut off")
        self._data: NDArray[Any] = np.memmap(path, np.uint8, "r", self._header, (records, self._record * self._width))
        fs = round(max(channel.count for channel in self._channels) / self._record_s, 9)
        signals, factors = make_signals(
            [channel.label for channel in self._channels],
            [known_unit(channel.label, channel.unit, str(path)) for channel in self._channels],
        )
        self._factors = np.array(factors, np.float32)
        self._fs = fs
        interrupted = head[192:236].startswith((b"EDF+D", b"BDF+D"))
        if interrupted and notes is not None:
            self.runs, self._first_record = self._by_their_starts(notes)
        else:
            self.runs, self._first_record = ((0, int(fs * self._record_s * records + 0.5)),), (0,)
        began = _began(head)
        if began is not None and notes is not None:
            began += timedelta(seconds=self._start(notes, 0) or 0.0)  # the header has whole seconds only
        self.info = StreamInfo(fs=fs, signals=signals, began=began, samples=self.runs[-1][1])

    def _by_their_starts(self, notes: Channel) -> tuple[tuple[Run, ...], tuple[int, ...]]:
        """Each data record's first annotation is the time at which it began: the runs, and each one's first record."""
        starts = []
        for number in range(self._data.shape[0]):
            start = self._start(notes, number)
            if start is None:
                raise SourceError(
                    f"{self._path}: data record {number} does not say when it began",
                    remedy="an interrupted EDF+ file must; export it again",
                )
            starts.append(start)
        per_record = round(self._fs * self._record_s)
        runs = runs_of(starts, [per_record] * len(starts), self._fs)
        sizes = np.cumsum([0] + [(end - first) // per_record for first, end in runs])
        return runs, tuple(int(size) for size in sizes[:-1])

    def _start(self, notes: Channel, number: int) -> float | None:
        row = self._data[number, notes.at * self._width : (notes.at + notes.count) * self._width]
        found = re.match(rb"([+-]\d+(?:\.\d*)?)\x14\x14", row.tobytes())
        return float(found[1]) if found else None

    def read(self, first: int, n: int) -> Samples:
        run = run_at(self.runs, first)
        end = 0 if run is None else min(run[1], first + n)
        if run is None or end <= first:
            return np.empty((len(self._channels), 0), np.float32)
        number = self.runs.index(run)
        record0 = self._first_record[number]
        record1 = self._first_record[number + 1] if number + 1 < len(self.runs) else self._data.shape[0]
        rows = []
        for channel, factor in zip(self._channels, self._factors, strict=True):
            have = (record0 * channel.count, record1 * channel.count)
            rate = round(channel.count / self._record_s, 9)

            def own(low: int, high: int, channel: Channel = channel, factor: np.float32 = factor) -> Samples:
                return self._own(channel, low, high) * factor

            if rate == self._fs:
                rows.append(own(have[0] + first - run[0], have[0] + end - run[0]))
            else:
                rows.append(resampled(own, have, rate, self._fs, first - run[0], end - first))
        return np.stack(rows)

    def _own(self, channel: Channel, low: int, high: int) -> Samples:
        """A channel's samples by its own count."""
        if high <= low:
            return np.empty(0, np.float32)
        record0, record1 = low // channel.count, -(-high // channel.count)
        width = self._width
        try:
            raw = np.ascontiguousarray(
                self._data[record0:record1, channel.at * width : (channel.at + channel.count) * width]
            )
        except (OSError, ValueError) as error:  # the file shrank while it was open
            raise SourceError(f"{self._path}: cannot be read at data record {record0} ({error})") from None
        if width == 2:
            digital = raw.view("<i2").ravel().astype(np.float64)
        else:
            bytes3 = raw.reshape(-1, 3).astype(np.int32)
            digital = ((bytes3[:, 0] | bytes3[:, 1] << 8 | bytes3[:, 2] << 16) << 8 >> 8).astype(np.float64)
        start = low - record0 * channel.count
        return (digital[start : start + high - low] * channel.gain + channel.offset).astype(np.float32)

    def close(self) -> None:
        self._data = np.empty((0, 0), np.uint8)  # lets go of the mapped file


def _channels(fields: bytes, count: int) -> tuple[list[Channel], Channel | None, int]:
    """The signals, the channel of annotations if there is one, and the length of a data record in samples."""
    columns: dict[str, list[bytes]] = {}
    at = 0
    for name, width in FIELDS + MORE_FIELDS:
        columns[name] = [fields[at + i * width : at + (i + 1) * width] for i in range(count)]
        at += count * width
    channels: list[Channel] = []
    notes: Channel | None = None
    place = 0
    for i in range(count):
        label = columns["label"][i].decode("latin-1").strip()
        samples = _number(columns["count"][i], 0, 8, int)
        if samples < 0 or (place + samples) * 3 > MOST_RECORD_BYTES:
            raise ValueError(f"{samples} samples in a data record of {label!r}")
        if label in ANNOTATIONS:
            notes = notes or Channel(label, "", 1.0, 0.0, samples, place)
        elif samples:
            low, high = _number(columns["low"][i], 0, 8, float), _number(columns["high"][i], 0, 8, float)
            bottom, top = (_number(columns[one][i], 0, 8, int) for one in ("digital_low", "digital_high"))
            if bottom == top or low == high:
                raise ValueError(f"{label!r} reaches from {low:g} to {high:g}, in numbers from {bottom} to {top}")
            gain = (high - low) / (top - bottom)
            unit = columns["unit"][i].decode("latin-1").strip()
            channels.append(Channel(label, unit, gain, low - gain * bottom, samples, place))
        place += samples
    return channels, notes, place


def _number(data: bytes, at: int, width: int, kind: type[int] | type[float]) -> Any:
    text = data[at : at + width].decode("latin-1").strip("\0 ")
    try:
        value = kind(text if kind is int else text.replace(",", "."))
    except ValueError:
        raise ValueError(f"{text!r} where a number should be") from None
    if value != value or abs(value) == float("inf"):
        raise ValueError(f"{text!r} where a number should be")
    return value


def _began(head: bytes) -> datetime | None:
    """EDF+ writes the date with four digits of the year; EDF's two mean 1985 to 2084. Neither knows a time zone: UTC."""
    text = head[168:184].decode("latin-1")
    found = re.fullmatch(r"(\d\d)\.(\d\d)\.(\d\d)(\d\d)\.(\d\d)\.(\d\d)", text)
    if found is None:
        return None
    day, month, short, hour, minute, second = (int(part) for part in found.groups())
    year = 1900 + short if short >= 85 else 2000 + short
    try:
        began = datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError:
        return None
    return None if (day, month, short) == (1, 1, 85) else began  # what anonymous recordings say
