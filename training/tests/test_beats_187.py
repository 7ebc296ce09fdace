"""The well-known CSV's windows, and any CSV's."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_train.beats import beats_187
from edge_train.beats.beats_187 import SAMPLES, TASK
from edge_train.cli import main
from edge_train.data.mitdb import Record
from edge_train.data.unlabelled import cut_csv
from edge_train.data.windows import load
from edge_train.errors import DataError


def ecg(fs: float, seconds: float, rr_s: float = 0.8, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """R waves every ``rr_s`` with a T wave, and where they are."""
    at = np.arange(0.5, seconds - 0.5, rr_s)
    t = np.arange(int(seconds * fs)) / fs
    x = np.random.default_rng(seed).normal(0, 0.005, t.size)
    for r in at:
        x += np.exp(-0.5 * ((t - r) / 0.012) ** 2) + 0.2 * np.exp(-0.5 * ((t - r - 0.28) / 0.04) ** 2)
    return x, np.rint(at * fs).astype(np.int64)


def test_a_beat_is_from_its_r_peak_to_a_fifth_past_the_next() -> None:
    x, at = ecg(360, 60)
    record = Record("x", 360.0, x[None].astype(np.float32), ("MLII",), at, np.zeros(at.size, np.int64))
    found = beats_187.cut_beats(record, at, record.label)
    rows = found.inputs["beat"]
    assert rows.shape == (at.size, SAMPLES)
    kept = round(1.2 * 0.8 * 125)
    assert not rows[:, kept:].any(), "padding"
    assert (rows[:-1, kept - 10 : kept] > 0).all(), "signal until there"
    assert rows.min() == 0
    assert rows.max() <= 1
    assert (rows[:, 0] > 0.9).all(), "R first"
    following = rows[:-2, 90:110].argmax(1) + 90
    assert np.abs(following - 100).max() <= 1, "the next R after 0.8 s"
    assert found.where[3] == f"x:{at[3]}"


def test_a_stretch_with_one_beat_has_no_period() -> None:
    x, at = ecg(360, 12)
    record = Record("x", 360.0, x[None].astype(np.float32), ("MLII",), at[:1], np.zeros(1, np.int64))
    assert len(beats_187.cut_beats(record, at[:1], record.label)) == 0


def test_augmentation_keeps_the_padding_and_the_range() -> None:
    x, at = ecg(360, 30)
    record = Record("x", 360.0, x[None].astype(np.float32), ("MLII",), at, np.zeros(at.size, np.int64))
    inputs = beats_187.cut_beats(record, at, record.label).inputs
    made = TASK.augment(inputs, np.random.default_rng(0), 1.0)["beat"]
    assert made.min() >= 0
    assert made.max() <= 1
    assert not made[:, 140:].any()
    assert 0.001 < np.abs(made - inputs["beat"]).mean() < 0.1


def published(folder: Path, seed: int = 0) -> None:
    """Both files, made up: each class has a bump at a place of its own."""
    rng = np.random.default_rng(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for name, n in zip(beats_187.CSV_FILES, (6000, 500), strict=True):
        label = np.arange(n) % 5
        t = np.arange(SAMPLES)
        x = np.exp(-0.5 * ((t - (20 + 30 * label)[:, None]) / 5) ** 2) + rng.uniform(0, 0.1, (n, SAMPLES))
        np.savetxt(folder / name, np.column_stack([np.clip(x, 0, 1), label]), delimiter=",", fmt="%.6f")


def test_data_fit_pack_and_results_by_the_commands_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A user's CSV to int8 verdicts through the daemon's engine, and to results/output.csv."""
    published(tmp_path / "csv")
    where = [f"--{name}={tmp_path / name}" for name in ("build", "models", "results", "shared")]
    assert main(["data", "prepare", "beats-187", "--from", str(tmp_path / "csv"), "--csv", *where]) == 0
    split = load(tmp_path / "build" / "data" / "beats-187")
    assert (len(split.train), len(split.validation), len(split.test)) == (5400, 600, 500)
    text = (tmp_path / "build" / "data" / "beats-187" / "test.csv").read_text().splitlines()
    assert text[0].startswith("label,group,where,beat_0,beat_1,")
    assert len(text) == 501
    settings = [
        "size=tiny",
        "epochs=2",
        "balance=batches",
        "per_epoch=900",
        "batch=32",
        "rate=0.01",
        "augment=0",
        "dropout=0",
    ]
    changes = [word for setting in settings for word in ("--set", setting)]
    assert main(["fit", "beats-187", "--seeds", "2", *changes, *where]) == 0
    assert main(["fit", "beats-187", "--seeds", "2", *changes, *where]) == 0, "a second time there is nothing to do"
    assert main(["pack", "beats-187", "--force", *where]) == 0  # the gate of int8 is for nets that were trained longer
    capsys.readouterr()
    assert main(["evaluate", "beats-187", *where]) == 0
    said = capsys.readouterr().out
    assert "inflated" in said
    assert "int8, 2 seeds" in said
    lines = (tmp_path / "results" / "output.csv").read_text().splitlines()
    assert lines[0] == "modeltag,F1scoremicro,F1scoremacro,TP_0,TP_1,TP_2,TP_3,TP_4"
    tags = [line.split(",")[0] for line in lines[1:]]
    assert tags == [f"ecg-beat-187/{kind}/seed{i}" for kind in ("float", "int8") for i in (0, 1)] + [
        "ecg-beat-187/shipped"
    ]
    for line in lines[1:]:
        assert float(line.split(",")[2]) > 0.9, line
    pictures = {path.name for path in (tmp_path / "results").glob("*.png")}
    assert {
        f"ecg-beat-187-{kind}.png" for kind in ("confusion", "roc", "pr", "calibration", "patients", "training")
    } == pictures


@pytest.mark.parametrize(
    ("content", "message"),
    [("1,2,3\n", "3 columns"), (",".join(["0"] * 187) + ",7\n", "class from 0 to 4"), ("a,b\n", "cannot be read")],
)
def test_a_csv_of_another_form_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "mitbih_train.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        beats_187.read_csv(path)


def test_missing_csv_files_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "prepare", "beats-187", "--from", str(tmp_path), "--build", str(tmp_path / "b")]) == 1
    assert "mitbih_test.csv" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()


# --- any CSV --------------------------------------------------------------------------------------------------------------


def test_any_csv_is_cut_at_its_peaks(tmp_path: Path) -> None:
    """250 Hz, in steps of a converter, with a hole and a second column: windows at 360 Hz with the R wave in its place."""
    x, at = ecg(250, 60)
    steps = np.rint(512 + 300 * x)
    text = [f"{i % 7},{value:.0f}" for i, value in enumerate(steps)]
    for i in range(7000, 7100):
        text[i] = "0,"
    path = tmp_path / "mine.csv"
    path.write_text("other,ecg\n" + "\n".join(text) + "\n")
    found = cut_csv(path, "ecg", 250)
    assert found.missing == 100
    assert found.windows.shape[1] == 216
    assert np.abs(found.windows.argmax(1) - 114).max() <= 3
    clear = at[(at > 1000) & ((at < 6800) | (at > 9000)) & (at < 14500)]
    distance = np.abs(found.sample[None] - clear[:, None]).min(1)
    assert (distance <= 5).mean() > 0.95
    assert not ((found.sample > 6950) & (found.sample < 7150)).any(), "nothing is cut across the hole"
    assert (
        main(["data", "prepare", "csv", str(path), "--column", "1", "--rate", "250", "--csv", f"--build={tmp_path}"])
        == 0
    )
    with np.load(tmp_path / "data" / "csv-mine" / "windows.npz") as stored:
        assert np.array_equal(stored["sample"], found.sample)
        assert np.allclose(stored["beat"].mean(1), 0, atol=1e-4)
    assert len((tmp_path / "data" / "csv-mine" / "windows.csv").read_text().splitlines()) == 1 + len(found.sample)


@pytest.mark.parametrize(
    ("column", "rate", "message"),
    [(None, 250.0, "say which with --column"), ("abp", 250.0, "there are: other, ecg"), ("ecg", 20.0, "too few")],
)
def test_a_csv_that_cannot_be_cut(tmp_path: Path, column: str | None, rate: float, message: str) -> None:
    path = tmp_path / "x.csv"
    path.write_text("other,ecg\n" + "1,2\n" * 500)
    with pytest.raises(DataError, match=message):
        cut_csv(path, column, rate)


def test_a_flat_line_has_no_beats(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("ecg\n" + "0\n" * 5000)
    with pytest.raises(DataError, match="no beat was found"):
        cut_csv(path, None, 250)
