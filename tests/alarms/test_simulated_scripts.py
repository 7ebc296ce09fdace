"""A few of the random scripts of benchmarks/alarms_simulated.py: what is scripted is raised in time, and nothing else."""

from __future__ import annotations

import functools

import pytest

from benchmarks.alarms_simulated import CHANNELS, FS, MODELS, alarms_of, judge_script
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script


@functools.cache
def judge() -> Judge:
    return Judge(load_models(shipped_models(), list(MODELS)))


@pytest.mark.parametrize("seed", [1, 14, 22, 31, 121, 8029])
def test_every_scripted_alarm_comes_in_time_and_no_other(seed: int) -> None:
    """121: hum in a fibrillation; 8029 is swayed by breathing, and its damped line is another matter."""
    outcome = judge_script(seed, judge())
    wrong = [*outcome.missed, *outcome.late, *outcome.unscripted, *outcome.again]
    assert [line for line in wrong if " abp_damped " not in line] == []
    assert sum(outcome.raised.values()) >= 3


@pytest.mark.parametrize("seed", [5033, 5054, 6039, 7034])
def test_the_same_at_twelve_decibels_with_hum_muscle_and_white_noise(seed: int) -> None:
    outcome = judge_script(seed, judge(), (12.0, 14.0))
    assert [*outcome.missed, *outcome.late, *outcome.unscripted, *outcome.again] == []
    assert sum(outcome.raised.values()) >= 3


@pytest.mark.parametrize("seed", [30096, 30105, 30554, 50079])
def test_one_episode_is_raised_once(seed: int) -> None:
    """A tachycardia that looks like a flutter meanwhile; a fibrillation of the atria that a model hears of late, one of the ventricles
    that wanes; a slow rhythm in which one lead sees a beat too many."""
    outcome = judge_script(seed, judge())
    assert [*outcome.missed, *outcome.late, *outcome.unscripted, *outcome.again] == []


@pytest.mark.parametrize("seed", [2, 11])
def test_forty_seconds_of_fibrillation_are_no_asystole_and_the_still_line_after_them_is(seed: int) -> None:
    """It wanes: no beat is found in it for five seconds and more, again and again."""
    script = Script((Episode("sinus", 60), Episode("fibrillation", 40, "vf"), Episode("still", 20, "asystole")))
    alarms = alarms_of(SimulatedPatient(FS, CHANNELS, script, seed), judge())
    kinds = ("ventricular_fibrillation", "asystole")
    raised = [(one.kind, one.known / FS) for one in alarms if one.state == "raised" and one.kind in kinds]
    assert [kind for kind, _ in raised] == list(kinds)
    assert raised[0][1] < 60 + 4 + 10
    assert 100 < raised[1][1] < 100 + 4 + 10


@pytest.mark.parametrize("seed", [300, 301])
def test_at_zero_decibels_the_technical_alarm_instead_of_clinical_ones(seed: int) -> None:
    outcome = judge_script(seed, judge(), (0.0, 0.0))
    assert outcome.technical == 1
    assert [*outcome.missed, *outcome.late, *outcome.unscripted] == []
    assert sum(count for (_, scripted), count in outcome.from_ecg.items() if not scripted) == 0
