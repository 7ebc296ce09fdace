"""Recordings: read back by the wfdb package as they were, bounded, and sound again after a power cut."""

from __future__ import annotations

import contextlib
import logging
import os
import random
import shutil
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import wfdb

from edge_agent import events
from edge_agent.annotation_files import mit
from edge_agent.config import RecorderConfig
from edge_agent.journey import Block, Samples
from edge_agent.outputs import recorder as module
from edge_agent.outputs.mit_annotations import END, Annotation, Encoder
from edge_agent.outputs.recorder import Recorder
from edge_agent.outputs.segment import Place, is_torn, repair
from edge_agent.sources.base import Signal, StreamInfo
from tests.spine import wait_for

FS = 250.0
INFO = StreamInfo(FS, (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")))


def header(sample: int) -> dict[str, Any]:
    return {
        "seq": 0, "session": "s", "device": "d", "stream": "bed/1", "sample": sample, "time": None, "known": sample,
        "arrived": None, "latency": events.Latency(algorithm_ms=0, queue_ms=None, compute_ms=None),
    }  # fmt: skip


def beat(sample: int) -> events.Beat:
    return events.Beat(**header(sample), channel="II", confidence=1, rr_ms=None)


def verdict(sample: int, label: str | None) -> events.Verdict:
    return events.Verdict(
        **header(sample), channel="II", task="ecg-beat", label=label, reason=None, scores={}, model="m", version="1.0.0",
        digest="0" * 64, backend="cpu", invoke_us=None,
    )  # fmt: skip


def alarm(sample: int, state: str = "raised") -> events.Alarm:
    return events.Alarm.model_validate(
        header(sample)
        | {"id": "1", "kind": "asystole", "state": state, "priority": "high", "channel": "II", "since": sample}
        | {"delay_ms": 0, "evidence": {}, "silenced": False, "reason": None}
        | {"confidence": 1.0, "active": True, "acknowledged": False, "strip": None}
    )


def signal(first: int, count: int) -> Samples:
    t = np.arange(first, first + count) / FS
    values = np.array([np.sin(2 * np.pi * 1.2 * t), 90 + 30 * np.sin(2 * np.pi * 1.2 * t)], np.float32)
    values[1, (np.arange(first, first + count) % 1000) == 7] = np.nan
    return values


def play(recorder: Recorder, seconds: float, *, first: int = 0, block: int = 50) -> int:
    """Signal with a beat each second, every fifth of them V and every seventh without a class."""
    end = first + round(seconds * FS)
    for at in range(first, end, block):
        count = min(block, end - at)
        recorder.block("bed/1", INFO, Block(at, FS, signal(at, count)))
        for sample in range(at, at + count):
            if sample % 250 == 100:
                recorder.event(beat(sample))
            if sample % 250 == 200 and sample // 250 % 7:
                recorder.event(verdict(sample - 100, "V" if sample // 250 % 5 == 0 else "N"))
    return end


@contextlib.contextmanager
def recording(folder: Path, **settings: Any) -> Iterator[Recorder]:
    recorder = Recorder(RecorderConfig(folder=folder, **settings))
    recorder.start()
    try:
        yield recorder
    finally:
        recorder.stop(10.0)


def segments(folder: Path) -> list[Path]:
    return sorted(path.with_suffix("") for path in folder.glob("*/*.hea"))


def test_everything_reads_back_as_it_was(tmp_path: Path) -> None:
    with recording(tmp_path, mode="everything") as recorder:
        play(recorder, 60)
    (path,) = segments(tmp_path)
    assert path.parent.name == module._safe("bed/1")
    record = wfdb.rdrecord(str(path))
    assert (record.fs, record.sig_len, record.sig_name, record.units) == (FS, 15_000, ["II", "ABP"], ["mV", "mmHg"])
    assert record.base_datetime is not None
    original = signal(0, 15_000)
    for channel, tolerance in enumerate((0.0006, 0.011)):
        read = record.p_signal[:, channel]
        assert np.array_equal(np.isnan(read), np.isnan(original[channel]))
        assert np.nanmax(np.abs(read - original[channel])) < tolerance
    raw = wfdb.rdrecord(str(path), physical=False)
    assert raw.checksum == [int(total) % 65536 for total in raw.d_signal.astype(np.int64).sum(0)]
    assert raw.init_value == raw.d_signal[0].tolist()
    annotation = wfdb.rdann(str(path), "edge")
    assert annotation.sample.tolist() == list(range(100, 15_000, 250))
    assert annotation.symbol == ["Q" if not n % 7 else "V" if n % 5 == 0 else "N" for n in range(60)]


def test_a_beat_at_the_end_of_a_segment_gets_its_class_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_S", 20.6)  # between a beat and its verdict
    with recording(tmp_path, mode="everything") as recorder:
        play(recorder, 100)
    found: list[tuple[int, str]] = []
    for path in segments(tmp_path):
        first = int(path.name.rsplit("-", 1)[1])
        annotation = wfdb.rdann(str(path), "edge")
        found += [(first + int(at), code) for at, code in zip(annotation.sample, annotation.symbol, strict=True)]
    assert len(segments(tmp_path)) >= 4
    labels = ["Q" if not n % 7 else "V" if n % 5 == 0 else "N" for n in range(100)]
    assert sorted(found) == [(100 + 250 * n, label) for n, label in enumerate(labels)]


def test_other_notes_travel_with_the_signal(tmp_path: Path) -> None:
    with recording(tmp_path, mode="everything") as recorder:
        play(recorder, 10)
        recorder.event(events.Rhythm(**header(700), channel="II", rhythm="AFIB", since=600, evidence={}))
        recorder.event(events.Quality(**header(800), channel="ABP", good=False, score=0, reasons=["flat"]))
        recorder.event(alarm(900))
        recorder.event(events.Mark(**header(1000), text="Ünruhe am Bett"))
        play(recorder, 10, first=2500)
    annotation = wfdb.rdann(str(segments(tmp_path)[0]), "edge")
    notes = {
        int(at): (symbol, text.rstrip("\0"), int(channel))
        for at, symbol, text, channel in zip(
            annotation.sample, annotation.symbol, annotation.aux_note, annotation.chan, strict=True
        )
        if symbol not in "NVQ"
    }
    assert notes[600] == ("+", "(AFIB", 0)
    assert notes[800][0] == "~"
    assert notes[800][2] == 1
    assert notes[900] == ('"', "asystole raised", 0)
    assert notes[1000][0] == '"'


def late_rhythm(recorder: Recorder) -> None:
    """Known, and written, long after the beats that it is dated before."""
    end = play(recorder, 30)
    wait_for(lambda: "bed/1" in recorder._streams and recorder._streams["bed/1"].end == end, "the beats to be written")
    recorder.event(events.Rhythm(**header(7000), channel="II", rhythm="N", since=299, evidence={}))
    play(recorder, 10, first=end)


def test_annotations_of_a_closed_segment_rise(tmp_path: Path) -> None:
    with recording(tmp_path, mode="everything") as recorder:
        late_rhythm(recorder)
    (path,) = segments(tmp_path)
    found = wfdb.rdann(str(path), "edge")
    assert found.sample.tolist() == sorted([299, *range(100, 10_000, 250)])
    assert (found.symbol[1], found.aux_note[1].rstrip("\0")) == ("+", "(N")
    assert found.symbol.count("Q") == 6
    assert not list(tmp_path.rglob("*.new"))


def test_annotations_of_a_repaired_segment_rise(tmp_path: Path) -> None:
    with recording(tmp_path / "a", mode="everything") as recorder:
        late_rhythm(recorder)
        wait_for(lambda: sum(file.stat().st_size for file in (tmp_path / "a").glob("*/*.dat")) == 40_000, "the signal")
        shutil.copytree(tmp_path / "a", tmp_path / "cut")
    (path,) = segments(tmp_path / "cut")
    torn = [one.sample for one in mit.read(path.with_suffix(".edge"))]
    assert torn != sorted(torn), "the test wants them out of order before"
    assert Recorder(RecorderConfig(folder=tmp_path / "cut")).counters.repaired == 1
    found = wfdb.rdann(str(path), "edge").sample.tolist()
    assert found == sorted(torn)


def test_events_mode_keeps_what_surrounds_an_alarm_and_nothing_else(tmp_path: Path) -> None:
    with recording(tmp_path, mode="events", before_s=10, after_s=5) as recorder:
        end = play(recorder, 60)
        recorder.event(alarm(end))
        end = play(recorder, 3, first=end)
        recorder.event(alarm(end, "cleared"))  # goes on until five seconds after the last of them
        end = play(recorder, 60, first=end)
        recorder.event(alarm(end))
        play(recorder, 20, first=end)
    first, second = segments(tmp_path)
    for path, begin, seconds in ((first, 50, 10 + 3 + 5), (second, 113, 15)):
        record = wfdb.rdrecord(str(path))
        assert record.sig_len / FS == pytest.approx(seconds, abs=0.5)
        at = int(path.name.rsplit("-", 1)[1])
        assert at / FS == pytest.approx(begin, abs=0.5)
        original = signal(at, record.sig_len)
        assert np.nanmax(np.abs(record.p_signal[:, 0] - original[0])) < 0.0006
        beats = wfdb.rdann(str(path), "edge")
        places = [int(sample) for sample, symbol in zip(beats.sample, beats.symbol, strict=True) if symbol in "NVQ"]
        assert places == [n - at for n in range(100, 50_000, 250) if at <= n < at + record.sig_len]


def test_a_short_gap_is_missing_samples_and_a_long_one_another_segment(tmp_path: Path) -> None:
    with recording(tmp_path, mode="everything") as recorder:
        end = play(recorder, 10)
        end = play(recorder, 10, first=end + round(2 * FS))
        play(recorder, 10, first=end + round(20 * FS))
    first, second = segments(tmp_path)
    record = wfdb.rdrecord(str(first))
    assert record.sig_len == 22 * FS
    assert np.isnan(record.p_signal[2500:3000]).all()
    assert not np.isnan(record.p_signal[3000:, 0]).any()
    assert wfdb.rdrecord(str(second)).sig_len == 10 * FS


def test_the_bounds_hold_and_the_oldest_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_S", 60.0)
    with recording(tmp_path, mode="everything", max_mb=1, hours=1000) as recorder:
        play(recorder, 60 * 40, block=2500)
        wait_for(lambda: not recorder._queue, "all to be written")
    kept = segments(tmp_path)
    assert recorder.counters.removed > 10
    total = sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file())
    assert 500_000 < total <= 1_000_000
    starts = [int(path.name.rsplit("-", 1)[1]) for path in kept]
    assert max(starts) == 60 * 39 * FS
    # By age, too: a year-old one goes at the next start of a segment.
    old = kept[0].with_name("20200101T000000Z-0")
    for ending in ("hea", "dat", "edge"):
        shutil.copy(f"{kept[0]}.{ending}", f"{old}.{ending}")
        os.utime(f"{old}.{ending}", (time.time() - 365 * 86_400,) * 2)
    with recording(tmp_path, mode="everything", max_mb=1000, hours=1) as recorder:
        play(recorder, 5)
    assert not Path(f"{old}.hea").exists()


def test_what_somebody_else_has_put_there_stays(tmp_path: Path) -> None:
    """Neither bounded nor repaired: a recording that was copied there, or renamed to be kept."""
    (tmp_path / "bed").mkdir()
    for name, header in (("100", "100 1 360 4 \n100.dat 16 200 16 0 0 0 0 II\n"), ("vt-case", "vt-case 1 250 0\n")):
        (tmp_path / "bed" / f"{name}.hea").write_text(header)
        (tmp_path / "bed" / f"{name}.dat").write_bytes(b"12345678")
        (tmp_path / "bed" / f"{name}.dat.damaged").write_bytes(b"12345678")
    mine = {file: file.read_bytes() for file in (tmp_path / "bed").iterdir()}
    for file in mine:
        os.utime(file, (time.time() - 365 * 86_400,) * 2)
    with recording(tmp_path, mode="everything", max_mb=1, hours=1) as recorder:
        play(recorder, 5)
    assert {file: file.read_bytes() for file in mine} == mine
    assert recorder.counters.removed == recorder.counters.repaired == 0


@pytest.mark.parametrize("seed", range(30))
def test_a_power_cut_leaves_a_sound_record(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    with recording(tmp_path / "a", mode="everything") as recorder:
        play(recorder, 40)
        wait_for(lambda: sum(file.stat().st_size for file in (tmp_path / "a").glob("*/*.dat")) == 40_000, "the signal")
        open_now = tmp_path / "cut"
        shutil.copytree(tmp_path / "a", open_now)  # as it is on the disk before it was closed
    (path,) = segments(open_now)
    place = Place(path)
    assert is_torn(place)
    for ending in ("dat", "edge"):
        file = place.file(ending)
        size = rng.randrange(5, file.stat().st_size)
        with file.open("r+b") as handle:
            handle.truncate(size)
    before = place.file("dat").stat().st_size
    again = Recorder(RecorderConfig(folder=open_now))
    assert again.counters.repaired == 1
    assert not is_torn(place)
    record = wfdb.rdrecord(str(path))
    assert record.sig_len == before // 4
    assert np.nanmax(np.abs(record.p_signal[:, 0] - signal(0, record.sig_len)[0])) < 0.0006
    annotation = wfdb.rdann(str(path), "edge")
    assert annotation.sample.tolist() == list(range(100, 10_000, 250))[: len(annotation.sample)]


def test_what_cannot_be_repaired_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "bed"
    folder.mkdir()
    (folder / "20260101T000000Z-0.hea").write_bytes(b"\xff\xfe torn")
    (folder / "20260101T000000Z-0.dat").write_bytes(b"")
    Recorder(RecorderConfig(folder=tmp_path))
    assert "set aside" in caplog.text
    assert not list(folder.glob("*.hea"))
    assert (folder / "20260101T000000Z-0.hea.damaged").exists()
    assert not repair(Place(folder / "20260101T000000Z-0"))


def test_a_full_disk_costs_recordings_and_nothing_else(
    tiny_disk: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(module, "RETRY_S", 0.0)
    ballast = tiny_disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 400_000)
    with recording(tiny_disk / "rec", mode="everything") as recorder:
        end = play(recorder, 300)
        wait_for(lambda: recorder.counters.dropped > 0, "the disk to fill")
        ballast.unlink()
        play(recorder, 20, first=end)
        wait_for(lambda: "recording again" in caplog.text, "recording to go on")
    assert caplog.text.count("cannot be recorded") == 1
    for path in segments(tiny_disk / "rec"):
        if not is_torn(Place(path)):
            record = wfdb.rdrecord(str(path))
            at = int(path.name.rsplit("-", 1)[1])
            if record.sig_len:
                assert np.nanmax(np.abs(record.p_signal[:, 0] - signal(at, record.sig_len)[0])) < 0.0006


def test_an_alarm_that_lasts_is_recorded_in_segments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SEGMENT_S", 60.0)
    with recording(tmp_path, mode="events", before_s=10, after_s=30, max_mb=1) as recorder:
        end = play(recorder, 20)
        for _ in range(100):  # said again every 20 s, for half an hour
            recorder.event(alarm(end, "updated"))
            end = play(recorder, 20, first=end, block=500)
            wait_for(lambda: len(recorder._queue) < 1000, "the writing to keep up")
    sizes = [path.with_suffix(".dat").stat().st_size for path in segments(tmp_path)]
    assert max(sizes) <= 62 * FS * 4
    assert recorder.counters.removed > 5
    assert sum(file.stat().st_size for file in tmp_path.rglob("*") if file.is_file()) <= 1_000_000
    beats: list[int] = []
    for path in segments(tmp_path):
        first, found = int(path.name.rsplit("-", 1)[1]), wfdb.rdann(str(path), "edge")
        beats += [first + int(at) for at, code in zip(found.sample, found.symbol, strict=True) if code in "NVQ"]
    assert sorted(beats) == list(range(min(beats), end, 250))


def test_names_that_become_alike_have_folders_of_their_own(tmp_path: Path) -> None:
    names = ("bed 1", "bed_1", "bed/1", "..", "__")
    with recording(tmp_path, mode="everything") as recorder:
        for at in range(0, 2500, 50):
            for level, name in enumerate(names):
                recorder.block(name, INFO, Block(at, FS, np.full((2, 50), level / 10, np.float32)))
    found = {tuple(np.unique(wfdb.rdrecord(str(path)).p_signal[:, 0].round(3))) for path in segments(tmp_path)}
    assert found == {(level / 10,) for level in range(len(names))}
    assert (tmp_path / "bed_1").is_dir()  # a plain name is its own


def test_an_old_recording_that_is_played_again_is_not_too_old_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "SEGMENT_S", 5.0)
    old = StreamInfo(FS, INFO.signals, datetime(1990, 1, 1, tzinfo=UTC))
    with recording(tmp_path, mode="everything", hours=1) as recorder:
        for at in range(0, 5000, 50):
            recorder.block("bed", old, Block(at, FS, signal(at, 50)))
    assert recorder.counters.removed == 0
    assert len(segments(tmp_path)) == 4
    assert all(path.name.startswith("19900101") for path in segments(tmp_path))


def test_what_was_set_aside_counts_and_goes_first_when_it_is_oldest(tmp_path: Path) -> None:
    folder = tmp_path / "bed"
    folder.mkdir()
    for number in range(5):
        for ending in ("hea", "dat", "edge"):
            file = folder / f"20260101T00000{number}Z-0.{ending}.damaged"
            file.write_bytes(b"x" * 200_000)
            os.utime(file, (time.time() - 3000 + number,) * 2)
    (folder / "notes.damaged.txt").write_text("somebody's own")
    with recording(tmp_path, mode="everything", max_mb=2, hours=1) as recorder:
        play(recorder, 5)
    # 3 MB and the segment to come do not fit into 2 MB: two of five may stay.
    left = {file.name.split(".")[0] for file in folder.glob("*.damaged")}
    assert left == {"20260101T000003Z-0", "20260101T000004Z-0"}
    assert recorder.counters.removed == 3
    assert (folder / "notes.damaged.txt").exists()
    for file in folder.glob("*.damaged"):
        os.utime(file, (time.time() - 4000,) * 2)
    with recording(tmp_path, mode="everything", max_mb=2, hours=1) as recorder:
        play(recorder, 5)
    assert not list(folder.glob("*.damaged"))


def test_a_block_or_event_that_does_not_fit_costs_itself_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with recording(tmp_path, mode="everything") as recorder:
        end = play(recorder, 5)
        recorder.event(beat(100).model_copy(update={"channel": "no such"}))
        recorder.block("bed/1", INFO, Block(end, FS, np.zeros((3, 50), np.float32)))
        play(recorder, 5, first=end)
    assert recorder.counters.dropped == 2
    assert "unexpected fault" in caplog.text
    (path,) = segments(tmp_path)
    assert wfdb.rdrecord(str(path)).sig_len == 2500


def test_annotations_are_those_that_wfdb_reads(tmp_path: Path) -> None:
    rng = random.Random(3)
    at, made = 0, []
    for _ in range(500):
        at += rng.choice([0, 1, 300, 1023, 1024, 5000, 70_000, 3_000_000])
        code = rng.choice("NVFSQ~+")
        text = rng.choice(["(N", "(AFIB", "(unknown"]) if code == "+" else ""
        made.append(Annotation(at, rng.randrange(3), code, rng.choice([0, 0, 1, 5, 127]), text))
    encoder = Encoder()
    (tmp_path / "r.edge").write_bytes(b"".join(map(encoder.encode, made)) + END)
    read = wfdb.rdann(str(tmp_path / "r"), "edge")
    assert read.sample.tolist() == [one.sample for one in made]
    assert read.symbol == [one.code for one in made]
    assert read.chan.tolist() == [one.channel for one in made]
    assert read.subtype.tolist() == [one.subtype for one in made]
    assert [text.rstrip("\0") for text in read.aux_note] == [one.text for one in made]
