"""One alarm's state over time: raised once per episode, cleared when its finding has stayed away long enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_agent.alarms.rules import Finding


@dataclass(frozen=True, slots=True)
class Transition:
    state: Literal["raised", "cleared"]
    number: int
    """Counts this alarm's episodes."""
    finding: Finding
    """Of the raise; a clear repeats the last one seen."""


class AlarmMachine:
    """Off, or raised; a finding that flickers within ``clear_after`` samples is one episode."""

    def __init__(self) -> None:
        self._raised: Finding | None = None
        self._seen = 0
        self._number = 0

    @property
    def raised(self) -> bool:
        return self._raised is not None

    def step(self, finding: Finding | None, now: int, clear_after: int) -> Transition | None:
        if finding is not None:
            self._seen = now
            new = self._raised is None
            self._raised = finding
            if new:
                self._number += 1
                return Transition("raised", self._number, finding)
        elif self._raised is not None and now - self._seen >= clear_after:
            last, self._raised = self._raised, None
            return Transition("cleared", self._number, last)
        return None
