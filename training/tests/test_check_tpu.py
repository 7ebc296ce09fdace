"""The Edge TPU gate: each trap is built and must be seen."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from edge_train.cli import main
from edge_train.errors import DataError
from edge_train.packing import export, tpu_gates
from edge_train.packing.check_tpu import TpuError, examine
from edge_train.runtime import quiet

Convert = Callable[[Any], Any]


def net(tail: Callable[[Any, Any], Any] | None = None) -> Any:
    """A convolution, then what is told, then a dense layer and softmax."""
    tf = quiet()
    tf.keras.utils.set_random_seed(0)
    x = entry = tf.keras.Input((1, 64, 1), name="wave")
    x = tf.keras.layers.Conv2D(4, (1, 5), strides=2, padding="same", activation="relu6")(x)
    x = tail(tf, x) if tail is not None else x
    x = tf.keras.layers.Dense(3)(tf.keras.layers.Flatten()(x))
    return tf.keras.Model(entry, tf.keras.layers.Softmax()(x))


def shown() -> dict[str, np.ndarray]:
    return {"wave": np.random.default_rng(0).normal(0, 1, (30, 64)).astype(np.float32)}


@pytest.fixture(scope="module")
def good() -> bytes:
    return export.to_int8(net(), shown())


def per_channel() -> bytes:
    """As TensorFlow 2.21 converts when left to itself."""
    tf = quiet()
    converter = tf.lite.TFLiteConverter.from_keras_model(export.with_batch_of_one(net()))
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([row.reshape(1, 1, 64, 1)] for row in shown()["wave"])
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    made: bytes = converter.convert()
    return made


def changed(tflite: bytes, change: Callable[[Any, Any], None]) -> bytes:
    """The same file with something in its graph changed."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(tflite, 0))
    change(model, schema)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def test_a_good_file_maps_whole(good: bytes) -> None:
    report = examine(good)
    assert report.problems == report.unproven == ()
    assert report.mapped == len(report.operators) >= 4
    assert {operator.name for operator in report.operators} == {"CONV_2D", "RESHAPE", "FULLY_CONNECTED", "SOFTMAX"}
    assert export.tpu_problems(good) == []
    assert report.constants_bytes > 300


def test_dense_layers_per_channel_are_seen() -> None:
    assert any("per channel" in problem for problem in examine(per_channel()).problems)


def test_a_float_file_is_not_for_it() -> None:
    report = examine(export.to_float(net()))
    assert report.mapped == 0
    assert any("not int8" in problem for problem in report.problems)


def test_a_dynamic_batch_is_seen() -> None:
    """As it comes without a batch of 1."""
    tf = quiet()
    made = tf.lite.TFLiteConverter.from_keras_model(net()).convert()
    assert any("dynamic shape" in problem for problem in examine(made).problems)


def test_what_stands_behind_an_operator_that_does_not_map_is_cut_off() -> None:
    tflite = export.to_int8(net(lambda tf, x: tf.keras.layers.Activation("elu")(x)), shown())
    report = examine(tflite)
    bad = [operator for operator in report.operators if operator.verdict == "cpu"]
    assert "ELU" in [operator.name for operator in bad]
    after = report.operators[bad[-1].index + 1 :]
    assert [operator.name for operator in after][-2:] == ["FULLY_CONNECTED", "SOFTMAX"]
    assert all(operator.cut_off for operator in after)
    assert report.mapped == bad[0].index


def test_what_maps_without_proof_is_said_to_be_unproven() -> None:
    tflite = export.to_int8(net(lambda tf, x: tf.keras.layers.Activation("tanh")(x)), shown())
    report = examine(tflite)
    assert report.problems == ()
    assert any("TANH" in text for text in report.unproven)
    assert export.tpu_problems(tflite) == list(report.unproven)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda model, _: setattr(model.operatorCodes[0], "version", 9), "has version 9"),
        (
            lambda model, _: setattr(model.subgraphs[0].tensors[0], "shape", np.array([1, 2, 1, 64, 1], np.int32)),
            "three innermost",
        ),
        (
            lambda model, _: setattr(
                model.subgraphs[0].tensors[0], "shapeSignature", np.array([-1, 1, 64, 1], np.int32)
            ),
            "dynamic shape",
        ),
        (lambda model, schema: setattr(model.subgraphs[0].tensors[0], "type", schema.TensorType.INT16), "not int8"),
        (lambda model, _: setattr(model.subgraphs[0].tensors[0].quantization, "scale", None), "has no scale"),
        (lambda model, _: model.subgraphs.append(model.subgraphs[0]), "2 subgraphs"),
        (
            lambda model, _: setattr(model.subgraphs[0].operators[0].builtinOptions, "dilationWFactor", 2),
            "dilated differently",
        ),
    ],
)
def test_each_trap_is_seen(good: bytes, change: Callable[[Any, Any], None], message: str) -> None:
    problems = examine(changed(good, change)).problems
    assert any(message in problem for problem in problems), problems


@pytest.mark.parametrize("junk", [b"", b"junk", b"\0\0\0\0TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 64])
def test_junk_is_one_message(junk: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(TpuError):
        examine(junk)
    path = tmp_path / "x.tflite"
    path.write_bytes(junk)
    assert main(["check-tpu", str(path)]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_the_exit_status_and_json_are_for_ci(
    good: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(tpu_gates.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    (tmp_path / "good.tflite").write_bytes(good)
    assert main(["check-tpu", str(tmp_path / "good.tflite"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["passed"]
    assert said["mapped"] == len(said["operators"])
    assert said["tf25"] is said["edgetpu_compiler"] is None
    assert main(["check-tpu", str(tmp_path / "good.tflite"), "--strict"]) == 1
    assert "neither TensorFlow 2.5" in capsys.readouterr().err
    (tmp_path / "bad.tflite").write_bytes(per_channel())
    capsys.readouterr()
    assert main(["check-tpu", str(tmp_path / "bad.tflite"), "--json"]) == 1
    assert not json.loads(capsys.readouterr().out)["passed"]


def test_no_python_is_one_message(
    good: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "good.tflite"
    path.write_bytes(good)
    monkeypatch.setenv(tpu_gates.VARIABLE, str(tmp_path / "python"))
    assert main(["check-tpu", str(path)]) == 1
    assert "cannot be run" in capsys.readouterr().err
    with pytest.raises(DataError, match="is there already"):
        tpu_gates.make_tf25(tmp_path, print)


def test_tensorflow_2_5_agrees_on_a_good_file_and_not_on_the_trap(good: bytes) -> None:
    python = tpu_gates.tf25_python()
    if python is None:
        pytest.skip(f"no TensorFlow 2.5: edge-train check-tpu --make-tf25 DIR, then ${tpu_gates.VARIABLE}")
    age = tpu_gates.ask_tf25(good, python)
    assert age.version.startswith("2.5")
    assert age.passed, age
    wrong = tpu_gates.ask_tf25(per_channel(), python)
    assert wrong.loads
    assert not wrong.passed, "that age computes such files silently wrong"


COMPILER = """#!/bin/sh
# A stand-in: says what Google's compiler says, and compiles nothing.
while [ $# -gt 1 ]; do case "$1" in -o) out="$2"; shift 2;; *) shift;; esac; done
echo "Edge TPU Compiler version 16.0.384591198"
{body}
"""
FINE = """cp "$1" "$out/model_edgetpu.tflite"
echo "Number of operations that will run on Edge TPU: 4"
echo "Number of operations that will run on CPU: {cpu}" """
REFUSED = """echo "Didn't find op for builtin opcode 'CONV_2D' version '6'"
echo "Registration failed. Invalid model: model.tflite"
exit 1"""


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (FINE.format(cpu=0), 0, "4 operators on the TPU, 0 on the CPU"),
        (FINE.format(cpu=1), 1, "leaves 1 operators on the CPU"),
        (REFUSED, 1, "refuses it (Registration failed"),
    ],
)
def test_the_compiler_s_word_is_kept(
    good: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    body: str,
    status: int,
    said: str,
) -> None:
    """With a stand-in for Google's compiler, which is not to be had everywhere: what is read of its log and exit status."""
    program = tmp_path / "bin" / "edgetpu_compiler"
    program.parent.mkdir()
    program.write_text(COMPILER.format(body=body))
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv(tpu_gates.VARIABLE, raising=False)
    path = tmp_path / "model.tflite"
    path.write_bytes(good)
    assert main(["check-tpu", str(path), "--out", str(tmp_path / "out")]) == status
    printed = capsys.readouterr()
    assert said in printed.out + printed.err
    assert "16.0.384591198" in (tmp_path / "out" / "model_edgetpu.log").read_text()
    assert (tmp_path / "out" / "model_edgetpu.tflite").is_file() == (body != REFUSED)
