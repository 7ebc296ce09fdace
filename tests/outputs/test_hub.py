"""The daemon with all its outputs on: requests, Home Assistant, metrics and the file of lines, against a real mosquitto."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
import wfdb
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.config import JsonlConfig
from edge_agent.outputs.requests import Requests
from tests.spine import (
    Broker,
    Listener,
    base_config,
    free_port,
    listening,
    running_agent,
    simulated,
    wait_for,
)


def ask(port: int, topic: str, payload: bytes, *, retain: bool = False) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", port)
    client.loop_start()
    client.publish(topic, payload, qos=1, retain=retain).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()


def responses(listener: Listener, kind: str) -> list[dict[str, Any]]:
    return [one.data for one in listener.heard if one.topic == f"edge-agent/dev/bridge/response/{kind}"]


def answered(listener: Listener, kind: str, many: int) -> bool:
    return len(responses(listener, kind)) == many


def test_requests_are_answered_and_the_hostile_ones_refused(broker: Broker, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed")) + "\n[requests]\nenabled = true\n"
    request = "edge-agent/dev/bridge/request"
    # Retained by somebody before the agent came: it must not be carried out.
    ask(broker.port, f"{request}/mark", b'{"stream": "bed", "text": "old", "transaction": "retained"}', retain=True)
    with listening(broker.port) as listener, running_agent(tmp_path, text):
        listener.wait("bed", "beat", seq=0)
        ask(broker.port, f"{request}/info", b'{"transaction": "t1"}')
        info = wait_for(lambda: responses(listener, "info"), "the answer")[0]
        assert (info["status"], info["transaction"]) == ("ok", "t1")
        assert info["data"]["schema"] == "edge-agent/info/1"
        ask(broker.port, f"{request}/mark", b'{"stream": "bed", "text": "patient moved", "transaction": "t2"}')
        mark = listener.wait("bed", "mark", text="patient moved")
        assert wait_for(lambda: responses(listener, "mark"), "the answer")[0]["data"]["sample"] == mark["sample"]
        hostile = [
            b"{",
            b"[1]",
            b"\xff\xfe",
            b'{"stream": "nowhere"}',
            b'{"stream": "bed", "text": 5}',
            b'{"stream": "bed", "text": " "}',
            b'{"stream": "bed"}',
            b'{"stream": "bed", "text": "' + b"x" * 201 + b'"}',
            b'{"stream": "bed", "text": "two\\nlines"}',
            b'{"stream": "bed", "path": "/etc/passwd"}',
            b'{"stream": "bed", "transaction": 5}',
            b"[" * 4000,
            b'{"text": "' + b"x" * 5000 + b'"}',
        ]
        for number, payload in enumerate(hostile):
            ask(broker.port, f"{request}/mark", payload)
            said = wait_for(lambda number=number: responses(listener, "mark")[number + 1 :], "a refusal")  # type: ignore[misc]
            assert said[0]["status"] == "error", payload
            assert said[0]["error"]
        ask(broker.port, f"{request}/nosuch", b"")
        assert "there are: info" in wait_for(lambda: responses(listener, "nosuch"), "the answer")[0]["error"]
        ask(broker.port, f"{request}/reload", b"")
        assert wait_for(lambda: responses(listener, "reload"), "the answer")[0]["status"] == "ok"
        ask(broker.port, f"{request}/info", b"")
        wait_for(lambda: len(responses(listener, "info")) == 2, "an answer after all that")
        assert len(listener.of("bed", "mark")) == 1


HALF = b'"\\ud800"'


@contextlib.contextmanager
def asked(
    answer: Callable[[str, Mapping[str, Any]], dict[str, Any]],
) -> Iterator[tuple[Requests, list[dict[str, Any]]]]:
    """The requests without a broker, and what they answered."""
    said: list[dict[str, Any]] = []
    these = Requests("edge-agent/dev", answer, lambda _, payload: said.append(json.loads(payload)))
    these.start()
    try:
        yield these, said
    finally:
        these.stop()


@pytest.mark.parametrize("payload", [b'{"transaction": %b}' % HALF, b'{"a": [{%b: 1}]}' % HALF, b'{"text": %b}' % HALF])
def test_half_a_character_is_refused_and_ends_nothing(payload: bytes) -> None:
    with asked(lambda _, arguments: {**arguments}) as (these, said):
        these.heard("edge-agent/dev/bridge/request/info", payload)
        these.heard("edge-agent/dev/bridge/request/info", b'{"transaction": "after"}')
        wait_for(lambda: len(said) == 2, "both answers")
    assert [one["status"] for one in said] == ["error", "ok"]
    assert "cannot be encoded" in said[0]["error"]
    assert said[1]["transaction"] == "after"


def test_a_misspelt_request_is_answered_if_its_name_is_fit_for_a_topic() -> None:
    topics: list[str] = []
    answers: list[dict[str, Any]] = []

    def respond(topic: str, payload: bytes) -> None:
        topics.append(topic)
        answers.append(json.loads(payload))

    these = Requests("edge-agent/dev", lambda *_: {}, respond)
    these.start()
    try:
        for name in ("verfy", "Verify", "é", "x" * 33, "", "#", "info"):
            these.heard(f"edge-agent/dev/bridge/request/{name}", b'{"transaction": "7"}')
        wait_for(lambda: len(answers) == 2, "the answers")
    finally:
        these.stop()
    assert topics == [f"edge-agent/dev/bridge/response/{name}" for name in ("verfy", "info")]
    assert [(one["status"], one["transaction"]) for one in answers] == [("error", "7"), ("ok", "7")]
    assert all(name in answers[0]["error"] for name in ("verfy", "verify", "acknowledge"))


def test_an_answer_that_cannot_be_sent_is_not_the_last(caplog: pytest.LogCaptureFixture) -> None:
    answers = iter([{"x": "\ud800"}, {"x": "well"}])
    with asked(lambda *_: next(answers)) as (these, said):
        for _ in range(2):
            these.heard("edge-agent/dev/bridge/request/info", b"")
        wait_for(lambda: said, "the second answer")
    assert [one["data"] for one in said] == [{"x": "well"}]
    assert "could not be sent" in caplog.text


def test_a_flood_of_requests_is_no_flood_of_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr("time.monotonic", lambda: now)
    done = threading.Semaphore(0)

    def answer(*_: object) -> dict[str, Any]:
        done.release()
        return {}

    def settle(count: int) -> None:
        for _ in range(count):
            assert done.acquire(timeout=10)

    with asked(answer) as (these, said):
        take = partial(these.heard, "edge-agent/dev/bridge/request/info")
        for _ in range(5000):
            take(b"")
        settle(20)
        for _ in range(100):  # ten seconds of a hundred a second
            now += 0.1
            for _ in range(10):
                take(b"")
            settle(1)
        these.stop()
    assert not done.acquire(blocking=False)
    refused = [one for one in said if one["status"] == "error"]
    assert len(said) - len(refused) == 20 + 100
    assert 10 <= len(refused) <= 12
    assert all("too many requests" in one["error"] for one in refused)


def test_a_silenced_alarm_is_shown_and_says_that_it_is_silenced(broker: Broker, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed", source='script = "demo"\nspeed = 20'))
    with listening(broker.port) as listener, running_agent(tmp_path, text + "\n[requests]\nenabled = true\n"):
        listener.wait("bed", "beat", seq=0)
        request = "edge-agent/dev/bridge/request/silence"
        for kind in ("asystole", "hypotension"):
            ask(broker.port, request, json.dumps({"stream": "bed", "kind": kind, "seconds": 3600}).encode())
        ask(broker.port, request, b'{"stream": "bed", "kind": "boredom", "seconds": 5}')
        ask(broker.port, request, b'{"stream": "bed", "kind": "asystole", "seconds": true}')
        ask(broker.port, request, b'{"stream": "bed", "kind": "asystole", "seconds": 1e9}')
        wait_for(lambda: len(responses(listener, "silence")) == 5, "the answers")
        assert [one["status"] for one in responses(listener, "silence")] == ["ok", "ok", "error", "error", "error"]
        alarm = listener.wait("bed", "alarm", kind="asystole")
        assert alarm["silenced"] is True
        others = [one for one in listener.of("bed", "alarm") if one["kind"] not in ("asystole", "hypotension")]
        assert others
        assert not any(one["silenced"] for one in others)


def test_requests_are_off_unless_asked_for(broker: Broker, tmp_path: Path) -> None:
    with listening(broker.port) as listener, running_agent(tmp_path, base_config(broker.port, simulated("bed"))):
        listener.wait("bed", "beat", seq=0)
        ask(broker.port, "edge-agent/dev/bridge/request/info", b"")
        listener.wait("bed", "beat", seq=3)
        assert responses(listener, "info") == []
        assert not [one for one in listener.heard if one.topic.startswith("homeassistant")]


def test_metrics_say_what_health_says(broker: Broker, tmp_path: Path) -> None:
    port = free_port()
    text = base_config(broker.port, simulated("bed")) + f"\n[metrics]\nport = {port}\n"
    with listening(broker.port) as listener, running_agent(tmp_path, text):
        listener.wait("bed", "beat", seq=3)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
            page = answer.read().decode()
    values = dict(line.rsplit(" ", 1) for line in page.splitlines() if not line.startswith("#"))
    assert float(values['edge_agent_stream_beats_total{stream="bed"}']) >= 4
    assert values["edge_agent_broker_connected"] == "1.0"
    assert values['edge_agent_stream_online{stream="bed"}'] == "1.0"
    assert 0 < float(values['edge_agent_latency_seconds{quantile="0.5",stage="queue"}']) < 1
    assert float(values["edge_agent_resident_megabytes"]) > 10


def test_a_port_that_is_taken_is_one_clear_line(broker: Broker, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed")) + f"\n[metrics]\nport = {broker.port}\n"
    with running_agent(tmp_path, text) as agent:
        assert agent.wait() == 1
        assert "cannot be listened on" in agent.log
        assert "Traceback" not in agent.log


def test_the_file_of_lines_holds_what_was_published(broker: Broker, tmp_path: Path) -> None:
    assert JsonlConfig(path=Path("x")).keep >= 1
    text = base_config(broker.port, simulated("bed")) + '\n[jsonl]\npath = "lines/events.jsonl"\n'
    with listening(broker.port) as listener:
        with running_agent(tmp_path, text) as agent:
            listener.wait("bed", "beat", seq=5)
            agent.signal(signal.SIGTERM)
            agent.wait()
        heard = {one.payload for one in listener.heard if one.kind in ("beat", "verdict", "quality", "rhythm", "alarm")}
    lines = set((tmp_path / "lines" / "events.jsonl").read_bytes().splitlines())
    assert len(heard) > 6
    assert heard <= lines


def test_the_recorder_keeps_the_signal_of_the_alarm(broker: Broker, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed", source='script = "demo"\nspeed = 20'))
    text += '\n[recorder]\nfolder = "recordings"\nmode = "events"\nbefore_s = 10\n'
    with listening(broker.port) as listener, running_agent(tmp_path, text) as agent:
        alarm = listener.wait("bed", "alarm", state="raised")
        listener.wait("bed", "alarm", state="cleared", id=alarm["id"])
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
        beats = [one["sample"] for one in listener.of("bed", "beat") if one["channel"] == alarm["channel"]]
    headers = sorted((tmp_path / "recordings" / "bed").glob("*.hea"))
    assert headers
    record = wfdb.rdrecord(str(headers[0].with_suffix("")))
    first = int(headers[0].stem.rsplit("-", 1)[1])
    assert first < alarm["sample"] - 9 * record.fs
    assert alarm["sample"] + 9 * record.fs < first + record.sig_len
    found = wfdb.rdann(str(headers[0].with_suffix("")), "edge")
    assert f"{alarm['kind']} raised" in [text.rstrip("\0") for text in found.aux_note]
    channel = record.sig_name.index(alarm["channel"])
    kept = {
        first + int(at)
        for at, c, s in zip(found.sample, found.chan, found.symbol, strict=True)
        if s in "NSVFQ" and c == channel
    }
    assert kept == {at for at in beats if first <= at < first + record.sig_len}


def test_an_alarm_is_acknowledged_and_limits_are_changed_while_it_runs(broker: Broker, tmp_path: Path) -> None:
    stream = simulated("a", source='script = "sinus"\nspeed = 10\nforever = true\n')
    text = base_config(broker.port, stream) + "[requests]\nenabled = true\n"
    asked = [
        ("acknowledge", {"stream": "a", "kind": "asystole"}),
        ("acknowledge", {"stream": "a", "kind": "nothing"}),
        ("limits", {"stream": "a", "limits": {"bradycardia_per_min": 110, "latching": ["bradycardia"]}}),
        ("limits", {"stream": "a", "limits": {"asystole_s": 0}}),
        ("limits", {"stream": "b", "limits": {"asystole_s": 5}}),
    ]
    with listening(broker.port) as listener, running_agent(tmp_path, text):
        listener.wait("a", "state")
        client = listener._client
        for kind, arguments in asked:
            client.publish(f"edge-agent/dev/bridge/request/{kind}", json.dumps(arguments), qos=1)
        for kind, many in (("limits", 3), ("acknowledge", 2)):
            wait_for(partial(answered, listener, kind, many), "the answers")
        assert [one["status"] for one in responses(listener, "acknowledge")] == ["ok", "error"]
        assert [one["status"] for one in responses(listener, "limits")] == ["ok", "error", "error"]
        assert responses(listener, "limits")[0]["data"]["limits"]["bradycardia_per_min"] == 110
        listener.wait("a", "alarm", kind="bradycardia", state="raised")  # 70 to the minute are too few now
        client.publish(
            "edge-agent/dev/bridge/request/limits",
            json.dumps({"stream": "a", "limits": {"bradycardia_per_min": None}}),  # as the file has it
            qos=1,
        )
        listener.wait("a", "alarm", kind="bradycardia", state="updated", active=False)
        client.publish(
            "edge-agent/dev/bridge/request/acknowledge", json.dumps({"stream": "a", "kind": "bradycardia"}), qos=1
        )
        listener.wait("a", "alarm", kind="bradycardia", state="cleared", acknowledged=True)
