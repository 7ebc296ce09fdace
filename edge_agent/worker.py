"""The models' own thread: windows of all streams wait here, so that no detection or alarm ever waits for a model."""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.events import Event
from edge_agent.items import Tick
from edge_agent.journey import Gap, Window
from edge_agent.stamp import Moment
from edge_agent.verdicts import VerdictLane

log = logging.getLogger(__name__)

STUCK_S = 5.0


@dataclass(slots=True)
class Counters:
    taken: int = 0
    dropped: int = 0
    """Windows and ticks turned away because the queue was full."""
    faults: int = 0
    """Items that met a fault of ours."""


class InferenceWorker:
    """One thread, one bounded queue, all streams; items of one stream stay in order."""

    def __init__(self, publish: Callable[[Event], None], bound: int) -> None:
        self._publish = publish
        self._bound = bound
        self._queue: deque[tuple[VerdictLane, Window | Tick | Gap, Moment]] = deque()
        self._ready = threading.Condition()
        self._stopping = False
        self.counters = Counters()
        self._since: float | None = None  # when the item in hand was taken
        self._said: float | None = None
        self._thread = threading.Thread(target=self._run, name="inference", daemon=True)

    @property
    def waiting(self) -> int:
        return len(self._queue)

    @property
    def stuck_s(self) -> float:
        """For how long one item has not come to an end, if that is worth a word: no runtime lets itself be interrupted."""
        since = self._since
        taken_s = time.monotonic() - since if since is not None else 0.0
        if taken_s < STUCK_S:
            return 0.0
        if since != self._said:
            self._said = since
            log.error("a model has not answered for %.0f s: no window of any stream is judged meanwhile", taken_s)
        return taken_s

    def start(self) -> None:
        self._thread.start()

    def put(self, lane: VerdictLane, item: Window | Tick | Gap, moment: Moment) -> None:
        """Never blocks. A gap always gets in: without it a run of beats would bridge missing samples."""
        with self._ready:
            if len(self._queue) >= self._bound and not isinstance(item, Gap):
                self.counters.dropped += 1
                lane.missed = True
                return
            self._queue.append((lane, item, moment))
            self._ready.notify()

    def stop(self, timeout_s: float = 2.0) -> None:
        """Finish what waits, then end."""
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def _run(self) -> None:
        while True:
            with self._ready:
                self._since = None
                while not self._queue and not self._stopping:
                    self._ready.wait()
                if not self._queue:
                    return
                lane, item, moment = self._queue.popleft()
                self._since = time.monotonic()
            self.counters.taken += 1
            try:
                for event in lane.take(item, moment):
                    self._publish(event)
            except Exception:  # one item is lost, counted and seen; the other streams' windows are not
                self.counters.faults += 1
                log.exception("judging %s met an unexpected fault", type(item).__name__.lower())
