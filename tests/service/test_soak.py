"""The soak's judgement: a leak, a lost descriptor, a drift and a slow end are seen, and a flat night is not accused."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from benchmarks.soak import FS, STREAMS, Look, judge, slope

SPEED = 50.0
HEALTH = {"broker": {"lost": 0}, "inference": {"dropped": 0, "faults": 0}}


def looks(
    *,
    growth_mb_per_day: float = 0.0,
    leak_at: float = 1e9,
    slow: float = 0.0,
    minutes: float = 240.0,
    every_s: float = 30.0,
) -> list[Look]:
    chance = np.random.default_rng(1)
    found = []
    for at in np.arange(5.0, minutes * 60, every_s):
        days = at * SPEED / 86_400
        found.append(
            Look(
                at_s=float(at),
                rss_mb=80 + growth_mb_per_day * days + float(chance.normal(0, 0.3)),
                descriptors=14 if at > leak_at else 13,
                threads=9,
                samples=dict.fromkeys(STREAMS, round(at * FS * SPEED * (1 - slow))),
            )
        )
    return found


def late(*, end_ms: float = 3.0) -> list[tuple[float, float]]:
    return [(float(at), 3.0 if at < 12_960 else end_ms) for at in range(0, 14_400, 2)]


def verdict(some: list[Look], ages: list[tuple[float, float]] | None = None, **health: Any) -> list[str]:
    broken: list[str] = judge(some, ages or late(), {**HEALTH, **health}, 0.0, SPEED)["broken"]
    return broken


def test_a_flat_night_is_not_accused() -> None:
    assert verdict(looks()) == []
    assert verdict(looks(growth_mb_per_day=0.5)) == []


@pytest.mark.parametrize(
    ("some", "ages", "word"),
    [
        (looks(growth_mb_per_day=2.0), late(), "memory grows by 2.0"),
        (looks(leak_at=12_000), late(), "descriptors: 13, then 14"),
        (looks(slow=0.001), late(), "bed1 drifts"),
        (looks(), late(end_ms=12.0), "latency (p99): 3.0 ms in the first tenth, 12.0 ms in the last"),
    ],
    ids=["leak", "descriptor", "drift", "latency"],
)
def test_what_is_broken_is_said(some: list[Look], ages: list[tuple[float, float]], word: str) -> None:
    assert any(word in line for line in verdict(some, ages))


def test_one_step_of_the_allocator_is_no_slope() -> None:
    """Ten minutes are six simulated hours after the warm-up: a megabyte once would be four a day. It is said; a leak is accused."""
    short = [replace(one, rss_mb=one.rss_mb + (1.0 if one.at_s > 360 else 0.0)) for one in looks(minutes=10, every_s=5)]
    found = judge(short, late(), HEALTH, 0.0, SPEED)
    assert found["growth_mb_per_simulated_day"]["low"] > 1
    assert not [line for line in found["broken"] if "memory" in line]
    assert any("memory" in line for line in verdict(looks(minutes=10, every_s=5, growth_mb_per_day=16.0)))


def test_days_are_those_whose_samples_went_through() -> None:
    """At half the speed that was asked for, a leak for each of the patient's hours is as large as it is."""
    starved = [
        replace(one, samples={name: n // 2 for name, n in one.samples.items()}) for one in looks(growth_mb_per_day=2.0)
    ]
    found = judge(starved, late(), HEALTH, 0.0, SPEED)
    assert found["growth_mb_per_simulated_day"]["median"] == pytest.approx(4.0, abs=0.2)
    assert found["simulated_h"] == pytest.approx(found["asked_h"] / 2, rel=0.01)


def test_health_that_is_old_by_chance_is_no_drift() -> None:
    """It is said once a second: the first look may be at one that is fresh, the last at one that is a second old."""
    chance = np.random.default_rng(2)
    some = looks(minutes=90, every_s=5)
    ages = [0.0, *chance.uniform(0, 1, len(some) - 2), 1.0]
    ages[len(some) // 4 + 1] = 0.0
    some = [
        replace(one, samples={name: n - round(age * FS * SPEED) for name, n in one.samples.items()})
        for one, age in zip(some, ages, strict=True)
    ]
    drifts = judge(some, late(), HEALTH, 0.0, SPEED)["drift_ms_per_hour"]
    assert all(abs(ms) < 100 for ms in drifts.values())


def test_lost_messages_are_said() -> None:
    assert verdict(looks(), broker={"lost": 3}) == ["lost 3 messages, 0 faults while judging"]


def test_the_slope_is_no_victim_of_one_look() -> None:
    days = np.linspace(0, 8, 100)
    values = 80 + 0.5 * days
    values[50] = 500.0
    found = slope(days, values)
    assert found.median == pytest.approx(0.5)
    assert found.low <= 0.5 <= found.high
