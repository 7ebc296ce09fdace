"""Everything that training beat models needs, made once into files: DS1, changed copies of it, simulated patients, VitalDB's intervals."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from edge_train import augment, beat_p
from edge_train.beat_inputs import INPUTS
from edge_train.data import (
    DS2,
    FOLDS,
    LABELS,
    SIMULATED,
    TRAIN,
    DataError,
    RrBeats,
    check_split,
    cut_beats,
    digest_of,
    join,
    read_record,
    read_vitaldb,
    require_classes,
)

COPIES = 6
"""Changed copies of every record: every second with stretches of faster rhythm."""
SIMULATED_PATIENTS = range(1000, 1040)


def prepare(shared: Path, out: Path, seed: int = 0, oracle: bool = False) -> dict[str, Any]:
    """Everything that training needs, as files in ``out``; DS2 is not read here at all."""
    check_split(TRAIN, DS2)
    mitdb, vitaldb = shared / "mitdb", shared / "vitaldb_arr" / "Annotation_Files_250907"
    for folder in (mitdb, vitaldb):
        if not folder.is_dir():
            raise DataError(f"{folder}: not there; it is needed (see {shared / 'README.md'})")
    cases = sorted(vitaldb.glob("*.csv"))
    if not cases:
        raise DataError(f"{vitaldb}: holds no annotation files")
    unlabelled = beat_p.files(shared)
    out.mkdir(parents=True, exist_ok=True)
    beat_p.store(beat_p.read(shared), out)
    parts = []
    for name in TRAIN:
        record = read_record(mitdb, name)
        leads = range(record.signals.shape[0])
        parts.append(cut_beats(record, *leads, oracle=oracle))
        for copy in range(1, COPIES + 1):
            rng = np.random.default_rng([seed, copy, int(name)])
            parts.append(
                cut_beats(augment.changed(record, rng, faster=copy % 2 == 1), *leads, copy=copy, oracle=oracle)
            )
    require_classes(join(parts).label, LABELS, "DS1")
    parts += [cut_beats(augment.simulated(patient), 0, copy=SIMULATED, oracle=oracle) for patient in SIMULATED_PATIENTS]
    beats = join(parts)
    rng = np.random.default_rng(seed)
    rr = [read_vitaldb(case, worse) for case in cases for worse in (None, rng)]
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
        "digest": digest_of(files),
        "seed": seed,
        "oracle": oracle,
        "beats": {label: int(((beats.label == i) & (beats.copy == 0)).sum()) for i, label in enumerate(LABELS)},
    }
    (out / "data.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts
