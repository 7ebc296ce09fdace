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

PACKET_OVERHEAD = 256
"""Of a publication beside topic and payload, generously: header and properties."""
IN_MEMORY = 1000
"""Parcels kept at hand beside the disk; the rest are read from it when their turn comes."""
TIDY_S = 5.0
"""Acknowledged messages are deleted with the next write, or after this long."""
EXPIRE_S = 60.0
READ_PATIENCE_S = 10.0
"""A disk that cannot be read holds back what came after for so long; then its part is left for the next start."""
HOLD_S = 10.0
"""Before a message is offered again that the broker had no room for."""
ROOM_LATER = frozenset({0x80, 0x83, 0x97})
"""MQTT 5: reasons that may be others in a while (unspecified, of the implementation's own, quota)."""
TRIES = 3
"""A message that was alone on its way when the connection was lost so many times is set aside."""
ANSWERS_WAITING = 100
UNSAVED_BATCH = 200
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
    lost: int = 0
    """QoS 1 that neither the disk nor the memory could keep."""
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
        self._acknowledged: deque[tuple[int, int, int]] = deque()  # connection, message, reason
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
        self._again: deque[Parcel] = deque()  # was on its way when a connection was lost: older than all the rest
        self._answers: deque[Outgoing] = deque(maxlen=ANSWERS_WAITING)
        self._handed: dict[int, _Handed] = {}  # by the link's id
        self._connection = 0
        self._suspects: dict[object, int] = {}  # how often a connection was lost with this alone on its way
        self._unwanted: dict[str, bytes] = {}  # retained messages that the broker does not take
        self._hold_until = self._unread_since = 0.0
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
        handed = sum(one.parcel is not None for one in list(self._handed.values()))
        unsaved = len(self._unsaved) if self._outbox is not None else len(self._memory) + len(self._again) + handed
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
                    if self._unsaved:
                        self.counters.lost += len(self._unsaved)
                        log.error(
                            "%d messages are lost: the disk did not take them before the stop", len(self._unsaved)
                        )
                    self._outbox.close()
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
                    self._done(handed.parcel)
            elif reason in ROOM_LATER and handed.parcel is not None:
                self._hold_until = time.monotonic() + HOLD_S
                self._again.appendleft(handed.parcel)
            else:
                self._set_aside(handed, f"the broker refused it (0x{reason:02x})")

    def _done(self, parcel: Parcel) -> None:
        if self._unsaved.pop(parcel.number, None) is None and self._outbox is not None:
            self._deletable.append(parcel)

    def _set_aside(self, handed: _Handed, why: str) -> None:
        """One message that cannot be delivered must not keep the others."""
        log.error("a message on %s is given up: %s", handed.topic, why)
        self.counters.refused += 1
        self._suspects.pop(_key(handed), None)
        if handed.parcel is not None:
            self._done(handed.parcel)
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
        again = [one.parcel for one in handed if one.parcel is not None] + list(self._again)
        self._again = deque(sorted(again, key=lambda parcel: parcel.number))
        self._hold_until = 0.0

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
        if self.disk_fault and len(parcels) < UNSAVED_BATCH and now - self._tidied < TIDY_S and not last:
            return  # a full disk is asked now and then, not at every event
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
            parcel = self._next_parcel()
            if parcel is None:
                if careful and self._give_state():
                    continue
                return
            if not self._publish(_Handed(parcel.topic, parcel.payload, parcel, False, now)):
                self._again.appendleft(parcel)
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

    def _next_parcel(self) -> Parcel | None:
        """The oldest that is not on its way; None if there is none, or if the disk cannot be read just now."""
        if self._again:
            return self._again.popleft()
        while self._sent < self._on_disk_until:
            parcel = self._next_on_disk()
            if parcel is None:
                return None
            if parcel.number > self._sent:
                self._sent = parcel.number
                return parcel
        if not self._memory:
            return None
        parcel = self._memory.popleft()
        self._sent = parcel.number
        return parcel

    def _next_on_disk(self) -> Parcel | None:
        """The oldest that is on the disk only; None if the disk cannot be read just now."""
        assert self._outbox is not None
        if not self._backlog:
            try:
                self._backlog.extend(self._outbox.read(self._sent, self.link.window))
                self._unread_since = 0.0
            except sqlite3.Error as error:
                return self._unreadable(error)
        if not self._backlog or self._backlog[0].number > self._on_disk_until:
            # Evicted, or in memory: the disk's part is over.
            self._backlog.clear()
            self._sent = self._on_disk_until
            return Parcel(self._sent, 0, "", b"")
        return self._backlog.popleft()

    def _unreadable(self, error: sqlite3.Error) -> Parcel | None:
        assert self._outbox is not None
        now = time.monotonic()
        if not self._unread_since:
            self._unread_since = now
            log.error("%s: cannot be read (%s)", self._outbox.path, error)
        self.disk_fault = str(error)
        if now - self._unread_since < READ_PATIENCE_S:
            return None
        log.error("%s: what waits in it is left for the next start; new messages go on", self._outbox.path)
        self._sent, self._unread_since = self._on_disk_until, 0.0
        return Parcel(self._sent, 0, "", b"")

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


def _key(handed: _Handed) -> object:
    """By which a message is known again on another connection."""
    return handed.parcel.number if handed.parcel is not None else (handed.topic, handed.payload)
