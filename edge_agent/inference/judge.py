"""Asking the models: windows in, verdicts out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np

from edge_agent.errors import ArtifactError, EngineError
from edge_agent.inference.artifact import Artifact, load, open_engine
from edge_agent.inference.engine import Engine
from edge_agent.inference.feeding import feeding_of
from edge_agent.inference.installed.trial import Trial
from edge_agent.inference.manifest import Manifest
from edge_agent.journey import Samples, Verdict, Window


@dataclass(frozen=True, slots=True)
class LoadedModel:
    artifact: Artifact
    engine: Engine
    trial: Trial | None = None
    """Watches a model that is new here; None for one that has proved itself."""


def shipped_models() -> Path:
    """Where the models that come with this package are: beside it in a checkout, inside it once installed."""
    package = Path(__file__).resolve().parent.parent
    installed = package / "shipped_models"
    return installed if installed.is_dir() else package.parent / "models"


def model_names(folder: Path) -> list[str]:
    return sorted(path.parent.name for path in folder.glob("*/manifest.json"))


def load_models(folder: Path, names: list[str] | None = None) -> dict[str, LoadedModel]:
    """Load, verify and prove the named models of a folder, or all of them."""
    there = model_names(folder)
    for name in names or ():
        if name not in there:
            raise ArtifactError(f"{folder}: no model named {name!r}", remedy=f"there are: {', '.join(there) or 'none'}")
    loaded = {}
    for name in there if names is None else names:
        artifact = load(folder / name)
        if artifact.name != name:
            raise ArtifactError(f"{folder / name}: the manifest names the model {artifact.name!r}, its folder {name!r}")
        loaded[name] = LoadedModel(artifact, open_engine(artifact))
    return loaded


def default_names(folder: Path) -> list[str]:
    """Those of a folder that run where none is named. One that cannot be read is among them, to be refused by name."""

    def optional(name: str) -> bool:
        try:
            return json.loads((folder / name / "manifest.json").read_bytes()).get("optional") is True
        except (OSError, ValueError, AttributeError):
            return False

    return [name for name in model_names(folder) if not optional(name)]


def by_default(models: Mapping[str, LoadedModel]) -> dict[str, LoadedModel]:
    """Those that run where a stream names none."""
    return {name: model for name, model in models.items() if not model.artifact.manifest.optional}


def softmax(scores: Samples) -> Samples:
    exponential = np.exp(scores - scores.max())
    return np.asarray(exponential / exponential.sum(), np.float32)


def label_of(scores: Samples, manifest: Manifest) -> tuple[str | None, dict[str, float], str | None]:
    """The label that the manifest's rules give, the scores by label, and why there is none."""
    output, labels = manifest.output, manifest.labels
    if output.holds == "index":
        return _numbered(float(scores[0]), labels)
    if output.scores == "softmax":
        scores = softmax(scores)
    elif output.scores == "sigmoid":
        with np.errstate(over="ignore"):  # exp(89) is infinite in float32, and its inverse the right 0
            scores = np.asarray(1 / (1 + np.exp(-scores)), np.float32)
    values: list[float] = scores.tolist()
    if output.holds == "score":
        values = [1 - values[0], values[0]]
    named = dict(zip(labels, values, strict=True))
    if not isfinite(sum(values)):
        return None, {}, "the scores are no numbers"
    # Of the labels that reach their threshold the best one wins; ties go to the label listed first.
    thresholds = output.thresholds
    allowed = [label for label in labels if named[label] >= thresholds.get(label, 0.0)] if thresholds else labels
    best = max(allowed, key=named.__getitem__, default=None)
    if best is None or named[best] < max(output.abstain_below, 0.0):
        return None, named, "score too low"
    if (
        output.abstain_margin
        and named[best] - max(v for label, v in named.items() if label != best) < output.abstain_margin
    ):
        return None, named, "scores too close"
    return best, named, None


def _numbered(number: float, labels: Sequence[str]) -> tuple[str | None, dict[str, float], str | None]:
    if not 0 <= number < len(labels):
        return None, {}, f"the model says label {number:.0f}, there are {len(labels)}"
    said = labels[int(number)]
    return said, {label: float(label == said) for label in labels}, None


MOST_RETIRED = 16
"""Models kept for windows that wait; more changes than this within a queue's length there are not."""


def _feeding(models: Mapping[str, LoadedModel]) -> dict[str, str]:
    return {name: feeding_of(model.artifact.manifest) for name, model in models.items()}


class Judge:
    """Holds the engines. One thread asks; any thread may swap."""

    def __init__(self, models: Mapping[str, LoadedModel]) -> None:
        self.models = models
        self._retired: dict[tuple[str, str], LoadedModel] = {}
        self._feeding = _feeding(models)

    def swap(self, models: Mapping[str, LoadedModel]) -> None:
        """Other models from the next window on. Windows that were cut for what another version wanted, and wait, are still its own."""
        fresh = _feeding(models)
        retired = {**self._retired, **{(name, fed): self.models[name] for name, fed in self._feeding.items()}}
        still = [key for key in retired if fresh.get(key[0]) != key[1]][-MOST_RETIRED:]
        self._retired = {key: retired[key] for key in still}
        self.models, self._feeding = models, fresh

    def _model_for(self, window: Window) -> LoadedModel:
        retired = self._retired.get((window.model, window.feeding)) if self._retired else None
        return retired or self.models[window.model]

    def ask(self, window: Window) -> Verdict:
        """A window's verdict; an engine's failure is an abstention that says so, never an exception."""
        model = self._model_for(window)
        manifest = model.artifact.manifest
        label: str | None = None
        scores: dict[str, float] = {}
        reason = window.abstain
        invoke_us = 0.0
        if reason is None:
            began = time.perf_counter_ns()
            try:
                output = model.engine.invoke(window.inputs)
            except EngineError as error:
                reason = f"engine: {error.what}"
                if model.trial is not None:
                    model.trial.answer(reason, 0.0)
            else:
                invoke_us = (time.perf_counter_ns() - began) / 1000
                label, scores, reason = label_of(output, manifest)
                if model.trial is not None:
                    model.trial.answer(None if scores else reason, invoke_us)
        return Verdict(
            window=window,
            label=label,
            scores=scores,
            model=manifest.name,
            version=manifest.version,
            digest=model.artifact.digest,
            backend=model.engine.backend,
            reason=reason,
            invoke_us=invoke_us,
        )
