"""The compiled QRS detector and its specification in plain Python, side by side through what a day brings.

`test_qrs_kernel` looks for differences at random and for long; this walks in two seconds through everything that either of them can do:
learning, beats that are missed and searched back, T waves, levels that were wrong in both directions, a heart that
stands still with its P waves, rails, holes, gaps, and an end before anything was learned.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edge_agent.journey import Samples
from edge_agent.signal import qrs
from edge_agent.signal.qrs_design import Design, Weights
from edge_agent.signal.qrs_reference import Found

pytestmark = pytest.mark.skipif(not qrs.KERNEL, reason="the compiled kernel is not built here")

Wave = tuple[float, float, float]
"""Of a bump: seconds after the R peak, width in seconds, millivolts."""
SINUS: tuple[Wave, ...] = (
    (-0.17, 0.02, 0.12),
    (-0.025, 0.009, -0.12),
    (0, 0.011, 1.0),
    (0.028, 0.009, -0.22),
    (0.26, 0.045, 0.28),
)
STEEP_T: tuple[Wave, ...] = ((0, 0.011, 1.0), (0.27, 0.018, 0.9))
BROAD: tuple[Wave, ...] = ((0, 0.038, -1.5), (0.3, 0.07, 0.6))
P_ALONE: tuple[Wave, ...] = ((0, 0.02, 0.15),)


def line(
    fs: float, seconds: float, beats: Sequence[tuple[float, Sequence[Wave], float]], noise_mv: float = 0.01
) -> Samples:
    """Beats at given seconds, each a set of bumps and a gain, on a line that is never quite still."""
    t = np.arange(round(seconds * fs)) / fs
    x = 0.05 * np.sin(2 * np.pi * 0.3 * t) + np.random.default_rng(7).normal(0, noise_mv, len(t))
    for at, waves, gain in beats:
        for after, width, size in waves:
            x += gain * size * np.exp(-(((t - at - after) / width) ** 2) / 2)
    return x.astype(np.float32)


def every(
    rr: float, start: float, until: float, waves: Sequence[Wave], gain: float = 1.0
) -> list[tuple[float, Sequence[Wave], float]]:
    return [(float(at), waves, gain) for at in np.arange(start, until, rr)]


def day(fs: float) -> Samples:
    """Forty-odd seconds of everything."""
    beats = every(0.8, 0.5, 12, SINUS)
    beats[7] = (beats[7][0] - 0.25, BROAD, 1.0)
    beats[10] = (beats[10][0], SINUS, 0.28)  # nearly missed: searched back by the rules
    beats += every(0.45, 12.2, 16, STEEP_T)
    beats += every(0.8, 16.2, 20, SINUS, 9.0)  # the lead was moved: the level was wrong
    beats += every(0.7, 21, 27, SINUS, 0.6)
    beats += every(0.75, 27.5, 31.5, P_ALONE)  # the heart stands still, the atria do not
    beats += every(0.9, 33, 39, SINUS, 0.35)
    x = line(fs, 40, beats)
    x[round(22.3 * fs) : round(22.33 * fs)] = np.nan  # held
    x[round(24.1 * fs) : round(24.3 * fs)] = np.nan  # gone on from where it stopped
    x[round(24.3 * fs) : round(25 * fs)] += 3.0
    x[round(31.5 * fs) : round(32.2 * fs)] = 2.0**24  # a rail
    return x


def noise_and_quiet(fs: float) -> Samples:
    """Nothing, then noise at beats' level, then beats: what was learned first was wrong."""
    rng = np.random.default_rng(3)
    x = line(fs, 20, every(0.85, 5, 19.5, SINUS, 0.25), noise_mv=0.004)
    burst = slice(round(1.5 * fs), round(4.2 * fs))
    x[burst] += rng.normal(0, 0.6, burst.stop - burst.start).astype(np.float32)
    x[: round(0.6 * fs)] = 0
    return x


def agreed(
    numbers: Design, learned: Weights | None, pieces: Sequence[tuple[int, Samples]], first: int = 0
) -> list[Found]:
    """The compiled detector and the plain one through the same pieces: what they say, which is the same to the last bit."""
    compiled, plain = (qrs.make_core(numbers, learned, first, compiled=which) for which in (True, False))
    found: list[Found] = []
    for at, x in pieces:
        one, other = compiled.feed(x, at) or [], plain.feed(x, at) or []
        assert one == other
        assert compiled.learned == plain.learned
        found += one
    one, other = compiled.flush() or [], plain.flush() or []
    assert one == other
    return found + one


def same(method: str, fs: float, pieces: Sequence[tuple[int, Samples]], first: int = 0) -> list[Found]:
    """Both fed the pieces, each from its own index on; everything they say, to the last bit."""
    numbers = qrs.design(fs, method)
    learned = qrs.weights() if numbers.verifier else None
    return agreed(numbers, learned, pieces, first)


@pytest.mark.parametrize("method", qrs.METHODS)
def test_through_a_day(method: str) -> None:
    fs = 250.0
    found = same(method, fs, [(0, day(fs))])
    assert 35 <= len(found) <= 60
    # as it was when this was written: within a sample of the R peak, and known as late as its method promises
    peaks = [sample / fs for sample, _, _ in found]
    assert all(min(abs(peak - (0.5 + 0.8 * k)) for peak in peaks) < 0.012 for k in (4, 5, 6, 9, 11))


@pytest.mark.parametrize("fs", [100.0, 128.0, 360.0, 977.0])
def test_at_other_rates(fs: float) -> None:
    x = day(fs)[round(9 * fs) : round((17 if fs < 500 else 13.5) * fs)]
    for method in qrs.METHODS[:2]:
        assert len(same(method, fs, [(12345, x)], 12345)) >= 5


@pytest.mark.parametrize("method", qrs.METHODS[:2])
def test_what_was_learned_first_was_wrong(method: str) -> None:
    fs = 200.0
    x = noise_and_quiet(fs)
    found = same(method, fs, [(0, x)])
    assert sum(sample > 12 * fs for sample, _, _ in found) >= 6


@pytest.mark.parametrize("method", qrs.METHODS[:2])
def test_over_gaps(method: str) -> None:
    """Of 5 s (what was learned stays), of 30 s to the sample and one more (it goes), and back in time."""
    fs = 128.0
    x = day(fs)[: round(6 * fs)]
    n, limit = len(x), int(30 * fs)
    for gap in (round(5 * fs), limit, limit + 1, -n, -1, 1):
        pieces = [(0, x), (n + gap, x)]
        assert len(same(method, fs, pieces)) >= 10


@pytest.mark.parametrize("seconds", [0.0, 0.05, 0.4, 0.9, 2.2, 2.5, 2.6, 3.1])
@pytest.mark.parametrize("method", ["native", "native:rules-fast"])
def test_an_end_before_much_was_learned(method: str, seconds: float) -> None:
    fs = 250.0
    x = day(fs)[: round(seconds * fs)]
    found = same(method, fs, [(0, x)])
    assert all(0 <= sample <= known < max(1, len(x)) for sample, known, _ in found)
    if seconds > 2:
        assert len(found) >= 2


@pytest.mark.parametrize("method", qrs.METHODS[:2])
def test_a_heart_that_stands_still(method: str) -> None:
    """After a minute's steady rhythm: P waves of all sizes for 14 s, and after 61 s of them one that may be a beat again."""
    fs = 100.0
    beats = every(0.8, 0.5, 40, SINUS)
    beats += [(41.5 + 0.7 * k, P_ALONE, 0.3 + 0.09 * k) for k in range(20)]
    beats += [(104.0 + 1.1 * k, P_ALONE, 0.6 + 0.15 * k) for k in range(6)]
    beats += every(0.8, 112, 116, SINUS)
    found = same(method, fs, [(0, line(fs, 118, beats, noise_mv=0.002))])
    assert sum(sample < 40.5 * fs for sample, _, _ in found) >= 48


@pytest.mark.parametrize("method", qrs.METHODS[:2])
def test_slow_hearts_and_long_pauses(method: str) -> None:
    """25 beats a minute, 3.2 s between some, and pauses of 29.5 and 30.5 s."""
    fs = 100.0
    times = [0.5, 1.3, 2.1, 2.9, 3.7]
    for step in (2.5, 2.5, 2.4, 2.6, 3.2, 2.5, 1.4, 0.8, 0.8, 1.3, 29.5, 0.8, 0.8, 30.5, 0.8, 0.8):
        times.append(times[-1] + step)
    noise = np.random.default_rng(11)
    beats = [(at, SINUS, float(noise.uniform(0.6, 1.1))) for at in times]
    found = same(method, fs, [(0, line(fs, times[-1] + 1.5, beats, noise_mv=0.03))])
    assert len(found) >= 18


@pytest.mark.parametrize("method", qrs.METHODS[:2])
def test_holes_of_just_so_long(method: str) -> None:
    """One that is held and one that is a sample longer, with the line elsewhere after them."""
    fs = 250.0
    x = day(fs)[: round(10 * fs)]
    hold = int(0.04 * fs)
    for k, length in enumerate((hold - 1, hold, hold + 1, 1, hold)):
        at = round((3.2 + 1.31 * k) * fs)
        x[at : at + length] = np.nan
        x[at + length :] += 0.4
    assert len(same(method, fs, [(0, x)])) >= 9


@pytest.mark.parametrize("method", qrs.METHODS[1:2])
def test_a_beginning_within_a_beat(method: str) -> None:
    """From every sample around an R peak on: the first beat's place may lie before the first sample."""
    fs = 100.0
    x = day(fs)[: round(4.2 * fs)]
    for start in range(round(0.38 * fs), round(0.62 * fs)):
        found = same(method, fs, [(1000, x[start:])], 1000)
        assert all(sample >= 1000 for sample, _, _ in found)


def test_what_is_learned_late() -> None:
    """A swing that grows for four seconds has no maximum to learn from before its end; both say at the same sample that they know."""
    fs = 100.0
    t = np.arange(round(4 * fs)) / fs
    x = np.concatenate((np.exp(1.5 * t) / 400, day(fs)[: round(5 * fs)])).astype(np.float32)
    for method in qrs.METHODS[:2]:
        same(method, fs, [(at, x[at : at + 5]) for at in range(0, len(x), 5)])


def test_straight_lines() -> None:
    """A sawtooth's energy stands still for a while: of equal maxima it is the first."""
    fs = 128.0
    n = np.arange(round(14 * fs))
    for period in (96, 120, 64):
        x = (np.abs(n % period - period // 2) / 64).astype(np.float32)
        for method in qrs.METHODS[:2]:
            same(method, fs, [(0, x)])


@pytest.mark.parametrize("method", qrs.METHODS[:2])
def test_spikes_of_all_sizes(method: str) -> None:
    """A loose electrode: what is steepest lies at the edge of what is looked at, now and then."""
    fs = 125.0
    rng = np.random.default_rng(5)
    x = line(fs, 30, every(0.8, 0.5, 29.5, SINUS), noise_mv=0.02)
    at = rng.integers(0, len(x), 260)
    x[at] += (0.15 * rng.standard_t(2, len(at))).astype(np.float32)
    assert len(same(method, fs, [(0, x)])) >= 25


@pytest.mark.parametrize("method", qrs.METHODS[:2])
def test_nothing_at_all_between_the_beats(method: str) -> None:
    """A simulator's line is still to the last bit: it says nothing of how small a beat of this patient may be."""
    fs = 100.0
    bare: tuple[Wave, ...] = ((0, 0.011, 1.0),)
    beats = every(0.8, 0.5, 24, bare) + [(25.0 + 0.7 * k, P_ALONE, 0.3 + 0.1 * k) for k in range(12)]
    x = line(fs, 35, beats, noise_mv=0.0) - line(fs, 35, [], noise_mv=0.0)
    assert len(same(method, fs, [(0, x)])) >= 28


@pytest.mark.parametrize("seed", range(4))
def test_beats_that_come_late_in_noise(seed: int) -> None:
    """Where the verifier is asked for less, since nothing came for long: ever weaker beats of the usual shape after pauses."""
    fs = 125.0
    rng = np.random.default_rng(seed)
    times, at = [], 0.5
    while at < 24:
        times.append(at)
        at += 0.7 if len(times) % 4 else float(rng.uniform(1.2, 3.4))
    beats = [(one, SINUS, float(rng.uniform(0.45, 1.0))) for one in times]
    assert len(same("native", fs, [(0, line(fs, 25, beats, noise_mv=0.05 + 0.02 * seed))])) >= 8


def test_nothing_but_stillness_and_nothing_but_holes() -> None:
    for x in (np.zeros(2000, np.float32), np.full(2000, np.nan, np.float32), np.full(2000, -(2.0**24), np.float32)):
        for method in qrs.METHODS[:2]:
            assert same(method, 250.0, [(0, x)]) == []


def test_one_sample_at_a_time_with_its_state() -> None:
    fs = 100.0
    x = day(fs)[: round(8 * fs)]
    whole = same("native", fs, [(0, x)])
    assert same("native", fs, [(at, x[at : at + 1]) for at in range(len(x))]) == whole
