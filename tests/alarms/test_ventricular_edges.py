"""Runs, couplets and bigeminy: every limit at it and beside it, and who is asked."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import pytest

from edge_agent.alarms.judged import Judged, JudgedBeat
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules import ventricular
from edge_agent.alarms.rules.base import Finding
from edge_agent.alarms.rules.ventricular import (
    ventricular_bigeminy,
    ventricular_couplet,
    ventricular_run,
    ventricular_tachycardia,
    ventricular_tachycardia_unjudged,
)
from edge_agent.alarms.scene import LeadScene, LineScene, Scene
from edge_agent.journey import Texture
from tests.alarms import scenes
from tests.alarms.by_hand import FS, LIMITS


def judged(labels: str, at: Sequence[int], channel: str = "II", into: Judged | None = None) -> Judged:
    made = into or Judged(FS)
    made.beats[channel, "beats"] = deque(JudgedBeat(one, label) for one, label in zip(at, labels, strict=True))
    return made


def evenly(n: int, step: int, first: int = 10_000) -> list[int]:
    return [first + step * k for k in range(n)]


def lead(
    channel: str, *, good: bool = True, reasons: tuple[str, ...] = (), textures: Sequence[Texture] = (), clean: int = 0
) -> LeadScene:
    return LeadScene(channel, good, reasons, None, 0, (), tuple(textures), (), 0, clean)


# -- tachycardia and run ----------------------------------------------------------------------------------------------------


def test_beats_of_a_run_are_at_most_two_seconds_apart() -> None:
    at = [10_000, 10_500, 11_000]
    found = ventricular_run(judged("VVV", at), at[-1] + 500, LIMITS)
    assert found is not None
    assert (found.since, found.met) == (10_000, 11_000)
    assert found.evidence == {"rate_per_min": 30.0, "beats": 3}
    assert found.confidence == 0.667
    assert ventricular_run(judged("VVV", [9_999, 10_500, 11_000]), at[-1], LIMITS) is None
    assert ventricular_run(judged("VVV", at), at[-1] + 501, LIMITS) is None


def test_the_definition_of_a_run_is_met_at_its_third_beat() -> None:
    at = evenly(6, 100)
    found = ventricular_run(judged("NVVVVV", at), at[-1], LIMITS)
    assert found is not None
    assert (found.since, found.met) == (at[1], at[3])


def test_the_limit_itself_is_no_tachycardia() -> None:
    at = evenly(5, 150)
    assert ventricular_tachycardia(judged("VVVVV", at), at[-1], LIMITS) is None
    at = evenly(5, 149)
    found = ventricular_tachycardia(judged("VVVVV", at), at[-1], LIMITS)
    assert found is not None
    assert found.evidence == {"rate_per_min": 100.7, "beats": 5}


def test_one_that_nothing_is_against_comes_first() -> None:
    good, bad = Finding(0, 1, "II", {}, 1.0, None), Finding(0, 1, "V", {}, 1.0, "II pulses on")
    assert ventricular._best([bad, good]) is good
    assert ventricular._best([]) is None


def test_by_shape_alone_from_the_newest_shapes_of_each_lead() -> None:
    one = scenes.sinus_lead(until_s=148.0)
    for k in range(5):
        one.shapes.append(scenes.shape(148.0 + 0.4 * k, alike=0.1, again=0.95, slope_log=-0.6))
    made = scenes.evidence({"II": one})
    assert ventricular_tachycardia_unjudged(made, scenes.AT, LIMITS) is not None
    made.rhythm_judged = True
    assert ventricular_tachycardia_unjudged(made, scenes.AT, LIMITS) is None


def test_a_few_seconds_of_looks_at_a_lead_are_enough_to_know_its_usual_beat() -> None:
    """The newest 32 are looked at, and there may be fewer."""
    one = scenes.sinus_lead(until_s=148.0)
    for k in range(5):
        one.shapes.append(scenes.shape(148.0 + 0.4 * k, alike=0.1, again=0.95, slope_log=-0.6))
    every_one = list(one.textures)
    for many, alarm in ((24, True), (0, False)):
        one.textures.clear()
        one.textures.extend(every_one[len(every_one) - many :])
        found = ventricular_tachycardia_unjudged(scenes.evidence({"II": one}), scenes.AT, LIMITS)
        assert (found is not None) is alarm


# -- who is asked about a run ---------------------------------------------------------------------------------------------------


RUN = evenly(5, 100)
SEEN = [scenes.texture(one / FS + 0.1, "V") for one in RUN]


def weighed(
    labels: str,
    at: Sequence[int],
    *,
    textures: Sequence[Texture] = SEEN,
    good: bool = True,
    clean: int = 0,
    own: str = "II",
) -> Finding:
    made = judged("VVVVV", RUN)
    judged(labels, at, "V", made)
    made.scene = Scene(RUN[-1], (lead(own, clean=clean), lead("V", good=good, textures=textures)))
    found = ventricular_tachycardia(made, RUN[-1], LIMITS)
    assert found is not None
    return found


def test_more_than_half_of_another_lead_s_beats() -> None:
    assert weighed("NNNVV", RUN).against == "V shows 3 of 5 beats that are not ventricular"
    assert weighed("NNNVV", RUN).confidence == 0.5
    four = RUN[:4]
    assert weighed("NNVV", four).against is None
    assert weighed("NNVV", four).confidence == 0.75


def test_a_quarter_where_the_lead_itself_is_in_noise() -> None:
    four = RUN[:4]
    assert weighed("NVVV", four, clean=RUN[0] + 1).against is None
    assert weighed("NNVV", four, clean=RUN[0] + 1).against is not None
    assert weighed("NNVV", four, clean=RUN[0]).against is None
    assert weighed("NNVV", four, clean=RUN[0] + 1, own="other").against is None


def test_from_150_ms_before_the_run_to_150_ms_after_it() -> None:
    margin = 38  # samples
    for shift, asked in ((0, True), (1, False)):
        first = weighed("NN", [RUN[0] - margin - shift, RUN[1]])
        assert (first.against is not None) is asked
        last = weighed("NN", [RUN[-2], RUN[-1] + margin + shift])
        assert (last.against is not None) is asked


def test_two_beats_are_a_witness_of_five_and_one_is_not() -> None:
    assert weighed("NN", RUN[:2]).against is not None
    one = weighed("N", RUN[:1])
    assert (one.against, one.confidence) == (None, 0.667)


def test_half_of_its_textures_since_must_show_the_usual_beat_if_one_is_known() -> None:
    def seen(*alike: float, usual: float = 0.6) -> list[Texture]:
        return [scenes.texture((RUN[0] + 1 + k) / FS, "V", alike=one, usual=usual) for k, one in enumerate(alike)]

    assert weighed("NNNNN", RUN, textures=seen(0.9, 0.89)).against is not None
    assert weighed("NNNNN", RUN, textures=seen(0.9, 0.89, 0.89)).against is None
    assert weighed("NNNNN", RUN, textures=seen(0.1, 0.1, usual=0.59)).against is not None
    before = [scenes.texture(RUN[0] / FS, "V", alike=0.1), *seen(0.9)]
    assert weighed("NNNNN", RUN, textures=before).against is not None
    assert weighed("NNNNN", RUN, textures=[]).against is not None


def test_every_other_lead_is_asked_whatever_the_one_before_it_said() -> None:
    """One that is bad, one with a single beat, and then one that shows the patient's own beats."""
    made = Judged(FS)
    judged("NNNNN", RUN, "I", made)
    judged("N", RUN[:1], "III", made)
    judged("VVVVV", RUN, "II", made)
    judged("NNNNN", RUN, "V", made)
    leads = (lead("I", good=False), lead("II"), lead("III", textures=SEEN), lead("V", textures=SEEN))
    made.scene = Scene(RUN[-1], leads)
    found = ventricular_tachycardia(made, RUN[-1], LIMITS)
    assert found is not None
    assert found.against == "V shows 5 of 5 beats that are not ventricular"
    at = pairs(150, 250)
    made = Judged(FS)
    judged("NNN", at[1::2], "I", made)
    judged("N", at[1:2], "III", made)
    judged("NVNVNV", at, "II", made)
    judged("NNN", at[1::2], "V", made)
    made.scene = Scene(at[-1], leads)
    found = ventricular_bigeminy(made, at[-1], LIMITS)
    assert found is not None
    assert found.against == "V shows 3 of 3 that are not ventricular"


def test_a_bad_lead_and_one_that_is_not_there_have_no_say() -> None:
    assert weighed("NNNNN", RUN, good=False).confidence == 0.667
    made = judged("NNNNN", RUN, "V", judged("VVVVV", RUN))
    found = ventricular_tachycardia(made, RUN[-1], LIMITS)
    assert found is not None
    assert found.against is None


def test_of_ten_seconds_pulses_are_asked() -> None:
    """A longer run is held against the pulses of its last ten."""
    found = Finding(1000, 11_000, "II", {"rate_per_min": 150.0}, 0.667, None)
    pulse = [scenes.pulse((8_500 + 88 - 150 * k) / FS, 0.6) for k in reversed(range(1, 7))]
    during = [scenes.pulse((8_500 + 88 + 150 * k) / FS, 0.6) for k in range(18)]
    line = LineScene("ABP", "abp", True, 0, (), (*pulse, *during))
    held = ventricular._held(found, [line], FS)
    assert held.against == "ABP pulses on as before, at 100 per minute"
    assert ventricular._held(found, [], FS) is found
    both = ventricular._held(Finding(8_500, 11_000, "II", {"rate_per_min": 150.0}, 0.667, "V"), [line], FS)
    assert both.against == "V; ABP pulses on as before, at 100 per minute"


def by_its_shapes(
    alike: Sequence[float], *, beats: int = 5, first: int = 0, usual: float = 0.6, since_s: float = 0.0
) -> str | None:
    """What a run of so many beats, looked at so long after its first, is held against: their shapes from the first-th on."""
    run = evenly(beats, 100)
    shapes = [scenes.shape((run[0] + 100 * (first + k)) / FS, alike=one) for k, one in enumerate(alike)]
    textures = [scenes.texture(run[0] / FS, usual=usual), scenes.texture((run[0] + 1) / FS, usual=0.0)]
    made = judged("V" * beats, run)
    own = lead("II", textures=textures)._replace(shapes=tuple(shapes))
    made.scene = Scene(max(run[-1], run[0] + round(since_s * FS)), (own,))
    found = ventricular_tachycardia(made, run[-1], LIMITS)
    assert found is not None
    return found.against


def test_most_of_the_shapes_of_a_run_must_be_another_than_the_usual_one() -> None:
    """Of those that are known, which begin with its first beat, where a usual one was known then."""
    assert by_its_shapes([0.9] * 5) == "5 of its 5 shapes are the usual one"
    assert by_its_shapes([0.9, 0.9, 0.9, 0.89, 0.89]) == "3 of its 5 shapes are the usual one"
    assert by_its_shapes([0.9]) == "1 of its 1 shapes are the usual one"
    assert by_its_shapes([0.9, 0.9, 0.89, 0.89]) is None
    assert by_its_shapes([]) is None
    assert by_its_shapes([0.9] * 5, first=-5) is None
    assert by_its_shapes([0.9] * 6, first=-5) == "1 of its 1 shapes are the usual one"
    assert by_its_shapes([0.9] * 5, usual=0.59) is None


def test_of_a_run_that_has_lasted_for_sixteen_seconds_they_say_nothing() -> None:
    """It may have become the usual, however new its last beat is."""
    assert by_its_shapes([0.9] * 41, beats=41) == "41 of its 41 shapes are the usual one"
    assert by_its_shapes([0.9] * 42, beats=42) is None
    assert by_its_shapes([0.9] * 5, since_s=16.0) is not None
    assert by_its_shapes([0.9] * 5, since_s=16.004) is None


# -- couplet ------------------------------------------------------------------------------------------------------------------------


def test_a_couplet_s_two_beats_and_how_long_it_stands() -> None:
    at = [10_000, 10_200, 10_700, 10_900]
    found = ventricular_couplet(judged("NVVN", at), at[-1], LIMITS)
    assert found is not None
    assert (found.since, found.met, found.evidence) == (10_200, 10_900, {"rr_ms": 2000})
    assert ventricular_couplet(judged("NVVN", [10_000, 10_199, 10_700, 10_900]), at[-1], LIMITS) is None
    later = evenly(13, 200, 11_100)
    for now, alarm in ((at[-1] + 2500, True), (at[-1] + 2501, False)):
        made = judged("NVVN" + "N" * 13, [*at, *later])
        assert (ventricular_couplet(made, now, LIMITS) is not None) is alarm


def test_the_newest_couplet_and_the_oldest_are_seen() -> None:
    for labels in ("NVVNNN", "NNNVVN", "SVVQ"):
        at = evenly(len(labels), 200)
        assert ventricular_couplet(judged(labels, at), at[-1], LIMITS) is not None
    for labels in ("VVN", "VVNN", "NVV"):
        at = evenly(len(labels), 200)
        assert ventricular_couplet(judged(labels, at), at[-1], LIMITS) is None


def test_of_two_beats_a_connected_lead_must_show_nothing_else() -> None:
    at = evenly(4, 200)

    def found(labels: str, theirs: Sequence[int], reasons: tuple[str, ...] = (), good: bool = True) -> bool:
        made = judged(labels, theirs, "V", judged("NVVN", at))
        made.scene = Scene(at[-1], (lead("II"), lead("V", good=good, reasons=reasons)))
        return ventricular_couplet(made, at[-1], LIMITS) is not None

    assert not found("NNNN", at)
    assert not found("NVNN", at)
    assert found("NVVN", at)
    assert found("NNNN", at, reasons=("lead_off",))
    assert found("NNNN", at, reasons=("flat", "noise"))
    assert not found("NNNN", at, reasons=("noise",), good=False)
    assert found("V", [at[1] - 38])
    assert not found("V", [at[1] - 39])
    assert found("V", [at[2] + 38])
    assert not found("V", [at[2] + 39])
    made = judged("NVVN", at)
    made.scene = Scene(at[-1], (lead("II"),))
    assert ventricular_couplet(made, at[-1], LIMITS) is not None


def test_whether_a_ventricular_beat_came_lately() -> None:
    def lately(labels: str, since: int) -> bool:
        return ventricular._lately_ventricular(deque(JudgedBeat(k, label) for k, label in enumerate(labels)), since)

    assert lately("VNNNNN", 1)  # all of them since
    assert lately("VNNNNN", 3)  # two before, and then it
    assert not lately("VNNNNN", 4)
    assert not lately("NNNNNN", 0)
    assert not lately("", 0)


# -- bigeminy ---------------------------------------------------------------------------------------------------------------------------


def pairs(coupled: int, waited: int, n: int = 6) -> list[int]:
    """Beats in turn: an own one, `coupled` later a ventricular one, `waited` later an own one again."""
    at = [10_000]
    for k in range(n - 1):
        at.append(at[-1] + (waited if k % 2 else coupled))
    return at


def test_early_by_a_tenth() -> None:
    for coupled, alarm in ((180, True), (181, False)):
        at = pairs(coupled, 200)
        made = judged("NVNVNV", at)
        found = ventricular_bigeminy(made, at[-1], LIMITS)
        assert (found is not None) is alarm
        if found is not None:
            assert (found.since, found.met, found.channel) == (at[0], at[-1], "II")
            assert found.evidence == {"pairs": 3, "rate_per_min": round(5 * 60 * FS / (at[-1] - at[0]), 1)}
    at = pairs(200, 150)
    assert ventricular_bigeminy(judged("VNVNVN", at), at[-1], LIMITS) is not None
    assert ventricular_bigeminy(judged("NVNVNV", at), at[-1], LIMITS) is None


@pytest.mark.parametrize(
    ("labels", "alarm"),
    [
        ("NVNVNV", True),
        ("VNVNV", False),
        ("NNVNVNV", True),
        ("NVNVNVN", False),
        ("NVNNNV", False),
        ("NVVVNV", False),
        ("VVNVNV", False),
    ],
)
def test_three_pairs_in_turn(labels: str, alarm: bool) -> None:
    """Whatever came before them; and they end with an early one here, since the last pause has not been waited for."""
    at = [10_000]
    for label in labels[1:]:
        at.append(at[-1] + (150 if label == "V" else 250))
    assert (ventricular_bigeminy(judged(labels, at), at[-1], LIMITS) is not None) is (alarm or labels == "NVNVNVN")


def test_another_good_lead_whose_beats_there_are_all_its_own() -> None:
    at = pairs(150, 250)
    early = at[1::2]

    def against(labels: str, theirs: Sequence[int], good: bool = True) -> str | None:
        made = judged(labels, theirs, "V", judged("NVNVNV", at))
        made.scene = Scene(at[-1], (lead("II"), lead("V", good=good)))
        found = ventricular_bigeminy(made, at[-1], LIMITS)
        assert found is not None
        return found.against

    assert against("NNN", early) == "V shows 3 of 3 that are not ventricular"
    assert against("NN", early[1:]) == "V shows 2 of 3 that are not ventricular"
    assert against("N", early[2:]) is None
    assert against("NNV", early) is None
    assert against("NNN", early, good=False) is None
    assert against("NN", [early[0] - 38, early[1] + 38]) is not None
    assert against("NN", [early[0] - 39, early[1] + 38]) is None
    assert against("NN", [early[0] - 38, early[1] + 39]) is None
    assert against("VNNN", [at[0], *early]) is not None  # at other places it may have any


def test_limits_are_those_asked_with() -> None:
    at = evenly(4, 100)
    assert ventricular_tachycardia(judged("VVVV", at), at[-1], AlarmLimits(ventricular_beats=4)) is not None
    assert ventricular_tachycardia(judged("VVVV", at), at[-1], LIMITS) is None
