"""The connection to the broker: MQTT 3.1.1 or 5 with paho, over TCP or websockets, with TLS or without.

What travels over it is `mqtt.py`'s business. Callbacks come from paho's network thread and must not wait for anything.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from edge_agent.config import MqttConfig
from edge_agent.errors import OutputError

log = logging.getLogger(__name__)

INFLIGHT = 200
"""QoS 1 messages handed over and not acknowledged, unless the broker wants fewer (MQTT 5's receive maximum)."""
RECONNECT_S = (1.0, 30.0)
TAKEN_OVER = 0x8E
"""MQTT 5: another client connected with our id."""
SOON_S = 10.0
SUSPICIOUS = 3
"""This many connections in a row that were lost soon after they were made: somebody else uses our client id."""


class Link:
    """One connection for the whole daemon. Publishing is for one thread at a time."""

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        *,
        state_topic: str,
        online: bytes,
        offline: bytes,
        on_up: Callable[[], None],
        on_acknowledged: Callable[[int], None],
        listen: Mapping[str, Callable[[bytes], None]],
    ) -> None:
        """``offline`` is the will, ``online`` the birth: one topic for both, because MQTT keeps order per topic only.
        ``listen``: topics to subscribe to at every connect, and who is told."""
        self._config = config
        self._client_id = client_id
        self._state_topic, self._online, self._offline = state_topic, online, offline
        self._on_up, self._on_acknowledged = on_up, on_acknowledged
        self._listen = listen
        self._up = threading.Event()
        self._up_since = 0.0
        self._short_lives = 0
        self._said = ""
        self.connects = 0
        self.window = INFLIGHT
        """QoS 1 messages that may be on their way at once."""
        self.state = "connecting"
        """For people: connected, or why it is not."""
        self.five = config.protocol == "5"
        # A stable client id: a second agent of the same name takes the first one's place instead of doubling every message.
        options: dict[str, Any] = {} if self.five else {"clean_session": True}
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=client_id,
            protocol=paho.MQTTv5 if self.five else paho.MQTTv311,
            transport=config.transport,
            **options,
        )
        client = self._client
        client.max_queued_messages_set(
            0
        )  # the bound is the publisher's: paho's would keep the birth out of a full queue
        client.max_inflight_messages_set(0)  # likewise: it cannot be changed to what the broker allows
        # A fleet that lost its broker at one moment must not come back at one moment.
        client.reconnect_delay_set(
            random.uniform(0.5, 1.0) * RECONNECT_S[0],  # type: ignore[arg-type]  # paho's annotation says int, its code adds
            random.uniform(0.5, 1.0) * RECONNECT_S[1],  # type: ignore[arg-type]
        )
        client.on_connect, client.on_connect_fail = self._connected, self._not_connected
        client.on_disconnect, client.on_publish = self._disconnected, self._published
        client.on_socket_open, client.on_message = _no_delay, self._heard
        if config.transport == "websockets":
            client.ws_set_options(path=config.websocket_path)
        client.will_set(state_topic, offline, qos=1, retain=True)
        self._credentials()
        self._tls()

    def _credentials(self) -> None:
        config = self._config
        if config.username is None:
            return
        try:
            self._client.username_pw_set(config.username, config.password())
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(f"{config.password_source}: the password cannot be read ({error})") from None

    def _tls(self) -> None:
        tls = self._config.tls
        if tls is None:
            return
        try:
            context = ssl.create_default_context(cafile=None if tls.ca_file is None else str(tls.ca_file))
            if tls.cert_file is not None:
                context.load_cert_chain(tls.cert_file, tls.key_file)
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(file) for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None)
            raise OutputError(f"mqtt.tls: {files}: cannot be used ({error})", remedy="PEM files are wanted") from None
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = tls.check_name
        self._client.tls_set_context(context)

    # -- use -----------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self._up.is_set()

    @property
    def _where(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    def start(self) -> None:
        """Connect in the background, again and again until it works."""
        options: dict[str, Any] = {"clean_start": True} if self.five else {}
        self._client.connect_async(self._config.host, self._config.port, self._config.keepalive_s, **options)
        self._client.loop_start()

    def publish(self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties | None) -> int:
        """The message's id, by which its acknowledgement is known."""
        return self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties).mid

    def stop(self, timeout_s: float) -> bool:
        """Say offline, wait for the acknowledgement, disconnect. False if the broker did not answer in time."""
        said = True
        if self.connected:
            info = self._client.publish(self._state_topic, self._offline, qos=1, retain=True)
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

    # -- what paho says ------------------------------------------------------------------------------------------

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        if reason.is_failure:  # a refused connection is not a connection
            self._say(
                logging.ERROR, f"refused: {reason}", f"the broker at {self._where} refused the connection: {reason}"
            )
            return
        limit = getattr(properties, "ReceiveMaximum", INFLIGHT) if self.five else INFLIGHT
        self.window = max(1, min(INFLIGHT, int(limit) - 1))  # one is the birth's
        self.state, self._said = "connected", ""
        log.info("connected to the broker at %s (MQTT %s)", self._where, self._config.protocol)
        self.connects += 1
        self._up_since = time.monotonic()
        client.publish(self._state_topic, self._online, qos=1, retain=True)
        if self._listen:
            client.subscribe([(topic, 1) for topic in self._listen])
        self._up.set()
        self._on_up()

    def _not_connected(self, client: Any, userdata: Any) -> None:
        error = sys.exc_info()[1]
        kind = "untrusted" if isinstance(error, ssl.SSLError) else "absent"
        self._say(
            logging.WARNING,
            f"{kind}: {error}",
            f"the broker at {self._where} "
            + (
                f"is not to be trusted ({error})"
                if kind == "untrusted"
                else f"cannot be reached ({error}); trying again"
            ),
        )

    def _disconnected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        was = self._up.is_set()
        self._up.clear()
        if not was or not reason.is_failure:
            return
        self._short_lives = self._short_lives + 1 if time.monotonic() - self._up_since < SOON_S else 0
        if getattr(reason, "value", None) == TAKEN_OVER or self._short_lives >= SUSPICIOUS:
            self._say(
                logging.ERROR,
                "taken over: another client uses this device's id",
                f"another client connects to {self._where} as {self._client_id!r} and takes this one's place again and again:"
                " give one of the two agents another device.id",
            )
        else:
            self._say(logging.WARNING, f"lost: {reason}", f"lost the broker: {reason}; trying again")

    def _published(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        # Called with paho's own locks held: whoever is told may only make a note of it.
        if reason is not None and reason.is_failure:
            self._say(logging.ERROR, f"refused: {reason}", f"the broker at {self._where} refused a message: {reason}")
        self._on_acknowledged(mid)

    def _heard(self, client: Any, userdata: Any, message: Any) -> None:
        if message.retain and message.topic.startswith(self._config.base):
            return  # a request that somebody retained would be carried out at every connect
        told = self._listen.get(message.topic)
        if told is not None:
            told(message.payload)

    def _say(self, level: int, state: str, text: str) -> None:
        """Once for each change: a broker that is away for a night must not fill the journal."""
        self.state = state
        if state != self._said:
            self._said = state
            log.log(level, text)


def properties_for(expiry_s: int | None, user: tuple[tuple[str, str], ...] = ()) -> Properties:
    """MQTT 5 properties of a message."""
    made: Any = Properties(PacketTypes.PUBLISH)  # type: ignore[no-untyped-call]
    made.ContentType = "application/json"
    made.PayloadFormatIndicator = 1
    if expiry_s is not None:
        made.MessageExpiryInterval = expiry_s
    if user:
        made.UserProperty = list(user)
    return made  # type: ignore[no-any-return]


def _no_delay(client: Any, userdata: Any, sock: Any) -> None:
    """Small messages at once: Nagle's algorithm would hold an alarm back for the acknowledgement of a beat."""
    if isinstance(sock, socket.socket) or hasattr(sock, "setsockopt"):
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
