"""The compiled kernel and its twin in plain Python are one detector: the same bits from both."""

from __future__ import annotations

import builtins
import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.journey import Samples
from edge_agent.signal import qrs
from edge_agent.signal.qrs_reference import Found
from tests.signal.qrs_signals import RECORDS, ecg, stretch

needs_kernel = pytest.mark.skipif(not qrs.KERNEL, reason="the compiled kernel is not built here")


def pair(fs: float, method: str, first: int = 0) -> tuple[qrs.Core, qrs.Core]:
    numbers = qrs.design(fs, method)
    learned = qrs.weights() if numbers.verifier else None
    return qrs.make_core(numbers, learned, first, compiled=True), qrs.make_core(numbers, learned, first, compiled=False)


def both(cores: tuple[qrs.Core, qrs.Core], x: Samples, first: int) -> list[Found]:
    compiled, plain = (core.feed(x, first) or [] for core in cores)
    assert compiled == plain
    assert cores[0].learned == cores[1].learned
    return plain


@needs_kernel
@pytest.mark.parametrize("record", RECORDS)
def test_same_beats_on_the_first_minute_of_every_record(mitdb: Path, record: str) -> None:
    x, _ = stretch(mitdb, record, 0, 60)
    for method in qrs.METHODS:
        cores = pair(360, method)
        found = both(cores, x, 0)
        assert (cores[0].flush() or []) == cores[1].flush()
        assert len(found) > 20


@st.composite
def troubled(draw: st.DrawFn) -> tuple[float, list[Samples]]:
    """Pieces of a made ECG at some rate and gain, with noise, rails, NaN and infinities."""
    fs = draw(st.sampled_from([100.0, 128.0, 250.0, 300.0, 360.0, 500.0, 1000.0]) | st.floats(100, 1000))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    x, _ = ecg(fs, 6000 / fs, draw(st.floats(30, 200)), 10 ** draw(st.floats(-4, 1)), int(rng.integers(1 << 30)))
    x *= np.float32(10 ** draw(st.floats(-3, 3)))
    for bad in draw(st.lists(st.sampled_from([np.nan, np.inf, -np.inf, 3e7, 0.0, 1e3, -32.768]), max_size=4)):
        at = int(rng.integers(len(x)))
        x[at : at + int(rng.integers(1, 900))] = bad
    cuts = sorted(draw(st.lists(st.integers(0, len(x)), max_size=6)))
    return fs, [np.ascontiguousarray(piece) for piece in np.split(x, cuts)]


@needs_kernel
@settings(max_examples=60, deadline=None)
@given(troubled(), st.sampled_from(qrs.METHODS), st.integers(0, 1 << 40), st.lists(st.integers(0, 20000), max_size=7))
def test_same_beats_on_anything(made: tuple[float, list[Samples]], method: str, first: int, lost: list[int]) -> None:
    fs, pieces = made
    cores = pair(fs, method, first)
    at = first
    for piece, gap in zip(pieces, [*lost, *[0] * len(pieces)], strict=False):
        if gap:
            at += gap
            for core in cores:
                core.reset(at)
        both(cores, piece, at)
        at += len(piece)
    assert (cores[0].flush() or []) == cores[1].flush()


@needs_kernel
def test_kernel_refuses_what_is_not_float32() -> None:
    detector = qrs.make_qrs_detector(360, "II")
    with pytest.raises(TypeError, match="float32"):
        detector.feed(np.zeros(10), 0)  # type: ignore[arg-type]
    with pytest.raises((BufferError, ValueError)):
        detector.feed(np.zeros(20, np.float32)[::2], 0)


@needs_kernel
def test_kernel_refuses_a_design_or_weights_that_do_not_fit() -> None:
    from edge_agent.signal import _kernel

    numbers, weights = qrs.design(360, "native").packed(), qrs.weights().packed()
    with pytest.raises(ValueError, match="numbers"):
        _kernel.Kernel(numbers[:-8], weights, 0)
    with pytest.raises(ValueError, match="weights"):
        _kernel.Kernel(numbers, weights[:-8], 0)


def test_works_without_the_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:  # noqa: A002
        if name.endswith("_kernel") or "_kernel" in (fromlist or ()):
            raise ImportError("no kernel here")
        return real(name, globals, locals, fromlist, level)

    x, peaks = ecg(250, 20)
    expected = [b.sample for b in qrs.make_qrs_detector(250, "II").feed(x, 0)]
    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.delitem(sys.modules, "edge_agent.signal.qrs")
    monkeypatch.delitem(sys.modules, "edge_agent.signal._kernel", raising=False)
    package = sys.modules["edge_agent.signal"]
    monkeypatch.setattr(package, "qrs", qrs)
    bare = importlib.import_module("edge_agent.signal.qrs")
    assert bare.KERNEL is False
    found = [b.sample for b in bare.make_qrs_detector(250, "II").feed(x, 0)]
    assert found == expected
    assert len(found) >= len(peaks) - 2
