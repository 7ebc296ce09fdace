"""A stream's ``stop`` as its source has it: a source that asks whether it is told to stop tells that time passes."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable

STEP_S = 0.25


class Asked(threading.Event):
    """A source asks for its ``stop`` at least every half second while it waits for somebody to speak (`sources.base`), and each
    time it does, ``passes`` is called: time passes although nothing came."""

    def __init__(self, stop: threading.Event, passes: Callable[[], None]) -> None:
        super().__init__()
        self._told = stop
        self._passes = passes
        self._of = threading.get_ident()

    def is_set(self) -> bool:
        if threading.get_ident() == self._of:  # another thread of the source's must not touch the pipeline
            self._passes()
        return self._told.is_set()

    def set(self) -> None:
        self._told.set()

    def clear(self) -> None:
        self._told.clear()

    def wait(self, timeout: float | None = None) -> bool:
        until = math.inf if timeout is None else time.monotonic() + timeout
        while not self.is_set() and (left := until - time.monotonic()) > 0:
            self._told.wait(min(left, STEP_S))
        return self._told.is_set()
