"""What one epoch is made of: examples drawn, balanced, augmented and mixed, in batches as a net takes them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from edge_train.arrays import Floats, Ints
from edge_train.data.windows import Windows
from edge_train.errors import DataError
from edge_train.task import Plan, Task

CHUNK_BATCHES = 16
"""So many batches are augmented at once."""


def _patient_weights(group: NDArray[np.str_]) -> NDArray[np.float64]:
    """Patients by the root of how many examples they have, so that the longest record does not decide."""
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    weight = 1 / np.sqrt(count[inverse])
    return np.asarray(weight / weight.sum(), np.float64)


def draw(windows: Windows, classes: int, plan: Plan, rng: np.random.Generator) -> Ints:
    """Rows for one epoch. With balanced batches, position i is of class i modulo the classes: every batch has all alike."""
    many = min(plan.per_epoch, len(windows))
    if plan.balance != "batches":
        return rng.permutation(len(windows))[:many].astype(np.int64)
    each = -(-many // classes)
    columns = []
    for label in range(classes):
        pool = np.flatnonzero(windows.label == label)
        columns.append(rng.choice(pool, each, p=_patient_weights(windows.group[pool])))
    return np.stack(columns, 1).reshape(-1).astype(np.int64)


def class_weights(label: Ints, classes: int, plan: Plan) -> Floats:
    """For ``balance = weights``: the inverse of how frequent a class is, 1 in the mean over examples."""
    if plan.balance != "weights":
        return np.ones(classes, np.float32)
    count = np.maximum(np.bincount(label, minlength=classes), 1)
    return (label.size / (classes * count)).astype(np.float32)


def _mix(
    inputs: dict[str, Floats], y: Floats, weight: Floats, rng: np.random.Generator, alpha: float
) -> tuple[dict[str, Floats], Floats, Floats]:
    """Zhang H et al., mixup: beyond empirical risk minimization, ICLR 2018; one share for all of an example's inputs."""
    if alpha <= 0:
        return inputs, y, weight
    share = rng.beta(alpha, alpha, len(y)).astype(np.float32)
    other = rng.permutation(len(y))

    def blend(a: Floats) -> Floats:
        part = share.reshape(-1, *[1] * (a.ndim - 1))
        return np.asarray(part * a + (1 - part) * a[other], np.float32)

    return {name: blend(x) for name, x in inputs.items()}, blend(y), blend(weight)


def shaped(task: Task, inputs: Mapping[str, Floats]) -> list[Floats]:
    """Flat rows as the net takes them, in its order."""
    made = []
    for name, shape in sorted(task.shapes().items()):
        x = inputs[name]
        if x.shape[1] != int(np.prod(shape)):
            raise DataError(f"{task.name}: input {name} has {x.shape[1]} numbers a row, the net takes {shape}")
        made.append(np.ascontiguousarray(x, np.float32).reshape(len(x), *shape))
    return made


def batches(
    task: Task, windows: Windows, rows: Ints, plan: Plan, rng: np.random.Generator
) -> Iterator[tuple[list[Floats], Floats, Floats]]:
    """Augmented batches, all of one size (a smaller last one is left out, unless it is the only one)."""
    classes = len(task.labels)
    weights = class_weights(windows.label, classes, plan)
    size = min(plan.batch, rows.size)
    for first in range(0, rows.size - size + 1, size * CHUNK_BATCHES):
        chunk = rows[first : min(first + size * CHUNK_BATCHES, rows.size // size * size)]
        part = windows.pick(chunk)
        inputs = {name: np.asarray(x, np.float32) for name, x in part.inputs.items()}
        if plan.augment > 0:
            inputs = task.augment(inputs, rng, plan.augment)
        y = np.eye(classes, dtype=np.float32)[part.label]
        inputs, y, weight = _mix(inputs, y, weights[part.label], rng, plan.mixing)
        whole = shaped(task, inputs)
        for at in range(0, chunk.size, size):
            yield [x[at : at + size] for x in whole], y[at : at + size], weight[at : at + size]
