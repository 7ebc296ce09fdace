"""Which pulses are believed, and what they say of a stretch: the boundaries."""

from __future__ import annotations

from typing import Any

import pytest

from edge_agent.alarms.pulses import is_valid, pulses_between, usual_pulses
from tests.alarms.scenes import AT, FS, evidence, pulse, train

SINCE = AT - round(16 * FS)


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({"alike": 0.81}, True), ({"alike": 0.79}, False), ({"alike": None}, True),
        ({"systolic": 70 + 0.36 * 50}, True), ({"systolic": 70 + 0.34 * 50}, False),
        ({"systolic": 70 + 2.4 * 50}, True), ({"systolic": 70 + 2.6 * 50}, False),
        ({"systolic": 39.0, "diastolic": 15.0}, False), ({"systolic": 41.0, "diastolic": 15.0}, True),
        ({"diastolic": 9.0, "systolic": 80.0}, False), ({"diastolic": 11.0, "systolic": 80.0}, True),
    ],
)  # fmt: skip
def test_boundaries_of_a_valid_arterial_pulse(change: dict[str, Any], valid: bool) -> None:
    assert is_valid(pulse(10, **change), 50.0, arterial=True) is valid


def test_eight_millimetres_are_the_least() -> None:
    assert is_valid(pulse(10, systolic=78.5), 10.0, arterial=True)
    assert not is_valid(pulse(10, systolic=77.5), 10.0, arterial=True)
    assert is_valid(pulse(10, systolic=77.5), 10.0, arterial=False)  # a pleth has no millimetres


def test_a_good_line_says_rate_amplitude_and_fall() -> None:
    found = pulses_between(evidence(abp=train(0.5, 142.5) + train(142.5, 149.3, 0.4, systolic=95.0)), SINCE, AT)
    assert len(found) == 1
    one = found[0]
    assert one.arterial
    assert one.usual.rate_per_min == pytest.approx(75, abs=0.5)
    assert one.usual.systolic == 120
    assert one.systolic_fall == pytest.approx(95 / 120)
    assert one.least_amplitude == pytest.approx(25 / 50)
    assert one.going_on
    assert one.irregular is not None


def test_longest_counts_from_the_stretch_s_ends() -> None:
    one = pulses_between(evidence(abp=train(0.5, 145.3)), SINCE, AT)[0]
    assert one.longest_s == pytest.approx(150 - 144.5, abs=0.1)
    assert one.irregular == pytest.approx(0, abs=0.01)


def test_what_becomes_known_later_does_not_count() -> None:
    """A pulse is known when the next begins."""
    seen = evidence(abp=train(0.5, 160))
    assert all(
        one.count == pulses_between(evidence(abp=train(0.5, 149.3)), SINCE, AT)[0].count
        for one in pulses_between(seen, SINCE, AT)
    )


def test_a_line_that_did_not_pulse_before_says_nothing() -> None:
    bad = [pulse(0.5 + 0.8 * k, alike=0.2) for k in range(160)]
    assert pulses_between(evidence(abp=bad + train(135, 149)), SINCE, AT) == []
    assert pulses_between(evidence(abp=train(131, 149)), SINCE, AT) == []


@pytest.mark.parametrize(("rr_s", "believed"), [(60 / 179, True), (60 / 182, False)])
def test_a_probe_that_trembles_is_not_believed(rr_s: float, believed: bool) -> None:
    assert bool(pulses_between(evidence(pleth=train(0.5, 149, rr_s, "PLETH")), SINCE, AT)) is believed


def test_usual_is_of_the_two_minutes_before_the_last_16_s() -> None:
    seen = evidence(abp=train(0.5, 133) + train(135, 149, systolic=200.0))
    usual = usual_pulses(seen.abp["ABP"], FS, AT, arterial=True)
    assert usual is not None
    assert usual.systolic == 120
