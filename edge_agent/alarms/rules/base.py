"""What a rule is: a short function over the evidence, and what it answers.

A rule answers with a `Finding` while its definition holds and with None while it does not. Where the definition holds on one signal, but
another one that can be trusted says that it is not so, the finding says what is against it: the alarm is then published as `suppressed`
and not raised.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from edge_agent.alarms.limits import AlarmLimits
from edge_agent.events import AlarmKind, Priority

DETECTION_S = 0.6
"""A beat is known up to this long after it happened: a pause is only sure when that has passed too."""


@dataclass(frozen=True, slots=True)
class Finding:
    """A definition that holds now."""

    since: int
    """Sample from which the evidence counts."""
    met: int
    """Sample at which the definition was met."""
    channel: str | None
    evidence: dict[str, Any] = field(default_factory=dict)
    confidence: float = 1.0
    against: str | None = None
    """What another signal says against it."""


ARREST: frozenset[str] = frozenset({"asystole", "ventricular_fibrillation"})
"""Whatever else is counted while the heart stands or quivers is a name for a part of it: one episode, one alarm."""
RUNS = ARREST | {"ventricular_tachycardia"}
QUIVERS = frozenset({"ventricular_fibrillation"})
"""Shows no QRS either. What stands still afterwards is raised when the fibrillation has been found gone."""

ABP = frozenset({"abp"})
LINES = frozenset({"abp", "pleth"})
"""Kinds of channels that rules need."""

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Rule(Generic[E]):
    """One alarm."""

    kind: AlarmKind
    priority: Priority
    """After IEC 60601-1-8; the configuration may change it."""
    find: Callable[[E, int, AlarmLimits], Finding | None]
    confirm_s: float = 0.0
    """How long the finding is pending before it is said: where single instants deceive."""
    refractory_s: float = 0.0
    """From a clear to the next raise at the least: for what would otherwise come and go all day."""
    needs: frozenset[str] = frozenset()
    """Kinds of channels without which it can find nothing: a stream that has none of them does not ask it."""
    instead: bool = False
    """Speaks in the verdict lane's place; its episodes are numbered apart."""
    under: frozenset[str] = frozenset()
    """Alarms that say more of the same: while one of them stands this one is not raised. (A bedside monitor's chain.)"""


def confidence(agree: int, speak: int) -> float:
    """Of so many signals that could speak, so many agree: the rule of succession, so that one signal alone is never certain."""
    return round((agree + 1) / (speak + 2), 3)
