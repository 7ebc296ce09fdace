"""The configuration that ships, to start from and for the demo."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def example_config() -> str:
    """The shipped configuration, wherever this is installed."""
    package = resources.files("edge_agent")
    installed = package / "shipped_config" / "edge-agent.toml"
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parents[2] / "config" / "edge-agent.toml").read_text(encoding="utf-8")
