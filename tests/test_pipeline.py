"""What the pipeline makes of a stream as a whole: what it forgets, and what it must not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edge_agent import events
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.clock import RecordedClock
from edge_agent.inference.judge import Judge
from edge_agent.journey import Block, Onset
from edge_agent.pipeline import ABSENT_TICKED_S, Out, Pipeline
from edge_agent.replay import Settings, run_blocks
from edge_agent.signal.pressure import PressureDetector
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.stamp import REPLAYED, Stamp

FS = 250.0
FIBRILLATING = Script((Episode("fibrillation", 150, "af", 100),))


def rhythms_and_alarms(away_s: float) -> list[tuple[str, str]]:
    """A patient in fibrillation, whose signal is away for a while in the middle."""
    patient = SimulatedPatient(FS, ("II",), FIBRILLATING, seed=4)
    blocks: list[Block] = []
    while (block := patient.read(250)) is not None:
        late = block.first >= 75 * FS
        blocks.append(replace(block, first=block.first + round(away_s * FS)) if late else block)
    info = StreamInfo(FS, (Signal("II", "ecg", "mV"),))
    said: list[tuple[str, str]] = []
    for event in run_blocks(info, iter(blocks), Judge({}), Settings(), "bed"):
        if isinstance(event, events.Rhythm):
            said.append(("rhythm", event.rhythm))
        elif isinstance(event, events.Alarm) and event.kind == "atrial_fibrillation":
            said.append(("alarm", event.state))
    return said


def test_a_short_gap_keeps_the_rhythm() -> None:
    said = rhythms_and_alarms(20)
    assert said == [("rhythm", "AFIB"), ("alarm", "raised"), ("alarm", "cleared")]  # with the signal's end, at last


def test_after_a_long_gap_the_rhythm_is_unknown_until_beats_show_it_again() -> None:
    assert rhythms_and_alarms(120) == [
        ("rhythm", "AFIB"),
        ("alarm", "raised"),
        ("rhythm", "unknown"),
        ("alarm", "cleared"),
        ("rhythm", "AFIB"),
        ("alarm", "raised"),
        ("alarm", "cleared"),
    ]


def test_a_drifting_line_does_not_silence_hypotension() -> None:
    """A true fall of pressure moves both edges of the pulse alike, which is what drift looks like."""
    script = Script(
        (
            Episode("sinus", 40),
            Episode("shock", 100, systolic_mmhg=72, diastolic_mmhg=40),
        )
    )
    patient = SimulatedPatient(FS, ("II", "ABP"), script, seed=2)
    info = StreamInfo(FS, (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")))
    blocks = iter(lambda: patient.read(250), None)
    said = list(run_blocks(info, blocks, Judge({}), Settings(), "bed"))
    assert any(isinstance(e, events.Quality) and "drift" in e.reasons for e in said), "the script no longer shows it"
    raised = [e for e in said if isinstance(e, events.Alarm) and e.kind == "hypotension" and e.state == "raised"]
    # Definition met about 60 s after the pressure has settled; 15 s for it to fall and 10 s for the alarm.
    assert raised
    assert raised[0].known < (40 + 15 + 60 + 10) * FS


def test_a_rhythm_that_nothing_shows_any_more_is_unknown() -> None:
    """The electrode comes off in the middle of fibrillation: the alarm must not stand for hours on beats long gone."""
    script = Script((Episode("fibrillation", 75, "af", 100), Episode("off", 90, "af", 100, lead_off=frozenset({"II"}))))
    patient = SimulatedPatient(FS, ("II",), script, seed=4)
    info = StreamInfo(FS, (Signal("II", "ecg", "mV"),))
    said = list(run_blocks(info, iter(lambda: patient.read(250), None), Judge({}), Settings(), "bed"))
    rhythms = [event.rhythm for event in said if isinstance(event, events.Rhythm)]
    alarms = [event.state for event in said if isinstance(event, events.Alarm) and event.kind == "atrial_fibrillation"]
    assert rhythms == ["AFIB", "unknown"]
    assert alarms == ["raised", "cleared"]


def test_a_pleth_probe_put_on_late_is_learned_then() -> None:
    patient = SimulatedPatient(FS, ("PLETH",), Script((Episode("sinus", 30),)), seed=1)
    info = StreamInfo(FS, (Signal("PLETH", "pleth", "NU"),))
    values = []
    while (block := patient.read(250)) is not None:
        values.append(block.values)
    x = np.concatenate([np.zeros((1, round(10 * FS)), np.float32), *values], axis=1)
    detector = PressureDetector(info.fs, "PLETH", "pleth")
    detector.feed(x[0], 0)
    noise = np.random.default_rng(0).normal(0, 0.001, round(60 * FS)).astype(np.float32) + x[0, -1]
    onsets = [item for item in detector.feed(noise, x.shape[1]) if isinstance(item, Onset)]
    assert len(onsets) <= 1  # where the noise joins the last pulse; 148 when its level had stayed at nothing


def test_the_state_says_whether_a_lead_is_off() -> None:
    """With the vitals, so that whoever comes late or again knows it: the alarm itself is said but once."""
    script = Script((Episode("on", 20), Episode("off", 20, lead_off=frozenset({"II"})), Episode("on again", 30)))
    patient = SimulatedPatient(FS, ("II",), script, seed=4)
    info = StreamInfo(FS, (Signal("II", "ecg", "mV"),))
    said = list(run_blocks(info, iter(lambda: patient.read(250), None), Judge({}), Settings(), "bed"))
    alarms = [one for one in said if isinstance(one, events.Alarm) and one.kind == "lead_off"]
    assert [one.state for one in alarms] == ["raised", "cleared"]
    raised, cleared = alarms
    states = [one for one in said if isinstance(one, events.Vitals)]
    assert [one.lead_off for one in states] == [raised.known <= one.known < cleared.known for one in states]
    assert {one.lead_off for one in states} == {True, False}


def test_a_silence_is_said_and_runs_out_while_the_signal_has_long_been_away() -> None:
    """Ticks end then; the alarm of the loss stands for as long as it takes, and must not stay silenced with it."""
    info = StreamInfo(FS, (Signal("II", "ecg", "mV"),))
    stamp = Stamp(device="d", stream="s", session="t", fs=FS, clock=RecordedClock(FS, None))
    pipeline = Pipeline(info, models=(), limits=AlarmLimits(), detector="native", stamp=stamp)
    patient = SimulatedPatient(FS, ("II",), Script((Episode("sinus", 20),)), seed=4)
    while (block := patient.read(250)) is not None:
        list(pipeline.feed(block, REPLAYED))
    came_s = 20.0

    def away(seconds: float) -> list[Out]:
        return list(pipeline.absent(round((came_s + seconds) * FS), REPLAYED))

    def told(said: list[Out]) -> list[tuple[str, bool, bool]]:
        lost = [one for one in said if isinstance(one, events.Alarm) and one.kind == "signal_lost"]
        return [(one.state, one.silenced, one.acknowledged) for one in lost]

    assert told(away(10))[0] == ("raised", False, False)
    away(ABSENT_TICKED_S + 3600)
    assert pipeline.ring.end == (came_s + ABSENT_TICKED_S) * FS
    assert away(ABSENT_TICKED_S + 3600.25) == []
    until = pipeline.silence("signal_lost", 60)
    assert until == round((came_s + ABSENT_TICKED_S + 3660.25) * FS)
    assert told(away(ABSENT_TICKED_S + 3600.5)) == [("updated", True, False)]
    assert pipeline.acknowledge("signal_lost") is not None
    assert told(away(ABSENT_TICKED_S + 3610)) == [("updated", True, True)]
    assert away(ABSENT_TICKED_S + 3660) == []
    assert told(away(ABSENT_TICKED_S + 3660.5)) == [("updated", False, True)]
    assert away(ABSENT_TICKED_S + 3661) == []
    assert pipeline.ring.end == (came_s + ABSENT_TICKED_S) * FS
    back = Block(round((came_s + ABSENT_TICKED_S + 3670) * FS), FS, np.zeros((1, 2500), np.float32))
    assert ("cleared", False, True) in told(list(pipeline.feed(back, REPLAYED)))
    assert pipeline.silence("signal_lost", 1) == pipeline.ring.end + FS
