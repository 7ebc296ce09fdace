"""Arterial pressure, ten seconds: is what the line shows the patient's pressure, or the line's doing?

An arrhythmia is not an artefact: premature beats, fibrillation, a pressure that runs off because the heart stopped are what a line is for.
They are among the normal examples, from recorded patients where the ECG proves them and from the simulated one where the script does.

Real lines of the Challenge 2015 (`edge_train.abp.lines` says what is known of them) with artefacts put on (`edge_train.abp.faults`;
the test set's by `edge_train.abp.probes`), and the simulated patient. Records are divided by a hash of their names; the test set
is all of the half that the daemon's pressure quality was not developed on, but for a third of it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_train.abp import faults, lines, probes, simulated
from edge_train.abp.cut import (
    ANOMALOUS,
    INPUTS,
    NORMAL,
    Rows,
    add_icmplus,
    add_injected,
    add_line,
    add_simulated,
    kinds,
)
from edge_train.abp.measures import flat, measure
from edge_train.arrays import Floats, Ints
from edge_train.counted import counted
from edge_train.data.part import WHOLE, thinned, thinned_by
from edge_train.data.windows import Split, Windows
from edge_train.files import digest_of
from edge_train.task import Plan

SETS = ("train", "validation", "test")
STEP_S: Mapping[str, float] = {"train": 1.0, "validation": 2.0, "test": 5.0}
EACH: Mapping[str, int] = {"train": 24, "validation": 6, "test": 8}
"""Artefacts of each kind per record."""
PATIENTS: Mapping[str, range] = {"train": range(36), "validation": range(100, 108), "test": range(200, 216)}
"""Seeds of simulated patients."""
SIMULATED_EACH = {"train": 8, "validation": 2, "test": 2}
MOST_FALSE = 0.003
"""Of clean segments on validation: a minute has six, so about 2 % of clean minutes."""


def set_of(record: str) -> str:
    """Which set a record of the Challenge belongs to."""
    second = hashlib.sha256(record.encode()).digest()[1]
    if lines.half_of(record) == "report" and second % 3:
        return "test"
    return "validation" if second % 4 == 0 else "train"


class AbpSegment:
    """The task; see `edge_train.task.Task`."""

    name = "abp-segment"
    labels: tuple[str, ...] = ("normal", "anomalous")
    positive: str | None = "anomalous"
    plans: Mapping[str, Plan] = {
        "abp-segment": Plan(
            "conv", "small", dropout=0.2, epochs=12, patience=12, per_epoch=16_000, extra={"width": 1.5}
        ),
        "abp-segment-lstm": Plan("lstm", "medium", dropout=0.2, epochs=10, patience=10, per_epoch=16_000),
    }

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {name: (1, part.samples, 1) for name, part in INPUTS.items()}

    def build(self, plan: Plan, batch: int | None = None) -> Any:
        """The comparison's own net: one sequence of both inputs, normalised, for the three LSTM layers. None: by name."""
        if plan.architecture != "lstm":
            return None
        from edge_train.fitting.architectures import SIZES
        from edge_train.fitting.recurrent import layers as recurrent
        from edge_train.runtime import quiet

        tf = quiet()
        layers, size = tf.keras.layers, SIZES[plan.size]
        steps = size.steps
        inputs, parts = [], []
        for (name, shape), filters in zip(sorted(self.shapes().items()), (8, 24), strict=True):
            entry = tf.keras.Input(shape, batch_size=batch, name=name)
            inputs.append(entry)
            stride = shape[1] // steps
            x = layers.Conv2D(
                filters, (1, 2 * stride), strides=(1, stride), padding="same", use_bias=False, name=f"{name}_stretch"
            )(entry)
            x = layers.BatchNormalization(name=f"{name}_norm", momentum=0.9)(x)  # mmHg are far from 1
            parts.append(layers.ReLU(6.0, name=f"{name}_maps")(x))
        x = layers.Concatenate(name="all")(parts)
        x = layers.Reshape((x.shape[2], x.shape[3]), name="steps")(x)
        for i, units in enumerate(size.recurrent):
            last = i == len(size.recurrent) - 1
            x = recurrent()["lstm"](units, return_sequences=not last, name=f"lstm{i}")(x)
        x = layers.Dropout(plan.dropout, name="drop")(x)
        x = layers.Dense(size.dense, activation="relu6", name="hidden")(x)
        return tf.keras.Model(
            inputs, layers.Softmax(name="scores")(layers.Dense(len(self.labels), name="logits")(x)), name="lstm"
        )

    def prepare(self, data: Path, oracle: bool, part: float = WHOLE) -> Split:  # noqa: ARG002
        """``oracle`` changes nothing: there are no beats here."""
        folder = data / "challenge2015"
        alarms = lines.alarms(folder)
        records = thinned_by(lines.names(folder), part, set_of)
        rows = {name: Rows() for name in SETS}
        for record in counted("records", records):
            where = set_of(record)
            line = lines.read(folder, record, alarms.get(record, False))
            clean = add_line(rows[where], line, STEP_S[where], weak=True)
            add_injected(rows[where], line, clean, _faults(where), EACH[where], _chance(record))
        for where, seeds in PATIENTS.items():
            for seed in counted(f"simulated patients, {where}", thinned(seeds, part)):
                patient = simulated.simulate(seed, held_out=where == "test")
                clean = add_simulated(rows[where], patient, 2.5)
                add_injected(rows[where], patient, clean, _faults(where), SIMULATED_EACH[where], _chance(patient.name))
        if (data / "icmplus").is_dir():
            add_icmplus(rows["train"], data / "icmplus")
        split = {name: made.windows() for name, made in rows.items()}
        files = [path for record in records for path in folder.glob(f"{record}.*")]
        return Split(
            **split,
            facts={
                "data": ["PhysioNet/CinC Challenge 2015 training set 1.0.0 (arterial pressure)", "simulated patient"],
                "sources": digest_of(files),
                "kinds": {name: _count(windows) for name, windows in split.items()},
                "untrained_kinds": list(probes.UNTRAINED),
            },
        )

    def augment(self, inputs: Mapping[str, Floats], rng: np.random.Generator, strength: float) -> dict[str, Floats]:
        """Another pressure of the same shape: level scaled and shifted, a little noise. The shape has no unit and stays."""
        level, shape = inputs["level"], inputs["shape"]
        n = len(level)
        gain = np.exp(rng.normal(0, 0.06 * strength, (n, 1)))
        shift = rng.normal(0, 3.0 * strength, (n, 1))
        still = level.std(1, keepdims=True) < 3.0  # about zero is zero, whatever the patient
        level = np.where(still, level, level * gain + shift).astype(np.float32)
        noise = rng.normal(0, 1, shape.shape) * np.abs(rng.normal(0, 0.015 * strength, (n, 1)))
        return {"level": level, "shape": (shape + noise).astype(np.float32)}

    def choose(self, scores: Floats, windows: Windows) -> dict[str, float]:
        """The lowest threshold that marks few enough of validation's clean segments."""
        clean = (windows.label == NORMAL) & (kinds(windows) != "arrhythmic")  # there a false mark may be a right one
        score = np.sort(scores[clean, 1])[::-1]
        best = float(score[min(int(MOST_FALSE * score.size), score.size - 1)])  # the first that must not be marked
        above = (np.floor(best * 1000) + 1) / 1000
        return {"normal": 0.0, "anomalous": round(float(np.clip(above, 0.5, 0.98)), 3)}

    def own_measures(self, scores: Floats, said: Ints, asked: Windows) -> dict[str, float]:  # noqa: ARG002
        """Kind by kind, and clean minutes: `edge_train.abp.measures` says what they mean."""
        return flat(measure(asked, said == ANOMALOUS))

    def about(
        self, artifact: str, facts: Mapping[str, Any], seed: int, thresholds: Mapping[str, float]
    ) -> dict[str, Any]:
        return {
            "task": "abp-segment",
            **({"optional": True} if artifact == "abp-segment-lstm" else {}),
            "labels": list(self.labels),
            "anchor": {"kind": "slide", "stride_s": 10.0},
            "inputs": [
                {
                    "kind": "signal",
                    "name": name,
                    "signal": "abp",
                    "rate_hz": part.rate_hz,
                    "samples": part.samples,
                    "before": part.samples,
                    "normalisation": part.normalisation,
                }
                for name, part in INPUTS.items()
            ],
            "output": {"scores": "none", "thresholds": dict(thresholds)},
            "training": {
                "data": list(facts["data"]),
                "licence": "Challenge 2015: Open Access on PhysioNet, ODC-By 1.0 as far as is known",
                "protocol": f"by record; artefacts of another generator in the test set; seed {seed}; data {facts['digest']}",
                "command": f"edge-train fit {artifact} --seed {seed}",
            },
        }


def _faults(where: str) -> Mapping[str, faults.Kind]:
    return probes.KINDS if where == "test" else faults.KINDS


def _chance(name: str) -> np.random.Generator:
    return np.random.default_rng(list(hashlib.sha256(name.encode()).digest()[:8]))


def _count(windows: Windows) -> dict[str, int]:
    names, count = np.unique(kinds(windows), return_counts=True)
    return dict(zip(names.tolist(), count.tolist(), strict=True))


TASK = AbpSegment()
