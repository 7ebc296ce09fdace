"""The daemon as a process: stopping, reloading, one stream's fault, the watchdog, a hung model, the waveform."""

from __future__ import annotations

import contextlib
import itertools
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import serial

from edge_agent import config, events
from edge_agent.config import Config, SimulatedSource, StreamConfig
from edge_agent.daemon import NEEDS_RESTART, Daemon
from edge_agent.errors import SourceError, SourceLost
from edge_agent.inference.judge import Judge, load_models, shipped_models
from edge_agent.inference.worker import InferenceWorker
from edge_agent.journey import Block, Samples
from edge_agent.runner import StreamRunner
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.open import open_source
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from tests.spine import (
    Broker,
    Listener,
    PtyBoard,
    base_config,
    csv_lines,
    free_port,
    listening,
    pty_board,
    retained_now,
    running_agent,
    running_broker,
    serial_stream,
    simulated,
    wait_for,
)

FS = 250.0
SECRETIVE = re.compile(r"Traceback|unexpected fault")


@pytest.fixture
def broker(program: Callable[[str], str], tmp_path: Path) -> Iterator[Broker]:
    with running_broker(program("mosquitto"), tmp_path) as broker:
        yield broker


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    with listening(broker.port) as listener:
        yield listener


def sinus_lines(seconds: float, seed: int = 1) -> list[bytes]:
    patient = SimulatedPatient(FS, ("II",), Script((Episode("sinus", seconds),)), seed)
    block = patient.read(round(seconds * FS))
    assert block is not None
    return csv_lines(("II",), block.values)


@contextlib.contextmanager
def writing(board: PtyBoard, lines: Sequence[bytes], lines_per_s: float = 4 * FS) -> Iterator[threading.Event]:
    """A board that prints in the background; set the event to silence it."""
    stop = threading.Event()
    thread = threading.Thread(target=board.write_paced, args=(lines, lines_per_s, stop))
    thread.start()
    try:
        yield stop
    finally:
        stop.set()
        thread.join()


def short_script(folder: Path, seconds: float) -> str:
    (folder / "short.toml").write_text(f'[[episodes]]\nrhythm = "sinus"\nduration_s = {seconds}\n', encoding="utf-8")
    return 'script = "short.toml"'


# -- stopping --------------------------------------------------------------------------------------------------------


def test_sigterm_says_offline_within_5_s(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed1") + simulated("bed2", source="speed = 10"))
    with running_agent(tmp_path, text) as agent:
        listener.wait("bed1", "beat")
        listener.wait("bed2", "verdict")
        began = time.monotonic()
        agent.signal(signal.SIGTERM)
        assert agent.wait(5.0) == 0
        assert time.monotonic() - began < 5.0
        kept = retained_now(broker.port)
        assert kept["edge-agent/dev/bridge/state"] == {"state": "offline"}
        for stream in ("bed1", "bed2"):
            said = kept[f"edge-agent/dev/{stream}/availability"]
            assert (said["state"], said["reason"]) == ("offline", "agent stopped")
        assert [one["state"] for one in listener.of("bridge", "state")] == ["online", "offline"]
        assert not SECRETIVE.search(agent.log)


def test_sigterm_is_heeded_without_a_broker(program: Callable[[str], str], tmp_path: Path) -> None:
    absent = Broker(program("mosquitto"), tmp_path)
    with running_agent(tmp_path, base_config(absent.port, simulated("bed"))) as agent:
        agent.wait_log("cannot be reached")
        agent.signal(signal.SIGTERM)
        assert agent.wait(5.0) == 0


def test_streams_that_end_end_the_daemon(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    source = short_script(tmp_path, 20) + "\nspeed = 20"
    with running_agent(
        tmp_path, base_config(broker.port, simulated("a", source=source) + simulated("b", source=source))
    ) as agent:
        assert agent.wait() == 0
    wait_for(lambda: len(listener.of("bridge", "state")) == 2, "the goodbye")
    for stream in ("a", "b"):
        said = [(one["state"], one["reason"]) for one in listener.of(stream, "availability")]
        assert said == [("online", "started"), ("offline", "end of recording")]


def test_hung_streams_are_not_waited_for_one_by_one(tmp_path: Path) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(base_config(free_port(), "".join(simulated(f"bed{n}") for n in range(8))), encoding="utf-8")
    daemon = Daemon(config.load(path), path)
    for runner in daemon._runners:
        runner._thread = threading.Thread(target=time.sleep, args=(20,), daemon=True)
        runner.start()
    began = time.monotonic()
    daemon._shut_down()
    assert time.monotonic() - began < 5.0


def test_a_broker_that_answers_nothing_holds_up_no_stop(tmp_path: Path) -> None:
    with socket.socket() as deaf, contextlib.ExitStack() as callers:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        for _ in range(3):  # its queue of callers is full: one more waits for its connection until it gives up
            caller = callers.enter_context(socket.socket())
            caller.setblocking(False)
            caller.connect_ex(deaf.getsockname())
        with running_agent(tmp_path, base_config(deaf.getsockname()[1], simulated("bed"))) as agent:
            agent.wait_log("running: 1 streams")
            agent.signal(signal.SIGTERM)
            assert agent.wait(5.0) == 0


# -- starting --------------------------------------------------------------------------------------------------------


def test_nothing_is_half_started(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    (tmp_path / "bad.csv").write_text("II\n0.1\nnonsense\n", encoding="utf-8")
    bad = '[[stream]]\nname = "bad"\n[stream.source]\ntype = "file"\npath = "bad.csv"\nfs = 250\n'
    with pty_board(tmp_path / "board") as board:
        text = base_config(broker.port, serial_stream("good", board.link, ("II",)) + bad)
        with running_agent(tmp_path, text) as agent:
            assert agent.wait() == 1
            assert "stream bad" in agent.log
            assert "line 3: 'nonsense' is not a number" in agent.log
            assert "Traceback" not in agent.log
        serial.Serial(str(board.link), exclusive=True).close()  # nobody holds it
    assert listener.heard == []


# -- reloading -------------------------------------------------------------------------------------------------------


def test_sighup_reloads_limits_and_names_the_rest(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed", source="speed = 10"))
    with running_agent(tmp_path, text) as agent:
        listener.wait("bed", "beat")
        # Nothing is wrong with 70 beats a minute, until someone says so.
        assert listener.of("bed", "alarm") == []
        agent.config.write_text("health_s = 'often'\n" + text, encoding="utf-8")
        agent.signal(signal.SIGHUP)
        agent.wait_log("reload refused, nothing changed")
        infos = len(listener.of("bridge", "info"))
        changed = base_config(
            broker.port,
            simulated("bed", source="speed = 10\nseed = 5\n[stream.alarms]\nbradycardia_per_min = 120")
            + simulated("new"),
            mqtt="keepalive_s = 60",
        )
        agent.config.write_text(changed, encoding="utf-8")
        agent.signal(signal.SIGHUP)
        log = agent.wait_log("only a restart takes them up")
        assert "reloaded: bed.alarms" in log
        (named,) = [line for line in log.splitlines() if "only a restart" in line]
        for what in ("stream bed", "stream new (new)", "mqtt"):
            assert what in named
        assert "inference" not in named
        alarm = listener.wait("bed", "alarm", kind="bradycardia", state="raised")
        assert alarm["priority"]
        fresh = wait_for(lambda: listener.of("bridge", "info")[infos:], "the fresh info")[-1]["config"]
        assert fresh["stream"][0]["alarms"]["bradycardia_per_min"] == 120
        assert fresh["stream"][0]["source"]["seed"] == 0  # what runs, not what the file says
        assert fresh["mqtt"]["keepalive_s"] == 30
        assert agent.process.poll() is None


def test_a_bad_file_changes_nothing(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed", source="speed = 10"))
    with running_agent(tmp_path, text) as agent:
        listener.wait("bed", "beat")
        info = listener.of("bridge", "info")
        bad = text.replace('name = "bed"', 'name = "bed"\nalarms = { bradycardia_per_min = 120, asystole_z = 3 }')
        agent.config.write_text(bad, encoding="utf-8")
        agent.signal(signal.SIGHUP)
        log = agent.wait_log("reload refused, nothing changed")
        assert "did you mean 'asystole_s'" in log
        at = listener.of("bed", "state")[-1]["sample"]
        wait_for(lambda: listener.of("bed", "state")[-1]["sample"] > at + 20 * FS, "another 20 s of signal")
        assert listener.of("bed", "alarm") == []
        assert listener.of("bridge", "info") == info
        assert agent.process.poll() is None


# -- one stream's fault ----------------------------------------------------------------------------------------------


def test_an_unplugged_board_stops_its_own_stream_only(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    lines = sinus_lines(120)
    with pty_board(tmp_path / "board") as board:
        text = base_config(
            broker.port, serial_stream("wired", board.link, ("II",)) + simulated("other", source="speed = 4")
        )
        with running_agent(tmp_path, text) as agent:
            listener.wait("other", "availability", state="online")
            with writing(board, lines):
                listener.wait("wired", "beat")
            went = time.monotonic()
            board.unplug()
            gone = listener.wait("wired", "availability", state="offline")
            assert str(board.link) in gone["reason"]
            beats = len(listener.of("other", "beat"))
            wait_for(lambda: len(listener.of("other", "beat")) > beats + 5, "the other stream to go on")
            assert [one["state"] for one in listener.of("other", "availability")] == ["online"]
            before = max(one["known"] for one in listener.of("wired", "beat"))
            board.plug_in()
            with writing(board, lines):
                back = listener.wait("wired", "availability", state="online", reason="back")
                away_s = time.monotonic() - went
                gap = listener.wait("wired", "gap")
                assert gap["cause"].startswith("source lost: ")
                assert gap["first"] > before
                assert gap["lost"] == gap["sample"] - gap["first"]
                assert 0 < gap["lost"] <= (away_s + 1) * FS  # as long as it was away, by the clock
                beat = wait_for(
                    lambda: [one for one in listener.of("wired", "beat") if one["known"] >= gap["sample"]],
                    "a beat after",
                )[0]
                assert beat["sample"] >= gap["sample"]
                assert beat["rr_ms"] is None  # nothing bridges the gap
            assert back["time"] > gone["time"]
            health = wait_for(
                lambda: [one for one in listener.of("bridge", "health") if one["streams"]["wired"]["lost_samples"]],
                "health",
            )[-1]["streams"]
            assert health["wired"]["lost_samples"] == gap["lost"]
            assert health["wired"]["restarts"] >= 1
            assert health["other"]["restarts"] == health["other"]["lost_samples"] == 0
            assert not SECRETIVE.search(agent.log)


def test_a_damaged_file_ends_its_stream_and_says_what_to_do(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    """Its signal file is shorter than its header says: found out in the second minute."""
    fs, told_s, held_s = 100, 180, 70
    patient = SimulatedPatient(fs, ("II",), Script((Episode("sinus", held_s),)), 2)
    block = patient.read(held_s * fs)
    assert block is not None
    (tmp_path / "cut.hea").write_text(f"cut 1 {fs} {told_s * fs}\ncut.dat 16 200/mV 16 0 0 0 0 II\n", encoding="ascii")
    np.rint(block.values[0] * 200).astype("<i2").tofile(tmp_path / "cut.dat")
    file = '[[stream]]\nname = "cut"\n[stream.source]\ntype = "file"\npath = "cut"\nspeed = 60\n'
    with running_agent(tmp_path, base_config(broker.port, file + simulated("other"))) as agent:
        gone = listener.wait("cut", "availability", state="offline")
        assert gone["reason"].startswith("failed: ")
        assert "cannot be read at sample 7000" in gone["reason"]
        assert "fetch the record again" in gone["reason"]
        health = wait_for(
            lambda: [one for one in listener.of("bridge", "health") if one["streams"]["cut"]["state"] == "failed"],
            "health",
        )[-1]["streams"]["cut"]
        assert (health["samples"], health["restarts"]) == (held_s * fs, 0)  # all that was there, and no second try
        wait_for(lambda: len(listener.of("other", "beat")) > 3, "the other stream to go on")
        assert [one["state"] for one in listener.of("other", "availability")] == ["online"]
        agent.signal(signal.SIGTERM)
        assert agent.wait(5.0) == 0
        assert not SECRETIVE.search(agent.log)


def test_a_board_that_is_not_there_yet_is_waited_for(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    link = tmp_path / "board"
    text = base_config(broker.port, serial_stream("wired", link, ("II",), extra="wait_for_port = true"))
    with running_agent(tmp_path, text):
        listener.wait("wired", "availability", state="offline")
        with pty_board(link) as board, writing(board, sinus_lines(60)):
            listener.wait("wired", "availability", state="online")
            assert listener.wait("wired", "beat")["sample"] < 60 * FS


# -- systemd ---------------------------------------------------------------------------------------------------------


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._said: list[tuple[float, str]] = []

    def said(self, since: float = 0.0) -> list[str]:
        """What came after that moment of the monotonic clock."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self._socket.recv(4096, socket.MSG_DONTWAIT).decode()
                self._said += [(time.monotonic(), line) for line in text.splitlines()]
        return [line for at, line in self._said if at >= since]

    def close(self) -> None:
        self._socket.close()


def test_systemd_hears_of_life_only_while_samples_advance(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(pty_board(tmp_path / "board"))
        systemd = stack.enter_context(contextlib.closing(Systemd(tmp_path / "notify")))
        text = base_config(broker.port, serial_stream("wired", board.link, ("II",), extra="silent_s = 20"))
        environment = {"NOTIFY_SOCKET": str(systemd.path)}
        agent = stack.enter_context(running_agent(tmp_path, text, environment=environment))
        wait_for(lambda: "READY=1" in systemd.said(), "READY=1")
        with writing(board, sinus_lines(120), FS):
            listener.wait("wired", "availability", state="online")  # before that nobody expects samples
            before = systemd.said().count("WATCHDOG=1")
            wait_for(lambda: systemd.said().count("WATCHDOG=1") >= before + 4, "the watchdog to be fed")
        # The port is open and nothing comes: as when the stream's thread hangs.
        wait_for(lambda: not _fed_within(systemd, 0.8), "the watchdog to go hungry")
        assert not _fed_within(systemd, 1.2)
        board.unplug()  # now the fault is known and said: being killed would not help
        listener.wait("wired", "availability", state="offline")
        wait_for(lambda: _fed_within(systemd, 0.8), "the watchdog to be fed although there is no board")
        agent.signal(signal.SIGTERM)
        assert agent.wait(5.0) == 0
        said = systemd.said()
        assert said.index("READY=1") < said.index("STOPPING=1")
        assert "WATCHDOG=1" not in said[said.index("STOPPING=1") :]


def _fed_within(systemd: Systemd, seconds: float) -> bool:
    since = time.monotonic()
    systemd.said()
    time.sleep(seconds)
    return "WATCHDOG=1" in systemd.said(since)


def test_a_reload_is_told_to_systemd(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    with contextlib.closing(Systemd(tmp_path / "notify")) as systemd:
        environment = {"NOTIFY_SOCKET": str(systemd.path)}
        with running_agent(tmp_path, base_config(broker.port, simulated("bed")), environment=environment) as agent:
            listener.wait("bed", "availability", state="online")
            wait_for(lambda: "READY=1" in systemd.said(), "READY=1")
            before = len(systemd.said())
            agent.signal(signal.SIGHUP)
            wait_for(lambda: "READY=1" in systemd.said()[before:], "the reload's end")
            said = [line for line in systemd.said()[before:] if not line.startswith(("WATCHDOG=", "STATUS="))]
            # Without the time, systemd's Type=notify-reload would wait for it.
            assert [line.split("=")[0] for line in said] == ["RELOADING", "MONOTONIC_USEC", "READY"]


# -- a hung model ----------------------------------------------------------------------------------------------------


class HangingEngine:
    """A model that never answers until it is let go."""

    backend = "fake"

    def __init__(self, labels: int) -> None:
        self.go = threading.Event()
        self.asked = threading.Event()
        self._answer: Samples = np.zeros(labels, np.float32)

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:  # noqa: ARG002
        self.asked.set()
        self.go.wait()
        return self._answer


class FaultyEngine:
    """A model whose code has a fault of its own, once."""

    backend = "fake"

    def __init__(self, labels: int) -> None:
        self.calls = itertools.count()
        self._answer: Samples = np.zeros(labels, np.float32)

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:  # noqa: ARG002
        if next(self.calls) == 3:
            raise ZeroDivisionError("of its own")
        return self._answer


class Bench:
    """One stream with a model of our making, as the daemon puts them together."""

    def __init__(self, engine: Callable[[int], Any], script: Path, *, speed: float, bound: int) -> None:
        loaded = load_models(shipped_models())
        name = next(name for name, one in loaded.items() if one.artifact.manifest.anchor.kind == "beat")
        self.engine = engine(len(loaded[name].artifact.manifest.labels))
        self.published: list[tuple[float, events.Event]] = []
        self.worker = InferenceWorker(self._publish, bound)
        source = SimulatedSource(type="simulated", fs=FS, channels=["II"], script=script, speed=speed)
        stream = StreamConfig(name="bed", source=source, models=[name])
        self.runner = StreamRunner(
            stream,
            device="dev",
            session="s",
            judge=Judge({name: replace(loaded[name], engine=self.engine)}),
            worker=self.worker,
            publish=self._publish,
            say_available=lambda *_: None,
            source=open_source(stream),
        )

    def _publish(self, event: events.Event) -> None:
        self.published.append((time.monotonic(), event))

    def of(self, kind: type[events.Event]) -> list[Any]:
        return [event for _, event in list(self.published) if isinstance(event, kind)]

    def answers(self) -> list[events.Verdict]:
        """Verdicts that the model was asked for: some windows abstain without."""
        return [verdict for verdict in self.of(events.Verdict) if verdict.scores]

    def run(self) -> None:
        self.worker.start()
        self.runner.start()


def test_a_hung_model_holds_nothing_up_that_needs_none(tmp_path: Path) -> None:
    script = tmp_path / "s.toml"
    script.write_text(
        '[[episodes]]\nduration_s = 30\n[[episodes]]\nrhythm = "asystole"\nduration_s = 10\n[[episodes]]\nduration_s = 20\n',
        encoding="utf-8",
    )
    bench = Bench(HangingEngine, script, speed=20.0, bound=8)
    bench.run()
    assert wait_for(lambda: bench.runner.ended.is_set(), "the end of the signal, with the model hanging all the time")
    assert bench.engine.asked.is_set()
    assert bench.answers() == []
    beats = bench.of(events.Beat)
    assert len(beats) > 40
    assert {(alarm.kind, alarm.state) for alarm in bench.of(events.Alarm)} >= {
        ("asystole", "raised"),
        ("asystole", "cleared"),
    }
    # In time, too: a block is at most 40 ms long, so a wait on the model would show.
    late = [event.latency.compute_ms for event in (*beats, *bench.of(events.Alarm))]
    assert max(late) < 2000
    # The queue stayed within its bound, and what that cost was counted.
    assert bench.worker.waiting <= 8
    assert bench.worker.counters.dropped > 40
    bench.engine.go.set()
    wait_for(lambda: bench.worker.waiting == 0, "the model to catch up")
    bench.worker.stop()
    assert 1 <= len(bench.answers()) <= 9


def test_a_fault_while_judging_does_not_silence_the_models(tmp_path: Path) -> None:
    script = tmp_path / "s.toml"
    script.write_text("[[episodes]]\nduration_s = 30\n", encoding="utf-8")
    bench = Bench(FaultyEngine, script, speed=50.0, bound=4096)
    bench.run()
    wait_for(lambda: bench.runner.ended.is_set(), "the end of the signal")
    wait_for(lambda: bench.worker.waiting == 0, "every window to be taken")
    bench.worker.stop()
    assert len(bench.of(events.Verdict)) >= len(bench.of(events.Beat)) - 1


# -- the waveform ----------------------------------------------------------------------------------------------------


def test_the_waveform_holds_every_sample_once(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    seconds = 9
    source = 'channels = ["II", "ABP"]\nseed = 4\nspeed = 2\n' + short_script(tmp_path, seconds)
    text = base_config(
        broker.port, simulated("bed", extra="waveform = true", source=source) + simulated("quiet", source=source)
    )
    with running_agent(tmp_path, text) as agent:
        assert agent.wait() == 0
    wait_for(lambda: len(listener.of("bridge", "state")) == 2, "the goodbye")
    pieces = listener.of("bed", "waveform")
    assert len(pieces) >= 4  # about one a second
    at = 0
    for piece in pieces:
        assert piece["sample"] == at
        assert piece["fs"] == FS
        assert piece["overwritten"] == 0
        assert piece["known"] == at + len(piece["channels"]["II"]) - 1
        at = piece["known"] + 1
    assert at == seconds * FS
    patient = SimulatedPatient(FS, ("II", "ABP"), Script((Episode("sinus", seconds),)), 4)
    block = patient.read(at)
    assert block is not None
    for row, name in enumerate(("II", "ABP")):
        sent = np.concatenate([piece["channels"][name] for piece in pieces])
        np.testing.assert_allclose(sent, block.values[row], atol=1e-4)
    assert listener.of("quiet", "waveform") == []  # off unless asked for


# -- away for long ---------------------------------------------------------------------------------------------------


class Flaky:
    """A source that delivers a second, then is gone for a while whatever is tried."""

    speed = 1.0
    resumes = False
    waits_for = ""

    def __init__(self) -> None:
        self.info = StreamInfo(100.0, (Signal("II", "ecg", "mV"),))
        self.closed = 0

    def blocks(self, _stop: threading.Event) -> Iterator[Block]:
        yield Block(0, 100.0, np.zeros((1, 100), np.float32), arrived_ns=time.monotonic_ns())
        raise SourceLost("gone")

    def counters(self) -> dict[str, int]:
        return {}

    def close(self) -> None:
        self.closed += 1


def test_an_absence_is_as_long_as_it_was_however_often_opening_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[events.Event] = []
    opened = [Flaky()]
    back = time.monotonic() + 2.5

    def reopen(_config: object) -> Flaky:
        if time.monotonic() < back:
            raise SourceError("not there")
        opened.append(Flaky())
        return opened[-1]

    monkeypatch.setattr("edge_agent.runner.open_source", reopen)
    monkeypatch.setattr("edge_agent.runner.BACKOFF_S", (0.3, 0.3))
    stream = config.StreamConfig.model_validate({"name": "bed", "source": {"type": "simulated"}})
    worker = InferenceWorker(said.append, 100)
    runner = StreamRunner(
        stream,
        device="d",
        session="s",
        judge=Judge({}),
        worker=worker,
        publish=said.append,
        say_available=lambda *_: None,
        source=opened[0],
    )
    runner.start()
    wait_for(lambda: len(opened) > 1 and any(isinstance(event, events.Gap) for event in said), "the gap")
    runner.stop()
    runner.join(5)
    gap = next(event for event in said if isinstance(event, events.Gap))
    # 2.5 s away and up to a backoff more, less the second of signal that the first block after it brought.
    assert 150 - 10 <= gap.lost <= 150 + 60
    assert all(source.closed for source in opened)


def test_a_reload_speaks_of_every_setting() -> None:
    assert set(NEEDS_RESTART) | {"stream", "health_s"} == set(Config.model_fields)  # the two that it looks into
