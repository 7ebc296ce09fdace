"""The shipped fibrillation models on MIT-BIH, by the daemon's own detector, windows and engine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_train.af import figures as af_figures
from edge_train.af import rr as af_rr
from edge_train.af import strips as af_strips
from edge_train.af import ten_seconds as af_10s
from edge_train.arrays import Floats
from edge_train.data.mitdb import read_record

from edge_agent.inference.labels import label_of
from edge_agent.inference.loaded import shipped_models

MINUTES = 6


def beginning(shared: Path, name: str) -> tuple[Floats, float]:
    record = read_record(shared / "data" / "mitdb", name)
    return record.signals[record.main, : int(MINUTES * 60 * record.fs)], record.fs


@pytest.mark.parametrize(
    ("name", "least", "most"), [("203", 0.9, 1.0), ("210", 0.8, 1.0), ("100", 0.0, 0.02), ("103", 0.0, 0.02)]
)
def test_fibrillation_is_told_from_sinus_rhythm_by_intervals(
    shared: Path, name: str, least: float, most: float
) -> None:
    """203 and 210 fibrillate all the time, 100 and 103 never."""
    model = af_figures.opened(shipped_models() / "ecg-af-rr")
    x, fs = beginning(shared, name)
    rows, _, _ = af_figures._own(x, fs, af_rr.INTERVALS, af_rr.STRIDE)
    assert len(rows) > 50
    assert least <= af_figures.fibrillating(model)(rows).mean() <= most


@pytest.mark.parametrize(
    ("name", "least", "most"), [("203", 0.5, 1.0), ("210", 0.5, 1.0), ("100", 0.0, 0.1), ("103", 0.0, 0.1)]
)
def test_fibrillation_is_told_from_sinus_rhythm_by_ten_seconds(
    shared: Path, name: str, least: float, most: float
) -> None:
    model = af_figures.opened(shipped_models() / "ecg-af-10s")
    x, fs = beginning(shared, name)
    strip = af_strips.Strip(name, fs, x, 0)
    rows, _ = af_strips.cut(strip, af_10s.cutter(fs), af_10s.ASKED_S)
    said = [label_of(model.engine.invoke((row,)), model.artifact.manifest)[0] for row in rows]
    assert len(said) > 60
    assert least <= np.mean([label == "AFIB" for label in said]) <= most
