"""The models of a folder: which there are, which run where none is named, and each loaded, verified and proved."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.errors import ArtifactError
from edge_agent.inference.artifact import Artifact, load, open_engine
from edge_agent.inference.engine import Engine
from edge_agent.inference.installed.trial import Trial


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
