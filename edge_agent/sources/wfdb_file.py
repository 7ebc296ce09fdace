"""WFDB records (PhysioNet), through the wfdb package: every format that it reads, several segments, several rates, skew."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.signal.resample import polyphase
from edge_agent.sources.base import StreamInfo
from edge_agent.sources.recording import Run, make_signals, missing_library, run_at

NO_SEGMENT = "~"
"""A segment of a multi-segment record for which there is no file: nothing was recorded."""
DIFFERENCES = "8"
"""A format of first differences. wfdb adds them up from wherever it was told to begin, so such records are read whole."""


class WfdbRecording:
    def __init__(self, path: Path) -> None:
        try:
            import wfdb
        except ImportError:
            raise missing_library("WFDB records", "wfdb") from None
        self._wfdb = wfdb
        self._path = str(path)
        header_file = Path(f"{path}.hea")
        if not header_file.is_file():
            raise SourceError(f"{path}: no such record ({header_file.name} is not there)", remedy="look at its path")
        try:
            header: Any = wfdb.rdheader(self._path)
        except Exception as error:  # noqa: BLE001  # wfdb raises whatever its parser met
            raise SourceError(
                f"{header_file}: not a readable WFDB header ({error})", remedy="fetch the record again"
            ) from None
        if not header.n_sig or not header.sig_len:
            raise SourceError(f"{path}: the record is empty", remedy="its header names no signal or no samples")
        length = int(header.sig_len)
        began = getattr(header, "base_datetime", None)
        segments = getattr(header, "seg_name", None)
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
        signals, factors = make_signals(header.sig_name, header.units or [""] * header.n_sig)
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
                f"{path}: its segments cannot be read ({error})", remedy="fetch the record with all its segments"
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
        if not self._differences:
            return self._rdrecord(frame0, frame1, smooth=smooth)
        if self._kept is None:
            self._kept = self._rdrecord(0, self._length, smooth=smooth)
        per_frame = [1] if smooth else self._per_frame.tolist()
        return [x[frame0 * per : frame1 * per] for x, per in zip(self._kept, per_frame, strict=True)]

    def _rdrecord(self, frame0: int, frame1: int, *, smooth: bool) -> list[Any]:
        try:
            record = self._wfdb.rdrecord(self._path, sampfrom=frame0, sampto=frame1, smooth_frames=smooth)
            channels = [record.p_signal] if smooth else list(record.e_p_signal)
            there = channels[0].shape[0] if smooth else channels[0].size // int(self._per_frame[0])
            if there < frame1 - frame0:
                raise ValueError(f"{there} of {frame1 - frame0} samples are there")
        except Exception as error:  # noqa: BLE001  # wfdb raises whatever its parser met
            raise SourceError(
                f"{self._path}: cannot be read at sample {frame0} ({error})",
                remedy="the signal file is missing or shorter than its header says: fetch the record again",
            ) from None
        return channels

    def close(self) -> None:
        pass


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
