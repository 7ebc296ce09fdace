"""The float model of an artifact: what fine-tuning goes on from and what attribution looks into.

The device needs none of it, so it lies beside the artifact's folder, not in it: ``models/abp-segment.keras`` for
``models/abp-segment/``. The file is Keras's own, with one member more, ``edge-train.json``: the artifact's name, version and
the SHA-256 of the very model.tflite that was made of it. A float model of another version is refused.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from edge_agent.inference.manifest import Manifest
from edge_train.errors import DataError
from edge_train.files import whole_file
from edge_train.runtime import quiet

MEMBER = "edge-train.json"
EPOCH = (1980, 1, 1, 0, 0, 0)
"""The date of every member: the same model gives the same file."""


def path_of(artifact: Path) -> Path:
    return artifact.with_name(f"{artifact.name}.keras")


def keep(model: Any, artifact: Path, facts: dict[str, Any]) -> Path:
    """Store the float model of an artifact that was just packed from it. ``facts``: task, plan, seed, data digest, ..."""
    manifest = json.loads((artifact / "manifest.json").read_text())
    about = {
        "artifact": manifest["name"],
        "version": manifest["version"],
        "tflite_sha256": manifest["files"]["model.tflite"],
        "facts": facts,
    }
    path = path_of(artifact)
    with tempfile.TemporaryDirectory() as scratch, whole_file(path) as aside:
        made = Path(scratch) / "model.keras"
        model.save(made)
        _repack(made, aside, about)
    return path


def _repack(source: Path, target: Path, about: dict[str, Any]) -> None:
    """The same archive without the time of day, and with what it belongs to."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        contents = {name: old.read(name) for name in old.namelist()}
        metadata = json.loads(contents["metadata.json"])
        metadata["date_saved"] = "1980-01-01@00:00:00"
        contents["metadata.json"] = json.dumps(metadata).encode()
        contents[MEMBER] = (json.dumps(about, indent=1, sort_keys=True) + "\n").encode()
        for name in sorted(contents):
            new.writestr(zipfile.ZipInfo(name, EPOCH), contents[name], zipfile.ZIP_DEFLATED)


def about(path: Path) -> dict[str, Any]:
    """What a float model says it belongs to."""
    try:
        with zipfile.ZipFile(path) as archive:
            found: dict[str, Any] = json.loads(archive.read(MEMBER))
    except FileNotFoundError:
        raise DataError(f"{path}: not there; it is written by edge-train pack, beside the artifact") from None
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: not a float model of an artifact ({error})") from None
    return found


def facts_of(path: Path, manifest: Manifest) -> dict[str, Any]:
    """What is known of the float model that this very artifact was made of. The model itself is not opened."""
    said = about(path)
    if said.get("tflite_sha256") != manifest.files["model.tflite"]:
        raise DataError(
            f"{path}: belongs to {said.get('artifact')} {said.get('version')} of another packing, not to this"
            f" {manifest.name} {manifest.version}; pack again, or name the right one with --weights"
        )
    facts: dict[str, Any] = said.get("facts", {})
    return facts


def read(path: Path, manifest: Manifest) -> tuple[Any, dict[str, Any]]:
    """The float model that this very artifact was made of, and its facts."""
    facts = facts_of(path, manifest)
    tf = quiet()
    try:
        model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(f"{path}: Keras cannot load it ({str(error).splitlines()[0][:200]})") from None
    return model, facts


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
