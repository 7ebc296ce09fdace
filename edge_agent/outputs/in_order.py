"""A stream's alarms come from two threads (its own, and the models'): here they get back the order of their numbers.

A number is drawn when the message is made, and the two may overtake each other on the way to the output. A subscriber that drops
what it has seen (``seq`` not above the last one) would then drop an alarm that it has not seen.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from edge_agent.events import Alarm

PATIENCE_S = 0.05
"""The one before is on its way in another thread, microseconds behind. If its maker met a fault, it never comes."""


class InOrder:
    def __init__(self) -> None:
        self._next: dict[tuple[str, str], int] = {}
        self._turn = threading.Condition(threading.RLock())

    @contextlib.contextmanager
    def turn(self, alarm: Alarm) -> Iterator[None]:
        """Entered when all with smaller numbers have been said, or after PATIENCE_S."""
        key = (alarm.session, alarm.stream)
        with self._turn:
            self._turn.wait_for(lambda: self._next.get(key, 0) >= alarm.seq, PATIENCE_S)
            yield
            self._next[key] = max(self._next.get(key, 0), alarm.seq + 1)
            self._turn.notify_all()
