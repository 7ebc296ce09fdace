"""What the verdict lane knows: the beats' classes as they came, and the scene of the newest tick."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from edge_agent.alarms.rhythm_watch import Change
from edge_agent.alarms.scene import NOTHING, Scene
from edge_agent.journey import Verdict

KEPT = 64


@dataclass(frozen=True, slots=True)
class JudgedBeat:
    sample: int
    label: str


@dataclass(slots=True)
class Judged:
    fs: float
    scene: Scene = NOTHING
    beats: dict[tuple[str, str], deque[JudgedBeat]] = field(default_factory=dict)
    """By channel and model (two models' verdicts on one beat are not two beats); abstentions are not among them."""
    rhythm: Change | None = None
    """Its last change: what it is, and since when."""

    def verdict(self, verdict: Verdict) -> None:
        """An abstention neither makes nor breaks a run."""
        if verdict.label is not None:
            window = verdict.window
            beats = self.beats.setdefault((window.channel, window.model), deque(maxlen=KEPT))
            beats.append(JudgedBeat(window.sample, verdict.label))

    def gap(self) -> None:
        """Nothing bridges missing samples, or windows that were turned away."""
        for beats in self.beats.values():
            beats.clear()
