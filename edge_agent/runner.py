"""One live stream: its source opened, its blocks sent on their journey, its faults said and survived."""

from __future__ import annotations

import logging
import math
import random
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from edge_agent import events
from edge_agent.clock import LiveClock, RecordedClock
from edge_agent.config import AlarmLimits, FileSource, SimulatedSource, StreamConfig
from edge_agent.errors import EdgeAgentError, SourceBroken, SourceError, SourceLost
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import by_default
from edge_agent.inference.manifest import Manifest
from edge_agent.items import Tick
from edge_agent.journey import Block, Gap, Window
from edge_agent.pipeline import Pipeline
from edge_agent.sources.asked import STEP_S, Asked
from edge_agent.sources.base import ENDS, Counts, Source, StreamInfo
from edge_agent.sources.open import info_unopened, open_source
from edge_agent.stamp import Moment, Stamp
from edge_agent.verdicts import VerdictLane
from edge_agent.worker import InferenceWorker

log = logging.getLogger(__name__)

RATE_IS_OFF = 0.1
"""Of the rate that was said: more is no crystal, but a wrong setting."""
BACKOFF_S = (0.5, 30.0)
AWAY_MARGIN_S = 2.0
"""Of the time that a source has been away so much is not given to the alarms yet: it may come back with what it held."""
LISTENS_S = 0.2
"""Before a source that never stopped listening is asked again."""
MOST_WINDOWS_WAITING = 64
"""An unpaced recording lets the models catch up at so many: it must not be judged by what a queue could hold."""
WAVEFORM_READER = "waveform"


@dataclass(slots=True)
class Counters:
    samples: int = 0
    lost: int = 0
    restarts: int = 0


class StreamRunner:
    """Owns one stream's thread. A fault in here stops this stream only, and it starts again by itself."""

    def __init__(
        self,
        config: StreamConfig,
        *,
        device: str,
        session: str,
        judge: Judge,
        worker: InferenceWorker,
        publish: Callable[[events.Event], None],
        say_available: Callable[[str, str, str], None],
        source: Source | None,
        record: Callable[[str, StreamInfo, Block], None] | None = None,
    ) -> None:
        """``source``: already open, or None if it is not there yet and shall be waited for."""
        self.config = config
        self.configured = config.alarms
        """The limits of the file; ``config`` has those that hold."""
        self.counters = Counters()
        self.state = "starting"
        self.pipeline: Pipeline | None = None
        self.lane: VerdictLane | None = None
        self.clock: LiveClock | RecordedClock | None = None
        self.fs: float | None = None
        self.ended = threading.Event()
        """The source came to its end by itself (a recording, a script), or is damaged for good (``state`` is failed)."""
        self._device, self._session = device, session
        self._judge, self._worker = judge, worker
        self._publish, self._say_available = publish, say_available
        self._record = record
        self._source = source
        self._stop = threading.Event()
        self._other_models = threading.Event()
        self._tasks: dict[str, str] = {}  # of the models that are fed, by name
        self._began_ns = 0  # monotonic time
        self._fed_ns = 0  # monotonic time of the last samples that came
        self._fed_end = 0  # index after them
        self._rate = 0.0  # samples a second of the wall's clock; 0 where that clock says nothing
        self._counted: Counts = {}  # by sources that are closed
        self._counting = threading.Lock()
        self._why = self._since = ""  # offline
        self._rate_seen = False
        self._thread = threading.Thread(target=self._run, name=f"stream-{config.name}", daemon=True)
        if source is not None:
            try:
                self._prepare(source)
            except BaseException:
                self._close()  # a port or a socket must not stay open behind a start that was refused
                raise
        else:
            self._prepare_unopened()

    @property
    def reason(self) -> str:
        """Why it is not online, for people; empty while it is."""
        return self._why if self.state == "offline" else ""

    @property
    def kinds(self) -> frozenset[str] | None:
        """Of the channels that there are; None while the source was never open."""
        pipeline = self.pipeline
        return None if pipeline is None else frozenset(signal.kind for signal in pipeline.info.signals)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, timeout_s: float) -> None:
        if self._thread.is_alive():
            self._thread.join(timeout_s)

    def set_limits(self, limits: AlarmLimits) -> None:
        """New alarm limits, from now on."""
        self.config = self.config.model_copy(update={"alarms": limits})
        if self.pipeline is not None and self.lane is not None:
            self.pipeline.limits = limits
            self.lane.limits = limits

    def models_changed(self) -> None:
        """The judge has others; they are fed from the next block on."""
        self._other_models.set()

    def _wanted(self) -> list[Manifest]:
        models = self._judge.models
        wanted = (
            by_default(models)
            if self.config.models is None
            else {name: models[name] for name in self.config.models if name in models}
        )
        return [model.artifact.manifest for model in wanted.values()]

    def _take_up_models(self) -> None:
        """Between two blocks, in the stream's own thread."""
        self._other_models.clear()
        pipeline, lane = self.pipeline, self.lane
        assert pipeline is not None
        assert lane is not None
        manifests = self._wanted()
        tasks: dict[str, str] = {manifest.name: manifest.task for manifest in manifests}
        if any(tasks.get(name) != task for name, task in self._tasks.items()):
            lane.missed = True  # what a model that has gone said last must not stand for ever
        lane.tasks = {**lane.tasks, **tasks}  # windows of one that has gone may still wait
        self._tasks = tasks
        pipeline.use(manifests)

    def _prepare_unopened(self) -> None:
        """Where the settings say what will come, time passes from the start, and that nothing comes is an alarm like any other."""
        try:
            info = info_unopened(self.config)
            if info is not None:
                self._make(info, 1.0)
        except EdgeAgentError:  # said when it is opened
            self.pipeline = None

    def _prepare(self, source: Source) -> None:
        """Everything that needs to know the source's channels and rate. Once: a source that comes back must be the same."""
        self._make(source.info, source.speed)

    def _make(self, info: StreamInfo, speed: float) -> None:
        self.fs = info.fs
        self._rate = 0.0 if math.isinf(speed) else info.fs * speed
        if math.isinf(speed):  # not paced: arrivals say nothing, only the recording knows its times
            self.clock = RecordedClock(info.fs, info.began)
        else:
            self.clock = LiveClock(info.fs, speed, info.delay_s)
        stamp = Stamp(
            device=self._device,
            stream=self.config.name,
            session=self._session,
            fs=info.fs,
            clock=self.clock,
            delay_s=info.delay_s,
        )
        manifests = self._wanted()
        self._tasks = {manifest.name: manifest.task for manifest in manifests}
        self.pipeline = Pipeline(
            info, models=manifests, limits=self.config.alarms, detector=self.config.detector, stamp=stamp
        )
        if self.config.waveform:
            self.pipeline.ring.reader(WAVEFORM_READER)  # from the first sample on
        self.lane = VerdictLane(
            fs=info.fs,
            ask=self._judge.ask,
            tasks=self._tasks,
            limits=self.config.alarms,
            stamp=stamp,
            channels=tuple(info.named("ecg")),
            controls=self.pipeline.controls,
        )

    # -- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._began_ns = time.monotonic_ns()
        try:
            self._supervise()
        finally:
            self._close()  # whatever ended it: a board is told to stop, a file is closed

    def _supervise(self) -> None:
        wait_s = BACKOFF_S[0]
        reason = "started"
        while not self._stop.is_set():
            before = self.counters.samples
            resumes = False
            try:
                if self._source is None:
                    self._source = open_source(self.config)
                    self._same_as_before(self._source)
                self._travel(self._source, reason)
                if not self._stop.is_set():
                    self._finished()
                return
            except SourceBroken as error:
                self._failed(str(error))
                return
            except SourceError as error:
                reason = error.what
                resumes = isinstance(error, SourceLost) and self._source is not None and self._source.resumes
            except EdgeAgentError as error:
                reason = str(error)
            except Exception as error:  # a fault of ours must stop this stream only, and be seen
                log.exception("stream %s: unexpected fault", self.config.name)
                reason = f"unexpected fault: {type(error).__name__}: {error}"
            if self.counters.samples > before:
                wait_s = BACKOFF_S[0]
            if not resumes:
                self._close()
            self._offline(reason)
            if self._wait_away(LISTENS_S if resumes else wait_s * random.uniform(0.8, 1.2)):
                return
            if not resumes:
                wait_s = min(BACKOFF_S[1], wait_s * 2)
            self.counters.restarts += 1

    def _wait_away(self, seconds: float) -> bool:
        """True if it was told to stop. Time passes for the alarms, too: none may stand for ever on a source that has gone."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self._time_passes()
            if self._stop.wait(min(left, STEP_S)):
                return True
        self._time_passes()
        return self._stop.is_set()

    def _time_passes(self) -> None:
        pipeline, clock = self.pipeline, self.clock
        if pipeline is None or clock is None or not self._rate:
            return
        moment = Moment(time.monotonic_ns(), time.monotonic_ns())
        away_s = (moment.arrived_ns - (self._fed_ns or self._began_ns)) / 1e9 - AWAY_MARGIN_S
        until = self._fed_end + round(away_s * self._rate)
        if not self._fed_ns and not pipeline.ring.end:
            paces_itself = isinstance(self.config.source, FileSource | SimulatedSource)
            if paces_itself or until < self.config.alarms.signal_lost_s * pipeline.fs:
                return  # it is only starting: its first sample will be number 0
            clock.arrived(0, self._began_ns)
        if until > pipeline.ring.end:
            self._send(pipeline.absent(until, moment), moment)

    def _same_as_before(self, source: Source) -> None:
        if self.pipeline is None:
            self._prepare(source)
            return
        if source.info.fs != self.pipeline.fs or source.info.signals != self.pipeline.info.signals:
            raise SourceError("came back with other channels or another rate", remedy="restart the agent")

    def _travel(self, source: Source, reason: str) -> None:
        """Blocks on their journey until the source ends, fails or is told to stop."""
        pipeline, clock = self.pipeline, self.clock
        assert pipeline is not None
        assert clock is not None
        offset: int | None = None
        looked = time.monotonic()

        def passes() -> None:
            """Until the first samples: whoever is waited for may stay away for a night, and no alarm may stand on him."""
            nonlocal looked
            if offset is None and time.monotonic() - looked >= STEP_S:
                looked = time.monotonic()
                self._time_passes()

        if source.waits_for:
            self._waiting(source.waits_for)
        for block in source.blocks(Asked(self._stop, passes)):
            cause = "samples lost"
            if offset is None:
                # A source that came back counts from 0 again. What it missed is estimated from the clock, from the last
                # sample that came: however often opening it failed in between.
                cause = f"source lost: {reason}" if self._fed_ns else "no samples since the start"
                missed = 0
                if self._fed_ns or pipeline.ring.end:
                    away_s = (block.arrived_ns - (self._fed_ns or self._began_ns)) / 1e9
                    missed = max(0, round(away_s * self._rate) - block.values.shape[1])
                    clock.restart()
                begins = max(pipeline.ring.end, self._fed_end + missed)
                offset = begins - block.first
                if not self._fed_ns:
                    self._fed_end = begins  # what nobody had sent yet is not lost
                block = replace(block, lost_exact=False, lost_cause="")
                self._online(reason)  # an open port is no signal yet
            if offset:
                block = replace(block, first=block.first + offset)
            if self._other_models.is_set():
                self._take_up_models()
            self.counters.lost += block.first - self._fed_end
            started_ns = time.monotonic_ns()
            self._fed_ns = block.arrived_ns or started_ns
            clock.arrived(block.end, self._fed_ns)
            self._look_at_the_rate(clock)
            moment = Moment(self._fed_ns, started_ns)
            if self._record is not None:
                self._record(self.config.name, pipeline.info, block)
            pipeline.judges_stalled = self._worker.stuck_s > 0
            self._send(pipeline.feed(block, moment, lost=cause), moment)
            self._fed_end = block.end
            self.counters.samples += int(block.values.shape[1])
            if math.isinf(source.speed):
                self._let_models_catch_up()
        if not self._stop.is_set():
            self._flush()

    def _flush(self) -> None:
        """No more samples will come: what can still be decided is."""
        assert self.pipeline is not None
        moment = Moment(time.monotonic_ns(), time.monotonic_ns())
        self._send(self.pipeline.flush(), moment)

    def _let_models_catch_up(self) -> None:
        while self._worker.waiting > MOST_WINDOWS_WAITING and not self._stop.wait(0.005):
            pass

    def _send(self, items: Iterable[events.Event | Window | Tick | Gap], moment: Moment) -> None:
        assert self.lane is not None
        for item in items:
            if isinstance(item, events.Event):
                self._publish(item)
            else:
                self._worker.put(self.lane, item, moment)

    # -- what is said --------------------------------------------------------------------------------------------

    def _online(self, reason: str) -> None:
        self.state = "online"
        if reason != "started":
            log.warning("stream %s: back", self.config.name)  # as loud as its going
        self._say_available(self.config.name, "online", "started" if reason == "started" else "back")

    def _look_at_the_rate(self, clock: LiveClock | RecordedClock) -> None:
        """Said once, early: every rate, width and filter rests on it."""
        if self._rate_seen or not isinstance(clock, LiveClock) or clock.rough_fs is None or self.fs is None:
            return
        self._rate_seen = True
        paced = isinstance(self.config.source, FileSource | SimulatedSource)
        if abs(clock.rough_fs / self.fs - 1) <= RATE_IS_OFF or (paced and clock.rough_fs > self.fs):
            return
        said = f"about {clock.rough_fs:.0f} samples a second come, fs says {self.fs:g}: heart rates and times will be wrong"
        if paced:  # its rate is known, and the pace is ours
            said = f"this machine does not keep speed = {self._rate / self.fs:g}: it falls behind"
        log.warning("stream %s: %s", self.config.name, said)

    def _waiting(self, for_what: str) -> None:
        """Said once, at the start: after that, why it went away is worth more."""
        if self.state == "starting":
            self.state = "waiting"
            self._say_available(self.config.name, "offline", f"waiting for {for_what}")

    def _offline(self, reason: str) -> None:
        """Why it went away stays in what is said; that it cannot be opened since is added to it, once."""
        if self.state != "offline":
            log.warning("stream %s: %s; trying again", self.config.name, reason)
            self._why, self._since = reason, ""
        elif reason in (self._why, self._since):
            return
        else:
            if not self._since:
                log.warning("stream %s: still away, now since %s", self.config.name, reason)
            self._since = reason
        self.state = "offline"
        said = f"{self._why}; since then: {self._since}" if self._since else self._why
        self._say_available(self.config.name, "offline", said)

    def _finished(self) -> None:
        self.state = "ended"
        self._close()
        self._say_available(self.config.name, "offline", ENDS.get(self.config.source.type, "end of recording"))
        log.info("stream %s: came to its end", self.config.name)
        self.ended.set()

    def _failed(self, reason: str) -> None:
        """Not to be mended by waiting: the other streams go on, this one has ended, and says what to do."""
        log.error("stream %s: %s; it has ended", self.config.name, reason)
        if self.pipeline is not None:
            self._flush()
        self.state = "failed"
        self._close()
        in_a_line = "; ".join(line.strip() for line in reason.splitlines())
        self._say_available(self.config.name, "offline", f"failed: {in_a_line}")
        self.ended.set()

    def _close(self) -> None:
        with self._counting:
            source, self._source = self._source, None
            if source is not None:
                self._counted = _sum(self._counted, source.counters())
        if source is not None:
            source.close()

    def _source_health(self) -> events.SourceHealth:
        with self._counting:
            counted = self._counted if self._source is None else _sum(self._counted, self._source.counters())
        return events.SourceHealth(
            **{name: counted[name] for name in events.SourceHealth.model_fields.keys() & counted}
        )

    def health(self) -> events.StreamHealth:
        measured = self.clock.measured_fs if self.clock else None
        return events.StreamHealth(
            state=self.state,
            samples=self.counters.samples,
            lost_samples=self.counters.lost,
            beats=self.pipeline.beats if self.pipeline else 0,
            verdicts=self.lane.verdicts if self.lane else 0,
            abstentions=self.lane.abstentions if self.lane else 0,
            restarts=self.counters.restarts,
            fs_nominal=self.fs,
            fs_measured=measured,
            fs_deviation_percent=None if measured is None or self.fs is None else (measured / self.fs - 1) * 100,
            source=self._source_health(),
        )


def _sum(one: Counts, other: Counts) -> Counts:
    return {name: one.get(name, 0) + other.get(name, 0) for name in one.keys() | other.keys()}
