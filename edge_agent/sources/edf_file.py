"""EDF and BDF files, through pyedflib."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import numpy as np

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import StreamInfo
from edge_agent.sources.recording import make_signals, missing_library, stretch, whole_ratio


class EdfRecording:
    def __init__(self, path: Path) -> None:
        try:
            import pyedflib
        except ImportError:
            raise missing_library("EDF files", "pyedflib") from None
        if not path.is_file():
            raise SourceError(f"{path}: no such file")
        try:
            self._file = pyedflib.EdfReader(str(path))
        except (OSError, ValueError) as error:
            raise SourceError(f"{path}: not a readable EDF file ({error})") from None
        count = self._file.signals_in_file
        labels = [self._file.getLabel(i) for i in range(count)]
        if not count:
            self._file.close()
            raise SourceError(f"{path}: holds no signal")
        rates = [float(self._file.getSampleFrequency(i)) for i in range(count)]
        fs = max(rates)
        self._ratios = [whole_ratio(fs, rate, str(path)) for rate in rates]
        units = [self._file.getPhysicalDimension(i) for i in range(count)]
        signals, self._factors = make_signals(labels, units)
        self._lengths = [int(n) for n in self._file.getNSamples()]
        length = min(n * ratio for n, ratio in zip(self._lengths, self._ratios, strict=True))
        if not length:
            self._file.close()
            raise SourceError(f"{path}: the recording is empty")
        began = self._file.getStartdatetime()
        self.info = StreamInfo(
            fs=fs, signals=signals, began=None if began is None else began.replace(tzinfo=UTC), samples=length
        )

    def read(self, first: int, n: int) -> Samples:
        length = self.info.samples or 0
        end = min(length, first + n)
        if end <= first:
            return np.empty((len(self.info.signals), 0), np.float32)
        rows = []
        for i, (ratio, factor) in enumerate(zip(self._ratios, self._factors, strict=True)):
            slow0, slow1 = first // ratio, -(-end // ratio)
            more = min(self._lengths[i], slow1 + 1) - slow0  # one more, to know where it is going
            x = np.asarray(self._file.readSignal(i, slow0, more), np.float32) * np.float32(factor)
            count = slow1 - slow0
            following = float(x[count]) if x.size > count else float(x[-1])
            row = stretch(x[:count], ratio, following)
            offset = first - slow0 * ratio
            rows.append(row[offset : offset + end - first])
        return np.stack(rows)

    def close(self) -> None:
        self._file.close()
