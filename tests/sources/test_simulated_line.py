"""Faults of the simulated arterial line, measured on the samples."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.sources.simulated.truth import TrueBeat, TruePulse

FS = 360


class Tape:
    def __init__(self, *episodes: Episode) -> None:
        patient = SimulatedPatient(FS, ("II", "ABP"), Script(episodes), seed=2)
        parts = []
        while (block := patient.read(10_000)) is not None:
            parts.append(block.values.astype(float))
        joined: NDArray[np.float64] = np.concatenate(parts, axis=1)
        self.ecg: NDArray[np.float64] = joined[0]
        self.abp: NDArray[np.float64] = joined[1]
        self.beats: tuple[TrueBeat, ...] = patient.truth.beats
        self.pulses: tuple[TruePulse, ...] = patient.truth.pulses

    def cut(self, from_s: float, to_s: float) -> NDArray[np.float64]:
        return self.abp[round(from_s * FS) : round(to_s * FS)]


def _line(fault: str | None, length_s: float = 40.0) -> tuple[Tape, Tape]:
    around = (Episode("x", 10), Episode("fault", length_s, line=fault), Episode("x", 10))
    clean = tuple(Episode(e.name, e.duration_s) for e in around)
    return Tape(*around), Tape(*clean)


def test_a_damped_line_shrinks_the_pulse_and_keeps_the_mean() -> None:
    damped, clean = _line("damped")
    wet, dry = damped.cut(15, 49), clean.cut(15, 49)
    assert wet.mean() == pytest.approx(dry.mean(), abs=1.5)
    heights = [np.median([np.ptp(x[n : n + 540]) for n in range(0, len(x) - 540, 180)]) for x in (wet, dry)]
    assert 0.3 < heights[0] / heights[1] < 0.7
    steep = [np.quantile(np.diff(np.convolve(x, np.ones(9) / 9, mode="valid")), 0.99) for x in (wet, dry)]
    assert steep[0] < 0.4 * steep[1]
    np.testing.assert_array_equal(damped.cut(50, 60), clean.cut(50, 60))
    np.testing.assert_array_equal(damped.ecg, clean.ecg)
    assert damped.beats == clean.beats
    assert [p.systolic for p in damped.pulses] == [p.systolic for p in clean.pulses]
    assert {p.line for p in damped.pulses if 12 * 360 < p.sample < 48 * 360} == {"damped"}


def test_a_flush_is_a_square_wave() -> None:
    flushed, clean = _line("flush")
    x = flushed.cut(10, 50)
    high = x > 290
    assert 0.4 < high.mean() < 0.9
    starts = np.flatnonzero(np.diff(high.astype(int)) == 1)
    assert 3 <= len(starts) <= 6
    assert x[starts[0] + 360 : starts[0] + 720].std() < 1.0
    # Ringing after it falls: below the diastolic pressure, then gone.
    ends = np.flatnonzero(np.diff(high.astype(int)) == -1)
    assert x[ends[0] : ends[0] + 72].min() < 50
    difference = np.abs(x - clean.cut(10, 50))
    assert difference[ends[0] + 216 : ends[0] + 288].max() < 3


def test_a_clipped_line_has_flat_tops() -> None:
    clipped, clean = _line("clipped")
    x = clipped.cut(12, 48)
    assert np.mean(x > x.max() - 1.0) > 0.2
    assert x.max() < clean.cut(12, 48).max() - 10
    assert np.mean(x < x.min() + 1.0) > 0.05


def test_a_drifting_line_goes_up_steadily() -> None:
    drifting, clean = _line("drift")
    offset = drifting.cut(10, 50) - clean.cut(10, 50)
    assert offset[360 * 20] == pytest.approx(30, abs=0.5)
    assert offset[-1] == pytest.approx(45, abs=0.5)
    assert np.diff(offset).max() < 0.05


def test_a_disconnected_line_reads_nothing() -> None:
    apart, clean = _line("disconnected")
    x = apart.cut(11.5, 49.5)
    assert np.abs(x).max() < 2
    np.testing.assert_array_equal(apart.cut(50, 60), clean.cut(50, 60))
    assert apart.pulses[20].systolic > 100
