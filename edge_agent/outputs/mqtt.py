"""Publishing over MQTT 3.1.1 with paho: birth and will on one topic, retained state published again on every connect.

While the broker is away, messages of QoS 1 wait in memory up to a bound, and those of QoS 0 are dropped; both are counted.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from dataclasses import dataclass
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import MqttConfig
from edge_agent.errors import OutputError
from edge_agent.events import TOPICS, Alarm, Beat, BridgeState, Event, Gap, Message, Quality, Rhythm, Verdict, Vitals

log = logging.getLogger(__name__)

INFLIGHT = 200
RECONNECT_S = (1, 30)


@dataclass(slots=True)
class Counters:
    published: int = 0
    dropped: int = 0
    """Refused because the queue was full, or QoS 0 while the broker was away."""
    connects: int = 0


class MqttPublisher:
    """One connection for the whole daemon. ``publish`` may be called from any thread and never blocks on the network."""

    def __init__(self, config: MqttConfig, device: str) -> None:
        self._config = config
        self._root = f"{config.base}/{device}"
        self._retained: dict[str, bytes] = {}
        self._lock = threading.Lock()
        self._connected = threading.Event()
        self._absence_said = False
        self.counters = Counters()
        # A stable client id: a second agent of the same name takes the first one's place instead of doubling every message.
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"{config.base}-{device}", protocol=paho.MQTTv311, clean_session=True
        )
        self._client.max_inflight_messages_set(INFLIGHT)
        self._client.max_queued_messages_set(0)  # the bound is ours: paho's would keep the birth out of a full queue
        self._client.reconnect_delay_set(*RECONNECT_S)
        self._client.on_connect = self._on_connect
        self._client.on_connect_fail = self._on_connect_fail
        self._client.on_disconnect = self._on_disconnect
        self._client.on_socket_open = _no_delay
        self._client.will_set(self._state_topic, BridgeState(state="offline").payload(), qos=1, retain=True)
        if config.username is not None:
            try:
                self._client.username_pw_set(config.username, config.password())
            except (OSError, UnicodeDecodeError) as error:
                raise OutputError(f"{config.password_file}: the password cannot be read ({error})") from None

    @property
    def _state_topic(self) -> str:
        return f"{self._root}/bridge/state"

    @property
    def _where(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    @property
    def connected(self) -> bool:
        return self._connected.is_set()

    @property
    def waiting(self) -> int:
        """QoS 1 messages that the broker has not acknowledged yet."""
        return len(self._client._out_messages)

    def start(self) -> None:
        """Connect in the background, again and again until it works."""
        self._client.connect_async(self._config.host, self._config.port, self._config.keepalive_s)
        self._client.loop_start()

    def event(self, event: Event) -> None:
        """A stream's event on its topic, with the QoS and retention of its kind."""
        topic = f"{self._root}/{event.stream}/{TOPICS[type(event)]}"
        payload = event.payload()
        match event:
            case Vitals():
                self.retain(topic, payload)
            case Alarm() | Rhythm() | Quality() | Gap():
                self._send(topic, payload, qos=1)
            case Beat() | Verdict():
                self._send(topic, payload, qos=self._config.qos_beats)
            case _:
                self._send(topic, payload, qos=0)

    def message(self, part: str, message: Message) -> None:
        """A retained message of the bridge or about a stream: ``part`` is the topic below the device."""
        self.retain(f"{self._root}/{part}", message.payload())

    def retain(self, topic: str, payload: bytes) -> None:
        with self._lock:  # held while sending, so that a connect going on cannot send an older form after this one
            self._retained[topic] = payload
            if self.connected:  # otherwise the next connect publishes it, once, in its newest form
                self._send(topic, payload, qos=1, retain=True)

    def _send(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        if not self.connected if qos == 0 else self.waiting >= self._config.queue_messages and not retain:
            self.counters.dropped += 1
            return
        self._client.publish(topic, payload, qos=qos, retain=retain)
        self.counters.published += 1

    def stop(self, timeout_s: float = 2.0) -> bool:
        """Say offline, wait for the acknowledgement, disconnect. False if the broker did not answer in time."""
        said = True
        if self.connected:
            info = self._client.publish(self._state_topic, BridgeState(state="offline").payload(), qos=1, retain=True)
            try:
                info.wait_for_publish(timeout_s)
                said = info.is_published()
            except (RuntimeError, ValueError):
                said = False
        self._client.disconnect()
        # Its thread may be looking up a name or waiting for a connection, which nothing can cut short.
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)
        ending.start()
        ending.join(timeout_s)
        return said

    def _on_connect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._absence_said = False
        if reason.is_failure:  # a refused connection is not a connection
            log.error("the broker at %s refused the connection: %s", self._where, reason)
            return
        log.info("connected to the broker at %s", self._where)
        self.counters.connects += 1
        client.publish(self._state_topic, BridgeState(state="online").payload(), qos=1, retain=True)
        self._connected.set()
        with self._lock:
            for topic, payload in self._retained.items():
                self._send(topic, payload, qos=1, retain=True)

    def _on_connect_fail(self, client: Any, userdata: Any) -> None:
        if not self._absence_said:
            self._absence_said = True
            log.warning("the broker at %s cannot be reached (%s); trying again", self._where, sys.exc_info()[1])

    def _on_disconnect(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        was = self._connected.is_set()
        self._connected.clear()
        if was and reason.is_failure:
            log.warning("lost the broker: %s; trying again", reason)


def _no_delay(client: Any, userdata: Any, sock: Any) -> None:
    """Small messages at once: Nagle's algorithm would hold an alarm back for the acknowledgement of a beat."""
    if isinstance(sock, socket.socket) or hasattr(sock, "setsockopt"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
