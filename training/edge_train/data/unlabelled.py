"""Any CSV with an ECG in it, without labels: scaled, peaks found, resampled to 360 Hz, cut to 216-sample windows.

The file is read by the daemon's own source, so whatever that takes (headings, times, units, decimal commas) is taken here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import SourceError
from edge_agent.signal.qrs import make_qrs_detector
from edge_agent.signal.windows import Cutter, normalise
from edge_agent.sources.csv_file import CsvRecording
from edge_train.arrays import Floats, Ints
from edge_train.errors import DataError
from edge_train.files import digest_of, whole_folder, write_json

RATE_HZ, SAMPLES, BEFORE = 360.0, 216, 114
"""Of a window: 114 samples before the R peak, 101 after it."""
SHORTEST_S = 5.0
"""Runs of numbers shorter than this have no peaks looked for."""


@dataclass(frozen=True, slots=True)
class Cut:
    """What one file gave."""

    windows: Floats
    """Scaled, not normalised: (beats, 216)."""
    sample: Ints
    """Of the R peak, in the file's own samples."""
    fs: float
    column: str
    missing: int
    """Samples that are no numbers."""


def cut_csv(path: Path, column: str | None, rate_hz: float | None) -> Cut:
    """One column. A stretch of it that is no numbers, or a hole in the times, is bridged by nothing."""
    try:
        recording = CsvRecording(path, rate_hz)
    except SourceError as error:
        if rate_hz is None and "no time column" in str(error):  # its remedy is the daemon's own option
            raise DataError(f"{path}: has no time column, so its rate is unknown; give it: --rate HZ") from None
        raise
    names = [signal.name for signal in recording.info.signals]
    at = _column(path, names, column)
    fs = recording.info.fs
    if not fs >= 50:
        raise DataError(f"{path}: {fs:g} samples a second are too few for an ECG")
    cutter = Cutter(fs=fs, rate_hz=RATE_HZ, samples=SAMPLES, before=BEFORE, normalisation="none")
    rows: list[Floats] = []
    samples: list[int] = []
    missing = 0
    for first, end in recording.runs:
        x = np.asarray(recording.read(first, end - first)[at], np.float32)
        missing += int((~np.isfinite(x)).sum())
        for low, high in _finite(x):
            if high - low < SHORTEST_S * fs:
                continue
            part = scaled(x[low:high])
            detector = make_qrs_detector(fs, "ecg")
            for beat in sorted(beat.sample for beat in [*detector.feed(part, 0), *detector.flush()]):
                if beat + cutter.first < 0 or beat + cutter.end > part.size:
                    continue
                window = cutter.cut(part[beat + cutter.first : beat + cutter.end])
                if window is not None:
                    rows.append(window)
                    samples.append(first + low + beat)
    if not rows:
        raise DataError(f"{path}: no beat was found in column {names[at]} ({missing} samples are not numbers)")
    return Cut(np.array(rows, np.float32), np.array(samples, np.int64), fs, names[at], missing)


def _column(path: Path, names: list[str], column: str | None) -> int:
    if column is None:
        if len(names) == 1:
            return 0
        raise DataError(f"{path}: has {len(names)} columns ({', '.join(names)}); say which with --column")
    if column in names:
        return names.index(column)
    if column.isdigit() and int(column) < len(names):
        return int(column)
    raise DataError(f"{path}: no column {column!r}; there are: {', '.join(names)}")


def _finite(x: Floats) -> list[tuple[int, int]]:
    """Stretches of numbers."""
    fine = np.concatenate([[False], np.isfinite(x), [False]])
    change: NDArray[np.intp] = np.flatnonzero(np.diff(fine.astype(np.int8)))
    return [(int(a), int(b)) for a, b in change.reshape(-1, 2)]


def scaled(x: Floats) -> Floats:
    """Around 0, and 1 for what all but a thousandth of the samples span, whatever the units were (steps of a converter, volts)."""
    low, middle, high = np.percentile(x, [0.05, 50, 99.95])
    span = high - low
    return np.asarray((x - middle) / span if span > 0 else x - middle, np.float32)


def prepare_csv(path: Path, column: str | None, rate_hz: float | None, root: Path, also_csv: bool) -> str:
    """``root/csv-<file>``: windows.npz (``beat`` z-scored as the beat model takes it, ``scaled``, ``sample``) and data.json."""
    cut = cut_csv(path, column, rate_hz)
    beat = np.array([normalise(row, "zscore") for row in cut.windows], np.float32)
    folder = root / f"csv-{path.stem}"
    facts = {
        "file": path.name,
        "column": cut.column,
        "rate_hz": cut.fs,
        "beats": len(beat),
        "not_numbers": cut.missing,
        "window": {"rate_hz": RATE_HZ, "samples": SAMPLES, "before": BEFORE},
        "sources": digest_of([path]),
    }
    with whole_folder(folder) as made:
        np.savez(made / "windows.npz", beat=beat, scaled=cut.windows, sample=cut.sample)
        if also_csv:
            with (made / "windows.csv").open("w") as out:
                out.write(",".join(["sample", *(f"x{i}" for i in range(SAMPLES))]) + "\n")
                for at, row in zip(cut.sample.tolist(), cut.windows, strict=True):
                    out.write(f"{at}," + ",".join(f"{value:.6g}" for value in row.tolist()) + "\n")
        write_json(made / "data.json", facts)
    return f"{folder}: {len(beat)} beats of column {cut.column} at {cut.fs:g} Hz, {cut.missing} samples that are no numbers"
