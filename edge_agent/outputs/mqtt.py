"""What is published, in which order, and what becomes of it while the broker is away.

One thread takes what the streams hand over, writes the messages of QoS 1 into the outbox, gives them to the link in order, and
notes their acknowledgements. Nobody who publishes waits for the disk or the network. Retained state is no history: its newest
form is published at once, and again on every connect.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from paho.mqtt.properties import Properties

from edge_agent.config import MqttConfig
from edge_agent.events import (
    TOPICS,
    Alarm,
    Beat,
    BridgeState,
    BrokerHealth,
    Event,
    Gap,
    Mark,
    Message,
    OutboxHealth,
    Quality,
    Rhythm,
    Summary,
    Verdict,
    Vitals,
)
from edge_agent.latency import LatencyBook
from edge_agent.outputs.link import Link, properties_for
from edge_agent.outputs.outbox import RANKS, Outbox, Parcel

log = logging.getLogger(__name__)

IN_MEMORY = 1000
"""Parcels kept at hand beside the disk; the rest are read from it when their turn comes."""
TIDY_S = 5.0
"""Acknowledged messages are deleted with the next write, or after this long."""
EXPIRE_S = 60.0
RESEND_PATIENCE_S = 10.0
EXPIRY_S = {"beats": 60, "events": 3600, "alarms": 86_400}
"""MQTT 5: how long a broker keeps a message for a subscriber who is away."""


class Outgoing(NamedTuple):
    """What a stream handed over. ``rank``: its place in the outbox's order of importance, None for what is not kept."""

    topic: str
    payload: bytes
    rank: int | None
    once: bool = False
    """QoS 1 all the same."""
    digest: str | None = None


@dataclass(slots=True)
class Counters:
    published: int = 0
    dropped: int = 0
    """QoS 0 while the broker was away: for now or never."""
    lost: int = 0
    """QoS 1 that neither the disk nor the memory could keep."""


class MqttPublisher:
    """``event``, ``message`` and ``retain`` may be called from any thread and never wait."""

    def __init__(
        self,
        config: MqttConfig,
        device: str,
        outbox: Outbox | None = None,
        *,
        latency: LatencyBook | None = None,
        listen: Mapping[str, Callable[[bytes], None]] | None = None,
        beats_wait_s: float = 0.0,
    ) -> None:
        """``beats_wait_s``: beats of QoS 1 may wait so long to be written together, for the sake of an SD card."""
        self._config = config
        self._latency = latency
        self._beats_wait_s = beats_wait_s
        self._root = f"{config.base}/{device}"
        self._retained: dict[str, bytes] = {}
        self._outbox = outbox
        self.counters = Counters()
        self.disk_fault: str | None = None
        """Why the disk does not take messages just now."""
        self._ready = threading.Condition()
        self._incoming: deque[Outgoing] = deque()
        self._oldest = 0.0  # when the first of these came
        self._urgent = False  # there is more among them than beats that may wait
        self._changed: set[str] = set()  # retained topics that have something new to say
        self._acknowledged: deque[int] = deque()
        self._fresh = False  # a connection that has not been told the retained state yet
        self._stopping = False
        # Of the sending thread alone:
        self._next = 1 if outbox is None else outbox.next_number
        self._sent = 0
        self._on_disk_until = self._next - 1
        """Parcels up to this number, if not sent yet, are on the disk only; younger ones are in ``_memory``."""
        self._backlog: deque[Parcel] = deque()
        self._memory: deque[Parcel] = deque()
        self._unsaved: dict[int, Parcel] = {}
        self._deletable: list[Parcel] = []
        self._state: dict[str, bytes] = {}  # retained messages to be published, in their newest form
        self._handed: dict[int, Parcel | None] = {}  # by the link's id; None for what is retained
        self._handed_at: dict[int, float] = {}
        self._resending: set[int] = set()
        self._resend_since = 0.0
        self._tidied = self._expired = time.monotonic()
        self._properties: dict[tuple[str, str | None], Properties] = {}
        self.link = Link(
            config,
            f"{config.base}-{device}",
            state_topic=f"{self._root}/bridge/state",
            online=BridgeState(state="online").payload(),
            offline=BridgeState(state="offline").payload(),
            on_up=self._on_up,
            on_acknowledged=self._on_acknowledged,
            listen=listen or {},
        )
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    @property
    def connected(self) -> bool:
        return self.link.connected

    @property
    def waiting(self) -> int:
        """QoS 1 messages that the broker has not acknowledged yet."""
        kept = 0 if self._outbox is None else self._outbox.waiting - len(self._deletable)
        handed = sum(parcel is not None for parcel in list(self._handed.values()))
        unsaved = len(self._unsaved) if self._outbox is not None else len(self._memory) + handed
        return kept + unsaved + sum(one.rank is not None for one in list(self._incoming))

    def health(self) -> BrokerHealth:
        box, counters = self._outbox, self.counters
        return BrokerHealth(
            connected=self.connected,
            state=self.link.state,
            connects=self.link.connects,
            published=counters.published,
            dropped=counters.dropped,
            lost=counters.lost,
            waiting=self.waiting,
            outbox=None
            if box is None
            else OutboxHealth(
                messages=box.waiting, bytes=box.used_bytes, evicted=dict(box.evicted), disk=self.disk_fault or "ok"
            ),
        )

    def start(self) -> None:
        self._thread.start()
        self.link.start()

    # -- from any thread -----------------------------------------------------------------------------------------

    def event(self, event: Event, payload: bytes | None = None) -> None:
        """A stream's event on its topic, with the QoS and retention of its kind. ``payload``: its own, where it is made already."""
        topic = f"{self._root}/{event.stream}/{TOPICS[type(event)]}"
        payload = payload or event.payload()
        match event:
            case Vitals():
                self.retain(topic, payload)
            case Alarm():
                self._put(Outgoing(topic, payload, RANKS.index("alarms")))
            case Rhythm() | Quality() | Gap() | Mark() | Summary():
                self._put(Outgoing(topic, payload, RANKS.index("events")))
            case Beat() | Verdict():
                digest = event.digest if isinstance(event, Verdict) else None
                rank = RANKS.index("beats") if self._config.qos_beats else None
                self._put(Outgoing(topic, payload, rank, digest=digest))
            case _:
                self._put(Outgoing(topic, payload, None))

    def message(self, part: str, message: Message) -> None:
        """A retained message of the bridge or about a stream: ``part`` is the topic below the device."""
        self.retain(f"{self._root}/{part}", message.payload())

    def retain(self, topic: str, payload: bytes) -> None:
        with self._ready:
            self._retained[topic] = payload
            if self.connected:  # otherwise the next connect publishes it, once, in its newest form
                self._changed.add(topic)
                self._ready.notify()

    def retained_again(self) -> None:
        """All that is retained, once more."""
        with self._ready:
            self._changed.update(self._retained)
            self._ready.notify()

    def once(self, topic: str, payload: bytes) -> None:
        """QoS 1 for whoever listens just now: an answer."""
        self._put(Outgoing(topic, payload, None, once=True))

    def _put(self, outgoing: Outgoing) -> None:
        if outgoing.rank is None and not self.connected:
            self.counters.dropped += 1
            return
        with self._ready:
            room = self._config.queue_messages
            if outgoing.rank == RANKS.index("alarms"):
                room *= 2  # whoever fills the queue, alarms get in
            if len(self._incoming) >= room:
                if outgoing.rank is None:
                    self.counters.dropped += 1
                else:
                    self.counters.lost += 1
                return
            if not self._incoming:
                self._oldest = time.monotonic()
            self._incoming.append(outgoing)
            if outgoing.rank != RANKS.index("beats") or not self._beats_wait_s:
                self._urgent = True
                self._ready.notify()
            elif len(self._incoming) == 1:
                self._ready.notify()  # so that the wait is timed from here

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Hand over what can be, say offline, keep the rest on the disk. False if the broker did not answer in time."""
        deadline = time.monotonic() + timeout_s / 2
        while self.connected and self.waiting and time.monotonic() < deadline:
            time.sleep(0.01)
        said = self.link.stop(max(0.2, deadline + timeout_s / 2 - time.monotonic()))
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return said

    # -- from the network's thread: a note, nothing more ----------------------------------------------------------

    def _on_up(self) -> None:
        with self._ready:
            self._fresh = True
            self._ready.notify()

    def _on_acknowledged(self, mid: int) -> None:
        with self._ready:
            self._acknowledged.append(mid)
            self._ready.notify()

    # -- the sending thread --------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            with self._ready:
                if not (self._urgent or self._acknowledged or self._changed or self._fresh or self._stopping):
                    left = self._oldest + self._beats_wait_s - time.monotonic() if self._incoming else 1.0
                    self._ready.wait(min(1.0, max(0.0, left)))
                incoming: deque[Outgoing] = deque()
                if self._urgent or self._stopping or time.monotonic() - self._oldest >= self._beats_wait_s:
                    incoming, self._incoming = self._incoming, incoming
                    self._urgent = False
                acknowledged, self._acknowledged = self._acknowledged, deque()
                fresh, self._fresh = self._fresh, False
                stopping = self._stopping
                topics = self._retained if fresh else self._changed
                state = {topic: self._retained[topic] for topic in topics}
                self._changed.clear()
            try:
                self._settle(acknowledged)
                self._state |= state
                if fresh:
                    self._greet()
                parcels = self._parcels(incoming)
                self._save([parcel for parcel in parcels if isinstance(parcel, Parcel)], last=stopping)
                for parcel in parcels:
                    if isinstance(parcel, Parcel):
                        self._memory.append(parcel)
                        self._hand()
                    else:
                        self._pass_on(parcel)
                self._hand()
                self._bound_memory()
            except Exception:  # what was taken may be lost; what comes next must not be
                log.exception("publishing met an unexpected fault")
            if stopping:
                if self._outbox is not None:
                    self._outbox.close()
                return

    def _settle(self, acknowledged: deque[int]) -> None:
        for mid in acknowledged:
            self._resending.discard(mid)
            began = self._handed_at.pop(mid, None)
            if began is not None and self._latency is not None:
                self._latency.record("acknowledge", (time.monotonic() - began) * 1000)
            parcel = self._handed.pop(mid, None)
            if parcel is None:
                continue  # QoS 0, the birth, or something retained
            if self._unsaved.pop(parcel.number, None) is None and self._outbox is not None:
                self._deletable.append(parcel)

    def _greet(self) -> None:
        """A new connection. paho sends again what was on its way; nothing younger may overtake that."""
        self._resending = set(self._handed)
        self._resend_since = time.monotonic()

    def _parcels(self, incoming: deque[Outgoing]) -> list[Parcel | Outgoing]:
        made: list[Parcel | Outgoing] = []
        for one in incoming:
            if one.rank is None:
                made.append(one)
            else:
                made.append(Parcel(self._next, one.rank, one.topic, one.payload))
                self._next += 1
        return made

    def _save(self, parcels: list[Parcel], *, last: bool) -> None:
        """New parcels onto the disk, acknowledged ones off it."""
        if self._outbox is None:
            return
        now = time.monotonic()
        tidy = self._deletable and (now - self._tidied >= TIDY_S or last)
        for parcel in parcels:
            self._unsaved[parcel.number] = parcel
        if not self._unsaved and not tidy:
            return
        if self.disk_fault and not parcels and now - self._tidied < TIDY_S:
            return  # a full disk is asked now and then, not in a loop
        try:
            if now - self._expired >= EXPIRE_S:
                self._expired = now
                self._outbox.expire()
            self._outbox.write(list(self._unsaved.values()), self._deletable)
        except sqlite3.Error as error:
            if self.disk_fault is None:
                log.error("%s: cannot be written (%s); messages are kept in memory meanwhile", self._outbox.path, error)
            self.disk_fault = str(error)
        else:
            if self.disk_fault is not None:
                log.info("%s: can be written again", self._outbox.path)
            self.disk_fault = None
            self._unsaved.clear()
            self._deletable.clear()
        self._tidied = now

    def _pass_on(self, outgoing: Outgoing) -> None:
        """What is not kept: it is for now or never."""
        if self.connected:
            properties = self._of("beats", outgoing.digest)
            qos = 1 if outgoing.once else 0
            self.link.publish(outgoing.topic, outgoing.payload, qos=qos, retain=False, properties=properties)
            self.counters.published += 1
        else:
            self.counters.dropped += 1

    def _hand(self) -> None:
        """Give the link what it has room for, oldest first."""
        if self._resending:
            if time.monotonic() - self._resend_since < RESEND_PATIENCE_S:
                return
            self._resending = set()
        while self.connected and len(self._handed) < self.link.window:
            if self._state:
                topic = next(iter(self._state))
                self._publish(topic, self._state.pop(topic), None)
                continue
            if self._sent < self._on_disk_until:
                parcel = self._next_on_disk()
                if parcel is None:
                    return
            elif self._memory:
                parcel = self._memory.popleft()
            else:
                return
            if parcel.number > self._sent:
                self._publish(parcel.topic, parcel.payload, parcel)
                self._sent = parcel.number

    def _next_on_disk(self) -> Parcel | None:
        """The oldest that is on the disk only; None if the disk cannot be read just now."""
        assert self._outbox is not None
        if not self._backlog:
            try:
                self._backlog.extend(self._outbox.read(self._sent, self.link.window))
            except sqlite3.Error as error:
                log.error("%s: cannot be read (%s)", self._outbox.path, error)
                self.disk_fault = str(error)
                return None
        if not self._backlog or self._backlog[0].number > self._on_disk_until:
            # Evicted, or in memory: the disk's part is over.
            self._backlog.clear()
            self._sent = self._on_disk_until
            return Parcel(self._sent, 0, "", b"")
        return self._backlog.popleft()

    def _publish(self, topic: str, payload: bytes, parcel: Parcel | None) -> None:
        """QoS 1, retained where it is no parcel."""
        properties = self._of("state" if parcel is None else RANKS[parcel.rank])
        mid = self.link.publish(topic, payload, qos=1, retain=parcel is None, properties=properties)
        self._handed[mid] = parcel
        self._handed_at[mid] = time.monotonic()
        self.counters.published += 1

    def _bound_memory(self) -> None:
        """What is on the disk need not be in memory, too; what is only in memory is bounded, least important first."""
        if self._outbox is not None and not self._unsaved and len(self._memory) > IN_MEMORY:
            self._on_disk_until = self._memory[-1].number
            self._memory.clear()
        room = self._config.queue_messages
        for rank in range(len(RANKS)):
            if len(self._memory) <= room:
                return
            excess = len(self._memory) - room
            kept: deque[Parcel] = deque()
            for parcel in self._memory:
                if excess and parcel.rank == rank:
                    excess -= 1
                    self.counters.lost += 1
                    self._unsaved.pop(parcel.number, None)
                else:
                    kept.append(parcel)
            self._memory = kept

    def _of(self, kind: str, digest: str | None = None) -> Properties | None:
        """MQTT 5 properties, made once: they cost as much as the rest of publishing."""
        if not self.link.five:
            return None
        key = (kind, digest)
        if key not in self._properties:
            user = () if digest is None else (("model-digest", digest),)
            self._properties[key] = properties_for(EXPIRY_S.get(kind), user)
        return self._properties[key]
