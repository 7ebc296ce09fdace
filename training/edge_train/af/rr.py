"""Atrial fibrillation or not, from the last RR intervals alone: ``ecg-af-rr``.

Patients of VitalDB's arrhythmia annotations and of LTAFDB, divided into fifths (both databases, with and without
fibrillation, alike): the first is the test's, the second validates, three train, and simulated rhythms beside them. VitalDB does
not tell flutter from fibrillation, so neither does the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_train.af import simulated
from edge_train.af.courses import CLOCK_HZ, Course, Sequences, courses, fifths, files, sequences
from edge_train.arrays import Floats
from edge_train.counted import counted
from edge_train.data.part import WHOLE, thinned, thinned_by
from edge_train.data.windows import SETS, Split, Windows, join
from edge_train.files import digest_of
from edge_train.measuring.metrics import two_thresholds
from edge_train.task import Plan

INTERVALS = 64
CLIP = 1.0
"""The logarithm of an interval over the median is cut off here, as the int8 input saturates."""
STRIDE = 4
"""Of the shipped model: a verdict every fourth beat."""
TRAIN_STRIDE = {"vitaldb": 5, "ltafdb": 40}
"""VitalDB has twenty minutes of a patient, LTAFDB a day."""
SIMULATED_PATIENTS = {"N": 150, "AFIB": 25}
SIMULATED_WINDOWS = 200
"""Of each of them."""
TEST_FIFTH, VALIDATION_FIFTH = 0, 1
THRESHOLD = 70 / 256
"""From the four fifths that are not the test's, each asked by a net that has not seen it: ``python -m edge_train.af.folds rr``."""


class AfRr:
    name: str = "ecg-af-rr"
    labels: tuple[str, ...] = ("N", "AFIB")
    plans: Mapping[str, Plan] = {
        "ecg-af-rr": Plan(
            architecture="recurrence",
            balance="batches",
            epochs=10,
            patience=10,
            batch=128,
            per_epoch=25_000,
            rate=3e-3,
            dropout=0.2,
            extra={"dense": 24},
        )
    }
    positive: str | None = "AFIB"

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"rr": (1, INTERVALS, 1)}

    def prepare(self, data: Path, oracle: bool, part: float = WHOLE) -> Split:  # noqa: ARG002 (every task takes it)
        """``oracle`` changes nothing: there are annotated beats only, the detector's mistakes are simulated."""
        every = courses(data)
        dealt = fifths(every)
        found = thinned_by(every, part, lambda one: (dealt[one.patient], one.has_fibrillation))
        parts: dict[str, list[Windows]] = {name: [] for name in SETS}
        for course in counted("courses cut", found):
            fifth = dealt[course.patient]
            made = sequences(course, INTERVALS, TRAIN_STRIDE[course.patient.split("-")[0]])
            target = {TEST_FIFTH: "test", VALIDATION_FIFTH: "validation"}.get(fifth, "train")
            parts[target].append(_windows(course, made))
        parts["train"].append(_simulated(np.random.default_rng(0), part))
        facts = {
            "data": "VitalDB arrhythmia annotations, LTAFDB annotations, simulated rhythms (training only)",
            "sources": digest_of(files(data)),
            "intervals": INTERVALS,
            "simulated_patients": SIMULATED_PATIENTS,
            "fifths": dealt,
        }
        return Split(join(parts["train"]), join(parts["validation"]), join(parts["test"]), facts)

    def augment(self, inputs: Mapping[str, Floats], rng: np.random.Generator, strength: float) -> dict[str, Floats]:
        """A worse observer: R peaks off by some milliseconds, beats missed and beats heard twice, ectopic beats among any rhythm."""
        x = np.exp(inputs["rr"].astype(np.float64))
        n = len(x)
        x = simulated.jitter(x, rng, 0.5 * strength)
        ectopic = np.flatnonzero(rng.random(n) < 0.2 * strength)
        x[ectopic] = simulated.disturbed(x[ectopic], rng)
        for i in np.flatnonzero(rng.random(n) < 0.15 * strength):
            x[i] = simulated.misheard(x[i], rng)
        return {"rr": logarithms(x)}

    def choose(self, scores: Floats, windows: Windows) -> dict[str, float]:  # noqa: ARG002 (every task takes them)
        """One fifth's patients are too few to choose by: the threshold is from all that are not the test's (edge_train.af.folds)."""
        return two_thresholds(self.labels, "AFIB", THRESHOLD)

    def about(
        self, artifact: str, facts: Mapping[str, Any], seed: int, thresholds: Mapping[str, float]
    ) -> dict[str, Any]:
        return {
            "task": "ecg-rhythm",
            "labels": list(self.labels),
            "anchor": {"kind": "rr", "stride": STRIDE},
            "inputs": [{"kind": "rr", "name": "rr", "intervals": INTERVALS, "normalisation": "log_median"}],
            "output": {"scores": "none", "thresholds": dict(thresholds)},
            "training": {
                "data": [
                    "VitalDB Arrhythmia Database (annotations only), two thirds of its cases",
                    "Long-Term AF Database 1.0.0 (doi:10.13026/C2QG6Q), annotations of 8 records",
                ],
                "licence": "VitalDB annotations: MIT; LTAFDB: Open Data Commons Attribution License 1.0",
                "protocol": f"by patient: three fifths train, one validates, one is tested on; seed {seed}; data {facts['digest']}",
                "command": f"edge-train data prepare {self.name} && edge-train fit {artifact} --seed {seed} && edge-train pack {artifact}",
            },
        }


def operating_points(score: Floats, ill: np.ndarray[Any, Any], group: np.ndarray[Any, Any]) -> Floats:
    """Rows of threshold, sensitivity, specificity; patients count by the root of their windows, so that a day of one person does
    not decide."""
    _, inverse, count = np.unique(group, return_inverse=True, return_counts=True)
    weight = 1 / np.sqrt(count[inverse])
    rows = []
    for at in np.arange(1, 256) / 256:
        said = score >= at
        rows.append(
            (
                at,
                weight[ill & said].sum() / max(1e-9, weight[ill].sum()),
                weight[~ill & ~said].sum() / max(1e-9, weight[~ill].sum()),
            )
        )
    return np.array(rows, np.float32)


def best_point(points: Floats) -> float:
    """The threshold at which the sensitivity is as much above 96 % as the specificity is above 97 %."""
    return float(points[np.minimum(points[:, 1] - 0.96, points[:, 2] - 0.97).argmax(), 0])


def logarithms(intervals: np.ndarray[Any, Any]) -> Floats:
    """As RrHistory.sequence normalises, many sequences at once, cut off as the int8 input does."""
    ratio = np.log(intervals / np.median(intervals, axis=1, keepdims=True))
    return np.asarray(np.clip(ratio, -CLIP, CLIP), np.float32)


def _windows(course: Course, made: Sequences) -> Windows:
    """A window's label is the rhythm of most of its intervals."""
    n = len(made.rows)
    where = [f"{course.patient}:{at}" for at in (course.at[made.beat] / CLOCK_HZ).round(1).tolist()]
    return Windows(
        {"rr": np.clip(made.rows, -CLIP, CLIP)},
        (made.share > 0.5).astype(np.int64),
        np.full(n, course.patient, "U24"),
        np.array(where, "U40"),
    )


def _simulated(rng: np.random.Generator, part: float = WHOLE) -> Windows:
    parts = []
    for label, (name, make) in enumerate(
        (("N", simulated.without_fibrillation), ("AFIB", simulated.with_fibrillation))
    ):
        n = len(thinned(range(SIMULATED_PATIENTS[name]), part)) * SIMULATED_WINDOWS
        group = [f"simulated-{name}-{i // SIMULATED_WINDOWS}" for i in range(n)]
        parts.append(
            Windows(
                {"rr": logarithms(make(rng, n, 2 * INTERVALS)[:, -INTERVALS:])},
                np.full(n, label, np.int64),
                np.array(group, "U24"),
                np.array([f"{one}:{i % SIMULATED_WINDOWS}" for i, one in enumerate(group)], "U40"),
            )
        )
    return join(parts)


TASK = AfRr()
