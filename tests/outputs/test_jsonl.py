"""The file of lines: whole lines only, bounded, and a disk that fills drops lines and says so."""

from __future__ import annotations

import contextlib
import json
import logging
import time
from pathlib import Path

import pytest

from edge_agent.config import JsonlConfig
from edge_agent.errors import OutputError
from edge_agent.outputs import jsonl
from edge_agent.outputs.jsonl import JsonLines
from tests.spine import wait_for


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jsonl, "WRITE_EVERY_S", 0.02)


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["n"] for line in path.read_text().splitlines()]


def test_every_line_in_order_and_all_of_them_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "events.jsonl"
    lines = JsonLines(JsonlConfig(path=path))
    lines.start()
    for number in range(500):
        lines.put(json.dumps({"n": number}).encode())
        if number % 100 == 0:
            time.sleep(0.03)
    lines.stop()
    assert numbers(path) == list(range(500))
    again = JsonLines(JsonlConfig(path=path))  # a new start goes on in the same file
    again.start()
    again.put(b'{"n": 500}')
    again.stop()
    assert numbers(path) == list(range(501))


def test_a_torn_line_is_not_joined_to_the_next(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2')
    lines = JsonLines(JsonlConfig(path=path))
    lines.start()
    lines.put(b'{"n": 3}')
    lines.stop()
    assert path.read_text().splitlines() == ['{"n": 1}', '{"n": 2', '{"n": 3}']


def test_the_bound_holds_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    lines = JsonLines(JsonlConfig(path=path, max_mb=1, keep=3))
    lines.start()
    for number in range(300):
        lines.put(json.dumps({"n": number, "x": "y" * 10_000}).encode())
        if number % 5 == 0:
            written = number
            wait_for(lambda written=written: lines.written > written, "the lines to be written")  # type: ignore[misc]
    lines.stop()
    files = [path, *(tmp_path / f"events.jsonl.{number}" for number in (1, 2, 3))]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert sum(file.stat().st_size for file in files) <= 1_000_000
    kept = [number for file in reversed(files) for number in numbers(file)]
    assert kept == list(range(kept[0], 300))
    assert kept[0] > 100


def test_the_bound_holds_when_all_comes_at_once(tmp_path: Path) -> None:
    """Several streams replayed as fast as it goes: more lines within a second than a file may hold."""
    path = tmp_path / "events.jsonl"
    lines = JsonLines(JsonlConfig(path=path, max_mb=1, keep=3))
    for number in range(300):
        lines.put(json.dumps({"n": number, "x": "y" * 10_000}).encode())
    lines.put(json.dumps({"n": 300, "x": "y" * 400_000}).encode())  # longer than a file: alone in its own
    lines.put(b'{"n": 301}')
    lines.start()
    lines.stop()
    files = [tmp_path / f"events.jsonl.{number}" for number in (3, 2, 1)]
    assert [file.stat().st_size <= 250_000 for file in files] == [True, True, False]
    assert numbers(tmp_path / "events.jsonl.1") == [300]
    assert numbers(path) == [301]
    kept = numbers(files[0]) + numbers(files[1])
    assert kept == list(range(kept[0], 300))
    assert len(kept) == 24 + 300 % 24  # one whole file, and what was left
    assert (lines.written, lines.dropped) == (302, 0)


def test_a_full_disk_drops_lines_and_says_so_once(tiny_disk: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    lines = JsonLines(JsonlConfig(path=tiny_disk / "events.jsonl"))
    ballast = tiny_disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 600_000)
    lines.start()
    for number in range(200):
        lines.put(json.dumps({"n": number, "x": "y" * 500}).encode())
        time.sleep(0.001)
    wait_for(lambda: lines.dropped >= 100, "lines to be dropped")
    ballast.unlink()
    lines.put(b'{"n": 1000}')
    wait_for(lambda: "can be written again" in caplog.text, "the disk to be used again")
    lines.stop()
    assert caplog.text.count("lines are dropped") == 1
    assert (tiny_disk / "events.jsonl").read_bytes().endswith(b'{"n": 1000}\n')


def test_a_place_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot be written"):
        JsonLines(JsonlConfig(path=tmp_path))


def test_a_turn_over_that_fails_drops_lines_and_goes_on_when_it_can(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    path = tmp_path / "events.jsonl"
    path.write_text('{"n": 0}\n' * 200)
    for number in (1, 2, 3, 4):
        (tmp_path / f"events.jsonl.{number}").write_text(json.dumps({"n": -number}) + "\n")
    real = Path.replace
    refused = True

    def replace(self: Path, target: Path) -> Path:
        if refused and target.name == "events.jsonl.1":
            raise PermissionError("not now")
        return real(self, target)

    monkeypatch.setattr(Path, "replace", replace)
    lines = JsonLines(JsonlConfig(path=path, max_mb=1, keep=4))
    monkeypatch.setattr(lines, "_most_bytes", 1000)
    lines.start()
    for number in range(1, 4):
        lines.put(json.dumps({"n": number}).encode())
        wait_for(lambda number=number: lines.dropped == number, "the line to be dropped")  # type: ignore[misc]
    assert lines.fault == "not now"
    refused = False
    lines.put(b'{"n": 100}')
    wait_for(lambda: lines.written == 1, "the line to be written")
    lines.stop()
    assert numbers(path) == [100]
    assert numbers(tmp_path / "events.jsonl.1") == [0] * 200
    # Trying again and again cost no more than one turn-over does.
    assert [numbers(tmp_path / f"events.jsonl.{number}") for number in (2, 3, 4)] == [[-1], [-2], [-3]]
    assert (lines.written, lines.dropped) == (1, 3)
    assert caplog.text.count("lines are dropped") == 1
    assert "can be written again, 3 lines" in caplog.text


def test_a_line_that_a_full_disk_tore_is_not_joined_to_the_next(tiny_disk: Path) -> None:
    path = tiny_disk / "events.jsonl"
    lines = JsonLines(JsonlConfig(path=path))
    ballast = tiny_disk / "ballast"
    with contextlib.suppress(OSError):
        ballast.write_bytes(b"x" * 460_000)
    for number in range(100):
        lines.put(json.dumps({"n": number, "x": "y" * 1001}).encode())
    lines.start()
    wait_for(lambda: lines.dropped > 0, "lines to be dropped")
    ballast.unlink()
    for number in range(100, 110):
        lines.put(json.dumps({"n": number}).encode())
    wait_for(lambda: lines.fault is None, "the disk to be used again")
    lines.stop()
    whole, torn = [], 0
    for line in path.read_text().splitlines():
        try:
            whole.append(json.loads(line)["n"])
        except ValueError:
            torn += 1
    assert torn == 1
    assert whole[-10:] == list(range(100, 110))
    assert whole[:-10] == list(range(len(whole) - 10))
    assert (lines.written, lines.dropped) == (len(whole), 110 - len(whole))


def test_a_full_disk_at_the_start_keeps_nobody_from_starting(tiny_disk: Path) -> None:
    path = tiny_disk / "events.jsonl"
    path.write_bytes(b'{"n": 1}\n{"n": 2')
    ballast = tiny_disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    lines = JsonLines(JsonlConfig(path=path))
    lines.start()
    ballast.unlink()
    lines.put(b'{"n": 3}')
    lines.stop()
    assert path.read_text().splitlines() == ['{"n": 1}', '{"n": 2', '{"n": 3}']


@pytest.mark.parametrize("there", [b"time,II\n0,0.1\n", b"\x00\x01"], ids=["a CSV", "bytes"])
def test_a_file_that_holds_something_else_is_not_taken(tmp_path: Path, there: bytes) -> None:
    path = tmp_path / "mine.csv"
    path.write_bytes(there)
    with pytest.raises(OutputError, match="is there already and holds no messages"):
        JsonLines(JsonlConfig(path=path))
    assert path.read_bytes() == there
