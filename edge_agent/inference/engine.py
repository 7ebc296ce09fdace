"""Running a TFLite file: float arrays in, float scores out, quantised on the way as the file itself says."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from edge_agent.errors import ArtifactError, EngineError
from edge_agent.inference.binding import Bound, Feed, Tensor, quantise, tensor_of
from edge_agent.inference.tflite.vet import vetted
from edge_agent.journey import Samples

__all__ = ["RUNTIMES", "THREADS", "CpuEngine", "Engine", "Feed", "Tensor", "find_runtime", "quantise", "tensor_of"]

THREADS = 1
_GREETING = threading.Lock()

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


class CpuEngine:
    """A TFLite interpreter on one thread: for models this small, a second thread costs more than it brings.

    The file is read and vetted before the runtime sees it. ``feeds``: the manifest's inputs, or their sizes alone, in the order of the
    tensors' names. ``demanded``: the type that all of it computes in. ``index``: its output is the number of a label.
    """

    def __init__(
        self,
        tflite: bytes,
        feeds: Sequence[Feed] | Sequence[int],
        output_size: int,
        *,
        where: str = "model",
        demanded: str | None = None,
        index: bool = False,
    ) -> None:
        runtime, interpreter_class = find_runtime()
        found = vetted(tflite, where, demanded=demanded)
        try:
            with _without_banner():
                interpreter = interpreter_class(model_content=tflite, num_threads=THREADS)
                interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            text = (str(error).split("\n") or [""])[0]
            raise ArtifactError(f"{where}: {runtime} cannot load it ({text})") from None
        self._bound = Bound(
            interpreter,
            [feed if isinstance(feed, Feed) else Feed("", feed) for feed in feeds],
            output_size,
            signature=found.signature,
            variables=found.variables,
            index=index,
            where=where,
        )
        self.backend = f"cpu/{runtime}"

    @property
    def batch(self) -> int:
        """Windows that one call has room for."""
        return self._bound.batch

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        try:
            return self._bound.run(inputs)
        except (RuntimeError, ValueError) as error:
            raise self._failed(error) from None

    def invoke_many(self, windows: Sequence[tuple[Samples, ...]]) -> list[Samples]:
        """The outputs of several windows; a file with a batch takes as many of them at once."""
        try:
            return self._bound.run_many(windows)
        except (RuntimeError, ValueError) as error:
            raise self._failed(error) from None

    def _failed(self, error: Exception) -> EngineError:
        what = error.what if isinstance(error, EngineError) else (str(error).splitlines() or [type(error).__name__])[0]
        return EngineError(f"{self.backend} failed at a call: {what}")


@contextlib.contextmanager
def _without_banner() -> Iterator[None]:
    """The runtime greets on the standard error ("INFO: Created TensorFlow Lite XNNPACK delegate") and has no switch for it.

    Whatever else it writes there is passed on. One at a time: two threads would give each other's file back as the real one.
    """
    with _GREETING, tempfile.TemporaryFile() as caught:
        sys.stderr.flush()
        real = os.dup(2)
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
