"""What every source is: it says what it delivers, then delivers blocks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from threading import Event
from typing import Literal, Protocol

from edge_agent.journey import Block

Kind = Literal["ecg", "abp", "pleth", "other"]
PressureKind = Literal["abp", "pleth"]

_ECG_NAMES = re.compile(r"(M?L?I{1,3}|MLI{1,3}|AV[RLF]|V\d?|MCL\d?|M?CL[IV]*|ECG\d*|EKG.*|.*ECG.*)", re.IGNORECASE)
_ABP_NAMES = re.compile(r"(ABP|ART|AOBP|.*ARTERIAL.*|.*\bABP\b.*)", re.IGNORECASE)
_PLETH_NAMES = re.compile(r"(.*PLETH.*|PPG.*|IR)", re.IGNORECASE)
_OTHER_NAMES = re.compile(r"resp|co2|temp|spo2|eeg|eog|emg|acc|gsr|cvp|pap|icp|time|mark|event|trigger", re.IGNORECASE)


def guess_kind(name: str, unit: str = "") -> Kind:
    """A channel's kind by the names and units in use (PhysioNet's, monitors', boards')."""
    name = name.strip()
    if _ABP_NAMES.fullmatch(name):
        return "abp"
    if _PLETH_NAMES.fullmatch(name):
        return "pleth"
    if _ECG_NAMES.fullmatch(name):
        return "ecg"
    if unit.strip().lower() == "mmhg" and name.upper() not in ("CVP", "PAP", "ICP"):
        return "abp"
    return "other"


def is_plainly_other(name: str) -> bool:
    """Whether the name says that it is neither an ECG nor a pressure that is followed here."""
    return _OTHER_NAMES.search(name) is not None


@dataclass(frozen=True, slots=True)
class Signal:
    name: str
    kind: Kind
    unit: str = ""


@dataclass(frozen=True)
class StreamInfo:
    """What a stream delivers: one rate, these channels, in this order."""

    fs: float
    signals: tuple[Signal, ...]
    began: datetime | None = None
    """UTC time of sample 0, of a recording that knows it."""
    samples: int | None = None
    """Length of a recording, for progress."""
    delay_s: float = 0.0
    """By which filters on the board have delayed the signal already: its samples are that much older than they look."""

    @cached_property
    def index(self) -> dict[str, int]:
        return {signal.name: i for i, signal in enumerate(self.signals)}

    def named(self, kind: Kind) -> dict[str, int]:
        """Channels of a kind: name to row."""
        return {signal.name: i for i, signal in enumerate(self.signals) if signal.kind == kind}

    def kind(self, name: str) -> PressureKind:
        """Of a pressure or pleth channel."""
        return "abp" if self.signals[self.index[name]].kind == "abp" else "pleth"


ENDS = {
    "file": "end of recording: all of it was played, no fault",
    "simulated": "end of recording: the script is over, no fault",
    "stdin": "end of recording: whoever wrote to the standard input closed it",
}
"""What "offline" means where a source of this type came to its end by itself. They begin alike (docs/sources.md)."""
Counts = dict[str, int]
"""What a source counted, by the names of `events.SourceHealth`; a name that is not there has no meaning for it."""


class Source(Protocol):
    """Opened by its constructor function; closed by whoever opened it."""

    info: StreamInfo
    speed: float
    """Seconds of signal per second: 1 for a board, infinite for a recording that is not paced."""
    resumes: bool
    """After `SourceLost`, ``blocks`` may be called again without opening anew: it listens on, it stays subscribed."""
    waits_for: str
    """Whom it waits for before the first sample, in words; empty for what delivers at once."""

    def blocks(self, stop: Event) -> Iterator[Block]:
        """Until the end, a fault (`SourceError`), or ``stop``, which is asked for at least every half second while nothing comes:
        that is how time passes for the alarms of a stream whose source waits for somebody."""

    def counters(self) -> Counts:
        """Since it was opened; may be asked from another thread."""

    def close(self) -> None: ...
