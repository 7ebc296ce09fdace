"""Two judges of a TFLite file beyond its bytes: TensorFlow 2.5 on Python 3.9, which is of the Edge TPU compiler's age, and the
compiler itself where it is installed."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_train.errors import DataError

VARIABLE = "EDGE_TRAIN_TF25_PYTHON"
REQUIREMENTS = ("tensorflow==2.5.0", "numpy==1.19.5", "protobuf<3.21")
"""protobuf: 2.5 asks for 3.9.2 or newer and breaks on what is newest."""
COMPILER = "edgetpu_compiler"
CASES = 32
ALLOWED_LSB = 1
TIMEOUT_S = 300


class GateError(DataError):
    """A gate that was asked for and is not there, or could not be made."""


@dataclass(frozen=True, slots=True)
class Age:
    """What TensorFlow 2.5 said of a file."""

    version: str
    loads: bool
    worst_lsb: int | None
    """Largest difference from the reference kernels of today; None where it does not load."""
    message: str = ""

    @property
    def passed(self) -> bool:
        return self.loads and self.worst_lsb is not None and self.worst_lsb <= ALLOWED_LSB


def tf25_python() -> Path | None:
    """The interpreter that ``$EDGE_TRAIN_TF25_PYTHON`` names."""
    named = os.environ.get(VARIABLE)
    if not named:
        return None
    path = Path(named)
    if not os.access(path, os.X_OK):
        raise GateError(
            f"${VARIABLE} names {named}, which cannot be run; make one with: edge-train check-tpu --make-tf25 DIR"
        )
    return path


def python39() -> Path | None:
    """A Python 3.9 of this machine: on the PATH, or among pyenv's."""
    candidates = [shutil.which("python3.9")]
    candidates += [str(path) for path in sorted(Path.home().glob(".pyenv/versions/3.9.*/bin/python"))]
    for candidate in candidates:
        if candidate is None:
            continue
        asked = subprocess.run(
            [candidate, "-c", "import sys; print(sys.version_info[:2] == (3, 9))"],
            capture_output=True,
            text=True,
            check=False,
        )
        if asked.stdout.strip() == "True":
            return Path(candidate)
    return None


def make_tf25(folder: Path, say: Any) -> Path:
    """An environment of its own with TensorFlow 2.5; its interpreter."""
    base = python39()
    if base is None:
        raise GateError(
            "no Python 3.9 on this machine (TensorFlow 2.5 runs on nothing newer): install one (pyenv install 3.9), then again"
        )
    if folder.exists():
        raise GateError(f"{folder}: is there already; name a folder that is not")
    say(f"{base} -m venv {folder}; pip install {' '.join(REQUIREMENTS)} (0.5 GB)")
    python = folder / "bin" / "python"
    for command in ([str(base), "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q", *REQUIREMENTS]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            shutil.rmtree(folder, ignore_errors=True)
            last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
            raise GateError(f"{' '.join(command)}: failed ({''.join(last)}); nothing is left of it")
    return python


def ask_tf25(tflite: bytes, python: Path, seed: int = 0) -> Age:
    """Random inputs through TensorFlow 2.5's kernels and through the reference kernels of today's runtime."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    reference = Interpreter(model_content=tflite, experimental_op_resolver_type=OpResolverType.BUILTIN_REF)
    reference.allocate_tensors()
    rng = np.random.default_rng(seed)
    details = reference.get_input_details()
    inputs = {detail["name"]: _random(detail, rng) for detail in details}
    expected = []
    for case in range(CASES):
        for detail in details:
            reference.set_tensor(detail["index"], inputs[detail["name"]][case])
        reference.invoke()
        expected.append([reference.get_tensor(detail["index"]) for detail in reference.get_output_details()])
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model.tflite").write_bytes(tflite)
        np.savez(folder / "inputs.npz", **inputs)
        script = Path(__file__).with_name("tf25_gate.py")
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        try:
            done = subprocess.run(
                [str(python), str(script), "model.tflite", "inputs.npz", "outputs.npz"],
                cwd=folder,
                env=environment | {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""},
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise GateError(f"{python}: {error}") from None
        if done.returncode:
            message = (done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1]
            if "ModuleNotFoundError" in message or "ImportError" in message:
                raise GateError(f"{python}: {message}; make its environment with: edge-train check-tpu --make-tf25 DIR")
            return Age("", False, None, message)
        with np.load(folder / "outputs.npz") as found:
            version = str(found["version"])
            worst = 0
            for i in range(len(expected[0])):
                wanted = np.array([row[i] for row in expected]).astype(np.float64)
                difference = np.abs(found[f"output{i}"].astype(np.float64) - wanted)
                worst = max(worst, int(np.ceil(difference.max())))
    return Age(version, True, worst)


def _random(detail: dict[str, Any], rng: np.random.Generator) -> Any:
    shape = (CASES, *detail["shape"])
    if detail["dtype"] in (np.int8, np.uint8):
        limits = np.iinfo(detail["dtype"])
        # About the zero point, as real inputs lie; the full range would saturate most of the net.
        middle, spread = detail["quantization"][1], 40
        return np.clip(rng.normal(middle, spread, shape).round(), limits.min, limits.max).astype(detail["dtype"])
    return rng.normal(0, 1, shape).astype(detail["dtype"])


# --- the compiler itself -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Compiled:
    """What the Edge TPU compiler said."""

    version: str
    succeeded: bool
    on_tpu: int | None
    """Operators that run on the Edge TPU."""
    on_cpu: int | None
    log: str
    tflite: bytes | None = None


def compiler() -> Path | None:
    found = shutil.which(COMPILER)
    return None if found is None else Path(found)


def compile_for_tpu(tflite: bytes, program: Path) -> Compiled:
    """Runs the compiler; its log is kept whole, whatever it said."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        (folder / "model.tflite").write_bytes(tflite)
        try:
            done = subprocess.run(
                [str(program), "-s", "-o", str(folder), str(folder / "model.tflite")],
                capture_output=True,
                text=True,
                timeout=TIMEOUT_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise GateError(f"{program}: {error}") from None
        made = folder / "model_edgetpu.tflite"
        log = done.stdout + done.stderr
        written = folder / "model_edgetpu.log"
        if written.is_file():
            log += "\n" + written.read_text(errors="replace")
        version = re.search(r"Compiler version\s+([\d.]+)", log)
        return Compiled(
            version=version.group(1) if version else "",
            succeeded=done.returncode == 0 and made.is_file(),
            on_tpu=_count(r"operations that will run on Edge TPU:\s*(\d+)", log),
            on_cpu=_count(r"operations that will run on CPU:\s*(\d+)", log),
            log=log,
            tflite=made.read_bytes() if made.is_file() else None,
        )


def _count(pattern: str, log: str) -> int | None:
    found = re.search(pattern, log)
    return int(found.group(1)) if found else None
