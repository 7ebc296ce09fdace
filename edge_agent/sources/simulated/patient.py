"""The simulated patient: a source of blocks like any other, that knows the truth about them.

It renders fixed chunks of the signal in order and hands out any number of samples from them, so the samples do not
depend on how they are asked for. One seed is one patient: the same beats at every rate, the same samples everywhere.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from edge_agent.journey import Block, Samples
from edge_agent.sources.simulated.bits import Floats
from edge_agent.sources.simulated.ecg import ECG_LEADS, Heartbeats
from edge_agent.sources.simulated.line import PAST_S, apply_fault
from edge_agent.sources.simulated.noise import Noise
from edge_agent.sources.simulated.pressure import Circulation, Ejection
from edge_agent.sources.simulated.rhythm import Depolarisation, Heart, Tone
from edge_agent.sources.simulated.script import DEMO_SCRIPT, Episode, Script, Span, Timeline
from edge_agent.sources.simulated.truth import Expectation, TrueBeat, TrueEpisode, TruePulse, Truth

__all__ = ["CHANNELS", "SimulatedPatient", "TrueBeat", "TrueEpisode", "TruePulse", "Truth"]

CHANNELS = (*ECG_LEADS, "ABP", "PLETH")
"""Every channel that a simulated patient can have."""

_STEPS = {"ABP": 100.0, "PLETH": 10_000.0}
"""Steps per unit of what leaves: .01 mmHg, .0001 NU; 1 uV for an ECG."""
_ECG_STEPS = 1000.0
_CHUNK_S = 4.0
_LOOK_AHEAD_S = 0.45
"""A beat's P wave and pacing spike come before it."""
_BEHIND_S = 1.0
_LONGEST_PULSE_S = 3.0
_ECG_FLOOR_MV = 0.004
_ABP_FLOOR_MMHG = 0.12
_PLETH_FLOOR = 0.0008
_ABP_PULSE_MMHG = 40.0
_PLETH_PULSE = 0.2
_NOISE_RAMP_S = 0.2


@dataclass(frozen=True, slots=True)
class _Arriving:
    """A pulse whose numbers are not known yet."""

    ejection: Ejection
    beat: int
    line: str | None


class SimulatedPatient:
    """An endless or scripted patient with the channels asked for."""

    def __init__(
        self,
        fs: float,
        channels: Sequence[str] = ("II", "V", "ABP", "PLETH"),
        script: Script = DEMO_SCRIPT,
        seed: int = 0,
        forever: bool = False,
        *,
        mains_hz: float = 50.0,
    ) -> None:
        """`fs` is 100 to 1000 samples per second. Raises ValueError with what is allowed."""
        if not (math.isfinite(fs) and 100.0 <= fs <= 1000.0):
            raise ValueError(f"fs is {fs:g}; allowed: 100 to 1000 samples per second")
        if isinstance(channels, str) or not channels:
            raise ValueError(f"channels must be a list of one or more of {', '.join(CHANNELS)}")
        for name in channels:
            if name not in CHANNELS:
                raise ValueError(f"channel {name!r} is not known; allowed: {', '.join(CHANNELS)}")
        if len(set(channels)) != len(channels):
            raise ValueError(f"channels names one twice: {', '.join(channels)}")
        if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed is {seed!r}; allowed: a whole number from 0")
        if mains_hz not in (50.0, 60.0):
            raise ValueError(f"mains_hz is {mains_hz:g}; allowed: 50 or 60")
        self.fs = float(fs)
        self.channels = tuple(channels)
        self.truth = Truth(self.fs)
        self._timeline = Timeline(script, forever)
        self._end = None if forever else math.ceil(script.duration_s * self.fs)
        tone = Tone(seed)
        self._tone = tone
        self._heart = Heart(self._timeline, seed, tone)
        self._leads = tuple(name for name in self.channels if name in ECG_LEADS)
        self._ecg = Heartbeats(self._leads, self.fs, seed, tone)
        self._circulation = Circulation(self.fs, seed, tone, script.episodes[0])
        self._noise = {name: Noise(seed, name, self.fs, mains_hz) for name in self.channels}
        self._qrs_mv = self._ecg.normal_peak_to_peak()
        self._expectation = Expectation(self.channels)
        self._chunk_length = math.ceil(_CHUNK_S * self.fs)
        self._chunk: Samples = np.zeros((len(self.channels), 0), dtype=np.float32)
        self._chunk_first = 0
        self._position = 0
        self._spans: deque[Span] = deque()
        self._line_began: dict[int, float] = {}
        """When the fault of each of these spans began: perhaps in a span before it."""
        self._next_span = 0
        self._beats: deque[Depolarisation] = deque()
        self._pending: Depolarisation | None = self._heart.next_beat()
        self._arriving: deque[_Arriving] = deque()
        self._past: Floats = np.zeros(0)
        self._past_length = math.ceil((_LONGEST_PULSE_S + _LOOK_AHEAD_S + PAST_S) * self.fs)
        self._span_at = 0

    @property
    def position(self) -> int:
        """Samples handed out so far."""
        return self._position

    def read(self, n: int) -> Block | None:
        """The next `n` samples: fewer where a lead comes off or on, and at the end; None past it."""
        if n < 1:
            raise ValueError(f"n is {n}; allowed: 1 or more samples")
        first = self._position
        end = first + n if self._end is None else min(first + n, self._end)
        if end <= first:
            return None
        lead_off, end = self._lead_off(first, end)
        parts: list[Samples] = []
        at = first
        while at < end:
            if at >= self._chunk_first + self._chunk.shape[1]:
                self._render()
            take = min(end, self._chunk_first + self._chunk.shape[1])
            parts.append(self._chunk[:, at - self._chunk_first : take - self._chunk_first])
            at = take
        values = parts[0].copy() if len(parts) == 1 else np.concatenate(parts, axis=1)
        self._position = end
        self.truth.read_up_to(end)
        return Block(first, self.fs, values, lead_off=lead_off)

    def _sample(self, time_s: float) -> int:
        """The first sample at or after `time_s`."""
        return math.ceil(time_s * self.fs - 1e-6)

    def _off(self, episode: Episode) -> frozenset[str]:
        return episode.lead_off & frozenset(self.channels)

    def _lead_off(self, first: int, end: int) -> tuple[frozenset[str], int]:
        """What is off at `first`, and where before `end` that changes."""
        span = self._timeline.span(self._span_at)
        while span is not None and self._sample(span.end_s) <= first:
            self._span_at += 1
            span = self._timeline.span(self._span_at)
        if span is None:
            return frozenset(), end
        off, index = self._off(span.episode), self._span_at
        while self._sample(span.end_s) < end:
            index += 1
            after = self._timeline.span(index)
            if after is None:
                break
            if self._off(after.episode) != off:
                return off, self._sample(after.start_s)
            span = after
        return off, end

    def _advance(self, end_s: float) -> None:
        """Makes sure of all episodes and beats that can be felt before `end_s`."""
        while (span := self._timeline.span(self._next_span)) is not None and span.start_s < end_s + _LOOK_AHEAD_S:
            expected, tolerated = self._expectation.of(span)
            before, _ = self._timeline.joins(span, ("line",))
            self._line_began[span.index] = self._line_began[span.index - 1] if before else span.start_s
            self._spans.append(span)
            self._next_span += 1
            self.truth.add_episode(
                TrueEpisode(
                    span.episode.name,
                    span.episode.rhythm,
                    self._sample(span.start_s),
                    self._sample(span.end_s),
                    expected,
                    tolerated,
                    span.episode,
                )
            )
        while self._pending is not None and self._pending.time_s < end_s + _LOOK_AHEAD_S:
            beat = self._pending
            self._beats.append(beat)
            sample = round((beat.time_s + self._ecg.peak_s(beat.shape)) * self.fs)
            self.truth.add_beat(TrueBeat(sample, beat.label, beat.span.episode.rhythm, beat.shape))
            ejection = self._circulation.take(beat)
            if ejection is not None:
                self._arriving.append(_Arriving(ejection, sample, beat.span.episode.line))
            self._pending = self._heart.next_beat()

    def _render(self) -> None:
        first = self._chunk_first + self._chunk.shape[1]
        count = self._chunk_length
        start_s, end_s = first / self.fs, (first + count) / self.fs
        self._advance(end_s)
        while self._spans and self._spans[0].end_s + _BEHIND_S < start_s:
            del self._line_began[self._spans.popleft().index]
        while self._beats and self._beats[0].time_s + _BEHIND_S < start_s:
            self._beats.popleft()
        clean, pleth = self._circulation.render(first, count)
        chunk = np.empty((len(self.channels), count))
        if self._leads:
            ecg = self._render_ecg(first, count)
        for row, name in enumerate(self.channels):
            if name == "ABP":
                chunk[row] = self._render_abp(first, clean)
            elif name == "PLETH":
                self._add_pulse_noise(pleth, name, first, _PLETH_PULSE)
                chunk[row] = pleth + _PLETH_FLOOR * self._noise[name].floor(first, count)
            else:
                chunk[row] = ecg[self._leads.index(name)]
            steps = _STEPS.get(name, _ECG_STEPS)
            # Adding 0 makes -0 a 0, so that equal samples are equal bytes.
            chunk[row] = np.rint(chunk[row] * steps) / steps + 0.0
        self._measure_pulses(first, clean)
        for span in self._spans:
            low, high = self._part(span, first, count)
            for row, name in enumerate(self.channels):
                if name in span.episode.lead_off:
                    chunk[row, low:high] = np.nan
        self._chunk = chunk.astype(np.float32)
        self._chunk_first = first

    def _part(self, span: Span, first: int, count: int) -> tuple[int, int]:
        """Where in the chunk the span lies (empty where it does not)."""
        low = min(max(self._sample(span.start_s) - first, 0), count)
        return low, max(low, min(self._sample(span.end_s) - first, count))

    def _render_ecg(self, first: int, count: int) -> Floats:
        out = np.zeros((len(self._leads), count))
        self._ecg.add_beats(out, first, tuple(self._beats))
        self._ecg.add_fibrillation(out, first, tuple(self._spans), self._timeline)
        self._ecg.add_breathing(out, first)
        for row, name in enumerate(self._leads):
            source = self._noise[name]
            out[row] += _ECG_FLOOR_MV * source.floor(first, count)
            for span in self._spans:
                snr_db = span.episode.snr_db
                low, high = self._part(span, first, count)
                if snr_db is not None and high > low:
                    rms = float(self._qrs_mv[row]) / math.sqrt(8.0) * 10.0 ** (-snr_db / 20.0)
                    same = ("snr_db", "noise")
                    self._add_noise(out[row, :high], source, span.episode.noise, rms, span, same, first, low)
        return out

    def _add_pulse_noise(self, out: Floats, name: str, first: int, pulse: float) -> None:
        for span in self._spans:
            snr_db = span.episode.pulse_snr_db
            low, high = self._part(span, first, len(out))
            if snr_db is not None and high > low:
                rms = pulse / math.sqrt(8.0) * 10.0 ** (-snr_db / 20.0)
                self._add_noise(out[:high], self._noise[name], ("motion",), rms, span, ("pulse_snr_db",), first, low)

    def _add_noise(
        self,
        out: Floats,
        source: Noise,
        kinds: tuple[str, ...],
        rms: float,
        span: Span,
        same: tuple[str, ...],
        first: int,
        low: int,
    ) -> None:
        """Adds the kinds with equal power from `low` on, fading at the span's ends unless its `same` fields go on."""
        high = len(out)
        t = np.arange(first + low, first + high) / self.fs
        fade = span.fade(t, _NOISE_RAMP_S, *self._timeline.joins(span, same))
        total = sum((source.make(kind, first + low, high - low) for kind in kinds), np.zeros(high - low))
        out[low:high] += rms / math.sqrt(len(kinds)) * fade * total

    def _render_abp(self, first: int, clean: Floats) -> Floats:
        count = len(clean)
        joined = np.concatenate([self._past, clean])
        if len(self._past) < self._past_length:
            joined = np.concatenate([np.full(self._past_length - len(self._past), joined[0]), joined])
        here = len(joined) - count
        out = clean.copy()
        for span in self._spans:
            low, high = self._part(span, first, count)
            if span.episode.line is not None and high > low:
                t = np.arange(first + low, first + high) / self.fs
                out[low:high] = apply_fault(
                    span, self._line_began[span.index], joined[: here + low], clean[low:high], t, self.fs
                )
        self._add_pulse_noise(out, "ABP", first, _ABP_PULSE_MMHG)
        return out + _ABP_FLOOR_MMHG * self._noise["ABP"].floor(first, count)

    def _measure_pulses(self, first: int, clean: Floats) -> None:
        """Numbers of the pulses that have ended in what is rendered, from the clean pressure."""
        joined = np.concatenate([self._past, clean])
        origin = first - len(self._past)
        end = first + len(clean)
        while self._arriving:
            foot = self._foot(joined, origin, self._arriving[0])
            if len(self._arriving) > 1:
                after = self._foot(joined, origin, self._arriving[1])
            else:
                after = None
            limit = foot + math.ceil(_LONGEST_PULSE_S * self.fs)
            stop = limit if after is None else min(after, limit)
            # Without a known next foot, one may still come until the limit has been rendered.
            if stop > end or (after is None and limit > end):
                break
            pulse = joined[foot - origin : stop - origin]
            arriving = self._arriving.popleft()
            self.truth.add_pulse(
                TruePulse(
                    foot,
                    round(float(pulse.max()), 2),
                    round(float(pulse[0]), 2),
                    round(float(pulse.mean()), 2),
                    arriving.beat,
                    round(arriving.ejection.stroke, 3),
                    arriving.line,
                ),
                stop,
            )
        self._past = joined[-self._past_length :]

    def _foot(self, joined: Floats, origin: int, arriving: _Arriving) -> int:
        """The sample of least pressure about the ejection's beginning; past the rendered end, where it begins."""
        begin = self._sample(arriving.ejection.start_s - 0.04)
        stop = self._sample(arriving.ejection.start_s + 0.09)
        low, high = max(begin - origin, 0), stop - origin
        if high > len(joined):
            return origin + len(joined) + 1
        return origin + low + int(np.argmin(joined[low:high]))
