"""Taking the journey apart: how long each stage takes by itself, without what it calls.

For the time of a run of its own, the classes' methods are replaced by timed ones: nothing in the journey knows of it, and the
figures that are compared come from runs without it. A stage that a change of the code has made disappear is missing from the
report, and a test fails.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from types import ModuleType
from typing import Any, NamedTuple

from edge_agent.alarms.panel import AlarmPanel
from edge_agent.alarms.rhythm_watch import RhythmWatch
from edge_agent.alarms.scene import SceneMaker
from edge_agent.events import Message
from edge_agent.inference.binding import Bound
from edge_agent.inference.engine import find_runtime
from edge_agent.inference.feeder import Feeder
from edge_agent.inference.judge import Judge
from edge_agent.inference.tpu.process import Remote
from edge_agent.pipeline import Pipeline
from edge_agent.signal.abp_quality import PressureQuality
from edge_agent.signal.ecg_quality import EcgQuality
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.qrs import QrsDetector
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.signal.texture import EcgTexture
from edge_agent.sources import raw_blocks
from edge_agent.sources.lines import Decoder
from edge_agent.stamp import Stamp
from edge_agent.verdicts import VerdictLane


class Place(NamedTuple):
    """A method (or a module's function) and the stage that its own time belongs to. ``then``: its caller's stage after it."""

    owner: type | ModuleType
    method: str
    stage: str
    then: str | None = None


STAGES = (
    ("decode", "bytes to samples"),
    ("store", "ring buffer"),
    ("detect", "QRS and pressure detectors with their filters, one pass in the kernel"),
    ("quality", "what each channel is worth"),
    ("texture", "what an ECG lead's shape is like"),
    ("context", "RR intervals and their features"),
    ("resample", "cutting, resampling, normalising a window"),
    ("quantise", "to the model's integers, into its tensors"),
    ("invoke", "the runtime; of an Edge TPU the way to its process and back, too"),
    ("dequantise", "back to scores"),
    ("verdict", "label and thresholds"),
    ("rules", "rhythm and alarms"),
    ("message", "time, numbers and age of a message"),
    ("encode", "a message's bytes"),
    ("other", "the rest of the journey: order, heap, evidence"),
)


def places() -> Sequence[Place]:
    return (
        Place(Decoder, "decode", "decode"),
        Place(raw_blocks, "decode", "decode"),
        Place(Ring, "push", "store"),
        Place(QrsDetector, "feed", "detect"),
        Place(PressureDetector, "feed", "detect"),
        Place(EcgQuality, "feed", "quality"),
        Place(PressureQuality, "feed", "quality"),
        Place(EcgTexture, "feed", "texture"),
        Place(RrHistory, "beat", "context"),
        Place(Feeder, "at_beat", "context"),
        Place(Feeder, "cut", "resample"),
        Place(Bound, "run", "quantise"),
        Place(find_runtime()[1], "invoke", "invoke", then="dequantise"),
        Place(Remote, "invoke", "invoke", then="dequantise"),
        Place(Judge, "ask", "verdict"),
        Place(RhythmWatch, "beat", "rules"),
        Place(RhythmWatch, "tick", "rules"),
        Place(AlarmPanel, "step", "rules"),
        Place(SceneMaker, "scene", "rules"),
        Place(Stamp, "__call__", "message"),
        Place(Message, "payload", "encode"),
        Place(Pipeline, "feed", "other"),
        Place(VerdictLane, "take", "other"),
    )


class StageClock:
    """Times of one thread. ``taken``: nanoseconds by stage, a number for each lap, what was called within it not counted."""

    def __init__(self) -> None:
        self.taken: dict[str, list[int]] = {}
        self._lap: dict[str, int] = {}
        self._stack: list[list[Any]] = []  # stage, own time so far, running since
        self._thread = threading.get_ident()

    def enter(self, stage: str) -> None:
        now = time.perf_counter_ns()
        if self._stack:
            top = self._stack[-1]
            top[1] += now - top[2]
        self._stack.append([stage, 0, time.perf_counter_ns()])

    def leave(self, then: str | None = None) -> None:
        now = time.perf_counter_ns()
        stage, own, since = self._stack.pop()
        self._note(stage, own + now - since)
        if self._stack:
            top = self._stack[-1]
            if then is not None:
                self._note(top[0], top[1])
                top[0], top[1] = then, 0
            top[2] = time.perf_counter_ns()

    def _note(self, stage: str, ns: int) -> None:
        self._lap[stage] = self._lap.get(stage, 0) + ns

    def lap(self) -> None:
        """One window (or one block) is done."""
        for stage, ns in self._lap.items():
            self.taken.setdefault(stage, []).append(ns)
        self._lap.clear()

    def clear(self) -> None:
        self.taken.clear()
        self._lap.clear()

    def lapped(self, call: Callable[[Any], object]) -> Callable[[Any], None]:
        """Each call a lap."""

        def timed(argument: Any) -> None:
            call(argument)
            self.lap()

        return timed

    def totals(self) -> dict[str, int]:
        self.lap()
        return {stage: sum(taken) for stage, taken in self.taken.items()}

    def timed(self, function: Callable[..., Any], stage: str, then: str | None) -> Callable[..., Any]:
        @functools.wraps(function)
        def call(*args: Any, **named: Any) -> Any:
            if threading.get_ident() != self._thread:
                return function(*args, **named)
            self.enter(stage)
            try:
                return function(*args, **named)
            finally:
                self.leave(then)

        @functools.wraps(function)
        def generate(*args: Any, **named: Any) -> Iterator[Any]:
            items = function(*args, **named)
            while True:
                self.enter(stage)
                try:
                    item = next(items)
                except StopIteration:
                    return
                finally:
                    self.leave()
                yield item

        return generate if inspect.isgeneratorfunction(function) else call


@contextlib.contextmanager
def taken_apart(clock: StageClock) -> Iterator[StageClock]:
    """The journey's classes with timed methods. Engines that are opened within stay timed as long as they live."""
    before: list[tuple[type | ModuleType, str, Any]] = []
    try:
        for owner, method, stage, then in places():
            function = getattr(owner, method, None)
            if function is not None:
                before.append((owner, method, owner.__dict__.get(method)))
                setattr(owner, method, clock.timed(function, stage, then))
        yield clock
    finally:
        for owner, method, function in reversed(before):
            if function is None:
                delattr(owner, method)
            else:
                setattr(owner, method, function)


def missing() -> list[str]:
    """Places that are no longer where this file says."""
    return [f"{owner.__name__}.{method}" for owner, method, _, _ in places() if getattr(owner, method, None) is None]
