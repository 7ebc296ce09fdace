"""What a replay is given: each record once, pipes that nobody reads, gaps of a recording, and the shipped examples."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from edge_agent import config
from edge_agent.cli import main
from edge_agent.commands.replay import print_summaries
from edge_agent.errors import SourceBroken
from edge_agent.inference.judge import Judge
from edge_agent.replay import Settings, Summary, distinct, replay
from tests.conftest import ROOT


def test_the_files_of_a_record_are_one_record(tmp_path: Path) -> None:
    for name in ("100.hea", "100.dat", "100.atr", "101.hea", "a.csv", "a.edf"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link.csv").symlink_to(tmp_path / "a.csv")
    given = [
        tmp_path / name for name in ("100.atr", "100.dat", "100.hea", "100", "101.hea", "a.csv", "a.edf", "link.csv")
    ]
    assert [path.name for path in distinct(given)] == ["100.atr", "101.hea", "a.csv", "a.edf"]


def heart(folder: Path, name: str = "a.csv", seconds: int = 20, hole: bool = False) -> Path:
    t = np.arange(seconds * 250)
    x = np.exp(-((((t % 200) - 100) / 4) ** 2))
    at = t / 250 + np.where(hole & (t >= t.size // 2), 30.0, 0.0)
    path = folder / name
    path.write_text("time,II\n" + "".join(f"{s:.3f},{v:.4f}\n" for s, v in zip(at, x, strict=True)), encoding="utf-8")
    return path


def test_a_pipe_that_nobody_reads_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert main(["replay", str(heart(tmp_path)), "--models", "none", "--quiet", "--events", str(pipe)]) == 1
    assert "is a pipe that nobody reads" in capsys.readouterr().err


def test_a_pipe_that_is_read_gets_every_event(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    read: list[str] = []
    opened = threading.Event()

    def reader() -> None:
        descriptor = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        os.set_blocking(descriptor, True)
        opened.set()
        with os.fdopen(descriptor, encoding="utf-8") as file:
            while not read:  # until the writer has come, there is an end of file at once
                read.extend(file)

    thread = threading.Thread(target=reader, daemon=True)
    thread.start()
    assert opened.wait(5)
    assert main(["replay", str(heart(tmp_path)), "--models", "none", "--quiet", "--events", str(pipe)]) == 0
    thread.join(10)
    assert sum(json.loads(line)["schema"] == "edge-agent/beat/1" for line in read) > 15


@pytest.mark.parametrize("broken", ["nowhere.csv", "folder"])
def test_a_recording_that_cannot_be_opened_leaves_the_events_of_an_earlier_one(
    broken: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "folder").mkdir()
    out = tmp_path / "out.jsonl"
    command = ["replay", str(tmp_path / broken), "--models", "none", "--quiet", "--events", str(out)]
    assert main(command) == 1
    assert not out.exists()
    out.write_text("of an earlier one\n", encoding="utf-8")
    assert main(command) == 1
    assert out.read_text(encoding="utf-8") == "of an earlier one\n"
    (tmp_path / "asked.txt").write_text(f"{broken} vtach 00:10\n", encoding="utf-8")
    assert main(["replay", "--verify", str(tmp_path / "asked.txt"), "--models", "none", "--events", str(out)]) == 1
    assert out.read_text(encoding="utf-8") == "of an earlier one\n"
    assert capsys.readouterr().out == ""


def test_a_recording_of_which_nothing_is_said_leaves_an_empty_file(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("of an earlier one\n", encoding="utf-8")
    (tmp_path / "a.csv").write_text("time,II\n" + "".join(f"{i / 250:.3f},0\n" for i in range(5)), encoding="utf-8")
    assert main(["replay", str(tmp_path / "a.csv"), "--models", "none", "--quiet", "--events", str(out)]) == 0
    assert "earlier" not in out.read_text(encoding="utf-8")


def test_a_hole_in_a_recording_is_an_exact_gap(tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    assert main(["replay", str(heart(tmp_path, hole=True)), "--models", "none", "--quiet", "--events", str(out)]) == 0
    said = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    (gap,) = [one for one in said if one["schema"] == "edge-agent/gap/1"]
    assert (gap["first"], gap["lost"], gap["exact"], gap["cause"]) == (2500, 7500, True, "gap in the recording")


def test_the_examples_are_good() -> None:
    loaded = config.load(ROOT / "config" / "sources.toml")
    assert {stream.source.type for stream in loaded.stream} == {"serial", "board", "tcp", "mqtt"}


def test_the_examples_that_are_commented_out_are_good_too(tmp_path: Path) -> None:
    text = (ROOT / "config" / "sources.toml").read_text(encoding="utf-8")
    text = text.replace("# broker = ", "# # broker = ")
    first, *rest = text.split("\n# [[stream]]")
    for number, part in enumerate(rest):
        lines = ("\n# [[stream]]" + part).splitlines()
        path = tmp_path / f"{number}.toml"
        heart(tmp_path, "100.csv")
        body = "\n".join(line.removeprefix("# ") for line in lines).replace("recordings/100", "100.csv")
        path.write_text(body, encoding="utf-8")
        assert len(config.load(path).stream) == 1
    assert len(rest) == 3
    assert "[[stream]]" in first


def test_check_finds_a_recording_that_was_cut_off(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "cut.hea").write_text("cut 1 250 5000\ncut.dat 16 200/mV 16 0 0 0 0 II\n", encoding="ascii")
    np.zeros(4000, "<i2").tofile(tmp_path / "cut.dat")
    path = tmp_path / "edge.toml"
    path.write_text(
        '[[stream]]\nname = "bed"\nmodels = []\n[stream.source]\ntype = "file"\npath = "cut"\n', encoding="utf-8"
    )
    assert main(["check", str(path)]) == 1
    said = capsys.readouterr().err
    assert "cannot be read at sample 4999" in said
    assert "fetch the record again" in said
    np.zeros(5000, "<i2").tofile(tmp_path / "cut.dat")
    assert main(["check", str(path)]) == 0


def test_events_to_the_standard_output_and_every_lead_with_a_configuration(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an agent with that file would say: both leads; no file called ``-``, and each model's classes by its name."""
    monkeypatch.chdir(tmp_path)
    t = np.arange(20 * 250) / 250
    lead = np.exp(-((((t % 0.8) - 0.4) / 0.02) ** 2)) + 0.02 * np.sin(t)
    rows = (f"{i},{a:.4f},{a / 2:.4f}" for i, a in enumerate(lead))
    Path("a.csv").write_text("sample,II,V\n" + "\n".join(rows) + "\n")
    Path("edge.toml").write_text(
        '[mqtt]\nusername = "edge"\n[[stream]]\nname = "bed"\n[stream.source]\ntype = "simulated"\n'
    )
    heard = {}
    for given in ([], ["--config", "edge.toml"]):
        assert main(["replay", "a.csv", "--fs", "250", "--models", "none", "--events", "-", *given]) == 0
        said, told = capsys.readouterr()
        heard[bool(given)] = {one["channel"] for one in map(json.loads, said.splitlines()) if "rr_ms" in one}
        assert "a.csv" in told
    assert heard == {False: {"II"}, True: {"II", "V"}}
    assert not Path("-").exists()
    summary = Summary("a", 1.0, 1.0, labels={"one": Counter(N=2, abstained=1), "two": Counter(N=3)})
    print_summaries([summary])
    assert capsys.readouterr().out.rstrip().endswith("none; one N:2 abstained:1; two N:3")


def test_of_a_record_that_is_cut_off_the_summary_tells_what_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    t = np.arange(20 * 250) / 250
    lead = 1000 * np.exp(-((((t % 0.8) - 0.4) / 0.02) ** 2)) + 20 * np.sin(t)
    for name in ("cut", "whole"):
        Path(f"{name}.hea").write_text(f"{name} 1 250 5000\n{name}.dat 16 1000/mV 16 0 0 0 0 II\n", encoding="ascii")
        lead[: 4100 if name == "cut" else 5000].astype("<i2").tofile(f"{name}.dat")
    asked = ["replay", "cut", "whole", "--models", "none", "--events", "e.jsonl", "--annotations", "out"]
    assert main(asked) == 1
    said, error = capsys.readouterr()
    rows = {line.split()[0]: line.split() for line in said.splitlines()[1:]}
    assert (rows["cut"][1], rows["whole"][1]) == ("0:16", "0:20")  # the last whole second
    assert 18 <= int(rows["cut"][3]) < int(rows["whole"][3])
    assert "cut: cannot be read at sample 4000" in error
    assert "fetch the record again" in error
    assert Path("out/cut.edge").stat().st_size > 18
    with pytest.raises(SourceBroken):
        replay(Path("cut"), Judge({}), Settings(models=()), show_progress=False)
