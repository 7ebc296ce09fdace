"""ProtoCentral's frames, as HealthyPi and the breakouts send them (which send what: `protocentral_boards`).

    0A FA | length u16 (of the payload) | type u8 | payload | 00 0B

There is no check of the content and no number, and a payload may contain 0A FA. A frame counts when start, length, type
and end agree (7 bytes, all fixed for a board: about 1 in 10^17 positions of random bytes); when they do not, the search
goes on at the next byte. A byte that was lost is noticed; of a bit that was flipped within a payload only
the screen (`screen`) knows.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_agent.journey import Samples
from edge_agent.sources.boards.base import (
    NO_LEADS,
    Board,
    Chunk,
    Counters,
    Integers,
    Skipped,
    to_raw,
    to_values,
    without,
)

SOF = b"\x0a\xfa"
END = b"\x00\x0b"
_HEADER = 5
_AROUND = 7
"""Bytes of a frame besides its payload."""

Frames = NDArray[np.void]


@dataclass(frozen=True)
class Layout:
    """One kind of frame: what is where in its payload."""

    payload: int
    kind: int
    fields: tuple[tuple[str, str, int], ...]
    """Name, numpy format, offset in the payload."""
    fixed: Mapping[str, int] = field(default_factory=dict)
    """Fields that the board always fills with the same number."""

    @property
    def size(self) -> int:
        return self.payload + _AROUND

    @cached_property
    def header(self) -> bytes:
        """What follows the start of the frame."""
        return self.payload.to_bytes(2, "little") + bytes([self.kind])

    @cached_property
    def dtype(self) -> np.dtype[np.void]:
        names, formats, offsets = zip(*self.fields, strict=True)
        return np.dtype(
            {
                "names": list(names),
                "formats": list(formats),
                "offsets": [_HEADER + offset for offset in offsets],
                "itemsize": self.size,
            }
        )

    def unpack(self, data: bytes, count: int = -1, offset: int = 0) -> Frames:
        """Whole frames, one after the other, as an array with the fields' names."""
        return np.frombuffer(data, self.dtype, count, offset)

    def pack(self, fields: Mapping[str, ArrayLike], count: int = 1) -> bytes:
        """The inverse; what is not given is zero, or what the board always sends there."""
        whole = np.zeros((count, self.size), np.uint8)
        whole[:, :_HEADER] = list(SOF + self.header)
        whole[:, -2:] = list(END)
        frames = whole.view(self.dtype)[:, 0]
        for name, value in {**self.fixed, **fields}.items():
            frames[name] = value
        return whole.tobytes()


@dataclass(frozen=True)
class Dialect:
    """A board's frames, and what they mean."""

    layouts: tuple[Layout, ...]
    """The first is the one that the board sends today, and the encoder writes."""
    waves: tuple[str, ...]
    """The field of each of the board's channels."""
    numbers: tuple[tuple[str, str, float, int | None], ...] = ()
    """Name to the outside, field, scale, the number that says invalid."""
    leads: tuple[frozenset[str], ...] = (NO_LEADS,)
    """What may be off at the same time; `lead_state` gives the place in here."""
    lead_state: Callable[[Frames], Integers] | None = None
    lead_mark: Callable[[dict[str, ArrayLike], int], None] | None = None
    """The encoder's: writes a place in `leads` into the fields."""
    held_wave: tuple[str, str] | None = None
    """A wave of half the rate, and the flag that says that it has no new sample here: the last one stands."""

    @property
    def batch(self) -> int:
        """Samples in a frame."""
        shape = self.layouts[0].dtype[self.waves[0]].shape
        return int(shape[0]) if shape else 1


class ProtocentralDecoder:
    def __init__(self, board: Board, dialect: Dialect) -> None:
        self.counters = Counters()
        self.numbers: dict[str, float] = {}
        self._board = board
        self._dialect = dialect
        self._batch = dialect.batch
        self._layouts = {layout.header: layout for layout in dialect.layouts}
        self._rest = b""
        self._skipped = Skipped()
        self._lost = 0
        self._held = float("nan")

    def decode(self, data: bytes) -> list[Chunk]:
        buffer = self._rest + data
        counters = self.counters
        end = len(buffer)
        at = 0
        runs: list[tuple[Layout, int, int, int]] = []  # frames one after the other: layout, start, end, lost before
        while True:
            start = buffer.find(SOF, at)
            if start < 0:
                start = end - 1 if end > at and buffer[end - 1] == SOF[0] else end
                self._skip(buffer[at:start])
                at = start
                break
            if start > at:
                self._skip(buffer[at:start])
                at = start
            if end < at + _HEADER:
                break
            layout = self._layouts.get(buffer[at + 2 : at + _HEADER])
            if layout is not None:
                after = at + layout.size
                if end < after:
                    break
                if buffer[after - 2 : after] == END:
                    lost = self._found() if self._skipped.count else 0
                    counters.frames_good += 1
                    if runs and runs[-1][0] is layout and runs[-1][2] == at:
                        runs[-1] = (layout, runs[-1][1], after, runs[-1][3])
                    else:
                        runs.append((layout, at, after, lost))
                    at = after
                    continue
            counters.frames_bad += 1
            self._skip(buffer[at : at + 1])
            at += 1
        self._rest = buffer[at:]
        chunks: list[Chunk] = []
        for layout, start, after, lost in runs:
            frames = layout.unpack(buffer, (after - start) // layout.size, start)
            self._lost += lost
            self._note(layout, frames)
            if self._dialect.waves[0] in self._names(layout):
                chunks += self._chunks(frames)
        return chunks

    def flush(self) -> list[Chunk]:
        return []

    def _skip(self, data: bytes) -> None:
        if data:
            self.counters.bytes_skipped += len(data)
            self._skipped.add(data)

    def _found(self) -> int:
        """Frames again after bytes that are none: how many samples these were, by their length."""
        skipped = replace(self._skipped)
        self._skipped.clear()
        if self.counters.frames_good == 0:
            return 0  # before the first frame nothing is lost
        self.counters.resyncs += 1
        if not skipped.binary:
            return 0
        main = self._dialect.layouts[0]
        frames = round(skipped.count / main.size)
        if not frames and skipped.count > 2 and not any(other.size < main.size for other in self._dialect.layouts):
            frames = 1  # less than half of a frame is left of it; one or two bytes alone are noise
        lost = frames * self._batch
        self.counters.samples_lost_estimated += lost
        return lost

    @staticmethod
    def _names(layout: Layout) -> tuple[str, ...]:
        return layout.dtype.names or ()

    def _note(self, layout: Layout, frames: Frames) -> None:
        last = frames[-1]
        for name, field_name, scale, invalid in self._dialect.numbers:
            if field_name in self._names(layout):
                number = int(last[field_name])
                if number == invalid:
                    self.numbers.pop(name, None)
                else:
                    self.numbers[name] = number * scale

    def _chunks(self, frames: Frames) -> list[Chunk]:
        dialect, channels = self._dialect, self._board.channels
        rows = [self._wave(frames, name) for name in dialect.waves]
        values = to_values(rows, channels)
        lost, self._lost = self._lost, 0
        if dialect.lead_state is None:
            return [Chunk(values, lost, not lost)]
        state = dialect.lead_state(frames)
        if not state.any():
            return [Chunk(values, lost, not lost)]
        cuts = [0, *(np.flatnonzero(np.diff(state)) + 1).tolist(), len(state)]
        chunks: list[Chunk] = []
        for start, end in itertools.pairwise(cuts):
            off = dialect.leads[state[start]]
            chunks.append(Chunk(without(values[:, start:end], channels, off), lost, not lost, off))
            lost = 0
        return chunks

    def _wave(self, frames: Frames, name: str) -> NDArray[Any]:
        wave: NDArray[Any] = frames[name]
        count = len(frames) * self._batch
        if wave.ndim == 2:
            wave = wave.reshape(-1)
            if len(wave) < count:
                wave = np.repeat(wave, count // len(wave))
        if self._dialect.held_wave and self._dialect.held_wave[0] == name:
            return self._hold(wave, frames[self._dialect.held_wave[1]] != 0)
        return wave

    def _hold(self, wave: NDArray[Any], stale: NDArray[np.bool_]) -> NDArray[Any]:
        known = np.concatenate(([self._held], wave.astype(np.float64)))
        newest = np.maximum.accumulate(np.concatenate(([0], np.where(stale, 0, np.arange(1, len(wave) + 1)))))
        held = known[newest]
        self._held = float(held[-1])
        return np.asarray(held[1:])


class ProtocentralEncoder:
    """Plays the board: `numbers` are sent along, under the names that the decoder gives them."""

    def __init__(self, board: Board, dialect: Dialect) -> None:
        self.numbers: dict[str, float] = {}
        self._board = board
        self._dialect = dialect
        self._layout = dialect.layouts[0]
        self._waiting = np.empty((len(board.channels), 0), np.float32)
        self._odd = False

    def encode(self, values: Samples, lead_off: frozenset[str] = NO_LEADS) -> bytes:
        dialect, layout = self._dialect, self._layout
        shapes = {name: layout.dtype[name].shape for name in dialect.waves}
        per_frame = dialect.batch
        values = np.concatenate((self._waiting, np.asarray(values, np.float32)), axis=1)
        count = values.shape[1] // per_frame
        self._waiting = values[:, count * per_frame :]
        if not count:
            return b""
        limits = [np.iinfo(layout.dtype[name].base) for name in dialect.waves]
        raw = to_raw(
            values[:, : count * per_frame], self._board.channels, [(int(each.min), int(each.max)) for each in limits]
        )
        fields: dict[str, ArrayLike] = {}
        for row, name in zip(raw, dialect.waves, strict=True):
            shape = shapes[name]
            fields[name] = row.reshape(count, per_frame)[:, :: per_frame // shape[0]] if shape else row
        for name, field_name, scale, _ in dialect.numbers:
            if name in self.numbers and field_name in (layout.dtype.names or ()):
                fields[field_name] = round(self.numbers[name] / scale)
        if dialect.held_wave:
            stale = (np.arange(count) + self._odd) % 2 == 1
            self._odd = bool(self._odd) != bool(count % 2)
            wave, flag = dialect.held_wave
            fields[wave] = np.where(stale, 0, np.asarray(fields[wave]))
            fields[flag] = np.where(stale, 0xFF, 0)
        if lead_off and dialect.lead_mark:
            # the board has one flag for all the electrodes: it says the least that covers these
            states = [at for at, leads in enumerate(dialect.leads) if lead_off <= leads]
            if not states:
                raise ValueError(f"{self._board.name} cannot say that {', '.join(sorted(lead_off))} is off")
            dialect.lead_mark(fields, states[0])
        return layout.pack(fields, count)
