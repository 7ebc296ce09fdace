"""The QRS detector's numbers, written down a second time: chosen on recordings, they change on purpose or not at all."""

from __future__ import annotations

import math
import struct
from dataclasses import asdict
from itertools import product

import numpy as np
import pytest

from edge_agent.signal import qrs
from edge_agent.signal.qrs_design import QUANTUM, boxes, design

RULES = {
    "refractory_s": 0.181, "level_gain": 0.041, "level_cap": 1.2, "noise_gain": 0.02, "noise_cap": 0.773, "share": 0.408,
    "late": 1.078, "late_fall": 0.466, "late_least": 0.451, "t_from_s": 0.284, "t_until_s": 0.436, "t_slope": 0.618,
    "next_energy": 1.1, "back": 1.433, "back_share": 0.215, "threshold": 0.5,
}  # fmt: skip
LEARNED = RULES | {"refractory_s": 0.2, "level_gain": 0.13, "level_cap": 2.0, "noise_gain": 0.11, "noise_cap": 0.6}


@pytest.mark.parametrize(("method", "numbers", "verifier"), [
    ("native", LEARNED, 1), ("native:rules", RULES, 0), ("native:rules-fast", RULES, 0),
])  # fmt: skip
def test_thresholds(method: str, numbers: dict[str, float], verifier: int) -> None:
    made = asdict(design(360.0, method))
    assert {name: made[name] for name in numbers} == numbers
    assert made["verifier"] == verifier


@pytest.mark.parametrize(
    ("fs", "widths", "energy", "apart", "ahead", "delay", "learn", "ring"),
    [
        (100.0, (2, 2, 3), 6, 12, (26, 26, 16), 8, 250, 512),
        (125.0, (3, 3, 3), 8, 15, (32, 32, 20), 10, 312, 1024),
        (250.0, (5, 6, 6), 16, 30, (62, 62, 39), 22, 625, 2048),
        (360.0, (8, 8, 8), 22, 43, (89, 89, 55), 32, 900, 2048),
        (1000.0, (22, 22, 22), 62, 120, (243, 243, 150), 93, 2500, 8192),
    ],
)
def test_seconds_made_samples(
    fs: float,
    widths: tuple[int, ...],
    energy: int,
    apart: int,
    ahead: tuple[int, ...],
    delay: int,
    learn: int,
    ring: int,
) -> None:
    one = design(fs, "native")
    assert boxes(fs, 0.011) == widths == (one.box_a, one.box_b, one.box_c)
    assert (one.box_energy, one.apart, one.delay, one.learn, one.ring) == (energy, apart, delay, learn, ring)
    assert tuple(design(fs, method).ahead for method in qrs.METHODS) == ahead
    assert one.fs == fs


@pytest.mark.parametrize("fs", [100.0, 128.0, 173.6, 250.0, 257.0, 360.0, 500.0, 977.0, 1000.0])
def test_three_boxes_are_as_nearly_the_gaussian_as_whole_samples_allow(fs: float) -> None:
    """A box of n samples has a variance of (n^2 - 1) / 12; no other three of neighbouring widths come nearer."""

    def off(widths: tuple[int, ...]) -> float:
        return abs(sum((n * n - 1) / 12 for n in widths) - (0.011 * fs) ** 2)

    found = boxes(fs, 0.011)
    assert list(found) == sorted(found)
    assert found[2] - found[0] <= 1
    near = range(1, round(0.03 * fs) + 3)
    assert off(found) <= min(off((a, a + d, a + e)) for a, (d, e) in product(near, ((0, 0), (0, 1), (1, 1)))) + 1e-9


@pytest.mark.parametrize("fs", [100.0, 250.0, 360.0, 1000.0])
def test_gains_make_the_response_to_a_step_one(fs: float) -> None:
    """Slope and curvature are scaled by the sum of their filter's absolute taps: no input of one unit gives more than one."""
    one = design(fs, "native")
    a, b, c = one.box_a, one.box_b, one.box_c
    impulse = np.zeros(a + b + c + 3)
    impulse[0] = 1

    def box(x: np.ndarray, n: int) -> np.ndarray:
        return np.asarray(np.convolve(x, np.ones(n))[: len(x)])

    def step(x: np.ndarray, n: int) -> np.ndarray:
        return np.asarray(x - np.concatenate((np.zeros(n), x[:-n])))

    curve = step(step(box(impulse, a), b), c)
    slope = np.cumsum(curve)
    assert one.gain_slope == pytest.approx(1 / (QUANTUM * np.abs(slope).sum()), rel=1e-12)
    assert one.gain_curve == pytest.approx(1 / (QUANTUM * np.abs(curve).sum()), rel=1e-12)


def test_a_look_ahead_reaches_over_the_next_candidate_s_place() -> None:
    """However short the method is, nothing is decided before another candidate could have been there."""
    for fs, method in product((100.0, 101.0, 360.0, 1000.0), qrs.METHODS):
        one = design(fs, method)
        assert one.apart <= one.ahead
        assert (one.ahead + one.delay) / fs == pytest.approx({"native:rules-fast": 0.243}.get(method, 0.336), abs=0.03)
        assert one.ring >= 5 * fs
        assert math.log2(one.ring).is_integer()


def test_the_kernel_is_given_the_numbers_in_their_order() -> None:
    one = design(250.0, "native")
    packed = struct.unpack(f"{len(asdict(one))}d", one.packed())
    assert packed == tuple(asdict(one).values())
    weights = qrs.weights()
    flat = struct.unpack(f"{len(weights.packed()) // 8}d", weights.packed())
    inputs, hidden = int(flat[0]), int(flat[1])
    assert (inputs, hidden) == (len(weights.w1), len(weights.b1)) == (49, len(weights.w2))
    assert flat[2 : 2 + hidden] == weights.w1[0]
    assert flat[-1] == weights.b2
    assert flat[-1 - hidden : -1] == weights.w2
    assert flat[-1 - 2 * hidden : -1 - hidden] == weights.b1
