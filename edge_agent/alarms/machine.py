"""One alarm's state over time: raised once per episode, cleared when its finding has stayed away long enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_agent.alarms.rules import Finding


@dataclass(frozen=True, slots=True)
class Transition:
    state: Literal["raised", "updated", "cleared"]
    number: int
    """Counts this alarm's episodes."""
    finding: Finding
    """As it is now; a clear repeats the last one seen."""


class AlarmMachine:
    """Off, or raised; a finding that flickers within ``clear_after`` samples is one episode.

    While it is raised, evidence that has changed is said again after ``update_after`` samples (never, if that is 0).
    """

    def __init__(self) -> None:
        self._raised: Finding | None = None
        self._seen = 0
        self._said: Finding | None = None
        self._said_at = 0
        self._number = 0

    @property
    def raised(self) -> bool:
        return self._raised is not None

    def step(self, finding: Finding | None, now: int, clear_after: int, update_after: int = 0) -> Transition | None:
        if finding is not None:
            self._seen = now
            new = self._raised is None
            self._raised = finding
            if new:
                self._number += 1
                return self._say("raised", finding, now)
            changed = self._said is None or finding.evidence != self._said.evidence
            if update_after and changed and now - self._said_at >= update_after:
                return self._say("updated", finding, now)
        elif self._raised is not None and now - self._seen >= clear_after:
            last, self._raised = self._raised, None
            return self._say("cleared", last, now)
        return None

    def _say(self, state: Literal["raised", "updated", "cleared"], finding: Finding, now: int) -> Transition:
        self._said, self._said_at = finding, now
        return Transition(state, self._number, finding)
