"""A Keras model in the forms that others take: Keras's own, float and int8 TFLite, ONNX.

int8 is post-training quantisation, with a recorded set of windows that shows the converter the range of every tensor. ONNX is
tried at once: onnxruntime must answer as the model itself does.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_train.arrays import Floats
from edge_train.data.windows import Windows
from edge_train.errors import DataError
from edge_train.files import whole_file
from edge_train.packing.check_tpu import examine
from edge_train.packing.compact import compact
from edge_train.runtime import quiet

KINDS = ("keras", "h5", "tflite", "int8", "onnx")
ONNX_OPSET = 17
ONNX_ALLOWED = 1e-4
"""Largest difference of a score between onnxruntime and Keras, both in float32."""


def representative_windows(windows: Windows, n: int, seed: int) -> dict[str, Floats]:
    """Windows that show the converter the range of every tensor: all classes alike, as they are. Flat rows, by name."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(windows.label == label) for label in np.unique(windows.label)]
    if not classes:
        raise DataError("no windows to show the converter")
    each = max(1, n // len(classes))
    drawn = rng.permutation(np.concatenate([rng.choice(pool, each) for pool in classes]))
    return {name: np.asarray(x[drawn], np.float32) for name, x in sorted(windows.inputs.items())}


def npz(arrays: Mapping[str, Floats]) -> bytes:
    """Arrays as the bytes of an .npz; the same arrays give the same bytes."""
    out = io.BytesIO()
    named: dict[str, Any] = dict(sorted(arrays.items()))
    np.savez_compressed(out, **named)
    return out.getvalue()


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- TFLite ---------------------------------------------------------------------------------------------------------------


def with_batch_of_one(model: Any) -> Any:
    """The same net and weights with a batch of 1: a dynamic one adds operators that the Edge TPU compiler refuses."""
    tf = quiet()
    if all(part.shape[0] == 1 for part in model.inputs):
        return model
    inputs = [tf.keras.Input(part.shape[1:], batch_size=1, name=part.name) for part in model.inputs]
    made = tf.keras.models.clone_model(model, input_tensors=tf.nest.pack_sequence_as(model.input, inputs))
    made.set_weights(model.get_weights())
    return made


def _converter(model: Any) -> Any:
    tf = quiet()
    return tf.lite.TFLiteConverter.from_keras_model(with_batch_of_one(model))


def to_float(model: Any) -> bytes:
    """Float TFLite: for runtimes without int8, and to tell a converter's fault from quantisation's."""
    converted: bytes = _converted(_converter(model), "float TFLite")
    return converted


def to_int8(model: Any, shown: Mapping[str, Floats]) -> bytes:
    """Post-training quantisation, int8 in and out. ``shown``: a flat row per case for each of the model's inputs, by name.

    Dense layers are quantised per tensor: since TF 2.17 the default is per channel under an operator version whose
    older interpreters (the Edge TPU compiler's age) then compute silently wrong numbers.
    """
    tf = quiet()
    shapes = {part.name: tuple(part.shape[1:]) for part in model.inputs}
    if set(shapes) != set(shown):
        raise DataError(
            f"the representative set holds {', '.join(sorted(shown))}; the model takes {', '.join(sorted(shapes))}"
        )
    for name, shape in shapes.items():
        if not np.isfinite(shown[name]).all():
            raise DataError(f"the representative set's {name} holds numbers that are none")
        if shown[name][0].size != int(np.prod(shape)):
            raise DataError(
                f"the representative set's {name} has {shown[name][0].size} numbers a row; the model takes {shape}"
            )
    converter = _converter(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # By name: TFLite lists the inputs in an order of its own.
    converter.representative_dataset = lambda: (
        {name: np.asarray(shown[name][case], np.float32).reshape(1, *shape) for name, shape in shapes.items()}
        for case in range(len(next(iter(shown.values()))))
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    return compact(_converted(converter, "int8 TFLite"))


def _converted(converter: Any, what: str) -> bytes:
    try:
        with _hushed():
            made: bytes = converter.convert()
    except Exception as error:  # noqa: BLE001 - the converter raises whatever its passes do
        text = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"{what}: TensorFlow cannot convert this net ({text[0][:200]})") from None
    return made


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """The converter tells the terminal what it does, on both outputs and past Python; its errors come as exceptions."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    with Path(os.devnull).open("w") as nowhere, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in (1, 2):
            os.dup2(nowhere.fileno(), number)
        try:
            yield
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for number, old in zip((1, 2), kept, strict=True):
                os.dup2(old, number)
                os.close(old)


def tpu_problems(tflite: bytes) -> list[str]:
    """Why the Edge TPU compiler would refuse this file or leave part of it on the CPU; empty when nothing is known against it."""
    report = examine(tflite)
    return sorted({*report.problems, *report.unproven})


# --- ONNX -----------------------------------------------------------------------------------------------------------------


def to_onnx(model: Any) -> bytes:
    """By tf2onnx from the model's graph: Keras 3's own export wants a call first, and tf2onnx's from_keras knows Keras 2 alone."""
    tf = quiet()
    try:
        import tf2onnx
    except ImportError:
        raise DataError("ONNX needs tf2onnx and onnxruntime: pip install -e 'training[onnx]'") from None
    shapes = tuple(tf.TensorSpec((None, *part.shape[1:]), tf.float32, name=part.name) for part in model.inputs)
    function = tf.function(lambda *inputs: model(list(inputs), training=False), input_signature=shapes)
    try:
        with _hushed():
            made, _ = tf2onnx.convert.from_function(function, input_signature=shapes, opset=ONNX_OPSET)
    except Exception as error:  # noqa: BLE001 - as above
        raise DataError(f"ONNX: tf2onnx cannot convert this net ({str(error).strip().splitlines()[0][:200]})") from None
    content: bytes = made.SerializeToString()
    return content


def onnx_difference(model: Any, content: bytes, shown: Mapping[str, Floats]) -> float:
    """The largest difference of any score between onnxruntime and the model itself."""
    try:
        import onnxruntime
    except ImportError:
        raise DataError("ONNX needs tf2onnx and onnxruntime: pip install -e 'training[onnx]'") from None
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    inputs = [np.asarray(shown[part.name], np.float32).reshape(-1, *part.shape[1:]) for part in model.inputs]
    named = {part.name: values for part, values in zip(model.inputs, inputs, strict=True)}
    found = session.run(None, named)[0]
    expected = np.concatenate(
        [np.asarray(model([x[i : i + 1] for x in inputs], training=False)) for i in range(len(inputs[0]))]
    )
    return float(np.abs(found - expected).max())


# --- files ----------------------------------------------------------------------------------------------------------------


def export(
    model: Any, kinds: list[str], out: Path, name: str, shown: Mapping[str, Floats] | None, one: Any | None = None
) -> dict[str, Any]:
    """Write the kinds that are asked for into ``out``; what is said of each. Every file is whole or not there.

    ``one``: the same model built with a batch of 1, where cloning would not do (recurrent nets are unrolled for it).
    """
    said: dict[str, Any] = {}
    one = model if one is None else one
    if shown is None and {"int8", "onnx"} & set(kinds):
        raise DataError("int8 and ONNX need windows: to show ranges to the one, to try the other; give --data")
    for kind in kinds:
        if kind in ("keras", "h5"):
            content = _saved(model, kind)
        elif kind == "tflite":
            content = to_float(one)
        elif kind == "int8":
            assert shown is not None
            stored = npz(shown)
            _write(out / f"{name}.representative.npz", stored)
            content = to_int8(one, shown)
            said["representative"] = {
                "file": f"{name}.representative.npz",
                "sha256": digest(stored),
                "cases": _cases(shown),
            }
        else:
            assert shown is not None
            content = to_onnx(model)
            some = {part: values[:64] for part, values in shown.items()}
            difference = onnx_difference(model, content, some)
            if not difference <= ONNX_ALLOWED:
                raise DataError(
                    f"ONNX: onnxruntime differs from the model by {difference:.2g}, more than {ONNX_ALLOWED:g}"
                )
            said["onnx_max_difference"] = difference
        path = out / (f"{name}.int8.tflite" if kind == "int8" else f"{name}.{kind}")
        _write(path, content)
        said[kind] = {"file": path.name, "bytes": len(content), "sha256": digest(content)}
    return said


def _cases(shown: Mapping[str, Floats]) -> int:
    return len(next(iter(shown.values())))


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as aside:
        aside.write_bytes(content)


def _saved(model: Any, kind: str) -> bytes:
    with tempfile.TemporaryDirectory() as scratch, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "HDF5 is a legacy format": asked for
        path = Path(scratch) / f"model.{kind}"
        model.save(path)
        return path.read_bytes()
