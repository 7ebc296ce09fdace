"""Courses of beats with their rhythm, from the annotation databases: what the RR model of fibrillation learns from."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal.rr import LONGEST_RR_S, RrHistory
from edge_train.arrays import Floats, Ints
from edge_train.counted import counted
from edge_train.errors import DataError

CLOCK_HZ = 1000.0
"""Beats are taken to whole milliseconds, as samples of a stream of this rate."""
LTAFDB_HZ = 128.0
VITALDB = Path("vitaldb_arr/Annotation_Files_250907")
LTAFDB = Path("ltafdb_ann")
FIBRILLATION = ("AFIB", "AFL")
_BEATS = frozenset("NLRBAaJSVrFejnE/fQ?")
FIFTHS = 5


@dataclass(frozen=True, slots=True)
class Course:
    """One patient's beats."""

    patient: str
    at: Ints
    """Milliseconds."""
    usable: NDArray[np.bool_]
    """False where the annotators call the signal bad or the rhythm noise: nothing bridges such a beat."""
    fibrillates: NDArray[np.bool_]
    """Fibrillation or flutter (VitalDB does not tell them apart), at each beat."""
    kind: NDArray[np.str_]
    """The annotators' rhythm, for looking at failures."""

    @property
    def has_fibrillation(self) -> bool:
        return bool(self.fibrillates.mean() > 0.05)


@dataclass(frozen=True, slots=True)
class Sequences:
    """What the daemon would ask the model along one course."""

    rows: Floats
    """(windows, intervals), as RrHistory normalises them."""
    share: Floats
    """Of a window's intervals, those that end in fibrillation."""
    beat: Ints
    """Index of the window's newest beat in the course."""


def read_vitaldb(path: Path) -> Course:
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            rows = list(csv.DictReader(handle))
        at = np.rint([float(row["time_second"]) * CLOCK_HZ for row in rows]).astype(np.int64)
        rhythm = np.array([row["rhythm_label"] for row in rows], "U12")
        usable = [
            row["beat_type"] in ("N", "S", "V") and row["bad_signal_quality"] != "True" and label != "Noise"
            for row, label in zip(rows, rhythm, strict=True)
        ]
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error!r})") from None
    fibrillates = np.char.startswith(rhythm, "AFIB")
    name = "vitaldb-" + path.stem.removeprefix("Annotation_file_")
    return Course(name, at, np.array(usable, bool), np.asarray(fibrillates, bool), rhythm)


def read_ltafdb(path: Path) -> Course:
    import wfdb

    try:
        annotation = wfdb.rdann(str(path.with_suffix("")), "atr")
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error}); is the download complete?") from None
    at, kind, rhythm = [], [], ""
    for sample, symbol, note in zip(annotation.sample, annotation.symbol, annotation.aux_note, strict=True):
        if symbol == "+":
            rhythm = note.strip("\0").strip("(")
        elif symbol in _BEATS:
            at.append(round(int(sample) / LTAFDB_HZ * CLOCK_HZ))
            kind.append(rhythm)
    labels = np.array(kind, "U12")
    return Course(
        f"ltafdb-{path.stem}",
        np.array(at, np.int64),
        np.ones(len(at), bool),
        np.isin(labels, FIBRILLATION),
        labels,
    )


def files(data: Path) -> list[Path]:
    """Every annotation file; all there or none at all."""
    found = sorted((data / VITALDB).glob("*.csv")) + sorted((data / LTAFDB).glob("*.atr"))
    for folder, ending in ((VITALDB, ".csv"), (LTAFDB, ".atr")):
        if not any(path.suffix == ending for path in found):
            raise DataError(f"{data / folder}: holds no {ending} annotations; they are needed")
    return found


def courses(data: Path) -> list[Course]:
    return [
        read_vitaldb(path) if path.suffix == ".csv" else read_ltafdb(path)
        for path in counted("courses read", files(data))
    ]


def fifths(found: list[Course], seed: int = 0) -> dict[str, int]:
    """Patient to fifth, each database's patients with and without fibrillation spread alike."""
    rng = np.random.default_rng(seed)
    dealt: dict[str, int] = {}
    for database in ("vitaldb", "ltafdb"):
        for ill in (False, True):
            group = [one.patient for one in found if one.patient.startswith(database) and one.has_fibrillation == ill]
            for place, i in enumerate(rng.permutation(len(group)).tolist()):
                dealt[group[i]] = place % FIFTHS
    return dealt


def sequences(course: Course, intervals: int, stride: int, normalisation: str = "log_median") -> Sequences:
    """Every ``stride``-th usable beat's window, by the daemon's own history."""
    history = RrHistory(CLOCK_HZ)
    rows, share, beats = [], [], []
    flags: list[bool] = []
    for i, beat in enumerate(_heard(course, history)):
        closed, index = beat
        if closed:
            flags.append(bool(course.fibrillates[index]))
        if i % stride == 0:
            row = history.sequence(intervals, normalisation)
            if row is not None:
                rows.append(row)
                share.append(float(np.mean(flags[-intervals:])))
                beats.append(index)
    return Sequences(
        np.array(rows, np.float32).reshape(len(rows), intervals),
        np.array(share, np.float32),
        np.array(beats, np.int64),
    )


def _heard(course: Course, history: RrHistory) -> Iterator[tuple[bool, int]]:
    """Feeds the course to the history; at each beat whether it closed an interval, and its index."""
    for index, (at, usable) in enumerate(zip(course.at.tolist(), course.usable.tolist(), strict=True)):
        if not usable:
            history.gap()
            continue
        rr_s = history.beat(at)
        yield rr_s is not None and 0 < rr_s <= LONGEST_RR_S, index
