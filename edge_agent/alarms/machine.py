"""One alarm's state over time.

off -> pending -> raised -> off, with one raise for an episode: a finding that flickers within ``clear_after`` samples is one episode.

``pending``: the finding is there, but it has not lasted ``confirm`` samples yet, or the last episode's ``refractory`` time is not over.
``suppressed``: the finding is there, but another signal speaks against it. Said once an episode; when what was
against it falls away the alarm
is raised. A raised alarm that another signal comes to speak against clears after ``contested_after`` samples: one error
of another lead's (a beat too many among five) speaks for as long as it is remembered.
``latched``: the finding has gone, and the alarm stays until it is acknowledged.

What people make of an alarm that stands (acknowledged it, silenced it, gave it another priority) is said in the step that finds it so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge_agent.alarms.rules.base import Finding

Said = Literal["raised", "updated", "cleared", "suppressed"]
State = Literal["off", "pending", "raised", "latched", "suppressed"]


@dataclass(frozen=True, slots=True)
class Times:
    """In samples."""

    clear_after: int
    update_after: int = 0
    """While it is raised, evidence that has changed is said again after this long; never, if 0."""
    confirm: int = 0
    refractory: int = 0
    contested_after: int = 0
    """In place of ``clear_after`` where it is longer and the definition holds, but another signal speaks against it."""


@dataclass(frozen=True, slots=True)
class Transition:
    state: Said
    number: int
    """Counts this alarm's episodes."""
    finding: Finding
    """As it is now; a clear repeats the last one seen."""
    reason: str | None = None
    active: bool = True
    acknowledged: bool = False


class AlarmMachine:
    def __init__(self) -> None:
        self.state: State = "off"
        self.acknowledged = False
        self._number = 0
        self._seen = 0
        """When there was last a finding of this episode, for it or (suppressed) against it."""
        self._finding: Finding | None = None
        self._said: Finding | None = None
        self._said_at = 0
        self._raised_at = 0
        self._pending_since: int | None = None
        self._not_before = 0
        self._shown: object = None

    @property
    def raised(self) -> bool:
        return self.state in ("raised", "latched")

    def step(
        self,
        finding: Finding | None,
        now: int,
        times: Times,
        *,
        latching: bool = False,
        acknowledged_at: int = -1,
        shown: object = None,
    ) -> Transition | None:
        """``acknowledged_at``: the sample at which this kind of alarm was last acknowledged. ``shown``: how it is to be shown, as far as
        people decide that: said again at once when it changes."""
        again = self.raised and shown != self._shown
        self._shown = shown
        if self.raised and not self.acknowledged and acknowledged_at >= self._raised_at:
            self.acknowledged = again = True
        if finding is not None and finding.against is None:
            return self._found(finding, now, times, again)
        self._pending_since = None
        if self.raised:
            against = None if finding is None else finding.against
            return self._missing(now, times, against, latching, again)
        if finding is not None:
            return self._against(finding, now)
        if self.state != "suppressed" or now - self._seen >= times.clear_after:
            self.state = "off"
        return None

    def end(self, now: int, reason: str) -> Transition | None:
        """Nothing more can be known: whatever it was is over."""
        raised = self.raised
        self._pending_since = None
        self.state = "off"
        return self._say("cleared", now, reason, active=False) if raised else None

    def _found(self, finding: Finding, now: int, times: Times, again: bool) -> Transition | None:
        if self.raised:
            self._seen, self._finding = now, finding
            back, self.state = self.state == "latched", "raised"
            changed = self._said is None or finding.evidence != self._said.evidence
            due = times.update_after and changed and now - self._said_at >= times.update_after
            return self._say("updated", now) if due or again or back else None
        if self._pending_since is None:
            self._pending_since = now
        if now - self._pending_since < times.confirm or now < self._not_before:
            if self.state != "suppressed":
                self.state = "pending"
            return None
        if self.state != "suppressed":  # that episode has its number already
            self._number += 1
        self._seen, self._finding = now, finding
        self.state = "raised"
        self._raised_at = now
        self.acknowledged = False
        return self._say("raised", now)

    def _missing(self, now: int, times: Times, against: str | None, latching: bool, again: bool) -> Transition | None:
        least = times.clear_after if against is None else max(times.clear_after, times.contested_after)
        if now - self._seen < least:
            return self._say("updated", now, active=self.state == "raised") if again else None
        if latching and not self.acknowledged:
            first, self.state = self.state == "raised", "latched"
            return self._say("updated", now, against, active=False) if first or again else None
        self.state = "off"
        self._not_before = now + times.refractory
        return self._say("cleared", now, against, active=False)

    def _against(self, finding: Finding, now: int) -> Transition | None:
        first = self.state != "suppressed"
        self.state = "suppressed"
        self._seen, self._finding = now, finding
        if not first:
            return None
        self._number += 1
        return self._say("suppressed", now, finding.against)

    def _say(self, state: Said, now: int, reason: str | None = None, *, active: bool = True) -> Transition:
        assert self._finding is not None  # nothing is said before there was one
        self._said, self._said_at = self._finding, now
        return Transition(state, self._number, self._finding, reason, active, self.acknowledged)
