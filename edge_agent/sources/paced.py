"""Sources that need no wire: a recording or the simulated patient, handed out at the pace of a live board or faster."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from threading import Event

from edge_agent.errors import SourceBroken, SourceError
from edge_agent.journey import Block
from edge_agent.sources.base import Counts, StreamInfo
from edge_agent.sources.recording import Recording, run_at

BLOCK_S = 0.04
"""Of real time: what a board's driver hands over at once, about."""
UNPACED_BLOCK_S = 1.0
"""Of the recording, when nothing sets the pace."""
READ_AHEAD_S = 60.0
GAP = "gap in the recording"
SEAM = "the recording starts again"


@dataclass
class PacedSource:
    """Hands out ``read(n)``'s blocks so that sample i leaves at i / fs / speed after the start."""

    info: StreamInfo
    read: Callable[[int], Block | None]
    speed: float
    """Infinite: as fast as they are taken."""
    closing: Callable[[], None] = lambda: None
    resumes: bool = False
    waits_for: str = ""

    def blocks(self, stop: Event) -> Iterator[Block]:
        paced = not math.isinf(self.speed)
        began = time.monotonic()
        step = max(1, round(BLOCK_S * self.info.fs * self.speed if paced else UNPACED_BLOCK_S * self.info.fs))
        while not stop.is_set():
            block = self.read(step)
            if block is None:
                return
            if paced:
                wait = began + block.end / self.info.fs / self.speed - time.monotonic()
                if wait > 0 and stop.wait(wait):
                    return
            yield replace(block, arrived_ns=time.monotonic_ns())

    def counters(self) -> Counts:
        return {}

    def close(self) -> None:
        closing, self.closing = self.closing, lambda: None
        closing()


class RecordingReader:
    """A recording as blocks, read from disk a minute at a time. Its gaps are gaps; the seam of a loop is one if it is told so."""

    def __init__(
        self, recording: Recording, *, offset_s: float = 0.0, loop: bool = False, loop_gap_s: float = 0.0
    ) -> None:
        fs = recording.info.fs
        self._recording = recording
        self._loop = loop
        self._seam = round(loop_gap_s * fs)
        self._begin = round(offset_s * fs)
        length = recording.runs[-1][1] if recording.runs else 0
        if self._begin and self._begin >= length:
            raise SourceError(
                f"the recording is {length / fs:g} s long, and was to begin at {offset_s:g} s",
                remedy="give a smaller offset",
            )
        if run_at(recording.runs, self._begin) is None:  # in a gap: from its end on
            self._begin = next((first for first, _ in recording.runs if first >= self._begin), self._begin)
        began = recording.info.began
        self.info = replace(
            recording.info,
            began=None if began is None else began + timedelta(seconds=self._begin / fs),
            samples=max(0, length - self._begin),
        )
        """Of what will be read: sample 0 is the one at the offset."""
        self._at = self._begin  # in the recording
        self._shift = -self._begin  # from there to the stream's index
        self._end = 0  # of what was given, in the stream
        self._cause = GAP
        self._ahead = recording.read(0, 0)
        self._used = 0
        self._chunk = max(1, round(READ_AHEAD_S * fs))

    def read(self, n: int) -> Block | None:
        if self._used >= self._ahead.shape[1] and not self._read_ahead():
            return None
        values = self._ahead[:, self._used : self._used + n]
        self._used += values.shape[1]
        first = self._at - self._ahead.shape[1] + self._used - values.shape[1] + self._shift
        lost = first - self._end
        self._end = first + values.shape[1]
        cause, self._cause = self._cause, GAP
        return Block(
            first=first,
            fs=self._recording.info.fs,
            values=values,
            lost_before=lost,
            lost_exact=True,
            lost_cause=cause if lost else "",
        )

    def _read_ahead(self) -> bool:
        """The next minute of the run, or the beginning of the next run, or of the recording."""
        run = run_at(self._recording.runs, self._at)
        if run is None:
            later = [one for one in self._recording.runs if one[0] >= self._at]
            if later:
                self._at = later[0][0]
            elif self._loop and self._end > 0:
                self._shift = self._end + self._seam - self._begin
                self._at = self._begin
                self._cause = SEAM
            else:
                return False
            return self._read_ahead()
        try:
            self._ahead = self._recording.read(self._at, min(self._chunk, run[1] - self._at))
        except SourceError as error:  # it was readable when it was opened: the file itself is damaged, and stays so
            second = max(1, round(self._recording.info.fs))
            if self._chunk > second:  # what is before the damage is worth having, to the last whole second
                self._chunk = second
                return self._read_ahead()
            raise SourceBroken(error.what, remedy=error.remedy) from None
        if self._ahead.shape[1] == 0:
            raise SourceBroken(
                f"the recording ends at sample {self._at}, {run[1] - self._at} samples early",
                remedy="fetch it again: the file is shorter than its header says",
            )
        self._used = 0
        self._at += self._ahead.shape[1]
        return True
