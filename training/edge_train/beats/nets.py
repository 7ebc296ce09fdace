"""The beat model's nets and how they become one; edge_train.beats.model says why they are several."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.signal.usual_beat import SHAPE_FEATURES
from edge_train.arrays import Floats
from edge_train.beats.cut import Beats
from edge_train.beats.inputs import GRID, P_NUMBERS, RR_FEATURES
from edge_train.data.mitdb import LABELS
from edge_train.runtime import quiet

CLIPS = {"beat": 6.0, "rr": 1.0, "shape": 2.0, "usual": 6.0}
"""Inputs saturate here, in training and (by the range of the int8 input) on the device."""
WAVE = ("NS", "V", "F", "Q")
WAVE_RR = (
    "rr_last_log",
    "rr_median8_log",
    "rr_prev_median8_log",
    "rr_p50_60s_log",
    "rr_p90_60s_log",
    "rr_cv_30s",
    "rr_step_30s",
    "rr_p10_p50_60s_log",
    "rr_p90_p50_60s_log",
)
"""What the wave nets see of the rhythm."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one training does; with the seed and the data's digest, all that is needed to repeat it."""

    members: int = 3
    """Wave nets averaged."""
    filters: tuple[int, ...] = (16, 24, 32)
    kernels: tuple[int, ...] = (5, 5, 3)
    dense: int = 24
    context: int = 16
    experts: int = 5
    expert: tuple[int, ...] = (48, 32)
    epochs: int = 14
    batch: int = 128
    rate: float = 2e-3
    smoothing: float = 0.05
    """Of the labels: keeps the logits small, which int8 needs too."""
    mixing: float = 0.2
    """Mixup's alpha: pairs of beats are blended, labels too."""
    per_epoch: tuple[int, ...] = (6000, 3000, 300, 30)
    """Beats of each WAVE class drawn for one epoch."""
    other_leads: float = 0.3
    """Share of the beats drawn that come from the record's other lead."""
    simulated: float = 0.1
    """And from simulated patients."""
    expert_epochs: int = 20
    expert_batch: int = 512
    expert_smoothing: float = 0.02
    expert_per_epoch: tuple[int, int, int] = (60_000, 20_000, 8_000)
    """Beats drawn for one epoch of the expert: N, S, V."""
    p_nets: int = 3
    """Nets of the P wave, averaged."""
    p_form: tuple[int, ...] = (16, 8)
    p_epochs: int = 12
    p_batch: int = 256
    p_rate: float = 3e-3
    p_smoothing: float = 0.05
    p_per_epoch: tuple[int, int] = (12_000, 12_000)
    """Beats drawn for one epoch of a P net: N, S."""
    v_offset: float = 0.0
    """Of V's logit. In three folds over DS1's patients no other one did better than none."""
    validate: bool = False
    """Whether the wave nets are tried on three folds of DS1's patients too: twice the time."""


def shaped(inputs: Sequence[Floats]) -> list[Floats]:
    """Flat rows in the model's order as its nets take them, clipped as the int8 inputs saturate."""
    beat, rr, shape, usual = (
        np.clip(x, -clip, clip).astype(np.float32) for x, clip in zip(inputs, CLIPS.values(), strict=True)
    )
    return [beat[:, None, :, None], rr, shape, usual[:, None, :, None]]


def flat_inputs(beats: Beats) -> list[Floats]:
    return [beats.beat, beats.rr, beats.shape, beats.usual]


def _inputs(tf: Any, batch: int | None = None) -> tuple[Any, ...]:
    """The daemon takes a file's inputs in order of name, and the manifest lists them so."""
    shapes = ((1, GRID.samples, 1), (len(RR_FEATURES),), (len(SHAPE_FEATURES),), (1, GRID.samples, 1))
    return tuple(tf.keras.Input(shape, batch_size=batch, name=name) for name, shape in zip(CLIPS, shapes, strict=True))


def _wave_body(tf: Any, inputs: Sequence[Any], plan: Plan, member: int) -> Any:
    """Height-1 2-D operators only: all of them map to the Edge TPU. ``inputs``: rr here holds WAVE_RR or all."""
    layers = tf.keras.layers
    beat, rr, shape, usual = inputs
    x = layers.Concatenate(axis=-1, name=f"pair{member}")([beat, usual])
    for i, (filters, kernel) in enumerate(zip(plan.filters, plan.kernels, strict=True)):
        layer = layers.Conv2D(
            filters, (1, kernel), strides=(1, 2), padding="same", activation="relu6", name=f"conv{member}_{i}"
        )
        x = layer(x)
    x = layers.Dropout(0.4, name=f"drop{member}")(layers.Flatten(name=f"flat{member}")(x))
    x = layers.Dense(plan.dense, activation="relu6", name=f"form{member}")(x)
    # Added, not concatenated: inputs of different ranges would have to be requantised.
    rhythm = layers.Dense(plan.context, name=f"rhythm{member}")(rr)
    compared = layers.Dense(plan.context, use_bias=False, name=f"compared{member}")(shape)
    context = layers.ReLU(6.0, name=f"context{member}")(layers.Add(name=f"numbers{member}")([rhythm, compared]))
    x = layers.Dropout(0.2, name=f"drop_all{member}")(layers.Concatenate(name=f"all{member}")([x, context]))
    return layers.Dense(plan.dense, activation="relu6", name=f"head{member}")(x)


def wave_net(plan: Plan, member: int) -> Any:
    tf = quiet()
    beat, _, shape, usual = _inputs(tf)
    rr = tf.keras.Input((len(WAVE_RR),), name="rr")
    inputs = [beat, rr, shape, usual]
    return tf.keras.Model(inputs, tf.keras.layers.Dense(len(WAVE), name="wave")(_wave_body(tf, inputs, plan, member)))


def wave_inputs(inputs: list[Floats]) -> list[Floats]:
    beat, rr, shape, usual = inputs
    return [beat, rr[:, [RR_FEATURES.index(name) for name in WAVE_RR]], shape, usual]


def _expert_body(tf: Any, rr: Any, plan: Plan, member: int) -> Any:
    for i, width in enumerate(plan.expert):
        rr = tf.keras.layers.Dense(width, activation="relu6", name=f"expert{member}_{i}")(rr)
    return rr


def expert_net(plan: Plan, member: int) -> Any:
    tf = quiet()
    rr = tf.keras.Input((len(RR_FEATURES),), name="rr")
    return tf.keras.Model(rr, tf.keras.layers.Dense(3, name="expert")(_expert_body(tf, rr, plan, member)))


def _p_body(tf: Any, numbers: Any, plan: Plan, member: int) -> Any:
    for i, width in enumerate(plan.p_form):
        numbers = tf.keras.layers.Dense(width, activation="relu6", name=f"p{member}_{i}")(numbers)
    return numbers


def p_net(plan: Plan, member: int) -> Any:
    tf = quiet()
    numbers = tf.keras.Input((len(P_NUMBERS),), name="p")
    return tf.keras.Model(numbers, tf.keras.layers.Dense(2, name="p_said")(_p_body(tf, numbers, plan, member)))


def whole_net(plan: Plan, batch: int | None = None) -> Any:
    """The net of all. For export, batch 1: a dynamic batch adds operators that the Edge TPU compiler refuses."""
    tf = quiet()
    layers = tf.keras.layers
    inputs = _inputs(tf, batch)
    _, rr, shape, _ = inputs
    heads = [_wave_body(tf, inputs, plan, member) for member in range(plan.members)]
    seen = layers.Dense(len(LABELS), name="seen")(
        layers.Concatenate(name="heads")(heads) if len(heads) > 1 else heads[0]
    )
    told = [_expert_body(tf, rr, plan, member) for member in range(plan.experts)]
    told += [_p_body(tf, shape, plan, member) for member in range(plan.p_nets)]
    told_all = layers.Concatenate(name="told")(told) if len(told) > 1 else told[0]
    sides = layers.Dense(2, activation="relu", name="by_time")(told_all)
    timed = layers.Dense(len(LABELS), use_bias=False, name="timed")(sides)  # of relu(d) and relu(-d)
    return tf.keras.Model(inputs, layers.Softmax(name="scores")(layers.Add(name="add")([seen, timed])))


def assemble(
    plan: Plan, waves: Sequence[Any], experts: Sequence[Any], p_nets: Sequence[Any], offsets: dict[str, float]
) -> Any:
    """All nets' weights in one; ``offsets`` of the classes go into the biases, so that the largest score decides."""
    model = whole_net(plan)
    for source in (*waves, *experts, *p_nets):
        for layer in source.layers:
            if not layer.weights or layer.name in ("wave", "expert", "p_said"):
                continue
            weights = layer.get_weights()
            if layer.name.startswith("rhythm"):
                weights[0] = _wider(weights[0], WAVE_RR, RR_FEATURES)
            elif source in p_nets and layer.name.endswith("_0"):
                weights[0] = _wider(weights[0], P_NUMBERS, SHAPE_FEATURES)
            model.get_layer(layer.name).set_weights(weights)
    spread = [WAVE.index("NS"), WAVE.index("NS"), 1, 2, 3]
    kernels, biases = zip(*(net.get_layer("wave").get_weights() for net in waves), strict=True)
    shift = np.array([offsets.get(label, 0.0) if label != "S" else 0.0 for label in LABELS], np.float32)
    kernel = np.concatenate(kernels)[:, spread] / len(waves)
    model.get_layer("seen").set_weights([kernel, np.mean(biases, axis=0)[spread] + shift])
    parts = [net.get_layer("expert").get_weights() for net in experts]
    parts += [net.get_layer("p_said").get_weights() for net in p_nets]
    shares = [1 / len(experts)] * len(experts) + [1 / max(1, len(p_nets))] * len(p_nets)
    into_d = [(kernel[:, 1:2] - kernel[:, 0:1]) * share for (kernel, _), share in zip(parts, shares, strict=True)]
    bias = offsets.get("S", 0.0)
    bias += sum(float(b[1] - b[0]) * share for (_, b), share in zip(parts, shares, strict=True))
    both = np.array([1, -1], np.float32)
    model.get_layer("by_time").set_weights([np.concatenate(into_d) * both, np.float32(bias) * both])
    divide = np.zeros((2, len(LABELS)), np.float32)
    divide[0, LABELS.index("N")] = divide[1, LABELS.index("S")] = -1
    model.get_layer("timed").set_weights([divide])
    return model


def _wider(kernel: Floats, seen: Sequence[str], given: Sequence[str]) -> Floats:
    """The kernel of a layer that has seen some features, on all that are given: 0 for those it has not seen."""
    wide = np.zeros((len(given), kernel.shape[1]), np.float32)
    wide[[given.index(name) for name in seen]] = kernel
    return wide


def load_fit(folder: Path, batch: int | None = None) -> tuple[Any, dict[str, Any]]:
    """A fitted float model and its facts."""
    facts = json.loads((folder / "fit.json").read_text())
    stored: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["plan"].items()}
    plan = Plan(**stored)
    model = whole_net(plan, batch)
    model.load_weights(folder / "model.weights.h5")
    return model, facts
