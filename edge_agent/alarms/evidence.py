"""What is known of a stream at this moment: the one thing that every alarm rule looks at.

Filled from beats, onsets, pulses and qualities in the order in which they became known, so it is the same live and replayed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edge_agent.journey import Beat, Onset, Pulse, Quality

BEATS_KEPT = 64
PULSES_KEPT = 512  # over two minutes at 250 /min


@dataclass(slots=True)
class Worth:
    """A channel's quality over time, as alarms need it."""

    quality: Quality | None = None
    bad_since: int | None = None
    """First sample of the present bad stretch."""

    def see(self, quality: Quality) -> None:
        if quality.good:
            self.bad_since = None
        elif self.bad_since is None:
            # The news covers a stretch; only what lies after the last good news can have been bad.
            self.bad_since = quality.first if self.quality is None else max(quality.first, self.quality.sample)
        self.quality = quality

    @property
    def good(self) -> bool:
        """Known to be good: nothing is built on a channel that nothing is known of."""
        return self.quality is not None and self.quality.good

    @property
    def usable(self) -> bool:
        """Good, or at most drifting: a true fall or rise of pressure looks like drift, and must not silence its alarm."""
        return self.quality is not None and set(self.quality.reasons) <= {"drift"}

    @property
    def reasons(self) -> tuple[str, ...]:
        return () if self.quality is None else self.quality.reasons


@dataclass(slots=True)
class EcgEvidence:
    beats: deque[int] = field(default_factory=lambda: deque(maxlen=BEATS_KEPT))
    worth: Worth = field(default_factory=Worth)
    since: int = 0
    """Where this channel's unbroken signal began: the start, or the end of the last gap or bad stretch."""


@dataclass(slots=True)
class PressureEvidence:
    onsets: deque[int] = field(default_factory=lambda: deque(maxlen=BEATS_KEPT))
    pulses: deque[Pulse] = field(default_factory=lambda: deque(maxlen=PULSES_KEPT))
    worth: Worth = field(default_factory=Worth)
    since: int = 0


@dataclass(slots=True)
class Evidence:
    """One stream's."""

    fs: float
    ecg: dict[str, EcgEvidence]
    abp: dict[str, PressureEvidence]
    pleth: dict[str, PressureEvidence]
    rhythm: str = "unknown"
    rhythm_since: int = 0
    rhythm_known: int = 0
    rhythm_channel: str | None = None

    def beat(self, beat: Beat) -> None:
        self.ecg[beat.channel].beats.append(beat.sample)

    def onset(self, onset: Onset) -> None:
        self._pressure(onset.channel).onsets.append(onset.sample)

    def pulse(self, pulse: Pulse) -> None:
        self._pressure(pulse.channel).pulses.append(pulse)

    def worth(self, channel: str) -> Worth:
        return (self.ecg.get(channel) or self._pressure(channel)).worth

    def quality(self, quality: Quality) -> None:
        channel = self.ecg.get(quality.channel) or self._pressure(quality.channel)
        was_usable = channel.worth.usable
        channel.worth.see(quality)
        if channel.worth.usable and not was_usable:
            channel.since = max(channel.since, quality.first)

    def gap(self, end: int) -> None:
        """Nothing is concluded across missing samples."""
        for ecg in self.ecg.values():
            ecg.beats.clear()
            ecg.worth = Worth()
            ecg.since = end
        for pressure in (*self.abp.values(), *self.pleth.values()):
            pressure.onsets.clear()
            pressure.pulses.clear()
            pressure.worth = Worth()
            pressure.since = end

    def _pressure(self, channel: str) -> PressureEvidence:
        return self.abp.get(channel) or self.pleth[channel]
