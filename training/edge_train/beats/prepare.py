"""Everything that training beat models needs, made once into files: DS1, changed copies of it, simulated patients, VitalDB's intervals."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edge_train.beats import augment, p_wave
from edge_train.beats.cut import SIMULATED, Beats, cut_beats, join, require_classes
from edge_train.beats.inputs import INPUTS
from edge_train.beats.vitaldb import RrBeats, read_vitaldb
from edge_train.counted import counted
from edge_train.data.mitdb import DS2, FOLDS, LABELS, TRAIN, check_split, read_record
from edge_train.data.part import WHOLE, thinned
from edge_train.errors import DataError
from edge_train.files import digest_of, prepared_facts

FILES = ("mitdb.npz", "vitaldb.npz", p_wave.FILE)
COPIES = 6
"""Changed copies of every record: every second with stretches of faster rhythm."""
SIMULATED_PATIENTS = range(1000, 1040)
WHENCE = (
    "run: edge-train data get mitdb, or give --shared",
    "fitting needs the annotations of the VitalDB Arrhythmia Database (fine-tuning needs mitdb alone, and nothing prepared)",
)


def prepare(shared: Path, out: Path, seed: int = 0, oracle: bool = False, part: float = WHOLE) -> dict[str, Any]:
    """Everything that training needs, as files in ``out``; DS2 is not read here at all. Of ``part`` DS1's own beats are all, since
    some classes have few; what stands beside them is thinned."""
    check_split(TRAIN, DS2)
    mitdb, vitaldb = shared / "mitdb", shared / "vitaldb_arr" / "Annotation_Files_250907"
    for folder in (mitdb, vitaldb):
        if not folder.is_dir():
            raise DataError(f"{folder}: not there; {WHENCE[folder == vitaldb]}")
    cases = sorted(vitaldb.glob("*.csv"))
    if not cases:
        raise DataError(f"{vitaldb}: holds no annotation files")
    unlabelled = p_wave.files(shared)
    out.mkdir(parents=True, exist_ok=True)
    p_wave.store(p_wave.read(shared, part), out)
    parts = []
    copies = len(thinned(range(COPIES), part))
    for name in counted("records", TRAIN):
        record = read_record(mitdb, name)
        leads = range(record.signals.shape[0])
        parts.append(cut_beats(record, *leads, oracle=oracle))
        for copy in range(1, copies + 1):
            rng = np.random.default_rng([seed, copy, int(name)])
            parts.append(
                cut_beats(augment.changed(record, rng, faster=copy % 2 == 1), *leads, copy=copy, oracle=oracle)
            )
    require_classes(join(parts).label, LABELS, "DS1")
    parts += [
        cut_beats(augment.simulated(patient), 0, copy=SIMULATED, oracle=oracle)
        for patient in counted("simulated patients", thinned(SIMULATED_PATIENTS, part))
    ]
    beats = join(parts)
    rng = np.random.default_rng(seed)
    chosen = thinned(cases, part)
    rr = [read_vitaldb(case, worse) for case in counted("cases of VitalDB", chosen) for worse in (None, rng)]
    np.savez(out / "mitdb.npz", **{part.name: getattr(beats, part.name) for part in fields(beats)})
    joined: dict[str, Any] = {
        part.name: np.concatenate([getattr(each, part.name) for each in rr]) for part in fields(RrBeats)
    }
    np.savez(out / "vitaldb.npz", **joined)
    files = [path for name in TRAIN for path in mitdb.glob(f"{name}.*")] + cases + unlabelled
    facts = {
        "inputs": INPUTS,
        "train": TRAIN,
        "folds": FOLDS,
        "test": DS2,
        "sources": digest_of(files),
        "digest": digest_of(out / name for name in FILES),
        "seed": seed,
        "oracle": oracle,
        **({"part": part} if part < WHOLE else {}),
        "beats": {label: int(((beats.label == i) & (beats.copy == 0)).sum()) for i, label in enumerate(LABELS)},
    }
    (out / "data.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def load_prepared(folder: Path) -> tuple[Beats, RrBeats, dict[str, Any]]:
    facts = prepared_facts(folder, FILES)
    try:
        with np.load(folder / "mitdb.npz") as archive:
            beats = Beats(*(archive[part.name] for part in fields(Beats)))
        with np.load(folder / "vitaldb.npz") as archive:
            rr = RrBeats(*(archive[part.name] for part in fields(RrBeats)))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        raise DataError(
            f"{folder}: prepared data are damaged ({error}); run: edge-train data prepare {folder.name}"
        ) from None
    if facts.get("inputs") != INPUTS:
        raise DataError(f"{folder}: prepared with other inputs; run: edge-train data prepare {folder.name}")
    return beats, rr, facts
