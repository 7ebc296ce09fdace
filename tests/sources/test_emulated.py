"""Emulated boards on real ttys: every sample once, faults on request, commands answered."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from edge_agent import cli
from edge_agent.config import BoardSource
from edge_agent.errors import OutputError, SourceLost
from edge_agent.journey import Block, Samples
from edge_agent.sources.boards import registry
from edge_agent.sources.emulated import Emulated, Wearer, options_for
from edge_agent.sources.emulated_port import EmulatedPort, Port
from edge_agent.sources.line_faults import Damage, Faults
from edge_agent.sources.serial_port import open_board
from edge_agent.sources.simulated.script import Episode, Script

SINUS = Script((Episode(name="sinus", duration_s=3600.0),))


@contextmanager
def running(port: EmulatedPort, seconds: float | None) -> Iterator[EmulatedPort]:
    stop = threading.Event()
    thread = threading.Thread(target=port.run, args=(seconds, stop), daemon=True)
    thread.start()
    try:
        yield port
    finally:
        stop.set()
        thread.join(10)
        port.close()


def emulated(name: str, **rest: object) -> EmulatedPort:
    rest.setdefault("script", SINUS)
    return EmulatedPort(Emulated(name, options_for(name)), **rest)  # type: ignore[arg-type]


def source_for(name: str, path: str, silent_s: float = 0.7) -> BoardSource:
    return BoardSource.model_validate(
        {"type": "board", "board": name, "port": path, "silent_s": silent_s, **options_for(name)}
    )


def truth(name: str, seconds: float, script: Script = SINUS) -> Samples:
    """What the board's own decoder makes of everything that its emulator sends."""
    board = Emulated(name, options_for(name))
    wearer = Wearer(board.board.fs, script, 0, forever=True)
    decoder = board.codec.decoder()
    parts = []
    for values, off in wearer.samples(board.board, round(seconds * board.board.fs)):
        parts += [chunk.values for chunk in decoder.decode(board.frames(values, off, None))]
    return np.concatenate([*parts, *[chunk.values for chunk in decoder.flush()]], axis=1)


def collect(name: str, path: str, silent_s: float = 0.7) -> list[Block]:
    source = open_board(source_for(name, path, silent_s))
    blocks: list[Block] = []
    with contextlib.closing(source), contextlib.suppress(SourceLost):
        for block in source.blocks(threading.Event()):
            blocks.append(block)  # noqa: PERF402 - what came before the loss counts
    return blocks


@pytest.mark.parametrize("name", registry.NAMES)
def test_ten_minutes_through_a_tty_come_once(name: str) -> None:
    """As fast as the tty takes them. At the board's own baud: ``python -m benchmarks.boards_live``."""
    seconds = 600.0 if name != "bitalino" else 60.0  # 1000 samples a second: as many samples as the others have
    with running(emulated(name, speed=None), seconds) as port:
        blocks = collect(name, port.path, silent_s=3.0)  # on a busy machine the board may not get its turn for a second
    want = truth(name, seconds)
    got = np.concatenate([block.values for block in blocks], axis=1)
    held = registry.codec(name).board.held  # wait for what never comes
    assert got.shape[1] == want.shape[1] - held > 50_000
    np.testing.assert_array_equal(got, want[:, : got.shape[1]])
    assert [block.first for block in blocks] == [0, *(block.end for block in blocks[:-1])]
    assert not np.isnan(got[:, 1:]).any()
    assert port.sent.overrun == port.sent.unheard == 0


def test_paced_to_the_clock_and_the_baud() -> None:
    """2 s take 2 s; and a line that is too slow for the board loses what it cannot carry."""
    port = emulated("max30003")
    began = time.monotonic()
    with running(port, 2.0):
        blocks = collect("max30003", port.path)
    assert 2.0 <= time.monotonic() - began < 2.0 + 0.7 + 3.0
    assert sum(block.values.shape[1] for block in blocks) == 256 - registry.codec("max30003").board.held
    slow = emulated("max30003", baud=9600)  # carries half of 2432 bytes a second
    with running(slow, 2.0), open(os.open(slow.path, os.O_RDONLY | os.O_NOCTTY), "rb", buffering=0) as end:  # noqa: PTH123
        os.set_blocking(end.fileno(), False)
        time.sleep(0.7)
        came = len(end.read() or b"")
    assert 200 < came < 960 * 0.7


def test_drift_is_in_the_number_of_samples() -> None:
    port = emulated("healthypi4", speed=20.0, faults=Faults(drift_ppm=100_000))
    with running(port, 20.0):
        collect("healthypi4", port.path)
    made = port.sent.samples + port.sent.unheard
    assert made == 2500  # ends by its own count
    assert port.sent.seconds < 20.0 + 2.0


def test_bytes_are_damaged_as_asked_and_repeatably() -> None:
    data = bytes(range(256)) * 400
    faults = Faults(drop=0.01, flip=0.02, duplicate=0.03, seed=5)
    whole, cut = Damage(faults), Damage(faults)
    spoilt = whole.spoil(data)
    assert b"".join(cut.spoil(data[at : at + 77]) for at in range(0, len(data), 77)) == spoilt
    assert (whole.dropped, whole.flipped, whole.duplicated) == (cut.dropped, cut.flipped, cut.duplicated)
    for count, share in ((whole.dropped, 0.01), (whole.flipped, 0.02), (whole.duplicated, 0.03)):
        assert count == pytest.approx(share * len(data), rel=0.15)
    assert len(spoilt) == len(data) - whole.dropped + whole.duplicated
    assert Damage(Faults()).spoil(data) is data
    assert {len(piece) for piece in Damage(Faults(split=True)).pieces(data)} == {1, 2, 3, 4, 5}


@pytest.mark.parametrize(
    "wrong", [{"drop": 1.5}, {"flip": 0.6, "drop": 0.6}, {"pause_every_s": 2.0, "pause_for_s": 3.0}, {"drift_ppm": 1e9}]
)
def test_faults_that_cannot_be_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError):
        Faults(**wrong)  # type: ignore[arg-type]


def test_split_bytes_and_pauses_lose_nothing() -> None:
    faults = Faults(split=True, pause_every_s=1.0, pause_for_s=0.3)
    port = emulated("max30003", faults=faults)
    with running(port, 3.0):
        blocks = collect("max30003", port.path, silent_s=1.5)
    got = np.concatenate([block.values for block in blocks], axis=1)
    want = truth("max30003", 3.0)
    np.testing.assert_array_equal(got, want[:, : got.shape[1]])
    assert got.shape[1] == 3 * 128 - registry.codec("max30003").board.held
    assert port.sent.overrun == 0


def test_somebody_else_s_link_is_left_alone(tmp_path: Path) -> None:
    link = tmp_path / "mine"
    link.symlink_to("/etc/hostname")
    with pytest.raises(OutputError, match="somebody's link"):
        Port(link)
    assert str(link.readlink()) == "/etc/hostname"
    link.unlink()
    link.symlink_to("/dev/pts/99999")  # of a run before, that was killed
    port = Port(link)
    assert str(link.readlink()) == port.path
    port.unplug()


def test_unplugged_and_back_behind_the_same_link(tmp_path: Path) -> None:
    link = tmp_path / "cyton"
    port = emulated("cyton", link=link, faults=Faults(unplug_at_s=1.0, back_after_s=0.6))
    with running(port, None):
        assert port.path == str(link)
        first = link.readlink()
        before = collect("cyton", port.path)
        assert not link.exists()
        deadline = time.monotonic() + 5
        while not link.exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert not port.board.streaming  # as new: it waits for its commands
        source = open_board(source_for("cyton", port.path))
        after = []
        for block in source.blocks(threading.Event()):
            after.append(block)
            if len(after) > 5:
                break
        source.close()
    assert sum(block.values.shape[1] for block in before) > 100
    assert len(after) > 5
    assert first.name.isdecimal()
    assert not link.is_symlink()


def test_a_link_replaces_no_file(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("data")
    with pytest.raises(OutputError, match="is there already"):
        Port(tmp_path / "precious")
    assert (tmp_path / "precious").read_text() == "data"


def test_cyton_answers_as_it_should() -> None:
    board = Emulated("cyton", {})
    assert not board.streaming
    assert board.hear(b"v").endswith(b"$$$")
    assert board.hear(b"x1050") == b""
    assert board.hear(b"110X").endswith(b"$$$")
    assert board.options["gain"] == 12
    assert board.board.channels[0].scale == registry.codec("cyton", gain=12).board.channels[0].scale
    assert b"16$$$" not in board.hear(b"C")
    assert board.hear(b"b") == b""
    assert board.streaming
    assert board.hear(b"s") == b""
    assert not board.streaming
    assert Emulated("cyton-daisy", {}).hear(b"C") == b"16$$$"


def test_bitalino_obeys_rate_inputs_and_stop() -> None:
    board = Emulated("bitalino", {"ecg": ("A2",)})
    assert board.hear(b"\x07").startswith(b"BITalino")
    board.hear(bytes([2 << 6 | 3]))
    board.hear(bytes([1 | 1 << 3 | 1 << 4]))  # inputs 2 and 3
    assert board.streaming
    assert board.board.fs == 100
    assert [channel.name for channel in board.board.channels] == ["A2", "A3"]
    board.hear(bytes([0 << 6 | 3]))  # no rates while it streams
    assert board.board.fs == 100
    board.hear(b"\0")
    assert not board.streaming


def test_a_lead_that_comes_off_is_said_where_the_board_can() -> None:
    off = Script((Episode(name="off", duration_s=60.0, lead_off=frozenset({"II"})),))
    for name, says in (("healthypi4", True), ("max30003", False)):
        board = Emulated(name, {})
        ((values, leads),) = Wearer(board.board.fs, off, 0, forever=True).samples(board.board, 100)
        chunks = board.codec.frames().decode(board.frames(values, leads, None))
        assert bool(chunks[0].lead_off) == says


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["simulate", "--list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in registry.NAMES)
    for arguments, said in (
        ([], "which board?"),
        (["--board", "cytom"], "meant 'cyton'"),
        (["--board", "cyton", "--gain", "5"], "allowed are"),
        (["--board", "cyton", "--drop", "2"], "a share from 0 to 1"),
        (["--board", "cyton", "--unplug-at", "2"], "--link"),
        (["--board", "cyton", "--speed", "fast"], "at most 1000"),
        (["--board", "cyton", "--script", str(tmp_path / "none.toml")], "none.toml"),
    ):
        assert cli.main(["simulate", *arguments]) == 1
        assert said in capsys.readouterr().err


def test_ctrl_c_ends_it_cleanly(tmp_path: Path) -> None:
    link = tmp_path / "board"
    command = [sys.executable, "-m", "edge_agent", "simulate", "--board", "ads1293", "--pty", "--link", str(link)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 20
        while not link.is_symlink():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert collect_some("ads1293", str(link)) > 20
        process.send_signal(signal.SIGINT)
        said, complaints = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "[stream.source]" in said
    assert "samples sent" in said.splitlines()[-1]
    assert complaints == ""
    assert not link.is_symlink()


def collect_some(name: str, path: str) -> int:
    with contextlib.closing(open_board(source_for(name, path, 5.0))) as source:
        count = 0
        for block in source.blocks(threading.Event()):
            count += block.values.shape[1]
            if count > 20:
                break
    return count
