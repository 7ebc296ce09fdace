"""One stream: the journey of its samples, in order.

    block -> ring -> detectors -> [beats, onsets, pulses, qualities, ticks, windows by `known`] -> evidence -> alarms -> events
                                                                                         \\-> windows for the models

Everything that a detector says carries the index of the newest sample that it needed. Those items wait in one heap and are
taken in that order, so the events do not depend on how the signal was cut into blocks: a replay in blocks of ten seconds
gives those of a board that sends sample by sample.

What needs a model's answer (`verdicts.VerdictLane`) comes after, on its own lane: nothing here ever waits for it.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from edge_agent import events
from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.opinion import Combiner, Opinion, opinion
from edge_agent.alarms.panel import AlarmPanel, Controls
from edge_agent.alarms.rhythm_watch import Change, RhythmWatch
from edge_agent.alarms.rules.base import ARREST
from edge_agent.alarms.rules.registry import RULES
from edge_agent.alarms.scene import SceneMaker
from edge_agent.alarms.vitals import vital_signs
from edge_agent.clock import StreamClock
from edge_agent.errors import RequestError
from edge_agent.gaps import GapMessages
from edge_agent.inference.feeder import Feeder, Pending, feeders_of
from edge_agent.inference.manifest import BEAT_TASK, SEGMENT_TASK, Manifest
from edge_agent.items import RANK, Item, Tick
from edge_agent.journey import Beat, BeatShape, Block, Gap, Onset, Pulse, Quality, Texture, Window
from edge_agent.signal.abp_quality import PressureQuality
from edge_agent.signal.detectors import make_detector
from edge_agent.signal.ecg_quality import EcgQuality
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.signal.texture import EcgTexture
from edge_agent.sources.base import StreamInfo
from edge_agent.stamp import Moment, Stamp

PIECE_S = 1.0
"""Longer blocks are taken in pieces, so that the ring need not hold more than a window and a piece."""
TICKS_PER_S = 4
VITALS_EVERY_TICKS = 8
ABSENT_TICKED_S = 90.0
"""Time passes while samples are missing, too: long enough for every alarm to clear, but not tick by tick through a
night without a board."""
OPINION_WITHIN_S = 60.0
"""An alarm is judged against the two minutes before it, and two and a half are remembered."""
AHEAD_S = 2.0
"""A monitor may be quicker than the samples."""


Out = events.Event | Window | Tick | Gap
"""Events leave; windows, ticks and gaps go on to the verdict lane."""


class Pipeline:
    """Blocks in, events and windows out. Pure but for the stamp's clock: no thread, no file, no network."""

    def __init__(
        self, info: StreamInfo, *, models: Sequence[Manifest], limits: AlarmLimits, detector: str, stamp: Stamp
    ) -> None:
        self.fs = info.fs
        self.info = info
        self._stamp = stamp
        self.limits = limits  # may be replaced while running
        self.controls = Controls()
        self._moment = Moment()
        self._gaps = GapMessages(info.fs, stamp)
        ecg = self._ecg = info.named("ecg")
        pressure = {**info.named("abp"), **info.named("pleth")}
        self._qrs = {name: make_detector(info.fs, name, detector) for name in ecg}
        self._ecg_quality = {name: EcgQuality(info.fs, name) for name in ecg}
        self._texture = {name: EcgTexture(info.fs, name) for name in ecg}
        kinds = {name: info.kind(name) for name in pressure}
        self._onsets = {name: PressureDetector(info.fs, name, kinds[name]) for name in pressure}
        self._pressure_quality = {name: PressureQuality(info.fs, name, kinds[name]) for name in pressure}
        self._rr = {name: RrHistory(info.fs) for name in ecg}
        self._rhythm = RhythmWatch(info.fs, tuple(ecg))
        self._evidence = Evidence(
            fs=info.fs,
            ecg={name: EcgEvidence() for name in ecg},
            abp={name: PressureEvidence() for name in info.named("abp")},
            pleth={name: PressureEvidence() for name in info.named("pleth")},
        )
        there = {signal.kind for signal in info.signals}
        rules = [rule for rule in RULES if not rule.needs or rule.needs & there]
        self._alarms = AlarmPanel(rules, fs=info.fs, stamp=stamp, controls=self.controls)
        self._scenes = SceneMaker()
        self._feeders = list(_feeders(info, models))
        self._evidence.rhythm_judged = self._judges_beats()
        self.ring = Ring(len(info.signals), self._capacity())
        self._heap: list[tuple[int, int, int, int, Item]] = []
        self._order = itertools.count()
        self._away_until = 0
        self._tick_step = max(1, round(info.fs / TICKS_PER_S))
        self._next_tick = self._tick_step
        self._strides = {i: feeder.stride for i, feeder in enumerate(self._feeders) if feeder.stride}
        self._next_slide = {i: -feeder.reach[0] for i, feeder in enumerate(self._feeders) if feeder.stride}
        self.beats = 0

    def _judges_beats(self) -> bool:
        """Where a model classes beats the rhythm is followed on the verdict lane."""
        return any(feeder.manifest.task == BEAT_TASK for feeder in self._feeders)

    @property
    def engine_degraded(self) -> str | None:
        """Set from outside: how the models run otherwise than they should; None while all is well."""
        return self._evidence.engine_degraded

    @engine_degraded.setter
    def engine_degraded(self, how: str | None) -> None:
        self._evidence.engine_degraded = how

    @property
    def judges_stalled(self) -> bool:
        """Set from outside: a model does not answer, and nothing is to be expected of the verdict lane meanwhile."""
        return self._evidence.judges_stalled

    @judges_stalled.setter
    def judges_stalled(self, stalled: bool) -> None:
        self._evidence.judges_stalled = stalled

    def _capacity(self) -> int:
        reach = max((feeder.reach[1] - feeder.reach[0] for feeder in self._feeders), default=0)
        return reach + round(4 * PIECE_S * self.fs) + 1

    def use(self, models: Sequence[Manifest]) -> None:
        """Other models from the next block on; for the stream's own thread. What is fed as before keeps what it has learned.

        Windows that wait for their last samples are still cut for the model that asked for them.
        """
        kept = {(feeder.manifest.name, feeder.channel, feeder.feeding): feeder for feeder in self._feeders}
        next_slide = {id(self._feeders[i]): at for i, at in self._next_slide.items()}
        fresh = list(_feeders(self.info, models))
        self._feeders = [kept.get((one.manifest.name, one.channel, one.feeding), one) for one in fresh]
        self._evidence.rhythm_judged = self._judges_beats()
        if self._capacity() > self.ring.capacity:
            self.ring = self.ring.grown(self._capacity())
        self._strides = {i: feeder.stride for i, feeder in enumerate(self._feeders) if feeder.stride}
        self._next_slide = {}
        for i, stride in self._strides.items():
            feeder = self._feeders[i]
            first = -feeder.reach[0]  # the same grid as from the beginning
            begin = first + max(0, -(-(self.ring.end - first) // stride)) * stride
            self._next_slide[i] = next_slide.get(id(feeder), begin)

    # -- the journey ---------------------------------------------------------------------------------------------

    def feed(self, block: Block, moment: Moment, *, lost: str = "samples lost by the source") -> Iterator[Out]:
        """Take a block; what became known with it, in order. ``lost``: why samples are missing, if some are."""
        self._moment = moment
        if block.first < self.ring.end:
            raise ValueError(f"block begins at {block.first}, but samples up to {self.ring.end} were already seen")
        if block.first > self.ring.end or self._evidence.absent_since is not None:
            yield from self._absence(block.first)
            yield from self._resume(block.first, block.lost_cause or lost, block.lost_exact)
        piece = max(1, round(PIECE_S * self.fs))
        for offset in range(0, block.values.shape[1], piece):
            values = np.array(block.values[:, offset : offset + piece], np.float32, order="C")
            yield from self._piece(block.first + offset, values, block.lead_off)

    def flush(self) -> Iterator[Out]:
        """The end of the signal: what can still be decided is."""
        last = self.ring.end - 1
        for qrs in self._qrs.values():
            self._push_all(qrs.flush())
        for onsets in self._onsets.values():
            self._push_all(onsets.flush())
        yield from self._drain(last)
        # Windows that wait for samples which will never come abstain.
        while self._heap:
            item = heapq.heappop(self._heap)[4]
            if isinstance(item, Pending):
                yield item.feeder.cut(replace(item, abstain="signal ended"), self.ring, ())
        yield from self._gaps.step(last, self._moment, last=True)
        yield from self._alarms.end(last, self.limits, self._moment, "signal ended")
        yield Tick(last, last=True)

    def absent(self, until: int, moment: Moment) -> Iterator[Out]:
        """The source is away, and time passes nevertheless: up to that sample, as far as the clock tells. Samples
        that come later begin after it."""
        self._moment = moment
        yield from self._absence(until)
        if until > self.ring.end:  # ticks have ended; people go on, and their silences run out
            self._away_until = until
            last = self._next_tick - self._tick_step
            yield from self._alarms.step(self._evidence, last, self.limits, moment, at=until)

    def _piece(self, first: int, values: np.ndarray, lead_off: frozenset[str]) -> Iterator[Out]:
        for name in lead_off:
            index = self.info.index.get(name)
            if index is not None:
                values[index] = np.nan
        self.ring.push(values)
        for name, index in self._ecg.items():
            beats = self._qrs[name].feed(values[index], first)
            self._push_all(beats)
            self._push_all(self._ecg_quality[name].feed(values[index], first, name in lead_off, beats))
            self._push_all(self._texture[name].feed(values[index], first, beats))
        for name in self._onsets:
            x = values[self.info.index[name]]
            found = self._onsets[name].feed(x, first)
            self._push_all(found)
            pulses = [item for item in found if isinstance(item, Pulse)]
            self._push_all(self._pressure_quality[name].feed(x, first, name in lead_off, pulses))
        self._schedule(self.ring.end)
        yield from self._drain(self.ring.end - 1)

    def _schedule(self, end: int) -> None:
        """Ticks and sliding windows fall on grids of absolute samples."""
        while self._next_tick < end:
            self._push(Tick(self._next_tick))
            self._next_tick += self._tick_step
        for i, stride in self._strides.items():
            while stride is not None and self._next_slide[i] <= end:
                self._push(self._feeders[i].at_instant(self._next_slide[i]))
                self._next_slide[i] += stride

    def _push(self, item: Item) -> None:
        heapq.heappush(self._heap, (item.known, RANK[type(item)], item.sample, next(self._order), item))

    def _push_all(self, items: Sequence[Item]) -> None:
        for item in items:
            self._push(item)

    def _drain(self, last: int) -> Iterator[Out]:
        """Everything known by sample ``last``, in order."""
        heap, evidence = self._heap, self._evidence
        while heap and heap[0][0] <= last:
            item = heapq.heappop(heap)[4]
            match item:
                case Tick():
                    yield from self._tick(item.known)
                    yield Tick(item.known, self._scenes.scene(evidence, item.known)) if self._feeders else item
                case Texture():
                    evidence.texture(item)
                case Quality():
                    yield from self._quality(item)
                case Pending():
                    yield self._window(item)
                case Beat():
                    yield from self._beat(item)
                case BeatShape():
                    evidence.shape(item)
                case Onset():
                    evidence.onset(item)
                case Pulse():
                    evidence.pulse(item)

    def waveform(self, reader: str) -> events.Waveform | None:
        """What the ring has for this reader since it last asked; may be called from another thread."""
        first, values = self.ring.take(reader)
        if not values.shape[1]:
            return None
        end = first + values.shape[1]
        return events.Waveform(
            **self._stamp(events.Waveform, first, end - 1, Moment()),  # type: ignore[arg-type]
            fs=self.fs,
            overwritten=self.ring.reader(reader).lost,
            channels={
                signal.name: [None if value != value else value for value in row.tolist()]
                for signal, row in zip(self.info.signals, values, strict=True)
            },
        )

    @property
    def clock(self) -> StreamClock:
        return self._stamp.clock

    def picture(self) -> Evidence:
        """What is known of the stream, as it is now; may be asked for from another thread."""
        return self._evidence.picture()

    def opinion(self, kind: str, at: int | None, combiner: Combiner | None) -> tuple[int, Opinion]:
        """The second opinion on an alarm at this sample (None: now); may be called from another thread, and delays nothing."""
        now, lost = self.ring.end, self._evidence.absent_since
        if at is None and lost is not None:  # what was last seen is no answer for now
            since = self.clock.utc(lost)
            when = f"sample {lost}" if since is None else since.isoformat(timespec="seconds")
            return now, Opinion("cannot say", 0.5, f"no signal since {when}", {"no_signal_since_sample": lost})
        asked = now if at is None else at
        if asked > now + AHEAD_S * self.fs:
            raise RequestError(f"sample {asked} has not come yet; the stream is at {now}")
        if asked < now - OPINION_WITHIN_S * self.fs:
            raise RequestError(f"sample {asked} is more than {OPINION_WITHIN_S:g} s ago; the stream is at {now}")
        asked = min(asked, now)
        return asked, opinion(self.picture(), kind, asked, combiner)

    def silence(self, kind: str, seconds: float) -> int:
        """Until which sample; may be called from another thread. 0 seconds end it."""
        until = max(self.ring.end, self._away_until) + round(seconds * self.fs)
        self.controls.silences[kind] = until
        return until

    def acknowledge(self, kind: str) -> int | None:
        """From which sample it counts as acknowledged, None where no such alarm stands; may be called from another thread."""
        if not self.controls.stands(kind):
            return None
        at = self.controls.acknowledged[kind] = self.ring.end
        return at

    def mark(self, text: str) -> events.Mark:
        """The newest sample, marked by somebody; may be called from another thread."""
        at = max(0, self.ring.end - 1)
        return events.Mark(**self._stamp(events.Mark, at, at, Moment()), text=text)  # type: ignore[arg-type]

    # -- what each item does -------------------------------------------------------------------------------------

    def _beat(self, beat: Beat) -> Iterator[Out]:
        self.beats += 1
        rr = self._rr[beat.channel]
        rr_s = rr.beat(beat.sample)
        self._evidence.beat(beat)
        header = self._stamp(events.Beat, beat.sample, beat.known, self._moment)
        yield events.Beat(
            **header,  # type: ignore[arg-type]  # the stamp's fields are Event's
            channel=beat.channel,
            confidence=beat.confidence,
            rr_ms=None if rr_s is None else rr_s * 1000,
        )
        bad = bool(self._evidence.ecg[beat.channel].worth.reasons)
        yield from self._rhythm_changed(self._rhythm.beat(beat.channel, beat.sample, beat.known, bad=bad))
        for feeder in self._feeders:
            if feeder.channel == beat.channel:
                self._push_all(list(feeder.at_beat(beat.sample, beat.known, rr)))

    def _rhythm_changed(self, change: Change | None) -> Iterator[Out]:
        if change is None:
            return
        self._evidence.rhythm = change
        if not self._evidence.judged:
            yield change.event(self._stamp, self._moment)

    def _quality(self, quality: Quality) -> Iterator[Out]:
        before = self._evidence.worth(quality.channel).quality
        self._evidence.quality(quality)
        # Reasons come and go by the half second; what matters outside is whether it is good, and whether it is there.
        if before is None or (before.good, before.unreadable, before.unconnected) != (
            quality.good,
            quality.unreadable,
            quality.unconnected,
        ):
            yield events.Quality(
                **self._stamp(events.Quality, quality.known, quality.known, self._moment),  # type: ignore[arg-type]
                channel=quality.channel,
                good=quality.good,
                score=quality.score,
                reasons=list(quality.reasons),
            )

    def _window(self, pending: Pending) -> Window:
        channels = pending.feeder.channels
        reasons = tuple(dict.fromkeys(reason for name in channels for reason in self._evidence.worth(name).reasons))
        if not reasons and any(lead.worth.clean for lead in self._evidence.ecg.values()):
            # Where a lead is clean a model is shown no other: what noise leaves of a beat is for want of better.
            listed = (self._evidence.worth(name).quality for name in channels)
            reasons = tuple(dict.fromkeys(reason for one in listed if one is not None for reason in one.borne))
        if pending.feeder.manifest.task == SEGMENT_TASK:
            # It is about artefacts: what a bad signal keeps from other models is what it is asked about.
            reasons = tuple(reason for reason in reasons if reason in ("lead_off", "missing"))
        return pending.feeder.cut(pending, self.ring, reasons)

    def _tick(self, now: int) -> Iterator[Out]:
        yield from self._gaps.step(now, self._moment)
        absent = self._evidence.absent_since
        leads = self._evidence.ecg.items()
        bad_since = {name: lead.worth.bad_since if absent is None else absent for name, lead in leads}
        yield from self._rhythm_changed(self._rhythm.tick(now, bad_since))
        yield from self._alarms.step(self._evidence, now, self.limits, self._moment)
        self._evidence.standing = standing = self._alarms.standing
        if standing & ARREST:
            self._evidence.arrest_until = now
        if (now // self._tick_step) % VITALS_EVERY_TICKS == 0:
            stamp = self._stamp(events.Vitals, now, now, self._moment)
            signs = vital_signs(self._evidence, now)
            yield events.Vitals(**stamp, **signs, lead_off="lead_off" in standing)  # type: ignore[arg-type]

    def _absence(self, until: int) -> Iterator[Out]:
        """Samples do not come: decide what can be decided, forget what must not be bridged, and let time pass."""
        if self._evidence.absent_since is None:
            first = self.ring.end
            for qrs in self._qrs.values():
                self._push_all(qrs.flush())
            for onsets in self._onsets.values():
                self._push_all(onsets.flush())
            yield from self._drain(first - 1)
            for rr in self._rr.values():
                rr.gap()
            self._evidence.gap(first)
            self._evidence.absent_since = first
        until = min(until, self._evidence.absent_since + round(ABSENT_TICKED_S * self.fs))
        if until > self.ring.end:
            self.ring.skip(until - self.ring.end)
            self._schedule(until)
            yield from self._drain(until - 1)

    def _resume(self, end: int, cause: str, exact: bool) -> Iterator[Out]:
        """Samples come again, from ``end`` on."""
        first = self._evidence.absent_since
        assert first is not None
        self.ring.skip(end - self.ring.end)
        for qrs in self._qrs.values():
            qrs.reset(end)
        for onsets in self._onsets.values():
            onsets.reset(end)
        for ecg_quality in self._ecg_quality.values():
            ecg_quality.reset(end)
        for texture in self._texture.values():
            texture.reset(end)
        for pressure_quality in self._pressure_quality.values():
            pressure_quality.reset(end)
        self._evidence.gap(end)
        self._evidence.absent_since = None
        self._away_until = 0
        yield from self._rhythm_changed(self._rhythm.gap(first, end))
        yield Gap(first, end, cause)
        yield from self._gaps.lost(first, end, cause, exact, self._moment)
        self._next_tick += max(0, -(-(end - self._next_tick) // self._tick_step)) * self._tick_step
        for i, stride in self._strides.items():
            self._next_slide[i] += max(0, -(-(end - self._next_slide[i]) // stride)) * stride
        self._schedule(end)


def _feeders(info: StreamInfo, models: Sequence[Manifest]) -> Iterator[Feeder]:
    """Each model on the channels of the kind it listens to."""
    for manifest in models:
        if manifest.anchor.kind == "alarm":  # asked by `alarms.opinion` when somebody asks it
            continue
        yield from feeders_of(manifest, info.named(manifest.signal), info.fs)
