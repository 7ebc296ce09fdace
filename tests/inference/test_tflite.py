"""Our reading of TFLite files against the parser that the runtime's own project generates from its schema."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_agent.errors import ArtifactError
from edge_agent.inference.loaded import model_names, shipped_models
from edge_agent.inference.tflite import vet
from edge_agent.inference.tflite.file import TYPES, TfliteError, read
from edge_agent.inference.tflite.operators import CUSTOM, NAMES
from edge_agent.inference.tflite.vet import vetted
from tests.inference.made import G, Op, T, tflite
from tests.inference.tiny import TINY

generated = pytest.importorskip("ai_edge_litert.schema_py_generated")


def theirs(content: bytes) -> Any:
    return generated.ModelT.InitFromObj(generated.Model.GetRootAsModel(content, 0))


def test_names_and_types_are_the_schema_s() -> None:
    builtin = {number: name for name, number in vars(generated.BuiltinOperator).items() if isinstance(number, int)}
    assert dict(NAMES) == builtin
    assert NAMES[CUSTOM] == "CUSTOM"
    types = {number: name.lower() for name, number in vars(generated.TensorType).items() if isinstance(number, int)}
    for number, (name, each) in TYPES.items():
        assert types[number] == name
        if name in ("float32", "int8", "uint8", "int32", "int64", "int16", "float16", "bool"):
            assert each == np.dtype(name).itemsize


@pytest.mark.parametrize("name", [*model_names(shipped_models()), "tiny"])
def test_every_tensor_and_operator_is_read_alike(name: str) -> None:
    content = TINY if name == "tiny" else (shipped_models() / name / "model.tflite").read_bytes()
    ours, model = read(content), theirs(content)
    graph = model.subgraphs[0]
    assert len(ours.graphs) == len(model.subgraphs) == 1
    assert list(ours.main.inputs) == list(graph.inputs)
    assert list(ours.main.outputs) == list(graph.outputs)
    assert len(ours.main.tensors) == len(graph.tensors)
    for one, other in zip(ours.main.tensors, graph.tensors, strict=True):
        assert one.name == (other.name or b"").decode()
        assert one.shape == tuple([] if other.shape is None else other.shape)
        assert TYPES[other.type][0] == one.type
        assert one.variable == other.isVariable
        data = model.buffers[other.buffer].data
        assert (None if one.data is None else bytes(one.data)) == (None if data is None else bytes(data))
        scales = None if other.quantization is None else other.quantization.scale
        np.testing.assert_array_equal(one.scales, [] if scales is None else scales)
        zeros = None if other.quantization is None else other.quantization.zeroPoint
        np.testing.assert_array_equal(one.zero_points, [] if zeros is None else zeros)
    for mine, its in zip(ours.main.operators, graph.operators, strict=True):
        code = model.operatorCodes[its.opcodeIndex]
        assert mine.name == NAMES[max(code.builtinCode, code.deprecatedBuiltinCode)]
        assert mine.version == code.version
        assert list(mine.inputs) == list(its.inputs)
        assert list(mine.outputs) == list(its.outputs)
        if mine.name == "CONV_2D":
            options = its.builtinOptions
            assert (mine.option(1), mine.option(4, default=1), mine.option(5, default=1)) == (
                options.strideW,
                options.dilationWFactor,
                options.dilationHFactor,
            )
    if model.signatureDefs:
        named = {part.name.decode(): part.tensorIndex for part in model.signatureDefs[0].inputs}
        assert ours.signature == named


def test_whatever_is_cut_off_is_refused() -> None:
    content = (shipped_models() / "ecg-af-rr" / "model.tflite").read_bytes()
    for size in [*range(200), *range(200, len(content), 997)]:
        with pytest.raises(TfliteError, match="cannot load it"):
            read(content[:size])


def test_the_shipped_models_are_vetted_and_none_waits_for_it() -> None:
    for name in model_names(shipped_models()):
        vetted((shipped_models() / name / "model.tflite").read_bytes(), name)


def test_a_list_that_names_the_same_big_list_ten_thousand_times_is_refused_soon() -> None:
    """Small in bytes, huge once read."""
    big = T((1,) * 9, name="x")
    with pytest.raises(TfliteError, match="a list of 9, 8 at the most"):
        read(tflite(G([big], [], [0], [0])))
    with pytest.raises(TfliteError, match="4096 at the most"):
        read(tflite(G([T((1,))], [Op(0, (0,) * 5000, (0,))], [0], [0])))


def test_memory_is_counted_over_all_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = [T((1, 1000), name="x"), *(T((1, 1000)) for _ in range(9))]
    content = tflite(G(tensors, [Op(28, (i,), (i + 1,), 2) for i in range(9)], [0], [9]))
    vetted(content, "x")
    monkeypatch.setattr(vet, "MOST_BYTES", 9_999)
    with pytest.raises(ArtifactError, match="MiB of memory"):
        vetted(content, "x")
