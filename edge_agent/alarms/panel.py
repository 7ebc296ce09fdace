"""All the alarms of one lane of a stream: their rules asked, their machines stepped, what changed said.

A stream has two lanes (`pipeline` and `verdicts`), each with a panel of its own and the same controls: what people asked for while it runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Generic, TypeVar

from edge_agent import events
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.machine import AlarmMachine, Times, Transition
from edge_agent.alarms.rules.base import Rule
from edge_agent.stamp import Moment, Stamp

UPDATE_S = 10.0
"""Between two messages of an alarm that goes on, if its evidence has changed."""

CONTESTED = 2
"""While its definition still holds a raised alarm clears so many times `clear_s` after another signal has begun to speak against it."""

E = TypeVar("E")


@dataclass(slots=True)
class Controls:
    """Set from other threads; each entry is replaced as a whole."""

    silences: dict[str, int] = field(default_factory=dict)
    """Kind of alarm to the sample until which somebody silenced it,"""
    acknowledged: dict[str, int] = field(default_factory=dict)
    """and to the sample at which somebody acknowledged it."""
    panels: list[Callable[[str], bool]] = field(default_factory=list)
    """Whether a kind stands, of each panel that these are the controls of."""

    def stands(self, kind: str) -> bool:
        """Raised and not cleared, be it that only nobody has acknowledged it."""
        return any(stands(kind) for stands in self.panels)


class AlarmPanel(Generic[E]):
    def __init__(self, rules: Sequence[Rule[E]], *, fs: float, stamp: Stamp, controls: Controls) -> None:
        self._fs = fs
        self._stamp = stamp
        self._controls = controls
        self._alarms = [(rule, AlarmMachine()) for rule in rules]
        controls.panels.append(self._stands)
        self._limits: AlarmLimits | None = None
        self._times: list[Times] = []
        """Of each rule, in samples, for these limits."""
        self.standing: frozenset[str] = frozenset()
        """Those that are raised and have not been found gone."""

    def _stands(self, kind: str) -> bool:
        return any(rule.kind == kind and machine.state in ("raised", "latched") for rule, machine in self._alarms)

    def _times_of(self, rule: Rule[E], limits: AlarmLimits) -> Times:
        fs = self._fs
        return Times(
            clear_after=round(limits.clear_s * fs),
            contested_after=round(CONTESTED * limits.clear_s * fs),
            update_after=round(UPDATE_S * fs),
            confirm=round(rule.confirm_s * fs),
            refractory=round(rule.refractory_s * fs),
        )

    def step(
        self,
        evidence: E,
        now: int,
        limits: AlarmLimits,
        moment: Moment,
        standing: frozenset[str] = frozenset(),
        *,
        at: int | None = None,
    ) -> Iterator[events.Alarm]:
        """Ask every rule. ``standing``: what another lane's panel has raised. ``at``: the time for silences, where no samples tell."""
        if limits is not self._limits:
            self._limits, self._times = limits, [self._times_of(rule, limits) for rule, _ in self._alarms]
        late = now if at is None else at
        for (rule, machine), times in zip(self._alarms, self._times, strict=True):
            if rule.kind in limits.off:
                shown = self._shown(rule, late, limits)
                transition = machine.end(now, "switched off")
            else:
                finding = rule.find(evidence, now, limits)
                if finding is None and machine.state == "off":  # all of them, nearly always
                    continue
                # One that was raised stays as long as it is found: cleared and raised again it would be two alarms of one episode.
                if finding is not None and not machine.raised and (above := rule.under & (self.standing | standing)):
                    finding = replace(finding, against=f"{min(above)} stands")
                shown = self._shown(rule, late, limits)
                transition = machine.step(
                    finding,
                    now,
                    times,
                    latching=rule.kind in limits.latching,
                    acknowledged_at=self._controls.acknowledged.get(rule.kind, -1),
                    shown=shown,
                )
            if transition is not None:
                self.standing = frozenset(one.kind for one, other in self._alarms if other.state == "raised")
                yield self._event(rule, transition, now, shown, moment)

    def end(self, now: int, limits: AlarmLimits, moment: Moment, reason: str) -> Iterator[events.Alarm]:
        """No more can come: an alarm must not stand for ever on what once was."""
        for rule, machine in self._alarms:
            transition = machine.end(now, reason)
            if transition is not None:
                self.standing = frozenset()
                yield self._event(rule, transition, now, self._shown(rule, now, limits), moment)

    def _shown(self, rule: Rule[E], now: int, limits: AlarmLimits) -> tuple[events.Priority, bool]:
        """Its priority, and whether it is silenced."""
        return limits.priorities.get(rule.kind, rule.priority), now < self._controls.silences.get(rule.kind, 0)

    def _event(
        self, rule: Rule[E], transition: Transition, now: int, shown: tuple[events.Priority, bool], moment: Moment
    ) -> events.Alarm:
        priority, silenced = shown
        finding = transition.finding
        header = self._stamp(events.Alarm, now, now, moment)
        return events.Alarm(
            **header,  # type: ignore[arg-type]  # the stamp's fields are Event's
            id=f"{header['session']}-{header['stream']}-{rule.kind}-{'instead-' * rule.instead}{transition.number}",
            kind=rule.kind,
            state=transition.state,
            priority=priority,
            silenced=silenced,
            reason=transition.reason,
            confidence=finding.confidence,
            active=transition.active,
            acknowledged=transition.acknowledged,
            strip=None,
            channel=finding.channel,
            since=finding.since,
            delay_ms=(now - finding.met) / self._fs * 1000,
            evidence={"rule": rule.find.__name__, **finding.evidence},
        )
