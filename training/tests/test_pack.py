"""The artifact: what is put into it, what is refused, and that nothing is half-written."""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import toy
from edge_train.cli import main
from edge_train.errors import DataError
from edge_train.fitting.fit import load_fit
from edge_train.opened import open_artifact
from edge_train.packing import export, floats, gate, sign
from edge_train.packing.pack import TOLERANCE_LSB, golden_cases, pack, whole

from edge_agent.inference.artifact import load, open_engine
from edge_agent.inference.engine import CpuEngine


@pytest.fixture(scope="session")
def run(toy_places: list[str]) -> Path:
    return Path(toy_places[0].partition("=")[2]) / "runs" / "toy" / "seed0"


@pytest.fixture(scope="session")
def made(run: Path) -> tuple[bytes, dict[str, np.ndarray]]:
    shown = export.representative_windows(toy.split().train, 100, 0)
    return export.to_int8(load_fit(toy.TASK, run)[0], shown), shown


def about(**changes: object) -> dict[str, object]:
    return toy.TASK.about("toy", {"data": ["made up"]}, 0, {}) | changes


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_the_command_packs_what_the_daemon_runs(toy_artifact: Path, run: Path) -> None:
    artifact = load(toy_artifact)
    engine = open_engine(artifact)
    test = toy.split().test
    scores = np.array([engine.invoke((x,)) for x in test.inputs["wave"]])
    assert (scores.argmax(1) == test.label).mean() > 0.9
    facts = json.loads((run / "pack.json").read_text())
    assert facts["representative"]["sha256"] == floats.sha256(run / "representative.npz")
    assert facts["int8"]["passed"]
    assert facts["mapped"] == facts["operators"]


def test_the_card_is_filled_from_the_report(toy_artifact: Path, toy_places: list[str]) -> None:
    assert main(["evaluate", "toy", "--no-figures", *toy_places]) == 0
    assert main(["pack", "toy", "--card", *toy_places]) == 0
    card = (toy_artifact / "MODEL_CARD.md").read_text()
    report = json.loads((Path(toy_places[2].partition("=")[2]) / "toy.json").read_text())
    assert f"| clean | {100 * report['models']['shipped']['classes']['clean']['recall']:.1f}" in card
    for heading in ("What it sees", "Data, licence and protocol", "Figures", "Known failures", "Not for"):
        assert f"## {heading}" in card
    (toy_artifact / "MODEL_CARD.md").write_text("# by hand\n")
    assert main(["pack", "toy", "--card", *toy_places]) == 0
    assert (toy_artifact / "MODEL_CARD.md").read_text() == "# by hand\n", "what a person wrote stays"
    notes = toy_artifact.parent / "notes.md"
    notes.write_text("- It is a toy.\n")
    assert main(["pack", "toy", "--card", "--notes", str(notes), *toy_places]) == 0
    assert "- It is a toy." in (toy_artifact / "MODEL_CARD.md").read_text()


def test_the_same_model_gives_the_same_bytes(
    made: tuple[bytes, dict[str, np.ndarray]], run: Path, tmp_path: Path
) -> None:
    tflite, shown = made
    assert export.to_int8(load_fit(toy.TASK, run)[0], shown) == tflite
    first, again = tmp_path / "a" / "toy", tmp_path / "b" / "toy"
    for folder in (first, again):
        pack(tflite, about(), shown, folder, card="# card\n")
        floats.keep(load_fit(toy.TASK, run)[0], folder, {"task": "toy"})
    assert contents(first) == contents(again)
    assert floats.path_of(first).read_bytes() == floats.path_of(again).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs": []}, "inputs"),
        ({"labels": ["a", "b", "c"]}, "2 outputs, the manifest 3 labels"),
        ({"version": "one"}, "version"),
        ({"name": "other"}, "the daemon wants the folder so named"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    made: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path, change: dict[str, object], message: str
) -> None:
    tflite, shown = made
    with pytest.raises(DataError, match=message):
        pack(tflite, about(**change), shown, tmp_path / "toy")
    assert not list(tmp_path.iterdir())


def test_windows_of_another_length_are_refused(made: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path) -> None:
    tflite, shown = made
    wrong = about()
    wrong["inputs"] = [{**wrong["inputs"][0], "samples": 90, "before": 90}]  # type: ignore[index]
    with pytest.raises(DataError, match=r"take \[100\] numbers, the manifest's \(wave\) give \[90\]"):
        pack(tflite, wrong, {"wave": shown["wave"][:, :90]}, tmp_path / "toy")
    with pytest.raises(DataError, match="golden cases of wave have shape"):
        pack(tflite, about(), {"wave": shown["wave"][:, :90]}, tmp_path / "toy")
    with pytest.raises(DataError, match="no golden cases for input wave"):
        pack(tflite, about(), {}, tmp_path / "toy")
    assert not list(tmp_path.iterdir())


def test_what_stands_in_every_manifest_is_written_by_the_packing(
    made: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    """What the task says is not written over, and stands where it stood: a model packed again gives the same bytes."""
    tflite, shown = made
    assert not {"schema", "name", "version", "minimum_agent_version"} & set(about())
    pack(tflite, about(), shown, tmp_path / "toy")
    raw = json.loads((tmp_path / "toy" / "manifest.json").read_text())
    assert list(raw)[:3] == ["schema", "name", "version"]
    assert list(raw)[-3:] == ["minimum_agent_version", "golden", "files"]
    assert (raw["schema"], raw["name"], raw["version"]) == ("edge-agent/model/1", "toy", "0.1.0")
    first = contents(tmp_path / "toy")
    again = {key: value for key, value in raw.items() if key not in ("golden", "files")}
    pack(tflite, again, shown, tmp_path / "toy")
    assert contents(tmp_path / "toy") == first
    newer = {**again, "version": "0.4.0", "minimum_agent_version": "0.0.9"}
    assert list(whole(newer, "toy").items()) == list(newer.items())


def test_a_failed_packing_leaves_the_old_artifact(
    made: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tflite, shown = made
    folder = tmp_path / "toy"
    pack(tflite, about(), shown, folder, card="# old\n")
    before = contents(folder)

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez_compressed", full)
    with pytest.raises(DataError, match="No space left"):
        pack(tflite, about(version="0.2.0"), shown, folder)
    assert contents(folder) == before
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]


def test_a_new_packing_keeps_the_card_and_no_old_signature(
    made: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path
) -> None:
    tflite, shown = made
    key = tmp_path / "key.pem"
    public = sign.keygen(key)
    assert key.stat().st_mode & 0o777 == 0o600
    folder = tmp_path / "toy"
    pack(tflite, about(), shown, folder, card="# old\n", key=key)
    signature = (folder / sign.FILE).read_bytes()
    assert len(signature) == sign.SIGNATURE_BYTES
    manifest = (folder / "manifest.json").read_bytes()
    assert sign.verify(manifest, signature, public)
    assert not sign.verify(manifest.replace(b"0.1.0", b"0.1.1", 1), signature, public)
    other = sign.keygen(tmp_path / "other.pem")
    assert not sign.verify(manifest, signature, other)
    pack(tflite, about(), shown, folder)
    assert not (folder / sign.FILE).exists()
    assert (folder / "MODEL_CARD.md").read_text() == "# old\n"


def test_keys_that_are_none(tmp_path: Path, toy_places: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    key = tmp_path / "key.pem"
    key.write_text("not a key")
    with pytest.raises(DataError, match="is there already"):
        sign.keygen(key)
    assert main(["pack", "toy", "--key", str(key), *toy_places]) == 1
    assert "not a private key" in capsys.readouterr().err
    assert main(["pack", "toy", "--key", str(tmp_path / "none.pem"), *toy_places]) == 1
    assert "cannot be read" in capsys.readouterr().err


def test_what_int8_costs_is_a_gate(made: tuple[bytes, dict[str, np.ndarray]], run: Path) -> None:
    tflite, _ = made
    model = load_fit(toy.TASK, run)[0]
    asked = toy.split().validation
    fine = gate.int8_loss(model, tflite, asked, toy.TASK.labels, {})
    assert fine.passed
    narrow = {"wave": asked.inputs["wave"][:50] * np.float32(0.02)}  # ranges seen much too small: everything saturates
    spoiled = gate.int8_loss(model, export.to_int8(model, narrow), asked, toy.TASK.labels, {})
    assert not spoiled.passed
    assert spoiled.worst > 5
    with pytest.raises(DataError, match="no class has 100 examples"):
        _ = gate.int8_loss(model, tflite, asked.pick(np.arange(10)), toy.TASK.labels, {}).worst


def test_the_command_refuses_what_int8_spoils(
    toy_places: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "ALLOWED_POINTS", -101.0)  # nothing passes
    elsewhere = [*toy_places, "--models", str(tmp_path)]
    assert main(["pack", "toy", *elsewhere]) == 1
    assert "points of F1" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert main(["pack", "toy", "--force", *elsewhere]) == 0
    assert (tmp_path / "toy" / "manifest.json").is_file()


def test_the_float_model_belongs_to_its_packing(
    toy_artifact: Path, tmp_path: Path, made: tuple[bytes, dict[str, np.ndarray]]
) -> None:
    folder = tmp_path / "toy"
    shutil.copytree(toy_artifact, folder)
    assert open_artifact(folder).model is None
    shutil.copy(floats.path_of(toy_artifact), floats.path_of(folder))
    opened = open_artifact(folder)
    assert opened.task == toy.TASK
    assert opened.facts["task"] == "toy"
    pack(export.to_int8(opened.model, {"wave": made[1]["wave"][:20]}), about(), made[1], folder)
    with pytest.raises(DataError, match="of another packing"):
        open_artifact(folder)
    floats.path_of(folder).write_bytes(b"junk")
    with pytest.raises(DataError, match="not a float model"):
        open_artifact(folder)


def test_the_float_model_is_a_keras_file_like_any(toy_artifact: Path) -> None:
    from edge_train.runtime import quiet

    with zipfile.ZipFile(floats.path_of(toy_artifact)) as archive:
        assert floats.MEMBER in archive.namelist()
    model = quiet().keras.models.load_model(floats.path_of(toy_artifact))
    assert [part.name for part in model.inputs] == ["wave"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(made: tuple[bytes, dict[str, np.ndarray]], tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(DataError, match="cannot be written"):
        pack(made[0], about(), made[1], tmp_path / "toy")


def test_golden_cases_are_those_on_which_right_kernels_agree(
    made: tuple[bytes, dict[str, np.ndarray]], monkeypatch: pytest.MonkeyPatch
) -> None:
    tflite, shown = made
    chosen = golden_cases(tflite, shown, 10)
    assert np.array_equal(chosen["wave"], shown["wave"][:10]), "all agree here"
    honest = CpuEngine.invoke
    calls = iter(range(10_000))

    def odd(self: CpuEngine, inputs: tuple[np.ndarray, ...]) -> np.ndarray:
        wrong = next(calls) % 3 == 0
        return np.asarray(honest(self, inputs) + np.float32(wrong * TOLERANCE_LSB / 256))

    monkeypatch.setattr(CpuEngine, "invoke", odd)
    chosen = golden_cases(tflite, shown, 10)
    assert np.array_equal(chosen["wave"][:4], shown["wave"][[1, 2, 4, 5]])
    monkeypatch.setattr(CpuEngine, "invoke", lambda self, x: honest(self, x) + np.float32(0.1))
    with pytest.raises(DataError, match="cannot be verified"):
        golden_cases(tflite, shown, 10)


@pytest.mark.usefixtures("toy_task")
def test_a_report_of_float_figures_alone_is_no_report_yet(
    toy_places: list[str], toy_artifact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever evaluates before he packs has one; pack must not fail by it."""
    models, results = tmp_path / "models", tmp_path / "results"
    places = [toy_places[0], f"--models={models}", f"--results={results}"]
    assert main(["evaluate", "toy", "--no-figures", *places]) == 0
    report = json.loads((results / "toy.json").read_text())
    assert "shipped" not in report["models"]
    capsys.readouterr()
    assert main(["pack", "toy", *places]) == 0
    assert "no report of the packed model yet" in capsys.readouterr().out
    card = (models / "toy" / "MODEL_CARD.md").read_text()
    assert "Not measured yet" in card
    assert contents(models / "toy").keys() == contents(toy_artifact).keys()
    for text in ("[]", "{", '{"labels": [], "models": {}}'):
        (results / "toy.json").write_text(text)
        assert main(["pack", "toy", "--card", *places]) == 1
        assert "no report of a model" in capsys.readouterr().err
