"""What is installed is what is here."""

from __future__ import annotations

import configparser

from tests.conftest import ROOT


def packages() -> set[str]:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    return set(parser["options"]["packages"].split())


def test_every_package_is_listed() -> None:
    """The list is written by hand, since models/ and config/ are mapped into the package: a new room must not be forgotten."""
    there = {".".join(init.parent.relative_to(ROOT).parts) for init in (ROOT / "edge_agent").rglob("__init__.py")}
    assert packages() == there | {f"edge_agent.shipped_{folder}" for folder in ("config", "models", "systemd")}


def test_shipped_models_are_small_and_have_cards() -> None:
    folders = [path.parent for path in (ROOT / "models").glob("*/manifest.json")]
    assert folders
    for folder in folders:
        assert (folder / "MODEL_CARD.md").is_file(), folder
        assert (folder / "model.tflite").stat().st_size <= 100_000, folder


def test_nothing_of_the_training_is_imported_by_the_agent() -> None:
    for path in (ROOT / "edge_agent").rglob("*.py"):
        imports = [line for line in path.read_text(encoding="utf-8").splitlines() if "import" in line]
        assert not any("edge_train" in line for line in imports), path
