"""HDF5 files of ICM+: a dataset per wave below ``waves`` (``waves/art``, 100 Hz, mmHg), and beside it its index.

``waves/art.index`` has a row for each stretch without a gap: ``startidx``, ``starttime`` (microseconds since 1970), ``length`` and
``frequency``. What lies between two stretches is a gap here. Other layouts are refused, not guessed at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import StreamInfo, guess_kind
from edge_agent.sources.recording import (
    Run,
    make_signals,
    missing_library,
    resampled,
    run_at,
    runs_of,
    warn,
    warn_of_more,
)

GROUP = "waves"
INDEX = ".index"
FIELDS = ("startidx", "starttime", "length", "frequency")
PER_SECOND = 1e6
UNITS = {"abp": "mmHg", "ecg": "mV"}
"""ICM+ writes no unit where everybody uses the same one."""
LAST_S = 253_402_300_799.0
"""The end of the year 9999: no date is later."""
DAMAGE = (LookupError, RuntimeError, OSError, ValueError, ArithmeticError, TypeError, AttributeError)
"""What h5py and numpy raise on a file that is not what it says."""
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Wave:
    name: str
    data: Any
    """The dataset."""
    fs: float
    starts: tuple[float, ...]
    """Of each stretch, in seconds since 1970."""
    lengths: tuple[int, ...]


class IcmRecording:
    def __init__(self, path: Path) -> None:
        try:
            import h5py
        except ImportError:
            raise missing_library("HDF5 files", "h5py") from None
        if not path.is_file():
            raise SourceError(f"{path}: no such file", remedy="look at the source's path")
        self._path = path
        try:
            self._file = h5py.File(path, "r")
        except OSError as error:
            raise SourceError(
                f"{path}: not a readable HDF5 file ({error})", remedy="was it fetched whole, and closed by its writer?"
            ) from None
        try:
            self._open(h5py)
        except DAMAGE as error:
            self._file.close()
            if isinstance(error, SourceError):
                raise
            raise self._damaged("cannot be read", error) from None
        except BaseException:
            self._file.close()
            raise

    def _damaged(self, what: str, error: Exception) -> SourceError:
        said = str(error.args[0] if error.args else type(error).__name__)  # a KeyError's own text has quotes around it
        return SourceError(
            f"{self._path}: {what} ({said})", remedy="the file is damaged or lacks a part: fetch or export it again"
        )

    def _member(self, group: Any, name: str) -> Any:
        """A link in a group may lead nowhere."""
        try:
            return group[name]
        except DAMAGE as error:
            raise self._damaged(f"{GROUP}/{name} cannot be opened", error) from None

    def _open(self, h5py: Any) -> None:
        group = self._file.get(GROUP)
        if not isinstance(group, h5py.Group):
            raise SourceError(
                f"{self._path}: has no group {GROUP!r}, so it is not ICM+'s",
                remedy=f"it has: {', '.join(self._file) or 'nothing'}; export it from ICM+, or as CSV",
            )
        self._waves = [
            self._wave(name, group)
            for name in group
            if f"{name}{INDEX}" in group
            and isinstance(one := self._member(group, name), h5py.Dataset)
            and one.ndim == 1
        ]
        if not self._waves:
            raise SourceError(
                f"{self._path}: {GROUP} holds no wave with its index", remedy=f"it has: {', '.join(group) or 'nothing'}"
            )
        began = min(wave.starts[0] for wave in self._waves)
        fs = max(wave.fs for wave in self._waves)
        # Where any wave has samples the recording has: the others are missing (NaN) there.
        self._own_runs = [
            tuple(
                (first + round((wave.starts[0] - began) * wave.fs), end + round((wave.starts[0] - began) * wave.fs))
                for first, end in runs_of(wave.starts, wave.lengths, wave.fs)
            )
            for wave in self._waves
        ]
        self._fs = fs
        self.runs = _together(
            [
                (round(first / wave.fs * fs), round(end / wave.fs * fs))
                for wave, runs in zip(self._waves, self._own_runs, strict=True)
                for first, end in runs
            ]
        )
        units = [_unit(wave) for wave in self._waves]
        signals, factors = make_signals([wave.name.upper() for wave in self._waves], units)
        self._factors = np.array(factors, np.float32)
        self.info = StreamInfo(fs=fs, signals=signals, began=EPOCH + timedelta(seconds=began), samples=self.runs[-1][1])

    def _wave(self, name: str, group: Any) -> Wave:
        where = f"{self._path}: {GROUP}/{name}"
        data, index = self._member(group, name), self._member(group, f"{name}{INDEX}")
        if data.dtype.kind not in "fiu":
            raise SourceError(f"{where} holds no numbers ({data.dtype})", remedy="export it again from ICM+, or as CSV")
        if index.dtype.names is None or any(field not in index.dtype.names for field in FIELDS):
            raise SourceError(
                f"{where}{INDEX} has not the columns {', '.join(FIELDS)}", remedy="export it again from ICM+"
            )
        rows = np.atleast_1d(index[()])
        rows = rows[rows["length"] > 0]
        if not rows.size:
            raise SourceError(f"{where}{INDEX} is empty", remedy="nothing was recorded, or export it again from ICM+")
        first, length = rows["startidx"].astype(np.int64), rows["length"].astype(np.int64)
        if (first[1:] != (first + length)[:-1]).any() or first[0] != 0:
            raise SourceError(f"{where}{INDEX} does not follow its samples one by one", remedy="export it again")
        if int(first[-1] + length[-1]) > data.shape[0]:
            raise SourceError(
                f"{where}{INDEX} says {int(first[-1] + length[-1])} samples, {data.shape[0]} are there",
                remedy="the file is cut off: fetch or export it again",
            )
        played = int(first[-1] + length[-1])
        if played < data.shape[0]:
            warn_of_more(where, f"its {INDEX[1:]}", played, data.shape[0], "samples")
        rates = np.unique(rows["frequency"].astype(np.float64))
        if rates.size > 1 or not rates[0] > 0 or not np.isfinite(rates[0]):
            raise SourceError(
                f"{where} has the rates {', '.join(f'{rate:g}' for rate in rates)} Hz",
                remedy="one above 0 is taken: export the stretches to files of their own",
            )
        starts = rows["starttime"].astype(np.float64) / PER_SECOND
        if not (np.abs(starts) < LAST_S).all():
            raise SourceError(
                f"{where}{INDEX} has a start that is no date (microseconds since 1970 are meant)",
                remedy="the file is damaged: fetch or export it again",
            )
        for number in np.flatnonzero(np.diff(starts) * rates[0] < length[:-1] - 1).tolist():
            early = float(length[number] / rates[0] - (starts[number + 1] - starts[number]))
            warn(
                f"{where}{INDEX}: stretch {number + 2} starts {early:.3f} s before stretch {number + 1} ends: "
                "it is played after that"
            )
        return Wave(name, data, float(rates[0]), tuple(starts.tolist()), tuple(length.tolist()))

    def read(self, first: int, n: int) -> Samples:
        run = run_at(self.runs, first)
        end = 0 if run is None else min(run[1], first + n)
        if end <= first:
            return np.empty((len(self._waves), 0), np.float32)
        values = np.full((len(self._waves), end - first), np.nan, np.float32)
        for row, wave, runs in zip(values, self._waves, self._own_runs, strict=True):
            self._fill(row, wave, runs, first)
        return values * self._factors[:, None]

    def _fill(self, row: Samples, wave: Wave, runs: tuple[Run, ...], first: int) -> None:
        """What this wave has of these samples."""
        at = 0  # of the run, in the dataset
        end = first + row.size
        for begins, ends in runs:
            low = max(first, round(begins / wave.fs * self._fs))
            high = min(end, round(ends / wave.fs * self._fs))
            if high > low:
                shift = round(begins / wave.fs * self._fs)
                if wave.fs == self._fs:
                    piece = self._own(wave, at + low - shift, at + high - shift)
                else:
                    piece = resampled(
                        lambda one, two: self._own(wave, one, two),
                        (at, at + ends - begins),
                        wave.fs,
                        self._fs,
                        low - shift,
                        high - low,
                    )
                row[low - first : low - first + piece.size] = piece
            at += ends - begins

    def _own(self, wave: Wave, low: int, high: int) -> Samples:
        try:
            return np.asarray(wave.data[low:high], np.float32)
        except DAMAGE as error:
            raise self._damaged(f"{GROUP}/{wave.name} cannot be read at sample {low}", error) from None

    def close(self) -> None:
        self._file.close()


def _unit(wave: Wave) -> str:
    said = wave.data.attrs.get("units", wave.data.attrs.get("unit", ""))
    said = said[0] if isinstance(said, np.ndarray) and said.size else said
    text = said.decode("latin-1") if isinstance(said, bytes) else str(said)
    return text or UNITS.get(guess_kind(wave.name), "")


def _together(runs: list[Run]) -> tuple[Run, ...]:
    """The union of stretches."""
    joined: list[Run] = []
    for first, end in sorted(runs):
        if joined and first <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(joined[-1][1], end))
        else:
            joined.append((first, end))
    return tuple(joined)
