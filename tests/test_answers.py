"""What is said of a request that changes something, where whoever looks after the device reads it."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any, cast

import pytest

from edge_agent.alarms.limits import AlarmLimits
from edge_agent.answers import Answers
from edge_agent.errors import RequestError


class Bed(SimpleNamespace):
    def set_limits(self, limits: AlarmLimits) -> None:
        self.config.alarms = limits


@pytest.fixture
def bed() -> Bed:
    limits = AlarmLimits(asystole_s=5)
    return Bed(config=SimpleNamespace(name="bed1", alarms=limits), configured=limits, pipeline=object())


def ask(bed: Bed, given: dict[str, object]) -> dict[str, Any]:
    answers = Answers(cast(Any, [bed]), cast(Any, None), lambda _event: None, reload=lambda: None, info=cast(Any, None))
    return answers("limits", {"stream": "bed1", "limits": given})["limits"]  # type: ignore[no-any-return]


def test_the_log_says_which_limit_of_which_stream_from_what_to_what(bed: Bed, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "edge_agent.answers")
    assert ask(bed, {"asystole_s": 6, "latching": ["pause"]})["asystole_s"] == 6.0
    assert ask(bed, {"asystole_s": None})["asystole_s"] == 5.0
    ask(bed, {"asystole_s": 5})
    with pytest.raises(RequestError, match='limits: asystole_s: found "5"; should be a number'):
        ask(bed, {"asystole_s": "5"})
    assert caplog.messages == [
        'bed1: alarm limits changed by request: asystole_s from 5.0 to 6.0; latching from [] to ["pause"]',
        "bed1: alarm limits changed by request: asystole_s from 6.0 to 5.0",
        "bed1: alarm limits changed by request: nothing, they were so before",
    ]
