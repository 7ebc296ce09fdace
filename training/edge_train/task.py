"""What every task says of itself, so that fit, tune, evaluate, explain, export and pack need to know none of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from edge_train.arrays import Floats
from edge_train.data.part import WHOLE
from edge_train.data.windows import Split


@dataclass(frozen=True, slots=True)
class Plan:
    """How a net is made and trained; with the seed and the data's digest, all that is needed to repeat it."""

    architecture: str = "conv"
    """A name in edge_train.fitting.architectures: conv, conv2d, dense, lstm, gru, strided, recurrence."""
    size: Literal["tiny", "small", "medium"] = "small"
    loss: Literal["crossentropy", "focal"] = "crossentropy"
    balance: Literal["none", "weights", "batches"] = "batches"
    """For classes of different frequency: as they come, weighted loss, or classes alike in every batch."""
    augment: float = 1.0
    """Strength of the task's augmentation; 0 is none."""
    dropout: float = 0.3
    smoothing: float = 0.02
    mixing: float = 0.0
    """Mixup's alpha; 0 is none."""
    epochs: int = 30
    patience: int = 6
    batch: int = 128
    rate: float = 2e-3
    per_epoch: int = 20_000
    """Examples drawn for one epoch; all of them where there are fewer."""
    extra: Mapping[str, float] = field(default_factory=dict)
    """What one architecture or task needs beyond these."""


class Task(Protocol):
    """One module each, registered by name in edge_train/tasks.py."""

    name: str
    """Of the task and its prepared data: ecg-af-rr."""
    labels: tuple[str, ...]
    plans: Mapping[str, Plan]
    """Artifact name to its plan: {"abp-segment": conv, "abp-segment-lstm": lstm}; the first is the default."""
    positive: str | None
    """The label that thresholds, ROC and early stopping are about; None for several classes alike."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """Input name to the shape that a net gives its row: (1, samples, 1) for a signal, (numbers,) for features."""

    def prepare(self, data: Path, oracle: bool, part: float = WHOLE) -> Split:
        """From the public data (the folder that holds mitdb, cinc2017, ...) to windows cut by the daemon's own code; ``part`` of it,
        every class and every set with its share."""

    def augment(self, inputs: Mapping[str, Floats], rng: np.random.Generator, strength: float) -> dict[str, Floats]:
        """Inputs (flat rows) as other patients or other recordings might have given them."""

    def about(
        self, artifact: str, facts: Mapping[str, Any], seed: int, thresholds: Mapping[str, float]
    ) -> dict[str, Any]:
        """Its own part of the manifest: what `packing.pack.whole` does not write; ``facts`` is the prepared data's data.json."""
