"""Attribution: known nets must give known answers, and the command's numbers must stand where they say."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from edge_train import explain
from edge_train.cli import main
from edge_train.errors import DataError
from edge_train.runtime import quiet

FS = 125.0


def flat_net(kernel: np.ndarray) -> Any:
    """Two logits, linear in the wave: their gradients are the weights."""
    tf = quiet()
    entry = tf.keras.Input((1, kernel.shape[0], 1), name="wave")
    logits = tf.keras.layers.Dense(2, use_bias=False, name="logits")(tf.keras.layers.Flatten()(entry))
    model = tf.keras.Model(entry, tf.keras.layers.Softmax()(logits))
    model.get_layer("logits").set_weights([kernel])
    return model


def test_of_a_linear_net_integrated_gradients_are_weight_times_input() -> None:
    rng = np.random.default_rng(0)
    kernel = rng.normal(0, 1, (20, 2)).astype(np.float32)
    x = rng.normal(3, 1, 20).astype(np.float32)
    found = explain.by_gradients(flat_net(kernel), {"wave": x}, ("a", "b"), "b")
    assert np.allclose(found.integrated_gradients["wave"], kernel[:, 1] * (x - x.mean()), atol=1e-4)
    assert found.completeness is not None
    assert found.completeness < 1e-3
    assert found.grad_cam == {}, "there is no map to look at"


def spiked(at: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    x = toy.pulse(toy.SAMPLES, rng)
    x[at - 3 : at + 4] += np.array([40, 80, 120, 140, 120, 80, 40], np.float32)
    return {"wave": (x - np.median(x)).astype(np.float32)}


@pytest.fixture(scope="session")
def model(toy_places: list[str]) -> Any:
    from edge_train.fitting.fit import load_fit

    return load_fit(toy.TASK, Path(toy_places[0].partition("=")[2]) / "runs" / "toy" / "seed0")[0]


@pytest.mark.parametrize("at", [25, 70])
def test_grad_cam_and_integrated_gradients_see_the_spike(model: Any, at: int) -> None:
    found = explain.by_gradients(model, spiked(at), toy.TASK.labels)
    assert found.label == "spoiled"
    assert abs(int(np.argmax(found.integrated_gradients["wave"])) - at) <= 3
    assert abs(int(np.argmax(found.grad_cam["wave"])) - at) <= 15, "its maps have a step every 8 samples"
    assert found.completeness is not None
    assert found.completeness < 0.05
    assert found.grad_cam["wave"].max() == 1


def test_frozen_or_not_the_answer_is_the_same(model: Any) -> None:
    before = explain.by_gradients(model, spiked(40), toy.TASK.labels)
    model.trainable = False
    try:
        after = explain.by_gradients(model, spiked(40), toy.TASK.labels)
    finally:
        model.trainable = True
    assert np.allclose(before.grad_cam["wave"], after.grad_cam["wave"], atol=1e-5)
    assert before.grad_cam["wave"].max() > 0


def test_occlusion_sees_the_spike_without_gradients(model: Any) -> None:
    def ask(rows: dict[str, np.ndarray]) -> np.ndarray:
        return np.asarray(model([rows["wave"].reshape(-1, 1, toy.SAMPLES, 1)], training=False))

    found = explain.by_occlusion(ask, spiked(60), toy.TASK.labels, ["wave"])
    assert found.label == "spoiled"
    assert abs(int(np.argmax(found.occlusion["wave"])) - 60) <= 10
    assert found.integrated_gradients == {}


def test_rank_correlation_is_spearman_s() -> None:
    from scipy.stats import spearmanr

    rng = np.random.default_rng(2)
    a, b = rng.integers(0, 9, 50).astype(np.float32), rng.normal(0, 1, 50).astype(np.float32)
    assert explain.rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic)
    assert explain.rank_correlation(np.zeros(5, np.float32), b[:5]) is None


def test_channels_of_one_convolution_are_explained_by_its_maps() -> None:
    """The beat and the usual beat go into one convolution; numbers beside them have none."""
    tf = quiet()
    a, b, n = (tf.keras.Input(shape, name=name) for name, shape in (("a", (1, 32, 1)), ("b", (1, 32, 1)), ("n", (4,))))
    x = tf.keras.layers.Conv2D(4, (1, 3), name="first")(tf.keras.layers.Concatenate()([a, b]))
    x = tf.keras.layers.Conv2D(4, (1, 3), name="second")(x)
    x = tf.keras.layers.Concatenate()([tf.keras.layers.Flatten()(x), n])
    found = explain.last_maps(tf.keras.Model([a, b, n], tf.keras.layers.Dense(2)(x)))
    assert {name: [layer.name for layer in layers] for name, layers in found.items()} == {
        "a": ["second"],
        "b": ["second"],
    }


@pytest.fixture(scope="session")
def record(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    """A minute of pressure at a rate of its own, with one spike; and where it is."""
    import wfdb

    folder = tmp_path_factory.mktemp("record")
    rng = np.random.default_rng(3)
    x = toy.pulse(round(60 * FS), rng, FS)
    at = round(31.3 * FS)
    x[at - 8 : at + 9] += 140 * np.exp(-0.5 * (np.arange(-8, 9) / 3.5) ** 2).astype(np.float32)
    wfdb.wrsamp(
        "rec",
        fs=FS,
        units=["mmHg"],
        sig_name=["ABP"],
        p_signal=x[:, None].astype(float),
        fmt=["16"],
        write_dir=str(folder),
    )
    return folder / "rec", at


def test_the_numbers_stand_in_the_stream(
    toy_artifact: Path,
    toy_places: list[str],
    record: tuple[Path, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, at = record
    out = tmp_path / "why"
    assert (
        main(["explain", str(toy_artifact), "--record", str(path), "--at", str(at), "--out", str(out), *toy_places])
        == 0
    )
    assert "spoiled" in capsys.readouterr().out
    said = json.loads(out.with_suffix(".json").read_text())
    assert (said["label"], said["method"], said["fs"]) == ("spoiled", "gradients", FS)
    part = said["inputs"][0]
    samples = np.array(part["samples"])
    assert len(samples) == len(part["grad_cam"]) == len(part["integrated_gradients"]) == toy.SAMPLES
    assert np.allclose(np.diff(samples), FS / toy.RATE_HZ, atol=2e-3)
    assert abs(samples[int(np.argmax(part["values"]))] - at) <= FS / toy.RATE_HZ
    assert abs(samples[int(np.argmax(part["grad_cam"]))] - at) < 0.35 * FS
    assert out.with_suffix(".png").read_bytes()[:4] == b"\x89PNG"


def test_without_its_float_model_it_is_occluded(
    toy_artifact: Path,
    toy_places: list[str],
    record: tuple[Path, int],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path, at = record
    alone = tmp_path / "toy"
    shutil.copytree(toy_artifact, alone)
    out = tmp_path / "why"
    assert (
        main(["explain", str(alone), "--record", str(path), "--at", f"{at / FS}s", "--out", str(out), *toy_places]) == 0
    )
    assert "by occlusion" in capsys.readouterr().out
    part = json.loads(out.with_suffix(".json").read_text())["inputs"][0]
    assert abs(part["samples"][int(np.argmax(part["occlusion"]))] - at) < 0.4 * FS


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at", "soon"], "a sample's number"),
        (["--at", "99999999"], "the record has samples 0 to 7499"),
        (["--at", "3000", "--label", "odd"], "no class 'odd'; there are: clean, spoiled"),
        (["--at", "3000", "--channel", "II"], "no channel 'II'; there are: ABP"),
    ],
)
def test_bad_requests_are_one_line(
    toy_artifact: Path, toy_places: list[str], record: tuple[Path, int], tmp_path: Path, capsys: pytest.CaptureFixture[str],
    arguments: list[str], message: str,
) -> None:  # fmt: skip
    command = [
        "explain",
        str(toy_artifact),
        "--record",
        str(record[0]),
        "--out",
        str(tmp_path / "x"),
        *arguments,
        *toy_places,
    ]
    assert main(command) == 1
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_no_record_and_no_artifact(
    toy_artifact: Path, toy_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["explain", str(toy_artifact), "--record", str(tmp_path / "none"), "--at", "1", *toy_places]) == 1
    assert main(["explain", str(tmp_path), "--record", str(tmp_path / "none"), "--at", "1", *toy_places]) == 1
    assert "neither an artifact" in capsys.readouterr().err


def test_a_beat_is_explained_at_the_detector_s_beat() -> None:
    """The command's window is the daemon's: of a beat model too."""
    from edge_train.commands.explain import _cut, numbers
    from edge_train.data.cutting import Signal
    from edge_train.packing.pack import unpacked

    part = {
        "kind": "signal", "name": "wave", "signal": "ecg", "rate_hz": 90.0, "samples": 63, "before": 36, "normalisation": "zscore",
    }  # fmt: skip
    about = toy.TASK.about("toy", {"data": ["x"]}, 0, {}) | {"anchor": {"kind": "beat"}, "inputs": [part]}
    manifest = unpacked(about, "toy")
    fs, beats = 250.0, np.arange(300, 7000, 210)
    x = np.random.default_rng(4).normal(0, 0.005, 7500)
    for at in beats:
        x[at - 10 : at + 11] += np.exp(-0.5 * (np.arange(-10, 11) / 3) ** 2)
    signal = Signal("r", "II", "mV", fs, x.astype(np.float32))
    wanted = int(beats[20])
    cut = _cut(signal, manifest, wanted + 20, 0.15)
    assert abs(int(cut.sample[0]) - wanted) <= 5
    inputs = {name: rows[0] for name, rows in cut.inputs.items()}
    nothing = explain.Attribution("clean", 0.5, "occlusion", {}, {}, {"wave": np.zeros(63, np.float32)}, {}, None)
    said = numbers(signal, manifest, int(cut.sample[0]), inputs, nothing)["inputs"][0]
    assert abs(said["samples"][int(np.argmax(said["values"]))] - wanted) <= fs / 90
    with pytest.raises(DataError, match="sees no beat"):
        _cut(signal, manifest, wanted + 100, 0.15)


def test_a_model_of_alarms_has_no_beat_to_explain(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from edge_train.cli import main

    folder = Path(__file__).resolve().parents[2] / "models" / "vt-second-opinion"
    assert main(["explain", str(folder), "--record", str(tmp_path / "r"), "--at", "10s"]) == 1
    assert "is asked about alarms" in capsys.readouterr().err
