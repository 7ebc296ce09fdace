"""What the pipeline finds in a recording, kept in a small database beside the pyramid: written by `analyse`, read by the server."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.annotation_files.mit import CLASSES

LABELS = CLASSES
NO_LABEL = len(LABELS)
"""The model abstained, or none ran."""
LATE_S = 120.0
"""A beat's class comes after the beat: so much of the end is read again."""
MOST_ALARMS = 20_000

SCHEMA = """
CREATE TABLE beats(sample INTEGER PRIMARY KEY, channel TEXT, label TEXT, score REAL, scores TEXT, reason TEXT, model TEXT);
CREATE TABLE segments(sample INTEGER, first INTEGER, end INTEGER, channel TEXT, task TEXT, label TEXT, score REAL, reason TEXT,
    model TEXT, PRIMARY KEY(task, channel, sample));
CREATE TABLE alarms(id TEXT PRIMARY KEY, kind TEXT, priority TEXT, state TEXT, sample INTEGER, until INTEGER, channel TEXT,
    evidence TEXT);
CREATE TABLE marks(sample INTEGER, channel TEXT, kind TEXT, text TEXT);
CREATE TABLE vitals(sample INTEGER PRIMARY KEY, rate REAL, systolic REAL, diastolic REAL, mean REAL);
CREATE TABLE about(key TEXT PRIMARY KEY, value TEXT);
"""


def remove(path: Path) -> None:
    """All that SQLite keeps of it."""
    for ending in ("", "-wal", "-shm", "-journal"):
        path.with_name(path.name + ending).unlink(missing_ok=True)


def create(path: Path, about: dict[str, str]) -> sqlite3.Connection:
    """A new one in place of what was there. What it holds can be computed again, so it need not survive a power cut."""
    remove(path)
    base = sqlite3.connect(path, isolation_level=None)
    base.execute("PRAGMA journal_mode=WAL")
    base.execute("PRAGMA synchronous=OFF")
    base.executescript(SCHEMA)
    base.executemany("INSERT INTO about VALUES(?, ?)", about.items())
    return base


def about(path: Path) -> dict[str, str]:
    """Empty where there is none, or none that can be read."""
    with suppress(sqlite3.Error):
        base = _open(path)
        try:
            return dict(base.execute("SELECT key, value FROM about"))
        finally:
            base.close()
    return {}


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True, timeout=2.0, check_same_thread=False)


@dataclass(slots=True)
class Segment:
    first: int
    end: int
    channel: str
    task: str
    label: str | None
    score: float | None
    reason: str | None
    model: str | None


@dataclass(slots=True)
class Found:
    """What was found so far, in memory: some 20 bytes a beat."""

    path: Path
    fs: float
    sample: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    label: NDArray[np.uint8] = field(default_factory=lambda: np.empty(0, np.uint8))
    score: NDArray[np.float32] = field(default_factory=lambda: np.empty(0, np.float32))
    segments: list[Segment] = field(default_factory=list)
    vitals: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 5), np.float64))
    version: int = 0
    """Changes whenever something came."""
    state: str = "none"
    """none, running, whole, failed."""
    reached: int = 0
    why: str = ""
    _base: sqlite3.Connection | None = None
    _seen: tuple[int, int, int] = (0, 0, 0)

    def refresh(self) -> None:
        """Take up what the analysis wrote since."""
        try:
            self._refresh()
        except sqlite3.Error:  # not there yet, or just being made
            self.close()

    def _refresh(self) -> None:
        if self._base is None:
            if not self.path.is_file():
                return
            self._base = _open(self.path)
        base = self._base
        said = dict(base.execute("SELECT key, value FROM about"))
        if said.get("state") == "whole" and self.state == "whole":
            return
        self.reached = int(said.get("reached", 0))
        whole = said.get("state") == "whole"
        # At the end all is read again: of the device's own beats, the scores come after the beats.
        since = int(self.sample[-1] - LATE_S * self.fs) if self.sample.size and not whole else -1
        rows = base.execute(
            "SELECT sample, label, score FROM beats WHERE sample > ? ORDER BY sample", (since,)
        ).fetchall()
        keep = int(np.searchsorted(self.sample, since, "right"))
        number = {name: i for i, name in enumerate(LABELS)}
        self.sample = np.concatenate([self.sample[:keep], np.array([row[0] for row in rows], np.int64)])
        label = np.array([number.get(row[1], NO_LABEL) for row in rows], np.uint8)
        self.label = np.concatenate([self.label[:keep], label])
        score = np.array([np.nan if row[2] is None else row[2] for row in rows], np.float32)
        self.score = np.concatenate([self.score[:keep], score])
        self.segments = [
            Segment(*row)
            for row in base.execute(
                "SELECT first, end, channel, task, label, score, reason, model FROM segments ORDER BY sample, task, channel"
            )
        ]
        rows = base.execute("SELECT sample, rate, systolic, diastolic, mean FROM vitals ORDER BY sample").fetchall()
        self.vitals = np.array([[np.nan if x is None else x for x in row] for row in rows], np.float64).reshape(-1, 5)
        self.state = said.get("state", "running")
        self.version += 1

    def detail(self, sample: int) -> dict[str, Any] | None:
        """All that is known of the model's word on a beat."""
        with suppress(sqlite3.Error):
            if self._base is not None:
                row = self._base.execute(
                    "SELECT channel, label, score, scores, reason, model FROM beats WHERE sample = ?", (sample,)
                ).fetchone()
                if row is not None:
                    found = dict(zip(("channel", "label", "score", "scores", "reason", "model"), row, strict=True))
                    found["scores"] = json.loads(row[3]) if row[3] else {}
                    return found
        return None

    def alarms(self, first: int, end: int) -> Iterator[dict[str, Any]]:
        """Those that were active in a stretch, and the marks in it."""
        with suppress(sqlite3.Error):
            if self._base is None:
                return
            rows = self._base.execute(
                "SELECT id, kind, priority, state, sample, until, channel, evidence FROM alarms"
                " WHERE sample < ? AND (until IS NULL OR until >= ?) ORDER BY sample LIMIT ?",
                (end, first, MOST_ALARMS),
            )
            names = ("id", "kind", "priority", "state", "sample", "until", "channel")
            for row in rows:
                yield dict(zip(names, row[:7], strict=True)) | {"evidence": json.loads(row[7] or "{}")}

    def marks(self, first: int, end: int) -> list[dict[str, Any]]:
        with suppress(sqlite3.Error):
            if self._base is not None:
                rows = self._base.execute(
                    "SELECT sample, channel, kind, text FROM marks WHERE sample >= ? AND sample < ? ORDER BY sample LIMIT ?",
                    (first, end, MOST_ALARMS),
                )
                return [dict(zip(("sample", "channel", "kind", "text"), row, strict=True)) for row in rows]
        return []

    def close(self) -> None:
        if self._base is not None:
            self._base.close()
            self._base = None
