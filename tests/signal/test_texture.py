"""The texture of a lead: the same for any cut, causal, and telling a sinus rhythm from a flutter, a pause and a hole."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.journey import Beat, BeatShape, Texture
from edge_agent.signal.texture import MOST_MISSING, WINDOW_S, EcgTexture

FS = 250.0
Signal = NDArray[np.float32]


def sinus(seconds: float, fs: float = FS, rr_s: float = 0.8, seed: int = 1) -> tuple[Signal, list[Beat]]:
    """Narrow complexes with a T wave on a little noise, and the beats as a detector would give them."""
    t = np.arange(round(seconds * fs)) / fs
    x = np.random.default_rng(seed).normal(0, 0.01, len(t))
    beats: list[Beat] = []
    for at in np.arange(0.5, seconds - 0.1, rr_s):
        x += np.exp(-0.5 * ((t - at) / 0.012) ** 2) + 0.25 * np.exp(-0.5 * ((t - at - 0.25) / 0.045) ** 2)
        late_s = 2.0 if len(beats) % 5 == 3 else 0.35  # a search back finds some long after
        beats.append(Beat("II", round(at * fs), round((at + late_s) * fs), 1.0))
    return x.astype(np.float32), beats


def cut(
    x: Signal, beats: Sequence[Beat], sizes: Sequence[int], fs: float = FS, first: int = 0
) -> list[Texture | BeatShape]:
    """Fed in pieces of these sizes, over and over; each piece with the beats that it makes known."""
    texture, at = EcgTexture(fs, "II", first), 0
    out: list[Texture | BeatShape] = []
    for size in itertools.cycle(sizes):
        if at >= len(x):
            return out
        piece = x[at : at + size]
        known = [beat for beat in beats if at <= beat.known < at + len(piece)]
        out += texture.feed(piece, first + at, known)
        at += len(piece)
    raise AssertionError


def textures(found: Sequence[Texture | BeatShape]) -> list[Texture]:
    return [one for one in found if isinstance(one, Texture)]


def shapes(found: Sequence[Texture | BeatShape]) -> list[BeatShape]:
    return [one for one in found if isinstance(one, BeatShape)]


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 2600), min_size=1, max_size=6), st.sampled_from([128.0, 250.0, 360.0, 500.0]))
def test_any_cut_gives_the_same(sizes: list[int], fs: float) -> None:
    x, beats = sinus(45, fs)
    x[round(30 * fs) : round(30.2 * fs)] = np.nan
    whole = cut(x, beats, [round(fs)], fs)
    assert cut(x, beats, sizes, fs) == whole
    assert textures(whole)[-1].usual > 0.9


def test_sample_by_sample_gives_the_same_and_says_it_when_it_is_known() -> None:
    """Whatever is said later than its ``known`` would come after ticks that a larger block lets it precede."""
    x, beats = sinus(34)
    texture, out = EcgTexture(FS, "II"), []
    for at in range(len(x)):
        said = texture.feed(x[at : at + 1], at, [beat for beat in beats if beat.known == at])
        assert all(one.known == at for one in said)
        out += said
    assert out == cut(x, beats, [len(x)])


def test_nothing_needs_a_sample_after_known() -> None:
    x, beats = sinus(40)
    for one in cut(x, beats, [250])[-40::7]:
        changed = x.copy()
        changed[one.known + 1 :] = 7.0
        assert one in cut(changed, [beat for beat in beats if beat.known <= one.known], [250])
        assert one.known >= one.sample - 1


def test_four_a_second_once_the_window_is_full() -> None:
    x, beats = sinus(30)
    found = textures(cut(x, beats, [250]))
    assert found[0].sample >= WINDOW_S * FS
    steps = np.diff([one.sample for one in found]) / FS
    assert steps.min() > 0.2
    assert steps.max() < 0.3


def test_a_sinus_rhythm_is_alike_and_peaked() -> None:
    x, beats = sinus(60)
    found = cut(x, beats, [250])
    last = textures(found)[-20:]
    assert min(one.alike for one in last) > 0.95
    assert min(one.peaked for one in last) > 6
    assert max(one.unlike_s for one in last) < 1.0
    assert all(abs(one.size_log) < 0.2 for one in last)
    assert max(one.repeats for one in last) < 0.4  # 0.8 s lies outside the lags
    late = shapes(found)[-10:]
    assert min(one.alike for one in late) > 0.95
    assert min(one.again for one in late) > 0.95
    assert all(abs(one.size_log) < 0.2 and abs(one.slope_log) < 0.2 for one in late)


def test_a_flutter_repeats_and_is_unlike() -> None:
    x, beats = sinus(60)
    t = np.arange(round(8 * FS)) / FS
    flutter = (0.8 * np.sin(2 * np.pi * 4 * t)).astype(np.float32)
    found = textures(cut(np.concatenate((x, flutter)), beats, [250]))
    last = found[-8:]
    assert min(one.repeats for one in last) > 0.9
    assert all(abs(one.period_s - 0.25) < 0.02 for one in last)
    assert all(abs(one.peak_hz - 4) < 0.5 for one in last)
    assert max(one.alike for one in last) < 0.7
    assert max(one.peaked for one in last) < 2
    assert min(one.slow for one in last) > 0.9
    assert min(one.steady for one in last) > 0.7
    assert min(one.concentration for one in last) > 0.8


def test_a_pause_grows_and_is_quiet() -> None:
    x, beats = sinus(60)
    quiet = np.random.default_rng(2).normal(0, 0.01, round(8 * FS)).astype(np.float32)
    last = textures(cut(np.concatenate((x, quiet)), beats, [250]))[-1]
    assert 6.0 < last.unlike_s < 8.5
    assert last.size_log < -2
    assert last.last_size_log < -2


def test_a_wide_beat_is_unlike_and_slow() -> None:
    x, beats = sinus(60, rr_s=1.0)
    t = np.arange(len(x)) / FS
    at = beats[50].sample / FS
    x = (x - np.exp(-0.5 * ((t - at) / 0.012) ** 2) + 1.5 * np.exp(-0.5 * ((t - at) / 0.05) ** 2)).astype(np.float32)
    found = {one.sample: one for one in shapes(cut(x, beats, [250]))}
    wide, narrow = found[beats[50].sample], found[beats[49].sample]
    assert wide.alike < 0.8 < narrow.alike
    assert wide.slope_log < -0.5
    assert abs(narrow.slope_log) < 0.1
    assert wide.size_log > 0.3


@pytest.mark.parametrize(("part", "many"), [(0.8, 0), (1.2, 1)])
def test_a_window_with_too_little_signal_says_nothing(part: float, many: int) -> None:
    """MOST_MISSING of three seconds."""
    x, beats = sinus(30)
    hole = round(part * MOST_MISSING * WINDOW_S * FS)
    x[5000 : 5000 + hole] = np.nan
    whole = [
        one
        for one in textures(cut(x, beats, [250]))
        if one.sample - WINDOW_S * FS < 5000 and one.sample > 5000 + hole + 10
    ]
    assert (len(whole) < 8) == bool(many)


def test_a_gap_begins_anew() -> None:
    """As if the stream had begun after it: the usual beat, too, is unknown again."""
    x, beats = sinus(40)
    texture = EcgTexture(FS, "II")
    texture.feed(x, 0, beats)
    later = len(x) + 1234
    found = texture.feed(x, later, [])
    assert found == EcgTexture(FS, "II", later).feed(x, later, [])
    assert all(one.usual == 0 for one in textures(found))


def test_nothing_is_usual_before_it_is_old_enough() -> None:
    """What happens within the last 16 s cannot have become usual."""
    x, beats = sinus(15)
    assert all(one.usual == 0 and one.alike == 0 for one in textures(cut(x, beats, [250])))


def test_what_happens_now_does_not_become_usual() -> None:
    """Twelve narrow beats, then twenty seconds of wide ones, which are more."""
    narrow, first = sinus(10)
    t = np.arange(round(20 * FS)) / FS
    wide, second = np.random.default_rng(3).normal(0, 0.01, len(t)), []
    for at in np.arange(0.5, 19.5, 0.6):
        wide += 1.5 * np.exp(-0.5 * ((t - at) / 0.06) ** 2)
        second.append(Beat("II", round((10 + at) * FS), round((10.35 + at) * FS), 1.0))
    found = cut(np.concatenate((narrow, wide.astype(np.float32))), first + second, [250])
    late = [one for one in shapes(found) if one.sample > 25 * FS]
    assert len(late) >= 3
    assert all(0 != one.alike < 0.8 for one in late)
