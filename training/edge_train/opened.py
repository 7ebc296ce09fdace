"""A run's folder or an artifact's, opened: the float model, the file that runs on the device, and what is known of both."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.inference.artifact import Artifact, load
from edge_agent.inference.manifest import Manifest
from edge_train import tasks
from edge_train.data.mitdb import LABELS
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
    facts = _fitted(folder)
    name = facts.get("task", "")
    if name in tasks.TASKS:
        from edge_train.fitting.fit import load_fit

        task = task_named(name)
        model, facts = load_fit(task, folder)
        return Opened(folder, folder.name, model, task.labels, task=task, facts=facts)
    from edge_train.beats import model as beats

    model, facts = beats.load_fit(folder)
    return Opened(folder, folder.name, model, LABELS, facts=facts)


def _fitted(folder: Path) -> dict[str, Any]:
    try:
        facts: dict[str, Any] = json.loads((folder / "fit.json").read_text())
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: no fitted run ({error})") from None
    return facts


def look_into(folder: Path, weights: Path | None = None) -> Opened:
    """A packed model whose float model is at hand, and all that is known of it but the float model itself: what cannot be gone on
    with is refused before TensorFlow is loaded, which takes its time. `open_artifact` opens the same."""
    artifact = load(folder)
    manifest = artifact.manifest
    if weights is not None and weights.is_dir():
        facts = _fitted(weights)
        name = facts.get("task", "")
        labels = task_named(name).labels if name in tasks.TASKS else LABELS
        _same_labels(weights, labels, manifest)
    else:
        beside = weights or floats.path_of(folder)
        if weights is None and not beside.is_file():
            raise DataError(f"{folder}: its float model is not at hand ({beside}); name its run with --weights")
        facts = floats.facts_of(beside, manifest)
    task = task_named(facts["task"]) if facts.get("task") in tasks.TASKS else None
    return _opened(folder, artifact, None, facts, task)


def _same_labels(weights: Path, labels: tuple[str, ...], manifest: Manifest) -> None:
    if labels != tuple(manifest.labels):
        raise DataError(f"{weights}: its labels are {', '.join(labels)}; the artifact's {', '.join(manifest.labels)}")


def _opened(folder: Path, artifact: Artifact, model: Any, facts: dict[str, Any], task: Task | None) -> Opened:
    manifest = artifact.manifest
    raw: dict[str, Any] = json.loads((folder / "manifest.json").read_text())
    return Opened(folder, manifest.name, model, tuple(manifest.labels), manifest, artifact.tflite, task, facts, raw)


def open_artifact(folder: Path, weights: Path | None = None) -> Opened:
    """A packed model; its float model from beside it, or from ``weights``: a ``.keras`` of this packing, or its run's folder."""
    artifact = load(folder)
    manifest = artifact.manifest
    model, facts, task = None, {}, None
    if weights is not None and weights.is_dir():
        run = open_run(weights)
        model, facts, task = run.model, run.facts, run.task
        _same_labels(weights, run.labels, manifest)
    elif weights is not None or floats.path_of(folder).is_file():
        model, facts = floats.read(weights or floats.path_of(folder), manifest)
    if task is None and facts.get("task") in tasks.TASKS:
        task = task_named(facts["task"])
    return _opened(folder, artifact, model, facts, task)


def open_either(folder: Path, weights: Path | None = None) -> Opened:
    """By what the folder holds."""
    if (folder / "manifest.json").is_file():
        return open_artifact(folder, weights)
    if (folder / "fit.json").is_file():
        return open_run(folder)
    raise DataError(f"{folder}: neither an artifact (manifest.json) nor a run (fit.json)")
