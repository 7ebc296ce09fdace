"""Holes in the arrivals: samples that nobody numbered and that never came are counted by the clock; a backlog is no loss."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.sources.boards.base import Chunk
from edge_agent.sources.holes import HOLE_S, Holes

FS = 250.0
MS = 1_000_000


def chunk(n: int, lost: int = 0, exact: bool = True) -> Chunk:
    return Chunk(np.zeros((1, n), np.float32), lost, exact)


def play(holes: Holes, arrivals: list[tuple[float, Chunk]]) -> list[Chunk]:
    """Arrivals at (seconds), with looks in between as a live loop makes them."""
    out: list[Chunk] = []
    now = 0.0
    for at, one in arrivals:
        while now + 0.02 < at:
            now += 0.02
            out += holes.look([], round(now * 1e9))
        now = at
        out += holes.look([one], round(now * 1e9))
    for _ in range(20):
        now += 0.02
        out += holes.look([], round(now * 1e9))
    return out


def steady(first_s: float, seconds: float) -> list[tuple[float, Chunk]]:
    return [(first_s + k * 0.02, chunk(5)) for k in range(1, round(seconds / 0.02) + 1)]


def test_what_the_clock_says_is_missing_is_lost() -> None:
    holes = Holes(FS)
    out = play(holes, [*steady(0, 5), *steady(8, 5)])
    (gap,) = [one for one in out if one.lost_before]
    assert abs(gap.lost_before - 3 * FS) <= 10
    assert not gap.lost_exact
    assert holes.estimated == gap.lost_before
    assert sum(one.values.shape[1] for one in out) == 2500  # and nothing is held back in the end


def test_a_backlog_is_no_loss() -> None:
    holes = Holes(FS)
    late = [(8.0, chunk(300)), (8.05, chunk(300)), (8.1, chunk(170))]
    out = play(holes, [*steady(0, 5), *late, *steady(8.1, 2)])
    assert [one.lost_before for one in out if one.lost_before] == []
    assert sum(one.values.shape[1] for one in out) == 1250 + 770 + 500
    assert holes.estimated == 0


@pytest.mark.parametrize("pause_s", [0.05, 0.2, HOLE_S - 0.02])
def test_a_short_pause_is_none(pause_s: float) -> None:
    holes = Holes(FS)
    out = play(holes, [*steady(0, 2), *steady(2 + pause_s, 2)])
    assert not any(one.lost_before for one in out)


def test_whole_turns_of_a_number_are_added_to_what_it_shows() -> None:
    """256 numbers at 250 a second: a second without a byte shows as no loss at all, or nearly."""
    holes = Holes(FS, 256)
    after = [(at, chunk(5, 20 if k == 0 else 0)) for k, (at, _) in enumerate(steady(5 + (512 + 20) / FS, 2))]
    out = play(holes, [*steady(0, 5), *after])
    (gap,) = [one for one in out if one.lost_before]
    assert (gap.lost_before, gap.lost_exact) == (2 * 256 + 20, False)


def test_a_number_that_shows_the_whole_loss_stays_exact() -> None:
    holes = Holes(FS, 1 << 16)
    after = [(at, chunk(5, 500 if k == 0 else 0)) for k, (at, _) in enumerate(steady(7, 2))]
    out = play(holes, [*steady(0, 5), *after])
    (gap,) = [one for one in out if one.lost_before]
    assert (gap.lost_before, gap.lost_exact) == (500, True)
    assert holes.estimated == 0


def test_the_first_samples_are_waited_for_without_a_word() -> None:
    holes = Holes(FS)
    assert not any(one.lost_before for one in play(holes, steady(10, 2)))


def test_what_is_held_comes_when_nothing_more_will() -> None:
    holes = Holes(FS)
    holes.look([chunk(5)], 10 * MS)
    assert holes.look([chunk(7)], 1000 * MS) == []
    assert [one.values.shape[1] for one in holes.flush()] == [7]
    assert holes.flush() == []


def caught_up(pause_s: float, rate: float, burst_s: float, first_s: float = 5.0) -> list[tuple[float, Chunk]]:
    """Nothing for ``pause_s``, then all that was taken meanwhile and since, in bursts, ``rate`` samples a second."""
    arrivals, sent, at = [], 0, first_s + pause_s
    while at < first_s + pause_s + 15:
        at += burst_s
        due = min((at - first_s) * FS, (at - first_s - pause_s) * rate)
        arrivals.append((at, chunk(int(due) - sent)))
        sent = int(due)
    return arrivals


CYTON = 11520 / 33
"""Frames that a Cyton's line of 115200 baud carries in a second; 250 of them (8250 of its 11520 bytes) are taken."""


@pytest.mark.parametrize("sequence", [None, 256], ids=["not numbered", "numbered"])
@pytest.mark.parametrize("pause_s", [0.45, 1.0, 2.0, 3.0])
@pytest.mark.parametrize("burst_s", [0.02, 0.1])
def test_a_backlog_at_the_line_s_rate_is_no_loss(pause_s: float, burst_s: float, sequence: int | None) -> None:
    holes = Holes(FS, sequence)
    late = caught_up(pause_s, CYTON, burst_s)
    out = play(holes, [*steady(0, 5), *late])
    assert [one.lost_before for one in out if one.lost_before] == []
    assert holes.estimated == 0
    assert sum(one.values.shape[1] for one in out) == 1250 + sum(one.values.shape[1] for _, one in late)


def test_a_backlog_of_which_a_part_is_lost() -> None:
    """The buffer held a second of the two."""
    late = [(7.0 + k * 0.02, chunk(7)) for k in range(1, 100)]
    late = [one for k, one in enumerate(late) if k < 90]  # 630 of the 950 that were taken by then
    out = play(Holes(FS), [*steady(0, 5), *late, *steady(8.8, 5)])
    (gap,) = [one for one in out if one.lost_before]
    assert abs(gap.lost_before - (3.8 * FS - 630)) <= 30


@pytest.mark.parametrize("pause_s", [0.6, 1.0, 3.0])
def test_a_true_loss_is_known_within_a_second(pause_s: float) -> None:
    holes, known_s = Holes(FS), 0.0
    play(holes, steady(0, 5))
    for at, one in steady(5 + pause_s, 3):
        if holes.look([one], round(at * 1e9)) and not known_s:
            known_s = at - 5 - pause_s
    assert abs(holes.estimated - pause_s * FS) <= 12
    assert 0 < known_s < 0.8


def test_a_backlog_without_end_is_not_waited_for_without_end() -> None:
    """A board that is faster than is said: what is held is bounded by the hole's length."""
    holes = Holes(FS)
    play(holes, steady(0, 5))
    held = 0.0
    for k in range(1, 1000):
        at = 8 + k * 0.02
        if holes.look([chunk(6)], round(at * 1e9)):
            break
        held = at - 8
    assert 5 < held <= 10.02
