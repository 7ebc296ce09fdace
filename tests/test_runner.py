"""One stream's thread: what ends it, what it tries again, what it counts, and what it says meanwhile."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import config, events
from edge_agent.errors import ConfigError, EdgeAgentError, SourceBroken, SourceError, SourceLost
from edge_agent.inference.judge import Judge
from edge_agent.inference.worker import InferenceWorker
from edge_agent.journey import Block
from edge_agent.replay import Settings, run_blocks
from edge_agent.runner import StreamRunner
from edge_agent.sources.base import Counts, Signal, Source, StreamInfo
from edge_agent.sources.boards import registry
from edge_agent.sources.open import open_recording, open_source
from edge_agent.sources.paced import RecordingReader
from tests.spine import wait_for

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
        ("offline", "end of recording"),
    ]
    assert (health.source.frames_good, health.source.frames_bad, health.source.duplicates) == (6, 0, None)
    first, second = run.gaps()
    assert not first.exact
    assert (first.cause, second.cause) == ("source lost: silent: board", "source lost: unplugged: board")


@pytest.mark.parametrize(("rate", "warned"), [(FS, False), (1.05 * FS, False), (1.2 * FS, True), (0.8 * FS, True)])
def test_a_rate_that_is_not_what_was_said_is_logged_once(
    rate: float, warned: bool, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = Scripted()
    began = time.monotonic_ns()

    def blocks(_stop: threading.Event) -> Iterator[Block]:
        for n in range(200):
            arrived = began + round((n + 1) * 10 / rate * 1e9)
            yield Block(n * 10, FS, np.zeros((1, 10), np.float32), arrived_ns=arrived)

    monkeypatch.setattr(source, "blocks", blocks)
    with Run(source) as run:
        assert run.runner.ended.wait(20)
    said = [record.getMessage() for record in caplog.records if "samples a second" in record.getMessage()]
    assert (
        said
        == [f"stream bed: about {rate:.0f} samples a second come, fs says 100: heart rates and times will be wrong"]
        * warned
    )


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


class Tty:
    """A board that answers its start commands and then sends, on a pty that can be pulled out and plugged in elsewhere."""

    def __init__(self, link: Path, name: str) -> None:
        self.link = link
        self.codec = registry.codec(name)
        self.starts = 0
        self._ends: list[int] = []
        self._going = threading.Event()
        self._thread: threading.Thread | None = None

    def plug_in(self, seconds: float = 60.0) -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        self.link.symlink_to(os.ttyname(slave))
        self._ends = [master, slave]
        self._going.set()
        self._thread = threading.Thread(target=self._play, args=(master, seconds), daemon=True)
        self._thread.start()

    def _play(self, master: int, seconds: float) -> None:
        board = self.codec.board
        try:
            for command in board.start:
                want = b""
                while len(want) < len(command.send):
                    want += os.read(master, 1)
                if want != command.send:
                    return
                if command.wait_for:
                    os.write(master, command.wait_for)
            self.starts += 1
            encoder = self.codec.encoder()
            values = np.ones((len(board.channels), max(1, round(board.fs / 10))), np.float32) * np.float32(
                12 * board.channels[0].scale
            )
            until = time.monotonic() + seconds
            while self._going.is_set() and time.monotonic() < until:
                os.write(master, encoder.encode(values))
                time.sleep(0.1)
        except OSError:
            pass

    def unplug(self, *, leave_the_name: bool = False) -> None:
        self._going.clear()
        if not leave_the_name:
            self.link.unlink()
        ends, self._ends = self._ends, []
        for end in ends:
            os.close(end)
        if self._thread is not None:
            self._thread.join(10)


@contextmanager
def board_on_a_tty(link: Path, name: str) -> Iterator[Tty]:
    board = Tty(link, name)
    board.plug_in()
    try:
        yield board
    finally:
        if board._ends:
            board.unplug(leave_the_name=True)


@contextmanager
def wired(link: Path, name: str, silent_s: float) -> Iterator[Run]:
    source = {"type": "board", "board": name, "port": str(link), "silent_s": silent_s}
    text = {"name": "bed", "source": source, "signals": {"A1": "ecg"} if name == "bitalino" else {}}
    with Run(open_source(config.StreamConfig.model_validate(text)), text) as run:
        yield run


@pytest.mark.parametrize("name", ["cyton", "bitalino"])
def test_unplugged_and_back_by_the_same_name_with_its_start_commands(name: str, tmp_path: Path) -> None:
    with board_on_a_tty(tmp_path / "by-id", name) as board, wired(board.link, name, 10.0) as run:
        wait_for(lambda: run.runner.counters.samples > 50, "samples")
        board.unplug()
        wait_for(lambda: run.said[-1][0] == "offline", "its absence")
        assert run.said[-1][1].startswith(f"unplugged: {board.link}")
        before = run.runner.counters.samples
        board.plug_in()
        wait_for(lambda: run.said[-1] == ("online", "back"), "its return")
        wait_for(lambda: run.runner.counters.samples > before + 50, "samples again")
        assert board.starts == 2
        assert [state for state, _ in run.said] == ["online", "offline", "online"]
        assert not run.gaps()[-1].exact
        assert (run.runner.health().source.frames_good or 0) >= run.runner.counters.samples / len(
            board.codec.board.channels
        )


def test_a_board_that_falls_silent_is_silent_not_unplugged(tmp_path: Path) -> None:
    board = Tty(tmp_path / "by-id", "healthypi5")
    board.plug_in(seconds=1.0)
    try:
        with wired(board.link, "healthypi5", 1.0) as run:
            wait_for(lambda: run.said[-1:] and run.said[-1][0] == "offline", "silence")
            assert run.said[-1][1].startswith(f"silent: {board.link}: no sample for 1 s")
    finally:
        board.unplug()


def test_a_link_whose_other_end_closed_is_no_unplugging(tmp_path: Path) -> None:
    with board_on_a_tty(tmp_path / "by-id", "healthypi5") as board, wired(board.link, "healthypi5", 10.0) as run:
        wait_for(lambda: run.runner.counters.samples > 50, "samples")
        (tmp_path / "elsewhere").write_bytes(b"")
        target = board.link
        target.unlink()
        target.symlink_to(tmp_path / "elsewhere")  # the name is still there
        board.unplug(leave_the_name=True)
        wait_for(lambda: run.said[-1][0] == "offline", "its absence")
        assert run.said[-1][1].startswith((f"end of file: {target}", f"read error: {target}"))


def test_a_busy_port_and_one_that_is_not_allowed_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with board_on_a_tty(tmp_path / "by-id", "healthypi5") as board, wired(board.link, "healthypi5", 10.0):
        source = {"type": "board", "board": "healthypi5", "port": str(board.link)}
        stream = config.StreamConfig.model_validate({"name": "two", "source": source})
        with pytest.raises(SourceError, match="cannot be opened") as caught:
            open_source(stream)
        assert "another program" in str(caught.value)

    def forbidden(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(SourceError, match="dialout"):
        open_source(stream)


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
