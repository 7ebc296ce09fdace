"""What tuning may change in a plan, and how far two plans are from each other."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from edge_train.errors import DataError
from edge_train.task import Plan

Params = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Real:
    name: str
    low: float
    high: float
    log: bool = False

    def suggest(self, trial: Any) -> Any:
        return trial.suggest_float(self.name, self.low, self.high, log=self.log)

    def unit(self, value: Any) -> float:
        """0 to 1."""
        low, high, at = self.low, self.high, float(value)
        if self.log:
            low, high, at = math.log(low), math.log(high), math.log(at)
        return (at - low) / (high - low)

    def draw(self, rng: Any) -> float:
        part = float(rng.random())
        if self.log:
            return math.exp(math.log(self.low) + part * (math.log(self.high) - math.log(self.low)))
        return self.low + part * (self.high - self.low)

    def distance(self, a: Any, b: Any) -> float:
        return abs(self.unit(a) - self.unit(b))


@dataclass(frozen=True, slots=True)
class Choice:
    name: str
    values: tuple[Any, ...]

    def suggest(self, trial: Any) -> Any:
        return trial.suggest_categorical(self.name, list(self.values))

    def draw(self, rng: Any) -> Any:
        return self.values[int(rng.integers(len(self.values)))]

    def distance(self, a: Any, b: Any) -> float:
        return 0.0 if a == b else 1.0


Space = Sequence[Real | Choice]


def space_of(plan: Plan, architectures: Sequence[str] = ()) -> Space:
    """Around a task's own plan; its architecture is kept unless several are asked for."""
    parts: list[Real | Choice] = [
        Choice("size", ("tiny", "small", "medium")),
        Choice("loss", ("crossentropy", "focal")),
        Choice("balance", ("none", "weights", "batches")),
        Choice("batch", (32, 64, 128, 256)),
        Real("rate", 3e-4, 1e-2, log=True),
        Real("augment", 0.0, 2.0),
        Real("dropout", 0.0, 0.6),
        Real("smoothing", 0.0, 0.1),
        Real("mixing", 0.0, 0.6),
    ]
    if plan.architecture.startswith("conv") or any(name.startswith("conv") for name in architectures):
        parts.append(Real("extra.width", 0.5, 2.0, log=True))
    if len(architectures) > 1:
        parts.insert(0, Choice("architecture", tuple(architectures)))
    return parts


def suggest(trial: Any, space: Space) -> dict[str, Any]:
    return {part.name: part.suggest(trial) for part in space}


def apply(plan: Plan, params: Params) -> Plan:
    """The plan with these changes."""
    plain = {name: value for name, value in params.items() if not name.startswith("extra.")}
    known = {field.name for field in fields(plan)}
    unknown = sorted(set(plain) - known)
    if unknown:
        raise DataError(f"a plan has no {', '.join(unknown)}")
    extra = {name.removeprefix("extra."): float(value) for name, value in params.items() if name.startswith("extra.")}
    return replace(plan, **plain, extra={**plan.extra, **extra})


def distance(space: Space, a: Params, b: Params, names: Sequence[str] | None = None) -> float:
    """Root mean square over the parameters (or those named): reals as parts of their range, choices 0 if alike, else 1.

    So a plan that differs in one choice of nine is .33 away, and only plans alike in every choice are near each other.
    """
    parts = [part for part in space if names is None or part.name in names]
    each = [part.distance(a[part.name], b[part.name]) for part in parts if part.name in a and part.name in b]
    return math.sqrt(sum(d * d for d in each) / len(each)) if each else math.inf
