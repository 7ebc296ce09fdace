"""What a study has found so far: a table, a CSV and pictures."""

from __future__ import annotations

import csv
import io
import math
from pathlib import Path
from typing import Any

from edge_train.files import whole_file, write_text
from edge_train.tuning.study import Study


def rows(study: Study) -> list[dict[str, Any]]:
    """A line per trial that was run; those that were turned down beforehand are counted elsewhere."""
    made = []
    for trial in study.study.trials:
        why = str(trial.user_attrs.get("why", ""))
        if why.startswith("turned down") or trial.state.name == "WAITING":
            continue
        state = {"COMPLETE": "done", "PRUNED": "pruned", "RUNNING": "running"}.get(
            trial.state.name, "failed" if why else "interrupted"
        )
        made.append(
            {
                "trial": trial.number,
                "state": state,
                "validation": trial.value if trial.state.name == "COMPLETE" else None,
                "epochs": trial.last_step,
                "seconds": trial.user_attrs.get("seconds"),
                "weights": trial.user_attrs.get("weights"),
                **trial.params,
                "why": why,
            }
        )
    return made


def turned_down(study: Study) -> int:
    return sum(str(trial.user_attrs.get("why", "")).startswith("turned down") for trial in study.study.trials)


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "-"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def table(study: Study) -> str:
    """For people: best first, then pruned, then what failed, then the avoid-list."""
    order = {"done": 0, "running": 1, "interrupted": 2, "pruned": 3, "failed": 4}
    found = sorted(rows(study), key=lambda row: (order[row["state"]], -(row["validation"] or 0), row["trial"]))
    if not found:
        return "no trial yet"
    names = list(dict.fromkeys(name for row in found for name in row if name != "why"))
    cells = [names, *([_cell(row.get(name)) for name in names] for row in found)]
    widths = [max(len(line[i]) for line in cells) for i in range(len(names))]
    lines = ["  ".join(text.rjust(width) for text, width in zip(line, widths, strict=True)) for line in cells]
    lines = [lines[0], *(f"{line}  {row['why']}".rstrip() for line, row in zip(lines[1:], found, strict=True))]
    bad = [each for each in study.avoided if not each.why.startswith(("done", "pruned"))]
    lines.append(
        f"avoided: {len(bad)} bad points and their neighbours, {turned_down(study)} suggestions turned down for them"
    )
    lines += [
        f"  trial {each.trial}: {each.why}; nothing within {each.radius:g} of it in {', '.join(each.names or ('all parameters',))}"
        for each in bad
    ]
    return "\n".join(lines)


def write(study: Study) -> list[Path]:
    """``trials.csv``, ``table.txt``, ``best.json`` and the pictures."""
    made = []
    found = rows(study)
    if found:
        text = io.StringIO()
        writer = csv.DictWriter(text, list(dict.fromkeys(name for row in found for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(found)
        write_text(study.folder / "trials.csv", text.getvalue())
        write_text(study.folder / "table.txt", table(study) + "\n")
        made += [study.folder / "trials.csv", study.folder / "table.txt"]
    best = study.write_best()
    if best is not None:
        made.append(best)
    return made


def draw(study: Study) -> list[Path]:
    """History, slices and importances, as PNG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    done = [row for row in rows(study) if row["state"] == "done"]
    if not done:
        return []
    made = []
    figure, axis = plt.subplots(figsize=(7, 4), layout="constrained")
    axis.plot([row["trial"] for row in done], [row["validation"] for row in done], "o", label="trial")
    best = [max(row["validation"] for row in done[: i + 1]) for i in range(len(done))]
    axis.step([row["trial"] for row in done], best, where="post", label="best so far")
    for row in rows(study):
        if row["state"] in ("pruned", "failed"):
            axis.axvline(row["trial"], color="0.85" if row["state"] == "pruned" else "mistyrose", zorder=0)
    axis.set_xlabel("trial (grey: pruned, red: failed)")
    axis.set_ylabel("validation")
    axis.legend()
    made.append(_save(plt, figure, study.folder / "history.png"))

    names = [part.name for part in study.space]
    columns = min(4, len(names))
    lines = math.ceil(len(names) / columns)
    figure, axes = plt.subplots(
        lines, columns, figsize=(3 * columns, 2.5 * lines), squeeze=False, sharey=True, layout="constrained"
    )
    for axis, part in zip(axes.flat, study.space, strict=False):
        values = [row[part.name] for row in done]
        if not hasattr(part, "low"):
            values = [str(value) for value in values]
        points = axis.scatter(
            values, [row["validation"] for row in done], c=[row["trial"] for row in done], cmap="viridis", s=18
        )
        if getattr(part, "log", False):
            axis.set_xscale("log")
        axis.set_xlabel(part.name)
    for axis in list(axes.flat)[len(names) :]:
        axis.set_visible(False)
    figure.colorbar(points, ax=axes, label="trial")
    made.append(_save(plt, figure, study.folder / "slices.png"))

    weights = importances(study)
    if weights:
        figure, axis = plt.subplots(figsize=(7, 0.4 * len(weights) + 1), layout="constrained")
        axis.barh(list(weights)[::-1], list(weights.values())[::-1])
        axis.set_xlabel("importance (PED-ANOVA, Watanabe S et al., IJCAI 2023)")
        made.append(_save(plt, figure, study.folder / "importances.png"))
    return made


FEWEST = 8
"""Finished trials below which importances are noise."""


def importances(study: Study) -> dict[str, float]:
    """Which parameters matter for being among the better half; empty where too little was tried to tell."""
    import warnings

    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    if sum(row["state"] == "done" for row in rows(study)) < FEWEST:
        return {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = get_param_importances(study.study, evaluator=PedAnovaImportanceEvaluator(target_quantile=0.5))
        except (ValueError, RuntimeError):  # all alike
            return {}
    return {name: float(value) for name, value in found.items()}


def _save(plt: Any, figure: Any, path: Path) -> Path:
    with whole_file(path) as aside:
        figure.savefig(aside, dpi=110, metadata={"Software": None})
    plt.close(figure)
    return path
