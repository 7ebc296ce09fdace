"""Where the tools find the checkout's programs, its data and the interpreter for training."""

from __future__ import annotations

import configparser
import os
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def pages() -> list[Path]:
    """What is kept true."""
    found = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
    return [*found, ROOT / "training" / "README.md"]


def shared() -> Path | None:
    """The recordings."""
    named = os.environ.get("EDGE_AGENT_SHARED")
    folder = Path(named) if named else ROOT.parent / "shared"
    return folder.resolve() if folder.is_dir() else None


def training_python() -> str | None:
    """The interpreter that has edge-train's own dependencies, which are not the agent's."""
    for named in (os.environ.get("EDGE_TRAIN_PYTHON"), str(ROOT / "training" / ".venv" / "bin" / "python")):
        if named and Path(named).is_file():
            return named
    return None


def is_there(need: str) -> bool:
    """A program, a path of the checkout, `shared` or `edge-train`."""
    if need == "shared":
        return shared() is not None
    if need == "edge-train":
        return training_python() is not None
    if "/" in need:
        return (ROOT / need).exists()
    return shutil.which(need, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin") is not None


def shims(folder: Path) -> None:
    """The programs that an installation would put on the PATH, for whatever code PYTHONPATH leads to."""
    folder.mkdir(parents=True, exist_ok=True)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    programs = dict.fromkeys(("python", "python3"), f'{sys.executable} "$@"')
    for line in filter(None, setup["options.entry_points"]["console_scripts"].split("\n")):
        name, _, place = (part.strip() for part in line.partition("="))
        programs[name] = _entry(sys.executable, place)
    if training := training_python():
        programs["edge-train"] = _entry(training, "edge_train.cli:main")
        programs["train-python"] = f'{training} "$@"'
    for name, line in programs.items():
        (folder / name).write_text(f"#!/bin/sh\nexec {line}\n", encoding="utf-8")
        (folder / name).chmod(0o755)


def _entry(python: str, place: str) -> str:
    module, _, function = place.partition(":")
    return f"{python} -c 'import sys; from {module} import {function}; sys.exit({function}())' \"$@\""


def environment(checkout: Path, programs: Path, home: Path | None = None) -> dict[str, str]:
    """For commands: the checkout's code first, and nothing of this shell that could make them go another way."""
    kept: tuple[str, ...] = (
        "PATH",
        "HOME",
        "LANG",
        "LC_ALL",
        "TERM",
        "TMPDIR",
        "TZ",
        "OMP_NUM_THREADS",
        "EDGE_AGENT_SHARED",
    )
    kept = (*kept, "PIP_INDEX_URL", "PIP_CONFIG_FILE", "SSL_CERT_FILE")
    made = {name: os.environ[name] for name in kept if name in os.environ}
    if home is not None:
        made["HOME"] = str(home)
    made["PATH"] = f"{programs}:{made.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin"
    made["PYTHONPATH"] = f"{checkout}:{checkout / 'training'}"
    made["PYTHONDONTWRITEBYTECODE"] = "1"
    made["TF_CPP_MIN_LOG_LEVEL"] = "3"
    return made
