"""One WFDB record, written as the signal comes: 16-bit samples, and annotations beside them.

A power cut leaves a header without a length, samples that end anywhere and annotations without an end: ``repair`` makes a sound
record of that. Annotations come in the order in which they became known, and a rhythm's begin long after the beats that it
is dated before; so they are put in order when the segment is closed or repaired.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import numpy as np

from edge_agent.annotation_files import mit
from edge_agent.journey import Samples
from edge_agent.outputs.mit_annotations import END, Annotation, Encoder
from edge_agent.sources.base import Signal

ANNOTATOR = "edge"
"""Whose the annotations are, in the words of WFDB: the ending of their file."""
INVALID = -32768
"""WFDB's mark of a missing sample in format 16."""
GAIN = {"mV": 1000.0, "mmHg": 50.0}
"""Units of the converter per physical unit: one microvolt, 0.02 mmHg; the range is +-32 mV, +-655 mmHg."""
OTHER_GAIN = 200.0
FRESH = ".new"
"""Behind the name of a file that is to replace another."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a segment's files are: a path without its ending. ``aside``: what is behind the ending of those that are set aside."""

    base: Path
    aside: str = ""

    def file(self, ending: str) -> Path:
        return self.base.with_name(f"{self.base.name}.{ending}{self.aside}")

    @property
    def written_ns(self) -> int:
        """When the last of its signal was written; its name says when the signal was, which may be decades ago."""
        for ending in ("dat", "hea", ANNOTATOR):
            with suppress(OSError):
                return self.file(ending).stat().st_mtime_ns
        return 0

    @property
    def size(self) -> int:
        return sum(file.stat().st_size for ending in ("hea", "dat", ANNOTATOR) if (file := self.file(ending)).exists())

    def remove(self) -> None:
        for ending in (
            "dat",
            ANNOTATOR,
            "hea",
        ):  # the header last: without it the rest is no record, but with it, it is
            self.file(ending).unlink(missing_ok=True)


class Segment:
    """Open for writing from sample ``first`` on."""

    def __init__(self, place: Place, signals: Sequence[Signal], fs: float, first: int, began: datetime | None) -> None:
        self.place = place
        self.first = self.end = first
        self.synced_at = 0.0
        self._signals = signals
        self._fs = fs
        self._began = began
        self._gains = np.array([GAIN.get(signal.unit, OTHER_GAIN) for signal in signals], np.float32)[:, None]
        place.base.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as undo:  # a disk that is full keeps nothing of a segment that could not be begun
            undo.callback(place.remove)
            self._write_header()
            self._dat = undo.enter_context(place.file("dat").open("wb", buffering=0))
            self._ann = undo.enter_context(place.file(ANNOTATOR).open("wb", buffering=0))
            undo.pop_all()
        self._encoder = Encoder()
        self._latest = 0
        self._rising = True
        self._initial = np.zeros(len(signals), np.int64)
        self._sums = np.zeros(len(signals), np.int64)

    @property
    def seconds(self) -> float:
        return (self.end - self.first) / self._fs

    def append(self, first: int, values: Samples) -> None:
        """Samples from ``first`` on; those missing before them are written as missing."""
        if len(values) != len(self._signals):
            raise ValueError(f"{len(values)} channels instead of {len(self._signals)}")
        if first > self.end:
            self._put(np.full((len(self._signals), first - self.end), INVALID, np.int16))
        self._put(_digital(values, self._gains))

    def annotate(self, annotation: Annotation) -> None:
        at = annotation.sample - self.first
        if at >= 0:
            self._rising = self._rising and at >= self._latest
            self._latest = max(self._latest, at)
            self._write(
                self._ann.fileno(),
                self._encoder.encode(
                    Annotation(at, annotation.channel, annotation.code, annotation.subtype, annotation.text)
                ),
            )

    def sync(self) -> None:
        os.fdatasync(self._dat.fileno())
        os.fdatasync(self._ann.fileno())

    def discard(self) -> None:
        self._dat.close()
        self._ann.close()
        self.place.remove()

    def close(self) -> None:
        """The header gets its length last: from then on the record is whole."""
        try:
            self._write(self._ann.fileno(), END)
            self.sync()
        finally:
            self._dat.close()
            self._ann.close()
        if not self._rising:
            put_in_order(self.place)
        lines = header_lines(self.place, self._header, self.end - self.first, self._initial, self._sums)
        write_header(self.place, lines)

    def _put(self, digital: np.ndarray) -> None:
        self._write(self._dat.fileno(), np.ascontiguousarray(digital.T).astype("<i2", copy=False).tobytes())
        if self.end == self.first:
            self._initial = digital[:, 0].astype(np.int64)
        self._sums += digital.sum(1, dtype=np.int64)
        self.end += digital.shape[1]

    @staticmethod
    def _write(file: int, data: bytes) -> None:
        while data:  # a disk that is almost full takes a part, and refuses the rest
            data = data[os.write(file, data) :]

    def _write_header(self) -> None:
        """Without a length yet: 0 stands for unknown."""
        name = self.place.base.name
        date = (
            "" if self._began is None else self._began.strftime(" %H:%M:%S.%f")[:-3] + self._began.strftime(" %d/%m/%Y")
        )
        self._header = [f"{name} {len(self._signals)} {self._fs:.10g} 0{date}"]
        for signal, gain in zip(self._signals, self._gains[:, 0].tolist(), strict=True):
            self._header.append(f"{name}.dat 16 {gain:g}(0)/{signal.unit or 'NU'} 16 0 0 0 0 {signal.name}")
        write_header(self.place, self._header)


def header_lines(place: Place, lines: Sequence[str], samples: int, initial: np.ndarray, sums: np.ndarray) -> list[str]:
    """The header of a whole record: its length, and each signal's first value and checksum."""
    fields = lines[0].split()
    fields[3] = str(samples)
    made = [" ".join(fields)]
    for line, first, total in zip(lines[1:], initial.tolist(), sums.tolist(), strict=True):
        parts = line.split(" ", 8)
        checksum = (total + 0x8000) % 0x10000 - 0x8000
        made.append(" ".join([f"{place.base.name}.dat", *parts[1:5], str(first), str(checksum), *parts[7:]]))
    return made


def write_header(place: Place, lines: Sequence[str]) -> None:
    """Whole or not at all."""
    _replace(place, "hea", ("\n".join(lines) + "\n").encode("ascii", "replace"))


def put_in_order(place: Place) -> None:
    """The annotations by time, as every reader of such files expects them; those of one sample stay in the order they came in."""
    try:
        _replace(place, ANNOTATOR, mit.render(mit.parse(place.file(ANNOTATOR).read_bytes())))
    except ValueError:  # somebody else's, or damaged: a reader will say so, and nothing of it is thrown away
        return


def _replace(place: Place, ending: str, data: bytes) -> None:
    """In one step: a reader, and a power cut, meet the old one or the new one, and a disk that refuses keeps the old one."""
    fresh = place.file(f"{ending}{FRESH}")
    try:
        with fresh.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())  # before the name: else the cut may leave the new name with nothing in it
        fresh.replace(place.file(ending))
    except OSError:
        with suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise
    folder = os.open(fresh.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _digital(values: Samples, gains: Samples) -> np.ndarray:
    scaled = np.rint(values * gains)
    return np.where(np.isfinite(scaled), np.clip(scaled, -32767, 32767), INVALID).astype(np.int16)


def is_torn(place: Place) -> bool:
    """Whether its writer never closed it."""
    try:
        return place.file("hea").read_text(encoding="ascii").split("\n")[0].split()[3] == "0"
    except (OSError, UnicodeDecodeError, IndexError):
        return True


def repair(place: Place) -> bool:
    """Make a sound record of what a power cut left; False if there is nothing to be saved.

    OSError if the disk does not take it just now (full, read-only). Nothing is lost by that: files are only cut back to their
    last whole sample and annotation, the header is replaced last, and until then the record counts as torn and can be tried again.
    """
    try:
        lines = place.file("hea").read_text(encoding="ascii").splitlines()
        channels = int(lines[0].split()[1])
        size = place.file("dat").stat().st_size
        samples = size // (2 * channels)
        if samples < 1 or len(lines) != channels + 1:
            return False
        digital = np.fromfile(place.file("dat"), "<i2", samples * channels).reshape(-1, channels).astype(np.int64)
        header = header_lines(place, lines, samples, digital[0], digital.sum(0))
    except (FileNotFoundError, ValueError, IndexError, ZeroDivisionError):
        return False
    if size % (2 * channels):
        os.truncate(place.file("dat"), samples * 2 * channels)
    with place.file(ANNOTATOR).open("a+b", buffering=0) as annotations:
        annotations.seek(0)
        whole = _whole(annotations.read())
        annotations.truncate(len(whole))
        Segment._write(
            annotations.fileno(), END
        )  # in place of what was cut off, mostly: even a full disk has room for it there
        os.fsync(annotations.fileno())
    if not _is_rising(whole):
        put_in_order(place)
    write_header(place, header)
    return True


def _is_rising(raw: bytes) -> bool:
    try:
        samples = [one.sample for one in mit.parse(raw)]
    except ValueError:
        return True  # nothing that could be put in order
    return all(a <= b for a, b in pairwise(samples))


def _whole(raw: bytes) -> bytes:
    """The annotations up to the last whole one. What follows a code (channel, text) belongs to it."""
    at = good = 0
    while at + 2 <= len(raw):
        word = int.from_bytes(raw[at : at + 2], "little")
        code, value = word >> 10, word & 0x3FF
        if word == 0:
            break
        length = 2 + (4 if code == 59 else value + value % 2 if code == 63 else 0)
        if at + length > len(raw):
            break
        at += length
        if code != 59:  # an interval alone is no annotation yet
            good = at
    return raw[:good]
