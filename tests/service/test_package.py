"""What the package is made of and by: hashed, at the versions that were tested, by scripts that stop at the first fault."""

from __future__ import annotations

import configparser
import json
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGING = ROOT / "packaging"
SCRIPTS = [path for path in sorted(PACKAGING.iterdir()) if path.is_file() and path.read_bytes()[:2] == b"#!"]
MAINTAINER = sorted((PACKAGING / "debian").glob("p*"))


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def locked() -> dict[str, tuple[str, list[str]]]:
    """Version and hashes by name."""
    text = (PACKAGING / "service.lock").read_text(encoding="utf-8").replace("\\\n", " ")
    found = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            head, *options = line.split()
            name, version = head.split("==")
            found[name] = (version, options)
    return found


def test_every_package_of_the_service_is_locked_by_hash_at_the_tested_version() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    tested = {plain(name): version for name, _, version in (line.partition("==") for line in lines) if version}
    for name, (version, hashes) in locked().items():
        assert tested.get(name, version) == version, f"{name}: make service-lock"
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", one) for one in hashes), name


def test_nothing_that_the_agent_requires_is_missing_from_the_lock() -> None:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg", encoding="utf-8")
    wanted = [line for line in parser["options"]["install_requires"].splitlines() if line and '== "armv7l"' not in line]
    names = {plain(re.split(r"[<>=;\s]", line)[0]) for line in wanted}
    assert len(names) >= 5
    assert names <= locked().keys(), "make service-lock"


@pytest.mark.parametrize("script", [*SCRIPTS, *MAINTAINER], ids=lambda path: path.name)
def test_scripts_stop_at_the_first_fault(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    first, *rest = text.splitlines()
    if "python" in first:
        compile(text, str(script), "exec")
    else:
        shell = "bash" if first.endswith("bash") else "sh"
        assert first == {"bash": "#!/usr/bin/env bash", "sh": "#!/bin/sh"}[shell]
        assert {"bash": "set -euo pipefail", "sh": "set -e"}[shell] in rest
        subprocess.run([shell, "-n", str(script)], check=True)
    assert script.stat().st_mode & stat.S_IXUSR or script in MAINTAINER


def test_what_the_package_installs_is_there() -> None:
    text = (PACKAGING / "build-deb").read_text(encoding="utf-8")
    for mode, source in re.findall(r"(?m)^put (\d+) ([\w./-]+) ", text):
        assert (ROOT / source).is_file(), source
        assert mode == "644"
    purged = (PACKAGING / "debian" / "postrm").read_text(encoding="utf-8")
    for unit in (ROOT / "systemd").glob("*.service"):
        for folder in re.findall(r"(?m)^(?:State|Logs)Directory=([\w-]+)", unit.read_text(encoding="utf-8")):
            assert f"/var/lib/{folder}" in purged or f"/var/log/{folder}" in purged, folder


def test_the_bill_of_materials(tmp_path: Path) -> None:
    for name, version, requires in (("One_Two", "1.0", "three>=2"), ("three", "2.1", "absent; extra == 'x'")):
        folder = tmp_path / f"{name}-{version}.dist-info"
        folder.mkdir()
        head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nLicense: MIT\nRequires-Dist: {requires}\n"
        (folder / "METADATA").write_text(head, encoding="utf-8")
        (tmp_path / f"{name}.py").write_text("x = 1\n", encoding="utf-8")
        (folder / "RECORD").write_text(f"{name}.py,,\n{folder.name}/METADATA,,\n", encoding="utf-8")
    command = [sys.executable, str(PACKAGING / "sbom"), str(tmp_path), "9"]

    def bill() -> dict[str, str]:
        made = json.loads(subprocess.run(command, capture_output=True, check=True, text=True).stdout)
        assert made["specVersion"] == "1.5"
        assert made["dependencies"][0] == {"ref": "pkg:pypi/one-two@1.0", "dependsOn": ["pkg:pypi/three@2.1"]}
        assert [one["licenses"][0]["license"]["name"] for one in made["components"]] == ["MIT", "MIT"]
        return {one["name"]: one["hashes"][0]["content"] for one in made["components"]}

    before = bill()
    (tmp_path / "three.py").write_text("x = 2\n", encoding="utf-8")
    after = bill()
    assert before["one-two"] == after["one-two"]
    assert before["three"] != after["three"]
