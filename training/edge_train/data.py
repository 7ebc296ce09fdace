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

from edge_agent.signal.rr import RrHistory
from edge_agent.signal.windows import Cutter

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

LABELS = ("N", "S", "V", "F", "Q")
_MEMBERS = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
AAMI = {symbol: label for label, symbols in _MEMBERS.items() for symbol in symbols}
"""MIT-BIH annotation code to AAMI class (ANSI/AAMI EC57)."""

FEATURES = (
    "rr_last_log",
    "rr_median8_log",
    "rr_prev_median8_log",
    "rr_mean32_log",
    "rr_p10_60s_log",
    "rr_p50_60s_log",
    "rr_p75_60s_log",
    "rr_p90_60s_log",
    "rr_p75_300s_log",
    "rr_p90_300s_log",
    "rr_prev_p90_60s_log",
    "rr_cv16",
    "rr_step8",
    "rr_cv_60s",
    "rr_mad_60s",
    "rr_step_60s",
)
"""What the models here ask of edge_agent.signal.rr, in their order."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of signal around the R peak."""

    rate_hz: float
    samples: int
    before: int


BEAT = Stretch(360.0, 216, 114)
"""The beat itself. With the resampling filter's reach it ends 0.28 s (360 Hz) to 0.35 s (125 Hz) after the R peak."""
PAST = Stretch(90.0, 270, 248)
"""The three seconds that end with it, coarsely: what this patient's beats look like, and how large they are."""
WIDE_BEAT = Stretch(360.0, 432, 222)
WIDE_PAST = Stretch(90.0, 356, 322)
"""Training windows are cut wider than the model's own, so that warping and shifting stay inside real signal."""

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
    """Beats with their signal around the R peak (mV), their past, and their causal RR features."""

    wide: Floats
    """As WIDE_BEAT says."""
    past: Floats
    """As WIDE_PAST says."""
    features: Floats
    label: Ints
    """Index into LABELS."""
    record: NDArray[np.str_]
    sample: Ints
    lead: Ints
    """Channel of the record."""

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


def rr_features(sample: Iterable[int], fs: float, gap_before: Iterable[bool] | None = None) -> Floats:
    """The causal features of every beat, by the daemon's own history."""
    history = RrHistory(fs)
    rows = []
    at = list(sample)
    for beat, gap in zip(at, gap_before or [False] * len(at), strict=True):
        if gap:
            history.gap()
        history.beat(beat)
        rows.append(history.features(FEATURES))
    return np.array(rows, np.float32).reshape(len(rows), len(FEATURES))


def cut_beats(record: Record, *leads: int) -> Beats:
    """Wide windows (of each lead in turn) and features of a record's beats; those at its ends have no window."""
    features = rr_features(record.sample.tolist(), record.fs)
    return join([_cut_lead(record, lead, features) for lead in leads])


def _cut_lead(record: Record, lead: int, features: Floats) -> Beats:
    cutters = [
        Cutter(fs=record.fs, rate_hz=part.rate_hz, samples=part.samples, before=part.before, normalisation="none")
        for part in (WIDE_BEAT, WIDE_PAST)
    ]
    first, end = min(cutter.first for cutter in cutters), max(cutter.end for cutter in cutters)
    inside = (record.sample + first >= 0) & (record.sample + end <= record.signals.shape[1])
    windows: tuple[list[Floats], list[Floats]] = ([], [])
    for r in record.sample[inside].tolist():
        for cutter, made in zip(cutters, windows, strict=True):
            window = cutter.cut(record.signals[lead, r + cutter.first : r + cutter.end])
            if window is None:
                raise DataError(f"{record.name}: samples around {r} are not numbers")
            made.append(window)
    n = int(inside.sum())
    return Beats(
        wide=np.array(windows[0], np.float32).reshape(n, WIDE_BEAT.samples),
        past=np.array(windows[1], np.float32).reshape(n, WIDE_PAST.samples),
        features=features[inside],
        label=record.label[inside],
        record=np.array([record.name] * n, "U8"),
        sample=record.sample[inside],
        lead=np.full(n, lead, np.int64),
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
    premature: NDArray[np.float32]
    """1 for a supraventricular ectopic, 0 for a normal beat."""
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
        if kinds[i] != "V":  # a ventricular beat is history only: here N is told from S
            rows.append(fresh.features(FEATURES))
            target.append(1.0 if kinds[i] == "S" and rhythms[i] != FIBRILLATION else 0.0)
    name = path.stem.removeprefix("Annotation_file_")
    return RrBeats(
        np.array(rows, np.float32).reshape(len(rows), len(FEATURES)),
        np.array(target, np.float32),
        np.array([name] * len(rows), "U8"),
    )


# --- preparing --------------------------------------------------------------------------------------------------------


def prepare(shared: Path, out: Path, seed: int = 0) -> dict[str, Any]:
    """Everything that training needs, as files in ``out``; DS2 is not read here at all."""
    check_split(TRAIN, DS2)
    mitdb, vitaldb = shared / "mitdb", shared / "vitaldb_arr" / "Annotation_Files_250907"
    for folder in (mitdb, vitaldb):
        if not folder.is_dir():
            raise DataError(f"{folder}: not there; it is needed (see {shared / 'README.md'})")
    out.mkdir(parents=True, exist_ok=True)
    parts = []
    for name in TRAIN:
        record = read_record(mitdb, name)
        parts.append(cut_beats(record, *range(record.signals.shape[0])))
    beats = join(parts)
    require_classes(beats.label, LABELS, "DS1")
    cases = sorted(vitaldb.glob("*.csv"))
    if not cases:
        raise DataError(f"{vitaldb}: holds no annotation files")
    rng = np.random.default_rng(seed)
    rr = [read_vitaldb(case, worse) for case in cases for worse in (None, rng)]
    np.savez(out / "mitdb.npz", **{part.name: getattr(beats, part.name) for part in fields(beats)})
    np.savez(
        out / "vitaldb.npz",
        features=np.concatenate([part.features for part in rr]),
        premature=np.concatenate([part.premature for part in rr]),
        patient=np.concatenate([part.patient for part in rr]),
    )
    files = [path for name in TRAIN for path in mitdb.glob(f"{name}.*")] + cases
    facts = {
        "features": list(FEATURES),
        "train": TRAIN,
        "folds": FOLDS,
        "test": DS2,
        "digest": digest_of(files),
        "seed": seed,
        "beats": {label: int((beats.label == i).sum()) for i, label in enumerate(LABELS)},
    }
    (out / "data.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def load_prepared(folder: Path) -> tuple[Beats, RrBeats, dict[str, Any]]:
    try:
        facts = json.loads((folder / "data.json").read_text())
        with np.load(folder / "mitdb.npz") as archive:
            beats = Beats(*(archive[part.name] for part in fields(Beats)))
        with np.load(folder / "vitaldb.npz") as archive:
            rr = RrBeats(*(archive[part.name] for part in fields(RrBeats)))
    except OSError as error:
        raise DataError(f"{folder}: no prepared data ({error}); run: edge-train data") from None
    if tuple(facts["features"]) != FEATURES:
        raise DataError(f"{folder}: prepared with other RR features; run edge-train data again")
    return beats, rr, facts
