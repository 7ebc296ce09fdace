"""docs/bring-your-own-model.md: from a TFLite file made elsewhere to verdicts, by the command and a manifest alone."""

from __future__ import annotations

import ast
import contextlib
import json
from pathlib import Path

import numpy as np
import pytest

from edge_agent import events
from edge_agent.cli import main
from edge_agent.inference.artifact import load, open_engine, verify
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import LoadedModel
from edge_agent.replay import Settings, run_blocks
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from tests.inference.hostile import NAN_WEIGHTS
from tests.inference.made import G, Op, T, tflite

FS = 250.0
DENSE, SOFTMAX = 9, 25
BETA = ((0, "float32", 1),)
ROOT = Path(__file__).resolve().parent.parent.parent


def matched_filter(samples: int = 75) -> bytes:
    """A net by hand: how much the window looks like a bell of 160 ms, against one of 40 ms; of either sign."""
    t = (np.arange(samples) - samples // 2) / 125
    shapes = [np.exp(-((t / width) ** 2) / 2) for width in (0.012, 0.045)]
    weights = np.stack([shape - shape.mean() for shape in shapes])
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    scale = float(np.abs(weights).max() / 127)
    rounded = np.round(weights / scale).astype(np.int8)
    tensors = [
        T((1, samples), name="serving_default_keras_tensor:0", scales=(0.04,), zero_points=(-9,)),
        T((2, samples), name="w", scales=(scale,), data=rounded),
        T((1, 2), scales=(0.15,)),
        T((1, 2), scales=(1 / 256,), zero_points=(-128,)),
    ]
    operators = [Op(DENSE, (0, 1, -1), (2,), 4, 8), Op(SOFTMAX, (2,), (3,), 2, 9, BETA)]
    return tflite(G(tensors, operators, [0], [3]))


def made(tmp_path: Path, *more: str) -> Path:
    file, folder = tmp_path / "net.tflite", tmp_path / "models" / "wide-beats"
    file.write_bytes(matched_filter())
    command = [
        "models",
        "new",
        str(file),
        str(folder),
        "--labels",
        "narrow,wide",
        "--rate",
        "125",
        "--before",
        "37",
        *more,
    ]
    assert main(command) == 0
    return folder


def test_what_it_drafts_the_agent_takes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path)
    assert "32 golden cases" in capsys.readouterr().out
    artifact = load(folder)
    about = artifact.manifest
    assert (about.name, about.labels, about.quantisation) == ("wide-beats", ["narrow", "wide"], "int8")
    (part,) = about.inputs
    assert part.kind == "signal"
    assert (part.name, part.samples, part.before, part.rate_hz) == ("keras_tensor", 75, 37, 125)
    assert artifact.golden_outputs.shape == (32, 2)
    assert len(np.unique(artifact.golden_outputs)) > 10, "golden vectors that are all the same prove nothing"
    assert verify(artifact, open_engine(artifact)) == 0
    assert not list(tmp_path.glob("models/.new-*"))
    assert main(["models", "verify", str(folder)]) == 0


def test_the_same_seed_makes_the_same_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    with (
        np.load(made(tmp_path / "a") / "golden.npz") as first,
        np.load(made(tmp_path / "b", "--seed", "0") / "golden.npz") as second,
    ):
        for name in first.files:
            np.testing.assert_array_equal(first[name], second[name])


def test_from_the_file_to_verdicts(tmp_path: Path) -> None:
    """Ventricular beats of a simulated patient are wide, his others narrow: said by nothing but the file and its manifest."""
    artifact = load(made(tmp_path))
    judge = Judge({"wide-beats": LoadedModel(artifact, open_engine(artifact))})
    patient = SimulatedPatient(FS, ("II",), Script((Episode("bigeminy", 60, rhythm="bigeminy"),)), seed=3)
    info = StreamInfo(fs=FS, signals=(Signal("II", "ecg", "mV"),))
    found = run_blocks(info, iter(lambda: patient.read(250), None), judge, Settings(), "test")
    verdicts = {event.sample: event.label for event in found if isinstance(event, events.Verdict)}
    right = {"V": 0, "N": 0}
    seen = {"V": 0, "N": 0}
    for beat in patient.truth.beats:
        near = [label for sample, label in verdicts.items() if abs(sample - beat.sample) < 20]
        kind = "V" if beat.label == "V" else "N"
        if near:
            seen[kind] += 1
            right[kind] += near[0] == ("wide" if kind == "V" else "narrow")
    assert min(seen.values()) > 15, seen
    assert right["V"] > 0.9 * seen["V"], (right, seen)
    assert right["N"] > 0.9 * seen["N"], (right, seen)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--anchor", "slide"], "--anchor slide: beat, slide:SECONDS"),
        (["--anchor", "slide:0"], "stride_s"),
        (["--anchor", "slide:1e-9"], "stride_s"),
        (["--labels", "a,b,c"], "its output is (1, 2), the manifest names 3 labels"),
        (["--normalisation", "loud"], "normalisation"),
        (["--input", "other=rr"], "has no input 'other'"),
        (["--input", "keras_tensor=features:rr_cv16"], "takes 75 numbers, 1 features are named"),
        (["--input", "keras_tensor"], "TENSOR=signal"),
    ],
)
def test_what_cannot_be_is_said_and_nothing_is_left(
    more: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = tmp_path / "net.tflite", tmp_path / "wide-beats"
    file.write_bytes(matched_filter())
    command = ["models", "new", str(file), str(folder), "--labels", "narrow,wide", "--rate", "125", *more]
    assert main(command) == 1
    assert message in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["net.tflite"]


def test_a_full_disk_is_said_of_the_file(tiny_disk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "net.tflite").write_bytes(matched_filter())
    folder = tiny_disk / "wide-beats"
    with contextlib.suppress(OSError), (tiny_disk / "filler").open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    command = ["models", "new", str(tmp_path / "net.tflite"), str(folder), "--labels", "a,b", "--rate", "125"]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert str(folder) in said
    assert "No space left" in said
    assert [path.name for path in tiny_disk.iterdir() if "wide" in path.name or "new" in path.name] == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = made(tmp_path)
    before = (folder / "manifest.json").read_bytes()
    assert main(["models", "new", str(tmp_path / "net.tflite"), str(folder), "--labels", "a,b", "--rate", "1"]) == 1
    assert "is there already" in capsys.readouterr().err
    assert (folder / "manifest.json").read_bytes() == before


def test_golden_vectors_that_prove_nothing_are_said_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without its beta a softmax gives the same whatever comes in."""
    tensors = [T((1, 2), name="x"), T((1, 2), scales=(1 / 256,), zero_points=(-128,))]
    (tmp_path / "net.tflite").write_bytes(tflite(G(tensors, [Op(SOFTMAX, (0,), (1,), 2, 9)], [0], [1])))
    command = [
        "models",
        "new",
        str(tmp_path / "net.tflite"),
        str(tmp_path / "flat"),
        "--rate",
        "100",
        "--labels",
        "a,b",
    ]
    assert main(command) == 0
    assert "the same answer" in capsys.readouterr().err


def test_a_net_whose_answers_are_no_numbers_is_said_to_be_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not the golden vectors, which are made here, but the file that was brought."""
    (tmp_path / "net.tflite").write_bytes(NAN_WEIGHTS)
    command = ["models", "new", str(tmp_path / "net.tflite"), str(tmp_path / "nan"), "--labels", "a,b,c,d,e"]
    given = ["--input", "numbers=features:rr_cv16+rr_step8", "--input", "rr=rr"]
    assert main([*command, *given, "--anchor", "beat"]) == 1
    said = capsys.readouterr().err
    assert f"{tmp_path / 'net.tflite'}: its outputs are no numbers (NaN or infinite) for 32 of 32 random inputs" in said
    assert "train or convert it again" in said
    assert "golden" not in said
    assert not (tmp_path / "nan").exists()


def test_several_inputs_and_leads(tmp_path: Path) -> None:
    tensors = [T((1, 40, 3), name="wave"), T((1, 2), name="numbers"), T((1, 120)), T((1, 122))]
    shape = T((2,), "int32", "shape", (), data=np.array([1, 120], np.int32))
    operators = [Op(22, (0, 4), (2,), 1, 17), Op(2, (2, 1), (3,), 1, 10, ((0, "int32", 1),))]
    (tmp_path / "net.tflite").write_bytes(tflite(G([*tensors, shape], operators, [0, 1], [3])))
    command = ["models", "new", str(tmp_path / "net.tflite"), str(tmp_path / "two"), "--rate", "100", "--labels"]
    command += [",".join(f"l{i}" for i in range(122)), "--input", "numbers=features:rr_last_log+rr_cv16"]
    assert main(command) == 0
    raw = json.loads((tmp_path / "two" / "manifest.json").read_text(encoding="utf-8"))
    wave, numbers = raw["inputs"]
    assert (wave["samples"], wave["channels"], wave["channel_count"]) == (40, "all", 3)
    assert numbers["features"] == ["rr_last_log", "rr_cv16"]


def test_the_example_is_what_the_page_says_it_is() -> None:
    """It wants tensorflow, which is not here; that it parses, and that the page names it, is."""
    source = (ROOT / "examples" / "wide_beats.py").read_text(encoding="utf-8")
    ast.parse(source)
    page = (ROOT / "docs" / "bring-your-own-model.md").read_text(encoding="utf-8")
    assert "examples/wide_beats.py" in page
