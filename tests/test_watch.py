"""``edge-agent watch`` by parts: what arrives is not trusted, holes and repeats are told apart, commands are run safely."""

from __future__ import annotations

import io
import json
import re
import unicodedata
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent import events
from edge_agent.watch.command import Watch
from edge_agent.watch.link import Done
from edge_agent.watch.news import KINDS, MOST_BYTES, News, UnreadableError, clean, place, read
from edge_agent.watch.sequence import MOST_COUNTS, MOST_HOLES, Sequences
from edge_agent.watch.show import GISTS, Screen, age, clock, span
from edge_agent.watch.wanted import Wanted, condition, parts_of

BASE = "edge-agent"
NOW = datetime(2026, 11, 21, 12, 0, 0, tzinfo=UTC)
HOSTILE = "\x1b]0;pwned\x07\x1b[2J\r\nALARM \u202e\u2028\x9b31m\x7f\ud800" + "x" * 500


def header(seq: int = 0, **more: Any) -> dict[str, Any]:
    return {
        "seq": seq,
        "session": "s1",
        "device": "icu7",
        "stream": "bed1",
        "sample": 1000,
        "time": NOW - timedelta(seconds=2.3),
        "known": 1100,
        "arrived": NOW,
        "latency": events.Latency(algorithm_ms=400.0, queue_ms=1.0, compute_ms=1.0),
        **more,
    }


def alarm(
    seq: int = 0, kind: str = "asystole", state: str = "raised", priority: str = "high", **more: Any
) -> events.Alarm:
    fields = {"id": f"a{seq}", "kind": kind, "state": state, "priority": priority, "channel": "II", "since": 900}
    fields |= {"reason": None, "confidence": 0.75, "active": state != "cleared", "acknowledged": False, "strip": None}
    return events.Alarm.model_validate(
        {**header(seq), **fields, "delay_ms": 0.0, "silenced": False, "evidence": {"pause_s": 4.25}, **more},
        by_name=True,
    )


def samples() -> dict[str, dict[str, Any]]:
    """One message of every kind, as it travels."""
    numbers: dict[str, Any] = {
        "heart_rate_per_min": 72.0,
        "systolic_mmhg": 121.0,
        "diastolic_mmhg": 79.0,
        "mean_mmhg": 93.0,
    }
    verdict: dict[str, Any] = {
        "channel": "II",
        "task": "ecg-beat",
        "label": "V",
        "reason": None,
        "scores": {"V": 0.97},
        "model": "m",
    }
    made: dict[str, events.Message] = {
        "alarm": alarm(),
        "beat": events.Beat(**header(), channel="II", confidence=1.0, rr_ms=820.0),
        "verdict": events.Verdict(
            **header(), **verdict, version="1", digest="0" * 64, backend="cpu", invoke_us=None
        ),
        "rhythm": events.Rhythm(**header(), channel="II", rhythm="AFIB", since=1, evidence={}),
        "quality": events.Quality(**header(), channel="II", good=False, score=0.1, reasons=["flat"]),
        "vitals": events.Vitals(**header(), **numbers, pulse_rate_per_min=None, lead_off=False),
        "gap": events.Gap(**header(), first=10, lost=7, exact=False, cause="unplugged"),
        "mark": events.Mark(**header(), text="patient turned"),
        "summary": events.Summary(**header(), first=1, beats={"II": 90}, labels={"m": {"N": 89, "none": 1}}),
        "waveform": events.Waveform(**header(), fs=250.0, overwritten=0, channels={"II": [0.1, None]}),
        "availability": events.Availability(device="icu7", stream="bed1", state="online", reason="started", time=NOW),
        "state": events.BridgeState(state="offline"),
        "info": events.Info(device="icu7", session="s1", version="0.1", models=[], config={}),
        "engine": events.EngineState(
            device="icu7", session="s1", time=NOW, state="degraded", reason="hung", since=NOW, degradations=1,
            recoveries=0, last_degraded="hung", models={},
        ),
    }  # fmt: skip
    broker = {"connected": True, "state": "connected", "dropped": 0, "outbox": {"messages": 3}}
    health = {"schema": "edge-agent/health/1", "device": "icu7", "time": events.iso_utc(NOW), "broker": broker}
    return {kind: json.loads(message.payload()) for kind, message in made.items()} | {
        "health": {**health, "uptime_s": 99.0, "resident_mb": 80.0}
    }


def topic_of(kind: str) -> str:
    from edge_agent.watch.news import BRIDGE_TOPICS, STREAM_TOPICS

    if kind in BRIDGE_TOPICS:
        return f"{BASE}/icu7/bridge/{BRIDGE_TOPICS[kind]}"
    return f"{BASE}/icu7/bed1/{STREAM_TOPICS[kind]}"


def payload_of(message: events.Message | dict[str, Any], **changes: Any) -> bytes:
    data = message if isinstance(message, dict) else json.loads(message.payload())
    return json.dumps({**data, **changes}).encode()


def news_of(of: str, /, **changes: Any) -> News:
    retained = changes.pop("is_retained", False)
    payload = payload_of(samples()[of], **changes)
    return read(topic_of(of), payload, base=BASE, retained=retained, received=NOW)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def shown(*news: News, colour: bool = False, as_json: bool = False) -> str:
    out = io.StringIO()
    screen = Screen(out, colour=colour, as_json=as_json)
    watch = Watch(Wanted(BASE, kinds=KINDS), screen)
    for one in news:
        watch.heard(one.topic, json.dumps(one.data).encode(), one.retained)
    return out.getvalue()


def printable(text: str) -> bool:
    return all(unicodedata.category(char)[0] != "C" for char in text.replace("\n", ""))


# -- reading ---------------------------------------------------------------------------------------------------------


def test_every_message_there_is_has_a_kind_and_a_line() -> None:
    # The answer to a request is for who asked.
    assert len(KINDS) == len(set(events.ALL_MESSAGES) - {events.Response})
    for kind in KINDS:
        news = news_of(kind)
        assert news.kind == kind
        line = shown(news)
        assert line.count("\n") == 1
        assert "icu7" in line
        assert "?" not in line, line
    assert set(samples()) == set(KINDS)


def test_additions_to_a_message_are_let_through() -> None:
    assert news_of("alarm", added_later={"x": [1]}).data["added_later"] == {"x": [1]}


BAD = {
    "not JSON": b"\x80\x04\x95",
    "not JSON ": b'{"schema": "edge-agent/alarm/1"',
    "is empty": b"",
    "not JSON: a number that is none": payload_of(alarm()).replace(b'"seq": 0', b'"seq": NaN'),
    "not JSON: too many digits": payload_of(alarm()).replace(b'"seq": 0', b'"seq": ' + b"9" * 5000),
    "not JSON: nested without end": b"[" * 100_000,
    "not a JSON object": b"[1, 2]",
    "not a JSON object: nested": payload_of(alarm(), evidence=json.loads("[" * 50 + "]" * 50)),
    "schema none": b"{}",
    "schema edge-agent/alarm/2; this version knows edge-agent/alarm/1": payload_of(
        alarm(), schema="edge-agent/alarm/2"
    ),
    "schema none: a list": payload_of(alarm(), schema=["edge-agent/alarm/1"]),
    "another device": payload_of(alarm(), device="icu8"),
    "another device or stream": payload_of(alarm(), stream="bed2"),
    "no seq": payload_of(alarm(), seq="7"),
    "no seq ": payload_of(alarm(), seq=-1),
    "no seq: true is no number": payload_of(alarm(), seq=True),
    "no seq: beyond any count": payload_of(alarm(), seq=1 << 70),
    "no seq and session": payload_of(alarm(), session=None),
    "not JSON: no float holds it": payload_of(alarm()).replace(b"4.25", b"1e999"),
    "a session of more than 64": payload_of(alarm(), session="s" * 65),
    "bytes": payload_of(alarm(), evidence={"x": "x" * MOST_BYTES}),
}


@pytest.mark.parametrize("why", BAD)
def test_an_unreadable_message_is_one_line(why: str) -> None:
    out = io.StringIO()
    watch = Watch(Wanted(BASE, kinds=KINDS), Screen(out, colour=False, as_json=False))
    watch.heard(topic_of("alarm"), BAD[why], False)
    (line,) = out.getvalue().splitlines()
    assert "unreadable" in line
    assert why.split(":")[0].strip() in line
    assert len(line) < 250
    assert watch.counts.unreadable == 1


@pytest.mark.parametrize(
    "topic",
    [
        "x", "edge-agent/d/s/nonsense", "other/icu7/bed1/alarm", "edge-agent/a/b/c/d", "$SYS/x",
        f"edge-agent/{'d' * 101}/bed1/alarm", f"edge-agent/d/{'s' * 101}/alarm",
    ],
)  # fmt: skip
def test_a_topic_of_somebody_elses_is_not_read(topic: str) -> None:
    with pytest.raises(UnreadableError):
        place(topic, BASE)


def test_text_from_the_network_cannot_write_to_the_terminal() -> None:
    text = clean(HOSTILE)
    assert printable(text)
    assert len(text) == 200
    assert "ALARM" in text
    assert clean("Grüße, 5 °C, 心") == "Grüße, 5 °C, 心"


HUGE = 10**400
NONSENSE = [
    None,
    True,
    7,
    -1e308,
    HOSTILE,
    [],
    {},
    [HOSTILE],
    {HOSTILE: HOSTILE},
    [{"a": [1]}],
    HUGE,
    -HUGE,
    {"V": HUGE},
]


@pytest.mark.parametrize("kind", KINDS)
def test_no_field_can_break_the_line_or_the_terminal(kind: str) -> None:
    """Every field of every message, replaced by every nonsense: a line comes out, and it is only text."""
    for field in samples()[kind]:
        for nonsense in NONSENSE:
            try:
                news = news_of(kind, **{field: nonsense})
            except UnreadableError as error:
                assert printable(str(error))  # noqa: PT017
                continue
            for text in (shown(news), shown(news, as_json=True)):
                assert printable(text), (field, nonsense)
                assert text.count("\n") == 1
            assert all(printable(part) or nonsense == HOSTILE for part in parts_of(news))


@pytest.mark.parametrize("number", [HUGE, -HUGE, 1e15, -1e300])
def test_a_number_beyond_any_measure_is_none(number: float) -> None:
    news = news_of("vitals", heart_rate_per_min=number, mean_mmhg=93)
    assert news.number("heart_rate_per_min") is None
    assert "HR --/min ABP 121/79 (93) mmHg" in shown(news)
    assert "V on II" in shown(news_of("verdict", scores={"V": number}))
    assert "up" not in shown(news_of("health", uptime_s=number))


def test_what_cannot_be_put_into_words_is_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever was not thought of: said as unreadable, counted, and the alarm still acted on."""
    for kind in ("alarm", "vitals"):
        monkeypatch.setitem(GISTS, kind, lambda news: ("", str(news.data["not thought of"])))
    acted: list[str] = []
    terminal = Terminal()
    watch = Watch(Wanted(BASE, kinds=KINDS), Screen(terminal, colour=False, as_json=False))
    watch.hook = lambda news: acted.append(news.kind)  # type: ignore[assignment]
    for kind in ("alarm", "vitals", "beat"):
        watch.heard(topic_of(kind), payload_of(samples()[kind]), False)
    watch.screen.status()
    lines = terminal.getvalue().split("\n")[:3]
    assert ["cannot be put into words (KeyError)" in line for line in lines] == [True, True, False]
    assert watch.counts.unreadable == 2
    assert acted == ["alarm"]


def test_a_hostile_topic_cannot_break_the_line() -> None:
    out = io.StringIO()
    watch = Watch(Wanted(BASE), Screen(out, colour=False, as_json=False))
    watch.heard(f"{BASE}/\x1b[2J\n/bed1/alarm", b"", False)
    assert printable(out.getvalue())
    assert out.getvalue().count("\n") == 1


# -- lines -----------------------------------------------------------------------------------------------------------


def test_an_alarm_reads_as_people_speak() -> None:
    line = shown(news_of("alarm"))
    assert re.search(r"icu7/bed1 +ALARM +high +asystole raised on II: pause_s 4.25  \(", line), line
    assert "2.3 s ago" in age(news_of("alarm"))
    assert "silenced" not in line
    assert "asystole raised, silenced on II" in shown(news_of("alarm", silenced=True))


def test_colour_shows_how_urgent_it_is_and_is_left_out_without_a_terminal() -> None:
    out = io.StringIO()
    screen = Screen(out, colour=True, as_json=False)
    from edge_agent.watch.sequence import Step

    for change in ({}, {"priority": "low"}, {"state": "cleared"}):
        screen.news(news_of("alarm", **change), Step())
    high, low, cleared = out.getvalue().splitlines()
    assert high.startswith("\x1b[97;41m")
    assert high.endswith("\x1b[0m")
    assert low.startswith("\x1b[36m")
    assert cleared.startswith("\x1b[32m")
    assert "\x1b" not in shown(news_of("alarm"))


def test_old_news_is_marked() -> None:
    assert "retained" in shown(news_of("availability", is_retained=True))
    assert "retained" not in shown(news_of("availability"))
    old = news_of("quality", time=events.iso_utc(NOW - timedelta(hours=3)))
    assert age(old) == "3 h ago"
    assert age(news_of("quality")) == ""
    assert age(news_of("quality", time=events.iso_utc(NOW + timedelta(seconds=90)))) == "its clock is 2 min ahead"
    assert age(news_of("quality", time=None)) == ""
    assert age(news_of("quality", time="9999-99-99")) == ""


def test_times_are_local_and_say_what_they_are() -> None:
    local = NOW.astimezone()
    assert clock(NOW, NOW) == local.strftime(" %H:%M:%S.000")
    assert clock(None, NOW) == local.strftime("~%H:%M:%S.000")  # of the receipt: the sender knows none
    assert clock(NOW - timedelta(days=2), NOW).startswith((local - timedelta(days=2)).strftime("%Y-%m-%d "))
    assert clock(datetime.min.replace(tzinfo=UTC), NOW)  # no system can say what that is here
    assert [span(x) for x in (2.31, 45, 600, 7200, 864000)] == ["2.3 s", "45 s", "10 min", "2 h", "10 days"]


def test_json_lines_carry_the_message_itself() -> None:
    data = json.loads(shown(news_of("alarm"), as_json=True))
    assert (data["topic"], data["kind"], data["retained"]) == ("edge-agent/icu7/bed1/alarm", "alarm", False)
    assert data["message"] == json.loads(alarm().payload())


def test_the_status_line_renews_itself_on_a_terminal_only() -> None:
    terminal, file = Terminal(), io.StringIO()
    for out in (terminal, file):
        watch = Watch(Wanted(BASE), Screen(out, colour=False, as_json=False))
        watch.heard(topic_of("vitals"), payload_of(samples()["vitals"]), False)
        watch.screen.status()
    assert terminal.getvalue().startswith("\r\x1b[Kicu7/bed1 HR 72/min ABP 121/79 (93) mmHg")
    assert file.getvalue() == ""


# -- repeats and holes ---------------------------------------------------------------------------------------------------


def test_a_hole_is_told_once_and_a_repeat_is_dropped() -> None:
    counts = Sequences()
    key = ("t", "s")
    assert counts.see(key, 41).missing == 0  # the first message says nothing about those before it
    assert counts.see(key, 42) == counts.see(("t", "other session"), 0)
    step = counts.see(key, 46)
    assert (step.missing, step.after) == (3, 42)
    assert counts.see(key, 42).repeat
    assert counts.see(key, 44).late
    assert counts.see(key, 44).repeat
    assert counts.see(key, 47).missing == 0
    assert counts.see(key, 3).late  # before the first that came: never seen, so it is shown


@given(st.lists(st.integers(0, 60), max_size=200))
def test_nothing_new_is_dropped_and_nothing_old_is_new(numbers: list[int]) -> None:
    """Against a plain set of what came."""
    counts, seen, missing, came_late = Sequences(), set[int](), 0, 0
    for number in numbers:
        step = counts.see(("t", "s"), number)
        assert step.repeat == (number in seen)
        missing += step.missing
        came_late += step.late and number > numbers[0]
        seen.add(number)
    if seen:
        later = {number for number in seen if number >= numbers[0]}
        assert missing - came_late == max(seen) - numbers[0] + 1 - len(later)


def test_what_is_remembered_is_bounded() -> None:
    counts = Sequences()
    for number in range(MOST_COUNTS + 10):
        counts.see(("t", str(number)), 0)
    assert len(counts._counts) == MOST_COUNTS
    for number in range(0, 10 * MOST_HOLES, 2):
        counts.see(("t", "holes"), number)
    assert len(counts._counts["t", "holes"].holes) == MOST_HOLES
    assert counts.see(("t", "holes"), 1).late  # forgotten: rather shown than dropped
    assert counts.see(("t", "holes"), 10 * MOST_HOLES - 2).repeat


def test_holes_are_said_by_stream_and_kind() -> None:
    other = payload_of(alarm(7), stream="bed2")
    out = io.StringIO()
    watch = Watch(Wanted(BASE, streams=("bed1",)), Screen(out, colour=False, as_json=False))
    for seq in (3, 4, 4, 9):
        watch.heard(topic_of("alarm"), payload_of(alarm(seq)), False)
    watch.heard(f"{BASE}/icu7/bed2/alarm", other, False)
    watch.heard(topic_of("alarm"), payload_of(alarm(0), session="s2"), False)
    lines = out.getvalue().splitlines()
    assert sum("gap: 4 messages missing after number 4" in line for line in lines) == 1
    assert sum("asystole" in line for line in lines) == 4
    assert (watch.counts.repeats, watch.counts.holes, watch.counts.missing) == (1, 1, 4)


def test_nothing_is_taken_after_the_end() -> None:
    """Nor acknowledged, which is what the exception is for: the broker keeps it for the next watch."""
    watch = Watch(Wanted(BASE, until=(condition("alarm"),)), Screen(io.StringIO(), colour=False, as_json=False))
    watch.heard(topic_of("alarm"), payload_of(alarm(0)), False)
    assert watch.seen
    with pytest.raises(Done):
        watch.heard(topic_of("alarm"), payload_of(alarm(1)), False)
    assert watch.counts.messages == 1


def test_vitals_have_no_holes() -> None:
    """Only the latest is kept for a broker that was away: what came between is not lost, it is superseded."""
    out = io.StringIO()
    watch = Watch(Wanted(BASE, kinds=("vitals",)), Screen(out, colour=False, as_json=False))
    for seq in (1, 50, 50):
        watch.heard(topic_of("vitals"), payload_of(samples()["vitals"], seq=seq), False)
    assert len(out.getvalue().splitlines()) == 2
    assert "missing" not in out.getvalue()


# -- filters -----------------------------------------------------------------------------------------------------------
