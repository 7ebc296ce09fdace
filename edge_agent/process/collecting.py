"""Python's search for garbage, in a process that lives for months.

Nearly everything is freed the moment that nobody holds it any more. What the interpreter's collector adds is the search for circles of
objects that hold one another, and its full search looks at every object there is: with hundreds of streams, whose evidence of the last
minutes is 1,200 objects each, nobody hears anything for a tenth of a second, several times a minute. The journey of a sample makes no
circles (tests/test_collecting.py holds it to that): there is nothing to be found in what it keeps.

So the young objects are searched as ever, a few thousand at most; the full search waits until memory has grown, or for a day.
"""

from __future__ import annotations

import contextlib
import gc
import sys
import time
from collections.abc import Callable, Iterator

NEVER = min(sys.maxsize, 2**31 - 1)
"""Of young collections between two full ones that the interpreter would begin by itself."""
LOOK_S = 60.0
GROWN = 1.25
"""Resident memory against what it was after the last full search."""
AT_LEAST_EVERY_S = 86_400.0


def settle() -> None:
    """The start is over: what was made for it stays, and the interpreter begins no full search by itself any more."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    young, middle, _ = gc.get_threshold()
    gc.set_threshold(young, middle, NEVER)


@contextlib.contextmanager
def settled() -> Iterator[None]:
    """For a while: what is measured meanwhile is measured as a daemon runs."""
    before = gc.get_threshold()
    settle()
    try:
        yield
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


class Searches:
    """Of one process. Asked a few times a second, by one thread."""

    def __init__(self, memory_mb: Callable[[], float | None]) -> None:
        """``memory_mb``: resident memory, None where nothing tells it."""
        self._memory_mb = memory_mb
        self._least_mb: float | None = None
        self._searched_at = self._looked_at = time.monotonic()
        self.taken_s = 0.0
        """How long the last full search kept everybody waiting."""

    def begin(self, now: float) -> None:
        """A full search, and how things are after it is what the next ones are held against."""
        began = time.perf_counter()
        settle()
        self.taken_s = time.perf_counter() - began
        self._least_mb = self._memory_mb()
        self._searched_at = self._looked_at = now

    def look(self, now: float) -> bool:
        """Whether it was time for a full search, which has been made then."""
        if now - self._looked_at < LOOK_S:
            return False
        self._looked_at = now
        memory_mb = self._memory_mb()
        grown = memory_mb is not None and self._least_mb is not None and memory_mb > GROWN * self._least_mb
        if not grown and now - self._searched_at < AT_LEAST_EVERY_S:
            return False
        self.begin(now)
        return True
