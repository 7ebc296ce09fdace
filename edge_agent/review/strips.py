"""Each alarm's strip: 10 s before and after, as SVG in a bounded folder, under a name made from the alarm's id."""

from __future__ import annotations

import hashlib
import logging
import re
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent import events
from edge_agent.annotation_files.mit import whole
from edge_agent.journey import Samples
from edge_agent.review.picture import Note, strip
from edge_agent.sources.base import StreamInfo

log = logging.getLogger(__name__)

BEFORE_S = AFTER_S = 10.0
KEPT_S = 45.0
"""Of each stream's signal: alarms may be known only 20 s after they began."""
MOST_FILES = 500
MOST_WAITING = 100
PATIENCE_S = 30.0
"""A source that went away sends no ten seconds more: the strip is drawn of what there is."""
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}-[0-9a-f]{8}\.svg")
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]")


def _plain(value: object) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list | tuple) else str(value)


@dataclass(slots=True)
class _Waiting:
    event: events.Alarm
    since: float


class StripKeeper:
    """For one thread, but for `path`."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._folder = folder
        self._clock = clock
        self._signals: dict[str, deque[tuple[int, Samples]]] = {}
        self._info: dict[str, StreamInfo] = {}
        self._waiting: list[_Waiting] = []
        self.fault: str | None = None
        self.drawn = 0

    @staticmethod
    def name(event: events.Alarm) -> str:
        """The file's: the alarm's session and id as far as a file's name takes them, and a digest that keeps all of them apart."""
        said = f"{event.session}/{event.stream}/{event.id}"
        plain = _UNSAFE.sub("-", event.id)[-80:]
        return f"{plain}-{hashlib.sha256(said.encode()).hexdigest()[:8]}.svg"

    def samples(self, stream: str, info: StreamInfo, first: int, values: Samples) -> None:
        kept = self._signals.setdefault(stream, deque())
        self._info[stream] = info
        kept.append((first, values))
        end = first + values.shape[1]
        while kept and kept[0][0] + kept[0][1].shape[1] < end - KEPT_S * info.fs:
            kept.popleft()

    def alarm(self, event: events.Alarm) -> None:
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append(_Waiting(event, self._clock()))

    def step(self) -> None:
        """Draw what has its ten seconds after."""
        for one in list(self._waiting):
            info, kept = self._info.get(one.event.stream), self._signals.get(one.event.stream)
            late = self._clock() > one.since + PATIENCE_S
            if info is None or not kept:
                if late:
                    self._waiting.remove(one)
                continue
            if late or kept[-1][0] + kept[-1][1].shape[1] >= one.event.sample + AFTER_S * info.fs:
                self._waiting.remove(one)
                self._draw(one.event, info, list(kept))

    def _draw(self, event: events.Alarm, info: StreamInfo, kept: list[tuple[int, Samples]]) -> None:
        first = max(0, round(event.sample - BEFORE_S * info.fs))
        end = round(event.sample + AFTER_S * info.fs)
        values = np.full((len(info.signals), end - first), np.nan, np.float32)
        for at, piece in kept:
            low, high = max(first, at), min(end, at + piece.shape[1])
            if low < high:
                values[:, low - first : high - first] = piece[:, low - at : high - at]
        when = event.time.strftime("%Y-%m-%d %H:%M:%S UTC") if event.time is not None else f"sample {event.sample}"
        evidence = ", ".join(f"{key.replace('_', ' ')} {_plain(value)}" for key, value in event.evidence.items())
        text = strip(
            title=f"{event.kind} ({event.priority}), {event.stream}, {when}",
            below=evidence[:200],
            fs=info.fs,
            first=first,
            signals=info.signals,
            values=values,
            notes=[Note(event.sample, event.kind, "#a00000", mark=True)],
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            whole(self._folder / self.name(event), text.encode())
            self._bound()
            self.drawn += 1
            self.fault = None
        except OSError as error:
            if self.fault is None:
                log.error("%s: the strips of alarms cannot be kept (%s)", self._folder, error.strerror or error)
            self.fault = str(error)

    def _bound(self) -> None:
        files = list(self._folder.glob("*.svg"))
        if len(files) > MOST_FILES:
            ages = []
            for file in files:
                with suppress(OSError):
                    ages.append((file.stat().st_mtime_ns, file))
            for _, file in sorted(ages)[: len(files) - MOST_FILES]:
                file.unlink(missing_ok=True)

    def is_awaited(self, name: str) -> bool:
        """Whether a strip of this name is to be drawn once its ten seconds have passed. From any thread."""
        return any(self.name(one.event) == name for one in list(self._waiting))

    def path(self, name: str) -> Path | None:
        """Of a strip that is there; nothing else can be named."""
        if not NAME.fullmatch(name):
            return None
        path = self._folder / name
        return path if path.is_file() and not path.is_symlink() else None
