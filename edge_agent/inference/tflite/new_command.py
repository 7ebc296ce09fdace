"""``edge-agent models new``: a model folder around a TFLite file made elsewhere, ready to be corrected by hand.

The manifest is drafted from the file's own tensors. The golden vectors are what the file computes here on random inputs: they
prove to every other machine that it computes the same, and nothing about whether the model is any good.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edge_agent import plain_file
from edge_agent.errors import ArtifactError, EdgeAgentError, OutputError

if TYPE_CHECKING:
    from edge_agent.inference.tflite.file import Tensor, Tflite

CASES = 32
LSB = 8
"""Tolerance in steps of an integer output: kernels of different machines differ by a few."""
FLOAT_TOLERANCE = 0.01
NOT_STATED = "not stated"


def add_new(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "new",
        help="Make a model folder around a TFLite file.",
        description="Drafts the manifest from the file's tensors and makes golden vectors by running it. What it cannot know (what the\n"
        "numbers mean) is guessed or given here, and corrected in manifest.json.",
        epilog="example:\n  edge-agent models new net.tflite my-model --labels narrow,wide --anchor beat --rate 125 --normalisation zscore",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("file", type=Path, metavar="FILE.tflite")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made; its last part is the model's name")
    parser.add_argument("--labels", required=True, metavar="A,B,...", help="what the outputs mean, in their order")
    parser.add_argument(
        "--anchor",
        default="beat",
        metavar="beat|slide:SECONDS|rr:STRIDE",
        help="when there is a window (default: beat)",
    )
    parser.add_argument("--signal", default="ecg", choices=("ecg", "abp", "pleth"))
    parser.add_argument("--rate", type=float, metavar="HZ", help="of a signal's window; wanted where an input is one")
    parser.add_argument(
        "--before", type=int, metavar="N", help="samples before the anchor (default: half at beats, else all)"
    )
    parser.add_argument("--normalisation", default="zscore", help="of a signal's window (default: zscore)")
    parser.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="TENSOR=signal|rr|features:NAME+NAME",
        help="what an input is, where it is no signal; may be given several times",
    )
    parser.add_argument(
        "--scores", default="none", choices=("none", "softmax", "sigmoid"), help="applied to the outputs"
    )
    parser.add_argument("--task", default="other", choices=("ecg-beat", "ecg-rhythm", "abp-segment", "other"))
    parser.add_argument("--version", default="0.1.0", metavar="X.Y.Z")
    parser.add_argument("--seed", type=int, default=0, help="of the golden inputs")
    parser.set_defaults(run=run_new)


def run_new(arguments: argparse.Namespace) -> int:
    from edge_agent.inference.artifact import MAX_FILE_BYTES, load, open_engine
    from edge_agent.inference.tflite.vet import vetted

    file, folder = arguments.file, arguments.folder
    if folder.exists():
        raise OutputError(f"{folder}: is there already", remedy="name a folder that is not")
    try:
        content = plain_file.read(file, MAX_FILE_BYTES)
    except OSError as error:
        raise ArtifactError(f"{file}: {error.strerror or error}") from None
    found = vetted(content, str(file))
    about = draft(found, arguments, str(file))
    golden, tolerance = golden_of(content, found, about, arguments.seed, str(file))
    about["golden"] = {"file": "golden.npz", "tolerance": tolerance}
    about["files"] = {"model.tflite": _sha256(content), "golden.npz": _sha256(golden)}
    manifest = json.dumps(about, indent=1).encode() + b"\n"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=".new-", dir=folder.parent)) / folder.name
    except OSError as error:
        raise OutputError(f"{folder}: cannot be made ({error.strerror or error})") from None
    name = ""
    try:
        aside.mkdir()
        for name, data in (("model.tflite", content), ("golden.npz", golden), ("manifest.json", manifest)):
            (aside / name).write_bytes(data)
        name = ""
        try:
            open_engine(load(aside))  # what it makes, the agent takes
        except ArtifactError as error:
            raise ArtifactError(error.what.replace(str(aside), str(folder)), remedy=error.remedy) from None
        aside.rename(folder)
    except OSError as error:
        if isinstance(error, EdgeAgentError):
            raise
        raise OutputError(
            f"{folder / name}: cannot be written ({error.strerror or error})", remedy="nothing of it was left behind"
        ) from None
    finally:
        shutil.rmtree(aside.parent, ignore_errors=True)
    print(
        f"{folder}: {len(about['inputs'])} input(s), {len(about['labels'])} labels, {CASES} golden cases, tolerance {tolerance:.4g}"
    )
    print(f"correct {folder / 'manifest.json'} where it guessed, then: edge-agent models verify {folder}")
    return 0


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


# --- the manifest ------------------------------------------------------------------------------------------------------------


def draft(found: Tflite, arguments: argparse.Namespace, where: str) -> dict[str, Any]:
    """All of the manifest but ``golden`` and ``files``."""
    from edge_agent import __version__

    graph = found.main
    names = {index: name for name, index in found.signature.items()}
    kinds = dict(_kind(one) for one in arguments.input)
    known = {
        index: names.get(index) or plain_name(graph.tensors[index].name, i) for i, index in enumerate(graph.inputs)
    }
    unknown = sorted(set(kinds) - set(known.values()))
    if unknown:
        raise ArtifactError(f"{where}: has no input {unknown[0]!r}", remedy=f"there are: {', '.join(known.values())}")
    anchor = _anchor(arguments.anchor)
    inputs = []
    for place, index in enumerate(graph.inputs):
        tensor, name = graph.tensors[index], known[index]
        part = _input(
            tensor, name, kinds.get(name, "rr" if anchor["kind"] == "rr" else "signal"), anchor, arguments, where
        )
        stated = index in names or tensor.name in (name, f"{name}:0", f"serving_default_{name}:0")
        inputs.append(part if stated else {**part, "tensor": tensor.name or place})
    labels = arguments.labels.split(",")
    output = graph.tensors[graph.outputs[0]]
    holds = (
        "index"
        if output.type in ("int32", "int64")
        else "score"
        if output.numbers == 1 and len(labels) == 2
        else "scores"
    )
    types = {graph.tensors[i].type for i in (*graph.inputs, *graph.outputs)}
    return {
        "schema": "edge-agent/model/1",
        "name": arguments.folder.name,
        "version": arguments.version,
        "task": arguments.task,
        "labels": labels,
        **({"quantisation": types.pop()} if len(types) == 1 and _throughout(found) else {}),
        "anchor": anchor,
        "inputs": inputs,
        "output": {"holds": holds, "scores": arguments.scores, "thresholds": {}, "abstain_below": 0.0},
        "training": {"data": [NOT_STATED], "licence": NOT_STATED, "protocol": NOT_STATED},
        "minimum_agent_version": __version__,
    }


def plain_name(tensor: str, place: int) -> str:
    """What an exporter made ``serving_default_NAME:0`` of."""
    return tensor.removeprefix("serving_default_").split(":")[0] or f"input{place}"


def _throughout(found: Tflite) -> bool:
    """One type from the inputs to the output."""
    types = {t.type for t in found.main.tensors if t.data is None and not t.variable and t.numbers}
    return len(types - {"int32"}) == 1 and types <= {"int8", "uint8", "float32", "int32"}


def _kind(text: str) -> tuple[str, str]:
    name, equals, kind = text.partition("=")
    if not equals or kind.split(":")[0] not in ("signal", "rr", "features"):
        raise ArtifactError(f"--input {text}: TENSOR=signal, TENSOR=rr or TENSOR=features:NAME+NAME is wanted")
    return name, kind


def _anchor(text: str) -> dict[str, Any]:
    kind, _, number = text.partition(":")
    try:
        match kind:
            case "beat" if not number:
                return {"kind": "beat"}
            case "slide":
                return {"kind": "slide", "stride_s": float(number)}
            case "rr":
                return {"kind": "rr", "stride": int(number or "1")}
    except ValueError:
        pass
    raise ArtifactError(f"--anchor {text}: beat, slide:SECONDS or rr:STRIDE is wanted")


def _input(
    tensor: Tensor, name: str, kind: str, anchor: dict[str, Any], arguments: argparse.Namespace, where: str
) -> dict[str, Any]:
    if kind == "rr":
        return {"kind": "rr", "name": name, "intervals": tensor.numbers, "normalisation": "seconds"}
    if kind.startswith("features"):
        features = kind.partition(":")[2].split("+")
        if len(features) != tensor.numbers:
            raise ArtifactError(
                f"{where}: input {name!r} takes {tensor.numbers} numbers, {len(features)} features are named"
            )
        return {"kind": "features", "name": name, "features": features}
    if arguments.rate is None:
        raise ArtifactError(f"{where}: input {name!r} is a signal: at which rate?", remedy="--rate HZ")
    sizes = [size for size in tensor.shape[1:] if size > 1] or [1]
    several = len(sizes) > 1 and tensor.shape[-1] > 1
    samples = tensor.numbers // tensor.shape[-1] if several else tensor.numbers
    before = arguments.before
    if before is None:
        before = samples // 2 if anchor["kind"] == "beat" else samples
    return {
        "kind": "signal",
        "name": name,
        "signal": arguments.signal,
        "rate_hz": arguments.rate,
        "samples": samples,
        "before": before,
        "normalisation": arguments.normalisation,
        **({"channels": "all", "channel_count": tensor.shape[-1]} if several else {}),
    }


# --- golden vectors -------------------------------------------------------------------------------------------------------------


def golden_of(content: bytes, found: Tflite, about: dict[str, Any], seed: int, where: str) -> tuple[bytes, float]:
    """Random inputs (a normal distribution within the tensor's range) and what the file makes of them here."""
    import numpy as np

    from edge_agent.inference.artifact import NO_NUMBERS, most_tolerance
    from edge_agent.inference.engine import CpuEngine, Feed

    graph = found.main
    rng = np.random.default_rng(seed)
    tensors = [graph.tensors[index] for index in graph.inputs]
    arrays: dict[str, Any] = {}
    for part, tensor in zip(about["inputs"], tensors, strict=True):
        middle, spread = 0.0, 1.0
        if tensor.type != "float32" and tensor.scales.size and tensor.zero_points.size:
            low = {"int8": -128, "uint8": 0}.get(tensor.type, 0) - int(tensor.zero_points[0])
            ends = low * float(tensor.scales[0]), (low + 255) * float(tensor.scales[0])
            middle, spread = (ends[0] + ends[1]) / 2, (ends[1] - ends[0]) / 6
        arrays[part["name"]] = rng.normal(middle, spread, (CASES, tensor.numbers)).astype(np.float32)
    output = graph.tensors[graph.outputs[0]]
    holds = about["output"]["holds"]
    size = len(about["labels"]) if holds == "scores" else 1
    feeds = [
        Feed(part["name"], tensor.numbers, part.get("tensor"))
        for part, tensor in zip(about["inputs"], tensors, strict=True)
    ]
    engine = CpuEngine(content, feeds, size, where=where, index=holds == "index")
    rows = [engine.invoke(tuple(array[case] for array in arrays.values())) for case in range(CASES)]
    unreal = sum(not np.isfinite(row).all() for row in rows)
    if unreal:
        raise ArtifactError(
            f"{where}: its outputs are no numbers (NaN or infinite) for {unreal} of {CASES} random inputs",
            remedy=NO_NUMBERS,
        )
    if np.ptp(np.array(rows), axis=0).max() == 0:
        print(
            f"{where}: gives the same answer to all {CASES} random inputs: these golden vectors prove little; use cases of your own",
            file=sys.stderr,
        )
    stored = io.BytesIO()
    np.savez(stored, **arrays, output=np.array(rows, np.float32))
    if holds == "index":
        return stored.getvalue(), 0.5
    scale = float(output.scales[0]) if output.type in ("int8", "uint8") and output.scales.size else 0.0
    return stored.getvalue(), min(LSB * scale or FLOAT_TOLERANCE, most_tolerance(np.array(rows), index=False))
