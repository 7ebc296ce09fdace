"""Beats while the broker is away, as a summary a minute, for whoever prefers that to a night's worth of single beats."""

from __future__ import annotations

import itertools
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from edge_agent import events

EVERY_S = 60.0
PATIENCE_S = 5.0
"""A shorter absence costs nothing: its beats wait as they are."""


@dataclass(slots=True)
class _Minute:
    began: float
    first: events.Beat | events.Verdict
    last: events.Beat | events.Verdict
    beats: Counter[str] = field(default_factory=Counter)
    labels: dict[str, Counter[str]] = field(default_factory=dict)


class Thinner:
    """Beats and verdicts in; the same or, while the broker is away, now and then a summary out. Alarms never come here."""

    def __init__(self, connected: Callable[[], bool]) -> None:
        self._connected = connected
        self._away_since: float | None = None
        self._minutes: dict[str, _Minute] = {}
        self._numbers: dict[str, Iterator[int]] = {}
        self._lock = threading.Lock()

    def take(self, event: events.Beat | events.Verdict) -> Iterator[events.Event]:
        with self._lock:
            now = time.monotonic()
            if self._connected():
                self._away_since = None
                yield from self._all()
                yield event
                return
            if self._away_since is None:
                self._away_since = now
            if now - self._away_since < PATIENCE_S:
                yield event
                return
            minute = self._minutes.get(event.stream)
            if minute is not None and now - minute.began >= EVERY_S:
                yield self._summary(self._minutes.pop(event.stream))
                minute = None
            if minute is None:
                minute = self._minutes[event.stream] = _Minute(now, event, event)
            minute.last = event
            if isinstance(event, events.Beat):
                minute.beats[event.channel] += 1
            else:
                minute.labels.setdefault(event.model, Counter())[event.label or "none"] += 1

    def flush(self) -> list[events.Event]:
        """What was not said yet: the agent stops."""
        with self._lock:
            return list(self._all())

    def _all(self) -> Iterator[events.Event]:
        while self._minutes:
            yield self._summary(self._minutes.pop(next(iter(self._minutes))))

    def _summary(self, minute: _Minute) -> events.Summary:
        last = minute.last
        head = {
            name: getattr(last, name) for name in ("session", "device", "stream", "sample", "time", "known", "arrived")
        }
        number = next(self._numbers.setdefault(last.stream, itertools.count()))
        return events.Summary(
            **head,
            seq=number,
            latency=last.latency,
            first=minute.first.sample,
            beats=dict(minute.beats),
            labels={model: dict(counts) for model, counts in minute.labels.items()},
        )
