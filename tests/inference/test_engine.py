"""The CPU engine: floats in, floats out, quantised on the way exactly as the file says."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_agent.errors import ArtifactError, EngineError
from edge_agent.inference import engine
from edge_agent.inference.engine import CpuEngine, find_runtime, quantise
from edge_agent.inference.engine import Tensor as EngineTensor
from edge_agent.inference.loaded import by_default, default_names, load_models, model_names, shipped_models
from edge_agent.journey import Samples
from tests.inference.tiny import Tensor, dense, joining


def floats(*values: float) -> Samples:
    return np.array(values, np.float32)


def tensor(dtype: Any, scale: float = 0.05, zero_point: int = 0, shape: tuple[int, ...] = (1, 4)) -> EngineTensor:
    return EngineTensor(0, shape, dtype, scale, zero_point)


def test_quantising_rounds_to_the_nearest_step() -> None:
    made = quantise(floats(0.0, 0.024, 0.026, -0.074), tensor(np.int8))
    assert made.dtype == np.int8
    assert made.shape == (1, 4)
    assert made.tolist() == [[0, 0, 1, -1]]
    assert quantise(floats(0, 1, 2, 3), tensor(np.int8, 0.5, -7)).tolist() == [[-7, -5, -3, -1]]
    assert quantise(floats(0, 1, 2, 3), tensor(np.uint8, 0.5, 128)).tolist() == [[128, 130, 132, 134]]


@pytest.mark.parametrize(("dtype", "low", "high"), [(np.int8, -128, 127), (np.uint8, 0, 255)])
def test_what_does_not_fit_saturates_and_never_wraps(dtype: Any, low: int, high: int) -> None:
    """A saturated lead must not come out with the opposite sign."""
    made = quantise(floats(1e30, -1e30, 6.5, -6.5), tensor(dtype, 0.05))
    assert made.tolist() == [[high, low, high if dtype == np.int8 else 130, low]]
    made = quantise(np.array([np.inf, -np.inf, 3e35, -3e35], np.float32), tensor(dtype, 1e-3))
    assert made.tolist() == [[high, low, high, low]]


def test_floats_are_passed_as_they_are_in_the_tensor_s_shape() -> None:
    values = floats(1e9, -2.5, 0, 3)
    made = quantise(values, tensor(np.float32, 0.0, 0, (1, 2, 2, 1)))
    assert made.shape == (1, 2, 2, 1)
    assert np.shares_memory(made, values)


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(-6.25, 6.25, width=32), min_size=5, max_size=5))
def test_through_an_int8_model_and_back_is_within_half_a_step(values: list[float]) -> None:
    made = CpuEngine(IDENTITY, [2, 3], 5)
    output = made.invoke((floats(*values[:2]), floats(*values[2:])))
    assert output.dtype == np.float32
    assert output.shape == (5,)
    np.testing.assert_allclose(output, values, atol=0.025001)


IDENTITY = joining(Tensor("serving_default_0:0", (1, 2)), Tensor("serving_default_1:0", (1, 3)))


@pytest.mark.parametrize("dtype", ["int8", "uint8", "float32"])
def test_every_type_that_is_allowed(dtype: str) -> None:
    zero_point = 128 if dtype == "uint8" else 0
    made = CpuEngine(
        joining(Tensor("a", (1, 2), dtype, zero_point=zero_point), Tensor("b", (1, 1), dtype, zero_point=zero_point)),
        [2, 1],
        3,
    )
    np.testing.assert_allclose(made.invoke((floats(1, -2), floats(3))), [1, -2, 3])


def test_inputs_are_told_apart_by_their_names_in_order() -> None:
    """The file lists them as 1, 0; the manifest as 0, 1."""
    made = CpuEngine(joining(Tensor("serving_default_1:0", (1, 2)), Tensor("serving_default_0:0", (1, 2))), [2, 2], 4)
    np.testing.assert_allclose(made.invoke((floats(1, 2), floats(3, 4))), [3, 4, 1, 2])


def test_an_int8_layer_against_the_same_layer_in_floats() -> None:
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(5, 32)) / 4
    given_scale, output_scale = 0.03, 0.05
    made = CpuEngine(
        dense(
            weights,
            Tensor("x", (1, 32), scale=given_scale, zero_point=-9),
            Tensor("y", (1, 5), scale=output_scale, zero_point=4),
        ),
        [32],
        5,
    )
    steps = []
    for _ in range(200):
        x = rng.normal(size=32).astype(np.float32)
        steps.append((made.invoke((x,)) - weights @ x) / output_scale)
    error = np.abs(np.array(steps))
    assert np.quantile(error, 0.5) < 0.6  # the output's own rounding, about
    assert error.max() < 3.5  # and that of 32 weights and inputs


def test_the_shipped_model_answers_the_same_every_time_and_keeps_nothing_between() -> None:
    (model,) = list(load_models(shipped_models(), ["ecg-beat-aami"]).values())
    cases = [tuple(array[i] for array in model.artifact.golden_inputs) for i in range(4)]
    first = [model.engine.invoke(case).copy() for case in cases]
    again = [model.engine.invoke(case) for case in reversed(cases)][::-1]
    for a, b in zip(first, again, strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({tuple(a.tolist()) for a in first}) > 1


@pytest.mark.parametrize(
    ("model", "sizes", "outputs", "message"),
    [
        (joining(Tensor("a", (1, 3), dynamic=True), Tensor("b", (1, 1))), [3, 1], 4, "'a' has a dynamic shape"),
        (joining(Tensor("a", (1, 3), "int32"), Tensor("b", (1, 1), "int32")), [3, 1], 4, "'a' is int32"),
        (joining(Tensor("a", (1, 3)), Tensor("b", (1, 1))), [3, 2], 4, "takes (1, 1), the manifest gives 2"),
        (joining(Tensor("a", (1, 3)), Tensor("b", (1, 1))), [3, 1], 5, "names 5 labels"),
        (joining(Tensor("a", (1, 3)), Tensor("b", (1, 1))), [4], 4, "has 2 inputs, the manifest describes 1"),
    ],
)
def test_models_that_cannot_be_fed_as_described_are_refused(
    model: bytes, sizes: list[int], outputs: int, message: str
) -> None:
    with pytest.raises(ArtifactError) as caught:
        CpuEngine(model, sizes, outputs, where="tiny/model.tflite")
    assert str(caught.value).startswith("tiny/model.tflite: ")
    assert message in str(caught.value)


def test_integers_without_a_scale_are_refused() -> None:
    with pytest.raises(ArtifactError, match="has no scale"):
        CpuEngine(joining(Tensor("a", (1, 1), scale=0.0), Tensor("b", (1, 1), scale=0.0)), [1, 1], 2)


def test_the_best_runtime_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"tflite_runtime.interpreter", "tensorflow.lite"}

    def find(name: str) -> object:
        if name not in there:
            raise ImportError(name)
        return SimpleNamespace(Interpreter=name)

    monkeypatch.setattr(engine, "importlib", SimpleNamespace(import_module=find))
    assert find_runtime() == ("tflite-runtime", "tflite_runtime.interpreter")
    there.remove("tflite_runtime.interpreter")
    assert find_runtime()[0] == "tensorflow"
    there.clear()
    with pytest.raises(EngineError, match=r"no TFLite runtime[\s\S]*pip install ai-edge-litert"):
        find_runtime()


def test_a_call_that_fails_is_an_engine_error_that_names_the_backend() -> None:
    made = CpuEngine(IDENTITY, [2, 3], 5)

    class Broken:
        def __getattr__(self, name: str) -> Any:
            return lambda *_: None

        def invoke(self) -> None:
            raise RuntimeError("delegate lost\nand a long tail of details")

    made._bound.interpreter = Broken()
    with pytest.raises(EngineError) as caught:
        made.invoke((floats(1, 2), floats(1, 2, 3)))
    assert caught.value.what == f"{made.backend} failed at a call: delegate lost"


def test_the_runtime_is_imported_only_when_a_model_is_loaded() -> None:
    """``edge-agent check`` of a configuration without models needs none."""
    assert importlib.util.find_spec("edge_agent.inference.engine") is not None
    source = Path(str(sys.modules["edge_agent.inference.engine"].__file__)).read_text(encoding="utf-8")
    assert not [line for line in source.splitlines() if line.startswith(("import ai_edge", "from ai_edge"))]


@pytest.mark.parametrize("name", model_names(shipped_models()))
def test_no_window_knows_the_one_before_it(name: str) -> None:
    """An LSTM layer keeps its state from call to call unless it is told not to."""
    model = load_models(shipped_models(), [name])[name]
    cases = list(zip(*model.artifact.golden_inputs, strict=True))[:8]
    forwards = [model.engine.invoke(case) for case in cases]
    backwards = [model.engine.invoke(case) for case in reversed(cases)][::-1]
    assert all(np.array_equal(one, other) for one, other in zip(forwards, backwards, strict=True))


def test_a_model_for_comparison_runs_only_where_it_is_named() -> None:
    there, default = model_names(shipped_models()), default_names(shipped_models())
    assert set(there) - set(default) == {"abp-segment-lstm"}
    loaded = load_models(shipped_models(), there)
    assert set(by_default(loaded)) == set(default)
