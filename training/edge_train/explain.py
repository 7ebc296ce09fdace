"""Which samples a verdict came from: Grad-CAM and, as a check on it, integrated gradients; occlusion where only int8 is there.

Grad-CAM: Selvaraju RR et al., Grad-CAM: visual explanations from deep networks via gradient-based localization, ICCV 2017; here
along time, on the last feature maps of each signal, and in the form of Draelos RL, Carin L, arXiv:2011.08891 (HiResCAM): gradient
and map are multiplied place by place. The original averages the gradient over places first, which is the same where maps are
pooled, and wrong where they are flattened, as of beats, since there every place has weights of its own.

Integrated gradients: Sundararajan M et al., Axiomatic attribution for deep networks, ICML 2017; from a blank window (a flat line at
the window's mean, features of 0) in midpoint steps. They add up to the difference between the logit of the window and that of the
blank one; how well they do is said (``completeness``). Both methods look at the class's logit, so that a sure softmax does not hide
the gradient.

Grad-CAM shows where the last maps speak for the class, coarsely; integrated gradients show every sample, for and against. Their
agreement is the rank correlation of Grad-CAM with the positive integrated gradients, smoothed to Grad-CAM's own coarseness.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edge_train.arrays import Floats
from edge_train.errors import DataError
from edge_train.runtime import quiet

STEPS = 512
Ask = Callable[[dict[str, Floats]], Floats]
"""Flat rows by input name to scores (rows, labels)."""


@dataclass(frozen=True, slots=True)
class Attribution:
    """By input name; a signal's row has a number per sample, a feature input's a number per feature."""

    label: str
    score: float
    method: str
    """gradients or occlusion"""
    grad_cam: Mapping[str, Floats]
    """0 to 1; of signal inputs alone. Empty by occlusion."""
    integrated_gradients: Mapping[str, Floats]
    """In units of the logit. Empty by occlusion."""
    occlusion: Mapping[str, Floats]
    """What the class's score loses where the window is blanked. Empty by gradients."""
    agreement: Mapping[str, float | None]
    """Rank correlation by signal input; None where one of the two is flat."""
    completeness: float | None
    """Relative error of the integrated gradients' sum; None by occlusion."""


def logits_of(model: Any) -> Any:
    """The model up to what its softmax takes; the model itself where it ends in none."""
    tf = quiet()
    last = model.layers[-1]
    if isinstance(last, tf.keras.layers.Softmax):
        return tf.keras.Model(model.inputs, last.input)
    if getattr(last, "activation", None) is tf.keras.activations.softmax:
        made = tf.keras.models.clone_model(model)
        made.set_weights(model.get_weights())
        made.layers[-1].activation = tf.keras.activations.linear
        return tf.keras.Model(made.inputs, made.outputs[0])
    return model


def last_maps(model: Any) -> dict[str, list[Any]]:
    """By signal input: the last layers that still have a time axis and see nothing but signals. Several, where a net has several
    branches; one for several inputs, where these are its channels (the beat and the usual beat)."""
    tf = quiet()
    kinds = (tf.keras.layers.Conv1D, tf.keras.layers.Conv2D, tf.keras.layers.DepthwiseConv2D)
    signals = {part.name for part in model.inputs if len(part.shape) > 2}
    before: dict[str, set[str]] = {}  # all that a layer comes from
    maps: list[Any] = []
    for layer in model.layers:
        before[layer.name] = set()
        for node in layer._inbound_nodes:
            for parent in node.parent_nodes:
                name = parent.operation.name
                before[layer.name] |= {name} | before.get(name, set())
        sources = {part.name for part in model.inputs} & before[layer.name]
        if sources and sources <= signals and (isinstance(layer, kinds) or layer.name.endswith("_maps")):
            maps.append(layer)
    last = [layer for layer in maps if not any(layer.name in before[other.name] for other in maps)]
    return {
        name: found for name in sorted(signals) if (found := [layer for layer in last if name in before[layer.name]])
    }


def blank_of(x: Floats) -> Floats:
    """Of one window, shaped: a signal's is a flat line at its mean, numbers' are 0 (no history)."""
    return np.full_like(x, x.mean()) if x.ndim > 2 else np.zeros_like(x)


def integrated_gradients(
    logits: Any, inputs: Sequence[Floats], target: int, steps: int = STEPS
) -> tuple[list[Floats], float]:
    """Of one window (shaped, batch of 1), from a blank one; and the relative error of their sum."""
    blanks = [blank_of(x) for x in inputs]
    tf = quiet()
    totals = [np.zeros(x.shape[1:], np.float64) for x in inputs]
    for first in range(0, steps, 32):
        many = min(32, steps - first)
        along = ((np.arange(first, first + many) + 0.5) / steps).astype(np.float32)
        between = [
            tf.constant(flat + along.reshape(-1, *[1] * (x.ndim - 1)) * (x - flat))
            for x, flat in zip(inputs, blanks, strict=True)
        ]
        with tf.GradientTape() as tape:
            tape.watch(between)
            wanted = tf.reduce_sum(logits(between, training=False)[:, target])
        for total, slope in zip(totals, tape.gradient(wanted, between), strict=True):
            if slope is not None:
                total += np.asarray(slope, np.float64).sum(0)
    each = [
        np.asarray(total / steps * (x - flat)[0], np.float32)
        for total, x, flat in zip(totals, inputs, blanks, strict=True)
    ]
    whole = float(logits(list(inputs), training=False)[0, target])
    blank = float(logits(blanks, training=False)[0, target])
    due = whole - blank
    error = abs(sum(float(x.sum()) for x in each) - due) / max(abs(due), 1e-6)
    return each, error


def grad_cam(
    logits: Any, layers: Sequence[Any], inputs: Sequence[Floats], target: int, samples: int
) -> tuple[Floats, int]:
    """0 to 1 for each sample of the signal whose last maps are those of ``layers``; and how many steps these have at least.

    Rows of a window that was folded into a picture are laid end to end again.
    """
    tf = quiet()
    both = tf.keras.Model(logits.inputs, [*(layer.output for layer in layers), logits.outputs[0]])
    watched = [tf.constant(x) for x in inputs]
    with tf.GradientTape() as tape:
        tape.watch(watched)  # a frozen model records nothing else
        *every, said = both(watched, training=False)
        wanted = said[:, target]
    slopes = tape.gradient(wanted, every, unconnected_gradients=tf.UnconnectedGradients.ZERO)
    fine = np.zeros(samples)
    steps = samples
    for maps, slope in zip(every, slopes, strict=True):
        flat = np.asarray(maps)[0].reshape(-1, maps.shape[-1])
        heat = np.maximum((flat * np.asarray(slope)[0].reshape(flat.shape)).sum(1), 0)
        centres = (np.arange(heat.size) + 0.5) * samples / heat.size - 0.5
        fine += np.interp(np.arange(samples), centres, heat)
        steps = min(steps, heat.size)
    top = float(fine.max())
    return np.asarray(fine / top if top > 0 else fine, np.float32), steps


def rank_correlation(a: Floats, b: Floats) -> float | None:
    """Spearman's, ties sharing their mean rank; None where one of them does not vary."""
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(_ranks(a), _ranks(b))[0, 1])


def _ranks(x: Floats) -> Any:
    _, inverse, count = np.unique(x, return_inverse=True, return_counts=True)
    return (np.cumsum(count) - (count - 1) / 2)[inverse]


def smoothed(x: Floats, width: int) -> Floats:
    """A running mean about as wide as one step of Grad-CAM's maps."""
    width = max(1, width)
    return np.convolve(x, np.ones(width, np.float32) / width, mode="same").astype(np.float32)


def by_gradients(
    model: Any, inputs: Mapping[str, Floats], labels: Sequence[str], label: str | None = None
) -> Attribution:
    """Of one window (flat rows by name): the label it is called, or ``label``."""
    shaped = [np.asarray(inputs[part.name], np.float32).reshape(1, *part.shape[1:]) for part in model.inputs]
    scores = np.asarray(model(shaped, training=False))[0]
    target = int(scores.argmax()) if label is None else _index(labels, label)
    logits = logits_of(model)
    each, error = integrated_gradients(logits, shaped, target)
    integrated = {part.name: x.reshape(-1) for part, x in zip(model.inputs, each, strict=True)}
    cams: dict[str, Floats] = {}
    agreement: dict[str, float | None] = {}
    for name, layers in last_maps(logits).items():
        samples = integrated[name].size
        cams[name], steps = grad_cam(logits, layers, shaped, target, samples)
        speaking = smoothed(np.maximum(integrated[name], 0), round(samples / steps))
        agreement[name] = rank_correlation(cams[name], speaking)
    return Attribution(labels[target], float(scores[target]), "gradients", cams, integrated, {}, agreement, error)


def by_occlusion(
    ask: Ask, inputs: Mapping[str, Floats], labels: Sequence[str], signals: Sequence[str], label: str | None = None
) -> Attribution:
    """What the score of the class loses where a tenth of a signal (or one feature) is blank: needs no gradient, so works
    on the int8 file alone; coarse, and blind to what two stretches say alike."""
    rows = {name: np.asarray(x, np.float32).reshape(1, -1) for name, x in inputs.items()}
    scores = ask(rows)[0]
    target = int(scores.argmax()) if label is None else _index(labels, label)
    lost: dict[str, Floats] = {}
    for name, x in rows.items():
        size = x.shape[1]
        width = max(1, size // 10) if name in signals else 1
        step = max(1, width // 4)
        total, count = np.zeros(size), np.zeros(size)
        for first in range(0, max(1, size - width + 1), step):
            blank = x.copy()
            blank[0, first : first + width] = x.mean() if name in signals else 0
            fallen = float(scores[target] - ask(rows | {name: blank})[0, target])
            total[first : first + width] += fallen
            count[first : first + width] += 1
        lost[name] = np.asarray(total / np.maximum(count, 1), np.float32)
    return Attribution(labels[target], float(scores[target]), "occlusion", {}, {}, lost, {}, None)


def _index(labels: Sequence[str], label: str) -> int:
    if label not in labels:
        raise DataError(f"no class {label!r}; there are: {', '.join(labels)}")
    return list(labels).index(label)
