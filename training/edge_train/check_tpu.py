"""Whether a TFLite file is one that the Edge TPU compiler takes and maps whole, judged without the compiler.

What the compiler knows is taken from what it is known to have compiled (operator versions), from Google's list of what maps, and
from the traps that bit: a file that it refuses whole for one operator version it does not know, dense layers quantised
per channel under a version whose interpreters of its age then compute silently wrong numbers, dimensions and batches that
are not constant. The file's first operator that does not map sends everything after it to the CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from edge_train.data import DataError

PROVEN_VERSIONS: Mapping[str, int] = {
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
UNPROVEN = frozenset(
    [
        "EXPAND_DIMS",
        "L2_NORMALIZATION",
        "MAXIMUM",
        "MINIMUM",
        "REDUCE_MAX",
        "REDUCE_MIN",
        "PACK",
        "PAD",
        "PRELU",
        "QUANTIZE",
        "RELU",
        "RELU6",
        "RELU_N1_TO_1",
        "RESIZE_BILINEAR",
        "RESIZE_NEAREST_NEIGHBOR",
        "SLICE",
        "SPACE_TO_DEPTH",
        "SPLIT",
        "STRIDED_SLICE",
        "SQUEEZE",
        "SUB",
        "SUM",
        "TANH",
        "TRANSPOSE_CONV",
        "TRANSPOSE",
        "RSQRT",
        "SQUARED_DIFFERENCE",
        "UNIDIRECTIONAL_SEQUENCE_LSTM",
    ]
)
"""They map by Google's list, but no file was seen that tells which version of them the compiler knows."""
COMPILED = "edgetpu-custom-op"
CACHE_BYTES = 8_000_000
"""About what the chip keeps of weights; the rest is streamed at every call."""
LARGEST_SOFTMAX = 16_000
LARGEST_LSTM_INPUT = 900

Verdict = Literal["tpu", "unproven", "cpu"]


class TpuError(DataError):
    """A file that cannot be looked into at all."""


@dataclass(frozen=True, slots=True)
class Operator:
    index: int
    name: str
    version: int
    verdict: Verdict
    """tpu: maps; unproven: maps, but the compiler's version of it is not known; cpu: does not map."""
    reasons: tuple[str, ...] = ()
    cut_off: bool = False
    """Would map, but stands after one that does not: it runs on the CPU too."""


@dataclass(frozen=True, slots=True)
class Report:
    bytes: int
    sha256: str
    constants_bytes: int
    operators: tuple[Operator, ...]
    problems: tuple[str, ...]
    """Why the compiler would refuse the file or leave part of it on the CPU."""
    unproven: tuple[str, ...]
    """Where only the compiler, or an interpreter of its age, can tell."""
    compiled: bool = False
    """Is a compiled file already."""

    @property
    def mapped(self) -> int:
        return sum(operator.verdict != "cpu" and not operator.cut_off for operator in self.operators)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {"mapped": self.mapped}


def examine(tflite: bytes) -> Report:
    """Operator by operator, tensor by tensor."""
    graph = _Graph(tflite)
    operators: list[Operator] = []
    cut = False
    for index, operator in enumerate(graph.operators):
        name, version = graph.operator_name(operator)
        reasons = tuple(_operator_reasons(graph, operator, name, version))
        verdict: Verdict = "cpu" if reasons else "tpu" if name in PROVEN_VERSIONS else "unproven"
        if name == COMPILED:
            verdict = "tpu"
        operators.append(Operator(index, name, version, verdict, reasons, cut and verdict != "cpu"))
        cut = cut or verdict == "cpu"
    problems = {reason for operator in operators for reason in operator.reasons}
    compiled = any(operator.name == COMPILED for operator in operators)
    if not compiled:
        problems |= set(_tensor_problems(graph))
    if graph.subgraphs > 1:
        problems.add(f"{graph.subgraphs} subgraphs (control flow); the compiler takes one")
    unproven = {
        f"operator {operator.name} v{operator.version}: no compiled file was seen that tells whether its version is known"
        for operator in operators
        if operator.verdict == "unproven"
    }
    constants = graph.constants_bytes()
    if constants > CACHE_BYTES:
        unproven.add(
            f"{constants / 1e6:.1f} MB of constants: more than the chip keeps, weights are streamed at every call"
        )
    return Report(
        bytes=len(tflite),
        sha256=hashlib.sha256(tflite).hexdigest(),
        constants_bytes=constants,
        operators=tuple(operators),
        problems=tuple(sorted(problems)),
        unproven=tuple(sorted(unproven)),
        compiled=compiled,
    )


class _Graph:
    """The flatbuffer's first subgraph with what is asked of it."""

    def __init__(self, tflite: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.schema = schema
        self._names = {value: name for name, value in vars(schema.BuiltinOperator).items() if isinstance(value, int)}
        if len(tflite) < 8 or tflite[4:8] != b"TFL3":
            raise TpuError("not a TFLite file (no TFL3 identifier)")
        try:
            self._model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
            self._graph = self._model.subgraphs[0]
            self.tensors: Sequence[Any] = self._graph.tensors
            self.operators: Sequence[Any] = self._graph.operators
        except Exception as error:  # noqa: BLE001 - a damaged flatbuffer raises whatever its bytes lead to
            raise TpuError(f"damaged TFLite file ({type(error).__name__}: {error})") from None
        self.subgraphs = len(self._model.subgraphs)

    def operator_name(self, operator: Any) -> tuple[str, int]:
        code = self._model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        if number == self.schema.BuiltinOperator.CUSTOM:
            return (code.customCode or b"CUSTOM").decode(errors="replace"), int(code.version)
        return self._names.get(number, f"BUILTIN_{number}"), int(code.version)

    def constant(self, index: int) -> Any | None:
        """The values of a constant tensor; None for one that is computed."""
        tensor = self.tensors[index]
        data = self._model.buffers[tensor.buffer].data
        if data is None or len(data) == 0:
            return None
        kinds = {
            self.schema.TensorType.INT8: np.int8,
            self.schema.TensorType.UINT8: np.uint8,
            self.schema.TensorType.INT32: np.int32,
            self.schema.TensorType.INT64: np.int64,
        }
        kind = kinds.get(tensor.type)
        return np.frombuffer(bytes(data), kind) if kind is not None else np.frombuffer(bytes(data), np.uint8)

    def constants_bytes(self) -> int:
        return sum(len(buffer.data) for buffer in self._model.buffers if buffer.data is not None)

    def shape(self, index: int) -> tuple[int, ...]:
        shape = self.tensors[index].shape
        return () if shape is None else tuple(int(size) for size in shape)

    def name(self, index: int) -> str:
        name = self.tensors[index].name
        return f"#{index}" if not name else name.decode(errors="replace")


def _operator_reasons(graph: _Graph, operator: Any, name: str, version: int) -> list[str]:
    if name == COMPILED:
        return []
    if name not in PROVEN_VERSIONS and name not in UNPROVEN:
        return [f"operator {name} does not map"]
    reasons = []
    whole = (graph.schema.TensorType.INT8, graph.schema.TensorType.UINT8)
    if any(graph.tensors[i].type not in whole for i in operator.outputs):
        reasons.append(f"operator {name} does not compute in int8")
    if version > PROVEN_VERSIONS.get(name, version):
        reasons.append(
            f"operator {name} has version {version}, the compiler knows {PROVEN_VERSIONS[name]}: it refuses the file"
        )
    check = _CHECKS.get(name)
    if check is not None:
        reasons += check(graph, operator)
    return reasons


def _dense(graph: _Graph, operator: Any) -> list[str]:
    reasons = []
    quantization = graph.tensors[operator.inputs[1]].quantization
    if quantization is not None and quantization.scale is not None and len(quantization.scale) > 1:
        reasons.append(
            "FULLY_CONNECTED weights are quantised per channel: interpreters of the compiler's age compute them wrongly"
        )
    if sum(size > 1 for size in graph.shape(operator.outputs[0])) > 1:
        reasons.append("FULLY_CONNECTED with an output of more than one dimension does not map")
    if operator.builtinOptions is not None and operator.builtinOptions.weightsFormat != 0:
        reasons.append("FULLY_CONNECTED with shuffled weights does not map")
    return reasons


def _convolution(_: _Graph, operator: Any) -> list[str]:
    options = operator.builtinOptions
    if options is not None and options.dilationWFactor != options.dilationHFactor:
        return ["a convolution dilated differently in x and y does not map"]
    return []


def _concatenation(graph: _Graph, operator: Any) -> list[str]:
    reasons = []
    if operator.builtinOptions is not None and operator.builtinOptions.fusedActivationFunction != 0:
        reasons.append("CONCATENATION with a fused activation does not map")
    constants = [graph.constant(i) for i in operator.inputs]
    if any(values is not None and np.any(values) for values in constants):
        reasons.append("CONCATENATION with a constant that is not all zero does not map")
    return reasons


def _softmax(graph: _Graph, operator: Any) -> list[str]:
    shape = graph.shape(operator.inputs[0])
    if sum(size > 1 for size in shape) > 1:
        return ["SOFTMAX over more than one dimension does not map"]
    if int(np.prod(shape)) > LARGEST_SOFTMAX:
        return [f"SOFTMAX over more than {LARGEST_SOFTMAX} numbers does not map"]
    return []


def _not_batch(name: str) -> Any:
    def check(graph: _Graph, operator: Any) -> list[str]:
        axes = graph.constant(operator.inputs[1])
        rank = len(graph.shape(operator.inputs[0]))
        if axes is None or (any(int(axis) % rank == 0 for axis in axes) and rank > 1):
            return [f"{name} over the batch, or over axes that are not constant, does not map"]
        return []

    return check


def _strided_slice(graph: _Graph, operator: Any) -> list[str]:
    strides = graph.constant(operator.inputs[3])
    if strides is None or any(int(stride) != 1 for stride in strides):
        return ["STRIDED_SLICE with strides other than 1 does not map"]
    return []


def _pad(graph: _Graph, operator: Any) -> list[str]:
    padding = graph.constant(operator.inputs[1])
    if padding is None or any(int(size) for size in padding[:2]):
        return ["PAD of the batch, or by sizes that are not constant, does not map"]
    return []


def _pack(_: _Graph, operator: Any) -> list[str]:
    if operator.builtinOptions is not None and operator.builtinOptions.axis == 0:
        return ["PACK along the batch does not map"]
    return []


def _lstm(graph: _Graph, operator: Any) -> list[str]:
    size = graph.shape(operator.inputs[0])[-1]
    if size > LARGEST_LSTM_INPUT:
        return [f"LSTM with {size} inputs: above about {LARGEST_LSTM_INPUT} the compiler fails"]
    return []


_CHECKS: Mapping[str, Any] = {
    "FULLY_CONNECTED": _dense,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "CONCATENATION": _concatenation,
    "SOFTMAX": _softmax,
    "MEAN": _not_batch("MEAN"),
    "SUM": _not_batch("SUM"),
    "REDUCE_MAX": _not_batch("REDUCE_MAX"),
    "REDUCE_MIN": _not_batch("REDUCE_MIN"),
    "STRIDED_SLICE": _strided_slice,
    "PAD": _pad,
    "PACK": _pack,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}


def _tensor_problems(graph: _Graph) -> list[str]:
    """Types, shapes and scales of the tensors that are computed, and of the weights."""
    types = graph.schema.TensorType
    problems, others = [], []
    for index, tensor in enumerate(graph.tensors):
        constant, shape, name = graph.constant(index), graph.shape(index), graph.name(index)
        if tensor.shapeSignature is not None and any(size < 1 for size in tensor.shapeSignature):
            problems.append(f"tensor {name} has a dynamic shape: export with batch size 1")
        if tensor.type not in (types.INT8, types.UINT8, types.INT32):
            others.append(name)
            continue
        if constant is None and any(size > 1 for size in shape[:-3]):
            problems.append(f"tensor {name} is {shape}: only the three innermost dimensions may be above 1")
        if tensor.type != types.INT32:
            scales = None if tensor.quantization is None else tensor.quantization.scale
            if scales is None or len(scales) == 0 or not all(scale > 0 for scale in scales):
                problems.append(f"tensor {name} has no scale")
            elif constant is None and len(scales) != 1:
                problems.append(f"tensor {name} has {len(scales)} scales; a computed tensor has one")
    if others:
        problems.append(f"{len(others)} tensors are not int8 (first: {', '.join(others[:3])})")
    return problems
