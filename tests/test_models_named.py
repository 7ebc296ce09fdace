"""A model that goes, and a configuration that names it: what ``edge-agent models rollback`` and ``remove`` say of that."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.commands import models_shown
from tests.inference.tiny import manifest, write

Say = Callable[..., str]


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Say:
    monkeypatch.setattr(models_shown, "SERVICE_CONFIG", tmp_path / "no such file")

    def said(*arguments: str | Path) -> str:
        assert main(["models", *map(str, arguments)]) == 0
        return capfd.readouterr().out

    return said


@pytest.fixture
def tiny(tmp_path: Path) -> Callable[..., Path]:
    return lambda version="1.0.0": write(tmp_path / "made" / version, manifest(version=version))


def test_who_names_a_model_is_told_what_becomes_of_it(models: Say, tiny: Callable[..., Path], tmp_path: Path) -> None:
    """A stream that names a model that is gone ends the agent's start: the command that takes it away says so."""
    config = tmp_path / "edge.toml"
    streams = "".join(
        f'[[stream]]\nname = "{name}"\n{wanted}[stream.source]\ntype = "simulated"\n'
        for name, wanted in (
            ("bed1", 'models = ["tiny"]\n'),
            ("bed2", ""),
            ("bed3", 'models = ["tiny", "ecg-af-rr"]\n'),
        )
    )
    config.write_text(f'[inference]\nstore = "store"\n{streams}', encoding="utf-8")
    for version in ("1.0.0", "1.1.0"):
        models("install", tiny(version), "--config", config)
        models("activate", "tiny", version, "--no-trial", "--config", config)
    said = models("rollback", "tiny", "--config", config)
    assert (
        f"{config}: stream bed1, bed3 names tiny (models = [...]): 1.0.0 runs there from the next reload on\n" in said
    )
    assert "bed1" not in models("remove", "tiny", "1.1.0", "--config", config)  # it does not run anyway
    said = models("remove", "tiny", "--config", config)
    assert f"{config}: stream bed1, bed3 names tiny (models = [...]): an agent that runs goes on as it is" in said
    assert "none starts until a version is active" in said
    assert main(["check", str(config)]) == 1  # as it was said
    models("install", tiny("1.2.0"), "--activate", "--config", config)
    assert json.loads(models("remove", "tiny", "--config", config, "--json"))["streams"] == ["bed1", "bed3"]


def test_without_a_configuration_it_says_what_one_may_hold(models: Say, tiny: Callable[..., Path]) -> None:
    models("install", tiny(), "--activate")
    assert "a configuration whose streams name tiny (models = [...]) is refused" in models("remove", "tiny")
