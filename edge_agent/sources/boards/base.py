"""What a board is, and what its decoder and its encoder are.

A decoder takes the bytes of one connection, cut anywhere, and gives the samples in them: any cut gives the same samples,
gaps and counts. A new connection takes a new decoder. The encoder is its inverse, for emulators and tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Samples
from edge_agent.sources.base import Kind

Bytes = NDArray[np.uint8]
Integers = NDArray[np.int64]

NO_LEADS: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Channel:
    """A waveform of a board: its value is (number on the wire - ``zero``) * ``scale``."""

    name: str
    kind: Kind
    unit: str = "NU"
    """NU where the maker does not say what the numbers mean: raw counts, then."""
    scale: float = 1.0
    zero: float = 0.0


@dataclass(frozen=True, slots=True)
class Command:
    """What is written to a board to start or stop it."""

    send: bytes
    pause_ms: int = 0
    """Silence that the board needs before it."""
    wait_for: bytes = b""
    """What the board answers when it is ready for the next; empty when it does not answer."""


@dataclass(frozen=True, slots=True)
class Board:
    name: str
    description: str
    """What it is, and where the scale of its numbers comes from."""
    bauds: tuple[int, ...]
    """The usual one first."""
    fs: float
    channels: tuple[Channel, ...]
    frame_bytes: int
    frames_per_s: float
    start: tuple[Command, ...] = ()
    stop: tuple[Command, ...] = ()
    filter_delay: int = 0
    """Samples by which filters on the board have delayed the signal: events are that much earlier."""
    held: int = 0
    """Samples that the decoder holds back: until the next frame confirms its alignment, or for the screen (`screen`)."""
    sequence: int | None = None
    """Frames are numbered modulo this, so losses are counted exactly (but for whole turns without a byte)."""
    checked: bool = False
    """Frames carry a check of their content: a flipped bit is noticed."""

    @property
    def baud(self) -> int:
        return self.bauds[0]

    @property
    def delay_s(self) -> float:
        """By how much a sample is older than the bytes that it comes out with: the board's filters, and what is held."""
        return (self.filter_delay + self.held) / self.fs


@dataclass(slots=True)
class Counters:
    """Of one connection."""

    frames_good: int = 0
    frames_bad: int = 0
    """Looked like the start of a frame, or were due, and were not a frame."""
    resyncs: int = 0
    """Frames were found again after bytes that belong to none (the first time is not one)."""
    bytes_skipped: int = 0
    samples_lost: int = 0
    """Known from sequence numbers."""
    samples_lost_estimated: int = 0
    """Guessed from the bytes that were skipped."""
    values_implausible: int = 0
    """Given up by the screen: samples that no ECG has (`screen`)."""

    def lose(self, samples: int, *, exact: bool) -> None:
        if exact:
            self.samples_lost += samples
        else:
            self.samples_lost_estimated += samples


@dataclass(frozen=True, slots=True)
class Chunk:
    """Samples without a gap between them."""

    values: Samples
    """(channels, n), in the channels' units; NaN where a channel has no valid value."""
    lost_before: int = 0
    lost_exact: bool = True
    """False when the number lost is an estimate. True also says that nothing was lost."""
    lead_off: frozenset[str] = NO_LEADS
    """Channels whose electrode or probe is off, for the whole chunk (their values are NaN)."""


class Decoder(Protocol):
    counters: Counters
    numbers: dict[str, float]
    """What the board measures besides its waveforms, newest value (heart rate, temperature...); empty if nothing."""

    def decode(self, data: bytes) -> list[Chunk]:
        """The samples that are complete with these bytes."""

    def flush(self) -> list[Chunk]:
        """The samples that were held back, when no more bytes will come."""


class Encoder(Protocol):
    def encode(self, values: Samples, lead_off: frozenset[str] = NO_LEADS) -> bytes:
        """The frames that the board would send for these samples, (channels, n) in the channels' units."""


@dataclass(frozen=True, slots=True)
class Codec:
    """A board with what reads it and what plays it."""

    board: Board
    decoder: Callable[[], Decoder]
    encoder: Callable[[], Encoder]
    frames: Callable[[], Decoder]
    """A decoder without the screen behind it: what the bytes say, be it plausible or not."""


@dataclass(slots=True)
class Skipped:
    """Bytes since the last good frame."""

    count: int = 0
    binary: int = 0
    """Those that are not text: boards print prose at start-up, and prose is not lost samples."""

    def add(self, data: bytes) -> None:
        self.count += len(data)
        self.binary += len(data.translate(None, _TEXT))

    def clear(self) -> None:
        self.count = self.binary = 0


_TEXT = bytes(range(0x20, 0x7F)) + b"\t\r\n"


@dataclass(frozen=True)
class Units:
    """Of many channels, as columns: for numbers that come as one array, where a row at a time would cost more."""

    scale: NDArray[np.float64]
    zero: NDArray[np.float64] | None

    @staticmethod
    def of(channels: tuple[Channel, ...]) -> Units:
        zero = np.array([[channel.zero] for channel in channels])
        return Units(np.array([[channel.scale] for channel in channels]), zero if zero.any() else None)

    def values(self, rows: Integers) -> Samples:
        return np.asarray((rows * self.scale if self.zero is None else (rows - self.zero) * self.scale), np.float32)


def to_values(rows: Sequence[NDArray[Any]], channels: tuple[Channel, ...]) -> Samples:
    """From the numbers on the wire, one row a channel, to physical units."""
    values = np.empty((len(channels), len(rows[0])), np.float32)
    for at, (row, channel) in enumerate(zip(rows, channels, strict=True)):
        values[at] = (row - channel.zero) * channel.scale if channel.zero else row * channel.scale
    return values


def to_raw(values: Samples, channels: tuple[Channel, ...], limits: Sequence[tuple[int, int]]) -> Integers:
    """The inverse: rounded, kept within what the field can hold; 0 where there is no value."""
    scale = np.array([[channel.scale] for channel in channels])
    zero = np.array([[channel.zero] for channel in channels])
    low, high = np.array(limits).T[:, :, None]
    raw = np.nan_to_num(np.asarray(values, np.float64) / scale + zero, nan=0.0)
    return np.asarray(np.clip(np.rint(raw), low, high), np.int64)


def without(values: Samples, channels: tuple[Channel, ...], lead_off: frozenset[str]) -> Samples:
    """No value where the lead is off: boards send zeros or noise then."""
    if lead_off:
        values[[channel.name in lead_off for channel in channels]] = np.nan
    return values
