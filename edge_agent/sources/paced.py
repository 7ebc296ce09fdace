"""Sources that need no wire: a recording or the simulated patient, handed out at the pace of a live board."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from threading import Event

from edge_agent.journey import Block
from edge_agent.sources.base import StreamInfo
from edge_agent.sources.recording import Recording

BLOCK_S = 0.04
"""Of real time: what a board's driver hands over at once, about."""
READ_AHEAD_S = 60.0


@dataclass
class PacedSource:
    """Hands out ``read(n)``'s blocks so that sample i leaves at i / fs / speed after the start."""

    info: StreamInfo
    read: Callable[[int], Block | None]
    speed: float
    closing: Callable[[], None] = lambda: None

    def blocks(self, stop: Event) -> Iterator[Block]:
        began = time.monotonic()
        step = max(1, round(BLOCK_S * self.info.fs * self.speed))
        while not stop.is_set():
            block = self.read(step)
            if block is None:
                return
            due = began + block.end / self.info.fs / self.speed
            wait = due - time.monotonic()
            if wait > 0 and stop.wait(wait):
                return
            yield replace(block, arrived_ns=time.monotonic_ns())

    def close(self) -> None:
        self.closing()


class RecordingReader:
    """A recording as consecutive blocks, read from disk a minute at a time."""

    def __init__(self, recording: Recording, *, loop: bool = False) -> None:
        self._recording = recording
        self._loop = loop
        self._at = 0
        self._first = 0
        self._ahead = recording.read(0, 0)
        self._used = 0
        self._chunk = max(1, round(READ_AHEAD_S * recording.info.fs))

    def read(self, n: int) -> Block | None:
        if self._used >= self._ahead.shape[1]:
            self._ahead = self._recording.read(self._at, self._chunk)
            self._used = 0
            if self._ahead.shape[1] == 0:
                if not self._loop or self._at == 0:
                    return None
                self._at = 0
                return self.read(n)
            self._at += self._ahead.shape[1]
        values = self._ahead[:, self._used : self._used + n]
        self._used += values.shape[1]
        block = Block(first=self._first, fs=self._recording.info.fs, values=values)
        self._first = block.end
        return block
