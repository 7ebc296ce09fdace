"""Recordings in all their forms: WFDB's formats, EDF+ and BDF, ICM+'s HDF5; gaps as gaps, damage as one clear message."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.errors import SourceBroken, SourceError
from edge_agent.journey import Block
from edge_agent.sources.open import open_recording
from edge_agent.sources.paced import GAP, SEAM, RecordingReader
from edge_agent.sources.recording import Recording
from tests.sources.test_recordings import Ramp, assert_the_same_in_pieces, refused, whole, write_edf

wfdb = pytest.importorskip("wfdb")
pyedflib = pytest.importorskip("pyedflib")

Counts = NDArray[np.int64]

# -- WFDB: every format that wfdb reads -------------------------------------------------------------------------------


def packed(fmt: str, x: Counts) -> bytes:
    """Samples as the format has them on disk, for those that wfdb reads and does not write."""
    flat = x.ravel()
    match fmt:
        case "8":  # differences, each signal by itself
            return np.diff(x, axis=0, prepend=np.zeros((1, x.shape[1]), int)).astype("i1").tobytes()
        case "61":
            return flat.astype(">i2").tobytes()
        case "160":
            return (flat + 32768).astype("<u2").tobytes()
        case "310":
            words = []
            for a, b, c in (flat & 0x3FF).reshape(-1, 3):
                words += [a << 1 | (c & 0x1F) << 11, b << 1 | (c >> 5) << 11]
            return np.array(words, "<u2").tobytes()
        case "311":
            words = [int(a | b << 10 | c << 20) for a, b, c in (flat & 0x3FF).reshape(-1, 3)]
            return np.array(words, "<u4").tobytes()
    raise AssertionError(fmt)


def write_format(folder: Path, fmt: str, x: Counts) -> Path:
    name = f"f{fmt}"
    if fmt in ("8", "61", "160", "310", "311"):
        (folder / f"{name}.dat").write_bytes(packed(fmt, x))
        lines = [f"{name} 2 250 {len(x)}"]
        zero = {"8": 8, "310": 10, "311": 10}.get(fmt, 16)
        lines += [
            f"{name}.dat {fmt} 200/mV {zero} 0 {0 if fmt == '8' else x[0, i]} 0 0 {n}"
            for i, n in enumerate(("II", "V"))
        ]
        (folder / f"{name}.hea").write_text("\n".join(lines) + "\n", encoding="utf-8")
    else:
        wfdb.wrsamp(
            name,
            fs=250,
            units=["mV"] * 2,
            sig_name=["II", "V"],
            d_signal=x,
            fmt=[fmt] * 2,
            adc_gain=[200.0] * 2,
            baseline=[0, 0],
            write_dir=str(folder),
        )
    return folder / name


@pytest.mark.parametrize("fmt", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"])
def test_every_format_that_wfdb_reads(fmt: str, tmp_path: Path) -> None:
    t = np.arange(1200)
    amplitude = {"8": 300, "80": 100, "310": 400, "311": 400, "508": 100}.get(fmt, 1500)
    x = np.round(np.stack([np.sin(t / 25), np.cos(t / 40)], axis=1) * amplitude).astype(np.int64)
    if fmt == "8":
        x -= x[0]
    recording = open_recording(write_format(tmp_path, fmt, x))
    np.testing.assert_allclose(whole(recording), x.T / 200, atol=1e-6)
    assert_the_same_in_pieces(recording, (1, 61, 400))


def test_skew_is_taken_out(tmp_path: Path) -> None:
    t = np.arange(500)
    x = np.stack([t, t - 3], axis=1)  # the second signal was written three samples late
    (tmp_path / "skewed.dat").write_bytes(x.astype("<i2").tobytes())
    (tmp_path / "skewed.hea").write_text(
        "skewed 2 250 500\nskewed.dat 16 200/mV 16 0 0 0 0 II\nskewed.dat 16:3 200/mV 16 0 -3 0 0 V\n", encoding="utf-8"
    )
    values = whole(open_recording(tmp_path / "skewed")) * 200
    np.testing.assert_allclose(values[0], t, atol=1e-3)
    np.testing.assert_allclose(values[1][:-3], t[:-3], atol=1e-3)


def test_a_segment_that_was_not_recorded_is_a_gap(tmp_path: Path) -> None:
    t = np.arange(1000)
    for name, part in (("a", t[:400]), ("b", t[400:])):
        wfdb.wrsamp(
            name,
            fs=250,
            units=["mV"],
            sig_name=["II"],
            p_signal=part[:, None] / 100,
            fmt=["16"],
            write_dir=str(tmp_path),
        )
    (tmp_path / "night.hea").write_text("night/3 1 250 1700\na 400\n~ 700\nb 600\n", encoding="utf-8")
    recording = open_recording(tmp_path / "night")
    assert recording.runs == ((0, 400), (1100, 1700))
    np.testing.assert_allclose(recording.read(0, 1000)[0], t[:400] / 100, atol=1e-3)
    np.testing.assert_allclose(recording.read(1100, 1000)[0], t[400:] / 100, atol=1e-3)
    blocks = read_all(recording)
    (gap,) = [block for block in blocks if block.lost_before]
    assert (gap.first, gap.lost_before, gap.lost_exact, gap.lost_cause) == (1100, 700, True, GAP)


def test_a_header_that_promises_more_than_there_is(tmp_path: Path) -> None:
    x = np.round(1000 * np.sin(np.arange(5000) / 25)).astype(np.int64)[:, None].repeat(2, axis=1)
    for fmt in ("16", "212", "516"):
        path = write_format(tmp_path, fmt, x)
        header = path.with_suffix(".hea").read_text(encoding="utf-8")
        path.with_suffix(".hea").write_text(header.replace(" 5000", " 9000", 1), encoding="utf-8")
        recording = open_recording(path)
        with pytest.raises(SourceBroken, match="shorter than its header says"):
            read_all(recording, 1000)


# -- EDF --------------------------------------------------------------------------------------------------------------


def edf_bytes(
    signals: Sequence[tuple[str, str, Counts]],
    starts: Sequence[float] | None = None,
    *,
    records: int,
    said: int | None = None,
    width: int = 2,
    date: str = "17.05.2003.04.05",
    record_s: str = "1",
) -> bytes:
    """An EDF file by hand; with ``starts`` an interrupted EDF+ (a data record's own time in each)."""
    rows = list(signals)
    notes = 32 if starts is not None else 0
    count = len(rows) + bool(notes)
    low, high = -(1 << (8 * width - 1)), (1 << (8 * width - 1)) - 1

    def column(values: Sequence[Any], size: int) -> bytes:
        return b"".join(str(value).encode("latin-1").ljust(size) for value in values)

    more = ["EDF Annotations"] if notes else []
    head = (b"\xffBIOSEMI" if width == 3 else b"0       ") + b" " * 160
    head += date.encode() + str(256 * (count + 1)).encode().ljust(8)
    head += (b"EDF+D" if notes else b"").ljust(44)
    head += str(records if said is None else said).encode().ljust(8) + record_s.encode().ljust(8)
    head += str(count).encode().ljust(4)
    per_record = [len(values) // records for _, _, values in rows]
    fields = column([name for name, _, _ in rows] + more, 16) + column([""] * count, 80)
    fields += column([unit for _, unit, _ in rows] + [""] * bool(notes), 8)
    fields += column([low] * len(rows) + [-1] * bool(notes), 8) + column([high] * len(rows) + [1] * bool(notes), 8)
    fields += column([low] * count, 8) + column([high] * count, 8) + column([""] * count, 80)
    fields += column([*per_record, *([notes] if notes else [])], 8) + column([""] * count, 32)
    body = b""
    for number in range(records):
        for (_, _, values), n in zip(rows, per_record, strict=True):
            part = values[number * n : (number + 1) * n]
            if width == 2:
                body += part.astype("<i2").tobytes()
            else:
                body += b"".join(struct.pack("<i", int(value))[:3] for value in part)
        if starts is not None:
            body += f"+{starts[number]:g}\x14\x14\0".encode().ljust(2 * notes, b"\0")
    return head + fields + body


def test_what_pyedflib_reads_is_what_we_read(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    ecg, abp = rng.normal(0, 1, 5000), 90 + rng.normal(0, 10, 5000)
    path = write_edf(
        tmp_path / "a.edf", {"ECG": ("mV", 500, ecg), "ABP": ("mmHg", 500, abp)}, datetime(2001, 2, 3, 4, 5)
    )
    recording = open_recording(path)
    with pyedflib.EdfReader(str(path)) as theirs:
        wanted = np.stack([theirs.readSignal(i) for i in range(2)])
        assert recording.info.began == theirs.getStartdatetime().replace(tzinfo=UTC)
    np.testing.assert_allclose(whole(recording), wanted, rtol=1e-6, atol=1e-6)
    again = open_recording(path)  # twice at once
    np.testing.assert_array_equal(again.read(100, 50), recording.read(100, 50))
    recording.close()
    again.close()


def test_an_interrupted_edf_has_gaps(tmp_path: Path) -> None:
    ecg = np.arange(1000)
    path = tmp_path / "d.edf"
    path.write_bytes(edf_bytes([("ECG", "uV", ecg)], [0.25, 1.25, 60.25, 61.25], records=4))
    recording = open_recording(path)
    assert recording.info.began == datetime(2020, 5, 17, 3, 4, 5, 250_000, tzinfo=UTC)
    assert recording.runs == ((0, 500), (15000, 15500))
    np.testing.assert_allclose(recording.read(15000, 600)[0] * 1000, ecg[500:], atol=1e-3)
    assert [(block.first, block.lost_before) for block in read_all(recording) if block.lost_before] == [(15000, 14500)]


def test_an_interrupted_edf_of_two_rates_does_not_bridge_its_gap(tmp_path: Path) -> None:
    t_fast, t_slow = np.arange(2000) / 250, np.arange(1000) / 125
    ecg, abp = np.round(1000 * np.sin(7 * t_fast)), np.where(t_slow < 4, 80, 120)
    path = tmp_path / "d.edf"
    starts = [*range(4), *range(100, 104)]
    path.write_bytes(edf_bytes([("ECG", "uV", ecg), ("ABP", "mmHg", abp)], starts, records=8))
    recording = open_recording(path)
    np.testing.assert_allclose(recording.read(0, 1000)[1], 80, atol=1e-4)
    np.testing.assert_allclose(recording.read(25000, 1000)[1], 120, atol=1e-4)
    np.testing.assert_array_equal(recording.read(25100, 50), recording.read(25000, 1000)[:, 100:150])


def test_bdf_has_three_bytes_a_sample(tmp_path: Path) -> None:
    x = np.round(8_000_000 * np.sin(np.arange(2000) / 30))
    path = tmp_path / "b.bdf"
    path.write_bytes(edf_bytes([("ECG", "nV", x)], records=4, width=3))
    np.testing.assert_allclose(whole(open_recording(path))[0], x * 1e-6, rtol=1e-5, atol=1e-5)


def test_an_edf_whose_recorder_did_not_come_to_write_its_length(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    path.write_bytes(edf_bytes([("ECG", "mV", np.arange(1000))], records=4, said=-1))
    assert open_recording(path).info.samples == 1000


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"said": 9}, "its header says 9 data records, 4 are there"),
        ({"said": 0}, "the recording is empty"),
        ({"record_s": "0"}, "its data records last 0 s"),
        ({"record_s": "one"}, "'one' where a number should be"),
    ],
)
def test_an_edf_that_lies(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    path.write_bytes(edf_bytes([("ECG", "mV", np.arange(1000))], records=4, **changes))
    assert message in refused(path)


def test_a_unit_that_nobody_knows(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    path.write_bytes(edf_bytes([("ECG", "bananas", np.arange(100))], records=1))
    said = refused(path)
    assert "'ECG' is in 'bananas'" in said
    assert "mmhg" in said
    path.write_bytes(edf_bytes([("ECG", "mV", np.arange(100)), ("Resp", "bananas", np.arange(100))], records=1))
    assert open_recording(path).info.signals[1].unit == "bananas"  # not ours to scale


def test_anonymous_recordings_have_no_date(tmp_path: Path) -> None:
    path = tmp_path / "a.edf"
    path.write_bytes(edf_bytes([("ECG", "mV", np.arange(100))], records=1, date="01.01.8512.30.00"))
    assert open_recording(path).info.began is None


# -- ICM+ -------------------------------------------------------------------------------------------------------------

h5py = pytest.importorskip("h5py")
INDEX = np.dtype([("startidx", "<i4"), ("starttime", "<i8"), ("length", "<i4"), ("frequency", "<f4")])
START_US = 1_500_000_000_000_000


def write_icm(path: Path, waves: dict[str, tuple[Any, list[tuple[int, float, int, float]]]]) -> Path:
    """Waves with the rows of their index; times in seconds after the start."""
    with h5py.File(path, "w") as file:
        group = file.create_group("waves")
        for name, (values, rows) in waves.items():
            group[name] = np.asarray(values, np.float32)
            rows_us = [(first, START_US + round(at * 1e6), n, fs) for first, at, n, fs in rows]
            group[f"{name}.index"] = np.array(rows_us, INDEX)
    return path


def test_an_icm_file_with_a_gap(tmp_path: Path) -> None:
    art = 80 + np.arange(3000) / 100
    path = write_icm(tmp_path / "a.hdf5", {"art": (art, [(0, 0, 2000, 100), (2000, 35.0, 1000, 100)])})
    recording = open_recording(path)
    (signal,) = recording.info.signals
    assert (signal.name, signal.kind, signal.unit) == ("ART", "abp", "mmHg")
    assert (recording.info.fs, recording.info.samples) == (100, 4500)
    assert recording.info.began == datetime(2017, 7, 14, 2, 40, tzinfo=UTC)
    assert recording.runs == ((0, 2000), (3500, 4500))
    np.testing.assert_allclose(recording.read(0, 2000)[0], art[:2000])
    np.testing.assert_allclose(recording.read(3500, 2000)[0], art[2000:])
    assert [(block.first, block.lost_before) for block in read_all(recording) if block.lost_before] == [(3500, 1500)]
    recording.close()


def test_icm_waves_of_other_rates_and_of_other_gaps(tmp_path: Path) -> None:
    t_art, t_ecg = np.arange(3000) / 100, np.arange(6000) / 200
    art, ecg = 90 + 20 * np.sin(6.9 * t_art), np.sin(7.5 * t_ecg)
    rows = [(0, 0.0, 3000, 100.0)]
    path = write_icm(
        tmp_path / "a.hdf5", {"art": (art, rows), "ecg": (ecg, [(0, 0.0, 2000, 200), (2000, 20.0, 4000, 200)])}
    )
    recording = open_recording(path)
    assert (recording.info.fs, recording.info.samples) == (200, 8000)
    assert recording.runs == ((0, 8000),)  # one or the other is always there
    values = recording.read(0, 8000)
    fine = 90 + 20 * np.sin(6.9 * np.arange(6000) / 200)
    np.testing.assert_allclose(values[0][100:5900], fine[100:5900], atol=0.05)
    assert np.isnan(values[0][6001:]).all()
    np.testing.assert_allclose(values[1][:2000], ecg[:2000], atol=1e-5)
    assert np.isnan(values[1][2000:4000]).all()
    np.testing.assert_allclose(values[1][4000:], ecg[2000:], atol=1e-5)
    assert_the_same_in_pieces(recording, (7, 61, 400))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([(0, 0.0, 4000, 100)], "says 4000 samples, 3000 are there"),
        ([(0, 0.0, 1000, 100), (1500, 20.0, 1500, 100)], "does not follow its samples one by one"),
        ([(0, 0.0, 1000, 100), (1000, 20.0, 2000, 50)], "has the rates 50, 100 Hz"),
        ([], "is empty"),
    ],
)
def test_bad_icm_indices(rows: list[tuple[int, float, int, float]], message: str, tmp_path: Path) -> None:
    path = write_icm(tmp_path / "a.hdf5", {"art": (np.zeros(3000), rows)})
    assert message in refused(path)


def test_other_hdf5_files(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["data"] = np.zeros(10)
    assert "has no group 'waves'" in refused(tmp_path / "other.h5")
    with h5py.File(tmp_path / "bare.h5", "w") as file:
        file["waves/art"] = np.zeros(10)
    assert "holds no wave with its index" in refused(tmp_path / "bare.h5")
    (tmp_path / "junk.h5").write_bytes(b"junk" * 100)
    assert "not a readable HDF5 file" in refused(tmp_path / "junk.h5")
    whole_file = write_icm(tmp_path / "cut.h5", {"art": (np.zeros(100_000), [(0, 0.0, 100_000, 100)])}).read_bytes()
    (tmp_path / "cut.h5").write_bytes(whole_file[: len(whole_file) // 2])
    assert "not a readable HDF5 file" in refused(tmp_path / "cut.h5")
    assert "no such file" in refused(tmp_path / "none.hdf5")


# -- reading: offset, loop, gaps --------------------------------------------------------------------------------------


def read_all(recording: Recording, n: int = 333, **options: Any) -> list[Block]:
    reader = RecordingReader(recording, **options)
    blocks: list[Block] = []
    while (block := reader.read(n)) is not None:
        blocks.append(block)
    return blocks


class WithGap(Ramp):
    def __init__(self) -> None:
        super().__init__(1000)
        self.runs = ((0, 300), (700, 1000))

    def read(self, first: int, n: int) -> Any:
        end = 300 if first < 300 else 1000
        return super().read(first, min(n, end - first)) if not 300 <= first < 700 else super().read(1000, 0)


def test_the_offset_is_where_it_begins() -> None:
    blocks = read_all(Ramp(1000), offset_s=2.5)
    assert (blocks[0].first, blocks[0].values[0, 0], blocks[-1].end) == (0, 250, 750)
    assert [block.lost_before for block in blocks] == [0] * len(blocks)
    reader = RecordingReader(WithGap(), offset_s=4.0)  # in the gap: from its end on
    block = reader.read(100)
    assert block is not None
    assert (block.first, block.lost_before, block.values[0, 0]) == (0, 0, 700)
    with pytest.raises(SourceError, match="10 s long, and was to begin at 10 s"):
        RecordingReader(Ramp(1000), offset_s=10.0)


def test_the_seam_of_a_loop_is_a_gap_if_so_told() -> None:
    reader = RecordingReader(WithGap(), loop=True, loop_gap_s=1.0, offset_s=1.0)
    blocks = [reader.read(150) for _ in range(12)]
    seen = [(block.first, block.lost_before, block.lost_cause, float(block.values[0, 0])) for block in blocks if block]
    assert [one for one in seen if one[1]] == [
        (600, 400, GAP, 700),
        (1000, 100, SEAM, 100),
        (1600, 400, GAP, 700),
        (2000, 100, SEAM, 100),
        (2600, 400, GAP, 700),
    ]
    ends = [0, *(block.end for block in blocks if block)]
    assert all(block.first - block.lost_before == end for block, end in zip(blocks, ends[:-1], strict=True) if block)


def test_a_recording_that_ends_early_is_broken_not_lost() -> None:
    class Short(Ramp):
        def read(self, first: int, n: int) -> Any:
            return super().read(first, min(n, max(0, 400 - first)))

    with pytest.raises(SourceBroken, match="ends at sample 400, 600 samples early"):
        read_all(Short(1000))
