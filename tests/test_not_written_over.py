"""What is read is not written over, whichever option or table names it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.config import load
from edge_agent.errors import ConfigError

Write = Callable[[str], Path]
SIMULATED = '[[stream]]\nname = "bed1"\nsource = { type = "simulated" }\n'


@pytest.fixture
def record(tmp_path: Path) -> Path:
    """As the recorder leaves one: samples, and what was said then."""
    (tmp_path / "a.hea").write_text("a 1 250 5000\na.dat 16 1000/mV 16 0 0 0 0 II\n", encoding="ascii")
    (tmp_path / "a.dat").write_bytes(bytes(10_000))
    (tmp_path / "a.edge").write_bytes(b"as it was said then")
    return tmp_path / "a"


def refused(capsys: pytest.CaptureFixture[str], *command: object) -> str:
    assert main([str(part) for part in command]) == 1
    said = capsys.readouterr().err
    assert "Traceback" not in said
    return said


@pytest.mark.parametrize("ending", ["", ".hea"])
def test_replay_keeps_what_the_recorder_wrote(record: Path, capsys: pytest.CaptureFixture[str], ending: str) -> None:
    named = record.with_name(f"a{ending}")
    for option, output in (
        ("--annotations", record.parent),
        ("--events", record.with_suffix(".edge")),
        ("--events", record.with_suffix(".dat")),
    ):
        before = {file: file.read_bytes() for file in record.parent.iterdir()}
        said = refused(capsys, "replay", named, "--models", "none", option, output)
        assert "another" in said
        assert {file: file.read_bytes() for file in record.parent.iterdir()} == before


def test_replay_keeps_its_configuration(record: Path, write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(SIMULATED)
    said = refused(capsys, "replay", record, "--models", "none", "--config", path, "--events", path)
    assert "edge.toml: is what is read" in said
    assert path.read_text() == SIMULATED


def test_annotations_of_a_second_replay_take_the_place_of_the_first_s(record: Path, tmp_path: Path) -> None:
    """In a folder of their own they are the replay's, and nobody else's."""
    (tmp_path / "out").mkdir()
    shutil.copy(record.with_suffix(".edge"), tmp_path / "out")
    assert main(["replay", str(record), "--models", "none", "--quiet", "--annotations", str(tmp_path / "out")]) == 0


def test_a_strip_keeps_its_recording(record: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = record.with_suffix(".dat").read_bytes()
    strip = ("review", record, "--strip", 1, 5, "--state", tmp_path / "state", "--out", record.with_suffix(".dat"))
    assert "a.dat: is what is read; " in refused(capsys, *strip).replace("\n  ", "; ").replace(", ", "; ")
    assert record.with_suffix(".dat").read_bytes() == before


@pytest.mark.parametrize(
    ("jsonl", "said"),
    [
        ("edge.toml", "jsonl.path: edge.toml is this configuration"),
        ("sub/../a.csv", "jsonl.path: a.csv is what the stream bed2 reads"),
    ],
)
def test_an_output_is_not_what_is_read(write: Write, tmp_path: Path, jsonl: str, said: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.csv").write_text("time,II\n0,0.1\n", encoding="utf-8")
    stream = '[[stream]]\nname = "bed2"\nsource = { type = "file", path = "a.csv" }\n'
    with pytest.raises(ConfigError) as refused:
        load(write(f'[jsonl]\npath = "{jsonl}"\n{SIMULATED}{stream}'))
    assert any(one.startswith(said) for one in refused.value.problems)
