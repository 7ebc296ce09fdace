"""What a model must not forget while it learns a patient: windows of everybody, to hold on to and to be measured on."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.annotation_files.mit import AAMI
from edge_agent.inference.manifest import Manifest
from edge_train.arrays import Floats
from edge_train.beats.cut import Beats, cut_beats
from edge_train.beats.cut import join as join_beats
from edge_train.beats.inputs import INPUTS
from edge_train.beats.model import representative
from edge_train.counted import counted
from edge_train.data import windows
from edge_train.data.cutting import Signal, as_windows, at_beats
from edge_train.data.mitdb import DS2, TRAIN, read_record
from edge_train.data.windows import Windows, join
from edge_train.errors import DataError
from edge_train.files import digest_of, whole_file
from edge_train.opened import Opened
from edge_train.packing import export
from edge_train.places import Places

SHOWN = 1000


@dataclass(frozen=True, slots=True)
class General:
    """Of everybody but the patient."""

    train: Windows
    """To hold on to: their labels say how often they are drawn, not what is learned."""
    test: Windows
    shown: dict[str, Floats]
    """For the converter."""
    part: float = 1.0
    """Of the task's data, where they were prepared in part."""


def general(opened: Opened, where: Places, patients: tuple[str, ...]) -> General:
    """The task's prepared data; of the beat model DS1 and DS2 of MIT-BIH, cut here: all that its training needs beyond them, it does
    not need to be held to."""
    manifest = opened.manifest
    assert manifest is not None
    if opened.task is not None:
        split = windows.load(where.data(opened.task.name))
        return General(
            _others(split.train, patients),
            _others(split.test, patients),
            export.representative_windows(split.train, SHOWN, 0),
            split.facts.get("part", 1.0),
        )
    if manifest.task != "ecg-beat":
        raise DataError(f"{opened.where}: of no task that is known here, so what it must not forget is not known")
    names = [part.name for part in manifest.inputs]
    known = [part["name"] for part in INPUTS]
    if any(name not in known for name in names):
        raise DataError(
            f"{opened.where}: takes {', '.join(names)}; here beats have {', '.join(known)}: an older model?"
        )
    mitdb = where.public() / "mitdb"
    missing = [name for name in (*TRAIN, *DS2) if not (mitdb / f"{name}.hea").is_file()]
    if missing:
        raise DataError(
            f"{mitdb}: record {missing[0]} is not there; all of MIT-BIH is needed, to see what others lose:"
            " edge-train data get mitdb, or give --shared"
        )
    kept = ds1(mitdb)
    train = Windows(
        {name: np.asarray(getattr(kept, name), np.float32) for name in names},
        kept.label,
        kept.record,
        np.array([f"{record}:{at}" for record, at in zip(kept.record, kept.sample, strict=True)]),
    )
    test = ds2(manifest, mitdb, where.build / "cache")
    return General(_others(train, patients), _others(test, patients), representative(kept, SHOWN, 0))


def _others(every: Windows, patients: tuple[str, ...]) -> Windows:
    """A recording of the public sets may be corrected like any other: it is then no part of the general ones."""
    return every.pick(~np.isin(every.group, patients))


def ds1(folder: Path) -> Beats:
    """Every beat of DS1 that the daemon's own detector finds, in both leads."""
    records = (read_record(folder, name) for name in counted("others to hold on to", TRAIN))
    return join_beats([cut_beats(record, *range(len(record.leads))) for record in records])


def ds2(manifest: Manifest, folder: Path, cache: Path) -> Windows:
    """Every beat of DS2 at its reference position, cut by the daemon's feeder."""
    inputs = [part.model_dump() for part in manifest.inputs]
    sources = digest_of(path for name in DS2 for path in folder.glob(f"{name}.*"))
    key = hashlib.sha256(json.dumps([inputs, DS2, sorted(AAMI.items()), sources]).encode()).hexdigest()[:16]
    path = cache / f"ds2-{key}.npz"
    if path.is_file():
        with np.load(path) as archive:
            names = [part.name for part in manifest.inputs]
            return Windows(
                {name: archive[f"input_{name}"] for name in names}, archive["label"], archive["group"], archive["where"]
            )
    parts = []
    for name in counted("others to be measured on", DS2):
        record = read_record(folder, name)
        signal = Signal(name, "ecg", "mV", record.fs, np.ascontiguousarray(record.signals[record.main]))
        cut = at_beats(signal, record.sample, manifest)
        label = dict(zip(record.sample.tolist(), record.label.tolist(), strict=True))
        parts.append(as_windows(cut, np.array([label[at] for at in cut.sample.tolist()], np.int64), name, name))
    made = join(parts)
    with whole_file(path) as aside, aside.open("wb") as out:
        arrays: dict[str, Any] = {f"input_{name}": x for name, x in made.inputs.items()}
        np.savez(out, **arrays, label=made.label, group=made.group, where=made.where)
    return made
