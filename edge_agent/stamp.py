"""What every message about a signal begins with: whose it is, its number, its time and how old it is."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass

from edge_agent.clock import StreamClock, utc_of_monotonic
from edge_agent.events import TOPICS, Event, Latency


@dataclass(frozen=True, slots=True)
class Moment:
    """When the newest sample that mattered arrived, and when its processing began; zeros in a replay."""

    arrived_ns: int = 0
    started_ns: int = 0


REPLAYED = Moment()


class Stamp:
    """Makes the common fields of one stream's events. Safe to use from the stream's and the models' thread."""

    def __init__(
        self, *, device: str, stream: str, session: str, fs: float, clock: StreamClock, delay_s: float = 0.0
    ) -> None:
        """``delay_s``: of the board's own filters; it is part of the method's delay."""
        self._device = device
        self._stream = stream
        self._session = session
        self._fs = fs
        self._delay_ms = delay_s * 1000
        # Of each kind apart: whoever listens to the alarms alone can tell that one is missing.
        self._numbers = {kind: itertools.count() for kind in TOPICS}
        self.clock = clock

    def __call__(self, kind: type[Event], sample: int, known: int, moment: Moment) -> dict[str, object]:
        live = moment.arrived_ns > 0
        now = time.monotonic_ns() if live else 0
        return {
            "seq": next(self._numbers[kind]),
            "session": self._session,
            "device": self._device,
            "stream": self._stream,
            "sample": sample,
            "time": self.clock.utc(sample),
            "known": known,
            "arrived": utc_of_monotonic(moment.arrived_ns) if live else None,
            "latency": Latency(
                algorithm_ms=(known - sample) / self._fs * 1000 + self._delay_ms,
                queue_ms=(moment.started_ns - moment.arrived_ns) / 1e6 if live else None,
                compute_ms=(now - moment.started_ns) / 1e6 if live else None,
            ),
        }
