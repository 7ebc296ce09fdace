"""What is published, in which order, and what becomes of it while the broker is away.

One thread takes what the streams hand over, writes the messages of QoS 1 into the outbox, gives them to the link in order, and
notes their acknowledgements. Nobody who publishes waits for the disk or the network. Retained state is no history: its newest
form is published at once, and again on every connect.
"""

from __future__ import annotations

import logging
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
from edge_agent.outputs.latency import LatencyBook
from edge_agent.outputs.link import Link, properties_for
from edge_agent.outputs.outbox import RANKS, Outbox, Parcel
from edge_agent.outputs.parcels import Parcels

log = logging.getLogger(__name__)

PACKET_OVERHEAD = 256
"""Of a publication beside topic and payload, generously: header and properties."""
HOLD_S = 10.0
"""Before a message is offered again that the broker had no room for."""
ROOM_LATER = frozenset({0x80, 0x83, 0x97})
"""MQTT 5: reasons that may be others in a while (unspecified, of the implementation's own, quota)."""
TRIES = 3
"""A message that was alone on its way when the connection was lost so many times is set aside."""
ANSWERS_WAITING = 100
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


class _Handed(NamedTuple):
    """On its way."""

    topic: str
    payload: bytes
    parcel: Parcel | None
    """None for what is retained, and for answers."""
    retain: bool
    since: float


@dataclass(slots=True)
class Counters:
    published: int = 0
    dropped: int = 0
    """QoS 0 while the broker was away: for now or never."""
    turned_away: int = 0
    """QoS 1 that came faster than it could be taken."""
    refused: int = 0
    """QoS 1 that the broker did not take, and will not."""


class MqttPublisher:
    """``event``, ``message`` and ``retain`` may be called from any thread and never wait."""

    def __init__(
        self,
        config: MqttConfig,
        device: str,
        outbox: Outbox | None = None,
        *,
        latency: LatencyBook | None = None,
        listen: Mapping[str, Callable[[str, bytes], None]] | None = None,
        recall: tuple[str, Callable[[str, bytes], None]] | None = None,
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
        self._ready = threading.Condition()
        self._incoming: deque[Outgoing] = deque()
        self._oldest = 0.0  # when the first of these came
        self._urgent = False  # there is more among them than beats that may wait
        self._changed: set[str] = set()  # retained topics that have something new to say
        self._acknowledged: deque[tuple[int, int, int]] = deque()  # connection, message, reason
        self._fresh = False  # a connection that has not been told the retained state yet
        self._stopping = False
        # Of the sending thread alone:
        self._parcels = Parcels(outbox)
        self._state: dict[str, bytes] = {}  # retained messages to be published, in their newest form
        self._answers: deque[Outgoing] = deque(maxlen=ANSWERS_WAITING)
        self._handed: dict[int, _Handed] = {}  # by the link's id
        self._connection = 0
        self._suspects: dict[object, int] = {}  # how often a connection was lost with this alone on its way
        self._unwanted: dict[str, bytes] = {}  # retained messages that the broker does not take
        self._hold_until = 0.0
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
            recall=recall,
        )
        self._thread = threading.Thread(target=self._run, name="outbox", daemon=True)

    @property
    def connected(self) -> bool:
        return self.link.connected

    @property
    def waiting(self) -> int:
        """QoS 1 messages that the broker has not acknowledged yet."""
        return self._parcels.waiting + sum(one.rank is not None for one in list(self._incoming))

    @property
    def disk_fault(self) -> str | None:
        """Why the disk does not take messages just now."""
        return self._parcels.fault

    @property
    def lost(self) -> int:
        """QoS 1 that neither the disk nor the memory could keep."""
        return self.counters.turned_away + self._parcels.lost

    def health(self) -> BrokerHealth:
        box, counters = self._outbox, self.counters
        return BrokerHealth(
            connected=self.connected,
            state=self.link.state,
            connects=self.link.connects,
            published=counters.published,
            dropped=counters.dropped,
            lost=self.lost,
            refused=counters.refused,
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
                    self.counters.turned_away += 1
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
        while self.connected and self._busy and time.monotonic() < deadline:
            time.sleep(0.01)
        said = self.link.stop(max(0.2, deadline + timeout_s / 2 - time.monotonic()))
        with self._ready:
            self._stopping = True
            self._ready.notify()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        return said

    @property
    def _busy(self) -> bool:
        """Something is still to be said, or to be acknowledged; retained state, too."""
        return bool(self.waiting or self._incoming or self._changed or self._state or self._handed)

    # -- from the network's thread: a note, nothing more ----------------------------------------------------------

    def _on_up(self) -> None:
        with self._ready:
            self._fresh = True
            self.link.up.set()  # in one step: nothing may be handed over before the sending thread has greeted
            self._ready.notify()

    def _on_acknowledged(self, connection: int, mid: int, reason: int) -> None:
        with self._ready:
            self._acknowledged.append((connection, mid, reason))
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
                numbered = self._numbered(incoming)
                self._parcels.save([one for one in numbered if isinstance(one, Parcel)], last=stopping)
                for one in numbered:
                    if isinstance(one, Parcel):
                        self._parcels.add(one)
                        self._hand()
                    else:
                        self._pass_on(one)
                self._hand()
                self._parcels.bound(self._config.queue_messages)
            except Exception:  # what was taken may be lost; what comes next must not be
                log.exception("publishing met an unexpected fault")
            if stopping:
                self._parcels.close()
                return

    def _settle(self, acknowledged: deque[tuple[int, int, int]]) -> None:
        for connection, mid, reason in acknowledged:
            if connection != self._connection or mid not in self._handed:
                continue  # of a connection that is gone, of QoS 0, or the birth's
            handed = self._handed.pop(mid)
            if self._latency is not None:
                self._latency.record("acknowledge", (time.monotonic() - handed.since) * 1000)
            if reason < 0x80:
                self._suspects.pop(_key(handed), None)
                if handed.parcel is not None:
                    self._parcels.done(handed.parcel)
            elif reason in ROOM_LATER and handed.parcel is not None:
                self._hold_until = time.monotonic() + HOLD_S
                self._parcels.back(handed.parcel)
            else:
                self._set_aside(handed, f"the broker refused it (0x{reason:02x})")

    def _set_aside(self, handed: _Handed, why: str) -> None:
        """One message that cannot be delivered must not keep the others."""
        log.error("a message on %s is given up: %s", handed.topic, why)
        self.counters.refused += 1
        self._suspects.pop(_key(handed), None)
        if handed.parcel is not None:
            self._parcels.done(handed.parcel)
        elif handed.retain:
            self._unwanted[handed.topic] = handed.payload  # until it has something else to say

    def _greet(self) -> None:
        """A new connection. What was on its way comes first, in order, and then the rest; the retained state is said again."""
        self._connection = self.link.connects
        handed, self._handed = list(self._handed.values()), {}
        if len(handed) == 1 and self.link.careful:
            key = _key(handed[0])
            self._suspects[key] = self._suspects.get(key, 0) + 1
            if self._suspects[key] >= TRIES:
                self._set_aside(handed.pop(), f"the connection was lost {TRIES} times with it alone on its way")
        self._parcels.back(*(one.parcel for one in handed if one.parcel is not None))
        self._hold_until = 0.0

    def _numbered(self, incoming: deque[Outgoing]) -> list[Parcel | Outgoing]:
        return [one if one.rank is None else self._parcels.number(one.rank, one.topic, one.payload) for one in incoming]

    def _pass_on(self, outgoing: Outgoing) -> None:
        """What is not kept: it is for now or never."""
        if outgoing.once:
            self._answers.append(outgoing)
            return
        properties = self._of("beats", outgoing.digest)
        if self.connected and not self._too_long(outgoing.topic, outgoing.payload):
            sent = self.link.publish(outgoing.topic, outgoing.payload, qos=0, retain=False, properties=properties)
            if sent is not None:
                self.counters.published += 1
                return
        self.counters.dropped += 1

    def _hand(self) -> None:
        """Give the link what it has room for, oldest first; in a careful connection one at a time, alarms and their like first."""
        now = time.monotonic()
        if now < self._hold_until:
            return
        careful = self.link.careful
        window = 1 if careful else self.link.window
        while self.connected and not self._fresh and len(self._handed) < window:
            if not careful and self._give_state():
                continue
            parcel = self._parcels.next(self.link.window)
            if parcel is None:
                if careful and self._give_state():
                    continue
                return
            if not self._publish(_Handed(parcel.topic, parcel.payload, parcel, False, now)):
                self._parcels.back(parcel)
                return

    def _give_state(self) -> bool:
        """A retained message or an answer, if there is one."""
        now = time.monotonic()
        while self._state:
            topic = next(iter(self._state))
            payload = self._state.pop(topic)
            if self._unwanted.get(topic) == payload:
                continue
            if not self._publish(_Handed(topic, payload, None, True, now)):
                self._state.setdefault(topic, payload)
                return False
            return True
        if self._answers:
            answer = self._answers.popleft()
            return self._publish(_Handed(answer.topic, answer.payload, None, False, now))
        return False

    def _too_long(self, topic: str, payload: bytes) -> bool:
        most = self.link.most_bytes
        return most is not None and len(topic) + len(payload) + PACKET_OVERHEAD > most

    def _publish(self, handed: _Handed) -> bool:
        """QoS 1. False if the connection does not take it: it is breaking."""
        if self._too_long(handed.topic, handed.payload):
            self._set_aside(handed, f"it is longer than the broker takes ({self.link.most_bytes} bytes)")
            return True
        parcel = handed.parcel
        properties = self._of("state" if parcel is None else RANKS[parcel.rank])
        mid = self.link.publish(handed.topic, handed.payload, qos=1, retain=handed.retain, properties=properties)
        if mid is None:
            return False
        self._handed[mid] = handed
        self.counters.published += 1
        return True

    def _of(self, kind: str, digest: str | None = None) -> Properties | None:
        """MQTT 5 properties, made once: they cost as much as the rest of publishing."""
        if not self.link.five:
            return None
        key = (kind, digest)
        if key not in self._properties:
            user = () if digest is None else (("model-digest", digest),)
            self._properties[key] = properties_for(EXPIRY_S.get(kind), user)
        return self._properties[key]


def _key(handed: _Handed) -> object:
    """By which a message is known again on another connection."""
    return handed.parcel.number if handed.parcel is not None else (handed.topic, handed.payload)
