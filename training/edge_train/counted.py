"""How far a long step is: a bar in a terminal, elsewhere a plain line now and then, and nothing for what is soon done."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from typing import TypeVar

from edge_agent.progress import Progress

T = TypeVar("T")
FIRST_S, EVERY_S = 5.0, 10.0
"""A log gets its first line after so long, and the next ones so far apart."""


def counted(title: str, items: Sequence[T]) -> Iterator[T]:
    """The items, one by one; standard error is told how many are done."""
    bar, terminal = Progress(title, len(items)), sys.stderr.isatty()
    due = time.monotonic() + FIRST_S
    try:
        for done, item in enumerate(items, 1):
            yield item
            bar.step(done, f"{done} of {len(items)}")
            if not terminal and time.monotonic() >= due:
                print(f"{title}: {done} of {len(items)}", file=sys.stderr, flush=True)
                due = time.monotonic() + EVERY_S
    finally:
        bar.close()
