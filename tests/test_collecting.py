"""The search for garbage: none that looks at everything while streams run, and nothing for it to find."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from edge_agent.bench.journeys import Journey, signals
from edge_agent.inference.loaded import by_default, load_models, shipped_models
from edge_agent.process import collecting
from edge_agent.process.collecting import AT_LEAST_EVERY_S, GROWN, LOOK_S, Searches

FS = 360.0
BLOCK = 90


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before, enabled = gc.get_threshold(), gc.isenabled()
    yield
    gc.unfreeze()
    gc.set_threshold(*before)
    if enabled:
        gc.enable()


def full_searches(events: list[int]) -> Any:
    def heard(phase: str, info: dict[str, int]) -> None:
        if phase == "start" and info["generation"] == 2:
            events.append(1)

    return heard


def count_full_searches(kept: list[list[int]], many: int) -> int:
    events: list[int] = []
    heard = full_searches(events)
    gc.callbacks.append(heard)
    try:
        kept.extend([i] for i in range(many))
    finally:
        gc.callbacks.remove(heard)
    return len(events)


def test_the_journey_of_a_sample_makes_no_circles() -> None:
    """Those that it made would stay for a day."""
    models = {
        name: model
        for name, model in by_default(load_models(shipped_models())).items()
        if model.artifact.manifest.signal == "ecg"
    }
    row = signals(FS, 90.0, 1)[0].copy()
    row[round(60 * FS) : round(62 * FS)] = np.nan  # missing samples go other ways
    row[round(70 * FS) : round(74 * FS)] *= 40.0
    journey = Journey(0, FS, row, 0, BLOCK, models)
    for _ in range(4 * 90):  # what is imported or made at the first time does
        journey.take(1, lambda _: None)
        journey.prepare()
    gc.collect()
    gc.disable()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        for _ in range(4 * 90):
            journey.take(1, lambda _: None)
            journey.prepare()
        gc.collect()
        found = [type(one).__name__ for one in gc.garbage]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()
    assert found == []


def test_the_interpreter_begins_full_searches_by_itself_until_it_is_settled() -> None:
    gc.freeze()  # what other tests left: the interpreter begins one only when a quarter of what has been there is new
    gc.collect()
    gc.set_threshold(700, 10, 10)
    kept: list[list[int]] = []
    assert count_full_searches(kept, 400_000) > 0  # else the rest of this test proves nothing
    with collecting.settled():
        assert count_full_searches(kept, 400_000) == 0
        assert gc.get_freeze_count() > 0
    assert gc.get_freeze_count() == 0
    assert gc.get_threshold() == (700, 10, 10)


def test_young_circles_are_still_found() -> None:
    class Circle:
        alive = 0

        def __init__(self) -> None:
            self.itself = self
            Circle.alive += 1

        def __del__(self) -> None:
            Circle.alive -= 1

    with collecting.settled():
        for _ in range(20_000):
            Circle()
        assert Circle.alive < 10_000


def test_a_full_search_is_made_where_memory_has_grown() -> None:
    memory = [100.0]
    searches = Searches(lambda: memory[0])
    searches.begin(1000.0)
    memory[0] = 100.0 * GROWN - 1
    assert not searches.look(1000.0 + LOOK_S)
    memory[0] = 100.0 * GROWN + 1
    assert not searches.look(1001.0 + LOOK_S)  # it was looked at a second ago
    assert searches.look(1000.0 + 2 * LOOK_S)
    assert searches.taken_s > 0
    assert not searches.look(1000.0 + 3 * LOOK_S), "it stays as large: that is what is held against from then on"


def test_a_full_search_is_made_every_day_even_where_nobody_tells_the_memory() -> None:
    searches = Searches(lambda: None)
    searches.begin(0.0)
    assert not searches.look(AT_LEAST_EVERY_S - 1)
    assert searches.look(AT_LEAST_EVERY_S + LOOK_S)


def test_a_full_search_finds_old_circles() -> None:
    class Circle:
        alive = 0

        def __del__(self) -> None:
            Circle.alive -= 1

    searches = Searches(lambda: None)
    one: Any = Circle()
    Circle.alive = 1
    searches.begin(0.0)  # frozen, too
    one.itself = one
    del one
    assert Circle.alive == 1
    assert searches.look(AT_LEAST_EVERY_S)
    assert Circle.alive == 0
