"""A toy task among the tasks, fitted once and packed by the command, for the tools' tests."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="session")
def toy_task() -> object:
    """``toy`` is a task like any other while the tests run."""
    import toy
    from edge_train import tasks

    tasks._MODULES["toy"] = "toy"  # found by its path, above
    tasks.TASKS = (*tasks.TASKS, "toy")
    return toy.TASK


@pytest.fixture(scope="session")
def toy_places(toy_task: object, tmp_path_factory: pytest.TempPathFactory) -> list[str]:  # noqa: ARG001
    """Prepared data and a fitted seed; the arguments that say where."""
    import toy
    from edge_train.data import windows
    from edge_train.fitting.fit import fit

    where = tmp_path_factory.mktemp("places")
    windows.save(where / "build" / "data" / "toy", toy.split(), toy.TASK.labels)
    fit(
        toy.TASK,
        windows.load(where / "build" / "data" / "toy"),
        toy.PLAN,
        0,
        where / "build" / "runs" / "toy" / "seed0",
    )
    return [f"--{name}={where / name}" for name in ("build", "models", "results", "shared")]


@pytest.fixture(scope="session")
def toy_artifact(toy_places: list[str]) -> Path:
    """The packed model, its float model beside it."""
    from edge_train.cli import main

    assert main(["pack", "toy", *toy_places]) == 0
    return Path(toy_places[1].partition("=")[2]) / "toy"


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of public data; tests that need it say so when it is not there. In CI it must be."""
    folder = Path(os.environ.get("EDGE_AGENT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    if not (folder / "data").is_dir():
        if os.environ.get("CI"):
            pytest.fail(f"{folder}/data is not there; set EDGE_AGENT_SHARED")
        pytest.skip(f"public data: {folder}/data is not there; set EDGE_AGENT_SHARED")
    return folder
