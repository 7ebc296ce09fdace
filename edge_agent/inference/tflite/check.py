"""Whether a TFLite file maps to the Edge TPU, operator by operator, judged without the compiler; and what a compiled file says.

What the compiler knows is taken from what it is known to have compiled (``operators``), and from the traps that bit: a file that it
refuses whole for one operator version it does not know, dense layers quantised per channel under a version whose interpreters of its
age then compute silently wrong numbers, dimensions and batches that are not constant. It partitions once: the first operator that does not
map sends everything after it to the CPU.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from edge_agent.inference.tflite.compiled import NEWEST_RUNTIME, Package, package_of
from edge_agent.inference.tflite.file import Graph, Operator, Tensor, Tflite, read
from edge_agent.inference.tflite.operators import (
    CACHE_BYTES,
    COMPILED,
    CONTROL_FLOW,
    LARGEST_LSTM_INPUT,
    LARGEST_SOFTMAX,
    NEEDS_RUNTIME_14,
    PROVEN_VERSIONS,
    REFUSED_VERSIONS,
    UNPROVEN,
)

Verdict = Literal["tpu", "unproven", "cpu"]


@dataclass(frozen=True, slots=True)
class Checked:
    index: int
    name: str
    version: int
    verdict: Verdict
    """tpu: maps; unproven: maps, but the compiler's version of it is not known; cpu: does not map."""
    reasons: tuple[str, ...] = ()
    cut_off: bool = False
    """Would map, but stands after one that does not: it runs on the CPU too."""
    output: str = ""
    """Type and shape of what it computes."""
    cuts: bool = False
    """Does not map, and so sends what follows to the CPU."""
    refused: bool = False
    """Of a version for which the compiler refuses the whole file."""


@dataclass(frozen=True, slots=True)
class Report:
    bytes: int
    sha256: str
    constants_bytes: int
    operators: tuple[Checked, ...]
    problems: tuple[str, ...]
    """Why the compiler would refuse the file or leave part of it on the CPU."""
    unproven: tuple[str, ...]
    """Where only the compiler, or an interpreter of its age, can tell."""
    compiled: bool = False
    """Is a compiled file already."""
    packages: tuple[Package, ...] = ()
    """Of a compiled file, one for each of its parts for the Edge TPU."""
    notes: tuple[str, ...] = ()

    @property
    def mapped(self) -> int:
        return sum(operator.verdict != "cpu" and not operator.cut_off for operator in self.operators)

    @property
    def whole(self) -> bool:
        """Every operator maps, and nothing speaks against the file."""
        return bool(self.operators) and self.mapped == len(self.operators) and not self.problems

    @property
    def first_cut(self) -> int | None:
        """The operator from which on nothing maps."""
        return next((operator.index for operator in self.operators if operator.cuts), None)

    @property
    def refused(self) -> bool:
        return any(operator.refused for operator in self.operators)

    def as_json(self) -> dict[str, Any]:
        return asdict(self) | {
            "mapped": self.mapped,
            "whole": self.whole,
            "first_cut": self.first_cut,
            "refused": self.refused,
        }


def examine(content: bytes, where: str = "model") -> Report:
    """Operator by operator, tensor by tensor; a TfliteError for what is no TFLite file."""
    file = read(content, where)
    compiled = any(operator.name == COMPILED for graph in file.graphs for operator in graph.operators)
    report = _already_compiled(file) if compiled else _to_be_compiled(file)
    operators, problems, unproven, packages, notes = report
    return Report(
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        constants_bytes=sum(file.buffers),
        operators=operators,
        problems=tuple(sorted(problems)),
        unproven=tuple(sorted(unproven)),
        compiled=compiled,
        packages=packages,
        notes=notes,
    )


_Found = tuple[tuple[Checked, ...], set[str], set[str], tuple[Package, ...], tuple[str, ...]]


def _already_compiled(file: Tflite) -> _Found:
    """What runs where is settled: the compiler's operator on the TPU, everything else on the CPU."""
    operators, packages, problems = [], [], set()
    flat = [(graph, operator) for graph in file.graphs for operator in graph.operators]
    for index, (graph, operator) in enumerate(flat):
        on_tpu = operator.name == COMPILED
        if on_tpu:
            package = package_of(index, operator.custom_options)
            packages.append(package)
            if package.problem:
                problems.add(f"operator {index}: {package.problem}")
            if package.minimum_runtime is not None and package.minimum_runtime > NEWEST_RUNTIME:
                problems.add(f"wants runtime {package.minimum_runtime}; the newest that is public is {NEWEST_RUNTIME}")
        reasons = () if on_tpu else ("the compiler left it on the CPU",)
        verdict: Verdict = "tpu" if on_tpu else "cpu"
        operators.append(
            Checked(index, operator.name, operator.version, verdict, reasons, False, _said(graph, operator))
        )
    left = [operator.name for operator in operators if operator.verdict == "cpu"]
    if left:
        problems.add(f"{len(left)} operators run on the CPU: {', '.join(dict.fromkeys(left))}")
    notes = []
    if len(file.graphs) > 1:
        notes.append(f"{len(file.graphs)} subgraphs")
    cached = sum(package.cached_bytes for package in packages)
    if cached:
        notes.append(f"{cached:,} bytes of weights stay on the chip (of about {CACHE_BYTES:,})")
    tokens = sorted({one.token for package in packages for one in package.executables if one.token})
    if tokens:
        notes.append(
            f"caching token {', '.join(f'{token:016x}' for token in tokens)}: files that have it too share the chip"
        )
    return tuple(operators), problems, set(), tuple(packages), tuple(notes)


def _to_be_compiled(file: Tflite) -> _Found:
    graph = file.main
    operators: list[Checked] = []
    cut = False
    for index, operator in enumerate(graph.operators):
        reasons = tuple(dict.fromkeys(_reasons(graph, operator)))
        verdict: Verdict = "cpu" if reasons else "tpu" if operator.name in PROVEN_VERSIONS else "unproven"
        cuts = verdict == "cpu" and not _of_floats_in(graph, operator)
        operators.append(
            Checked(
                index,
                operator.name,
                operator.version,
                verdict,
                reasons,
                cut_off=cut and verdict != "cpu",
                output=_said(graph, operator),
                cuts=cuts,
                refused=operator.version > _newest(operator),
            )
        )
        cut = cut or cuts
    problems = {reason for operator in operators for reason in operator.reasons} | set(_tensor_problems(graph))
    if len(file.graphs) > 1:
        problems.add(f"{len(file.graphs)} subgraphs (control flow); the compiler takes one")
    unproven = {
        f"operator {operator.name} v{operator.version}: no compiled file was seen that tells whether its version is known"
        for operator in operators
        if operator.verdict == "unproven"
    }
    constants = sum(file.buffers)
    if constants > CACHE_BYTES:
        unproven.add(
            f"{constants / 1e6:.1f} MB of constants: more than the chip keeps, weights are streamed at every call"
        )
    newer = sorted({operator.name for operator in operators if operator.name in NEEDS_RUNTIME_14})
    notes = [f"runtime 14 (libedgetpu 16.0) is wanted for {', '.join(newer)}"] if newer else []
    return tuple(operators), problems, unproven, (), tuple(notes)


def _said(graph: Graph, operator: Operator) -> str:
    tensor = graph.tensor(operator.outputs[0]) if operator.outputs else None
    return "" if tensor is None else f"{tensor.type} {'x'.join(map(str, tensor.shape))}"


def _of_floats_in(graph: Graph, operator: Operator) -> bool:
    """A model with float inputs begins with QUANTIZE: it stays on the CPU, and what follows does not."""
    tensors = [graph.tensor(index) for index in operator.inputs]
    floats = all(tensor is not None and tensor.type == "float32" for tensor in tensors)
    return operator.name == "QUANTIZE" and floats and set(operator.inputs) <= set(graph.inputs)


# --- operators --------------------------------------------------------------------------------------------------------------


def _newest(operator: Operator) -> int:
    """Version of it that the compiler knows; its own where nothing speaks against it."""
    name, version = operator.name, operator.version
    return PROVEN_VERSIONS.get(name, REFUSED_VERSIONS.get(name, version + 1) - 1)


def _reasons(graph: Graph, operator: Operator) -> list[str]:
    name, version = operator.name, operator.version
    newest = _newest(operator)
    reasons = []
    if name in CONTROL_FLOW:
        reasons.append(f"operator {name} is control flow, which does not map")
    elif operator.custom:
        reasons.append(f"operator {name} is a custom one, which does not map")
    elif name not in PROVEN_VERSIONS and name not in UNPROVEN:
        reasons.append(f"operator {name} does not map")
    if version > newest:
        reasons.append(f"operator {name} has version {version}, the compiler knows {newest}: it refuses the file")
    if reasons and name not in PROVEN_VERSIONS:
        return reasons
    if _of_floats_in(graph, operator):
        return [*reasons, "operator QUANTIZE of float inputs stays on the CPU: give the file int8 inputs"]
    tensors = [graph.tensor(index) for index in operator.outputs]
    computed = [
        tensor for index in operator.inputs if (tensor := graph.tensor(index)) is not None and tensor.data is None
    ]
    if any(tensor is None or tensor.type not in ("int8", "uint8") for tensor in tensors) or any(
        tensor.type not in ("int8", "uint8") and not tensor.variable for tensor in computed
    ):
        reasons.append(f"operator {name} does not compute in int8")
    check = _CHECKS.get(name)
    if check is not None:
        reasons += check(_Asked(graph, operator))
    return reasons


@dataclass(frozen=True, slots=True)
class _Asked:
    """An operator with its tensors; what is not there is empty."""

    graph: Graph
    operator: Operator

    def input(self, place: int) -> Tensor | None:
        inputs = self.operator.inputs
        return self.graph.tensor(inputs[place]) if place < len(inputs) else None

    def shape(self, place: int) -> tuple[int, ...]:
        tensor = self.input(place)
        return () if tensor is None else tensor.shape

    def output_shape(self) -> tuple[int, ...]:
        tensor = self.graph.tensor(self.operator.outputs[0]) if self.operator.outputs else None
        return () if tensor is None else tensor.shape

    def constant(self, place: int) -> list[int] | None:
        tensor = self.input(place)
        values = None if tensor is None else tensor.values()
        return None if values is None else [int(value) for value in values[:1000]]


def _dense(asked: _Asked) -> list[str]:
    reasons = []
    weights = asked.input(1)
    if weights is not None and weights.scales.size > 1:
        reasons.append(
            "FULLY_CONNECTED weights are quantised per channel: interpreters of the compiler's age compute them wrongly"
        )
    if weights is not None and weights.data is None:
        reasons.append("FULLY_CONNECTED with weights that are computed does not map")
    if sum(size > 1 for size in asked.output_shape()) > 1:
        reasons.append("FULLY_CONNECTED with an output of more than one dimension does not map")
    if asked.operator.option(1, "int8") != 0:
        reasons.append("FULLY_CONNECTED with shuffled weights does not map")
    return reasons


def _convolution(asked: _Asked) -> list[str]:
    wide = 4 if asked.operator.name == "CONV_2D" else 5  # the depthwise one has a multiplier before
    if asked.operator.option(wide, default=1) != asked.operator.option(wide + 1, default=1):
        return ["a convolution dilated differently in x and y does not map"]
    return []


def _concatenation(asked: _Asked) -> list[str]:
    reasons = []
    if asked.operator.option(1, "int8") != 0:
        reasons.append("CONCATENATION with a fused activation does not map")
    constants = [tensor.values() for i in asked.operator.inputs if (tensor := asked.graph.tensor(i)) is not None]
    if any(values is not None and np.any(values) for values in constants):
        reasons.append("CONCATENATION with a constant that is not all zero does not map")
    return reasons


def _softmax(asked: _Asked) -> list[str]:
    shape = asked.shape(0)
    if sum(size > 1 for size in shape) > 1:
        return ["SOFTMAX over more than one dimension does not map"]
    if max(shape, default=0) > LARGEST_SOFTMAX:
        return [f"SOFTMAX over more than {LARGEST_SOFTMAX} numbers does not map"]
    return []


def _not_batch(asked: _Asked) -> list[str]:
    axes, rank = asked.constant(1), len(asked.shape(0))
    if axes is None or (rank > 1 and any(axis % rank == 0 for axis in axes)):
        return [f"{asked.operator.name} over the batch, or over axes that are not constant, does not map"]
    return []


def _strided_slice(asked: _Asked) -> list[str]:
    strides = asked.constant(3)
    if strides is None or any(stride != 1 for stride in strides):
        return ["STRIDED_SLICE with strides other than 1 does not map"]
    return []


def _pad(asked: _Asked) -> list[str]:
    padding = asked.constant(1)
    if padding is None or any(padding[:2]):
        return ["PAD of the batch, or by sizes that are not constant, does not map"]
    return []


def _pack(asked: _Asked) -> list[str]:
    return ["PACK along the batch does not map"] if asked.operator.option(1) == 0 else []


def _lstm(asked: _Asked) -> list[str]:
    size = asked.shape(0)[-1] if asked.shape(0) else 0
    if size > LARGEST_LSTM_INPUT:
        return [f"LSTM with {size} inputs: above about {LARGEST_LSTM_INPUT} the compiler fails"]
    return []


_CHECKS: Mapping[str, Callable[[_Asked], list[str]]] = {
    "FULLY_CONNECTED": _dense,
    "CONV_2D": _convolution,
    "DEPTHWISE_CONV_2D": _convolution,
    "CONCATENATION": _concatenation,
    "SOFTMAX": _softmax,
    "MEAN": _not_batch,
    "SUM": _not_batch,
    "REDUCE_MAX": _not_batch,
    "REDUCE_MIN": _not_batch,
    "STRIDED_SLICE": _strided_slice,
    "PAD": _pad,
    "PACK": _pack,
    "UNIDIRECTIONAL_SEQUENCE_LSTM": _lstm,
}


def _tensor_problems(graph: Graph) -> list[str]:
    """Types, shapes and scales of the tensors that are computed, and of the weights."""
    used = {i for o in graph.operators for i in (*o.inputs, *o.outputs)} | {*graph.inputs, *graph.outputs}
    problems, others = [], []
    for index, tensor in enumerate(graph.tensors):
        if index not in used:
            continue
        name = tensor.name or f"#{index}"
        if any(size < 1 for size in tensor.signature) or (
            tensor.data is None and any(size < 1 for size in tensor.shape)
        ):
            problems.append(f"tensor {name} has a dynamic shape: export with batch size 1")
        if tensor.type not in ("int8", "uint8", "int32"):
            if not tensor.variable:  # an LSTM's own state is int16 in every int8 file
                others.append(name)
            continue
        if tensor.data is None and any(size > 1 for size in tensor.shape[:-3]):
            problems.append(f"tensor {name} is {tensor.shape}: only the three innermost dimensions may be above 1")
        if tensor.type != "int32":
            if not tensor.scales.size or not (tensor.scales > 0).all():
                problems.append(f"tensor {name} has no scale")
            elif tensor.data is None and tensor.scales.size != 1:
                problems.append(f"tensor {name} has {tensor.scales.size} scales; a computed tensor has one")
    if others:
        problems.append(f"{len(others)} tensors are not int8 (first: {', '.join(others[:3])})")
    return problems
