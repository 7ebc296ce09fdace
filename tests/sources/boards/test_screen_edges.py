"""The screen: several impossible samples near each other are each given up, and nothing beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.serial_faults import samples_of
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.screen import LONGEST_LOSS, ODD, SURE, TIMES, TIMES_SURE, Screened
from tests.sources.boards.test_screen import Ready, beats, chunk, screened


@pytest.mark.parametrize("apart", [9, 10, 11, 17, 40])
@pytest.mark.parametrize("at_once", [1, 8])
def test_two_that_are_found_in_one_look(apart: int, at_once: int) -> None:
    """Of different signs, so that neither is like the other."""
    values = beats(1200)
    spoilt = values.copy()
    first = 650
    spoilt[[first, first + apart]] += np.array([2.0, -3.0], np.float32)
    chunks, counters = screened([chunk(part) for part in np.split(spoilt, 24)], at_once)
    got = samples_of(chunks, 1)[0]
    assert np.flatnonzero(np.isnan(got)).tolist() == [first, first + apart]
    assert counters.values_implausible == 2
    kept = ~np.isnan(got)
    np.testing.assert_array_equal(got[kept], values[kept])


BOARD = registry.codec("max30003").board
FLOOR = abs(BOARD.channels[0].scale) / 2 + 0.002
"""Half a step of the converter, and 2 uV: on a line that is still, all that a sample is held against."""


def given_up(spikes: dict[int, float], count: int = 6000) -> list[int]:
    """Of spikes on a line that is still, those that are taken for impossible; sizes in what a sample is held against."""
    values = np.zeros(count, np.float32)
    for at, size in spikes.items():
        values[at] = size * FLOOR
    return np.flatnonzero(np.isnan(samples_of(screened([chunk(values)])[0], 1)[0])).tolist()


@pytest.mark.parametrize("sign", [-1, 1])
def test_on_a_still_line_four_times_half_a_step_is_odd(sign: int) -> None:
    assert given_up({1000: sign * ODD * 0.97}) == []
    assert given_up({1000: sign * ODD * 1.03}) == [1000]


@pytest.mark.parametrize(("unit", "floor"), [("mV", 0.012), ("a.u.", 0.01)])
def test_half_a_step_of_a_coarse_converter_and_two_microvolts_where_volts_are_known(unit: str, floor: float) -> None:
    coarse = replace(BOARD, channels=tuple(replace(one, scale=-0.02, unit=unit) for one in BOARD.channels))
    for size, odd in ((ODD * 0.97, False), (ODD * 1.03, True)):
        values = np.zeros(2000, np.float32)
        values[1000] = size * floor
        screen = Screened(Ready([chunk(values)]), coarse)
        got = samples_of([*screen.decode(b"."), *screen.flush()], 1)[0]
        assert np.isnan(got[1000]) == odd


@pytest.mark.parametrize(
    ("size", "times"), [(ODD * 1.5, TIMES), (SURE * 0.97, TIMES), (SURE * 1.03, TIMES_SURE), (40.0, TIMES_SURE)]
)
def test_after_so_many_of_its_like_one_stays(size: float, times: int) -> None:
    """Two; five of those that stand out much. As the docstring says it, too."""
    assert (TIMES, TIMES_SURE) == (2, 5)
    places = [500 + 200 * k for k in range(8)]
    assert given_up(dict.fromkeys(places, size)) == places[:times]


@pytest.mark.parametrize(
    ("other", "like"), [(1.0, True), (2.4, True), (2.6, False), (0.42, True), (0.38, False), (-1.0, False)]
)
def test_what_is_like_another(other: float, like: bool) -> None:
    """Of the same sign, and 2.5 times as large at most, or as small."""
    size = 16.0
    assert (2300 in given_up({500: size, 700: size, 900: size, 1100: size, 1300: size, 2300: size * other})) is not like


@pytest.mark.parametrize(("later", "stays"), [(0, True), (1, False)])
def test_what_stood_out_is_remembered_for_fifteen_seconds(later: int, stays: bool) -> None:
    memory = round(15 * BOARD.fs)
    last = 500 + memory + later
    assert given_up({500: 6.0, 900: 6.0, last: 6.0}) == [500, 900] + [last] * (not stays)


@pytest.mark.parametrize("after", range(12))
def test_after_a_long_loss_the_first_eight_are_not_judged(after: int) -> None:
    """What a sample is held against begins six before it, and each of these needs two more."""
    begin, rest = np.zeros(700, np.float32), np.zeros(700, np.float32)
    rest[after] = 1.0
    chunks, _ = screened([chunk(begin), chunk(rest, LONGEST_LOSS + 1)])
    lost = np.flatnonzero(np.isnan(samples_of(chunks, 1)[0])).tolist()
    assert lost == ([700 + after] if after >= 8 else [])


@pytest.mark.parametrize("apart", [3, 4, 5, 6, 8])
@pytest.mark.parametrize("slope", [0.0, 25 * FLOOR, -25 * FLOOR])
def test_what_was_given_up_casts_no_doubt_on_what_comes_soon_after(apart: int, slope: float) -> None:
    """It is as if what its neighbours suggest had come in its place, on a line that rises or falls steeply, too."""
    values = np.arange(3000, dtype=np.float64) * slope
    places = [1000, 1000 + apart]
    values[places] += np.array([60.0, -20.0]) * FLOOR
    got = samples_of(screened([chunk(values)])[0], 1)[0]
    assert np.flatnonzero(np.isnan(got)).tolist() == places


def test_what_follows_a_loss_is_joined_to_what_came_after_it() -> None:
    values = np.arange(90, dtype=np.float32) / 1000
    first, second, third = values[:30], values[30:60], values[60:]
    chunks, _ = screened([chunk(first), chunk(second, 3), chunk(third)], at_once=3)
    assert [(one.lost_before, one.lost_exact) for one in chunks[:2]] == [(0, True), (3, False)]
    np.testing.assert_array_equal(chunks[0].values[0], first)
    assert chunks[1].values[0].tolist() == values[30:86].tolist()  # the screen waits for the last four
    np.testing.assert_array_equal(np.concatenate([one.values[0] for one in chunks]), values)
