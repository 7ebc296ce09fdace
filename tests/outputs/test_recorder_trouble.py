"""The recorder on disks that fill, fail or are taken away."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import wfdb

from edge_agent.config import RecorderConfig
from edge_agent.outputs import recorder as module
from edge_agent.outputs.recorder import Recorder
from edge_agent.outputs.segment import Place, Segment, is_torn, write_header
from tests.outputs.test_recorder import play, recording, segments
from tests.spine import wait_for


def cut_off(folder: Path) -> Path:
    """What a kill leaves of 40 s, with half an annotation at its end."""
    with recording(folder.parent / "whole", mode="everything") as recorder:
        play(recorder, 40)
        wait_for(lambda: sum(file.stat().st_size for file in (folder.parent / "whole").glob("*/*.dat")) == 40_000, "it")
        shutil.copytree(folder.parent / "whole", folder)
    (path,) = segments(folder)
    with path.with_suffix(".edge").open("ab") as annotations:
        annotations.write(b"\x01")
    return path


def fill(folder: Path) -> Path:
    ballast = folder / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    return ballast


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_what_the_disk_does_not_let_be_repaired_is_left_for_the_next_start(tiny_disk: Path, trouble: str) -> None:
    path = cut_off(tiny_disk / "rec")
    whole = path.with_suffix(".edge").read_bytes()[:-1]
    ballast = None
    if trouble == "full":
        ballast = fill(tiny_disk)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    recorder = Recorder(RecorderConfig(folder=tiny_disk / "rec"))
    assert recorder.counters.repaired == 0
    assert sorted(file.suffix for file in path.parent.iterdir()) == [".dat", ".edge", ".hea"]
    assert path.with_suffix(".edge").read_bytes().startswith(whole)
    assert is_torn(Place(path))
    if ballast is not None:
        ballast.unlink()
    else:
        subprocess.run(["mount", "-o", "remount,rw", str(tiny_disk)], check=True)
    assert Recorder(RecorderConfig(folder=tiny_disk / "rec")).counters.repaired == 1
    assert wfdb.rdrecord(str(path)).sig_len == 10_000
    assert wfdb.rdann(str(path), "edge").sample.tolist()[:20] == list(range(100, 5000, 250))


def test_a_header_is_on_the_disk_before_its_name_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a power cut leaves the name with nothing in it: no reader and no repair can do anything with the samples then."""
    done: list[str] = []
    real_sync, real_replace = os.fsync, Path.replace

    def fsync(file: int) -> None:
        done.append(f"sync {Path(f'/proc/self/fd/{file}').readlink().name}")
        real_sync(file)

    def replace(self: Path, target: Path) -> Path:
        done.append(f"replace {target.name}")
        return real_replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", replace)
    (tmp_path / "bed").mkdir()
    write_header(Place(tmp_path / "bed" / "a"), ["a 0 1 0"])
    assert done == ["sync a.hea.new", "replace a.hea", "sync bed"]

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_header(Place(tmp_path / "bed" / "a"), ["a 0 2 0"])
    assert [file.name for file in (tmp_path / "bed").iterdir()] == ["a.hea"]
    assert (tmp_path / "bed" / "a.hea").read_text() == "a 0 1 0\n"
    (tmp_path / "bed" / "20260101T000000Z-0.hea.new").write_text("left by a kill")
    (tmp_path / "bed" / "mine.new").write_text("somebody else's")
    Recorder(RecorderConfig(folder=tmp_path))
    assert [file.name for file in tmp_path.rglob("*.new")] == ["mine.new"]


def test_a_disk_that_takes_no_sample_leaves_no_empty_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(module, "RETRY_S", 0.0)
    monkeypatch.setattr(Segment, "_put", full)
    with recording(tmp_path, mode="everything") as recorder:
        play(recorder, 3)
    assert recorder.counters.dropped > 3
    assert recorder.fault == "No space left on device"
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
