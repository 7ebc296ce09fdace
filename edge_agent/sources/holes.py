"""Samples that never came and that nobody numbered: told by the clock.

Bytes come in a steady trickle. When nothing has come for a while and what comes then is less than the while was long, the rest is
lost, or will come in the next moments: a driver or a radio that was held up hands over its backlog, at once or as fast as the
line carries it (a Cyton's line is 1.4 times as fast as its samples: a second's backlog takes it 2.5 s). So after a hole the samples
are held back until nothing is missing, or until they come no faster than they are taken; only what is missing then counts as lost.
It is an estimate, and marked so. A backlog that comes hardly faster than the samples (below ``SURPLUS``) cannot be told from a loss.

Where frames are numbered, a hole of whole turns of the number shows no loss: the estimate says how many turns it was.
"""

from __future__ import annotations

from collections import deque
from dataclasses import replace

from edge_agent.sources.boards.base import Chunk

HOLE_S = 0.4
"""Shorter ones are a busy machine's, or a radio's."""
SETTLE_S = 0.15
"""Held at least so long after a hole."""
RATE_S = 0.5
"""The stretch over which it is asked whether a backlog is still coming: bursts of 100 ms must not look like its end."""
SURPLUS = 1.1
HELD_HOLES = 6.0
MOST_HELD_S = 10.0
"""A backlog is waited for no longer than so many times the hole, and than this."""
LEAST_S = 0.2
"""What is missing must be worth it: arrivals are not a metronome."""


class Holes:
    """Of one connection. Chunks in, chunks out; those after a hole a moment later, and with what was lost before them."""

    def __init__(self, fs: float, sequence: int | None = None) -> None:
        self._fs = fs
        self._turn = sequence
        self._last_ns = 0  # the last arrival before the hole, then every arrival
        self._held: list[Chunk] = []
        self._recent: deque[tuple[int, int]] = deque()  # (arrival, samples) of the last RATE_S while held
        self._since_ns = 0  # the first arrival after the hole; 0 when nothing is held
        self._accounted = 0  # samples that are held, and those that are known to be lost among them
        self.estimated = 0

    def look(self, chunks: list[Chunk], now_ns: int) -> list[Chunk]:
        if not self._since_ns:
            if not chunks:
                return []
            hole = bool(self._last_ns) and now_ns - self._last_ns > HOLE_S * 1e9
            if not hole:
                self._last_ns = now_ns
                return chunks
            self._since_ns, self._accounted = now_ns, 0
        self._held += chunks
        came = sum(chunk.values.shape[1] for chunk in chunks)
        self._accounted += came + sum(chunk.lost_before for chunk in chunks)
        if came:
            self._recent.append((now_ns, came))
        missing = round((now_ns - self._last_ns) / 1e9 * self._fs) - self._accounted
        if now_ns - self._since_ns < SETTLE_S * 1e9 or (missing >= LEAST_S * self._fs and self._more_may_come(now_ns)):
            return []
        held = self.flush()
        self._last_ns = now_ns
        return [self._with_loss(held[0], missing), *held[1:]]

    def _more_may_come(self, now_ns: int) -> bool:
        held_s = (now_ns - self._since_ns) / 1e9
        if held_s < RATE_S:
            return True
        while self._recent and self._recent[0][0] <= now_ns - RATE_S * 1e9:
            self._recent.popleft()
        surplus = sum(count for _, count in self._recent) > SURPLUS * RATE_S * self._fs
        return surplus and held_s < min(MOST_HELD_S, HELD_HOLES * (self._since_ns - self._last_ns) / 1e9)

    def flush(self) -> list[Chunk]:
        """What is held, when nothing more will come."""
        held, self._held, self._since_ns = self._held, [], 0
        self._recent.clear()
        return held

    def _with_loss(self, chunk: Chunk, missing: int) -> Chunk:
        known = chunk.lost_before
        if self._turn is not None and chunk.lost_exact:
            more = max(0, round(missing / self._turn)) * self._turn
        else:
            more = max(0, missing)
        if more < LEAST_S * self._fs:
            return chunk
        self.estimated += more
        return replace(chunk, lost_before=known + more, lost_exact=False)
