"""A model that never answers delays no alarm that needs none; a source that goes takes its alarms with it. In the
real runner, on real threads."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent import config, events
from edge_agent.errors import SourceLost
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.journey import Block, Verdict, Window
from edge_agent.outputs.hub import Outputs
from edge_agent.runner import StreamRunner
from edge_agent.sources.base import Counts, Signal, Source, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.worker import InferenceWorker
from tests.spine import wait_for

FS = 250.0
CHANNELS = ("II", "V", "ABP")
INFO = StreamInfo(FS, (Signal("II", "ecg", "mV"), Signal("V", "ecg", "mV"), Signal("ABP", "abp", "mmHg")))
SPEED = 10.0
SCRIPT = Script(
    (Episode("sinus", 25), Episode("standstill", 12, "asystole"), Episode("sinus", 10), Episode("chaos", 14, "vf"))
)


class Bed:
    """A simulated patient paced at SPEED; afterwards the source is lost, or waits."""

    resumes, waits_for, speed = False, "", SPEED

    def __init__(self, *, lost_at_s: float = 1e9, script: Script = SCRIPT) -> None:
        self.info = INFO
        self._patient = SimulatedPatient(FS, CHANNELS, script, seed=3)
        self._lost_at_s = lost_at_s

    def blocks(self, stop: threading.Event) -> Iterator[Block]:
        began = time.monotonic()
        while (block := self._patient.read(50)) is not None and not stop.is_set():
            if block.first >= self._lost_at_s * FS:
                raise SourceLost("unplugged")
            stop.wait(max(0.0, began + block.end / FS / SPEED - time.monotonic()))
            yield Block(block.first, FS, block.values, arrived_ns=time.monotonic_ns())
        stop.wait(60)

    def counters(self) -> Counts:
        return {}

    def close(self) -> None:
        pass


class Sleeper(Judge):
    """A model, or the device under it, that has gone to sleep for ever."""

    def __init__(self) -> None:
        super().__init__(load_models(shipped_models(), ["ecg-beat-aami", "ecg-af-rr"]))
        self.asked, self.wake = threading.Event(), threading.Event()

    def ask(self, window: Window) -> Verdict:  # noqa: ARG002
        self.asked.set()
        self.wake.wait()
        raise RuntimeError("woken at the end of the test")


def runner_of(
    source: Source,
    judge: Judge,
    said: list[events.Event],
    publish: Callable[[events.Event], None] | None = None,
    record: Callable[[str, StreamInfo, Block], None] | None = None,
) -> tuple[StreamRunner, InferenceWorker]:
    publish = said.append if publish is None else publish
    stream = config.StreamConfig.model_validate({"name": "bed", "source": {"type": "simulated"}})
    worker = InferenceWorker(publish, 64)
    worker.start()
    runner = StreamRunner(
        stream, device="d", session="s", judge=judge, worker=worker, publish=publish,
        say_available=lambda *_: None, source=source, record=record,
    )  # fmt: skip
    return runner, worker


def raised(said: list[events.Event]) -> dict[str, events.Alarm]:
    return {one.kind: one for one in list(said) if isinstance(one, events.Alarm) and one.state == "raised"}


def test_a_model_that_sleeps_for_ever_delays_no_alarm_that_needs_none() -> None:
    judge, said = Sleeper(), list[events.Event]()
    runner, worker = runner_of(Bed(), judge, said)
    try:
        runner.start()
        wait_for(lambda: "ventricular_fibrillation" in raised(said), "the alarm of the fibrillation")
        assert judge.asked.is_set()
        assert not [one for one in said if isinstance(one, events.Verdict)]
        alarms = raised(said)
        for kind, met_s in (("asystole", 25 + 4), ("ventricular_fibrillation", 47 + 4)):
            alarm = alarms[kind]
            assert alarm.known / FS < met_s + 5
            assert alarm.delay_ms < 5000
            # On its way for no longer than the samples themselves: what waits for the model is another queue.
            assert alarm.latency.queue_ms is not None
            assert alarm.latency.compute_ms is not None
            assert alarm.latency.queue_ms + alarm.latency.compute_ms < 2000
        assert worker.waiting <= 64
    finally:
        judge.wake.set()
        runner.stop()
        runner.join(5)
        worker.stop()


@pytest.mark.parametrize(
    ("script", "kind", "due_s"),
    [
        (Script((Episode("sinus", 5), Episode("uneven", 75, "af", 95))), "atrial_fibrillation", 5 + 50),
        (Script((Episode("sinus", 45), Episode("fast", 12, "vt", 160))), "ventricular_tachycardia", 45 + 3),
    ],
    ids=["atrial fibrillation", "ventricular tachycardia"],
)
def test_while_a_model_sleeps_what_it_would_have_said_is_said_without_it(
    monkeypatch: pytest.MonkeyPatch, script: Script, kind: str, due_s: float
) -> None:
    """From the intervals' entropy and the beats' shapes alone."""
    monkeypatch.setattr("edge_agent.worker.STUCK_S", 0.5)  # 5 s of a stream at this speed
    judge, said = Sleeper(), list[events.Event]()
    runner, worker = runner_of(Bed(script=script), judge, said)
    try:
        runner.start()
        wait_for(lambda: kind in raised(said), f"the {kind}")
        assert not [one for one in said if isinstance(one, events.Verdict)]
        alarm = raised(said)[kind]
        assert alarm.known / FS < due_s + 10
        assert "-instead-" in alarm.id
    finally:
        judge.wake.set()
        runner.stop()
        runner.join(5)
        worker.stop()


class Heard:
    """What a subscriber at this very process hears, and when."""

    def __init__(self, said: list[events.Event]) -> None:
        self.feed, self._said = self, said

    def event(self, event: events.Event) -> None:
        self._said.append(event)

    def message(self, message: events.Message) -> None:
        pass

    def linked(self, event: events.Event) -> events.Event:
        return event


def refuse(*_: object) -> dict[str, object]:
    raise AssertionError


def test_a_full_disk_delays_no_alarm(tiny_disk: Path) -> None:
    """Journal, recordings and outbox all lie on it, and none of them can write a byte."""
    with contextlib.suppress(OSError), (tiny_disk / "ballast").open("wb", buffering=0) as ballast:
        while True:
            ballast.write(b"x" * 4096)
    settings = config.Config.model_validate(
        {
            "stream": [{"name": "bed", "source": {"type": "simulated"}}],
            "outbox": {"folder": str(tiny_disk / "box")},
            "recorder": {"folder": str(tiny_disk / "recordings")},
            "jsonl": {"path": str(tiny_disk / "events.jsonl")},
        }
    )
    outputs, said = Outputs(settings, refuse), list[events.Event]()
    outputs.page = Heard(said)
    assert outputs.recorder is not None
    took_s: list[float] = []

    def publish(event: events.Event) -> None:
        began = time.monotonic()
        outputs.event(event)
        if isinstance(event, events.Alarm):
            took_s.append(time.monotonic() - began)

    runner, worker = runner_of(Bed(), Judge({}), said, publish, outputs.recorder.block)
    try:
        outputs.start()
        runner.start()
        wait_for(lambda: "ventricular_fibrillation" in raised(said), "the alarm of the fibrillation")
        alarms = raised(said)
        for kind, met_s in (("asystole", 25 + 4), ("ventricular_fibrillation", 47 + 4)):
            assert alarms[kind].known / FS < met_s + 5
            waited_ms = alarms[kind].latency.queue_ms
            assert waited_ms is not None
            assert waited_ms < 2000
        assert max(took_s) < 1.0
        lines = outputs.lines_health()
        assert lines is not None
        assert lines.dropped > 0  # it was full indeed
    finally:
        runner.stop()
        runner.join(5)
        worker.stop()
        outputs.stop(2.0)


def test_the_alarms_of_a_source_that_has_gone_clear_by_the_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing comes any more, and nothing can be opened again."""

    def gone(_stream: config.StreamConfig) -> Source:
        raise SourceLost("no such port")

    monkeypatch.setattr("edge_agent.runner.open_source", gone)
    said: list[events.Event] = []
    runner, worker = runner_of(Bed(lost_at_s=33.0), Judge({}), said)
    try:
        runner.start()
        wait_for(lambda: "asystole" in raised(said), "the asystole")

        def of(kind: str) -> list[str]:
            return [one.state for one in list(said) if isinstance(one, events.Alarm) and one.kind == kind]

        wait_for(lambda: "cleared" in of("asystole"), "the asystole's end")
        wait_for(lambda: "raised" in of("signal_lost"), "the alarm of the lost signal")
        assert runner.state == "offline"
        lost = raised(said)["signal_lost"]
        assert lost.known == pytest.approx(33.0 * FS + 5 * FS, abs=0.3 * FS)
    finally:
        runner.stop()
        runner.join(5)
        worker.stop()
