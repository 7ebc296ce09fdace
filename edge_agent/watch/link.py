"""The connection: again and again with bounded backoff, a refusal told apart from an absent broker.

Everything happens in `step`, on the caller's thread, and a message is acknowledged only when `heard` has returned: what was
not shown when the watch ends is still the broker's, and comes again to a session that survives.
"""

from __future__ import annotations

import contextlib
import random
import socket
import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.errors import OutputError

BACKOFF_S = (1.0, 30.0)
STEADY_S = 10.0
"""A connection that lasted so long was a good one: the next attempt after it is not held back."""
CONNECT_S = 5.0
ANSWER_S = 10.0
KEEPALIVE_S = 20
GOODBYE_S = 1.0
DISCONNECT = b"\xe0\x00"  # MQTT 3.1.1, section 3.14
PASSING = ("Server unavailable", "Server busy", "Quota exceeded", "Connection rate exceeded", "Use another server")
"""Refusals that may be over at the next attempt; nothing but another argument helps against the others."""

Heard = Callable[[str, bytes, bool], None]


@dataclass(frozen=True, slots=True)
class Broker:
    """Where and as whom."""

    host: str
    port: int
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    ca: Path | None = None
    """None: what the system trusts."""
    cert: Path | None = None
    key: Path | None = None
    client_id: str | None = None
    """Given: the broker keeps the session, and what this watch misses, under this name."""


class Done(Exception):
    """Raised by ``heard``: no further message is wanted. Stops paho before it acknowledges one that nobody will see."""


class Link:
    def __init__(self, broker: Broker, topics: list[str], heard: Heard, say: Callable[[str], None]) -> None:
        self._broker = broker
        self._topics = topics
        self._heard = heard
        self._say = say
        self._said = ""
        self._refused: str | None = None
        self._ever = self._up = self._kept = False
        self._began = self._next = self._lost = 0.0
        self._wait_s = BACKOFF_S[0]
        self._fatal: OutputError | None = None
        self._tls = _context(broker) if broker.tls else None
        self._client: paho.Client | None = None

    def _fresh(self, left_s: float) -> paho.Client:
        """A client for one connection: nothing of an attempt that failed is left in the next."""
        broker = self._broker
        client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=broker.client_id or "",
            protocol=paho.MQTTv311,
            clean_session=broker.client_id is None,
            reconnect_on_failure=False,
        )
        client.connect_timeout = max(0.5, min(CONNECT_S, left_s))
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password)
        if self._tls is not None:
            client.tls_set_context(self._tls)
        client.on_connect = self._on_connect
        client.on_subscribe = self._on_subscribe
        client.on_message = self._on_message
        return client

    @property
    def where(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    @property
    def up(self) -> bool:
        """Connected and subscribed."""
        return self._up

    def step(self, timeout_s: float, left_s: float = CONNECT_S) -> None:
        """Wait at most about so long for something to happen; to connect may take ``left_s``.

        `OutputError` where trying again cannot help.
        """
        if self._client is None:
            wait_s = self._next - time.monotonic()
            if wait_s > 0:
                time.sleep(min(wait_s, timeout_s))
            else:
                self._connect(left_s)
            return
        try:
            status = self._client.loop(timeout_s)
        except Done:
            return
        if self._fatal is not None:
            raise self._fatal
        if status != paho.MQTT_ERR_SUCCESS:
            self._ended(paho.error_string(status))
        elif not self._up and time.monotonic() - self._began > ANSWER_S:
            self._failed(f"no answer within {ANSWER_S:g} s")

    def close(self) -> None:
        """Say goodbye, so that nothing that was acknowledged comes again.

        Not by paho's ``disconnect``: it closes the socket at once, and where messages have arrived that nobody will read any
        more, the system then resets the connection and the broker never sees the last acknowledgements.
        """
        client = self._client
        sock = None if client is None else client.socket()
        if client is not None and isinstance(sock, socket.socket):
            with contextlib.suppress(OSError):
                client.loop_write()
                sock.settimeout(GOODBYE_S)
                sock.sendall(DISCONNECT)
                sock.shutdown(socket.SHUT_WR)
                deadline = time.monotonic() + GOODBYE_S
                while sock.recv(65536) and time.monotonic() < deadline:
                    pass
        self._drop()

    def _drop(self) -> None:
        client, self._client = self._client, None
        sock = None if client is None else client.socket()
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.close()

    def _connect(self, left_s: float) -> None:
        self._began = time.monotonic()
        self._refused = None
        client = self._fresh(left_s)
        try:
            client.connect(self._broker.host, self._broker.port, KEEPALIVE_S)
        except ssl.SSLCertVerificationError as error:
            self._refuse(f"its certificate is not accepted: {error.verify_message}", "name its CA with --ca FILE")
        except (ssl.SSLEOFError, ConnectionResetError) as error:
            hint = "it closed the connection when TLS began; is this its port for TLS?"
            self._failed(hint if self._broker.tls else _reason(error))
        except ssl.SSLError as error:
            self._refuse(f"TLS does not work out ({error.reason or error})", "is this its port for TLS?")
        except OSError as error:
            self._failed(_reason(error))
        except UnicodeError:
            raise OutputError(f"{self._broker.host!r} is no host's name") from None
        else:
            self._client = client

    def _failed(self, reason: str) -> None:
        """It could not be reached at all."""
        self._note(f"the broker at {self.where} cannot be reached ({reason}); trying again")
        self._later()

    def _refuse(self, reason: str, remedy: str = "") -> None:
        """It is there and says no."""
        text = f"the broker at {self.where} refused the connection: {reason}"
        if not self._ever and not reason.startswith(PASSING):
            raise OutputError(text, remedy=remedy)
        self._note(f"{text}; trying again")
        self._later()

    def _ended(self, reason: str) -> None:
        if self._refused is not None:
            remedy = "see --username and --password-file" if "uthori" in self._refused else ""
            self._refuse(self._refused, remedy)
            return
        if self._up:
            self._up, self._said, self._lost = False, "", time.monotonic()
            if time.monotonic() - self._began > STEADY_S:
                self._wait_s = BACKOFF_S[0]
            self._note(f"lost the broker at {self.where} ({reason}); trying again")
        else:
            hint = "" if self._broker.tls else "; does it want --tls?"
            self._note(f"the broker at {self.where} closed the connection before it answered{hint}; trying again")
        self._later()

    def _note(self, text: str) -> None:
        """Once, not at every attempt."""
        if text != self._said:
            self._said = text
            self._say(text)

    def _later(self) -> None:
        self._drop()
        # Apart from one another: a ward's displays would all come back in the same moment as their broker.
        self._next = time.monotonic() + self._wait_s * random.uniform(0.8, 1.2)
        self._wait_s = min(2 * self._wait_s, BACKOFF_S[1])

    # -- called by paho, from within step() --

    def _on_connect(self, client: paho.Client, _userdata: Any, flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refused = str(reason)
            return
        self._kept = self._broker.client_id is not None and flags.session_present
        # Also in a session that is kept: the filters may be others than the last time.
        client.subscribe([(topic, 1) for topic in self._topics])

    def _on_subscribe(self, _client: Any, _userdata: Any, _mid: int, reasons: list[Any], _properties: Any) -> None:
        for topic, reason in zip(self._topics, reasons, strict=False):
            if reason.is_failure:
                self._fatal = OutputError(f"the broker at {self.where} refused the subscription to {topic}")
                return
        self._say(self._welcome())
        self._ever = self._up = True
        self._said = ""

    def _welcome(self) -> str:
        if not self._ever:
            kept = f"; the broker kept the session {self._broker.client_id}: what was missed comes now"
            return f"watching {' '.join(self._topics)} at {self.where}{kept if self._kept else ''}"
        back = f"back at {self.where} after {time.monotonic() - self._lost:.0f} s"
        if self._kept:
            return f"{back}; what was missed comes now"
        if self._broker.client_id is not None:
            return f"{back}; the broker has forgotten the session, and what came meanwhile is lost"
        return f"{back}; what came meanwhile is lost (see --client-id)"

    def _on_message(self, _client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        try:
            topic = message.topic
        except UnicodeDecodeError:
            return  # no broker should pass that on
        self._heard(topic, bytes(message.payload), message.retain)


def _context(broker: Broker) -> ssl.SSLContext:
    """Chain and name are always checked."""
    part: Path | None = broker.ca
    try:
        context = ssl.create_default_context(cafile=None if broker.ca is None else str(broker.ca))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if broker.cert is not None:
            part = broker.cert
            context.load_cert_chain(broker.cert, broker.key)
    except (OSError, ValueError) as error:  # ssl.SSLError among them
        raise OutputError(f"{part}: no certificate can be read from it ({_reason(error)})") from None
    return context


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or getattr(error, "reason", None) or str(error)
    return str(text) or type(error).__name__
