"""An interpreter's tensors, bound to what a manifest says: which input is which, and numbers to and from their types.

Everything that a call needs is made once: arrays of the tensors' own type, into which the compiled kernel quantises.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import ArtifactError, EngineError
from edge_agent.journey import Samples

KERNEL = True
"""Whether the compiled kernel is there; ``quantise`` and ``dequantise`` below are its specification."""
try:
    from edge_agent.signal._kernel import dequantise as dequantise_compiled
    from edge_agent.signal._kernel import quantise as quantise_compiled
except ImportError:  # no compiler where it was installed
    KERNEL = False

_NUMBERED = re.compile(r"^(.*?)(\d+)(\D*)$")
UNKNOWN = "an input holds what is no number"


@dataclass(frozen=True, slots=True)
class Feed:
    """One input that a manifest describes."""

    name: str
    """Empty: by the order of the tensors' names."""
    size: int
    tensor: str | int | None = None
    """Stated: the tensor's name, or its place among the file's inputs."""


@dataclass(frozen=True, slots=True)
class Tensor:
    index: int
    shape: tuple[int, ...]
    dtype: Any
    scale: float
    zero_point: int

    @property
    def size(self) -> int:
        return int(np.prod(self.shape))


def tensor_of(detail: Mapping[str, Any], where: str) -> Tensor:
    shape = tuple(int(size) for size in detail["shape"])
    if any(size < 1 for size in shape) or any(int(size) < 1 for size in detail.get("shape_signature", shape)):
        raise ArtifactError(
            f"{where}: tensor {detail['name']!r} has a dynamic shape", remedy="export it with batch size 1"
        )
    dtype = detail["dtype"]
    if dtype not in (np.int8, np.uint8, np.float32):
        raise ArtifactError(
            f"{where}: tensor {detail['name']!r} is {np.dtype(dtype)}; int8, uint8 or float32 is wanted"
        )
    scale, zero_point = detail["quantization"]
    if dtype != np.float32 and not scale > 0:
        raise ArtifactError(f"{where}: tensor {detail['name']!r} is {np.dtype(dtype)} but has no scale")
    return Tensor(int(detail["index"]), shape, dtype, float(scale), int(zero_point))


def index_of(detail: Mapping[str, Any], where: str) -> Tensor:
    """An output that is the number of a label (an ARG_MAX at the end)."""
    shape = tuple(int(size) for size in detail["shape"])
    if detail["dtype"] not in (np.int32, np.int64):
        raise ArtifactError(f"{where}: its output is {np.dtype(detail['dtype'])}; a label's number is int32 or int64")
    return Tensor(int(detail["index"]), shape, detail["dtype"], 0.0, 0)


def quantise(values: Samples, tensor: Tensor, shape: tuple[int, ...] | None = None) -> NDArray[Any]:
    """To the tensor's own type and shape; values outside its range saturate, as they do on the device."""
    shape = tensor.shape if shape is None else shape
    if tensor.dtype == np.float32:
        return values.astype(np.float32, copy=False).reshape(shape)
    limits = np.iinfo(tensor.dtype)
    scaled = np.rint(values * np.float32(1.0 / tensor.scale)) + tensor.zero_point
    clipped: NDArray[Any] = np.clip(scaled, limits.min, limits.max).astype(tensor.dtype)
    return clipped.reshape(shape)


def dequantise(raw: NDArray[Any], tensor: Tensor) -> Samples:
    """Back to floats; flat."""
    flat = raw.reshape(-1)
    if tensor.dtype not in (np.int8, np.uint8):
        return np.asarray(flat, np.float32)
    return np.asarray((flat.astype(np.float32) - tensor.zero_point) * np.float32(tensor.scale))


# --- which input is which --------------------------------------------------------------------------------------------------


def matched(
    details: Sequence[Mapping[str, Any]], feeds: Sequence[Feed], signature: Mapping[str, int], where: str
) -> list[Mapping[str, Any]]:
    """The file's inputs in the manifest's order: as stated, else by name, else by the numbers in their names.

    The file's own signature knows names best; exporters write ``serving_default_<name>:0``. Never by order alone: a foreign file lists
    its inputs as it likes, and two of the same size would be mistaken for one another.
    """
    if len(details) != len(feeds):
        raise ArtifactError(f"{where}: has {len(details)} inputs, the manifest describes {len(feeds)}")
    if not any(feed.name or feed.tensor is not None for feed in feeds):
        return sorted(details, key=lambda detail: str(detail["name"]))
    found: dict[int, Mapping[str, Any]] = {}
    left = list(details)
    for place, feed in enumerate(feeds):
        one = _stated(details, feed, where) if feed.tensor is not None else _named(left, feed.name, signature)
        if one is not None:
            if one not in left:
                raise ArtifactError(f"{where}: input {feed.name!r} is of tensor {one['name']!r}, and so is another")
            found[place] = one
            left.remove(one)
    without = [place for place in range(len(feeds)) if place not in found]
    if len(without) > 1:
        left = _by_number(left, feeds[without[0]].name, where)
    return [found[place] if place in found else left[without.index(place)] for place in range(len(feeds))]


def _stated(details: Sequence[Mapping[str, Any]], feed: Feed, where: str) -> Mapping[str, Any]:
    if isinstance(feed.tensor, int):
        if feed.tensor < len(details):
            return details[feed.tensor]
        raise ArtifactError(f"{where}: input {feed.name!r} is of tensor {feed.tensor}, the file has {len(details)}")
    for detail in details:
        if detail["name"] == feed.tensor:
            return detail
    raise ArtifactError(f"{where}: has no input tensor {feed.tensor!r}", remedy=f"there are: {_names(details)}")


def _named(left: Sequence[Mapping[str, Any]], name: str, signature: Mapping[str, int]) -> Mapping[str, Any] | None:
    for detail in left:
        if signature.get(name) == int(detail["index"]):
            return detail
    known = {name, f"{name}:0", f"serving_default_{name}:0", f"serving_default_{name}"}
    return next((detail for detail in left if detail["name"] in known), None)


def _by_number(left: Sequence[Mapping[str, Any]], name: str, where: str) -> list[Mapping[str, Any]]:
    parts = [_NUMBERED.match(str(detail["name"]).removesuffix(":0")) for detail in left]
    if all(parts) and len({(part[1], part[3]) for part in parts if part}) == 1:
        numbers = [int(part[2]) for part in parts if part]
        if len(set(numbers)) == len(numbers):
            return [left[i] for i in sorted(range(len(left)), key=numbers.__getitem__)]
    raise ArtifactError(
        f"{where}: nothing tells which of its inputs is {name!r} (they are: {_names(left)})",
        remedy='state it in the manifest\'s input: "tensor": "<name>"',
    )


def _names(details: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(repr(str(detail["name"])) for detail in details)


# --- a call ----------------------------------------------------------------------------------------------------------------


class _Input:
    """One input's array, filled anew for each call. With a batch, rows that no window asks for keep what they held."""

    __slots__ = ("array", "index", "inverse", "rows", "tensor", "zero_point")

    def __init__(self, tensor: Tensor, batch: int, array: NDArray[Any] | None) -> None:
        self.tensor = tensor
        self.index = tensor.index
        self.zero_point = tensor.zero_point
        self.inverse = float(np.float32(1.0 / tensor.scale)) if tensor.dtype != np.float32 else 1.0
        self.array: NDArray[Any] = np.empty(tensor.shape, tensor.dtype) if array is None else array
        self.array[...] = tensor.zero_point
        self.rows = list(self.array.reshape(batch, -1))

    def fill(self, values: Samples, row: int) -> bool:
        """False where a value is no number."""
        to = self.rows[row]
        if values.size != to.size:
            raise EngineError(f"an input of {values.size} numbers, {to.size} are wanted")
        if self.tensor.dtype == np.float32:
            to[:] = values.reshape(-1)
            return True  # what is no number comes out as none, and no label is said
        if KERNEL:
            with contextlib.suppress(TypeError):  # no contiguous floats of 4 bytes
                return quantise_compiled(values, self.inverse, self.zero_point, to)
        if np.isnan(values).any():
            return False
        to[:] = quantise(np.asarray(values, np.float32), self.tensor, to.shape)
        return True


class Bound:
    """An allocated interpreter that takes floats and gives floats."""

    def __init__(
        self,
        interpreter: Any,
        feeds: Sequence[Feed],
        output_size: int,
        *,
        signature: Mapping[str, int] | None = None,
        variables: bool = True,
        index: bool = False,
        where: str = "model",
        arrays: Mapping[int, NDArray[Any]] | None = None,
    ) -> None:
        """``variables``: it remembers from call to call, and is made to forget. ``index``: its output is a label's number.

        ``arrays``: the interpreter's own tensors, by index, where they may be written to and last from call to call.
        """
        self.interpreter = interpreter
        details = matched(interpreter.get_input_details(), feeds, signature or {}, where)
        tensors = [tensor_of(detail, where) for detail in details]
        self.batch = _batch(tensors, feeds, where)
        own = arrays or {}
        self.inputs = [_Input(tensor, self.batch, own.get(tensor.index)) for tensor in tensors]
        outputs = interpreter.get_output_details()
        if len(outputs) != 1:
            raise ArtifactError(f"{where}: has {len(outputs)} outputs; one is wanted")
        self.output = index_of(outputs[0], where) if index else tensor_of(outputs[0], where)
        if self.output.size != output_size * self.batch:
            what = f"its output is {self.output.shape}, the manifest names {output_size} labels"
            raise ArtifactError(f"{where}: {what}" + (f" for each of {self.batch} windows" if self.batch > 1 else ""))
        self._size = output_size
        self._variables = variables
        self._lasting = arrays is not None  # the next call writes to what this one gave
        self._float = self.output.dtype not in (np.int8, np.uint8)
        self._quick = [(one.rows[0], one.inverse, one.zero_point, one.index, one.array) for one in self.inputs]
        if not KERNEL or any(one.tensor.dtype == np.float32 for one in self.inputs):
            self._quick = []

    def run(self, inputs: Sequence[Samples]) -> Samples:
        """One window."""
        set_tensor = self.interpreter.set_tensor
        if self._quick:
            try:
                for (row, inverse, zero_point, index, array), values in zip(self._quick, inputs, strict=True):
                    if not quantise_compiled(values, inverse, zero_point, row):
                        raise EngineError(UNKNOWN)
                    set_tensor(index, array)
                return self._call()
            except TypeError:  # no contiguous floats of 4 bytes
                pass
        for one, values in zip(self.inputs, inputs, strict=True):
            if not one.fill(values, 0):
                raise EngineError(UNKNOWN)
            set_tensor(one.index, one.array)
        return self._call()

    def run_many(self, windows: Sequence[Sequence[Samples]]) -> list[Samples]:
        """Several windows, as many in one call as the file has room for."""
        found: list[Samples] = []
        for first in range(0, len(windows), self.batch):
            some = windows[first : first + self.batch]
            for row, inputs in enumerate(some):
                for one, values in zip(self.inputs, inputs, strict=True):
                    if not one.fill(values, row):
                        raise EngineError(UNKNOWN)
            for one in self.inputs:
                self.interpreter.set_tensor(one.index, one.array)
            scores = self._call(self.batch).reshape(self.batch, self._size)
            found += list(scores[: len(some)])
        return found

    def _call(self, windows: int = 1) -> Samples:
        if self._variables:
            # A recurrent file keeps its state from call to call; a window must not know the one before it.
            self.interpreter.reset_all_variables()
        self.interpreter.invoke()
        return self.floats(self.interpreter.get_tensor(self.output.index), windows)

    def floats(self, raw: NDArray[Any], windows: int = 1) -> Samples:
        """The output tensor's numbers."""
        if self._float or not KERNEL:
            floats = dequantise(raw, self.output)[: windows * self._size]
            return floats.copy() if self._lasting else floats
        out: Samples = np.empty(windows * self._size, np.float32)
        whole = raw if raw.size == out.size else raw.reshape(-1)[: out.size]
        dequantise_compiled(whole, self.output.zero_point, self.output.scale, out)
        return out


def _batch(tensors: Sequence[Tensor], feeds: Sequence[Feed], where: str) -> int:
    """How many windows one call takes: the first dimension of every input."""
    batch = tensors[0].shape[0] if tensors[0].shape and tensors[0].size != feeds[0].size else 1
    for tensor, feed in zip(tensors, feeds, strict=True):
        if tensor.size != feed.size * batch or (batch > 1 and tensor.shape[:1] != (batch,)):
            name = f"input {feed.name!r}" if feed.name else "an input"
            raise ArtifactError(f"{where}: {name} takes {tensor.shape}, the manifest gives {feed.size} numbers")
    return batch
