"""``edge-agent tpu``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest

from edge_agent.inference.loaded import shipped_models
from edge_agent.inference.tpu import command as tpu_cli
from edge_agent.inference.tpu import devices
from tests.tpu.stand import Plan, nothing_left, usb, with_file


def ask(*arguments: str) -> int:
    parser = argparse.ArgumentParser()
    tpu_cli.add(parser.add_subparsers())
    parsed = parser.parse_args(["tpu", *arguments])
    return int(parsed.run(parsed))


def configured(folder: Path, standin: Path, plan: Plan) -> str:
    models = folder / "models"
    models.mkdir()
    for name in ("ecg-beat-aami", "ecg-af-rr"):
        with_file(shipped_models() / name, models)
    path = folder / "agent.toml"
    path.write_text(
        f"""
[inference]
models_dir = "{models}"
engine = "tpu"
[inference.tpu]
delegate = "{standin}"
options = {{ plan = "{plan.path}" }}
sysfs = "{folder / "sys"}"
[[stream]]
name = "bed1"
[stream.source]
type = "simulated"
""",
        encoding="utf-8",
    )
    return str(path)


def test_what_is_there_and_what_the_models_take(
    tmp_path: Path, standin: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    usb(tmp_path / "sys", "18d1:9302")
    with nothing_left():
        assert ask("--config", configured(tmp_path, standin, plan), "--measure", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["library"] == str(standin)
    assert (said["version"], said["library_sees"]) == ("stand-in for tests", [])
    assert said["kernel_shows"] == [{"type": "usb", "path": "2-1", "remedy": None}]
    assert set(said["models"]) == {"ecg-beat-aami", "ecg-af-rr"}
    for model in said["models"].values():
        assert model["backend"].startswith("tpu/")
        assert model["tpu_p99_us"] > 0
        assert model["cpu_p99_us"] > 0


def test_nothing_there(tmp_path: Path, standin: Path, plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    usb(tmp_path / "sys")
    assert ask("--config", configured(tmp_path, standin, plan)) == 1
    assert "kernel shows  no Edge TPU" in capsys.readouterr().out


def test_no_library(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(devices, "FOLDERS", ())
    monkeypatch.setattr(devices.find_library, "__defaults__", ((),))
    assert ask() == 1
    assert "library       none: see docs/edge-tpu.md" in capsys.readouterr().out


@pytest.mark.parametrize(("devices_seen", "status"), [(0, 1), (1, 0)])
def test_where_the_kernel_shows_nothing_the_library_is_believed(
    devices_seen: int, status: int, tmp_path: Path, standin: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container without /sys. What the stand-in sees is asked in a process that has no plan: it is told here."""
    seen = [{"type": "usb", "path": "/sys/x"}] * devices_seen
    monkeypatch.setattr("edge_agent.inference.tpu.process.ask_devices", lambda *_: {"version": "16", "devices": seen})
    assert ask("--config", configured(tmp_path, standin, plan)) == status


def test_a_library_that_is_none_is_not_usable(
    tmp_path: Path, standin: Path, plan: Plan, capsys: pytest.CaptureFixture[str]
) -> None:
    usb(tmp_path / "sys", "18d1:9302")
    standin.parent.joinpath("text.so").write_text("no library", encoding="ascii")
    text = Path(configured(tmp_path, standin, plan))
    text.write_text(text.read_text().replace(str(standin), str(standin.parent / "text.so")), encoding="utf-8")
    assert ask("--config", str(text)) == 1
    said = capsys.readouterr().out
    assert "file too short" in said or "invalid ELF header" in said
