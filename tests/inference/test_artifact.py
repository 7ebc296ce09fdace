"""Artifacts: the shipped ones load, and what is damaged, foreign or hostile is refused in one line."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import __version__
from edge_agent.errors import ArtifactError
from edge_agent.inference import artifact as artifact_module
from edge_agent.inference.artifact import load, most_tolerance, open_engine, verify
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.inference.manifest import Manifest
from tests.inference.tiny import GOLDEN, TINY, Tensor, joining, manifest, packed, write


def refused(path: Path, *words: str) -> str:
    """The whole way that a model takes; the message's first line."""
    with pytest.raises(ArtifactError) as caught:
        open_engine(load(path))
    first, *rest = str(caught.value).split("\n")
    assert str(path) in first
    assert len(rest) <= 1  # the remedy
    for word in words:
        assert word in first
    return first


def test_the_shipped_models_load_and_reproduce_their_golden_vectors() -> None:
    models = load_models(shipped_models())
    assert models
    for name, model in models.items():
        about = model.artifact.manifest
        assert about.name == name
        assert verify(model.artifact, model.engine) <= about.golden.tolerance
        raw = (shipped_models() / name / "manifest.json").read_bytes()
        assert model.artifact.digest == hashlib.sha256(raw).hexdigest()
        assert about.training.data


def test_a_tiny_one_loads(tmp_path: Path) -> None:
    made = load(write(tmp_path))
    assert made.name == "tiny"
    assert made.tflite == TINY
    np.testing.assert_allclose(made.golden_outputs, GOLDEN["output"])
    assert verify(made, open_engine(made)) < 0.026


# -- damage -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model.tflite", "golden.npz"])
def test_damage_to_any_file_is_found(name: str, tmp_path: Path) -> None:
    path = write(tmp_path)
    good = (path / name).read_bytes()
    for place in (0, len(good) // 2, len(good) - 1):
        bad = bytearray(good)
        bad[place] ^= 0x10
        (path / name).write_bytes(bad)
        assert "SHA-256" in refused(path, str(path / name))
    for bad_bytes in (good[:-1], good[: len(good) // 2], b"", good + b"\0"):
        (path / name).write_bytes(bad_bytes)
        refused(path, str(path / name), "SHA-256")
    (path / name).unlink()
    refused(path, str(path / name), "No such file")
    (path / name).mkdir()
    refused(path, str(path / name), "is no plain file")


def test_the_digest_is_checked_before_anything_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path)
    (path / "golden.npz").write_bytes(b"damaged")

    def parse(*_: object, **__: object) -> None:
        pytest.fail("a file was parsed before its digest was known to be right")

    monkeypatch.setattr(np, "load", parse)
    refused(path, "SHA-256")


def test_a_file_that_the_manifest_names_and_nobody_needs_is_checked_too(tmp_path: Path) -> None:
    path = write(tmp_path, files={"MODEL_CARD.md": b"# Tiny"})
    open_engine(load(path))
    (path / "MODEL_CARD.md").write_bytes(b"# Better than it is")
    refused(path, "MODEL_CARD.md", "SHA-256")


def test_a_missing_folder_and_a_missing_manifest(tmp_path: Path) -> None:
    refused(tmp_path / "nowhere", "no such model folder")
    refused(tmp_path, "manifest.json", "No such file")


@pytest.mark.timeout(20)
def test_a_pipe_is_not_read_for_ever(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path / "model.tflite").unlink()
    os.mkfifo(path / "model.tflite")
    refused(path, "model.tflite", "is no plain file")
    (path / "model.tflite").unlink()
    (path / "model.tflite").symlink_to("/dev/zero")
    refused(path, "model.tflite", "is no plain file")


def test_oversized_files_are_not_read(tmp_path: Path) -> None:
    path = write(tmp_path)
    with (path / "model.tflite").open("wb") as file:
        file.truncate(artifact_module.MAX_FILE_BYTES + 1)  # a hole: it takes no room
    refused(path, "model.tflite", "over 64 MiB")


def test_an_archive_that_unpacks_to_more_than_it_may_is_not_unpacked(tmp_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("output.npy", b"\0" * (artifact_module.MAX_FILE_BYTES + 1))
    assert len(file.getvalue()) < 100_000
    refused(write(tmp_path, golden=file.getvalue()), "golden.npz", "unpacked")


# -- the manifest -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"nonsense", b"\xff\xfe\xfa", b"[" * 100_000, b"1" * 5000, b"{'schema': 1}", b"\0" * 10],
    ids=["empty", "cut", "words", "no text", "deep", "long number", "python", "zeros"],
)
def test_a_manifest_that_is_no_json(text: bytes, tmp_path: Path) -> None:
    path = write(tmp_path)
    (path / "manifest.json").write_bytes(text)
    refused(path, "manifest.json", "not JSON")


@pytest.mark.parametrize("text", [b"null", b"3", b"[]", b'"manifest"', b"{}", b"NaN"])
def test_a_manifest_that_is_other_json(text: bytes, tmp_path: Path) -> None:
    path = write(tmp_path)
    (path / "manifest.json").write_bytes(text)
    refused(path, "manifest.json")


RR = manifest()["inputs"][1]
NUMBERS = manifest()["inputs"][0]
SIGNAL = {
    "kind": "signal",
    "name": "ecg",
    "signal": "ecg",
    "rate_hz": 250,
    "samples": 100,
    "before": 50,
    "normalisation": "zscore",
}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema": "edge-agent/model/2"}, ("schema", "edge-agent/model/1")),
        ({"sampler": 1}, ("sampler: no such key",)),
        ({"output": 3}, ("output: should be an object",)),
        ({"output": {"scores": "none", "temperature": 2}}, ("output.temperature",)),
        ({"inputs": [{**RR, "units": "s"}]}, ("inputs.0.rr.units",)),
        ({"name": "../tiny"}, ("name",)),
        ({"name": "Tiny Model"}, ("name: should be lower-case letters, digits and '-'",)),
        ({"version": "1.0"}, ("version",)),
        ({"version": "1" * 5000 + ".0.0"}, ("version",)),
        ({"minimum_agent_version": "9" * 5000 + ".0.0"}, ("minimum_agent_version",)),
        ({"labels": ["a"]}, ("labels",)),
        ({"labels": ["a", "a", "b", "c", "d"]}, ("labels repeat",)),
        ({"anchor": {"kind": "now"}}, ("anchor",)),
        ({"anchor": {"kind": "slide", "stride_s": 0}}, ("anchor.slide.stride_s",)),
        ({"anchor": {"kind": "slide", "stride_s": 1e-9}}, ("anchor.slide.stride_s",)),
        ({"anchor": {"kind": "slide", "stride_s": True}}, ("anchor.slide", "stride_s is true")),
        ({"anchor": {"kind": "slide", "stride_s": 5}}, ("sliding window takes signal inputs only",)),
        ({"anchor": {"kind": "rr"}, "inputs": [SIGNAL]}, ("rr window takes rr and feature inputs only",)),
        ({"anchor": {"kind": "beat"}, "inputs": [{**SIGNAL, "signal": "abp"}]}, ("come from the ecg",)),
        (
            {"anchor": {"kind": "beat"}, "inputs": [SIGNAL, {**SIGNAL, "name": "p", "signal": "abp"}]},
            ("several signals",),
        ),
        ({"inputs": []}, ("inputs",)),
        ({"inputs": [RR, RR]}, ("names of their own",)),
        ({"inputs": [{**RR, "name": "output"}, NUMBERS]}, ("none may be 'output'",)),
        ({"inputs": [{**SIGNAL, "before": 101}], "anchor": {"kind": "beat"}}, ("before (101)",)),
        ({"inputs": [{**SIGNAL, "samples": 10**9}], "anchor": {"kind": "beat"}}, ("samples",)),
        ({"inputs": [{**NUMBERS, "features": ["rr_of_the_moon"]}]}, ("features.0",)),
        ({"output": {"scores": "none", "thresholds": {"z": 0.5}}}, ("labels that do not exist: z",)),
        ({"output": {"scores": "none", "thresholds": {"a": True}}}, ("output.thresholds.a",)),
        ({"output": {"scores": "softmax", "thresholds": {"a": 1.5}}}, ("softmax is between 0 and 1", "'a'")),
        ({"output": {"scores": "sigmoid", "thresholds": {"b": -0.1}}}, ("sigmoid is between 0 and 1", "'b'")),
        ({"output": {"scores": "none", "abstain_below": 1.5}}, ("abstain_below",)),
        ({"golden": {"tolerance": 0}}, ("golden.tolerance",)),
        ({"golden": {"tolerance": True}}, ("golden", "tolerance is true")),
        ({"golden": {"file": "other.npz", "tolerance": 0.1}}, ("does not list the golden vectors (other.npz)",)),
        ({"training": {"data": [], "licence": "x", "protocol": "x"}}, ("training.data",)),
    ],
)
def test_a_manifest_that_says_what_cannot_be_done(
    change: dict[str, Any], words: tuple[str, ...], tmp_path: Path
) -> None:
    refused(write(tmp_path, manifest(**change)), "manifest.json", *words)


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/b", "..\\secret", ".hidden", "..", "", " ", "nul\0"])
def test_file_names_that_lead_elsewhere(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret")
    path = write(tmp_path)
    about = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    about["files"][name] = hashlib.sha256(b"secret").hexdigest()
    (path / "manifest.json").write_text(json.dumps(about), encoding="utf-8")
    refused(path, "manifest.json", "files", "not a plain name" if name.isprintable() else "cannot be shown")


@pytest.mark.parametrize("digest", ["", "0" * 63, "G" * 64, "A" * 64])
def test_digests_that_are_none(digest: str, tmp_path: Path) -> None:
    refused(write(tmp_path, manifest(files={"model.tflite": digest, "golden.npz": "0" * 64})), "64 lowercase hex")


@pytest.mark.parametrize("missing", ["model.tflite", "golden.npz"])
def test_files_that_must_be_listed(missing: str, tmp_path: Path) -> None:
    files = {name: "0" * 64 for name in ("model.tflite", "golden.npz") if name != missing}
    refused(write(tmp_path, manifest(files=files)), "manifest.json", missing)


def test_a_newer_agent_may_be_needed(tmp_path: Path) -> None:
    path = write(tmp_path, manifest(minimum_agent_version="999.0.0"))
    refused(path, "needs edge-agent 999.0.0", __version__)
    open_engine(load(write(tmp_path, manifest(minimum_agent_version=__version__))))
    major, minor, patch = (int(part) for part in __version__.split("."))
    refused(write(tmp_path, manifest(minimum_agent_version=f"{major}.{minor}.{patch + 1}")), "needs edge-agent")
    # Numbers, not text: 0.10 comes after 0.9.
    assert artifact_module.version_key("0.10.0") > artifact_module.version_key("0.9.0")


# -- golden vectors ---------------------------------------------------------------------------------------------------


def npy(array: np.ndarray[Any, Any]) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def damaged_member() -> bytes:
    data = bytearray(packed({name: np.tile(array, (50, 1)) for name, array in GOLDEN.items()}))
    data[200] ^= 0xFF  # inside the first array: its CRC no longer fits
    return bytes(data)


def damaged_stream() -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, output=np.random.default_rng(0).normal(size=(50, 5)))
    data = bytearray(file.getvalue())
    data[150:170] = b"\xff" * 20  # the deflated bytes are none
    return bytes(data)


@pytest.mark.parametrize(
    "golden",
    [b"", b"PK\x03\x04", packed(GOLDEN)[:-30], b"junk" * 99, npy(GOLDEN["output"]), damaged_member(), damaged_stream()],
    ids=["empty", "magic", "cut", "junk", "one array", "damaged", "not deflated"],
)
def test_golden_vectors_that_are_no_archive(golden: bytes, tmp_path: Path) -> None:
    """Their digest is right: whoever packed it packed rubbish."""
    refused(write(tmp_path, golden=golden), "golden.npz", "not a readable .npz")


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"output": None}, ("holds no array output",)),
        ({"rr": None}, ("holds no array rr",)),
        ({"rr": np.zeros((2, 4))}, ("rr has shape (2, 4)", "(2, 3)")),
        ({"rr": np.zeros((3, 3))}, ("rr has shape (3, 3)", "(2, 3)")),
        ({"rr": np.zeros(6)}, ("rr has shape (6,)",)),
        ({"output": np.zeros((2, 4))}, ("output has shape (2, 4)", "labels are 5")),
        ({"output": np.zeros((0, 5)), "rr": np.zeros((0, 3)), "numbers": np.zeros((0, 2))}, ("holds no case",)),
        ({"output": np.float64(3)}, ("holds no case",)),
        ({"rr": np.full((2, 3), np.nan)}, ("rr holds values that are not finite",)),
        (
            {"output": np.full((2, 5), np.inf)},
            ("output holds values that are not finite",),
        ),
        ({"output": np.full((2, 5), "x")}, ("output holds str32",)),
        ({"output": np.full((2, 5), 1j)}, ("output holds complex128", "plain numbers")),
        ({"output": np.full((2, 5), True)}, ("output holds bool",)),
        ({"rr": np.full((2, 3), 1e300)}, ("not finite",)),
        ({"output": np.full((2, 5), None)}, ("not a readable .npz",)),  # a pickle: never opened
    ],
)
def test_golden_vectors_that_do_not_fit(arrays: dict[str, Any], words: tuple[str, ...], tmp_path: Path) -> None:
    made = {name: array for name, array in {**GOLDEN, **arrays}.items() if array is not None}
    refused(write(tmp_path, golden=packed(made)), "golden.npz", *words)


@pytest.mark.parametrize(("off", "good"), [(0.02, True), (0.2, False)])
def test_a_model_that_does_not_reproduce_them_is_refused(off: float, good: bool, tmp_path: Path) -> None:
    golden = {name: array.copy() for name, array in GOLDEN.items()}
    golden["output"][1, 4] += off  # the last number of the last case
    path = write(tmp_path, golden=packed(golden))
    if good:
        open_engine(load(path))
    else:
        refused(path, "golden outputs differ by 0.2", "tolerance 0.03")


# -- the model itself -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tflite", [b"", b"\0" * 64, b"TFL3" * 16, b"<html>not found</html>"])
def test_a_model_file_that_is_none(tflite: bytes, tmp_path: Path) -> None:
    refused(write(tmp_path, tflite=tflite), "model.tflite", "cannot load it")


A, B = Tensor("serving_default_0:0", (1, 2)), Tensor("serving_default_1:0", (1, 3))


@pytest.mark.parametrize(
    ("tflite", "words"),
    [
        (joining(A, B, Tensor("serving_default_2:0", (1, 1))), ("has 3 inputs", "describes 2")),
        (joining(Tensor("serving_default_0:0", (1, 5))), ("has 1 inputs", "describes 2")),
        (joining(A, Tensor("serving_default_1:0", (1, 4))), ("takes (1, 4)", "gives 3")),
        # which is the first goes by name: here the first has 3 numbers and the second 2
        (joining(Tensor("serving_default_1:0", (1, 2)), Tensor("serving_default_0:0", (1, 3))), ("takes (1, 3)",)),
    ],
)
def test_a_model_whose_tensors_are_others(tflite: bytes, words: tuple[str, ...], tmp_path: Path) -> None:
    refused(write(tmp_path, tflite=tflite), "model.tflite", *words)


def test_labels_must_be_as_many_as_outputs(tmp_path: Path) -> None:
    golden = packed({**GOLDEN, "output": GOLDEN["output"][:, :4]})
    refused(write(tmp_path, manifest(labels=["a", "b", "c", "d"]), golden=golden), "model.tflite", "names 4 labels")


# -- folders of models ------------------------------------------------------------------------------------------------


def test_models_by_name(tmp_path: Path) -> None:
    write(tmp_path)
    (tmp_path / "notes").mkdir()
    assert list(load_models(tmp_path)) == ["tiny"]
    assert load_models(tmp_path, []) == {}
    with pytest.raises(ArtifactError, match=r"no model named 'huge'[\s\S]*there are: tiny"):
        load_models(tmp_path, ["tiny", "huge"])
    with pytest.raises(ArtifactError, match=r"no model named '\.\./x'"):
        load_models(tmp_path, ["../x"])
    shutil.copytree(tmp_path / "tiny", tmp_path / "copy")
    with pytest.raises(ArtifactError, match="names the model 'tiny', its folder 'copy'"):
        load_models(tmp_path)


def test_one_bad_model_of_a_folder_is_not_passed_over(tmp_path: Path) -> None:
    path = write(tmp_path)
    (path / "model.tflite").write_bytes(b"")
    with pytest.raises(ArtifactError, match="SHA-256"):
        load_models(tmp_path)


def test_the_manifest_s_own_example_is_valid() -> None:
    digests = {"model.tflite": "0" * 64, "golden.npz": "f" * 64}
    assert Manifest.model_validate({**manifest(), "files": digests}).signal == "ecg"


@pytest.mark.parametrize(
    "junk", [b"", b"junk", b"<html>", b"\x80\x04K\x01.", b"PK\x05\x06" + bytes(18), b"PK\x03\x04junk"]
)
def test_junk_for_golden_vectors_is_no_reason_to_allow_pickles(junk: bytes, tmp_path: Path) -> None:
    """NumPy's own words are that one could; a pickle runs what is in it."""
    said = refused(write(tmp_path, golden=junk), "golden.npz")
    assert "pickle" not in said


@pytest.mark.parametrize("tolerance", [0.26, 1.0, 1e9])
def test_a_tolerance_that_takes_anything_is_refused(tolerance: float, tmp_path: Path) -> None:
    golden = {name: array.copy() for name, array in GOLDEN.items()}
    golden["output"] = np.clip(golden["output"], 0, 1)
    about = manifest(golden={"file": "golden.npz", "tolerance": tolerance})
    said = refused(write(tmp_path, about, golden=packed(golden)), "manifest.json", f"golden.tolerance {tolerance:.4g}")
    assert "0.25 is the most" in said


def test_outputs_that_are_no_scores_may_differ_by_more() -> None:
    assert most_tolerance(np.array([[0.0, 1.0]], np.float32), index=False) == 0.25
    assert most_tolerance(np.array([[-12.0, 20.0]], np.float32), index=False) == 8.0
    assert most_tolerance(np.array([[3.0], [900.0]], np.float32), index=True) == 0.5
