"""docs/reliability.md names, for each fault, the test that makes it happen: such a test there is."""

from __future__ import annotations

import re

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")


def rows() -> list[list[str]]:
    _, _, after = PAGE.partition("## What breaks, and what must hold")
    table, _, _ = after.partition("\n## ")
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[1:]]


def defined() -> set[str]:
    found: set[str] = set()
    for file in (ROOT / "tests").rglob("test_*.py"):
        found |= set(re.findall(r"^def (test_\w+)", file.read_text(encoding="utf-8"), re.MULTILINE))
    return found


def test_the_table_is_found_and_whole() -> None:
    assert len(rows()) > 15
    assert {len(row) for row in rows()} == {4}


@pytest.mark.parametrize("row", rows(), ids=lambda row: re.sub(r"\W+", "-", row[0])[:40])
def test_the_tests_of_a_fault_are_there(row: list[str]) -> None:
    named = re.findall(r"`([^`]+)`", row[2])
    assert named, "no test"
    tests, inside = defined(), (ROOT / "packaging" / "nspawn-inside").read_text(encoding="utf-8")
    for name in named:
        if name.startswith("test_") and not name.endswith(".py"):
            assert name.partition("[")[0] in tests
        elif name.endswith(".py"):
            assert list((ROOT / "tests").rglob(name.rpartition("/")[2])), name
        elif name.startswith("packaging/") or name == "tests/tpu":
            assert (ROOT / name).exists(), name
        else:
            assert name == "nspawn-inside" or name in inside, name
