"""``check`` says all that is wrong in one round; and what one stream alone can have is not promised to two."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.commands.check import check
from edge_agent.config import load
from edge_agent.errors import ConfigError
from tests.test_config import SERIAL, SIMULATED, problems

Write = Callable[[str], Path]


def test_two_streams_that_want_one_thing_are_said_at_once(write: Write) -> None:
    port = SERIAL.replace('"bed2"', '"bed3"') + SERIAL
    stdin = '[[stream]]\nname = "{}"\n[stream.source]\ntype = "stdin"\nfs = 250\ncolumns = ["II"]\n'
    tcp = stdin.replace("stdin", "tcp") + "port = 4000\n"
    twice = "".join(one.format(name) for one in (stdin, tcp) for name in "ab")
    (found,) = problems(write(SIMULATED + SIMULATED + port + twice))
    assert found == (
        "stream: the name 'bed1' stands twice; the name 'a' stands twice; the name 'b' stands twice; two streams read the "
        "standard input; there is one; two streams listen on TCP port 4000; give each its own; two streams read the port "
        "/dev/null; one board is one stream"
    )


def test_one_port_by_two_names_is_one_port(write: Write, tmp_path: Path) -> None:
    (tmp_path / "by-id").symlink_to("/dev/null")
    other = SERIAL.replace('"bed2"', '"bed3"').replace("/dev/null", str(tmp_path / "by-id"))
    (found,) = problems(write(SERIAL + other))
    assert found == "stream: two streams read the port /dev/null; one board is one stream"
    socket_url = SERIAL.replace("/dev/null", "socket://127.0.0.1:4000")
    load(write(socket_url + socket_url.replace('"bed2"', '"bed3"')))


def test_check_says_in_one_round_what_hangs_on_nothing_that_is_wrong(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What a stream without a name, an unknown source or a wrong key elsewhere hid: one round for all of it, and none for stand-ins."""
    table = '[[stream]]\nname = "{}"\n{}\n[stream.source]\n{}\n'
    (tmp_path / "broken.csv").write_text("a,b\nx,y\n", encoding="utf-8")
    cyton = 'type = "board"\nboard = "cyton"\nport = "/dev/null"'
    (tmp_path / "c.toml").write_text(
        'health_s = "x"\n[recorder]\nmode = "events"\n[requests]\nenabled = "yes"\n'
        + table.format(
            "a", "models = []", 'type = "serial"\nport = "/dev/nothing"\nfs = 250\ncolumns = ["II"]\nsped = 3'
        )
        + table.format("b", "models = []", 'type = "file"\npath = "no/where"')
        + table.format("b", 'models = ["nope"]', cyton.replace("cyton", "cytonn"))
        + table.format("", "models = []", cyton).replace('name = ""', "")
        + table.format("d", "models = []", 'type = "file"\npath = "broken.csv"')
        + table.format(
            "e", "models = []", 'type = "simulated"\n[stream.alarms]\npause_s = 9\nasystole_s = 3\nlead_off_s = "x"'
        )
        + table.format("f", "models = []", 'type = "simulated"\n[stream.alarms]\npause_s = "x"\nasystole_s = 2')
        + table.format("g", "models = []", 'type = "seriel"')
        + table.format("h", "models = []", 'type = "file"\npath = "broken.csv"\nfs = "x"')
        + "[[stream]]\n",
        encoding="utf-8",
    )
    assert main(["check", str(tmp_path / "c.toml")]) == 1
    err = capfd.readouterr().err
    found = [line.removeprefix("  - ") for line in err.splitlines()[1:]]
    assert sorted(line.split(": ")[0] for line in found) == [
        "health_s",
        "recorder.folder",
        "requests.enabled",
        "stream",
        "stream",
        "stream[0] (a).source.port",
        "stream[0] (a).source.sped",
        "stream[1] (b).source.path",
        "stream[2] (b).models",
        "stream[2] (b).source",
        "stream[3].name",
        "stream[4] (d).source",
        "stream[5] (e).alarms",
        "stream[5] (e).alarms.lead_off_s",
        "stream[6] (f).alarms.pause_s",
        "stream[7] (g).source.type",
        "stream[8] (h).source.fs",
        "stream[9].name",
        "stream[9].source",
    ]
    for words in ("name 'b' stands twice", "read the port /dev/null", "meant 'cyton'", "no model named 'nope'"):
        assert sum(words in line for line in found) == 1, words
    assert "stand-in" not in err
    assert "nameless" not in err


def test_a_folder_that_takes_no_file_is_said(write: Write) -> None:
    text = '[jsonl]\npath = "/proc/x.jsonl"\n[recorder]\nfolder = "/proc/rec"\n[outbox]\nfolder = "/proc/box"\n'
    with pytest.raises(ConfigError) as refused:
        check(write(text + SIMULATED))
    assert sorted(one.partition(":")[0] for one in refused.value.problems) == [
        "jsonl.path",
        "outbox.folder",
        "recorder.folder",
    ]


def test_a_page_whose_packages_are_not_there_is_said(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith(("starlette", "edge_agent.review"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "starlette", None)
    monkeypatch.setitem(sys.modules, "starlette.requests", None)
    with pytest.raises(ConfigError) as refused:
        check(write(f"[review]\nenabled = true\n{SIMULATED}"))
    (said,) = refused.value.problems
    assert said.startswith("review: the page needs packages that are not installed")


def test_lines_that_would_go_into_a_file_of_something_else_are_said(write: Write, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("notes\n", encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        check(write(f'[jsonl]\npath = "mine.txt"\n{SIMULATED}'))
    (said,) = refused.value.problems
    assert said.startswith("jsonl: is there already and holds no messages")


@pytest.mark.parametrize(
    "table", ['[jsonl]\npath = "a\\u0000b"\n', '[recorder]\nfolder = "a\\u0000b"\n'], ids=["file", "folder"]
)
def test_a_name_that_no_file_can_have_is_said(write: Write, table: str) -> None:
    with pytest.raises(ConfigError) as refused:
        check(write(table + SIMULATED))
    assert all("NUL" in one for one in refused.value.problems)
