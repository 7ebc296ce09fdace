"""Teaching a model one patient by his corrected windows, without forgetting everybody else.

The patient's windows teach by their corrected labels. Everybody else's windows stand beside them in every batch, and there the
model is held to what it said before (Li Z, Hoiem D, Learning without forgetting, ECCV 2016): so nothing about the frequency of
classes or the thresholds moves by itself. Only the last layers move; normalisation layers keep their statistics.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_agent.inference.artifact import version_key
from edge_agent.inference.manifest import VERSION, Manifest
from edge_train.arrays import Floats, Ints
from edge_train.data.cutting import saturated
from edge_train.data.windows import Windows
from edge_train.errors import DataError
from edge_train.explain import logits_of
from edge_train.finetuning.corrections import Corrected
from edge_train.packing.gate import as_said, class_f1, engine_scores
from edge_train.runtime import quiet

FEWEST = 12
"""Windows that each part of the corrections needs: with fewer, nothing is learned and nothing measured."""
COUNTED = 20
"""Examples that a class needs in a test set for its F1 to count there."""
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    unfreeze: int = 2
    """Layers with weights, counted from the end."""
    epochs: int = 40
    patience: int = 6
    rate: float = 1e-3
    batch: int = 32
    general_share: float = 1.0
    """Windows of everybody else for each of the patient's, in every batch."""
    hold: float = 1.0
    """Weight of staying as it was on everybody else's windows."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Measured:
    """F1 in percent of the int8 model through the daemon's engine."""

    patient: Mapping[str, float]
    general: Mapping[str, float]
    patient_macro: float
    general_macro: float

    def as_json(self) -> dict[str, Any]:
        return {
            "patient": {"macro_f1": self.patient_macro, "f1": dict(self.patient)},
            "general": {"macro_f1": self.general_macro, "f1": dict(self.general)},
        }


def check(corrected: Corrected, manifest: Manifest) -> None:
    """Refuse corrections that can neither teach nor measure."""
    for name in ("train", "stop", "test"):
        part: Windows = getattr(corrected, name)
        if len(part) < FEWEST:
            raise DataError(
                f"only {len(part)} corrected windows in the part that is to {_PARTS[name]}; {FEWEST} are wanted: review more"
            )
        for key, x in part.inputs.items():
            if not np.isfinite(x).all():
                raise DataError(f"corrections: input {key} holds numbers that are none")
    if np.unique(corrected.train.label).size < 2:
        only = manifest.labels[int(corrected.train.label[0])]
        raise DataError(f"the corrections to learn from are all of class {only}: there is nothing to tell apart")


_PARTS = {"train": "teach", "stop": "stop in time", "test": "measure"}


def unfreeze(model: Any, layers: int) -> list[str]:
    """All layers but the last ``layers`` with weights stand still; the names of those that move."""
    tf = quiet()
    weighted = [
        layer for layer in model.layers if layer.weights and not isinstance(layer, tf.keras.layers.BatchNormalization)
    ]
    if not 1 <= layers <= len(weighted):
        raise DataError(f"--unfreeze {layers}: the net has {len(weighted)} layers with weights")
    moving = {id(layer) for layer in weighted[-layers:]}
    for layer in model.layers:
        layer.trainable = id(layer) in moving
    return [layer.name for layer in weighted[-layers:]]


def _loss(tf: Any, output: str) -> Callable[[Any, Any], Any]:
    """Cross-entropy of logits against labels or against what was said before; a mean over the windows."""

    def softmax(logits: Any, wanted: Any) -> Any:
        return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(wanted, logits))

    def sigmoid(logits: Any, wanted: Any) -> Any:
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(wanted, logits))

    return sigmoid if output == "sigmoid" else softmax


def teach(
    model: Any,
    manifest: Manifest,
    tflite: bytes,
    corrected: Corrected,
    everybody: Windows,
    settings: Settings,
    say: Say,
) -> dict[str, Any]:
    """The model itself is changed: to its best epoch by the part that stops in time, and by what is kept of everybody else.

    Raises DataError where no epoch was better than none.
    """
    tf = quiet()
    tf.keras.utils.set_random_seed(settings.seed)
    rng = np.random.default_rng(settings.seed)
    moving = unfreeze(model, settings.unfreeze)
    logits = logits_of(model)
    loss = _loss(tf, manifest.output.scores)

    def rows(part: Windows) -> list[Floats]:
        inputs = saturated({name: np.asarray(x, np.float32) for name, x in part.inputs.items()}, manifest, tflite)
        return [inputs[each.name].reshape(-1, *each.shape[1:]) for each in model.inputs]

    def onehot(label: Ints) -> Floats:
        return np.eye(len(manifest.labels), dtype=np.float32)[label]

    def said(inputs: list[Floats]) -> Floats:
        made = [
            np.asarray(logits([x[i : i + 512] for x in inputs], training=False)) for i in range(0, len(inputs[0]), 512)
        ]
        raw = np.concatenate(made)
        return as_said(raw, "sigmoid" if manifest.output.scores == "sigmoid" else "softmax")

    many = min(round(0.8 * len(everybody)), max(512, round(4 * settings.general_share * len(corrected.train))))
    # Classes by the root of their frequency: of a class that is hardly there, nothing would be held.
    weight = 1 / np.sqrt(np.bincount(everybody.label, minlength=len(manifest.labels))[everybody.label])
    drawn = rng.choice(len(everybody), min(len(everybody), many + many // 4), replace=False, p=weight / weight.sum())
    held, watched = rows(everybody.pick(drawn[:many])), rows(everybody.pick(drawn[many:]))
    before, watched_before = said(held), said(watched)
    x, y = rows(corrected.train), onehot(corrected.train.label)
    x_stop, y_stop = rows(corrected.stop), onehot(corrected.stop.label)
    optimiser = tf.keras.optimizers.Adam(settings.rate, clipnorm=1.0)
    variables = list(model.trainable_variables)
    optimiser.build(variables)

    def step(patient: Any, wanted: Any, others: Any, as_before: Any) -> Any:
        with tf.GradientTape() as tape:
            total = loss(logits(patient, training=False), wanted)
            total += settings.hold * loss(logits(others, training=False), as_before)
        optimiser.apply(tape.gradient(total, variables), variables)
        return total

    step = tf.function(step, reduce_retracing=True)

    def score() -> float:
        """Lower is better."""
        patient = float(loss(logits(x_stop, training=False), y_stop))
        others = float(loss(logits(watched, training=False), watched_before))
        return patient + settings.hold * others

    best, best_epoch, best_weights = score(), 0, model.get_weights()
    say(f"before: {best:.4f}; {len(y)} windows of the patient, {len(held[0])} of others; moving: {', '.join(moving)}")
    size = min(settings.batch, len(y))
    beside = min(max(1, round(settings.general_share * size)), len(held[0]))
    for epoch in range(1, settings.epochs + 1):
        order = rng.permutation(len(y))
        for first in range(0, len(y) - size + 1, size):
            mine, theirs = order[first : first + size], rng.integers(0, len(held[0]), beside)
            total = float(step([each[mine] for each in x], y[mine], [each[theirs] for each in held], before[theirs]))
            if not np.isfinite(total):
                raise DataError(
                    f"fine-tuning: the loss is no longer a number; a smaller --rate than {settings.rate} may help"
                )
        found = score()
        better = found < best - 1e-5
        if better:
            best, best_epoch, best_weights = found, epoch, model.get_weights()
        say(f"  epoch {epoch:3d}  loss {total:.4f}  kept aside {found:.4f}{'  best' if better else ''}")
        if epoch - best_epoch >= settings.patience:
            break
    model.set_weights(best_weights)
    if best_epoch == 0:
        raise DataError("fine-tuning: no epoch was better than the model as it is; nothing is written")
    return {"layers": moving, "epochs": epoch, "best_epoch": best_epoch}


def measure(tflite: bytes, manifest: Manifest, corrected: Corrected, everybody: Windows) -> Measured:
    """On the patient's test part and on everybody else's test set."""
    names = [part.name for part in manifest.inputs]

    def of(part: Windows) -> dict[str, float]:
        scores = as_said(engine_scores(tflite, part, names, len(manifest.labels)), manifest.output.scores)
        return class_f1(scores, part.label, manifest.labels, manifest.output.thresholds)

    patient, general = of(corrected.test), of(everybody)
    return Measured(
        patient,
        general,
        macro(patient, corrected.test.label, manifest.labels, 1),
        macro(general, everybody.label, manifest.labels, COUNTED),
    )


def macro(f1: Mapping[str, float], truth: Ints, labels: Sequence[str], fewest: int) -> float:
    """Over the classes that the set has enough examples of."""
    counted = [f1[label] for i, label in enumerate(labels) if int((truth == i).sum()) >= fewest]
    if not counted:
        raise DataError(f"no class has {fewest} examples in the test set: nothing can be measured")
    return float(np.mean(counted))


def judge(before: Measured, after: Measured, allow: float) -> None:
    """Raises DataError where everybody else, or the patient himself, is worse off."""
    fallen = before.general_macro - after.general_macro
    if fallen > allow:
        raise DataError(
            f"the general test set's macro-F1 falls by {fallen:.2f} points ({before.general_macro:.2f} to {after.general_macro:.2f}),"
            f" more than --allow {allow:g}; nothing is written. Fewer layers (--unfreeze), a smaller --rate or a larger --hold may keep it"
        )
    if after.patient_macro < before.patient_macro:
        raise DataError(
            f"the patient's own macro-F1 falls from {before.patient_macro:.2f} to {after.patient_macro:.2f}; nothing is written"
        )


def version_after(version: str, wanted: str | None) -> str:
    """The new one's: as wanted, if it is higher, else the next."""
    if wanted is None:
        return next_version(version)
    if not re.fullmatch(VERSION, wanted) or version_key(wanted) <= version_key(version):
        raise DataError(f"--version {wanted}: three numbers with dots are wanted, higher than {version}")
    return wanted


def next_version(version: str) -> str:
    major, minor, patch = version.split(".")
    return f"{major}.{minor}.{int(patch) + 1}"
