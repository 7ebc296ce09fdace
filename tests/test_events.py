"""Messages: the published schemas are those of the code, and everything that leaves keeps to them."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from edge_agent import events
from edge_agent.clock import RecordedClock
from edge_agent.config import AlarmLimits, Config
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.journey import Block
from edge_agent.pipeline import Pipeline
from edge_agent.replay import Settings, open_for_replay, run_blocks
from edge_agent.schemas import file_name, schema, write
from edge_agent.sources.base import Signal, StreamInfo, guess_kind
from edge_agent.sources.paced import RecordingReader
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import DEMO_SCRIPT
from edge_agent.stamp import REPLAYED, Stamp

SCHEMAS = Path(__file__).resolve().parent.parent / "docs" / "schema"
FS = 250.0
CHANNELS = ("II", "V", "ABP", "PLETH")
NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
STREAM = StreamInfo(fs=FS, signals=tuple(Signal(name, guess_kind(name)) for name in CHANNELS))


@cache
def published(message: type[events.Message]) -> dict[str, Any]:
    """The schema from the file that readers get, not from the code."""
    schema: dict[str, Any] = json.loads((SCHEMAS / file_name(message)).read_text(encoding="utf-8"))
    return schema


def validator(message: type[events.Message]) -> Draft202012Validator:
    schema = published(message)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def no_constant(text: str) -> NoReturn:
    raise AssertionError(f"{text} is not JSON")


def checked(message: events.Message) -> dict[str, Any]:
    """The payload as a reader sees it, held against the published schema."""
    data: dict[str, Any] = json.loads(message.payload(), parse_constant=no_constant)
    judge = validator(type(message))
    problems = [f"{error.json_path}: {error.message}" for error in judge.iter_errors(data)]
    assert not problems, f"{data}: {problems}"
    # The schemas forbid nothing, so that additions break no reader; what is there must be described all the same.
    assert set(data) == set(published(type(message))["properties"])
    return data


# -- the schemas ------------------------------------------------------------------------------------------------------


def test_the_published_schemas_are_those_of_the_code(tmp_path: Path) -> None:
    """If this fails: ``make schemas``."""
    written = {path.name: path.read_text(encoding="utf-8") for path in write(tmp_path)}
    published = {path.name: path.read_text(encoding="utf-8") for path in SCHEMAS.glob("*.json")}
    assert sorted(published) == sorted(written)
    for name, text in written.items():
        assert published[name] == text, f"docs/schema/{name} is not what the code says: make schemas"


@pytest.mark.parametrize("message", events.ALL_MESSAGES, ids=file_name)
def test_a_schema_says_what_a_reader_needs(message: type[events.Message]) -> None:
    made = schema(message)
    Draft202012Validator.check_schema(made)
    assert made["title"] == message.__name__
    assert made["description"]
    if issubclass(message, events.Event):
        name = made["properties"]["schema"]["const"]
        assert re.fullmatch(r"edge-agent/[a-z]+/\d+", name)
        assert set(made["required"]) == set(made["properties"])  # nothing is left out: what is unknown is null
    assert '"additionalProperties": false' not in json.dumps(made)


def test_every_event_has_a_topic_and_no_two_share_one() -> None:
    kinds = {kind for kind in events.Event.__subclasses__() if kind.__module__ == events.__name__}
    assert set(events.TOPICS) == kinds
    assert len(set(events.TOPICS.values())) == len(kinds)
    assert len({file_name(message) for message in events.ALL_MESSAGES}) == len(events.ALL_MESSAGES)


def test_a_reader_that_is_told_nonsense_would_see_it() -> None:
    """The schemas bind: each field, spoilt, is found."""
    beat = checked(an_event(events.Beat, channel="II", confidence=1.0, rr_ms=None))
    judge = validator(events.Beat)
    for name in beat:
        without = {key: value for key, value in beat.items() if key != name}
        assert not judge.is_valid(without), name
        assert not judge.is_valid({**beat, name: ["nonsense"]}), name
    assert judge.is_valid({**beat, "added_later": 1})


# -- by hand ----------------------------------------------------------------------------------------------------------


def an_event(of: type[events.Event], **fields: Any) -> events.Event:
    stamp = Stamp(device="d", stream="s", session="x", fs=FS, clock=RecordedClock(FS, None))
    return of(**stamp(of, 100, 120, REPLAYED), **fields)  # type: ignore[arg-type]


def test_times_are_rfc_3339_in_utc_with_microseconds() -> None:
    assert events.iso_utc(NOW) == "2026-01-02T03:04:05.678901Z"
    stamp = Stamp(device="d", stream="s", session="x", fs=FS, clock=RecordedClock(FS, NOW))
    data = checked(events.Vitals(**stamp(events.Vitals, 250, 250, REPLAYED), **dict.fromkeys(VITALS), lead_off=False))  # type: ignore[arg-type]
    assert data["time"] == "2026-01-02T03:04:06.678901Z"


VITALS = ("heart_rate_per_min", "systolic_mmhg", "diastolic_mmhg", "mean_mmhg", "pulse_rate_per_min")


def test_what_was_not_measured_is_null() -> None:
    data = checked(an_event(events.Vitals, **dict.fromkeys(VITALS), lead_off=False))
    assert [data[name] for name in (*VITALS, "time", "arrived")] == [None] * 7
    assert data["latency"] == {"algorithm_ms": 80.0, "queue_ms": None, "compute_ms": None}


def test_numbers_are_rounded_where_they_are_said_and_never_nan() -> None:
    data = checked(an_event(events.Beat, channel="II", confidence=2 / 3, rr_ms=1000 / 3))
    assert (data["confidence"], data["rr_ms"]) == (0.6667, 333.3333)
    data = checked(an_event(events.Beat, channel="II", confidence=1.0, rr_ms=math.nan))
    assert data["rr_ms"] is None
    data = checked(an_event(events.Rhythm, channel="II", rhythm="N", since=1, evidence={"cosen": math.inf}))
    assert data["evidence"] == {"cosen": None}


def test_what_the_daemon_says_of_itself() -> None:
    checked(events.Availability(device="d", stream="s", state="offline", reason="unplugged", time=NOW))
    assert checked(events.BridgeState(state="online")) == {"state": "online"}
    config = Config.model_validate({"stream": [{"name": "x", "source": {"type": "simulated"}}]})
    model = events.ModelInfo(name="m", version="1.0.0", digest="0" * 64, backend="cpu/x", task="other")
    checked(events.Info(device="d", session="s", version="1", models=[model], config=config.public()))
    stream = events.StreamHealth(
        state="online", samples=1, lost_samples=0, beats=0, verdicts=0, abstentions=0, restarts=0, fs_nominal=None,
        fs_measured=None,
    )  # fmt: skip
    box = events.OutboxHealth(messages=1, bytes=2, evicted={"beats": 3, "events": 0, "alarms": 0}, disk="ok")
    broker = events.BrokerHealth(
        connected=True, state="connected", connects=1, published=2, dropped=0, lost=0, waiting=1, refused=0, outbox=box
    )
    span = events.Percentiles(count=3, p50_ms=1, p90_ms=2, p95_ms=2, p99_ms=2, p99_9_ms=2, max_ms=2.00001)
    checked(events.Response(status="error", error="no", transaction="7"))
    data = checked(
        events.Health(
            device="d",
            session="s",
            time=NOW,
            uptime_s=1.23456,
            resident_mb=None,
            broker=broker,
            inference={},
            latency={"queue": events.StageLatency(last_minute=None, since_start=span)},
            streams={"x": stream},
            jsonl=events.LinesHealth(written=1, dropped=0, disk="ok"),
            recorder=events.RecorderHealth(
                segments=1, dropped=0, repaired=0, removed=0, disk="No space left on device"
            ),
        )
    )
    assert data["uptime_s"] == 1.2346
    assert data["broker"]["outbox_fault"] is None
    assert data["recorder"]["disk"] == "No space left on device"
    assert data["streams"]["x"]["fs_measured"] is None


def test_a_mark_and_a_summary() -> None:
    checked(an_event(events.Mark, text="patient turned"))
    checked(an_event(events.Summary, first=10, beats={"II": 70}, labels={"ecg-beat-aami": {"N": 69, "none": 1}}))


def test_unknown_fields_and_kinds_cannot_be_said() -> None:
    with pytest.raises(ValueError, match="extra"):
        an_event(events.Beat, channel="II", confidence=1.0, rr_ms=None, colour="red")
    alarm = {"id": "1", "kind": "boredom", "state": "raised", "priority": "low", "channel": None, "since": 0}
    with pytest.raises(ValueError, match="kind"):
        an_event(events.Alarm, **alarm, delay_ms=0.0, evidence={})


# -- everything that a run says ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def judge() -> Judge:
    return Judge(load_models(shipped_models()))


@pytest.fixture(scope="module")
def demo(judge: Judge) -> list[events.Event]:
    """The demo's patient, with a hole in the signal."""
    patient = SimulatedPatient(FS, CHANNELS, DEMO_SCRIPT, seed=1)
    blocks: Iterator[Block] = iter(lambda: patient.read(250), None)
    holed = (block for block in blocks if not 15_000 <= block.first < 15_500)
    return list(run_blocks(STREAM, holed, judge, Settings(), "demo"))


def test_everything_that_the_demo_s_patient_gives_rise_to(demo: list[events.Event]) -> None:
    seen = {type(event) for event in demo}
    assert seen == set(events.TOPICS) - {events.Waveform, events.Mark, events.Summary}
    for event in demo:
        checked(event)
    raised = {event.kind for event in demo if isinstance(event, events.Alarm)}
    assert len(raised) >= 5


def test_messages_of_a_kind_are_numbered_without_a_hole_and_all_are_known_in_order(demo: list[events.Event]) -> None:
    for kind in events.TOPICS:
        numbers = [event.seq for event in demo if isinstance(event, kind)]
        assert numbers == list(range(len(numbers)))
    for before, after in itertools.pairwise(demo):
        assert after.known >= before.known or isinstance(after, events.Verdict)
    for event in demo:
        assert event.known >= event.sample
        assert event.latency.algorithm_ms == pytest.approx((event.known - event.sample) / FS * 1000)


def test_nothing_that_was_not_measured_is_a_number(demo: list[events.Event]) -> None:
    first = dict.fromkeys(CHANNELS, True)
    for event in demo:
        data = json.loads(event.payload())
        assert data["time"] is None  # a simulated patient in a replay has no date
        assert data["arrived"] is data["latency"]["queue_ms"] is data["latency"]["compute_ms"] is None
        match event:
            case events.Beat():
                assert (data["rr_ms"] is None) == first[event.channel]
                assert data["rr_ms"] != 0
                first[event.channel] = False
            case events.Gap():
                first = dict.fromkeys(first, True)
            case events.Verdict():
                assert data["invoke_us"] is None
                assert (data["label"] is None) == (data["reason"] is not None)
            case events.Vitals():
                assert all(data[name] != 0 for name in VITALS)
    opening = next(event for event in demo if isinstance(event, events.Vitals))
    assert [getattr(opening, name) for name in VITALS] == [None] * 5


def test_raises_and_clears_pair_up_by_id(demo: list[events.Event]) -> None:
    open_now: set[str] = set()
    for event in demo:
        if isinstance(event, events.Alarm):
            if event.state == "raised":
                assert event.id not in open_now
                open_now.add(event.id)
            elif event.state == "suppressed":  # it may yet be raised, under the same id
                assert event.id not in open_now
            else:
                assert event.id in open_now
                open_now -= {event.id} if event.state == "cleared" else set()
    assert len(open_now) <= 2


@pytest.mark.parametrize("record", ["100", "203"])
def test_everything_that_a_record_of_the_database_gives_rise_to(record: str, mitdb: Path, judge: Judge) -> None:
    recording, info = open_for_replay(mitdb / record, Settings(), fs=None, all_leads=True)
    began = datetime(1980, 1, 1, tzinfo=UTC)
    reader = RecordingReader(recording)
    blocks: Iterable[Block] = iter(lambda: reader.read(360), None)
    two_minutes = itertools.islice(blocks, 120)
    count = 0
    for event in run_blocks(replace(info, began=began), iter(two_minutes), judge, Settings(), record):
        data = checked(event)
        assert data["stream"] == record
        assert datetime.fromisoformat(data["time"]) == began + timedelta(microseconds=round(event.sample / 360 * 1e6))
        count += 1
    assert count > 300


def test_a_waveform_says_null_where_there_is_no_value() -> None:
    stamp = Stamp(device="d", stream="s", session="x", fs=FS, clock=RecordedClock(FS, NOW))
    pipeline = Pipeline(STREAM, models=[], limits=AlarmLimits(), detector="native", stamp=stamp)
    assert pipeline.waveform("w") is None
    values = np.full((4, 100), 0.12345678, np.float32)
    values[1, 10] = np.nan
    list(pipeline.feed(Block(0, FS, values), REPLAYED))
    event = pipeline.waveform("w")
    assert event is not None
    data = checked(event)
    assert (data["sample"], data["known"]) == (0, 99)
    assert data["channels"]["II"] == [0.1235] * 100
    assert [i for i, value in enumerate(data["channels"]["V"]) if value is None] == [10]
    list(pipeline.feed(Block(100, FS, np.zeros((4, 20_000), np.float32)), REPLAYED))
    later = pipeline.waveform("w")
    assert later is not None
    assert later.overwritten == later.sample - 100 > 0  # what was not fetched in time is owned up to


def test_an_event_begins_with_what_all_have_in_common() -> None:
    common = list(events.Event.model_fields)
    for kind in events.TOPICS:
        assert list(kind.model_fields)[: len(common)] == common
