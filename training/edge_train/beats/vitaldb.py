"""VitalDB's annotated cases: no signals, many patients; what their intervals say of S and V."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal.rr import RrHistory
from edge_train.arrays import Floats, Ints
from edge_train.beats.inputs import RR_FEATURES
from edge_train.data.mitdb import LABELS
from edge_train.errors import DataError

FIBRILLATION = "AFIB/AFL"


@dataclass(frozen=True, slots=True)
class RrBeats:
    """Beats known by their times alone."""

    features: Floats
    label: Ints
    """Index into LABELS: N, S or V."""
    patient: NDArray[np.str_]


def read_vitaldb(path: Path, rng: np.random.Generator | None = None) -> RrBeats:
    """One case. Every beat of fibrillation is labelled S there and N in MIT-BIH: taken as N, and kept as a negative.

    With ``rng`` the times are those of a worse observer: jittered by some ms, a beat missed now and then, and a history
    that starts afresh at random places.
    """
    times, kinds, rhythms = [], [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            for row in csv.DictReader(handle):
                times.append(float(row["time_second"]))
                unusable = row["bad_signal_quality"] == "True" or row["rhythm_label"] == "Noise"
                kinds.append("" if unusable else row["beat_type"])
                rhythms.append(row["rhythm_label"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error!r})") from None
    fs = 1000.0
    at = np.rint(np.array(times) * fs)
    gap = np.array([kind not in ("N", "S", "V") for kind in kinds], bool)
    keep = ~gap
    if rng is not None:
        at = at + np.rint(rng.normal(0, 6.0, at.size))
        keep &= rng.random(at.size) > 0.004
        gap |= rng.random(at.size) < 0.004
    after_gap = np.concatenate([[False], gap[:-1]])
    fresh: RrHistory | None = None
    rows, target = [], []
    for i in np.flatnonzero(keep).tolist():
        if fresh is None or (rng is not None and rng.random() < 0.003):
            fresh = RrHistory(fs)
        if after_gap[i]:
            fresh.gap()
        fresh.beat(int(at[i]))
        rows.append(fresh.features(RR_FEATURES))
        target.append("N" if kinds[i] == "S" and rhythms[i] == FIBRILLATION else kinds[i])
    name = path.stem.removeprefix("Annotation_file_")
    return RrBeats(
        np.array(rows, np.float32).reshape(len(rows), len(RR_FEATURES)),
        np.array([LABELS.index(kind) for kind in target], np.int64),
        np.array([name] * len(rows), "U8"),
    )
