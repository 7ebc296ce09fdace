"""What the pressure models are worth, kind by kind: the figures of their cards.

    python -m edge_train.abp.report [--artifact NAME] [--seeds]

`edge_train.abp.measures` says what the figures are.
Verdicts come from the daemon's engine with the manifest's thresholds, on windows that its cutter cut.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.inference.labels import label_of
from edge_agent.inference.loaded import LoadedModel, load_models
from edge_train.abp.cut import ANOMALOUS
from edge_train.abp.measures import Marks, measure
from edge_train.abp.segment import TASK
from edge_train.arrays import Floats
from edge_train.data import windows
from edge_train.data.windows import Windows
from edge_train.errors import in_words
from edge_train.files import write_json
from edge_train.measuring import metrics
from edge_train.places import Places, add_places, places

Say = Callable[[Windows], Marks]


def through_engine(loaded: LoadedModel) -> Say:
    """The artifact as the daemon asks it."""
    manifest = loaded.artifact.manifest
    names = [part.name for part in manifest.inputs]

    def say(asked: Windows) -> Marks:
        rows = zip(*(asked.inputs[name] for name in names), strict=True)
        return np.array([label_of(loaded.engine.invoke(row), manifest)[0] == "anomalous" for row in rows])

    return say


def through_keras(folder: Path) -> Say:
    """The float model before it was converted."""
    from edge_train.fitting.fit import load_fit, predict

    model, facts = load_fit(TASK, folder)

    def say(asked: Windows) -> Marks:
        scores: Floats = predict(model, asked, TASK)
        return np.asarray(metrics.decide(scores, TASK.labels, facts["thresholds"]) == ANOMALOUS)

    return say


def table(found: Mapping[str, Any]) -> str:
    """For people."""
    lines = [f"{'kind':<14}{'segments':>9}{'recall':>9}{'F1 1:1':>9}{'95 %':>18}{'F1 at 5.4 %':>13}"]
    for name, one in found["kinds"].items():
        low, high = one["f1_interval"]
        lines.append(
            f"{name + ('' if one['trained'] else ' *'):<14}{one['segments']:9d}{one['recall']:9.3f}{one['f1']:9.3f}"
            f"{f'{low:.3f} .. {high:.3f}':>18}{one['f1_at_prevalence']:13.3f}"
        )
    lines.append("* never trained on")
    for name, one in found["marked"].items():
        low, high = one["interval"]
        share = f"{100 * one['marked']:.2f} % ({100 * low:.2f} .. {100 * high:.2f})"
        lines.append(f"marked of {name:<30}{one['segments']:6d} segments, {one['records']:3d} records: {share}")
    for name, one in found["clean_minutes"].items():
        if one["minutes"]:
            low, high = one["interval"]
            share = f"{100 * one['false']:.2f} % ({100 * low:.2f} .. {100 * high:.2f})"
            lines.append(f"clean minutes, {name}: {one['minutes']} of {one['records']} records, false {share}")
    return "\n".join(lines)


def spread(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Mean and deviation over seeds."""
    reports = list(found.values())

    def row(name: str, values: list[float], factor: float = 1.0) -> str:
        numbers = factor * np.array(values)
        return f"{name:<44}{numbers.mean():8.3f} +- {numbers.std(ddof=1) if len(numbers) > 1 else 0.0:.3f}"

    lines = [row(f"F1 {name}", [one["kinds"][name]["f1"] for one in reports]) for name in reports[0]["kinds"]]
    lines += [
        row(f"% marked, {name}", [one["marked"][name]["marked"] for one in reports], 100)
        for name in reports[0]["marked"]
    ]
    lines += [
        row(f"% false clean minutes, {name}", [one["clean_minutes"][name]["false"] for one in reports], 100)
        for name, first in reports[0]["clean_minutes"].items()
        if first["minutes"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m edge_train.abp.report", description="figures of the pressure models"
    )
    parser.add_argument("--artifact", default="abp-segment", help="default: %(default)s")
    parser.add_argument(
        "--seeds", action="store_true", help="all fitted seeds beside the shipped model, float and int8"
    )
    add_places(parser)
    options = parser.parse_args(arguments)
    where: Places = places(options)
    asked = windows.load(where.data(TASK.name)).test
    loaded = load_models(where.models, [options.artifact])[options.artifact]
    report: dict[str, Any] = {"shipped": measure(asked, through_engine(loaded)(asked))}
    print(table(report["shipped"]))
    if options.seeds:
        for path in sorted(where.runs(options.artifact).glob("seed*")):
            report[f"float {path.name}"] = measure(asked, through_keras(path)(asked))
            packed = load_models(path, [options.artifact])[options.artifact]
            report[f"int8 {path.name}"] = measure(asked, through_engine(packed)(asked))
        for kind in ("int8", "float"):
            each = {name: one for name, one in report.items() if name.startswith(kind)}
            print(f"\n{kind}, {len(each)} seeds\n{spread(each)}")
    write_json(where.results / f"{options.artifact}-kinds.json", report)
    return 0


if __name__ == "__main__":
    sys.exit(in_words("edge_train.abp.report", main))
