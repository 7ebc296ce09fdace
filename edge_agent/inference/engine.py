"""Running a TFLite file: float arrays in, float scores out, quantised on the way as the file itself says."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from edge_agent.errors import ArtifactError, EngineError
from edge_agent.journey import Samples

# Best first: litert has XNNPACK for int8 on every platform (5 us where tflite-runtime takes 21); tensorflow is for
# those who have nothing else, and costs a second and 400 MB to import.
RUNTIMES = (
    ("ai-edge-litert", "ai_edge_litert.interpreter"),
    ("tflite-runtime", "tflite_runtime.interpreter"),
    ("tensorflow", "tensorflow.lite"),
)


class Engine(Protocol):
    """One loaded model."""

    backend: str

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        """One flat float array per input of the manifest, in its order; the flat output."""


@dataclass(frozen=True, slots=True)
class Tensor:
    index: int
    shape: tuple[int, ...]
    dtype: Any
    scale: float
    zero_point: int


def find_runtime() -> tuple[str, Any]:
    """The first runtime that imports: its name and its Interpreter class."""
    for name, module in RUNTIMES:
        try:
            return name, importlib.import_module(module).Interpreter
        except ImportError:
            continue
    raise EngineError(
        "no TFLite runtime is installed",
        remedy="pip install ai-edge-litert (64-bit), or tflite-runtime==2.14.0 with 'numpy<2' (32-bit ARM)",
    )


def tensor_of(detail: dict[str, Any], where: str) -> Tensor:
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


class CpuEngine:
    """A TFLite interpreter on one thread: for models this small, a second thread costs more than it brings."""

    def __init__(self, tflite: bytes, input_sizes: list[int], output_size: int, *, where: str = "model") -> None:
        runtime, interpreter_class = find_runtime()
        try:
            with _without_banner():
                self._interpreter = interpreter_class(model_content=tflite, num_threads=1)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            text = str(error).split("\n")[0]
            raise ArtifactError(f"{where}: {runtime} cannot load it ({text})") from None
        details = self._interpreter.get_input_details()
        if len(details) != len(input_sizes):
            raise ArtifactError(f"{where}: has {len(details)} inputs, the manifest describes {len(input_sizes)}")
        # TFLite may list inputs in another order than the manifest: exporters name them serving_default_<i>:0.
        details = sorted(details, key=lambda detail: str(detail["name"]))
        self._inputs = [tensor_of(detail, where) for detail in details]
        for tensor, size in zip(self._inputs, input_sizes, strict=True):
            if int(np.prod(tensor.shape)) != size:
                raise ArtifactError(f"{where}: an input takes {tensor.shape}, the manifest gives {size} numbers")
        outputs = self._interpreter.get_output_details()
        if len(outputs) != 1:
            raise ArtifactError(f"{where}: has {len(outputs)} outputs; one is wanted")
        self._output = tensor_of(outputs[0], where)
        if int(np.prod(self._output.shape)) != output_size:
            raise ArtifactError(f"{where}: its output is {self._output.shape}, the manifest names {output_size} labels")
        self.backend = f"cpu/{runtime}"

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        for tensor, values in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(tensor.index, quantise(values, tensor))
        try:
            # A recurrent file keeps its state from call to call; a window must not know the one before it.
            self._interpreter.reset_all_variables()
            self._interpreter.invoke()
        except RuntimeError as error:
            raise EngineError(f"{self.backend} failed at a call: {str(error).splitlines()[0]}") from None
        raw = self._interpreter.get_tensor(self._output.index).reshape(-1)
        if self._output.dtype == np.float32:
            return np.asarray(raw, np.float32)
        return np.asarray((raw.astype(np.float32) - self._output.zero_point) * np.float32(self._output.scale))


@contextlib.contextmanager
def _without_banner() -> Iterator[None]:
    """The runtime greets on the standard error ("INFO: Created TensorFlow Lite XNNPACK delegate") and has no switch for it.

    Whatever else it writes there is passed on.
    """
    sys.stderr.flush()
    real = os.dup(2)
    with tempfile.TemporaryFile() as caught:
        os.dup2(caught.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(real, 2)
            os.close(real)
            caught.seek(0)
            for line in caught.read().splitlines(keepends=True):
                if not line.startswith(b"INFO:"):
                    os.write(2, line)


def quantise(values: Samples, tensor: Tensor) -> np.ndarray[Any, Any]:
    """To the tensor's own type and shape; values outside its range saturate, as they do on the device."""
    if tensor.dtype == np.float32:
        return values.astype(np.float32, copy=False).reshape(tensor.shape)
    limits = np.iinfo(tensor.dtype)
    scaled = np.rint(values * np.float32(1.0 / tensor.scale)) + tensor.zero_point
    clipped: np.ndarray[Any, Any] = np.clip(scaled, limits.min, limits.max).astype(tensor.dtype)
    return clipped.reshape(tensor.shape)
