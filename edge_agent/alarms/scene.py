"""What the verdict lane needs of the evidence: a small frozen picture of the last seconds, carried by every tick.

The lane runs on another thread, some time after. It must see what was known when the tick was made, not what is known by now: so live and
replayed it concludes the same.
"""

from __future__ import annotations

import itertools
from collections import deque
from typing import Any, NamedTuple, TypeVar

from edge_agent.alarms.evidence import Evidence
from edge_agent.journey import BeatShape, Pulse, Texture

BEATS = 32
TEXTURES = 32
SHAPES = 32
PULSES = 24

T = TypeVar("T")


class LeadScene(NamedTuple):  # made four times a second: a tenth of a dataclass's time
    channel: str
    good: bool
    reasons: tuple[str, ...]
    bad_since: int | None
    since: int
    beats: tuple[int, ...]
    textures: tuple[Texture, ...]
    shapes: tuple[BeatShape, ...] = ()
    clear_since: int = 0
    clean_since: int = 0


class LineScene(NamedTuple):
    channel: str
    kind: str
    good: bool
    since: int
    onsets: tuple[int, ...]
    pulses: tuple[Pulse, ...]


class Scene(NamedTuple):
    known: int
    leads: tuple[LeadScene, ...] = ()
    lines: tuple[LineScene, ...] = ()
    absent_since: int | None = None
    standing: frozenset[str] = frozenset()

    def lead(self, channel: str) -> LeadScene | None:
        return next((lead for lead in self.leads if lead.channel == channel), None)


NOTHING = Scene(-1)


class SceneMaker:
    """Makes one stream's scenes. What has not changed since the one before is not copied again."""

    def __init__(self) -> None:
        self._newest: dict[tuple[str, str], tuple[Any, ...]] = {}

    def scene(self, evidence: Evidence, now: int) -> Scene:
        return Scene(
            now,
            tuple(
                LeadScene(
                    name,
                    lead.worth.good,
                    lead.worth.reasons,
                    lead.worth.bad_since,
                    lead.since,
                    self._of(name, "beats", lead.beats, BEATS),
                    self._of(name, "textures", lead.textures, TEXTURES),
                    self._of(name, "shapes", lead.shapes, SHAPES),
                    lead.clear_since,
                    lead.clean_since,
                )
                for name, lead in evidence.ecg.items()
            ),
            tuple(
                LineScene(
                    name,
                    kind,
                    line.worth.good,
                    line.since,
                    self._of(name, "onsets", line.onsets, PULSES),
                    self._of(name, "pulses", line.pulses, PULSES),
                )
                for kind, lines in (("abp", evidence.abp), ("pleth", evidence.pleth))
                for name, line in lines.items()
            ),
            evidence.absent_since,
            evidence.standing,
        )

    def _of(self, channel: str, what: str, items: deque[T], most: int) -> tuple[T, ...]:
        """The newest ones. What is added comes at the end, and no two items are the same: if the last one is, all are."""
        before = self._newest.get((channel, what), ())
        if not items:
            return ()
        if before and before[-1] is items[-1]:
            return before
        newest = self._newest[channel, what] = tuple(itertools.islice(reversed(items), most))[::-1]
        return newest
