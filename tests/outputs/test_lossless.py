"""Nothing of QoS 1 is lost: brokers that come and go, agents that are killed, disks that fill. Against a real mosquitto."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import random
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from edge_agent.config import MqttConfig
from edge_agent.outputs.mqtt import MqttPublisher
from edge_agent.outputs.outbox import Bounds, Outbox
from tests.conftest import ROOT
from tests.outputs.test_mqtt import DEVICE, beat, gap
from tests.spine import (
    Broker,
    Heard,
    Listener,
    base_config,
    listening,
    release,
    running_agent,
    running_broker,
    simulated,
    wait_for,
)

BOUNDS = Bounds(max_bytes=50_000_000, max_age_s=1e9)
PROTOCOLS = ("3.1.1", "5")


@pytest.fixture
def broker(program: Callable[[str], str], tmp_path: Path) -> Iterator[Broker]:
    with running_broker(program("mosquitto"), tmp_path, keep=True) as broker:
        yield broker


@pytest.fixture
def publishers(tmp_path: Path) -> Iterator[Callable[..., MqttPublisher]]:
    made: list[MqttPublisher] = []

    def make(port: int, folder: Path = tmp_path, *, wait_s: float = 0.0, **settings: Any) -> MqttPublisher:
        box = Outbox(folder / "dev.outbox", BOUNDS)
        config = MqttConfig(host="127.0.0.1", port=port, qos_beats=1, **settings)
        made.append(MqttPublisher(config, DEVICE, box, beats_wait_s=wait_s))
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop(1.0)
        release(publisher.link._client)


def first_hearings(heard: list[Heard]) -> dict[tuple[str, str], list[int]]:
    """Sequence numbers by session and topic, repeats left out: what a subscriber that knows of at-least-once has."""
    found: dict[tuple[str, str], list[int]] = defaultdict(list)
    seen: set[tuple[str, str, int]] = set()
    for one in heard:
        if one.retained or one.kind in ("state", "info", "health", "engine", "availability"):
            continue
        key = (one.data["session"], one.topic)
        if (*key, one.data["seq"]) not in seen:
            seen.add((*key, one.data["seq"]))
            found[key].append(one.data["seq"])
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_flapping_broker_costs_nothing_and_order_is_kept(
    broker: Broker, publishers: Callable[..., MqttPublisher], protocol: str
) -> None:
    publisher = publishers(broker.port, protocol=protocol)
    rng = random.Random(protocol)
    count = 4000
    with listening(broker.port, name="archive") as listener:
        publisher.start()

        def publish() -> None:
            for number in range(count):
                publisher.event(beat(number))
                publisher.event(gap(number))
                if number % 10 == 0:
                    time.sleep(rng.uniform(0, 0.02))

        busy = threading.Thread(target=publish)
        busy.start()
        for _ in range(2):
            time.sleep(0.8)
            broker.stop(politely=True)
            time.sleep(rng.uniform(0.1, 0.5))
            broker.start()
        busy.join()
        wait_for(lambda: publisher.connected and publisher.waiting == 0, "all to be acknowledged", 60)
        for kind in ("beat", "gap"):
            key = ("s", f"edge-agent/{DEVICE}/bed/{kind}")
            wait_for(lambda key=key: len(first_hearings(listener.heard)[key]) == count, f"every {kind}")  # type: ignore[misc]
            assert first_hearings(listener.heard)[key] == list(range(count))
    assert (publisher.lost, publisher.counters.dropped) == (0, 0)


@pytest.mark.parametrize("how", ["closed", "gone"])
def test_sockets_that_are_closed_while_a_message_is_handed_over_cost_nothing(
    broker: Broker, publishers: Callable[..., MqttPublisher], how: str
) -> None:
    """The thread that connects takes an ended connection down while the publisher's still gives it a message: on a busy machine a message
    was neither sent nor kept then, and waited for the next start."""
    publisher = publishers(broker.port)
    make, calls = publisher.link._make_client, iter(range(1_000_000))

    def made() -> Any:
        client = make()
        publish = client.publish

        def at_that_very_moment(*message: Any, **more: Any) -> Any:
            if next(calls) != 20:
                return publish(*message, **more)
            wake = client._sockpairW
            try:
                if how == "closed":
                    client._sockpairW = socket.socket()
                    client._sockpairW.close()
                else:
                    client._sockpairW = cast(
                        "socket.socket", object()
                    )  # paho asks whether it is None, and then uses it
                return publish(*message, **more)
            finally:
                client._sockpairW = wake

        client.publish = at_that_very_moment  # type: ignore[method-assign]
        return client

    publisher.link._make_client = made  # type: ignore[method-assign]
    publisher.link._client = made()
    with listening(broker.port, name="archive") as listener:
        publisher.start()
        for number in range(60):
            publisher.event(gap(number))
            time.sleep(0.005)
        wait_for(lambda: publisher.connected and publisher.waiting == 0, "all to be acknowledged")
        key = ("s", f"edge-agent/{DEVICE}/bed/gap")
        wait_for(lambda: len(first_hearings(listener.heard)[key]) == 60, "every one")
    assert next(calls) > 21
    assert publisher.lost == 0


def test_nothing_overtakes_what_was_on_its_way_when_the_link_broke(
    broker: Broker, publishers: Callable[..., MqttPublisher]
) -> None:
    publisher = publishers(broker.port)
    link = publisher.link
    wire: list[int] = []
    make, up = link._make_client, link._on_up

    def observed() -> Any:
        client = make()
        send = client._send_publish

        def sent(mid: int, topic: bytes, payload: bytes = b"", *rest: Any, **options: Any) -> Any:
            if topic.endswith(b"/gap"):
                wire.append(json.loads(payload)["seq"])
            return send(mid, topic, payload, *rest, **options)

        client._send_publish = sent  # type: ignore[method-assign,assignment]
        return client

    def slowly() -> None:
        up()
        time.sleep(0.3)  # the network's thread is slow, the sending one is not

    link._make_client, link._on_up = observed, slowly  # type: ignore[method-assign]
    link._client = observed()
    publisher.start()
    wait_for(lambda: publisher.connected, "the connection")
    assert broker.process is not None
    broker.process.send_signal(signal.SIGSTOP)  # it acknowledges nothing
    for number in range(20):
        publisher.event(gap(number))
    wait_for(lambda: len(wire) == 20, "all to be on their way")
    broker.stop()
    wait_for(lambda: not publisher.connected, "the loss to be seen")
    wire.clear()
    for number in range(20, 40):
        publisher.event(gap(number))
    broker.start()
    wait_for(lambda: publisher.connected and publisher.waiting == 0, "all to be acknowledged")
    assert wire == list(range(40))


def test_what_was_not_delivered_is_sent_by_the_next_start(
    broker: Broker, publishers: Callable[..., MqttPublisher]
) -> None:
    broker.stop()
    first = publishers(broker.port)
    first.start()
    for number in range(1500):  # more than is kept in memory
        first.event(gap(number))
    wait_for(lambda: first._outbox.waiting == 1500, "all to be on the disk")  # type: ignore[union-attr]
    first.stop(0.2)
    broker.start()
    with listening(broker.port) as listener:
        second = publishers(broker.port)
        assert second.waiting == 1500
        second.start()
        second.event(gap(1500))
        wait_for(lambda: len(listener.of("bed", "gap")) >= 1501, "all to be heard")
        assert [one["seq"] for one in listener.of("bed", "gap")] == list(range(1501))
        wait_for(lambda: second.waiting == 0, "all to be acknowledged")
        second.stop(1.0)
    box = Outbox(second._outbox.path, BOUNDS)  # type: ignore[union-attr]
    assert box.waiting == 0  # nothing is sent a third time
    box.close()


def test_beats_may_wait_to_be_written_together_and_alarms_may_not(
    broker: Broker, publishers: Callable[..., MqttPublisher]
) -> None:
    publisher = publishers(broker.port, wait_s=2.0)
    with listening(broker.port) as listener:
        publisher.start()
        wait_for(lambda: publisher.connected, "the connection")
        began = time.monotonic()
        for number in range(10):
            publisher.event(beat(number))
        publisher.retain("edge-agent/dev/bed/state", b'{"fresh": true}')  # state does not wait, and hurries nobody
        wait_for(lambda: any(one.kind == "state" and one.stream == "bed" for one in listener.heard), "the state")
        assert listener.of("bed", "beat") == []
        wait_for(lambda: len(listener.of("bed", "beat")) == 10, "the beats")
        assert time.monotonic() - began >= 2.0
        began = time.monotonic()
        publisher.event(beat(10))
        publisher.event(gap(0))  # of a rank that may not wait: and nothing overtakes
        wait_for(lambda: listener.of("bed", "gap"), "the gap")
        assert time.monotonic() - began < 1.5
        kinds = [one.kind for one in listener.heard if one.kind in ("beat", "gap")]
        assert kinds[-2:] == ["beat", "gap"]


def test_a_full_disk_costs_durability_not_messages(
    broker: Broker, publishers: Callable[..., MqttPublisher], tiny_disk: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    publisher = publishers(broker.port, tiny_disk)
    ballast = tiny_disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 600_000)
    with listening(broker.port) as listener:
        publisher.start()
        for number in range(300):
            publisher.event(gap(number))
        wait_for(lambda: len(listener.of("bed", "gap")) >= 300, "all to be heard")
        assert publisher.disk_fault is not None
        assert publisher.health().outbox.disk != "ok"  # type: ignore[union-attr]
        assert caplog.text.count("cannot be written") == 1
        ballast.unlink()
        number, deadline = 300, time.monotonic() + 30
        while publisher.disk_fault is not None and time.monotonic() < deadline:  # it is tried every five seconds
            publisher.event(gap(number))
            number += 1
            time.sleep(0.3)
        assert publisher.disk_fault is None
        wait_for(lambda: len(listener.of("bed", "gap")) >= number, "the last one")
        assert [one["seq"] for one in listener.of("bed", "gap")] == list(range(number))
    assert publisher.lost == 0


def test_what_neither_disk_nor_memory_can_keep_is_counted_and_alarms_are_kept_longest(
    broker: Broker, publishers: Callable[..., MqttPublisher], tiny_disk: Path
) -> None:
    broker.stop()
    publisher = publishers(broker.port, tiny_disk, queue_messages=100)
    with contextlib.suppress(OSError):
        (tiny_disk / "ballast").write_bytes(b"x" * 600_000)
    publisher.start()
    for number in range(40):
        publisher.event(gap(number))
        time.sleep(0.001)
    for number in range(400):
        publisher.event(beat(number))
        time.sleep(0.001)
    wait_for(lambda: publisher.lost + len(publisher._parcels.at_hand) == 440, "all to be sorted")
    kept = [parcel.topic.rsplit("/", 1)[-1] for parcel in publisher._parcels.at_hand]
    assert kept.count("gap") == 40
    assert 50 <= kept.count("beat") <= 60 + 5
    assert publisher.lost == 440 - len(kept)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_ten_minutes_without_a_broker_and_two_kills_of_the_agent(broker: Broker, tmp_path: Path, protocol: str) -> None:
    """A subscriber with a persistent session ends with every event that the agent had made durable, in order."""
    speed = 60
    text = base_config(
        broker.port,
        simulated("bed", source=f'script = "demo"\nspeed = {speed}'),
        mqtt=f'qos_beats = 1\nprotocol = "{protocol}"',
    )
    lines = tmp_path / "events.jsonl"
    text += f'\n[jsonl]\npath = "{lines}"\n'
    outbox = tmp_path / "dev.outbox"

    def minutes_go_by() -> None:
        """Five of the patient's, with an alarm among them: a busy machine takes longer."""
        had = lines.read_bytes() if lines.exists() else b""
        wait_for(
            lambda: (
                (now := lines.read_bytes()).count(b"\n") > had.count(b"\n") + 350
                and now.count(b"edge-agent/alarm/") > had.count(b"edge-agent/alarm/")
            ),
            "five minutes and an alarm",
            120,
        )

    with listening(broker.port, name="archive") as listener:
        durable: set[bytes] = set()
        with running_agent(tmp_path, text) as agent:
            listener.wait("bed", "beat", seq=50)
            broker.stop(politely=True)
            minutes_go_by()
            agent.signal(signal.SIGKILL)
            agent.wait()
        durable |= on_disk(outbox)
        assert len(durable) > 300
        with running_agent(tmp_path, text) as agent:
            minutes_go_by()
            agent.signal(signal.SIGKILL)
            agent.wait()
        durable |= on_disk(outbox)
        broker.start()
        with running_agent(tmp_path, text) as agent:
            wait_for(lambda: len(sessions(listener)) >= 3, "the third session to be heard")
            time.sleep(1)
            agent.signal(signal.SIGTERM)
            assert agent.wait() == 0
        durable |= on_disk(outbox)
        last = list(sessions(listener))[-1]
        wait_for(lambda: durable <= {one.payload for one in listener.heard}, "all that was on the disk")
        hearings = first_hearings(listener.heard)
    assert on_disk(outbox) == set()
    assert last
    for (session, topic), numbers in hearings.items():
        assert numbers == list(range(len(numbers))), (session, topic)
    alarms = [topic for _, topic in hearings if topic.endswith("/alarm")]
    assert len(alarms) >= 2  # the demo's patient raised some in each of the sessions


def sessions(listener: Listener) -> dict[str, None]:
    return {one.data["session"]: None for one in listener.heard if one.kind == "beat"}


def on_disk(path: Path) -> set[bytes]:
    """The payloads that a killed agent left."""
    db = sqlite3.connect(path)
    try:
        found: set[bytes] = set()
        for rank in ("beats", "events", "alarms"):
            found |= {row[0] for row in db.execute(f"SELECT payload FROM {rank}")}
        return found
    finally:
        db.close()


def test_a_link_that_drops_every_tenth_packet(program: Callable[[str], str], tmp_path: Path) -> None:
    unshare, nft = program("unshare"), program("nft")
    chain = "{ type filter hook input priority 0; policy accept; }"
    script = f"""
        set -e
        ip link set lo up
        {nft} add table inet lossy
        {nft} 'add chain inet lossy in {chain}'
        {nft} 'add rule inet lossy in numgen random mod 10 == 0 counter drop'
        {sys.executable} -m tests.outputs.lossy {program("mosquitto")} {tmp_path}
        {nft} list ruleset >&2
    """
    done = subprocess.run([unshare, "-n", "sh", "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=280)
    if "Operation not permitted" in done.stderr and not os.environ.get("CI"):
        pytest.skip("no right to make a network namespace")
    assert done.returncode == 0, done.stderr
    dropped = int(done.stderr.split("counter packets ")[1].split()[0])
    assert dropped > 20, "the link lost nothing, so nothing was tried"
    heard = json.loads(done.stdout)
    for kind in ("beat", "gap"):
        assert list(dict.fromkeys(heard[kind])) == list(range(600)), kind
