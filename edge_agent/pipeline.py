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
from dataclasses import dataclass, replace
from statistics import median

import numpy as np

from edge_agent import events
from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence
from edge_agent.alarms.machine import AlarmMachine, Transition
from edge_agent.alarms.rhythm import RhythmFollower
from edge_agent.alarms.rules import RULES
from edge_agent.config import AlarmLimits
from edge_agent.inference.feeder import Feeder, Pending
from edge_agent.inference.manifest import Manifest
from edge_agent.journey import Beat, Block, Gap, Onset, Pulse, Quality, Window
from edge_agent.signal.abp_quality import PressureQuality
from edge_agent.signal.detectors import make_detector
from edge_agent.signal.ecg_quality import EcgQuality
from edge_agent.signal.pressure import PressureDetector
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.sources.base import StreamInfo
from edge_agent.stamp import Moment, Stamp

PIECE_S = 1.0
"""Longer blocks are taken in pieces, so that the ring need not hold more than a window and a piece."""
TICKS_PER_S = 4
VITALS_EVERY_TICKS = 8
RATE_INTERVALS = 8
FORGET_RHYTHM_S = 60.0
"""After a longer gap, or as long without a good signal, the rhythm is unknown until new beats show it."""
GAP_TICKED_S = 60.0
"""Time passes in a gap, too; but of a night without a board only the last minute is gone through tick by tick."""
UPDATE_S = 10.0
"""Between two messages of an alarm that goes on, if its evidence has changed."""
JUDGES_QUALITY = frozenset({"abp-segment"})
"""Tasks that are about artefacts: what a bad signal keeps from other models is what these are asked about."""
FRESH_S = 5.0
"""A vital sign older than this is unknown."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, although nothing may have happened."""

    known: int

    @property
    def sample(self) -> int:
        return self.known


Item = Beat | Onset | Pulse | Quality | Gap | Tick | Pending
# Of items known at the same sample, what was lost comes first, then what was seen, then what is concluded from it.
_RANK: dict[type, int] = {Gap: 0, Beat: 1, Onset: 2, Pulse: 3, Quality: 4, Pending: 5, Tick: 6}

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
        self.silences: dict[str, int] = {}  # kind of alarm to the sample until which somebody silenced it
        self._moment = Moment()
        ecg = info.named("ecg")
        pressure = {**info.named("abp"), **info.named("pleth")}
        self._qrs = {name: make_detector(info.fs, name, detector) for name in ecg}
        self._ecg_quality = {name: EcgQuality(info.fs, name) for name in ecg}
        kinds = {name: info.kind(name) for name in pressure}
        self._onsets = {name: PressureDetector(info.fs, name, kinds[name]) for name in pressure}
        self._pressure_quality = {name: PressureQuality(info.fs, name, kinds[name]) for name in pressure}
        self._rr = {name: RrHistory(info.fs) for name in ecg}
        self._rhythm = RhythmFollower(info.fs)
        self._rhythm_channel = next(iter(ecg), None)
        self._evidence = Evidence(
            fs=info.fs,
            ecg={name: EcgEvidence() for name in ecg},
            abp={name: PressureEvidence() for name in info.named("abp")},
            pleth={name: PressureEvidence() for name in info.named("pleth")},
        )
        self._machines = [(kind, priority, rule, AlarmMachine()) for kind, priority, rule in RULES]
        self._feeders = list(_feeders(info, models))
        reach = max((feeder.reach[1] - feeder.reach[0] for feeder in self._feeders), default=0)
        self.ring = Ring(len(info.signals), reach + round(4 * PIECE_S * info.fs) + 1)
        self._heap: list[tuple[int, int, int, int, Item]] = []
        self._order = itertools.count()
        self._tick_step = max(1, round(info.fs / TICKS_PER_S))
        self._next_tick = self._tick_step
        self._strides = {i: feeder.stride for i, feeder in enumerate(self._feeders) if feeder.stride}
        self._next_slide = {i: -feeder.reach[0] for i, feeder in enumerate(self._feeders) if feeder.stride}
        self.beats = 0

    # -- the journey ---------------------------------------------------------------------------------------------

    def feed(self, block: Block, moment: Moment, *, lost: str = "samples lost by the source") -> Iterator[Out]:
        """Take a block; what became known with it, in order. ``lost``: why samples are missing, if some are."""
        self._moment = moment
        if block.first < self.ring.end:
            raise ValueError(f"block begins at {block.first}, but samples up to {self.ring.end} were already seen")
        if block.first > self.ring.end:
            yield from self._gap(block.first, block.lost_cause or lost, block.lost_exact)
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

    def _piece(self, first: int, values: np.ndarray, lead_off: frozenset[str]) -> Iterator[Out]:
        for name in lead_off:
            index = self.info.index.get(name)
            if index is not None:
                values[index] = np.nan
        self.ring.push(values)
        for name, index in self.info.named("ecg").items():
            beats = self._qrs[name].feed(values[index], first)
            self._push_all(beats)
            self._push_all(self._ecg_quality[name].feed(values[index], first, name in lead_off, beats))
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
        heapq.heappush(self._heap, (item.known, _RANK[type(item)], item.sample, next(self._order), item))

    def _push_all(self, items: Sequence[Item]) -> None:
        for item in items:
            self._push(item)

    def _drain(self, last: int) -> Iterator[Out]:
        """Everything known by sample ``last``, in order."""
        while self._heap and self._heap[0][0] <= last:
            yield from self._take(heapq.heappop(self._heap)[4])

    def _take(self, item: Item) -> Iterator[Out]:
        match item:
            case Beat():
                yield from self._beat(item)
            case Onset():
                self._evidence.onset(item)
            case Pulse():
                self._evidence.pulse(item)
            case Quality():
                yield from self._quality(item)
            case Pending():
                yield self._window(item)
            case Tick():
                yield from self._tick(item.known)
                yield item
            case Gap():
                yield item

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

    def silence(self, kind: str, seconds: float) -> int:
        """Until which sample; may be called from another thread. 0 seconds end it."""
        until = self.ring.end + round(seconds * self.fs)
        self.silences[kind] = until
        return until

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
        if beat.channel == self._rhythm_channel:
            yield from self._rhythm_of(beat)
        for feeder in self._feeders:
            if feeder.channel == beat.channel:
                self._push_all(list(feeder.at_beat(beat.sample, beat.known, rr)))

    def _rhythm_of(self, beat: Beat) -> Iterator[Out]:
        if self._evidence.ecg[beat.channel].worth.reasons:
            self._rhythm.gap()  # intervals between beats seen in noise are no rhythm
            return
        since = self._rhythm.beat(beat.sample)
        if since is not None:
            yield self._rhythm_changed(beat.channel, since=since, sample=beat.sample, known=beat.known)

    def _rhythm_changed(self, channel: str, *, since: int, sample: int, known: int) -> events.Rhythm:
        evidence = self._evidence
        evidence.rhythm, evidence.rhythm_since = self._rhythm.rhythm, since
        evidence.rhythm_known, evidence.rhythm_channel = known, channel
        entropy = self._rhythm.entropy
        return events.Rhythm(
            **self._stamp(events.Rhythm, sample, known, self._moment),  # type: ignore[arg-type]
            channel=channel,
            rhythm=self._rhythm.rhythm,  # type: ignore[arg-type]  # the follower says unknown, N or AFIB
            since=since,
            evidence={"cosen": None if entropy is None else round(entropy, 3)},
        )

    def _quality(self, quality: Quality) -> Iterator[Out]:
        before = self._evidence.worth(quality.channel).quality
        self._evidence.quality(quality)
        # Reasons come and go by the half second; what matters outside is whether it is good, and whether it is there.
        if before is None or before.good != quality.good or before.unreadable != quality.unreadable:
            yield events.Quality(
                **self._stamp(events.Quality, quality.known, quality.known, self._moment),  # type: ignore[arg-type]
                channel=quality.channel,
                good=quality.good,
                score=quality.score,
                reasons=list(quality.reasons),
            )

    def _window(self, pending: Pending) -> Window:
        reasons = self._evidence.worth(pending.feeder.channel).reasons
        if pending.feeder.manifest.task in JUDGES_QUALITY:
            reasons = tuple(reason for reason in reasons if reason == "lead_off")
        return pending.feeder.cut(pending, self.ring, reasons)

    def _tick(self, now: int) -> Iterator[Out]:
        yield from self._forget_rhythm(now)
        clear_after, update_after = round(self.limits.clear_s * self.fs), round(UPDATE_S * self.fs)
        for kind, priority, rule, machine in self._machines:
            transition = machine.step(rule(self._evidence, now, self.limits), now, clear_after, update_after)
            if transition is not None:
                silenced = now < self.silences.get(kind, 0)
                yield alarm_event(self._stamp, self._moment, kind, priority, transition, now, self.fs, silenced)
        if (now // self._tick_step) % VITALS_EVERY_TICKS == 0:
            yield self._vitals(now)

    def _forget_rhythm(self, now: int) -> Iterator[Out]:
        """A rhythm that nothing has shown for a minute is not known any more."""
        channel = self._rhythm_channel
        if channel is None or self._rhythm.rhythm == "unknown":
            return
        bad_since = self._evidence.ecg[channel].worth.bad_since
        if bad_since is not None and now - bad_since > FORGET_RHYTHM_S * self.fs:
            self._rhythm.forget()
            yield self._rhythm_changed(channel, since=now, sample=now, known=now)

    def _vitals(self, now: int) -> events.Vitals:
        fresh = now - FRESH_S * self.fs
        rate: float | None = None
        for lead in self._evidence.ecg.values():
            beats = [beat for beat in list(lead.beats)[-RATE_INTERVALS - 1 :] if beat >= lead.since]
            if lead.worth.good and len(beats) >= 3 and beats[-1] >= fresh:
                rate = 60 * self.fs / median(b - a for a, b in itertools.pairwise(beats))
                break
        pulse: Pulse | None = None
        for line in self._evidence.abp.values():
            good = [one for one in line.pulses if not one.reasons and one.end >= fresh]
            if line.worth.good and good:
                pulse = good[-1]
                break
        pulse_rate: float | None = None
        for line in (*self._evidence.abp.values(), *self._evidence.pleth.values()):
            rates = [
                one.rate_per_min for one in list(line.pulses)[-RATE_INTERVALS:] if one.rate_per_min and one.end >= fresh
            ]
            if line.worth.good and len(rates) >= 2:
                pulse_rate = median(rates)
                break
        return events.Vitals(
            **self._stamp(events.Vitals, now, now, self._moment),  # type: ignore[arg-type]
            heart_rate_per_min=rate,
            systolic_mmhg=None if pulse is None else pulse.systolic,
            diastolic_mmhg=None if pulse is None else pulse.diastolic,
            mean_mmhg=None if pulse is None else pulse.mean,
            pulse_rate_per_min=pulse_rate,
        )

    def _gap(self, end: int, cause: str, exact: bool) -> Iterator[Out]:
        """Samples never came: decide what can be decided, then let nothing bridge them."""
        first = self.ring.end
        for qrs in self._qrs.values():
            self._push_all(qrs.flush())
            qrs.reset(end)
        for onsets in self._onsets.values():
            self._push_all(onsets.flush())
            onsets.reset(end)
        for ecg_quality in self._ecg_quality.values():
            ecg_quality.reset(end)
        for pressure_quality in self._pressure_quality.values():
            pressure_quality.reset(end)
        yield from self._drain(first - 1)
        self.ring.skip(end - first)
        for rr in self._rr.values():
            rr.gap()
        self._rhythm.gap()
        self._evidence.gap(end)
        if end - first > FORGET_RHYTHM_S * self.fs and self._rhythm_channel and self._rhythm.rhythm != "unknown":
            self._rhythm.forget()
            yield self._rhythm_changed(self._rhythm_channel, since=end, sample=end, known=end)
        gap = Gap(first, end, cause)
        self._push(gap)
        yield events.Gap(
            **self._stamp(events.Gap, end, end, self._moment),  # type: ignore[arg-type]
            first=first,
            lost=end - first,
            exact=exact,
            cause=cause,
        )
        ticked = end - round(GAP_TICKED_S * self.fs)
        self._next_tick += max(0, -(-(ticked - self._next_tick) // self._tick_step)) * self._tick_step
        for i, stride in self._strides.items():
            self._next_slide[i] += max(0, -(-(ticked - self._next_slide[i]) // stride)) * stride
        self._schedule(end)


def alarm_event(
    stamp: Stamp,
    moment: Moment,
    kind: events.AlarmKind,
    priority: events.Priority,
    transition: Transition,
    now: int,
    fs: float,
    silenced: bool,
) -> events.Alarm:
    """An alarm machine's transition as the message that leaves."""
    finding = transition.finding
    header = stamp(events.Alarm, now, now, moment)
    return events.Alarm(
        **header,  # type: ignore[arg-type]
        id=f"{header['session']}-{header['stream']}-{kind}-{transition.number}",
        kind=kind,
        state=transition.state,
        priority=priority,
        silenced=silenced,
        channel=finding.channel,
        since=finding.since,
        delay_ms=(now - finding.met) / fs * 1000,
        evidence=finding.evidence,
    )


def _feeders(info: StreamInfo, models: Sequence[Manifest]) -> Iterator[Feeder]:
    """Each model on every channel of the kind it listens to."""
    for manifest in models:
        for name, index in info.named(manifest.signal).items():
            yield Feeder(manifest, name, index, info.fs)
