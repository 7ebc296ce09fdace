"""Requests without a broker: every answer, and what is refused before anybody is asked."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from typing import Any

import pytest

from edge_agent.errors import RequestError
from edge_agent.outputs import requests as module
from edge_agent.outputs.requests import BURST, MOST_BYTES, Bucket, Requests


class Asked:
    """Requests, whom they ask, and what was answered."""

    def __init__(self) -> None:
        self.heard: list[tuple[str, dict[str, Any]]] = []
        self.said: list[tuple[str, dict[str, Any]]] = []
        self.requests = Requests(
            "edge-agent/dev", self._answer, lambda topic, payload: self.said.append((topic, json.loads(payload)))
        )

    def _answer(self, kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        self.heard.append((kind, dict(arguments)))
        if "bad" in arguments:
            raise RequestError("that is wrong")
        if "worse" in arguments:
            raise ZeroDivisionError("a secret")
        return {"done": kind}

    def ask(self, kind: str, payload: bytes) -> dict[str, Any]:
        return self.requests._carry_out(kind, payload).model_dump()


@pytest.mark.parametrize(
    ("kind", "payload", "error"),
    [
        ("mark", b" " * (MOST_BYTES + 1), f"longer than {MOST_BYTES} bytes"),
        ("mark", b"{", "not JSON"),
        ("mark", b"\xff", "not JSON"),
        ("mark", b"[" * 4000, "not JSON"),
        ("mark", b'{"text": "\\ud800"}', "holds text that cannot be encoded"),
        ("mark", b"[1]", "a JSON object is wanted"),
        ("silence", b'{"seconds": 5, "stream": "a", "seconds": 3600}', "the key 'seconds' stands twice"),
        ("limits", b'{"stream": "a", "limits": {"pause_s": 2, "pause_s": 2}}', "the key 'pause_s' stands twice"),
        ("mark", b'{"\\ud800": 1, "\\ud800": 2}', r"the key '\ud800' stands twice"),
        ("mark", b'{"a": 1, "\\u0061": 2}', "the key 'a' stands twice"),
        ("mark", b'{"transaction": 5}', "transaction: a text of at most 128 characters is wanted"),
        (
            "mark",
            json.dumps({"transaction": "x" * 129}).encode(),
            "transaction: a text of at most 128 characters is wanted",
        ),
        ("shutdown", b"", "there is no request 'shutdown'; there are: info, reload, measure, mark"),
    ],
)
def test_what_nobody_is_asked(kind: str, payload: bytes, error: str) -> None:
    asked = Asked()
    said = asked.ask(kind, payload)
    assert said["status"] == "error"
    assert said["error"].startswith(error)
    assert asked.heard == []


def test_answers_carry_their_transaction(caplog: pytest.LogCaptureFixture) -> None:
    asked = Asked()
    caplog.set_level(logging.INFO)
    assert asked.ask("info", b"")["data"] == {"done": "info"}
    said = asked.ask("mark", json.dumps({"transaction": "x" * 128, "stream": "bed"}).encode())
    assert (said["status"], said["transaction"], said["data"]) == ("ok", "x" * 128, {"done": "mark"})
    assert asked.heard == [("info", {}), ("mark", {"stream": "bed"})]
    wrong = asked.ask("mark", b'{"bad": 1, "transaction": "t"}')
    assert (wrong["status"], wrong["error"], wrong["transaction"]) == ("error", "that is wrong", "t")
    fault = asked.ask("mark", b'{"worse": 1, "transaction": "t"}')
    assert (fault["status"], fault["transaction"]) == ("error", "t")
    assert "secret" not in fault["error"]  # that is for the log alone
    assert "a secret" in caplog.text
    assert asked.ask("mark", b" " * (MOST_BYTES - 2) + b"{}")["status"] == "ok"


def test_topics_that_are_fit_to_be_one() -> None:
    asked = Asked()
    requests = asked.requests
    requests.start()
    for kind in ("info", "Info", "a/../b c", "x" * 33, ""):
        requests.heard(f"edge-agent/dev/bridge/request/{kind}", b"")
    requests.heard("edge-agent/dev/bridge/request/" + "x" * 32, b"")
    requests.stop()
    assert [topic.rpartition("/")[2] for topic, _ in asked.said] == ["info", "x" * 32]
    assert asked.said[0][0] == "edge-agent/dev/bridge/response/info"
    assert requests.listen == {"edge-agent/dev/bridge/request/+": requests.heard}


def test_a_flood_is_refused_once_a_second(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    asked = Asked()
    for _ in range(BURST + 5):
        asked.requests.heard("edge-agent/dev/bridge/request/info", b"")
    assert [said["error"] for _, said in asked.said] == ["too many requests; try again later"]
    now[0] += 1.0
    for _ in range(int(module.PER_S) + 3):
        asked.requests.heard("edge-agent/dev/bridge/request/info", b"")
    assert len(asked.said) == 2


def test_a_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    bucket = Bucket(2, 4.0)
    assert [bucket.take() for _ in range(3)] == [True, True, False]
    now[0] += 0.125
    assert not bucket.take()
    now[0] += 0.125
    assert [bucket.take(), bucket.take()] == [True, False]
    now[0] += 100
    assert [bucket.take() for _ in range(3)] == [True, True, False]


def test_one_answer_that_cannot_be_sent_does_not_end_the_thread(caplog: pytest.LogCaptureFixture) -> None:
    sent: list[str] = []

    def respond(topic: str, payload: bytes) -> None:  # noqa: ARG001
        if not sent:
            sent.append("failed")
            raise OSError("gone")
        sent.append(topic)

    requests = Requests("r", lambda kind, _: {"done": kind}, respond)
    requests.start()
    for kind in ("info", "reload"):
        requests.heard(f"r/bridge/request/{kind}", b"")
    requests.stop()
    assert sent == ["failed", "r/bridge/response/reload"]
    assert "the answer to request info could not be sent" in caplog.text
