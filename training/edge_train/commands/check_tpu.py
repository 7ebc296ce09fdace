"""``edge-train check-tpu``: would the Edge TPU compiler take this file, and map all of it?"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from edge_train.errors import DataError
from edge_train.files import whole_file, write_text
from edge_train.packing.check_tpu import Report, TpuError, examine
from edge_train.packing.tpu_gates import (
    COMPILER,
    VARIABLE,
    Age,
    Compiled,
    ask_tf25,
    compile_for_tpu,
    compiler,
    make_tf25,
    tf25_python,
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check-tpu",
        help="would the Edge TPU compiler take this file?",
        description="Operators, versions, scales, dimensions; TensorFlow 2.5 in an environment of its own, which is of the compiler's"
        f" age, where ${VARIABLE} names its Python; {COMPILER} where it is installed. Exit status 1 if anything speaks against it.",
    )
    parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="a .tflite, or an artifact's folder")
    parser.add_argument("--json", action="store_true", help="all that was found, as JSON")
    parser.add_argument("--out", type=Path, metavar="DIR", help="keep the compiler's log and its file there")
    parser.add_argument(
        "--strict", action="store_true", help=f"refuse also where neither TF 2.5 nor {COMPILER} could be asked"
    )
    parser.add_argument(
        "--make-tf25",
        type=Path,
        metavar="DIR",
        help="make the environment with TensorFlow 2.5 (wants a Python 3.9), and end",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    if arguments.make_tf25 is not None:
        python = make_tf25(arguments.make_tf25.resolve(), print)
        print(f"export {VARIABLE}={python}")
        return
    if arguments.file is None:
        raise DataError("check-tpu: which file?")
    path = arguments.file / "model.tflite" if arguments.file.is_dir() else arguments.file
    try:
        tflite = path.read_bytes()
        report = examine(tflite)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except TpuError as error:
        raise DataError(f"{path}: {error}") from None
    interpreter, program = tf25_python(), compiler()
    age = None if interpreter is None or report.compiled else ask_tf25(tflite, interpreter)
    compiled = None if program is None or report.compiled else compile_for_tpu(tflite, program)
    if compiled is not None and arguments.out is not None:
        _keep(compiled, arguments.out, path)
    reasons = against(report, age, compiled, arguments.strict)
    if arguments.json:
        print(json.dumps(_as_json(path, report, age, compiled, reasons), indent=1))
    else:
        print("\n".join(_lines(path, report, age, compiled)))
    if reasons:
        raise DataError(f"{path}: not for the Edge TPU: {'; '.join(reasons)}")


def against(report: Report, age: Age | None, compiled: Compiled | None, strict: bool) -> list[str]:
    """All that speaks against the file. What bytes cannot prove, an interpreter of the age or the compiler can."""
    reasons = list(report.problems)
    if age is not None and not age.passed:
        what = f"differs by {age.worst_lsb} LSB" if age.loads else f"does not load it ({age.message})"
        reasons.append(f"TensorFlow {age.version or '2.5'} {what}")
    if compiled is not None and not compiled.succeeded:
        reasons.append(f"{COMPILER} refuses it ({_last_line(compiled.log)})")
    elif compiled is not None and compiled.on_cpu:
        reasons.append(f"{COMPILER} leaves {compiled.on_cpu} operators on the CPU")
    if age is None and compiled is None and not report.compiled and (strict or report.unproven):
        reasons += report.unproven
        if strict:
            reasons.append(f"neither TensorFlow 2.5 (${VARIABLE}) nor {COMPILER} is here to be asked")
    return reasons


def _last_line(log: str) -> str:
    return next((line.strip() for line in reversed(log.splitlines()) if line.strip()), "no word")


def _keep(compiled: Compiled, out: Path, path: Path) -> None:
    write_text(out / f"{path.stem}_edgetpu.log", compiled.log)
    if compiled.tflite is not None:
        with whole_file(out / f"{path.stem}_edgetpu.tflite") as aside:
            aside.write_bytes(compiled.tflite)


def _as_json(
    path: Path, report: Report, age: Age | None, compiled: Compiled | None, reasons: list[str]
) -> dict[str, Any]:
    return {
        "file": str(path),
        **report.as_json(),
        "tf25": None
        if age is None
        else {"version": age.version, "loads": age.loads, "worst_lsb": age.worst_lsb, "message": age.message},
        "edgetpu_compiler": None
        if compiled is None
        else {
            "version": compiled.version,
            "succeeded": compiled.succeeded,
            "on_tpu": compiled.on_tpu,
            "on_cpu": compiled.on_cpu,
            "log": compiled.log,
        },
        "against": reasons,
        "passed": not reasons,
    }


def _lines(path: Path, report: Report, age: Age | None, compiled: Compiled | None) -> list[str]:
    lines = [f"{path}: {report.bytes:,} bytes, {report.constants_bytes:,} of them constants"]
    words = {"tpu": "TPU", "unproven": "TPU, unproven", "cpu": "CPU"}
    for operator in report.operators:
        said = "CPU, after one that does not map" if operator.cut_off else words[operator.verdict]
        reasons = f"  {'; '.join(operator.reasons)}" if operator.reasons else ""
        lines.append(f"{operator.index:4d}  {operator.name:<28} v{operator.version:<3} {said}{reasons}")
    lines.append(f"{report.mapped} of {len(report.operators)} operators map to the Edge TPU")
    lines += [f"unproven: {text}" for text in report.unproven]
    if report.compiled:
        lines.append("it is a compiled file already")
    elif age is None:
        lines.append(
            f"TensorFlow 2.5: not asked (${VARIABLE} names no Python; edge-train check-tpu --make-tf25 DIR makes one)"
        )
    elif age.loads:
        lines.append(
            f"TensorFlow {age.version}: computes it, at most {age.worst_lsb} LSB from today's reference kernels"
        )
    else:
        lines.append(f"TensorFlow 2.5: does not load it ({age.message})")
    if compiled is None:
        lines.append(f"{COMPILER}: not installed")
    else:
        lines.append(
            f"{COMPILER} {compiled.version}: {compiled.on_tpu} operators on the TPU, {compiled.on_cpu} on the CPU"
        )
    return lines
