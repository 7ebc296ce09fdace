"""The QoS 1 messages that no broker has acknowledged yet, in the order in which they came.

They are on the disk (``outbox.py``), and the youngest in memory, too; what the disk does not take is in memory alone until it
does. Which of them are on their way is the publisher's to know: it says ``done`` of one, or gives it ``back``.

Owned by one thread.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections import deque
from collections.abc import Iterable

from edge_agent.outputs.outbox import RANKS, Outbox, Parcel

log = logging.getLogger(__name__)

IN_MEMORY = 1000
"""Kept at hand beside the disk; the rest are read from it when their turn comes."""
TIDY_S = 5.0
"""Acknowledged messages are deleted with the next write, or after this long."""
EXPIRE_S = 60.0
READ_PATIENCE_S = 10.0
"""A disk that cannot be read holds back what came after for so long; then its part is left for the next start."""
UNSAVED_BATCH = 200
"""While the disk takes nothing, it is asked again every ``TIDY_S``, or when so many have come at once."""


class Parcels:
    def __init__(self, outbox: Outbox | None) -> None:
        """Without an outbox, memory is all there is."""
        self._outbox = outbox
        self.fault: str | None = None
        """Why the disk does not take messages just now."""
        self.lost = 0
        """That neither the disk nor the memory could keep."""
        self.on_their_way = 0
        """Of those given out by ``next``: neither ``done`` nor given ``back`` yet."""
        self._number = 1 if outbox is None else outbox.next_number
        self._given = 0
        """Up to this number they have been given out at least once."""
        self._on_disk_until = self._number - 1
        """Up to this number, if not given out yet, they are on the disk only; younger ones are in ``_memory``."""
        self._from_disk: deque[Parcel] = deque()
        self._memory: deque[Parcel] = deque()
        self._unsaved: dict[int, Parcel] = {}
        self._deletable: list[Parcel] = []
        self._again: deque[Parcel] = deque()
        """Given back: older than all the rest."""
        self._unread_since = 0.0
        self._tidied = self._expired = time.monotonic()

    @property
    def waiting(self) -> int:
        """Not acknowledged yet."""
        if self._outbox is None:
            return len(self._memory) + len(self._again) + self.on_their_way
        return self._outbox.waiting - len(self._deletable) + len(self._unsaved)

    @property
    def at_hand(self) -> tuple[Parcel, ...]:
        """In memory, not given out yet, oldest first."""
        return tuple(self._memory)

    # -- in ------------------------------------------------------------------------------------------------------

    def number(self, rank: int, topic: str, payload: bytes) -> Parcel:
        """The next in the order of all; ``save`` it, then ``add`` it."""
        parcel = Parcel(self._number, rank, topic, payload)
        self._number += 1
        return parcel

    def save(self, parcels: Iterable[Parcel], *, last: bool) -> None:
        """New ones onto the disk, acknowledged ones off it."""
        if self._outbox is None:
            return
        now = time.monotonic()
        tidy = self._deletable and (now - self._tidied >= TIDY_S or last)
        before = len(self._unsaved)
        for parcel in parcels:
            self._unsaved[parcel.number] = parcel
        if not self._unsaved and not tidy:
            return
        if self.fault and len(self._unsaved) - before < UNSAVED_BATCH and now - self._tidied < TIDY_S and not last:
            return  # a full disk is asked now and then, not at every event
        try:
            if now - self._expired >= EXPIRE_S:
                self._expired = now
                self._outbox.expire()
            self._outbox.write(list(self._unsaved.values()), self._deletable)
        except sqlite3.Error as error:
            if self.fault is None:
                log.error("%s: cannot be written (%s); messages are kept in memory meanwhile", self._outbox.path, error)
            self.fault = str(error)
        else:
            if self.fault is not None:
                log.info("%s: can be written again", self._outbox.path)
            self.fault = None
            self._unsaved.clear()
            self._deletable.clear()
        self._tidied = now

    def add(self, parcel: Parcel) -> None:
        """It may be given out from now on."""
        self._memory.append(parcel)

    def bound(self, room: int) -> None:
        """What is on the disk need not be in memory, too; what is only in memory is bounded, least important first."""
        if self._outbox is not None and not self._unsaved and len(self._memory) > IN_MEMORY:
            self._on_disk_until = self._memory[-1].number
            self._memory.clear()
        for rank in range(len(RANKS)):
            if len(self._memory) <= room:
                return
            excess = len(self._memory) - room
            kept: deque[Parcel] = deque()
            for parcel in self._memory:
                if excess and parcel.rank == rank:
                    excess -= 1
                    self.lost += 1
                    self._unsaved.pop(parcel.number, None)
                else:
                    kept.append(parcel)
            self._memory = kept

    # -- out -----------------------------------------------------------------------------------------------------

    def next(self, at_once: int) -> Parcel | None:
        """The oldest that is not on its way; None if there is none, or if the disk cannot be read just now.

        ``at_once``: so many are read from the disk.
        """
        parcel = self._oldest(at_once)
        if parcel is not None:
            self.on_their_way += 1
        return parcel

    def _oldest(self, at_once: int) -> Parcel | None:
        if self._again:
            return self._again.popleft()
        while self._given < self._on_disk_until:
            parcel = self._next_on_disk(at_once)
            if parcel is None:
                return None
            if parcel.number > self._given:
                self._given = parcel.number
                return parcel
        if not self._memory:
            return None
        parcel = self._memory.popleft()
        self._given = parcel.number
        return parcel

    def _next_on_disk(self, at_once: int) -> Parcel | None:
        """The oldest that is on the disk only; None if the disk cannot be read just now."""
        assert self._outbox is not None
        if not self._from_disk:
            try:
                self._from_disk.extend(self._outbox.read(self._given, at_once))
                self._unread_since = 0.0
            except sqlite3.Error as error:
                return self._unreadable(error)
        if not self._from_disk or self._from_disk[0].number > self._on_disk_until:
            # Evicted, or in memory: the disk's part is over.
            self._from_disk.clear()
            self._given = self._on_disk_until
            return Parcel(self._given, 0, "", b"")
        return self._from_disk.popleft()

    def _unreadable(self, error: sqlite3.Error) -> Parcel | None:
        assert self._outbox is not None
        now = time.monotonic()
        if not self._unread_since:
            self._unread_since = now
            log.error("%s: cannot be read (%s)", self._outbox.path, error)
        self.fault = str(error)
        if now - self._unread_since < READ_PATIENCE_S:
            return None
        log.error("%s: what waits in it is left for the next start; new messages go on", self._outbox.path)
        self._given, self._unread_since = self._on_disk_until, 0.0
        return Parcel(self._given, 0, "", b"")

    def back(self, *parcels: Parcel) -> None:
        """They were given out and did not get through: they come first again, in order."""
        self.on_their_way -= len(parcels)
        self._again = deque(sorted([*parcels, *self._again], key=lambda parcel: parcel.number))

    def done(self, parcel: Parcel) -> None:
        """Acknowledged, or given up."""
        self.on_their_way -= 1
        if self._unsaved.pop(parcel.number, None) is None and self._outbox is not None:
            self._deletable.append(parcel)

    def close(self) -> None:
        if self._outbox is None:
            return
        if self._unsaved:
            self.lost += len(self._unsaved)
            log.error("%d messages are lost: the disk did not take them before the stop", len(self._unsaved))
        self._outbox.close()
