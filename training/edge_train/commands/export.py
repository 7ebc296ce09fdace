"""``edge-train export``: a fitted model in the forms that others take."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edge_train.arrays import Floats
from edge_train.errors import DataError
from edge_train.files import write_json
from edge_train.opened import Opened, open_either
from edge_train.places import Places, add_places, places

CASES = 1000
"""Windows that show the converter the ranges."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "export",
        help="Keras, TFLite, int8 and ONNX files of a run or an artifact",
        description="Write a fitted model as files. int8 keeps the windows that it was calibrated with; ONNX is compared with the"
        " model by onnxruntime, and refused where they differ.",
    )
    parser.add_argument(
        "path", type=Path, metavar="RUN", help="a run's folder (fit.json) or an artifact's (manifest.json)"
    )
    parser.add_argument(
        "--to",
        default="keras,tflite,int8,onnx",
        metavar="KIND,...",
        help="of keras, h5, tflite, int8, onnx (default: %(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to (default: RUN/export)")
    add_places(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from edge_train.packing.export import KINDS, export

    kinds = [kind.strip() for kind in arguments.to.split(",") if kind.strip()]
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown or not kinds:
        raise DataError(f"--to {arguments.to}: there are {', '.join(KINDS)}")
    opened = open_either(arguments.path)
    if opened.model is None:
        raise DataError(
            f"{opened.where}: its float model is not at hand (looked for {opened.where}.keras); export its run"
        )
    out = arguments.out or arguments.path / "export"
    shown = shown_to_converter(opened, places(arguments)) if {"int8", "onnx"} & set(kinds) else None
    said = export(opened.model, kinds, out, opened.name, shown)
    write_json(out / "export.json", said)
    for kind in kinds:
        facts = said[kind]
        more = f", differs by {said['onnx_max_difference']:.2g} at most" if kind == "onnx" else ""
        print(f"{out / facts['file']}: {facts['bytes']:,} bytes, SHA-256 {facts['sha256'][:12]}{more}")
    if "representative" in said:
        facts = said["representative"]
        print(f"{out / facts['file']}: {facts['cases']} windows, SHA-256 {facts['sha256'][:12]}")


def shown_to_converter(opened: Opened, where: Places, seed: int = 0) -> dict[str, Floats]:
    """Of the task's prepared training windows; of an artifact whose data are not here, its golden cases."""
    from edge_train.beats import prepare
    from edge_train.beats.model import representative
    from edge_train.data import windows
    from edge_train.packing.export import representative_windows
    from edge_train.tasks import BEAT

    try:
        if opened.task is not None:
            return representative_windows(windows.load(where.data(opened.task.name)).train, CASES, seed)
        if opened.facts:
            return representative(prepare.load_prepared(where.data(BEAT))[0], CASES, seed)
    except DataError:
        if opened.manifest is None:
            raise
    if opened.manifest is None:
        raise DataError(f"{opened.where}: of no task that is known here")
    with np.load(opened.where / opened.manifest.golden.file) as golden:
        return {part.name: golden[part.name] for part in opened.manifest.inputs}
