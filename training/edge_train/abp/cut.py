"""Segments of arterial pressure as a model sees them: cut by the daemon's own cutter, clean or with an artefact put on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from edge_agent.signal.windows import Cutter
from edge_train.abp.faults import Kind, Place, inject
from edge_train.abp.lines import Line, verdict
from edge_train.abp.simulated import BAD, GOOD, Simulated
from edge_train.abp.simulated import verdict as true_verdict
from edge_train.arrays import Floats
from edge_train.data.windows import Windows
from edge_train.errors import DataError

LENGTH_S = 10.0
BEFORE_S, AFTER_S = 2.0, 1.0
"""So much of the line is taken beside a segment: faults remember, and the cutter's filter reaches past the end."""
NORMAL, ANOMALOUS = 0, 1


@dataclass(frozen=True, slots=True)
class Input:
    """One input: all of the segment, at a rate, normalised as the manifest says."""

    rate_hz: float
    normalisation: str

    @property
    def samples(self) -> int:
        return round(LENGTH_S * self.rate_hz)


INPUTS: Mapping[str, Input] = {"level": Input(25.0, "none"), "shape": Input(50.0, "zscore")}
"""Twice the same ten seconds: ``level`` in mmHg, coarsely (int8: steps of about 1.5 mmHg), because 0 mmHg and 300 mmHg are
no pulse's; ``shape`` finely, because a damped pulse of 8 mmHg would be five such steps. 100 Hz told nothing more than 50 Hz does."""


def cutters(fs: float) -> dict[str, Cutter]:
    return {
        name: Cutter(
            fs=fs, rate_hz=part.rate_hz, samples=part.samples, before=part.samples, normalisation=part.normalisation
        )
        for name, part in INPUTS.items()
    }


def cut(x: Floats, end: int, using: Mapping[str, Cutter]) -> dict[str, Floats] | None:
    """The segment that ends before sample ``end``; None where a sample is missing."""
    made = {}
    for name, cutter in using.items():
        if end + cutter.first < 0 or end + cutter.end > len(x):
            return None
        window = cutter.cut(x[end + cutter.first : end + cutter.end])
        if window is None:
            return None
        made[name] = window
    return made


@dataclass
class Rows:
    """Examples as they are made."""

    inputs: dict[str, list[Floats]] = field(default_factory=lambda: {name: [] for name in INPUTS})
    label: list[int] = field(default_factory=list)
    group: list[str] = field(default_factory=list)
    where: list[str] = field(default_factory=list)

    def add(self, made: Mapping[str, Floats], label: int, group: str, sample: int, kind: str) -> None:
        for name, window in made.items():
            self.inputs[name].append(window)
        self.label.append(label)
        self.group.append(group)
        self.where.append(f"{group}:{sample}:{kind}")

    def windows(self) -> Windows:
        if not self.label:
            raise DataError("no segment of arterial pressure at all")
        return Windows(
            {name: np.stack(rows).astype(np.float32) for name, rows in self.inputs.items()},
            np.array(self.label, np.int64),
            np.array(self.group),
            np.array(self.where),
        )


def kinds(windows: Windows) -> np.ndarray:
    """What each row is: a kind of artefact, ``normal``, ``arrhythmic``, ``bad``, or a rhythm of the simulated patient."""
    return np.array([text.rsplit(":", 1)[1] for text in windows.where.tolist()])


def starts(length: int, fs: float, step_s: float) -> Iterator[int]:
    """First samples of segments that have what they need on both sides."""
    first = BEFORE_S
    while round((first + LENGTH_S + AFTER_S) * fs) <= length:
        yield round(first * fs)
        first += step_s


def add_line(rows: Rows, line: Line, step_s: float, weak: bool) -> list[int]:
    """The segments of a recorded line of which something is known; gives the first samples of the good ones."""
    using, clean = cutters(line.fs), []
    for first in starts(len(line.abp), line.fs, step_s):
        said = verdict(line, first)
        if said == "unknown" or (said == "bad" and not weak):
            continue
        made = cut(line.abp, first + round(LENGTH_S * line.fs), using)
        if made is not None:
            rows.add(made, ANOMALOUS if said == "bad" else NORMAL, line.name, first, said)
            if said != "bad":
                clean.append(first)
    return clean


def add_simulated(rows: Rows, line: Simulated, step_s: float) -> list[int]:
    using, clean = cutters(line.fs), []
    for first in starts(len(line.abp), line.fs, step_s):
        if first < 5 * line.fs:
            continue
        truth, kind = true_verdict(line, first, first + round(LENGTH_S * line.fs))
        if truth not in (GOOD, BAD):
            continue
        made = cut(line.abp, first + round(LENGTH_S * line.fs), using)
        if made is not None:
            rows.add(made, ANOMALOUS if truth == BAD else NORMAL, line.name, first, f"sim-{kind}")
            if truth == GOOD and kind == "sinus":
                clean.append(first)
    return clean


def add_injected(
    rows: Rows,
    line: Line | Simulated,
    clean: Sequence[int],
    faults: Mapping[str, Kind],
    each: int,
    rng: np.random.Generator,
) -> None:
    """``each`` artefacts of every kind, put onto the line's good segments drawn at random."""
    if not clean:
        return
    fs = line.fs
    using = cutters(fs)
    before, long = round(BEFORE_S * fs), round(LENGTH_S * fs)
    place = Place(BEFORE_S, BEFORE_S + LENGTH_S)
    for name, kind in faults.items():
        for _ in range(each):
            first = int(rng.choice(clean))
            x = line.abp[first - before : first + long + round(AFTER_S * fs)].astype(np.float64)
            if not np.isfinite(x).all():
                continue
            found = inject(x, fs, place, kind, rng)
            if found is None:
                continue
            made = cut(found[0].astype(np.float32), before + long, using)
            if made is not None:
                rows.add(made, ANOMALOUS, line.name, first, name)


def add_icmplus(rows: Rows, folder: Path) -> None:
    """Ten-second segments of ICM+ recordings with their marks, where such files lie in the folder."""
    from edge_train.data import icmplus

    for path in sorted([*folder.glob("*.hdf5"), *folder.glob("*.h5")]):
        for segment in icmplus.segments(path):
            made = cut(segment.values, len(segment.values) - segment.after, cutters(segment.fs))
            if made is not None:
                label = ANOMALOUS if segment.anomalous else NORMAL
                rows.add(made, label, f"icm-{segment.patient}", segment.start_us, "marked" if label else "unmarked")
