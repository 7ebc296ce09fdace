"""The connection to the broker: MQTT 3.1.1 or 5 with paho, over TCP or websockets, with TLS or without.

What travels over it, and what is sent again, is `mqtt.py`'s business: every connection gets a paho client of its own, which knows
nothing of the one before it. (paho by itself sends everything again that was on its way, at once and without regard for the
broker's receive maximum; one message that a broker does not take then stops all others for good.)

Callbacks come from paho's network thread and must not wait for anything.
"""

from __future__ import annotations

import logging
import random
import socket
import ssl
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
"""This many connections in a row that were lost soon after they were made: something is wrong with what is sent, or with the id."""
CAREFUL_S = 2.0
"""Between two connections while it is being found out which message the broker does not take."""


class Link:
    """One connection for the whole daemon, made again and again. Publishing is for one thread at a time."""

    def __init__(
        self,
        config: MqttConfig,
        client_id: str,
        *,
        state_topic: str,
        online: bytes,
        offline: bytes,
        on_up: Callable[[], None],
        on_acknowledged: Callable[[int, int, int], None],
        listen: Mapping[str, Callable[[str, bytes], None]],
        recall: tuple[str, Callable[[str, bytes], None]] | None = None,
    ) -> None:
        """``offline`` is the will, ``online`` the birth: one topic for both, because MQTT keeps order per topic only.
        ``on_up`` sets ``up`` itself, in one step with its own note of it. ``on_acknowledged``: which connection, which message,
        and the broker's reason (128 and more: refused). ``listen``: topics to subscribe to at every connect, and who is told;
        a last part ``+`` stands for any. ``recall``: a filter of own topics, and who is told what the broker kept there."""
        self._config = config
        self._client_id = client_id
        self._state_topic, self._online, self._offline = state_topic, online, offline
        self._on_up, self._on_acknowledged = on_up, on_acknowledged
        self._listen = listen
        self._recall = recall
        self.up = threading.Event()
        self.connects = 0
        """Connections so far: also the number of the one that is there."""
        self.window = INFLIGHT
        """QoS 1 messages that may be on their way at once."""
        self.most_bytes: int | None = None
        """Of a packet, where the broker says so."""
        self.short_lives = 0
        """Connections in a row that were lost soon after they were made."""
        self.state = "connecting"
        """For people: connected, or why it is not."""
        self.five = config.protocol == "5"
        self._said = ""
        self._answered = False
        self._gone = threading.Event()
        self._stopping = threading.Event()
        self._password = self._read_password()
        self._context = self._tls_context()
        self._client = self._make_client()
        self._thread = threading.Thread(target=self._run, name="mqtt-link", daemon=True)

    def _read_password(self) -> str | None:
        config = self._config
        if config.username is None:
            return None
        try:
            return config.password()
        except (OSError, UnicodeDecodeError) as error:
            raise OutputError(f"{config.password_source}: the password cannot be read ({error})") from None

    def _tls_context(self) -> ssl.SSLContext | None:
        tls = self._config.tls
        if tls is None:
            return None
        try:
            return tls.context()
        except (OSError, ssl.SSLError) as error:
            files = ", ".join(str(file) for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None)
            raise OutputError(f"mqtt.tls: {files}: cannot be used ({error})", remedy="PEM files are wanted") from None

    def _make_client(self) -> paho.Client:
        config = self._config
        options: dict[str, Any] = {} if self.five else {"clean_session": True}
        # A stable client id: a second agent of the same name takes the first one's place instead of doubling every message.
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=self._client_id,
            protocol=paho.MQTTv5 if self.five else paho.MQTTv311,
            transport=config.transport,
            reconnect_on_failure=False,
            **options,
        )
        client.max_queued_messages_set(0)  # the bounds are the publisher's
        client.max_inflight_messages_set(0)
        client.on_connect, client.on_disconnect = self._connected, self._disconnected
        client.on_publish, client.on_message, client.on_socket_open = self._published, self._heard, _no_delay
        if config.transport == "websockets":
            client.ws_set_options(path=config.websocket_path)
        if config.username is not None:
            client.username_pw_set(config.username, self._password)
        if self._context is not None:
            client.tls_set_context(self._context)
        client.will_set(self._state_topic, self._offline, qos=1, retain=True)
        return client

    # -- use -----------------------------------------------------------------------------------------------------

    @property
    def connected(self) -> bool:
        return self.up.is_set()

    @property
    def careful(self) -> bool:
        """Connections die soon after they are made: one message at a time, to find out which one kills them."""
        return self.short_lives >= SUSPICIOUS

    @property
    def _where(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    def start(self) -> None:
        """Connect in the background, again and again until it works."""
        self._thread.start()

    def publish(
        self, topic: str, payload: bytes, *, qos: int, retain: bool, properties: Properties | None
    ) -> int | None:
        """The message's id, by which its acknowledgement is known; None if the connection did not take it."""
        try:
            info = self._client.publish(topic, payload, qos=qos, retain=retain, properties=properties)
        except (OSError, AttributeError):  # the thread that connects is closing its sockets at this very moment
            return None
        if info.rc == paho.MQTT_ERR_SUCCESS:
            return info.mid
        if (
            info.rc == paho.MQTT_ERR_QUEUE_SIZE
        ):  # an id that is still in use: the broker owes us an answer since 65,535 messages
            self._say(logging.ERROR, "lost: a message was never acknowledged", "the broker owes an answer for too long")
            self._client.disconnect()
        return None

    def stop(self, timeout_s: float) -> bool:
        """Say offline, wait for the acknowledgement, disconnect. False if the broker did not answer in time."""
        said = True
        self._stopping.set()
        if self.connected:
            try:
                info = self._client.publish(self._state_topic, self._offline, qos=1, retain=True)
                info.wait_for_publish(timeout_s)
                said = info.is_published()
            except (RuntimeError, ValueError, OSError, AttributeError):  # the last two: as in `publish`
                said = False
        self._client.disconnect()
        self._gone.set()
        if (
            self._thread.is_alive()
        ):  # it may be looking up a name or waiting for a connection, which nothing can cut short
            self._thread.join(timeout_s)
        return said

    # -- the thread that connects --------------------------------------------------------------------------------

    def _run(self) -> None:
        """A fleet that lost its broker at one moment must not come back at one moment: every wait is drawn by chance."""
        wait_s = RECONNECT_S[0]
        options: dict[str, Any] = {"clean_start": True} if self.five else {}
        while not self._stopping.is_set():
            client = self._client
            self._gone.clear()
            self._answered = False
            began = time.monotonic()
            try:
                client.connect(self._config.host, self._config.port, self._config.keepalive_s, **options)
            except (OSError, ValueError) as error:  # ValueError: a name that is none, a websocket's refusal
                self._not_connected(error)
            else:
                client.loop_start()
                if self._stopping.is_set():
                    client.disconnect()
                while not self._gone.wait(1.0) and getattr(client, "_thread", None) is not None:
                    pass  # paho's thread says when it is over, unless it dies of something
                client.loop_stop()
            long = self._answered and time.monotonic() - began >= SOON_S
            if self._answered:
                self.short_lives = 0 if long else self.short_lives + 1
            if long:
                wait_s, self._said = RECONNECT_S[0], ""
            client._reset_sockets()  # else they stay until the client is collected
            if self._stopping.wait((CAREFUL_S if self.careful else wait_s) * random.uniform(0.5, 1.0)):
                return
            wait_s = min(RECONNECT_S[1], wait_s * 2)
            self._client = self._make_client()

    # -- what paho says ------------------------------------------------------------------------------------------

    def _connected(self, client: Any, userdata: Any, flags: Any, reason: Any, properties: Any) -> None:
        self._answered = True
        if reason.is_failure:  # a refused connection is not a connection
            self._answered = False
            self._say(
                logging.ERROR, f"refused: {reason}", f"the broker at {self._where} refused the connection: {reason}"
            )
            self.state = f"refused: {reason}"
            return
        limit = getattr(properties, "ReceiveMaximum", INFLIGHT) if self.five else INFLIGHT
        self.window = max(1, min(INFLIGHT, int(limit) - 1))  # one is the birth's
        self.most_bytes = getattr(properties, "MaximumPacketSize", None) if self.five else None
        self.state = "connected"
        if not self.careful:
            log.info("connected to the broker at %s (MQTT %s)", self._where, self._config.protocol)
        self.connects += 1
        client.publish(self._state_topic, self._online, qos=1, retain=True)
        filters = [*self._listen, *((self._recall[0],) if self._recall is not None else ())]
        if filters:
            client.subscribe([(topic, 1) for topic in filters])
        self._on_up()

    def _not_connected(self, error: Exception) -> None:
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
        was = self.up.is_set()
        self.up.clear()
        if was and reason.is_failure:
            if getattr(reason, "value", None) == TAKEN_OVER:
                self._say(
                    logging.ERROR,
                    "taken over: another client uses this device's id",
                    f"another client connects to {self._where} as {self._client_id!r} and takes this one's place:"
                    " give one of the two agents another device.id",
                )
            elif self.short_lives + 1 >= SUSPICIOUS:
                self._say(
                    logging.ERROR,
                    "unstable: lost soon after each connect",
                    f"the connection to {self._where} is lost soon after it is made, again and again. Either another client uses"
                    f" the id {self._client_id!r} (give one of the two agents another device.id), or the broker does not take"
                    " one of the messages (sent one at a time from now on, to find out which)",
                )
            else:
                self._say(logging.WARNING, f"lost: {reason}", f"lost the broker: {reason}; trying again")
        elif not was and not self.state.startswith("refused") and not self._stopping.is_set():
            self._say(
                logging.WARNING,
                "closed before it answered",
                f"{self._where} closed the connection before it answered: does it want TLS, and is it an MQTT broker?",
            )
        self._gone.set()

    def _published(self, client: Any, userdata: Any, mid: int, reason: Any, properties: Any) -> None:
        # Called with paho's own locks held: whoever is told may only make a note of it.
        if client is self._client:
            self._on_acknowledged(self.connects, mid, int(getattr(reason, "value", 0) or 0))

    def _heard(self, client: Any, userdata: Any, message: Any) -> None:
        topic = message.topic
        if message.retain and topic.startswith(self._config.base):
            # Nothing else: a request that somebody retained would be carried out at every connect.
            if self._recall is not None and paho.topic_matches_sub(self._recall[0], topic):
                self._recall[1](topic, message.payload)
            return
        told = self._listen.get(topic) or self._listen.get(f"{topic.rpartition('/')[0]}/+")
        if told is not None:
            told(topic, message.payload)

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
