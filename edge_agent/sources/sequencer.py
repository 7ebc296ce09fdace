"""Numbered blocks in order: each once, late ones in their place, missing ones counted."""

from __future__ import annotations

from dataclasses import dataclass, field

from edge_agent.sources.raw_blocks import RawBlock

SEQ_TURN = 1 << 32
MOST_WAITING = 64
"""Blocks that came before one that is missing."""
LEAP_S = 3600.0
"""By so much an index may run ahead of the clock (a sensor that sends what it kept) before it is not believed."""


@dataclass(slots=True)
class Counters:
    duplicates: int = 0
    reordered: int = 0
    samples_lost: int = 0


@dataclass(slots=True)
class Ready:
    block: RawBlock
    lost_before: int
    """Exactly: by the sample indices."""
    arrived_ns: int


@dataclass
class Sequencer:
    """Of one session. A missing block is waited for ``patience_ns`` from the arrival of the first that should follow it."""

    patience_ns: int
    counters: Counters = field(default_factory=Counters)
    session: int | None = None
    _next: int = 0  # sample
    _next_seq: int = 0
    _began: bool = False
    _waiting: dict[int, tuple[RawBlock, int]] = field(default_factory=dict)  # by first sample
    _since_ns: int = 0
    _taken_ns: int = 0  # arrival of the last block that went on

    def leaps(self, block: RawBlock, now_ns: int, fs: float) -> bool:
        """Its index is one that no clock allows: a sensor that counts anew from elsewhere, or a damaged number."""
        return self._began and block.first - self._next > ((now_ns - self._taken_ns) / 1e9 + LEAP_S) * fs

    def put(self, block: RawBlock, now_ns: int) -> list[Ready]:
        """A block has come; those that can go on now."""
        self.session = block.session
        if not self._began:
            self._began, self._next, self._next_seq = True, block.first, block.seq
            self._taken_ns = now_ns
        if block.first < self._next or block.first in self._waiting:
            self.counters.duplicates += 1
            return []
        if self._waiting and block.first < max(self._waiting):
            self.counters.reordered += 1
        if not self._waiting:
            self._since_ns = now_ns
        self._waiting[block.first] = (block, now_ns)
        return self._in_order(now_ns)

    def look(self, now_ns: int) -> list[Ready]:
        """Time has passed: a block that was waited for may be given up."""
        if self._waiting and now_ns - self._since_ns >= self.patience_ns:
            return self._give_up(now_ns)
        return []

    def _in_order(self, now_ns: int) -> list[Ready]:
        ready = []
        while self._waiting:
            first = min(self._waiting)
            block = self._waiting[first][0]
            if first > self._next and block.seq != self._next_seq and not self._too_many():
                break  # a block is missing: it may still come
            ready += self._take(first)
            self._since_ns = now_ns
        return ready

    def _too_many(self) -> bool:
        return len(self._waiting) > MOST_WAITING or self.patience_ns == 0

    def _take(self, first: int) -> list[Ready]:
        block, came_ns = self._waiting.pop(first)
        if first < self._next:  # it overlaps what went before: a sensor that miscounts
            self.counters.duplicates += 1
            return []
        lost = first - self._next
        self.counters.samples_lost += lost
        self._next, self._next_seq = block.end, (block.seq + 1) % SEQ_TURN
        self._taken_ns = came_ns
        return [Ready(block, lost, came_ns)]

    def _give_up(self, now_ns: int) -> list[Ready]:
        self._since_ns = now_ns
        return [*self._take(min(self._waiting)), *self._in_order(now_ns)]
