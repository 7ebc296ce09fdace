"""Which models there are: the shipped ones (or those of ``models_dir``), and over them what the store has active.

A name's candidates are tried in order: the active version, those that were active before it, what lies underneath. The daemon
takes the first that can be verified and proved, and says of each that could not why.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Container, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from edge_agent.config import model_store
from edge_agent.errors import ArtifactError, EdgeAgentError, OutputError
from edge_agent.inference.artifact import Artifact, load, open_engine
from edge_agent.inference.engine import Engine
from edge_agent.inference.installed import signature
from edge_agent.inference.installed.signature import Policy
from edge_agent.inference.installed.state import STATE
from edge_agent.inference.installed.store import LOCK_WAIT_S, Store, Underneath
from edge_agent.inference.installed.trial import Limits, Trial
from edge_agent.inference.loaded import LoadedModel, model_names, shipped_models
from edge_agent.inference.settings import InferenceConfig

log = logging.getLogger(__name__)

OpenEngine = Callable[[Artifact], Engine]


@dataclass(frozen=True, slots=True)
class Place:
    """Where one version of a model is."""

    name: str
    folder: Path
    policy: Policy
    installed: str | None = None
    """Its version in the store; None for what lies underneath."""
    trial: bool = False
    starts: int = 0


@dataclass(frozen=True, slots=True)
class Catalogue:
    under: Path
    """The folder that the store is over."""
    store: Store
    policy: Policy
    limits: Limits

    @staticmethod
    def of(settings: InferenceConfig, *, lock_wait_s: float = LOCK_WAIT_S) -> Catalogue:
        return Catalogue(
            under=settings.models_dir or shipped_models(),
            store=Store(model_store(settings), lock_wait_s=lock_wait_s),
            policy=signature.policy(settings.trusted_keys, settings.require_signature),
            limits=Limits(settings.trial_windows, settings.trial_s, settings.trial_p99_ms, settings.trial_starts),
        )

    def names(self) -> list[str]:
        """Every model that could run."""
        return sorted({*model_names(self.under), *(name for name in self._installed() if self._places(name))})

    def _installed(self) -> list[str]:
        try:
            return self.store.names()
        except OutputError as error:
            log.error("%s; what lies under it is used", error.what)
            return []

    def default_names(self) -> list[str]:
        """Those that run where none is named."""
        return [name for name in self.names() if not _optional(self._places(name))]

    def places(self, name: str) -> list[Place]:
        """A name's candidates, the best first."""
        found = self._places(name, say=True)
        if not found:
            if name in self._installed() and (waiting := self.store.versions(name)):
                raise ArtifactError(
                    f"model {name!r}: {', '.join(waiting)} installed in {self.store.folder}, none of them active",
                    remedy=f"activate one: edge-agent models activate {name} {waiting[-1]}",
                )
            there = ", ".join(self.names()) or "none"
            raise ArtifactError(f"{self.under}: no model named {name!r}", remedy=f"there are: {there}")
        return found

    def underneath(self, name: str) -> Underneath | None:
        """What the store covers or would cover."""
        try:
            raw = (self.under / name / "manifest.json").read_bytes()
            return Underneath(str(json.loads(raw)["version"]), hashlib.sha256(raw).hexdigest())
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _places(self, name: str, *, say: bool = False) -> list[Place]:
        found = self.store.kept(name)
        state = found.state
        if say and found.damage is not None:
            instead = "what lies under the store is used" if found.lost else "its copy is used"
            log.error("model %s: %s: %s; %s", name, self.store.folder / name / STATE, found.damage, instead)
        there = self.store.versions(name, state)
        wanted = ([state.active] if state.active is not None else []) + [
            v for v in reversed(state.before) if v in there
        ]
        places = [
            Place(
                name,
                self.store.place(name, version),
                self.policy,
                installed=version,
                trial=state.trial is not None and version == state.active,
                starts=state.trial.starts if state.trial is not None and version == state.active else 0,
            )
            for version in dict.fromkeys(one for one in wanted if one is not None)
        ]
        if name in model_names(self.under):
            # The package is as trusted as its models are: whoever could change these could change the code that verifies.
            trusted = signature.ANY if self.under == shipped_models() else self.policy
            under = Place(name, self.under / name, trusted)
            at = len(places) if state.active is not None else 0
            places.insert(at, under)
        return places


def _optional(places: list[Place]) -> bool:
    try:
        return json.loads((places[0].folder / "manifest.json").read_bytes()).get("optional") is True
    except (OSError, ValueError, AttributeError, IndexError):
        return False


def open_place(place: Place, open_with: OpenEngine = open_engine) -> LoadedModel:
    """Verified and proved."""
    artifact = load(place.folder, place.policy)
    if artifact.name != place.name:
        raise ArtifactError(
            f"{place.folder}: the manifest names the model {artifact.name!r}, its folder {place.name!r}"
        )
    if place.installed is not None and artifact.manifest.version != place.installed:
        raise ArtifactError(
            f"{place.folder}: the manifest names version {artifact.manifest.version}, its folder {place.installed}"
        )
    return LoadedModel(artifact, open_with(artifact))


def open_first(
    catalogue: Catalogue, names: Iterable[str], open_with: OpenEngine = open_engine
) -> dict[str, LoadedModel]:
    """The best candidate of each name, or what is wrong with it: for checking a configuration and for replays."""
    return {name: open_place(catalogue.places(name)[0], open_with) for name in names}


@dataclass(frozen=True, slots=True)
class Opened:
    model: LoadedModel
    place: Place
    note: str | None = None
    """What was refused on the way to it."""


def open_live(
    catalogue: Catalogue,
    names: Iterable[str],
    running: Mapping[str, Opened],
    needed: Container[str] = (),
    open_with: OpenEngine = open_engine,
) -> dict[str, Opened]:
    """What the daemon runs from now on. What runs already and is still the first choice is kept as it is, engine and all.

    Of a name whose candidates all fail, the one that runs goes on; with none running it is left out, or its error raised if it is
    ``needed``.
    """
    opened: dict[str, Opened] = {}
    for name in names:
        try:
            opened[name] = _open_live(catalogue, name, running.get(name), open_with)
        except EdgeAgentError as error:
            if name in needed:
                pause(catalogue, opened)  # another model's failure is no mark against them
                raise
            log.error("model %s: does not run: %s", name, error.what)
    return opened


def pause(catalogue: Catalogue, opened: Mapping[str, Opened]) -> None:
    """Those on trial are not at fault for this end: it does not count."""
    for name, one in opened.items():
        if one.model.trial is not None:
            with suppress(EdgeAgentError):
                catalogue.store.pause(name, one.model.artifact.manifest.version)


def _open_live(catalogue: Catalogue, name: str, current: Opened | None, open_with: OpenEngine) -> Opened:
    try:
        places = catalogue.places(name)
    except ArtifactError:
        if current is None:
            raise
        places = []
    first: EdgeAgentError | None = None
    for place in places:
        if current is not None and _same(current, place):
            return current if first is None else replace(current, note=_line(first))
        try:
            if place.trial:
                return _open_trial(catalogue, place, current, first, open_with)
            return Opened(open_place(place, open_with), place, _line(first))
        except EdgeAgentError as error:
            log.error("model %s: refused: %s", name, error.what)
            if place.trial:
                _failed(catalogue, place, error.what)
            first = first or error
    if current is not None:
        log.error("model %s: %s goes on", name, current.model.artifact.manifest.version)
        return replace(current, note=_line(first))
    assert first is not None  # places() raises where there are none
    raise first


def _same(current: Opened, place: Place) -> bool:
    """The very files that run: not the folder's name alone, which may hold something new."""
    if current.place.folder != place.folder or current.place.policy != place.policy:
        return False
    try:
        digest = hashlib.sha256((place.folder / "manifest.json").read_bytes()).hexdigest()
    except OSError:
        return False
    return digest == current.model.artifact.digest


def _open_trial(
    catalogue: Catalogue, place: Place, current: Opened | None, first: EdgeAgentError | None, open_with: OpenEngine
) -> Opened:
    assert place.installed is not None  # what lies underneath is never on trial
    begun = current is not None and current.model.trial is not None and current.place.folder == place.folder
    if place.starts >= catalogue.limits.starts and not begun:
        raise ArtifactError(f"{place.folder}: the agent did not end well {place.starts} times while this was on trial")
    # Counted before the file is opened: a model that takes the process with it must not do so for ever.
    if not begun:
        catalogue.store.begin(place.name, place.installed)
    opened = open_place(place, open_with)
    model = replace(opened, trial=Trial(catalogue.limits))
    log.info(
        "model %s: %s is on trial for %d windows or %g s",
        place.name,
        place.installed,
        catalogue.limits.windows,
        catalogue.limits.seconds,
    )
    return Opened(model, place, _line(first))


def _failed(catalogue: Catalogue, place: Place, reason: str) -> None:
    assert place.installed is not None
    try:
        catalogue.store.fail(place.name, place.installed, reason)
    except EdgeAgentError as error:
        log.error("model %s: that %s failed cannot be kept: %s", place.name, place.installed, error.what)
    else:
        log.error("model %s: %s is rolled back", place.name, place.installed)


def _line(error: EdgeAgentError | None) -> str | None:
    return None if error is None else "refused: " + error.what.splitlines()[0]
