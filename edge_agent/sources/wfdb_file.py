"""WFDB records (PhysioNet), through the wfdb package: every format that it reads, several segments, several rates, skew."""

from __future__ import annotations

import math
import re
from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.signal.resample import polyphase
from edge_agent.sources.base import StreamInfo
from edge_agent.sources.recording import Run, known_unit, make_signals, missing_library, run_at, warn_of_more

NO_SEGMENT = "~"
"""A segment of a multi-segment record for which there is no file: nothing was recorded."""
DIFFERENCES = "8"
"""A format of first differences. wfdb adds them up from wherever it was told to begin, so such records are read whole."""
BYTES = {"8": 1.0, "16": 2.0, "24": 3.0, "32": 4.0, "61": 2.0, "80": 1.0, "160": 2.0, "212": 1.5}
BYTES |= {"310": 4 / 3, "311": 4 / 3} | dict.fromkeys(("508", "516", "524"), 0.0)
"""Of a sample in a signal file, by its format; 0: it is compressed, and its size says nothing."""
PADDING = 2
"""Samples that the packed formats may have at their end, to fill up a word."""


class WfdbRecording:
    def __init__(self, path: Path) -> None:
        try:
            import wfdb
        except ImportError:
            raise missing_library("WFDB records", "wfdb") from None
        self._wfdb = wfdb
        self._path = str(path)
        header_file = Path(f"{path}.hea")
        if path.is_dir() and not header_file.is_file():
            raise SourceError(f"{path}: is a folder, not a record", remedy=f"name a record in it: {path / 'NAME'}")
        if not header_file.is_file():
            if not path.parent.is_dir():
                raise SourceError(f"{path}: there is no folder {path.parent}", remedy="look at its path")
            raise SourceError(f"{path}: no such record ({header_file.name} is not there)", remedy="look at its path")
        try:
            header: Any = wfdb.rdheader(self._path)
        except Exception as error:  # noqa: BLE001  # wfdb raises whatever its parser met
            raise SourceError(
                f"{header_file}: not a readable WFDB header ({_words(error)})", remedy="fetch the record again"
            ) from None
        if not header.n_sig:
            raise SourceError(f"{path}: the record is empty", remedy="its header names no signal or no samples")
        _rate_given(header_file)
        segments = getattr(header, "seg_name", None)
        if segments is None:
            _complete(header, header_file)
        self._there = _frames_there(header, path.parent) if segments is None else None
        self._unsaid = header.sig_len is None
        if self._unsaid and self._there is None:
            raise SourceError(
                f"{path}: its header does not say how many samples it has",
                remedy="its files are missing or compressed, so nothing else says it: write the number into the header",
            )
        length = int(header.sig_len if self._there is None or not self._unsaid else self._there)
        if not length:
            raise SourceError(f"{path}: the record is empty", remedy="its header names no signal or no samples")
        if self._there is not None and self._there > length + PADDING:
            warn_of_more(path, "its header", length, self._there, "samples per signal")
        began = getattr(header, "base_datetime", None)
        frames: tuple[Run, ...] = ((0, length),)
        self._length = length
        self._differences = (
            DIFFERENCES in (header.fmt or ()) if segments is None else self._any_differences(path, segments)
        )
        self._kept: Any = None
        if segments is not None:
            frames = _where_recorded(segments, header.seg_len)
            if not frames:
                raise SourceError(f"{path}: the record is empty", remedy="none of its segments holds a signal")
            header = self._header_of_segments(path, frames[0][0])
        self._per_frame = np.array(header.samps_per_frame or [1] * header.n_sig, int)
        self._fastest = int(self._per_frame.max())
        self._fs = float(header.fs) * self._fastest
        self._frame_fs = float(header.fs)
        units = header.units or [""] * header.n_sig
        units = [
            known_unit(name or "", unit or "", str(path)) for name, unit in zip(header.sig_name, units, strict=True)
        ]
        signals, factors = make_signals(header.sig_name, units)
        self._factors = np.array(factors, np.float32)
        self.runs = tuple((first * self._fastest, end * self._fastest) for first, end in frames)
        self.info = StreamInfo(
            fs=self._fs,
            signals=signals,
            began=None if began is None else began.replace(tzinfo=UTC),
            samples=length * self._fastest,
        )
        self.read(self.runs[0][0], 1)  # a header without its signal file is found out now, not in the middle

    def _any_differences(self, path: Path, segments: list[str]) -> bool:
        for name in {name for name in segments if name != NO_SEGMENT}:
            try:
                if DIFFERENCES in (self._wfdb.rdheader(str(path.parent / name)).fmt or ()):
                    return True
            except Exception:  # noqa: BLE001  # reading will say what is wrong with it
                continue
        return False

    def _header_of_segments(self, path: Path, frame: int) -> Any:
        """A multi-segment header names its signals in its segments."""
        try:
            return self._wfdb.rdrecord(self._path, sampfrom=frame, sampto=frame + 1, m2s=True)
        except Exception as error:  # noqa: BLE001
            raise SourceError(
                f"{path}: its segments cannot be read ({_words(error)})",
                remedy="fetch the record with all its segments",
            ) from None

    def read(self, first: int, n: int) -> Samples:
        run = run_at(self.runs, first)
        end = 0 if run is None else min(run[1], first + n)
        if run is None or end <= first:
            return np.empty((len(self.info.signals), 0), np.float32)
        fast = self._fastest
        frame0, frame1 = first // fast, -(-end // fast)
        if fast == 1:
            values = np.asarray(self._frames(frame0, frame1, smooth=True)[0], np.float32).T
        else:
            values = self._several_rates(run, first, end)
        return np.ascontiguousarray(values * self._factors[:, None])

    def _several_rates(self, run: Run, first: int, end: int) -> Samples:
        """A frame holds several samples of a fast channel; the slower ones are brought to its rate."""
        fast = self._fastest
        filters = [polyphase(self._frame_fs * per_frame, self._fs) for per_frame in self._per_frame]
        more = max(-(-one.reach // int(per)) for one, per in zip(filters, self._per_frame, strict=True)) + 1
        frame0 = max(run[0] // fast, first // fast - more)
        frame1 = min(run[1] // fast, -(-end // fast) + more)
        channels = self._frames(frame0, frame1, smooth=False)
        rows = []
        for x, per_frame, one in zip(channels, self._per_frame, filters, strict=True):
            own = np.asarray(x, np.float32)
            if per_frame == fast:
                rows.append(own[first - frame0 * fast : end - frame0 * fast])
            else:
                rows.append(one.at(own, frame0 * int(per_frame), first, end))
        return np.stack(rows)

    def _frames(self, frame0: int, frame1: int, *, smooth: bool) -> list[Any]:
        """What these frames hold: one table of all channels, or an array for each."""
        if not self._differences and not self._unsaid:
            return self._rdrecord(frame0, frame1, smooth=smooth)
        if self._kept is None:
            self._kept = self._rdrecord(0, self._length, smooth=smooth)
        per_frame = [1] if smooth else self._per_frame.tolist()
        return [x[frame0 * per : frame1 * per] for x, per in zip(self._kept, per_frame, strict=True)]

    def _rdrecord(self, frame0: int, frame1: int, *, smooth: bool) -> list[Any]:
        sampto = None if self._unsaid else frame1  # wfdb wants to find it out itself
        try:
            record = self._wfdb.rdrecord(self._path, sampfrom=frame0, sampto=sampto, smooth_frames=smooth)
            channels = [record.p_signal] if smooth else list(record.e_p_signal)
            there = channels[0].shape[0] if smooth else channels[0].size // int(self._per_frame[0])
            if there < frame1 - frame0:
                raise ValueError(f"{there} of {frame1 - frame0} samples are there")
        except Exception as error:  # noqa: BLE001  # wfdb raises whatever its parser met
            said = _words(error)
            if self._there is not None and self._there < self._length:
                said = f"its header says {self._length} samples per signal, {self._there} are there"
            raise SourceError(
                f"{self._path}: cannot be read at sample {frame0} ({said})",
                remedy="the signal file is missing or shorter than its header says: fetch the record again",
            ) from None
        return channels

    def close(self) -> None:
        pass


def _words(error: Exception) -> str:
    """What wfdb met: its own words where it has any, none of Python's."""
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    own = isinstance(error, ValueError) and not any(
        word in str(error) for word in ("broadcast", "literal", "shape", "unpack")
    )
    return str(error) if own else "the signal file and its header do not fit together"


def _rate_given(header_file: Path) -> None:
    """From the file: wfdb takes 250 for whatever it cannot parse."""
    lines = header_file.read_text(encoding="latin-1").splitlines()
    fields = next((line.split() for line in lines if line.strip() and not line.lstrip().startswith("#")), [])
    if len(fields) < 3:
        return  # optional: 250 is what the standard says
    found = re.match(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?", fields[2])
    if found is None or not float(found[0]) > 0 or not math.isfinite(float(found[0])):
        raise SourceError(
            f"{header_file}: its rate is {fields[2]!r}", remedy="write samples per second, above 0, into its first line"
        )


def _complete(header: Any, header_file: Path) -> None:
    """Every signal that the first line promises is described, in a format that is known."""
    described = len(header.file_name or [])
    if described != header.n_sig:
        raise SourceError(
            f"{header_file}: says {header.n_sig} signals, describes {described}",
            remedy="a line for each signal, please: mend the header, or fetch the record again",
        )
    for fmt in header.fmt:
        if fmt not in BYTES:
            raise SourceError(
                f"{header_file}: format {fmt} is not one of WFDB's",
                remedy=f"known are {', '.join(BYTES)}: mend the header",
            )


def _frames_there(header: Any, folder: Path) -> int | None:
    """How many frames its signal files hold, by their sizes; None where that cannot be said."""
    held = []
    for name in set(header.file_name):
        ours = [i for i, one in enumerate(header.file_name) if one == name]
        per_frame = sum((header.samps_per_frame or [1] * header.n_sig)[i] or 1 for i in ours)
        size = BYTES[header.fmt[ours[0]]] * per_frame
        begins = (header.byte_offset or [0] * header.n_sig)[ours[0]] or 0
        try:
            there = (folder / name).stat().st_size
        except OSError:
            return None
        if not size:
            return None
        held.append(max(0, int((there - begins) / size + 1e-6)))
    return min(held) if held else None


def _where_recorded(names: list[str], lengths: list[int]) -> tuple[Run, ...]:
    """Frames that have a segment; the first of a record of variable layout is a header alone, of length 0."""
    runs: list[Run] = []
    at = 0
    for name, length in zip(names, lengths, strict=True):
        if name != NO_SEGMENT and length:
            if runs and runs[-1][1] == at:
                runs[-1] = (runs[-1][0], at + length)
            else:
                runs.append((at, at + length))
        at += length
    return tuple(runs)
