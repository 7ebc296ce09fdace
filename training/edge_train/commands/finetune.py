"""``edge-train finetune``: an artifact learns a patient from corrections; refused where it forgets everybody else."""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import numpy as np

from edge_train.errors import DataError
from edge_train.places import add_places, places


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    from edge_train.finetuning.finetune import Settings

    default = Settings()
    parser = commands.add_parser(
        "finetune",
        help="learn a patient from corrections",
        description="From corrected beats (WFDB annotations) or segments (.artf marks): a new version of an artifact. int8, through the"
        " daemon's engine, it is measured on the patient's later windows and on the general test set, before and after; refused, with"
        " nothing written, if the general macro-F1 falls by more than --allow points.",
    )
    parser.add_argument(
        "artifact", type=Path, metavar="ARTIFACT", help="its folder; its float model lies beside it (NAME.keras)"
    )
    parser.add_argument("--corrections", type=Path, required=True, metavar="DIR", help="see docs/training.md")
    parser.add_argument(
        "--annotator", default="rev", metavar="NAME", help="of the WFDB annotations (default: %(default)s)"
    )
    parser.add_argument("--weights", type=Path, metavar="PATH", help="the float model: a .keras, or its run's folder")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where the new version's folder goes (default: BUILD/finetuned)"
    )
    parser.add_argument(
        "--unfreeze",
        type=int,
        default=default.unfreeze,
        metavar="N",
        help="last layers that move (default: %(default)s)",
    )
    parser.add_argument("--rate", type=float, default=default.rate, help="(default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=default.epochs, help="at most (default: %(default)s)")
    parser.add_argument(
        "--patience", type=int, default=default.patience, help="epochs without gain (default: %(default)s)"
    )
    parser.add_argument(
        "--hold",
        type=float,
        default=default.hold,
        help="weight of what others' windows were called before (default: %(default)s)",
    )
    parser.add_argument(
        "--allow",
        type=float,
        default=1.0,
        metavar="POINTS",
        help="of general macro-F1 that may be lost (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--version",
        metavar="X.Y.Z",
        help="of what is made (default: the third number one higher); a device takes no version twice with other content",
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="sign the new manifest with this Ed25519 private key (PEM)"
    )
    add_places(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    _refuse(arguments)
    if not arguments.corrections.is_dir():
        raise DataError(f"{arguments.corrections}: there is no such folder of corrections (see docs/review.md: export)")
    from edge_train.data.cutting import saturated
    from edge_train.finetuning import corrections, finetune
    from edge_train.finetuning.general import general
    from edge_train.opened import look_into, open_artifact
    from edge_train.packing import sign
    from edge_train.packing.export import representative_windows, to_int8

    if arguments.key is not None:
        sign.private_key(arguments.key)
    where = places(arguments)
    opened = look_into(arguments.artifact, arguments.weights)  # TensorFlow is loaded when nothing but it can refuse
    manifest, tflite = opened.manifest, opened.tflite
    assert manifest is not None
    assert tflite is not None
    version = finetune.version_after(manifest.version, arguments.version)
    corrected = corrections.read(arguments.corrections, manifest, arguments.annotator)
    finetune.check(corrected, manifest)
    everybody = general(opened, where, corrected.patients)
    if everybody.part < 1:
        print(f"what others lose is measured on a part of the data only (prepared with --part {everybody.part:g})")
    before = finetune.measure(tflite, manifest, corrected, everybody.test)
    settings = finetune.Settings(
        arguments.unfreeze,
        arguments.epochs,
        arguments.patience,
        arguments.rate,
        hold=arguments.hold,
        seed=arguments.seed,
    )
    opened = open_artifact(arguments.artifact, arguments.weights)
    did = finetune.teach(opened.model, manifest, tflite, corrected, everybody.train, settings, print)
    mine = saturated(representative_windows(corrected.train, 200, arguments.seed), manifest, tflite)
    shown = {name: np.concatenate([everybody.shown[name], mine[name]]) for name in everybody.shown}
    made = to_int8(opened.model, shown)
    after = finetune.measure(made, manifest, corrected, everybody.test)
    print(_table(before, after, manifest.labels))
    finetune.judge(before, after, arguments.allow)
    folder = (arguments.out or where.build / "finetuned") / manifest.name
    facts = {
        "from": manifest.version,
        "patients": list(corrected.patients),
        "records": list(corrected.records),
        "windows": {name: len(getattr(corrected, name)) for name in ("train", "stop", "test")},
        **({"general_part": everybody.part} if everybody.part < 1 else {}),
        **did,
        "before": before.as_json(),
        "after": after.as_json(),
    }
    _write(opened, made, shown, folder, version, facts, arguments)
    print(f"{folder}: version {version}; its float model {folder.name}.keras")


def _refuse(arguments: argparse.Namespace) -> None:
    """Numbers that nothing can be made with."""
    for name in ("unfreeze", "epochs", "patience"):
        if getattr(arguments, name) < 1:
            raise DataError(f"--{name} {getattr(arguments, name)}: 1 or more is wanted")
    if not 0 < arguments.rate < math.inf:
        raise DataError(f"--rate {arguments.rate:g}: a number above 0 is wanted")
    for name in ("hold", "allow"):
        if not 0 <= getattr(arguments, name) < math.inf:
            raise DataError(f"--{name} {getattr(arguments, name):g}: a number, 0 or more, is wanted")
    if arguments.seed < 0:
        raise DataError(f"--seed {arguments.seed}: 0 or more is wanted")


def _write(
    opened: Any,
    tflite: bytes,
    shown: dict[str, Any],
    folder: Path,
    version: str,
    facts: dict[str, Any],
    arguments: argparse.Namespace,
) -> None:
    from edge_train.packing import floats
    from edge_train.packing.card import finetuned
    from edge_train.packing.pack import CARD, golden_cases, pack
    from edge_train.runtime import command_line

    manifest = opened.manifest
    about = {key: value for key, value in opened.raw.items() if key not in ("golden", "files")}
    about["version"] = version
    taught = f"fine-tuned from {manifest.version} on {facts['windows']['train']} corrected windows of {', '.join(facts['patients'])}"
    training = dict(about["training"])
    training["protocol"] = f"{training['protocol']}; {taught}"
    training["command"] = command_line()
    about["training"] = training
    old = opened.where / CARD
    card = finetuned(old.read_text() if old.is_file() else f"# {manifest.name}\n", about["version"], facts)
    mixed = {
        name: np.concatenate([rows[:24], rows[-200:]]) for name, rows in shown.items()
    }  # of others, and of the patient
    golden = golden_cases(tflite, mixed)
    pack(tflite, about, golden, folder, card=card, key=arguments.key)
    floats.keep(opened.model, folder, {**opened.facts, "finetuned": facts})


def _table(before: Any, after: Any, labels: list[str]) -> str:
    lines = [f"{'F1, int8':<24}{'before':>9}{'after':>9}"]
    for name in ("patient", "general"):
        was, now = getattr(before, name), getattr(after, name)
        lines += [f"{name + ' ' + label:<24}{was[label]:9.2f}{now[label]:9.2f}" for label in labels]
        lines.append(
            f"{name + ' macro':<24}{getattr(before, name + '_macro'):9.2f}{getattr(after, name + '_macro'):9.2f}"
        )
    return "\n".join(lines)
