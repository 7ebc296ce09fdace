"""Shared by all tests: where the recordings are, and what must not be missing in CI."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.spine import Broker, Listener, listening, running_broker
from tests.watchers import watching as watching

ROOT = Path(__file__).resolve().parent.parent


def shared_folder() -> Path:
    """The recordings that tests may use: never part of this repository."""
    return Path(os.environ.get("EDGE_AGENT_SHARED", ROOT.parent / "shared"))


@pytest.fixture(autouse=True)
def state_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test leaves an outbox in the home of whoever runs it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """A configuration, and where it lies."""

    def at(text: str) -> Path:
        path = tmp_path / "edge.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return at


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings; skips by name where it is not there."""
    folder = shared_folder()
    if not (folder / "data" / "mitdb").is_dir():
        pytest.skip(f"recordings: {folder} is not there (set EDGE_AGENT_SHARED)")
    return folder


@pytest.fixture(scope="session")
def mitdb(shared: Path) -> Path:
    return shared / "data" / "mitdb"


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 512 KiB that can be filled. Without the right to mount one the test is skipped by name; not in CI."""
    folder = tmp_path / "tiny-disk"
    folder.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if made.returncode:
        if os.environ.get("CI"):
            pytest.fail(f"no disk to fill: {made.stderr}")
        pytest.skip(f"no disk to fill: {made.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(scope="session")
def program() -> Callable[[str], str]:
    """Where a program of the system is. Without it the test is skipped by name; in CI that is a failure."""

    def find(name: str) -> str:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")
        if found is None:
            if os.environ.get("CI"):
                pytest.fail(f"{name} is not installed, and in CI nothing may be skipped")
            pytest.skip(f"{name} is not installed")
        return found

    return find


@pytest.fixture
def broker(program: Callable[[str], str], tmp_path: Path) -> Iterator[Broker]:
    """A mosquitto of this test's own that remembers nothing."""
    with running_broker(program("mosquitto"), tmp_path) as broker:
        yield broker


@pytest.fixture
def listener(broker: Broker) -> Iterator[Listener]:
    """Hears all that this broker is told."""
    with listening(broker.port) as listener:
        yield listener
