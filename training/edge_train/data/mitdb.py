"""The MIT-BIH Arrhythmia Database: records, classes, and who is on which side: split by patient and never by beat."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.annotation_files.mit import AAMI, CLASSES
from edge_train.arrays import Floats, Ints
from edge_train.errors import DataError

LABELS = CLASSES
_DS1 = "101 106 108 109 112 114 115 116 118 119 122 124 201 203 205 207 208 209 215 220 223 230"
DS1 = _DS1.split()
_DS2 = "100 103 105 111 113 117 121 123 200 202 210 212 213 214 219 221 222 228 231 232 233 234"
DS2 = _DS2.split()
SAME_PERSON = {"202": "201"}
"""MIT-BIH record to the record that stands for its patient: 201 and 202 are one man, and the usual split has him on both sides."""
TRAIN = [record for record in DS1 if record != "201"]
FOLDS = (
    ["106", "112", "116", "124", "203", "209", "223"],
    ["101", "109", "114", "118", "205", "208", "220"],
    ["108", "115", "119", "122", "207", "215", "230"],
)
"""Patients of DS1 kept aside in turn, every class with some in each: number of epochs and offsets come from them."""


def patient(record: str) -> str:
    return SAME_PERSON.get(record, record)


def check_split(train: Sequence[str], *others: Sequence[str]) -> None:
    """Refuse a split that has a patient on both sides."""
    seen = {patient(record) for record in train}
    for other in others:
        both = sorted(record for record in other if patient(record) in seen)
        if both:
            raise DataError(f"patient on both sides of the split: record {', '.join(both)}")


def main_lead(names: Sequence[str]) -> int:
    """MLII where there is one (record 114 has it second), else the first."""
    return list(names).index("MLII") if "MLII" in names else 0


@dataclass(frozen=True, slots=True)
class Record:
    """One recording: signals in mV and its reference beats."""

    name: str
    fs: float
    signals: Floats
    """Shape (channels, samples)."""
    leads: tuple[str, ...]
    sample: Ints
    label: Ints
    vf: tuple[tuple[int, int], ...] = ()
    """Episodes of ventricular flutter, where EC57 scores no beats."""

    @property
    def main(self) -> int:
        return main_lead(self.leads)


def read_record(folder: Path, name: str) -> Record:
    """A WFDB record with its reference annotations."""
    import wfdb

    try:
        signal = wfdb.rdrecord(str(folder / name))
        annotation = wfdb.rdann(str(folder / name), "atr")
    except (OSError, ValueError) as error:
        raise DataError(f"{folder / name}: record cannot be read ({error}); is the download complete?") from None
    values = np.ascontiguousarray(signal.p_signal.T, dtype=np.float32)
    if not np.isfinite(values).all():
        raise DataError(f"{folder / name}: {int((~np.isfinite(values)).sum())} samples are not numbers")
    codes = [
        (int(at), AAMI[code]) for at, code in zip(annotation.sample, annotation.symbol, strict=True) if code in AAMI
    ]
    starts = [int(at) for at, code in zip(annotation.sample, annotation.symbol, strict=True) if code == "["]
    ends = [int(at) for at, code in zip(annotation.sample, annotation.symbol, strict=True) if code == "]"]
    return Record(
        name=name,
        fs=float(signal.fs),
        signals=values,
        leads=tuple(signal.sig_name),
        sample=np.array([at for at, _ in codes], np.int64),
        label=np.array([LABELS.index(label) for _, label in codes], np.int64),
        vf=tuple(zip(starts, ends, strict=True)),
    )
