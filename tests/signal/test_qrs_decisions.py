"""What the QRS detector makes of a candidate: the compiled one and the plain Python, with verifiers and numbers of the test's own.

The shipped verifier is sure of most beats, so that what is beside it (how little is enough after a long pause) hardly shows. Here a
verifier says exactly what the test wants it to say, or shows in its confidence everything that it was given to look at.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edge_agent.journey import Samples
from edge_agent.signal import qrs
from edge_agent.signal.qrs_design import INPUTS, Weights, design
from edge_agent.signal.qrs_reference import Found, ratio
from tests.signal.test_qrs_twins import BROAD, P_ALONE, SINUS, STEEP_T, Wave, agreed, day, every, line

pytestmark = pytest.mark.skipif(not qrs.KERNEL, reason="the compiled kernel is not built here")

SINCE_THE_LAST_S = 8
"""Of the verifier's inputs: seconds since the last beat, three at most."""
UPSIDE_DOWN: tuple[Wave, ...] = tuple((after, width, -size) for after, width, size in SINUS)
"""Of the same energy as a sinus beat, and as unlike it as can be."""


def logit(p: float) -> float:
    return math.log(p / (1 - p))


def hesitant(says: float) -> Weights:
    """Sure (0.9) of what comes 0.7 to 1.05 s after the last beat, and of the very first; of anything else it says `says`."""
    units = np.zeros((INPUTS, 3))
    units[SINCE_THE_LAST_S] = 400.0
    edges = (-400.0 * 0.7, -400.0 * 1.05, -400.0 * 2.99)
    step = (logit(0.9) - logit(says)) / 2
    return Weights(rows(units), edges, (step, -step, step), (logit(0.9) + logit(says)) / 2)


def rows(units: np.ndarray) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(map(float, row)) for row in units)


def found_after(
    pause_s: float,
    says: float,
    waves: Sequence[Wave] = SINUS,
    gain: float = 1.0,
    beats: int = 16,
    wobble_mv: float = 0.0,
    fs: float = 100.0,
) -> bool:
    """A steady rhythm of 75 a minute, and after a pause one more beat, of which the verifier says `says`: is it taken?"""
    rhythm = every(0.8, 0.5, 0.5 + 0.8 * beats - 0.1, SINUS)
    last = rhythm[-1][0]
    x = line(fs, last + pause_s + 1, [*rhythm, (last + pause_s, waves, gain)], noise_mv=0.002)
    t = np.arange(len(x)) / fs
    x += (wobble_mv * np.sin(2 * np.pi * 7 * t) * ((t > last + 0.5) & (t < last + pause_s - 0.1))).astype(np.float32)
    found = [sample / fs for sample, _, _ in agreed(design(fs, "native"), hesitant(says), [(0, x)])]
    assert sum(at < last + 0.1 for at in found) == beats, "the rhythm itself is not in question"
    return any(abs(at - last - pause_s) < 0.1 for at in found)


# -- after a pause ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "taken"),
    [
        ({}, True),
        ({"says": 0.155}, True),
        ({"says": 0.145}, False),
        ({"pause_s": 1.15}, False),
        ({"pause_s": 1.24}, True),
        ({"waves": UPSIDE_DOWN}, False),
        ({"waves": BROAD, "gain": 1.5}, False),
        ({"gain": 0.5}, False),
        ({"gain": 0.6}, True),
        ({"gain": 1.7}, True),
        ({"gain": 1.95}, False),
    ],
    ids=str,
)
def test_what_has_been_a_beat_all_along_needs_less_after_one_and_a_half_intervals(
    what: dict[str, float], taken: bool
) -> None:
    """Three tenths of the threshold: for the usual shape (a likeness of 0.85), and 0.55 to 1.8 times the usual size."""
    assert found_after(**{"pause_s": 1.3, "says": 0.2} | what) is taken  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("what", "taken"),
    [
        ({}, True),
        ({"says": 0.052}, True),
        ({"says": 0.048}, False),
        ({"pause_s": 2.45}, False),
        ({"pause_s": 2.55}, True),
        ({"gain": 0.45}, False),
        ({"gain": 0.57}, True),
        ({"gain": 1.85}, True),
        ({"gain": 2.15}, False),
        ({"gain": 0.57, "beats": 150}, False),
        ({"gain": 0.66, "beats": 150}, True),
        ({"wobble_mv": 0.1}, True),
        ({"wobble_mv": 0.5}, False),
    ],
    ids=str,
)
def test_what_stands_out_after_two_and_a_half_seconds_needs_a_tenth(what: dict[str, float], taken: bool) -> None:
    """Whatever its shape: at half to twice the beats' level, 2.5 times what was before it, and three times what a heart that
    stands still shows, which is learned from a hundred steady beats."""
    settings = {"pause_s": 2.6, "says": 0.06, "waves": UPSIDE_DOWN} | what
    assert found_after(**settings) is taken  # type: ignore[arg-type]


BARE: tuple[Wave, ...] = ((0, 0.011, 1.0),)
SURE = Weights(((0.0,),) * INPUTS, (0.0,), (0.0,), 9.0)
"""Takes everything for a beat."""


@pytest.mark.parametrize(
    ("beats", "pause_s", "gain", "taken"),
    [
        (8, 1.0, 0.05, True), (8, 1.0, 0.033, False),  # 0.04 of the level
        (150, 1.0, 0.17, True), (150, 1.0, 0.13, False),  # three quarters of the floor, which is a fifth of the level in the end
        (150, 59.5, 0.13, False), (150, 60.5, 0.13, True),
    ],
)  # fmt: skip
def test_what_is_too_small_to_be_asked_about(beats: int, pause_s: float, gain: float, taken: bool) -> None:
    """However sure the verifier is; what a long rhythm has taught holds for a minute."""
    fs = 100.0
    rhythm = every(0.8, 0.5, 0.5 + 0.8 * beats - 0.1, BARE)
    at = rhythm[-1][0] + pause_s
    x = line(fs, at + 1, [*rhythm, (at, BARE, gain)], noise_mv=0.0003)
    found = [sample / fs for sample, _, _ in agreed(design(fs, "native"), SURE, [(0, x)])]
    assert any(abs(one - at) < 0.05 for one in found) is taken


@pytest.mark.parametrize(("beats", "gain", "taken"), [(8, 0.13, True), (150, 0.13, False), (150, 0.17, True)])
def test_what_is_too_small_to_be_searched_back(beats: int, gain: float, taken: bool) -> None:
    """By rules that would search back almost anything."""
    fs = 100.0
    rhythm = every(0.8, 0.5, 0.5 + 0.8 * beats - 0.1, BARE)
    at = rhythm[-1][0] + 0.8
    x = line(fs, at + 2, [*rhythm, (at, BARE, gain)], noise_mv=0.0003)
    found = agreed(replace(design(fs, "native:rules"), back_share=0.03, share=0.5), None, [(0, x)])
    assert any(abs(sample / fs - at) < 0.05 and confidence == 0.5 for sample, _, confidence in found) is taken


@pytest.mark.parametrize(
    ("early_s", "gain", "too_small", "enough"),
    [
        (0.0, 1.0, 0.13, 0.16), (0.22, 1.0, 0.13, 0.16),  # all of them teach
        (0.34, 1.0, 0.09, 0.12),  # neither the early one nor the one after it
        (0.0, 1.8, 0.17, 0.2), (0.0, 2.3, 0.17, 0.25), (0.0, 0.45, 0.10, 0.13),
    ],
)  # fmt: skip
def test_only_usual_beats_teach_what_is_too_small(early_s: float, gain: float, too_small: float, enough: float) -> None:
    """Of half to twice the usual size, 0.65 to 1.35 of the usual interval after the one before; of three beats one is not quite so."""
    fs, rr = 100.0, 0.8
    beats: list[tuple[float, Sequence[Wave], float]] = []
    for k in range(40):
        beats += [(0.5 + rr * (3 * k + i), BARE, 1.0) for i in range(2)]
        beats.append((0.5 + rr * (3 * k + 2) - early_s, BARE, gain))
    at = beats[-1][0] + 1.0
    x = line(fs, at + 3, [*beats, (at, BARE, too_small), (at + 1.5, BARE, enough)], noise_mv=0.0003)
    found = [sample / fs for sample, _, _ in agreed(design(fs, "native"), SURE, [(0, x)])]
    assert not [one for one in found if abs(one - at) < 0.05]
    assert [one for one in found if abs(one - at - 1.5) < 0.05]


# -- what a verifier is given ----------------------------------------------------------------------------------------------


def watching(seed: int, but: int | None = None) -> Weights:
    """Looks at everything a little, so that a different number in any of its inputs is a different confidence."""
    rng = np.random.default_rng(seed)
    units = rng.normal(0, 0.12, (INPUTS, 5))
    if but is not None:
        units[but] = 0
    return Weights(rows(units), tuple(rng.normal(0, 0.2, 5).tolist()), tuple(rng.normal(0, 1.0, 5).tolist()), 0.3)


def hours_of_it(fs: float) -> Samples:
    """Beats of two shapes and many sizes at all intervals, in ever more noise, and a hole."""
    rng = np.random.default_rng(21)
    beats: list[tuple[float, Sequence[Wave], float]] = []
    at = 0.4
    while at < 27:
        shape = (SINUS, SINUS, STEEP_T, BROAD, UPSIDE_DOWN, P_ALONE)[int(rng.integers(6))]
        beats.append((at, shape, float(rng.choice([0.2, 0.5, 0.8, 1.0, 1.2, 2.1]))))
        at += float(rng.choice([0.21, 0.3, 0.36, 0.5, 0.8, 0.9, 1.3, 2.1, 3.05]))
    x = line(fs, 28, beats, noise_mv=0.001)
    x += (np.linspace(0, 0.08, len(x)) * rng.normal(0, 1, len(x))).astype(np.float32)
    x[round(11.2 * fs) : round(11.26 * fs)] = np.nan
    return x


@pytest.mark.parametrize("threshold", [0.0, 0.5, 0.7])
@pytest.mark.parametrize("fs", [100.0, 333.0])
def test_everything_that_the_verifier_looks_at(fs: float, threshold: float) -> None:
    """At a threshold of nothing every candidate is a beat, and its confidence shows what was looked at; above that some are turned away."""
    x = hours_of_it(fs)
    found = agreed(
        replace(design(fs, "native"), threshold=threshold), watching(1), [(7, x), (7 + len(x) + 300, x[:2000])]
    )
    assert len(found) > 15
    assert len({confidence for _, _, confidence in found}) > 0.9 * len(found)


def test_none_of_its_inputs_is_idle() -> None:
    """Were one of them the same for every candidate, nothing above would notice what became of it."""
    fs = 100.0
    x, numbers = hours_of_it(fs), replace(design(fs, "native"), threshold=0.5)

    def said(learned: Weights) -> list[Found] | None:
        return qrs.make_core(numbers, learned, 0, compiled=True).feed(x, 0)

    whole = said(watching(1))
    assert all(said(watching(1, but)) != whole for but in range(INPUTS))


@pytest.mark.parametrize("b2", [-800.0, -700.5, -699.5, 0.0, 800.0])
def test_a_verifier_that_is_surer_than_numbers_go(b2: float) -> None:
    """The exponential of its certainty would overflow: then the confidence is nothing."""
    fs = 100.0
    numbers = replace(design(fs, "native"), threshold=0.0)
    found = agreed(numbers, replace(SURE, b2=b2), [(0, day(fs)[:800])])
    assert found
    assert {confidence for _, _, confidence in found} == {0.0 if b2 < -700 else 1 / (1 + math.exp(-b2))}


@pytest.mark.parametrize("seed", range(4))
def test_rules_with_other_numbers(seed: int) -> None:
    """Rules that are slower, quicker, more and less careful than those that ship, at a rate of their own."""
    rng = np.random.default_rng(seed)
    fs = float(rng.choice([100, 128, 200]))
    numbers = design(fs, "native:rules")
    names = (
        "level_gain",
        "level_cap",
        "noise_gain",
        "noise_cap",
        "share",
        "late_fall",
        "t_slope",
        "next_energy",
        "back_share",
    )
    other = {name: getattr(numbers, name) * float(rng.uniform(0.5, 1.6)) for name in names}
    other |= {"back": float(rng.uniform(1.1, 1.5)), "late_least": 0.3}
    assert len(agreed(replace(numbers, **other), None, [(0, hours_of_it(fs))])) > 15


def test_without_weights_the_rules_decide_and_with_rules_no_weights_are_asked() -> None:
    """As when the weights are still to be trained: candidates and everything beside them are the verifier's, the decision is the rules'."""
    fs = 100.0
    x = day(fs)[: round(14 * fs)]
    numbers = design(fs, "native")
    by_rules = agreed(numbers, None, [(0, x)])
    assert len(by_rules) > 12
    assert by_rules != agreed(numbers, qrs.weights(), [(0, x)])
    rules = design(fs, "native:rules")
    assert agreed(rules, qrs.weights(), [(0, x)]) == agreed(rules, None, [(0, x)])


@pytest.mark.parametrize("but", ["w2", "b1", "w1"])
def test_weights_of_which_some_are_missing_are_refused(but: str) -> None:
    """By the compiled one at once, by the plain one when it first needs them."""
    fs = 100.0
    whole = qrs.weights()
    part = replace(whole, **{but: getattr(whole, but)[:-1]})
    numbers = design(fs, "native")
    with pytest.raises(ValueError, match="weights"):
        qrs.make_core(numbers, part, 0, compiled=True)
    with pytest.raises((ValueError, IndexError)):
        qrs.make_core(numbers, part, 0, compiled=False).feed(day(fs)[: round(6 * fs)], 0)


@pytest.mark.parametrize("units", [0, 65])
def test_a_verifier_has_one_to_sixty_four_units(units: int) -> None:
    numbers = design(100.0, "native")

    def made(n: int) -> Weights:
        return Weights(((0.0,) * n,) * INPUTS, (0.0,) * n, (0.0,) * n, 0.0)

    with pytest.raises(ValueError, match="weights"):
        qrs.make_core(numbers, made(units), 0, compiled=True)
    for least_and_most in (1, 64):
        agreed(numbers, made(least_and_most), [(0, day(100.0)[:800])])


def test_a_ratio_s_logarithm_is_held_within_four() -> None:
    """To the last digit that an input of the verifier can have."""
    for exponent in (-3.999, -3.99, 0.0, 3.99, 3.999):
        assert ratio(2 * math.exp(exponent), 2.0) == pytest.approx(exponent, abs=1e-12)
    for exponent, held in ((-4.001, -4.0), (4.001, 4.0)):
        assert ratio(2 * math.exp(exponent), 2.0) == held
    assert (ratio(0.0, 1.0), ratio(1.0, 0.0), ratio(0.0, 0.0)) == (-4.0, 4.0, -4.0)
