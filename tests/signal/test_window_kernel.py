"""The compiled half of windows and of quantising gives the bits of the plain Python beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edge_agent.inference.binding import Tensor, dequantise, quantise
from edge_agent.journey import Samples
from edge_agent.signal import windows
from edge_agent.signal.windows import Cutter, mean_of, normalise

pytestmark = pytest.mark.skipif(not windows.KERNEL, reason="the compiled kernel is not built here")

LENGTHS = [1, 2, 7, 8, 9, 63, 127, 128, 129, 250, 1000, 2999]


def noise(seed: int, n: int, scale: float = 1.0, offset: float = 0.0) -> Samples:
    return (np.random.default_rng(seed).normal(size=n) * scale + offset).astype(np.float32)


@pytest.mark.parametrize("fs", [125.0, 250.0, 257.0, 360.0, 977.5, 1000.0])
@pytest.mark.parametrize("rate_hz", [10.0, 64.0, 90.0, 250.0, 500.0])
def test_cutting(fs: float, rate_hz: float) -> None:
    made = [
        Cutter(fs=fs, rate_hz=rate_hz, samples=63, before=36, normalisation="zscore", compiled=compiled)
        for compiled in (True, False)
    ]
    for seed in range(5):
        x = noise(seed, made[0].length, 300.0, 90.0)
        one, other = (cutter.cut(x) for cutter in made)
        assert one is not None
        assert other is not None
        np.testing.assert_array_equal(one, other)
        x[seed] = (np.nan, np.inf, -np.inf)[seed % 3]
        assert [cutter.cut(x) for cutter in made] == [None, None]


def test_the_plain_sum_is_numpy_s_einsum() -> None:
    """What shipped models were trained on: numpy's own order, where its build has no fused operations."""
    for taps in (3, 16, 17, 65, 81):
        x, weights = noise(taps, 50 * taps).reshape(50, taps), noise(taps + 1, 50 * taps).reshape(50, taps)
        np.testing.assert_allclose(
            windows._dot(x, weights), np.einsum("ij,ij->i", x, weights, dtype=np.float32), atol=2e-5
        )


@pytest.mark.parametrize("n", LENGTHS)
@pytest.mark.parametrize("how", ["zscore", "minmax", "usual"])
def test_normalising(n: int, how: str) -> None:
    for seed, usual in enumerate((None, noise(9, n), np.zeros(n, np.float32))):
        for x in (noise(seed, n, 10.0**seed, 100.0), np.full(n, 2.5, np.float32)):
            given = usual if how == "usual" else None
            np.testing.assert_array_equal(
                normalise(x, how, given, compiled=True), normalise(x, how, given, compiled=False)
            )


@pytest.mark.parametrize("n", LENGTHS)
def test_the_mean_of_rows(n: int) -> None:
    rows = noise(n, 16 * n).reshape(16, n)
    for many in (1, 2, 7, 16):
        np.testing.assert_array_equal(mean_of(rows, many, compiled=True), mean_of(rows, many, compiled=False))


@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
def test_quantising_and_back(dtype: Any) -> None:
    from edge_agent.signal._kernel import dequantise as back_compiled
    from edge_agent.signal._kernel import quantise as compiled

    rng, limits = np.random.default_rng(0), np.iinfo(dtype)
    for number in range(400):
        scale = float(np.float32(10 ** rng.uniform(-4, 1)))
        tensor = Tensor(0, (1, 50), dtype, scale, int(rng.integers(limits.min, limits.max + 1)))
        x = noise(number, 50, 60 * scale)
        if number % 4 == 0:  # half steps: ties go to the even one
            x = ((rng.integers(-300, 300, 50) + 0.5) * np.float32(scale)).astype(np.float32)
        if number % 4 == 1:
            x[:4] = np.inf, -np.inf, 3e38, -3e38
        out = np.empty(50, dtype)
        assert compiled(x, float(np.float32(1.0 / scale)), tensor.zero_point, out)
        with np.errstate(over="ignore"):
            np.testing.assert_array_equal(out, quantise(x, tensor)[0])
        flat = np.empty(50, np.float32)
        back_compiled(out, tensor.zero_point, scale, flat)
        np.testing.assert_array_equal(flat, dequantise(out, tensor))


def test_what_is_no_number_is_told() -> None:
    from edge_agent.signal._kernel import quantise as compiled

    x, out = np.zeros(5, np.float32), np.empty(5, np.int8)
    assert compiled(x, 1.0, 0, out) is True
    x[4] = np.nan
    assert compiled(x, 1.0, 0, out) is False


@pytest.mark.parametrize(
    "wrong",
    [
        lambda k, x: k.quantise(x.astype(np.float64), 1.0, 0, np.empty(5, np.int8)),
        lambda k, x: k.quantise(x, 1.0, 0, np.empty(5, np.int16)),
        lambda k, x: k.quantise(x, 1.0, 0, np.empty(4, np.int8)),
        lambda k, x: k.quantise(x[::2], 1.0, 0, np.empty(3, np.int8)),
        lambda k, x: k.normalise(x, 0, None, np.empty(4, np.float32)),
        lambda k, x: k.mean_rows(x, 6, np.empty(1, np.float32)),
        lambda k, _: k.dequantise(np.zeros(2, np.int8), 0, 1.0, np.empty(3, np.float32)),
        lambda k, x: k.resample(x, np.array([[0, 9]], np.int32), np.ones((1, 2), np.float32), np.empty(1, np.float32)),
        lambda k, x: k.resample(x, np.array([[-1, 0]], np.int32), np.ones((1, 2), np.float32), np.empty(1, np.float32)),
        lambda k, x: k.resample(x, np.array([[0, 1]], np.int32), np.ones((1, 3), np.float32), np.empty(1, np.float32)),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_and_nothing_is_read_beyond_it(wrong: Any) -> None:
    from edge_agent.signal import _kernel

    with pytest.raises((TypeError, ValueError, BufferError)):
        wrong(_kernel, np.zeros(5, np.float32))
