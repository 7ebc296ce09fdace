"""``replay --verify`` and the request ``verify``: a monitor's alarm in, an opinion out, within a second."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.alarms.combiner import combiner_of
from edge_agent.cli import main
from edge_agent.clock import RecordedClock
from edge_agent.errors import RequestError, SourceError
from edge_agent.inference.artifact import load, open_engine, verify
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.pipeline import OPINION_WITHIN_S
from edge_agent.second_opinion import _sample
from edge_agent.verify import Question, Unanswered, read_questions
from tests.spine import Broker, Listener, base_config, listening, running_agent, simulated, wait_for

MODEL = "vt-second-opinion"


# -- the file of questions -------------------------------------------------------------------------------------------------------


def questions(folder: Path, text: str) -> list[tuple[str, str, float]]:
    file = folder / "alarms.txt"
    file.write_text(text)
    asked = read_questions(file)
    assert all(isinstance(one, Question) for one in asked), asked
    return [(one.record.name, one.kind, one.at_s) for one in asked if isinstance(one, Question)]


def test_lines_by_comma_or_blank_and_times_in_seconds_or_hours(tmp_path: Path) -> None:
    text = "# a monitor's\na1, Asystole, 150\n\nv2 Ventricular_Flutter_Fib 0:02:30.5\nv3\tventricular_tachycardia\t1:00:00\n"
    assert questions(tmp_path, text) == [
        ("a1", "asystole", 150.0),
        ("v2", "ventricular_fibrillation", 150.5),
        ("v3", "ventricular_tachycardia", 3600.0),
    ]


def test_a_file_of_questions_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes(b"\xff\xfe")
    for name, said in (("none.txt", "no such file"), (".", "is a folder"), ("latin.txt", "is not text in UTF-8")):
        with pytest.raises(SourceError) as caught:
            read_questions(tmp_path / name)
        assert said in str(caught.value)
        assert "Errno" not in str(caught.value)
        assert "codec" not in str(caught.value)


def test_a_record_is_looked_for_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "a1.hea").touch()
    (tmp_path / "alarms.txt").write_text("a1 asystole 1\n")
    (asked,) = read_questions(tmp_path / "alarms.txt")
    assert isinstance(asked, Question)
    assert asked.record == tmp_path / "a1"


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("a1 asystole", "record, kind of alarm, time"), ("a1 boredom 150", "no opinion on 'boredom'"),
        ("a1 asystole soon", "'soon' is no time"),
        ("a1 asystole 0:02:75", "no time"), ("a1 asystole 0:75:02", "no time"), ("a1 asystole 0:1.5:02", "no time"),
        ("a1 asystole nan:00", "no time"), ("a1 asystole -3", "no time"), ("a1 asystole 1:2:3:4", "no time"),
        ("a1 asystole nan", "no time"), ("a1 asystole １５０", "seconds, mm:ss or hh:mm:ss"), ("a1 asystole 2:३0", "no time"),
    ],
)  # fmt: skip
def test_a_line_that_is_wrong_is_named(tmp_path: Path, line: str, wrong: str) -> None:
    file = tmp_path / "alarms.txt"
    file.write_text(f"a0 asystole 1\n{line}\na2 asystole 3\n")
    first, bad, last = read_questions(file)
    assert isinstance(bad, Unanswered)
    assert wrong in bad.what
    assert "alarms.txt:2" in bad.what
    assert [type(one) for one in (first, last)] == [Question, Question]


@pytest.mark.parametrize("text", ["", "\n# nothing yet\n"])
def test_a_file_that_asks_nothing_is_said(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "alarms.txt"
    file.write_text(text)
    assert main(["replay", "--verify", str(file)]) == 1
    assert "alarms.txt: asks nothing" in capsys.readouterr().err


def test_a_bad_line_takes_no_other_with_it(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = shared / "data" / "challenge2015" / "a161l"
    file = tmp_path / "alarms.txt"
    text = f"{record} asystole 150\nnowhere asystole 9\n{record} asystole 0:02:75\n{record} asystole 1000\n{record} bradycardia 60\n"
    file.write_text(text)
    assert main(["replay", "--verify", str(file), "--models", "none"]) == 1
    said, told = capsys.readouterr()
    assert [json.loads(line)["time_s"] for line in said.splitlines()] == [150.0, 60.0]
    assert [f"alarms.txt:{n}" in told for n in (1, 2, 3, 4, 5)] == [False, True, True, True, False]


def test_answers_on_a_recording(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An asystole that is one, and one through which the pressure goes on; the model of ventricular tachycardia is named."""
    data = shared / "data" / "challenge2015"
    file = tmp_path / "alarms.txt"
    file.write_text(
        f"{data / 'a161l'}, Asystole, 150\n{data / 'a651l'}, Asystole, 0:02:30\n{data / 'a161l'} ventricular_tachycardia 149\n"
    )
    assert main(["replay", "--verify", str(file)]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by = {(Path(one["record"]).name, one["kind"]): one for one in said}
    assert by["a161l", "asystole"]["answer"] == "true"
    assert by["a651l", "asystole"]["answer"] == "false"
    assert by["a651l", "asystole"]["by"] == "pulses go through the pause"
    assert [one["time_s"] for one in said] == [150.0, 150.0, 149.0]  # in the order of the lines
    assert by["a161l", "ventricular_tachycardia"]["by"].startswith(MODEL)
    out = tmp_path / "answers.jsonl"
    assert main(["replay", "--verify", str(file), "--events", str(out), "--models", "none"]) == 0
    again = [json.loads(line) for line in out.read_text().splitlines()]
    assert [one for one in again if one["kind"] == "asystole"] == [one for one in said if one["kind"] == "asystole"]
    assert {one["by"] for one in again if one["kind"] == "ventricular_tachycardia"} == {"scorecard"}


def test_a_time_after_the_recording_is_refused(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "alarms.txt"
    file.write_text(f"{shared / 'data' / 'challenge2015' / 'a161l'} asystole 1000\n")
    assert main(["replay", "--verify", str(file)]) == 1
    assert "asked about 1000 s, it lasts 180 s" in capsys.readouterr().err


def test_nothing_to_do_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["replay"])
    assert "RECORD or --verify FILE is wanted" in capsys.readouterr().err
    file = tmp_path / "alarms.txt"
    file.write_text("a1 asystole 1\n")
    assert main(["replay", "a1", "--verify", str(file)]) == 1
    assert "leave them out" in capsys.readouterr().err


# -- the artifact -----------------------------------------------------------------------------------------------------------------


def test_the_shipped_combiner_is_verified_and_asked_only_for_opinions() -> None:
    artifact = load(shipped_models() / MODEL)
    assert verify(artifact, open_engine(artifact)) <= artifact.manifest.golden.tolerance
    combiner = combiner_of([artifact])
    assert combiner is not None
    for case, expected in zip(artifact.golden_inputs[0], artifact.golden_outputs, strict=True):
        assert combiner.ask(case.tolist()) == pytest.approx(float(expected[1]), abs=1e-5)
    assert combiner.threshold == artifact.manifest.output.thresholds["true"]
    others = [model.artifact for name, model in load_models(shipped_models()).items() if name != MODEL]
    assert combiner_of(others) is None


# -- the moment asked about ---------------------------------------------------------------------------------------------------------

BEGAN = datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_time_of_day_becomes_a_sample() -> None:
    clock = RecordedClock(250.0, BEGAN)
    asked = (BEGAN + timedelta(seconds=100)).isoformat()
    assert _sample(clock, 50_000, {"time": asked}) == 25_000
    assert _sample(clock, 50_000, {"time": "2026-01-31T12:01:40Z"}) == 25_000
    assert _sample(clock, 50_000, {"sample": 7}) == 7
    assert _sample(clock, 50_000, {}) is None


@pytest.mark.parametrize(
    ("arguments", "wrong"),
    [
        ({"time": "noon"}, "time of day with its zone"), ({"time": "2026-01-31T12:00:00"}, "its zone"), ({"time": 5}, "its zone"),
        ({"sample": True}, "whole number"), ({"sample": -1}, "whole number"), ({"sample": 1.5}, "whole number"),
        ({"sample": 1, "time": "2026-01-31T12:00:00Z"}, "not both"), ({"time": "9999-01-31T12:00:00Z"}, "not in the time"),
    ],
)  # fmt: skip
def test_a_moment_that_is_none_is_refused(arguments: dict[str, Any], wrong: str) -> None:
    with pytest.raises(RequestError, match=wrong):
        _sample(RecordedClock(250.0, BEGAN), 50_000, arguments)


def test_without_a_time_of_day_only_samples_will_do() -> None:
    with pytest.raises(RequestError, match="ask with sample"):
        _sample(RecordedClock(250.0, None), 50_000, {"time": "2026-01-31T12:00:00Z"})


# -- over MQTT --------------------------------------------------------------------------------------------------------------------


class Asker:
    """Asks with a number, and waits for the answer to it."""

    def __init__(self, port: int, listener: Listener) -> None:
        import paho.mqtt.client as paho
        from paho.mqtt.enums import CallbackAPIVersion

        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._listener = listener
        self._number = 0

    def ask(self, **arguments: Any) -> tuple[dict[str, Any], float]:
        self._number += 1
        transaction = f"q{self._number}"
        began = time.monotonic()
        payload = json.dumps({"transaction": transaction, **arguments})
        self._client.publish("edge-agent/dev/bridge/request/verify", payload, qos=1)
        wait_for(lambda: self._found(transaction), "the answer")
        return self._found(transaction)[0], time.monotonic() - began

    def _found(self, transaction: str) -> list[dict[str, Any]]:
        topic = "edge-agent/dev/bridge/response/verify"
        return [
            one.data
            for one in self._listener.heard
            if one.topic == topic and one.data.get("transaction") == transaction
        ]

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def test_a_monitor_s_alarm_is_answered_within_a_second(broker: Broker, tmp_path: Path) -> None:
    text = (
        base_config(broker.port, simulated("bed", source='script = "demo"\nspeed = 20'))
        + "\n[requests]\nenabled = true\n"
    )
    with listening(broker.port) as listener, running_agent(tmp_path, text):
        asker = Asker(broker.port, listener)
        raised = listener.wait("bed", "alarm", kind="asystole", state="raised")
        answer, _ = asker.ask(stream="bed", kind="asystole", sample=raised["sample"])
        assert answer["status"] == "ok", answer
        assert answer["data"]["sample"] == raised["sample"]
        assert answer["data"]["answer"] in ("true", "cannot say")
        assert {"probability", "by", "evidence"} <= set(answer["data"])
        took = []
        for kind in ("asystole", "bradycardia", "tachycardia", "ventricular_tachycardia", "ventricular_fibrillation"):
            answer, seconds = asker.ask(stream="bed", kind=kind)
            assert answer["status"] == "ok", answer
            took.append(seconds)
        assert max(took) < 1.0
        for arguments, wrong in (
            ({"stream": "bed", "kind": "boredom"}, "kind: one of asystole"),
            ({"stream": "bed", "kind": 5}, "kind:"),
            ({"stream": "nobody", "kind": "asystole"}, "no such stream"),
            ({"stream": "bed", "kind": "asystole", "sample": 10**12}, "has not come yet"),
            ({"stream": "bed", "kind": "asystole", "soon": 1}, "unknown: 'soon'"),
            ({"stream": "bed", "kind": "asystole", "time": "2020-01-01T00:00:00Z"}, " s ago; no more than 60 s back"),
            ({"stream": "bed", "kind": "asystole", "time": "2040-01-01T00:00:00Z"}, " s ahead of the stream"),
        ):
            answer, _ = asker.ask(**arguments)
            assert answer["status"] == "error"
            assert wrong in answer["error"]
        # Three seconds later, at this speed, it is forgotten.
        forgotten = {"stream": "bed", "kind": "asystole", "sample": raised["sample"]}
        for _ in range(60):
            time.sleep(0.5)  # not more often than requests are taken
            answer, _ = asker.ask(**forgotten)
            if answer["status"] == "error":
                break
        assert f"more than {OPINION_WITHIN_S:g} s ago" in answer["error"]
        asker.close()
