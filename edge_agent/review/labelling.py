"""Which models label a recording: those that the agent of this configuration would run, its store's among them."""

from __future__ import annotations

import hashlib

from edge_agent.config import InferenceConfig
from edge_agent.inference.installed.catalogue import Catalogue, open_first
from edge_agent.inference.judge import Judge


def judge_of(settings: InferenceConfig, names: list[str] | None = None) -> Judge:
    """``names``: besides those that run by themselves. Raises EdgeAgentError."""
    catalogue = Catalogue.of(settings)
    return Judge(open_first(catalogue, sorted({*catalogue.default_names(), *(names or ())})))


def key(settings: InferenceConfig) -> str:
    """Changes with the models, so that what others found is not shown as theirs."""
    catalogue = Catalogue.of(settings)
    said = []
    for name in catalogue.default_names():
        try:
            raw = (catalogue.places(name)[0].folder / "manifest.json").read_bytes()
        except OSError:
            raw = b""
        said.append(f"{name} {hashlib.sha256(raw).hexdigest()}")
    return hashlib.sha256("\n".join(said).encode()).hexdigest()[:16]
