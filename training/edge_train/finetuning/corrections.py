"""What a person corrected, as windows: WFDB annotations of beats, ICM+ marks of segments, beside the recordings they are of.

A folder of corrections holds, for each recording ``NAME`` (WFDB, CSV, EDF):

* ``NAME.rev`` (or another annotator): a WFDB annotation file with *all* beats of what was reviewed, by their MIT-BIH codes.
  They are the rhythm's history too, so a beat that was moved, added or deleted is so for every feature.
* or ``NAME.artf``: the marks of artefacts as ICM+ keeps them (`edge_train.data.artf`). What is not marked is normal.
* optionally ``reviewed.json``: ``{"NAME": {"patient": "...", "reviewed": [[first, end], ...]}}``: whose it is, and which samples
  were looked at. Without it a recording is a patient of its own, reviewed from end to end.

Times of marks are the recording's clock; sample 0 of a recording that knows no date is 01/01/1970 00:00:00.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.annotation_files.mit import AAMI
from edge_agent.inference.manifest import Manifest
from edge_agent.sources.base import guess_kind
from edge_train.arrays import Ints
from edge_train.data import artf
from edge_train.data.cutting import Cut, Signal, as_windows, at_beats, read_signal, sliding, stretch_of
from edge_train.data.icmplus import LEAST_MARKED_S
from edge_train.data.windows import Windows, join
from edge_train.errors import DataError

REVIEWED = "reviewed.json"
RECORDINGS = (".hea", ".csv", ".edf")
PARTS = (0.55, 0.70)
"""Of each recording, in time: up to the first it teaches, up to the second it stops training, the rest measures."""


@dataclass(frozen=True, slots=True)
class Corrected:
    """Three parts of the corrections, apart in time: no window reaches from one into the next."""

    train: Windows
    stop: Windows
    test: Windows
    patients: tuple[str, ...]
    records: tuple[str, ...]


def read(folder: Path, manifest: Manifest, annotator: str = "rev") -> Corrected:
    """All corrections of a folder that are for this model. Raises DataError."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder of corrections")
    slides = manifest.anchor.kind == "slide"
    if manifest.anchor.kind == "rr":
        raise DataError(f"{manifest.name}: is asked about rhythms; corrections are of beats or of segments")
    ending = ".artf" if slides else f".{annotator}"
    about = _reviewed(folder)
    parts: list[list[Windows]] = [[], [], []]
    patients, records = set(), []
    for path in sorted(folder.glob(f"*{ending}")):
        recording = _recording(path)
        signal = read_signal(recording, manifest.signal)
        cut, label = _segments(path, signal, manifest) if slides else _beats(path, signal, manifest, annotator)
        said = about.get(path.stem, {})
        inside = _inside(cut.sample, said.get("reviewed"), signal, manifest)
        cut, label = _pick(cut, inside), label[inside]
        patient = str(said.get("patient", path.stem))
        for made, which in zip(parts, _apart(cut.sample, signal, manifest), strict=True):
            made.append(as_windows(_pick(cut, which), label[which], patient, path.stem))
        patients.add(patient)
        records.append(path.stem)
    if not records:
        what = "segments of pressure (NAME.artf)" if slides else f"beats (NAME.{annotator})"
        raise DataError(f"{folder}: holds no corrected {what}, which {manifest.name} would learn from")
    train, stop, test = (join(each) for each in parts)
    return Corrected(train, stop, test, tuple(sorted(patients)), tuple(records))


def _reviewed(folder: Path) -> dict[str, Any]:
    path = folder / REVIEWED
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text())
        for name, said in found.items():
            for first, end in said.get("reviewed", []):
                if not 0 <= int(first) < int(end):
                    raise ValueError(f"{name}: the stretch {first} to {end} is none")
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f'{path}: not as {{"NAME": {{"patient": "...", "reviewed": [[first, end]]}}}} ({error})'
        ) from None
    return dict(found)


def _recording(path: Path) -> Path:
    for ending in RECORDINGS:
        beside = path.with_suffix(ending)
        if beside.is_file():
            return beside
    raise DataError(f"{path}: no recording {path.stem} beside it ({', '.join(RECORDINGS)})")


def _beats(path: Path, signal: Signal, manifest: Manifest, annotator: str) -> tuple[Cut, Ints]:
    import wfdb

    try:
        annotation = wfdb.rdann(str(path.with_suffix("")), annotator)
        named = [
            (int(at), AAMI[code]) for at, code in zip(annotation.sample, annotation.symbol, strict=True) if code in AAMI
        ]
    except (OSError, ValueError, IndexError, KeyError) as error:
        raise DataError(f"{path}: not a WFDB annotation file ({error})") from None
    if not named:
        raise DataError(f"{path}: holds no beat")
    unknown = sorted({label for _, label in named} - set(manifest.labels))
    if unknown:
        raise DataError(
            f"{path}: has beats of class {', '.join(unknown)}; {manifest.name} knows {', '.join(manifest.labels)}"
        )
    beats = np.array([at for at, _ in named], np.int64)
    if np.any(np.diff(beats) <= 0) or beats[0] < 0 or beats[-1] >= signal.values.size:
        raise DataError(f"{path}: its beats are not in order, twice at one sample, or outside the recording")
    cut = at_beats(signal, beats, manifest)
    label = {at: manifest.labels.index(said) for at, said in named}
    return cut, np.array([label[at] for at in cut.sample.tolist()], np.int64)


def _segments(path: Path, signal: Signal, manifest: Manifest) -> tuple[Cut, Ints]:
    """A window with a mark of at least `LEAST_MARKED_S` in it is anomalous; with less, it is left out."""
    if len(manifest.labels) != 2:
        raise DataError(f"{manifest.name}: marks say normal or not; it has {len(manifest.labels)} classes")
    marks = artf.read(path).of(_names(path, signal))
    cut = sliding(signal, manifest)
    first, end = stretch_of(manifest, signal.fs)
    marked = np.zeros(len(cut))
    reached = -np.inf
    anchor = cut.sample + 1
    for mark in marks:  # in order of time; overlapping ones count once
        begin = max(reached, (mark.start_us - signal.began_us) / 1e6 * signal.fs)
        stop = (mark.end_us - signal.began_us) / 1e6 * signal.fs
        if stop <= begin:
            continue
        reached = stop
        marked += np.clip(np.minimum(anchor + end, stop) - np.maximum(anchor + first, begin), 0, None) / signal.fs
    if marks and not marked.any():
        raise DataError(f"{path}: none of its marks lies in the recording; do their clocks agree?")
    label = (marked > 0).astype(np.int64)
    clear = (marked == 0) | (marked >= LEAST_MARKED_S)
    return _pick(cut, clear), label[clear]


def _names(path: Path, signal: Signal) -> set[str]:
    """The signal by its own name, and by every name of its kind that the file uses (ABP is ``art`` or ``abp`` there)."""
    kind = guess_kind(signal.channel, signal.unit)
    names = {group.signal for group in artf.read(path).groups if group.signal is not None}
    return {signal.channel, *(name for name in names if guess_kind(name) == kind)}


def _inside(sample: Ints, reviewed: Sequence[Sequence[int]] | None, signal: Signal, manifest: Manifest) -> Any:
    """Anchors of windows in what was looked at: a beat by itself, a segment as a whole."""
    if reviewed is None:
        return np.ones(sample.size, bool)
    first = stretch_of(manifest, signal.fs)[0] if manifest.anchor.kind == "slide" else 0.0
    inside = np.zeros(sample.size, bool)
    for begin, end in reviewed:
        inside |= (sample + first >= int(begin) - 1) & (sample < int(end))
    return inside


def _apart(sample: Ints, signal: Signal, manifest: Manifest) -> list[Any]:
    """Which windows are in which part: by their rank in time, and a window's length is left between the parts."""
    order = np.sort(sample)
    first, end = stretch_of(manifest, signal.fs)
    made, low = [], -np.inf
    for share in (*PARTS, 1.0):
        at = round(share * order.size)
        high = np.inf if at >= order.size else float(order[at])
        made.append((sample >= low) & (sample < high))
        low = high + (end - first)
    return made


def _pick(cut: Cut, which: Any) -> Cut:
    return Cut(cut.sample[which], {name: x[which] for name, x in cut.inputs.items()}, cut.silent)
