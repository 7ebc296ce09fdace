"""Learning a patient: what corrections are taken, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from edge_train.cli import main
from edge_train.data import artf
from edge_train.errors import DataError
from edge_train.finetuning import corrections, finetune
from edge_train.packing import floats
from edge_train.packing.pack import unpacked

from edge_agent.inference.artifact import load, open_engine
from edge_agent.inference.manifest import Manifest

FS = 100.0
SECONDS = 400


def odd_pressure(rng: np.random.Generator) -> tuple[np.ndarray, list[tuple[float, float]]]:
    """A patient whose artefact is one that nobody else has: the line is clamped, flat at its top. Where, in seconds."""
    x = toy.pulse(round(SECONDS * FS), rng, FS)
    marks = []
    for start in range(10, SECONDS - 10, 10):
        if rng.random() < 0.4:
            x[round(start * FS) : round((start + 6) * FS)] = 130 + rng.normal(0, 0.5, round(6 * FS))
            marks.append((float(start), float(start + 6)))
    return x, marks


def write_record(folder: Path, name: str, x: np.ndarray, kind: str = "ABP", unit: str = "mmHg", fs: float = FS) -> None:
    import wfdb

    folder.mkdir(parents=True, exist_ok=True)
    wfdb.wrsamp(
        name, fs=fs, units=[unit], sig_name=[kind], p_signal=x[:, None].astype(float), fmt=["16"], write_dir=str(folder)
    )


def write_marks(path: Path, marks: list[tuple[float, float]], signal: str = "art") -> None:
    made = tuple(artf.Mark(round(start * 1e6), round(end * 1e6)) for start, end in marks)
    artf.write(path, artf.Artf((artf.Group(signal, made),)))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("corrections")
    x, marks = odd_pressure(np.random.default_rng(5))
    write_record(made, "bed7", x)
    write_marks(made / "bed7.artf", marks)
    return made


@pytest.fixture(scope="session")
def manifest(toy_artifact: Path) -> Manifest:
    return load(toy_artifact).manifest


def test_marks_become_labels(folder: Path, manifest: Manifest) -> None:
    found = corrections.read(folder, manifest)
    marks = artf.read(folder / "bed7.artf").of(["art"])
    every = [found.train, found.stop, found.test]
    assert found.patients == ("bed7",)
    assert sum(len(part) for part in every) >= SECONDS / 2 * 0.8
    for part in every:
        for where, label in zip(part.where.tolist(), part.label.tolist(), strict=True):
            end = (int(where.split(":")[1]) + 1) / FS
            marked = any(mark.start_us < end * 1e6 and mark.end_us > (end - 2) * 1e6 for mark in marks)
            assert marked == bool(label)
    last = [int(part.where[-1].split(":")[1]) for part in every]
    first = [int(part.where[0].split(":")[1]) for part in every]
    assert last[0] + 2 * FS <= first[1]
    assert last[1] + 2 * FS <= first[2]


def test_only_what_was_reviewed_counts(folder: Path, manifest: Manifest, tmp_path: Path) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / corrections.REVIEWED).write_text(json.dumps({"bed7": {"patient": "Ann", "reviewed": [[5000, 25000]]}}))
    found = corrections.read(tmp_path, manifest)
    every = np.concatenate([part.where for part in (found.train, found.stop, found.test)])
    samples = np.array([int(where.split(":")[1]) for where in every])
    assert samples.min() >= 5000 + 2 * FS - 1
    assert samples.max() < 25000
    assert found.patients == ("Ann",)


def beat_manifest() -> Manifest:
    part = {
        "kind": "signal", "name": "wave", "signal": "ecg", "rate_hz": 90.0, "samples": 63, "before": 36, "normalisation": "zscore",
    }  # fmt: skip
    about = toy.TASK.about("toy", {"data": ["x"]}, 0, {}) | {
        "anchor": {"kind": "beat"},
        "inputs": [part],
        "labels": ["N", "V"],
    }
    return unpacked(about, "toy")


def test_annotations_become_labels(tmp_path: Path) -> None:
    import wfdb

    x = np.random.default_rng(6).normal(0, 0.1, 40_000)
    write_record(tmp_path, "r", x, "II", "mV", 250.0)
    beats = np.arange(500, 39_500, 200)
    symbols = ["V" if i % 3 == 0 else "N" for i in range(beats.size)]
    wfdb.wrann(
        "r", "rev", np.sort(np.append(beats, 777)), symbol=[*symbols[:2], "+", *symbols[2:]], write_dir=str(tmp_path)
    )
    found = corrections.read(tmp_path, beat_manifest())
    for part in (found.train, found.stop, found.test):
        for where, label in zip(part.where.tolist(), part.label.tolist(), strict=True):
            at = int(where.split(":")[1])
            assert symbols[int(np.flatnonzero(beats == at)[0])] == "NV"[label]
    with pytest.raises(DataError, match="holds no corrected beats"):
        corrections.read(tmp_path, beat_manifest(), "other")
    wfdb.wrann(
        "r", "rev", beats, symbol=["S" if i == 4 else one for i, one in enumerate(symbols)], write_dir=str(tmp_path)
    )
    with pytest.raises(DataError, match="beats of class S; toy knows N, V"):
        corrections.read(tmp_path, beat_manifest())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "bed7.artf").write_text("<ICMArtefacts>"), "not an .artf file"),
        (lambda folder: (folder / "bed7.artf").unlink(), "holds no corrected segments"),
        (lambda folder: (folder / "bed7.hea").unlink(), "no recording bed7 beside it"),
        (lambda folder: (folder / "bed7.dat").write_bytes(b"xx"), "bed7"),
        (lambda folder: (folder / "reviewed.json").write_text('{"bed7": {"reviewed": [[9, 3]]}}'), "stretch 9 to 3"),
        (lambda folder: write_marks(folder / "bed7.artf", [(1e6, 1e6 + 9)]), "none of its marks lies in the recording"),
        (lambda folder: write_marks(folder / "bed7.artf", []), "all of class clean"),
        (lambda folder: write_marks(folder / "bed7.artf", [(0, 400)]), "all of class spoiled"),
        (lambda folder: (folder / "reviewed.json").write_text('{"bed7": {"reviewed": [[0, 3000]]}}'), "review more"),
    ],
)
def test_corrections_that_cannot_be_used(
    folder: Path,
    toy_artifact: Path,
    toy_places: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    spoil: Any,
    message: str,
) -> None:
    for path in folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    spoil(tmp_path)
    out = tmp_path / "out"
    assert main(["finetune", str(toy_artifact), "--corrections", str(tmp_path), "--out", str(out), *toy_places]) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") <= 2  # what to do about it may stand below
    assert not out.exists()


@pytest.fixture(scope="session")
def learned(folder: Path, toy_artifact: Path, toy_places: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finetuned")
    command = [
        "finetune",
        str(toy_artifact),
        "--corrections",
        str(folder),
        "--out",
        str(out),
        "--unfreeze",
        "3",
        "--hold",
        "4",
        "--rate",
        "2e-3",
        "--allow",  # two of 256 windows are almost a point, and which fall depends on the machine's libraries
        "3",
    ]
    assert main([*command, *toy_places]) == 0
    return out / "toy"


def test_the_patient_is_learned_and_nobody_is_forgotten(learned: Path, toy_artifact: Path, folder: Path) -> None:
    was, now = load(toy_artifact), load(learned)
    assert (was.manifest.version, now.manifest.version) == ("0.1.0", "0.1.1")
    assert "fine-tuned from 0.1.0" in now.manifest.training.protocol
    said = floats.about(floats.path_of(learned))["facts"]["finetuned"]
    assert said["after"]["patient"]["macro_f1"] > said["before"]["patient"]["macro_f1"] + 20
    assert said["after"]["general"]["macro_f1"] >= said["before"]["general"]["macro_f1"] - 3
    test = corrections.read(folder, now.manifest).test
    engine = open_engine(now)
    scores = np.array([engine.invoke((x,)) for x in test.inputs["wave"]])
    assert (scores.argmax(1) == test.label).mean() > 0.9
    assert "## Fine-tuned: 0.1.1, from 0.1.0" in (learned / "MODEL_CARD.md").read_text()


def test_only_the_last_layers_moved(learned: Path, toy_artifact: Path) -> None:
    moved = floats.about(floats.path_of(learned))["facts"]["finetuned"]["layers"]
    was, now = (floats.read(floats.path_of(each), load(each).manifest)[0] for each in (toy_artifact, learned))
    for layer in was.layers:
        for a, b in zip(layer.get_weights(), now.get_layer(layer.name).get_weights(), strict=True):
            assert np.array_equal(a, b) == (layer.name not in moved), layer.name
    assert len(moved) == 3


def test_it_can_be_taught_again(
    learned: Path, folder: Path, toy_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    status = main(
        ["finetune", str(learned), "--corrections", str(folder), "--out", str(tmp_path), "--rate", "1e-4", *toy_places]
    )
    if status:
        assert "nothing is written" in capsys.readouterr().err
        assert not list(tmp_path.iterdir())
    else:
        assert load(tmp_path / "toy").manifest.version == "0.1.2"


def test_who_forgets_everybody_is_refused(
    folder: Path, toy_artifact: Path, toy_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Marks turned round, everything free to move, nothing held: what it learns of this patient is wrong of all others."""
    import shutil

    turned = tmp_path / "corrections"
    shutil.copytree(folder, turned)
    marks = [(mark.start_us / 1e6, mark.end_us / 1e6) for mark in artf.read(folder / "bed7.artf").of(["art"])]
    edges = [0.0, *(edge for mark in marks for edge in mark), float(SECONDS)]
    write_marks(turned / "bed7.artf", [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a])
    out = tmp_path / "out"
    command = [
        "finetune",
        str(toy_artifact),
        "--corrections",
        str(turned),
        "--out",
        str(out),
        "--unfreeze",
        "6",
        "--hold",
        "0",
    ]
    assert main([*command, "--rate", "1e-2", *toy_places]) == 1
    assert "the general test set's macro-F1 falls by" in capsys.readouterr().err
    assert not out.exists()


def test_a_fall_is_judged_at_the_bound() -> None:
    before = finetune.Measured({}, {}, 80.0, 90.0)
    finetune.judge(before, finetune.Measured({}, {}, 85.0, 89.0), 1.0)
    with pytest.raises(DataError, match=r"falls by 1\.10 points"):
        finetune.judge(before, finetune.Measured({}, {}, 85.0, 88.9), 1.0)
    with pytest.raises(DataError, match="patient's own"):
        finetune.judge(before, finetune.Measured({}, {}, 79.9, 90.0), 1.0)


def test_without_the_float_model_it_says_so(
    toy_artifact: Path, folder: Path, toy_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import shutil

    alone = tmp_path / "toy"
    shutil.copytree(toy_artifact, alone)
    assert main(["finetune", str(alone), "--corrections", str(folder), *toy_places]) == 1
    assert "its float model is not at hand" in capsys.readouterr().err


def test_more_layers_than_there_are(
    toy_artifact: Path, folder: Path, toy_places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune", str(toy_artifact), "--corrections", str(folder), "--unfreeze", "99", *toy_places]) == 1
    assert "layers with weights" in capsys.readouterr().err


def test_versions_count_up() -> None:
    assert finetune.next_version("0.1.9") == "0.1.10"
    assert finetune.version_after("0.1.9", None) == "0.1.10"
    assert finetune.version_after("0.1.9", "0.2.0") == "0.2.0"


@pytest.mark.parametrize("wanted", ["0.1.0", "0.0.9", "1.0", "1.0.x", "v2.0.0", "", "1.0.0\n"])
def test_a_version_that_no_device_would_take_is_refused_at_once(
    wanted: str, toy_artifact: Path, folder: Path, toy_places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["finetune", str(toy_artifact), "--corrections", str(folder), "--version", wanted, *toy_places]) == 1
    assert "three numbers with dots are wanted, higher than 0.1.0" in capsys.readouterr().err


def test_a_beat_model_needs_no_prepared_data(shared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """MIT-BIH alone: who corrects a patient's beats has neither VitalDB nor the strips that a fit from nothing takes."""
    from edge_train.finetuning import general
    from edge_train.opened import look_into
    from edge_train.places import Places

    from edge_agent.inference.loaded import shipped_models

    monkeypatch.setattr(general, "TRAIN", ["101", "106"])
    monkeypatch.setattr(general, "DS2", ["100"])
    monkeypatch.setattr(general, "SHOWN", 40)
    monkeypatch.setitem(sys.modules, "tensorflow", None)
    folder = tmp_path / "shared" / "data" / "mitdb"
    folder.mkdir(parents=True)
    for name in ("101", "100"):
        for ending in ("hea", "dat", "atr"):
            (folder / f"{name}.{ending}").symlink_to(shared / "data" / "mitdb" / f"{name}.{ending}")
    opened = look_into(shipped_models() / "ecg-beat-aami")
    where = Places(tmp_path / "shared", tmp_path / "build", tmp_path, tmp_path)
    with pytest.raises(DataError, match=r"record 106 is not there.*edge-train data get mitdb"):
        general.general(opened, where, ())
    for ending in ("hea", "dat", "atr"):
        (folder / f"106.{ending}").symlink_to(shared / "data" / "mitdb" / f"106.{ending}")
    found = general.general(opened, where, ())
    assert opened.manifest is not None
    names = {part.name for part in opened.manifest.inputs}
    assert set(found.train.inputs) == set(found.test.inputs) == set(found.shown) == names
    assert (set(found.train.group), set(found.test.group)) == ({"101", "106"}, {"100"})
    assert len(found.train) > 7_000  # both leads of both
    assert len(found.test) > 2_200
    (folder / "100.atr").unlink()  # other annotations are another test set, not the one that was kept
    (folder / "100.atr").symlink_to(shared / "data" / "mitdb" / "101.atr")
    assert len(general.general(opened, where, ()).test) < 1_900
    without = general.general(opened, where, ("106", "100"))
    assert set(without.train.group) == {"101"}
    assert len(without.test) == 0


def test_a_beat_model_of_other_inputs_is_said_to_be_one(tmp_path: Path) -> None:
    from edge_train.finetuning.general import general
    from edge_train.opened import Opened
    from edge_train.places import Places

    opened = Opened(tmp_path / "old", "old", None, ("N", "V"), beat_manifest().model_copy(update={"task": "ecg-beat"}))
    with pytest.raises(DataError, match="takes wave; here beats have beat, rr, shape, usual: an older model"):
        general(opened, Places(tmp_path, tmp_path, tmp_path, tmp_path), ())


def test_measured_on_a_part_is_said(
    folder: Path, toy_artifact: Path, toy_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import dataclasses

    from edge_train.data import windows

    split = toy.split()
    windows.save(
        tmp_path / "data" / "toy", dataclasses.replace(split, facts={**split.facts, "part": 0.1}), toy.TASK.labels
    )
    out = tmp_path / "out"
    command = ["finetune", str(toy_artifact), "--corrections", str(folder), "--out", str(out), "--allow", "3"]
    more = ["--unfreeze", "3", "--hold", "4", "--rate", "2e-3", "--version", "0.3.0"]
    assert main([*command, *more, *toy_places, f"--build={tmp_path}"]) == 0
    assert "on a part of the data only (prepared with --part 0.1)" in capsys.readouterr().out
    card = (out / "toy" / "MODEL_CARD.md").read_text()
    assert "on a part (0.1) of the data" in card
    assert "## Fine-tuned: 0.3.0, from 0.1.0" in card
    assert load(out / "toy").manifest.version == "0.3.0"
