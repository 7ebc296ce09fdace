"""A progress bar of one line: how far, how fast, how long still. Silent where nobody looks (no terminal)."""

from __future__ import annotations

import sys
import time

WIDTH = 30
EVERY_S = 0.1


class Progress:
    """``total`` in any unit; ``step`` is told how much is done; the note says it in words."""

    def __init__(self, label: str, total: float, *, enabled: bool | None = None) -> None:
        self._label = label
        self._total = max(total, 1e-9)
        self._began = time.monotonic()
        self._shown = 0.0
        self._enabled = sys.stderr.isatty() if enabled is None else enabled

    def step(self, done: float, note: str = "") -> None:
        now = time.monotonic()
        if not self._enabled or now - self._shown < EVERY_S:
            return
        self._shown = now
        part = min(1.0, done / self._total)
        left = (now - self._began) * (1 - part) / part if part > 0 else 0.0
        bar = "#" * round(part * WIDTH)
        sys.stderr.write(f"\r{self._label[:20]:20} [{bar:<{WIDTH}}] {part:4.0%} {note} {clock(left)} left \x1b[K")
        sys.stderr.flush()

    def close(self) -> None:
        if self._enabled and self._shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()


def clock(seconds: float) -> str:
    """``1:02:03``, ``2:03``."""
    whole = int(seconds)
    hours, minutes = divmod(whole // 60, 60)
    return f"{hours}:{minutes:02}:{whole % 60:02}" if hours else f"{minutes}:{whole % 60:02}"
