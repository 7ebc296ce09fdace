"""The command: what it writes, and that bad input is one clear line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import detection, detection_report, ec57, mitdb_sets, peers
from edge_agent.journey import Beat

FS = 250
MINUTES = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One record of six minutes with a beat every 0.8 s, whose reference misses the last but one beat."""
    wfdb = pytest.importorskip("wfdb")
    path = tmp_path_factory.mktemp("records")
    n = MINUTES * 60 * FS
    peaks = np.arange(200, n - 200, 200)
    t = np.arange(n)
    x = 0.01 * np.random.default_rng(0).standard_normal(n)
    for at, height, width in ((0, 1.2, 3), (9, -0.3, 3), (70, 0.2, 12)):
        for p in peaks:
            near = slice(max(0, p + at - 60), p + at + 60)
            x[near] += height * np.exp(-0.5 * ((t[near] - p - at) / width) ** 2)
    wfdb.wrsamp(
        "made", fs=FS, units=["mV"], sig_name=["II"], p_signal=x[:, None], fmt=["16"], adc_gain=[1000.0], baseline=[0],
        write_dir=str(path),
    )  # fmt: skip
    reference = np.delete(peaks, -2)
    wfdb.wrann("made", "atr", reference, ["N"] * len(reference), write_dir=str(path))
    return path


def run(folder: Path, out: Path, *more: str) -> int:
    return detection.main(["--data", str(folder), "--out", str(out), "--no-cache", *more])


def test_it_measures_and_writes_a_table_and_its_numbers(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "detection.md"
    assert run(folder, out, "--methods", "native:rules", "--peers", "none", "--noise", "24", "--noise-kinds", "bw") == 0
    text = out.read_text()
    assert "native:rules" in text
    assert text.strip() in capsys.readouterr().out
    result = json.loads(out.with_suffix(".json").read_text())
    measured = result["accuracy"]["native:rules"]["groups"]["all"]
    scored = measured["scored"]
    assert scored["tp"] + scored["fn"] == int(60 / 0.8) - 1 - 1  # from minute 5, less the end and the one left out
    assert scored["fp"] >= 1, "the beat that the reference lacks"
    assert measured["whole"]["tp"] > 4 * scored["tp"]
    assert 0 < measured["delay_s"]["mean"] < 2
    assert abs(measured["offset_ms"]["p50"]) < 25
    assert result["noise"]["levels"]["bw"]["24"]["native:rules"]["tp"] > 0


def test_delays_are_of_the_beats_after_the_learning_period(folder: Path) -> None:
    record = detection.load(folder, "made", "atr")
    known = record.reference.samples + np.where(record.reference.samples < 300 * FS, 100, 25)
    who = detection.Contestant("x", "x", True, lambda x, fs: detection.Found(record.reference.samples, known))  # noqa: ARG005
    measured = detection.measure(record, who)
    assert set(measured["delays_s"]) == {0.1}
    assert len(measured["delays_s"]) == measured["scored"].tp


def test_ours_is_fed_blocks_of_100_ms_and_the_stream_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    fed: list[tuple[int, int]] = []

    class Fake:
        def feed(self, x: np.ndarray, first: int) -> list[Beat]:
            assert x.dtype == np.float32
            assert x.flags.c_contiguous
            fed.append((first, len(x)))
            return []

        def flush(self) -> list[Beat]:
            return [Beat("ecg", 7, 9, 1.0)]

    monkeypatch.setattr(detection, "make_detector", lambda method, fs: Fake())  # noqa: ARG005
    found = detection.ours("native", None).run(np.zeros(110), 360.0)
    assert fed == [(0, 36), (36, 36), (72, 36), (108, 2)]
    assert found.samples.tolist() == [7]


@pytest.mark.parametrize(
    ("more", "line"),
    [
        (["--records", "made,absent"], "no annotated record 'absent'"),
        (["--peers", "sleepecgg"], "no peer is called 'sleepecgg'"),
        (["--methods", "natve"], "natve"),
        (["--methods", ",", "--peers", "none"], "nothing to measure"),
        (["--noise", "6", "--noise-kinds", "hum"], "no noise is called hum"),
        (["--nstdb", "/nowhere", "--noise", "6"], "holds no record"),
    ],
)
def test_bad_input_is_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], line: str
) -> None:
    if "--peers" not in more:
        more = [*more, "--peers", "none"]
    assert run(folder, tmp_path / "out.md", *more) == 1
    said = capsys.readouterr().err.strip()
    assert said.startswith("detection: ")
    assert line in said
    assert "\n" not in said
    assert not (tmp_path / "out.md").exists()


def test_no_data_folder_and_a_broken_record_are_one_line(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(tmp_path / "nowhere", tmp_path / "out.md") == 1
    assert "no data folder" in capsys.readouterr().err
    assert run(tmp_path, tmp_path / "out.md") == 1
    assert "holds no record" in capsys.readouterr().err
    for suffix in ("hea", "atr"):
        (tmp_path / f"made.{suffix}").write_bytes((folder / f"made.{suffix}").read_bytes())
    assert run(tmp_path, tmp_path / "out.md", "--peers", "none") == 1
    said = capsys.readouterr().err.strip()
    assert "record made" in said
    assert "\n" not in said


def test_a_peers_beats_are_kept_by_what_they_depend_on(tmp_path: Path) -> None:
    pytest.importorskip("sleepecg")
    calls: list[int] = []

    def detect(x: np.ndarray, fs: float) -> np.ndarray:
        calls.append(len(x))
        return np.asarray([int(fs)])

    peer = peers.Peer("made", "made", "sleepecg", detect)
    x = np.arange(10.0)
    assert peers.run(peer, x, 250.0, tmp_path).tolist() == [250]
    assert peers.run(peer, x, 250.0, tmp_path).tolist() == [250]
    assert len(calls) == 1
    assert peers.run(peer, x, 360.0, tmp_path).tolist() == [360]
    peers.run(peer, x + 1e-9, 250.0, tmp_path)
    peers.run(peer, x, 250.0)
    assert len(calls) == 4


def test_the_two_sets_of_records_are_disjoint_and_leave_out_paced_patients() -> None:
    assert len(set(mitdb_sets.DS1)) == len(set(mitdb_sets.DS2)) == 22
    assert not set(mitdb_sets.DS1) & set(mitdb_sets.DS2)
    assert not {"102", "104", "107", "217"} & {*mitdb_sets.DS1, *mitdb_sets.DS2}


def test_what_is_undefined_is_null_in_json() -> None:
    empty = detection_report._group([{"scored": ec57.Tally(), "whole": ec57.Tally(), "offsets_s": [], "delays_s": []}])
    assert json.loads(json.dumps(empty, allow_nan=False))["scored"]["f1"] is None
