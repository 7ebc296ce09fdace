"""What a watcher wants and waits for: filters, conditions, arguments."""

from __future__ import annotations

import io
import json
import re
from typing import Any

import pytest
from paho.mqtt.client import topic_matches_sub

from edge_agent import events
from edge_agent.cli import main
from edge_agent.watch.arguments import KINDS_HELP, PRIORITIES
from edge_agent.watch.command import Watch
from edge_agent.watch.news import KINDS
from edge_agent.watch.show import Screen
from edge_agent.watch.wanted import USUAL, Wanted, condition
from tests.test_watch import BASE, news_of, topic_of


@pytest.mark.parametrize(
    ("text", "changes", "met"),
    [
        ("alarm:asystole", {}, True),
        ("alarm:asystole", {"state": "cleared"}, False),
        ("alarm:asystole:*", {"state": "cleared"}, True),
        ("alarm:*:raised", {}, True),
        ("alarm:*:cleared", {}, False),
        ("alarm", {}, True),
        ("alarm:*:*:high", {}, True),
        ("alarm:*:*:low", {}, False),
        ("alarm:brady*", {"kind": "bradycardia"}, True),
        ("alarm:bradycardia", {}, False),
        ("beat", {}, False),
    ],
)
def test_conditions(text: str, changes: dict[str, str], met: bool) -> None:
    assert condition(text).met(news_of("alarm", **changes)) is met


def test_conditions_of_other_kinds() -> None:
    assert condition("state:offline").met(news_of("state"))
    assert not condition("state:online").met(news_of("state"))
    assert condition("availability:online").met(news_of("availability"))
    assert condition("verdict:V").met(news_of("verdict"))
    assert condition("verdict:abstained").met(news_of("verdict", label=None))
    assert condition("rhythm:AFIB").met(news_of("rhythm"))
    assert condition("quality:bad").met(news_of("quality"))
    assert condition("gap").met(news_of("gap"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("alarm:asystol", "did you mean 'asystole'?"),
        ("alarms", "did you mean 'alarm'?"),
        ("alarm:asystole:risen", "did you mean 'raised'?"),
        ("state:up", "online, offline"),
        ("beat:II", "at most 0 parts"),
        ("", "no kind"),
    ],
)
def test_what_can_never_come_is_not_waited_for(text: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        condition(text)
    with pytest.raises(SystemExit) as ended:
        main(["watch", "--until", text])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize("streams", [(), ("bed1",), ("bed1", "bed2")])
@pytest.mark.parametrize("kinds", [USUAL, KINDS, ("vitals", "state"), ("beat",)])
def test_subscriptions_cover_what_is_wanted_and_never_overlap(kinds: tuple[str, ...], streams: tuple[str, ...]) -> None:
    """A broker may deliver a message once per subscription that matches it."""
    topics = Wanted(BASE, kinds=kinds, devices=("icu7",), streams=streams, until=(condition("verdict:V"),)).topics()
    for kind in (*kinds, "verdict"):
        assert sum(topic_matches_sub(one, topic_of(kind)) for one in topics) == 1, (kind, topics)
    assert not any(topic_matches_sub(one, f"{BASE}/icu8/bed1/alarm") for one in topics)


def test_filters() -> None:
    def lines(**how: Any) -> int:
        out = io.StringIO()
        watch = Watch(Wanted(BASE, **how), Screen(out, colour=False, as_json=False))
        for one in (news_of("alarm"), news_of("alarm", seq=1, priority="low"), news_of("beat"), news_of("state")):
            watch.heard(one.topic, json.dumps(one.data).encode(), False)
        return len(out.getvalue().splitlines())

    assert lines() == 3
    assert lines(kinds=KINDS) == 4
    assert lines(kinds=("alarm",)) == 2
    assert lines(kinds=("alarm",), priorities=("low",)) == 1
    assert lines(streams=("bed2",)) == 1  # what the agent says of itself is of no stream
    assert lines(devices=("icu8",)) == 0


def test_help_names_every_kind_and_the_usual_ones_first() -> None:
    words = re.findall(r"[a-z]+", KINDS_HELP)
    assert set(KINDS) <= set(words)
    assert tuple(words[1:8]) == USUAL
    assert set(PRIORITIES) == set(events.Priority.__args__)  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "arguments",
    [
        ["--kind", "alarms"],
        ["--priority", "urgent"],
        ["--stream", "a/b"],
        ["--device", "#"],
        ["--base", "+"],
        ["--port", "0"],
        ["--timeout", "-1"],
        ["--timeout", "nan"],
        ["--client-id", "a\x1bb"],
    ],
)
def test_nonsense_is_refused_as_usage(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["watch", *arguments])
    assert ended.value.code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--password-file", "x"], "--username"),
        (["--username", "u", "--password-file", "not-there"], "not-there: the password cannot be read"),
        (["--cert", "x"], "--cert and --key go together"),
        (["--ca", "not-there"], "not-there: no certificate can be read"),
        (["--exec", "no-such-program-here"], "'no-such-program-here' cannot be run"),
        (["--exec", "'"], "No closing quotation"),
        (["--exec", ""], "cannot be run"),
    ],
)
def test_what_cannot_work_ends_at_once(arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["watch", *arguments]) == 1
    assert said in capsys.readouterr().err
