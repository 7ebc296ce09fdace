"""WFDB records (PhysioNet), through the wfdb package."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import StreamInfo
from edge_agent.sources.recording import make_signals, missing_library, stretch


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
            raise SourceError(f"{path}: no such record ({header_file.name} is not there)")
        try:
            header: Any = wfdb.rdheader(self._path)
        except Exception as error:  # noqa: BLE001  # wfdb raises whatever its parser met
            raise SourceError(f"{header_file}: not a readable WFDB header ({error})") from None
        if not header.n_sig or not header.sig_len:
            raise SourceError(f"{path}: the record is empty", remedy="its header names no signal or no samples")
        self._length = int(header.sig_len)
        began = getattr(header, "base_datetime", None)
        if getattr(header, "segments", None) is not None or hasattr(header, "seg_name"):
            header = self._rdheader_of_segments(path)
        self._frames = np.array(header.samps_per_frame or [1] * header.n_sig, int)
        self._fastest = int(self._frames.max())
        if any(self._fastest % frame for frame in self._frames):
            raise SourceError(f"{path}: samples per frame {self._frames.tolist()} do not fit one clock")
        signals, factors = make_signals(header.sig_name, header.units or [""] * header.n_sig)
        self._factors = np.array(factors, np.float32)
        self.info = StreamInfo(
            fs=float(header.fs) * self._fastest,
            signals=signals,
            began=None if began is None else began.replace(tzinfo=UTC),
            samples=self._length * self._fastest,
        )
        self.read(0, 1)  # a header without its signal file is found out now, not in the middle

    def _rdheader_of_segments(self, path: Path) -> Any:
        """A multi-segment header names its signals in its segments."""
        try:
            return self._wfdb.rdrecord(self._path, sampto=1, m2s=True)
        except Exception as error:  # noqa: BLE001
            raise SourceError(f"{path}: its segments cannot be read ({error})") from None

    def read(self, first: int, n: int) -> Samples:
        fast = self._fastest
        frame0 = first // fast
        frame1 = min(self._length, -(-(first + n) // fast))
        if frame1 <= frame0:
            return np.empty((len(self.info.signals), 0), np.float32)
        if fast == 1:
            record = self._rdrecord(frame0, frame1, smooth=True)
            values = np.asarray(record.p_signal, np.float32).T
        else:
            # One frame more, so that the slower channels know where they are going.
            record = self._rdrecord(frame0, min(self._length, frame1 + 1), smooth=False)
            rows = []
            for x, per_frame in zip(record.e_p_signal, self._frames, strict=True):
                count = (frame1 - frame0) * int(per_frame)
                following = x[count] if len(x) > count else x[count - 1]
                rows.append(stretch(np.asarray(x[:count], np.float32), fast // int(per_frame), float(following)))
            values = np.stack(rows)
        offset = first - frame0 * fast
        return np.ascontiguousarray(values[:, offset : offset + n] * self._factors[:, None])

    def _rdrecord(self, frame0: int, frame1: int, *, smooth: bool) -> Any:
        try:
            return self._wfdb.rdrecord(self._path, sampfrom=frame0, sampto=frame1, smooth_frames=smooth)
        except Exception as error:  # noqa: BLE001  # wfdb raises whatever its parser met
            raise SourceError(
                f"{self._path}: cannot be read at sample {frame0} ({error})",
                remedy="the signal file is missing or shorter than its header says: fetch the record again",
            ) from None

    def close(self) -> None:
        pass
