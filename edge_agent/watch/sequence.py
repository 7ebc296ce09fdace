"""Repeats and holes. An agent counts each stream's messages of each kind from the start of its session (`stamp.py`).

At-least-once delivery repeats messages; a link that loses some leaves a hole. A late message is no repeat: it fills a hole
that was reported, and is shown.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field

MOST_COUNTS = 10_000
"""Topics and sessions remembered; the one unheard for longest is forgotten first."""
MOST_HOLES = 100

Key = tuple[str, str]
"""Topic (device, stream and kind) and session."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a number says about what came before."""

    missing: int = 0
    after: int = 0
    """The last number before the hole."""
    repeat: bool = False
    late: bool = False


@dataclass(slots=True)
class _Count:
    first: int
    last: int
    holes: deque[tuple[int, int]] = field(default_factory=deque)
    """Ranges, both ends included, that have not come."""

    def see(self, seq: int) -> Step:
        if seq > self.last:
            before, self.last = self.last, seq
            if seq == before + 1:
                return Step()
            self.holes.append((before + 1, seq - 1))
            self._bound()
            return Step(missing=seq - before - 1, after=before)
        if seq < self.first:  # older than all that is known
            if seq + 1 < self.first:
                self.holes.appendleft((seq + 1, self.first - 1))
            self.first = seq
            self._bound()
            return Step(late=True)
        for place, (low, high) in enumerate(self.holes):
            if low <= seq <= high:
                parts = ((low, seq - 1), (seq + 1, high))
                del self.holes[place]
                for part in reversed([part for part in parts if part[0] <= part[1]]):
                    self.holes.insert(place, part)
                self._bound()
                return Step(late=True)
        return Step(repeat=True)

    def _bound(self) -> None:
        if len(self.holes) > MOST_HOLES:
            # What lies before is no longer known: taken for new, should it come. Better shown twice than never.
            self.first = self.holes.popleft()[1] + 1


class Sequences:
    """All the counts there are; a first message and a new session say nothing about what came before."""

    def __init__(self) -> None:
        self._counts: OrderedDict[Key, _Count] = OrderedDict()

    def see(self, key: Key, seq: int) -> Step:
        count = self._counts.get(key)
        if count is None:
            self._counts[key] = _Count(seq, seq)
            if len(self._counts) > MOST_COUNTS:
                self._counts.popitem(last=False)
            return Step()
        self._counts.move_to_end(key)
        return count.see(seq)
