"""Files that are either whole or not there, written aside and then renamed; and the digest of those that were read."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from edge_agent.errors import EdgeAgentError
from edge_train.errors import DataError


def _refusal(path: Path, error: OSError) -> DataError:
    return DataError(f"{path}: cannot be written ({error.strerror or error}); nothing half-written is left")


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes ``path`` at the end, and nothing at all if anything is raised."""
    aside = path.with_name(f".{path.name}.{os.getpid()}.part{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield aside
        aside.replace(path)
    except OSError as error:
        if isinstance(error, EdgeAgentError):  # the daemon's own refusal of what was made, with its own words
            raise
        raise _refusal(path, error) from None
    finally:
        with contextlib.suppress(OSError):
            aside.unlink()


def write_text(path: Path, text: str) -> None:
    with whole_file(path) as aside:
        aside.write_text(text)


def write_json(path: Path, content: Any) -> None:
    write_text(path, json.dumps(content, indent=1) + "\n")


@contextlib.contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """A folder to fill; it takes the place of ``folder`` at the end, and until then what was there stays."""
    missing = [each for each in (folder.parent, *folder.parent.parents) if not each.exists()]
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".part", dir=folder.parent))
    except OSError as error:
        raise _refusal(folder, error) from None
    try:
        aside.chmod(0o755)  # mkdtemp's are for one's own eyes
        yield aside
        _swap(aside, folder)
    except OSError as error:
        if isinstance(error, EdgeAgentError):
            raise
        raise _refusal(folder, error) from None
    finally:
        shutil.rmtree(aside, ignore_errors=True)
        with contextlib.suppress(OSError):  # those made here that hold nothing
            for each in missing:
                each.rmdir()


def _swap(new: Path, folder: Path) -> None:
    """A folder cannot be renamed onto one that holds files: the old one steps aside, and back if the new one cannot come."""
    old = new.with_suffix(".old")
    if not folder.exists():
        new.replace(folder)
        return
    folder.replace(old)
    try:
        new.replace(folder)
    except OSError:
        old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def prepared_facts(folder: Path, names: Iterable[str]) -> dict[str, Any]:
    """data.json of prepared data, whose files must be the very ones that its digest is of: what a model says that it was
    fitted on is what it was fitted on."""
    again = f"run: edge-train data prepare {folder.name}"
    path = folder / "data.json"
    try:
        facts = json.loads(path.read_text())
    except FileNotFoundError:
        raise DataError(f"{folder}: no prepared data; {again}") from None
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: is damaged ({error}); {again}") from None
    if not isinstance(facts, dict) or not isinstance(facts.get("digest"), str):
        raise DataError(f"{path}: has no digest of the data, so they cannot be checked; prepare anew, {again}")
    try:
        found = digest_of(folder / name for name in names)
    except OSError as error:
        raise DataError(f"{error.filename}: {error.strerror}; the prepared data are not whole, {again}") from None
    if found != facts["digest"]:
        raise DataError(f"{folder}: prepared data changed since, or are damaged; prepare anew, {again}")
    return facts


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents: the data that a model says it was trained on."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()
