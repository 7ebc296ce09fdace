"""The artifact: manifest, digests and golden vectors around a TFLite file, verified by the daemon's own loader."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from edge_agent.inference.artifact import input_size, load, open_engine, verify
from edge_agent.inference.engine import CpuEngine
from edge_agent.inference.manifest import SCHEMA, Manifest
from edge_agent.section import first_in_words
from edge_train.arrays import Floats
from edge_train.errors import DataError
from edge_train.files import whole_folder
from edge_train.packing import sign
from edge_train.reference import Reference

TOLERANCE_LSB = 8
"""XNNPACK and the ARM kernels differ from the reference kernels by 1 LSB of a logit; where two classes are equally likely
softmax makes several of its own LSB (1/256) of that. Files that are computed wrongly are off by 9 to 134."""
CARD = "MODEL_CARD.md"


def _match(reference: Reference, manifest: Manifest, golden: Mapping[str, Floats]) -> None:
    """Refuse a manifest that would feed the file's tensors with each other's numbers: the daemon goes by their order alone."""
    names = [part.name for part in manifest.inputs]
    sizes = [input_size(part) for part in manifest.inputs]
    if len(names) != len(reference.names):
        raise DataError(f"the file has {len(reference.names)} inputs, the manifest {len(names)}")
    if set(names) == set(reference.names) and names != reference.names:
        raise DataError(
            f"the daemon takes a file's inputs in order of name ({', '.join(reference.names)}), the manifest lists"
            f" {', '.join(names)}: list them in that order"
        )
    if sizes != reference.sizes:
        raise DataError(
            f"the file's inputs in order of name ({', '.join(reference.names)}) take {reference.sizes} numbers, the manifest's"
            f" ({', '.join(names)}) give {sizes}"
        )
    if len(manifest.labels) != reference.outputs:
        raise DataError(f"the file has {reference.outputs} outputs, the manifest {len(manifest.labels)} labels")
    missing = [name for name in names if name not in golden]
    if missing:
        raise DataError(f"no golden cases for input {', '.join(missing)}")
    for name, size in zip(names, sizes, strict=True):
        if golden[name].ndim != 2 or golden[name].shape[1] != size or not len(golden[name]):
            raise DataError(f"the golden cases of {name} have shape {golden[name].shape}; (cases, {size}) is wanted")


def golden_cases(tflite: bytes, shown: Mapping[str, Floats], many: int = 32) -> dict[str, Floats]:
    """The first cases on which this machine's kernels and the reference ones agree to half the tolerance.

    Where two classes are about equally likely, kernels that are both right may differ by more than the tolerance: such a
    case tells nothing of an engine. Where most cases are like that, the model is refused.
    """
    reference = Reference(tflite)
    engine = CpuEngine(tflite, reference.sizes, reference.outputs)
    if set(reference.names) != set(shown):
        return {name: rows[:many] for name, rows in shown.items()}  # names of another kind: pack says what does not fit
    kept: list[int] = []
    looked = 0
    for looked in range(len(next(iter(shown.values())))):
        case = tuple(np.asarray(shown[name][looked], np.float32) for name in reference.names)
        apart = float(np.abs(engine.invoke(case) - reference.invoke(*case)).max())
        if apart <= TOLERANCE_LSB / 2 * reference.lsb:
            kept.append(looked)
        if len(kept) == many:
            break
    if len(kept) < (looked + 1) / 2:
        raise DataError(
            f"{engine.backend} and the reference kernels differ by more than {TOLERANCE_LSB // 2} LSB on"
            f" {looked + 1 - len(kept)} of {looked + 1} cases: this file cannot be verified on devices"
        )
    return {name: rows[kept] for name, rows in shown.items()}


def whole(about: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A manifest but for ``files`` and ``golden``: what a task says of its model, and around it what stands in each."""
    manifest = {"schema": SCHEMA, "name": name, "version": "0.1.0", **about}
    manifest.setdefault("minimum_agent_version", "0.1.0")
    return manifest


def unpacked(about: Mapping[str, Any], name: str) -> Manifest:
    """How a model is fed that has no files yet."""
    files = dict.fromkeys(("model.tflite", "golden.npz"), "0" * 64)
    return Manifest.model_validate(whole(about, name) | {"golden": {"tolerance": 1.0}, "files": files})


def pack(
    tflite: bytes,
    about: Mapping[str, Any],
    golden: dict[str, Floats],
    folder: Path,
    *,
    card: str | None = None,
    key: Path | None = None,
    extra: Mapping[str, bytes] | None = None,
) -> dict[str, Any]:
    """Write the artifact into ``folder``, which is replaced as a whole once the daemon's own loader has opened the new one.

    ``about`` is what `whole` makes a manifest of; ``golden`` holds an array per input (first axis: cases).
    ``card``: the model card; without one, the card that was there stays. ``key``: an Ed25519 private key that signs the
    manifest. ``extra``: files more, such as ``model_edgetpu.tflite``. The same arguments give the same bytes.
    """
    if about.get("name", folder.name) != folder.name:
        raise DataError(
            f"{folder}: the manifest names the model {about.get('name')!r}; the daemon wants the folder so named"
        )
    if key is not None:
        sign.private_key(key)  # a wrong key is said before anything is made
    reference = Reference(tflite)
    contents: dict[str, bytes] = {"model.tflite": tflite, **(extra or {})}
    digests = {name: hashlib.sha256(content).hexdigest() for name, content in contents.items()}
    manifest = whole(about, folder.name) | {
        "golden": {"file": "golden.npz", "tolerance": TOLERANCE_LSB * reference.lsb},
        "files": {"golden.npz": "0" * 64, **digests},
    }
    try:
        checked = Manifest.model_validate(manifest)
    except ValidationError as error:
        raise DataError(f"{folder}: the manifest is not one: {first_in_words(error, 'manifest')}") from None
    _match(reference, checked, golden)
    cases = {part.name: np.asarray(golden[part.name], np.float32) for part in checked.inputs}
    outputs = np.array([reference.invoke(*case) for case in zip(*cases.values(), strict=True)], np.float32)
    arrays: dict[str, Any] = {**cases, "output": outputs}
    if not all(np.isfinite(values).all() for values in arrays.values()):
        raise DataError(f"{folder}: golden cases or their outputs hold numbers that are none")
    with whole_folder(folder) as made:
        for name, content in contents.items():
            (made / name).write_bytes(content)
        np.savez_compressed(made / "golden.npz", **arrays)
        manifest["files"] = {
            name: hashlib.sha256((made / name).read_bytes()).hexdigest() for name in sorted(manifest["files"])
        }
        raw = (json.dumps(manifest, indent=1) + "\n").encode()
        (made / "manifest.json").write_bytes(raw)
        if key is not None:
            (made / sign.FILE).write_bytes(sign.sign(raw, key))
        if card is not None:
            (made / CARD).write_text(card)
        elif (folder / CARD).is_file():
            (made / CARD).write_bytes((folder / CARD).read_bytes())
        artifact = load(made)
        engine = open_engine(artifact)
        worst = verify(artifact, engine)
    return {
        "bytes": len(tflite),
        "backend": engine.backend,
        "golden_cases": int(outputs.shape[0]),
        "golden_worst_lsb": worst / reference.lsb,
        "tolerance_lsb": TOLERANCE_LSB,
        "digest": artifact.digest,
        "signed": key is not None,
    }
