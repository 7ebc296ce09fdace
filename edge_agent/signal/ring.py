"""A ring buffer with fixed memory and absolute indices, whose views are contiguous and never copied.

Each channel is written twice, ``capacity`` apart, so that any stretch up to ``capacity`` long is one contiguous slice.
Readers register by name; what is overwritten before a reader took it is counted for that reader, never silent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge_agent.journey import Samples


class Overwritten(LookupError):
    """The stretch asked for is no longer (or not yet) in the buffer."""


@dataclass(slots=True)
class Reader:
    """One consumer's place in the stream."""

    next: int = 0
    lost: int = 0
    """Samples that were overwritten before this reader took them."""


class Ring:
    """``channels`` x ``capacity`` samples; the newest ones win."""

    def __init__(self, channels: int, capacity: int, first: int = 0) -> None:
        if channels < 1 or capacity < 1:
            raise ValueError(f"a ring of {channels} channels and {capacity} samples cannot hold anything")
        self._data: Samples = np.full((channels, 2 * capacity), np.nan, np.float32)
        self.capacity = capacity
        self._first = first
        self._end = first
        self._writing_to = first  # set before samples are overwritten, for readers in other threads
        self._readers: dict[str, Reader] = {}

    def grown(self, capacity: int) -> Ring:
        """A larger one that holds the same, with the same readers; for the thread that writes."""
        larger = Ring(self._data.shape[0], max(capacity, self.capacity), self.start)
        at = self.start % self.capacity
        larger.push(self._data[:, at : at + self._end - self.start])
        larger._readers = self._readers
        return larger

    @property
    def end(self) -> int:
        """Index after the newest sample."""
        return self._end

    @property
    def start(self) -> int:
        """Oldest index still held."""
        return max(self._first, self._end - self.capacity)

    def push(self, values: Samples) -> None:
        """Append samples, shape (channels, n)."""
        n = values.shape[1]
        self._writing_to = self._end + n
        if n > self.capacity:  # only the newest can stay; the readers' accounting sees the rest as overwritten
            self._end += n - self.capacity
            values = values[:, -self.capacity :]
            n = self.capacity
        at, data, capacity = self._end % self.capacity, self._data, self.capacity
        head = min(n, capacity - at)
        if head < n:
            data[:, : n - head] = data[:, capacity : capacity + n - head] = values[:, head:]
            values = values[:, :head]
        data[:, at : at + head] = values
        data[:, capacity + at : capacity + at + head] = values
        self._end += n

    def skip(self, n: int) -> None:
        """Samples that never came: the index moves on, and nothing that bridges them may be read as signal."""
        if n <= 0:
            return
        lost = min(n, self.capacity)
        self._writing_to = self._end + n
        self._end += n - lost
        self.push(np.full((self._data.shape[0], lost), np.nan, np.float32))

    def view(self, channel: int, first: int, end: int) -> Samples:
        """Samples first..end-1 as one contiguous slice, valid until the next push."""
        if first < self.start or end > self._end or end < first:
            raise Overwritten(f"samples {first}..{end} are not in the buffer ({self.start}..{self._end})")
        at = first % self.capacity
        return self._data[channel, at : at + (end - first)]

    def reader(self, name: str) -> Reader:
        """The reader of that name, starting at the newest sample when it is new."""
        return self._readers.setdefault(name, Reader(next=self._end))

    def take(self, name: str, most: int | None = None) -> tuple[int, Samples]:
        """What this reader has not had yet: (absolute index, a copy, channels x n). Overwritten samples are counted.

        Safe from another thread than the writer's: if the writer came round while this copied, the copy is thrown away.
        """
        reader = self.reader(name)
        while True:
            end = self._end if most is None else min(self._end, reader.next + most)
            first = max(reader.next, self.start)
            end = max(end, first)
            at = first % self.capacity
            copy = self._data[:, at : at + (end - first)].copy()
            if first >= self._writing_to - self.capacity:
                break
        reader.lost += first - reader.next
        reader.next = end
        return first, copy
