"""How well the RR intervals' entropy tells atrial fibrillation, beat by beat, at each threshold.

    python benchmarks/rhythm.py [--data ../shared/data]

On annotated beats (no signal): VitalDB's arrhythmia annotations and the first 60,000 beats of each LTAFDB record. This is where
`edge_agent.alarms.rhythm`'s two thresholds were chosen, so these are not figures for unseen patients.
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.alarms.rhythm import INTERVALS, cosen

BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
LTAF_FS = 128.0
MOST_BEATS = 60_000
STEP = 5
"""Every fifth beat is scored: neighbours share all but one interval."""
THRESHOLDS = np.arange(-2.0, -0.55, 0.1)

Record = tuple[NDArray[np.float64], NDArray[np.bool_]]
"""Beat times in seconds, and whether each lies in fibrillation or flutter."""


def ltafdb(folder: Path) -> Iterator[Record]:
    import wfdb

    for path in sorted((folder / "ltafdb_ann").glob("*.atr")):
        annotation = wfdb.rdann(str(path.with_suffix("")), "atr")
        times, labels, rhythm = [], [], ""
        for sample, symbol, note in zip(annotation.sample, annotation.symbol, annotation.aux_note, strict=True):
            if symbol == "+":
                rhythm = note.strip("\0").strip("(")
            elif symbol in BEATS:
                times.append(sample / LTAF_FS)
                labels.append(rhythm in ("AFIB", "AFL"))
        yield np.array(times[:MOST_BEATS]), np.array(labels[:MOST_BEATS])


def vitaldb(folder: Path) -> Iterator[Record]:
    for path in sorted((folder / "vitaldb_arr").glob("Annotation_Files*/*.csv")):
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.DictReader(file) if row["beat_type"]]
        noisy = sum(row["bad_signal_quality"] == "True" for row in rows)
        if len(rows) > 200 and noisy < 0.1 * len(rows):
            yield (
                np.array([float(row["time_second"]) for row in rows]),
                np.array(["AF" in row["rhythm_label"] for row in rows]),
            )


def entropies(records: Iterator[Record]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    values, labels = [], []
    for times, fibrillating in records:
        rr_s = np.diff(times)
        for beat in range(INTERVALS, times.size, STEP):
            values.append(cosen(rr_s[beat - INTERVALS : beat]))
            labels.append(bool(fibrillating[beat]))
    return np.array(values), np.array(labels)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("EDGE_AGENT_SHARED", "../shared")) / "data"
    parser.add_argument("--data", type=Path, default=default)
    arguments = parser.parse_args()
    if not (arguments.data / "ltafdb_ann").is_dir():
        print(f"{arguments.data}: no annotations here (ltafdb_ann, vitaldb_arr)", file=sys.stderr)
        return 1
    for name, records in (("VitalDB", vitaldb(arguments.data)), ("LTAFDB", ltafdb(arguments.data))):
        values, truth = entropies(records)
        print(f"\n{name}: {truth.size} beats scored, {truth.mean():.1%} in fibrillation or flutter\n")
        print("| threshold | sensitivity % | specificity % |\n|---|---|---|")
        for threshold in THRESHOLDS:
            says = values > threshold
            print(f"| {threshold:.1f} | {100 * says[truth].mean():.1f} | {100 * (~says[~truth]).mean():.1f} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
