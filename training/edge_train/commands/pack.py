"""``edge-train pack``: int8, its gate, golden vectors, manifest and card: the artifact."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_train.arrays import Floats
from edge_train.errors import DataError
from edge_train.files import write_json, write_text
from edge_train.places import Places, add_places, add_task, chosen, median_seed, places, seeds
from edge_train.tasks import Chosen

CASES = 1000
"""Windows that show the converter the ranges."""
MOST_DRAWS = 5
"""Where int8 loses more than the gate allows, other such windows are drawn, so often: which ones they are costs or brings a point
where a class has few examples. The validation set decides (the test set has no part in it), and pack.json says how many were drawn."""
GOLDEN = 32
LARGEST_BYTES = 100_000
"""Of a model that ships."""


@dataclass(frozen=True, slots=True)
class Made:
    """One seed's model, ready to be put into a folder."""

    model: Any
    tflite: bytes
    about: dict[str, Any]
    shown: dict[str, Floats]
    facts: dict[str, Any]
    on_tpu: bool
    """Whether its architecture is meant for the Edge TPU."""
    loss: dict[str, Any] | None
    """float against int8; None where that is measured elsewhere (the beat model: edge-train evaluate)."""
    part: float = 1.0
    """Of the data that it was fitted on."""


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "pack",
        help="make the artifact",
        description="int8, golden vectors and manifest for every fitted seed (in its run's folder), and for the median seed by"
        " validation in --models, opened by the daemon's own loader before it takes the old one's place. Its float model lies beside"
        " it (NAME.keras), for finetune and explain. The card is filled from the evaluation's report where there is one: pack again"
        " after edge-train evaluate, or with --card alone.",
    )
    add_task(parser)
    parser.add_argument("--seed", type=int, help="this seed instead of the median by validation")
    parser.add_argument(
        "--only", action="store_true", help="only the seed that ships, not the others for the deviation over seeds"
    )
    parser.add_argument(
        "--card", action="store_true", help="write the card alone, from the artifact and the report that are there"
    )
    parser.add_argument(
        "--notes",
        type=Path,
        metavar="FILE",
        help="Markdown for the card: known failures and whatever people should know",
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="sign the manifest with this Ed25519 private key (PEM)"
    )
    parser.add_argument(
        "--keygen", action="store_true", help="make the key of --key first, and its public key beside it (.pub)"
    )
    parser.add_argument(
        "--force", action="store_true", help="pack although int8 loses too much, or the file is too large"
    )
    add_places(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from edge_train.packing import sign

    if arguments.keygen:
        if arguments.key is None:
            raise DataError("--keygen: where to? Name the file with --key")
        print(f"{sign.keygen(arguments.key)}: the public key; keep {arguments.key} to yourself")
    elif arguments.key is not None:
        sign.private_key(arguments.key)
    found, where = chosen(arguments), places(arguments)
    folder = where.artifact(found.artifact)
    notes = _notes(arguments.notes)
    if arguments.card:
        _card(folder, where, found.artifact, notes)
        return
    fitted = seeds(where.runs(found.artifact))
    shipped = median_seed(where.runs(found.artifact)) if arguments.seed is None else arguments.seed
    if shipped not in fitted:
        raise DataError(f"{where.runs(found.artifact)}: no seed {shipped}; there are {', '.join(map(str, fitted))}")
    for seed, path in fitted.items():
        if seed == shipped or not arguments.only:
            _seed(found, where, seed, path, folder if seed == shipped else None, arguments)
    _card(folder, where, found.artifact, notes)


def _notes(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text()
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None


def _seed(
    found: Chosen, where: Places, seed: int, path: Path, ship_to: Path | None, arguments: argparse.Namespace
) -> None:
    from edge_train.packing import floats
    from edge_train.packing.check_tpu import examine
    from edge_train.packing.export import digest, npz
    from edge_train.packing.pack import golden_cases, pack
    from edge_train.packing.tpu_gates import compile_for_tpu, compiler

    made = _beats(where, found, seed, path) if found.task is None else _task(where, found, seed, path)
    problems = _problems(made)
    if problems and ship_to is not None and not arguments.force:
        raise DataError(f"{found.artifact} seed {seed}: {'; '.join(problems)} (--force packs it nevertheless)")
    if problems and ship_to is None:  # leaving such a seed out would flatter the mean over the seeds
        print(f"{found.artifact} seed {seed}, which does not ship: {'; '.join(problems)}")
    stored = npz(made.shown)
    (path / "representative.npz").write_bytes(stored)
    extra: dict[str, bytes] = {}
    program = compiler()
    if ship_to is not None and made.on_tpu and program is not None:
        compiled = compile_for_tpu(made.tflite, program)
        write_text(path / "edgetpu.log", compiled.log)
        if compiled.tflite is not None:
            extra["model_edgetpu.tflite"] = compiled.tflite
            print(
                f"{program}: {compiled.on_tpu} operators on the TPU, {compiled.on_cpu} on the CPU; log in {path / 'edgetpu.log'}"
            )
    golden = golden_cases(made.tflite, made.shown, GOLDEN)
    packed = pack(made.tflite, made.about, golden, path / found.artifact, key=arguments.key)
    operators = examine(made.tflite)
    facts = {
        "tflite_bytes": len(made.tflite),
        "representative": {"cases": len(next(iter(made.shown.values()))), "sha256": digest(stored)},
        "int8": made.loss,
        "operators": len(operators.operators),
        "mapped": operators.mapped,
        "problems": list(operators.problems),
    }
    write_json(path / "pack.json", facts | packed)
    loss = "" if made.loss is None else f", int8 loses {made.loss['worst_points']:.2f} points of F1 at most"
    print(
        f"{path / found.artifact}: {len(made.tflite):,} bytes{loss}, golden vectors {packed['golden_worst_lsb']:.0f} LSB off at most"
    )
    if ship_to is not None:
        pack(made.tflite, made.about, golden, ship_to, key=arguments.key, extra=extra)
        kept = floats.keep(made.model, ship_to, {"task": found.name, **made.facts, "pack": facts})
        print(f"{ship_to}: seed {seed}{', signed' if arguments.key else ''}; its float model {kept.name}")


def _problems(made: Made) -> list[str]:
    from edge_train.packing.export import tpu_problems

    problems = [f"not for the Edge TPU: {text}" for text in tpu_problems(made.tflite)] if made.on_tpu else []
    if len(made.tflite) > LARGEST_BYTES:
        problems.append(f"{len(made.tflite):,} bytes; at most {LARGEST_BYTES:,} ship")
    if made.part < 1:
        problems.append(f"fitted on a part of the data (--part {made.part:g}), to see the way through")
    if made.loss is not None and not made.loss["passed"]:
        problems.append(
            f"int8 loses {made.loss['worst_points']:.2f} points of F1, more than {made.loss['allowed_points']}"
            f" (float {_f1(made.loss['float_f1'])}; int8 {_f1(made.loss['int8_f1'])})"
        )
    return problems


def _f1(by_class: Mapping[str, float]) -> str:
    return ", ".join(f"{label} {value:.2f}" for label, value in by_class.items())


def _task(where: Places, found: Chosen, seed: int, path: Path) -> Made:
    from edge_train.data import windows
    from edge_train.fitting.architectures import ARCHITECTURES
    from edge_train.fitting.fit import load_fit, plan_of
    from edge_train.packing.export import representative_windows, to_int8
    from edge_train.packing.gate import int8_loss

    assert found.task is not None
    split = windows.load(where.data(found.name))
    model, facts = load_fit(found.task, path)
    if facts.get("digest", "") != split.facts.get("digest", ""):
        raise DataError(f"{path}: was fitted on other data than {where.data(found.name)} holds now; fit again")
    one = load_fit(found.task, path, batch=1)[0]
    about = found.task.about(found.artifact, split.facts, seed, facts["thresholds"])
    output, thresholds = about["output"]["scores"], about["output"].get("thresholds", {})
    tried = []
    for draw in range(MOST_DRAWS):
        shown = representative_windows(split.train, CASES, seed + 1000 * draw)
        tflite = to_int8(one, shown)
        loss = int8_loss(model, tflite, split.validation, found.task.labels, thresholds, output)
        print(f"{path}: {loss.brief()}")
        tried.append((loss.worst, draw, tflite, shown, loss))
        if loss.passed:
            break
    _, _, tflite, shown, loss = min(tried, key=lambda one: one[:2])
    on_tpu = ARCHITECTURES[plan_of(facts).architecture].on_tpu
    return Made(
        model,
        tflite,
        about,
        shown,
        facts,
        on_tpu,
        {**loss.as_json(), "draws": len(tried)},
        split.facts.get("part", 1.0),
    )


def _beats(where: Places, found: Chosen, seed: int, path: Path) -> Made:
    """The model of two experts: its int8 is compared with float by ``edge-train evaluate``, beat by beat."""
    from edge_train.beats import model as beats
    from edge_train.beats import prepare
    from edge_train.beats.about import about
    from edge_train.packing.export import to_int8

    prepared, _, facts = prepare.load_prepared(where.data(found.name))
    model, fit = beats.load_fit(path)
    shown = beats.representative(prepared, CASES, seed)
    tflite = to_int8(beats.load_fit(path, batch=1)[0], shown)
    return Made(
        model, tflite, about(facts, seed), beats.clear_first(tflite, shown), fit, True, None, facts.get("part", 1.0)
    )


def _card(folder: Path, where: Places, artifact: str, notes: str | None) -> None:
    from edge_agent.inference.artifact import load
    from edge_train.packing import floats
    from edge_train.packing.card import MARK, read, render
    from edge_train.packing.pack import CARD

    opened = load(folder)
    kept = floats.path_of(folder)
    made = floats.about(kept).get("facts", {}) if kept.is_file() else {}
    report = where.report(artifact)
    known = report if report.is_file() and read(report, opened.manifest) is not None else None
    text = render(opened.manifest, opened.tflite, made, known, notes)
    old = folder / CARD
    if notes is None and old.is_file() and MARK not in old.read_text():
        print(f"{old}: written by hand, left as it is (--notes FILE replaces it)")
        return
    write_text(old, text)
    missing = "no report of the packed model yet, so no figures: run edge-train evaluate, then pack --card"
    print(f"{old}: {missing if known is None else f'figures from {known}'}")
