"""TFLite files of any graph, written byte by byte: what converters make, what compilers leave, and what neither would.

The tables and slots are those of TensorFlow's ``schema.fbs`` (version 3) and, for compiled parts, of libedgetpu's ``executable.fbs``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from flatbuffers import flexbuffers
from numpy.typing import NDArray

TYPES = {
    "float32": 0,
    "float16": 1,
    "int32": 2,
    "uint8": 3,
    "int64": 4,
    "string": 5,
    "int16": 7,
    "int8": 9,
    "variant": 14,
}
CUSTOM = 32
STRING, BLOB = 5, 25
Numbers = NDArray[Any]


@dataclass(frozen=True)
class T:
    """A tensor."""

    shape: tuple[int, ...]
    dtype: str = "int8"
    name: str = ""
    scales: tuple[float, ...] = (0.05,)
    zero_points: tuple[int, ...] = (0,)
    axis: int = 0
    data: Numbers | bytes | None = None
    signature: tuple[int, ...] | None = None
    variable: bool = False
    sparse: bool = False


@dataclass(frozen=True)
class Op:
    """An operator: its number, or a name for a custom one."""

    kind: int | str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    version: int = 1
    options_type: int = 0
    options: tuple[tuple[int, str, int], ...] = ()
    """Slot, type, value."""
    custom: bytes = b""


@dataclass(frozen=True)
class G:
    tensors: Sequence[T]
    operators: Sequence[Op]
    inputs: Sequence[int]
    outputs: Sequence[int]


def tflite(
    *graphs: G,
    version: int = 3,
    identifier: bytes = b"TFL3",
    signature: dict[str, int] | None = None,
    buffer_offset: int = 0,
) -> bytes:
    """``buffer_offset``: of every constant, where it is said to lie behind the flatbuffer."""
    b = flatbuffers.Builder(4096)
    codes: list[tuple[int, str, int]] = []
    buffers = [_table(b, 1)]
    made = [_graph(b, graph, codes, buffers, buffer_offset) for graph in graphs]
    subgraphs = _offsets(b, made)
    written = []
    for number, name, op_version in codes:
        custom = b.CreateString(name) if name else 0
        fill: list[Callable[[], None]] = [
            lambda number=number: b.PrependInt8Slot(0, min(number, 127), 0),  # type: ignore[misc]
            lambda op_version=op_version: b.PrependInt32Slot(2, op_version, 1),  # type: ignore[misc]
            lambda number=number: b.PrependInt32Slot(3, number, 0),  # type: ignore[misc]
        ]
        if custom:
            fill.append(lambda custom=custom: b.PrependUOffsetTRelativeSlot(1, custom, 0))  # type: ignore[misc]
        written.append(_table(b, 4, *fill))
    code_vector, buffer_vector = _offsets(b, written), _offsets(b, buffers)
    signatures = 0
    if signature:
        maps = []
        for key, index in signature.items():
            text = b.CreateString(key)
            maps.append(
                _table(
                    b,
                    2,
                    lambda text=text: b.PrependUOffsetTRelativeSlot(0, text, 0),  # type: ignore[misc]
                    lambda index=index: b.PrependUint32Slot(1, index, 0),  # type: ignore[misc]
                )
            )
        inputs, key = _offsets(b, maps), b.CreateString("serving_default")
        fill = [
            lambda: b.PrependUOffsetTRelativeSlot(0, inputs, 0),
            lambda: b.PrependUOffsetTRelativeSlot(2, key, 0),
        ]
        signatures = _offsets(b, [_table(b, 5, *fill)])
    b.StartObject(8)
    b.PrependUint32Slot(0, version, 0)
    b.PrependUOffsetTRelativeSlot(1, code_vector, 0)
    b.PrependUOffsetTRelativeSlot(2, subgraphs, 0)
    b.PrependUOffsetTRelativeSlot(4, buffer_vector, 0)
    if signatures:
        b.PrependUOffsetTRelativeSlot(7, signatures, 0)
    b.Finish(b.EndObject(), file_identifier=identifier)
    return bytes(b.Output())


def _table(b: Any, slots: int, *fill: Callable[[], None]) -> int:
    b.StartObject(slots)
    for one in fill:
        one()
    return int(b.EndObject())


def _offsets(b: Any, offsets: Sequence[int]) -> int:
    b.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        b.PrependUOffsetTRelative(offset)
    return int(b.EndVector())


def _numbers(b: Any, values: Sequence[float], dtype: str) -> int:
    return int(b.CreateNumpyVector(np.array(values, dtype)))


def _graph(b: Any, graph: G, codes: list[tuple[int, str, int]], buffers: list[int], buffer_offset: int) -> int:
    tensors = _offsets(b, [_tensor(b, tensor, buffers, buffer_offset) for tensor in graph.tensors])
    operators = _offsets(b, [_operator(b, operator, codes) for operator in graph.operators])
    inputs, outputs = _numbers(b, graph.inputs, "int32"), _numbers(b, graph.outputs, "int32")
    places = ((0, tensors), (1, inputs), (2, outputs), (3, operators))
    fill = [lambda s=s, o=o: b.PrependUOffsetTRelativeSlot(s, o, 0) for s, o in places]
    return _table(b, 5, *fill)


def _tensor(b: Any, tensor: T, buffers: list[int], buffer_offset: int) -> int:
    number = 0
    if tensor.data is not None:
        raw = tensor.data if isinstance(tensor.data, bytes) else tensor.data.tobytes()
        data = b.CreateByteVector(raw)
        number = len(buffers)
        fill: list[Callable[[], None]] = [lambda: b.PrependUOffsetTRelativeSlot(0, data, 0)]
        if buffer_offset:
            fill += [
                lambda: b.PrependUint64Slot(1, buffer_offset, 0),
                lambda: b.PrependUint64Slot(2, len(raw), 0),
            ]
        buffers.append(_table(b, 3, *fill))
    name, shape = b.CreateString(tensor.name), _numbers(b, tensor.shape, "int32")
    signature = 0 if tensor.signature is None else _numbers(b, tensor.signature, "int32")
    quantisation = 0
    if tensor.scales and tensor.dtype not in ("float32", "float16", "string"):
        scale, zero = _numbers(b, tensor.scales, "float32"), _numbers(b, tensor.zero_points, "int64")
        b.StartObject(7)
        b.PrependUOffsetTRelativeSlot(2, scale, 0)
        b.PrependUOffsetTRelativeSlot(3, zero, 0)
        b.PrependInt32Slot(6, tensor.axis, 0)
        quantisation = b.EndObject()
    sparsity = _table(b, 3) if tensor.sparse else 0
    b.StartObject(8)
    b.PrependUOffsetTRelativeSlot(0, shape, 0)
    b.PrependInt8Slot(1, TYPES[tensor.dtype], 0)
    b.PrependUint32Slot(2, number, 0)
    b.PrependUOffsetTRelativeSlot(3, name, 0)
    for slot, offset in ((4, quantisation), (6, sparsity), (7, signature)):
        if offset:
            b.PrependUOffsetTRelativeSlot(slot, offset, 0)
    b.PrependBoolSlot(5, tensor.variable, 0)
    return int(b.EndObject())


def _operator(b: Any, operator: Op, codes: list[tuple[int, str, int]]) -> int:
    custom = isinstance(operator.kind, str)
    code = (CUSTOM, operator.kind, operator.version) if custom else (operator.kind, "", operator.version)
    if code not in codes:
        codes.append(code)  # type: ignore[arg-type]
    inputs, outputs = _numbers(b, operator.inputs, "int32"), _numbers(b, operator.outputs, "int32")
    raw = b.CreateByteVector(operator.custom) if operator.custom else 0
    kinds = {
        "int8": b.PrependInt8Slot,
        "int32": b.PrependInt32Slot,
        "bool": b.PrependBoolSlot,
        "float32": b.PrependFloat32Slot,
    }
    fill = [lambda s=s, k=k, v=v: kinds[k](s, v, 0) for s, k, v in operator.options]
    options = _table(b, 8, *fill) if operator.options_type else 0
    b.StartObject(6)
    b.PrependUint32Slot(0, codes.index(code), 0)  # type: ignore[arg-type]
    b.PrependUOffsetTRelativeSlot(1, inputs, 0)
    b.PrependUOffsetTRelativeSlot(2, outputs, 0)
    b.PrependUint8Slot(3, operator.options_type, 0)
    if options:
        b.PrependUOffsetTRelativeSlot(4, options, 0)
    if raw:
        b.PrependUOffsetTRelativeSlot(5, raw, 0)
    return int(b.EndObject())


# --- what the Edge TPU compiler leaves ---------------------------------------------------------------------------------------


def executable(kind: int = 0, parameters: int = 0, token: int = 0, instructions: int = 64) -> bytes:
    b = flatbuffers.Builder(1024)
    chip, weights = b.CreateString("beagle"), b.CreateByteVector(b"\1" * parameters)
    stream = b.CreateByteVector(b"\2" * instructions)
    streams = _offsets(b, [_table(b, 2, lambda: b.PrependUOffsetTRelativeSlot(0, stream, 0))])
    b.StartObject(17)
    b.PrependUOffsetTRelativeSlot(5, streams, 0)
    b.PrependUOffsetTRelativeSlot(6, weights, 0)
    b.PrependUOffsetTRelativeSlot(10, chip, 0)
    b.PrependInt16Slot(13, kind, 0)
    b.PrependUint64Slot(14, token, 0)
    b.Finish(b.EndObject())
    return bytes(b.Output())


def package(runtime: int, compiler: str, *executables: bytes) -> bytes:
    b = flatbuffers.Builder(4096)
    strings = _offsets(b, [b.CreateString(one) for one in executables])
    b.Finish(_table(b, 1, lambda: b.PrependUOffsetTRelativeSlot(0, strings, 0)))
    several = bytes(b.Output())
    b = flatbuffers.Builder(4096)
    text, content = b.CreateString(compiler), b.CreateByteVector(several)
    b.StartObject(8)
    b.PrependInt32Slot(0, runtime, 0)
    b.PrependUOffsetTRelativeSlot(1, content, 0)
    b.PrependUOffsetTRelativeSlot(4, text, 0)
    b.Finish(b.EndObject(), file_identifier=b"DWN1")
    return bytes(b.Output())


def custom_options(content: bytes) -> bytes:
    """As libedgetpu writes them: a map whose "4" is a string of bytes that are no text."""
    builder = flexbuffers.Builder()
    with builder.Map():
        builder.Int("1", 1)
        builder.Key("4")
        builder.Blob(content)
        builder.Int("5", 2)
        with builder.Vector("6"):
            builder.Int(2)
        with builder.Vector("7"):
            pass
    made = bytearray(builder.Finish())
    width = made[-1]  # of the root's offset; the map's values end with their types, a byte each, in the keys' order
    values = len(made) - 2 - width - int.from_bytes(made[-2 - width : -2], "little")
    types = values + 5 * (1 << (made[-2] & 3))
    assert made[types + 1] >> 2 == BLOB
    made[types + 1] = STRING << 2 | made[types + 1] & 3
    return bytes(made)


def compiled_part(inputs: tuple[int, ...], outputs: tuple[int, ...], content: bytes) -> Op:
    return Op("edgetpu-custom-op", inputs, outputs, custom=custom_options(content))
