"""The daemon: many streams, one set of models, one broker; started, watched over, reloaded and stopped in order."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal, cast, get_args

from edge_agent import __version__, config, events
from edge_agent.config import Config
from edge_agent.errors import ArtifactError, ConfigError, EdgeAgentError, RequestError, SourceError
from edge_agent.inference.judge import Judge, LoadedModel, default_names, load_models, shipped_models
from edge_agent.inference.worker import InferenceWorker
from edge_agent.outputs.hub import Outputs
from edge_agent.outputs.metrics import Metrics
from edge_agent.pipeline import Pipeline
from edge_agent.runner import WAVEFORM_READER, StreamRunner
from edge_agent.service import notify, resident_mb
from edge_agent.sources.base import Source
from edge_agent.sources.open import open_source

log = logging.getLogger(__name__)

WAKE_S = 0.25
WAVEFORM_S = 1.0
LONGEST_MARK = 200
LONGEST_SILENCE_S = 3600
NEEDS_RESTART = (
    "device", "mqtt", "outbox", "jsonl", "recorder", "metrics", "home_assistant", "requests", "inference",
)  # fmt: skip
_ARGUMENTS = {"info": set(), "reload": set(), "mark": {"stream", "text"}, "silence": {"stream", "kind", "seconds"}}


def models_for(settings: Config) -> dict[str, LoadedModel]:
    """The models that the streams name, or all of the folder when a stream names none; a bad one is refused."""
    folder = settings.inference.models_dir or shipped_models()
    named = sorted({name for stream in settings.stream for name in stream.models or ()})
    if any(stream.models is None for stream in settings.stream):
        there = default_names(folder)
        if not there:
            raise ArtifactError(f"{folder}: holds no model", remedy="models = [] in a stream says that none is wanted")
        return load_models(folder, sorted({*named, *there}))
    return load_models(folder, named)


def open_sources(settings: Config) -> list[Source | None]:
    """Every source, or none at all: a start that fails leaves nothing half-started."""
    opened: list[Source | None] = []
    try:
        for stream in settings.stream:
            try:
                opened.append(open_source(stream))
            except SourceError as error:
                if not getattr(stream.source, "wait_for_port", False):
                    raise SourceError(f"stream {stream.name}: {error.what}", remedy=error.remedy) from None
                log.warning("stream %s: %s; waiting for it", stream.name, error.what)
                opened.append(None)
    except EdgeAgentError:
        for source in opened:
            if source is not None:
                source.close()
        raise
    return opened


class Daemon:
    def __init__(self, settings: Config, path: Path) -> None:
        """Load, verify and open everything; start nothing."""
        self._path = path
        self._settings = settings
        self._session = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(2)}"
        self._models = models_for(settings)
        self._outputs = Outputs(settings, self._answer)
        self._worker = InferenceWorker(self._outputs.event, settings.inference.queue_windows)
        judge = Judge(self._models)
        sources = open_sources(settings)
        recorder = self._outputs.recorder
        try:
            self._runners = [
                StreamRunner(
                    stream,
                    device=settings.device.id,
                    session=self._session,
                    judge=judge,
                    worker=self._worker,
                    publish=self._outputs.event,
                    say_available=self._say_available,
                    source=source,
                    record=recorder.block if recorder is not None else None,
                )
                for stream, source in zip(settings.stream, sources, strict=True)
            ]
        except BaseException:  # a detector that refuses a rate: a start that fails leaves nothing half-started
            for source in sources:
                if source is not None:
                    source.close()
            raise
        self._began = time.monotonic()
        self._metrics: Metrics | None = None
        self._stop = threading.Event()
        self._reload = threading.Event()

    def run(self) -> int:
        """Until a signal (0), or until every stream has come to its end: 1 if one of them did because its source is damaged."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        signal.signal(signal.SIGINT, lambda *_: self._stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        if self._settings.metrics is not None:
            self._metrics = Metrics(self._settings.metrics, self._health)
        self._outputs.start()
        self._say_info()
        self._worker.start()
        for runner in self._runners:
            runner.start()
        log.info(
            "running: %d streams, models %s, session %s",
            len(self._runners),
            ", ".join(self._models) or "none",
            self._session,
        )
        notify("READY=1", f"STATUS={len(self._runners)} streams, {len(self._models)} models")
        try:
            self._watch()
        finally:
            self._shut_down()
        return int(not self._stop.is_set() and any(runner.state == "failed" for runner in self._runners))

    def _watch(self) -> None:
        next_health = next_waveform = 0.0
        fed: dict[str, int] = {}
        while not self._stop.wait(WAKE_S):
            now = time.monotonic()
            if self._reload.is_set():
                self._reload.clear()
                self._reload_now()
            if now >= next_health:
                next_health = now + self._settings.health_s
                self._say_health()
            if now >= next_waveform:
                next_waveform = now + WAVEFORM_S
                self._say_waveforms()
            # Samples that went through show that a pipeline lives, and every online stream's must. An unplugged board is no
            # reason to be killed: its stream is not online.
            samples = {runner.config.name: runner.counters.samples for runner in self._runners}
            online = [runner.config.name for runner in self._runners if runner.state == "online"]
            if all(samples[name] != fed.get(name) for name in online):
                fed = samples
                notify("WATCHDOG=1")
            if all(runner.ended.is_set() for runner in self._runners):
                log.info("every stream has come to its end")
                return

    def _shut_down(self) -> None:
        """Sources first, then the windows that wait, then the broker is told. Bounded: 5 s in all."""
        notify("STOPPING=1")
        if self._metrics is not None:
            self._metrics.stop()
        for runner in self._runners:
            runner.stop()
        deadline = time.monotonic() + 1.0
        for runner in self._runners:
            runner.join(max(0.0, deadline - time.monotonic()))
        self._worker.stop(0.5)
        self._say_waveforms()
        for runner in self._runners:
            if not runner.ended.is_set():
                self._say_available(runner.config.name, "offline", "agent stopped")
        self._say_health()
        if not self._outputs.stop(1.5):
            log.warning("the broker did not acknowledge the goodbye; its will says offline")
        log.info("stopped")

    # -- reload --------------------------------------------------------------------------------------------------

    def _reload_now(self) -> None:
        """What can change while running does; what cannot is named. A bad file changes nothing."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            fresh = config.load(self._path)
        except ConfigError as error:
            log.error("reload refused, nothing changed: %s", error)
            notify("READY=1")
            return
        runners = {runner.config.name: runner for runner in self._runners}
        changed, needs_restart = [], []
        for stream in fresh.stream:
            runner = runners.get(stream.name)
            if runner is None:
                needs_restart.append(f"stream {stream.name} (new)")
                continue
            if stream.alarms != runner.config.alarms:
                runner.set_limits(stream)
                changed.append(f"{stream.name}.alarms")
            if stream.model_copy(update={"alarms": runner.config.alarms}) != runner.config:
                needs_restart.append(f"stream {stream.name}")
        needs_restart += [f"stream {name} (gone)" for name in runners.keys() - {stream.name for stream in fresh.stream}]
        needs_restart += [name for name in NEEDS_RESTART if getattr(fresh, name) != getattr(self._settings, name)]
        if fresh.health_s != self._settings.health_s:
            changed.append("health_s")
        self._settings = self._settings.model_copy(
            update={"health_s": fresh.health_s, "stream": [runner.config for runner in self._runners]}
        )
        log.info("reloaded: %s", ", ".join(changed) or "nothing changed")
        if needs_restart:
            log.warning("changed in the file, but only a restart takes them up: %s", ", ".join(needs_restart))
        self._say_info()
        notify("READY=1")

    # -- what is said about the daemon itself --------------------------------------------------------------------

    def _say_available(self, stream: str, state: str, reason: str) -> None:
        self._outputs.message(
            f"{stream}/availability",
            events.Availability(
                device=self._settings.device.id,
                stream=stream,
                state=cast(Literal["online", "offline"], state),
                reason=reason,
                time=datetime.now(UTC),
            ),
        )

    def _answer(self, kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """What a request over MQTT is answered; see outputs/requests.py."""
        unknown = set(arguments) - _ARGUMENTS[kind]
        if unknown:
            raise RequestError(f"unknown: {', '.join(sorted(map(repr, unknown))[:5])}")
        match kind:
            case "reload":
                self._reload.set()
                return {"reload": "begun; bridge/info follows"}
            case "mark":
                return self._mark(self._pipeline(arguments.get("stream")), arguments.get("text", ""))
            case "silence":
                pipeline = self._pipeline(arguments.get("stream"))
                return self._silence(pipeline, arguments.get("kind"), arguments.get("seconds"))
            case _:
                return self._info().model_dump(mode="json", by_alias=True)

    def _pipeline(self, stream: object) -> Pipeline:
        for runner in self._runners:
            if runner.config.name == stream and runner.pipeline is not None:
                return runner.pipeline
        there = ", ".join(runner.config.name for runner in self._runners)
        raise RequestError(f"stream: no such stream, or not open yet; there are: {there}")

    def _mark(self, pipeline: Pipeline, text: object) -> dict[str, Any]:
        if not isinstance(text, str) or len(text) > LONGEST_MARK or not text.isprintable():
            raise RequestError(f"text: at most {LONGEST_MARK} printable characters are wanted")
        mark = pipeline.mark(text)
        self._outputs.event(mark)
        return {"sample": mark.sample, "seq": mark.seq}

    @staticmethod
    def _silence(pipeline: Pipeline, kind: object, seconds: object) -> dict[str, Any]:
        kinds = get_args(events.AlarmKind)
        if kind not in kinds:
            raise RequestError(f"kind: one of {', '.join(kinds)} is wanted")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_SILENCE_S:
            raise RequestError(f"seconds: 0 to {LONGEST_SILENCE_S} are wanted; 0 ends a silence")
        return {"kind": kind, "until_sample": pipeline.silence(str(kind), seconds)}

    def _say_info(self) -> None:
        self._outputs.message("bridge/info", self._info())

    def _info(self) -> events.Info:
        models = [
            events.ModelInfo(
                name=name,
                version=model.artifact.manifest.version,
                digest=model.artifact.digest,
                backend=model.engine.backend,
                task=model.artifact.manifest.task,
            )
            for name, model in self._models.items()
        ]
        return events.Info(
            device=self._settings.device.id,
            session=self._session,
            version=__version__,
            models=models,
            config=self._settings.public(),
        )

    def _say_health(self) -> None:
        self._outputs.message("bridge/health", self._health())

    def _health(self) -> events.Health:
        worker = self._worker
        return events.Health(
            device=self._settings.device.id,
            session=self._session,
            time=datetime.now(UTC),
            uptime_s=time.monotonic() - self._began,
            resident_mb=resident_mb(),
            broker=self._outputs.broker_health(),
            inference={
                "taken": worker.counters.taken,
                "dropped": worker.counters.dropped,
                "faults": worker.counters.faults,
                "waiting": worker.waiting,
            },
            latency=self._outputs.latency.report(),
            streams={runner.config.name: runner.health() for runner in self._runners},
            jsonl=self._outputs.lines_health(),
            recorder=self._outputs.recorder_health(),
        )

    def _say_waveforms(self) -> None:
        for runner in self._runners:
            if runner.config.waveform and runner.pipeline is not None:
                event = runner.pipeline.waveform(WAVEFORM_READER)
                if event is not None:
                    self._outputs.event(event)
