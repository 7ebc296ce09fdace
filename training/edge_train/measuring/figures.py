"""Pictures of a report, as PNG: confusion, ROC, precision-recall, reliability, patients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edge_train.arrays import Floats, Ints
from edge_train.files import whole_file
from edge_train.measuring import metrics

COLOURS = ("#1b6ca8", "#d1495b", "#2e8b57", "#c98a00", "#6b4c9a")


def _axes(width: float = 5.0, height: float = 4.2) -> tuple[Any, Any]:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(width, height), layout="constrained")
    return figure, axes


def _save(figure: Any, path: Path) -> Path:
    from matplotlib import pyplot

    with whole_file(path) as aside:
        figure.savefig(aside, dpi=120, metadata={"Software": None})  # the same report, the same bytes
    pyplot.close(figure)
    return path


def confusion(table: Sequence[Sequence[int]], labels: Sequence[str], title: str, path: Path) -> Path:
    counts = np.array(table)
    columns = [*labels, "none"][: counts.shape[1]]
    if counts.shape[1] > len(labels) and not counts[:, -1].any():
        counts, columns = counts[:, :-1], columns[:-1]
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    figure, axes = _axes(1.6 + 0.9 * len(columns), 1.4 + 0.8 * len(counts))
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), many in np.ndenumerate(counts):
        axes.text(
            column, row, f"{many}\n{100 * share[row, column]:.1f} %", ha="center", va="center", fontsize=8,
            color="white" if share[row, column] > 0.5 else "black",
        )  # fmt: skip
    axes.set_xticks(range(len(columns)), columns)
    axes.set_yticks(range(len(counts)), list(labels)[: len(counts)])
    axes.set(xlabel="said", ylabel="true", title=title)
    return _save(figure, path)


def curves(
    scores: Floats, truth: Ints, labels: Sequence[str], shown: Sequence[str], title: str, stem: Path
) -> list[Path]:
    """ROC and precision-recall of the labels ``shown``, each against the rest."""
    made = []
    for kind in ("roc", "pr"):
        figure, axes = _axes()
        for colour, label in zip(COLOURS, shown, strict=False):
            at = labels.index(label)
            score, true = scores[:, at], truth == at
            if kind == "roc":
                x, y = metrics.roc(score, true)
                area = metrics.roc_area(score, true)
            else:
                x, y = metrics.precision_recall(score, true)
                area = metrics.average_precision(score, true)
            axes.plot(
                x, y, color=colour, label=f"{label} {area:.3f}", drawstyle="steps-post" if kind == "pr" else "default"
            )
        names = {"roc": ("false-alarm rate", "sensitivity"), "pr": ("sensitivity", "precision")}[kind]
        axes.set(xlabel=names[0], ylabel=names[1], title=title, xlim=(0, 1), ylim=(0, 1.01))
        axes.grid(alpha=0.3)
        axes.legend(loc="lower right" if kind == "roc" else "lower left", title="area")
        made.append(_save(figure, stem.with_name(f"{stem.name}-{kind}.png")))
    return made


def reliability(found: Mapping[str, Any], title: str, path: Path) -> Path:
    figure, axes = _axes()
    bins = found["bins"]
    said, was = [each["confidence"] for each in bins], [each["accuracy"] for each in bins]
    largest = max((each["examples"] for each in bins), default=1)
    axes.plot([0, 1], [0, 1], color="#888888", linewidth=1, linestyle="--")
    axes.plot(said, was, color=COLOURS[0])
    axes.scatter(said, was, s=[20 + 180 * each["examples"] / largest for each in bins], color=COLOURS[0], alpha=0.6)
    axes.set(
        xlabel="score of the best label", ylabel="share that was right", title=f"{title}, ECE {found['ece']:.3f}",
        xlim=(0, 1.02), ylim=(0, 1.02),
    )  # fmt: skip
    axes.grid(alpha=0.3)
    return _save(figure, path)


def patients(found: Mapping[str, Mapping[str, Any]], title: str, path: Path, most: int = 80) -> Path:
    """Accuracy by patient, worst first."""
    order = sorted(found, key=lambda name: (found[name]["accuracy"] or 0.0, name))[:most]
    figure, axes = _axes(max(5.0, 1.2 + 0.16 * len(order)), 3.6)
    axes.bar(range(len(order)), [100 * (found[name]["accuracy"] or 0.0) for name in order], color=COLOURS[0])
    axes.set_xticks(range(len(order)), order, rotation=90, fontsize=6)
    more = f" (the worst {most} of {len(found)})" if len(found) > most else ""
    axes.set(ylabel="accuracy, %", title=title + more, ylim=(0, 100))
    return _save(figure, path)


def history(lines: Sequence[Mapping[str, float]], title: str, path: Path) -> Path:
    """Loss and validation over the epochs of a run."""
    figure, axes = _axes()
    epochs = [line["epoch"] for line in lines]
    axes.plot(epochs, [line["loss"] for line in lines], color=COLOURS[1], label="loss")
    other = axes.twinx()
    other.plot(epochs, [line["score"] for line in lines], color=COLOURS[0], label="validation")
    axes.set(xlabel="epoch", ylabel="loss", title=title)
    other.set_ylabel("validation score")
    return _save(figure, path)
