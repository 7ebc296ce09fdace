"""A run's folder or an artifact's, opened: the float model, the file that runs on the device, and what is known of both."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.inference.artifact import load
from edge_agent.inference.manifest import Manifest
from edge_train import tasks
from edge_train.errors import DataError
from edge_train.packing import floats
from edge_train.task import Task
from edge_train.tasks import task as task_named


@dataclass(frozen=True, slots=True)
class Opened:
    where: Path
    name: str
    model: Any | None
    """The float model, any batch; None for an artifact whose float model is not at hand."""
    labels: tuple[str, ...]
    manifest: Manifest | None = None
    tflite: bytes | None = None
    task: Task | None = None
    """None for the beat model of two experts, which has no entry among the tasks."""
    facts: dict[str, Any] = field(default_factory=dict)
    """Of the fit: plan, seed, data digest, thresholds, ..."""
    raw: dict[str, Any] = field(default_factory=dict)
    """The manifest as it stands in the file."""

    def one(self) -> Any:
        """The float model with a batch of 1."""
        if self.model is None:
            raise DataError(f"{self.where}: its float model is not at hand")
        from edge_train.packing.export import with_batch_of_one

        return with_batch_of_one(self.model)


def open_run(folder: Path) -> Opened:
    """A folder that ``edge-train fit`` made."""
    try:
        facts: dict[str, Any] = json.loads((folder / "fit.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no fitted run ({error})") from None
    name = facts.get("task", "")
    if name in tasks.TASKS:
        from edge_train.fitting.fit import load_fit

        task = task_named(name)
        model, facts = load_fit(task, folder)
        return Opened(folder, folder.name, model, task.labels, task=task, facts=facts)
    from edge_train.beats import model as beats
    from edge_train.data.mitdb import LABELS

    model, facts = beats.load_fit(folder)
    return Opened(folder, folder.name, model, LABELS, facts=facts)


def open_artifact(folder: Path, weights: Path | None = None) -> Opened:
    """A packed model; its float model from beside it, or from ``weights``: a ``.keras`` of this packing, or its run's folder."""
    artifact = load(folder)
    manifest = artifact.manifest
    model, facts, task = None, {}, None
    if weights is not None and weights.is_dir():
        run = open_run(weights)
        model, facts, task = run.model, run.facts, run.task
        if run.labels != tuple(manifest.labels):
            raise DataError(
                f"{weights}: its labels are {', '.join(run.labels)}; the artifact's {', '.join(manifest.labels)}"
            )
    elif weights is not None or floats.path_of(folder).is_file():
        model, facts = floats.read(weights or floats.path_of(folder), manifest)
    if task is None and facts.get("task") in tasks.TASKS:
        task = task_named(facts["task"])
    raw: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return Opened(folder, manifest.name, model, tuple(manifest.labels), manifest, artifact.tflite, task, facts, raw)


def open_either(folder: Path, weights: Path | None = None) -> Opened:
    """By what the folder holds."""
    if (folder / "manifest.json").is_file():
        return open_artifact(folder, weights)
    if (folder / "fit.json").is_file():
        return open_run(folder)
    raise DataError(f"{folder}: neither an artifact (manifest.json) nor a run (fit.json)")
