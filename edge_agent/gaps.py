"""Messages of lost samples, one a second at most: a line that loses every twentieth frame must not fill the outbox with them.

The first gap is told at once; those within the second after it are joined into one message at the end of that second.
"""

from __future__ import annotations

from collections.abc import Iterator

from edge_agent import events
from edge_agent.stamp import Moment, Stamp

EVERY_S = 1.0


class GapMessages:
    """Of one stream. What it says depends on the samples alone: its clock is theirs."""

    def __init__(self, fs: float, stamp: Stamp) -> None:
        self._every = round(EVERY_S * fs)
        self._stamp = stamp
        self._told: int | None = None
        self._first, self._end, self._lost = 0, 0, 0
        self._exact = True
        self._causes: dict[str, None] = {}

    def lost(self, first: int, end: int, cause: str, exact: bool, moment: Moment) -> Iterator[events.Gap]:
        if not self._lost:
            self._first, self._exact, self._causes = first, True, {}
        self._end = end
        self._lost += end - first
        self._exact = self._exact and exact
        self._causes[cause] = None
        yield from self.step(end, moment)

    def step(self, now: int, moment: Moment, *, last: bool = False) -> Iterator[events.Gap]:
        """What is due by now; ``last``: what there is."""
        if not self._lost or (self._told is not None and now - self._told < self._every and not last):
            return
        lost, self._lost, self._told = self._lost, 0, now
        yield events.Gap(
            **self._stamp(events.Gap, self._end, now, moment),  # type: ignore[arg-type]
            first=self._first,
            lost=lost,
            exact=self._exact,
            cause="; ".join(self._causes),
        )
