"""Messages between memory and disk: what is given out, given back, done, bounded, and what a disk that refuses costs."""

from __future__ import annotations

import logging
import sqlite3

import pytest

from edge_agent.outputs import outbox as module
from edge_agent.outputs import parcels as keeping
from edge_agent.outputs.outbox import Outbox, Parcel
from edge_agent.outputs.parcels import Parcels
from tests.outputs.boxes import ALARMS, BEATS, EVENTS, WIDE, Clock, numbers, parcel

# -- parcels ----------------------------------------------------------------------------------------------------------------------


def made(kept: Parcels, rank: int = EVENTS, payload: bytes = b"x", last: bool = False) -> Parcel:
    """As the publisher does it."""
    one = kept.number(rank, "t", payload)
    kept.save([one], last=last)
    kept.add(one)
    return one


def fault(kept: Parcels) -> str | None:
    return kept.fault


def refuse(box: Outbox, refuses: bool) -> None:
    box._db.execute(f"PRAGMA query_only = {int(refuses)}")


def test_what_is_promised_in_numbers() -> None:
    """As docs and configuration say it: five seconds, a minute, ten seconds, a thousand at hand."""
    assert (keeping.TIDY_S, keeping.EXPIRE_S, keeping.READ_PATIENCE_S) == (5.0, 60.0, 10.0)
    assert (keeping.IN_MEMORY, keeping.UNSAVED_BATCH) == (1000, 200)
    assert (module.SCHEMA, module.STEP_S, module.RANKS) == (1, 60.0, ("beats", "events", "alarms"))


def test_in_order_and_counted(box: Outbox) -> None:
    kept = Parcels(box)
    sent = [made(kept) for _ in range(3)]
    assert [one.number for one in sent] == [1, 2, 3]
    assert kept.at_hand == tuple(sent)
    assert [kept.next(10) for _ in range(4)] == [*sent, None]
    assert (kept.on_their_way, kept.waiting, kept.at_hand) == (3, 3, ())
    kept.done(sent[1])
    assert (kept.on_their_way, kept.waiting) == (2, 2)
    kept.back(sent[2], sent[0])
    assert kept.on_their_way == 0
    assert [kept.next(10) for _ in range(3)] == [sent[0], sent[2], None]
    kept.back(sent[2])
    kept.back(sent[0])
    assert [kept.next(10), kept.next(10)] == [sent[0], sent[2]]


def test_without_an_outbox_memory_is_all(clock: Clock) -> None:
    kept = Parcels(None)
    sent = [made(kept, rank) for rank in (BEATS, ALARMS, EVENTS, BEATS)]
    assert [one.number for one in sent] == [1, 2, 3, 4]
    assert kept.waiting == 4
    assert kept.next(5) == sent[0]
    kept.back(sent[0])
    assert kept.waiting == 4
    assert kept.next(5) == sent[0]
    assert kept.waiting == 4
    kept.done(sent[0])
    assert (kept.waiting, kept.lost) == (3, 0)
    kept.bound(3)
    assert kept.lost == 0
    kept.bound(2)
    assert ([one.number for one in kept.at_hand], kept.lost) == ([2, 3], 1)
    kept.bound(1)
    assert ([one.number for one in kept.at_hand], kept.lost) == ([2], 2)
    kept.bound(0)
    assert (kept.at_hand, kept.lost) == ((), 3)
    clock.go_on(100)
    kept.close()


def test_what_waited_on_the_disk_comes_first_and_by_so_many(box: Outbox) -> None:
    box.write([parcel(number) for number in range(1, 6)], [])
    box.close()
    again = Outbox(box.path, WIDE)
    kept = Parcels(again)
    assert kept.waiting == 5
    new = made(kept)
    assert new.number == 6
    asked: list[tuple[int, int]] = []
    read = again.read
    again.read = lambda after, limit: asked.append((after, limit)) or read(after, limit)  # type: ignore[method-assign,func-returns-value]
    assert [kept.next(2).number for _ in range(6)] == [1, 2, 3, 4, 5, 6]  # type: ignore[union-attr]
    assert kept.next(2) is None
    assert asked == [(0, 2), (2, 2), (4, 2)]
    again.close()


def test_what_was_evicted_on_the_disk_is_passed_over(box: Outbox) -> None:
    box.write([parcel(number) for number in range(1, 6)], [])
    box.close()
    again = Outbox(box.path, WIDE)
    kept = Parcels(again)
    again.write([], [parcel(4), parcel(5)])
    new = made(kept)
    assert [one.number for one in (kept.next(2), kept.next(2), kept.next(2), kept.next(2)) if one] == [
        1,
        2,
        3,
        new.number,
    ]
    assert kept.next(2) is None
    again.close()


def test_what_is_acknowledged_leaves_the_disk_with_the_next_write_or_after_five_seconds(
    box: Outbox, clock: Clock
) -> None:
    kept = Parcels(box)
    sent = [made(kept) for _ in range(3)]
    for one in sent:
        assert kept.next(9) == one
    kept.done(sent[0])
    clock.go_on(keeping.TIDY_S - 0.125)
    kept.save([], last=False)
    assert (box.waiting, kept.waiting) == (3, 2)
    clock.go_on(0.125)
    kept.save([], last=False)
    assert (box.waiting, kept.waiting) == (2, 2)
    kept.done(sent[1])
    made(kept)
    assert numbers(box) == [3, 4]
    kept.done(sent[2])
    kept.save([], last=True)
    assert numbers(box) == [4]


def test_a_disk_that_refuses_is_asked_now_and_then(box: Outbox, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    kept = Parcels(box)
    refuse(box, True)
    tries = [0]
    write = box.write

    def counted(parcels: list[Parcel], acknowledged: list[Parcel]) -> None:
        tries[0] += 1
        write(parcels, acknowledged)

    box.write = counted  # type: ignore[method-assign,assignment]
    for _ in range(5):
        made(kept)
    assert tries == [1]
    assert kept.fault is not None
    assert kept.waiting == 5
    clock.go_on(keeping.TIDY_S)
    made(kept)
    assert tries == [2]
    clock.go_on(keeping.TIDY_S - 0.125)
    many = [kept.number(EVENTS, "t", b"") for _ in range(keeping.UNSAVED_BATCH - 1)]
    kept.save(many, last=False)
    assert tries == [2]
    kept.save([kept.number(EVENTS, "t", b"") for _ in range(keeping.UNSAVED_BATCH)], last=False)
    assert tries == [3]
    kept.save([], last=True)
    assert tries == [4]
    assert caplog.text.count("cannot be written") == 1
    refuse(box, False)
    clock.go_on(keeping.TIDY_S)
    made(kept)
    assert tries == [5]
    assert fault(kept) is None
    assert caplog.text.count("can be written again") == 1
    assert box.waiting == kept.waiting == 6 + 199 + 200 + 1


def test_it_asks_for_the_old_ones_once_a_minute(box: Outbox, clock: Clock) -> None:
    kept = Parcels(box)
    times = [0]
    box.expire = lambda: times.__setitem__(0, times[0] + 1)  # type: ignore[method-assign]
    clock.go_on(keeping.EXPIRE_S - 0.125)
    made(kept)
    assert times == [0]
    clock.go_on(0.125)
    made(kept)
    made(kept)
    assert times == [1]
    clock.go_on(keeping.EXPIRE_S)
    made(kept)
    assert times == [2]


def test_on_the_disk_they_need_not_be_in_memory_beyond_a_thousand(box: Outbox) -> None:
    kept = Parcels(box)
    ready = [kept.number(EVENTS, "t", b"") for _ in range(keeping.IN_MEMORY + 1)]
    kept.save(ready, last=False)
    for one in ready[:-1]:
        kept.add(one)
    kept.bound(5000)
    assert len(kept.at_hand) == keeping.IN_MEMORY
    kept.add(ready[-1])
    kept.bound(5000)
    assert kept.at_hand == ()
    assert kept.lost == 0
    last = made(kept)
    assert [kept.next(400) for _ in range(keeping.IN_MEMORY + 2)] == [*ready, last]
    assert kept.next(400) is None


def test_what_the_disk_has_not_taken_is_bounded_by_importance_and_then_by_age(box: Outbox) -> None:
    kept = Parcels(box)
    refuse(box, True)
    sent = [made(kept, rank) for rank in (ALARMS, BEATS, EVENTS, BEATS, EVENTS, ALARMS)]
    kept.bound(5)
    assert [one.number for one in kept.at_hand] == [1, 3, 4, 5, 6]
    kept.bound(3)
    assert [one.number for one in kept.at_hand] == [1, 5, 6]
    kept.bound(1)
    assert [one.number for one in kept.at_hand] == [6]
    assert (kept.lost, kept.waiting) == (5, 1)
    refuse(box, False)
    kept.save([], last=True)
    assert numbers(box) == [sent[-1].number]


def test_a_disk_that_cannot_be_read_is_waited_for_and_then_left(
    box: Outbox, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR)
    box.write([parcel(number) for number in range(1, 4)], [])
    box.close()
    again = Outbox(box.path, WIDE)
    kept = Parcels(again)
    new = made(kept)
    read = again.read

    def broken(after: int, limit: int) -> list[Parcel]:  # noqa: ARG001
        raise sqlite3.OperationalError("disk I/O error")

    again.read = broken  # type: ignore[method-assign]
    assert kept.next(2) is None
    assert kept.fault == "disk I/O error"
    clock.go_on(keeping.READ_PATIENCE_S - 0.125)
    assert kept.next(2) is None
    again.read = read  # type: ignore[method-assign]
    assert kept.next(1) == parcel(1)  # patience begins anew
    again.read = broken  # type: ignore[method-assign]
    clock.go_on(1)
    assert kept.next(2) is None
    clock.go_on(keeping.READ_PATIENCE_S)
    assert kept.next(2) == new
    assert kept.next(2) is None
    assert kept.on_their_way == 2
    assert caplog.text.count("cannot be read") == 2
    assert caplog.text.count("left for the next start") == 1
    again.close()


def test_a_disk_that_was_given_up_once_is_waited_for_again(
    box: Outbox, clock: Clock, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.ERROR)
    monkeypatch.setattr(keeping, "IN_MEMORY", 1)
    kept = Parcels(box)

    def broken(after: int, limit: int) -> list[Parcel]:  # noqa: ARG001
        raise sqlite3.OperationalError("disk I/O error")

    monkeypatch.setattr(box, "read", broken)
    for times in (1, 2):
        made(kept)
        made(kept)
        kept.bound(10)  # on the disk alone
        assert kept.next(2) is None
        clock.go_on(keeping.READ_PATIENCE_S - 0.125)
        assert kept.next(2) is None
        assert caplog.text.count("left for the next start") == times - 1
        clock.go_on(0.125)
        assert kept.next(2) is None
        assert caplog.text.count("cannot be read") == caplog.text.count("left for the next start") == times


def test_at_the_stop_what_was_not_taken_is_counted_and_said(box: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    kept = Parcels(box)
    refuse(box, True)
    made(kept)
    made(kept)
    kept.close()
    assert kept.lost == 2
    assert "2 messages are lost" in caplog.text
    with pytest.raises(sqlite3.ProgrammingError):
        box.read(0, 1)


def test_one_that_is_done_before_the_disk_took_it_never_goes_there(box: Outbox) -> None:
    kept = Parcels(box)
    refuse(box, True)
    one, other = made(kept), made(kept)
    assert kept.next(5) == one
    kept.done(one)
    assert kept.waiting == 1
    refuse(box, False)
    kept.save([], last=True)
    assert numbers(box) == [other.number]
