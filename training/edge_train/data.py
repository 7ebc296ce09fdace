"""Beats of the public databases, cut by the daemon's own code, split by patient and never by beat."""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.artifact import input_size
from edge_agent.inference.feeder import Feeder
from edge_agent.inference.manifest import Manifest
from edge_agent.signal.qrs import make_qrs_detector
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_train.beat_inputs import BEAT as BEAT
from edge_train.beat_inputs import GRID as GRID
from edge_train.beat_inputs import INPUTS, RR_FEATURES, feeding

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LABELS = ("N", "S", "V", "F", "Q")
_MEMBERS = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
AAMI = {symbol: label for label, symbols in _MEMBERS.items() for symbol in symbols}
"""MIT-BIH annotation code to AAMI class (ANSI/AAMI EC57)."""

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


class DataError(ValueError):
    """Data that is missing or must not be trained on; says which, and what to do."""


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


def shared_folder(given: Path | None) -> Path:
    """Where the public data lie: as told, else $EDGE_AGENT_SHARED, else ``shared`` beside the checkout."""
    folder = given or Path(os.environ.get("EDGE_AGENT_SHARED", Path(__file__).resolve().parents[3] / "shared"))
    if not (folder / "data").is_dir():
        raise DataError(f"{folder}: no folder 'data' there; give --shared DIR or set EDGE_AGENT_SHARED")
    return folder / "data"


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


MATCH_S = 0.150
"""Two marks closer than this are one beat (EC57)."""


def own_beats(record: Record, lead: int) -> Ints:
    """R peaks by the daemon's own detector."""
    detector = make_qrs_detector(record.fs, "ecg")
    beats = [*detector.feed(record.signals[lead], 0), *detector.flush()]
    return np.array(sorted(beat.sample for beat in beats), np.int64)


def match(reference: Ints, found: Ints, window: float) -> Ints:
    """For each found mark the index of its reference beat, -1 for none; each is used once, nearest pairs first."""
    pairs = []
    for i, at in enumerate(found.tolist()):
        low, high = np.searchsorted(reference, [at - window, at + window + 1])
        pairs += [(abs(int(reference[k]) - at), i, k) for k in range(low, high)]
    result = np.full(found.size, -1, np.int64)
    taken: set[int] = set()
    for _, i, k in sorted(pairs):
        if result[i] < 0 and k not in taken:
            result[i] = k
            taken.add(k)
    return result


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


def digest_of(paths: Iterable[Path]) -> str:
    """SHA-256 over names and contents: the data that a model says it was trained on."""
    total = hashlib.sha256()
    for path in sorted(paths):
        total.update(path.name.encode() + b"\0" + hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


# --- VitalDB: no signals, many patients -----------------------------------------------------------------------------
FIBRILLATION = "AFIB/AFL"


@dataclass(frozen=True, slots=True)
class RrBeats:
    """Beats known by their times alone."""

    features: Floats
    label: Ints
    """Index into LABELS: N, S or V."""
    patient: NDArray[np.str_]


def read_vitaldb(path: Path, rng: np.random.Generator | None = None) -> RrBeats:
    """One case. Every beat of fibrillation is labelled S there and N in MIT-BIH: taken as N, and kept as a negative.

    With ``rng`` the times are those of a worse observer: jittered by some ms, a beat missed now and then, and a history
    that starts afresh at random places.
    """
    times, kinds, rhythms = [], [], []
    try:
        with path.open(encoding="utf-8-sig", newline="") as handle:
            for row in csv.DictReader(handle):
                times.append(float(row["time_second"]))
                unusable = row["bad_signal_quality"] == "True" or row["rhythm_label"] == "Noise"
                kinds.append("" if unusable else row["beat_type"])
                rhythms.append(row["rhythm_label"])
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: cannot be read ({error!r})") from None
    fs = 1000.0
    at = np.rint(np.array(times) * fs)
    gap = np.array([kind not in ("N", "S", "V") for kind in kinds], bool)
    keep = ~gap
    if rng is not None:
        at = at + np.rint(rng.normal(0, 6.0, at.size))
        keep &= rng.random(at.size) > 0.004
        gap |= rng.random(at.size) < 0.004
    after_gap = np.concatenate([[False], gap[:-1]])
    fresh: RrHistory | None = None
    rows, target = [], []
    for i in np.flatnonzero(keep).tolist():
        if fresh is None or (rng is not None and rng.random() < 0.003):
            fresh = RrHistory(fs)
        if after_gap[i]:
            fresh.gap()
        fresh.beat(int(at[i]))
        rows.append(fresh.features(RR_FEATURES))
        target.append("N" if kinds[i] == "S" and rhythms[i] == FIBRILLATION else kinds[i])
    name = path.stem.removeprefix("Annotation_file_")
    return RrBeats(
        np.array(rows, np.float32).reshape(len(rows), len(RR_FEATURES)),
        np.array([LABELS.index(kind) for kind in target], np.int64),
        np.array([name] * len(rows), "U8"),
    )


# --- preparing --------------------------------------------------------------------------------------------------------

SIMULATED = -1
"""Of ``Beats.copy``: a simulated patient's."""


def load_prepared(folder: Path) -> tuple[Beats, RrBeats, dict[str, Any]]:
    try:
        facts = json.loads((folder / "data.json").read_text())
        with np.load(folder / "mitdb.npz") as archive:
            beats = Beats(*(archive[part.name] for part in fields(Beats)))
        with np.load(folder / "vitaldb.npz") as archive:
            rr = RrBeats(*(archive[part.name] for part in fields(RrBeats)))
    except (OSError, KeyError) as error:
        raise DataError(f"{folder}: no prepared data ({error}); run: edge-train data") from None
    if facts.get("inputs") != INPUTS:
        raise DataError(f"{folder}: prepared with other inputs; run edge-train data again")
    return beats, rr, facts
