"""Nets by name, for any task's inputs: a signal is (1, samples, 1), numbers are (count,).

Whatever the name, the net's inputs are called as the task's and stand in order of name (TFLite and the daemon take them
so), and its output is ``scores``: softmax over the labels. The last feature maps of a signal called x are the layer
``x_maps``, which Grad-CAM looks at; the logits are the layer ``logits``.

``Plan.extra`` may change a net: ``width`` (factor on all filters), ``kernel`` (of the first layer), ``blocks`` (how many
halvings), ``flatten`` (1: positions matter, 0: pooled over time), ``dense`` (width of the last hidden layer).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edge_train.errors import DataError
from edge_train.fitting import recurrent, rhythm_nets
from edge_train.runtime import quiet
from edge_train.task import Plan, Task

FLATTENED = 256
"""Windows of at most so many samples are anchored at a beat: where something is matters. Longer ones slide, and are pooled."""


@dataclass(frozen=True, slots=True)
class Size:
    """What tiny, small and medium mean."""

    filters: tuple[int, ...]
    dense: int
    recurrent: tuple[int, ...]
    steps: int
    """Of a recurrent net."""


SIZES: Mapping[str, Size] = {
    "tiny": Size((6, 8, 12, 12, 16), 8, (12,), 25),
    "small": Size((12, 16, 24, 32, 32), 16, (24,), 40),
    "medium": Size((16, 24, 32, 48, 64), 32, (32, 24, 16), 50),
}


@dataclass(frozen=True, slots=True)
class Architecture:
    """One name. ``body`` takes a signal (1, samples, 1) and gives a flat vector."""

    body: Callable[[Any, Any, str, Plan], Any]
    on_tpu: bool
    about: str


def _filters(plan: Plan) -> tuple[int, ...]:
    width = plan.extra.get("width", 1.0)
    return tuple(max(2, round(count * width)) for count in SIZES[plan.size].filters)


def _unit(tf: Any, x: Any, layer: Any, name: str) -> Any:
    """A convolution, normalised over the batch in training and folded into one operator by the converter."""
    x = layer(x)
    x = tf.keras.layers.BatchNormalization(name=f"{name}_norm", momentum=0.9)(x)
    return tf.keras.layers.ReLU(6.0, name=f"{name}_relu")(x)


def _convolve(tf: Any, x: Any, name: str, plan: Plan) -> Any:
    """A plain convolution, then depthwise-separable ones, each halving time, until about 16 steps are left."""
    layers, filters = tf.keras.layers, _filters(plan)
    kernel = round(plan.extra.get("kernel", 9))
    first = layers.Conv2D(filters[0], (1, kernel), strides=(1, 2), padding="same", use_bias=False, name=f"{name}_conv0")
    x = _unit(tf, x, first, f"{name}_conv0")
    default = 1
    while x.shape[2] >> default > 16:
        default += 1
    for i in range(1, round(plan.extra.get("blocks", default)) + 1):
        if x.shape[2] < 4:
            break
        count = filters[min(i, len(filters) - 1)]
        # The Edge TPU wants the stride alike in both directions; with height 1 the vertical one does nothing.
        deep = layers.DepthwiseConv2D((1, 5), strides=(2, 2), padding="same", use_bias=False, name=f"{name}_deep{i}")
        x = _unit(tf, x, deep, f"{name}_deep{i}")
        x = _unit(tf, x, layers.Conv2D(count, 1, use_bias=False, name=f"{name}_point{i}"), f"{name}_point{i}")
    return layers.Activation("linear", name=f"{name}_maps")(x)


def _gather(tf: Any, x: Any, name: str, plan: Plan, samples: int) -> Any:
    """Maps to a vector: as they lie, or their mean and their largest over time (an artefact is short, its mean is small)."""
    layers = tf.keras.layers
    if plan.extra.get("flatten", float(samples <= FLATTENED)):
        return layers.Flatten(name=f"{name}_flat")(x)
    over = (x.shape[1], x.shape[2])
    mean = layers.Flatten(name=f"{name}_mean")(layers.AveragePooling2D(over, name=f"{name}_average")(x))
    top = layers.Flatten(name=f"{name}_top")(layers.MaxPooling2D(over, name=f"{name}_largest")(x))
    return layers.Concatenate(name=f"{name}_both")([mean, top])


def _conv(tf: Any, x: Any, name: str, plan: Plan) -> Any:
    return _gather(tf, _convolve(tf, x, name, plan), name, plan, x.shape[2])


def _rows(samples: int) -> int:
    """The divisor that makes the folded picture squarest."""
    return max(rows for rows in range(1, int(samples**0.5) + 1) if samples % rows == 0)


def _conv2d(tf: Any, x: Any, name: str, plan: Plan) -> Any:
    """The signal folded row by row into a picture: a filter of 3 x 3 sees three neighbours and what was a row before.

    A sample count that has no divisor near its root is a poor picture; the task's window should be chosen to have one.
    """
    layers, filters = tf.keras.layers, _filters(plan)
    samples = x.shape[2]
    rows = round(plan.extra.get("rows", _rows(samples)))
    if samples % rows:
        raise DataError(f"conv2d: {samples} samples do not fold into {rows} rows")
    x = layers.Reshape((rows, samples // rows, 1), name=f"{name}_fold")(x)
    for i, count in enumerate(filters):
        if min(x.shape[1], x.shape[2]) < 3 and i:
            break
        stride = 2 if min(x.shape[1], x.shape[2]) >= 6 else 1
        x = _unit(
            tf,
            x,
            layers.Conv2D(count, 3, strides=stride, padding="same", use_bias=False, name=f"{name}_conv{i}"),
            f"{name}_conv{i}",
        )
        if stride == 1:
            break
    x = layers.Activation("linear", name=f"{name}_maps")(x)
    return _gather(tf, x, name, plan, samples)


def _dense(tf: Any, x: Any, name: str, plan: Plan) -> Any:
    layers = tf.keras.layers
    x = layers.Flatten(name=f"{name}_flat")(x)
    for i, width in enumerate((2 * SIZES[plan.size].dense, SIZES[plan.size].dense)):
        x = layers.Dense(width, activation="relu6", name=f"{name}_dense{i}")(x)
    return x


def _recurrent(kind: str) -> Callable[[Any, Any, str, Plan], Any]:
    def body(tf: Any, x: Any, name: str, plan: Plan) -> Any:
        """Stretches of the signal as one step each (a strided convolution), then the recurrent layers: a thousand steps
        would be learned no better and take twenty times as long."""
        layers, size = tf.keras.layers, SIZES[plan.size]
        steps = round(plan.extra.get("steps", size.steps))
        stride = max(1, -(-x.shape[2] // steps))
        x = layers.Conv2D(
            2 * size.recurrent[-1],
            (1, min(2 * stride, x.shape[2])),
            strides=(1, stride),
            padding="same",
            activation="relu6",
            name=f"{name}_stretch",
        )(x)
        x = layers.Reshape((x.shape[2], x.shape[3]), name=f"{name}_steps")(x)
        for i, units in enumerate(size.recurrent):
            more = {"return_sequences": i < len(size.recurrent) - 1, "name": f"{name}_{kind}{i}"}
            x = recurrent.layers()[kind](units, **more)(x)
        return x

    return body


ARCHITECTURES: Mapping[str, Architecture] = {
    "conv": Architecture(_conv, True, "2-D operators with height 1, depthwise-separable: all on the Edge TPU"),
    "conv2d": Architecture(_conv2d, True, "the signal folded into a picture: all on the Edge TPU"),
    "dense": Architecture(_dense, True, "fully connected layers only: all on the Edge TPU"),
    "strided": Architecture(
        rhythm_nets.strided, True, "plain convolutions by steps of four and two: all on the Edge TPU"
    ),
    "recurrence": Architecture(
        rhythm_nets.recurrence, True, "matches of intervals by lag, for RR sequences: all on the Edge TPU"
    ),
    "lstm": Architecture(_recurrent("lstm"), False, "LSTM layers (medium: three), one operator each: CPU only"),
    "gru": Architecture(_recurrent("gru"), False, "GRU layers, unrolled: CPU only"),
}


def build(task: Task, plan: Plan, batch: int | None = None) -> Any:
    """The net. For export ``batch`` is 1: a dynamic batch adds operators that the Edge TPU compiler refuses.

    A task may have a ``build(plan, batch)`` of its own, which gives None for the plans that it leaves to this one.
    """
    own = getattr(task, "build", None)
    if own is not None and (made := own(plan, batch)) is not None:
        return made
    tf = quiet()
    layers = tf.keras.layers
    if plan.architecture not in ARCHITECTURES:
        raise DataError(f"no architecture named {plan.architecture!r}; there are: {', '.join(ARCHITECTURES)}")
    if plan.size not in SIZES:
        raise DataError(f"no size named {plan.size!r}; there are: {', '.join(SIZES)}")
    architecture, size = ARCHITECTURES[plan.architecture], SIZES[plan.size]
    inputs, parts = [], []
    for name, shape in sorted(task.shapes().items()):
        entry = tf.keras.Input(shape, batch_size=batch, name=name)
        inputs.append(entry)
        if len(shape) == 1:
            parts.append(layers.Dense(size.dense, activation="relu6", name=f"{name}_numbers")(entry))
        else:
            parts.append(architecture.body(tf, entry, name, plan))
    x = layers.Concatenate(name="all")(parts) if len(parts) > 1 else parts[0]
    x = layers.Dropout(plan.dropout, name="drop")(x)
    width = round(plan.extra.get("dense", size.dense))
    if width:
        x = layers.Dense(width, activation="relu6", name="hidden")(x)
    logits = layers.Dense(len(task.labels), name="logits")(x)
    return tf.keras.Model(inputs, layers.Softmax(name="scores")(logits), name=plan.architecture)
