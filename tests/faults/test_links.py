"""What the agent is connected to fails: a board that babbles, stalls and vanishes, a broker that flaps or takes nothing any more."""

from __future__ import annotations

import random
import select
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from tests.faults import times
from tests.faults.test_machine import ends_well, goes_on, health
from tests.spine import (
    Agent,
    Broker,
    Listener,
    base_config,
    csv_lines,
    free_port,
    listening,
    pty_board,
    running_agent,
    serial_stream,
    simulated,
    wait_for,
)

FS = 250.0


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def sinus(seconds: float) -> list[bytes]:
    patient = SimulatedPatient(FS, ("II",), Script((Episode("sinus", seconds),)), 1)
    block = patient.read(round(seconds * FS))
    assert block is not None
    return csv_lines(("II",), block.values)


def test_a_board_that_babbles_stalls_and_vanishes(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    """Round after round: whatever it does, the other bed notices nothing and its own signal comes back."""
    chance = random.Random(7)
    with pty_board(tmp_path / "board") as board:
        streams = serial_stream("wired", board.link, ("II",), extra="silent_s = 1") + simulated(
            "other", extra="models = []"
        )
        with running_agent(tmp_path, base_config(broker.port, streams)) as agent:
            lines = sinus(20)
            for _ in range(times(10, 2)):
                writing = threading.Thread(target=board.write_paced, args=(lines, 4 * FS, threading.Event()))
                writing.start()
                goes_on(listener, "wired", more=1)
                writing.join()
                # It babbles: bytes of chance, lines without end, numbers that no signal has.
                for noise in (
                    chance.randbytes(20_000),
                    b"9" * 50_000,
                    b"\n" * 5_000,
                    b"1e308\nnan\n-inf\n" * 500,
                    b"\xff\xfe" * 9_000,
                ):
                    board.write(noise)
                board.write(b"\n")
                # It stalls.
                wait_for(
                    lambda: listener.of("wired", "availability")[-1]["state"] == "offline", "the silence to be said"
                )
                # It vanishes.
                board.unplug()
                time.sleep(chance.uniform(0.1, 1.0))
                board.plug_in()
            board.write_paced(lines, 4 * FS, threading.Event())
            now = health(listener, after=len(listener.of("bridge", "health")))
            assert now["streams"]["other"]["restarts"] == now["streams"]["other"]["lost_samples"] == 0
            assert now["streams"]["wired"]["source"]["lines_bad"] > 0
            assert resident_mb(agent.process.pid) < 200
            goes_on(listener, "other")
            ends_well(agent)


def test_a_broker_that_comes_and_goes(program: Callable[[str], str], tmp_path: Path) -> None:
    """At random moments, killed and not asked; every QoS 1 message arrives, in order within its session."""
    chance = random.Random(11)
    broker = Broker(program("mosquitto"), tmp_path).start()
    text = base_config(
        broker.port,
        simulated("bed", extra="models = []", source='script = "demo"\nspeed = 10\nforever = true'),
        mqtt="qos_beats = 1",
    )
    try:
        with listening(broker.port) as listener, running_agent(tmp_path, text) as agent:
            listener.wait("bed", "beat")
            for _ in range(times(30, 4)):
                time.sleep(chance.uniform(0.2, 2.0))
                broker.stop()
                time.sleep(chance.uniform(0.05, 1.0))
                broker.start()
            goes_on(listener, more=30)
            now = health(listener, after=len(listener.of("bridge", "health")))
            assert now["broker"]["connects"] >= 2
            assert now["broker"]["lost"] == 0
            alarms = [one["seq"] for one in listener.of("bed", "alarm")]
            assert alarms == sorted(alarms)
            ends_well(agent)
    finally:
        broker.stop()


class Clogged:
    """Between the agent and its broker: takes a connection and, once told to, reads nothing any more and keeps it open."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self.clogged = threading.Event()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        pairs: dict[socket.socket, socket.socket] = {}
        while not self._stop.wait(0.002):
            if self.clogged.is_set():
                continue
            ready, _, _ = select.select([self._listening, *pairs], [], [], 0.05)
            for one in ready:
                if one is self._listening:
                    near = self._listening.accept()[0]
                    far = socket.create_connection(("127.0.0.1", self._to))
                    pairs[near], pairs[far] = far, near
                    continue
                if one not in pairs:
                    continue
                try:
                    data = one.recv(65536)
                    if data:
                        pairs[one].sendall(data)
                        continue
                except OSError:
                    pass
                other = pairs.pop(one)
                pairs.pop(other, None)
                one.close()
                other.close()
        for one in pairs:
            one.close()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._listening.close()


@contextmanager
def clogging(port: int) -> Iterator[Clogged]:
    made = Clogged(port)
    try:
        yield made
    finally:
        made.close()


def test_a_peer_that_takes_nothing_any_more_costs_bounded_memory_and_no_alarm(
    broker: Broker, listener: Listener, tmp_path: Path
) -> None:
    """As with a slow subscriber, a full network or a hung broker: the connection stands, and nothing goes through it."""
    with clogging(broker.port) as between:
        text = base_config(
            between.port,
            simulated(
                "bed", extra="models = []\nwaveform = true", source='script = "demo"\nspeed = 30\nforever = true'
            ),
            mqtt="qos_beats = 1\nkeepalive_s = 5",
        )
        text += f'\n[jsonl]\npath = "{tmp_path}/events.jsonl"\n'
        with running_agent(tmp_path, text) as agent:
            listener.wait("bed", "alarm", state="raised")
            between.clogged.set()
            began = resident_mb(agent.process.pid)
            lines = tmp_path / "events.jsonl"
            before = lines.stat().st_size
            time.sleep(times(60, 8))
            # Nobody who watches the patient waited: what was found meanwhile is in the file of lines.
            assert lines.stat().st_size > before + 10_000
            assert resident_mb(agent.process.pid) < began + 30
            between.clogged.clear()
            goes_on(listener, more=20)
            now = health(listener, after=len(listener.of("bridge", "health")))
            assert now["broker"]["lost"] == 0
            ends_well(agent)


def again_and_again(agent: Agent) -> None:
    """SIGTERM every few milliseconds, to the very end: the last of them meet an interpreter that is taking itself down."""
    until = time.monotonic() + 10
    while agent.process.poll() is None and time.monotonic() < until:
        agent.signal(signal.SIGTERM)
        time.sleep(0.002)


def test_sigterm_at_every_stage(broker: Broker, tmp_path: Path) -> None:
    """While it imports, opens, starts, runs, reloads, loses its broker and stops already: it ends by itself, soon."""
    chance = random.Random(13)
    text = base_config(broker.port, simulated("bed", source='script = "demo"\nspeed = 20\nforever = true'))
    no_broker = base_config(free_port(), simulated("bed", extra="models = []"))
    stages = ("import", "start", "run", "reload", "away", "twice")
    for number in range(times(60, 6)):
        stage = stages[number % len(stages)]
        with running_agent(tmp_path, no_broker if stage == "away" else text) as agent:
            if stage == "import":
                time.sleep(chance.uniform(0.0, 0.3))
            elif stage == "start":
                time.sleep(chance.uniform(0.3, 2.0))
            else:
                agent.wait_log("running: 1 streams")
                time.sleep(chance.uniform(0.0, 0.5))
            if stage == "reload":
                agent.signal(signal.SIGHUP)
            agent.signal(signal.SIGTERM)
            if stage == "twice":
                again_and_again(agent)
            status = agent.wait(10)
            if stage in ("import", "start") and status != 0:
                # Before it has set up its own end, the signal ends it as it ends any program.
                assert status == -signal.SIGTERM, (stage, agent.log)
            else:
                assert status == 0, (stage, status, agent.log)
            assert "Traceback" not in agent.log, (stage, agent.log)
    with running_agent(tmp_path, text) as agent:
        agent.wait_log("running: 1 streams")
        assert "damaged" not in agent.log
        ends_well(agent)
