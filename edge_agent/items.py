"""What a stream's heap holds: all that became known, each with the sample at which it did, and the passing of time itself."""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.alarms.scene import NOTHING, Scene
from edge_agent.inference.feeder import Pending
from edge_agent.journey import Beat, BeatShape, Gap, Onset, Pulse, Quality, Texture


@dataclass(frozen=True, slots=True)
class Tick:
    """Time has passed, although nothing may have happened."""

    known: int
    scene: Scene = NOTHING
    """What is known now, for whoever takes this tick later."""
    last: bool = False
    """The signal has ended."""

    @property
    def sample(self) -> int:
        return self.known


Item = Beat | Onset | Pulse | Quality | BeatShape | Texture | Gap | Tick | Pending
RANK: dict[type, int] = {
    Gap: 0,
    Beat: 1,
    Onset: 2,
    Pulse: 3,
    Quality: 4,
    BeatShape: 5,
    Texture: 6,
    Pending: 7,
    Tick: 8,
}
"""Of items known at the same sample, what was lost comes first, then what was seen, then what is concluded from it."""
