"""ICM+ recordings (HDF5) with their marks (``.artf`` beside them): ten-second segments, marked or not.

The daemon's own reader opens the file (`edge_agent.sources.hdf5_file`); what is added here is the marks' clock, and that -99999 stands
for a missing sample.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from edge_agent.errors import SourceError
from edge_train.arrays import Floats
from edge_train.data.artf import Mark
from edge_train.data.artf import read as read_artf
from edge_train.errors import DataError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NAMES = ("art", "abp")
"""What the arterial pressure is called, in the recording and in the marks."""
MISSING = -99_998.0
LENGTH_S = 10.0
LEAST_MARKED_S = 1.0
"""A segment with less than this of marks is neither: the mark ends or begins at its edge."""
AFTER_S = 0.5
"""Samples after a segment that the resampling filter wants."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """Samples without a gap."""

    start_us: int
    fs: float
    values: Floats


@dataclass(frozen=True, slots=True)
class Segment:
    """Ten seconds, with what lies before and after them as far as the filter reaches."""

    patient: str
    start_us: int
    fs: float
    values: Floats
    after: int
    """Samples of ``values`` that come after the ten seconds."""
    anomalous: bool


def stretches(path: Path) -> list[Stretch]:
    """The arterial pressure of a recording. Raises DataError."""
    from edge_agent.sources.hdf5_file import IcmRecording

    try:
        recording = IcmRecording(path)
    except SourceError as error:
        raise DataError(str(error)) from None
    try:
        info = recording.info
        row = next((i for i, signal in enumerate(info.signals) if signal.kind == "abp"), None)
        if row is None or info.began is None:
            raise DataError(f"{path}: holds no arterial pressure (waves/art or waves/abp)")
        began_us = (info.began - EPOCH) // timedelta(microseconds=1)
        made = []
        for first, end in recording.runs:
            values = recording.read(first, end - first)[row]
            values = np.where(values <= MISSING, np.float32(np.nan), values)
            made.append(Stretch(began_us + round(first / info.fs * 1e6), info.fs, values))
        return made
    except SourceError as error:
        raise DataError(str(error)) from None
    finally:
        recording.close()


def segments(path: Path, artf: Path | None = None) -> Iterator[Segment]:
    """Every whole ten seconds on the grid of the marks, which are ten seconds long themselves; without marks, nothing is known
    of a recording, and nothing is given."""
    beside = artf or path.with_suffix(".artf")
    if not beside.is_file():
        return
    marks = read_artf(beside).of(NAMES)
    patient = _patient(path.stem)
    for stretch in stretches(path):
        step = round(LENGTH_S * stretch.fs)
        after = round(AFTER_S * stretch.fs)
        for first in range(_grid(stretch, marks), len(stretch.values) - step - after + 1, step):
            if first < after:
                continue
            start_us = stretch.start_us + round(first / stretch.fs * 1e6)
            marked_s = _marked_s(marks, start_us, start_us + round(LENGTH_S * 1e6))
            if 0 < marked_s < LEAST_MARKED_S:
                continue
            values = stretch.values[first - after : first + step + after]
            yield Segment(patient, start_us, stretch.fs, values, after, marked_s > 0)


def _patient(stem: str) -> str:
    """``TBI_003_2`` is the second file of patient ``TBI_003``."""
    found = re.match(r"[A-Za-z]+[_-]?\d+", stem)
    return found.group(0) if found else stem


def _grid(stretch: Stretch, marks: tuple[Mark, ...]) -> int:
    """The first sample of the first segment: the marks' grid, where there are any within the stretch."""
    end_us = stretch.start_us + round(len(stretch.values) / stretch.fs * 1e6)
    begin = next((mark.start_us for mark in marks if stretch.start_us <= mark.start_us < end_us), stretch.start_us)
    return round((begin - stretch.start_us) / 1e6 % LENGTH_S * stretch.fs)


def _marked_s(marks: tuple[Mark, ...], start_us: int, end_us: int) -> float:
    """Marked time of a span; marks of several people may overlap."""
    total, reached = 0, start_us
    for mark in marks:
        begin, end = max(mark.start_us, reached), min(mark.end_us, end_us)
        if end > begin:
            total += end - begin
            reached = end
    return total / 1e6
