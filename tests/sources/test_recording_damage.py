"""Recordings that are damaged, or that say less or other than they hold: one clear message, and nothing lost in silence."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import cli
from edge_agent.config import SerialSource
from edge_agent.errors import SourceBroken, SourceError
from edge_agent.sources import csv_file
from edge_agent.sources.open import open_recording
from edge_agent.sources.serial_port import open_lines
from tests.sources.test_recording_forms import START_US, edf_bytes, read_all, write_format, write_icm
from tests.sources.test_recordings import refused, whole

h5py = pytest.importorskip("h5py")

# -- ICM+ -------------------------------------------------------------------------------------------------------------


def broken_link(group: Any) -> None:
    del group["art"]
    group["art"] = h5py.ExternalLink("nowhere.h5", "/x")


def words(group: Any) -> None:
    del group["art"]
    group["art"] = np.array([b"x"] * 3000)


def an_age_to_come(group: Any) -> None:
    index = group["art.index"][()]
    index["starttime"] = 2**63 - 1
    group["art.index"][...] = index


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (broken_link, "waves/art cannot be opened"),
        (words, "waves/art holds no numbers"),
        (an_age_to_come, "has a start that is no date"),
    ],
)
def test_an_icm_file_that_is_damaged(damage: Callable[[Any], None], message: str, tmp_path: Path) -> None:
    path = write_icm(tmp_path / "a.h5", {"art": (np.zeros(3000), [(0, 0.0, 3000, 100)])})
    with h5py.File(path, "r+") as file:
        damage(file["waves"])
    assert message in refused(path)


def said_of(path: Path) -> SourceError | None:
    try:
        recording = open_recording(path)
        recording.read(0, 3000)
        recording.close()
    except SourceError as error:
        return error
    return None


def test_bytes_of_an_hdf5_file_at_random(tmp_path: Path) -> None:
    """Whatever h5py raises on them; without a translation two of three of these end in a traceback."""
    path = write_icm(tmp_path / "a.h5", {"art": (np.zeros(3000), [(0, 0.0, 3000, 100)])})
    good = path.read_bytes()
    failed = 0
    for seed in range(40):
        random = np.random.default_rng(seed)
        data = bytearray(good)
        for at in random.integers(0, min(len(data), 6000), 30):
            data[at] = random.integers(0, 256)
        path.write_bytes(bytes(data))
        said = said_of(path)
        assert said is None or (path.name in said.what and said.remedy)
        failed += said is not None
    assert failed > 10


def test_a_chunk_that_cannot_be_unpacked(tmp_path: Path) -> None:
    path = write_icm(tmp_path / "a.h5", {})
    with h5py.File(path, "r+") as file:
        wave = file["waves"].create_dataset("art", data=np.arange(5000, dtype="f4"), chunks=(1000,), compression="gzip")
        at = wave.id.get_chunk_info(3).byte_offset
        index = np.dtype([("startidx", "<i8"), ("starttime", "<i8"), ("length", "<i8"), ("frequency", "<f8")])
        file["waves/art.index"] = np.array([(0, START_US, 5000, 100.0)], index)
    data = bytearray(path.read_bytes())
    data[at : at + 50] = b"\xff" * 50
    path.write_bytes(bytes(data))
    with pytest.raises(SourceBroken, match="waves/art cannot be read at sample"):
        read_all(open_recording(path), 100)


def test_a_stretch_that_starts_before_the_first_ends(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    rows: list[tuple[int, float, int, float]] = [(0, 0.0, 2000, 100), (2000, 15.0, 1000, 100)]
    assert open_recording(write_icm(tmp_path / "a.h5", {"art": (np.zeros(3000), rows)})).runs == ((0, 3000),)
    assert "waves/art.index: stretch 2 starts 5.000 s before stretch 1 ends" in caplog.text
    caplog.clear()
    open_recording(write_icm(tmp_path / "b.h5", {"art": (np.zeros(3000), [rows[0], (2000, 20.0, 1000, 100)])}))
    assert not caplog.text


# -- Headers that say less than there is ------------------------------------------------------------------------------


def sine(n: int = 5000) -> Any:
    return np.round(400 * np.sin(np.arange(n) / 25)).astype(np.int64)[:, None].repeat(2, axis=1)


def edit(path: Path, before: str, after: str) -> Path:
    header = path.with_suffix(".hea")
    text = header.read_text(encoding="utf-8")
    assert before in text
    header.write_text(text.replace(before, after, 1), encoding="utf-8")
    return path


def test_a_header_that_says_less_than_there_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    edf = tmp_path / "a.edf"
    edf.write_bytes(edf_bytes([("ECG", "mV", np.arange(1000))], records=4, said=3))
    icm = write_icm(tmp_path / "a.h5", {"art": (np.zeros(3000), [(0, 0.0, 1000, 100)])})
    cases = [(edf, "3 data records, 4 are there: the first 3 are played"), (icm, "1000 samples, 3000 are there")]
    for fmt in ("16", "24", "212", "310", "311"):
        path = edit(write_format(tmp_path, fmt, sine(6000)), " 6000", " 1000")
        cases.append((path, "1000 samples per signal, 6000 are there: the first 1000 are played"))
    for path, message in cases:
        caplog.clear()
        open_recording(path)
        open_recording(path)
        (record,) = caplog.records  # once, however often it is opened
        assert record.levelno == logging.WARNING
        assert str(path) in record.getMessage()
        assert message in record.getMessage()


@pytest.mark.parametrize("fmt", ["8", "16", "24", "32", "61", "80", "160", "212", "310", "311", "508", "516", "524"])
def test_a_header_that_is_right_is_not_warned_of(fmt: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for n in (3000, 3003) if fmt in ("310", "311") else (3000, 3001, 3002):
        open_recording(write_format(tmp_path, fmt, sine(n) // (4 if fmt in ("80", "508") else 1)))
    assert not caplog.text


# -- WFDB -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fmt", ["8", "16", "212"])
def test_a_header_without_its_count_of_samples(fmt: str, tmp_path: Path) -> None:
    path = write_format(tmp_path, fmt, sine())
    told = whole(open_recording(path))
    recording = open_recording(edit(path, " 5000", ""))
    assert recording.info.samples == 5000
    np.testing.assert_array_equal(whole(recording), told)
    np.testing.assert_array_equal(recording.read(777, 10), told[:, 777:787])


@pytest.mark.parametrize(
    ("fmt", "before", "after", "message"),
    [
        ("516", " 5000", "", "does not say how many samples"),
        ("16", "/mV", "/furlong", "'II' is in 'furlong', a unit that is not known"),
        ("16", " 250 ", " 0 ", "its rate is '0'"),
        ("16", " 250 ", " -250 ", "its rate is '-250'"),
        ("16", " 250 ", " nan ", "its rate is 'nan'"),
        ("16", "dat 16 ", "dat 999 ", "format 999 is not one of WFDB's"),
        ("16", "f16 2 ", "f16 5 ", "says 5 signals, describes 2"),
    ],
)
def test_a_header_that_is_wrong(fmt: str, before: str, after: str, message: str, tmp_path: Path) -> None:
    assert message in refused(edit(write_format(tmp_path, fmt, sine()), before, after))


def test_no_words_of_python(tmp_path: Path) -> None:
    path = write_format(tmp_path, "16", sine())
    path.with_suffix(".dat").write_bytes(b"")
    assert "its header says 5000 samples per signal, 0 are there" in refused(path)
    path.with_suffix(".dat").unlink()
    assert "No such file" in refused(path)
    assert "[Errno" not in refused(path)
    assert "is a folder, not a record" in refused(tmp_path)
    assert f"there is no folder {tmp_path / 'none'}" in refused(tmp_path / "none" / "100")


# -- CSV --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1," * csv_file.MOST_LINE, "line 1 is longer than 65536 characters"),
        ("1" * csv_file.MOST_LINE * 2, "line 1 is longer than 65536 characters"),
        ("II\n1\n2\n" + "1," * csv_file.MOST_LINE, "line 4 is longer than 65536 characters"),
        (",".join(["1"] * 257) + "\n", "257 columns, 256 are the most"),
        ("Timestamp,II\n03/31/2024 02:00:00.000,1\n", "'03/31/2024 02:00:00.000' is not a time (column 'Timestamp')"),
        ("time,II\n11:59:40.000 PM,1\n", "24 hours, the year first"),
        ("time,II\n0.0,1.0\n", "has one row"),
        ("II,V\n1,2\n3,low\n", "line 3: 'low' is not a number (column 'V')"),
        ("# made by X\n# 2 leads\nII,V\n1,2\n3,low\n", "line 5: 'low' is not a number (column 'V')"),
    ],
)
def test_a_csv_says_what_is_wrong(text: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text(text, encoding="utf-8")
    assert message in refused(path)


@pytest.mark.parametrize("above", ["", "# made by X, on a Monday\n# fs: 250\n\n", "#\n", "# " + "x" * 5000 + "\n"])
@pytest.mark.parametrize("last", ["3,4\n", "-,4\n"])
def test_remarks_above_the_header_are_skipped(above: str, last: str, tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    for header in ("II,V\n", ""):
        path.write_text(f"{above}{header}1,2\n{last}", encoding="utf-8")
        recording = open_recording(path, fs=250)
        assert [signal.name for signal in recording.info.signals] == (["II", "V"] if header else ["ECG1", "ECG2"])
        np.testing.assert_array_equal(recording.read(0, 2), [[1, 3 if last[0] == "3" else np.nan], [2, 4]])


def test_a_header_that_begins_with_a_hash_is_none_of_them(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("# a remark\n#,II\n0,1\n1,2\n", encoding="utf-8")
    assert [signal.name for signal in open_recording(path, fs=250).info.signals] == ["II"]


# -- Lines ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [["--baud", "0"], ["--baud", "-9600"], ["--seconds", "nan"], ["--seconds", "0"]])
def test_sniff_refuses_what_makes_no_sense(options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(["sniff", "/dev/null", *options])
    assert caught.value.code == 2
    assert options[0] in capsys.readouterr().err


def test_a_socket_that_nobody_listens_at() -> None:
    with pytest.raises(SourceError, match="is the server up"):
        open_lines(SerialSource(type="serial", port="socket://127.0.0.1:1", fs=250, columns=["II"]))
