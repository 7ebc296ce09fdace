"""Beats of annotated records as the model is given them, cut by the daemon's own feeder."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.artifact import input_size
from edge_agent.inference.feeder import Feeder
from edge_agent.inference.manifest import Manifest
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_train.arrays import Floats, Ints
from edge_train.beats.inputs import feeding
from edge_train.beats.positions import MATCH_S, match, own_beats
from edge_train.data.mitdb import LABELS, Record
from edge_train.errors import DataError

SIMULATED = -1
"""Of ``Beats.copy``: a simulated patient's."""


@dataclass(frozen=True, slots=True)
class Beats:
    """Beats as the daemon's feeder gives them to the model, one array for each input."""

    beat: Floats
    rr: Floats
    shape: Floats
    usual: Floats
    label: Ints
    """Index into LABELS."""
    record: NDArray[np.str_]
    sample: Ints
    lead: Ints
    """Channel of the record."""
    copy: Ints
    """0: the record as it is; above: a changed copy of it; SIMULATED: a simulated patient."""

    def __len__(self) -> int:
        return int(self.label.size)

    def pick(self, which: NDArray[Any]) -> Beats:
        return Beats(*(getattr(self, part.name)[which] for part in fields(self)))


@dataclass(frozen=True, slots=True)
class Asked:
    """The windows of one lead as the daemon cuts them."""

    sample: Ints
    inputs: tuple[Floats, ...]
    """One array per input; rows of windows that abstain are absent, and so are their samples in ``sample``."""
    silent: Ints
    """Beats for which the daemon asks nothing (signal incomplete at the record's ends)."""


def ask(signal: Floats, fs: float, at: Iterable[int], manifest: Manifest) -> Asked:
    """Windows and features of the beats ``at`` of a whole lead, by the daemon's feeder."""
    feeder = Feeder(manifest, "ecg", 0, fs)
    ring = Ring(1, signal.size)
    ring.push(signal[None])
    history = RrHistory(fs)
    sample: list[int] = []
    silent: list[int] = []
    rows = []
    for beat in at:
        history.beat(beat)
        for pending in feeder.at_beat(beat, beat, history):
            window = feeder.cut(pending, ring, ())
            (silent if window.abstain else sample).append(beat)
            if not window.abstain:
                rows.append(window.inputs)
    sizes = [input_size(part) for part in manifest.inputs]
    columns = list(zip(*rows, strict=True)) or [() for _ in sizes]
    inputs = tuple(
        np.array(column, np.float32).reshape(len(rows), size) for column, size in zip(columns, sizes, strict=True)
    )
    return Asked(np.array(sample, np.int64), inputs, np.array(silent, np.int64))


def cut_beats(record: Record, *leads: int, copy: int = 0, oracle: bool = False) -> Beats:
    """The model's inputs of a record's beats, each lead in turn, where the daemon's own detector sees them or (``oracle``) the
    reference has them. What the detector invents is in the rhythm, but no example; nor are beats at the ends."""
    return join([_cut_lead(record, lead, copy, oracle) for lead in leads])


def _cut_lead(record: Record, lead: int, copy: int, oracle: bool) -> Beats:
    if not np.isfinite(record.signals[lead]).all():
        raise DataError(f"{record.name}: has samples that are not numbers")
    found = record.sample if oracle else own_beats(record, lead)
    asked = ask(record.signals[lead], record.fs, found.tolist(), feeding())
    pair = match(record.sample, asked.sample, MATCH_S * record.fs)
    known = pair >= 0
    n = int(known.sum())
    beat, rr, shape, usual = (x[known] for x in asked.inputs)
    return Beats(
        beat=beat,
        rr=rr,
        shape=shape,
        usual=usual,
        label=record.label[pair[known]],
        record=np.array([record.name] * n, "U8"),
        sample=asked.sample[known],
        lead=np.full(n, lead, np.int64),
        copy=np.full(n, copy, np.int64),
    )


def join(parts: Sequence[Beats]) -> Beats:
    if not parts:
        raise DataError("no beats at all")
    return Beats(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(Beats)))


def require_classes(label: Ints, wanted: Sequence[str], where: str) -> None:
    """A class without a single example cannot be learned; better said before an hour of training than after."""
    missing = [name for name in wanted if not (label == LABELS.index(name)).any()]
    if missing:
        raise DataError(f"{where}: no example of class {', '.join(missing)}")
