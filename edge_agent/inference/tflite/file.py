"""What a TFLite file says of itself, read without running it and without trusting it.

Slots and numbers are those of TensorFlow's ``schema.fbs`` (version 3). Used to vet a file before a runtime sees it, and to
say what of it maps to the Edge TPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ArtifactError
from edge_agent.inference.tflite.flat import Damaged, Table, root
from edge_agent.inference.tflite.operators import CUSTOM, NAMES

TYPES: dict[int, tuple[str, int]] = {
    0: ("float32", 4),
    1: ("float16", 2),
    2: ("int32", 4),
    3: ("uint8", 1),
    4: ("int64", 8),
    5: ("string", 0),
    6: ("bool", 1),
    7: ("int16", 2),
    8: ("complex64", 8),
    9: ("int8", 1),
    10: ("float64", 8),
    11: ("complex128", 16),
    12: ("uint64", 8),
    13: ("resource", 0),
    14: ("variant", 0),
    15: ("uint32", 4),
    16: ("uint16", 2),
    17: ("int4", 1),
    18: ("bfloat16", 2),
}
"""Name and bytes of each type; 0 bytes: no plain numbers."""
MOST = 10_000
"""Of tensors or operators: more is no edge model."""
DEEPEST, MOST_NUMBERS = 8, 4096
"""Dimensions of a tensor; inputs of an operator. A hostile file names one long list ten thousand times."""
MOST_SCALES = 65_536


class TfliteError(ArtifactError):
    """A file that cannot be looked into."""


@dataclass(frozen=True)
class Tensor:
    name: str
    shape: tuple[int, ...]
    signature: tuple[int, ...]
    """The shape with -1 for what is left open; empty where the file says nothing of it."""
    type: str
    bytes_each: int
    buffer: int
    data: memoryview | None = field(repr=False)
    """Of a constant."""
    scales: NDArray[np.float32]
    zero_points: NDArray[np.int64]
    axis: int
    """Along which the scales lie, where there are several."""
    variable: bool
    sparse: bool

    @property
    def numbers(self) -> int:
        return math.prod(self.shape)

    @property
    def dynamic(self) -> bool:
        return any(size < 1 for size in (*self.shape, *self.signature))

    def values(self) -> NDArray[Any] | None:
        """Of a constant whose type numpy has; None for what is computed."""
        if self.data is None or self.type not in ("int8", "uint8", "int32", "int64", "float32", "bool", "int16"):
            return None
        whole = len(self.data) // self.bytes_each * self.bytes_each
        return np.frombuffer(self.data[:whole], np.dtype(self.type).newbyteorder("<"))


@dataclass(frozen=True)
class Operator:
    name: str
    version: int
    custom: bool
    inputs: tuple[int, ...]
    """-1: an input that may be left out, and is."""
    outputs: tuple[int, ...]
    intermediates: tuple[int, ...]
    options: Table | None = field(repr=False)
    custom_options: memoryview | None = field(repr=False)

    def option(self, slot: int, kind: str = "int32", default: int = 0) -> int:
        return default if self.options is None else self.options.number(slot, kind, default)


@dataclass(frozen=True)
class Graph:
    tensors: tuple[Tensor, ...]
    operators: tuple[Operator, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def tensor(self, index: int) -> Tensor | None:
        """None for one left out, and for one that is not there."""
        return self.tensors[index] if 0 <= index < len(self.tensors) else None


@dataclass(frozen=True)
class Tflite:
    version: int
    graphs: tuple[Graph, ...]
    buffers: tuple[int, ...]
    """Bytes of each."""
    outside: bool
    """Some buffer lies behind the flatbuffer, at an offset into the file."""
    bytes: int
    signature: dict[str, int]
    """The inputs' names by the file's first signature, and which tensors of the first graph they are."""

    @property
    def main(self) -> Graph:
        return self.graphs[0]

    @cached_property
    def variables(self) -> bool:
        """Whether it remembers from call to call."""
        return any(tensor.variable for graph in self.graphs for tensor in graph.tensors)


def read(content: bytes, where: str = "model") -> Tflite:
    """The graph of a file; a TfliteError for what is none."""
    try:
        return _read(content)
    except Damaged as error:
        raise TfliteError(f"{where}: cannot load it: no whole TFLite file ({error})") from None


def _read(content: bytes) -> Tflite:
    model = root(content, b"TFL3")
    codes = [_code(code) for code in _few(model.tables(1))]
    buffers = _few(model.tables(4))
    data = [buffer.raw(0) for buffer in buffers]
    outside = any(buffer.number(1, "uint64") > 1 for buffer in buffers)
    graphs = tuple(_graph(graph, codes, data) for graph in _few(model.tables(2)))
    if not graphs:
        raise Damaged("no graph in it")
    sizes = tuple(0 if one is None else len(one) for one in data)
    signatures = model.tables(7)
    named = _few(signatures[0].tables(0)) if signatures and not signatures[0].number(4, "uint32") else []
    signature = {part.text(0): part.number(1, "uint32") for part in named}
    return Tflite(model.number(0, "uint32"), graphs, sizes, outside, len(content), signature)


def _few(tables: list[Table]) -> list[Table]:
    if len(tables) > MOST:
        raise Damaged(f"a list of {len(tables)} parts")
    return tables


def _code(code: Table) -> tuple[str, int, bool]:
    number = max(code.number(0, "int8"), code.number(3, "int32"))
    version = code.number(2, "int32", 1)
    if number == CUSTOM:
        return code.text(1) or "CUSTOM", version, True
    return NAMES.get(number, f"BUILTIN_{number}"), version, False


def _graph(graph: Table, codes: Sequence[tuple[str, int, bool]], data: list[memoryview | None]) -> Graph:
    return Graph(
        tuple(_tensor(tensor, data) for tensor in _few(graph.tables(0))),
        tuple(_operator(operator, codes) for operator in _few(graph.tables(3))),
        _ints(graph, 1),
        _ints(graph, 2),
    )


def _ints(table: Table, slot: int, most: int = MOST_NUMBERS) -> tuple[int, ...]:
    numbers = table.numbers(slot, "int32")
    if numbers.size > most:
        raise Damaged(f"a list of {numbers.size}, {most} at the most")
    return tuple(numbers.tolist())


def _tensor(tensor: Table, data: list[memoryview | None]) -> Tensor:
    buffer = tensor.number(2, "uint32")
    if buffer >= max(1, len(data)):
        raise Damaged(f"a tensor of buffer {buffer}, there are {len(data)}")
    content = data[buffer] if data else None
    kind, each = TYPES.get(tensor.number(1, "int8"), ("unknown", 0))
    scales, zero_points, axis = np.empty(0, np.float32), np.empty(0, np.int64), 0
    quantisation = tensor.table(4)
    if quantisation is not None:
        scales = np.asarray(quantisation.numbers(2, "float32"), np.float32)
        zero_points = np.asarray(quantisation.numbers(3, "int64"), np.int64)
        if max(scales.size, zero_points.size) > MOST_SCALES:
            raise Damaged(f"a tensor of {scales.size} scales")
        axis = quantisation.number(6, "int32")
    return Tensor(
        name=tensor.text(3),
        shape=_ints(tensor, 0, DEEPEST),
        signature=_ints(tensor, 7, DEEPEST),
        type=kind,
        bytes_each=each,
        buffer=buffer,
        data=content if content is not None and len(content) else None,
        scales=scales,
        zero_points=zero_points,
        axis=axis,
        variable=bool(tensor.number(5, "bool")),
        sparse=tensor.has(6),
    )


def _operator(operator: Table, codes: Sequence[tuple[str, int, bool]]) -> Operator:
    index = operator.number(0, "uint32")
    if index >= len(codes):
        raise Damaged(f"an operator of kind {index}, there are {len(codes)}")
    name, version, custom = codes[index]
    return Operator(
        name=name,
        version=version,
        custom=custom,
        inputs=_ints(operator, 1),
        outputs=_ints(operator, 2),
        intermediates=_ints(operator, 8),
        options=operator.table(4),
        custom_options=operator.raw(5),
    )
