"""A Keras model to full int8 TFLite, as the Edge TPU compiler takes it."""

from __future__ import annotations

from typing import Any

import numpy as np

from edge_train import augment
from edge_train.beats import model_inputs, quiet
from edge_train.data import Beats, Floats


def representative(beats: Beats, n: int, seed: int) -> dict[str, Floats]:
    """Inputs that show the converter the range of every tensor: all classes alike, augmented. Rows are cases."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(beats.label == label) for label in np.unique(beats.label)]
    drawn = rng.permutation(np.concatenate([rng.choice(pool, n // len(classes)) for pool in classes]))
    inputs = model_inputs(beats.pick(drawn), rng, augment.Strength())
    rr = inputs[2]
    rr[0], rr[1] = -1.0, 1.0  # so that the input's range is what training clipped to
    return {name: x.reshape(len(x), -1) for name, x in zip(("beat", "past", "rr"), inputs, strict=True)}


def to_int8(model: Any, shown: dict[str, Floats]) -> bytes:
    """Post-training quantisation, int8 in and out.

    Dense layers are quantised per tensor: since TF 2.17 the default is per channel under an operator version whose
    older interpreters (the Edge TPU compiler's age) then compute silently wrong numbers.
    """
    tf = quiet()
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    # By name: TFLite lists the inputs in an order of its own.
    converter.representative_dataset = lambda: (
        {"beat": beat[None, None, :, None], "past": past[None, None, :, None], "rr": rr[None]}
        for beat, past, rr in zip(shown["beat"], shown["past"], shown["rr"], strict=True)
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = tf.int8
    converter.inference_output_type = tf.int8
    converter._experimental_disable_per_channel_quantization_for_dense_layers = True
    converted: bytes = converter.convert()
    return converted


TPU_VERSIONS = {
    "CONV_2D": 3,
    "DEPTHWISE_CONV_2D": 3,
    "AVERAGE_POOL_2D": 2,
    "MAX_POOL_2D": 2,
    "RESHAPE": 1,
    "FULLY_CONNECTED": 4,
    "SOFTMAX": 2,
    "MEAN": 2,
    "ADD": 2,
    "CONCATENATION": 2,
    "LOGISTIC": 2,
    "MUL": 2,
}
"""Newest operator versions seen in files that the public Edge TPU compiler took."""


def tpu_problems(tflite: bytes) -> list[str]:
    """Why the Edge TPU compiler would refuse this file or leave part of it on the CPU; empty when nothing is known against it."""
    from ai_edge_litert import schema_py_generated as schema

    names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    problems = []
    graph = model.subgraphs[0]
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex]
        name = names[max(code.builtinCode, code.deprecatedBuiltinCode)]
        if name not in TPU_VERSIONS:
            problems.append(f"operator {name} does not map")
        elif code.version > TPU_VERSIONS[name]:
            problems.append(f"operator {name} has version {code.version}, the compiler knows {TPU_VERSIONS[name]}")
        if name == "FULLY_CONNECTED" and len(graph.tensors[operator.inputs[1]].quantization.scale) != 1:
            problems.append("FULLY_CONNECTED weights are quantised per channel")
    for tensor in graph.tensors:
        if tensor.type not in (schema.TensorType.INT8, schema.TensorType.UINT8, schema.TensorType.INT32):
            problems.append(f"tensor {tensor.name.decode()} is not int8")
        if tensor.shapeSignature is not None and any(size < 1 for size in tensor.shapeSignature):
            problems.append(f"tensor {tensor.name.decode()} has a dynamic shape")
    return sorted(set(problems))
