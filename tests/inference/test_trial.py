"""A version on trial, without a store: what counts as passed and failed."""

from __future__ import annotations

import pytest

from edge_agent.inference.installed.trial import Trial
from tests.inference.test_store_trial import LIMITS


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_so_many_answers_and_it_has_passed() -> None:
    trial = Trial(LIMITS, Clock())
    for _ in range(199):
        trial.answer(None, 500.0)
        assert trial.outcome() is None
    trial.answer(None, 500.0)
    outcome = trial.outcome()
    assert outcome is not None
    assert outcome.passed
    assert "200 windows" in outcome.reason


def test_so_long_and_it_has_passed_if_it_was_asked_at_all() -> None:
    clock = Clock()
    trial = Trial(LIMITS, clock)
    clock.now = 1000
    assert trial.outcome() is None
    trial.answer(None, 500.0)
    assert trial.outcome() is not None
    assert trial.outcome().passed  # type: ignore[union-attr]


def test_one_error_and_it_has_failed() -> None:
    trial = Trial(LIMITS, Clock())
    trial.answer(None, 500.0)
    trial.answer("the engine fell over\nwith details", 0.0)
    trial.answer("and again", 0.0)
    assert trial.outcome() is not None
    assert not trial.outcome().passed  # type: ignore[union-attr]
    assert trial.outcome().reason == "the engine fell over"  # type: ignore[union-attr]


@pytest.mark.parametrize(("slow", "passes"), [(2, True), (3, False)])
def test_the_99th_percentile_decides(slow: int, passes: bool) -> None:
    """Of 200 calls, two may be slow."""
    trial = Trial(LIMITS, Clock())
    for number in range(200):
        trial.answer(None, 11_000.0 if number < slow else 100.0)
        if number < 199 and trial.outcome() is not None:
            break
    assert trial.outcome() is not None
    assert trial.outcome().passed is passes  # type: ignore[union-attr]
    if not passes:
        assert trial.windows == 3  # nobody waits for the other 197


def test_a_short_trial_goes_by_what_it_saw() -> None:
    clock = Clock()
    trial = Trial(LIMITS, clock)
    for number in range(20):
        trial.answer(None, 11_000.0 if number == 5 else 100.0)
    assert trial.outcome() is None
    clock.now = 61
    outcome = trial.outcome()
    assert outcome is not None
    assert not outcome.passed
    assert "99th percentile of 20 calls is 11 ms, over 10" in outcome.reason
