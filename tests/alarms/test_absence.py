"""A source that has gone: its alarms go, one says that the signal is lost, and it is the same live and replayed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from edge_agent.clock import RecordedClock
from edge_agent.config import AlarmLimits
from edge_agent.events import Alarm, Event
from edge_agent.inference.judge import Judge
from edge_agent.journey import Block
from edge_agent.pipeline import Pipeline
from edge_agent.replay import Settings, run_blocks
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.stamp import REPLAYED, Stamp

FS = 250.0
INFO = StreamInfo(FS, (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")))
FAST = Script((Episode("fast", 60, "svt", 190),))
GOES_S = 40.0


def blocks(away_s: float) -> Iterator[Block]:
    """A tachycardia whose source goes away for a while."""
    patient = SimulatedPatient(FS, ("II", "ABP"), FAST, seed=4)
    while (block := patient.read(125)) is not None:
        late = block.first >= GOES_S * FS
        yield replace(block, first=block.first + round(away_s * FS)) if late else block


def alarms(said: list[Event]) -> list[tuple[str, str, float]]:
    return [(one.kind, one.state, one.known / FS) for one in said if isinstance(one, Alarm)]


def replayed(away_s: float) -> list[Event]:
    return list(run_blocks(INFO, blocks(away_s), Judge({}), Settings(), "bed"))


def live(away_s: float, steps_s: list[float]) -> list[Event]:
    """As the runner does it: time passes, in steps, before the samples come back."""
    stamp = Stamp(device="replay", stream="bed", session="replay", fs=FS, clock=RecordedClock(FS, None))
    pipeline = Pipeline(INFO, models=[], limits=AlarmLimits(), detector="native", stamp=stamp)
    said: list[object] = []
    for block in blocks(away_s):
        if block.first > pipeline.ring.end:
            for step_s in steps_s:
                said += pipeline.absent(round((GOES_S + step_s) * FS), REPLAYED)
        said += pipeline.feed(block, REPLAYED)
    said += pipeline.flush()
    return [one for one in said if isinstance(one, Event)]


def test_no_alarm_stands_on_a_source_that_has_gone() -> None:
    told = alarms(live(1e4, [20.0]))
    assert told[0][:2] == ("tachycardia", "raised")
    gone = [one for one in told if GOES_S < one[2] <= GOES_S + 20]
    assert [one[:2] for one in gone] == [("tachycardia", "cleared"), ("signal_lost", "raised")]
    assert [one[2] for one in gone] == [pytest.approx(GOES_S + 5, abs=0.3)] * 2


def test_when_it_comes_back_the_alarms_do() -> None:
    told = [one for one in alarms(replayed(30.0)) if one[2] > GOES_S + 30]
    assert [one[:2] for one in told][:2] == [("signal_lost", "cleared"), ("tachycardia", "raised")]


@pytest.mark.parametrize("away_s", [1.0, 4.0, 12.0, 70.0, 400.0])
@pytest.mark.parametrize("steps_s", [[], [0.5], [0.1, 0.9, 3.0, 3.01, 8.0, 11.0], [60.0], [2.0, 300.0]], ids=str)
def test_live_says_what_a_replay_says(away_s: float, steps_s: list[float]) -> None:
    steps_s = [step_s for step_s in steps_s if step_s <= away_s]
    assert [one.payload() for one in live(away_s, steps_s)] == [one.payload() for one in replayed(away_s)]


def test_a_moment_s_loss_is_no_alarm() -> None:
    assert not [one for one in alarms(replayed(4.0)) if one[0] == "signal_lost"]


def test_the_signal_s_end_ends_its_alarms() -> None:
    told = alarms(replayed(0.0))
    assert told[-1][:2] == ("tachycardia", "cleared")
