"""Artifacts made for a test: TFLite files of one operator, written byte by byte, and manifests around them.

The flatbuffer's tables and slots are those of TensorFlow's ``schema.fbs`` (version 3).
"""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import flatbuffers  # type: ignore[import-untyped]
import numpy as np
from numpy.typing import NDArray

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "int8": 9}
CONCATENATION, FULLY_CONNECTED, CUSTOM = 2, 9, 32
_OPTIONS = {CONCATENATION: 10, FULLY_CONNECTED: 8}

STRANGER = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
"""Somebody else's public key: that of RFC 8032, 7.1, test 1."""


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    dtype: str = "int8"
    scale: float = 0.05
    zero_point: int = 0
    data: NDArray[Any] | None = None
    """A constant."""
    dynamic: bool = False
    """Its first dimension is left open."""


def _offsets(builder: Any, offsets: Sequence[int]) -> int:
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())


def _table(builder: Any, slots: int, *fill: Callable[[], None]) -> int:
    builder.StartObject(slots)
    for one in fill:
        one()
    return int(builder.EndObject())


def model(
    operator: int, tensors: Sequence[Tensor], inputs: Sequence[int], outputs: Sequence[int], custom: str = ""
) -> bytes:
    """A model of one operator, whose inputs are all tensors but the outputs, in order; ``custom``: its name, if it is not built in."""
    b = flatbuffers.Builder(4096)
    buffers = [_table(b, 1)]
    made = []
    for tensor in tensors:
        number = 0
        if tensor.data is not None:
            data = b.CreateByteVector(tensor.data.tobytes())
            number = len(buffers)
            buffers.append(_table(b, 1, lambda data=data: b.PrependUOffsetTRelativeSlot(0, data, 0)))  # type: ignore[misc]
        name = b.CreateString(tensor.name)
        shape = b.CreateNumpyVector(np.array(tensor.shape, np.int32))
        signature = b.CreateNumpyVector(np.array((-1, *tensor.shape[1:]), np.int32)) if tensor.dynamic else 0
        quantisation = 0
        if tensor.dtype in ("int8", "uint8") and tensor.scale > 0:
            scale = b.CreateNumpyVector(np.array([tensor.scale], np.float32))
            zero = b.CreateNumpyVector(np.array([tensor.zero_point], np.int64))
            b.StartObject(7)
            b.PrependUOffsetTRelativeSlot(2, scale, 0)
            b.PrependUOffsetTRelativeSlot(3, zero, 0)
            quantisation = b.EndObject()
        b.StartObject(8)
        b.PrependUOffsetTRelativeSlot(0, shape, 0)
        b.PrependInt8Slot(1, TYPES[tensor.dtype], 0)
        b.PrependUint32Slot(2, number, 0)
        b.PrependUOffsetTRelativeSlot(3, name, 0)
        if quantisation:
            b.PrependUOffsetTRelativeSlot(4, quantisation, 0)
        if signature:
            b.PrependUOffsetTRelativeSlot(7, signature, 0)
        made.append(b.EndObject())
    tensor_vector = _offsets(b, made)
    feeding = b.CreateNumpyVector(np.array([i for i in range(len(tensors)) if i not in outputs], np.int32))
    giving = b.CreateNumpyVector(np.array(outputs[:1], np.int32))
    options = _table(b, 5, *([lambda: b.PrependInt32Slot(0, 1, 0)] if operator == CONCATENATION else []))  # axis 1
    b.StartObject(5)
    b.PrependUOffsetTRelativeSlot(1, feeding, 0)
    b.PrependUOffsetTRelativeSlot(2, giving, 0)
    if operator in _OPTIONS:
        b.PrependUint8Slot(3, _OPTIONS[operator], 0)
        b.PrependUOffsetTRelativeSlot(4, options, 0)
    operators = _offsets(b, [b.EndObject()])
    graph_inputs = b.CreateNumpyVector(np.array(inputs, np.int32))
    graph_outputs = b.CreateNumpyVector(np.array(outputs, np.int32))
    b.StartObject(5)
    b.PrependUOffsetTRelativeSlot(0, tensor_vector, 0)
    b.PrependUOffsetTRelativeSlot(1, graph_inputs, 0)
    b.PrependUOffsetTRelativeSlot(2, graph_outputs, 0)
    b.PrependUOffsetTRelativeSlot(3, operators, 0)
    subgraphs = _offsets(b, [b.EndObject()])
    code = b.CreateString(custom) if custom else 0
    b.StartObject(4)
    b.PrependInt8Slot(0, operator, 0)
    if custom:
        b.PrependUOffsetTRelativeSlot(1, code, 0)
    b.PrependInt32Slot(2, 4, 1)
    b.PrependInt32Slot(3, operator, 0)
    codes = _offsets(b, [b.EndObject()])
    buffer_vector = _offsets(b, buffers)
    b.StartObject(5)
    b.PrependUint32Slot(0, 3, 0)
    b.PrependUOffsetTRelativeSlot(1, codes, 0)
    b.PrependUOffsetTRelativeSlot(2, subgraphs, 0)
    b.PrependUOffsetTRelativeSlot(4, buffer_vector, 0)
    b.Finish(b.EndObject(), file_identifier=b"TFL3")
    return bytes(b.Output())


def joining(*parts: Tensor, output: Tensor | None = None) -> bytes:
    """A model that lays its inputs side by side: what goes in comes out, quantised and back."""
    first = parts[0]
    width = sum(part.shape[1] for part in parts)
    joined = output or Tensor("Identity", (1, width), first.dtype, first.scale, first.zero_point)
    return model(CONCATENATION, [*parts, joined], range(len(parts)), [len(parts)])


def custom(name: str, *parts: Tensor) -> bytes:
    """The same by an operator of this name, such as a compiled file has."""
    joined = Tensor("Identity", (1, sum(part.shape[1] for part in parts)), parts[0].dtype, parts[0].scale)
    return model(CUSTOM, [*parts, joined], range(len(parts)), [len(parts)], name)


def dense(weights: NDArray[np.float64], given: Tensor, output: Tensor) -> bytes:
    """``output = weights @ input`` in int8, the weights at their own scale."""
    scale = float(np.abs(weights).max() / 127)
    rounded = np.round(weights / scale).astype(np.int8)
    constant = Tensor("weights", weights.shape, "int8", scale, 0, rounded)
    return model(FULLY_CONNECTED, [given, constant, output], [0], [2])


def packed(arrays: dict[str, NDArray[Any]]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def manifest(**changes: Any) -> dict[str, Any]:
    """Of a model with an RR sequence of 3 and 2 features, which gives its 5 inputs back as scores."""
    return {
        "schema": "edge-agent/model/1",
        "name": "tiny",
        "version": "1.0.0",
        "task": "other",
        "labels": ["a", "b", "c", "d", "e"],
        "anchor": {"kind": "rr"},
        "inputs": [
            {"kind": "features", "name": "numbers", "features": ["rr_last_log", "rr_cv16"]},
            {"kind": "rr", "name": "rr", "intervals": 3, "normalisation": "seconds"},
        ],
        "output": {"scores": "none"},
        "golden": {"tolerance": 0.03},
        "training": {"data": ["none"], "licence": "none", "protocol": "none"},
        "minimum_agent_version": "0.0.1",
        **changes,
    }


TINY = joining(Tensor("serving_default_0:0", (1, 2)), Tensor("serving_default_1:0", (1, 3)))
GOLDEN = {
    "numbers": np.array([[0.5, -1.0], [2.0, 0.25]]),
    "rr": np.array([[0.8, 0.75, 0.85], [1.0, 2.0, 3.0]]),
    "output": np.array([[0.5, -1.0, 0.8, 0.75, 0.85], [2.0, 0.25, 1.0, 2.0, 3.0]]),
}


def write(
    folder: Path,
    about: dict[str, Any] | None = None,
    *,
    tflite: bytes = TINY,
    golden: bytes | None = None,
    files: dict[str, bytes] | None = None,
) -> Path:
    """An artifact in ``folder / name``: the manifest with the digests of what lies beside it."""
    about = manifest() if about is None else about
    contents = {"model.tflite": tflite, "golden.npz": packed(GOLDEN) if golden is None else golden, **(files or {})}
    path = folder / "tiny"
    path.mkdir(parents=True, exist_ok=True)
    for name, data in contents.items():
        (path / name).write_bytes(data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in contents.items()}
    (path / "manifest.json").write_text(json.dumps({"files": digests, **about}), encoding="utf-8")
    return path
