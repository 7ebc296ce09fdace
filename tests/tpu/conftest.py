"""The stand-in for the TPU, built once, and artifacts that hold a file for it."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tpu.stand import Plan


@pytest.fixture(scope="session")
def standin(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library. Without a C compiler these tests are skipped by name; in CI that is a failure."""
    library = tmp_path_factory.mktemp("standin") / "libstandin.so"
    source = Path(__file__).with_name("standin.c")
    subprocess.run(
        [program("gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(library), str(source)], check=True
    )
    return library


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[Plan]:
    """What it is to do, and what it has done."""
    with Plan(tmp_path / "plan") as made:
        yield made
