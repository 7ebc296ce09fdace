"""What the review page's own code exports is what fine-tuning reads: beats and segments, each with what a person said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_train.errors import DataError
from edge_train.finetuning import corrections

from edge_agent.inference.artifact import load
from edge_agent.inference.loaded import shipped_models
from edge_agent.inference.manifest import Manifest
from edge_agent.outputs.mit_annotations import Annotation
from edge_agent.outputs.segment import Place, Segment
from edge_agent.review.corrections import wish
from edge_agent.review.library import Library
from edge_agent.sources.base import Signal
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script

FS = 250.0
SECONDS = 240
RECORD = "bed-1/20261121T101500Z-0"


def manifest(name: str) -> Manifest:
    return load(shipped_models() / name).manifest


@pytest.fixture
def library(tmp_path: Path) -> Any:
    """A recording as the daemon leaves it, all of its beats N."""
    base = tmp_path / "recordings" / RECORD
    base.parent.mkdir(parents=True)
    segment = Segment(Place(base), (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")), FS, 0, None)
    patient = SimulatedPatient(FS, ("II", "ABP"), Script((Episode("sinus rhythm", SECONDS),)), 3)
    while segment.end < SECONDS * FS and (block := patient.read(5000)) is not None:
        segment.append(segment.end, block.values)
    for at in range(500, round(SECONDS * FS) - 500, 210):
        segment.annotate(Annotation(at, 0, "N"))
    segment.close()
    made = Library(tmp_path / "recordings", tmp_path / "state", models=False)
    yield made
    made.close()


def say(library: Library, number: int, **what: Any) -> None:
    library.corrections.apply(RECORD, wish({"token": f"token-{number:05d}", "who": "ann", **what}))


def labels(found: corrections.Corrected) -> dict[int, int]:
    made: dict[int, int] = {}
    for part in (found.train, found.stop, found.test):
        for where, label in zip(part.where.tolist(), part.label.tolist(), strict=True):
            made[int(where.split(":")[1])] = label
    return made


def test_beats(library: Library) -> None:
    known = manifest("ecg-beat-aami")
    one = library.open(RECORD)
    merged, _ = one.merged()
    at = merged.sample.tolist()
    assert len(at) > 200
    for i in range(0, len(at), 5):
        say(library, i, act="label", id=f"m{at[i]}", sample=at[i], label="V")
    say(library, 10_001, act="delete", id=f"m{at[1]}", sample=at[1])
    say(library, 10_002, act="move", id=f"m{at[2]}", sample=at[2] + 7, label="N")
    say(library, 10_003, act="add", sample=at[3] + 100, label="S")
    say(library, 10_004, act="reviewed", first=0, end=at[180] + 1)
    exported = one.export()
    found = labels(corrections.read(exported.annotations.parent, known))
    wanted = {sample: "V" if i % 5 == 0 else "N" for i, sample in enumerate(at) if i <= 180 or i % 5 == 0}
    del wanted[at[1]], wanted[at[2]]
    wanted |= {at[2] + 7: "N", at[3] + 100: "S"}
    assert set(found) <= set(wanted)
    assert len(found) > 0.8 * len(wanted)  # those between the parts, and too near to the ends, are left out
    for sample, label in found.items():
        assert known.labels[label] == wanted[sample], sample
    for special in (at[2] + 7, at[3] + 100):
        assert special in found


def test_segments(library: Library) -> None:
    known = manifest("abp-segment")
    one = library.open(RECORD)
    step = round(10 * FS)
    spans = [(first, first + step) for first in range(0, round(SECONDS * FS) - step + 1, step)]
    for i, (first, end) in enumerate(spans):
        say(library, i, act="artefact" if i % 3 == 0 else "normal", first=first, end=end, channel="ABP")
    exported = one.export()
    assert exported.marks is not None
    found = labels(corrections.read(exported.marks.parent, known))
    assert len(found) > len(spans) / 2
    for sample, label in found.items():
        inside = [i for i, (first, end) in enumerate(spans) if first < sample + 1 and sample + 1 - 10 * FS < end]
        marked = any(i % 3 == 0 for i in inside)
        assert known.labels[label] == ("anomalous" if marked else "normal"), sample
    assert set(np.unique(list(found.values())).tolist()) == {0, 1}


def test_nobody_said_anything_of_a_segment(library: Library) -> None:
    exported = library.open(RECORD).export()
    assert exported.marks is None
    with pytest.raises(DataError, match="no such folder"):
        corrections.read(exported.annotations.parent.parent / "segments", manifest("abp-segment"))
