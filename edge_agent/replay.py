"""A recording through the daemon's own pipeline, as fast as it goes or paced: for tests, benchmarks and science."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

from edge_agent import events
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.clock import RecordedClock
from edge_agent.config import StreamConfig
from edge_agent.errors import SourceBroken
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import by_default
from edge_agent.items import Tick
from edge_agent.journey import Block, Gap, Window
from edge_agent.outputs.annotations import AnnotationWriter
from edge_agent.pipeline import Pipeline
from edge_agent.progress import Progress
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.open import WFDB_ENDINGS, open_recording, record_name, with_kinds
from edge_agent.sources.paced import RecordingReader
from edge_agent.sources.recording import Recording
from edge_agent.sources.resampled import at_rate, blocks_at_rate
from edge_agent.stamp import REPLAYED, Stamp
from edge_agent.verdicts import VerdictLane

SESSION = "replay"
BLOCK_S = 1.0
ABSTAINED = "abstained"


class Written(Protocol):
    """What messages are written to."""

    def write(self, text: str, /) -> Any: ...


@dataclass(frozen=True, slots=True)
class Settings:
    """What a replay needs of a stream's configuration."""

    limits: AlarmLimits = field(default_factory=AlarmLimits)
    detector: str = "native"
    models: tuple[str, ...] | None = None
    """None: all that fit."""
    signals: dict[str, str] = field(default_factory=dict)
    device: str = "replay"
    resample: float | None = None

    @staticmethod
    def of(stream: StreamConfig, device: str) -> Settings:
        models = None if stream.models is None else tuple(stream.models)
        return Settings(stream.alarms, stream.detector, models, dict(stream.signals), device, stream.resample)


@dataclass(slots=True)
class Summary:
    """What a recording held."""

    name: str
    seconds: float
    wall_s: float
    beats: int = 0
    labels: dict[str, Counter[str]] = field(default_factory=dict)
    """Of each model; an abstention is under ABSTAINED."""
    alarms: Counter[str] = field(default_factory=Counter)
    broken: SourceBroken | None = None
    """Why it ended early: the rest is of what came before."""

    def see(self, event: events.Event) -> None:
        match event:
            case events.Beat():
                self.beats += 1
            case events.Verdict():
                self.labels.setdefault(event.model, Counter())[ABSTAINED if event.label is None else event.label] += 1
            case events.Alarm(state="raised"):
                self.alarms[event.kind] += 1


def one_lead(info: StreamInfo) -> StreamInfo:
    """Only the first ECG channel speaks; pressure and pleth stay."""
    first = next(iter(info.named("ecg")), None)
    signals = tuple(
        Signal(signal.name, "other", signal.unit) if signal.kind == "ecg" and signal.name != first else signal
        for signal in info.signals
    )
    return replace(info, signals=signals)


@dataclass(frozen=True, slots=True)
class Journey:
    """A stream's pipeline and its verdict lane, inline: what the daemon does with its threads, one step after the other."""

    pipeline: Pipeline
    lane: VerdictLane

    def feed(self, block: Block) -> Iterator[events.Event]:
        return self._through(self.pipeline.feed(block, REPLAYED))

    def flush(self) -> Iterator[events.Event]:
        return self._through(self.pipeline.flush())

    def _through(self, items: Iterator[events.Event | Window | Tick | Gap]) -> Iterator[events.Event]:
        for item in items:
            if isinstance(item, events.Event):
                yield item
            else:
                yield from self.lane.take(item, REPLAYED)


def journey(info: StreamInfo, judge: Judge, settings: Settings, stream: str) -> Journey:
    """The whole of it, ready to be fed."""
    clock = RecordedClock(info.fs, info.began)
    stamp = Stamp(device=settings.device, stream=stream, session=SESSION, fs=info.fs, clock=clock, delay_s=info.delay_s)
    wanted = (
        by_default(judge.models) if settings.models is None else {name: judge.models[name] for name in settings.models}
    )
    manifests = [model.artifact.manifest for model in wanted.values()]
    pipeline = Pipeline(info, models=manifests, limits=settings.limits, detector=settings.detector, stamp=stamp)
    lane = VerdictLane(
        fs=info.fs,
        ask=judge.ask,
        tasks={manifest.name: manifest.task for manifest in manifests},
        limits=settings.limits,
        stamp=stamp,
        channels=tuple(info.named("ecg")),
    )
    return Journey(pipeline, lane)


def run_blocks(
    info: StreamInfo, blocks: Iterator[Block], judge: Judge, settings: Settings, stream: str
) -> Iterator[events.Event]:
    going = journey(info, judge, settings, stream)
    for block in blocks:
        yield from going.feed(block)
    yield from going.flush()


def open_for_replay(
    path: Path, settings: Settings, *, fs: float | None, all_leads: bool
) -> tuple[Recording, StreamInfo]:
    recording = open_recording(path, fs=fs)
    info = recording.info if settings.resample is None else at_rate(recording.info, settings.resample)
    info = with_kinds(info, settings.signals, str(path))
    if not all_leads:
        info = one_lead(info)
    return recording, info


def replay(
    path: Path,
    judge: Judge,
    settings: Settings,
    *,
    fs: float | None = None,
    all_leads: bool = False,
    speed: float | None = None,
    events_file: Written | None = None,
    annotations: Path | None = None,
    on_event: Callable[[events.Event], Any] | None = None,
    show_progress: bool | None = None,
    partly: bool = False,
) -> Summary:
    """Replay one recording; ``speed`` None is as fast as it goes; ``partly``: of one that is cut off what there is, no error."""
    recording, info = open_for_replay(path, settings, fs=fs, all_leads=all_leads)
    stream = stream_name(path)
    writer = AnnotationWriter(info.named("ecg")) if annotations is not None else None
    seconds = (info.samples or 0) / info.fs
    progress = Progress(path.name, seconds, enabled=show_progress)
    summary = Summary(path.name, seconds, 0.0)
    began = time.monotonic()
    try:
        blocks = _paced(recording, recording.info, speed, progress, began)
        if info.fs != recording.info.fs:
            blocks = blocks_at_rate(recording.info, blocks, info.fs)
        for event in run_blocks(info, _until_broken(blocks, summary), judge, settings, stream):
            summary.see(event)
            if on_event is not None:
                on_event(event)
            if events_file is not None:
                events_file.write(event.payload().decode() + "\n")
            if writer is not None:
                writer.event(event)
        summary.wall_s = time.monotonic() - began
        if writer is not None and annotations is not None:
            writer.write(record_name(path), info.fs, annotations)
        if summary.broken is not None and not partly:
            raise summary.broken
    finally:
        progress.close()
        recording.close()
    return summary


def _paced(
    recording: Recording, info: StreamInfo, speed: float | None, progress: Progress, began: float
) -> Iterator[Block]:
    reader = RecordingReader(recording)
    while (block := reader.read(max(1, round(BLOCK_S * info.fs)))) is not None:
        done = block.end / info.fs
        if speed is not None:
            time.sleep(max(0.0, began + done / speed - time.monotonic()))
        yield block
        progress.step(done, f"{done / max(1e-6, time.monotonic() - began):6.0f}x")


def _until_broken(blocks: Iterator[Block], summary: Summary) -> Iterator[Block]:
    """What comes before the damage is worth having: its messages, its annotations and its line."""
    end_s = 0.0
    try:
        for block in blocks:
            yield block
            end_s = block.end / block.fs
    except SourceBroken as error:
        summary.broken, summary.seconds = error, end_s


def distinct(records: Sequence[Path]) -> list[Path]:
    """Each recording once: ``100.hea 100.dat 100.atr`` are one record (``mitdb/100.*`` names them all)."""
    seen: dict[Path, Path] = {}
    for path in records:
        whole = path.with_suffix("") if path.suffix.lower() in WFDB_ENDINGS else path
        seen.setdefault(whole.resolve(), path)
    return list(seen.values())


def stream_name(path: Path) -> str:
    """The recording's name as a topic part."""
    name = path.name.removesuffix(".hea")
    return "".join("-" if char in "+#/" else char for char in name).lstrip("$") or "record"
