"""edge-train: data, fit, pack, evaluate, in that order."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeAgentError
from edge_train import data

MODEL = "ecg-beat-aami"
VERSION = "0.1.0"
MINIMUM_AGENT = "0.1.0"


def _say(text: str) -> None:
    print(text, flush=True)


def _data(arguments: argparse.Namespace) -> None:
    facts = data.prepare(data.shared_folder(arguments.shared), arguments.data)
    _say(f"{arguments.data}: {facts['beats']}, digest {facts['digest'][:12]}")


def _fit(arguments: argparse.Namespace) -> None:
    from edge_train.beats import Plan, fit

    beats, rr, facts = data.load_prepared(arguments.data)
    for seed in range(arguments.seeds):
        began = time.monotonic()
        found = fit(
            beats,
            rr,
            Plan(),
            seed,
            arguments.runs / f"seed{seed}",
            lambda text: None if arguments.quiet else _say(text),
        )
        _say(
            f"seed {seed}: validation {found['validation']:.4f} (F1 by patient: V {found['wave']['v_f1_by_patient']:.4f},"
            f" S {found['expert']['s_f1_by_patient']:.4f}), {found['weights']} weights,"
            f" {time.monotonic() - began:.0f} s"
        )
    (arguments.runs / "data.json").write_text(json.dumps(facts, indent=1) + "\n")


def _seeds(runs: Path) -> dict[int, Path]:
    found = {int(path.parent.name.removeprefix("seed")): path.parent for path in runs.glob("seed*/fit.json")}
    if not found:
        raise data.DataError(f"{runs}: no fitted seeds there; run: edge-train fit")
    return dict(sorted(found.items()))


def median_seed(runs: Path) -> int:
    """The seed whose validation score is the median: never the best on the test set."""
    scores = {seed: json.loads((path / "fit.json").read_text())["validation"] for seed, path in _seeds(runs).items()}
    order = sorted(scores, key=lambda seed: (scores[seed], seed))
    return order[(len(order) - 1) // 2]


def _about(facts: dict[str, Any], seed: int) -> dict[str, Any]:
    return {
        "schema": "edge-agent/model/1",
        "name": MODEL,
        "version": VERSION,
        "task": "ecg-beat",
        "labels": list(data.LABELS),
        "anchor": {"kind": "beat"},
        "inputs": [
            *(
                {
                    "kind": "signal",
                    "name": name,
                    "signal": "ecg",
                    "rate_hz": part.rate_hz,
                    "samples": part.samples,
                    "before": part.before,
                    "normalisation": "zscore",
                }
                for name, part in (("beat", data.BEAT), ("past", data.PAST))
            ),
            {"kind": "features", "name": "rr", "features": list(data.FEATURES)},
        ],
        "output": {"scores": "none"},
        "training": {
            "data": [
                "MIT-BIH Arrhythmia Database 1.0.0 (doi:10.13026/C2F305), DS1 without record 201",
                "VitalDB Arrhythmia Database (annotations only), two thirds of its cases",
            ],
            "licence": "MIT-BIH: Open Data Commons Attribution License 1.0; VitalDB annotations: MIT",
            "protocol": f"between patients, DS1 (201 left out, one man with 202) to DS2; seed {seed}; data {facts['digest']}",
            "command": "make -C training results",
        },
        "minimum_agent_version": MINIMUM_AGENT,
    }


def _pack(arguments: argparse.Namespace) -> None:
    from edge_train import beats as model_of
    from edge_train.export import representative, to_int8, tpu_problems
    from edge_train.pack import pack

    beats, _, facts = data.load_prepared(arguments.data)
    seeds = _seeds(arguments.runs)
    chosen = median_seed(arguments.runs) if arguments.seed is None else arguments.seed
    if chosen not in seeds:
        raise data.DataError(f"{arguments.runs}: no seed {chosen}; there are {', '.join(map(str, seeds))}")
    for seed, folder in seeds.items():  # all of them, for the deviation over seeds; one ships
        shown = representative(beats, 1000, seed)
        tflite = to_int8(model_of.load_fit(folder, batch=1)[0], shown)
        problems = tpu_problems(tflite)
        if problems:
            raise data.DataError("not for the Edge TPU: " + "; ".join(problems))
        golden = {name: cases[:32] for name, cases in shown.items()}
        made = pack(tflite, _about(facts, seed), golden, folder / MODEL)
        if seed == chosen:
            made = pack(tflite, _about(facts, seed), golden, arguments.artifact)
            _say(f"{arguments.artifact}: seed {seed}, {made}")


def _evaluate(arguments: argparse.Namespace) -> None:
    from edge_agent.inference.judge import load_models
    from edge_train.beats import load_fit
    from edge_train.evaluate import brief, evaluate, spread, through_engine, through_keras

    folder = data.shared_folder(arguments.shared) / "mitdb"
    loaded = load_models(arguments.artifact.parent, [arguments.artifact.name])[arguments.artifact.name]
    models = {"shipped": through_engine(loaded)}
    seeds = _seeds(arguments.runs) if arguments.runs.is_dir() else {}
    for seed, path in seeds.items():
        models[f"float {seed}"] = through_keras(load_fit(path)[0])
        models[f"int8 {seed}"] = through_engine(load_models(path, [MODEL])[MODEL])
    report = evaluate(folder, data.DS2, loaded.artifact.manifest, models)
    arguments.report.parent.mkdir(parents=True, exist_ok=True)
    arguments.report.write_text(json.dumps(report, indent=1) + "\n")
    _say(brief(report))
    _say(spread(report))


def parser() -> argparse.ArgumentParser:
    here = Path(__file__).resolve().parents[1]
    top = argparse.ArgumentParser(prog="edge-train", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)

    def command(name: str, does: Any, text: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=text, description=text)
        made.set_defaults(does=does)
        made.add_argument(
            "--shared", type=Path, help="folder of the public data (default: $EDGE_AGENT_SHARED or ../shared)"
        )
        made.add_argument("--data", type=Path, default=here / "build" / "data", help="prepared data")
        made.add_argument("--artifact", type=Path, default=here.parent / "models" / MODEL, help="the model folder")
        made.add_argument("--runs", type=Path, default=here / "build" / "runs", help="fitted seeds")
        return made

    command("data", _data, "cut the beats of the public databases, by patient")
    fit = command("fit", _fit, "train")
    fit.add_argument("--seeds", type=int, default=5, help="how many, from 0 (default 5)")
    fit.add_argument("--quiet", action="store_true", help="one line a seed")
    pack = command("pack", _pack, "int8, golden vectors and manifest for the median seed")
    pack.add_argument("--seed", type=int, help="this seed instead of the median by validation")
    evaluate = command("evaluate", _evaluate, "measure on DS2, through the daemon's windows and engine")
    evaluate.add_argument("--report", type=Path, default=here / "build" / "report.json", help="all figures as JSON")
    return top


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    try:
        arguments.does(arguments)
    except (data.DataError, EdgeAgentError) as error:
        print(f"edge-train: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
