"""py-ecg-detectors over a sliding stretch: the same beats however the signal is cut, and honest about when."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from edge_agent.journey import Beat
from edge_agent.signal import qrs_ecgdetectors
from edge_agent.signal.qrs_ecgdetectors import GUARD_S, HOP_S, EcgDetectors, MissingExtraError, make_ecgdetectors

FS = 250.0

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("ecgdetectors") is None, reason="py-ecg-detectors is not installed (extra baselines)"
)


def made_ecg(seconds: float = 40.0, fs: float = FS, seed: int = 1) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """P, QRS and T waves about 75 to the minute with a little noise, and where the R peaks are."""
    rng = np.random.default_rng(seed)
    n = int(seconds * fs)
    t = np.arange(n) / fs
    x = 0.01 * rng.standard_normal(n) + 0.1 * np.sin(2 * np.pi * 0.3 * t)
    peaks = np.cumsum(0.8 + 0.03 * rng.standard_normal(int(seconds / 0.8) - 1))
    for p in peaks:
        for at, height, width in ((-0.16, 0.1, 0.025), (0, 1.2, 0.012), (0.035, -0.3, 0.012), (0.28, 0.25, 0.05)):
            x += height * np.exp(-0.5 * ((t - p - at) / width) ** 2)
    return x.astype(np.float32), np.round(peaks * fs).astype(np.int64)


def run(detector: EcgDetectors, x: NDArray[np.float32], cuts: list[int], first: int = 0) -> list[Beat]:
    found: list[Beat] = []
    at = 0
    for end in [*cuts, len(x)]:
        found += detector.feed(np.ascontiguousarray(x[at:end]), first + at)
        at = end
    return found + detector.flush()


@needs_package
@pytest.mark.parametrize("name", ["pan_tompkins", "hamilton", "two_average", "swt", "matched_filter", "engzee", "wqrs"])
def test_beats_are_found_at_their_r_peaks(name: str) -> None:
    x, peaks = made_ecg()
    found = np.asarray([b.sample for b in run(EcgDetectors(FS, "II", name), x, [])])
    inner = peaks[peaks > (11 if name == "wqrs" else 4) * FS]  # it learns first
    hit = [p for p in inner if np.min(np.abs(found - p)) <= 0.02 * FS]
    assert len(hit) >= 0.95 * len(inner)
    assert np.all(np.diff(found) > 0), "in order, each once"
    assert len(found) <= len(peaks) + 1


@needs_package
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.integers(1, 2999), max_size=40, unique=True), st.integers(0, 10_000), st.sampled_from((0, 4)))
def test_cuts_into_blocks_do_not_matter(cuts: list[int], first: int, bad: int) -> None:
    x, _ = made_ecg(12.0)
    x[700 : 700 + bad] = np.nan
    whole = run(EcgDetectors(FS, "II", "two_average", first), x, [], first)
    assert run(EcgDetectors(FS, "II", "two_average", first), x, sorted(cuts), first) == whole


@needs_package
def test_one_sample_at_a_time() -> None:
    x, _ = made_ecg(12.0)
    whole = run(EcgDetectors(FS, "II", "pan_tompkins"), x, [])
    assert len(whole) > 8
    assert run(EcgDetectors(FS, "II", "pan_tompkins"), x, list(range(1, len(x)))) == whole


@needs_package
def test_missing_samples_are_held_wherever_a_block_begins() -> None:
    x, peaks = made_ecg(12.0)
    x += 50.0
    x[700:704] = np.nan
    whole = run(EcgDetectors(FS, "II", "two_average"), x, [])
    assert run(EcgDetectors(FS, "II", "two_average"), x, [700]) == whole
    assert run(EcgDetectors(FS, "II", "two_average"), x, [702, 703]) == whole
    about = [b.sample for b in whole if 650 < b.sample < 760]
    assert all(np.min(np.abs(peaks - sample)) <= 0.02 * FS for sample in about), "the hole makes no beat"


@needs_package
def test_known_is_the_run_that_reported_the_beat_and_nothing_later_was_needed() -> None:
    x, _ = made_ecg()
    hop, guard = round(HOP_S * FS), round(GUARD_S * FS)
    whole = run(EcgDetectors(FS, "II", "pan_tompkins"), x, [])
    early = [b for b in whole if b.known < len(x) - 1]
    assert {(b.known + 1) % hop for b in early} == {0}
    assert all(b.known - b.sample >= guard for b in early)
    assert np.median([b.known - b.sample for b in early[5:]]) <= guard + hop
    for b in early[::7]:  # fed up to `known` and no further, the beat is there; a sample less, and it is not
        detector = EcgDetectors(FS, "II", "pan_tompkins")
        assert b not in detector.feed(x[: b.known], 0)
        assert b in detector.feed(x[b.known : b.known + 1], b.known)


@needs_package
def test_the_last_beats_come_with_the_end_of_the_stream() -> None:
    x, peaks = made_ecg()
    x = x[: peaks[-3] + round(0.25 * FS)]
    detector = EcgDetectors(FS, "II", "two_average")
    fed = detector.feed(x, 0)
    last = detector.flush()
    assert last
    assert all(b.known == len(x) - 1 for b in last)
    assert min(b.sample for b in last) > max(b.sample for b in fed)
    assert abs(last[-1].sample - peaks[-3]) <= 0.02 * FS


@needs_package
@pytest.mark.parametrize("name", qrs_ecgdetectors.NAMES)
@pytest.mark.parametrize("level", [0.0, 3.0, np.nan])
def test_flat_line_holds_no_beat(name: str, level: float) -> None:
    assert run(EcgDetectors(FS, "II", name), np.full(5000, level, np.float32), [900, 2500]) == []


@needs_package
def test_no_beat_within_a_flat_line_after_a_rhythm() -> None:
    x, _ = made_ecg(30.0)
    x[3750:] = x[3750]
    found = run(EcgDetectors(FS, "II", "pan_tompkins"), x, [])
    assert len(found) > 10
    assert max(b.sample for b in found) <= 3750


def test_a_mark_on_a_flat_line_is_no_beat_even_if_the_package_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    class Detectors:
        def __init__(self, fs: float) -> None:
            assert fs == FS

        def hamilton_detector(self, x: NDArray[np.float64]) -> list[int]:
            return list(range(0, len(x), 100))

    monkeypatch.setitem(sys.modules, "ecgdetectors", SimpleNamespace(Detectors=Detectors))
    x = np.full(5000, 2.0, np.float32)
    x[2600:] += np.sin(np.arange(2400) / 5)
    found = [b.sample for b in run(EcgDetectors(FS, "II", "hamilton"), x, [1000])]
    assert found
    assert min(found) >= 2600


@needs_package
def test_missing_samples_neither_raise_nor_spread() -> None:
    x, peaks = made_ecg()
    x[2000:2100] = np.nan
    x[2100] = np.inf
    found = [b.sample for b in run(EcgDetectors(FS, "II", "pan_tompkins"), x, [1999, 2050, 2101])]
    later = peaks[peaks > 2100 + 3 * FS]
    assert all(min(abs(f - p) for f in found) <= 0.02 * FS for p in later[:-1])


@needs_package
def test_a_gap_starts_it_afresh() -> None:
    x, _ = made_ecg(20.0)
    detector = EcgDetectors(FS, "II", "two_average")
    detector.feed(x, 0)
    assert detector.learned
    after = detector.feed(x, 1_000_000)
    anew = EcgDetectors(FS, "II", "two_average", 1_000_000)
    assert after == anew.feed(x, 1_000_000)
    assert len(after) > 10
    detector.reset(7)
    assert not detector.learned
    assert detector.flush() == []


@needs_package
def test_the_whole_record_is_not_kept() -> None:
    detector = EcgDetectors(FS, "II", "two_average")
    x, _ = made_ecg(60.0)
    detector.feed(x, 0)
    sizes = [v.nbytes for v in vars(detector).values() if isinstance(v, np.ndarray)]
    assert sum(sizes) == 8 * round(qrs_ecgdetectors.STRETCH_S * FS)


@needs_package
def test_names() -> None:
    assert make_ecgdetectors(FS, "II", "ecgdetectors:hamilton").channel == "II"
    with pytest.raises(ValueError, match="did you mean ecgdetectors:hamilton"):
        make_ecgdetectors(FS, "II", "ecgdetectors:hamiltn")
    with pytest.raises(ValueError, match="templates for 250 and 360"):
        make_ecgdetectors(300.0, "II", "ecgdetectors:matched_filter")
    with pytest.raises(ValueError, match="at least 100"):
        make_ecgdetectors(50.0, "II", "ecgdetectors:hamilton")
    with pytest.raises(ValueError, match="whole number"):
        make_ecgdetectors(250.5, "II", "ecgdetectors:wqrs")


def test_without_the_package_the_error_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ecgdetectors", None)  # as Python marks a module that cannot be imported
    with pytest.raises(MissingExtraError, match=r"pip install py-ecg-detectors"):
        make_ecgdetectors(FS, "II", "ecgdetectors:hamilton")


def test_the_package_is_not_imported_before_it_is_asked_for() -> None:
    code = (
        "import sys, edge_agent.signal.qrs_ecgdetectors; print('ecgdetectors' in sys.modules, 'scipy' in sys.modules)"
    )
    root = Path(qrs_ecgdetectors.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root, check=True)
    assert done.stdout.split() == ["False", "False"]


@needs_package
def test_on_a_recording_it_finds_what_the_package_finds(mitdb: Path) -> None:
    """Record 100, three minutes: sliding, the beats are those of the package over the whole of it."""
    wfdb = pytest.importorskip("wfdb")
    ecgdetectors = pytest.importorskip("ecgdetectors")
    x = wfdb.rdrecord(str(mitdb / "100"), channels=[0], sampto=3 * 60 * 360).p_signal[:, 0]
    marks = np.asarray(ecgdetectors.Detectors(360).pan_tompkins_detector(x))
    found = np.asarray([b.sample for b in run(EcgDetectors(360.0, "MLII", "pan_tompkins"), x.astype(np.float32), [])])
    for mark in marks[marks > 4 * 360]:
        assert np.min(np.abs(found - mark)) <= 0.15 * 360
    assert abs(len(found) - len(marks)) <= 4
