"""The daemon: many streams, one set of models, one broker; started, watched over, reloaded and stopped in order."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, cast

from edge_agent import __version__, config, events
from edge_agent.config import Config
from edge_agent.errors import ArtifactError, ConfigError, EdgeAgentError, SourceError
from edge_agent.inference.judge import Judge, LoadedModel, load_models, model_names, shipped_models
from edge_agent.inference.worker import InferenceWorker
from edge_agent.outputs.mqtt import MqttPublisher
from edge_agent.runner import WAVEFORM_READER, StreamRunner
from edge_agent.service import notify, resident_mb
from edge_agent.sources.base import Source
from edge_agent.sources.open import open_source

log = logging.getLogger(__name__)

WAKE_S = 0.25
WAVEFORM_S = 1.0


def models_for(settings: Config) -> dict[str, LoadedModel]:
    """The models that the streams name, or all of the folder when a stream names none; a bad one is refused."""
    folder = settings.inference.models_dir or shipped_models()
    named = sorted({name for stream in settings.stream for name in stream.models or ()})
    if any(stream.models is None for stream in settings.stream):
        there = model_names(folder)
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
        self._publisher = MqttPublisher(settings.mqtt, settings.device.id)
        self._worker = InferenceWorker(self._publisher.event, settings.inference.queue_windows)
        judge = Judge(self._models)
        self._runners = [
            StreamRunner(
                stream,
                device=settings.device.id,
                session=self._session,
                judge=judge,
                worker=self._worker,
                publish=self._publisher.event,
                say_available=self._say_available,
                source=source,
            )
            for stream, source in zip(settings.stream, open_sources(settings), strict=True)
        ]
        self._began = time.monotonic()
        self._stop = threading.Event()
        self._reload = threading.Event()

    def run(self) -> int:
        """Until a signal, or until every stream has come to its end."""
        signal.signal(signal.SIGTERM, lambda *_: self._stop.set())
        signal.signal(signal.SIGINT, lambda *_: self._stop.set())
        signal.signal(signal.SIGHUP, lambda *_: self._reload.set())
        self._publisher.start()
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
        return 0

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
        if not self._publisher.stop(1.5):
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
        needs_restart += [
            name for name in ("device", "mqtt", "inference") if getattr(fresh, name) != getattr(self._settings, name)
        ]
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
        self._publisher.message(
            f"{stream}/availability",
            events.Availability(
                device=self._settings.device.id,
                stream=stream,
                state=cast(Literal["online", "offline"], state),
                reason=reason,
                time=datetime.now(UTC),
            ),
        )

    def _say_info(self) -> None:
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
        self._publisher.message(
            "bridge/info",
            events.Info(
                device=self._settings.device.id,
                session=self._session,
                version=__version__,
                models=models,
                config=self._settings.public(),
            ),
        )

    def _say_health(self) -> None:
        publisher, worker = self._publisher, self._worker
        self._publisher.message(
            "bridge/health",
            events.Health(
                device=self._settings.device.id,
                session=self._session,
                time=datetime.now(UTC),
                uptime_s=time.monotonic() - self._began,
                resident_mb=resident_mb(),
                broker={
                    "connected": publisher.connected,
                    "connects": publisher.counters.connects,
                    "published": publisher.counters.published,
                    "dropped": publisher.counters.dropped,
                    "waiting": publisher.waiting,
                },
                inference={
                    "taken": worker.counters.taken,
                    "dropped": worker.counters.dropped,
                    "faults": worker.counters.faults,
                    "waiting": worker.waiting,
                },
                streams={runner.config.name: runner.health() for runner in self._runners},
            ),
        )

    def _say_waveforms(self) -> None:
        for runner in self._runners:
            if runner.config.waveform and runner.pipeline is not None:
                event = runner.pipeline.waveform(WAVEFORM_READER)
                if event is not None:
                    self._publisher.event(event)
