"""What people said of recordings: a journal of operations in SQLite that only grows, committed to disk before it is answered.

The state of a beat is its last operation that is not undone. Undoing is an operation too, so it holds across restarts, and nobody's
word is ever lost, whoever else writes. Each operation names the one before it that its author had seen of that beat (``base``);
one that had not seen the latest is refused, and its author is shown what the other did.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from edge_agent.errors import OutputError
from edge_agent.review.findings import LABELS
from edge_agent.section import first_in_words

MOST_OPERATIONS = 1_000_000
"""Of one recording; 1000 hours of work."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS operations(
    seq INTEGER PRIMARY KEY AUTOINCREMENT, token TEXT UNIQUE NOT NULL, record TEXT NOT NULL, at TEXT NOT NULL, who TEXT NOT NULL,
    act TEXT NOT NULL, thing TEXT NOT NULL, value TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS by_record ON operations(record, seq);
"""

Act = Literal["label", "accept", "move", "add", "delete", "artefact", "normal", "reviewed", "undo", "redo"]
_BEAT_ACTS = ("label", "accept", "move", "add", "delete")
_Decide = Callable[["Journal"], tuple[Act, str, dict[str, Any]]]
_WHO = re.compile(r"[^\x00-\x1f\x7f]{1,40}")


class Refused(ValueError):
    """An operation that makes no sense; its text is the answer."""


class Conflict(Exception):
    """Somebody else changed it meanwhile."""

    def __init__(self, latest: Operation) -> None:
        super().__init__(f"{latest.who} changed it at {latest.at}")
        self.latest = latest


class Wish(BaseModel):
    """What a browser asks for."""

    model_config = ConfigDict(extra="forbid", strict=True)

    token: str = Field(pattern=r"^[A-Za-z0-9-]{8,64}$", description="Of this operation: sent again, it is done once.")
    who: str = Field(min_length=1, max_length=40)
    act: Literal["label", "accept", "move", "add", "delete", "artefact", "normal", "reviewed"]
    base: int = Field(
        default=0, ge=0, description="The last operation on this thing that its author has seen; 0: none."
    )
    id: str | None = Field(
        default=None, pattern=r"^[ma][0-9]{1,18}$", description="Of a beat; null for one to be added."
    )
    sample: int | None = Field(default=None, ge=0, description="Where the beat is, or shall be.")
    label: Literal["N", "S", "V", "F", "Q"] | None = None
    first: int | None = Field(default=None, ge=0)
    end: int | None = Field(default=None, ge=1)
    channel: str | None = Field(default=None, max_length=100)

    @model_validator(mode="after")
    def _complete(self) -> Wish:
        if not _WHO.fullmatch(self.who) or not self.who.strip() or not self.who.isprintable():
            raise ValueError("who: printable characters are wanted")
        if self.act in _BEAT_ACTS:
            if self.sample is None or (self.id is None) != (self.act == "add"):
                raise ValueError(f"{self.act} wants a beat and its sample")
            if self.act != "delete" and self.label is None:
                raise ValueError(f"{self.act} wants a label")
        elif self.first is None or self.end is None or self.end <= self.first:
            raise ValueError(f"{self.act} wants a stretch")
        elif self.act != "reviewed" and self.channel is None:
            raise ValueError(f"{self.act} wants a channel")
        return self


def wish(data: object) -> Wish:
    """Raises Refused, in a line."""
    try:
        return Wish.model_validate(data)
    except ValidationError as error:
        raise Refused(first_in_words(error, "the correction")) from None


@dataclass(frozen=True, slots=True)
class Operation:
    seq: int
    at: str
    who: str
    act: Act
    thing: str
    """``m123``: the model's beat at sample 123; ``a7``: the one that operation 7 added; a segment; empty for undo and redo."""
    value: dict[str, Any]

    def plain(self) -> dict[str, Any]:
        return {"seq": self.seq, "at": self.at, "who": self.who, "act": self.act, "thing": self.thing, **self.value}


@dataclass(slots=True)
class Journal:
    """The operations of one recording and what they come to. Not for several threads at once."""

    operations: list[Operation] = field(default_factory=list)
    undone: set[int] = field(default_factory=set)
    things: dict[str, Operation] = field(default_factory=dict)
    """Beats and segments by their last operation that stands."""
    reviewed: list[Operation] = field(default_factory=list)

    @property
    def seq(self) -> int:
        return self.operations[-1].seq if self.operations else 0

    def copy(self) -> Journal:
        return Journal(list(self.operations), set(self.undone), dict(self.things), list(self.reviewed))

    def take(self, operation: Operation) -> None:
        self.operations.append(operation)
        if operation.act in ("undo", "redo"):
            target = int(operation.value["target"])
            (self.undone.add if operation.act == "undo" else self.undone.discard)(target)
            self._again()
        else:
            self._stands(operation)

    def _stands(self, operation: Operation) -> None:
        if operation.act == "reviewed":
            self.reviewed.append(operation)
        else:
            self.things[operation.thing] = operation

    def _again(self) -> None:
        self.things.clear()
        self.reviewed.clear()
        for operation in self.operations:
            if operation.act not in ("undo", "redo") and operation.seq not in self.undone:
                self._stands(operation)

    def stacks(self, who: str) -> tuple[list[int], list[int]]:
        """What this person can undo and redo, the last first to be taken."""
        undo: list[int] = []
        redo: list[int] = []
        for one in self.operations:
            if one.who != who:
                continue
            target = int(one.value.get("target", 0))
            if one.act == "undo" and target in undo:
                undo.remove(target)
                redo.append(target)
            elif one.act == "redo" and target in redo:
                redo.remove(target)
                undo.append(target)
            elif one.act not in ("undo", "redo"):
                undo.append(one.seq)
                redo.clear()
        return undo, redo

    def latest(self, thing: str) -> Operation | None:
        """The last operation on it that stands."""
        return self.things.get(thing)


class Corrections:
    """All recordings' journals in one file. Safe from any thread; other processes may write the same file."""

    def __init__(self, path: Path) -> None:
        self._lock = threading.RLock()
        self._journals: dict[str, Journal] = {}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._base = sqlite3.connect(path, isolation_level=None, timeout=5.0, check_same_thread=False)
            self._base.execute("PRAGMA journal_mode=WAL")
            self._base.execute("PRAGMA synchronous=FULL")  # answered means on the disk
            self._base.executescript(_SCHEMA)
        except (OSError, sqlite3.Error) as error:
            raise OutputError(
                f"{path}: corrections cannot be kept there ({error})", remedy="name another folder with --state"
            ) from None

    def journal(self, record: str) -> Journal:
        """Up to date, whoever wrote last; a copy, which no other thread changes under the reader's eyes."""
        with self._lock:
            return self._current(record).copy()

    def _current(self, record: str) -> Journal:
        journal = self._journals.setdefault(record, Journal())
        for operation in self._since(record, journal.seq):
            journal.take(operation)
        return journal

    def since(self, record: str, seq: int) -> list[Operation]:
        with self._lock:
            return [one for one in self.journal(record).operations if one.seq > seq]

    def _since(self, record: str, seq: int) -> Iterator[Operation]:
        rows = self._base.execute(
            "SELECT seq, at, who, act, thing, value FROM operations WHERE record = ? AND seq > ? ORDER BY seq",
            (record, seq),
        )
        for row in rows.fetchall():
            yield Operation(row[0], row[1], row[2], row[3], row[4], json.loads(row[5]))

    def apply(self, record: str, asked: Wish, check: Callable[[], None] | None = None) -> Operation:
        """Raises Conflict, Refused, OutputError. ``check``: may refuse; not asked of an operation that was done already."""

        def decide(journal: Journal) -> tuple[Act, str, dict[str, Any]]:
            if check is not None:
                check()
            if asked.act in _BEAT_ACTS:
                thing = asked.id or ""
                value: dict[str, Any] = {"sample": asked.sample, "label": asked.label}
                self._free(journal, asked)
            else:
                thing = "" if asked.act == "reviewed" else f"s{asked.first}-{asked.end}-{asked.channel}"
                value = {"first": asked.first, "end": asked.end, "channel": asked.channel}
            latest = journal.latest(thing) if thing else None
            if latest is not None and latest.seq != asked.base:
                raise Conflict(latest)
            return asked.act, thing, value

        return self._write(record, asked.token, asked.who, decide)

    @staticmethod
    def _free(journal: Journal, asked: Wish) -> None:
        if asked.act in ("add", "move"):
            for thing, one in journal.things.items():
                if one.act != "delete" and one.value.get("sample") == asked.sample and thing != asked.id:
                    raise Refused(f"there is a beat at sample {asked.sample} already")

    def step(self, record: str, token: str, who: str, act: Literal["undo", "redo"]) -> Operation:
        """Take this person's last operation back, or do it again. Raises Refused where there is none."""

        def decide(journal: Journal) -> tuple[Act, str, dict[str, Any]]:
            undo, redo = journal.stacks(who)
            stack = undo if act == "undo" else redo
            if not stack:
                raise Refused(f"nothing to {act}")
            return act, "", {"target": stack[-1]}

        return self._write(record, token, who, decide)

    def _write(self, record: str, token: str, who: str, decide: _Decide) -> Operation:
        with self._lock:
            try:
                self._base.execute("BEGIN IMMEDIATE")  # nobody writes between looking and writing
                try:
                    done = self._base.execute("SELECT seq FROM operations WHERE token = ?", (token,)).fetchone()
                    journal = self._current(record)
                    if done is not None:
                        return next(one for one in journal.operations if one.seq == done[0])
                    if len(journal.operations) >= MOST_OPERATIONS:
                        raise Refused("too many operations on this recording")
                    act, thing, value = decide(journal)
                    at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
                    row = (token, record, at, who, act, thing, json.dumps(value))
                    seq = self._base.execute(
                        "INSERT INTO operations(token, record, at, who, act, thing, value) VALUES(?, ?, ?, ?, ?, ?, ?)",
                        row,
                    ).lastrowid
                    assert seq is not None
                    if act == "add":
                        thing = f"a{seq}"
                        self._base.execute("UPDATE operations SET thing = ? WHERE seq = ?", (thing, seq))
                    self._base.execute("COMMIT")
                finally:
                    if self._base.in_transaction:
                        self._base.execute("ROLLBACK")
            except StopIteration:
                raise Refused("that token was used for another recording") from None
            except sqlite3.Error as error:
                raise OutputError(f"the correction could not be written: {error}") from None
            operation = Operation(seq, at, who, act, thing, value)
            journal.take(operation)
            return operation

    def records(self) -> list[str]:
        with self._lock:
            return [row[0] for row in self._base.execute("SELECT DISTINCT record FROM operations ORDER BY record")]

    def close(self) -> None:
        with self._lock:
            self._base.close()


assert set(LABELS) == {"N", "S", "V", "F", "Q"}
