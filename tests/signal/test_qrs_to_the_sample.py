"""The QRS detectors, compiled and plain, to the very sample: at a limit and beside it, at an end, after a gap, of two equals the first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from edge_agent.journey import Samples
from edge_agent.signal import qrs
from edge_agent.signal.qrs_design import design
from tests.signal.test_qrs_decisions import BARE, SURE, UPSIDE_DOWN, hesitant, watching
from tests.signal.test_qrs_twins import BROAD, P_ALONE, SINUS, Wave, agreed, day, every, line

pytestmark = pytest.mark.skipif(not qrs.KERNEL, reason="the compiled kernel is not built here")


@pytest.mark.parametrize("fs", [100.0, 250.0])
def test_spikes_and_split_beats_to_the_sample(fs: float) -> None:
    """What is steepest, sharpest and largest lies at the very edge of what is looked at, or just beyond it."""
    numbers = replace(design(fs, "native"), threshold=0.0)
    beats = [(0.6 + 0.9 * k, BROAD, 1.0) for k in range(round(0.34 * fs))]
    x = line(fs, beats[-1][0] + 1, beats, noise_mv=0.0)
    for k, (at, _, _) in enumerate(beats):
        x[round(at * fs) + k - round(0.17 * fs)] += 0.25 if k % 3 else -0.5
    split = [
        (0.6 + 0.9 * k + more * k / fs / 2, BARE, 1.0 + more * 0.1) for k in range(round(0.24 * fs)) for more in (-1, 1)
    ]
    y = line(fs, split[-1][0] + 1, split, noise_mv=0.0)
    for seed in (3, 4):
        assert len(agreed(numbers, watching(seed), [(0, x), (len(x) + 400, y)])) > len(beats) + len(split) // 2


def table(fs: float, beats: Sequence[tuple[int, float]], n: int) -> Samples:
    """As a simulator plays it: one bump from a table, at whole samples, on a line that is still to the last bit."""
    t = np.arange(-round(0.1 * fs), round(0.1 * fs) + 1) / fs
    bump = np.round(np.exp(-((t / 0.011) ** 2) / 2) * 4096) / 4096
    x = np.zeros(n)
    for at, gain in beats:
        x[at - len(t) // 2 : at + len(t) // 2 + 1] += gain * bump
    return x.astype(np.float32)


def at_just(fs: float, gaps: Sequence[int], gain: float, rr: int) -> Samples:
    """A rhythm of `rr` samples, and after every fourth beat one of another size just so many samples later; two, if it is loud: only
    the second says that not the signal but the level was wrong."""
    beats, at = [], round(0.5 * fs)
    for gap in gaps:
        for _ in range(4):
            beats.append((at, 1.0))
            at += rr
        at += gap - rr
        for _ in range(2 if gain > 6 else 1):
            beats.append((at, gain))
            at += rr
    return table(fs, [*beats, (at, 1.0)], at + round(fs))


@pytest.mark.parametrize("gain", [0.06, 0.24, 0.5, 1.0, 2.0, 12.0])
def test_at_the_very_sample(gain: float) -> None:
    """0.2 s, 0.3 s, one and a half intervals, 2, 2.5 and 3 s after a beat, and a sample to either side of each."""
    fs, rr = 100.0, 84
    gaps = [one + more for one in (20, 30, 126, 200, 250, 300) for more in (0, -1, 1)]
    x = at_just(fs, gaps, gain, rr)
    for method, threshold, refractory_s in (("native", 0.5, 0.2), ("native", 0.0, 0.3), ("native:rules", 0.5, 0.2)):
        numbers = replace(design(fs, method), refractory_s=refractory_s, threshold=threshold)
        assert len(agreed(numbers, watching(2) if numbers.verifier else None, [(0, x)])) > 2 * len(gaps)


@pytest.mark.parametrize(("apart", "loud"), [(150, True), (249, True), (250, False), (300, False)])
def test_two_loud_beats_within_two_and_a_half_seconds_change_the_level(apart: int, loud: bool) -> None:
    """Of more than six times the level: once it is the signal, twice the level was wrong, and what was a beat before is none any more."""
    fs, rr = 100.0, 50
    beats = [(60 + rr * k, 1.0) for k in range(14)]
    first = beats[-1][0] + rr
    beats += [(first, 8.0), *((first + rr * k, 1.0) for k in range(1, (apart - 1) // rr + 1)), (first + apart, 8.0)]
    after = [first + apart + rr * k for k in range(1, 4)]
    x = table(fs, [*beats, *((at, 1.0) for at in after)], after[-1] + 200)
    found = {sample for sample, _, _ in agreed(design(fs, "native:rules"), None, [(0, x)])}
    assert (found & set(after) == set()) is loud


def test_no_two_beats_within_the_refractory_time() -> None:
    """Whatever the verifier says: at 0.2 s to the sample the heart may beat again, a sample sooner it may not."""
    fs = 100.0
    for gap, counted in ((19, 0), (20, 1)):
        x = at_just(fs, [gap] * 6, 1.0, 80)
        found = [sample for sample, _, _ in agreed(design(fs, "native"), SURE, [(0, x)])]
        assert sum(b - a == gap for a, b in pairwise(found)) == 6 * counted


def test_of_two_equal_ones_the_first_is_searched_back() -> None:
    """Two beats too small to be taken at once, the same to the last bit, between beats 1.8 s apart."""
    fs, rr, unit = 100.0, 84, 6  # energies are equal where the distance is so many boxes of the energy
    numbers = design(fs, "native:rules")
    assert numbers.box_energy == unit
    beats = [(60 + rr * k, 1.0) for k in range(12)]
    last = beats[-1][0]
    small = [(last + 60, 0.3), (last + 102, 0.3)]
    found = agreed(numbers, None, [(0, table(fs, [*beats, *small, (last + 180, 1.0)], last + 400))])
    assert last + 60 in [sample for sample, _, _ in found]
    assert last + 102 not in [sample for sample, _, _ in found]


@pytest.mark.parametrize("from_s", [0.9, 2.0])
def test_a_heart_that_stands_still_shows_no_beat_for_a_minute(from_s: float) -> None:
    """P waves of a twelfth of the beats' size stay below what was learned of a steady rhythm for 60 s, and are taken soon after."""
    fs = 100.0
    beats = every(0.8, 0.5, 60, SINUS)
    last = beats[-1][0]
    x = line(fs, last + 66, [*beats, *every(1.1, last + from_s, last + 65, P_ALONE, 0.9)], noise_mv=0.001)
    later = [sample / fs - last for sample, _, _ in agreed(design(fs, "native:rules"), None, [(0, x)])]
    later = [at for at in later if at > 0.1]
    assert later
    assert 60 <= later[0] < 63.5


@pytest.mark.parametrize("method", qrs.METHODS[:2])
def test_levels_that_were_wrong_again_and_again(method: str) -> None:
    """Ever smaller by a third, two of each, with no beat for two seconds; and then ever larger by ten."""
    fs = 100.0
    beats: list[tuple[float, Sequence[Wave], float]] = every(0.8, 0.5, 10, SINUS)
    at, gain = 10.3, 1.0
    for step in range(26):
        at += 2.05 if step % 5 == 0 else 0.9
        gain *= 0.34 if step % 2 == 0 and step < 12 else 9.0 if step in (14, 18, 22) else 1.0
        beats.append((at, SINUS if step % 3 else UPSIDE_DOWN, gain))
    x = line(fs, at + 3, beats, noise_mv=0.0002)
    numbers = design(fs, method)
    for learned in (qrs.weights(), hesitant(0.2)) if numbers.verifier else (None,):
        assert len(agreed(numbers, learned, [(0, x)])) > 12


def test_an_end_at_every_sample() -> None:
    """Of 0.45 s, a beat among them: what is said at the end lies within the recording, and is the same."""
    fs = 100.0
    x = day(fs)
    for method in ("native", "native:rules-fast"):
        numbers = design(fs, method)
        learned = qrs.weights() if numbers.verifier else None
        for end in range(round(3.6 * fs), round(4.05 * fs)):
            found = agreed(numbers, learned, [(0, x[:end])])
            assert all(0 <= sample <= known < end for sample, known, _ in found)
            assert len(found) >= 3


@pytest.mark.parametrize("method", qrs.METHODS[:2])
@pytest.mark.parametrize("gain", [0.05, 0.15, 7.0])
def test_after_a_short_gap_levels_are_those_of_before(method: str, gain: float) -> None:
    """And if they are wrong now, they are found to be wrong as ever: by two that stand out, or by two that are loud."""
    fs = 100.0
    x = line(fs, 12, every(0.8, 0.5, 11.5, SINUS), noise_mv=0.001)
    y = line(fs, 12, every(0.8, 0.5, 11.5, SINUS, gain), noise_mv=0.0002)
    numbers = design(fs, method)
    for learned in (qrs.weights(), watching(5)) if numbers.verifier else (None,):
        for cut in (0, 60):
            found = agreed(numbers, learned, [(0, x), (len(x) + 500, y[cut:])])
            assert [one for one in found if one[0] > len(x)] or learned == watching(5)


def test_one_recording_after_another() -> None:
    """Each begins as if nothing had been before it, however the last one left off: before it had learned, or long after."""
    fs = 100.0
    x = day(fs)
    pieces, at = [], 0
    for k, seconds in enumerate((3.3, 1.9, 2.7, 4.4, 2.45, 3.1, 2.2, 5.0)):
        begin = round((0.37 * k + (12.2 if k % 3 == 1 else 0)) * fs)
        piece = x[begin : begin + round(seconds * fs)]
        pieces.append((at, piece))
        at += len(piece) + round(31 * fs)
    for method in qrs.METHODS:
        numbers = design(fs, method)
        learned = qrs.weights() if numbers.verifier else None
        found = agreed(numbers, learned, pieces)
        alone = [one for where, piece in pieces for one in agreed(numbers, learned, [(where, piece)])]
        assert {sample for sample, _, _ in found} <= {sample for sample, _, _ in alone}
        assert len(found) > 12
