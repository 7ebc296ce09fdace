"""What systemd is told: fed only while work is done, and in words."""

from __future__ import annotations

from edge_agent.process.life import Life, ModelsNow, StreamNow, in_words

IDLE = ModelsNow(0, 0)


def test_samples_that_advance_feed_the_watchdog_and_samples_that_do_not_starve_it() -> None:
    life = Life()
    assert life.advances({"a": StreamNow("online", 10)}, IDLE)
    assert life.advances({"a": StreamNow("online", 20)}, IDLE)
    assert not life.advances({"a": StreamNow("online", 20)}, IDLE)
    assert not life.advances({"a": StreamNow("online", 20)}, IDLE)  # and goes on starving it
    assert life.advances({"a": StreamNow("online", 21)}, IDLE)


def test_one_wedged_stream_among_many_is_enough() -> None:
    life = Life()
    assert life.advances({"a": StreamNow("online", 1), "b": StreamNow("online", 1)}, IDLE)
    assert not life.advances({"a": StreamNow("online", 2), "b": StreamNow("online", 1)}, IDLE)
    assert not life.advances({"a": StreamNow("online", 3), "b": StreamNow("online", 1)}, IDLE)
    # Both have moved since it was fed, though not at the same moment.
    assert life.advances({"a": StreamNow("online", 3), "b": StreamNow("online", 2)}, IDLE)


def test_an_unplugged_board_is_no_reason_to_be_killed() -> None:
    life = Life()
    assert life.advances({"a": StreamNow("online", 5)}, IDLE)
    for state in ("offline", "waiting", "starting", "ended", "failed"):
        assert life.advances({"a": StreamNow(state, 5)}, IDLE)
        assert life.advances({"a": StreamNow(state, 5)}, IDLE)


def test_models_that_hang_starve_it_and_models_with_nothing_to_do_do_not() -> None:
    life, samples = Life(), iter(range(1, 100))

    def at(taken: int, waiting: int) -> bool:
        return life.advances({"a": StreamNow("online", next(samples))}, ModelsNow(taken, waiting))

    assert at(7, 0)
    assert at(7, 0)  # nothing waits
    assert not at(7, 3)
    assert not at(7, 60)
    assert at(8, 60)  # slow, but it moves
    assert at(9, 0)


def test_in_words() -> None:
    streams = {"bed1": StreamNow("online", 1), "bed2": StreamNow("offline", 1, "unplugged:\nREADY=0 " + "x" * 200)}
    said = in_words(streams, ["m"], broker="there")
    assert said.startswith("1 of 2 streams online; bed2 offline (unplugged: READY=0 xxx")
    assert "\n" not in said  # a line break would be a message of its own to systemd
    assert len(said) < 200
    assert said.endswith("; 1 model; broker there")
    assert in_words({}, [], broker="away", stuck_s=9.6).endswith("broker away; nothing has moved for 10 s")
