"""The audit never says more than was looked up."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT

SOUND = {"name": "numpy", "version": "2.4.6", "vulns": []}
HOLE = {"name": "protobuf", "version": "7.0", "vulns": [{"id": "CVE-1", "fix_versions": ["7.1"]}]}
SKIPPED = {"name": "tqdm", "version": "4.7", "skip_reason": "not found"}


def audit(tmp_path: Path, said: str) -> tuple[int, str]:
    """With a pip-audit that says this; like the real one it ends with 0 where it skipped everything."""
    program = tmp_path / "pip-audit"
    program.write_text(f"#!{sys.executable}\nprint({said!r})\n", encoding="utf-8")
    program.chmod(0o755)
    ran = subprocess.run(
        [sys.executable, str(ROOT / "packaging" / "audit"), str(program)], capture_output=True, text=True, check=False
    )
    return ran.returncode, ran.stdout


@pytest.mark.parametrize(
    ("packages", "status", "words"),
    [
        ([SOUND], 0, "1 packages, no known vulnerability"),
        ([SOUND, HOLE], 1, "protobuf 7.0: CVE-1, mended in 7.1"),
        ([SOUND, SKIPPED], 3, "NOT AUDITED: 1 of 2"),
        ([SKIPPED], 3, "NOT AUDITED: 1 of 1"),
        ([HOLE, SKIPPED], 1, "NOT AUDITED: 1 of 2"),
        ([], 2, "looked at no package"),
    ],
    ids=["sound", "hole", "skipped", "all-skipped", "hole-and-skipped", "nothing"],
)
def test_it_says_what_was_looked_up(tmp_path: Path, packages: list[dict[str, Any]], status: int, words: str) -> None:
    found, said = audit(tmp_path, json.dumps({"dependencies": packages}))
    assert (found, words in said) == (status, True), said
    assert ("no known" in said) == (status == 0)


def test_a_report_that_is_none_is_a_failure(tmp_path: Path) -> None:
    assert audit(tmp_path, "Traceback")[0] == 2
    assert audit(tmp_path, "{}")[0] == 2
