"""Signals that ask for something, answered in a thread of their own.

Python runs a handler between any two steps of the main thread, which may just then hold the lock of the very event that it waits for: a
handler that sets that event waits for itself, for ever, and every further signal one call deeper. So a handler does nothing here but
put a number into a `SimpleQueue`, which is made for that (its ``put`` may interrupt itself).
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Mapping
from queue import SimpleQueue


def answer(answers: Mapping[signal.Signals, Callable[[], object]]) -> None:
    """From now on, in a thread of its own. For the main thread, which alone may say what becomes of a signal."""
    asked: SimpleQueue[int] = SimpleQueue()

    def run() -> None:
        while True:
            answers[signal.Signals(asked.get())]()

    threading.Thread(target=run, name="signals", daemon=True).start()
    for number in answers:
        signal.signal(number, lambda got, _frame: asked.put(got))
