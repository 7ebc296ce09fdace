"""The outbox: messages of QoS 1 on disk before the network has them, until the broker has acknowledged them.

SQLite in WAL mode. One table for each rank, so that what matters least is evicted first without an index to keep up, and one
sequence of numbers over all of them, so that messages leave in the order in which they came. Deletions wait for the next
write: what is acknowledged but not deleted when the power goes is sent twice, and ``session`` and ``seq`` tell.

Owned by one thread. What the disk refuses is kept in memory by the caller; nothing here retries.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from edge_agent.errors import OutputError

log = logging.getLogger(__name__)

RANKS = ("beats", "events", "alarms")
"""Least important first: a bound evicts from the left."""
PAGE_BYTES = 1024
"""Small, because a page is the least that a message costs an SD card."""
ROW_OVERHEAD = 24
SCHEMA = 1
STEP_S = 60.0
"""The clock was set, if it moved so far beside the one that only counts."""


class Parcel(NamedTuple):
    """A message on its way: ``number`` is its place in the order of all."""

    number: int
    rank: int
    topic: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Bounds:
    max_bytes: int
    max_age_s: float


@dataclass(slots=True)
class Level:
    """How full one rank is; kept in memory so that no write asks the disk."""

    messages: int = 0
    payload_bytes: int = 0


class OutboxUnusable(OutputError):
    """The disk does not let it be opened (full, read-only, failing): no other agent has it, so work may go on without it."""


class Outbox:
    def __init__(self, path: Path, bounds: Bounds) -> None:
        """Open or make it; a damaged one is set aside and said."""
        self.path = path
        self.bounds = bounds
        self.levels = [Level() for _ in RANKS]
        self.evicted = dict.fromkeys(RANKS, 0)
        """Since the start, by rank: pushed out by a bound."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                self._db = self._open()
            except sqlite3.DatabaseError as error:
                if isinstance(error, sqlite3.OperationalError) and not _is_damage(error):
                    raise
                self._set_aside(error)
                self._db = self._open()
        except (OSError, sqlite3.Error) as error:
            if getattr(error, "sqlite_errorcode", 0) & 0xFF == sqlite3.SQLITE_BUSY:
                raise OutputError(
                    f"{path}: the outbox is in use by another agent", remedy="give each agent its own device.id"
                ) from None
            raise OutboxUnusable(
                f"{path}: the outbox cannot be opened ({error})",
                remedy="check that its folder is there, writable and on a disk with room",
            ) from None
        self.next_number = self._first = 1 + max(self._newest(), default=0)
        self._clock = _clock_ahead_s()
        """The clock in which this run's messages are dated: seconds before ``time.monotonic``."""

    # -- opening -------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=1.0)
        try:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute(
                "PRAGMA locking_mode = EXCLUSIVE"
            )  # a second agent on the same outbox would send everything twice
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA synchronous = FULL")  # a commit is on the card, not in a cache
            db.execute("PRAGMA temp_store = MEMORY")
            db.execute("PRAGMA cache_size = -512")
            db.execute("PRAGMA wal_autocheckpoint = 1000")
            if db.execute("PRAGMA quick_check(1)").fetchone()[0] != "ok":
                raise sqlite3.DatabaseError("its pages do not fit together")
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version not in (0, SCHEMA):
                raise sqlite3.DatabaseError(f"made by another version ({version})")
            db.execute("BEGIN IMMEDIATE")
            for rank in RANKS:
                db.execute(
                    f"CREATE TABLE IF NOT EXISTS {rank}"
                    " (number INTEGER PRIMARY KEY, put_s INTEGER NOT NULL, topic TEXT NOT NULL, payload BLOB NOT NULL)"
                )
            self._drop_spoilt(db)
            db.execute(f"PRAGMA user_version = {SCHEMA}")
            db.execute("COMMIT")
            for level, rank in zip(self.levels, RANKS, strict=True):
                count, size = db.execute(
                    f"SELECT count(*), coalesce(sum(length(payload) + length(topic) + {ROW_OVERHEAD}), 0) FROM {rank}"
                ).fetchone()
                level.messages, level.payload_bytes = count, size
        except BaseException:
            db.close()
            raise
        return db

    def _drop_spoilt(self, db: sqlite3.Connection) -> None:
        """Rows that a bad card changed: one topic that is no text would keep all that wait behind it from being read, at every try."""
        for rank in RANKS:
            rows = db.execute(
                f"SELECT number, CAST(topic AS BLOB), typeof(topic), typeof(payload), typeof(put_s) FROM {rank}"
            )
            bad = [
                (number,)
                for number, topic, *kinds in rows
                if kinds != ["text", "blob", "integer"] or not _is_topic(topic)
            ]
            if bad:
                db.executemany(f"DELETE FROM {rank} WHERE number = ?", bad)
                log.error("%s: %d %s were damaged and are gone", self.path, len(bad), rank)

    def _set_aside(self, error: Exception) -> None:
        """A damaged file is kept for whoever wants to look, and must not keep alarms from going out."""
        aside = self.path.with_name(f"{self.path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        log.error("%s is damaged (%s); set aside as %s, a new one is begun", self.path, error, aside.name)
        self.path.replace(aside)
        for suffix in ("-wal", "-shm"):
            with suppress(FileNotFoundError):
                Path(f"{self.path}{suffix}").replace(f"{aside}{suffix}")

    def _newest(self) -> Iterator[int]:
        for rank in RANKS:
            newest = self._db.execute(f"SELECT max(number) FROM {rank}").fetchone()[0]
            if newest is not None:
                yield newest

    # -- in, out -------------------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        return sum(level.messages for level in self.levels)

    @property
    def used_bytes(self) -> int:
        return sum(level.payload_bytes for level in self.levels)

    def write(self, parcels: Sequence[Parcel], acknowledged: Iterable[Parcel]) -> None:
        """One transaction: what came in, what may go. On the disk when this returns; sqlite3.Error if it is not."""
        # Not time.time(): until ``expire`` has moved the dates of this run, all of them are of one clock.
        db, now = self._db, int(time.monotonic() + self._clock)
        levels = [Level(level.messages, level.payload_bytes) for level in self.levels]
        evicted = dict(self.evicted)
        db.execute("BEGIN IMMEDIATE")
        try:
            for parcel in acknowledged:
                if db.execute(f"DELETE FROM {RANKS[parcel.rank]} WHERE number = ?", (parcel.number,)).rowcount:
                    _take(levels[parcel.rank], _size(parcel))
            for rank, name in enumerate(RANKS):
                mine = [parcel for parcel in parcels if parcel.rank == rank]
                if mine:
                    db.executemany(
                        f"INSERT INTO {name} VALUES (?, {now}, ?, ?)",
                        [(parcel.number, parcel.topic, parcel.payload) for parcel in mine],
                    )
                    levels[rank].messages += len(mine)
                    levels[rank].payload_bytes += sum(map(_size, mine))
            self._bound(levels, evicted)
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        self.levels, self.evicted = levels, evicted

    def _bound(self, levels: list[Level], evicted: dict[str, int]) -> None:
        """Evict by size, least important and oldest first, until a tenth is free; a row at a time would evict at every write."""
        if sum(level.payload_bytes for level in levels) <= self.bounds.max_bytes:
            return
        target = self.bounds.max_bytes * 9 // 10
        for rank, name in enumerate(RANKS):
            excess = sum(level.payload_bytes for level in levels) - target
            if excess <= 0:
                return
            last = freed = count = 0
            for number, size in self._db.execute(
                f"SELECT number, length(payload) + length(topic) + {ROW_OVERHEAD} FROM {name} ORDER BY number"
            ):
                last, freed, count = number, freed + size, count + 1
                if freed >= excess:
                    break
            if count:
                self._db.execute(f"DELETE FROM {name} WHERE number <= ?", (last,))
                levels[rank].messages -= count
                levels[rank].payload_bytes -= freed
                evicted[name] += count

    def expire(self) -> None:
        """Evict what is too old; sqlite3.Error if the disk refuses. Called now and then.

        A device without a battery for its clock starts somewhere in the past and is set right when the network comes. What was
        written in this run is moved along with the clock, so its age is what has gone by since, whatever the clock did. Messages
        of earlier runs keep the date that they were given: from before 2020 (a clock that never was right) or from the future
        they are not judged by age, and otherwise a wrong one counts.
        """
        db, clock = self._db, _clock_ahead_s()
        step = clock - self._clock if abs(clock - self._clock) > STEP_S else 0.0
        oldest = int(time.monotonic() + self._clock + step - self.bounds.max_age_s)
        levels = [Level(level.messages, level.payload_bytes) for level in self.levels]
        evicted = dict(self.evicted)
        db.execute("BEGIN IMMEDIATE")
        try:
            for rank, name in enumerate(RANKS):
                if step:
                    db.execute(f"UPDATE {name} SET put_s = put_s + ? WHERE number >= ?", (round(step), self._first))
                if rank == len(RANKS) - 1:
                    break  # alarms outlive everything but the bound on size
                old = "put_s < ? AND put_s > 1577836800"
                count, size = db.execute(
                    f"SELECT count(*), coalesce(sum(length(payload) + length(topic) + {ROW_OVERHEAD}), 0) FROM {name}"
                    f" WHERE {old}",
                    (oldest,),
                ).fetchone()
                if count:
                    db.execute(f"DELETE FROM {name} WHERE {old}", (oldest,))
                    levels[rank].messages -= count
                    levels[rank].payload_bytes -= size
                    evicted[name] += count
            db.execute("COMMIT")
        except BaseException:
            with suppress(sqlite3.Error):
                db.execute("ROLLBACK")
            raise
        self.levels, self.evicted = levels, evicted
        self._clock += step

    def read(self, after: int, limit: int) -> list[Parcel]:
        """The next messages in order, after the number given."""
        union = " UNION ALL ".join(
            f"SELECT * FROM (SELECT number, {rank} AS rank, topic, payload FROM {name} WHERE number > ?1"
            f" ORDER BY number LIMIT {limit})"
            for rank, name in enumerate(RANKS)
        )
        rows = self._db.execute(f"{union} ORDER BY number LIMIT {limit}", (after,)).fetchall()
        return [Parcel(*row) for row in rows]

    def close(self) -> None:
        with suppress(sqlite3.Error):
            self._db.close()


def _clock_ahead_s() -> float:
    """The time of day beside a clock that nobody sets: it changes when the time of day is set."""
    return time.time() - time.monotonic()


def _size(parcel: Parcel) -> int:
    return len(parcel.payload) + len(parcel.topic) + ROW_OVERHEAD


def _is_topic(raw: bytes) -> bool:
    try:
        topic = raw.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return 0 < len(topic) < 65536 and not any(char in topic for char in "+#\0")


def _take(level: Level, size: int) -> None:
    level.messages -= 1
    level.payload_bytes -= size


def _is_damage(error: sqlite3.Error) -> bool:
    """SQLITE_ERROR: a table without its columns, since what is asked while opening is right. Left in place, every start would fail."""
    damage = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_ERROR, sqlite3.SQLITE_SCHEMA)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in damage
