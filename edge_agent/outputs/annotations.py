"""Events as a WFDB annotation file (annotator ``edge``), which the WFDB tools score as they stand.

Beats carry the verdict's code; a beat that no model classified (none runs, or it abstained) is ``Q``, unclassifiable. Rhythm
changes are ``+`` with ``(AFIB`` or ``(N``; quality changes are ``~`` with one bit for each noisy ECG channel in the low half
of the subtype and one for each unreadable in the high half, 0 when all are clean (as the MIT-BIH database has it).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_agent.errors import OutputError
from edge_agent.events import Beat, Event, Quality, Rhythm, Verdict
from edge_agent.journey import UNREADABLE
from edge_agent.outputs.segment import ANNOTATOR
from edge_agent.sources.recording import missing_library

log = logging.getLogger(__name__)

UNCLASSIFIED = "Q"
CODES = {"N": "N", "S": "S", "V": "V", "F": "F", "Q": "Q"}


@dataclass(slots=True)
class AnnotationWriter:
    """Collects one record's events; ``write`` makes the file."""

    channels: dict[str, int]
    """ECG channels: name to their index in the record."""
    _beats: dict[tuple[int, int], str] = field(default_factory=dict)
    _marks: list[tuple[int, int, str, int, str]] = field(default_factory=list)
    _bad: dict[int, int] = field(default_factory=dict)

    def event(self, event: Event) -> None:
        match event:
            case Beat():
                self._beats.setdefault((event.sample, self.channels[event.channel]), UNCLASSIFIED)
            case Verdict(task="ecg-beat", label=str(label)):
                self._beats[event.sample, self.channels[event.channel]] = CODES.get(label, UNCLASSIFIED)
            case Rhythm():
                self._marks.append((event.since, self.channels[event.channel], "+", 0, f"({event.rhythm}"))
            case Quality() if event.channel in self.channels:
                channel = self.channels[event.channel]
                if channel < 4:  # the subtype has room for four
                    unreadable = bool(UNREADABLE.intersection(event.reasons))
                    self._bad[channel] = 0 if event.good else (0x10 if unreadable else 0x01) << channel
                    self._marks.append((event.sample, channel, "~", sum(self._bad.values()), ""))

    def write(self, record: str, fs: float, folder: Path) -> Path | None:
        """``folder/record.edge``; None where there is nothing to write."""
        try:
            import wfdb
        except ImportError:
            raise missing_library("and writing WFDB annotations", "wfdb") from None
        rows = [(sample, channel, code, 0, "") for (sample, channel), code in self._beats.items()] + self._marks
        if not rows:
            log.warning("%s: nothing was found in it, so no annotation file is written", record)
            return None
        rows.sort(key=lambda row: (row[0], row[2] not in "+~", row[1]))
        sample, channel, symbol, subtype, note = zip(*rows, strict=True)
        file = file_of(record, folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            wfdb.wrann(
                file.stem,
                ANNOTATOR,
                np.array(sample),
                symbol=list(symbol),
                subtype=np.array([to_signed_byte(value) for value in subtype]),
                chan=np.array(channel),
                aux_note=list(note),
                fs=fs,
                write_dir=str(folder),
            )
        except OSError as error:
            raise OutputError(f"{folder}: {error.strerror or error}") from None
        return file


def file_of(record: str, folder: Path) -> Path:
    """Where a record's annotations go. wfdb checks the names of records strictly; a recording's own need not be one of them."""
    plain = "".join(char if char.isalnum() or char in "-_" else "_" for char in record)
    return folder / f"{plain}.{ANNOTATOR}"


def to_signed_byte(value: int) -> int:
    return value - 256 if value > 127 else value
