"""Settings of the models: ``[inference]``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from edge_agent.inference.installed.signature import is_key
from edge_agent.inference.tpu.settings import EngineName, TpuConfig
from edge_agent.section import SET, DiskPath, Section


class InferenceConfig(Section):
    """Which models may run."""

    models_dir: DiskPath | None = Field(
        default=None, description="Folder of model folders; the shipped ones by default."
    )
    store: DiskPath | None = Field(
        default=None,
        description="Where edge-agent models install puts them, over those of models_dir; default: the state folder's models.",
    )
    trusted_keys: list[str] = Field(
        default_factory=list,
        max_length=64,
        description="Whose signatures count: paths of Ed25519 public keys (PEM or hexadecimal), or the 64 digits themselves.",
    )
    require_signature: bool = Field(
        default=False,
        description="Refuse what none of the trusted keys signed; the shipped models are part of the agent.",
    )
    trial_windows: int = Field(
        default=500, ge=1, le=100_000, description="A newly activated version has passed after so many answers..."
    )
    trial_s: float = Field(default=600.0, gt=0, le=604_800, description="...or after so long, with at least one.")
    trial_p99_ms: float = Field(
        default=50.0, gt=0, le=10_000, description="Slower than this within its trial, and it is rolled back."
    )
    trial_starts: int = Field(
        default=2, ge=1, le=100, description="Starts within its trial that did not end well, and it is rolled back."
    )
    queue_windows: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Windows waiting for the models; beyond it they are dropped, counted on bridge/health.",
    )
    engine: EngineName = Field(
        default="auto",
        description="Of models with a file for the Edge TPU: cpu, tpu, or auto, which times both here and takes the faster one.",
    )
    engines: dict[str, EngineName] = Field(default_factory=dict, description="The same for single models, by name.")
    tpu: TpuConfig = Field(default_factory=TpuConfig)

    def anchored(self, folder: Path) -> Self:
        keys = [one if is_key(one) else str(folder / one) for one in self.trusted_keys]
        return super().anchored(folder).model_copy(update={"trusted_keys": keys})

    def missing(self, folder: Path) -> Iterator[str]:
        if self.models_dir is not None and not (folder / self.models_dir).is_dir():
            yield f"models_dir: {self.models_dir}: no such folder"
        for number, key in enumerate(self.trusted_keys):
            if not is_key(key) and not (folder / key).is_file():
                yield f"trusted_keys[{number}]: {key}: no such file; a public key's path or its 64 hexadecimal digits"

    def public(self) -> dict[str, Any]:
        return {**super().public(), "trusted_keys": [one if is_key(one) else SET for one in self.trusted_keys]}

    @model_validator(mode="after")
    def _somebody_to_trust(self) -> InferenceConfig:
        if self.require_signature and not self.trusted_keys:
            raise ValueError("require_signature needs trusted_keys: without any, no model could be run")
        return self
