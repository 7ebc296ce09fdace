"""``edge-agent models check``: does a file map to the Edge TPU, and if not, which operator is it?"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import plain_file
from edge_agent.errors import ArtifactError
from edge_agent.shown import plain

if TYPE_CHECKING:
    from edge_agent.inference.tflite.check import Checked, Report

LARGEST = 256 * 1024 * 1024
_WHERE = {"tpu": "TPU", "unproven": "TPU?", "cpu": "CPU"}


def add_check(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "check",
        help="does a TFLite file map to the Edge TPU?",
        description="Operator by operator, what the last public Edge TPU compiler makes of a file; what a compiled file says of itself.\n"
        "Exit status 0 if every operator maps to the TPU (or runs there), 1 if one does not, if the compiler would refuse\n"
        "the file, or if it cannot be read. Of a folder, a model whose manifest says engine = cpu is shown and does not count.",
        epilog="example:\n  edge-agent models check model.tflite",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "file", type=Path, metavar="FILE", help="a .tflite, a model's folder, or a folder of models", nargs="+"
    )
    parser.add_argument("--json", action="store_true", help="all that was found, as JSON")
    parser.add_argument(
        "--strict",
        action="store_true",
        help="exit status 1 also where an operator's version is not known to be taken (TPU?)",
    )
    parser.set_defaults(run=run_check)


def run_check(arguments: argparse.Namespace) -> int:
    from edge_agent.inference.tflite.check import examine

    status, said = 0, []
    for path, for_cpu in _files(arguments.file):
        try:
            report = examine(_bytes(path), str(path))
        except ArtifactError as error:
            status = 1
            said.append({"file": str(path), "passed": False, "error": error.what})
            if not arguments.json:
                print(plain(error.what), file=sys.stderr)
            continue
        passed = for_cpu or (report.whole and not (arguments.strict and report.unproven))
        status = status if passed else 1
        said.append({"file": str(path), "passed": passed, "for_cpu_alone": for_cpu, **report.as_json()})
        if not arguments.json:
            print("\n".join(map(plain, lines(path, report))))
            if for_cpu:
                print(
                    "note: made for the CPU alone, its manifest says (engine = cpu): what speaks against it does not count"
                )
    if arguments.json:
        print(json.dumps({"passed": status == 0, "files": said}, indent=1))
    return status


def _files(paths: list[Path]) -> list[tuple[Path, bool]]:
    """Whether each is for the CPU alone. A file that is named itself was asked about, whatever a manifest beside it says."""
    found: list[tuple[Path, bool]] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(path.glob("*.tflite")) or sorted(path.glob("*/*.tflite")) or [path / "model.tflite"]
            found += [(file, _for_cpu(file.parent)) for file in inside]
        else:
            found.append((path, False))
    return found


def _for_cpu(folder: Path) -> bool:
    try:
        return bool(json.loads(plain_file.read(folder / "manifest.json", LARGEST)).get("engine") == "cpu")
    except (OSError, ValueError, AttributeError, RecursionError):
        return False


def _bytes(path: Path) -> bytes:
    try:
        return plain_file.read(path, LARGEST)
    except OSError as error:
        raise ArtifactError(f"{path}: {error.strerror or error}") from None


def lines(path: Path, report: Report) -> list[str]:
    """The table that people read."""
    kind = "a compiled file" if report.compiled else "not compiled"
    made = [f"{path}: {kind}, {report.bytes:,} bytes, {report.constants_bytes:,} of them constants"]
    name = max([len(operator.name) for operator in report.operators] + [8])
    output = max([len(operator.output) for operator in report.operators] + [6])
    made.append(f"   #  {'operator':<{name}}  {'v':>2}  {'output':<{output}}  where")
    for operator in report.operators:
        row = f"{operator.index:4d}  {operator.name:<{name}}  {operator.version:>2}  {operator.output:<{output}}"
        made.append(f"{row}  {_place(operator)}")
    made += _verdict(report)
    for package in report.packages:
        runtime = "unknown" if package.minimum_runtime is None else str(package.minimum_runtime)
        made.append(
            f"operator {package.operator}: compiler {package.compiler or 'unknown'}, runtime {runtime} or newer"
        )
        for one in package.executables:
            made.append(
                f"  {one.kind}: {one.parameter_bytes:,} bytes of weights, {one.instruction_bytes:,} of instructions"
            )
    made += [f"against it: {text}" for text in report.problems]
    made += [f"not proven: {text}" for text in report.unproven]
    made += [f"note: {text}" for text in report.notes]
    return made


def _place(operator: Checked) -> str:
    if operator.cut_off:
        return "CPU  after one that does not map"
    reasons = f"  {'; '.join(operator.reasons)}" if operator.reasons else ""
    return _WHERE[operator.verdict] + reasons


def _verdict(report: Report) -> list[str]:
    many = len(report.operators)
    if report.compiled:
        return [f"{report.mapped} of {many} operators run on the Edge TPU"]
    made = [f"{report.mapped} of {many} operators map to the Edge TPU"]
    if report.refused:
        made[0] += "; the compiler refuses the file as it is"
    elif report.first_cut is not None and report.first_cut < many - 1:
        made[0] += f"; operator {report.first_cut} and all after it run on the CPU"
    return made


def main(argv: list[str] | None = None) -> int:
    """``python -m edge_agent.inference.tflite.check_command check FILE``."""
    parser = argparse.ArgumentParser()
    commands: Any = parser.add_subparsers(required=True)
    add_check(commands)
    arguments = parser.parse_args(argv)
    return int(arguments.run(arguments))


if __name__ == "__main__":
    sys.exit(main())
