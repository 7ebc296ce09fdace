"""Which input is which, whatever a file calls them; batches; a label's number; and what is no number."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from edge_agent.errors import ArtifactError, EngineError
from edge_agent.inference import binding
from edge_agent.inference.engine import CpuEngine, Feed
from edge_agent.journey import Samples
from tests.inference.made import G, Op, T, tflite

CONCATENATION, ARG_MAX = 2, 56


def floats(*values: float) -> Samples:
    return np.array(values, np.float32)


def joining(*names: str, signature: dict[str, int] | None = None, batch: int = 1, dtype: str = "int8") -> bytes:
    """Inputs of two numbers each, laid side by side in the file's order."""
    tensors = [T((batch, 2), dtype, name) for name in names] + [T((batch, 2 * len(names)), dtype)]
    many = len(names)
    operator = Op(CONCATENATION, tuple(range(many)), (many,), 1, 10, ((0, "int32", 1),))
    return tflite(G(tensors, [operator], list(range(many)), [many]), signature=signature)


def order(engine: CpuEngine, many: int) -> list[int]:
    """Which of the manifest's inputs came first, second, ... in the file."""
    output = engine.invoke(tuple(floats(i, i) for i in range(many)))
    return [round(float(value)) for value in output[::2]]


@pytest.mark.parametrize(
    ("content", "feeds", "expected"),
    [
        (joining("serving_default_b:0", "serving_default_a:0"), ["a", "b"], [1, 0]),
        (joining("b:0", "a:0"), ["a", "b"], [1, 0]),
        (joining("b", "a"), ["a", "b"], [1, 0]),
        # a foreign file: names that mean nothing, but a signature that does
        (joining("x", "y", signature={"first": 1, "second": 0}), ["first", "second"], [1, 0]),
        # sorted by name these would be swapped
        (joining("zebra", "ant"), ["zebra", "ant"], [0, 1]),
        # one is named, the other is what is left
        (joining("args_0", "wave"), ["wave", "numbers"], [1, 0]),
        # numbers, not text: 10 comes after 9
        (joining("args_10", "args_9"), ["one", "two"], [1, 0]),
        (joining("serving_default_1:0", "serving_default_0:0"), ["one", "two"], [1, 0]),
    ],
)
def test_inputs_are_found_by_name(content: bytes, feeds: list[str], expected: list[int]) -> None:
    assert order(CpuEngine(content, [Feed(name, 2) for name in feeds], 4), 2) == expected


@pytest.mark.parametrize(
    ("stated", "expected"), [(("y", "x"), [1, 0]), (("x", "y"), [0, 1]), ((1, 0), [1, 0]), ((None, "x"), [1, 0]), ((1, None), [1, 0])]
)  # fmt: skip
def test_or_as_the_manifest_states(stated: tuple[Any, Any], expected: list[int]) -> None:
    feeds = [Feed(name, 2, tensor) for name, tensor in zip(("one", "two"), stated, strict=True)]
    assert order(CpuEngine(joining("x", "y"), feeds, 4), 2) == expected


def test_every_order_of_three_is_found() -> None:
    names = ("beat", "rr", "shape")
    for file_order in itertools.permutations(names):
        content = joining(*(f"serving_default_{name}:0" for name in file_order))
        engine = CpuEngine(content, [Feed(name, 2) for name in names], 6)
        assert order(engine, 3) == [names.index(name) for name in file_order]


@pytest.mark.parametrize(
    ("content", "feeds", "message"),
    [
        (joining("foo", "bar"), [Feed("a", 2), Feed("b", 2)], "nothing tells which of its inputs is 'a' (they are: 'foo', 'bar')"),
        (joining("foo", "bar"), [Feed("a", 2, "baz"), Feed("b", 2)], "has no input tensor 'baz'"),
        (joining("foo", "bar"), [Feed("a", 2, 7), Feed("b", 2)], "is of tensor 7, the file has 2"),
        (joining("foo", "bar"), [Feed("a", 2, "foo"), Feed("b", 2, 0)], "is of tensor 'foo', and so is another"),
        (joining("foo"), [Feed("a", 2), Feed("b", 2)], "has 1 inputs, the manifest describes 2"),
        (joining("a", "b"), [Feed("a", 2), Feed("b", 3)], "input 'b' takes (1, 2), the manifest gives 3"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_refused(content: bytes, feeds: list[Feed], message: str) -> None:
    with pytest.raises(ArtifactError) as caught:
        CpuEngine(content, feeds, 4, where="m.tflite")
    assert message in str(caught.value)
    assert str(caught.value).startswith("m.tflite: ")


@pytest.mark.parametrize("dtype", ["int8", "float32"])
def test_a_file_with_a_batch_takes_several_windows_at_once(dtype: str) -> None:
    engine = CpuEngine(joining("a", "b", batch=4, dtype=dtype), [Feed("a", 2), Feed("b", 2)], 4)
    assert engine.batch == 4
    asked = [(floats(i, i + 0.5), floats(-i, 1)) for i in range(6)]
    calls = []
    real = engine._bound.interpreter

    class Counting:
        def __getattr__(self, name: str) -> Any:
            return getattr(real, name)

        def invoke(self) -> None:
            calls.append(1)
            real.invoke()

    engine._bound.interpreter = Counting()
    found = engine.invoke_many(asked)
    assert len(calls) == 2
    for (a, b), scores in zip(asked, found, strict=True):
        np.testing.assert_allclose(scores, [*a, *b], atol=0.026)
        np.testing.assert_array_equal(engine.invoke((a, b)), scores)


def test_a_file_without_one_takes_them_one_by_one() -> None:
    engine = CpuEngine(joining("a", "b"), [Feed("a", 2), Feed("b", 2)], 4)
    assert engine.batch == 1
    found = engine.invoke_many([(floats(1, 2), floats(3, 4)), (floats(5, 6), floats(-1, -2))])
    np.testing.assert_allclose(found, [[1, 2, 3, 4], [5, 6, -1, -2]], atol=0.026)


def test_a_label_s_number_comes_as_it_is() -> None:
    axis = T((1,), "int32", "axis", (), data=np.array([1], np.int32))
    content = tflite(
        G([T((1, 4), name="x"), axis, T((1,), "int32", scales=())], [Op(ARG_MAX, (0, 1), (2,), 2, 40, ((0, "int8", 2),))], [0], [2])
    )  # fmt: skip
    engine = CpuEngine(content, [Feed("x", 4)], 1, index=True)
    assert [float(engine.invoke((floats(*row),))[0]) for row in np.eye(4)] == [0, 1, 2, 3]
    with pytest.raises(ArtifactError, match="is int32; int8, uint8 or float32 is wanted"):
        CpuEngine(content, [Feed("x", 4)], 1)
    with pytest.raises(ArtifactError, match="a label's number is int32 or int64"):
        CpuEngine(joining("x"), [Feed("x", 2)], 2, index=True)


@pytest.mark.parametrize("kernel", [True, False])
def test_what_is_no_number_is_not_judged(kernel: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(binding, "KERNEL", kernel and binding.KERNEL)
    engine = CpuEngine(joining("a", "b"), [Feed("a", 2), Feed("b", 2)], 4)
    with pytest.raises(EngineError, match="what is no number"):
        engine.invoke((floats(1, np.nan), floats(0, 0)))
    with pytest.raises(EngineError, match="an input of 3 numbers, 2 are wanted"):
        engine.invoke((floats(1, 2, 3), floats(0, 0)))
    np.testing.assert_allclose(engine.invoke((floats(1, 2), floats(0, 0))), [1, 2, 0, 0], atol=0.026)


def test_with_and_without_the_kernel_the_same() -> None:
    rng = np.random.default_rng(0)
    content = joining("a", "b")
    feeds = [Feed("a", 2), Feed("b", 2)]
    fast = CpuEngine(content, feeds, 4)
    cases = [tuple(rng.normal(0, 3, (2, 2)).astype(np.float32)) for _ in range(200)]
    found = [fast.invoke(case) for case in cases]
    kept = binding.KERNEL
    try:
        binding.KERNEL = False
        slow = CpuEngine(content, feeds, 4)
        for case, expected in zip(cases, found, strict=True):
            np.testing.assert_array_equal(slow.invoke(case), expected)
    finally:
        binding.KERNEL = kept


def test_numbers_of_another_type_are_taken_all_the_same() -> None:
    engine = CpuEngine(joining("a", "b"), [Feed("a", 2), Feed("b", 2)], 4)
    wide: Any = (np.array([1.0, 2.0]), np.array([9.0, 3.0, 9.0, 4.0], np.float32)[1::2])
    np.testing.assert_allclose(engine.invoke(wide), [1, 2, 3, 4], atol=0.026)
