"""``models check``: what maps to the Edge TPU, what does not and why, and what a compiled file says of itself."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.inference.loaded import model_names, shipped_models
from edge_agent.inference.tflite.check import examine
from edge_agent.inference.tflite.file import TfliteError
from tests.inference.made import G, Op, T, compiled_part, custom_options, executable, package, tflite
from tests.inference.tiny import TINY

ADD, CONCATENATION, CONV, DEQUANTIZE, DENSE, SOFTMAX, TANH, PAD, MEAN = 0, 2, 3, 6, 9, 25, 28, 34, 40
EXP, ELU, QUANTIZE, WHILE = 47, 111, 114, 119
COMPILER = "16.0.384591198"


def weights(*shape: int, dtype: str = "int8", scales: tuple[float, ...] = (0.01,), axis: int = 0) -> T:
    return T(shape, dtype, "w", scales, (0,) * len(scales), axis, np.ones(shape, dtype))


def chain(*parts: tuple[Op, T], first: T | None = None, constants: tuple[T, ...] = ()) -> bytes:
    """Operators one after the other; constants are tensors 1 and on."""
    first = first or T((1, 1, 64, 4), name="x")
    tensors, operators = [first, *constants], []
    before = 0
    for operator, output in parts:
        tensors.append(output)
        inputs = (before, *operator.inputs)
        before = len(tensors) - 1
        operators.append(
            Op(
                operator.kind,
                inputs,
                (before,),
                operator.version,
                operator.options_type,
                operator.options,
                operator.custom,
            )
        )
    return tflite(G(tensors, operators, [0], [before]))


def dense(output: T | None = None, version: int = 4, **more: Any) -> tuple[Op, T]:
    return Op(DENSE, (1,), (), version, 8, **more), output or T((1, 5))


WEIGHTS = weights(5, 64)
FLAT = T((1, 64), name="x")
SOFT = (Op(SOFTMAX, (), (), 2), T((1, 5)))


INT8 = ("abp-segment", "abp-segment-lstm", "ecg-af-10s", "ecg-af-rr", "ecg-beat-aami")


@pytest.mark.parametrize("name", INT8)
def test_the_shipped_models_of_int8_map_whole(name: str) -> None:
    report = examine((shipped_models() / name / "model.tflite").read_bytes())
    assert report.whole, report.problems
    assert report.mapped == len(report.operators)
    assert bool(report.unproven) == (name == "abp-segment-lstm")


def test_a_good_file_and_what_is_said_of_each_operator() -> None:
    report = examine(chain(dense(), SOFT, first=FLAT, constants=(WEIGHTS,)))
    assert report.whole
    assert [(one.name, one.version, one.verdict, one.output) for one in report.operators] == [
        ("FULLY_CONNECTED", 4, "tpu", "int8 1x5"),
        ("SOFTMAX", 2, "tpu", "int8 1x5"),
    ]
    assert report.problems == report.unproven == ()
    assert report.constants_bytes == 320


def test_the_first_that_does_not_map_takes_all_behind_it_along() -> None:
    parts = [dense(), (Op(ELU, (), ()), T((1, 5))), (Op(ADD, (), (), 2), T((1, 5))), SOFT]
    report = examine(chain(*parts, first=FLAT, constants=(WEIGHTS,)))
    assert [one.verdict for one in report.operators] == ["tpu", "cpu", "tpu", "tpu"]
    assert [one.cut_off for one in report.operators] == [False, False, True, True]
    assert (report.mapped, report.first_cut, report.whole) == (1, 1, False)
    assert report.problems == ("operator ELU does not map",)


def test_where_it_is_cut_is_the_first_of_several_that_do_not_map() -> None:
    content = chain(
        (Op(ADD, (0,), (), 2), T((1, 1, 64, 4), name="a")),
        (Op(ELU, (), ()), T((1, 1, 64, 4), name="b")),
        (Op(ELU, (), ()), T((1, 1, 64, 4), name="c")),
        (Op(TANH, (), (), 1), T((1, 1, 64, 4), name="d")),
    )
    report = examine(content)
    assert [operator.verdict for operator in report.operators][1:3] == ["cpu", "cpu"]
    assert (report.first_cut, report.refused) == (1, False)


def test_a_version_for_which_the_compiler_refuses_the_file_is_said_first(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "net.tflite"
    path.write_bytes(chain((Op(CONV, (1,), (), 6), T((1, 1, 64, 4), name="a")), constants=(weights(4, 1, 1, 4),)))
    assert examine(path.read_bytes()).refused
    assert main(["models", "check", str(path)]) == 1
    assert "0 of 1 operators map to the Edge TPU; the compiler refuses the file as it is" in capsys.readouterr().out


def test_quantising_float_inputs_stays_on_the_cpu_and_cuts_nothing_off() -> None:
    """As TensorFlow converts when it is not told to take int8 in and give int8 out."""
    parts = [(Op(QUANTIZE, (), ()), T((1, 64))), dense(), SOFT, (Op(DEQUANTIZE, (), (), 2), T((1, 5), "float32"))]
    tensors = [T((1, 64), "float32", "x"), WEIGHTS, *(output for _, output in parts)]
    operators = [
        Op(QUANTIZE, (0,), (2,)),
        Op(DENSE, (2, 1), (3,), 4, 8),
        Op(SOFTMAX, (3,), (4,), 2),
        Op(DEQUANTIZE, (4,), (5,), 2),
    ]
    report = examine(tflite(G(tensors, operators, [0], [5])))
    assert [(one.name, one.verdict, one.cut_off) for one in report.operators] == [
        ("QUANTIZE", "cpu", False),
        ("FULLY_CONNECTED", "tpu", False),
        ("SOFTMAX", "tpu", False),
        ("DEQUANTIZE", "cpu", False),
    ]
    assert report.mapped == 2
    assert not report.whole


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (chain(dense(version=9), first=FLAT, constants=(WEIGHTS,)), "has version 9, the compiler knows 4: it refuses"),
        (chain((Op(CONV, (1,), (), 6, 1), T((1, 1, 64, 4))), constants=(weights(4, 1, 3, 4),)), "version 6, the compiler"),
        (chain((Op(QUANTIZE, (), (), 3), T((1, 1, 64, 4)))), "QUANTIZE has version 3, the compiler knows 2"),
        (chain((Op(EXP, (), (), 2), T((1, 1, 64, 4)))), "EXP has version 2, the compiler knows 1"),
        (
            chain(dense(), first=FLAT, constants=(weights(5, 64, scales=(0.1, 0.2, 0.3, 0.4, 0.5)),)),
            "quantised per channel",
        ),
        (chain(dense(T((1, 5, 5))), first=FLAT, constants=(WEIGHTS,)), "output of more than one dimension"),
        (chain(dense(options=((1, "int8", 1),)), first=FLAT, constants=(WEIGHTS,)), "shuffled weights"),
        (chain(dense(T((1, 5), "float32")), first=FLAT, constants=(WEIGHTS,)), "does not compute in int8"),
        (chain(dense(T((1, 5), "int16")), first=FLAT, constants=(WEIGHTS,)), "tensors are not int8"),
        (chain(dense(T((1, 5), scales=())), first=FLAT, constants=(WEIGHTS,)), "has no scale"),
        (chain(SOFT, first=T((2, 1, 1, 5), name="x")), "only the three innermost"),
        (chain(SOFT, first=T((1, 5), name="x", signature=(-1, 5))), "tensor x has a dynamic shape"),
        (chain((Op(SOFTMAX, (), (), 2), T((1, 3, 5))), first=T((1, 3, 5), name="x")), "SOFTMAX over more than one"),
        (chain((Op(SOFTMAX, (), (), 2), T((1, 20_000))), first=T((1, 20_000))), "more than 16000 numbers"),
        (
            chain((Op(CONV, (1,), (), 1, 1, ((4, "int32", 2), (5, "int32", 1))), T((1, 1, 64, 4))), constants=(weights(4, 1, 3, 4),)),
            "dilated differently",
        ),
        (chain((Op(CONCATENATION, (1,), (), 2, 10, ((1, "int8", 3),)), T((1, 1, 64, 8)))), "fused activation"),
        (
            chain((Op(CONCATENATION, (1,), (), 2, 10), T((1, 1, 64, 8))), constants=(weights(1, 1, 64, 4),)),
            "constant that is not all zero",
        ),
        (
            chain((Op(MEAN, (1,), (), 2), T((1, 4))), constants=(T((1,), "int32", "axes", (), data=np.array([0], "int32")),)),
            "MEAN over the batch",
        ),
        (
            chain((Op(PAD, (1,), ()), T((2, 1, 64, 4))), constants=(T((4, 2), "int32", "p", (), data=np.eye(4, 2, dtype="int32")),)),
            "PAD of the batch",
        ),
        (chain((Op("Flex" + "Erf", (), ()), T((1, 1, 64, 4)))), "operator FlexErf is a custom one"),
        (chain((Op(WHILE, (), ()), T((1, 1, 64, 4)))), "control flow"),
        (tflite(*[G([T((1, 4)), T((1, 4))], [Op(TANH, (0,), (1,))], [0], [1])] * 2), "2 subgraphs"),
    ],
)  # fmt: skip
def test_each_reason_against_a_file_is_named(content: bytes, message: str) -> None:
    report = examine(content)
    assert not report.whole
    assert any(message in problem for problem in report.problems), report.problems


def test_what_maps_without_proof_is_said_to_be_unproven(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = chain((Op(TANH, (), ()), T((1, 1, 64, 4))))
    report = examine(content)
    assert report.whole
    assert ["TANH" in text for text in report.unproven] == [True]
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    assert main(["models", "check", str(path)]) == 0
    assert "TPU?" in capsys.readouterr().out
    assert main(["models", "check", str(path), "--strict"]) == 1


def test_more_weights_than_the_chip_keeps() -> None:
    report = examine(chain(dense(T((1, 1000))), first=T((1, 9000)), constants=(weights(1000, 9000),)))
    assert report.whole
    assert "9.0 MB of constants" in report.unproven[0]


# -- compiled files -----------------------------------------------------------------------------------------------------------


def compiled(
    *tail: tuple[Op, T], content: bytes | None = None, custom: bytes | None = None, runtime: int = 13
) -> bytes:
    content = package(runtime, COMPILER, executable(parameters=5000)) if content is None else content
    part = compiled_part((0,), (1,), content)
    if custom is not None:
        part = Op(part.kind, (0,), (1,), custom=custom)
    tensors, operators = [T((1, 64), name="x"), T((1, 5))], [part]
    for operator, output in tail:
        tensors.append(output)
        operators.append(Op(operator.kind, (len(tensors) - 2,), (len(tensors) - 1,), operator.version))
    return tflite(G(tensors, operators, [0], [len(tensors) - 1]))


@pytest.mark.parametrize("parameters", [0, 100, 5000, 70_000])  # their length takes one, two and four bytes
def test_a_compiled_file_says_its_runtime_and_compiler(parameters: int) -> None:
    report = examine(compiled(content=package(12, COMPILER, executable(parameters=parameters))))
    assert report.compiled
    assert report.whole
    (found,) = report.packages
    assert (found.minimum_runtime, found.compiler, found.problem) == (12, COMPILER, "")
    assert [(one.kind, one.parameter_bytes, one.instruction_bytes) for one in found.executables] == [
        ("stand-alone", parameters, 64)
    ]


def test_what_a_compiled_file_leaves_on_the_cpu() -> None:
    report = examine(compiled(SOFT, (Op("TFLite_Detection_PostProcess", (), ()), T((1, 5), "float32"))))
    assert [(one.name, one.verdict) for one in report.operators] == [
        ("edgetpu-custom-op", "tpu"),
        ("SOFTMAX", "cpu"),
        ("TFLite_Detection_PostProcess", "cpu"),
    ]
    assert report.mapped == 1
    assert report.problems == ("2 operators run on the CPU: SOFTMAX, TFLite_Detection_PostProcess",)


def test_files_that_were_compiled_together_have_a_token() -> None:
    both = executable(1, 5000, 0xABC), executable(2, 300, 0xABC)
    report = examine(compiled(content=package(13, COMPILER, *both)))
    assert [one.kind for one in report.packages[0].executables] == ["parameter caching", "execution only"]
    assert report.packages[0].cached_bytes == 5000
    assert "0000000000000abc" in "; ".join(report.notes)


def test_several_parts_and_several_graphs() -> None:
    content = package(13, COMPILER, executable())
    one = G(
        [T((1, 8)), T((1, 8)), T((1, 8)), T((1, 8))],
        [compiled_part((0,), (1,), content), Op(ELU, (1,), (2,)), compiled_part((2,), (3,), content)],
        [0],
        [3],
    )
    report = examine(tflite(one, one))
    assert [package.operator for package in report.packages] == [0, 2, 3, 5]
    assert (report.mapped, len(report.operators)) == (4, 6)
    assert "2 subgraphs" in report.notes


def test_a_runtime_that_nobody_has() -> None:
    assert any("wants runtime 15" in problem for problem in examine(compiled(runtime=15)).problems)


@pytest.mark.parametrize(
    "custom",
    [b"", b"\0", b"\x24\x01", b"no map at all", custom_options(b"")[:-1], custom_options(b"junk"), b"\xff" * 40],
    ids=["empty", "zero", "short", "words", "cut", "junk", "ones"],
)
def test_a_package_that_cannot_be_read_is_said_and_no_more(custom: bytes) -> None:
    report = examine(compiled(custom=custom))
    assert report.compiled
    assert "its package cannot be read" in report.problems[0]


def test_a_package_in_options_of_another_kind_is_found_all_the_same() -> None:
    (found,) = examine(compiled(custom=b"12345678" + package(13, COMPILER))).packages
    assert (found.minimum_runtime, found.compiler) == (13, COMPILER)


def test_nothing_in_a_file_makes_it_raise_anything_else() -> None:
    rng = np.random.default_rng(0)
    files = [TINY, compiled(SOFT), chain(dense(), SOFT, first=FLAT, constants=(WEIGHTS,))]
    seen = {"read": 0, "refused": 0}
    for number in range(1500):
        content = bytearray(files[number % 3])
        for _ in range(rng.integers(1, 6)):
            content[rng.integers(0, len(content))] = rng.integers(0, 256)
        if number % 10 == 0:
            del content[rng.integers(8, len(content)) :]
        try:
            examine(bytes(content))
        except TfliteError:
            seen["refused"] += 1
        else:
            seen["read"] += 1
    assert min(seen.values()) > 100, seen


# -- the command ----------------------------------------------------------------------------------------------------------------


def test_the_exit_status_and_json_are_for_ci(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good, bad = tmp_path / "good.tflite", tmp_path / "bad.tflite"
    good.write_bytes(compiled())
    bad.write_bytes(chain((Op(ELU, (), ()), T((1, 1, 64, 4)))))
    assert main(["models", "check", str(good)]) == 0
    said = capsys.readouterr().out
    assert "1 of 1 operators run on the Edge TPU" in said
    assert f"compiler {COMPILER}, runtime 13 or newer" in said
    assert main(["models", "check", str(good), str(bad), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["passed"]
    assert [(one["passed"], one["compiled"], one["mapped"]) for one in found["files"]] == [
        (True, True, 1),
        (False, False, 0),
    ]
    assert main(["models", "check", str(tmp_path)]) == 1
    out = capsys.readouterr().out
    assert "operator ELU does not map" in out


def test_a_folder_of_models(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models", "check", str(shipped_models()), "--json"]) == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert len(files) == len(model_names(shipped_models()))


def test_what_is_made_for_the_cpu_alone_is_said_and_fails_no_folder(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = shipped_models() / "vt-second-opinion"
    assert main(["models", "check", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "0 of 6 operators map" in said
    assert "note: made for the CPU alone" in said
    assert main(["models", "check", str(folder / "model.tflite")]) == 1  # asked about the file itself
    copy = tmp_path / "another"
    copy.mkdir()
    (copy / "model.tflite").write_bytes((folder / "model.tflite").read_bytes())
    assert main(["models", "check", str(tmp_path)]) == 1  # nobody says so
    (copy / "manifest.json").write_text('{"engine": "any"}', encoding="utf-8")
    assert main(["models", "check", str(tmp_path)]) == 1
    (copy / "manifest.json").write_text('{"engine": "cpu"}', encoding="utf-8")
    assert main(["models", "check", str(tmp_path), "--json"]) == 0
    (copy / "model.tflite").write_bytes(b"junk")
    assert main(["models", "check", str(tmp_path)]) == 1


@pytest.mark.parametrize("content", [b"", b"junk", b"\0\0\0\0TFL3", b"\x1c\0\0\0TFL3" + b"\xff" * 64])
def test_what_is_no_model_is_one_line(content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes(content)
    assert main(["models", "check", str(path)]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"{path}: ")
    assert said.count("\n") == 1
    assert main(["models", "check", str(tmp_path / "none"), "--json"]) == 1
    assert "No such file" in capsys.readouterr().out


@pytest.mark.parametrize("what", ["/dev/zero", "pipe"])
@pytest.mark.parametrize("command", [("check",), ("new", "made", "--labels", "a,b")])
def test_what_is_no_plain_file_is_neither_read_nor_waited_for(
    what: str,
    command: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    name, *more = command
    assert main(["models", name, what, *more]) == 1
    assert f"{what}: is no plain file" in capsys.readouterr().err
    assert not Path("made").exists()


def test_a_file_beyond_the_bound_is_refused_without_being_held(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with (tmp_path / "large.tflite").open("wb") as file:
        file.truncate((64 << 20) + 1)
    assert main(["models", "new", str(tmp_path / "large.tflite"), str(tmp_path / "made"), "--labels", "a,b"]) == 1
    assert "over 64 MiB" in capsys.readouterr().err
