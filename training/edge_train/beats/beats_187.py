"""Beats as the well-known CSV has them (187 samples at 125 Hz, five classes), split at random: **inflated**.

Kachuee M, Fazeli S, Sarrafzadeh M. ECG heartbeat classification: a deep transferable representation. ICHI 2018. Their
recipe: stretches of 10 s at 125 Hz, scaled to 0..1; the nominal period T is the median RR of the stretch; a beat is 1.2 T from
its R peak on, padded with zeros to 187. The usual split is by beat, so a patient's neighbouring beats are on both sides: figures
by it say how well a net recognises people it has seen, and are kept here only to compare with the many that were published so.

Departures: R peaks are the daemon's detector's (or the reference's), not theirs of maxima above 0.9; a beat that runs past its
stretch goes on, scaled as the stretch and held to 0..1. It waits 1.5 s after the R peak, and no manifest can say "1.2 T": this net
is measured through the daemon's engine but not shipped.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal.windows import Cutter
from edge_train.arrays import Floats, Ints
from edge_train.beats.positions import matched_beats
from edge_train.counted import counted
from edge_train.data.mitdb import DS1, DS2, LABELS, Record, read_record
from edge_train.data.part import WHOLE, thinned_by
from edge_train.data.windows import Split, Windows, join
from edge_train.errors import DataError
from edge_train.files import digest_of
from edge_train.task import Plan

SAMPLES = 187
RATE_HZ = 125.0
STRETCH_S = 10.0
PERIODS = 1.2
PACED = ("102", "104", "107", "217")
TEST, VALIDATION = 0.2, 0.1
"""Shares: of all beats, as in the CSV; and of what is left."""
CSV_FILES = ("mitbih_train.csv", "mitbih_test.csv")
PROTOCOL = "inflated: split at random by beat, the same patients on both sides"


def cut_beats(record: Record, at: Ints, label: Ints) -> Windows:
    """All beats of a record that a stretch of 10 s (or what is left at the record's end) tells a period of."""
    cutter = Cutter(fs=record.fs, rate_hz=RATE_HZ, samples=SAMPLES, before=0, normalisation="none")
    x = record.signals[record.main]
    # Beyond the record's ends its last value: what is past 1.2 T becomes zero anyway.
    padded = np.pad(x, (max(0, -cutter.first), cutter.end), mode="edge")
    origin = max(0, -cutter.first) + cutter.first
    length = round(STRETCH_S * record.fs)
    rows, labels, where = [], [], []
    for start in range(0, x.size, length):
        inside = np.flatnonzero((at >= start) & (at < start + length))
        if inside.size < 2:
            continue
        period = float(np.median(np.diff(at[inside]))) / record.fs
        low, high = float(x[start : start + length].min()), float(x[start : start + length].max())
        if not high > low:
            continue
        kept = min(SAMPLES, round(PERIODS * period * RATE_HZ))
        for i in inside.tolist():
            window = cutter.cut(padded[origin + at[i] : origin + at[i] + cutter.length])
            if window is None:
                raise DataError(f"{record.name}: samples after {at[i]} are not numbers")
            row = np.zeros(SAMPLES, np.float32)
            row[:kept] = np.clip((window[:kept] - low) / (high - low), 0, 1)
            rows.append(row)
            labels.append(int(label[i]))
            where.append(f"{record.name}:{at[i]}")
    n = len(rows)
    names = np.array(where, "U24")
    # Each beat is a group of its own: that is what makes this split what it is.
    return Windows({"beat": np.array(rows, np.float32).reshape(n, SAMPLES)}, np.array(labels, np.int64), names, names)


def read_csv(path: Path) -> Windows:
    """A file of the published form: 187 numbers and the class (0 to 4) a line, no heading."""
    try:
        table = np.loadtxt(path, delimiter=",", dtype=np.float32, ndmin=2)
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from None
    if table.shape[1] != SAMPLES + 1:
        raise DataError(f"{path}: {table.shape[1]} columns; {SAMPLES} samples and a label are wanted")
    label = table[:, -1].astype(np.int64)
    if (label != table[:, -1]).any() or label.min() < 0 or label.max() >= len(LABELS):
        raise DataError(f"{path}: the last column must be a class from 0 to {len(LABELS) - 1}")
    names = np.array([f"{path.stem}:{i}" for i in range(label.size)], "U40")
    return Windows({"beat": np.ascontiguousarray(table[:, :-1])}, label, names, names)


def divide(windows: Windows, share: float, rng: np.random.Generator) -> tuple[Windows, Windows]:
    """At random by example, the classes in proportion."""
    aside = np.zeros(len(windows), bool)
    for label in np.unique(windows.label):
        pool = rng.permutation(np.flatnonzero(windows.label == label))
        aside[pool[: round(share * pool.size)]] = True
    return windows.pick(~aside), windows.pick(aside)


class Beats187:
    name = "beats-187"
    labels = LABELS
    positive = None
    plans: Mapping[str, Plan] = {
        "ecg-beat-187": Plan(
            size="medium", balance="none", per_epoch=100_000, epochs=45, patience=15, batch=128, rate=4e-3, dropout=0.3,
            smoothing=0.02, augment=0.5, extra={"smooth": 0.6, "width": 1.25},
        )
    }  # fmt: skip

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"beat": (1, SAMPLES, 1)}

    def prepare(self, data: Path, oracle: bool, part: float = WHOLE) -> Split:
        folder = data / "mitdb"
        if not folder.is_dir():
            raise DataError(f"{folder}: not there; run: edge-train data get mitdb, or give --shared")
        names = sorted([*DS1, *DS2, *PACED])
        parts = []
        for name in counted("records", names):
            record = read_record(folder, name)
            at, label = matched_beats(record, oracle)
            parts.append(cut_beats(record, at, label))
        whole = join(parts)
        whole = whole.pick(np.array(thinned_by(range(len(whole)), part, lambda i: int(whole.label[i])), np.int64))
        sources = digest_of([path for name in names for path in folder.glob(f"{name}.*")])
        return self._split(
            whole, None, {"data": "mitdb", "sources": sources, "positions": "reference" if oracle else "own detector"}
        )

    def prepare_from(self, folder: Path) -> Split:
        """From a user's mitbih_train.csv and mitbih_test.csv."""
        paths = [folder / name for name in CSV_FILES]
        missing = [str(path) for path in paths if not path.is_file()]
        if missing:
            raise DataError(f"{', '.join(missing)}: not there; both files of the published data are wanted")
        train, test = (read_csv(path) for path in paths)
        return self._split(train, test, {"data": "CSV", "sources": digest_of(paths), "positions": "as published"})

    def _split(self, train: Windows, test: Windows | None, facts: dict[str, Any]) -> Split:
        rng = np.random.default_rng(187)
        if test is None:
            train, test = divide(train, TEST, rng)
        train, validation = divide(train, VALIDATION, rng)
        return Split(train, validation, test, facts | {"task": self.name, "protocol": PROTOCOL})

    def augment(self, inputs: Mapping[str, Floats], rng: np.random.Generator, strength: float) -> dict[str, Floats]:
        """Another gain within the stretch, another baseline, a slightly other rate, some noise; the padding stays zero."""
        x = inputs["beat"]
        n, samples = x.shape
        place = np.arange(samples) * np.exp(rng.normal(0, 0.03 * strength, (n, 1)))
        place = np.clip(place, 0, samples - 1.001)
        low = place.astype(np.intp)
        left = np.take_along_axis(x, low, 1)
        right = np.take_along_axis(x, low + 1, 1)
        made = left + (right - left) * (place - low)
        padding = (left == 0) & (right == 0)
        gain = np.exp(rng.normal(0, 0.06 * strength, (n, 1)))
        noise = rng.normal(0, 1, made.shape) * rng.uniform(0, 0.012 * strength, (n, 1))
        changed = made * gain + rng.normal(0, 0.02 * strength, (n, 1)) + noise
        return {"beat": np.where(padding, 0, np.clip(changed, 0, 1)).astype(np.float32)}

    def patients(self, windows: Windows) -> NDArray[np.str_]:
        """For the intervals: the record, where it is known."""
        return np.array([where.partition(":")[0] for where in windows.where.tolist()])

    def about(
        self, artifact: str, facts: Mapping[str, Any], seed: int, thresholds: Mapping[str, float]
    ) -> dict[str, Any]:
        return {
            "task": "other",
            "labels": list(self.labels),
            "anchor": {"kind": "beat"},
            "inputs": [
                {
                    "kind": "signal",
                    "name": "beat",
                    "signal": "ecg",
                    "rate_hz": RATE_HZ,
                    "samples": SAMPLES,
                    "before": 0,
                    "normalisation": "minmax",
                }
            ],
            "output": {"scores": "none", "thresholds": dict(thresholds)},
            "training": {
                "data": ["MIT-BIH Arrhythmia Database 1.0.0 (doi:10.13026/C2F305), all 48 records"],
                "licence": "MIT-BIH: Open Data Commons Attribution License 1.0",
                "protocol": f"{PROTOCOL}; seed {seed}; data {facts.get('digest', '')}",
                "command": f"edge-train fit {artifact} --seed {seed} && edge-train pack {artifact}",
            },
        }


TASK = Beats187()
