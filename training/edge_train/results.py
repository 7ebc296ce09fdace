"""What a test set says of a task's models, float, int8 and packed, and where it is written down."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.inference.labels import label_of
from edge_agent.inference.loaded import LoadedModel, load_models
from edge_train.arrays import Floats, Ints
from edge_train.data import windows
from edge_train.data.windows import Windows
from edge_train.errors import DataError
from edge_train.files import write_json, write_text
from edge_train.measuring import figures, measures, metrics
from edge_train.measuring.metrics import SILENT
from edge_train.places import Places, seeds
from edge_train.runtime import command_line, versions
from edge_train.tasks import Chosen

COLUMNS = ("modeltag", "F1scoremicro", "F1scoremacro", "TP_0", "TP_1", "TP_2", "TP_3", "TP_4")
SHIPPED = "shipped"
Answers = tuple[Floats, Ints]
"""Scores, and the index of what was said (metrics.SILENT for nothing)."""


def through_daemon(loaded: LoadedModel, asked: Windows) -> Answers:
    """Every window through the daemon's engine and its rule for a label."""
    manifest = loaded.artifact.manifest
    names = [part.name for part in manifest.inputs]
    missing = [name for name in names if name not in asked.inputs]
    if missing:
        raise DataError(
            f"{loaded.artifact.folder}: takes {', '.join(missing)}, the prepared data have {', '.join(asked.inputs)}"
        )
    columns = [np.asarray(asked.inputs[name], np.float32) for name in names]
    scores = np.zeros((len(asked), len(manifest.labels)), np.float32)
    said = np.full(len(asked), SILENT, np.int64)
    for i in range(len(asked)):
        label, named, _ = label_of(loaded.engine.invoke(tuple(x[i] for x in columns)), manifest)
        scores[i] = [named[each] for each in manifest.labels]
        if label is not None:
            said[i] = manifest.labels.index(label)
    return scores, said


def _answers(found: Chosen, where: Places, asked: Windows) -> dict[str, Answers]:
    """Of every model of this artifact that is there."""
    from edge_train.fitting.fit import load_fit, predict

    assert found.task is not None
    made: dict[str, Answers] = {}
    runs = where.runs(found.artifact)
    for seed, folder in (seeds(runs) if runs.is_dir() else {}).items():
        model, facts = load_fit(found.task, folder)
        scores = predict(model, asked, found.task)
        made[f"float seed{seed}"] = scores, metrics.decide(scores, found.task.labels, facts["thresholds"])
        if (folder / found.artifact / "manifest.json").is_file():
            made[f"int8 seed{seed}"] = through_daemon(_open(folder, found.artifact), asked)
    if (where.artifact(found.artifact) / "manifest.json").is_file():
        made[SHIPPED] = through_daemon(_open(where.models, found.artifact), asked)
    if not made:
        raise DataError(
            f"{runs}: nothing to measure there, and no {where.artifact(found.artifact)}; run: edge-train fit {found.artifact}"
        )
    return made


def _open(folder: Path, name: str) -> LoadedModel:
    return load_models(folder, [name])[name]


def evaluate(found: Chosen, where: Places, with_figures: bool = True) -> dict[str, Any]:
    """The report of a task's test set; written to results/<artifact>.json with its pictures and its lines of output.csv."""
    task = found.task
    assert task is not None
    split = windows.load(where.data(found.name))
    asked = split.test
    if not len(asked):
        raise DataError(f"{where.data(found.name)}: its test set is empty")
    patients = getattr(task, "patients", None)
    patient = patients(asked) if patients is not None else asked.group
    own = getattr(task, "own_measures", None)
    answers = _answers(found, where, asked)
    models = {}
    for name, (scores, said) in answers.items():
        models[name] = measures.measure(scores, said, asked.label, patient, task.labels, task.positive)
        if own is not None:
            models[name]["own"] = own(scores, said, asked)
    about = task.about(found.artifact, split.facts, 0, {})
    report = {
        "artifact": found.artifact,
        "task": found.name,
        "labels": list(task.labels),
        "positive": task.positive,
        "protocol": split.facts.get("protocol", about["training"]["protocol"].split("; seed")[0]),
        "digest": split.facts.get("digest", ""),
        "test": {
            "examples": len(asked),
            "patients": int(np.unique(patient).size),
            "classes": {label: int((asked.label == i).sum()) for i, label in enumerate(task.labels)},
        },
        "models": models,
        **summary(models, task.labels),
        "versions": versions(),
        "command": command_line(),
    }
    write_json(where.report(found.artifact), report)
    write_lines(where.results / "output.csv", found.artifact, models, task.labels)
    if with_figures:
        draw(found, where, report, answers[shown(models)], asked.label)
    return report


def shown(models: Mapping[str, Any]) -> str:
    """The model that pictures are of."""
    return SHIPPED if SHIPPED in models else list(models)[-1]


def summary(models: Mapping[str, Any], labels: Sequence[str]) -> dict[str, Any]:
    """Mean and deviation over seeds, and what int8 costs each class."""
    by_kind = {
        kind: [found for name, found in models.items() if name.startswith(f"{kind} seed")] for kind in ("float", "int8")
    }
    losses = {
        label: max(
            (
                100 * ((models[f"float {seed}"]["classes"][label]["f1"] or 0) - (found["classes"][label]["f1"] or 0))
                for name, found in models.items()
                if name.startswith("int8 ") and f"float {(seed := name.removeprefix('int8 '))}" in models
            ),
            default=None,
        )
        for label in labels
    }
    return {
        "over_seeds": {kind: measures.over_seeds(found, labels) for kind, found in by_kind.items() if found},
        "int8_loss_points": losses,
    }


# --- output.csv -----------------------------------------------------------------------------------------------------------


def write_lines(path: Path, artifact: str, models: Mapping[str, Any], labels: Sequence[str]) -> None:
    """One line a model; those of other artifacts stay."""
    lines = []
    if path.is_file():
        with path.open(newline="") as old:
            lines = [line for line in csv.DictReader(old) if line["modeltag"].split("/")[0] != artifact]
    for name, found in models.items():
        line = {
            "modeltag": f"{artifact}/{name.replace(' ', '/')}",
            "F1scoremicro": _four(found["micro_f1"]),
            "F1scoremacro": _four(found["macro_f1"]),
        }
        lines.append(line | {f"TP_{i}": str(found["classes"][label]["tp"]) for i, label in enumerate(labels[:5])})
    lines.sort(key=lambda line: line["modeltag"])
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(lines)
    write_text(path, text.getvalue())


def _four(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


# --- for people -----------------------------------------------------------------------------------------------------------


def draw(found: Chosen, where: Places, report: Mapping[str, Any], answers: Answers, truth: Ints) -> list[Path]:
    """The pictures of one model, and of the training of the first seed."""
    labels, name = report["labels"], shown(report["models"])
    one = report["models"][name]
    title, stem = f"{found.artifact}, {name}", where.results / found.artifact
    if "inflated" in report["protocol"]:
        title += " (inflated)"
    made = [
        figures.confusion(one["confusion"], labels, title, stem.with_name(f"{stem.name}-confusion.png")),
        *figures.curves(answers[0], truth, labels, list(one["areas"]), title, stem),
        figures.reliability(one["calibration"], title, stem.with_name(f"{stem.name}-calibration.png")),
        figures.patients(one["patients"], title, stem.with_name(f"{stem.name}-patients.png")),
    ]
    runs = where.runs(found.artifact)
    for seed, folder in (seeds(runs) if runs.is_dir() else {}).items():
        with (folder / "history.csv").open(newline="") as lines:
            history = [{key: float(value) for key, value in line.items()} for line in csv.DictReader(lines)]
        made.append(
            figures.history(history, f"{found.artifact}, seed {seed}", stem.with_name(f"{stem.name}-training.png"))
        )
        break
    return made


def _percent(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if value is None:
        return "-"
    low_high = found.get("intervals", {}).get(name)
    return f"{100 * value:.1f}" + (f" [{100 * low_high[0]:.1f}, {100 * low_high[1]:.1f}]" if low_high else "")


def brief(report: Mapping[str, Any]) -> str:
    """The report as a table for people: percent, with 95 % intervals by patient."""
    test = report["test"]
    lines = [
        f"{report['artifact']}: {report['protocol']}",
        f"test: {test['examples']} examples of {test['patients']} patients, "
        + ", ".join(f"{label} {many}" for label, many in test["classes"].items()),
    ]
    for name, one in report["models"].items():
        kappa = "" if one.get("j_kappa") is None else f", j-kappa {_percent(one, 'j_kappa')}"
        lines.append(
            f"{name}: accuracy {_percent(one, 'accuracy')}, F1 micro {_percent(one, 'micro_f1')}, macro {_percent(one, 'macro_f1')}"
            f"{kappa}, ECE {100 * one['calibration']['ece']:.1f}"
        )
        if name == shown(report["models"]):
            for label, each in one["classes"].items():
                lines.append(
                    f"    {label:<12} recall {_percent(each, 'recall')}, precision {_percent(each, 'precision')}, F1 {_percent(each, 'f1')}"
                )
            for label, area in one["areas"].items():
                lines.append(
                    f"    {label:<12} ROC area {area['roc_area']:.4f}, average precision {area['average_precision']:.4f}"
                )
            for key, value in one.get("own", {}).items():
                lines.append(f"    {key}: {value:.4f}" if isinstance(value, float) else f"    {key}: {value}")
    for kind, columns in report["over_seeds"].items():
        wanted = ["accuracy", "macro_f1", "macro_f1_nsv", "j_kappa", *(f"{label} f1" for label in report["labels"])]
        cells = [
            f"{name} {100 * columns[name]['mean']:.2f} +- {100 * columns[name]['deviation']:.2f}"
            for name in wanted
            if name in columns
        ]
        lines.append(f"{kind}, {columns['accuracy']['seeds']} seeds: " + ", ".join(cells))
    losses = {label: loss for label, loss in report["int8_loss_points"].items() if loss is not None}
    if losses:
        lines.append(
            "int8 against float, points of F1 lost at most: " + ", ".join(f"{k} {v:.2f}" for k, v in losses.items())
        )
    return "\n".join(lines)
