"""Whether a TFLite file may be shown to a runtime at all.

The runtime verifies that offsets stay within a file, and believes the rest: a tensor that claims a terabyte is allocated, a
constant shorter than its shape is read beyond its end, and operators that call other graphs never end. So the file is read
first, without running it, and refused in one line for what no edge model has. What still gets through can crash a kernel:
``probe`` tries a file in a child process.
"""

from __future__ import annotations

import math

import numpy as np

from edge_agent.errors import ArtifactError
from edge_agent.inference.tflite.file import Graph, Operator, Tensor, Tflite, read
from edge_agent.inference.tflite.operators import COMPILED, CONTROL_FLOW

MOST_BYTES = 256 * 1024 * 1024
"""Of all tensors together that are computed: what a daemon on a small board can spare for one model, and more."""
LEAST_SCALE, MOST_SCALE = 1e-10, 1e8
_MAY_LACK = {"FULLY_CONNECTED": 2, "CONV_2D": 2, "TRANSPOSE_CONV": 3}
"""The input that each may be without (its bias). Other kernels follow a missing one into nowhere."""
_RECURRENT = ("LSTM", "RNN", "SVDF", "GRU")
_LEAST_INPUTS = {
    **dict.fromkeys(
        ("CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "DIV", "MAXIMUM", "MINIMUM", "MEAN", "SUM", "PAD"), 2
    ),
    **dict.fromkeys(("DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "SLICE", "SELECT", "SELECT_V2", "PADV2"), 3),
    **dict.fromkeys(("STRIDED_SLICE", "BATCH_TO_SPACE_ND"), 3),
    **dict.fromkeys(
        ("PRELU", "TRANSPOSE", "SPLIT", "EXPAND_DIMS", "TILE", "GATHER", "REDUCE_MAX", "REDUCE_MIN", "ARG_MAX"), 2
    ),
}
"""Kernels of some runtimes read these without asking whether they are there."""
_RANGES = {"int8": (-128, 127), "uint8": (0, 255)}
_QUANTISED = frozenset(["int8", "uint8", "int16", "int32"])


def vetted(content: bytes, where: str, *, compiled: bool = False, demanded: str | None = None) -> Tflite:
    """The file, read; an ArtifactError in one line for what is not to be run.

    ``compiled``: it is for the Edge TPU. ``demanded``: the type that every computed tensor must have (int8 or uint8).
    """
    found = read(content, where)
    problem = _problem(found, compiled, demanded)
    if problem is not None:
        raise ArtifactError(f"{where}: {problem[0]}", remedy=problem[1])
    return found


def _problem(found: Tflite, compiled: bool, demanded: str | None) -> tuple[str, str] | None:
    if found.version != 3:
        return f"is of TFLite schema {found.version}, 3 is wanted", ""
    if found.outside:
        return "has buffers behind the flatbuffer, at offsets of their own", "convert it to one plain flatbuffer"
    calling = sorted({o.name for graph in found.graphs for o in graph.operators if o.name in CONTROL_FLOW})
    if calling or len(found.graphs) != 1:
        what = f"operator {calling[0]}" if calling else f"{len(found.graphs)} graphs"
        return f"has control flow ({what})", "export it without loops, conditions and tables: unroll them"
    graph = found.main
    foreign = sorted({o.name for o in graph.operators if o.custom and not (compiled and o.name == COMPILED)})
    if foreign == [COMPILED]:
        return "is compiled for the Edge TPU: the CPU cannot run it", "give the file that was compiled, beside it"
    if foreign:
        return (
            f"has a custom operator ({foreign[0]!r}), for which there is no code here",
            "export it with built-in ones",
        )
    return _wiring(graph) or _tensors(graph, demanded)


def _wiring(graph: Graph) -> tuple[str, str] | None:
    """Every tensor is made before it is read, once, and by nobody where it is a constant."""
    if not graph.inputs or not graph.outputs:
        return "has no input or no output", ""
    many = len(graph.tensors)
    known = {i for i, tensor in enumerate(graph.tensors) if tensor.data is not None or tensor.variable}
    for index in graph.inputs:
        if not 0 <= index < many or index in known:
            return f"its input {index} is a constant, or not among its {many} tensors", ""
        known.add(index)
    for number, operator in enumerate(graph.operators):
        problem = _reads(operator, known, many)
        if problem is not None:
            return f"operator {number} ({operator.name}) {problem}", ""
        known.update(operator.outputs)
    missing = [index for index in graph.outputs if index not in known or not 0 <= index < many]
    if missing:
        return f"its output {missing[0]} is computed by nobody", ""
    return None


def _reads(operator: Operator, known: set[int], many: int) -> str | None:
    if len(operator.inputs) < _LEAST_INPUTS.get(operator.name, 1) or not operator.outputs:
        return f"has {len(operator.inputs)} inputs and {len(operator.outputs)} outputs"
    for place, index in enumerate(operator.inputs):
        if (
            index == -1
            and _MAY_LACK.get(operator.name) != place
            and not any(kind in operator.name for kind in _RECURRENT)
        ):
            return f"lacks its input {place}"
        if index != -1 and not 0 <= index < many:
            return f"reads tensor {index}, there are {many}"
        if index != -1 and index not in known:
            return f"reads tensor {index} before it is computed"
    for index in operator.outputs:
        if not 0 <= index < many:
            return f"writes tensor {index}, there are {many}"
        if index in known:
            return f"writes tensor {index}, which is a constant or made already"
    if any(not 0 <= index < many for index in operator.intermediates if index != -1):
        return f"has intermediates beyond its {many} tensors"
    return None


def _tensors(graph: Graph, demanded: str | None) -> tuple[str, str] | None:
    total = 0
    used = {i for o in graph.operators for i in (*o.inputs, *o.outputs)}
    used |= {*graph.inputs, *graph.outputs}
    for index, tensor in enumerate(graph.tensors):
        if index not in used:
            continue
        problem = _tensor(tensor, demanded)
        if problem is not None:
            return f"tensor {tensor.name or index!r} {problem[0]}", problem[1]
        total += 0 if tensor.data is not None else tensor.numbers * tensor.bytes_each
        if total > MOST_BYTES:
            return f"claims {total / 2**20:,.0f} MiB of memory, {MOST_BYTES >> 20} MiB at the most", ""
    return None


def _tensor(tensor: Tensor, demanded: str | None) -> tuple[str, str] | None:
    if tensor.sparse:
        return "is sparse", "export it dense"
    if not tensor.bytes_each:
        return f"is of type {tensor.type}", ""
    if tensor.dynamic:
        return "has a dynamic shape", "export it with batch size 1"
    if tensor.data is not None:
        wanted = math.ceil(tensor.numbers / 2) if tensor.type == "int4" else tensor.numbers * tensor.bytes_each
        if len(tensor.data) != wanted:
            return f"holds {len(tensor.data)} bytes, its shape {tensor.shape} wants {wanted}", ""
    if demanded is not None and tensor.data is None and not tensor.variable and tensor.type not in (demanded, "int32"):
        return f"is {tensor.type}; the manifest says {demanded}", f"export it in full {demanded}"
    return _scales(tensor)


def _scales(tensor: Tensor) -> tuple[str, str] | None:
    many = tensor.scales.size
    if not many:
        return ("has no scale", "") if tensor.type in _RANGES and tensor.data is None else None
    if not (np.isfinite(tensor.scales).all() and (tensor.scales >= 0).all()):
        return "has a scale that is no positive number", ""
    least = LEAST_SCALE if tensor.data is None else LEAST_SCALE**2  # a weight that never was anything has next to none
    if tensor.type in _RANGES and (tensor.scales.min() < least or tensor.scales.max() > MOST_SCALE):
        return (
            f"has a scale of {tensor.scales.min():g} to {tensor.scales.max():g}: runtimes end the process at such",
            "",
        )
    if tensor.zero_points.size not in (0, 1, many):
        return f"has {many} scales and {tensor.zero_points.size} zero points", ""
    if many > 1 and not (0 <= tensor.axis < len(tensor.shape) and tensor.shape[tensor.axis] == many):
        return f"has {many} scales along dimension {tensor.axis} of {tensor.shape}", ""
    if tensor.type == "int32" and tensor.zero_points.any():
        return "is int32 and has a zero point", ""
    low, high = _RANGES.get(tensor.type, (-(2**31), 2**31 - 1))
    if tensor.type in _QUANTISED and any(not low <= int(zero) <= high for zero in tensor.zero_points):
        return f"has a zero point outside of {tensor.type}", ""
    return None
