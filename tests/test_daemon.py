"""The daemon as a process: stopping, reloading, one stream's fault, the watchdog, a hung model, the waveform."""

from __future__ import annotations

import contextlib
import re
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import serial

from edge_agent import config, events
from edge_agent.config import Config
from edge_agent.daemon import Daemon
from edge_agent.errors import SourceError, SourceLost
from edge_agent.inference.judge import Judge
from edge_agent.journey import Block
from edge_agent.reloading import NEEDS_RESTART
from edge_agent.runner import StreamRunner
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.worker import InferenceWorker
from tests.spine import (
    Broker,
    Listener,
    PtyBoard,
    base_config,
    csv_lines,
    free_port,
    pty_board,
    retained_now,
    running_agent,
    serial_stream,
    simulated,
    wait_for,
)

FS = 250.0
SECRETIVE = re.compile(r"Traceback|unexpected fault")


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
        assert said == [("online", "started"), ("offline", "end of recording: the script is over, no fault")]


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


# -- a hung model ----------------------------------------------------------------------------------------------------


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
