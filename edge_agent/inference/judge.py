"""Asking the models: windows in, verdicts out."""

from __future__ import annotations

import time
from collections.abc import Mapping

from edge_agent.errors import EngineError
from edge_agent.inference.feeding import feeding_of
from edge_agent.inference.labels import label_of
from edge_agent.inference.loaded import LoadedModel
from edge_agent.journey import Verdict, Window

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
