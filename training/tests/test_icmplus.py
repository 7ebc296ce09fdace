"""ICM+ recordings: ten-second segments on the marks' grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_train.data import artf, icmplus
from edge_train.errors import DataError

h5py = pytest.importorskip("h5py")
START_US = 1_704_067_200_000_000
FS = 100.0


def recording(path: Path, lengths: tuple[int, ...] = (7000, 4000), gap_s: float = 5.0, name: str = "art") -> np.ndarray:
    """Stretches of a ramp (a sample's value is its number), with a gap between."""
    rows, first, start_us = [], 0, START_US
    for length in lengths:
        rows.append((first, start_us, length, FS))
        first += length
        start_us += round((length / FS + gap_s) * 1e6)
    values = np.arange(first, dtype=np.float32)
    kind = [("startidx", "<i8"), ("starttime", "<i8"), ("length", "<i8"), ("frequency", "<f8")]
    with h5py.File(path, "w") as file:
        wave = file.create_dataset(f"waves/{name}", data=values)
        wave.attrs["unit"] = "mmHg"
        file.create_dataset(f"waves/{name}.index", data=np.array(rows, dtype=kind))
    return values


def marks(path: Path, *spans_s: tuple[float, float], signal: str | None = "art") -> None:
    made = tuple(artf.Mark(START_US + round(a * 1e6), START_US + round(b * 1e6)) for a, b in spans_s)
    artf.write(path, artf.Artf((artf.Group(signal, made),)))


def test_segments_lie_on_the_marks_grid(tmp_path: Path) -> None:
    path = tmp_path / "TBI_003.hdf5"
    recording(path)
    marks(path.with_suffix(".artf"), (23.0, 33.0), (43.0, 53.0))
    found = list(icmplus.segments(path))
    first = [(segment.start_us - START_US) / 1e6 for segment in found]
    assert [at for at in first if at < 70] == [3.0, 13.0, 23.0, 33.0, 43.0, 53.0]
    assert [at for at, segment in zip(first, found, strict=True) if segment.anomalous] == [23.0, 43.0]
    for segment, at in zip(found, first, strict=True):
        assert segment.patient == "TBI_003"
        own = segment.values[segment.after : len(segment.values) - segment.after]
        assert own.size == 1000
        sample = at * FS if at < 70 else (at - 5) * FS  # the gap holds no sample
        assert own[0] == sample
        assert own[-1] == sample + 999


def test_no_segment_bridges_a_gap(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    recording(path)
    marks(path.with_suffix(".artf"))
    for segment in icmplus.segments(path):
        assert (np.diff(segment.values) == 1).all()
        end_s = (segment.start_us - START_US) / 1e6 + 10
        assert end_s <= 70 or end_s >= 85


@pytest.mark.parametrize(("signal", "marked"), [("art", 1), ("abp", 1), (None, 1), ("icp", 0)])
def test_whose_marks_count(tmp_path: Path, signal: str | None, marked: int) -> None:
    path = tmp_path / "a.hdf5"
    recording(path)
    marks(path.with_suffix(".artf"), (20.0, 30.0), signal=signal)
    assert sum(segment.anomalous for segment in icmplus.segments(path)) == marked


def test_a_touch_of_a_mark_is_neither(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    recording(path)
    marks(path.with_suffix(".artf"), (20.0, 30.6))
    found = {round((segment.start_us - START_US) / 1e6): segment.anomalous for segment in icmplus.segments(path)}
    assert found[20] is True
    assert 30 not in found
    assert found[40] is False


def test_missing_samples_are_nan_and_unmarked_recordings_give_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf5"
    recording(path)
    assert list(icmplus.segments(path)) == []
    with h5py.File(path, "a") as file:
        file["waves/art"][1500:1600] = -99999.0
    stretch = icmplus.stretches(path)[0]
    assert np.isnan(stretch.values[1500:1600]).all()
    assert np.isfinite(stretch.values[:1500]).all()


def test_what_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.hdf5").write_bytes(b"no")
    with pytest.raises(DataError, match=r"a\.hdf5"):
        icmplus.stretches(tmp_path / "a.hdf5")
    recording(tmp_path / "b.hdf5", name="icp")
    with pytest.raises(DataError, match="no arterial pressure"):
        icmplus.stretches(tmp_path / "b.hdf5")
