"""The model card: what is known from the manifest, the packing and the evaluation's report is filled in; what only people know
(why it fails, what it must not be used for beyond the usual) comes as notes.

Mitchell M et al., Model cards for model reporting, FAT* 2019.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edge_agent.inference.manifest import FeatureInput, Manifest, RrInput, SignalInput
from edge_train.errors import DataError

MARK = "<!-- written by edge-train pack -->"
"""A card without it was written by hand and is left alone."""
NOT_FOR = (
    "Diagnosis, treatment, or any alarm that a person's safety depends on. Not a medical device. Not for signals, sensors or"
    " patients unlike those of the data above."
)
WORST = 5
WEAK_F1 = 0.8


def render(manifest: Manifest, tflite: bytes, made: Mapping[str, Any], report: Path | None, notes: str | None) -> str:
    """Markdown. ``made``: what the float model's file says of the fit; ``report``: results/<artifact>.json."""
    found = None if report is None else read(report, manifest)
    parts = [
        f"# {manifest.name} {manifest.version}",
        MARK,
        _what(manifest, tflite, made),
        "## What it sees",
        _inputs(manifest),
        "## Data, licence and protocol",
        "\n".join(f"- {line}" for line in manifest.training.data),
        f"Licence: {manifest.training.licence}",
        f"Protocol: {manifest.training.protocol}.",
        f"Made by `{manifest.training.command}`." if manifest.training.command else "",
        "## Figures",
        _figures(found)
        if found is not None
        else "Not measured yet: `edge-train evaluate`, then `edge-train pack --card`.",
        _int8(made),
        "## Known failures",
        _failures(found),
        (notes or "").strip(),
        "## Not for",
        NOT_FOR,
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def read(path: Path, manifest: Manifest) -> dict[str, Any] | None:
    """The report; None where it was made before anything was packed, and so says nothing of a model that ships."""
    try:
        found: dict[str, Any] = json.loads(path.read_text())
        labels, shipped = found["labels"], found["models"].get("shipped")
        artifact = found["artifact"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no report of a model ({error!r}); run: edge-train evaluate {manifest.name}") from None
    if labels != manifest.labels or artifact != manifest.name:
        raise DataError(f"{path}: is of {artifact} ({', '.join(map(str, labels))}), not of {manifest.name}")
    return found if shipped else None


def _what(manifest: Manifest, tflite: bytes, made: Mapping[str, Any]) -> str:
    anchors = {
        "beat": "at every beat",
        "slide": "over time",
        "rr": "at beats, of the intervals before them",
        "alarm": "when an opinion on an alarm is asked for",
    }
    when = anchors[manifest.anchor.kind]
    if manifest.anchor.kind == "slide":
        when = f"every {manifest.anchor.stride_s:g} s"
    packed = made.get("pack", {})
    weights = f", {made['weights']:,} weights" if "weights" in made else ""
    text = f"One verdict {when}: {', '.join(manifest.labels)}. {len(tflite):,} bytes{weights}."
    if "operators" in packed:
        text += f" {packed['mapped']} of {packed['operators']} operators map to the Edge TPU (by name and version; the"
        text += " compiler was not asked)."
        if packed["mapped"] < packed["operators"]:
            text += " It is for the CPU."
    if manifest.output.thresholds:
        said = ", ".join(f"{label} from {least:g}" for label, least in manifest.output.thresholds.items())
        text += f" Scores that are said: {said}."
    return text


def _inputs(manifest: Manifest) -> str:
    rows = ["| input | what |", "|---|---|"]
    for part in manifest.inputs:
        if isinstance(part, SignalInput):
            seconds = part.samples / part.rate_hz
            what = (
                f"{part.signal}: {part.samples} samples at {part.rate_hz:g} Hz ({seconds:.3g} s), {part.before} before the anchor,"
                f" normalisation {part.normalisation}{', of the usual beat' if part.source == 'usual' else ''}"
            )
        elif isinstance(part, FeatureInput):
            what = f"{len(part.features)} features: {', '.join(part.features)}"
        elif isinstance(part, RrInput):
            what = f"the last {part.intervals} RR intervals, {part.normalisation}"
        else:
            what = f"{len(part.numbers)} numbers of evidence: {', '.join(part.numbers)}"
        rows.append(f"| `{part.name}` | {what} |")
    return "\n".join(rows)


def _percent(found: Mapping[str, Any], name: str) -> str:
    value = found.get(name)
    if value is None:
        return "-"
    interval = found.get("intervals", {}).get(name)
    return f"{100 * value:.1f}" + (f" ({100 * interval[0]:.1f} to {100 * interval[1]:.1f})" if interval else "")


def _figures(found: Mapping[str, Any]) -> str:
    test, shipped = found["test"], found["models"]["shipped"]
    classes = ", ".join(f"{label} {many}" for label, many in test["classes"].items())
    lines = [
        f"{found['protocol']}. Test set: {test['examples']} examples of {test['patients']} patients ({classes}). int8, through the"
        " daemon's own engine; percent, with 95 % intervals by drawing patients anew.",
        "",
        "| class | recall | precision | F1 |",
        "|---|---|---|---|",
    ]
    for label, each in shipped["classes"].items():
        lines.append(
            f"| {label} | {_percent(each, 'recall')} | {_percent(each, 'precision')} | {_percent(each, 'f1')} |"
        )
    whole = [
        ("accuracy", "accuracy"),
        ("micro_f1", "F1 micro"),
        ("macro_f1", "F1 macro"),
        ("kappa", "kappa"),
        ("j_kappa", "j-kappa"),
    ]
    said = [f"{text} {_percent(shipped, name)}" for name, text in whole if shipped.get(name) is not None]
    lines += ["", "; ".join(said) + "."]
    if "calibration" in shipped:
        lines.append(f"Expected calibration error {100 * shipped['calibration']['ece']:.1f} points.")
    for key, value in shipped.get("own", {}).items():
        lines.append(f"- {key}: {value:.4f}" if isinstance(value, float) else f"- {key}: {value}")
    spread = [_spread(kind, columns) for kind, columns in found.get("over_seeds", {}).items()]
    lines += ["", *spread] if spread else []
    lines += ["", "Confusion (rows true, columns said):", "", *_confusion(shipped["confusion"], found["labels"])]
    lines += ["", f"`{found['command']}`"]
    return "\n".join(lines)


def _spread(kind: str, columns: Mapping[str, Any]) -> str:
    cells = [
        f"{name} {100 * each['mean']:.2f} +- {100 * each['deviation']:.2f}"
        for name, each in columns.items()
        if name in ("accuracy", "macro_f1", "j_kappa") or name.endswith(" f1")
    ]
    seeds = next(iter(columns.values()))["seeds"]
    return f"{kind}, mean and deviation over {seeds} seed{'s' if seeds > 1 else ''}: {', '.join(cells)}."


def _confusion(table: list[list[int]], labels: list[str]) -> list[str]:
    columns = [*labels, *["none"] * (len(table[0]) - len(labels))]
    rows = [*labels, *["nothing there"] * (len(table) - len(labels))]
    lines = [f"| | {' | '.join(columns)} |", "|---" * (len(columns) + 1) + "|"]
    return lines + [f"| {name} | {' | '.join(map(str, row))} |" for name, row in zip(rows, table, strict=True)]


def _int8(made: Mapping[str, Any]) -> str:
    loss = made.get("pack", {}).get("int8")
    if not loss:
        return ""
    cells = [f"{label} {loss['float_f1'][label]:.2f} / {loss['int8_f1'][label]:.2f}" for label in loss["float_f1"]]
    return (
        f"F1 float / int8 on validation: {', '.join(cells)}; the most that a class loses is {loss['worst_points']:.2f} points"
        f" ({loss['allowed_points']:g} are allowed)."
    )


def _failures(found: Mapping[str, Any] | None) -> str:
    """Weak classes, and the patients it does worst on; the report knows no more."""
    if found is None:
        return "Not measured yet."
    shipped = found["models"]["shipped"]
    lines = [
        f"- {label}: F1 {100 * (each['f1'] or 0):.1f} %, {each['examples']} examples"
        for label, each in shipped["classes"].items()
        if each["examples"] and (each["f1"] or 0) < WEAK_F1
    ]
    worst = sorted(shipped.get("patients", {}).items(), key=lambda item: (item[1].get("accuracy") or 0, item[0]))[
        :WORST
    ]
    if worst:
        said = ", ".join(f"{name} {100 * (each.get('accuracy') or 0):.0f} %" for name, each in worst)
        lines.append(f"- The patients of the test set with the lowest accuracy: {said}.")
    return "\n".join(lines) or "None that the test set shows."


def finetuned(card: str, version: str, facts: Mapping[str, Any]) -> str:
    """The old card with what fine-tuning did at its end, and the new version in its title."""
    lines = card.rstrip().splitlines()
    if lines and lines[0].startswith("# "):
        lines[0] = f"{lines[0].removesuffix(' ' + facts['from'])} {version}"
    before, after = facts["before"], facts["after"]
    windows = facts["windows"]
    part = (
        [f"What others lose was measured on a part ({facts['general_part']:g}) of the data."]
        if "general_part" in facts
        else []
    )
    rows = [
        f"| {whose} {label} | {before[whose]['f1'][label]:.2f} | {after[whose]['f1'][label]:.2f} |"
        for whose in ("patient", "general")
        for label in before[whose]["f1"]
    ]
    macros = [
        f"| {whose} macro | {before[whose]['macro_f1']:.2f} | {after[whose]['macro_f1']:.2f} |"
        for whose in ("patient", "general")
    ]
    return "\n".join(
        [
            *lines,
            "",
            f"## Fine-tuned: {version}, from {facts['from']}",
            "",
            f"For {', '.join(facts['patients'])}: {windows['train']} corrected windows taught, {windows['stop']} said when to stop,"
            f" {windows['test']} later ones measured. Layers that moved: {', '.join(facts['layers'])}; epoch {facts['best_epoch']} of"
            f" {facts['epochs']}. The figures above are of {facts['from']}; for other patients",
            "nothing was gained.",
            *part,
            "",
            "| F1, int8 | before | after |",
            "|---|---|---|",
            *rows,
            *macros,
            "",
        ]
    )
