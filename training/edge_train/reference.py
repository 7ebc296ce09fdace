"""A TFLite file by the reference kernels: what golden vectors are made with and every other engine is held against."""

from __future__ import annotations

import numpy as np

from edge_agent.inference.engine import quantise, tensor_of
from edge_train.arrays import Floats


class Reference:
    """The reference kernels, the only ones that agree bit for bit on x86, aarch64 and armv7l."""

    def __init__(self, tflite: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=tflite, num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
        self._interpreter.allocate_tensors()
        details = sorted(self._interpreter.get_input_details(), key=lambda detail: str(detail["name"]))
        self.names = [plain_name(str(detail["name"])) for detail in details]
        self.inputs = [tensor_of(detail, "reference") for detail in details]
        self._output = tensor_of(self._interpreter.get_output_details()[0], "reference")
        self.lsb = self._output.scale if self._output.scale > 0 else 1 / 256
        """Of the output; a float file's is taken as an int8 softmax's."""
        self.sizes = [int(np.prod(tensor.shape)) for tensor in self.inputs]
        self.outputs = int(np.prod(self._output.shape))

    def invoke(self, *inputs: Floats) -> Floats:
        for tensor, values in zip(self.inputs, inputs, strict=True):
            self._interpreter.set_tensor(tensor.index, quantise(values, tensor))
        self._interpreter.reset_all_variables()  # as the daemon's engine does
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._output.index).reshape(-1).astype(np.float32)
        if self._output.dtype == np.float32:
            return np.asarray(raw, np.float32)
        return np.asarray((raw - self._output.zero_point) * np.float32(self._output.scale), np.float32)


def plain_name(tensor: str) -> str:
    """``serving_default_beat:0`` is the model's input ``beat``."""
    return tensor.removeprefix("serving_default_").rsplit(":", 1)[0]
