"""What a packed model is worth on patients it has not seen, through the daemon's own windows and engine."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.labels import label_of
from edge_agent.inference.loaded import LoadedModel
from edge_agent.inference.manifest import Manifest
from edge_train.arrays import Ints
from edge_train.beats.cut import Asked, ask
from edge_train.beats.positions import MATCH_S, match, own_beats
from edge_train.data.mitdb import LABELS, Record, read_record

NOTHING = len(LABELS)
"""Row: the detector saw a beat where there is none. Column: missed, or the model abstained."""
FIRST_SCORED_S = 300.0
"""EC57 leaves the first five minutes to learning."""

Confusion = NDArray[np.int64]
"""(6, 6): true class (last: none) by said class (last: none)."""


def through_engine(loaded: LoadedModel) -> Callable[[Asked], Ints]:
    """The labels that the daemon would publish."""
    manifest = loaded.artifact.manifest

    def say(asked: Asked) -> Ints:
        said = []
        for case in zip(*asked.inputs, strict=True):
            label, _, _ = label_of(loaded.engine.invoke(case), manifest)
            said.append(NOTHING if label is None else LABELS.index(label))
        return np.array(said, np.int64)

    return say


def through_keras(model: Any) -> Callable[[Asked], Ints]:
    """The float model on the same windows, clipped as the int8 inputs saturate."""
    from edge_train.beats.nets import shaped

    def say(asked: Asked) -> Ints:
        scores = model.predict(shaped(asked.inputs), batch_size=1024, verbose=0)
        return np.asarray(scores.argmax(1), np.int64)

    return say


def confusion(record: Record, asked: Asked, said: Ints, first_s: float = 0.0) -> Confusion:
    """Every reference beat and every beat said, once."""
    found = np.concatenate([asked.sample, asked.silent])
    label = np.concatenate([said, np.full(asked.silent.size, NOTHING)])
    order = np.argsort(found, kind="stable")
    found, label = found[order], label[order]
    pair = match(record.sample, found, MATCH_S * record.fs)

    def scored(at: Ints) -> NDArray[np.bool_]:
        fine = at >= first_s * record.fs
        for start, end in record.vf:
            fine &= (at < start) | (at > end)
        return fine

    table = np.zeros((NOTHING + 1, NOTHING + 1), np.int64)
    matched = pair >= 0
    heard = np.full(record.sample.size, NOTHING)
    heard[pair[matched]] = label[matched]
    fine = scored(record.sample)
    np.add.at(table, (record.label[fine], heard[fine]), 1)
    false = ~matched & scored(found) & (label != NOTHING)
    np.add.at(table, (np.full(int(false.sum()), NOTHING), label[false]), 1)
    return table


def measures(table: Confusion) -> dict[str, Any]:
    """Per class sensitivity, precision and F1 (percent); a false beat of the detector counts against precision."""
    result: dict[str, Any] = {"classes": {}}
    for i, name in enumerate(LABELS):
        true, said, both = int(table[i].sum()), int(table[:, i].sum()), int(table[i, i])
        result["classes"][name] = {
            "beats": true,
            "se": 100 * both / true if true else None,
            "ppv": 100 * both / said if said else None,
            "f1": 200 * both / (true + said) if true + said else None,
        }
    classes = result["classes"]
    result["macro_f1_nsv"] = float(np.mean([classes[name]["f1"] or 0.0 for name in "NSV"]))
    total = float(table.sum())
    agreed = float(np.trace(table[:NOTHING, :NOTHING])) / total
    chance = float((table.sum(0) * table.sum(1)).sum()) / total**2
    kappa = (agreed - chance) / (1 - chance)
    index = sum(classes[name][key] or 0.0 for name in "SV" for key in ("se", "ppv")) / 100
    result |= {"accuracy": 100 * agreed, "kappa": kappa, "j_kappa": 0.5 * kappa + 0.125 * index}
    return result


@dataclass(frozen=True, slots=True)
class Setting:
    """One way of looking at the test set."""

    name: str
    detector: str
    """oracle or own."""
    first_s: float = 0.0


SETTINGS = (
    Setting("oracle", "oracle"),
    Setting("own detector", "own"),
    Setting("own detector, from minute 5", "own", FIRST_SCORED_S),
)


def evaluate(
    folder: Path,
    records: Sequence[str],
    manifest: Manifest,
    models: dict[str, Callable[[Asked], Ints]],
    settings: Sequence[Setting] = SETTINGS,
) -> dict[str, Any]:
    """Confusion per record, model and setting, and the measures with and without record 232."""
    tables: dict[str, dict[str, dict[str, Confusion]]] = {m: {s.name: {} for s in settings} for m in models}
    for name in records:
        record = read_record(folder, name)
        positions: dict[str, Asked] = {}
        for setting in settings:
            if setting.detector not in positions:
                at = record.sample if setting.detector == "oracle" else own_beats(record, record.main)
                positions[setting.detector] = ask(record.signals[record.main], record.fs, at.tolist(), manifest)
        for model, say in models.items():
            said = {detector: say(asked) for detector, asked in positions.items()}
            for setting in settings:
                asked = positions[setting.detector]
                tables[model][setting.name][name] = confusion(record, asked, said[setting.detector], setting.first_s)
    report: dict[str, Any] = {}
    for model, by_setting in tables.items():
        report[model] = {}
        for setting_name, by_record in by_setting.items():
            total = np.sum(list(by_record.values()), axis=0)
            without = np.sum([table for name, table in by_record.items() if name != "232"], axis=0)
            report[model][setting_name] = measures(total) | {
                "confusion": total.tolist(),
                "without_232": measures(without),
                "records": {
                    name: {"classes": measures(table)["classes"], "confusion": table.tolist()}
                    for name, table in by_record.items()
                },
            }
    return report


def brief(report: dict[str, Any]) -> str:
    """The report as a table for people."""
    lines = [
        f"{'model':<10}{'setting':<30}{'Se/P+ (F1) N':>22}{'S':>20}{'V':>20}{'F':>20}{'macro':>8}{'j-k':>7}{'S, V F1 w/o 232':>18}"
    ]

    def cell(one: dict[str, Any]) -> str:
        return "/".join("-" if one[k] is None else f"{one[k]:.1f}" for k in ("se", "ppv")) + f" ({one['f1'] or 0:.1f})"

    for model, by_setting in report.items():
        for setting, found in by_setting.items():
            classes, rest = found["classes"], found["without_232"]["classes"]
            lines.append(
                f"{model:<10}{setting:<30}{cell(classes['N']):>22}{cell(classes['S']):>20}{cell(classes['V']):>20}"
                f"{cell(classes['F']):>20}{found['macro_f1_nsv']:8.2f}{found['j_kappa']:7.3f}"
                f"{rest['S']['f1'] or 0:9.1f}{rest['V']['f1'] or 0:9.1f}"
            )
    return "\n".join(lines)


def spread(report: dict[str, Any]) -> str:
    """Mean and deviation over the seeds, of the int8 and of the float models."""
    lines = []
    for kind in ("int8", "float"):
        seeds = [by_setting for model, by_setting in report.items() if model.startswith(kind + " ")]
        if len(seeds) < 2:
            continue
        for setting in seeds[0]:
            found = [by_setting[setting] for by_setting in seeds]
            columns = {f"{name} F1": [one["classes"][name]["f1"] or 0.0 for one in found] for name in "NSVF"}
            columns |= {
                "S F1 w/o 232": [one["without_232"]["classes"]["S"]["f1"] or 0.0 for one in found],
                "macro": [one["macro_f1_nsv"] for one in found],
                "j-kappa": [100 * one["j_kappa"] for one in found],
            }
            text = "  ".join(
                f"{name} {np.mean(values):.1f} +- {np.std(values, ddof=1):.1f}" for name, values in columns.items()
            )
            lines.append(f"{kind:<6}{len(seeds)} seeds  {setting:<28}{text}")
    return "\n".join(lines)
