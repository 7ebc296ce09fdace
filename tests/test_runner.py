"""One stream's thread: what ends it, what it tries again, what it counts, and what it says meanwhile."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import config, events
from edge_agent.errors import ConfigError, EdgeAgentError, SourceBroken, SourceLost
from edge_agent.inference.judge import Judge
from edge_agent.journey import Block
from edge_agent.replay import Settings, run_blocks
from edge_agent.runner import AWAY_MARGIN_S, StreamRunner
from edge_agent.sources.asked import Asked
from edge_agent.sources.base import Counts, Signal, Source, StreamInfo
from edge_agent.sources.open import open_recording, open_source
from edge_agent.sources.paced import RecordingReader
from edge_agent.worker import InferenceWorker
from tests.spine import free_port, wait_for

FS = 100.0


class Scripted:
    """A source that does what it is told: blocks, and then the error, at each call of ``blocks``."""

    speed = 1.0

    def __init__(self, *turns: Exception | None, resumes: bool = False, waits_for: str = "") -> None:
        self.info = StreamInfo(FS, (Signal("II", "ecg", "mV"),))
        self.resumes, self.waits_for = resumes, waits_for
        self.turns = list(turns)
        self.calls = self.closed = 0

    def blocks(self, stop: threading.Event) -> Iterator[Block]:
        self.calls += 1
        if not self.turns:
            stop.wait(30)
            return
        error = self.turns.pop(0)
        for n in range(2):
            yield Block(n * 10, FS, np.zeros((1, 10), np.float32), arrived_ns=time.monotonic_ns())
        if error is not None:
            raise error

    def counters(self) -> Counts:
        return {"frames_good": 2 * self.calls, "frames_bad": 0}

    def close(self) -> None:
        self.closed += 1


class Run:
    """A runner, and all that it said."""

    def __init__(self, source: Source | None, text: dict[str, Any] | None = None) -> None:
        self.said: list[tuple[str, str]] = []
        self.events: list[events.Event] = []
        stream = config.StreamConfig.model_validate({"name": "bed", "source": {"type": "simulated"}, **(text or {})})
        self.worker = InferenceWorker(self.events.append, 1000)
        self.worker.start()
        try:
            self.runner = StreamRunner(
                stream,
                device="d",
                session="s",
                judge=Judge({}),
                worker=self.worker,
                publish=self.events.append,
                say_available=lambda _stream, state, reason: self.said.append((state, reason)),
                source=source,
            )
        except BaseException:
            self.worker.stop(1)
            raise

    def __enter__(self) -> Run:
        self.runner.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.runner.stop()
        self.runner.join(10)
        self.worker.stop(1)

    def gaps(self) -> list[events.Gap]:
        return [event for event in self.events if isinstance(event, events.Gap)]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.runner.BACKOFF_S", (0.3, 0.4))


def test_damage_ends_a_stream_and_is_said_once() -> None:
    source = Scripted(SourceBroken("the file is cut", remedy="fetch it again"))
    with Run(source) as run:
        assert run.runner.ended.wait(10)
        time.sleep(0.5)  # no second try
    assert run.said == [("online", "started"), ("offline", "failed: the file is cut; fetch it again")]
    assert (source.calls, source.closed) == (1, 1)
    health = run.runner.health()
    assert (health.state, health.restarts, health.samples) == ("failed", 0, 20)


def test_a_source_that_was_lost_is_opened_anew_and_its_counts_go_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    opened = [Scripted(SourceLost("silent: board")), Scripted(SourceLost("unplugged: board")), Scripted(None)]
    waiting = iter(opened[1:])
    monkeypatch.setattr("edge_agent.runner.open_source", lambda _: next(waiting))
    with Run(opened[0]) as run:
        wait_for(lambda: run.runner.ended.is_set(), "the third's end")
        health = run.runner.health()
    assert [one.closed for one in opened] == [1, 1, 1]
    assert [record.getMessage() for record in caplog.records if "back" in record.getMessage()] == [
        "stream bed: back"
    ] * 2
    assert run.said == [
        ("online", "started"),
        ("offline", "silent: board"),
        ("online", "back"),
        ("offline", "unplugged: board"),
        ("online", "back"),
        ("offline", "end of recording: the script is over, no fault"),
    ]
    assert (health.source.frames_good, health.source.frames_bad, health.source.duplicates) == (6, 0, None)
    first, second = run.gaps()
    assert not first.exact
    assert (first.cause, second.cause) == ("source lost: silent: board", "source lost: unplugged: board")


ON_A_WIRE = {"type": "stdin", "fs": FS, "columns": ["II"]}
RECORDED = {"type": "file", "path": "a.csv"}


@pytest.mark.parametrize(
    ("settings", "rate", "warned"),
    [
        (ON_A_WIRE, FS, ""),
        (ON_A_WIRE, 1.05 * FS, ""),
        (ON_A_WIRE, 1.2 * FS, "about 120 samples a second come, fs says 100: heart rates and times will be wrong"),
        (ON_A_WIRE, 0.8 * FS, "about 80 samples a second come, fs says 100: heart rates and times will be wrong"),
        (RECORDED, 0.8 * FS, "this machine does not keep speed = 1: it falls behind"),
        (RECORDED, 1.2 * FS, ""),
        (RECORDED, 0.95 * FS, ""),
    ],
)
def test_a_rate_that_is_not_what_was_said_is_logged_once(
    settings: dict[str, Any],
    rate: float,
    warned: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of a recording the rate is known: what is slow is who plays it."""
    source = Scripted()
    began = time.monotonic_ns()

    def blocks(_stop: threading.Event) -> Iterator[Block]:
        for n in range(200):
            arrived = began + round((n + 1) * 10 / rate * 1e9)
            yield Block(n * 10, FS, np.zeros((1, 10), np.float32), arrived_ns=arrived)

    monkeypatch.setattr(source, "blocks", blocks)
    with Run(source, {"source": settings}) as run:
        assert run.runner.ended.wait(20)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert said == ([f"stream bed: {warned}"] if warned else [])


def test_one_that_listens_on_is_not_opened_anew() -> None:
    source = Scripted(SourceLost("end of file: client"), resumes=True, waits_for="a client on tcp://x")
    with Run(source) as run:
        wait_for(lambda: source.calls == 2, "the second call")
        assert source.closed == 0
    assert source.closed == 1
    assert run.said == [
        ("offline", "waiting for a client on tcp://x"),
        ("online", "started"),
        ("offline", "end of file: client"),
    ]


def told(run: Run) -> list[tuple[str, str]]:
    return [(one.kind, one.state) for one in list(run.events) if isinstance(one, events.Alarm)]


def _talks(port: int, first: int, end: int) -> socket.socket:
    one = socket.create_connection(("127.0.0.1", port), timeout=10)
    one.sendall(b"\n" + b"".join(b"0,%d\n" % (i % 40 + 80) for i in range(first, end)))
    return one


def test_alarms_do_not_stand_on_a_client_that_has_gone() -> None:
    """Nobody knocks again, and all the same the signal's loss is said; when somebody does, it is over, and nothing came twice."""
    port = free_port()
    source = {"type": "tcp", "port": port, "fs": FS, "columns": ["II", "ABP"], "silent_s": 20.0}
    text = {"source": source, "alarms": {"signal_lost_s": 2.0}}
    with Run(open_source(config.StreamConfig.model_validate({"name": "bed", **text})), text) as run:
        runner = run.runner
        with _talks(port, 0, 1000):
            wait_for(lambda: ("lead_off", "raised") in told(run), "a lead that does not move")
            wait_for(lambda: runner.counters.samples == 1000, "all its samples")
        went = time.monotonic()
        wait_for(lambda: ("signal_lost", "raised") in told(run), "the loss, while nobody is there")
        assert 1.9 < time.monotonic() - went < 2.0 + AWAY_MARGIN_S + 6.0  # a loaded machine
        wait_for(lambda: ("lead_off", "cleared") in told(run), "an alarm that stood on the client")
        pipeline = runner.pipeline
        assert pipeline is not None
        sample, said = pipeline.opinion("asystole", None, None)
        assert (said.answer, said.evidence) == ("cannot say", {"no_signal_since_sample": 1000})
        assert said.by.startswith("no signal since 20")
        assert sample > 1000
        with _talks(port, 1000, 2000):
            wait_for(lambda: ("signal_lost", "cleared") in told(run), "its end")
            wait_for(lambda: runner.counters.samples == 2000, "the second client's samples")
            wait_for(lambda: told(run).count(("lead_off", "raised")) == 2, "what stands now")
            assert pipeline.opinion("asystole", None, None)[1].evidence.get("no_signal_since_sample") is None
        (gap,) = run.gaps()
        assert gap.first == 1000
        assert pipeline.ring.end == 2000 + gap.lost
    assert told(run).count(("signal_lost", "raised")) == 1


def test_a_client_that_never_came_is_a_signal_that_is_lost() -> None:
    """After a crash and a start again with the client away, somebody must be told that this bed is not watched."""
    port = free_port()
    source = {"type": "tcp", "port": port, "fs": FS, "columns": ["II", "ABP"], "silent_s": 20.0}
    text = {"source": source, "alarms": {"signal_lost_s": 1.0}}
    with Run(open_source(config.StreamConfig.model_validate({"name": "bed", **text})), text) as run:
        began = time.monotonic()
        wait_for(lambda: told(run), "the alarm")
        assert told(run) == [("signal_lost", "raised")]
        assert time.monotonic() - began > 1.0
        (alarm,) = (one for one in run.events if isinstance(one, events.Alarm))
        assert alarm.time is not None
        assert abs(alarm.time.timestamp() - (time.time() - AWAY_MARGIN_S)) < 5.0
        with _talks(port, 0, 1000):
            wait_for(lambda: ("signal_lost", "cleared") in told(run), "its end")
            wait_for(lambda: run.runner.counters.samples == 1000, "the samples")
        (gap,) = run.gaps()
        assert (gap.first, gap.exact, gap.cause) == (0, False, "no samples since the start")
        assert gap.lost >= FS
        pipeline = run.runner.pipeline
        assert pipeline is not None
        assert pipeline.ring.end == gap.lost + 1000
        assert run.runner.health().lost_samples == 0  # nobody had sent them
    assert told(run).count(("signal_lost", "raised")) == 1


@pytest.mark.parametrize("resample", [None, 250.0])
def test_a_board_that_was_never_there_is_a_signal_that_is_lost(resample: float | None, tmp_path: Path) -> None:
    source = {"type": "board", "board": "cyton", "port": str(tmp_path / "none"), "wait_for_port": True}
    text = {"source": source, "alarms": {"signal_lost_s": 1.0}, "signals": {}}
    if resample is not None:
        source |= {"type": "serial", "fs": 500.0, "columns": ["II"]}
        del source["board"]
        text["resample"] = resample
    with Run(None, text) as run:
        wait_for(lambda: ("signal_lost", "raised") in told(run), "the alarm")
        assert run.said[-1][0] == "offline"
        assert run.runner.fs == 250


def test_one_that_comes_soon_begins_with_number_0() -> None:
    port = free_port()
    source = {"type": "tcp", "port": port, "fs": FS, "columns": ["II", "ABP"], "silent_s": 20.0}
    text = {"source": source, "alarms": {"signal_lost_s": 60.0}}
    with Run(open_source(config.StreamConfig.model_validate({"name": "bed", **text})), text) as run:
        time.sleep(AWAY_MARGIN_S + 0.6)
        with _talks(port, 0, 100):
            wait_for(lambda: run.runner.counters.samples == 100, "the samples")
        assert run.gaps() == []


def test_a_source_that_asks_is_told_of_the_end_and_time_passes_only_in_its_own_thread() -> None:
    stop = threading.Event()
    passed: list[int] = []
    asked = Asked(stop, lambda: passed.append(threading.get_ident()))
    assert not asked.is_set()
    assert not asked.wait(0.6)
    other = threading.Thread(target=asked.is_set)
    other.start()
    other.join(10)
    assert len(passed) >= 3
    assert set(passed) == {threading.get_ident()}
    threading.Timer(0.2, stop.set).start()
    assert asked.wait(20)
    assert asked.is_set()


def test_a_start_that_is_refused_leaves_no_source_open() -> None:
    source = Scripted()
    with pytest.raises(EdgeAgentError):
        Run(source, {"detector": "ecgdetectors:no-such-detector"})
    assert source.closed == 1


def test_lost_samples_are_exact_where_they_are_numbered() -> None:
    class Numbered(Scripted):
        def blocks(self, stop: threading.Event) -> Iterator[Block]:
            now = time.monotonic_ns()
            zeros = np.zeros((1, 100), np.float32)
            yield Block(0, FS, zeros, arrived_ns=now)
            yield Block(107, FS, zeros, lost_before=7, lost_exact=True, arrived_ns=now)
            yield Block(212, FS, zeros, lost_before=5, lost_cause="the board says so", arrived_ns=now)
            stop.wait(20)

    with Run(Numbered()) as run:
        wait_for(lambda: len(run.gaps()) == 2, "two gaps")
    assert [(gap.lost, gap.exact, gap.cause) for gap in run.gaps()] == [
        (7, True, "samples lost"),
        (5, False, "the board says so"),
    ]


def test_an_unpaced_recording_gives_the_events_of_its_replay(mitdb: Path) -> None:
    source = {"type": "file", "path": str(mitdb / "100"), "speed": "max", "offset": 60.0}
    stream = config.StreamConfig.model_validate({"name": "bed", "source": source})
    with Run(open_source(stream), {"source": source}) as run:
        assert run.runner.ended.wait(120)
    assert run.runner.health().state == "ended"
    recording = open_recording(mitdb / "100")
    reader = RecordingReader(recording, offset_s=60.0)
    blocks = iter(lambda: reader.read(3600), None)
    replayed = list(run_blocks(reader.info, blocks, Judge({}), Settings(), "bed"))
    live, wanted = (
        [(event.sample, event.channel) for event in one if isinstance(event, events.Beat)]
        for one in (run.events, replayed)
    )
    assert len(wanted) > 2000
    assert live == wanted


# -- a board on a real tty --------------------------------------------------------------------------------------------


# -- configuration ----------------------------------------------------------------------------------------------------

HEAD = '[mqtt]\nusername = "edge"\n[[stream]]\nname = "bed"\n[stream.source]\n'
LINES = 'fs = 250\ncolumns = ["II"]\n'


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('type = "tcp"\n' + LINES, "stream[0] (bed).source.port: is missing"),
        ('type = "tcp"\nport = 0\n' + LINES, "source.port: found 0; should be greater than or equal to 1"),
        ('type = "tcp"\nport = 9000\nhots = "x"\n' + LINES, "source.hots: unknown key; did you mean 'host'?"),
        ('type = "stdin"\ncolumns = ["II"]\n', "stream[0] (bed).source.fs: is missing"),
        ('type = "stdin"\ncomment = [" "]\n' + LINES, "an empty word would make every line a remark"),
        ('type = "mqtt"\n', "stream[0] (bed).source.topic: is missing"),
        ('type = "mqtt"\ntopic = "a/#"\n', "source.topic: found 'a/#'; must be one plain topic"),
        (
            'type = "mqtt"\ntopic = "a"\nbroker = { prot = 1 }\n',
            "source.broker.prot: unknown key; did you mean 'port'?",
        ),
        (
            'type = "mqtt"\ntopic = "a"\nbroker = { password_file = "none" }\n',
            "broker.password_file: none: no such file",
        ),
        ('type = "lsl"\n', "stream[0] (bed).source: needs a name, a stream_type or a source_id"),
        ('type = "lsl"\nname = "x"\nresolv_s = 1\n', "source.resolv_s: unknown key; did you mean 'resolve_s'?"),
        ('type = "file"\npath = "none.hdf5"\n', "source.path: none.hdf5: no such recording"),
        ('type = "file"\npath = "edge.toml"\nspeed = "fast"\n', "source.speed: found 'fast'; should be"),
        (
            'type = "file"\npath = "edge.toml"\noffset = -1\n',
            "source.offset: found -1; should be greater than or equal to 0",
        ),
        (
            'type = "stdin"\n' + LINES + '[[stream]]\nname = "b"\n[stream.source]\ntype = "stdin"\n' + LINES,
            "two streams read the standard input",
        ),
        (
            'type = "tcp"\nport = 9\n'
            + LINES
            + '[[stream]]\nname = "b"\n[stream.source]\ntype = "tcp"\nport = 9\n'
            + LINES,
            "two streams listen on TCP port 9",
        ),
    ],
)
def test_what_is_wrong_with_a_source_s_table(text: str, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    path.write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    assert len(caught.value.problems) == 1, caught.value.problems
    assert problem in caught.value.problems[0]


def test_an_mqtt_source_takes_the_agent_s_broker_and_shows_no_secret(tmp_path: Path) -> None:
    path = tmp_path / "edge.toml"
    (tmp_path / "secret").write_text("x", encoding="utf-8")
    own = 'broker = { host = "other", username = "someone", password_file = "secret" }\n'
    path.write_text(
        HEAD
        + 'type = "mqtt"\ntopic = "a"\n[[stream]]\nname = "b"\n[stream.source]\ntype = "mqtt"\ntopic = "c"\n'
        + own,
        encoding="utf-8",
    )
    loaded = config.load(path)
    first, second = (stream.source for stream in loaded.stream)
    assert isinstance(first, config.MqttSource)
    assert isinstance(second, config.MqttSource)
    assert first.broker == loaded.mqtt
    assert second.broker is not None
    assert (second.broker.host, second.broker.password_file) == ("other", tmp_path.resolve() / "secret")
    shown = [stream["source"]["broker"] for stream in loaded.public()["stream"]]
    assert [one["username"] for one in shown] == ["(set)", "(set)"]
    assert shown[1]["password_file"] == "(set)"
