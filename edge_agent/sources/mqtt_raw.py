"""A sensor's raw samples from an MQTT topic: numbered blocks, put in order; what is missing is counted exactly."""

from __future__ import annotations

import logging
import queue
import secrets
import ssl
import threading
import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import MqttConfig, MqttSource
from edge_agent.errors import SourceError, SourceLost
from edge_agent.journey import Block
from edge_agent.sources.base import Counts, Signal, StreamInfo, guess_kind
from edge_agent.sources.raw_blocks import BadBlock, Info, RawBlock, decode, decode_info
from edge_agent.sources.recording import SCALE
from edge_agent.sources.sequencer import Sequencer

log = logging.getLogger(__name__)

CONNECT_S = 5.0
MOST_QUEUED = 256
"""Blocks between the network's thread and the stream's; more are dropped, counted, and show as lost samples."""
WAKE_S = 0.05


class MqttSamples:
    """Subscribed from its opening until it is closed, whatever happens to the sensor or the broker in between."""

    speed = 1.0

    def __init__(self, config: MqttSource) -> None:
        self._config = config
        self._broker = broker = config.broker or MqttConfig()
        self.waits_for = f"blocks on {config.topic}"
        self.resumes = True
        self._queue: queue.Queue[tuple[RawBlock, int]] = queue.Queue(MOST_QUEUED)
        self._infos: queue.SimpleQueue[Info | str] = queue.SimpleQueue()
        self._raw_info: Info | None = None
        self._connected = threading.Event()
        self._refusal = ""
        self._frames = {"frames_good": 0, "frames_bad": 0, "overruns": 0, "values_implausible": 0}
        self._sequencers: Counts = {"duplicates": 0, "reordered": 0, "samples_lost": 0}
        self._sequencer: Sequencer | None = None
        self._kept: tuple[RawBlock, int] | None = None
        self._said_bad = False
        self._changed = ""
        five = broker.protocol == "5"
        self._client = paho.Client(
            CallbackAPIVersion.VERSION2,
            client_id=f"{broker.base}-raw-{secrets.token_hex(4)}",
            protocol=paho.MQTTv5 if five else paho.MQTTv311,
            transport=broker.transport,
            clean_session=None if five else True,
        )
        self._client.reconnect_delay_set(1, 30)
        self._client.on_connect = self._on_connect
        self._client.on_disconnect = self._on_disconnect
        self._client.on_message = self._on_message
        _credentials(self._client, broker)
        try:
            self._open()
        except BaseException:
            self.close()
            raise

    @property
    def _where(self) -> str:
        return f"{self._broker.host}:{self._broker.port}"

    def _open(self) -> None:
        try:
            self._client.connect(self._broker.host, self._broker.port, self._broker.keepalive_s)
        except (OSError, ValueError, paho.WebsocketConnectionError) as error:
            raise SourceError(
                f"the broker at {self._where} cannot be reached ({error})",
                remedy="is it running, and is this its port?",
            ) from None
        self._client.loop_start()
        deadline = time.monotonic() + CONNECT_S
        while not self._connected.wait(WAKE_S):
            if self._refusal or time.monotonic() > deadline:
                raise SourceError(
                    f"the broker at {self._where} refused the connection: {self._refusal or 'no answer'}",
                    remedy="look at username and password of [mqtt], or of the source's broker table",
                )
        try:
            info = self._infos.get(timeout=self._config.wait_info_s)
        except queue.Empty:
            raise SourceError(
                f"nothing is retained on {self._config.topic}/info at {self._where}",
                remedy="the sensor publishes it there once, retained: its rate and channels",
            ) from None
        if isinstance(info, str):
            raise SourceError(
                f"{self._config.topic}/info cannot be understood: {info}", remedy="see docs/sources.md for its form"
            )
        self._raw_info = info
        units = [SCALE.get(unit.strip().lower(), (unit, 1.0)) for unit in info.units]
        self._factors = np.array([[factor] for _, factor in units], np.float32)
        self.info = StreamInfo(
            fs=info.fs,
            signals=tuple(
                Signal(name, guess_kind(name, unit), unit) for name, (unit, _) in zip(info.names, units, strict=True)
            ),
        )

    # -- the network's thread ------------------------------------------------------------------------------------

    def _on_connect(self, client: Any, _userdata: Any, _flags: Any, reason: Any, _properties: Any) -> None:
        if reason.is_failure:
            self._refusal = str(reason)
            return
        topic = self._config.topic
        client.subscribe([(f"{topic}/info", 1), (topic, self._config.qos)])
        self._connected.set()

    def _on_disconnect(self, _client: Any, _userdata: Any, _flags: Any, _reason: Any, _properties: Any) -> None:
        self._connected.clear()

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        now_ns = time.monotonic_ns()
        if message.topic.endswith("/info") and message.topic != self._config.topic:
            self._take_info(message.payload)
            return
        if message.retain or self._raw_info is None:
            return  # an old block, kept by the broker: nobody's pulse
        try:
            block = decode(message.payload, self._raw_info)
        except BadBlock as error:
            self._frames["frames_bad"] += 1
            if not self._said_bad:
                self._said_bad = True
                log.warning("%s: not a block: %s", self._config.topic, error)
            return
        self._frames["frames_good"] += 1
        self._frames["values_implausible"] += block.implausible
        try:
            self._queue.put_nowait((block, now_ns))
        except queue.Full:
            self._frames["overruns"] += 1

    def _take_info(self, payload: bytes) -> None:
        try:
            info: Info | str = decode_info(payload)
        except BadBlock as error:
            info = str(error)
        if self._raw_info is None:
            self._infos.put(info)
        elif info != self._raw_info:
            self._changed = "other channels or another rate" if isinstance(info, Info) else info

    # -- the stream's thread -------------------------------------------------------------------------------------

    def blocks(self, stop: Event) -> Iterator[Block]:
        if self._sequencer is not None:
            self._sequencers = self._counted()
        self._sequencer = sequencer = Sequencer(round(self._config.reorder_s * 1e9))
        heard: float | None = None  # nothing is silent before it has begun
        offset: int | None = None
        while not stop.is_set():
            kept, self._kept = self._kept, None
            ready = []
            try:
                block, came_ns = kept or self._queue.get(timeout=WAKE_S)
            except queue.Empty:
                ready = sequencer.look(time.monotonic_ns())
            else:
                if sequencer.session is not None and block.session != sequencer.session:
                    self._kept = (block, came_ns)
                    raise SourceLost(f"the sensor on {self._config.topic} has started anew", remedy="nothing to do")
                if sequencer.leaps(block, came_ns, self.info.fs):
                    # not kept: the next block tells whether it was one number
                    raise SourceLost(
                        f"the sensor on {self._config.topic} has started anew: its index leapt to {block.first}",
                        remedy="nothing to do",
                    )
                ready = sequencer.put(block, came_ns) + sequencer.look(time.monotonic_ns())
            if self._changed:
                self.resumes = False
                raise SourceLost(f"{self._config.topic}/info has changed: {self._changed}", remedy="restart the agent")
            for one in ready:
                offset = one.block.first if offset is None else offset
                yield Block(
                    first=one.block.first - offset,
                    fs=self.info.fs,
                    values=one.block.values * self._factors,
                    lost_before=one.lost_before,
                    lost_exact=one.lost_before > 0,
                    lead_off=one.block.lead_off,
                    arrived_ns=one.arrived_ns,
                )
            if ready:
                heard = time.monotonic()
            elif heard is not None and time.monotonic() - heard > self._config.silent_s:
                why = "no block" if self._connected.is_set() else "the broker has gone, no block"
                raise SourceLost(
                    f"silent: {self._config.topic} at {self._where}: {why} for {self._config.silent_s:g} s"
                    f" ({self._frames['frames_bad']} were not of its form)",
                    remedy="is the sensor running, and does it publish there?",
                )

    def _counted(self) -> Counts:
        now = self._sequencer.counters if self._sequencer is not None else None
        return {name: count + (getattr(now, name) if now else 0) for name, count in self._sequencers.items()}

    def counters(self) -> Counts:
        return {**self._frames, **self._counted()}

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def _credentials(client: paho.Client, broker: MqttConfig) -> None:
    """As the agent's own connection has them."""
    try:
        if broker.username is not None:
            client.username_pw_set(broker.username, broker.password())
        if broker.transport == "websockets":
            client.ws_set_options(path=broker.websocket_path)
        if broker.tls is not None:
            client.tls_set_context(broker.tls.context())
    except (OSError, ssl.SSLError, UnicodeDecodeError) as error:
        raise SourceError(
            f"the password or the certificates for the broker cannot be read ({error})",
            remedy=f"look at {broker.password_source}, and at the tls table",
        ) from None


def open_mqtt(config: MqttSource) -> MqttSamples:
    return MqttSamples(config)
