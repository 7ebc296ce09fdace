"""kill -9 at random moments, with outbox and recorder on: state reopens, and nothing that was kept or acknowledged is lost."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import wfdb

from edge_agent.outputs.outbox import RANKS
from tests.faults import times
from tests.spine import Agent, Broker, Heard, base_config, listening, simulated, wait_for

KILLS = times(100, 8)
SEED = 20261121
QUIET = ("Traceback", "unexpected fault", "damaged", "cannot be opened")


def config(port: int, folder: Path) -> str:
    text = base_config(
        port,
        simulated("bed", extra="models = []", source='script = "demo"\nspeed = 20\nforever = true'),
        mqtt="qos_beats = 1",
    )
    return text + f'\n[recorder]\nfolder = "{folder}/rec"\nmode = "everything"\n'


def kept(outbox: Path) -> set[tuple[str, bytes]]:
    """What the disk holds at this moment, as the next start will find it."""
    if not outbox.exists():
        return set()
    db = sqlite3.connect(outbox, timeout=10)
    try:
        tables = {name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        rows = (row for rank in RANKS if rank in tables for row in db.execute(f"SELECT topic, payload FROM {rank}"))
        return {(topic, bytes(payload)) for topic, payload in rows}
    finally:
        db.close()


def holes(heard: list[Heard]) -> list[tuple[str, str, list[int]]]:
    """Per session and kind: numbers that never came although a later one did. What was repeated is no hole."""
    numbers: dict[tuple[str, str], set[int]] = {}
    for one in heard:
        if one.stream == "bed" and one.kind in ("beat", "alarm", "rhythm", "quality", "gap"):  # of QoS 1
            numbers.setdefault((one.data["session"], one.kind), set()).add(one.data["seq"])
    missing = {key: sorted(set(range(max(found))) - found) for key, found in numbers.items()}
    return [(*key, gone) for key, gone in missing.items() if gone]


def test_kill_9_at_random_moments(program: Callable[[str], str], tmp_path: Path) -> None:
    chance = random.Random(SEED)
    broker = Broker(program("mosquitto"), tmp_path, keep=True).start()
    text = config(broker.port, tmp_path)
    waited: set[tuple[str, bytes]] = set()
    most = 0
    try:
        with listening(broker.port, name="durable") as listener:
            for kill in range(KILLS):
                agent = Agent(tmp_path, text)
                try:
                    if kill % 5 == 4:  # while it starts, too
                        time.sleep(chance.uniform(0.05, 1.5))
                    else:
                        agent.wait_log("running: 1 streams")
                        time.sleep(chance.uniform(0.0, 1.5))
                    os.kill(agent.process.pid, signal.SIGKILL)
                    assert agent.wait() == -signal.SIGKILL
                    log = agent.log
                    assert not [word for word in QUIET if word in log], log
                finally:
                    agent.close()
                found = kept(tmp_path / "dev.outbox")
                most = max(most, len(found))
                waited |= found
            agent = Agent(tmp_path, text)
            try:
                agent.wait_log("running: 1 streams")
                wait_for(
                    lambda: waited <= {(one.topic, one.payload) for one in listener.heard},
                    "all that was on the disk at any kill to be delivered",
                )
                agent.signal(signal.SIGTERM)
                assert agent.wait(10) == 0
            finally:
                agent.close()
            sessions = {one.data["session"] for one in listener.heard if one.stream == "bed" and one.kind == "beat"}
            assert len(sessions) > KILLS // 2
            assert most > 0, "no kill met a message that waited: the test proves nothing"
            assert holes(listener.heard) == []
    finally:
        broker.stop()
    headers = sorted((tmp_path / "rec" / "bed").glob("*.hea"))
    assert len(headers) > KILLS // 2
    for header in headers:
        record = wfdb.rdrecord(str(header.with_suffix("")))
        assert record.p_signal is not None
        assert len(record.p_signal) == record.sig_len > 0
    assert not list((tmp_path / "rec").rglob("*.new"))
