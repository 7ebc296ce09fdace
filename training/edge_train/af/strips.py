"""Ten-second windows of the Challenge 2017's recordings, and what a whole recording is called by its windows."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal.windows import Cutter
from edge_train.arrays import Floats, Ints
from edge_train.errors import DataError

FOLDER = Path("cinc2017")
CODES = "NAO~"
WHOLE_SET = (5050, 738, 2456, 284)
"""Recordings of each class in the Challenge's whole training set (label revision 2); N and O are thinned here."""
FOLDS = 5


@dataclass(frozen=True, slots=True)
class Strip:
    """One recording: patients are not known, so it stands for its own."""

    name: str
    fs: float
    values: Floats
    label: int
    """Index into CODES."""


def files(data: Path) -> list[Path]:
    folder = data / FOLDER
    reference = folder / "REFERENCE.csv"
    if not reference.is_file():
        raise DataError(f"{reference}: not there; the labels are needed")
    return [reference, *sorted(folder.glob("*.mat"))]


def labels(data: Path) -> dict[str, int]:
    """Recording to class."""
    path = files(data)[0]
    found: dict[str, int] = {}
    with path.open(newline="") as handle:
        for row in csv.reader(handle):
            if len(row) != 2 or row[1] not in CODES or not row[1]:
                if row and row[0] != "record":
                    raise DataError(f"{path}: not a recording and one of N, A, O, ~: {row}")
                continue
            found[row[0]] = CODES.index(row[1])
    return found


def read(data: Path, name: str, label: int) -> Strip:
    import wfdb

    try:
        record = wfdb.rdrecord(str(data / FOLDER / name))
    except (OSError, ValueError) as error:
        raise DataError(f"{data / FOLDER / name}: cannot be read ({error}); is the download complete?") from None
    values = np.ascontiguousarray(record.p_signal[:, 0], np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{data / FOLDER / name}: holds samples that are not numbers")
    return Strip(name, float(record.fs), values, label)


def strips(data: Path) -> Iterator[Strip]:
    for name, label in sorted(labels(data).items()):
        yield read(data, name, label)


def folds(found: dict[str, int], seed: int = 0) -> dict[str, int]:
    """Recording to fold, every class spread alike."""
    rng = np.random.default_rng(seed)
    dealt: dict[str, int] = {}
    for label in range(len(CODES)):
        names = sorted(name for name, one in found.items() if one == label)
        for place, i in enumerate(rng.permutation(len(names)).tolist()):
            dealt[names[i]] = place % FOLDS
    return dealt


def cut(strip: Strip, cutter: Cutter, stride_s: float) -> tuple[Floats, Ints]:
    """The windows that the daemon would cut, one every ``stride_s`` from the first that is whole, and where each ends (samples).

    A last one ends with the recording if half a stride or more would be left over.
    """
    step = max(1, round(stride_s * strip.fs))
    last = strip.values.size - max(0, cutter.end)
    ends = list(range(-cutter.first, last + 1, step))
    if not ends:
        return np.zeros((0, 0), np.float32), np.zeros(0, np.int64)
    if last - ends[-1] >= step / 2:
        ends.append(last)
    made = [cutter.cut(strip.values[end + cutter.first : end + cutter.end]) for end in ends]
    rows = [window for window in made if window is not None]
    if len(rows) < len(made):
        raise DataError(f"{strip.name}: holds samples that are not numbers")
    return np.array(rows, np.float32), np.array(ends, np.int64)


def aggregate(scores: Floats, recording: NDArray[np.str_]) -> tuple[NDArray[np.str_], Floats]:
    """Recordings, and their scores: the geometric mean over their windows."""
    names, inverse = np.unique(recording, return_inverse=True)
    total = np.zeros((names.size, scores.shape[1]))
    np.add.at(total, inverse, np.log(np.maximum(scores, 1 / 512)))
    mean = np.exp(total / np.bincount(inverse)[:, None])
    return names, (mean / mean.sum(1, keepdims=True)).astype(np.float32)
