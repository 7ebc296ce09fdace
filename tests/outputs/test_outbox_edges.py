"""The outbox: bounds to the byte, dates to the second, rows that a card spoilt."""

from __future__ import annotations

import logging
import sqlite3
from pathlib import Path

import pytest

from edge_agent.outputs import outbox as module
from edge_agent.outputs.outbox import Bounds, Outbox, OutboxUnusable
from tests.outputs.boxes import ALARMS, BEATS, EVENTS, WIDE, Clock, numbers, parcel

# -- the file ---------------------------------------------------------------------------------------------------------------


def test_how_it_is_kept(box: Outbox) -> None:
    """A commit is on the card; a second agent is kept out; a message costs a small page."""
    asked = (
        "page_size",
        "locking_mode",
        "journal_mode",
        "synchronous",
        "temp_store",
        "cache_size",
        "wal_autocheckpoint",
        "user_version",
    )
    box.write([parcel(1)], [])
    found = [box._db.execute(f"PRAGMA {name}").fetchone()[0] for name in asked]
    assert found == [1024, "exclusive", "wal", 2, 2, -512, 1000, module.SCHEMA]


def test_an_empty_one_begins_at_one_and_another_after_the_newest(box: Outbox) -> None:
    assert (box.next_number, box.waiting, box.used_bytes, numbers(box)) == (1, 0, 0, [])
    box.write([parcel(7, BEATS), parcel(9, ALARMS), parcel(8, EVENTS)], [])
    box.close()
    again = Outbox(box.path, WIDE)
    assert (again.next_number, again.waiting, again.used_bytes, numbers(again)) == (10, 3, 300, [7, 8, 9])
    assert [(level.messages, level.payload_bytes) for level in again.levels] == [(1, 100)] * 3
    again.close()


@pytest.mark.parametrize(("topic", "sound"), [
    ("t", True), ("x" * 65535, True), ("é", True), ("", False), ("x" * 65536, False), ("a+", False), ("#", False), ("a\0", False),
])  # fmt: skip
def test_what_a_topic_is(topic: str, sound: bool) -> None:
    assert module._is_topic(topic.encode()) is sound
    assert not module._is_topic(b"\xff\xfe")


@pytest.mark.parametrize(
    ("column", "value"),
    [("topic", b"t"), ("topic", "a/#"), ("payload", "text"), ("put_s", "soon"), ("topic", b"\xff\xff")],
)
def test_a_row_that_a_card_spoilt_goes_alone(
    box: Outbox, column: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    box.write([parcel(1), parcel(2), parcel(3, ALARMS)], [])
    box._db.execute(f"UPDATE events SET {column} = ? WHERE number = 2", (value,))
    box.close()
    caplog.set_level(logging.ERROR)
    again = Outbox(box.path, WIDE)
    assert numbers(again) == [1, 3]
    assert (again.waiting, again.used_bytes) == (2, 200)
    assert "1 events were damaged" in caplog.text
    again.close()


def test_a_file_of_another_program_is_set_aside_with_what_belongs_to_it(tmp_path: Path) -> None:
    path = tmp_path / "dev.outbox"
    path.write_bytes(b"something else entirely, and longer than a header of SQLite's" * 40)
    Path(f"{path}-shm").write_bytes(b"shared")
    fresh = Outbox(path, WIDE)
    assert fresh.next_number == 1
    fresh.close()
    (aside,) = tmp_path.glob("dev.outbox.damaged-????????T??????Z")
    assert aside.read_bytes().startswith(b"something")
    assert Path(f"{aside}-shm").read_bytes() == b"shared"


def test_tables_without_their_columns_are_damage(tmp_path: Path) -> None:
    path = tmp_path / "dev.outbox"
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE events (number INTEGER PRIMARY KEY)")
    other.commit()
    other.close()
    fresh = Outbox(path, WIDE)
    fresh.write([parcel(1)], [])
    assert numbers(fresh) == [1]
    assert any(".damaged-" in one.name for one in tmp_path.iterdir())
    fresh.close()


@pytest.mark.parametrize(
    ("code", "damage"),
    [(sqlite3.SQLITE_CORRUPT, True), (sqlite3.SQLITE_NOTADB, True), (sqlite3.SQLITE_ERROR, True), (sqlite3.SQLITE_SCHEMA, True),
     (sqlite3.SQLITE_CORRUPT | 1 << 8, True), (sqlite3.SQLITE_FULL, False), (sqlite3.SQLITE_IOERR, False), (sqlite3.SQLITE_BUSY, False)],
)  # fmt: skip
def test_which_errors_are_damage(code: int, damage: bool) -> None:
    error = sqlite3.OperationalError("as it is")
    error.sqlite_errorcode = code
    assert module._is_damage(error) is damage


def test_an_error_without_a_code_is_no_damage() -> None:
    assert not module._is_damage(sqlite3.OperationalError("as it is"))


def test_a_folder_is_made_and_one_that_cannot_be_is_said(tmp_path: Path) -> None:
    deep = Outbox(tmp_path / "a" / "b" / "dev.outbox", WIDE)
    deep.close()
    Outbox(tmp_path / "a" / "b" / "other.outbox", WIDE).close()
    (tmp_path / "file").write_text("")
    with pytest.raises(OutboxUnusable) as caught:
        Outbox(tmp_path / "file" / "dev.outbox", WIDE)
    assert caught.value.remedy


# -- bounds -------------------------------------------------------------------------------------------------------------------


def test_what_fits_to_the_byte_stays_and_a_byte_more_costs_a_tenth(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "dev.outbox", Bounds(max_bytes=1000, max_age_s=3600))
    box.write([parcel(number, BEATS) for number in range(1, 11)], [])
    assert (box.waiting, box.used_bytes) == (10, 1000)
    box.write([parcel(11, ALARMS, size=1)], [])  # 25 bytes: two beats must go to get under 900
    assert numbers(box) == [*range(3, 12)]
    assert (box.used_bytes, box.evicted) == (825, {"beats": 2, "events": 0, "alarms": 0})
    box.close()


def test_an_excess_of_whole_messages_costs_no_more_than_these(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "dev.outbox", Bounds(max_bytes=1000, max_age_s=3600))
    box.write(
        [*(parcel(number, BEATS) for number in range(1, 4)), *(parcel(number, EVENTS) for number in range(4, 12))], []
    )
    assert numbers(box) == [*range(3, 12)]  # 1100: 200 too much for 900
    assert box.used_bytes == 900
    box.write([parcel(12, EVENTS), parcel(13, ALARMS)], [])  # 1100 again: the last beat, and one event
    assert numbers(box) == [*range(5, 14)]
    assert box.evicted == {"beats": 3, "events": 1, "alarms": 0}
    assert [level.messages for level in box.levels] == [0, 8, 1]
    box.write([parcel(number, ALARMS) for number in range(14, 30)], [])
    assert numbers(box) == [*range(21, 30)]
    assert box.evicted == {"beats": 3, "events": 9, "alarms": 8}
    box.close()


def test_what_was_evicted_can_still_be_acknowledged(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "dev.outbox", Bounds(max_bytes=1000, max_age_s=3600))
    sent = [parcel(number, BEATS) for number in range(1, 12)]
    box.write(sent, [])
    assert box.waiting == 9
    box.write([], sent[:3])  # the first two are gone already
    assert (box.waiting, box.used_bytes) == (8, 800)
    box.close()


def test_a_write_that_fails_changes_no_count(box: Outbox) -> None:
    box.write([parcel(1)], [])
    with pytest.raises(sqlite3.IntegrityError):
        box.write([parcel(2), parcel(1)], [parcel(1, ALARMS)])
    assert (box.waiting, box.used_bytes, numbers(box)) == (1, 100, [1])
    box.write([parcel(2)], [parcel(1)])
    assert numbers(box) == [2]


def test_reading_from_a_number_on_and_so_many(box: Outbox) -> None:
    box.write([parcel(number, number % 3) for number in range(1, 31)], [])
    assert [one.number for one in box.read(10, 4)] == [11, 12, 13, 14]
    assert [one.number for one in box.read(29, 4)] == [30]
    assert box.read(30, 4) == []
    assert box.read(0, 1) == [parcel(1, 1)]


# -- age --------------------------------------------------------------------------------------------------------------------------


def put_at(box: Outbox, number: int, date: int) -> None:
    box._db.execute("UPDATE events SET put_s = ? WHERE number = ?", (date, number))


def test_older_than_an_hour_to_the_second(box: Outbox, clock: Clock) -> None:
    oldest = int(clock.day - 3600)
    box.write([parcel(1), parcel(2), parcel(3, BEATS), parcel(4, ALARMS)], [])
    put_at(box, 1, oldest - 1)
    put_at(box, 2, oldest)
    box.expire()
    assert numbers(box) == [2, 3, 4]
    assert (box.waiting, box.used_bytes, box.evicted) == (3, 300, {"beats": 0, "events": 1, "alarms": 0})
    clock.go_on(3602)
    box.expire()
    assert numbers(box) == [4]
    assert box.evicted == {"beats": 1, "events": 2, "alarms": 0}


def test_what_is_dated_before_2020_has_no_age(box: Outbox) -> None:
    box.write([parcel(1), parcel(2)], [])
    put_at(box, 1, 1577836800)
    put_at(box, 2, 1577836801)
    box.expire()
    assert numbers(box) == [1]


def test_a_step_of_a_minute_is_none_and_one_of_more_moves_this_run_s_dates(box: Outbox, clock: Clock) -> None:
    def date(number: int) -> int:
        return int(box._db.execute("SELECT put_s FROM events WHERE number = ?", (number,)).fetchone()[0])

    box.write([parcel(1)], [])
    before = date(1)
    assert before == int(clock.day)
    clock.day += 60.0
    box.expire()
    assert date(1) == before
    clock.day += 0.5
    box.expire()
    assert date(1) == before + 60  # 60.5, to the even second
    box.expire()
    assert date(1) == before + 60  # followed once
    clock.day -= 100.25
    box.expire()
    assert date(1) == before - 40
    box.write([parcel(2)], [])
    assert date(2) == int(clock.day)


def test_messages_of_earlier_runs_keep_their_date(box: Outbox, clock: Clock) -> None:
    box.write([parcel(5)], [])
    before = int(clock.day)
    box.close()
    again = Outbox(box.path, WIDE)
    again.write([parcel(6)], [])
    clock.day += 1000
    again.expire()
    found = again._db.execute("SELECT put_s FROM events ORDER BY number").fetchall()
    assert found == [(before,), (before + 1000,)]
    again.close()


def test_what_was_put_is_judged_by_the_new_clock_in_the_same_step(box: Outbox, clock: Clock) -> None:
    box.write([parcel(1)], [])
    put_at(box, 1, int(clock.day) - 3599)
    clock.day += 10_000  # set right: it is as old as before
    box.expire()
    assert numbers(box) == [1]
    clock.go_on(3)
    box.expire()
    assert numbers(box) == []


def test_a_step_and_an_age_in_one(box: Outbox, clock: Clock) -> None:
    """What is too old goes in the same step in which the clock is set, and what is not stays, whichever way it is set."""
    for number, way in ((1, 10_000), (3, -10_000)):
        box.write([parcel(number), parcel(number + 1)], [])
        put_at(box, number, int(clock.day) - 3602)
        put_at(box, number + 1, int(clock.day) - 3598)
        clock.day += way
        box.expire()
        assert numbers(box) == [number + 1]
        box.write([], [parcel(number + 1)])


@pytest.mark.parametrize("name", ["beats", "events"])
def test_an_expiry_that_fails_changes_nothing_and_stands_in_no_way(box: Outbox, clock: Clock, name: str) -> None:
    box.write([parcel(1, BEATS), parcel(2, EVENTS)], [])
    clock.go_on(4000)
    box._db.execute(f"CREATE TRIGGER full BEFORE DELETE ON {name} BEGIN SELECT RAISE(ABORT, 'disk'); END")
    with pytest.raises(sqlite3.DatabaseError, match="disk"):
        box.expire()
    assert (numbers(box), box.waiting, box.evicted) == ([1, 2], 2, {"beats": 0, "events": 0, "alarms": 0})
    box._db.execute("DROP TRIGGER full")
    box.write([parcel(3)], [])
    box.expire()
    assert numbers(box) == [3]


def test_a_byte_too_many_after_the_least_important_are_gone_costs_one_more(tmp_path: Path) -> None:
    box = Outbox(tmp_path / "dev.outbox", Bounds(max_bytes=1000, max_age_s=3600))
    events = [parcel(number) for number in range(2, 10)]
    box.write([parcel(1, BEATS), *events, parcel(10, ALARMS, size=77)], [])  # 1001: 901 without the beat
    assert numbers(box) == [*range(3, 11)]
    assert (box.used_bytes, box.evicted) == (801, {"beats": 1, "events": 1, "alarms": 0})
    box.close()
