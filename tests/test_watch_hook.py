"""Commands of ``edge-agent watch --exec``: what they are given, what they may do, and what is said when they do not."""

from __future__ import annotations

import io
import json
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import PASSWORD_VARIABLE
from edge_agent.errors import OutputError
from edge_agent.watch import hook as hook_module
from edge_agent.watch.command import Watch
from edge_agent.watch.hook import Hook
from edge_agent.watch.news import News
from edge_agent.watch.show import Screen
from edge_agent.watch.wanted import Wanted
from tests.test_watch import BASE, alarm, news_of, payload_of, topic_of


def script(folder: Path, text: str) -> str:
    path = folder / "act on it.sh"
    path.write_text(f"#!/bin/sh\n{text}\n", encoding="utf-8")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return f"'{path}'"


def run(command: str, *news: News, limit_s: float = 10.0) -> list[str]:
    said: list[str] = []
    hook = Hook(command, limit_s, said.append)
    for one in news:
        hook(one)
    hook.finish()
    return said


def test_a_command_gets_the_alarm_and_nothing_of_it_as_an_argument(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(PASSWORD_VARIABLE, "correct-horse")
    text = 'printf "%s\\n" "$#" "$1" "$2" > "$OUT/arguments"; cat > "$OUT/message"; env > "$OUT/environment"'
    monkeypatch.setenv("OUT", str(tmp_path))
    evil = "$(touch pwned); `touch pwned`\n\x1b[2J"
    said = run(script(tmp_path, text) + " 'two words' '$HOME;*'", news_of("alarm", id=evil, evidence={"x": evil}))
    assert said == []
    assert (tmp_path / "arguments").read_text() == "2\ntwo words\n$HOME;*\n"
    message = json.loads((tmp_path / "message").read_text())
    assert message["topic"] == "edge-agent/icu7/bed1/alarm"
    assert message["message"]["evidence"] == {"x": evil}
    lines = (tmp_path / "environment").read_text().splitlines()
    given = dict(line.split("=", 1) for line in lines if line.startswith("EDGE_AGENT_"))
    expected = {
        "KIND": "asystole",
        "STATE": "raised",
        "PRIORITY": "high",
        "DEVICE": "icu7",
        "STREAM": "bed1",
        "SEQ": "0",
    }
    assert {key: given[f"EDGE_AGENT_{key}"] for key in expected} == expected
    assert given["EDGE_AGENT_ID"] == "$(touch pwned); `touch pwned`\ufffd\ufffd[2J"
    assert "correct-horse" not in "".join(lines)
    assert not (tmp_path / "pwned").exists()


def test_a_nul_in_an_alarm_is_no_fault_of_the_command(tmp_path: Path) -> None:
    assert run(script(tmp_path, "true"), news_of("alarm", id="a\0b", kind=["\0"])) == []


def test_a_command_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    began = time.monotonic()
    assert run(script(tmp_path, "exit 0"), news_of("alarm", evidence={"x": "x" * 500_000})) == []
    assert time.monotonic() - began < 5


def test_failures_are_said(tmp_path: Path) -> None:
    (said,) = run(script(tmp_path, "exit 7"), news_of("alarm"))
    assert said == "icu7/bed1 asystole raised: the command failed (exit status 7)"


def test_a_command_has_a_limit_and_so_has_what_it_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_module, "GRACE_S", 0.2)
    began = time.monotonic()
    # It ignores the request to end, and so does its child.
    stubborn = f"trap '' TERM; (trap '' TERM; sleep 3; touch '{tmp_path}/still-there') & wait; sleep 60"
    (said,) = run(script(tmp_path, stubborn), news_of("alarm"), limit_s=0.3)
    assert "took longer than 0.3 s" in said
    assert time.monotonic() - began < 2.5
    time.sleep(3.2 - (time.monotonic() - began))
    assert not (tmp_path / "still-there").exists()


def test_so_many_run_at_a_time_and_so_many_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hook_module, "MOST_WAITING", 6)
    counting = f'echo "$EDGE_AGENT_SEQ $(ls {tmp_path} | grep -c running)" >> {tmp_path}/log'
    text = f"touch {tmp_path}/running-$$; {counting}; sleep 0.15; rm {tmp_path}/running-$$"
    said = run(script(tmp_path, text), *(news_of("alarm", seq=n) for n in range(15)))
    lines = [line.split() for line in (tmp_path / "log").read_text().splitlines()]
    assert len(lines) == hook_module.MOST_RUNNING + 6
    assert 1 < max(int(running) for _, running in lines) <= hook_module.MOST_RUNNING
    assert len(said) == 15 - len(lines)
    assert all("was not run" in one for one in said)


def test_what_was_abandoned_is_said(tmp_path: Path) -> None:
    said: list[str] = []
    hook = Hook(script(tmp_path, "sleep 60"), 60, said.append)
    for number in range(6):
        hook(news_of("alarm", seq=number))
    hook.abandon()
    assert not hook.busy
    assert sum("was ended" in one for one in said) == 4
    assert sum("was not run" in one for one in said) == 2


def test_a_command_must_exist() -> None:
    with pytest.raises(OutputError, match="cannot be run"):
        Hook("/no/such/thing --x", 1, print)


@pytest.mark.parametrize(
    ("changes", "runs"),
    [({}, True), ({"state": "cleared"}, True), ({"state": "updated"}, False), ({"silenced": True}, False),
     ({"state": "cleared", "silenced": True}, True), ({"priority": "low"}, False)],
)  # fmt: skip
def test_what_a_command_is_run_for(changes: dict[str, Any], runs: bool, tmp_path: Path) -> None:
    """Its begin and its end; not at new evidence, and not where somebody silenced it. What it began, it must be let end."""
    hook = Hook(script(tmp_path, f"touch '{tmp_path}/ran'"), 10, print)
    watch = Watch(Wanted(BASE, priorities=("high",)), Screen(io.StringIO(), colour=False, as_json=False), hook)
    watch.heard(topic_of("alarm"), payload_of(alarm(), **changes), False)
    hook.finish()
    assert (tmp_path / "ran").exists() is runs
