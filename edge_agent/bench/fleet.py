"""A fleet's latencies: a summary of each report, retained on the broker; and all of them gathered again.

``BASE/DEVICE/bridge/bench/MODEL``, QoS 1, retained: one for each device and model, the newest. The connection has a client id of
its own, no will and no birth: the agent of that device may be running, and nobody shall take it for gone.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion
from pydantic import ValidationError

from edge_agent.bench.files import safe
from edge_agent.bench.report import BenchSummary
from edge_agent.config import MqttConfig
from edge_agent.errors import OutputError
from edge_agent.section import first_in_words

ANSWER_S = 10.0
QUIET_S = 0.7
"""Retained messages come in one stretch after the subscription's answer; so long without one is its end."""
MOST_S = 60.0
MOST_BYTES = 1 << 20


def topic(base: str, summary: BenchSummary) -> str:
    return f"{base}/{safe(summary.device)}/bridge/bench/{safe(summary.model)}"


def publish(config: MqttConfig, summaries: Sequence[BenchSummary]) -> list[str]:
    """The topics, once the broker has acknowledged them."""
    topics = []
    with connected(config) as client:
        for summary in summaries:
            name = topic(config.base, summary)
            said = client.publish(name, summary.payload(), qos=1, retain=True)
            try:
                said.wait_for_publish(ANSWER_S)
            except (ValueError, RuntimeError) as error:
                raise OutputError(f"{name}: not published ({error})") from None
            if not said.is_published():
                raise OutputError(f"{_where(config)}: did not acknowledge {name} within {ANSWER_S:g} s")
            topics.append(name)
    return topics


def collect(config: MqttConfig) -> tuple[list[BenchSummary], list[str]]:
    """What the broker keeps, and what of it was damaged."""
    heard: list[tuple[str, bytes]] = []
    last = [time.monotonic()]
    subscribed = threading.Event()

    def on_message(_client: Any, _userdata: Any, message: paho.MQTTMessage) -> None:
        last[0] = time.monotonic()
        if message.retain:
            heard.append((message.topic, bytes(message.payload)))

    def on_subscribe(*_: Any) -> None:
        last[0] = time.monotonic()
        subscribed.set()

    with connected(config) as client:
        client.on_message, client.on_subscribe = on_message, on_subscribe
        client.subscribe(f"{config.base}/+/bridge/bench/+", qos=1)
        if not subscribed.wait(ANSWER_S):
            raise OutputError(f"{_where(config)}: did not answer the subscription within {ANSWER_S:g} s")
        began = time.monotonic()
        while time.monotonic() - last[0] < QUIET_S and time.monotonic() - began < MOST_S:
            time.sleep(0.05)
    return _read(heard)


def _read(heard: Sequence[tuple[str, bytes]]) -> tuple[list[BenchSummary], list[str]]:
    """Others may write on these topics, too."""
    found, damaged = [], []
    for name, payload in heard:
        try:
            if len(payload) > MOST_BYTES:
                raise ValueError(f"{len(payload)} bytes")
            found.append(BenchSummary.model_validate(json.loads(payload)))
        except ValidationError as error:
            damaged.append(f"{name}: {first_in_words(error, 'summary')}")
        except (ValueError, RecursionError) as error:
            damaged.append(f"{name}: {type(error).__name__}: no summary")
    return found, damaged


def _where(config: MqttConfig) -> str:
    return f"{config.host}:{config.port}"


@contextmanager
def connected(config: MqttConfig) -> Iterator[paho.Client]:
    """A plain client with the agent's settings."""
    client = paho.Client(
        CallbackAPIVersion.VERSION2,
        protocol=paho.MQTTv5 if config.protocol == "5" else paho.MQTTv311,
        transport=config.transport,
        reconnect_on_failure=False,
    )
    answered = threading.Event()
    refused: list[str] = []
    client.on_connect = _on_connect(answered, refused)
    try:
        if config.transport == "websockets":
            client.ws_set_options(path=config.websocket_path)
        if config.username is not None:
            client.username_pw_set(config.username, config.password())
        if config.tls is not None:
            client.tls_set_context(config.tls.context())
        client.connect(config.host, config.port, config.keepalive_s)
    except UnicodeDecodeError as error:
        raise OutputError(f"{config.password_source}: the password cannot be read ({error})") from None
    except ssl.SSLError as error:
        raise OutputError(f"{_where(config)}: TLS does not work out ({error.reason or error})") from None
    except (OSError, socket.gaierror) as error:
        raise OutputError(
            f"{_where(config)}: {getattr(error, 'strerror', None) or error}", remedy="is the broker there?"
        ) from None
    client.loop_start()
    try:
        if not answered.wait(ANSWER_S):
            raise OutputError(f"{_where(config)}: no answer within {ANSWER_S:g} s")
        if refused:
            raise OutputError(f"{_where(config)}: refused the connection: {refused[0]}")
        yield client
    finally:
        client.disconnect()
        client.loop_stop()
        client._reset_sockets()  # paho keeps a pair of its own until it is collected


def _on_connect(answered: threading.Event, refused: list[str]) -> Callable[..., None]:
    def connected(_client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            refused.append(str(reason))
        answered.set()

    return connected
