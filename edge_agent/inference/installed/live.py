"""The models that a running agent has: taken up at the start and at every reload, swapped between two windows, watched on trial."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

from edge_agent import events
from edge_agent.errors import ArtifactError, EdgeAgentError, OutputError
from edge_agent.inference.asked_for import unmet
from edge_agent.inference.installed.catalogue import Catalogue, Opened, OpenEngine, open_live, pause
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import LoadedModel, model_names
from edge_agent.inference.settings import InferenceConfig
from edge_agent.inference.tpu.engines import Engines, backend_of

log = logging.getLogger(__name__)

LOCK_WAIT_S = 2.0
"""An agent has more to do than to wait for whoever writes in the store."""
LIVE = ("trusted_keys", "require_signature", "trial_windows", "trial_s", "trial_p99_ms", "trial_starts")
"""Settings that a reload takes up."""


def wanted_names(named: Iterable[Sequence[str] | None], catalogue: Catalogue) -> list[str]:
    """What the streams name, and all that runs by default where one names none."""
    lists = list(named)
    wanted = {name for names in lists for name in names or ()}
    if any(names is None for names in lists):
        there = catalogue.default_names()
        if not there:
            raise ArtifactError(
                f"{catalogue.under}: holds no model", remedy="models = [] in a stream says that none is wanted"
            )
        wanted.update(there)
    return sorted(wanted)


class LiveModels:
    """For the daemon's own thread; the judge alone is shared."""

    def __init__(
        self,
        settings: InferenceConfig,
        named: Iterable[Sequence[str] | None],
        open_with: OpenEngine | None = None,
        *,
        say_engine: Callable[[], None] = lambda: None,
    ) -> None:
        """``named``: the models that each stream names. What is needed and cannot be run ends the start.

        ``say_engine``: called when what ``engines.message`` tells has changed.
        """
        self._settings = settings
        self.engines = Engines(settings, say_engine)
        self._open_with = open_with or self.engines.open
        self._named = [None if names is None else tuple(names) for names in named]
        self._catalogue = Catalogue.of(settings, lock_wait_s=LOCK_WAIT_S)
        names = wanted_names(self._named, self._catalogue)
        explicit = {name for each in self._named for name in each or ()}
        # An installed extra that does not run is said, and the patient is watched without it.
        needed = explicit | set(model_names(self._catalogue.under))
        self._opened = open_live(self._catalogue, names, {}, needed, self._open_with)
        self.engines.keep(self._models())
        compiled = {name: model.artifact.edgetpu is not None for name, model in self._models().items()}
        for text in unmet(settings, compiled):  # that the TPU itself is not there, it says by itself
            log.warning("models: %s", text)
        self._unsaid: set[str] = set()
        self.judge = Judge(self._models())

    def _models(self) -> dict[str, LoadedModel]:
        return {name: opened.model for name, opened in self._opened.items()}

    @property
    def names(self) -> list[str]:
        return list(self._opened)

    def reload(self, fresh: InferenceConfig) -> list[str]:
        """Take up what was activated, rolled back or removed, and those settings that may change. Says what changed."""
        settings = self._settings.model_copy(update={key: getattr(fresh, key) for key in LIVE})
        changed = [f"inference.{key}" for key in LIVE if getattr(settings, key) != getattr(self._settings, key)]
        try:
            catalogue = Catalogue.of(settings, lock_wait_s=LOCK_WAIT_S)
            names = wanted_names(self._named, catalogue)
            opened = open_live(catalogue, names, self._opened, open_with=self._open_with)
        except EdgeAgentError as error:
            log.error("models: nothing changed: %s", error)
            return []
        self._settings, self._catalogue = settings, catalogue
        return changed + self._swap(opened)

    def _swap(self, opened: dict[str, Opened]) -> list[str]:
        changed = []
        for name in sorted(self._opened.keys() | opened.keys()):
            old, new = self._opened.get(name), opened.get(name)
            if new is None:
                changed.append(f"model {name} gone")
            elif old is None or old.model is not new.model:
                manifest = new.model.artifact.manifest
                was = f" (was {old.model.artifact.manifest.version})" if old is not None else ""
                changed.append(f"model {name} {manifest.version}{was}{', on trial' if new.model.trial else ''}")
        self._opened = opened
        if changed:
            self.judge.swap(self._models())
            self.engines.keep(self._models())
        return changed

    # -- trials ----------------------------------------------------------------------------------------------------

    def look_at_trials(self) -> bool:
        """Whether one is over, so that what runs is no longer what was said."""
        over = False
        for name, opened in list(self._opened.items()):
            trial = opened.model.trial
            outcome = trial.outcome() if trial is not None else None
            if outcome is None:
                continue
            if outcome.passed:
                over |= self._passed(name, opened, outcome.reason)
            else:
                self._failed(name, opened, outcome.reason)
                over = True
        return over

    def _passed(self, name: str, opened: Opened, reason: str) -> bool:
        version = opened.model.artifact.manifest.version
        try:
            self._catalogue.store.passed(name, version)
        except OutputError as error:  # tried again; said once
            if name not in self._unsaid:
                self._unsaid.add(name)
                log.error("model %s: that %s has passed its trial cannot be kept yet: %s", name, version, error.what)
            return False
        except ArtifactError as error:  # removed under our feet; the next reload takes that up
            log.warning("model %s: %s", name, error.what)
        self._unsaid.discard(name)
        log.info("model %s: %s has passed its trial: %s", name, version, reason)
        proved = replace(opened, model=replace(opened.model, trial=None), note=f"passed its trial: {reason}")
        self._swap({**self._opened, name: proved})
        return True

    def _failed(self, name: str, opened: Opened, reason: str) -> None:
        version = opened.model.artifact.manifest.version
        log.error("model %s: %s failed its trial and is rolled back: %s", name, version, reason)
        try:
            self._catalogue.store.fail(name, version, reason)
        except EdgeAgentError as error:
            log.error("model %s: that %s failed cannot be kept: %s", name, version, error.what)
        others = {key: each for key, each in self._opened.items() if key != name}
        back = open_live(self._catalogue, [name], {}, open_with=self._open_with)
        note = f"{version} failed its trial and was rolled back: {reason}"
        self._swap({**others, **{key: replace(each, note=note) for key, each in back.items()}})

    def pause(self) -> None:
        """The agent ends well: a trial that is not over goes on with the next start, and is none the worse for this one."""
        pause(self._catalogue, self._opened)

    # -- what is said ----------------------------------------------------------------------------------------------

    def info(self) -> list[events.ModelInfo]:
        return [
            events.ModelInfo(
                name=name,
                version=opened.model.artifact.manifest.version,
                digest=opened.model.artifact.digest,
                backend=backend_of(opened.model.engine),
                task=opened.model.artifact.manifest.task,
                state="trial" if opened.model.trial is not None else "active",
                signer=opened.model.artifact.signer,
                note=opened.note,
                why=self.engines.why(name),
            )
            for name, opened in sorted(self._opened.items())
        ]
