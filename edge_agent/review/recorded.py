"""What the daemon said while it recorded: the ``.edge`` annotations beside its recordings, as findings.

They hold each beat with its class, rhythms, quality and alarms, and no scores: those come from asking the models again, where they still
say the same. A beat that no model had judged is ``Q`` there, as is one that a model called unclassifiable.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from edge_agent.alarms.rules.registry import RULES, VERDICT_RULES
from edge_agent.annotation_files import mit
from edge_agent.annotation_files.mit import END
from edge_agent.events import AlarmKind
from edge_agent.outputs.segment import ANNOTATOR

PRIORITIES: dict[str, str] = {
    **{rule.kind: rule.priority for rule in RULES},
    **{rule.kind: rule.priority for rule in VERDICT_RULES},
}
"""Usual ones: the annotations do not say them, and a configuration may have set others."""
_ALARM = re.compile(r"([a-z_]+) (raised|updated|cleared|suppressed)")


def beside(record: Path) -> Path | None:
    """The daemon's annotations of a recording, if there are any; one that heard nothing leaves an end without a beginning."""
    path = record.with_suffix(f".{ANNOTATOR}")
    try:
        return path if record.suffix == ".hea" and path.stat().st_size > len(END) else None
    except OSError:
        return None


def take(base: sqlite3.Connection, path: Path, channels: Sequence[str]) -> int:
    """Into findings that are empty. How many beats there are. Raises SourceError.

    While they are being written they stand in the order in which they became known, afterwards by time.
    """
    found = sorted(mit.read(path), key=lambda one: one.sample)
    kinds = set(get_args(AlarmKind))

    def name(number: int) -> str:
        return channels[number] if number < len(channels) else ""

    beats = [one for one in found if one.symbol in mit.AAMI]
    base.executemany(
        "INSERT OR IGNORE INTO beats(sample, channel, label) VALUES(?, ?, ?)",
        [(one.sample, name(one.channel), None if one.symbol == "Q" else one.symbol) for one in beats],
    )
    marks, alarms = [], _Alarms()
    for one in found:
        said = _ALARM.fullmatch(one.text) if one.symbol == '"' else None
        if said is not None and said.group(1) in kinds:
            alarms.take(one.sample, said.group(1), said.group(2), name(one.channel))
        elif one.symbol == '"':
            marks.append((one.sample, name(one.channel), "note", one.text))
        elif one.symbol == "+":
            marks.append((one.sample, name(one.channel), "rhythm", one.text.removeprefix("(")))
        elif one.symbol == "~":
            marks.append((one.sample, name(one.channel), "quality", "good" if one.subtype == 0 else "bad"))
    base.executemany("INSERT INTO marks VALUES(?, ?, ?, ?)", marks)
    base.executemany("INSERT INTO alarms VALUES(?, ?, ?, ?, ?, ?, ?, NULL)", alarms.rows)
    return len(beats)


class _Alarms:
    """Raised and cleared, put together again."""

    def __init__(self) -> None:
        self.rows: list[list[object]] = []
        self._open: dict[tuple[str, str], list[object]] = {}

    def take(self, sample: int, kind: str, state: str, channel: str) -> None:
        if state in ("cleared", "updated"):
            # one that was raised in the recording before this one is open from its begin on
            row = self._open.get((kind, channel)) or self._add(0, kind, "raised", channel)
            if state == "cleared":
                row[3:6] = ["cleared", row[4], sample]
                self._open.pop((kind, channel), None)
            return
        self._add(sample, kind, state, channel)

    def _add(self, sample: int, kind: str, state: str, channel: str) -> list[object]:
        until = sample if state == "suppressed" else None
        row: list[object] = [f"r{len(self.rows)}", kind, PRIORITIES.get(kind, "low"), state, sample, until, channel]
        self.rows.append(row)
        if state == "raised":
            self._open[kind, channel] = row
        return row
