"""Bad input: one clear message that names the place and the remedy, exit status 2 for usage and 1 for the rest."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from edge_agent import __version__
from edge_agent.cli import build_parser, main
from edge_agent.commands.example import example_config

COMMANDS = (
    *("run", "check", "example", "demo", "replay", "simulate", "ports", "sniff", "watch", "review", "models", "tpu"),
    *("doctor", "install-service", "uninstall-service"),
)
GOOD = '[[stream]]\nname = "bed"\n[stream.source]\ntype = "simulated"\n'
FILE = '[[stream]]\nname = "bed"\n[stream.source]\ntype = "file"\n'


def said(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """Exit status and what stands on the standard error."""
    try:
        status = main(arguments)
    except SystemExit as error:
        status = int(error.code or 0)
    return status, capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "place", "remedy"),
    [
        ("[[stream]\n", "is not valid TOML", "line 1"),
        ("", "stream: is missing", ""),
        ("stream = []\n", "stream", "at least one"),
        (GOOD.replace("name", "nam"), "stream[0].nam: unknown key", "did you mean 'name'"),
        (GOOD + "sped = 2\n", "stream[0] (bed).source.sped: unknown key", "did you mean 'speed'"),
        (GOOD + "fs = 20\n", "stream[0] (bed).source.fs: found 20", "greater than or equal to 100"),
        (GOOD.replace("simulated", "simulator"), "stream[0] (bed).source.type: found 'simulator'", "'simulated'"),
        (GOOD.replace('"bed"', '"a/b"'), "stream[0] (a/b).name: found 'a/b'", "plain topic part"),
        (GOOD.replace('"bed"', '"bridge"'), "stream[0] (bridge).name", "the agent's own topic"),
        (GOOD + GOOD, "stream", "'bed' stands twice"),
        ('[mqtt]\nhost = ""\n' + GOOD, "mqtt.host: found ''", "neither a host's name nor an address"),
        ("[mqtt]\nport = 70000\n" + GOOD, "mqtt.port: found 70000", "65535"),
        ('[mqtt]\npassword_file = "none"\n' + GOOD, "mqtt.password_file: none", "no such file"),
        ('[inference]\nmodels_dir = "none"\n' + GOOD, "inference.models_dir: none", "no such folder"),
        (GOOD + 'script = "none.toml"\n', "stream[0] (bed).source.script: none.toml", "'demo' and 'sinus'"),
        (FILE + 'path = "none.csv"\n', "stream[0] (bed).source.path: none.csv", "no such recording"),
        (
            '[[stream]]\nname = "bed"\n[stream.source]\ntype = "serial"\nport = "/dev/none"\nfs = 250\ncolumns = ["II"]\n',
            "stream[0] (bed).source.port: /dev/none: no such port",
            "wait_for_port",
        ),
        (
            GOOD.replace("[stream.source]", 'models = ["nothing"]\n[stream.source]'),
            "no model named 'nothing'",
            "there are:",
        ),
        (GOOD.replace("[stream.source]", 'detector = "best"\n[stream.source]'), "stream[0] (bed).detector", "native"),
    ],
)
@pytest.mark.parametrize("command", ["check", "run"])
def test_a_bad_configuration(
    command: str, text: str, place: str, remedy: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    status, error = said(capsys, command, str(path))
    assert status == 1
    assert place in error
    assert remedy in error
    assert "Traceback" not in error
    assert error.count("edge-agent:") == 1


def test_everything_wrong_is_said_at_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.toml"
    path.write_text("[mqtt]\nport = 0\nbse = 'x'\n" + GOOD + "fs = 20\nseed = -1\n", encoding="utf-8")
    status, error = said(capsys, "check", str(path))
    assert status == 1
    assert "4 problems" in error
    assert sum(line.startswith("  - ") for line in error.splitlines()) == 4


def test_a_configuration_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, error = said(capsys, "run", str(tmp_path / "none.toml"))
    assert status == 1
    assert "none.toml" in error
    assert "edge-agent example > none.toml" in error
    (tmp_path / "binary.toml").write_bytes(b"\xff\xfe")
    status, error = said(capsys, "check", str(tmp_path / "binary.toml"))
    assert (status, "is not text in UTF-8" in error) == (1, True)
    status, error = said(capsys, "check", str(tmp_path))
    assert (status, "is a folder" in error, "edge-agent example" in error) == (1, True, False)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.csv", None, "none.csv"),
        ("none.edf", None, "none.edf"),
        ("none", None, "no such record"),
        ("empty.csv", b"", "the file is empty"),
        ("header.csv", b"II,V\n", "has a header and no samples"),
        ("words.csv", b"II\n0.1\nlow\n", "line 3: 'low' is not a number"),
        ("ragged.csv", b"II,V\n0.1,0.2\n0.3\n", "line 3 has 1 columns, the first has 2"),
        ("binary.csv", b"\xff\xfe\x00\x01", "is not text in UTF-8"),
        ("rateless.csv", b"II\n0.1\n0.2\n", "--fs"),
        ("unknown.csv", b"foo,bar\n1,2\n3,4\n", 'signals = { NAME = "ecg" }'),
        ("empty.edf", b"", "empty.edf"),
        ("junk.edf", b"junk" * 100, "junk.edf"),
        ("junk.hea", b"junk\n", "not a readable WFDB header"),
        ("nodata.hea", b"nodata 1 250 1000\nnodata.dat 16 200/mV 16 0 0 0 0 II\n", "cannot be read at sample 0"),
    ],
)
def test_an_unreadable_recording(
    name: str, content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    fs = [] if name == "rateless.csv" else ["--fs", "250"]
    status, error = said(capsys, "replay", str(tmp_path / name), "--models", "none", "--quiet", *fs)
    assert status == 1
    assert message in error
    assert "Traceback" not in error


def test_outputs_that_cannot_be_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("II\n" + "0.1\n" * 500, encoding="utf-8")
    record = ("replay", str(tmp_path / "a.csv"), "--fs", "250", "--quiet", "--models", "none")
    status, error = said(capsys, *record, "--events", str(tmp_path / "no" / "e.jsonl"))
    assert (status, "No such file" in error) == (1, True)
    status, error = said(capsys, *record, "--annotations", str(tmp_path / "a.csv"))
    assert (status, "a.csv" in error, "Traceback" in error) == (1, True, False)


def test_a_model_that_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("II\n0.1\n", encoding="utf-8")
    status, error = said(capsys, "replay", str(tmp_path / "a.csv"), "--fs", "250", "--models", "nothing")
    assert status == 1
    assert "no model named 'nothing'" in error
    assert "there are:" in error


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("walk",),
        ("run",),
        ("replay",),
        ("replay", "x", "--speed", "fast"),
        ("replay", "x", "--fs", "-1"),
        ("demo", "--speed", "0"),
        ("demo", "--seed", "one"),
        ("demo", "--seed", "-1"),
    ],
)
def test_usage_is_status_2(arguments: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    status, error = said(capsys, *arguments)
    assert status == 2
    assert "usage: edge-agent" in error


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_has_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main([command, "--help"] if command else ["--help"])
    assert ended.value.code == 0
    assert re.search(rf"examples?:\n  (sudo )?edge-agent {command}", capsys.readouterr().out)


def test_the_commands_are_all_tried_here() -> None:
    listed = re.search(r"COMMAND\n(.*?)\n\n", build_parser().format_help(), re.DOTALL)
    assert listed is not None
    assert set(re.findall(r"^ {4}([\w-]+)", listed[1], re.MULTILINE)) == set(COMMANDS)


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"edge-agent {__version__}\n"


def test_the_shipped_configuration_is_good(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "edge-agent.toml"
    path.write_text(example_config(), encoding="utf-8")
    status, error = said(capsys, "check", str(path))
    assert (status, error) == (0, "")
