"""A model on disk: a folder whose manifest, digests, tensors and golden vectors have all been checked before it runs."""

from __future__ import annotations

import errno
import hashlib
import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from pydantic import ValidationError

from edge_agent import __version__, plain_file
from edge_agent.errors import ArtifactError
from edge_agent.inference.binding import Feed
from edge_agent.inference.engine import CpuEngine, Engine
from edge_agent.inference.installed import signature
from edge_agent.inference.manifest import COMPILED_FILE, Manifest, ModelInput
from edge_agent.journey import Samples
from edge_agent.section import first_in_words
from edge_agent.shown import plain

MAX_FILE_BYTES = 64 * 1024 * 1024
MAX_MANIFEST_BYTES = 1024 * 1024
_TOO_BIG = f"over {MAX_FILE_BYTES >> 20} MiB"
# What NumPy and zipfile raise at a damaged archive; TypeError and AttributeError: a single array instead of several.
_UNREADABLE = (
    *(OSError, ValueError, KeyError, EOFError, TypeError, AttributeError, MemoryError, NotImplementedError),
    *(zipfile.BadZipFile, zlib.error),
)


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest and the verified bytes it speaks for."""

    folder: Path
    manifest: Manifest
    digest: str
    """SHA-256 of manifest.json: it names every other file's digest, so it stands for the whole."""
    tflite: bytes
    golden_inputs: tuple[Samples, ...]
    """One array per input, first axis = cases."""
    golden_outputs: Samples
    edgetpu: bytes | None = None
    """The same model compiled for the Edge TPU, where the artifact holds it."""
    signer: str | None = None
    """The trusted key that its signature was verified with."""

    @property
    def name(self) -> str:
        return self.manifest.name

    @property
    def edgetpu_path(self) -> str:
        return str(self.folder / COMPILED_FILE)


def _read(path: Path, most: int = MAX_FILE_BYTES) -> bytes:
    try:
        return plain_file.read(path, most)
    except OSError as error:
        remedy = "this is no edge model" if error.errno == errno.EFBIG else "install the artifact again"
        raise ArtifactError(f"{path}: {error.strerror or error}", remedy=remedy) from None


def version_key(text: str) -> tuple[int, ...]:
    """Versions compare as numbers: 0.10 comes after 0.9."""
    return tuple(int(part) for part in text.split("."))


def _no_constant(text: str) -> NoReturn:
    """Python's reader takes NaN and Infinity, which are no JSON; a threshold that is none would silence its class."""
    raise ValueError(f"{text} is no number")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Python's reader takes the last of two that are named alike; the signature is over both."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice")
    return found


def _unfit(content: Any, place: str = "") -> Iterator[str]:
    """Where there is text that would do something to a terminal, or look like other text. Labels travel with every verdict."""
    if isinstance(content, str):
        if not content.isprintable() and not (
            place.startswith("training.") and content.replace("\n", "").isprintable()
        ):
            yield place
    elif isinstance(content, list):
        for number, part in enumerate(content):
            yield from _unfit(part, f"{place}.{number}")
    elif isinstance(content, dict):
        for key, part in content.items():
            if not key.isprintable():
                yield f"{place}.{key[:50]}".removeprefix(".")
            yield from _unfit(part, f"{place}.{key}" if place else key)


def parse_manifest(raw: bytes, where: str) -> Manifest:
    """The manifest in these bytes, fit for this agent. ``where``: for the message."""
    try:
        # In UTF-8 and nothing else: what one reader takes for two keys or another text, no other should.
        content = json.loads(raw.decode("utf-8"), parse_constant=_no_constant, object_pairs_hook=_once)
        unfit = next(_unfit(content), None)
        if unfit is not None:
            raise ArtifactError(f"{where}: {plain(unfit)}: holds characters that cannot be shown")
        manifest = Manifest.model_validate(content)
    except ArtifactError:
        raise
    except ValidationError as error:
        raise ArtifactError(plain(f"{where}: {first_in_words(error, 'manifest')}")) from None
    except (ValueError, RecursionError) as error:  # ValueError: JSON or UTF-8 that is none, a number of 5000 digits
        raise ArtifactError(plain(f"{where}: not JSON ({str(error)[:200]})")) from None
    if version_key(manifest.minimum_agent_version) > version_key(__version__):
        raise ArtifactError(
            f"{where}: needs edge-agent {manifest.minimum_agent_version}, this is {__version__}",
            remedy="upgrade edge-agent",
        )
    return manifest


def load(folder: Path, policy: signature.Policy = signature.ANY) -> Artifact:
    """Read an artifact and verify everything that can be verified without running it.

    The signature comes before the manifest is parsed, and digests before anything else is: a TFLite file with ten flipped
    bytes loads and runs.
    """
    if not folder.is_dir():
        raise ArtifactError(
            f"{folder}: no such model folder", remedy="see the models that are there: ls " + str(folder.parent)
        )
    raw = _read(folder / "manifest.json", MAX_MANIFEST_BYTES)
    signer = signature.check(raw, _signature(folder, policy), policy, str(folder))
    manifest = parse_manifest(raw, str(folder / "manifest.json"))
    unlisted = sorted(path.name for path in folder.glob("*.tflite") if path.name not in manifest.files)
    if unlisted:
        raise ArtifactError(
            f"{folder / unlisted[0]}: the manifest does not list it: nobody vouches for what is in it",
            remedy="remove it, or pack the artifact again",
        )
    contents: dict[str, bytes] = {}
    for name, digest in manifest.files.items():
        data = _read(folder / name)
        found = hashlib.sha256(data).hexdigest()
        if found != digest:
            raise ArtifactError(
                f"{folder / name}: SHA-256 is {found[:12]}..., the manifest says {digest[:12]}...",
                remedy="the file was damaged or changed: install the artifact again",
            )
        contents[name] = data
    inputs, outputs = _golden(folder / manifest.golden.file, contents[manifest.golden.file], manifest)
    return Artifact(
        folder=folder,
        manifest=manifest,
        digest=hashlib.sha256(raw).hexdigest(),
        tflite=contents["model.tflite"],
        golden_inputs=inputs,
        golden_outputs=outputs,
        edgetpu=contents.get(COMPILED_FILE),
        signer=signer,
    )


def _signature(folder: Path, policy: signature.Policy) -> bytes | None:
    """Not read where nobody asks for it."""
    path = folder / signature.FILE
    return _read(path) if (policy.keys or policy.required) and path.exists() else None


def input_size(part: ModelInput) -> int:
    """Numbers that one input holds."""
    return part.size


def feeds_of(manifest: Manifest) -> list[Feed]:
    """The inputs, as an engine binds them to the file's tensors."""
    return [Feed(part.name, part.size, part.tensor) for part in manifest.inputs]


def _golden(path: Path, data: bytes, manifest: Manifest) -> tuple[tuple[Samples, ...], Samples]:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            if sum(part.file_size for part in archive.zip.infolist()) > MAX_FILE_BYTES:
                raise ArtifactError(f"{path}: unpacked it is {_TOO_BIG}", remedy="this is no edge model")
            with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, and is refused below
                arrays = {name: _plain_numbers(path, name, archive[name]) for name in archive.files}
    except ArtifactError:
        raise
    except _UNREADABLE as error:
        # NumPy's own advice at junk is to allow pickles, which would run what is in them.
        why = "it holds Python objects, or is something else" if "pickle" in str(error) else plain(error)
        raise ArtifactError(f"{path}: not a readable .npz of plain numbers ({why})") from None
    wanted = [part.name for part in manifest.inputs] + ["output"]
    missing = [name for name in wanted if name not in arrays]
    if missing:
        raise ArtifactError(f"{path}: holds no array {', '.join(missing)}")
    cases = len(arrays["output"]) if arrays["output"].ndim else 0
    if cases < 1:
        raise ArtifactError(f"{path}: holds no case")
    for part in manifest.inputs:
        if arrays[part.name].shape != (cases, input_size(part)):
            raise ArtifactError(
                f"{path}: {part.name} has shape {arrays[part.name].shape}, the manifest says ({cases}, {input_size(part)})"
            )
    if arrays["output"].shape != (cases, manifest.output_size):
        raise ArtifactError(
            f"{path}: output has shape {arrays['output'].shape}, labels are {len(manifest.labels)}:"
            f" ({cases}, {manifest.output_size}) is wanted"
        )
    unreal = next((name for name, array in arrays.items() if not np.isfinite(array).all()), None)
    if unreal is not None:
        raise ArtifactError(
            f"{path}: {plain(unreal)} holds values that are not finite",
            remedy=NO_NUMBERS if unreal == "output" else "golden vectors are numbers that the model can be asked about",
        )
    most = most_tolerance(arrays["output"], index=manifest.output.holds == "index")
    if manifest.golden.tolerance > most:
        raise ArtifactError(
            f"{path.parent / 'manifest.json'}: golden.tolerance {manifest.golden.tolerance:.4g} would take wrong answers for right"
            f" ones; {most:.4g} is the most for these outputs",
            remedy="a few steps of an int8 output are usual (8/256 of a score)",
        )
    return tuple(arrays[part.name] for part in manifest.inputs), arrays["output"]


NO_NUMBERS = "the model itself answers so: its weights are no numbers, or it divides by zero; train or convert it again"


def _plain_numbers(path: Path, name: str, array: Samples) -> Samples:
    if not isinstance(array, np.ndarray):  # a member of another kind
        raise ArtifactError(f"{path}: {plain(name)} is no array")
    if array.dtype.kind not in "fiu":
        raise ArtifactError(f"{path}: {plain(name)} holds {array.dtype.name}; plain numbers are wanted")
    return np.asarray(array, np.float32)


LOOSEST = 0.25
"""Of a score between 0 and 1."""


def most_tolerance(outputs: Samples, *, index: bool) -> float:
    """What golden outputs may differ by and still prove something: half a label's number, a quarter of a score, or a quarter of what
    outputs that are no scores (logits) span."""
    return 0.5 if index else max(LOOSEST, float(np.ptp(outputs)) / 4)


def open_engine(artifact: Artifact) -> Engine:
    """A CPU engine that has reproduced the golden vectors; anything less is refused."""
    manifest = artifact.manifest
    engine = CpuEngine(
        artifact.tflite,
        feeds_of(manifest),
        manifest.output_size,
        where=str(artifact.folder / "model.tflite"),
        demanded=manifest.quantisation,
        index=manifest.output.holds == "index",
    )
    worst = verify(artifact, engine)
    if not math.isfinite(worst):
        raise ArtifactError(
            f"{artifact.folder / 'model.tflite'}: its outputs are no numbers (NaN or infinite) on golden inputs",
            remedy=NO_NUMBERS,
        )
    if not worst <= manifest.golden.tolerance:
        raise ArtifactError(
            f"{artifact.folder}: golden outputs differ by {worst:.4g}, tolerance {manifest.golden.tolerance:.4g}",
            remedy=f"{engine.backend} computes this model wrongly on this machine, or the artifact was packed wrongly",
        )
    return engine


def verify(artifact: Artifact, engine: Engine) -> float:
    """Largest difference between the engine's outputs and the golden ones."""
    worst = 0.0
    for case in range(artifact.golden_outputs.shape[0]):
        output = engine.invoke(tuple(array[case] for array in artifact.golden_inputs))
        difference = float(np.max(np.abs(output - artifact.golden_outputs[case])))
        worst = max(worst, difference) if math.isfinite(difference) else math.inf
    return worst
