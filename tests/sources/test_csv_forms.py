"""CSV as people's programs write it: times in every unit and form, PhysioNet's row of units, decimal commas, holes."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from edge_agent.sources.open import open_recording
from tests.sources.test_recordings import refused, whole

Write = Callable[..., Path]


def table(header: str, time: Callable[[int], str], n: int = 500, separator: str = ",") -> str:
    return header + "\n" + "".join(f"{time(i)}{separator}{i}\n" for i in range(n))


def iso(i: int, form: str = "%Y-%m-%dT%H:%M:%S.%f") -> str:
    return datetime.fromtimestamp(1_600_000_000 + i / 250, UTC).strftime(form)


@pytest.mark.parametrize(
    ("header", "time", "dated"),
    [
        ("time,II", lambda i: f"{i / 250:.4f}", False),
        ("time_ms,II", lambda i: str(i * 4), False),
        ("time (ms),II", lambda i: str(i * 4), False),
        ("t [us],II", lambda i: str(i * 4000), False),
        ("time,II", lambda i: str(i * 4), False),  # milliseconds, unsaid: nothing comes every 4 s
        ("timestamp,II", lambda i: f"{1_600_000_000 + i / 250:.3f}", True),
        ("timestamp,II", lambda i: str(1_600_000_000_000 + i * 4), True),  # milliseconds since 1970
        ("timestamp,II", lambda i: str(1_600_000_000_000_000 + i * 4000), True),
        ("time,II", iso, True),
        ("time,II", lambda i: iso(i) + "Z", True),
        ("time,II", lambda i: iso(i) + "+00:00", True),
        ("time,II", lambda i: iso(i, "%Y-%m-%d %H:%M:%S.%f")[:-3], True),
        ("Elapsed time,II", lambda i: f"{i // 15000}:{i / 250 % 60:06.3f}", False),
        ("time,II", lambda i: f"'[00:{i // 15000:02}:{i / 250 % 60:06.3f} 13/09/2020]'", True),
    ],
)
def test_times_in_every_form(header: str, time: Callable[[int], str], dated: bool, write_csv: Write) -> None:
    recording = open_recording(write_csv(table(header, time)))
    assert recording.info.fs == pytest.approx(250, rel=1e-6)
    assert [signal.name for signal in recording.info.signals] == ["II"]
    assert (recording.info.began is not None) == dated
    if dated:
        assert recording.info.began is not None
        assert recording.info.began.date() == datetime(2020, 9, 13, tzinfo=UTC).date()
    np.testing.assert_array_equal(whole(recording), [np.arange(500)])


def test_dates_without_a_header(write_csv: Write) -> None:
    recording = open_recording(write_csv("".join(f"{iso(i)},{i},80\n" for i in range(300))))
    assert (recording.info.fs, [one.name for one in recording.info.signals]) == (250, ["ECG1", "ECG2"])


def test_times_of_day_go_over_midnight(write_csv: Write) -> None:
    def clock(i: int) -> str:
        s = (86390 + i / 250) % 86400
        return f"{int(s // 3600):02}:{int(s // 60 % 60):02}:{s % 60:06.3f}"

    recording = open_recording(write_csv(table("time,II", clock, 5000)))
    assert (recording.info.fs, recording.runs) == (250, ((0, 5000),))


@pytest.mark.parametrize(
    "text",
    [
        "'Elapsed time','MLII','ABP'\n'seconds','mV','mmHg'\n" + "".join(f"{i / 360:.3f},{i},80\n" for i in range(400)),
        "'Elapsed time','MLII','ABP'\n'hh:mm:ss.mmm','mV','mmHg'\n"
        + "".join(f"'0:{i / 360:06.3f}',{i},80\n" for i in range(400)),
        "'sample interval','MLII','ABP'\n'0.00277778 sec','mV','mmHg'\n" + "".join(f"{i},{i},80\n" for i in range(400)),
        "time\tMLII\tABP\n(s)\t(mV)\t(mmHg)\n".replace("(", "").replace(")", "")
        + "".join(f"{i / 360:.4f}\t{i}\t80\n" for i in range(400)),
    ],
)
def test_physionet_s_row_of_units(text: str, write_csv: Write) -> None:
    recording = open_recording(write_csv(text))
    assert recording.info.fs == pytest.approx(360, rel=1e-3)
    assert [(one.name, one.kind, one.unit) for one in recording.info.signals] == [
        ("MLII", "ecg", "mV"),
        ("ABP", "abp", "mmHg"),
    ]
    np.testing.assert_array_equal(recording.read(0, 400)[0], np.arange(400))


def test_a_column_of_sample_numbers_is_no_signal(write_csv: Write) -> None:
    path = write_csv("'sample #','MLII'\n" + "".join(f"{i},{i * 2}\n" for i in range(100)))
    assert "its rate is unknown" in refused(path)
    np.testing.assert_array_equal(whole(open_recording(path, fs=360)), [np.arange(100) * 2])


@pytest.mark.parametrize(
    ("text", "names"),
    [
        (
            "t;II (mV);ABP\n" + "".join(f"{i / 100:.2f};{i}.5;-{i}\n" for i in range(50)).replace(".", ","),
            ["II", "ABP"],
        ),
        ("t\tII\tABP\n" + "".join(f"{i / 100:.2f}\t{i}.5\t-{i}\n" for i in range(50)).replace(".", ","), ["II", "ABP"]),
        ("".join(f"{i % 9}.5;-{i}.0\n" for i in range(50)).replace(".", ","), ["ECG1", "ECG2"]),
        ("".join(f"{i % 9}.5 -{i}.0\n" for i in range(50)).replace(".", ","), ["ECG1", "ECG2"]),
    ],
)
def test_decimal_commas(text: str, names: list[str], write_csv: Write) -> None:
    recording = open_recording(write_csv(text), fs=100)
    assert [signal.name for signal in recording.info.signals] == names
    np.testing.assert_array_equal(
        whole(recording), [np.arange(50) % (50 if "II" in names else 9) + 0.5, -np.arange(50)]
    )


@pytest.mark.parametrize("word", ["", "NaN", "nan", "NA", "n/a", "#N/A", "-", "--", "null", "inf", "1e999"])
def test_words_for_nothing(word: str, write_csv: Write) -> None:
    values = whole(open_recording(write_csv(f"II,V\n1,2\n{word},3\n4,5\n"), fs=250))
    np.testing.assert_array_equal(values, [[1, np.nan, 4], [2, 3, 5]])


def test_gaps_in_the_times_are_gaps(write_csv: Write) -> None:
    at = [*range(300), *range(301, 500), *range(1000, 1200)]  # one sample, then two seconds
    recording = open_recording(write_csv("time,II\n" + "".join(f"{i / 250:.3f},{i}\n" for i in at)))
    assert (recording.info.fs, recording.runs) == (250, ((0, 300), (301, 500), (1000, 1200)))
    for first, end in recording.runs:
        np.testing.assert_array_equal(recording.read(first, end - first)[0], np.arange(first, end))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("time,II\n" + "".join(f"{(i / 250) ** 1.3 * 2:.4f},0\n" for i in range(400)), "time column is uneven"),
        ("time,II\n2020-01-01T00:00:00,1\nyesterday,2\n", "line 3: 'yesterday' is not a time"),
        ("time,II\n2020-01-01T00:00:00,1\n2020-01-01T00:00:00,2\n", "does not rise steadily"),
    ],
)
def test_bad_times(text: str, message: str, write_csv: Write) -> None:
    assert message in refused(write_csv(text))


def test_a_rate_that_contradicts_the_times(write_csv: Write) -> None:
    path = write_csv(table("time,II", lambda i: f"{i / 250:.4f}"))
    assert "its time column says 250 Hz, it was told 500" in refused(path, fs=500)


def test_fast_and_slow_readers_agree(write_csv: Write) -> None:
    rng = np.random.default_rng(5)
    rows = [f"{a:.6g},{b:.5f}\n" for a, b in rng.normal(0, 3, (2000, 2))]
    fast = whole(open_recording(write_csv("II,V\n" + "".join(rows)), fs=250))
    slow = whole(open_recording(write_csv("II,V\n" + "".join(rows) + ",\n"), fs=250))  # an empty cell: line by line
    np.testing.assert_array_equal(slow[:, :-1], fast)
