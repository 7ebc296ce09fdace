"""The publisher against a real mosquitto: birth and death, reconnecting, refusal, and what is lost while the broker is away."""

from __future__ import annotations

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from edge_agent import config, events
from edge_agent.config import MqttConfig
from edge_agent.outputs.mqtt import MqttPublisher
from tests.spine import (
    Broker,
    base_config,
    free_port,
    listening,
    release,
    retained_now,
    running_agent,
    running_broker,
    simulated,
    wait_for,
)

DEVICE = "dev"
STATE = f"edge-agent/{DEVICE}/bridge/state"
PASSWORD = "correct-horse-battery"


@pytest.fixture
def publishers() -> Iterator[Callable[..., MqttPublisher]]:
    """Makes publishers, and lets none outlive its test."""
    made: list[MqttPublisher] = []

    def make(port: int, **settings: Any) -> MqttPublisher:
        made.append(MqttPublisher(MqttConfig(host="127.0.0.1", port=port, **settings), DEVICE))
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop(5.0)
        release(publisher.link._client)


def header(number: int) -> dict[str, Any]:
    return {
        "seq": number,
        "session": "s",
        "device": DEVICE,
        "stream": "bed",
        "sample": number,
        "time": None,
        "known": number,
        "arrived": None,
        "latency": events.Latency(algorithm_ms=0.0, queue_ms=None, compute_ms=None),
    }


def beat(number: int) -> events.Beat:
    return events.Beat(**header(number), channel="II", confidence=1.0, rr_ms=None)


def gap(number: int) -> events.Gap:
    return events.Gap(**header(number), first=number - 1, lost=1, exact=True, cause="test")


def availability(state: str) -> events.Availability:
    return events.Availability.model_validate(
        {"device": DEVICE, "stream": "bed", "state": state, "reason": "test", "time": datetime.now(UTC)}
    )


def test_birth_and_a_clean_death(broker: Broker, publishers: Callable[..., MqttPublisher]) -> None:
    publisher = publishers(broker.port)
    with listening(broker.port) as listener:
        publisher.start()
        listener.wait("bridge", "state", state="online")
        assert retained_now(broker.port)[STATE] == {"state": "online"}
        assert publisher.stop() is True
        listener.wait("bridge", "state", state="offline")
        assert retained_now(broker.port)[STATE] == {"state": "offline"}
        # Once: a will after the goodbye would mean that the link was dropped, not closed.
        assert [one["state"] for one in listener.of("bridge", "state")] == ["online", "offline"]


def test_the_will_speaks_for_an_agent_that_was_killed(broker: Broker, tmp_path: Path) -> None:
    with (
        listening(broker.port) as listener,
        running_agent(tmp_path, base_config(broker.port, simulated("bed"))) as agent,
    ):
        listener.wait("bridge", "state", state="online")
        agent.signal(signal.SIGKILL)
        agent.wait()
        listener.wait("bridge", "state", state="offline")
    assert retained_now(broker.port)[STATE] == {"state": "offline"}


def test_a_broker_that_comes_back_empty_is_told_everything_again(
    broker: Broker, publishers: Callable[..., MqttPublisher]
) -> None:
    publisher = publishers(broker.port)
    publisher.start()
    wait_for(lambda: publisher.connected, "the connection")
    publisher.message("bed/availability", availability("online"))
    publisher.message("bridge/info", events.BridgeState(state="online"))  # any message will do
    wait_for(lambda: len(retained_now(broker.port)) == 3, "all that is retained")
    broker.stop()
    wait_for(lambda: not publisher.connected, "the loss to be seen")
    publisher.message("bed/availability", availability("offline"))
    assert publisher.waiting == 0  # only the newest of what is retained waits, and not in the queue
    broker.start()
    wait_for(lambda: publisher.connected, "the second connection")
    kept = wait_for(lambda: len(now := retained_now(broker.port)) == 3 and now, "all that is retained, again")
    assert kept[STATE] == {"state": "online"}
    assert kept[f"edge-agent/{DEVICE}/bridge/info"] == {"state": "online"}
    assert kept[f"edge-agent/{DEVICE}/bed/availability"]["state"] == "offline"
    assert publisher.link.connects == 2


def test_a_change_while_connecting_is_not_undone(broker: Broker, publishers: Callable[..., MqttPublisher]) -> None:
    """Another thread says something new just when the connect publishes what was retained."""
    publisher = publishers(broker.port)
    topic = f"edge-agent/{DEVICE}/bed/availability"
    publisher.retain(topic, b'{"state":"old"}')
    send = publisher.link._client.publish
    others: list[threading.Thread] = []

    def publish(to: str, payload: bytes, **how: Any) -> Any:
        if payload == b'{"state":"old"}' and not others:
            others.append(threading.Thread(target=publisher.retain, args=(topic, b'{"state":"new"}')))
            others[0].start()
            others[0].join(0.5)
        return send(to, payload, **how)

    publisher.link._client.publish = publish  # type: ignore[method-assign,assignment]
    publisher.start()
    wait_for(lambda: others and not others[0].is_alive(), "both to have been said")
    wait_for(lambda: publisher.waiting == 0, "the broker to have all")
    assert retained_now(broker.port)[topic] == {"state": "new"}


def test_a_refused_connection_is_no_connection(
    program: Callable[[str], str],
    publishers: Callable[..., MqttPublisher],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)
    with running_broker(program("mosquitto"), tmp_path, passwords={"edge": PASSWORD}) as broker:
        monkeypatch.setenv(config.PASSWORD_VARIABLE, "wrong-password")
        publisher = publishers(broker.port, username="edge")
        publisher.start()
        where = f"the broker at 127.0.0.1:{broker.port}"
        wait_for(lambda: f"{where} refused the connection: Not authorized" in caplog.text, "the refusal in the log")
        assert not publisher.connected
        assert publisher.link.connects == 0
        assert "cannot be reached" not in caplog.text
        publisher.event(beat(1))
        assert publisher.counters.dropped == 1
        publisher.stop(0.5)
        monkeypatch.setenv(config.PASSWORD_VARIABLE, PASSWORD)
        publisher = publishers(broker.port, username="edge")
        publisher.start()
        wait_for(lambda: publisher.connected, "the connection with the right password")
    assert "wrong-password" not in caplog.text
    assert PASSWORD not in caplog.text


def test_an_absent_broker_is_named(
    program: Callable[[str], str],
    publishers: Callable[..., MqttPublisher],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    absent = Broker(program("mosquitto"), tmp_path)
    publisher = publishers(absent.port)
    attempts: list[None] = []
    told = publisher.link._not_connected

    def failed(error: Exception) -> None:
        told(error)
        attempts.append(None)

    publisher.link._not_connected = failed  # type: ignore[method-assign]
    publisher.start()
    text = f"the broker at 127.0.0.1:{absent.port} cannot be reached"
    wait_for(lambda: len(attempts) >= 2, "two attempts")
    assert text in caplog.text
    assert "refused the connection" not in caplog.text
    assert not publisher.connected
    try:
        absent.start()
        wait_for(lambda: publisher.connected, "the connection once it is there")
        assert caplog.text.count(text) == 1  # said once, not at every attempt
    finally:
        absent.stop()


def test_what_the_broker_misses_is_kept_up_to_a_bound_and_counted(
    broker: Broker, publishers: Callable[..., MqttPublisher]
) -> None:
    publisher = publishers(broker.port, queue_messages=100)
    for number in range(7):
        publisher.event(beat(number))  # QoS 0 is for now or never
    assert publisher.counters.dropped == 7
    publisher.message("bed/availability", availability("online"))
    for number in range(150):
        publisher.event(gap(number))
    assert publisher.waiting == 100
    assert (publisher.counters.dropped, publisher.lost) == (7, 50)
    with listening(broker.port) as listener:
        publisher.start()
        wait_for(lambda: publisher.waiting == 0 and publisher.connected, "all that waited")
        wait_for(lambda: len(listener.of("bed", "gap")) >= 100, "all that waited to be heard")
        assert [one["seq"] for one in listener.of("bed", "gap")] == list(range(100))
        assert listener.of("bed", "beat") == []
        # A full queue keeps out neither the birth nor what is retained.
        kept = retained_now(broker.port)
        assert kept[STATE] == {"state": "online"}
        assert kept[f"edge-agent/{DEVICE}/bed/availability"]["state"] == "online"
        publisher.event(beat(1000))
        listener.wait("bed", "beat", seq=1000)
        assert (publisher.counters.dropped, publisher.lost) == (7, 50)


def test_messages_of_qos_1_outlive_an_outage(broker: Broker, publishers: Callable[..., MqttPublisher]) -> None:
    publisher = publishers(broker.port)
    publisher.start()
    wait_for(lambda: publisher.connected, "the connection")
    broker.stop()
    wait_for(lambda: not publisher.connected, "the loss to be seen")
    for number in range(20):
        publisher.event(gap(number))
    broker.start()
    wait_for(lambda: publisher.connected and publisher.waiting == 0, "all that waited to be acknowledged")
    assert publisher.counters.dropped == 0
    assert publisher.counters.published >= 20


def test_secrets_are_said_nowhere(program: Callable[[str], str], tmp_path: Path) -> None:
    with running_broker(program("mosquitto"), tmp_path, passwords={"edge": PASSWORD, "reader": "r"}) as broker:
        (tmp_path / "secret-file").write_text(PASSWORD + "\n", encoding="utf-8")
        text = base_config(broker.port, simulated("bed"), mqtt='username = "edge"\npassword_file = "secret-file"')
        with (
            listening(broker.port, username="reader", password="r") as listener,
            running_agent(tmp_path, text, verbose=True) as agent,
        ):
            listener.wait("bridge", "info")
            listener.wait("bridge", "health")
            listener.wait("bed", "beat")
            agent.signal(signal.SIGHUP)
            agent.wait_log("reloaded")
            agent.signal(signal.SIGTERM)
            assert agent.wait() == 0
            shown = listener.of("bridge", "info")[0]["config"]["mqtt"]
            assert (shown["username"], shown["password_file"]) == ("(set)", "(set)")
            said = agent.log + "".join(one.topic + one.payload.decode() for one in listener.heard)
    assert PASSWORD not in said
    assert "secret-file" not in said


def test_an_unreadable_password_is_one_clear_message(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"\xff\xfe\x00")
    text = base_config(free_port(), simulated("bed"), mqtt='username = "edge"\npassword_file = "secret"')
    with running_agent(tmp_path, text) as agent:
        assert agent.wait() == 1
        assert "the password cannot be read" in agent.log
        assert "Traceback" not in agent.log
