"""The command line: what it prints where, its exit status, and never a traceback."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from edge_agent.cli import main
from edge_agent.errors import ConfigError, EdgeAgentError, OutputError, SourceError, SourceLost

ROOT = Path(__file__).resolve().parent.parent
SIMULATED = '[[stream]]\nname = "bed1"\n{}\n[stream.source]\ntype = "simulated"\n'
FILE = '[[stream]]\nname = "bed1"\n[stream.source]\ntype = "file"\npath = "{}"\n'


@dataclass(frozen=True)
class Said:
    status: int
    out: str
    err: str


Run = Callable[..., Said]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """``edge-agent`` with these arguments, in a folder of its own. An exception that gets out fails the test."""
    monkeypatch.chdir(tmp_path)

    def go(*arguments: str | Path) -> Said:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as error:
            status = int(error.code or 0)
        out, err = capfd.readouterr()
        return Said(status, out, err)

    return go


@pytest.fixture
def process(tmp_path: Path) -> Run:
    """The same as a process of its own: slower, and all that a shell sees."""

    def go(*arguments: str | Path) -> Said:
        done = subprocess.run(
            [sys.executable, "-m", "edge_agent", *map(str, arguments)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Said(done.returncode, done.stdout, done.stderr)

    return go


def one_message(said: Said, *words: str) -> None:
    """Status 1 and one message that has all of these words: its first line what and where, its second the remedy."""
    assert said.status == 1
    messages = [line for line in said.err.splitlines() if line.startswith("edge-agent: ")]
    assert len(messages) == 1, said.err
    text = said.err[said.err.index("edge-agent: ") :]
    for word in words:
        assert word in text
    assert len(text.splitlines()) <= 3


def ecg(seconds: float, fs: float = 250.0) -> str:
    """A CSV of one column: narrow peaks, 75 to the minute, on a slow wave."""
    t = np.arange(round(seconds * fs)) / fs
    values = 0.1 * np.sin(2 * np.pi * 0.3 * t) + np.exp(-0.5 * (((t + 0.4) % 0.8 - 0.4) / 0.012) ** 2)
    return "II\n" + "\n".join(f"{value:.5f}" for value in values) + "\n"


@pytest.mark.parametrize("command", ["", "run", "check", "example", "demo", "replay"])
def test_help_and_its_example(command: str, run: Run) -> None:
    said = run(*filter(None, [command]), "--help")
    assert (said.status, said.err) == (0, "")
    assert f"example:\n  edge-agent {command}".rstrip() in said.out


def test_the_example_that_help_gives_for_a_configuration_works(process: Run, tmp_path: Path) -> None:
    said = process("example")
    assert (said.status, said.err) == (0, "")
    (tmp_path / "my.toml").write_text(said.out, encoding="utf-8")
    checked = process("check", "my.toml")
    assert (checked.status, checked.err) == (0, "")
    assert checked.out.startswith("my.toml: good: 1 stream,")


@pytest.mark.parametrize("arguments", [[], ["chekc", "x"], ["check"], ["replay", "x", "--speed", "0"], ["--nonsense"]])
def test_usage(arguments: list[str], run: Run) -> None:
    said = run(*arguments)
    assert said.status == 2
    assert said.err.startswith("usage: edge-agent")
    assert said.out == ""


@pytest.mark.parametrize("command", ["check", "run"])
def test_a_configuration_with_several_mistakes(command: str, process: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text("healt_s = 3\n" + SIMULATED.format("") + "fs = 1\n", encoding="utf-8")
    said = process(command, "bad.toml")
    assert said.status == 1
    assert said.out == ""
    assert said.err.splitlines() == [
        "edge-agent: bad.toml: 2 problems",
        "  - stream[0] (bed1).source.fs: found 1; should be greater than or equal to 100",
        "  - healt_s: unknown key; did you mean 'health_s'?",
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (SIMULATED.format("") + "channels = ['II', 'II']\n", ("names a channel twice",)),
        (SIMULATED.format('models = ["nothing"]'), ("no model named 'nothing'", "there are:")),
        (SIMULATED.format('detector = "ecgdetectors:nothing"'), ("nothing",)),
        (SIMULATED.format("") + 'script = "script.toml"\n', ("script.toml",)),
        (FILE.format("empty.csv"), ("empty.csv", "the file is empty")),
        (FILE.format("slow.csv") + "fs = 10\n", ("bed1", "10 samples per second", "50 to 4000")),
        (FILE.format("none"), ("none", "no such recording")),
        (FILE.format("x.csv").replace('type = "file"', 'type = "file"\nspeeed = 1'), ("speeed", "'speed'")),
        (
            '[[stream]]\nname = "b"\n[stream.source]\ntype = "serial"\nport = "/dev/null"\nfs = 250\ncolumns = ["II"]\n',
            ("/dev/null", "cannot be opened"),
        ),
        ("[mqtt]\npassword_file = 'secret'\nusername = 'x'\n" + SIMULATED.format(""), ("secret", "cannot be read")),
    ],
)
def test_run_starts_nothing_when_something_is_missing(
    text: str, words: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    (tmp_path / "slow.csv").write_text("II\n1\n2\n", encoding="utf-8")
    (tmp_path / "script.toml").write_text("[[episode]]\nfoo = 1\n", encoding="utf-8")
    (tmp_path / "secret").write_bytes(b"\xff\xfe")
    (tmp_path / "edge.toml").write_text(text, encoding="utf-8")
    said = run("run", "edge.toml")
    one_message(said, *words)
    assert "running" not in said.err


def test_a_name_that_the_system_refuses(run: Run, tmp_path: Path) -> None:
    """What no module foresaw is one line all the same."""
    one_message(run("replay", "x" * 5000), "File name too long")
    (tmp_path / "edge.toml").write_text(FILE.format("y" * 5000), encoding="utf-8")
    one_message(run("check", "edge.toml"), "File name too long")


@pytest.mark.parametrize(
    ("record", "words"),
    [
        (".", ("is a folder, not a record",)),
        ("nowhere/100", ("nowhere/100", "there is no folder nowhere")),
        ("none", ("none", "no such record")),
        ("none.csv", ("none.csv", "No such file")),
        ("none.edf", ("none.edf", "no such file")),
        ("empty.csv", ("empty.csv", "the file is empty")),
        ("wide.csv", ("wide.csv", "line 1 is longer than 65536 characters")),
        ("a.csv", ("a.csv", "no time column", "--fs RATE")),
    ],
)
def test_replay_of_what_cannot_be_read(record: str, words: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    (tmp_path / "wide.csv").write_text('"' + "x" * 200_000 + '"\n', encoding="utf-8")
    (tmp_path / "a.csv").write_text("1\n2\n", encoding="utf-8")
    one_message(run("replay", record, "--models", "none"), *words)


def test_replay_writes_events_and_a_summary(process: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ecg(20), encoding="utf-8")
    said = process("replay", "a.csv", "--fs", "250", "--models", "none", "--events", "e.jsonl")
    assert (said.status, said.err) == (0, "")  # no bar where nobody looks
    lines = (tmp_path / "e.jsonl").read_text(encoding="utf-8").splitlines()
    messages = [json.loads(line) for line in lines]
    beats = sum(message["schema"] == "edge-agent/beat/1" for message in messages)
    assert 20 <= beats <= 26  # 25 whole peaks and the rise of one at the very end
    row = said.out.splitlines()[1].split()
    assert (row[0], row[1], row[3]) == ("a.csv", "0:20", str(beats))
    quiet = process("replay", "a.csv", "--fs", "250", "--models", "none", "--quiet")
    assert (quiet.status, quiet.out, quiet.err) == (0, "", "")


def test_models_of_the_command_line_win_over_those_of_the_configuration(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ecg(20), encoding="utf-8")
    (tmp_path / "edge.toml").write_text(SIMULATED.format('models = ["ecg-beat-aami"]'), encoding="utf-8")
    replay = ("replay", "a.csv", "--fs", "250", "--config", "edge.toml", "--quiet", "--events", "e.jsonl")

    def models() -> set[str]:
        lines = (tmp_path / "e.jsonl").read_text(encoding="utf-8").splitlines()
        return {message["model"] for message in map(json.loads, lines) if "model" in message}

    assert run(*replay).status == 0
    assert models() == {"ecg-beat-aami"}
    assert run(*replay, "--models", "none").status == 0
    assert models() == set()
    (tmp_path / "edge.toml").write_text(SIMULATED.format("models = []"), encoding="utf-8")
    assert run(*replay).status == 0
    assert models() == set()
    assert run(*replay, "--models", "ecg-beat-aami").status == 0
    assert models() == {"ecg-beat-aami"}


def test_the_limits_of_the_configuration_are_used(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(ecg(30), encoding="utf-8")  # 75 per minute
    text = SIMULATED.format("[stream.alarms]\nbradycardia_per_min = 100")
    (tmp_path / "edge.toml").write_text(text, encoding="utf-8")
    plain = run("replay", "a.csv", "--fs", "250", "--models", "none")
    assert plain.out.rstrip().endswith("none")
    told = run("replay", "a.csv", "--fs", "250", "--models", "none", "--config", "edge.toml")
    assert told.out.rstrip().endswith("bradycardia:1")


@pytest.mark.parametrize(
    ("option", "path", "words"),
    [
        ("--events", "/dev/full", ("/dev/full", "No space left")),
        ("--events", "no/e.jsonl", ("no/e.jsonl", "No such file")),
        ("--annotations", "a.csv", ("a.csv", "File exists")),
    ],
)
def test_outputs_that_cannot_be_written(
    option: str, path: str, words: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    if path.startswith("/dev") and not Path(path).exists():
        pytest.skip(f"{path} is not there")
    (tmp_path / "a.csv").write_text(ecg(10), encoding="utf-8")
    one_message(run("replay", "a.csv", "--fs", "250", "--models", "none", "--quiet", option, path), *words)


def test_a_reader_that_goes_away_is_no_fault(tmp_path: Path) -> None:
    """``edge-agent replay ... | head -1``."""
    (tmp_path / "a.csv").write_text(ecg(4), encoding="utf-8")
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as out:
        done = subprocess.run(
            [sys.executable, "-u", "-m", "edge_agent", "replay", "a.csv", "--fs", "250", "--models", "none"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=out,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == ""


def test_version(process: Run) -> None:
    said = process("--version")
    assert said.status == 0
    assert said.out.startswith("edge-agent ")


def test_errors_say_what_to_do_next() -> None:
    error = SourceError("board: gone", remedy="plug it in")
    assert str(error) == "board: gone\n  plug it in"
    assert str(SourceLost("board: silent")) == "board: silent"
    assert str(ConfigError(Path("a.toml"), ["x: is missing"])) == "a.toml: 1 problem\n  - x: is missing"
    for kind in (SourceError, SourceLost, OutputError):
        assert issubclass(kind, EdgeAgentError)
        assert issubclass(kind, OSError)


def test_importing_the_command_line_imports_nothing_heavy() -> None:
    """``edge-agent --help`` on a Pi Zero must not wait for numpy, TFLite or paho."""
    code = "import sys, edge_agent.cli; print(sorted({'numpy', 'paho', 'serial', 'ai_edge_litert', 'wfdb'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"


def test_a_recording_is_never_written_over(run: Run, tmp_path: Path) -> None:
    victim = tmp_path / "victim.csv"
    victim.write_text(ecg(3), encoding="utf-8")
    before = victim.read_bytes()
    said = run("replay", str(victim), "--fs", "250", "--events", str(victim))
    assert said.status == 1
    assert "is what is read" in said.err
    assert victim.read_bytes() == before


def test_check_looks_into_scripts_and_boards(run: Run, tmp_path: Path) -> None:
    (tmp_path / "script.toml").write_text('[[episodes]]\nrhythm = "tango"\n', encoding="utf-8")
    for source, word in (
        ('type = "simulated"\nscript = "script.toml"', "tango"),
        ('type = "board"\nboard = "cytn"\nport = "/dev/nope"\nwait_for_port = true', "meant 'cyton'"),
    ):
        config = tmp_path / "c.toml"
        config.write_text(f'[[stream]]\nname = "bed1"\n[stream.source]\n{source}\n', encoding="utf-8")
        said = run("check", str(config))
        assert said.status == 1
        assert word in said.err


def test_check_says_all_of_it_at_once_each_with_its_stream(run: Run, tmp_path: Path) -> None:
    """A limit that is wrong hides no model and no recording, and one model not the next."""
    (tmp_path / "empty.csv").write_text("", encoding="utf-8")
    (tmp_path / "slow.csv").write_text("II\n1\n2\n", encoding="utf-8")
    (tmp_path / "c.toml").write_text(
        '[recorder]\nfolder = "empty.csv/recordings"\n'
        '[[stream]]\nname = "a"\nmodels = ["nope", "none"]\n[stream.source]\ntype = "file"\npath = "empty.csv"\n'
        '[[stream]]\nname = "b"\nmodels = ["nope"]\n[stream.source]\ntype = "file"\npath = "slow.csv"\nfs = 10\n'
        '[stream.alarms]\nasystole_s = 1\noff = "asystole"\n'
        '[[stream]]\nname = "c"\nmodels = []\n[stream.source]\ntype = "file"\npath = "gone.csv"\n'
        '[[stream]]\nname = "d"\nmodels = "ecg"\n[stream.source]\ntype = "serial"\nport = 3\n',
        encoding="utf-8",
    )
    said = run("check", "c.toml")
    assert said.status == 1
    found = [line.removeprefix("  - ") for line in said.err.splitlines()[1:]]
    assert sorted(line.split(": ")[0] for line in found) == [
        "recorder.folder",
        "stream[0] (a).models",
        "stream[0] (a).models",
        "stream[0] (a).source",
        "stream[1] (b).alarms.asystole_s",
        "stream[1] (b).alarms.off",
        "stream[1] (b).models",
        "stream[1] (b).source",
        "stream[2] (c).source.path",
        "stream[3] (d).models",
        "stream[3] (d).source.columns",
        "stream[3] (d).source.fs",
        "stream[3] (d).source.port",
    ]
    assert any("the file is empty" in line for line in found)
    assert any("empty.csv is no folder" in line for line in found)
    assert said.err.splitlines()[0] == "edge-agent: c.toml: 13 problems"


def test_check_warns_of_a_folder_that_another_user_may_write_into(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "c.toml").write_text(
        '[recorder]\nfolder = "new/recordings"\n' + SIMULATED.format("models = []"), encoding="utf-8"
    )
    assert "recorder" not in run("check", "c.toml").err
    monkeypatch.setattr("edge_agent.commands.check.os.access", lambda *_: False)
    said = run("check", "c.toml")
    assert said.status == 0
    assert "edge-agent: warning: recorder.folder: " in said.err
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("table", "said_of"),
    [
        ('[outbox]\nfolder = "a.csv/state"', ["outbox.folder"]),
        ('[outbox]\nenabled = false\nfolder = "a.csv/state"', []),
        ('[review]\nenabled = true\nstate = "a.csv/state"', ["review.state"]),
        ('[review]\nstate = "a.csv/state"', []),
        ('[jsonl]\npath = "a.csv/state/e.jsonl"', ["jsonl.path"]),
    ],
)
def test_check_says_of_every_folder_that_the_agent_would_make(
    table: str, said_of: list[str], run: Run, tmp_path: Path
) -> None:
    (tmp_path / "a.csv").write_text("II\n0.1\n", encoding="utf-8")
    (tmp_path / "c.toml").write_text(f"{table}\n" + SIMULATED.format("models = []"), encoding="utf-8")
    found = [line.removeprefix("  - ") for line in run("check", "c.toml").err.splitlines() if "is no folder" in line]
    assert [line.split(": ")[0].removeprefix("edge-agent: c.toml: ") for line in found] == said_of


def test_a_model_that_only_one_stream_names_is_looked_for(run: Run, tmp_path: Path) -> None:
    config = tmp_path / "c.toml"
    stream = '[[stream]]\nname = "{}"\n{}\n[stream.source]\ntype = "simulated"\n'
    config.write_text(stream.format("a", "") + stream.format("b", 'models = ["nope"]'), encoding="utf-8")
    said = run("check", str(config))
    assert said.status == 1
    assert "no model named 'nope'" in said.err


BUSY_LOADING = """
import os, signal, sys
class Stopped:
    def find_spec(self, name, path=None, target=None):
        if name == sys.argv[1]:
            os.kill(os.getpid(), signal.SIGINT)
signal.signal(signal.SIGINT, signal.default_int_handler)  # a runner in the background has us ignore it
sys.meta_path.insert(0, Stopped())
from edge_agent import entry
entry.{command}()
"""


@pytest.mark.parametrize(
    ("command", "loading"),
    [("agent", "edge_agent.cli"), ("agent", "edge_agent.doctor"), ("bench", "edge_agent.bench.cli")],
)
def test_ctrl_c_while_it_loads_is_no_traceback(command: str, loading: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", BUSY_LOADING.format(command=command), loading],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")
