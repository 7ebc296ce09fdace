"""``edge-train explain``: which samples a verdict came from, as numbers that a page can draw and as a picture."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.inference.manifest import FeatureInput, Manifest, RrInput, SignalInput
from edge_train.arrays import Floats
from edge_train.data.cutting import Cut, Signal, anchor_of, at_beats, detect, grid, read_signal, saturated, sliding
from edge_train.errors import DataError
from edge_train.explain import Attribution, by_gradients, by_occlusion
from edge_train.files import whole_file, write_json
from edge_train.opened import Opened, open_artifact, open_either
from edge_train.places import add_places, places

NEAR_S = {"sample": 0.150, "seconds": 0.600}
"""A beat of the detector so near is the one that is meant; seconds are what somebody read off a picture."""
SCHEMA = "edge-train/attribution/1"


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "explain",
        help="which samples a verdict came from",
        description="Grad-CAM and integrated gradients of one beat or segment, from the artifact's float model; by occlusion where"
        " only its int8 file is at hand. The window is cut by the daemon's own code, beats are found by its own detector.",
    )
    parser.add_argument(
        "artifact", type=Path, metavar="ARTIFACT", help="an artifact's folder, or a run's folder beside --artifact's"
    )
    parser.add_argument("--record", type=Path, required=True, metavar="RECORD", help="WFDB record, CSV or EDF")
    parser.add_argument(
        "--at", required=True, metavar="SAMPLE", help="sample of the stream, or seconds with an s: 12345 or 34.3s"
    )
    parser.add_argument("--channel", metavar="NAME", help="which channel (default: the first of the model's kind)")
    parser.add_argument("--label", metavar="CLASS", help="explain this class, not the one that was said")
    parser.add_argument("--weights", type=Path, metavar="PATH", help="the float model: a .keras, or its run's folder")
    parser.add_argument(
        "--occlusion", action="store_true", help="by occlusion of the int8 file, though the float model is at hand"
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="without ending: .json and .png (default: RECORD-SAMPLE here)"
    )
    add_places(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    opened = _opened(arguments)
    manifest = opened.manifest
    assert manifest is not None
    if manifest.anchor.kind == "alarm":
        raise DataError(
            f"{manifest.name}: is asked about alarms, by numbers of evidence: it has no beat and no window to explain at --at"
        )
    signal = read_signal(arguments.record, manifest.signal, arguments.channel, remedy="; say which with --channel")
    near_s = NEAR_S["seconds" if arguments.at.endswith("s") else "sample"]
    cut = _cut(signal, manifest, _sample(arguments.at, signal), near_s)
    inputs = {name: rows[0] for name, rows in cut.inputs.items()}
    found = attribute(opened, inputs, arguments.label, arguments.occlusion)
    said = numbers(signal, manifest, int(cut.sample[0]), inputs, found)
    out = arguments.out or Path(f"{signal.record}-{cut.sample[0]}")
    write_json(out.with_name(out.name + ".json"), said)
    picture(out.with_name(out.name + ".png"), said)
    print(
        f"{signal.record} {signal.channel}, sample {cut.sample[0]}: {found.label}, score {found.score:.3f}, by {found.method}"
    )
    for name, agreement in found.agreement.items():
        text = "one of them is flat" if agreement is None else f"rank correlation {agreement:.2f}"
        print(f"  {name}: Grad-CAM against integrated gradients: {text}")
    if found.completeness is not None:
        print(f"  integrated gradients add up to the logit's change but for {100 * found.completeness:.2f} %")
    print(f"  {out}.json, {out}.png")


def _opened(arguments: argparse.Namespace) -> Opened:
    """An artifact; or a run's folder, which ``edge-train pack`` gave an artifact of its own."""
    path: Path = arguments.artifact
    if (path / "manifest.json").is_file():
        return open_artifact(path, arguments.weights)
    run_ = open_either(path)
    packed = sorted(path.glob("*/manifest.json"))
    if len(packed) == 1:
        return open_artifact(packed[0].parent, path)
    if run_.task is None:
        raise DataError(f"{path}: not packed yet, so how it is fed is not known; run: edge-train pack")
    from edge_train.data import windows
    from edge_train.packing.pack import unpacked

    where = places(arguments)
    split = windows.load(where.data(run_.task.name))
    about = run_.task.about(path.parent.name, split.facts, int(run_.facts["seed"]), run_.facts["thresholds"])
    return Opened(
        path, path.name, run_.model, run_.labels, unpacked(about, path.parent.name), None, run_.task, run_.facts
    )


def _sample(text: str, signal: Signal) -> int:
    try:
        at = round(float(text.removesuffix("s")) * signal.fs) if text.endswith("s") else int(text)
    except ValueError:
        raise DataError(f"--at {text}: a sample's number, or seconds with an s (34.3s)") from None
    if not 0 <= at < signal.values.size:
        raise DataError(f"--at {text}: the record has samples 0 to {signal.values.size - 1}")
    return at


def _cut(signal: Signal, manifest: Manifest, at: int, near_s: float) -> Cut:
    """The window that the daemon would have cut for what is at ``at``."""
    if manifest.anchor.kind == "slide":
        every = sliding(signal, manifest)
        part = next(part for part in manifest.inputs if isinstance(part, SignalInput))
        length = part.samples * signal.fs / part.rate_hz
        # Of the windows that hold it, the one whose middle is nearest.
        distance = np.abs(every.sample - length / 2 - at)
        chosen = int(distance.argmin()) if len(every) else -1
        if chosen < 0 or distance[chosen] > length / 2:
            raise DataError(
                f"sample {at}: no window of {manifest.name} holds it (too near the record's ends, or samples missing)"
            )
        return _only(every, chosen)
    beats = detect(signal)
    near = int(np.abs(beats - at).argmin()) if beats.size else -1
    if near < 0 or abs(int(beats[near]) - at) > near_s * signal.fs:
        raise DataError(f"sample {at}: the detector sees no beat within {1000 * near_s:.0f} ms of it")
    # An rr window is asked for at every stride-th beat alone: the first from here on.
    stride = manifest.anchor.stride if manifest.anchor.kind == "rr" else 1
    cut = at_beats(signal, beats[: near + stride], manifest, beats[near : near + stride])
    if not len(cut):
        where = f"sample {beats[near]}"
        raise DataError(f"{where}: {manifest.name} is not asked there (too near the record's ends, or samples missing)")
    return _only(cut, 0)


def _only(cut: Cut, row: int) -> Cut:
    return Cut(cut.sample[row : row + 1], {name: x[row : row + 1] for name, x in cut.inputs.items()}, cut.silent)


def attribute(opened: Opened, inputs: dict[str, Floats], label: str | None, occlusion: bool) -> Attribution:
    manifest = opened.manifest
    assert manifest is not None
    if opened.model is not None and not occlusion:
        if opened.tflite is not None:
            inputs = saturated(inputs, manifest, opened.tflite)
        return by_gradients(opened.model, inputs, opened.labels, label)
    if opened.tflite is None:
        raise DataError(f"{opened.where}: neither a float model nor an int8 file is at hand")
    from edge_train.packing.gate import as_said
    from edge_train.reference import Reference

    reference = Reference(opened.tflite)

    def ask(rows: dict[str, Floats]) -> Floats:
        one = reference.invoke(*(rows[part.name][0] for part in manifest.inputs))
        return as_said(one[None], manifest.output.scores)

    signals = [part.name for part in manifest.inputs if isinstance(part, SignalInput)]
    return by_occlusion(ask, inputs, opened.labels, signals, label)


def numbers(
    signal: Signal, manifest: Manifest, sample: int, inputs: dict[str, Floats], found: Attribution
) -> dict[str, Any]:
    """What a page draws. ``samples`` are places in the stream: not whole numbers where the model's rate is not the stream's."""
    anchor = anchor_of(manifest, sample)
    parts = []
    for part in manifest.inputs:
        entry: dict[str, Any] = {"name": part.name, "kind": part.kind}
        if isinstance(part, SignalInput):
            entry["samples"] = [round(at, 3) for at in grid(part, anchor, signal.fs).tolist()]
        elif isinstance(part, FeatureInput):
            entry["features"] = list(part.features)
        elif isinstance(part, RrInput):
            entry["intervals"] = part.intervals
        entry["values"] = _rounded(inputs[part.name])
        for key in ("grad_cam", "integrated_gradients", "occlusion"):
            values = getattr(found, key).get(part.name)
            if values is not None:
                entry[key] = _rounded(values)
        if part.name in found.agreement:
            entry["agreement"] = found.agreement[part.name]
        parts.append(entry)
    return {
        "schema": SCHEMA,
        "record": signal.record,
        "channel": signal.channel,
        "fs": signal.fs,
        "sample": sample,
        "model": manifest.name,
        "version": manifest.version,
        "label": found.label,
        "score": found.score,
        "method": found.method,
        "completeness": found.completeness,
        "inputs": parts,
    }


def _rounded(values: Floats) -> list[float]:
    return [round(value, 5) for value in np.asarray(values, np.float64).tolist()]


def picture(path: Path, said: dict[str, Any]) -> None:
    """A panel per input: the window coloured by what spoke for the class (red) and against it (blue), Grad-CAM behind it."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    parts = said["inputs"]
    figure, axes = plt.subplots(len(parts), 1, figsize=(9, 2.6 * len(parts)), squeeze=False, layout="constrained")
    for axis, part in zip(axes[:, 0], parts, strict=True):
        values = np.array(part["values"])
        signed = np.array(part.get("integrated_gradients") or part.get("occlusion"))
        top = float(np.abs(signed).max()) or 1.0
        if part["kind"] == "signal":
            at = np.array(part["samples"]) / said["fs"]
            if "grad_cam" in part:
                room = 0.06 * float(np.ptp(values)) or 1.0
                low, high = float(values.min()) - room, float(values.max()) + room
                axis.imshow(
                    np.array(part["grad_cam"])[None], aspect="auto", cmap="Oranges", vmin=0, vmax=1.6, alpha=0.7,
                    extent=(at[0], at[-1], low, high),
                )  # fmt: skip
            axis.plot(at, values, color="0.35", linewidth=0.8)
            axis.scatter(at, values, c=signed, cmap="coolwarm", vmin=-top, vmax=top, s=9, zorder=3)
            axis.set_xlabel("s")
        else:
            names = part.get("features") or [str(i - values.size) for i in range(values.size)]
            colours = np.where(signed > 0, "#b40426", "#3b4cc0")
            axis.bar(np.arange(values.size), signed, color=colours.tolist())
            axis.set_xticks(np.arange(values.size), names, rotation=60, ha="right", fontsize=6)
        axis.set_ylabel(part["name"])
    figure.suptitle(
        f"{said['record']} {said['channel']}, sample {said['sample']}: {said['label']} ({said['score']:.2f}), {said['model']}"
        f" {said['version']}, by {said['method']}", fontsize=10,
    )  # fmt: skip
    with whole_file(path) as aside:
        figure.savefig(aside, dpi=110, metadata={"Software": None})
    plt.close(figure)
