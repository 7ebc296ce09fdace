"""QRS detectors by name: our own, or one of py-ecg-detectors for those who must compare with earlier work."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import SourceError
from edge_agent.journey import Beat
from edge_agent.signal.qrs import make_qrs_detector

BORROWED = "ecgdetectors:"


class BeatDetector(Protocol):
    """One ECG channel's beats, online. The same samples give the same beats, however they are cut."""

    def feed(self, x: NDArray[np.float32], first: int) -> list[Beat]: ...
    def flush(self) -> list[Beat]: ...
    def reset(self, first: int) -> None: ...


def make_detector(fs: float, channel: str, method: str = "native", first: int = 0) -> BeatDetector:
    """``native``, ``native:rules``, ``native:rules-fast``, or ``ecgdetectors:NAME``."""
    try:
        return _make(fs, channel, method, first)
    except ValueError as error:  # a name or a rate that no detector is made for
        raise SourceError(f"{channel}: {error}") from None
    except ImportError as error:
        raise SourceError(f"{channel}: {error}") from None


def _make(fs: float, channel: str, method: str, first: int) -> BeatDetector:
    if method.startswith(BORROWED):
        from edge_agent.signal.qrs_ecgdetectors import make_ecgdetectors  # GPL: imported on request only

        return make_ecgdetectors(fs, channel, method, first)
    return make_qrs_detector(fs, channel, method, first)
