"""Runs of ventricular beats: how many, how fast, and what breaks them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge_agent.alarms.rules import Finding
from edge_agent.alarms.ventricular import VentricularRun
from edge_agent.clock import RecordedClock
from edge_agent.config import AlarmLimits
from edge_agent.events import Alarm, Event
from edge_agent.journey import Verdict, Window
from edge_agent.stamp import REPLAYED, Stamp
from edge_agent.verdicts import VerdictLane

FS = 250.0
LIMITS = AlarmLimits()


def verdict(sample: int, label: str | None) -> Verdict:
    window = Window("beats", "II", sample, sample + 30, (), None if label else "quality: noise")
    return Verdict(
        window, label, {}, "beats", "1.0.0", "0" * 64, "cpu/test", reason=None if label else "quality: noise"
    )


def after(labels: str, per_min: float = 150.0, *, run: VentricularRun | None = None) -> tuple[VentricularRun, int]:
    """Beats at that rate with these labels ('-' an abstention), and the last one's sample."""
    run = run or VentricularRun(FS)
    step = 60 * FS / per_min
    at = 1000
    for i, label in enumerate(labels):
        at = 1000 + round(i * step)
        run.verdict(verdict(at, None if label == "-" else label))
    return run, at


def found(labels: str, per_min: float = 150.0, limits: AlarmLimits = LIMITS) -> Finding | None:
    run, at = after(labels, per_min)
    return run.finding(at + 30, "II", limits)


@pytest.mark.parametrize("labels", ["VVVVV", "NVVVVV", "VVVVVVVVVVVVVVV", "NNVVNVVVVV", "VV-VVV", "-VVVVV"])
def test_five_in_a_row_are_tachycardia(labels: str) -> None:
    finding = found(labels)
    assert finding is not None
    assert finding.channel == "II"


@pytest.mark.parametrize(
    "labels", ["", "VVVV", "NVVVV", "VVVVNVVVV", "VVFVVV", "VVSVVV", "VVQVVV", "VVVVVN", "NNNNNNN"]
)
def test_four_are_not_and_any_other_beat_breaks_the_run(labels: str) -> None:
    assert found(labels) is None


def test_the_rate_must_be_above_its_limit() -> None:
    assert found("VVVVV", 100.0) is None  # "faster than 100"
    assert found("VVVVV", 99.0) is None
    finding = found("VVVVV", 101.5)
    assert finding is not None
    assert finding.evidence["rate_per_min"] == pytest.approx(101.5, abs=0.5)


def test_the_rate_is_that_of_the_newest_beats() -> None:
    """A run that begins slowly is tachycardia once it is fast."""
    run, at = after("VVVV", 70)
    for _ in range(5):
        at += round(60 * FS / 160)
        run.verdict(verdict(at, "V"))
    finding = run.finding(at + 30, "II", LIMITS)
    assert finding is not None
    assert finding.since == 1000  # the run's first beat
    assert finding.evidence["beats"] == 9


def test_its_definition_was_met_at_the_fifth_beat() -> None:
    finding = found("VVVVV", 150)
    assert finding is not None
    assert (finding.since, finding.met) == (1000, 1400)


def test_limits_are_those_asked_with() -> None:
    assert found("VVV", limits=AlarmLimits(ventricular_beats=3)) is not None
    assert found("VVVVVV", limits=AlarmLimits(ventricular_beats=7)) is None
    assert found("VVVVV", 80, limits=AlarmLimits(ventricular_per_min=75)) is not None


def test_it_is_over_when_no_beat_follows() -> None:
    run, at = after("VVVVV")
    assert run.finding(at + round(2 * FS), "II", LIMITS) is not None
    assert run.finding(at + round(2 * FS) + 1, "II", LIMITS) is None


def test_a_gap_breaks_it() -> None:
    run, at = after("VVVVV")
    run.gap()
    assert run.finding(at + 30, "II", LIMITS) is None
    run, at = after("VVVV")
    run.gap()
    run.verdict(verdict(at + 100, "V"))
    assert run.finding(at + 130, "II", LIMITS) is None


def test_an_hour_of_it_stays_small() -> None:
    run, at = after("V" * 9000)
    assert len(run._run) <= 64
    assert run.finding(at + 30, "II", LIMITS) is not None


def test_two_models_that_see_the_same_beats_do_not_make_twice_as_many() -> None:
    def ask(window: Window) -> Verdict:
        return replace(verdict(window.sample, "V"), window=window, model=window.model)

    stamp = Stamp(device="d", stream="s", session="test", fs=FS, clock=RecordedClock(FS, None))
    lane = VerdictLane(fs=FS, ask=ask, tasks={"one": "ecg-beat", "two": "ecg-beat"}, limits=LIMITS, stamp=stamp)

    raised: list[list[str]] = []
    for i in range(6):
        at = 1000 + 100 * i
        said: list[Event] = []
        for model in ("one", "two"):
            said += lane.take(Window(model, "II", at, at + 30, ()), REPLAYED)
        raised.append([event.state for event in said if isinstance(event, Alarm)])
    assert raised == [[], [], [], [], ["raised"], []]
    assert lane.verdicts == 12
