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
from edge_train.data.mitdb import DS2, FOLDS, LABELS, TRAIN, check_split, read_record
from edge_train.errors import DataError
from edge_train.files import digest_of, prepared_facts

FILES = ("mitdb.npz", "vitaldb.npz", p_wave.FILE)
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
    unlabelled = p_wave.files(shared)
    out.mkdir(parents=True, exist_ok=True)
    p_wave.store(p_wave.read(shared), out)
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
        "sources": digest_of(files),
        "digest": digest_of(out / name for name in FILES),
        "seed": seed,
        "oracle": oracle,
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
