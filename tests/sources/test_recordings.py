"""Recordings: WFDB, CSV and EDF as they are on disk, in our units, the same however they are read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime
from datetime import time as time_of_day
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from edge_agent.errors import SourceError
from edge_agent.journey import Samples
from edge_agent.sources.base import StreamInfo, guess_kind
from edge_agent.sources.open import open_recording
from edge_agent.sources.paced import RecordingReader
from edge_agent.sources.recording import Recording, Run

wfdb = pytest.importorskip("wfdb")
pyedflib = pytest.importorskip("pyedflib")

Table = NDArray[np.float64]


def whole(recording: Recording) -> Samples:
    assert recording.info.samples is not None
    values = recording.read(0, recording.info.samples + 1000)
    assert values.shape == (len(recording.info.signals), recording.info.samples)
    assert values.dtype == np.float32
    return values


def assert_the_same_in_pieces(recording: Recording, pieces: Sequence[int] = (1, 2, 3, 7, 61)) -> None:
    """Reading stretch by stretch, and in any order, is reading the whole."""
    values = whole(recording)
    n = values.shape[1]
    for piece in pieces:
        parts = [recording.read(first, piece) for first in range(0, min(n, 50 * piece), piece)]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1), values[:, : min(n, 50 * piece)])
    for first, count in ((n - 5, 20), (n // 2, 11), (0, 1)):
        np.testing.assert_array_equal(recording.read(first, count), values[:, first : first + count])
    assert recording.read(n, 10).shape == (values.shape[0], 0)
    assert recording.read(5, 0).shape == (values.shape[0], 0)


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(SourceError) as caught:
        open_recording(path, **options)
    assert path.name in str(caught.value)
    return str(caught.value)


# -- WFDB -------------------------------------------------------------------------------------------------------------


def test_a_record_of_the_arrhythmia_database(mitdb: Path) -> None:
    recording = open_recording(mitdb / "100")
    info = recording.info
    assert (info.fs, info.samples, info.began) == (360, 650_000, None)
    assert [(signal.name, signal.kind, signal.unit) for signal in info.signals] == [
        ("MLII", "ecg", "mV"),
        ("V5", "ecg", "mV"),
    ]
    wanted = wfdb.rdrecord(str(mitdb / "100"), sampfrom=1000, sampto=1500).p_signal.T
    np.testing.assert_array_equal(recording.read(1000, 500), wanted.astype(np.float32))
    assert recording.read(649_990, 100).shape == (2, 10)
    for name in ("100.hea", "100.dat"):
        assert open_recording(mitdb / name).info == info


def write_wfdb(folder: Path, name: str, signals: dict[str, tuple[str, Table]], fs: float = 250, **options: Any) -> Path:
    names = list(signals)
    wfdb.wrsamp(
        name,
        fs=fs,
        sig_name=names,
        units=[signals[one][0] for one in names],
        p_signal=np.stack([signals[one][1] for one in names], axis=1),
        fmt=["16"] * len(names),
        write_dir=str(folder),
        **options,
    )
    return folder / name


def test_units_become_millivolts_and_mmhg(tmp_path: Path) -> None:
    t = np.arange(500) / 250
    ecg, abp = np.sin(t), 90 + 30 * np.sin(t)
    path = write_wfdb(
        tmp_path,
        "units",
        {"II": ("uV", ecg * 1000), "V5": ("V", ecg / 1000), "ABP": ("kPa", abp / 7.50062), "RESP": ("Ohm", ecg)},
    )
    recording = open_recording(path)
    assert [(signal.kind, signal.unit) for signal in recording.info.signals] == [
        *[("ecg", "mV"), ("ecg", "mV"), ("abp", "mmHg"), ("other", "Ohm")]
    ]
    for row, wanted in zip(whole(recording), (ecg, ecg, abp, ecg), strict=True):
        np.testing.assert_allclose(row, wanted, atol=2e-3 * np.ptp(wanted))
    assert_the_same_in_pieces(recording)


def test_a_value_that_is_missing_is_nan(tmp_path: Path) -> None:
    values = np.sin(np.arange(300) / 20)
    values[100:120] = np.nan
    recording = open_recording(write_wfdb(tmp_path, "holes", {"II": ("mV", values)}))
    assert np.flatnonzero(np.isnan(whole(recording)[0])).tolist() == list(range(100, 120))


def test_the_date_is_taken_for_utc(tmp_path: Path) -> None:
    ramp = np.linspace(-1, 1, 100)
    path = write_wfdb(
        tmp_path, "dated", {"II": ("mV", ramp)}, base_date=date(2024, 2, 29), base_time=time_of_day(23, 59, 58)
    )
    assert open_recording(path).info.began == datetime(2024, 2, 29, 23, 59, 58, tzinfo=UTC)
    path = write_wfdb(tmp_path, "timed", {"II": ("mV", ramp)}, base_time=time_of_day(12, 0))
    assert open_recording(path).info.began is None  # a time without a day is no date


def write_multi_frequency(folder: Path) -> tuple[Path, Table, Table]:
    """An ECG at 500 Hz and a pressure at 125: four samples of one for one of the other."""
    t_fast, t_slow = np.arange(4000) / 500, np.arange(1000) / 125
    ecg = np.sin(2 * np.pi * 1.3 * t_fast)
    abp = 90 + 20 * np.sin(2 * np.pi * 1.1 * t_slow)
    digital = [np.round(ecg * 1000).astype(np.int64), np.round(abp * 100).astype(np.int64)]
    record = wfdb.Record(
        record_name="multi",
        n_sig=2,
        fs=125,
        sig_len=1000,
        file_name=["multi.dat"] * 2,
        fmt=["16", "16"],
        samps_per_frame=[4, 1],
        adc_gain=[1000.0, 100.0],
        baseline=[0, 0],
        units=["mV", "mmHg"],
        sig_name=["II", "ABP"],
        adc_res=[16, 16],
        adc_zero=[0, 0],
        e_d_signal=digital,
    )
    record.set_d_features(expanded=True)
    record.set_defaults()
    record.wrsamp(expanded=True, write_dir=str(folder))
    return folder / "multi", ecg, abp


def test_several_rates_in_one_record(tmp_path: Path) -> None:
    path, ecg, abp = write_multi_frequency(tmp_path)
    recording = open_recording(path)
    assert (recording.info.fs, recording.info.samples) == (500, 4000)
    values = whole(recording)
    np.testing.assert_allclose(values[0], ecg, atol=0.001)
    inside = slice(44 * 4, -44 * 4)
    np.testing.assert_allclose(values[1][inside][::4], abp[44:-44], atol=0.02)  # its own samples are where they were
    fine = 90 + 20 * np.sin(2 * np.pi * 1.1 * np.arange(4000) / 500)
    np.testing.assert_allclose(values[1][inside], fine[inside], atol=0.02)  # and the curve between them
    np.testing.assert_allclose(values[1], fine, atol=2)  # beginning and end, where half of the filter hangs in the air
    assert_the_same_in_pieces(recording)


def test_a_multi_segment_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    t = np.arange(2000) / 250
    values = np.sin(t)
    for name, part in (("a", values[:800]), ("b", values[800:])):
        write_wfdb(tmp_path, name, {"II": ("mV", part)})
    (tmp_path / "both.hea").write_text("both/2 1 250 2000\na 800\nb 1200\n", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    recording = open_recording(tmp_path / "both")
    assert recording.info.samples == 2000
    np.testing.assert_allclose(whole(recording)[0], values, atol=1e-3)
    assert_the_same_in_pieces(recording, (61, 400))


def test_bad_records(tmp_path: Path) -> None:
    assert "no such record (none.hea is not there)" in refused(tmp_path / "none")
    (tmp_path / "words.hea").write_text("these are words\n", encoding="utf-8")
    assert "not a readable WFDB header" in refused(tmp_path / "words")
    (tmp_path / "empty.hea").write_text("", encoding="utf-8")
    assert "not a readable WFDB header" in refused(tmp_path / "empty")
    (tmp_path / "none.hea").write_text("none 0 250 0\n", encoding="utf-8")
    assert "the record is empty" in refused(tmp_path / "none")
    (tmp_path / "lost.hea").write_text("lost 1 250 1000\nlost.dat 16 200/mV 16 0 0 0 0 II\n", encoding="utf-8")
    assert "the signal file is missing or shorter" in refused(tmp_path / "lost")
    path = write_wfdb(tmp_path, "short", {"II": ("mV", np.sin(np.arange(1000) / 9))})
    data = path.with_suffix(".dat").read_bytes()
    path.with_suffix(".dat").write_bytes(data[:900])
    recording = open_recording(path)
    assert recording.read(0, 400).shape == (1, 400)
    with pytest.raises(SourceError, match="shorter than its header says"):
        recording.read(400, 600)


# -- CSV --------------------------------------------------------------------------------------------------------------


def test_files_that_are_not_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "image.csv").write_bytes(bytes(range(256)))
    assert "is not text in UTF-8" in refused(tmp_path / "image.csv", fs=250)
    assert "No such file" in refused(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    assert "Is a directory" in refused(tmp_path / "folder.csv")


# -- EDF --------------------------------------------------------------------------------------------------------------


def write_edf(path: Path, signals: dict[str, tuple[str, float, Table]], began: datetime | None = None) -> Path:
    """Signals with unit, rate and values, within -200..200."""
    writer = pyedflib.EdfWriter(str(path), len(signals), file_type=pyedflib.FILETYPE_EDFPLUS)
    for number, (label, (unit, fs, _)) in enumerate(signals.items()):
        writer.setSignalHeader(
            number,
            {
                "label": label,
                "dimension": unit,
                "sample_frequency": fs,
                "physical_max": 200.0 if unit != "uV" else 20000.0,
                "physical_min": -200.0 if unit != "uV" else -20000.0,
                "digital_max": 32767,
                "digital_min": -32768,
                "transducer": "",
                "prefilter": "",
            },
        )
    if began is not None:
        writer.setStartdatetime(began)
    writer.writeSamples([values for _, _, values in signals.values()])
    writer.close()
    return path


def test_an_edf_with_two_rates_and_units(tmp_path: Path) -> None:
    ecg = np.sin(2 * np.pi * 1.2 * np.arange(5000) / 500)
    abp = 90 + 20 * np.sin(2 * np.pi * 1.1 * np.arange(1250) / 125)
    began = datetime(2020, 5, 17, 3, 4, 5)  # EDF knows no time zone
    path = write_edf(tmp_path / "a.edf", {"ECG II": ("uV", 500, ecg * 1000), "ABP": ("mmHg", 125, abp)}, began)
    recording = open_recording(path)
    info = recording.info
    assert (info.fs, info.samples, info.began) == (500, 5000, began.replace(tzinfo=UTC))
    assert [(signal.kind, signal.unit) for signal in info.signals] == [("ecg", "mV"), ("abp", "mmHg")]
    values = whole(recording)
    np.testing.assert_allclose(values[0], ecg, atol=0.001)
    fine = 90 + 20 * np.sin(2 * np.pi * 1.1 * np.arange(5000) / 500)
    np.testing.assert_allclose(values[1][176:-176], fine[176:-176], atol=0.02)
    assert_the_same_in_pieces(recording)
    recording.close()


def test_rates_that_fit_no_common_clock_are_brought_to_the_fastest(tmp_path: Path) -> None:
    ecg = np.sin(2 * np.pi * 1.2 * np.arange(2560) / 256)
    resp = np.sin(2 * np.pi * 0.7 * np.arange(1000) / 100)
    recording = open_recording(write_edf(tmp_path / "odd.edf", {"ECG": ("mV", 256, ecg), "RESP": ("mV", 100, resp)}))
    assert (recording.info.fs, recording.info.samples) == (256, 2560)
    fine = np.sin(2 * np.pi * 0.7 * np.arange(2560) / 256)
    np.testing.assert_allclose(whole(recording)[1][100:-100], fine[100:-100], atol=0.01)
    assert_the_same_in_pieces(recording)


@pytest.mark.parametrize("content", [b"", b"junk" * 100, b"0       " + b" " * 500])
def test_bad_edf_files(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "bad.edf"
    path.write_bytes(content)
    assert "not a readable EDF file" in refused(path)
    assert "no such file" in refused(tmp_path / "none.edf")


# -- all --------------------------------------------------------------------------------------------------------------


class Ramp:
    """A recording whose values are their indices."""

    def __init__(self, samples: int, fs: float = 100.0) -> None:
        self.info = StreamInfo(fs=fs, signals=(), samples=samples)
        self.runs: tuple[Run, ...] = ((0, samples),) if samples else ()
        self.reads: list[tuple[int, int]] = []

    def read(self, first: int, n: int) -> Samples:
        self.reads.append((first, n))
        end = min(self.info.samples or 0, first + n)
        return np.arange(first, max(first, end), dtype=np.float32)[None, :]

    def close(self) -> None:
        pass


@pytest.mark.parametrize("n", [1, 7, 100, 5999, 6000, 6001, 20_000])
def test_blocks_follow_on_one_another(n: int) -> None:
    ramp = Ramp(15_000)
    reader = RecordingReader(ramp)
    at = 0
    while (block := reader.read(n)) is not None:
        assert block.first == at
        assert 0 < block.values.shape[1] <= n
        np.testing.assert_array_equal(block.values[0], np.arange(at, block.end))
        at = block.end
    assert at == 15_000
    assert len(ramp.reads) <= 5  # a minute at a time, not block by block
    assert reader.read(n) is None


def test_a_loop_goes_on_counting() -> None:
    reader = RecordingReader(Ramp(250), loop=True)
    at = 0
    for _ in range(20):
        block = reader.read(100)
        assert block is not None
        assert block.first == at
        np.testing.assert_array_equal(block.values[0], np.arange(at, block.end) % 250)
        at = block.end
    assert at > 1000
    assert RecordingReader(Ramp(0), loop=True).read(10) is None


@pytest.mark.parametrize(
    ("name", "unit", "kind"),
    [
        *[
            (name, "mV", "ecg")
            for name in ("I", "II", "III", "MLII", "aVR", "AVL", "aVF", "V", "V1", "V6", "MCL1", "ECG")
        ],
        *[(name, "mV", "ecg") for name in ("ECG1", "ECG II", "EKG", "Lead ECG")],
        *[(name, "mmHg", "abp") for name in ("ABP", "ART", "AOBP", "Arterial pressure", "P1")],
        *[(name, "NU", "pleth") for name in ("PLETH", "Pleth wave", "PPG", "IR")],
        *[(name, "mmHg", "other") for name in ("CVP", "PAP", "ICP")],
        *[(name, "", "other") for name in ("RESP", "SpO2", "VI", "temperature", "")],
    ],
)
def test_kinds_by_name_and_unit(name: str, unit: str, kind: str) -> None:
    assert guess_kind(name, unit) == kind
