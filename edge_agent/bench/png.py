"""The same plots as a picture, for those who want one: needs matplotlib (in the checkout: ``pip install '.[plots]'``)."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edge_agent.bench.files import whole
from edge_agent.bench.plots import Lines, Plot
from edge_agent.bench.svg import COLOURS
from edge_agent.errors import OutputError

DPI = 110
WIDTH_IN, HEIGHT_IN = 8.0, 3.2
_MISSING = "a PNG needs matplotlib"
_INSTALL = "in the checkout: pip install '.[plots]'"


def possible() -> None:
    """Before anything is measured or read. It is not imported for that: it would be in the process that is measured."""
    if importlib.util.find_spec("matplotlib") is None:
        raise OutputError(_MISSING, remedy=_INSTALL)


def write(all_plots: Sequence[Plot], path: Path) -> Path:
    try:
        import matplotlib as mpl

        mpl.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        raise OutputError(_MISSING, remedy=_INSTALL) from None
    figure, axes = pyplot.subplots(
        len(all_plots), 1, figsize=(WIDTH_IN, HEIGHT_IN * max(1, len(all_plots))), squeeze=False, layout="constrained"
    )
    for plot, ax in zip(all_plots, axes[:, 0], strict=True):
        ax.set_title(plot.title, fontsize=10)
        (_lines if isinstance(plot, Lines) else _stacks)(plot, ax)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole(path) as beside:
            figure.savefig(beside, dpi=DPI)
    except OSError as error:
        raise OutputError(f"{path}: {error.strerror or error}") from None
    finally:
        pyplot.close(figure)
    return path


def _lines(plot: Any, ax: Any) -> None:
    for i, (name, points) in enumerate(plot.series):
        ax.plot([x for x, _ in points], [y for _, y in points], color=COLOURS[i % len(COLOURS)], label=name, lw=1.4)
    for name, value in plot.limits:
        ax.axhline(value, color="#b3261e", ls="--", lw=1, label=f"{name} {value:g}")
    if plot.x_log:
        ax.set_xscale("log")
    if plot.y_log:
        ax.set_yscale("log")
    if plot.x_names:
        ax.set_xticks([x for x, _ in plot.x_names], [name for _, name in plot.x_names])
        ax.minorticks_off()
    ax.set_xlabel(plot.x_label, fontsize=8)
    ax.set_ylabel(plot.y_label, fontsize=8)
    ax.legend(fontsize=7)


def _stacks(plot: Any, ax: Any) -> None:
    names = list(dict.fromkeys(part for _, parts in plot.bars for part, _ in parts))
    labels = [name for name, _ in plot.bars]
    left = [0.0] * len(labels)
    for i, name in enumerate(names):
        values = [dict(parts).get(name, 0.0) for _, parts in plot.bars]
        ax.barh(labels, values, left=left, color=COLOURS[i % len(COLOURS)], label=name)
        left = [a + b for a, b in zip(left, values, strict=True)]
    ax.invert_yaxis()
    ax.set_xlabel(plot.unit, fontsize=8)
    ax.tick_params(labelsize=7)
    ax.legend(fontsize=7)
