"""The usual beat: what is learned into it, what is not, and the numbers against their plain definitions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.inference.manifest import SHAPE_FEATURES as IN_MANIFEST
from edge_agent.journey import Samples
from edge_agent.signal.rr import RrHistory
from edge_agent.signal.usual_beat import (
    BEFORE,
    KEPT,
    RATE_HZ,
    REFUSED,
    SAMPLES,
    SHAPE_FEATURES,
    P,
    UsualBeat,
    compare,
    interval_is_long,
    make_waves,
)
from edge_agent.signal.usual_beat import KERNEL as COMPILED

T_S = (np.arange(SAMPLES) - BEFORE) / RATE_HZ


def bump(at_s: float, width_s: float, size: float) -> NDArray[np.float64]:
    return size * np.exp(-0.5 * ((T_S - at_s) / width_s) ** 2)


def beat(p: float = 0.15, p_at_s: float = -0.17, qrs: float = 1.0, wide: float = 0.02, offset: float = 0.0) -> Samples:
    wave = bump(p_at_s, 0.025, p) + bump(0.0, wide, qrs) + bump(0.22, 0.04, 0.3) + offset
    return wave.astype(np.float32)


def named(numbers: Samples) -> dict[str, float]:
    return dict(zip(SHAPE_FEATURES, numbers.tolist(), strict=True))


def taught(n: int = 20) -> UsualBeat:
    usual = UsualBeat()
    for _ in range(n):
        usual.feed(beat(), True)
    return usual


def test_the_manifest_names_the_same_numbers_in_the_same_order() -> None:
    assert IN_MANIFEST == SHAPE_FEATURES


def test_the_first_beat_is_compared_with_nothing() -> None:
    numbers, learning = UsualBeat().feed(beat(), True)
    assert not numbers.any()
    assert learning == "afresh"


def test_the_usual_beat_itself() -> None:
    found = named(taught().feed(beat(offset=3.0), True)[0])
    for name in ("qrs_correlation", "t_correlation", "p_correlation", "p_best_correlation", "p_gain"):
        assert found[name] == pytest.approx(1, abs=1e-4), name
    for name in ("qrs_difference", "t_difference", "p_difference", "qrs_size_log", "qrs_slope_log", "p_size_log"):
        assert found[name] == pytest.approx(0, abs=1e-3), name


def test_numbers_are_what_they_say() -> None:
    usual, this = beat().astype(float), beat(p=-0.1, qrs=1.7, wide=0.05).astype(float)
    found = named(taught().feed(this.astype(np.float32), True)[0])
    qrs = [x[27:47] - x[27:47].mean() for x in (this, usual)]
    assert found["qrs_correlation"] == pytest.approx(np.corrcoef(*qrs)[0, 1], abs=1e-4)
    assert found["qrs_difference"] == pytest.approx(np.linalg.norm(qrs[0] - qrs[1]) / np.linalg.norm(qrs[1]), rel=1e-4)
    assert found["qrs_size_log"] == pytest.approx(np.log(np.linalg.norm(qrs[0]) / np.linalg.norm(qrs[1])), abs=1e-4)
    slopes = [np.abs(np.diff(x[27:47])).max() for x in (this, usual)]
    assert found["qrs_slope_log"] == pytest.approx(np.log(slopes[0] / slopes[1]), abs=1e-4)

    def level(x: NDArray[np.float64]) -> NDArray[np.float64]:
        grid = np.arange(x.size)
        return np.asarray(x - np.polyval(np.polyfit(grid, x, 1), grid))

    p = [level(x[P]) for x in (this, usual)]
    assert found["p_correlation"] == pytest.approx(p[0] @ p[1] / np.linalg.norm(p[0]) / np.linalg.norm(p[1]), abs=1e-4)
    assert found["p_gain"] == pytest.approx(p[0] @ p[1] / (p[1] @ p[1]), abs=1e-3)
    assert found["p_size_log"] == pytest.approx(np.log(np.linalg.norm(p[0]) / np.linalg.norm(p[1])), abs=1e-3)
    assert found["p_usual_size"] == pytest.approx(np.linalg.norm(p[1]) / np.linalg.norm(qrs[1]), abs=1e-4)
    shifted = [level(this[P.start + d : P.stop + d]) for d in range(-3, 4)]
    best = max(x @ p[1] / np.linalg.norm(x) / np.linalg.norm(p[1]) for x in shifted)
    assert found["p_best_correlation"] == pytest.approx(best, abs=1e-4)


def test_a_p_wave_that_comes_a_little_early_is_found_and_one_of_another_place_is_not() -> None:
    usual = taught()
    early = named(usual.feed(beat(p_at_s=-0.17 - 2 / RATE_HZ), False)[0])
    assert early["p_best_correlation"] > 0.99 > early["p_correlation"] + 0.1
    none = named(usual.feed(beat(p=0.0), False)[0])
    assert none["p_correlation"] < 0.5
    inverted = named(usual.feed(beat(p=-0.15), False)[0])
    assert inverted["p_correlation"] < -0.9
    assert inverted["p_gain"] == pytest.approx(-1, abs=0.1)


def test_beats_after_short_intervals_and_other_beats_are_not_learned() -> None:
    """Three early beats with an ectopic P wave to each that comes late: the late ones' P wave is the usual one."""
    usual = taught(1)
    for _ in range(60):
        for _ in range(3):
            assert usual.feed(beat(p=-0.15), False)[1] == "no"
        assert usual.feed(beat(), True)[1] == "taken"
    assert named(usual.feed(beat(p=-0.15), False)[0])["p_correlation"] < -0.9
    assert usual.feed(beat(qrs=-1.0, wide=0.06), True)[1] == "no"
    assert named(usual.feed(beat(), True)[0])["qrs_correlation"] == pytest.approx(1, abs=1e-4)


def test_when_the_usual_beat_changes_it_is_learned_anew() -> None:
    usual, other = taught(), beat(qrs=-1.0, wide=0.05)
    for _ in range(REFUSED - 1):
        assert usual.feed(other, True)[1] == "no"
    assert usual.feed(other, True)[1] == "afresh"
    assert named(usual.feed(other, True)[0])["qrs_correlation"] == pytest.approx(1, abs=1e-4)


def test_one_usual_beat_between_them_and_odd_beats_replace_nothing() -> None:
    usual, other = taught(), beat(qrs=-1.0, wide=0.05)
    for _ in range(5):
        for _ in range(REFUSED - 1):
            assert usual.feed(other, True)[1] == "no"
        assert usual.feed(beat(), True)[1] == "taken"


def test_only_the_last_sixteen_count() -> None:
    one, other = taught(3), taught(200)
    late = [beat(p=0.15 + 0.01 * i) for i in range(KEPT)]
    for x in late:
        one.feed(x, True)
        other.feed(x, True)
    ours, theirs = named(one.feed(beat(), False)[0]), named(other.feed(beat(), False)[0])
    assert ours["p_usual_size"] == pytest.approx(theirs["p_usual_size"], abs=1e-6)
    mean = np.mean(late, axis=0)
    assert ours["p_usual_size"] > named(taught().feed(mean.astype(np.float32), False)[0])["p_usual_size"] + 0.01


def test_how_usual_the_p_wave_is_shows_whether_there_is_one() -> None:
    rng = np.random.default_rng(1)
    without = UsualBeat()
    for _ in range(40):
        without.feed((beat(p=0.0) + rng.normal(0, 0.05, SAMPLES)).astype(np.float32), True)
    sinus = UsualBeat()
    for _ in range(40):
        sinus.feed((beat() + rng.normal(0, 0.02, SAMPLES)).astype(np.float32), True)
    assert named(without.feed(beat(), False)[0])["p_usual_correlation"] < 0.6
    assert named(sinus.feed(beat(), False)[0])["p_usual_correlation"] > 0.8


@pytest.mark.parametrize("x", [np.zeros(SAMPLES), np.full(SAMPLES, 1e4), np.eye(SAMPLES)[30] * 1e6])
def test_flat_and_huge_windows_give_finite_numbers(x: NDArray[np.float64]) -> None:
    usual = UsualBeat()
    for window in (x, beat(), x, x):
        assert np.isfinite(usual.feed(window.astype(np.float32), True)[0]).all()


def test_a_long_interval_is_one_against_the_patient_s_long_ones() -> None:
    rr = RrHistory(100.0)
    assert interval_is_long(rr), "nothing is known against it"
    at = 0
    for step in [60, 60, 60, 100] * 12:
        at += step
        rr.beat(at)
    assert interval_is_long(rr)
    rr.beat(at + 60)
    assert not interval_is_long(rr), "three quarters of the intervals are so short; the long ones decide"


@pytest.mark.skipif(not COMPILED, reason="the compiled kernel is not built here")
@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e5])
@pytest.mark.parametrize("centre", [True, False])
def test_the_compiled_half_gives_the_bits_of_the_plain_one(scale: float, centre: bool) -> None:
    rng = np.random.default_rng(7)
    agreed = np.array([0.97, 0.4], np.float32)
    flat = np.zeros(SAMPLES, np.float32)
    beats = [(scale * (beat(p=0.1 * i) + rng.normal(0, 0.05, SAMPLES))).astype(np.float32) for i in range(40)]
    plain = [make_waves(x, centre=centre, compiled=False) for x in [*beats, flat]]
    quick = [make_waves(x, centre=centre, compiled=True) for x in [*beats, flat]]
    for one, other in zip(plain, quick, strict=True):
        np.testing.assert_array_equal(one.parts, other.parts)
        np.testing.assert_array_equal(one.norms, other.norms)
    for one, usual in zip(plain, [*plain[1:], plain[0]], strict=True):
        np.testing.assert_array_equal(
            compare(one, usual, agreed, compiled=True), compare(one, usual, agreed, compiled=False)
        )


@pytest.mark.skipif(not COMPILED, reason="the compiled kernel is not built here")
def test_the_compiled_half_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        make_waves(np.zeros(SAMPLES + 1, np.float32), compiled=True)
    with pytest.raises(TypeError):
        make_waves(np.zeros(SAMPLES), compiled=True)  # type: ignore[arg-type]
    waves = make_waves(beat())
    with pytest.raises(ValueError, match="do not fit"):
        compare(waves, waves, np.zeros(3, np.float32), compiled=True)
