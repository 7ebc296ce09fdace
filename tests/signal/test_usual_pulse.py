"""The patient's usual pulse: a median of what is old enough, of any size."""

from __future__ import annotations

import numpy as np

from edge_agent.signal.usual_pulse import LEAST_PULSES, USUAL_TO_S, UsualPulse

HZ = 125.0


def pulse(size: float = 40.0, peak_s: float = 0.12, seconds: float = 0.8) -> np.ndarray:
    t = np.arange(round(seconds * HZ)) / HZ
    return 70 + size * np.where(t < peak_s, np.sin(np.pi / 2 * t / peak_s), np.exp(-(t - peak_s) / 0.25))


def taught(many: int = 30) -> tuple[UsualPulse, float]:
    usual, at = UsualPulse(HZ), 0.0
    for _ in range(many):
        usual.feed(at, pulse())
        at += 0.8 * HZ
    return usual, at


def test_unknown_until_enough_are_old_enough() -> None:
    usual = UsualPulse(HZ)
    said = [usual.feed(k * 0.8 * HZ, pulse()) for k in range(40)]
    first = next(k for k, one in enumerate(said) if one is not None)
    assert first * 0.8 >= USUAL_TO_S
    assert first >= LEAST_PULSES
    assert said[-1] is not None
    assert said[-1] > 0.999


def test_size_does_not_count_and_shape_does() -> None:
    usual, at = taught()
    assert (usual.feed(at, pulse(size=10)) or 0) > 0.99
    ringing = 70 + 20 * np.sin(2 * np.pi * 8 * np.arange(100) / HZ)
    assert (usual.feed(at, ringing) or 0) < 0.6
    assert usual.feed(at, np.full(100, 80.0)) == 0.0


def test_a_few_artefacts_do_not_become_usual() -> None:
    usual, at = UsualPulse(HZ), 0.0
    for k in range(40):
        usual.feed(at, pulse()[::-1].copy() if k % 4 == 0 else pulse())
        at += 0.8 * HZ
    assert (usual.feed(at, pulse()) or 0) > 0.99


def test_a_pulse_cut_short_is_compared_by_what_there_is() -> None:
    usual, at = taught()
    assert (usual.feed(at, pulse(seconds=0.3)) or 0) > 0.8
