"""Limits of the alarm rules that no other test stood on: the very sample, all reasons at once, the last of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.alarms.rules import arrest, unlike, witness
from edge_agent.journey import BeatShape
from tests.alarms.by_hand import FS, LIMITS, QUIET, evidence, pulse_at, pulses, quality, samples, textures


def test_a_disturbed_lead_is_connected_whatever_disturbs_it() -> None:
    """All of it at once, too; not with an electrode off among it."""
    made = evidence("II")
    lead = made.ecg["II"]
    quality(made, "II", 10.0, *sorted(witness.DISTURBED))
    assert witness.connected(lead)
    quality(made, "II", 12.0, *sorted(witness.DISTURBED), "lead_off")
    assert not witness.connected(lead)


@pytest.mark.parametrize(
    ("reasons", "there"),
    [((), True), (("noise",), True), (tuple(sorted(witness.DISTURBED)), True), (("lead_off",), False)],
)
def test_a_lead_that_was_off_meanwhile_was_not_there(reasons: tuple[str, ...], there: bool) -> None:
    made = evidence("II")
    lead = made.ecg["II"]
    quality(made, "II", 12.0, *reasons)
    quality(made, "II", 20.0)
    when = next(one.sample for one in lead.qualities if one.known == samples(12))
    assert witness._there(lead, when - 1) is there
    assert witness._there(lead, when)


@pytest.mark.parametrize(("first", "last", "many"), [(0, 0, 5), (1, 0, 4), (0, 1, 6), (0, -1, 5), (-1, 0, 5)])
def test_pulses_of_a_believed_line_from_the_first_sample_to_the_one_before_the_last(
    first: int, last: int, many: int
) -> None:
    made = evidence("II", abp=True)
    pulses(made, 0.8, 60.0)
    said = witness.pulsing_between(made, samples(44.0) + first, samples(48.0) + last)
    assert [(one.channel, one.count) for one in said] == [("ABP", many)]


def test_a_quiet_line_may_be_disturbed_in_every_way() -> None:
    made = evidence("II")
    now = textures(made, "II", QUIET, 5.0, 12.0)
    quality(made, "II", 11.0, *sorted(witness.DISTURBED))
    assert arrest._quiet_since(made.ecg["II"], now, FS) == samples(4)
    quality(made, "II", 12.0, "noise", "flat")
    assert arrest._quiet_since(made.ecg["II"], now, FS) is None


def test_a_run_that_has_ended_in_a_usual_beat_is_none() -> None:
    """One of them may be usual, and not the last."""
    made = [
        BeatShape("II", 30_000 + 100 * k, 30_100 + 100 * k, alike=0.1, again=0.95, slope_log=-0.6, size_log=0.0)
        for k in range(5)
    ]
    for which, is_one in ((1, True), (3, True), (4, False)):
        with_it = [*made]
        with_it[which] = replace(made[which], alike=0.98)
        assert unlike._is_run(with_it, FS, LIMITS) is is_one


@pytest.mark.parametrize(("oldest", "newest", "used_to"), [(0, -1, True), (-1, -1, False), (0, 0, False)])
def test_a_line_that_is_not_believed_though_it_used_to_pulse_says_nothing(
    oldest: int, newest: int, used_to: bool
) -> None:
    """Eight pulses, from 150 s before to the sample before 16 s before; all break a rule, but for what comes now."""
    made = evidence("II", abp=True)
    last = samples(200)
    at = [
        last - samples(150) + oldest,
        *(last - samples(150) + 1000 * k for k in range(1, 7)),
        last - samples(16) + newest,
    ]
    for sample in at:
        made.pulse(pulse_at(sample, 200, reasons=("ragged",)))
    made.pulse(pulse_at(last - 500, 200))
    made.pulse(pulse_at(last - 300, 200))
    said = [(one.channel, one.count) for one in witness.pulsing_between(made, last - samples(4), last)]
    assert said == ([] if used_to else [("ABP", 2)])
