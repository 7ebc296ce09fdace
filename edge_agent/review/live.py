"""What the live page shows, taken from the running streams ten times a second and made once for all viewers.

Nothing here is waited for by a pipeline: events are put on a bounded queue, samples are taken from the ring as any reader takes them, and
a viewer that is too slow loses whole frames, counted and told.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent import events
from edge_agent.journey import Samples
from edge_agent.pipeline import Pipeline
from edge_agent.review.strips import StripKeeper

log = logging.getLogger(__name__)

READER = "review"
FRAME_S = 0.1
STATE_S = 1.0
VITALS_OLD_S = 10.0
"""Older figures are not shown: they would look like the patient's."""
MOST_EVENTS = 2000
"""Waiting for the next frame."""
MOST_FRAMES = 30
"""Waiting for a viewer: three seconds."""
MOST_VIEWERS = 32
MOST_ALARMS = 50
SCALE = {"mV": 1000.0, "mmHg": 20.0}
"""Steps of the 16-bit numbers per unit."""
MISSING = -32768
VITALS = {name for name in events.Vitals.model_fields if name.endswith(("_per_min", "_mmhg"))}


@dataclass(slots=True)
class Viewer:
    """One browser's queue."""

    frames: deque[bytes] = field(default_factory=deque)
    lost: int = 0
    wake: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(slots=True)
class _Stream:
    """What is known of one stream beside its samples."""

    vitals: dict[str, Any] = field(default_factory=dict)
    vitals_at: float = 0.0
    quality: dict[str, dict[str, Any]] = field(default_factory=dict)
    rhythm: str | None = None
    alarms: dict[str, dict[str, Any]] = field(default_factory=dict)
    latency: dict[str, Any] = field(default_factory=dict)
    backends: dict[str, str] = field(default_factory=dict)
    said: bool = False
    last: float = 0.0
    """When samples last came, monotonic."""
    overwritten: int = 0


class LiveFeed:
    """One thread; viewers belong to the server's event loop."""

    def __init__(
        self,
        streams: Callable[[], Mapping[str, tuple[str, Pipeline | None]]],
        device: str,
        strips: StripKeeper | None = None,
        broker: Callable[[], bool] | None = None,
    ) -> None:
        """``streams``: by name their state and their pipeline, once there is one. ``broker``: whether it is there, where one is wanted."""
        self._broker = broker
        self._broker_away: float | None = None
        self._streams = streams
        self._device = device
        self._events: deque[events.Event] = deque(maxlen=MOST_EVENTS)
        self._known: dict[str, _Stream] = {}
        self._engine: dict[str, Any] | None = None
        self._viewers: list[Viewer] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._strips = strips
        self._thread = threading.Thread(target=self._run, name="review-live", daemon=True)

    # -- from any thread -----------------------------------------------------------------------------------------

    def event(self, event: events.Event) -> None:
        """Never waits; the oldest give way."""
        self._events.append(event)

    def message(self, message: events.Message) -> None:
        """Of the bridge: which engine the models run on."""
        if isinstance(message, events.EngineState):
            self._engine = {"state": message.state, "reason": message.reason}

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(2.0)

    # -- from the server's loop ----------------------------------------------------------------------------------

    def join(self) -> Viewer | None:
        """None where there are too many."""
        with self._lock:
            if len(self._viewers) >= MOST_VIEWERS:
                return None
            self._loop = asyncio.get_running_loop()
            viewer = Viewer()
            viewer.frames.append(_frame("hello", self._hello()))
            viewer.wake.set()
            self._viewers.append(viewer)
            return viewer

    def leave(self, viewer: Viewer) -> None:
        with self._lock:
            if viewer in self._viewers:
                self._viewers.remove(viewer)

    # -- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        next_state = 0.0
        while not self._stop.wait(FRAME_S):
            try:
                frame = self._collect()
                now = time.monotonic()
                if now >= next_state:
                    next_state = now + STATE_S
                    frame["state"] = self._state()
                if self._strips is not None:
                    self._strips.step()
                self._send(frame)
            except Exception:  # a fault of the page must not end it, and is nothing to the streams
                log.exception("the live page: unexpected fault")

    def _send(self, frame: dict[str, Any]) -> None:
        with self._lock:
            if not self._viewers:
                return
            data = _frame("frame", frame)
            for viewer in self._viewers:
                if len(viewer.frames) >= MOST_FRAMES:
                    viewer.lost += 1
                else:
                    viewer.frames.append(data)
            assert self._loop is not None
            try:
                self._loop.call_soon_threadsafe(_wake, list(self._viewers))
            except RuntimeError:  # the server has ended
                self._viewers.clear()

    def _collect(self) -> dict[str, Any]:
        waves: dict[str, Any] = {}
        for name, (_state, pipeline) in self._streams().items():
            if pipeline is None:
                continue
            known = self._known.setdefault(name, _Stream())
            reader = pipeline.ring.reader(READER)
            first, values = pipeline.ring.take(READER)
            if values.shape[1]:
                known.last = time.monotonic()
                known.overwritten = reader.lost
                waves[name] = {"first": first, "data": _packed(pipeline, values)}
                if self._strips is not None:
                    self._strips.samples(name, pipeline.info, first, values)
        said = []
        for _ in range(len(self._events)):
            plain = self._take(self._events.popleft())
            if plain is not None:
                said.append(plain)
        return {"at": time.time(), "waves": waves, "events": said}

    def _take(self, event: events.Event) -> dict[str, Any] | None:
        known = self._known.setdefault(event.stream, _Stream())
        head = {"stream": event.stream, "sample": event.sample}
        match event:
            case events.Beat():
                known.latency = event.latency.model_dump()
                return {**head, "kind": "beat", "channel": event.channel}
            case events.Verdict():
                known.backends[event.model] = event.backend
                score = event.scores.get(event.label) if event.label is not None else None
                return {
                    **head,
                    "kind": "verdict",
                    "channel": event.channel,
                    "task": event.task,
                    "label": event.label,
                    "score": score,
                }
            case events.Vitals():
                known.vitals, known.vitals_at = event.model_dump(include=VITALS), time.monotonic()
                return None
            case events.Quality():
                known.quality[event.channel] = {"good": event.good, "reasons": event.reasons}
                return None
            case events.Rhythm():
                known.rhythm = event.rhythm
                return None
            case events.Alarm():
                plain = _alarm(event)
                if event.state in ("raised", "updated"):
                    known.alarms[event.id] = plain
                    while len(known.alarms) > MOST_ALARMS:
                        known.alarms.pop(next(iter(known.alarms)))
                else:
                    known.alarms.pop(event.id, None)
                if self._strips is not None and event.state == "raised":
                    self._strips.alarm(event)
                return {**head, "kind": "alarm", **plain}
            case events.Gap() | events.Mark():
                text = event.text if isinstance(event, events.Mark) else f"{event.lost} samples lost: {event.cause}"
                return {**head, "kind": "note", "text": text}
        return None

    def _state(self) -> dict[str, Any]:
        now = time.monotonic()
        made: dict[str, Any] = {}
        for name, (state, _pipeline) in self._streams().items():
            known = self._known.setdefault(name, _Stream())
            made[name] = {
                "state": state,
                "age_s": round(now - known.last, 1) if known.last else None,
                "vitals": known.vitals if now - known.vitals_at < VITALS_OLD_S else {},
                "quality": known.quality,
                "rhythm": known.rhythm,
                "alarms": list(known.alarms.values()),
                "latency": known.latency,
                "backends": known.backends,
                "overwritten": known.overwritten,
            }
        if self._broker is not None:
            self._broker_away = None if self._broker() else self._broker_away or now
        away_s = None if self._broker_away is None else round(now - self._broker_away)
        return {"streams": made, "engine": self._engine, "broker_away_s": away_s}

    def _hello(self) -> dict[str, Any]:
        streams = []
        for name, (_state, pipeline) in self._streams().items():
            info = pipeline.info if pipeline is not None else None
            signals = [] if info is None else [
                {"name": one.name, "kind": one.kind, "unit": one.unit, "scale": SCALE.get(one.unit, 1000.0)} for one in info.signals
            ]  # fmt: skip
            streams.append({"name": name, "fs": info.fs if info is not None else None, "signals": signals})
        return {"device": self._device, "streams": streams, "state": self._state()}


def _wake(viewers: Sequence[Viewer]) -> None:
    for viewer in viewers:
        viewer.wake.set()


def _frame(kind: str, data: dict[str, Any]) -> bytes:
    """A server-sent event. JSON has no line breaks of its own, so the text of an event cannot begin another one."""
    return f"event: {kind}\ndata: {json.dumps(data, separators=(',', ':'), allow_nan=False)}\n\n".encode()


def _packed(pipeline: Pipeline, values: Samples) -> dict[str, str]:
    made = {}
    for signal, row in zip(pipeline.info.signals, values, strict=True):
        scaled = np.rint(row * SCALE.get(signal.unit, 1000.0))
        whole = np.where(np.isfinite(scaled), np.clip(scaled, -32767, 32767), MISSING).astype("<i2")
        made[signal.name] = base64.b64encode(whole.tobytes()).decode()
    return made


def _alarm(event: events.Alarm) -> dict[str, Any]:
    plain = event.model_dump(
        mode="json", include={"id", "state", "priority", "reason", "channel", "since", "evidence", "silenced", "time"}
    )
    return {**plain, "alarm": event.kind, "strip": event.strip or f"/strips/{StripKeeper.name(event)}"}
