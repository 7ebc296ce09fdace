"""Frames of one length with a number that counts on, whose start cannot be told from data by itself.

One frame that looks right proves little (Cyton: 1 position in 10,000 of random bytes, BITalino: 1 in 16), so alignment is
proven by frames that follow each other with numbers that follow each other:

* at first, and after a long time without frames, ``cold`` of them are needed, and are all delivered;
* after a fault, ``warm`` of them, within some frames' length of it (the true ones are near);
* a frame is delivered when the next one is there: the last one before a fault may be bytes that look like a frame by
  luck, which shows when others turn up in its middle;
* where nothing marks the start of a frame, the two beside a fault that moved the frames are not delivered: the one before
  has no witness, and of the one after only the end is proven (a frame that lost a byte, with one of its neighbour's,
  passes a CRC of 4 bits 1 time in 16).

An offset is judged when the bytes for all of that are there, never before, so cuts in the bytes change nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_agent.sources.boards.base import Bytes, Counters, Integers, Skipped

WARM_FRAMES = 16
"""Frames' lengths after a fault in which ``warm`` is enough."""


@dataclass(frozen=True, slots=True)
class Frame:
    """What a frame looks like."""

    size: int
    modulus: int
    """Numbers count modulo this."""
    cold: int
    warm: int
    good: Callable[[Bytes], NDArray[np.bool_]]
    """Of the frames in the rows: which of them look right."""
    number: Callable[[Bytes], Integers]
    anywhere: Callable[[Bytes], NDArray[np.bool_]]
    """Of bytes: at which offsets a frame that looks right starts (``len - size + 1`` answers)."""
    number_at: int
    """Where in the frame the number is, and by how much it is shifted there."""
    number_shift: int = 0
    marked: bool = False
    """Its start looks like a start, so that a frame without it is noticed."""


@dataclass(frozen=True, slots=True)
class Run:
    """Frames without a gap between them."""

    frames: Bytes
    """(n, size)"""
    lost_before: int
    """Frames."""
    lost_exact: bool


class NumberedFrames:
    """Bytes to runs of frames."""

    def __init__(self, frame: Frame, counters: Counters) -> None:
        self.counters = counters
        self._frame = frame
        self._rest = b""
        self._locked = False
        self._last: int | None = None  # number of the frame delivered last
        self._edge = b""  # the frame before a fault, not delivered yet
        self._edge_number: int | None = None
        self._after_edge = b""  # bytes since its first
        self._judged = 0  # offsets since the fault that are no start
        self._since = Skipped()
        self._given_up = 0  # frames since the last one delivered that were there, and not to be trusted

    def feed(self, data: bytes) -> list[Run]:
        self._rest += data
        runs: list[Run] = []
        while True:
            more = self._follow(runs) if self._locked else self._search(runs)
            if not more:
                return runs

    def flush(self) -> list[Run]:
        """The last frame, for which no next one will come."""
        runs: list[Run] = []
        size = self._frame.size
        if self._locked and len(self._rest) >= size:
            self._deliver(np.frombuffer(self._rest, np.uint8, size).reshape(1, size), runs)
            self._rest = self._rest[size:]
        elif self._edge:
            self._settle_edge(self._frame.marked, runs)
        return runs

    def _follow(self, runs: list[Run]) -> bool:
        """Aligned: deliver frames as long as they follow each other. True when they stopped doing so."""
        frame = self._frame
        count = len(self._rest) // frame.size
        if count < 2:
            return False  # the first one has been looked at already, and waits for its next
        frames = np.frombuffer(self._rest, np.uint8, count * frame.size).reshape(count, frame.size)
        numbers = frame.number(frames)
        fine = frame.good(frames)
        fine[1:] &= (numbers[1:] - numbers[:-1]) % frame.modulus == 1
        if fine.all():
            self._deliver(frames[:-1], runs)
            self._rest = self._rest[(count - 1) * frame.size :]
            return False
        stop = int(np.argmin(fine))
        if stop > 1:
            self._deliver(frames[: stop - 1], runs)
        edge = (stop - 1) * frame.size
        self._edge = self._rest[edge : edge + frame.size]
        self._edge_number = int(numbers[stop - 1])
        self._rest = self._rest[edge + 1 :]
        self._judged = 0
        self._locked = False
        self.counters.frames_bad += 1
        return True

    def _search(self, runs: list[Run]) -> bool:
        """Not aligned: find the first offset at which frames follow each other. True when there is one."""
        frame = self._frame
        warm = frame.size * WARM_FRAMES
        if self._last is not None or self._edge:
            while self._judged < warm:
                found, tried = self._chain(frame.warm, warm - self._judged)
                if self._settle(found, tried, runs):
                    return True
                if not tried:
                    return False
        found, tried = self._chain(frame.cold, None)
        return self._settle(found, tried, runs)

    def _chain(self, length: int, limit: int | None) -> tuple[int | None, int]:
        """The first of the offsets that can be judged where ``length`` frames follow each other; how many are none."""
        frame, size = self._frame, self._frame.size
        offsets = len(self._rest) - length * size + 1
        if limit is not None:
            offsets = min(offsets, limit)
        if offsets <= 0:
            return None, 0
        data = np.frombuffer(self._rest, np.uint8, offsets - 1 + length * size)
        look = frame.anywhere(data)
        chain = look[:offsets].copy()
        for step in range(1, length):
            chain &= look[step * size : step * size + offsets]
        candidates = np.flatnonzero(chain)
        if len(candidates):
            steps = np.arange(length) * size + frame.number_at
            numbers = (data[candidates[:, None] + steps] >> frame.number_shift).astype(np.int64)
            follow = ((np.diff(numbers, axis=1) % frame.modulus) == 1).all(axis=1)
            candidates = candidates[follow]
            if len(candidates):
                return int(candidates[0]), int(candidates[0])
        return None, offsets

    def _settle(self, found: int | None, tried: int, runs: list[Run]) -> bool:
        frame, size = self._frame, self._frame.size
        self._judged += tried
        if self._edge:
            self._after_edge += self._rest[:tried]
        else:
            self._skip(self._rest[:tried])
        self._rest = self._rest[tried:]
        from_edge = self._judged + 1  # how far from its start the offset is that will be judged next
        if found is None:
            if self._edge and from_edge > (size if frame.marked else size * WARM_FRAMES):
                self._settle_edge(frame.marked, runs)
            return False
        number = int(frame.number(np.frombuffer(self._rest, np.uint8, size).reshape(1, size))[0])
        if self._edge_number is None:
            in_place = self._since.count == 0
        else:
            frames, over = divmod(from_edge, size)
            in_place = not over and (number - self._edge_number - frames) % frame.modulus == 0
        if self._edge:
            # Frames that start in its middle prove that it was none. Frames that follow it at once with another number
            # than theirs prove that bytes are missing, which may be its end. And where nothing marks a start, any that
            # do not go on in its rhythm leave it without a witness.
            self._settle_edge(in_place or (frame.marked and from_edge > size), runs)
        if not in_place and not frame.marked:
            # bytes are missing or too many before it: its own start may be, and the next one proves its end alone
            self._skip(self._rest[:size])
            self._rest = self._rest[size:]
            self._give_up()
        self._locked = True
        if self._last is not None:
            self.counters.resyncs += 1
        return True

    def _skip(self, data: bytes) -> None:
        self._since.add(data)
        self.counters.bytes_skipped += len(data)

    def _give_up(self) -> None:
        self.counters.frames_bad += 1
        self._given_up += 1

    def _settle_edge(self, was_frame: bool, runs: list[Run]) -> None:
        if was_frame:
            self._deliver(np.frombuffer(self._edge, np.uint8).reshape(1, -1), runs)
            self._skip(self._after_edge[self._frame.size - 1 :])
        else:
            self._skip(self._edge[:1] + self._after_edge)
            self._give_up()
        self._edge = self._after_edge = b""

    def _deliver(self, frames: Bytes, runs: list[Run]) -> None:
        frame = self._frame
        lost, exact = self._lost(int(frame.number(frames[:1])[0]))
        self._since.clear()
        self._given_up = 0
        self._last = int(frame.number(frames[-1:])[0])
        self.counters.frames_good += len(frames)
        runs.append(Run(frames, lost, exact))

    def _lost(self, number: int) -> tuple[int, bool]:
        """Frames between the last one and this: by its number, and by the bytes skipped for whole turns of it."""
        if self._last is None:
            return 0, True
        modulus = self._frame.modulus
        lost = (number - self._last - 1) % modulus
        about = self._since.count / self._frame.size if self._since.binary else 0.0
        turns = max(0, round((about - lost) / modulus))
        if lost < self._given_up and not turns:
            turns = 1
        return lost + turns * modulus, about < modulus / 2
