"""What the daemon recorded opens with the daemon's own words; and the configuration's models label what has none."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from edge_agent import events
from edge_agent.annotation_files import mit
from edge_agent.config import InferenceConfig, RecorderConfig
from edge_agent.inference.loaded import shipped_models
from edge_agent.journey import Block
from edge_agent.outputs.mit_annotations import Annotation, Encoder
from edge_agent.outputs.recorder import Recorder
from edge_agent.outputs.segment import Place, Segment
from edge_agent.replay import Settings, open_for_replay, run_blocks
from edge_agent.review.labelling import judge_of
from edge_agent.review.library import Library
from edge_agent.review.recorded import take
from edge_agent.sources.base import Signal
from edge_agent.sources.paced import RecordingReader
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from tests.review.conftest import wait_for

FS = 250.0
SCRIPT = Script(
    (
        Episode("sinus rhythm", 20),
        Episode("ventricular beats", 30, pvc_per_min=20),
        Episode("asystole", 12, rhythm="asystole"),
        Episode("sinus again", 20),
    )
)


@pytest.fixture(scope="module")
def device(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[events.Event]]:
    """A recorder's folder, and what was said while it recorded."""
    folder = tmp_path_factory.mktemp("device")
    patient = SimulatedPatient(FS, ("II", "ABP"), SCRIPT, 5)
    segment = Segment(Place(folder / "source"), (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")), FS, 0, None)
    while (block := patient.read(5000)) is not None and segment.end < 82 * FS:
        segment.append(segment.end, block.values)
    segment.close()
    recorder = Recorder(RecorderConfig(folder=folder / "recordings", mode="everything"))
    recorder.start()
    recording, info = open_for_replay(folder / "source", Settings(), fs=None, all_leads=False)
    reader = RecordingReader(recording)

    def blocks() -> Iterator[Block]:
        while (block := reader.read(125)) is not None:
            recorder.block("bed-1", info, block)
            yield block

    said = []
    for event in run_blocks(info, blocks(), judge_of(InferenceConfig()), Settings(), "bed-1"):
        said.append(event)
        recorder.event(event)
    recording.close()
    recorder.stop(20.0)
    return folder / "recordings", said


def opened(folder: Path, state: Path, **more: Any) -> tuple[Library, Any]:
    library = Library(folder, state, **more)
    (name,) = library.names()
    assert name.startswith("bed-1/")
    return library, library.open(name)


def _is_done(one: Any) -> bool:
    return bool(one.merged()) and one.found.state in ("whole", "failed")


def labels(said: list[events.Event]) -> dict[int, str | None]:
    found: dict[int, str | None] = {
        one.sample: None for one in said if isinstance(one, events.Beat) and one.channel == "II"
    }
    found |= {one.sample: one.label for one in said if isinstance(one, events.Verdict) and one.task == "ecg-beat"}
    return {at: None if label == "Q" else label for at, label in found.items()}


def test_the_daemons_labels_and_alarms_are_shown_without_asking_a_model(
    device: tuple[Path, list[events.Event]], tmp_path: Path
) -> None:
    folder, said = device
    library, one = opened(folder, tmp_path / "state", models=False)
    try:
        merged, _ = one.merged()
        shown = {beat.sample: beat.model for beat in merged.beats(0, one.waves.samples, 10**6)}
        wanted = labels(said)
        assert "V" in wanted.values()
        assert {at: label for at, label in shown.items() if at in wanted} == wanted
        raised = {(e.kind, e.sample) for e in said if isinstance(e, events.Alarm) and e.state == "raised"}
        cleared = {(e.kind, e.sample) for e in said if isinstance(e, events.Alarm) and e.state == "cleared"}
        alarms = list(one.found.alarms(0, one.waves.samples))
        assert "asystole" in {kind for kind, _ in raised}
        assert {(e["kind"], e["sample"]) for e in alarms if e["state"] != "suppressed"} == raised
        assert {(e["kind"], e["until"]) for e in alarms if e["state"] == "cleared"} == cleared
        assert next(e["priority"] for e in alarms if e["kind"] == "asystole") == "high"
        assert "agent's own" in " ".join(one.said)
        assert {mark["kind"] for mark in one.found.marks(0, one.waves.samples)} >= {"rhythm"}
    finally:
        library.close()


def test_the_daemons_word_stands_and_the_models_add_their_scores(
    device: tuple[Path, list[events.Event]], tmp_path: Path
) -> None:
    shutil.copytree(device[0], tmp_path / "recordings")
    (edge,) = (tmp_path / "recordings").glob("*/*.edge")
    words = mit.read(edge)
    at = next(i for i, one in enumerate(words) if one.symbol == "N" and one.sample > 15 * FS)
    words[at] = mit.Annotation(words[at].sample, "F", channel=words[at].channel)  # as another model said it then
    mit.write(edge, words)
    library, one = opened(tmp_path / "recordings", tmp_path / "state")
    try:
        wait_for(lambda: one.merged() and one.found.state in ("whole", "failed"), 60)
        assert one.found.state == "whole", one.found.why
        beats = {beat.sample: beat for beat in one.merged()[0].beats(0, one.waves.samples, 10**6)}
        assert (beats[words[at].sample].model, beats[words[at].sample].score) == ("F", None)
        scored = [beat for beat in beats.values() if beat.score is not None]
        assert len(scored) > 0.8 * sum(beat.model is not None for beat in beats.values())
        (asystole,) = [alarm for alarm in one.found.alarms(0, one.waves.samples) if alarm["kind"] == "asystole"]
        assert asystole["evidence"]
        assert any(segment.label for segment in one.merged()[0].segments)  # asked of the pressure's model
    finally:
        library.close()


def test_what_is_still_being_written_is_read_in_order_of_time(tmp_path: Path) -> None:
    """The recorder puts them in order when it closes the file, and the page looks earlier."""
    encoder = Encoder()
    said = [Annotation(7000, 0, "N"), Annotation(900, 0, "+", 0, "(N"), Annotation(500, 0, '"', 0, "asystole raised")]
    said[2:2] = [Annotation(8000, 0, '"', 0, "asystole cleared")]
    (tmp_path / "x.edge").write_bytes(b"".join(map(encoder.encode, said)))
    base = sqlite3.connect(":memory:")
    base.execute("CREATE TABLE beats(sample, channel, label)")
    base.execute("CREATE TABLE marks(sample, channel, kind, text)")
    base.execute("CREATE TABLE alarms(id, kind, priority, state, sample, until, channel, evidence)")
    assert take(base, tmp_path / "x.edge", ["II"]) == 1
    assert base.execute("SELECT state, sample, until FROM alarms").fetchall() == [("cleared", 500, 8000)]
    base.close()


def test_damaged_annotations_are_said_and_cost_nothing_else(
    device: tuple[Path, list[events.Event]], tmp_path: Path
) -> None:
    shutil.copytree(device[0], tmp_path / "recordings")
    (edge,) = (tmp_path / "recordings").glob("*/*.edge")
    edge.write_bytes(b"\xff\xc8" * 40)
    library, one = opened(tmp_path / "recordings", tmp_path / "state", models=False)
    try:
        assert any("not a WFDB annotation file" in line for line in one.said)
        assert one.merged()[0].sample.size == 0
    finally:
        library.close()


def test_a_recording_that_grew_is_opened_anew(device: tuple[Path, list[events.Event]], tmp_path: Path) -> None:
    shutil.copytree(device[0], tmp_path / "recordings")
    library, one = opened(tmp_path / "recordings", tmp_path / "state", models=False)
    try:
        assert one.pyramid.wait(20)
        library.renew(one.name)
        assert library.open(one.name) is one
        dat, header = one.path.with_suffix(".dat"), one.path
        samples = one.waves.samples
        dat.write_bytes(dat.read_bytes() + b"\0" * 4000)
        header.write_text(header.read_text().replace(str(samples), str(samples + 1000), 1))
        library.renew(one.name)
        again = library.open(one.name)
        assert again.waves.samples == samples + 1000
        assert again.pyramid.wait(20)
        kept = [file.name for file in (tmp_path / "state" / "cache").glob("*.pyramid")]
        assert len(kept) == 1  # what was computed before it grew is gone
    finally:
        library.close()


def test_the_configurations_models_label(made: Path, tmp_path: Path) -> None:
    shutil.copytree(shipped_models() / "abp-segment", tmp_path / "models" / "abp-segment")
    for inference, beats in ((InferenceConfig(models_dir=tmp_path / "models"), False), (InferenceConfig(), True)):
        library = Library(made, tmp_path / "state", inference=inference)  # one cache, each its own findings
        try:
            one = library.open("patient")
            wait_for(partial(_is_done, one), 60)
            assert one.found.state == "whole", one.found.why
            merged, _ = one.merged()
            assert (merged.counts()["N"] > 50) is beats
            assert any(segment.label for segment in merged.segments)
        finally:
            library.close()


def test_a_model_of_the_store_that_cannot_be_read_is_said(made: Path, tmp_path: Path) -> None:
    shutil.copytree(shipped_models() / "ecg-beat-aami", tmp_path / "models" / "ecg-beat-aami")
    (tmp_path / "models" / "ecg-beat-aami" / "model.tflite").write_bytes(b"no model")
    library = Library(made, tmp_path / "state", inference=InferenceConfig(models_dir=tmp_path / "models"))
    try:
        one = library.open("patient")
        wait_for(lambda: one.merged() and one.found.state in ("whole", "failed"), 60)
        assert one.found.state == "failed"
        assert "ecg-beat-aami" in one.found.why
    finally:
        library.close()
