"""What a CSV does not say: an unnamed column of times, a unit that cannot be, an end that was cut off."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sources import csv_file
from edge_agent.sources.csv_guess import rises
from edge_agent.sources.open import open_recording
from tests.sources.test_recordings import refused, whole

Write = Callable[..., Path]
ROWS = 500


def millivolts(i: int) -> float:
    return round(float(np.exp(-(((i % 200 - 100) / 4) ** 2)) + 0.05 * np.sin(i)), 4)


def rows(time: Callable[[int], str], header: str = "") -> str:
    return header + "".join(f"{time(i)},{millivolts(i)}\n" for i in range(ROWS))


@pytest.mark.parametrize(
    ("time", "fs"),
    [
        (lambda i: f"{i / 360:.6f}", 360),
        (lambda i: f"{i / 360:.3f}", 360),  # rounded to the millisecond
        (lambda i: f"{i / 250 + (0.5 if i > 300 else 0):.3f}", 250),  # with a hole
        (lambda i: str(i * 4), 250),  # milliseconds
        (lambda i: f"{1_700_000_000 + i / 250:.3f}", 250),
        (lambda i: str(1_700_000_000_000 + i * 4), 250),
    ],
)
def test_a_first_column_that_rises_is_the_time(
    time: Callable[[int], str], fs: float, write_csv: Write, caplog: pytest.LogCaptureFixture
) -> None:
    path = write_csv(rows(time))
    for told in (None, fs) if not time(0).startswith("17") else (None,):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            opened = open_recording(path, fs=told)
        assert [signal.name for signal in opened.info.signals] == ["ECG"]
        assert opened.info.fs == pytest.approx(fs, rel=1e-4)
        first, end = opened.runs[-1]
        n = end - first
        np.testing.assert_allclose(opened.read(first, n)[0], [millivolts(i) for i in range(ROWS - n, ROWS)], rtol=1e-5)
        assert "column 1 is taken for the time" in caplog.text
        assert "column 2 is taken for ECG in mV" in caplog.text


@pytest.mark.parametrize(
    ("time", "told", "said"),
    [
        (lambda i: str(i), None, "or sample numbers"),  # or milliseconds at 1000 Hz
        (lambda i: str(i * 4000), None, "a unit that is not certain"),
        (lambda i: f"{i * 0.1:.1f}", None, "a unit that is not certain"),  # ten a second, or ten a millisecond
        (lambda i: f"{i * 0.1:.1f}", 360.0, "no known one makes 360 Hz"),
    ],
)
def test_a_time_of_no_certain_unit_is_refused(
    time: Callable[[int], str], told: float | None, said: str, write_csv: Write
) -> None:
    message = refused(write_csv(rows(time)), fs=told)
    assert said in message
    assert "time_ms,ECG" in message


def test_a_rate_that_contradicts_an_unnamed_time(write_csv: Write) -> None:
    assert "its time column says 250 Hz, it was told 360" in refused(
        write_csv(rows(lambda i: f"{i / 250:.3f}")), fs=360
    )


@pytest.mark.parametrize("count", [lambda i: i, lambda i: i % 256], ids=["on and on", "modulo 256"])
def test_sample_numbers_are_left_out_where_the_rate_is_told(count: Callable[[int], int], write_csv: Write) -> None:
    opened = open_recording(write_csv(rows(lambda i: str(count(i)))), fs=250)
    assert [signal.name for signal in opened.info.signals] == ["ECG"]
    np.testing.assert_allclose(whole(opened)[0], [millivolts(i) for i in range(ROWS)], rtol=1e-5)


def test_signals_do_not_rise(write_csv: Write, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        opened = open_recording(write_csv("".join(f"{millivolts(i)},{-millivolts(i)}\n" for i in range(ROWS))), fs=250)
    assert [signal.name for signal in opened.info.signals] == ["ECG1", "ECG2"]
    assert "column 1 is taken for ECG1 in mV, column 2 is taken for ECG2 in mV" in caplog.text
    rng = np.random.default_rng(1)
    assert rises(np.cumsum(rng.normal(0.05, 1, 5000))) is None  # a drift
    assert rises(np.repeat([0.0, 1.0], 500)) is None  # a step
    assert rises(np.zeros(500)) is None


def test_a_header_wins_over_what_the_numbers_look_like(write_csv: Write) -> None:
    opened = open_recording(write_csv(rows(lambda i: f"{i / 250:.3f}", "II,V\n")), fs=250)
    assert [signal.name for signal in opened.info.signals] == ["II", "V"]


def test_without_a_rate_the_columns_are_listed(write_csv: Write) -> None:
    message = refused(write_csv(rows(lambda i: f"{i / 250:.3f}", "x,II\n")))
    assert "its columns: 'x', 'II'" in message
    assert "'x' rises steadily: if it is the time, call it time" in message
    assert "--fs RATE" in message
    message = refused(write_csv("II,V\n1,2\n2,1\n"))
    assert "its columns: 'II', 'V'" in message
    assert "250" not in message


def test_times_that_fall_back_name_the_line_and_the_rate_they_suggest(write_csv: Write) -> None:
    times = [f"{i / 360:.6f}" for i in range(ROWS)]
    times[200] = times[198]
    message = refused(write_csv("time,II\n" + "".join(f"{time},0\n" for time in times)))
    assert "does not rise steadily: not at line 202" in message
    assert "--fs 360" in message


# -- Cut off ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", ["0.1", "0.1,", "0.1,0.2,-", "0.1,0.2,1e", "0.1,0.2,\0", "\0" * 200_000, "0.1\0\0\0\n\0"]
)
@pytest.mark.parametrize("header", ["I,II,V\n", ""])
def test_a_file_that_was_cut_off_gives_what_it_has(
    end: str, header: str, write_csv: Write, caplog: pytest.LogCaptureFixture
) -> None:
    body = "".join(f"{millivolts(i)},{-millivolts(i)},{2 * millivolts(i)}\n" for i in range(100))
    values = whole(open_recording(write_csv(header + body + end), fs=250))
    left = values.shape[1] - 100
    assert left == (1 if end in ("0.1,0.2,-", "0.1,0.2,\0") else 0)  # as many cells as there are columns: a row
    np.testing.assert_array_equal(values[:, :100], whole(open_recording(write_csv(header + body, "b.csv"), fs=250)))
    assert ("it is the last, and cut off: left out" in caplog.text) == (end[0] != "\0" and not left)


def test_a_bad_line_in_the_midst_or_a_whole_one_is_an_error(write_csv: Write) -> None:
    assert "line 3 has 1 columns" in refused(write_csv("I,II\n1,2\n3\n1,2"), fs=250)
    assert "line 4 has 1 columns" in refused(write_csv("I,II\n1,2\n3,4\n5\n"), fs=250)
    assert "line 3 holds NULs" in refused(write_csv("I,II\n1,2\n3\0\0,4\n5,6\n"), fs=250)
    assert "line 2 has 1 columns" in refused(write_csv("I,II\n1"), fs=250)  # nothing is left of it
    assert "is empty" in refused(write_csv("\0" * 5000), fs=250)


# -- Units ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "scale", "offset", "said"),
    [
        ("II", 1.0, 0.0, ""),
        ("II", 1.0, 300.0, ""),  # an offset of the electrodes is no size
        ("II", 1000.0, 0.0, "'II' says no unit and is taken for mV, but moves by"),
        ("II (uV)", 1000.0, 0.0, ""),
        ("", 1000.0, 0.0, "'ECG' says no unit"),
        ("ABP", 40.0, 80.0, ""),
        ("ABP", 4000.0, 8000.0, "'ABP' says no unit and is taken for mmHg, but lies between"),
        ("ABP (mmHg)", 4000.0, 8000.0, ""),
        ("foo", 1000.0, 0.0, ""),
    ],
)
def test_numbers_without_a_unit_that_cannot_be_are_warned_of(
    header: str, scale: float, offset: float, said: str, write_csv: Write, caplog: pytest.LogCaptureFixture
) -> None:
    values = [offset + scale * millivolts(i) for i in range(5000)]
    values[1000] = 1e6  # a single spike is no unit
    path = write_csv((f"{header}\n" if header else "") + "".join(f"{value:.4f}\n" for value in values))
    open_recording(path, fs=250)
    open_recording(path, fs=250)
    warned = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warned) == (1 if said else 0)
    if said:
        assert said in warned[0]
        assert "say its unit in the header" in warned[0]


# -- Long files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cell", ["0.5", "-"], ids=["fast", "line by line"])
def test_a_file_that_takes_long_says_so_once(
    cell: str, write_csv: Write, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_csv("II\n" + "0.5\n" * csv_file.LOOK_LINES * 3 + f"{cell}\n")
    with caplog.at_level(logging.INFO):
        open_recording(path, fs=250)
    assert "reading" not in caplog.text
    monkeypatch.setattr(csv_file, "SILENT_S", -1.0)
    with caplog.at_level(logging.INFO):
        open_recording(path, fs=250)
    assert caplog.text.count(f"reading {path} ...") == (1 if cell == "0.5" else 2)  # each of two attempts


def test_a_unit_that_nobody_knows_is_said(write_csv: Write, caplog: pytest.LogCaptureFixture) -> None:
    for unit, said in (("furlong", True), ("uV", False), ("a.u.", True), ("raw", False)):
        caplog.clear()
        open_recording(write_csv(rows(lambda i: f"{i / 250:.3f}", f"time,II ({unit})\n")))
        assert (f"'II' is in '{unit}', a unit that is not known: taken as mV" in caplog.text) is said
