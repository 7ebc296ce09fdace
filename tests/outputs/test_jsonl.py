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
    assert sum(file.stat().st_size for file in files) <= 1_300_000
    kept = [number for file in reversed(files) for number in numbers(file)]
    assert kept == list(range(kept[0], 300))
    assert kept[0] > 100


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
