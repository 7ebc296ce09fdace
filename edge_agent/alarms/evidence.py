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
    """First sample of the present bad stretch, whatever the reasons."""
    unreadable_since: int | None = None
    """The same for having no signal at all,"""
    disturbed_since: int | None = None
    """and for having a bad one."""

    def see(self, quality: Quality) -> None:
        # The news covers a stretch; only what lies after the last news can have begun in it.
        begin = quality.first if self.quality is None else max(quality.first, self.quality.sample)
        self.bad_since = _since(not quality.good, self.bad_since, begin)
        self.unreadable_since = _since(quality.unreadable, self.unreadable_since, begin)
        self.disturbed_since = _since(not quality.good and not quality.unreadable, self.disturbed_since, begin)
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


def _since(holds: bool, since: int | None, begin: int) -> int | None:
    if not holds:
        return None
    return begin if since is None else since


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
        """Pulses of a line that is damped, flushed or off are no pressures."""
        line = self._pressure(pulse.channel)
        if line.worth.usable:
            line.pulses.append(pulse)

    def worth(self, channel: str) -> Worth:
        return (self.ecg.get(channel) or self._pressure(channel)).worth

    def quality(self, quality: Quality) -> None:
        lead = self.ecg.get(quality.channel)
        if lead is None:
            self._pressure(quality.channel).worth.see(quality)
            return
        was_good = lead.worth.good
        lead.worth.see(quality)
        if quality.good and not was_good:  # beats may have been missed before
            lead.since = max(lead.since, quality.first)

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
