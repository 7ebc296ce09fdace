"""The daemon: many streams, one set of models, one broker; started, watched over, reloaded and stopped in order."""

from __future__ import annotations

import logging
import secrets
import signal
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Literal, cast

from edge_agent import __version__, config, events
from edge_agent.answers import Answers
from edge_agent.config import Config
from edge_agent.errors import ConfigError, EdgeAgentError, SourceError
from edge_agent.inference.installed.live import LiveModels
from edge_agent.outputs.hub import Outputs
from edge_agent.outputs.metrics import Metrics
from edge_agent.process import signals
from edge_agent.process.collecting import Searches
from edge_agent.process.life import Life, ModelsNow, StreamNow, in_words
from edge_agent.process.memory import resident_mb
from edge_agent.process.systemd import notify
from edge_agent.reloading import take_up
from edge_agent.runner import WAVEFORM_READER, StreamRunner
from edge_agent.sources.base import Source
from edge_agent.sources.open import open_source
from edge_agent.worker import InferenceWorker

if TYPE_CHECKING:
    from edge_agent.review.in_daemon import DaemonPage

log = logging.getLogger(__name__)

WAKE_S = 0.25
WAVEFORM_S = 1.0


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
        named = [stream.models for stream in settings.stream]
        self._models = LiveModels(settings.inference, named, say_engine=self._engine_changed)
        try:
            self._open(settings)
        except BaseException:
            self._models.pause()  # a start that fails for another reason is no mark against a model on trial
            raise

    def _open(self, settings: Config) -> None:
        self._outputs = Outputs(settings, lambda kind, arguments: self._answers(kind, arguments))
        self._worker = InferenceWorker(self._outputs.event, settings.inference.queue_windows)
        sources = open_sources(settings)
        recorder = self._outputs.recorder
        try:
            self._runners = [
                StreamRunner(
                    stream,
                    device=settings.device.id,
                    session=self._session,
                    judge=self._models.judge,
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
        self._announce()
        self._reload = threading.Event()
        self._answers = Answers(
            self._runners, self._models, self._outputs.event, reload=self._reload.set, info=self._info
        )
        self._began = time.monotonic()
        self._metrics: Metrics | None = None
        self._page = self._open_page(settings)
        self._stop = threading.Event()
        self._life = Life()
        self._searches = Searches(resident_mb)
        self._fed_at = self._began
        self._status = ""

    def _open_page(self, settings: Config) -> DaemonPage | None:
        if not settings.review.enabled:
            return None
        from edge_agent.review.in_daemon import DaemonPage

        page = DaemonPage(
            settings,
            lambda: {one.config.name: (one.state, one.pipeline) for one in self._runners},
            lambda: self._outputs.mqtt.connected,
        )
        self._outputs.page = page
        return page

    def run(self) -> int:
        """Until a signal (0), or until every stream has come to its end: 1 if one of them did because its source is damaged."""
        signals.answer({signal.SIGTERM: self._stop.set, signal.SIGINT: self._stop.set, signal.SIGHUP: self._reload.set})
        if self._settings.metrics is not None:
            self._metrics = Metrics(self._settings.metrics, self._health)
        self._outputs.start()
        self._say_info()
        self._worker.start()
        self._say_engine()
        self._models.engines.start()
        self._searches.begin(time.monotonic())
        for runner in self._runners:
            runner.start()
        if self._page is not None:
            self._page.start()
        log.info(
            "running: %d streams, models %s, session %s",
            len(self._runners),
            ", ".join(self._models.names) or "none",
            self._session,
        )
        self._fed_at = time.monotonic()
        self._tell_systemd(self._fed_at, "READY=1")
        try:
            self._watch()
        finally:
            self._shut_down()
        return int(not self._stop.is_set() and any(runner.state == "failed" for runner in self._runners))

    def _watch(self) -> None:
        next_health = next_waveform = 0.0
        while not self._stop.wait(WAKE_S):
            now = time.monotonic()
            if self._reload.is_set():
                self._reload.clear()
                self._reload_now()
            if self._models.look_at_trials():
                self._models_changed()
            self._tell_pipelines()  # those, too, whose source came later
            self._announce()
            if now >= next_health:
                next_health = now + self._settings.health_s
                self._say_health()
            if now >= next_waveform:
                next_waveform = now + WAVEFORM_S
                self._say_waveforms()
            self._tell_systemd(now)
            if self._searches.look(now):
                log.debug("searched for garbage for %.0f ms", self._searches.taken_s * 1000)
            if all(runner.ended.is_set() for runner in self._runners):
                log.info("every stream has come to its end")
                return

    def _tell_systemd(self, now: float, *lines: str) -> None:
        """That it lives, if it does, and how it is, if that has changed; see process/life.py."""
        streams = {
            runner.config.name: StreamNow(runner.state, runner.counters.samples, runner.reason)
            for runner in self._runners
        }
        tell = [*lines]
        if self._life.advances(streams, ModelsNow(self._worker.counters.taken, self._worker.waiting)):
            self._fed_at = now
            tell.append("WATCHDOG=1")
        broker = "there" if self._outputs.mqtt.connected else "away"
        status = in_words(streams, self._models.names, broker=broker, stuck_s=now - self._fed_at)
        if status != self._status:
            self._status = status
            tell.append(f"STATUS={status}")
        if tell:
            notify(*tell)

    def _shut_down(self) -> None:
        """Sources first, then the windows that wait, then the broker is told. Bounded: 5 s in all."""
        notify("STOPPING=1", "STATUS=stopping")
        if self._metrics is not None:
            self._metrics.stop()
        if self._page is not None:
            self._page.stop()
        for runner in self._runners:
            runner.stop()
        deadline = time.monotonic() + 1.0
        for runner in self._runners:
            runner.join(max(0.0, deadline - time.monotonic()))
        self._worker.stop(0.5)
        self._models.engines.stop(0.5)
        self._models.pause()
        self._say_waveforms()
        for runner in self._runners:
            if not runner.ended.is_set():
                self._say_available(runner.config.name, "offline", "agent stopped")
        self._say_health()
        if not self._outputs.stop(1.5):
            log.warning("the broker did not acknowledge the goodbye; its will says offline")
        log.info("stopped")

    def _models_changed(self) -> None:
        for runner in self._runners:
            runner.models_changed()
        self._say_info()

    def _reload_now(self) -> None:
        """A bad file changes nothing."""
        notify("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")
        try:
            fresh = config.load(self._path)
        except ConfigError as error:
            log.error("reload refused, nothing changed: %s", error)
            notify("READY=1")
            return
        done = take_up(fresh, self._settings, self._runners, self._models)
        self._settings = done.settings
        log.info("reloaded: %s", ", ".join(done.changed) or "nothing changed")
        if done.needs_restart:
            log.warning("changed in the file, but only a restart takes them up: %s", ", ".join(done.needs_restart))
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

    def _announce(self) -> None:
        if self._settings.home_assistant.enabled:  # asked four times a second, of every stream
            self._outputs.announce({runner.config.name: runner.kinds for runner in self._runners})

    def _engine_changed(self) -> None:
        """From a TPU's own thread."""
        self._tell_pipelines()
        self._say_engine()
        self._say_info()

    def _tell_pipelines(self) -> None:
        degraded = self._models.engines.degraded
        for runner in self._runners:
            if runner.pipeline is not None:
                runner.pipeline.engine_degraded = degraded

    def _say_engine(self) -> None:
        self._outputs.message("bridge/engine", self._models.engines.message(self._settings.device.id, self._session))

    def _say_info(self) -> None:
        self._outputs.message("bridge/info", self._info())

    def _info(self) -> events.Info:
        return events.Info(
            device=self._settings.device.id,
            session=self._session,
            version=__version__,
            models=self._models.info(),
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
                "stuck_s": int(worker.stuck_s),
                **self._models.engines.health(),
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
