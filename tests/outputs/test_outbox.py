"""The outbox by itself: what is on disk stays there, in order, through kills, damage, bounds and a full disk."""

from __future__ import annotations

import contextlib
import logging
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.errors import OutputError
from edge_agent.outputs.outbox import RANKS, Bounds, Outbox, OutboxUnusable, Parcel

WIDE = Bounds(max_bytes=10_000_000, max_age_s=1e9)
BEATS, EVENTS, ALARMS = range(len(RANKS))


def parcel(number: int, rank: int = EVENTS, size: int = 10) -> Parcel:
    return Parcel(number, rank, f"edge-agent/dev/bed/{RANKS[rank]}", f"{number}".encode().ljust(size))


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "dev.outbox", WIDE)
    yield box
    box.close()


def again(box: Outbox, bounds: Bounds = WIDE) -> Outbox:
    box.close()
    return Outbox(box.path, bounds)


def test_what_was_written_is_there_after_a_restart_in_order(box: Outbox) -> None:
    parcels = [parcel(number, random.Random(number).randrange(3)) for number in range(1, 100)]
    box.write(parcels[:50], [])
    box.write(parcels[50:], parcels[:20])
    assert box.waiting == 79
    box = again(box)
    assert box.read(0, 1000) == parcels[20:]
    assert box.read(30, 5) == parcels[30:35]
    assert (box.waiting, box.next_number) == (79, 100)
    assert box.used_bytes == sum(len(p.topic) + len(p.payload) + 24 for p in parcels[20:])
    box.write([], parcels[20:])
    assert (box.waiting, box.used_bytes, box.read(0, 10)) == (0, 0, [])


def test_a_bound_on_size_costs_the_oldest_beats_first_and_alarms_last(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "dev.outbox", Bounds(max_bytes=20_000, max_age_s=1e9))
    number = 1
    for _ in range(60):
        box.write([parcel(number, BEATS, 200), parcel(number + 1, EVENTS, 100), parcel(number + 2, ALARMS, 100)], [])
        number += 3
    assert box.used_bytes <= 20_000
    kept = box.read(0, 1000)
    by_rank = {rank: [p.number for p in kept if p.rank == rank] for rank in range(3)}
    assert len(by_rank[ALARMS]) == 60  # none of them went
    assert len(by_rank[EVENTS]) == 60
    assert by_rank[BEATS] == sorted(by_rank[BEATS])
    assert by_rank[BEATS][-1] == number - 3  # the youngest are kept
    assert box.evicted == {"beats": 60 - len(by_rank[BEATS]), "events": 0, "alarms": 0}
    for _ in range(400):
        box.write([parcel(number, ALARMS, 100)], [])
        number += 1
    assert box.evicted["beats"] == box.evicted["events"] == 60
    assert box.evicted["alarms"] == 460 - box.levels[ALARMS].messages > 0
    assert box.used_bytes <= 20_000
    box.close()


def test_age_costs_beats_and_events_but_no_alarm(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    now, counted = time.time(), time.monotonic()
    box.bounds = Bounds(max_bytes=10_000_000, max_age_s=3600)
    box.write([parcel(1, BEATS), parcel(2, EVENTS), parcel(3, ALARMS)], [])
    box.expire()
    assert box.waiting == 3
    monkeypatch.setattr(time, "time", lambda: now + 3700)
    monkeypatch.setattr(time, "monotonic", lambda: counted + 3700)
    box.write([parcel(4, BEATS)], [])
    box.expire()
    assert [p.number for p in box.read(0, 10)] == [3, 4]
    assert box.evicted == {"beats": 1, "events": 1, "alarms": 0}
    monkeypatch.setattr(time, "time", lambda: now - 1e6)  # the clock stepped back: nothing is from long ago
    box.expire()
    assert box.waiting == 2


def dates(box: Outbox) -> list[int]:
    return [row[0] for rank in RANKS for row in box._db.execute(f"SELECT put_s FROM {rank} ORDER BY number")]


@pytest.mark.parametrize("behind_s", [7 * 86_400, 2 * 365 * 86_400, 1_700_000_000, -86_400])
def test_setting_the_clock_costs_nothing_that_was_written_in_this_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, behind_s: float
) -> None:
    right, counted = time.time, time.monotonic()
    monkeypatch.setattr(time, "time", lambda: right() - behind_s)
    box = Outbox(tmp_path / "dev.outbox", Bounds(max_bytes=10_000_000, max_age_s=3600))
    box.write([parcel(number) for number in range(1, 101)], [])
    monkeypatch.setattr(time, "time", right)  # the network came
    box.write([parcel(101, BEATS), parcel(102, ALARMS)], [])
    box.expire()
    assert (box.waiting, sum(box.evicted.values())) == (102, 0)
    assert all(abs(date - right()) < 10 for date in dates(box))  # and so they are after a restart
    box = again(box, box.bounds)
    box.write([parcel(103)], [])
    box.expire()
    assert box.waiting == 103
    monkeypatch.setattr(time, "time", lambda: right() + 3700)  # an hour goes by: they are old, all but the alarm
    monkeypatch.setattr(time, "monotonic", lambda: counted + 3700)
    box.expire()
    assert [p.number for p in box.read(0, 10)] == [102]
    box.close()


def test_the_clock_is_followed_in_one_step_or_not_at_all(box: Outbox, monkeypatch: pytest.MonkeyPatch) -> None:
    box.bounds = Bounds(max_bytes=10_000_000, max_age_s=3600)
    box.write([parcel(1, BEATS), parcel(2)], [])
    monkeypatch.setattr(time, "time", lambda now=time.time: now() + 1e6)
    before = dates(box)
    box._db.execute("PRAGMA query_only = 1")  # the disk refuses
    with pytest.raises(sqlite3.Error):
        box.expire()
    box._db.execute("PRAGMA query_only = 0")
    assert dates(box) == before
    box.expire()
    assert box.waiting == 2
    assert dates(box) == pytest.approx([date + 1e6 for date in before], abs=2)


WRITER = """
import sys
from pathlib import Path
from edge_agent.outputs.outbox import Bounds, Outbox, Parcel
box = Outbox(Path(sys.argv[1]), Bounds(10_000_000, 1e9))
old = box.read(0, 100_000)
number = box.next_number
while True:
    parcels = [Parcel(number + i, i % 3, "t", str(number + i).encode()) for i in range(7)]
    box.write(parcels, old[:3])
    for gone in old[:3]:
        print("-", gone.number)
    for one in parcels:
        print("+", one.number, flush=True)
    old = old[3:] + parcels
    number += 7
"""


def test_killed_at_any_moment_nothing_that_was_kept_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "dev.outbox"
    rng = random.Random(1)
    expected: set[int] = set()
    for _ in range(12):
        with subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            said = process.stdout.readline()
            time.sleep(rng.uniform(0, 0.05))
            process.send_signal(signal.SIGKILL)
            said += process.stdout.read()
        for line in said[: said.rfind("\n") + 1].splitlines():  # the last one may be cut
            sign, _, number = line.partition(" ")
            (expected.add if sign == "+" else expected.discard)(int(number))
        box = Outbox(path, WIDE)
        there = [p.number for p in box.read(0, 1_000_000)]
        box.close()
        assert there == sorted(there)
        # What it had said is there; what it wrote and could not say any more may be, too.
        gone = expected - set(there)
        assert not gone or max(gone) <= min(there), gone
        expected = set(there)


@pytest.mark.parametrize("damage", ["noise", "cut", "header", "other program's"])
def test_a_damaged_outbox_is_set_aside_and_said(box: Outbox, damage: str, caplog: pytest.LogCaptureFixture) -> None:
    box.write([parcel(number, size=900) for number in range(1, 200)], [])
    box.close()
    data = bytearray(box.path.read_bytes())
    if damage == "noise":
        for at in range(3000, len(data), 700):
            data[at] ^= 0xFF
            data[at + 1] ^= 0x55
        data[1024 * 3 : 1024 * 60] = random.Random(1).randbytes(1024 * 57)
    elif damage == "cut":
        del data[len(data) // 3 :]
    elif damage == "header":
        data[:16] = b"not a data base!"
    if damage == "other program's":
        other = sqlite3.connect(box.path)
        other.execute("PRAGMA user_version = 77")
        other.close()
    else:
        box.path.write_bytes(data)
    caplog.set_level(logging.ERROR)
    fresh = Outbox(box.path, WIDE)
    fresh.write([parcel(1)], [])
    assert fresh.read(0, 10) == [parcel(1)]
    fresh.close()
    assert "is damaged" in caplog.text
    (aside,) = [path for path in box.path.parent.iterdir() if ".damaged-" in path.name and "wal" not in path.name]
    assert aside.stat().st_size > 0


def test_two_agents_cannot_share_one(box: Outbox) -> None:
    box.write([parcel(1)], [])
    with pytest.raises(OutputError, match="in use by another") as caught:
        Outbox(box.path, WIDE)
    assert not isinstance(caught.value, OutboxUnusable)
    assert box.read(0, 10) == [parcel(1)]  # and the first is none the worse


def test_a_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxUnusable, match="cannot be opened"):
        Outbox(tmp_path / "file" / "dev.outbox", WIDE)


def test_what_a_full_disk_refuses_changes_nothing(tiny_disk: Path) -> None:
    box = Outbox(tiny_disk / "dev.outbox", WIDE)
    box.write([parcel(1)], [])
    number = 2
    with contextlib.suppress(sqlite3.Error):
        for number in range(2, 2000):
            box.write([parcel(number, size=900)], [])
    assert number < 1000, "the disk never filled"
    assert box.waiting == number - 1  # the last one was refused, whole
    assert [p.number for p in box.read(0, 10_000)] == list(range(1, number))
    again(box).close()
