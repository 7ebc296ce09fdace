"""The tasks that edge-train knows, one module each, and the beat model, which has code of its own (beats/model.py)."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from importlib import import_module

from edge_train.errors import DataError
from edge_train.task import Plan, Task

_MODULES = {
    "ecg-af-rr": "edge_train.af.rr",
    "ecg-af-10s": "edge_train.af.ten_seconds",
    "abp-segment": "edge_train.abp.segment",
    "beats-187": "edge_train.beats.beats_187",
}
"""Each offers ``TASK``; imported only when asked for."""
TASKS = tuple(_MODULES)
BEAT = "ecg-beat"
"""Not one of TASKS: three kinds of nets fitted apart and put into one file."""
BEAT_ARTIFACT = "ecg-beat-aami"


def task(name: str) -> Task:
    """The task of that name."""
    if name not in _MODULES:
        raise DataError(f"no task named {name!r}; {_nearest(name, TASKS)}")
    found: Task = import_module(_MODULES[name]).TASK
    return found


@dataclass(frozen=True, slots=True)
class Chosen:
    """What a command is about."""

    name: str
    """Of the task and its prepared data."""
    artifact: str
    task: Task | None
    """None for the beat model."""
    plan: Plan | None


def choose(name: str, plan: str | None = None) -> Chosen:
    """By the task's name (its first plan, or ``plan``) or by an artifact's."""
    if name in (BEAT, BEAT_ARTIFACT):
        if plan not in (None, BEAT_ARTIFACT):
            raise DataError(f"{name} has one plan, {BEAT_ARTIFACT}")
        return Chosen(BEAT, BEAT_ARTIFACT, None, None)
    if name in TASKS:
        found = task(name)
        artifact = plan or next(iter(found.plans))
        if artifact not in found.plans:
            raise DataError(f"{name} has no plan {plan!r}; {_nearest(artifact, tuple(found.plans))}")
        return Chosen(name, artifact, found, found.plans[artifact])
    for each in TASKS:
        found = task(each)
        if name in found.plans:
            return choose(each, plan or name)
    artifacts = [artifact for each in TASKS for artifact in task(each).plans]
    raise DataError(f"no task or artifact named {name!r}; {_nearest(name, (BEAT, BEAT_ARTIFACT, *TASKS, *artifacts))}")


def _nearest(name: str, known: tuple[str, ...]) -> str:
    near = difflib.get_close_matches(name, known, 1)
    every = ", ".join(dict.fromkeys(known))
    return f"did you mean {near[0]}? There are: {every}" if near else f"there are: {every}"
