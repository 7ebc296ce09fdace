"""Samples that never came and that nobody numbered: told by the clock.

Bytes come in a steady trickle. When nothing has come for a while and what comes then is less than the while was long, the rest is
lost, or will come in the next moments: a driver or a radio that was held up hands over its backlog at once. So after a hole the
samples are held back for ``SETTLE_S``, and only what is missing then counts as lost. It is an estimate, and marked so.

Where frames are numbered, a hole of whole turns of the number shows no loss: the estimate says how many turns it was.
"""

from __future__ import annotations

from dataclasses import replace

from edge_agent.sources.boards.base import Chunk

HOLE_S = 0.4
"""Shorter ones are a busy machine's, or a radio's."""
SETTLE_S = 0.15
LEAST_S = 0.2
"""What is missing must be worth it: arrivals are not a metronome."""


class Holes:
    """Of one connection. Chunks in, chunks out; those after a hole a moment later, and with what was lost before them."""

    def __init__(self, fs: float, sequence: int | None = None) -> None:
        self._fs = fs
        self._turn = sequence
        self._last_ns = 0  # the last arrival before the hole, then every arrival
        self._held: list[Chunk] = []
        self._since_ns = 0  # the first arrival after the hole; 0 when nothing is held
        self.estimated = 0

    def look(self, chunks: list[Chunk], now_ns: int) -> list[Chunk]:
        if not self._since_ns:
            if not chunks:
                return []
            hole = bool(self._last_ns) and now_ns - self._last_ns > HOLE_S * 1e9
            if not hole:
                self._last_ns = now_ns
                return chunks
            self._since_ns = now_ns
        self._held += chunks
        if now_ns - self._since_ns < SETTLE_S * 1e9:
            return []
        held, self._held, self._since_ns = self._held, [], 0
        came = sum(chunk.values.shape[1] for chunk in held)
        missing = (now_ns - self._last_ns) / 1e9 * self._fs - came
        self._last_ns = now_ns
        return [self._with_loss(held[0], missing), *held[1:]]

    def flush(self) -> list[Chunk]:
        """What is held, when nothing more will come."""
        held, self._held, self._since_ns = self._held, [], 0
        return held

    def _with_loss(self, chunk: Chunk, missing: float) -> Chunk:
        known = chunk.lost_before
        if self._turn is not None and chunk.lost_exact:
            turns = round((missing - known) / self._turn)
            more = max(0, turns) * self._turn
        else:
            more = max(0, round(missing) - known)
        if more < LEAST_S * self._fs:
            return chunk
        self.estimated += more
        return replace(chunk, lost_before=known + more, lost_exact=False)
