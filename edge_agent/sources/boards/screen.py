"""A screen for boards whose frames carry no check: the one ECG sample that cannot be is marked as having no value.

A bit flipped on the way passes every rule about frames. It leaves a sample that jumps away from its neighbours and back,
and that, replaced by what they suggest, leaves nothing odd behind. So for each sample:

* ``residual``: how far it is from the cubic through two neighbours on either side (a sixth of the fourth difference);
* ``around``: the largest residual from 6 samples before to 2 after, *had this sample been as suggested*, at least the mean
  residual of the second before; half a step of the converter is added (and 2 uV, where the unit says what a volt is);
* at more than ``ODD`` times that it is no ECG, unless its like (same sign, within 2.5 times as large) stood out twice in the
  last 15 s (five times, above ``SURE``): so do a pacemaker's spikes, and some patients' R waves at 125 samples a second.

A flip of the lowest bits drowns in the noise and passes; what passes how often, and how much of a real ECG is lost, is
measured by ``python -m benchmarks.plausibility``. The limits were set on half of the MIT-BIH records that the benchmark
names and on its paced ones.

The screen waits for 4 samples. Over a short loss it goes on as if nothing were missing: the jump there is a step, and the
samples beside it are judged too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Samples
from edge_agent.sources.boards.base import NO_LEADS, Board, Channel, Chunk, Codec, Counters, Decoder, Encoder

Floats = NDArray[np.float64]

AHEAD = 4
"""Samples that the screen waits for: two residuals after the sample's own, and each needs two more samples."""
ODD, SURE, SEEN = 4.0, 9.0, 2.0
"""How far a sample must stand out to be given up, to be given up with more about it to the contrary, to be remembered."""
ALIKE, TIMES, TIMES_SURE, MEMORY_S = 2.5, 2, 5, 15.0
LONGEST_LOSS = 16
"""Samples; over a longer one nothing is concluded."""
_BACK, _AFTER = 6, 2
_FLOOR_MV = 0.002
_STRETCHES, _STRETCH_S = 4, 0.25
_SIXTH, _TWO_THIRDS = 1 / 6, 2 / 3
_KERNEL = (_SIXTH, -_TWO_THIRDS, 1.0, -_TWO_THIRDS, _SIXTH)
_PART = 1024
"""Samples looked at in one go."""
_FAR = 1 << 30


def with_screen(board: Board, frames: Callable[[], Decoder], encoder: Callable[[], Encoder]) -> Codec:
    """The codec of a board without a check, whose decoder has the screen behind it."""
    board = replace(board, held=board.held + AHEAD)
    return Codec(board, lambda: Screened(frames(), board), encoder, frames)


@dataclass(slots=True)
class _Pending:
    """A chunk, or what is left of it, that waits for its verdict."""

    chunk: Chunk
    at: int
    """Which of all samples that came its first one is."""


class Screened:
    """A decoder with the screen behind it."""

    def __init__(self, decoder: Decoder, board: Board) -> None:
        self.counters: Counters = decoder.counters
        self.numbers = decoder.numbers
        self._decoder = decoder
        self._rows = [row for row, channel in enumerate(board.channels) if channel.kind == "ecg"]
        rows = self._rows
        self._of = slice(rows[0], rows[-1] + 1) if rows[-1] - rows[0] == len(rows) - 1 else rows
        self._names = [board.channels[row].name for row in self._rows]
        self._leads = _Leads([board.channels[row] for row in self._rows], board.fs)
        self._pending: deque[_Pending] = deque()
        self._end = 0

    def decode(self, data: bytes) -> list[Chunk]:
        done: list[Chunk] = []
        for chunk in self._decoder.decode(data):
            self._take(chunk, done)
        if self._pending:
            self._release(self._end - AHEAD, done)
        return done

    def flush(self) -> list[Chunk]:
        done: list[Chunk] = []
        for chunk in self._decoder.flush():
            self._take(chunk, done)
        self._release(self._end, done)
        return done

    def _take(self, chunk: Chunk, done: list[Chunk]) -> None:
        count = chunk.values.shape[1]
        if chunk.lost_before > LONGEST_LOSS:
            self._release(self._end, done)
            self._leads.restart()
        self._pending.append(_Pending(chunk, self._end))
        off = [name in chunk.lead_off for name in self._names] if chunk.lead_off else None
        for at in range(0, count, _PART):
            part = chunk.values[self._of, at : at + _PART]
            for lead, sample in self._leads.feed(part, off):
                self._give_up(self._rows[lead], sample)
        self._end += count

    def _give_up(self, row: int, sample: int) -> None:
        for pending in self._pending:
            at = sample - pending.at
            if 0 <= at < pending.chunk.values.shape[1]:
                pending.chunk.values[row, at] = np.nan
                self.counters.values_implausible += 1

    def _release(self, end: int, done: list[Chunk]) -> None:
        """Hand out what lies before ``end``."""
        while self._pending and self._pending[0].at < end:
            head = self._pending.popleft()
            chunk, count = head.chunk, end - head.at
            if count < chunk.values.shape[1]:
                rest = Chunk(chunk.values[:, count:], lead_off=chunk.lead_off)
                self._pending.appendleft(_Pending(rest, end))
                chunk = Chunk(chunk.values[:, :count], chunk.lost_before, chunk.lost_exact, chunk.lead_off)
            if done and not chunk.lost_before and chunk.lost_exact and chunk.lead_off == done[-1].lead_off == NO_LEADS:
                last = done[-1]
                joined = np.concatenate((last.values, chunk.values), axis=1)
                done[-1] = Chunk(joined, last.lost_before, last.lost_exact)
            else:
                done.append(chunk)


class _Leads:
    """The ECG channels: their last samples and residuals, and what stood out in them lately."""

    def __init__(self, channels: Sequence[Channel], fs: float) -> None:
        count = len(channels)
        self._floor = np.array([abs(one.scale) / 2 + (_FLOOR_MV if one.unit == "mV" else 0.0) for one in channels])
        self._memory = round(MEMORY_S * fs)
        self._seen: list[deque[tuple[int, float]]] = [deque(maxlen=256) for _ in channels]
        self._stretch = max(1, round(_STRETCH_S * fs))
        self._left = self._stretch
        self._means: deque[Floats] = deque(maxlen=_STRETCHES)
        self._mean = np.zeros(count)
        self._limit = SEEN * self._floor[:, None]
        self._keep = self._stretch + _BACK + AHEAD + 8
        self._x = np.zeros((count, self._keep + 2 * _PART))
        self._residual = np.zeros_like(self._x)
        self._blank = np.zeros(self._x.shape, bool)
        self._any_off = False
        self._filled = 0
        self._begun = 0  # the column at which the signal began, or began again
        self._next = _BACK + 2  # the column to be judged next
        self._base = 0  # which of all samples column 0 is

    def restart(self) -> None:
        """What comes next does not continue what came; what was learned of the patient stays."""
        self._begun = self._filled
        self._next = self._begun + _BACK + 2
        self._left = self._stretch

    def feed(self, values: Samples, off: Sequence[bool] | None) -> list[tuple[int, int]]:
        """Channel and sample of what is found impossible with these samples; of those ``off`` the last value stands."""
        count = values.shape[1]
        if self._filled + count > self._x.shape[1]:
            self._make_room()
        start = self._filled
        end = self._filled = start + count
        x = self._x
        x[:, start:end] = values
        if self._any_off:
            self._blank[:, start:end] = False
        if off is not None:
            self._any_off = True  # from now on the marks must be looked after
            self._blank[:, start:end] = False
            self._blank[off, start:end] = True
            x[off, start:end] = x[off, start - 1 : start] if start else 0.0
        first = max(start - 2, self._begun + 2)
        if end - 2 <= first:
            return []
        outer = x[:, first - 2 : end - 4] + x[:, first + 2 : end]
        outer *= _SIXTH
        inner = x[:, first - 1 : end - 3] + x[:, first + 1 : end - 1]
        inner *= _TWO_THIRDS
        outer -= inner
        np.add(outer, x[:, first : end - 2], out=self._residual[:, first : end - 2])
        found: list[tuple[int, int]] = []
        while self._next < end - AHEAD:
            until = min(end - AHEAD, self._next + self._left)
            self._look(self._next, until, found)
            self._left -= until - self._next
            self._next = until
            if not self._left:
                self._end_stretch()
        return found

    def _make_room(self) -> None:
        drop = max(0, self._filled - self._keep)
        for array in (self._x, self._residual, self._blank):
            array[:, : self._filled - drop] = array[:, drop : self._filled].copy()
        self._filled -= drop
        self._begun = max(self._begun - drop, -_FAR)
        self._next -= drop
        self._base += drop

    def _end_stretch(self) -> None:
        """A new mean. Two behind: a residual is final when the second sample after it has been judged, perhaps replaced."""
        last = self._next - 2
        self._means.append(np.abs(self._residual[:, last - self._stretch : last]).mean(axis=1))
        self._mean = np.asarray(sum(self._means) / len(self._means))
        self._limit = SEEN * (self._floor + self._mean)[:, None]
        self._left = self._stretch

    def _look(self, at: int, to: int, found: list[tuple[int, int]]) -> None:
        out = np.abs(self._residual[:, at:to]) > self._limit
        if not out.any():
            return
        for lead in np.flatnonzero(out.any(axis=1)).tolist():
            places = np.flatnonzero(out[lead]).tolist()
            while places:
                place = at + places.pop(0)
                if not self._blank[lead, place] and self._impossible(lead, place):
                    found.append((lead, self._base + place))
                    self._replace(lead, place)
                    again = np.abs(self._residual[lead, place + 1 : to]) > self._limit[lead]
                    places = (np.flatnonzero(again) + place + 1 - at).tolist()

    def _replace(self, lead: int, place: int) -> None:
        """By what its neighbours suggest, so that it casts no doubt on them."""
        x, residual = self._x[lead], self._residual[lead]
        x[place] -= residual[place]
        for at in range(place - 2, place + 3):
            outer, inner = x[at - 2] + x[at + 2], x[at - 1] + x[at + 1]
            residual[at] = outer * _SIXTH - inner * _TWO_THIRDS + x[at]

    def _impossible(self, lead: int, place: int) -> bool:
        near: list[float] = self._residual[lead, place - _BACK : place + _AFTER + 1].tolist()
        own, around = near[_BACK], float(self._mean[lead])
        for away, one in enumerate(near, -_BACK):
            if away:
                around = max(around, abs(one - _KERNEL[away + 2] * own) if -2 <= away <= 2 else abs(one))
        size = abs(own) / (around + float(self._floor[lead]))
        if size <= SEEN:
            return False
        sample, seen = self._base + place, self._seen[lead]
        while seen and seen[0][0] < sample - self._memory:
            seen.popleft()
        alike = sum(1 for _, other in seen if 1 / ALIKE <= other / own <= ALIKE)
        seen.append((sample, own))
        return size > ODD and alike < (TIMES if size < SURE else TIMES_SURE)
