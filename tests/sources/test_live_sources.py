"""Pipes, sockets, brokers and LSL outlets: real ones, each sample once, and what is said when they go, babble or fall silent."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import MqttConfig, MqttSource, SerialSource, TcpSource
from edge_agent.errors import SourceError, SourceLost
from edge_agent.journey import Block, Samples
from edge_agent.sources.base import Source
from edge_agent.sources.mqtt_raw import MqttSamples, open_mqtt
from edge_agent.sources.raw_blocks import Info, RawBlock, encode_binary, encode_info, encode_json
from edge_agent.sources.serial_port import open_lines
from edge_agent.sources.tcp import open_tcp
from tests.spine import Broker, free_port, release, running_broker, wait_for

FS = 250.0


class Taking:
    """A source's blocks, taken in a thread of their own."""

    def __init__(self, source: Source) -> None:
        self.source = source
        self.blocks: list[Block] = []
        self.error: Exception | None = None
        self.done = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            for block in self.source.blocks(self._stop):
                self.blocks.append(block)
        except Exception as error:  # noqa: BLE001  # for the test to look at
            self.error = error
        self.done.set()

    @property
    def values(self) -> Samples:
        return np.concatenate([block.values for block in self.blocks], axis=1)

    @property
    def count(self) -> int:
        return sum(block.values.shape[1] for block in self.blocks)

    def failed(self) -> Exception:
        assert self.done.wait(20), f"nothing failed; {self.count} samples came"
        assert self.error is not None
        return self.error

    def stop(self) -> None:
        self._stop.set()
        self._thread.join(10)


@contextmanager
def taking(source: Source) -> Iterator[Taking]:
    taken = Taking(source)
    try:
        yield taken
    finally:
        taken.stop()
        source.close()


def lines(first: int, end: int) -> bytes:
    return b"".join(b"%d,%d\n" % (i, i % 40 + 80) for i in range(first, end))


# -- TCP --------------------------------------------------------------------------------------------------------------


def tcp(port: int, **changes: Any) -> TcpSource:
    return TcpSource.model_validate(
        {"type": "tcp", "port": port, "fs": FS, "columns": ["II", "ABP"], "silent_s": 1.0, **changes}
    )


def client(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def test_a_client_s_lines_come_each_once_and_its_leaving_is_said() -> None:
    source = open_tcp(tcp(free_port()))
    port = int(source.port.name.rsplit(":", 1)[1])
    with taking(source) as taken:
        with client(port) as one:
            one.sendall(b"hello\n" + lines(0, 5000))
            wait_for(lambda: taken.count == 5000, "all lines")
        assert "has hung up" in str(taken.failed())
        assert isinstance(taken.error, SourceLost)
        np.testing.assert_array_equal(taken.values[0], np.arange(5000))
        assert source.counters()["lines_good"] == 5000
        # It goes on listening: the next one is taken without opening anything anew.
        again = Taking(source)
        with client(port) as two:
            two.sendall(b"\n" + lines(0, 100))
            wait_for(lambda: again.count == 100, "the second client's lines")
            again.stop()
        assert source.counters()["lines_good"] == 5100


def test_a_second_client_is_told_and_turned_away() -> None:
    source = open_tcp(tcp(free_port(), silent_s=20.0))
    port = int(source.port.name.rsplit(":", 1)[1])
    with taking(source) as taken, client(port) as one:
        one.sendall(b"\n" + lines(0, 10))
        wait_for(lambda: taken.count == 10, "the first lines")
        with client(port) as other:
            assert other.recv(200).startswith(b"busy: another client is sending")
            assert other.recv(200) == b""
        one.sendall(lines(10, 20))
        wait_for(lambda: taken.count == 20, "the first client's next lines")
        assert source.counters()["refused"] == 1


@pytest.mark.parametrize(
    "noise", [b"7" * 4096, b"hello\n" * 600, random.Random(1).randbytes(4096)], ids=["endless", "text", "noise"]
)
def test_a_babbling_client_is_bounded_and_hung_up_on(noise: bytes) -> None:
    source = open_tcp(tcp(free_port()))
    port = int(source.port.name.rsplit(":", 1)[1])
    with taking(source) as taken, client(port) as one:

        def babble() -> None:
            with suppress(OSError):
                while True:
                    one.sendall(noise)

        threading.Thread(target=babble, daemon=True).start()
        error = taken.failed()
        assert str(error).startswith("silent:")
        assert taken.count == 0


def test_a_port_that_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(SourceError, match="cannot be listened on"):
        open_tcp(tcp(other.getsockname()[1]))


def test_nobody_is_waited_for_in_the_way_of_a_stop() -> None:
    source = open_tcp(tcp(free_port()))
    taken = Taking(source)
    time.sleep(0.1)
    began = time.monotonic()
    taken.stop()
    assert time.monotonic() - began < 2
    assert taken.error is None
    source.close()
    source.close()  # twice does no harm


def test_a_backlog_that_comes_at_the_line_s_rate_is_neither_lost_nor_silence() -> None:
    """Held back for longer than ``silent_s``: what is held is not silence."""
    source = open_tcp(tcp(free_port(), silent_s=1.2))
    port = int(source.port.name.rsplit(":", 1)[1])
    with taking(source) as taken, client(port) as one:
        one.sendall(b"\n")
        paused = 0.7
        began, sent, count = time.monotonic(), 0, 1000
        while sent < count:
            now = time.monotonic() - began
            due = now * FS  # 0.4 s as taken, a pause, and then 1.35 times as fast until it has caught up
            if now > 0.4:
                due = 0.4 * FS + max(0.0, now - 0.4 - paused) * 1.35 * FS
            due = min(round(due), count, round(now * FS))
            if due > sent:
                one.sendall(lines(sent, due))
                sent = due
            time.sleep(0.01)
        wait_for(lambda: taken.count == count or taken.done.is_set(), "all lines")
        assert taken.error is None
        assert [block.lost_before for block in taken.blocks if block.lost_before] == []
        np.testing.assert_array_equal(taken.values[0], np.arange(count, dtype=np.float32))


def test_a_damaged_line_keeps_its_time() -> None:
    source = open_tcp(tcp(free_port(), silent_s=5.0))
    port = int(source.port.name.rsplit(":", 1)[1])
    with taking(source) as taken, client(port) as one:
        one.sendall(
            b"\n" + lines(0, 100) + b"100,8x\n" + b"10102,80\n"[:3] + b"\n" + b"battery low\n" + lines(102, 200)
        )
        wait_for(lambda: taken.count == 200, "all lines")
        wanted = np.arange(200, dtype=np.float32)
        wanted[100:102] = np.nan
        np.testing.assert_array_equal(taken.values[0], wanted)
        assert source.counters()["samples_lost_estimated"] == 2
        assert source.counters()["lines_bad"] == 3


# -- standard input ---------------------------------------------------------------------------------------------------

STDIN = {"type": "stdin", "fs": FS, "columns": ["II", "ABP"]}


# -- pyserial's URLs --------------------------------------------------------------------------------------------------


def test_pyserial_s_loop_takes_part() -> None:
    source = open_lines(SerialSource(type="serial", port="loop://", fs=FS, columns=["II", "ABP"], silent_s=1.0))
    with taking(source) as taken:
        source.port.write(b"\n" + lines(0, 300))
        wait_for(lambda: taken.count == 300, "all lines")


# -- MQTT -------------------------------------------------------------------------------------------------------------

INFO = Info(FS, ("II", "ABP"), ("uV", "mmHg"))
N = 25


def raw(number: int, session: int = 1) -> RawBlock:
    t = np.arange(number * N, number * N + N, dtype=np.float32)
    return RawBlock(number, number * N, session, np.stack([t, 80 + t % 40]))


class Sensor:
    def __init__(self, port: int, username: str | None = None, password: str | None = None) -> None:
        self.client = paho.Client(CallbackAPIVersion.VERSION2)
        if username is not None:
            self.client.username_pw_set(username, password)
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()

    def say(self, topic: str, payload: bytes, *, retain: bool = False) -> None:
        self.client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)

    def close(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()
        release(self.client)


@contextmanager
def sensing(port: int, **options: str) -> Iterator[Sensor]:
    sensor = Sensor(port, **options)
    try:
        yield sensor
    finally:
        sensor.close()


def mqtt(port: int, *, broker: dict[str, Any] | None = None, **changes: Any) -> MqttSource:
    return MqttSource(
        type="mqtt",
        topic="ward/bed1/raw",
        broker=MqttConfig.model_validate({"host": "127.0.0.1", "port": port, **(broker or {})}),
        **{"silent_s": 1.5, "wait_info_s": 1.0, "reorder_s": 0.3, **changes},
    )


@pytest.fixture
def broker(program: Callable[[str], str], tmp_path: Path) -> Iterator[Broker]:
    with running_broker(program("mosquitto"), tmp_path) as running:
        yield running


FORMS: list[Callable[[RawBlock], bytes]] = [
    lambda block: encode_binary(block, INFO),
    lambda block: encode_binary(block, INFO, scale=(1.0, 0.5)),
    lambda block: encode_json(block, INFO),
]


@pytest.mark.parametrize("form", FORMS, ids=["float32", "int16", "json"])
def test_blocks_of_a_sensor_come_in_order_and_each_once(form: Callable[[RawBlock], bytes], broker: Broker) -> None:
    with sensing(broker.port) as sensor:
        sensor.say("ward/bed1/raw/info", encode_info(INFO), retain=True)
        sensor.say("ward/bed1/raw", form(raw(99)), retain=True)  # an old block that the broker keeps: not a pulse
        source = open_mqtt(mqtt(broker.port))
        assert (source.info.fs, source.info.named("ecg"), source.info.named("abp")) == (FS, {"II": 0}, {"ABP": 1})
        with taking(source) as taken:
            for number in [10, 11, 13, 12, 12, 14, 14, 15, 19, 20]:  # out of order, twice, and three missing
                sensor.say("ward/bed1/raw", form(raw(number)))
            sensor.say("ward/bed1/raw", b"no block at all")
            wait_for(lambda: taken.count == 8 * N, "the blocks")
            assert [(block.first, block.lost_before, block.lost_exact) for block in taken.blocks] == [
                *((n * N, 0, False) for n in range(6)),
                (9 * N, 3 * N, True),
                (10 * N, 0, False),
            ]
            wanted = np.concatenate([raw(n).values for n in (10, 11, 12, 13, 14, 15, 19, 20)], axis=1)
            np.testing.assert_allclose(taken.values[0], wanted[0] / 1000, rtol=1e-6)  # microvolts
            np.testing.assert_allclose(taken.values[1], wanted[1])
            assert source.counters() == {
                "frames_good": 10,
                "frames_bad": 1,
                "overruns": 0,
                "values_implausible": 0,
                "duplicates": 2,
                "reordered": 1,
                "samples_lost": 3 * N,
            }
            assert "silent: ward/bed1/raw" in str(taken.failed())


def test_values_of_a_sensor_that_cannot_be_are_counted(broker: Broker) -> None:
    with sensing(broker.port) as sensor:
        sensor.say("ward/bed1/raw/info", encode_info(INFO), retain=True)
        source = open_mqtt(mqtt(broker.port))
        with taking(source) as taken:
            sensor.say(
                "ward/bed1/raw", b'{"seq": 0, "first": 0, "values": {"II": [1e300, 1.0], "ABP": [Infinity, null]}}'
            )
            wait_for(lambda: taken.count == 2, "the block")
            np.testing.assert_allclose(taken.values, [[np.nan, 0.001], [np.nan, np.nan]])
            assert source.counters()["values_implausible"] == 2
            taken.failed()


def test_a_sensor_that_starts_anew_and_one_that_changes(broker: Broker) -> None:
    with sensing(broker.port) as sensor:
        sensor.say("ward/bed1/raw/info", encode_info(INFO), retain=True)
        source = open_mqtt(mqtt(broker.port))
        taken = Taking(source)
        sensor.say("ward/bed1/raw", FORMS[0](raw(500)))
        wait_for(lambda: taken.count == N, "the first block")
        sensor.say("ward/bed1/raw", FORMS[0](raw(0, session=2)))
        assert "has started anew" in str(taken.failed())
        assert source.resumes
        with taking(source) as again:
            wait_for(lambda: again.count == N, "the block that showed it")
            assert (again.blocks[0].first, again.blocks[0].values[1, 0]) == (0, 80)
            other = Info(500.0, INFO.names, INFO.units)
            sensor.say("ward/bed1/raw/info", encode_info(other), retain=True)
            assert "has changed" in str(again.failed())
            assert not source.resumes


@pytest.mark.parametrize("stays", [False, True], ids=["one number", "from there on"])
def test_an_index_that_leaps_beyond_the_clock_is_no_gap_of_years(stays: bool, broker: Broker) -> None:
    with sensing(broker.port) as sensor:
        sensor.say("ward/bed1/raw/info", encode_info(INFO), retain=True)
        source = open_mqtt(mqtt(broker.port))
        taken = Taking(source)
        sensor.say("ward/bed1/raw", FORMS[0](raw(0)))
        wait_for(lambda: taken.count == N, "the first block")
        far = 10**13
        sensor.say("ward/bed1/raw", FORMS[0](replace(raw(N), first=far + N)))
        assert "its index leapt" in str(taken.failed())
        assert source.resumes
        sensor.say("ward/bed1/raw", FORMS[0](replace(raw(2 * N), first=2 * N + (far if stays else 0))))
        with taking(source) as again:
            wait_for(lambda: again.count == N, "the block after it")
            assert (again.blocks[0].first, again.blocks[0].lost_before) == (0, 0)
        assert source.counters()["samples_lost"] == 0


def test_a_broker_that_goes_and_comes_back(broker: Broker) -> None:
    with sensing(broker.port) as sensor:
        sensor.say("ward/bed1/raw/info", encode_info(INFO), retain=True)
        source = open_mqtt(mqtt(broker.port))
        taken = Taking(source)
        sensor.say("ward/bed1/raw", FORMS[0](raw(0)))
        wait_for(lambda: taken.count == N, "the first block")
    broker.stop()
    assert "the broker has gone" in str(taken.failed())
    with taking(source) as again:
        broker.start()
        with sensing(broker.port) as sensor:

            def next_block() -> bool:
                sensor.say("ward/bed1/raw", FORMS[0](raw(int(time.monotonic() * 10))))
                time.sleep(0.1)
                return again.count > 0

            wait_for(next_block, "blocks after the broker came back")


def test_what_is_wrong_with_a_broker_is_said(program: Callable[[str], str], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="cannot be reached"):
        open_mqtt(mqtt(free_port()))
    with running_broker(program("mosquitto"), tmp_path, passwords={"edge": "right"}) as broker:
        secret = tmp_path / "secret"
        secret.write_text("wrong\n", encoding="utf-8")
        with pytest.raises(SourceError, match="refused the connection"):
            open_mqtt(mqtt(broker.port, broker={"username": "edge", "password_file": secret}))
        secret.write_text("right\n", encoding="utf-8")
        options = {"username": "edge", "password_file": secret}
        with pytest.raises(SourceError, match="nothing is retained on ward/bed1/raw/info"):
            open_mqtt(mqtt(broker.port, broker=options))
        with sensing(broker.port, username="edge", password="right") as sensor:
            sensor.say("ward/bed1/raw/info", b"hello", retain=True)
            with pytest.raises(SourceError, match="cannot be understood"):
                open_mqtt(mqtt(broker.port, broker=options))
            sensor.say("ward/bed1/raw/info", encode_info(INFO), retain=True)
            open_mqtt(mqtt(broker.port, broker=options)).close()


def test_more_blocks_than_are_taken_are_dropped_and_counted(broker: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.sources.mqtt_raw.MOST_QUEUED", 10)
    with sensing(broker.port) as sensor:
        sensor.say("ward/bed1/raw/info", encode_info(INFO), retain=True)
        source: MqttSamples = open_mqtt(mqtt(broker.port, reorder_s=0.0))
        for number in range(40):
            sensor.say("ward/bed1/raw", FORMS[0](raw(number)))
        wait_for(lambda: source.counters()["overruns"] == 30, "30 blocks too many")
        with taking(source) as taken:
            wait_for(lambda: taken.count == 10 * N, "those that were kept")
            sensor.say("ward/bed1/raw", FORMS[0](raw(40)))
            wait_for(lambda: taken.count == 11 * N, "the next")
            assert (taken.blocks[-1].lost_before, taken.blocks[-1].lost_exact) == (30 * N, True)


# -- LSL --------------------------------------------------------------------------------------------------------------

OUTLET = """
import json, sys, time, pylsl
name, sleep_at = sys.argv[1], int(sys.argv[2])
info = pylsl.StreamInfo(name, "ECG", 3, 250.0, "float32", name + "-id")
channels = info.desc().append_child("channels")
for label, unit in (("II", "microvolts"), ("ABP", "mmHg"), ("AUX", "")):
    channels.append_child("channel").append_child_value("label", label).append_child_value("unit", unit)
outlet = pylsl.StreamOutlet(info)
print("ready", flush=True)
assert outlet.wait_for_consumers(20)
began = pylsl.local_clock()
for i in range(750):
    at = i / 250 + (1.0 if i >= sleep_at else 0.0)
    while pylsl.local_clock() - began < at:
        time.sleep(0.001)
    outlet.push_sample([i, 80.0, 1.0], began + at)
print("sent", flush=True)
sys.stdin.readline()
"""


LSL_CONFIG = "[multicast]\nResolveScope = machine\n[lab]\nKnownPeers = {127.0.0.1}\n"
