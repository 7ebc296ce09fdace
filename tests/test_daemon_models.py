"""The daemon beside models that hang, err or are slow."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent import events
from edge_agent.config import SimulatedSource, StreamConfig
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.journey import Samples
from edge_agent.runner import StreamRunner
from edge_agent.sources.open import open_source
from edge_agent.worker import InferenceWorker
from tests.spine import (
    wait_for,
)
from tests.test_daemon import FS


class HangingEngine:
    """A model that never answers until it is let go."""

    backend = "fake"

    def __init__(self, labels: int) -> None:
        self.go = threading.Event()
        self.asked = threading.Event()
        self._answer: Samples = np.zeros(labels, np.float32)

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:  # noqa: ARG002
        self.asked.set()
        self.go.wait()
        return self._answer


class FaultyEngine:
    """A model whose code has a fault of its own, once."""

    backend = "fake"

    def __init__(self, labels: int) -> None:
        self.calls = itertools.count()
        self._answer: Samples = np.zeros(labels, np.float32)

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:  # noqa: ARG002
        if next(self.calls) == 3:
            raise ZeroDivisionError("of its own")
        return self._answer


class Bench:
    """One stream with a model of our making, as the daemon puts them together."""

    def __init__(self, engine: Callable[[int], Any], script: Path, *, speed: float, bound: int) -> None:
        loaded = load_models(shipped_models())
        name = next(name for name, one in loaded.items() if one.artifact.manifest.anchor.kind == "beat")
        self.engine = engine(len(loaded[name].artifact.manifest.labels))
        self.published: list[tuple[float, events.Event]] = []
        self.worker = InferenceWorker(self._publish, bound)
        source = SimulatedSource(type="simulated", fs=FS, channels=["II"], script=script, speed=speed)
        stream = StreamConfig(name="bed", source=source, models=[name])
        self.runner = StreamRunner(
            stream,
            device="dev",
            session="s",
            judge=Judge({name: replace(loaded[name], engine=self.engine)}),
            worker=self.worker,
            publish=self._publish,
            say_available=lambda *_: None,
            source=open_source(stream),
        )

    def _publish(self, event: events.Event) -> None:
        self.published.append((time.monotonic(), event))

    def of(self, kind: type[events.Event]) -> list[Any]:
        return [event for _, event in list(self.published) if isinstance(event, kind)]

    def answers(self) -> list[events.Verdict]:
        """Verdicts that the model was asked for: some windows abstain without."""
        return [verdict for verdict in self.of(events.Verdict) if verdict.scores]

    def run(self) -> None:
        self.worker.start()
        self.runner.start()


def test_a_hung_model_holds_nothing_up_that_needs_none(tmp_path: Path) -> None:
    script = tmp_path / "s.toml"
    script.write_text(
        '[[episodes]]\nduration_s = 30\n[[episodes]]\nrhythm = "asystole"\nduration_s = 10\n[[episodes]]\nduration_s = 20\n',
        encoding="utf-8",
    )
    bench = Bench(HangingEngine, script, speed=20.0, bound=8)
    bench.run()
    assert wait_for(lambda: bench.runner.ended.is_set(), "the end of the signal, with the model hanging all the time")
    assert bench.engine.asked.is_set()
    assert bench.answers() == []
    beats = bench.of(events.Beat)
    assert len(beats) > 40
    assert {(alarm.kind, alarm.state) for alarm in bench.of(events.Alarm)} >= {
        ("asystole", "raised"),
        ("asystole", "cleared"),
    }
    # In time, too: a block is at most 40 ms long, so a wait on the model would show.
    late = [event.latency.compute_ms for event in (*beats, *bench.of(events.Alarm))]
    assert max(late) < 2000
    # The queue stayed within its bound, and what that cost was counted.
    assert bench.worker.waiting <= 8
    assert bench.worker.counters.dropped > 40
    bench.engine.go.set()
    wait_for(lambda: bench.worker.waiting == 0, "the model to catch up")
    bench.worker.stop()
    assert 1 <= len(bench.answers()) <= 9


def test_a_fault_while_judging_does_not_silence_the_models(tmp_path: Path) -> None:
    script = tmp_path / "s.toml"
    script.write_text("[[episodes]]\nduration_s = 30\n", encoding="utf-8")
    bench = Bench(FaultyEngine, script, speed=50.0, bound=4096)
    bench.run()
    wait_for(lambda: bench.runner.ended.is_set(), "the end of the signal")
    wait_for(lambda: bench.worker.waiting == 0, "every window to be taken")
    bench.worker.stop()
    assert len(bench.of(events.Verdict)) >= len(bench.of(events.Beat)) - 1
