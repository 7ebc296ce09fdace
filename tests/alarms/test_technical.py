"""Bad and missing signals have alarms of their own."""

from __future__ import annotations

import pytest

from edge_agent.alarms.rules.registry import RULES
from edge_agent.alarms.rules.technical import abp_artifact, abp_damped, ecg_noise, lead_off, signal_lost, tpu_degraded
from tests.alarms.by_hand import LIMITS, evidence, quality, samples


@pytest.mark.parametrize(
    ("rule", "channel", "reason", "least_s"),
    [
        (lead_off, "II", "lead_off", 2.0),
        (lead_off, "II", "flat", 2.0),
        (ecg_noise, "II", "noise", 8.0),
        (ecg_noise, "II", "wander", 8.0),
        (abp_damped, "ABP", "damped", 4.0),
        (abp_artifact, "ABP", "flush", 4.0),
        (abp_artifact, "ABP", "lead_off", 4.0),
    ],
)
def test_a_bad_signal_has_its_own_alarm_after_its_time(rule: object, channel: str, reason: str, least_s: float) -> None:
    made = evidence("II", abp=True)
    quality(made, channel, 12.0, reason)  # judged on 10..12 s, good until 2 s: bad since 10 s
    ask = next(one.find for one in RULES if one.find is rule)
    assert ask(made, samples(10 + least_s) - 1, LIMITS) is None
    found = ask(made, samples(10 + least_s), LIMITS)
    assert found is not None
    assert (found.since, found.met, found.channel) == (samples(10), samples(10 + least_s), channel)
    assert found.evidence == {"reasons": [reason]}
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
