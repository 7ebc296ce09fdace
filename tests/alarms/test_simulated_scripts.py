"""A few of the random scripts of benchmarks/alarms_simulated.py: what is scripted is raised in time, and nothing else."""

from __future__ import annotations

import functools

import pytest

from benchmarks.alarms_simulated import MODELS, judge_script
from edge_agent.inference.judge import Judge, load_models, shipped_models


@functools.cache
def judge() -> Judge:
    return Judge(load_models(shipped_models(), list(MODELS)))


@pytest.mark.parametrize("seed", [1, 14, 22, 31])
def test_every_scripted_alarm_comes_in_time_and_no_other(seed: int) -> None:
    outcome = judge_script(seed, judge())
    assert [*outcome.missed, *outcome.late, *outcome.unscripted] == []
    assert sum(outcome.raised.values()) >= 3
