"""The onset detector to the sample and the millimetre: what its docstring promises, on pressures of straight lines."""

from __future__ import annotations

import numpy as np
import pytest

from edge_agent.journey import Onset, Pulse, Samples
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.quality_grid import WILD

FS = 125.0
"""Of the detector's own grid: a group is a sample."""
Wave = tuple[float, float]
"""(seconds after the first point, mmHg above the diastole)"""
PULSE: tuple[Wave, ...] = ((0, 0), (0.1, 40), (0.4, 0))


def drawn(fs: float, seconds: float, pulses: list[tuple[float, float]], wave: tuple[Wave, ...] = PULSE) -> Samples:
    """80 mmHg, and at each time straight lines through the wave's points, so many times as large."""
    t = np.arange(round(seconds * fs)) / fs
    x = np.full(len(t), 80.0)
    at, size = [p[0] for p in wave], [p[1] for p in wave]
    for foot, gain in pulses:
        x += gain * np.interp(t - foot, at, size, 0, 0)
    return x.astype(np.float32)


def found_in(x: Samples, fs: float = FS, kind: str = "abp") -> list[Onset | Pulse]:
    detector = PressureDetector(fs, "ABP", kind)  # type: ignore[arg-type]
    return [*detector.feed(x, 0), *detector.flush()]


def feet(found: list[Onset | Pulse], fs: float = FS) -> list[float]:
    return [one.sample / fs for one in found if isinstance(one, Onset)]


def steady(rr: float, count: int, start: float = 0.5, gain: float = 1.0) -> list[tuple[float, float]]:
    return [(start + rr * k, gain) for k in range(count)]


def is_found(at: float, x: Samples, within: float = 0.03) -> bool:
    return any(abs(foot - at) < within for foot in feet(found_in(x)))


# -- when -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fs", [100.0, 125.0, 250.0])
def test_it_learns_for_two_and_a_half_seconds_and_no_sample_more(fs: float) -> None:
    """Whatever the heart was at: of pulses that rise at every time around then, the first is said with the first group after."""
    group = round(fs / 125) or 1
    first = []
    for late in np.arange(0, 0.3, 1 / 125):
        found = found_in(drawn(fs, 4, steady(0.8, 4, 2.3 - 1.6 + late)), fs)
        first.append(next(one.known for one in found if isinstance(one, Onset)))
    learn = round(2.5 * fs / group)
    assert min(first) == learn * group + group - 1


@pytest.mark.parametrize("rise_s", [0.2, 0.3])
def test_an_upstroke_that_does_not_end_is_decided_140_ms_after_its_foot(rise_s: float) -> None:
    """And its foot is still where it began."""
    wave = ((0.0, 0.0), (rise_s, 60.0), (rise_s + 0.3, 0.0))
    later, off = [], []
    for late in np.arange(0, 0.008, 0.001):
        begun = [(at + late, 1.0) for at, _ in steady(0.9, 10)]
        onsets = [
            one for one in found_in(drawn(FS, 9.5, begun, wave)) if isinstance(one, Onset) and one.sample > 3 * FS
        ]
        true = [at for at, _ in begun if at > 3]
        assert len(onsets) == len(true)
        later += [(one.known + 1) / FS - at for one, at in zip(onsets, true, strict=True)]
        off += [one.sample / FS - at for one, at in zip(onsets, true, strict=True)]
    assert max(later) < 0.145
    assert np.mean(later) == pytest.approx(0.136, abs=0.004)
    assert max(np.abs(off)) < 0.009
    assert np.mean(off) == pytest.approx(0, abs=0.004)


def test_a_steep_upstroke_is_decided_when_its_slope_has_passed() -> None:
    wave = ((0.0, 0.0), (0.04, 40.0), (0.4, 0.0))
    pulses = steady(0.8, 10)
    onsets = [one for one in found_in(drawn(FS, 8.5, pulses, wave)) if isinstance(one, Onset)]
    true = [at for at, _ in pulses if at > 2.6]
    assert all(0.03 < one.known / FS - at < 0.085 for one, at in zip(onsets, true, strict=True))


@pytest.mark.parametrize("fs", [100.0, 125.0, 180.0, 250.0, 500.0, 1000.0, 4000.0])
def test_the_foot_is_the_same_instant_at_every_rate(fs: float) -> None:
    """A group of samples is as late as its middle, and is known with its last."""
    group = max(1, round(fs / 125))
    off = []
    for late in (0.0, 0.0031, 0.0057):
        pulses = [(at + late, 1.0) for at, _ in steady(0.8, 8)]
        onsets = [one for one in found_in(drawn(fs, 6.8, pulses), fs) if isinstance(one, Onset)]
        true = [at for at, _ in pulses if at > 2.6]
        off += [one.sample / fs - at for one, at in zip(onsets, true, strict=True)]
        assert all((one.known + 1) % group == 0 for one in onsets)
    assert np.mean(off) == pytest.approx(0, abs=0.004)
    assert max(np.abs(off)) < 0.008


# -- how much ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rr", "after_s", "gain", "found"),
    [
        (0.8, 0.8, 0.30, True), (0.8, 0.8, 0.21, False),  # a quarter of the usual
        (0.8, 0.62, 0.30, True), (0.8, 1.2, 0.30, True), (0.8, 1.2, 0.21, False),
        (1.2, 0.56, 0.52, True), (1.2, 0.56, 0.40, False), (1.2, 0.9, 0.30, True),  # 0.45 in the dicrotic wave's time
        (0.8, 2.1, 0.20, True), (0.8, 2.1, 0.14, False),  # overdue from 1.6 intervals on, by a tenth in a second
        (0.8, 2.6, 0.15, True), (0.8, 2.6, 0.10, False),  # and never less than 0.12
    ],
)  # fmt: skip
def test_how_large_a_pulse_must_be(rr: float, after_s: float, gain: float, found: bool) -> None:
    """The dicrotic wave's time is what comes, whole, before 0.7 of the usual interval."""
    pulses = steady(rr, 12)
    at = pulses[-1][0] + after_s
    assert is_found(at, drawn(FS, at + 1, [*pulses, (at, gain)])) is found


@pytest.mark.parametrize(("after_s", "gain", "found"), [(0.28, 0.36, False), (0.28, 0.52, True), (0.62, 0.36, True)])
def test_before_three_intervals_are_known_they_are_taken_to_be_of_0_8_s(
    after_s: float, gain: float, found: bool
) -> None:
    """After the first pulse that it says: what comes within 0.7 of that must be as large as a dicrotic wave is not."""
    steep = ((0.0, 0.0), (0.08, 40.0), (0.2, 0.0))
    at = 2.8 + after_s
    x = drawn(FS, at + 1, [(0.4, 1.0), (1.2, 1.0), (2.0, 1.0), (2.8, 1.0), (at, gain)], steep)
    assert is_found(at, x) is found


@pytest.mark.parametrize(("smaller", "found"), [(1, False), (2, False), (4, True), (6, True)])
def test_of_every_pulse_it_learns_0_15(smaller: int, found: bool) -> None:
    """Pulses of two fifths: a fifth of what was usual is enough when the usual has come down to four fifths."""
    pulses = steady(0.8, 12)
    pulses += [(pulses[-1][0] + 0.8 * (k + 1), 0.4) for k in range(smaller)]
    at = pulses[-1][0] + 0.8
    assert is_found(at, drawn(FS, at + 1, [*pulses, (at, 0.2)])) is found


@pytest.mark.parametrize(
    ("rr", "second_s", "found"),
    [
        (0.48, 0.22, False),
        (0.48, 0.27, True),
        (1.5, 0.46, False),
        (1.5, 0.55, True),
        (0.9, 0.37, False),
        (0.9, 0.45, True),
    ],
)
def test_the_eye_closes_for_0_24_s_at_least_and_half_a_second_at_most(rr: float, second_s: float, found: bool) -> None:
    steep = ((0.0, 0.0), (0.05, 40.0), (0.15, 0.0))
    pulses = steady(rr, max(9, round(9 / rr)))
    at = pulses[-2][0] + second_s
    x = drawn(FS, pulses[-1][0] + 1, [*pulses, (at, 1.0)], steep)
    assert is_found(at, x) is found


@pytest.mark.parametrize("at", [0.3, 0.9, 1.5, 2.1])
def test_one_artefact_while_it_learns_spoils_nothing(at: float) -> None:
    """Ten times as large as a pulse, in either half of the learning time."""
    pulses = steady(0.8, 10)
    found = feet(found_in(drawn(FS, 9, [*pulses, (at, 10.0)])))
    assert [round(foot - 0.5, 1) for foot in found if foot > 2.8] == [
        round(at - 0.5, 1) for at, _ in pulses if at > 2.8
    ]


def test_an_artefact_in_each_half_is_taken_for_the_usual() -> None:
    """Then a tenth of it is no pulse until one is overdue."""
    pulses = steady(0.8, 6)
    found = feet(found_in(drawn(FS, 5, [*pulses, (0.7, 10.0), (1.9, 10.0)])))
    assert not [foot for foot in found if 2.8 < foot < 3.2]


@pytest.mark.parametrize(("kind", "first"), [("abp", 3.0), ("pleth", 5.4)])
def test_a_probe_that_is_not_on_yet_is_nothing_to_learn_from(kind: str, first: float) -> None:
    """A line that is still for 2.8 s. A pleth has nothing to go by, and learns again; of pressure even then 4 mmHg are a pulse."""
    pulses = steady(0.8, 8, 3.0)
    found = feet(found_in(drawn(FS, 9.5, pulses), kind=kind))
    assert found[0] == pytest.approx(first, abs=0.02)


# -- numbers ----------------------------------------------------------------------------------------------------------------


def one_pulse(x: Samples, at: float) -> Pulse:
    return next(one for one in found_in(x) if isinstance(one, Pulse) and abs(one.sample / FS - at) < 0.03)


@pytest.mark.parametrize(("fall_s", "ragged"), [(0.08, True), (0.14, False)])
def test_a_still_line_makes_no_fall_gentler(fall_s: float, ragged: bool) -> None:
    """40 mmHg in 80 ms are 500 mmHg/s, however long nothing moves after it: only what falls is counted."""
    pulses = steady(0.8, 8)
    x = drawn(FS, 7, pulses, ((0.0, 0.0), (0.1, 40.0), (0.1 + fall_s, 0.0)))
    assert ("ragged" in one_pulse(x, pulses[5][0]).reasons) is ragged


@pytest.mark.parametrize(("dip_s", "diastolic"), [(-0.14, 80), (-0.08, 78.5), (0.05, 78.5), (0.1, 78.5), (0.15, 80)])
def test_the_diastole_is_the_lowest_around_the_foot(dip_s: float, diastolic: float) -> None:
    """From 0.1 s before it to 0.12 s after: no farther."""
    pulses = steady(0.8, 8)
    at = pulses[5][0]
    x = drawn(FS, 7, pulses)
    x[round((at + dip_s) * FS)] = 78.5
    assert one_pulse(x, at).diastolic == pytest.approx(diastolic, abs=0.01)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_million_is_no_pressure(sign: int) -> None:
    """Exactly as many are as good as nothing at all; a little less is a wild artefact."""
    x = drawn(FS, 9, steady(0.8, 11))
    hole = slice(round(5.1 * FS), round(5.4 * FS))
    said = {}
    for name, value in (("none", np.nan), ("a million", sign * WILD), ("less", sign * WILD * 0.999)):
        x[hole] = value
        said[name] = found_in(x)
    assert said["a million"] == said["none"] != said["less"]


@pytest.mark.parametrize(
    ("bump_s", "gain", "faint"),
    [(0.75, 0.12, True), (0.75, 0.04, False), (0.46, 0.12, False), (0.58, 0.12, True)],
)
def test_where_and_how_large_an_upstroke_is_faint(bump_s: float, gain: float, faint: bool) -> None:
    """Past half the usual interval (0.6 s here) and above six hundredths of the usual size: its last 60 ms lie there or do not."""
    pulses = steady(1.2, 8)
    at = pulses[5][0]
    x = drawn(FS, 9.5, pulses) + drawn(FS, 9.5, [(at + bump_s, gain)], ((0.0, 0.0), (0.12, 40.0), (0.3, 0.0))) - 80
    assert ("faint_upstroke" in one_pulse(x, at).reasons) is faint


def test_a_pulse_that_begins_softly_is_no_faint_upstroke_of_the_one_before() -> None:
    """What rises in the last 30 ms before the foot belongs to the pulse that comes."""
    wave = ((-0.1, 0.0), (0.0, 4.6), (0.1, 44.6), (0.4, 0.0))
    pulses = [one for one in found_in(drawn(FS, 9.5, steady(1.0, 9), wave)) if isinstance(one, Pulse)]
    assert len(pulses) >= 5
    assert not [one for one in pulses if "faint_upstroke" in one.reasons]


@pytest.mark.parametrize(("before", "found"), [(2, True), (3, False)])
def test_three_intervals_are_needed_to_know_the_usual(before: int, found: bool) -> None:
    """Of 1.5 s each: then the eye closes for half a second, and until then for 0.24 s."""
    steep = ((0.0, 0.0), (0.05, 40.0), (0.15, 0.0))
    pulses = steady(1.5, 3 + before)  # the first two are learned from
    at = pulses[-1][0] + 0.38
    assert is_found(at, drawn(FS, at + 1, [*pulses, (at, 1.0)], steep)) is found


@pytest.mark.parametrize(
    ("quick", "second_s", "found"),
    [(3, 0.44, False), (4, 0.37, False), (4, 0.44, True), (5, 0.31, True), (5, 0.22, False)],
)
def test_the_usual_interval_is_the_median_of_eight(quick: int, second_s: float, found: bool) -> None:
    """Of 1.2 s, and then so many of 0.6 s: with four of each it is 0.9 s, and the eye closes for 0.45 of that."""
    steep = ((0.0, 0.0), (0.05, 40.0), (0.15, 0.0))
    pulses = steady(1.2, 13)
    pulses += [(pulses[-1][0] + 0.6 * (k + 1), 1.0) for k in range(quick)]
    at = pulses[-1][0] + second_s
    assert is_found(at, drawn(FS, at + 1, [*pulses, (at, 1.0)], steep)) is found


def test_the_foot_is_after_the_hump_before_it() -> None:
    """What was lower before a hump of more than a quarter of the upstroke belongs to the pulse before."""
    wave = (
        (-0.27, 0.0),
        (-0.22, -8.0),
        (-0.17, -8.0),
        (-0.12, 9.0),
        (-0.06, 0.0),
        (0.0, 0.0),
        (0.06, 40.0),
        (0.4, 0.0),
    )
    pulses = steady(1.2, 10)
    at = pulses[-1][0] + 0.8
    x = drawn(FS, at + 1, pulses) + drawn(FS, at + 1, [(at, 1.0)], wave) - 80
    assert [one for one in feet(found_in(x)) if one > pulses[-1][0] + 0.1] == [pytest.approx(at, abs=0.006)]


@pytest.mark.parametrize("creep_s", [0.25, 0.5, 0.8])
def test_the_level_before_is_looked_for_a_quarter_of_a_second_back(creep_s: float) -> None:
    """A line that creeps up before the upstroke, by 20 mmHg a second: however long, the foot is no earlier than 0.25 s of that make it."""
    wave = ((-creep_s, 0.0), (0.0, 20 * creep_s), (0.08, 20 * creep_s + 32), (0.4, 0.0))
    pulses = steady(1.4, 8)
    found = [foot for foot in feet(found_in(drawn(FS, 11, pulses, wave))) if foot > 3]
    true = [at for at, _ in pulses if at > 3]
    assert len(found) == len(true)
    assert np.mean(np.subtract(found, true)) == pytest.approx(-5 / 400, abs=0.006)


def test_the_pressure_at_the_foot_is_its_own_pulse_s() -> None:
    """A line that rises slowly by 22 mmHg within one pulse: the next one's foot is higher, not this one's."""
    pulses = steady(1.0, 10)
    x = drawn(FS, 10.5, pulses)
    t = np.arange(len(x)) / FS
    x += (22 * np.clip((t - pulses[6][0] - 0.5) / 0.4, 0, 1)).astype(np.float32)
    assert "onset_jump" not in one_pulse(x, pulses[6][0]).reasons
    assert "onset_jump" in one_pulse(x, pulses[7][0]).reasons


def test_the_last_pulse_ends_with_the_recording() -> None:
    for fs, n in ((125.0, 1030), (250.0, 2061)):
        group = round(fs / 125)
        last = [one for one in found_in(drawn(fs, 12, steady(0.9, 13))[:n], fs) if isinstance(one, Pulse)][-1]
        assert last.known == n // group * group - 1
        assert last.end == pytest.approx(n // group * group, abs=1)


def test_a_pulse_without_a_next_one_is_said_with_its_third_second() -> None:
    last = [one for one in found_in(drawn(FS, 12, steady(0.9, 6))) if isinstance(one, Pulse)][-1]
    assert last.end - last.sample == round(3 * FS)
    assert 0 <= last.known - last.end <= 1


@pytest.mark.parametrize(("bump_s", "faint"), [(0.24, False), (0.41, True)])
def test_of_a_quick_heart_nothing_is_faint_before_0_4_s(bump_s: float, faint: bool) -> None:
    """Half of its interval would be sooner: there is the dicrotic wave."""
    pulses = steady(0.64, 12)
    at = pulses[8][0]
    steep = ((0.0, 0.0), (0.08, 40.0), (0.2, 0.0))
    x = (
        drawn(FS, 8.5, pulses, steep)
        + drawn(FS, 8.5, [(at + bump_s, 0.14)], ((0.0, 0.0), (0.09, 40.0), (0.22, 0.0)))
        - 80
    )
    assert ("faint_upstroke" in one_pulse(x, at).reasons) is faint


@pytest.mark.parametrize("missing", [1, 2])
def test_a_single_value_that_is_missing_ends_the_pulse(missing: int) -> None:
    """What was under way is given up, with the first value that did not come; what was learned stays."""
    pulses = steady(0.8, 10)
    x = drawn(FS, 9, pulses)
    at = round((pulses[5][0] + 0.5) * FS)
    x[at : at + missing] = np.nan
    found = found_in(x)
    assert not [one for one in found if isinstance(one, Pulse) and one.sample <= at < one.end]
    assert len(feet(found)) == len(feet(found_in(drawn(FS, 9, pulses))))


@pytest.mark.parametrize(("missing", "again_s"), [(124, 0.0), (125, 2.5)])
def test_a_second_without_values_is_learned_anew_after(missing: int, again_s: float) -> None:
    """To the sample."""
    pulses = steady(0.8, 16)
    x = drawn(FS, 13.3, pulses)
    at = round(5.7 * FS)
    x[at : at + missing] = np.nan
    begin = at / FS + missing / FS + again_s
    expected = [one for one, _ in pulses if one > begin]
    after = [one for one in feet(found_in(x)) if one > 5.7]
    assert len(after) == len(expected)
    assert after[0] == pytest.approx(expected[0], abs=0.03)


def test_of_pulses_no_more_is_kept_than_of_a_still_line() -> None:
    """For hours: what a pulse was made of goes with it."""
    detector = PressureDetector(FS, "ABP")
    x = drawn(FS, 40, steady(0.8, 49))
    most = 0
    for k in range(8):
        detector.feed(x, k * len(x))
        most = max(most, len(detector._values))
    assert most < 4 * FS
