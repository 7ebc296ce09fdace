"""What can happen to bytes on a line: lost, flipped, doubled, cut into pieces. For emulators and tests."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, slots=True)
class Faults:
    """What shall go wrong; nothing by default."""

    drop: float = 0.0
    """Share of the bytes that vanish."""
    flip: float = 0.0
    """Share of the bytes with one bit inverted."""
    duplicate: float = 0.0
    """Share of the bytes that come twice."""
    split: bool = False
    """Bytes come in pieces of 1 to 5, as from a slow driver."""
    pause_every_s: float = 0.0
    pause_for_s: float = 0.0
    """The line stands still for this long, every so often; what was due comes afterwards."""
    drift_ppm: float = 0.0
    """By which the board's crystal is too fast."""
    unplug_at_s: float = 0.0
    """When the port goes away (0: never), and how long after that it is back."""
    back_after_s: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("drop", "flip", "duplicate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name):g}: a share from 0 to 1")
        if self.drop + self.flip + self.duplicate > 1:
            raise ValueError("drop, flip and duplicate are more than all bytes")
        if self.pause_every_s and not 0 < self.pause_for_s < self.pause_every_s:
            raise ValueError("a pause is shorter than the time from one to the next")
        if not -100_000 <= self.drift_ppm <= 100_000:
            raise ValueError(f"drift is {self.drift_ppm:g} ppm: at most 100,000")


@dataclass(slots=True)
class Damage:
    """Faults as they are done; the same seed does the same to the same bytes, however they are cut."""

    faults: Faults
    dropped: int = 0
    flipped: int = 0
    duplicated: int = 0
    _bytes: np.random.Generator = field(init=False)
    _pieces: np.random.Generator = field(init=False)

    def __post_init__(self) -> None:
        self._bytes = np.random.default_rng((self.faults.seed, 1))
        self._pieces = np.random.default_rng((self.faults.seed, 2))

    def spoil(self, data: bytes) -> bytes:
        faults = self.faults
        if not data or not (faults.drop or faults.flip or faults.duplicate):
            return data
        chance, bit = self._bytes.random((len(data), 2)).T
        flip = (chance >= faults.drop) & (chance < faults.drop + faults.flip)
        twice = (chance >= faults.drop + faults.flip) & (chance < faults.drop + faults.flip + faults.duplicate)
        sent = np.frombuffer(data, np.uint8) ^ np.where(flip, 1 << (bit * 8).astype(np.uint8), 0).astype(np.uint8)
        times = np.where(chance < faults.drop, 0, np.where(twice, 2, 1))
        self.dropped += int((times == 0).sum())
        self.flipped += int(flip.sum())
        self.duplicated += int(twice.sum())
        return np.repeat(sent, times).tobytes()

    def pieces(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            size = int(self._pieces.integers(1, 6)) if self.faults.split else len(data)
            yield data[at : at + size]
            at += size

    def stalled(self, seconds: float) -> bool:
        """Whether the line stands still at this time."""
        every = self.faults.pause_every_s
        return bool(every) and seconds >= every and seconds % every < self.faults.pause_for_s
