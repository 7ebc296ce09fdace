"""Bad and missing signals have alarms of their own."""

from __future__ import annotations

import pytest

from edge_agent.alarms.rules.registry import RULES
from edge_agent.alarms.rules.technical import abp_artifact, abp_damped, ecg_noise, lead_off, signal_lost, tpu_degraded
from tests.alarms.by_hand import LIMITS, beats, every, evidence, quality, samples


@pytest.mark.parametrize(
    ("rule", "channel", "reason", "least_s"),
    [
        (lead_off, "II", "lead_off", 2.0),
        (lead_off, "II", "flat", 2.0),
        (ecg_noise, "II", "noise", 8.0),
        (ecg_noise, "II", "wander", 8.0),
        (ecg_noise, "II", "missing", 8.0),
        (abp_damped, "ABP", "damped", 4.0),
        (abp_artifact, "ABP", "flush", 4.0),
        (abp_artifact, "ABP", "lead_off", 4.0),
        (abp_artifact, "ABP", "missing", 4.0),
    ],
)
def test_a_bad_signal_has_its_own_alarm_after_its_time(rule: object, channel: str, reason: str, least_s: float) -> None:
    made = evidence("II", abp=True)
    beats(made, "II", every(0.8, 30))
    quality(made, channel, 12.0, reason)  # judged on 10..12 s, good until 2 s: bad since 10 s
    ask = next(one.find for one in RULES if one.find is rule)
    assert ask(made, samples(10 + least_s) - 1, LIMITS) is None
    found = ask(made, samples(10 + least_s), LIMITS)
    assert found is not None
    assert (found.since, found.met, found.channel) == (samples(10), samples(10 + least_s), channel)
    assert found.evidence == {"reasons": [reason]} | ({"channels": [channel]} if ask is lead_off else {})
    quality(made, channel, 30.0)
    assert ask(made, samples(31), LIMITS) is None


def test_the_bad_stretch_counts_from_the_last_good_news() -> None:
    """A quality looks back two seconds; what was said to be good in them was."""
    made = evidence("II")
    quality(made, "II", 10.0)
    quality(made, "II", 10.5, "lead_off")
    assert made.worth("II").bad_since == samples(10.0)
    quality(made, "II", 11.0, "noise")  # other reasons, the same bad stretch
    assert made.worth("II").bad_since == samples(10.0)


def test_values_that_are_missing_are_no_electrode_that_is_off() -> None:
    """Torn lines send nobody to the electrodes; nothing is built on such a lead all the same."""
    made = evidence("II")
    quality(made, "II", 10.0, "missing")
    assert lead_off(made, samples(60), LIMITS) is None
    judged = made.worth("II").quality
    assert judged is not None
    assert judged.unreadable
    quality(made, "II", 61.0, "lead_off")
    assert lead_off(made, samples(60.9), LIMITS) is None  # counted from the stretch that it was said of
    assert lead_off(made, samples(61), LIMITS) is not None


def test_one_good_lead_is_enough_to_go_on() -> None:
    made = evidence("II", "V")
    quality(made, "II", 10.0, "noise")
    assert ecg_noise(made, samples(30), LIMITS) is None
    quality(made, "V", 12.0, "hum")
    assert ecg_noise(made, samples(30), LIMITS) is not None
    assert lead_off(made, samples(30), LIMITS) is None
    quality(made, "V", 40.0, "lead_off")
    found = lead_off(made, samples(50), LIMITS)
    assert found is not None
    assert found.channel == "V"


def test_all_leads_that_are_off_are_named() -> None:
    made = evidence("I", "II", "V")
    quality(made, "II", 10.0, "lead_off")
    quality(made, "V", 12.0, "lead_off")  # from 10 s on
    found = lead_off(made, samples(11.9), LIMITS)
    assert found is not None
    assert (found.channel, found.evidence) == ("II", {"reasons": ["lead_off"], "channels": ["II"]})  # V not yet
    made.standing = frozenset({"lead_off"})
    found = lead_off(made, samples(11.9), LIMITS)
    assert found is not None
    assert found.evidence["channels"] == ["II", "V"]
    quality(made, "II", 20.0)
    found = lead_off(made, samples(21), LIMITS)
    assert found is not None
    assert (found.channel, found.evidence["channels"]) == ("V", ["V"])


def test_in_an_arrest_that_stands_the_leads_were_read() -> None:
    """What a detector of beats makes of a fibrillation is no noise; what goes on when that is forgotten is."""
    made = evidence("II")
    quality(made, "II", 12.0, "disagreement")
    made.arrest_until = samples(25)
    assert ecg_noise(made, samples(42.9), LIMITS) is None
    found = ecg_noise(made, samples(43), LIMITS)
    assert found is not None
    assert found.since == samples(35)
    made.arrest_until = 0  # there was none
    assert ecg_noise(made, samples(20.1), LIMITS) is not None


def test_a_damped_line_is_not_called_anything_else() -> None:
    made = evidence(abp=True)
    quality(made, "ABP", 12.0, "damped", "noise")
    assert abp_artifact(made, samples(20), LIMITS) is None
    assert abp_damped(made, samples(20), LIMITS) is not None


@pytest.mark.parametrize(
    ("rule", "channel", "reason"),
    [
        (abp_artifact, "ABP", "flush"),
        (abp_damped, "ABP", "damped"),
        (ecg_noise, "II", "noise"),
        (lead_off, "II", "lead_off"),
    ],
)
def test_what_comes_back_while_its_alarm_stands_need_not_last_again(rule: object, channel: str, reason: str) -> None:
    """A valve that is opened six seconds of nine is one flush: else the alarm is cleared half a second before it is raised again."""
    made = evidence("II", abp=True)
    beats(made, "II", every(0.8, 30))
    quality(made, channel, 12.0, reason)
    quality(made, channel, 14.0)
    quality(made, channel, 15.9, reason)
    ask = next(one for one in RULES if one.find is rule)
    assert ask.find(made, samples(15.9), LIMITS) is None
    made.standing = frozenset({ask.kind})
    found = ask.find(made, samples(15.9), LIMITS)
    assert found is not None
    assert found.since == samples(14.0)
    quality(made, channel, 16.5)
    assert ask.find(made, samples(16.5), LIMITS) is None


def test_without_beats_there_is_no_pulse_to_be_damped() -> None:
    """A line that lies still above 30 mmHg looks damped; in an asystole it shows what there is."""
    made = evidence("II", "V", abp=True)
    last = beats(made, "II", every(0.8, 10)) - 60
    quality(made, "ABP", 12.0, "damped")
    just = last + samples(LIMITS.asystole_s)
    assert just > samples(14)
    assert abp_damped(made, just - 1, LIMITS) is not None
    assert abp_damped(made, just, LIMITS) is None
    quality(made, "II", 12.0, "lead_off")  # nobody can tell
    quality(made, "V", 12.0, "lead_off")
    assert abp_damped(made, just, LIMITS) is not None


def test_damping_counts_from_the_end_of_an_arrest() -> None:
    """Of a fibrillation a detector takes some waves for beats."""
    made = evidence("II", abp=True)
    beats(made, "II", every(0.8, 60))
    for k in range(37):
        quality(made, "ABP", 12.0 + k / 2, "damped")  # until 30 s
    made.arrest_until = samples(30)
    made.standing = frozenset({"ventricular_fibrillation", "abp_damped"})
    assert abp_damped(made, samples(30), LIMITS) is None
    made.standing = frozenset()
    for k in range(8):
        quality(made, "ABP", 30.5 + k / 2, "damped")
    assert abp_damped(made, samples(34) - 1, LIMITS) is None
    found = abp_damped(made, samples(34), LIMITS)
    assert found is not None
    assert found.since == samples(30)


@pytest.mark.parametrize(("away_s", "alarm"), [(4.9, False), (5.1, True)])
def test_no_samples_for_five_seconds(away_s: float, alarm: bool) -> None:
    made = evidence("II")
    made.absent_since = samples(100)
    assert (signal_lost(made, samples(100 + away_s), LIMITS) is not None) is alarm
    made.absent_since = None
    assert signal_lost(made, samples(200), LIMITS) is None


def test_models_that_run_otherwise_than_they_should() -> None:
    made = evidence("II")
    assert tpu_degraded(made, samples(10), LIMITS) is None
    made.engine_degraded = "on the CPU: no device"
    found = tpu_degraded(made, samples(10), LIMITS)
    assert found is not None
    assert found.evidence == {"engine": "on the CPU: no device"}
