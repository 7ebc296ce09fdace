"""What is known of a stream at this moment: the one thing that every alarm rule looks at.

Filled from beats, onsets, pulses and qualities in the order in which they became known, so it is the same live and replayed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, fields, replace
from typing import Any, TypeVar

from edge_agent.alarms.rhythm_watch import Change
from edge_agent.journey import Beat, BeatShape, Onset, Pulse, Quality, Texture

BEATS_KEPT = 640  # 150 s at 250 /min
PULSES_KEPT = 640
TEXTURES_KEPT = 600  # 150 s
QUALITIES_KEPT = 300  # 150 s
OUT_OF_BAND = frozenset({"hum", "disagreement"})
"""What a lead may be called and still show 1 to 20 Hz as well as a good one: nobody agrees on the beats of a fibrillation."""


@dataclass(slots=True)
class Worth:
    """A channel's quality over time, as alarms need it."""

    quality: Quality | None = None
    bad_since: int | None = None
    """First sample of the present bad stretch, whatever the reasons."""
    unreadable_since: int | None = None
    """The same for having no signal at all (but values that were lost on the way),"""
    disturbed_since: int | None = None
    """and for having a bad one."""

    def see(self, quality: Quality) -> None:
        # The news covers a stretch; only what lies after the last news can have begun in it.
        begin = quality.first if self.quality is None else max(quality.first, self.quality.sample)
        self.bad_since = _since(not quality.good, self.bad_since, begin)
        self.unreadable_since = _since(quality.unconnected, self.unreadable_since, begin)
        self.disturbed_since = _since(not quality.good and not quality.unconnected, self.disturbed_since, begin)
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

    @property
    def clean(self) -> bool:
        """Not even noise that hides no beats."""
        return self.quality is not None and self.quality.good and not self.quality.borne


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
    clear_since: int = 0
    """The same, but that two detectors disagree, or mains hum, does not count as bad: shapes can be seen all the same."""
    clean_since: int = 0
    """The same, but that what hides no beats counts as bad, too."""
    textures: deque[Texture] = field(default_factory=lambda: deque(maxlen=TEXTURES_KEPT))
    """Four a second while there is a signal; the newest last."""
    shapes: deque[BeatShape] = field(default_factory=lambda: deque(maxlen=BEATS_KEPT))
    """Of its beats, up to a second and a half after they were found."""
    qualities: deque[Quality] = field(default_factory=lambda: deque(maxlen=QUALITIES_KEPT))


@dataclass(slots=True)
class PressureEvidence:
    onsets: deque[int] = field(default_factory=lambda: deque(maxlen=BEATS_KEPT))
    pulses: deque[Pulse] = field(default_factory=lambda: deque(maxlen=PULSES_KEPT))
    """Those that came while the line was usable."""
    seen: deque[Pulse] = field(default_factory=lambda: deque(maxlen=PULSES_KEPT))
    """All of them: `alarms.pulses` judges each by its resemblance to the patient's usual pulse."""
    qualities: deque[Quality] = field(default_factory=lambda: deque(maxlen=QUALITIES_KEPT))
    worth: Worth = field(default_factory=Worth)
    since: int = 0


Channel = TypeVar("Channel", EcgEvidence, PressureEvidence)


def _copied(channel: Channel) -> Channel:
    return replace(channel, **{part.name: _still(getattr(channel, part.name)) for part in fields(channel)})


def _still(value: Any) -> Any:
    """Copying a deque is one step for the interpreter, or it says that it was disturbed; then again."""
    if isinstance(value, Worth):
        return replace(value)
    if not isinstance(value, deque):
        return value
    while True:
        try:
            return value.copy()
        except RuntimeError:
            continue


@dataclass(slots=True)
class Evidence:
    """One stream's."""

    fs: float
    ecg: dict[str, EcgEvidence]
    abp: dict[str, PressureEvidence]
    pleth: dict[str, PressureEvidence]
    rhythm: Change | None = None
    """Its last change: what it is, and since when."""
    rhythm_judged: bool = False
    """The verdict lane follows the rhythm, and says it."""
    judges_stalled: bool = False
    """It has not been heard of for a while: what it says has to be said here."""
    absent_since: int | None = None
    """Where the samples stopped coming; None while they come."""
    engine_degraded: str | None = None
    """How the models run otherwise than they should."""
    arrest_until: int = 0
    """To where an asystole or a fibrillation has stood."""
    standing: frozenset[str] = frozenset()
    """The alarms that the stream's own lane has raised: the verdict lane holds back what they say already."""

    @property
    def judged(self) -> bool:
        """The verdict lane speaks for what needs the beats' classes."""
        return self.rhythm_judged and not self.judges_stalled

    def beat(self, beat: Beat) -> None:
        self.ecg[beat.channel].beats.append(beat.sample)

    def onset(self, onset: Onset) -> None:
        self._pressure(onset.channel).onsets.append(onset.sample)

    def pulse(self, pulse: Pulse) -> None:
        """Pulses of a line that is damped, flushed or off are no pressures."""
        line = self._pressure(pulse.channel)
        line.seen.append(pulse)
        if line.worth.usable:
            line.pulses.append(pulse)

    def shape(self, shape: BeatShape) -> None:
        self.ecg[shape.channel].shapes.append(shape)

    def texture(self, texture: Texture) -> None:
        self.ecg[texture.channel].textures.append(texture)

    def worth(self, channel: str) -> Worth:
        return (self.ecg.get(channel) or self._pressure(channel)).worth

    def quality(self, quality: Quality) -> None:
        lead = self.ecg.get(quality.channel)
        if lead is None:
            line = self._pressure(quality.channel)
            line.worth.see(quality)
            line.qualities.append(quality)
            return
        lead.qualities.append(quality)
        if not OUT_OF_BAND.issuperset(quality.reasons + quality.borne):
            lead.clear_since = quality.sample
        if quality.reasons or quality.borne:
            lead.clean_since = quality.sample
        was_good = lead.worth.good
        lead.worth.see(quality)
        if quality.good and not was_good:  # beats may have been missed before
            lead.since = max(lead.since, quality.first)

    def picture(self) -> Evidence:
        """A copy that stays as it is; may be made from another thread while this one is filled."""
        return replace(
            self,
            ecg={name: _copied(lead) for name, lead in self.ecg.items()},
            abp={name: _copied(line) for name, line in self.abp.items()},
            pleth={name: _copied(line) for name, line in self.pleth.items()},
        )

    def gap(self, end: int) -> None:
        """Nothing is concluded across missing samples."""
        for ecg in self.ecg.values():
            ecg.beats.clear()
            ecg.textures.clear()
            ecg.shapes.clear()
            ecg.qualities.clear()
            ecg.worth = Worth()
            ecg.since = end
            ecg.clear_since = end
            ecg.clean_since = end
        for pressure in (*self.abp.values(), *self.pleth.values()):
            pressure.onsets.clear()
            pressure.pulses.clear()
            pressure.seen.clear()
            pressure.qualities.clear()
            pressure.worth = Worth()
            pressure.since = end

    def _pressure(self, channel: str) -> PressureEvidence:
        return self.abp.get(channel) or self.pleth[channel]
