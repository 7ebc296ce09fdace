"""The beat model's test set (DS2, streamed by the daemon's own detector, windows and engine) as the same kind of report."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from edge_agent.inference.loaded import load_models
from edge_train.beats.evaluate import brief, evaluate, spread, through_engine, through_keras
from edge_train.beats.model import load_fit
from edge_train.data.mitdb import DS2, LABELS
from edge_train.errors import DataError
from edge_train.files import write_json
from edge_train.measuring import figures, measures
from edge_train.places import Places, seeds
from edge_train.results import SHIPPED, summary, write_lines
from edge_train.runtime import command_line, versions
from edge_train.tasks import Chosen

MAIN = "own detector"
"""The setting whose figures are the model's: end to end, nothing given."""


def evaluate_beats(found: Chosen, where: Places, with_figures: bool = True) -> str:
    """results/ecg-beat-aami.json: as of every task (in the main setting), and ``settings``, all of them with each record."""
    folder = where.public() / "mitdb"
    if not (where.artifact(found.artifact) / "manifest.json").is_file():
        raise DataError(f"{where.artifact(found.artifact)}: no artifact there; run: edge-train pack {found.artifact}")
    loaded = load_models(where.models, [found.artifact])[found.artifact]
    models = {SHIPPED: through_engine(loaded)}
    runs = where.runs(found.artifact)
    for seed, path in (seeds(runs) if runs.is_dir() else {}).items():
        models[f"float seed{seed}"] = through_keras(load_fit(path)[0])
        if (path / found.artifact / "manifest.json").is_file():
            models[f"int8 seed{seed}"] = through_engine(load_models(path, [found.artifact])[found.artifact])
    settings = evaluate(folder, DS2, loaded.artifact.manifest, models)
    main = {name: _measures(by_setting[MAIN]) for name, by_setting in settings.items()}
    report = {
        "artifact": found.artifact,
        "task": found.name,
        "labels": list(LABELS),
        "positive": None,
        "protocol": f"{loaded.artifact.manifest.training.protocol.split('; seed')[0]}; {MAIN}, end to end",
        "digest": _digest(where, found),
        "test": {
            "examples": int(np.array(main[SHIPPED]["confusion"])[: len(LABELS)].sum()),
            "patients": len(main[SHIPPED]["patients"]),
            "classes": {label: main[SHIPPED]["classes"][label]["examples"] for label in LABELS},
        },
        "models": main,
        **summary(main, LABELS),
        "settings": settings,
        "versions": versions(),
        "command": command_line(),
    }
    write_json(where.report(found.artifact), report)
    write_lines(where.results / "output.csv", found.artifact, main, LABELS)
    if with_figures:
        stem = where.results / found.artifact
        title = f"{found.artifact}, {SHIPPED}, {MAIN}"
        one = main[SHIPPED]
        figures.confusion(one["confusion"], (*LABELS, "no beat"), title, stem.with_name(f"{stem.name}-confusion.png"))
        figures.patients(one["patients"], title, stem.with_name(f"{stem.name}-patients.png"))
    return f"{brief(settings)}\n{spread(settings)}"


def _digest(where: Places, found: Chosen) -> str:
    """Of the data it was trained on, where they are at hand."""
    try:
        facts = json.loads((where.data(found.name) / "data.json").read_text())
        return str(facts["digest"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _measures(setting: dict[str, Any]) -> dict[str, Any]:
    """Of one model in one setting, with intervals over the records' tables."""
    names = sorted(setting["records"])
    tables = np.array([setting["records"][name]["confusion"] for name in names], np.int64)
    return measures.of_tables(tables, LABELS, names)
