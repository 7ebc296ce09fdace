"""All outputs as one: an event goes to the broker, the sinks, the recording and the statistics, where these are wanted."""

from __future__ import annotations

import logging
from typing import Protocol

from edge_agent.config import Config, outbox_file
from edge_agent.events import (
    Alarm,
    Beat,
    BrokerHealth,
    Event,
    LinesHealth,
    Message,
    RecorderHealth,
    Verdict,
)
from edge_agent.outputs import sinks
from edge_agent.outputs.home_assistant import Announced, Kinds
from edge_agent.outputs.in_order import InOrder
from edge_agent.outputs.jsonl import JsonLines
from edge_agent.outputs.latency import LatencyBook
from edge_agent.outputs.mqtt import MqttPublisher
from edge_agent.outputs.outbox import Bounds, Outbox, OutboxUnusable
from edge_agent.outputs.recorder import Recorder
from edge_agent.outputs.requests import Answer, Requests
from edge_agent.outputs.thinning import Thinner

log = logging.getLogger(__name__)


class Feed(Protocol):
    """Hears events and messages, and never makes anybody wait."""

    def event(self, event: Event) -> None: ...

    def message(self, message: Message) -> None: ...


class Page(Protocol):
    """As much of the review page as the hub knows."""

    @property
    def feed(self) -> Feed: ...

    def linked(self, event: Event) -> Event: ...


class Outputs:
    """May be called from any thread, and never makes anybody wait."""

    def __init__(self, settings: Config, answer: Answer) -> None:
        """Open everything; start nothing. ``answer`` carries out requests that came over MQTT."""
        self.latency = LatencyBook()
        self._in_order = InOrder()
        self.page: Page | None = None
        """Hears everything, and says where an alarm's picture will be."""
        # First of all: it is here that a second agent is refused, which must not have repaired what the first is recording.
        outbox, self._outbox_fault = _outbox(settings)
        try:
            self._sinks = sinks.opened(settings)
            self.recorder = Recorder(settings.recorder) if settings.recorder is not None else None
        except BaseException:
            if outbox is not None:
                outbox.close()
            raise
        device, base = settings.device.id, settings.mqtt.base
        self._requests: Requests | None = None
        if settings.requests.enabled:
            self._requests = Requests(f"{base}/{device}", answer, lambda *said: self.mqtt.once(*said))
        listen = dict(self._requests.listen) if self._requests is not None else {}
        at_home = settings.home_assistant
        self._home: Announced | None = None
        if at_home.enabled:
            streams = [stream.name for stream in settings.stream]
            self._home = Announced(at_home.prefix, base, device, streams, lambda *said: self.mqtt.retain(*said))
            listen[f"{at_home.prefix}/status"] = self._home_assistant_said
        self.mqtt = MqttPublisher(
            settings.mqtt,
            device,
            outbox,
            latency=self.latency,
            listen=listen,
            recall=(self._home.recall, self._home.once_was) if self._home is not None else None,
            beats_wait_s=settings.outbox.beats_wait_s,
        )
        thin = settings.outbox.beats_offline == "summary" and settings.mqtt.qos_beats == 1
        self._thinner = Thinner(lambda: self.mqtt.connected) if thin else None
        if self._home is not None:
            self._home.say()  # the first of what is retained: it comes before the states

    def start(self) -> None:
        for sink in self._sinks.values():
            sink.start()
        if self.recorder is not None:
            self.recorder.start()
        if self._requests is not None:
            self._requests.start()
        self.mqtt.start()

    def announce(self, streams: Kinds) -> None:
        """What channels the streams have, as far as that is known."""
        if self._home is not None:
            self._home.now(streams)

    def event(self, event: Event) -> None:
        if isinstance(event, Alarm):
            with self._in_order.turn(event):
                self._event(event)
        else:
            self._event(event)

    def _event(self, event: Event) -> None:
        page = self.page
        if page is not None:
            event = page.linked(event)
            page.feed.event(event)
        payload = event.payload()
        self.latency.event(event)
        if self._thinner is not None and isinstance(event, Beat | Verdict):
            for one in self._thinner.take(event):
                self.mqtt.event(one)
        else:
            self.mqtt.event(event, payload)
        for sink in self._sinks.values():
            sink.put(payload)
        if self.recorder is not None:
            self.recorder.event(event)

    def message(self, part: str, message: Message) -> None:
        """Retained: of the bridge or about a stream. ``part`` is the topic below the device."""
        if self.page is not None:
            self.page.feed.message(message)
        self.mqtt.message(part, message)
        if self._sinks:
            payload = message.payload()
            for sink in self._sinks.values():
                sink.put(payload)

    def broker_health(self) -> BrokerHealth:
        return self.mqtt.health().model_copy(update={"outbox_fault": self._outbox_fault})

    def lines_health(self) -> LinesHealth | None:
        lines = self._sinks.get("jsonl")
        if not isinstance(lines, JsonLines):
            return None
        return LinesHealth(written=lines.written, dropped=lines.dropped, disk=lines.fault or "ok")

    def recorder_health(self) -> RecorderHealth | None:
        if self.recorder is None:
            return None
        counters = self.recorder.counters
        return RecorderHealth(
            segments=counters.segments,
            dropped=counters.dropped,
            repaired=counters.repaired,
            removed=counters.removed,
            disk=self.recorder.fault or "ok",
        )

    def stop(self, timeout_s: float) -> bool:
        """False if the broker did not acknowledge the goodbye."""
        for one in self._thinner.flush() if self._thinner is not None else ():
            self.mqtt.event(one)
        said = self.mqtt.stop(timeout_s)
        if self._requests is not None:
            self._requests.stop()
        for sink in self._sinks.values():
            sink.stop()
        if self.recorder is not None:
            self.recorder.stop()
        return said

    def _home_assistant_said(self, _: str, payload: bytes) -> None:
        """It started again and has forgotten everything: the discovery first, then the states that it wants to see."""
        if payload == b"online":
            self.mqtt.retained_again()


def _outbox(settings: Config) -> tuple[Outbox | None, str | None]:
    """And why there is none: a disk that fails must not keep the patient from being watched. Refused only if another agent has it."""
    kept = settings.outbox
    if not kept.enabled:
        return None, None
    bounds = Bounds(max_bytes=int(kept.max_mb * 1e6), max_age_s=kept.max_age_h * 3600)
    try:
        return Outbox(outbox_file(kept, settings.device.id), bounds), None
    except OutboxUnusable as error:
        log.error("%s; until the next start messages are kept in memory alone", error.what)
        return None, error.what
