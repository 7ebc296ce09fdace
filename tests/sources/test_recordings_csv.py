"""Recordings as text."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import SourceError
from edge_agent.sources.open import open_recording, with_kinds
from tests.sources.test_recordings import assert_the_same_in_pieces, refused, whole


def test_a_csv_with_header_time_and_units(write_csv: Callable[..., Path]) -> None:
    rows = "\n".join(f"{i / 250:.4f},{i * 0.5},{80 + i}" for i in range(500))
    recording = open_recording(write_csv(f"time (s),II (uV),ABP [mmHg]\n{rows}\n"))
    assert recording.info.fs == 250
    assert [(signal.name, signal.kind, signal.unit) for signal in recording.info.signals] == [
        ("II", "ecg", "mV"),
        ("ABP", "abp", "mmHg"),
    ]
    values = whole(recording)
    np.testing.assert_allclose(values[0], np.arange(500) * 0.0005, rtol=1e-6)
    np.testing.assert_allclose(values[1], 80 + np.arange(500))
    assert_the_same_in_pieces(recording)


@pytest.mark.parametrize("delimiter", [",", ";", "\t", " "])
@pytest.mark.parametrize("header", [["t", "II", "ABP"], ["t", "II", "arterial pressure (mmHg)"]])
def test_delimiters(tmp_path: Path, delimiter: str, header: list[str]) -> None:
    with (tmp_path / "a.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow([name.replace(" ", "_") for name in header] if delimiter == " " else header)
        writer.writerows([f"{i / 100}", i, -i] for i in range(50))
    recording = open_recording(tmp_path / "a.csv")
    assert recording.info.fs == 100
    assert len(recording.info.signals) == 2
    np.testing.assert_array_equal(whole(recording), [np.arange(50), -np.arange(50)])


def test_columns_lined_up_with_blanks(write_csv: Callable[..., Path]) -> None:
    rows = "\n".join(f"{i / 100:8.3f} {i:6d}" for i in range(100))
    recording = open_recording(write_csv(rows, "a.txt"), fs=100)
    np.testing.assert_array_equal(whole(recording), [np.arange(100)])  # what rises steadily is the time
    np.testing.assert_array_equal(open_recording(write_csv("t II\n" + rows, "b.txt")).read(0, 100), [np.arange(100)])


def test_without_a_header_the_rate_must_be_given(write_csv: Callable[..., Path]) -> None:
    path = write_csv("1\n2\n3\n")
    assert "--fs RATE" in refused(path)
    recording = open_recording(path, fs=250)
    assert [(signal.name, signal.kind) for signal in recording.info.signals] == [("ECG", "ecg")]
    np.testing.assert_array_equal(whole(recording), [[1, 2, 3]])
    recording = open_recording(write_csv("1,2\n3,4\n"), fs=250)
    assert [signal.name for signal in recording.info.signals] == ["ECG1", "ECG2"]
    np.testing.assert_array_equal(whole(recording), [[1, 3], [2, 4]])


def test_missing_values_blank_lines_and_a_byte_order_mark(write_csv: Callable[..., Path]) -> None:
    recording = open_recording(write_csv("\ufeffII,V\n1,\n\nNaN,2\n-,NA\n\n"), fs=250)
    assert [signal.name for signal in recording.info.signals] == ["II", "V"]
    np.testing.assert_array_equal(whole(recording), [[1, np.nan, np.nan], [np.nan, 2, np.nan]])


def test_names_that_repeat_are_told_apart(write_csv: Callable[..., Path]) -> None:
    recording = open_recording(write_csv("II,II,\n1,2,3\n"), fs=250)
    assert [signal.name for signal in recording.info.signals] == ["II", "II'", "ch3"]


@pytest.mark.parametrize(
    ("times", "fs"),
    [
        ([f"{i / 360:.6f}" for i in range(400)], 360),
        ([f"{i / 360:.3f}" for i in range(400)], 360),  # rounded to the millisecond: steps of 2 and 3 ms
        ([f"{1.7e9 + i / 250:.3f}" for i in range(400)], 250),  # seconds since 1970
        ([f"{i / 62.4725:.6f}" for i in range(400)], 62.4725),  # a rate that is no whole number stays one
    ],
)
def test_the_rate_from_the_time_column(times: list[str], fs: float, write_csv: Callable[..., Path]) -> None:
    recording = open_recording(write_csv("time,II\n" + "".join(f"{time},0\n" for time in times)))
    assert recording.info.fs == pytest.approx(fs, rel=1e-4)


def test_a_gap_in_the_time_column_is_a_gap(write_csv: Callable[..., Path]) -> None:
    times = [i / 250 for i in range(200)] + [5 + i / 250 for i in range(200)]
    path = write_csv("time,II\n" + "".join(f"{time},{time}\n" for time in times))
    recording = open_recording(path)
    assert recording.info.samples == 1450
    assert recording.runs == ((0, 200), (1250, 1450))
    np.testing.assert_allclose(recording.read(1250, 100)[0], np.arange(100) / 250 + 5)
    assert recording.read(190, 100).shape == (1, 10)  # not beyond the run
    assert recording.read(700, 100).shape == (1, 0)
    assert open_recording(path, fs=250).runs == recording.runs  # the rate it was told is the one it has


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n\n", "the file is empty"),
        ("II,V\n", "has a header and no samples"),
        ("II,V\n1,2\n3\n", "line 3 has 1 columns, the first has 2"),
        ("1,2\n1,2\n1,2,3\n", "line 3 has 3 columns, the first has 2"),
        ("II,V\n1,2\n1,low\n", "line 3: 'low' is not a number"),
        ("II,V\n\n1,2\n\n1,low\n", "line 5: 'low' is not a number"),  # as an editor counts them
        ("1\n2\nx\n", "line 3: 'x' is not a number"),
        ("time,II\n0,1\n0,1\n", "time column does not rise steadily: not at line 3"),
        ("time,II\n\n0,1\n\n0.004,1\n0.002,1\n", "not at line 6"),  # as an editor counts them
        ("time,II\n0,1\n\n0.1,1\nnan,1\n", "line 5: 'nan' is not a time (column 'time')"),
        ("time;II\n0;1\n0.1;1\n-;1\n0.3;1\n", "line 4: '-' is not a time (column 'time')"),
        ("time,II\n0:02:10.000,1\n0:02:75.000,1\n", "line 3: '0:02:75.000' is not a time"),
        ("time,II\n0:02:10.000,1\n0:61:10.000,1\n", "line 3: '0:61:10.000' is not a time"),
        ("time,II\n0,1\n", "has one row"),
        ("time\n0\n1\n", "has no signal column"),
        ('"' + ("x" * 50_000 + "\n") * 4 + '"\n1\n', "is not a CSV file"),
    ],
)
def test_bad_csv_files(text: str, message: str, write_csv: Callable[..., Path]) -> None:
    fs = None if text.startswith("time") else 250.0
    assert message in refused(write_csv(text), fs=fs)


def test_the_configuration_s_kinds_win(write_csv: Callable[..., Path]) -> None:
    info = open_recording(write_csv("II,foo\n1,2\n"), fs=250).info
    told = with_kinds(info, {"foo": "abp", "II": "ignore"}, "bed1")
    assert [signal.kind for signal in told.signals] == ["other", "abp"]
    with pytest.raises(SourceError, match=r"no channel 'bar'[\s\S]*there are: II, foo"):
        with_kinds(info, {"bar": "ecg"}, "bed1")
    with pytest.raises(SourceError, match="none of its channels"):
        with_kinds(info, {"II": "ignore"}, "bed1")


def test_a_channel_that_nobody_can_name_is_said_to_be_unused(
    write_csv: Callable[..., Path], caplog: pytest.LogCaptureFixture
) -> None:
    """An ECG under a name of its own, beside a pressure, must not go unread in silence."""
    info = open_recording(write_csv("Channel 1,RESP,ABP\n1,2,3\n"), fs=250).info
    with_kinds(info, {}, "bed1")
    assert "bed1: not used" in caplog.text
    assert "Channel 1; signals" in caplog.text
    assert "RESP" not in caplog.text
    caplog.clear()
    with_kinds(info, {"Channel 1": "ignore"}, "bed1")
    with_kinds(info, {"Channel 1": "ecg"}, "bed1")
    assert caplog.text == ""


@pytest.mark.parametrize("fs", [5.0, 49.9, 4001.0])
def test_rates_that_no_detector_takes_are_refused(fs: float, write_csv: Callable[..., Path]) -> None:
    info = open_recording(write_csv("II\n1\n"), fs=fs).info
    with pytest.raises(SourceError, match=r"samples per second[\s\S]*50 to 4000"):
        with_kinds(info, {}, "a.csv")
