"""Whose word on the rhythm counts: the lead that can be read, beats of the heart's own, and a model's word."""

from __future__ import annotations

import numpy as np

from edge_agent.alarms.rhythm import RhythmFollower
from edge_agent.alarms.rhythm_watch import Change, RhythmWatch

FS = 250.0


def times(n: int, irregular: bool, start: int = 0, seed: int = 1) -> list[int]:
    drawn = np.random.default_rng(seed).gamma(22, 0.7 / 22, n) if irregular else np.full(n, 0.8)
    return [start + round(float(one) * FS) for one in np.cumsum(np.clip(drawn, 0.3, 1.8))]


def feed(watch: RhythmWatch, channel: str, beats: list[int], **how: bool) -> list[Change]:
    said = [watch.beat(channel, at, at + 90, bad=how.get("bad", False)) for at in beats]
    return [one for one in said if one is not None]


def test_the_first_lead_speaks() -> None:
    watch = RhythmWatch(FS, ("II", "V"))
    assert feed(watch, "V", times(80, True)) == []
    assert [one.rhythm for one in feed(watch, "II", times(80, False))] == ["N"]


def test_a_lead_that_stays_bad_leaves_the_word_to_another() -> None:
    watch = RhythmWatch(FS, ("II", "V"))
    feed(watch, "II", times(80, False))
    feed(watch, "V", times(80, True))
    now = 20_000
    assert watch.tick(now, {"II": now - round(9 * FS), "V": None}) is None
    change = watch.tick(now, {"II": now - round(11 * FS), "V": None})
    assert change is not None
    assert (change.rhythm, change.channel) == ("AFIB", "V")


def test_after_a_minute_without_a_good_signal_nothing_is_known() -> None:
    watch = RhythmWatch(FS, ("II",))
    feed(watch, "II", times(80, True))
    assert watch.tick(20_000, {"II": 20_000 - round(59 * FS)}) is None
    change = watch.tick(20_000, {"II": 20_000 - round(61 * FS)})
    assert change is not None
    assert change.rhythm == "unknown"


def test_beats_seen_in_noise_are_no_rhythm() -> None:
    watch = RhythmWatch(FS, ("II",))
    assert feed(watch, "II", times(200, True), bad=True) == []


def test_a_gap_is_not_bridged_and_a_long_one_forgets() -> None:
    watch = RhythmWatch(FS, ("II",))
    feed(watch, "II", times(80, True))
    assert watch.gap(20_000, 20_000 + round(20 * FS)) is None
    change = watch.gap(30_000, 30_000 + round(61 * FS))
    assert change is not None
    assert change.rhythm == "unknown"


def test_a_model_that_calls_the_intervals_ordered_is_believed_while_its_word_is_fresh() -> None:
    beats = times(200, True)
    alone, told = RhythmWatch(FS, ("II",)), RhythmWatch(FS, ("II",))
    assert [one.rhythm for one in feed(alone, "II", beats)] == ["AFIB"]
    told.model("II", beats[60], "N")
    assert [one.rhythm for one in feed(told, "II", beats[:100])] == ["N"]
    told.model("II", beats[100], "AFIB")
    (change,) = feed(told, "II", beats[100:])
    assert change.rhythm == "AFIB"
    assert change.evidence["model"] == "AFIB"
    stale = RhythmWatch(FS, ("II",))
    stale.model("II", -round(100 * FS), "N")
    assert [one.rhythm for one in feed(stale, "II", beats)] == ["AFIB"]


def test_an_abstention_takes_back_nothing() -> None:
    watch = RhythmWatch(FS, ("II",))
    beats = times(100, True)
    watch.model("II", beats[60], "N")
    watch.model("II", beats[61], None)
    assert [one.rhythm for one in feed(watch, "II", beats)] == ["N"]


def test_intervals_around_ventricular_beats_say_nothing_of_the_atria() -> None:
    """Sinus rhythm with a ventricular beat here and there, none twice at the same distance: irregular, and no fibrillation."""
    rng = np.random.default_rng(3)
    plain, told = RhythmFollower(FS), RhythmFollower(FS)
    at = 0
    for i in range(300):
        ventricular = i % 4 == 3
        early = float(rng.uniform(0.35, 0.75)) if ventricular else 0.8 + float(rng.uniform(-0.25, 0.7)) * (i % 4 == 0)
        at += round(early * FS) + (0 if ventricular or i % 4 == 0 else round(float(rng.normal(0, 0.01)) * FS))
        plain.beat(at)
        told.beat(at, ventricular=ventricular)
    assert plain.rhythm == "AFIB"
    assert told.rhythm == "N"


def test_too_few_intervals_of_its_own_are_no_fibrillation() -> None:
    follower = RhythmFollower(FS)
    for i, at in enumerate(times(400, True)):
        follower.beat(at, ventricular=i % 5 > 1)  # one interval of five is left: thirty of them are far apart
    assert follower.rhythm == "unknown"


def test_a_model_that_has_half_its_intervals_from_before_ends_no_fibrillation() -> None:
    """It looks at 64: until they are all of the fibrillation it may call them ordered, and the alarm would come twice."""
    for word_at, rhythms in ((135, ["N", "AFIB"]), (175, ["N", "AFIB", "N"])):
        watch = RhythmWatch(FS, ("II",))
        calm = times(100, False)
        beats = [*calm, *times(150, True, start=calm[-1])]
        said = feed(watch, "II", beats[:word_at])
        watch.model("II", beats[word_at - 1], "N")
        said += feed(watch, "II", beats[word_at : word_at + 40])
        assert [one.rhythm for one in said][: len(rhythms)] == rhythms
        assert len(said) == len(rhythms)
