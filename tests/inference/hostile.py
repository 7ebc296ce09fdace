"""Artifacts that mean harm or are merely broken, each with digests that are right: whoever packs one can compute them."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.inference.made import G, Op, T, compiled_part, executable, package, tflite
from tests.inference.tiny import GOLDEN, TINY, manifest, packed, write

CONCATENATION, ADD, TANH, WHILE, CALL_ONCE, LOGISTIC, DEPTHWISE, RESHAPE = 2, 0, 28, 119, 129, 14, 4, 22
TWO, THREE, FIVE = T((1, 2), name="numbers"), T((1, 3), name="rr"), T((1, 5), name="out")
JOIN = Op(CONCATENATION, (0, 1), (2,), 1, 10, ((0, "int32", 1),))


@dataclass(frozen=True)
class Hostile:
    name: str
    words: tuple[str, ...]
    """All of them in the one line that refuses it; the first is the file that it is about."""
    tflite: bytes = TINY
    golden: bytes | None = None
    about: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    spoil: Callable[[Path], None] | None = None
    """Done to the folder once it is written."""

    def write(self, folder: Path) -> Path:
        path = write(folder, manifest(**self.about), tflite=self.tflite, golden=self.golden, files=self.files)
        if self.spoil is not None:
            self.spoil(path)
        return path


def graph(*tensors: T, operators: tuple[Op, ...] = (JOIN,), outputs: tuple[int, ...] = (2,), **more: Any) -> bytes:
    """Inputs 0 and 1 as the manifest has them, unless others are given."""
    return tflite(G(tensors or (TWO, THREE, FIVE), operators, [0, 1], outputs), **more)


def then(operator: Op, *tensors: T, last: int = 3) -> bytes:
    """The good graph, and something behind it: tensors from 3 on."""
    return graph(TWO, THREE, FIVE, *tensors, operators=(JOIN, operator), outputs=(last,))


def _text(raw: bytes) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        (path / "manifest.json").write_bytes(raw)

    return spoil


def _huge_list(content: bytes) -> bytes:
    """The first list of five tensors or so is said to have four thousand million."""
    made = bytearray(content)
    root = int.from_bytes(made[:4], "little")
    fields = root - int.from_bytes(made[root : root + 4], "little", signed=True)
    place = root + int.from_bytes(made[fields + 8 : fields + 10], "little")  # of the graphs
    many = place + int.from_bytes(made[place : place + 4], "little")
    made[many : many + 4] = b"\xff\xff\xff\xff"
    return bytes(made)


def _bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name in (*GOLDEN, "more"):
            archive.writestr(f"{name}.npy", b"\0" * (70 << 20))
    return file.getvalue()


def _shifted() -> bytes:
    golden = {name: array.copy() for name, array in GOLDEN.items()}
    golden["output"][0, 0] += 1
    return packed(golden)


def _depths(path: Path) -> None:
    raw = json.loads((path / "manifest.json").read_text(encoding="utf-8"))
    text = json.dumps(raw)[:-1] + ', "deep": ' + "[" * 200_000 + "]" * 200_000 + "}"
    (path / "manifest.json").write_text(text, encoding="utf-8")


def _another(path: Path) -> None:
    (path / "model_edgetpu.tflite").write_bytes(TINY)


NAN_WEIGHTS = tflite(
    G(
        [
            T((1, 2), "float32", "numbers"),
            T((1, 3), "float32", "rr"),
            T((1, 5), "float32"),
            T((5,), "float32", data=np.array([0, 0, np.nan, 0, 0], np.float32)),
            T((1, 5), "float32"),
        ],
        [JOIN, Op(ADD, (2, 3), (4,), 1, 11)],
        [0, 1],
        [4],
    )
)
FLOATS = graph(T((1, 2), "float32", "numbers"), T((1, 3), "float32", "rr"), T((1, 5), "float32"))
LONG = T((2**31 - 1, 1024), name="room")
MODEL, GOLDEN_FILE, MANIFEST = "model.tflite", "golden.npz", "manifest.json"

HOSTILE = (
    Hostile("truncated", (MODEL, "cannot load it", "byte"), tflite=TINY[: len(TINY) * 2 // 3]),
    Hostile("an offset that leads out", (MODEL, "cannot load it"), tflite=b"\xf0\xff\xff\x7f" + TINY[4:]),
    Hostile(
        "a list of four thousand million", (MODEL, "cannot load it", "a list of 4294967295"), tflite=_huge_list(TINY)
    ),
    Hostile("a page of HTML", (MODEL, "cannot load it", "no TFL3"), tflite=b"<html>404 not found</html>"),
    Hostile("another schema", (MODEL, "schema 9"), tflite=graph(version=9)),
    Hostile("two terabytes", (MODEL, "MiB of memory"), tflite=then(Op(ADD, (2, 2), (3,), 1, 11), LONG)),
    Hostile(
        "integers in",
        (MODEL, "int32"),
        tflite=graph(T((1, 2), "int32", "numbers"), T((1, 3), "int32", "rr"), T((1, 5), "int32")),
    ),
    Hostile("strings in", (MODEL, "string"), tflite=graph(T((1, 2), "string", "numbers"), THREE, FIVE)),
    Hostile(
        "a dynamic shape",
        (MODEL, "dynamic shape"),
        tflite=graph(T((1, 2), name="numbers", signature=(-1, 2)), THREE, FIVE),
    ),
    Hostile(
        "floats where int8 is demanded",
        (MODEL, "float32", "the manifest says int8"),
        tflite=FLOATS,
        about={"quantisation": "int8"},
    ),
    Hostile(
        "floats inside where int8 is demanded",
        (MODEL, "float32", "int8"),
        tflite=then(Op(6, (2,), (3,)), T((1, 5), "float32")),
        about={"quantisation": "int8"},
    ),
    Hostile("a custom operator", (MODEL, "custom operator ('Mine')"), tflite=then(Op("Mine", (2,), (3,)), T((1, 5)))),
    Hostile(
        "compiled for the TPU",
        (MODEL, "compiled for the Edge TPU"),
        tflite=graph(operators=(compiled_part((0, 1), (2,), package(13, "16", executable())),)),
    ),
    Hostile("a loop", (MODEL, "control flow (operator WHILE)"), tflite=then(Op(WHILE, (2,), (3,), 1, 92), T((1, 5)))),
    Hostile(
        "a graph beside the graph",
        (MODEL, "control flow (2 graphs)"),
        tflite=tflite(*[G((TWO, THREE, FIVE), (JOIN,), [0, 1], [2])] * 2),
    ),
    Hostile(
        "a sparse tensor",
        (MODEL, "sparse"),
        tflite=then(Op(ADD, (2, 3), (4,), 1, 11), T((1, 5), data=b"\0" * 5, sparse=True), T((1, 5)), last=4),
    ),
    Hostile(
        "a constant shorter than its shape",
        (MODEL, "holds 4 bytes", "wants 5000000"),
        tflite=then(Op(ADD, (2, 3), (4,), 1, 11), T((1_000_000, 5), data=b"\0" * 4), T((1, 5)), last=4),
    ),
    Hostile(
        "weights behind the end of the file",
        (MODEL, "behind the flatbuffer"),
        tflite=tflite(
            G(
                (TWO, THREE, FIVE, T((1, 5), data=b"\0" * 5), T((1, 5))),
                (JOIN, Op(ADD, (2, 3), (4,), 1, 11)),
                [0, 1],
                [4],
            ),
            buffer_offset=1 << 40,
        ),
    ),
    Hostile(
        "a tensor that is not there", (MODEL, "reads tensor 4000"), tflite=then(Op(TANH, (4000,), (3,)), T((1, 5)))
    ),
    Hostile("a tensor below the first", (MODEL, "reads tensor -7"), tflite=then(Op(TANH, (-7,), (3,)), T((1, 5)))),
    Hostile("read before it is made", (MODEL, "before it is computed"), tflite=then(Op(TANH, (3,), (3,)), T((1, 5)))),
    Hostile("written over its input", (MODEL, "writes tensor 0"), tflite=graph(operators=(JOIN, Op(TANH, (2,), (0,))))),
    Hostile(
        "a bias that is left out", (MODEL, "has 1 inputs"), tflite=then(Op(DEPTHWISE, (2,), (3,), 1, 2), T((1, 5)))
    ),
    Hostile(
        "an input that is left out",
        (MODEL, "lacks its input 1"),
        tflite=graph(operators=(Op(CONCATENATION, (0, -1), (2,), 1, 10),)),
    ),
    Hostile(
        "a scale that ends the process",
        (MODEL, "runtimes end the process"),
        tflite=then(Op(TANH, (2,), (3,)), T((1, 5), scales=(1e-42,))),
    ),
    Hostile(
        "a zero point of a thousand",
        (MODEL, "zero point outside"),
        tflite=graph(T((1, 2), name="numbers", zero_points=(1000,)), THREE, FIVE),
    ),
    Hostile(
        "no scale",
        (MODEL, "no scale"),
        tflite=graph(T((1, 2), name="numbers", scales=()), T((1, 3), name="rr", scales=()), T((1, 5), scales=())),
    ),
    Hostile("answers that are no numbers", (MODEL, "its outputs are no numbers"), tflite=NAN_WEIGHTS),
    Hostile("golden vectors of another model", ("golden outputs", "differ by 1"), golden=_shifted()),
    Hostile(
        "golden vectors that are no numbers",
        (GOLDEN_FILE, "not finite"),
        golden=packed({**GOLDEN, "output": np.full((2, 5), np.nan)}),
    ),
    Hostile("golden vectors that unpack to half a gigabyte", (GOLDEN_FILE, "unpacked"), golden=_bomb()),
    Hostile(
        "golden vectors as a pickle",
        (GOLDEN_FILE, "not a readable"),
        golden=packed({**GOLDEN, "rr": np.full((2, 3), None)}),
    ),
    Hostile(
        "a manifest of ten megabytes",
        (MANIFEST, "over 1 MiB"),
        about={"training": {"data": ["x" * 10_000_000], "licence": "", "protocol": ""}},
    ),
    Hostile("a manifest two hundred thousand deep", (MANIFEST, "not JSON"), spoil=_depths),
    Hostile("a manifest of no text", (MANIFEST, "not JSON"), spoil=_text(b"\xff\xfe" * 100)),
    Hostile("a file that is not there", (MODEL, "No such file"), spoil=lambda path: (path / MODEL).unlink()),
    Hostile("a model that nobody vouches for", ("model_edgetpu.tflite", "does not list it"), spoil=_another),
    Hostile(
        "a path that leads out", (MANIFEST, "not a plain name"), about={"files": {"../" * 9 + "etc/passwd": "0" * 64}}
    ),
    Hostile(
        "inputs that nothing tells apart",
        (MODEL, "nothing tells which"),
        tflite=graph(T((1, 2), name="foo"), T((1, 3), name="bar"), FIVE),
    ),
)
