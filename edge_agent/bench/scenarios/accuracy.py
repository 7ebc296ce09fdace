"""``accuracy``: the model over a data set on this device, and its golden vectors: right as well as fast.

The labels follow the manifest's own rules (thresholds, abstentions), as in the daemon. Without a data set the golden vectors
alone are compared.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.bench.distribution import Series
from edge_agent.bench.method import SEGMENTS, Method, Session
from edge_agent.bench.report import AccuracyFigures, ClassFigures, GoldenFigures, Result
from edge_agent.bench.scenarios.common import Run
from edge_agent.bench.scenarios.single import CALL
from edge_agent.bench.variants import Variant
from edge_agent.bench.windows import DataSet, Inputs, golden, read_data
from edge_agent.hardware import Hardware
from edge_agent.inference.artifact import Artifact
from edge_agent.inference.labels import label_of
from edge_agent.journey import Samples


def accuracy(
    variant: Variant, data: Path | None, method: Method, session: Session, board: Hardware, *, most: int | None = None
) -> Result:
    """``most``: of the data set's windows, evenly picked."""
    artifact = variant.artifact
    checked = golden_figures(variant)
    run = Run("accuracy", method, session, board)
    series = Series()
    figures = None
    began = time.monotonic()
    if data is not None:
        found = _thinned(read_data(data, artifact), most)
        labels = _ask(variant, found.inputs, series, session, began)
        figures = class_figures(artifact, found.label[: len(labels)], labels, data)
    else:
        _ask(variant, golden(artifact), series, session, began)
    faults = [*variant.faults, *run.faults()]
    # Load and clock spoil times, not labels.
    faults = [one for one in faults if one == "interrupted"] + list(variant.faults)
    if not checked.passed:
        faults.append(f"golden outputs differ by {checked.worst:.3g}, tolerance {checked.tolerance:.3g}")
    return run.result(
        name="golden vectors" if figures is None else Path(figures.data).name,
        backend=variant.backend,
        measured=f"{CALL}; by the way: it is the labels that are valid",
        series=series,
        seconds=time.monotonic() - began,
        least=1,
        faults=faults,
        accuracy=figures,
        golden=checked,
    )


def _thinned(data: DataSet, most: int | None) -> DataSet:
    if most is None or len(data.inputs) <= most:
        return data
    picked = np.linspace(0, len(data.inputs) - 1, most).round().astype(int)
    return DataSet(data.path, [data.inputs[i] for i in picked], data.label[picked])


def _ask(variant: Variant, inputs: list[Inputs], series: Series, session: Session, began: float) -> list[int]:
    """The label's index for each window, -1 for an abstention; those that were asked before an interruption."""
    manifest = variant.artifact.manifest
    index = {label: i for i, label in enumerate(manifest.labels)}
    invoke, clock = variant.engine.invoke, time.perf_counter_ns
    progress = session.progress(f"{manifest.name} accuracy")
    labels: list[int] = []
    segment = max(1, len(inputs) // SEGMENTS)
    for number, one in enumerate(inputs, 1):
        if session.interrupted:
            break
        start = clock()
        output = invoke(one)
        series.add((clock() - start,))
        label = label_of(output, manifest)[0]
        labels.append(-1 if label is None else index[label])
        if number % segment == 0:
            series.cut(time.monotonic() - began)
            progress.step(number / len(inputs), f"{number} windows")
    series.cut(time.monotonic() - began)
    progress.close()
    return labels


def golden_figures(variant: Variant) -> GoldenFigures:
    artifact, manifest = variant.artifact, variant.artifact.manifest
    outputs: list[Samples] = [variant.engine.invoke(one) for one in golden(artifact)]
    worst = max(
        float(np.abs(ours - theirs).max()) for ours, theirs in zip(outputs, artifact.golden_outputs, strict=True)
    )
    same = sum(
        label_of(ours, manifest)[0] == label_of(theirs, manifest)[0]
        for ours, theirs in zip(outputs, artifact.golden_outputs, strict=True)
    )
    tolerance = manifest.golden.tolerance
    return GoldenFigures(
        cases=len(outputs), worst=worst, tolerance=tolerance, same_label=same, passed=worst <= tolerance
    )


def class_figures(artifact: Artifact, truth: NDArray[np.int64], labels: list[int], data: Path) -> AccuracyFigures:
    names = artifact.manifest.labels
    many = len(names)
    confusion = np.zeros((many, many + 1), int)
    for true, label in zip(truth.tolist(), labels, strict=True):
        confusion[true, label] += 1  # -1 is the last column
    square = confusion[:, :many]
    right = np.diag(square)
    classes = []
    for i, name in enumerate(names):
        count, said = int(confusion[i].sum()), int(square[:, i].sum())
        classes.append(
            ClassFigures(
                label=name,
                count=count,
                sensitivity=right[i] / count if count else None,
                precision=right[i] / said if said else None,
                f1=2 * right[i] / (count + said) if count else None,
            )
        )
    judged = int(square.sum())
    scores = [one.f1 for one in classes if one.f1 is not None]
    agreed = right.sum() / judged if judged else None
    chance = float((square.sum(0) * square.sum(1)).sum()) / judged**2 if judged else 0.0
    return AccuracyFigures(
        data=str(data.name if data.parent == Path() else Path(data.parent.name) / data.name),
        data_sha256=hashlib.sha256(data.read_bytes()).hexdigest(),
        windows=len(labels),
        abstained=len(labels) - judged,
        accuracy=agreed,
        macro_f1=sum(scores) / len(scores) if scores else None,
        kappa=(agreed - chance) / (1 - chance) if agreed is not None and chance < 1 else None,
        classes=classes,
        confusion=_rows(confusion),
    )


def _rows(table: Any) -> list[list[int]]:
    return [[int(cell) for cell in row] for row in table]
