"""Beats while the broker is away, thinned by choice: counts are right, order is kept, and nothing changes while it is there."""

from __future__ import annotations

import itertools
import time

import pytest

from edge_agent import events
from edge_agent.outputs.thinning import EVERY_S, PATIENCE_S, Thinner
from tests.outputs.test_mqtt import beat, header


class World:
    def __init__(self) -> None:
        self.now = 100.0
        self.connected = True


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()
    monkeypatch.setattr(time, "monotonic", lambda: world.now)
    return world


def verdict(number: int, label: str | None) -> events.Verdict:
    return events.Verdict(
        **header(number), channel="II", task="ecg-beat", label=label, reason=None, scores={}, model="m", version="1.0.0",
        digest="0" * 64, backend="cpu", invoke_us=None,
    )  # fmt: skip


def test_an_hour_away_is_sixty_summaries_and_then_beats_again(world: World) -> None:
    thinner = Thinner(lambda: world.connected)
    assert list(thinner.take(beat(0))) == [beat(0)]
    world.connected = False
    said: list[events.Event] = []
    for number in range(1, 3601):
        world.now += 1
        said += thinner.take(beat(number))
        said += thinner.take(verdict(number, "V" if number % 10 == 0 else None if number % 7 == 0 else "N"))
    singles = [one for one in said if not isinstance(one, events.Summary)]
    assert len(singles) == 2 * PATIENCE_S  # a short absence costs nothing
    summaries = [one for one in said if isinstance(one, events.Summary)]
    assert 3600 / EVERY_S - 2 <= len(summaries) <= 3600 / EVERY_S
    world.connected = True
    *rest, last = list(thinner.take(beat(3601)))
    assert last == beat(3601)
    summaries += [one for one in rest if isinstance(one, events.Summary)]
    assert [one.seq for one in summaries] == list(range(len(summaries)))
    assert sum(one.beats["II"] for one in summaries) == 3600 - PATIENCE_S
    assert sum(one.labels["m"]["V"] for one in summaries) == 360
    assert sum(one.labels["m"]["none"] for one in summaries) == 3600 // 7 - 3600 // 70
    for before, after in itertools.pairwise(summaries):
        assert before.first <= before.sample < after.first
    assert thinner.flush() == []


def test_what_is_not_said_at_the_stop_is_flushed(world: World) -> None:
    thinner = Thinner(lambda: False)
    list(thinner.take(beat(1)))
    world.now += PATIENCE_S + 1
    assert list(thinner.take(beat(2))) == []
    (summary,) = thinner.flush()
    assert isinstance(summary, events.Summary)
    assert summary.beats == {"II": 1}
