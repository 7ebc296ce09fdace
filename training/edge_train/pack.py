"""The artifact: manifest, digests and golden vectors around a TFLite file, verified by the daemon's own loader."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.inference.artifact import input_size, load, open_engine, verify
from edge_agent.inference.engine import _tensor, quantise
from edge_agent.inference.manifest import Manifest
from edge_train.data import Floats

TOLERANCE_LSB = 8
"""XNNPACK and the ARM kernels differ from the reference kernels by 1 LSB of a logit; where two classes are equally likely
softmax makes several of its own LSB (1/256) of that. Files that are computed wrongly are off by 9 to 134."""


class Reference:
    """The reference kernels, the only ones that agree bit for bit on x86, aarch64 and armv7l."""

    def __init__(self, tflite: bytes) -> None:
        from ai_edge_litert.interpreter import Interpreter, OpResolverType

        self._interpreter = Interpreter(
            model_content=tflite, num_threads=1, experimental_op_resolver_type=OpResolverType.BUILTIN_REF
        )
        self._interpreter.allocate_tensors()
        details = sorted(self._interpreter.get_input_details(), key=lambda detail: str(detail["name"]))
        self._inputs = [_tensor(detail, "reference") for detail in details]
        self._output = _tensor(self._interpreter.get_output_details()[0], "reference")
        self.lsb = self._output.scale
        self.sizes = [int(np.prod(tensor.shape)) for tensor in self._inputs]

    def invoke(self, *inputs: Floats) -> Floats:
        for tensor, values in zip(self._inputs, inputs, strict=True):
            self._interpreter.set_tensor(tensor.index, quantise(values, tensor))
        self._interpreter.invoke()
        raw = self._interpreter.get_tensor(self._output.index).reshape(-1).astype(np.float32)
        return np.asarray((raw - self._output.zero_point) * np.float32(self._output.scale), np.float32)


def pack(tflite: bytes, about: dict[str, Any], golden: dict[str, Floats], folder: Path) -> dict[str, Any]:
    """Write the artifact into ``folder`` and open it as the daemon would; nothing is left there if that fails.

    ``about`` is the manifest without ``files`` and ``golden``; ``golden`` holds an array per input (first axis: cases).
    """
    reference = Reference(tflite)
    inputs = [golden[part["name"]] for part in about["inputs"]]
    outputs = np.array([reference.invoke(*case) for case in zip(*inputs, strict=True)], np.float32)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
        made = Path(scratch)
        (made / "model.tflite").write_bytes(tflite)
        arrays: dict[str, Any] = {**golden, "output": outputs}
        np.savez_compressed(made / "golden.npz", **arrays)
        files = {
            name: hashlib.sha256((made / name).read_bytes()).hexdigest() for name in ("golden.npz", "model.tflite")
        }
        manifest = about | {
            "golden": {"file": "golden.npz", "tolerance": TOLERANCE_LSB * reference.lsb},
            "files": files,
        }
        checked = Manifest.model_validate(manifest)
        sizes = [input_size(part) for part in checked.inputs]
        if sizes != reference.sizes:
            raise ValueError(f"the file's inputs in order of name take {reference.sizes}, the manifest gives {sizes}")
        (made / "manifest.json").write_text(json.dumps(manifest, indent=1) + "\n")
        artifact = load(made)
        engine = open_engine(artifact)
        worst = verify(artifact, engine)
        folder.mkdir(exist_ok=True)
        for name in (
            "model.tflite",
            "golden.npz",
            "manifest.json",
        ):  # the manifest last: until then the digests refuse it
            shutil.move(made / name, folder / name)
    return {
        "bytes": len(tflite),
        "backend": engine.backend,
        "golden_cases": int(outputs.shape[0]),
        "golden_worst_lsb": worst / reference.lsb,
        "tolerance_lsb": TOLERANCE_LSB,
    }
