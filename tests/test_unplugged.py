"""Boards that are unplugged, fall silent, or may not be opened."""

from __future__ import annotations

import itertools
import os
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import config
from edge_agent.errors import SourceError
from edge_agent.sources.boards import registry
from edge_agent.sources.open import open_source
from tests.spine import wait_for
from tests.test_runner import Run, told


class Tty:
    """A board that answers its start commands and then sends, on a pty that can be pulled out and plugged in elsewhere."""

    def __init__(self, link: Path, name: str) -> None:
        self.link = link
        self.codec = registry.codec(name)
        self.starts = 0
        self._ends: list[int] = []
        self._going = threading.Event()
        self._thread: threading.Thread | None = None

    def plug_in(self, seconds: float = 60.0) -> None:
        master, slave = os.openpty()
        tty.setraw(slave)
        self.link.symlink_to(os.ttyname(slave))
        self._ends = [master, slave]
        self._going.set()
        self._thread = threading.Thread(target=self._play, args=(master, seconds), daemon=True)
        self._thread.start()

    def _play(self, master: int, seconds: float) -> None:
        board = self.codec.board
        try:
            for command in board.start:
                want = b""
                while len(want) < len(command.send):
                    want += os.read(master, 1)
                if want != command.send:
                    return
                if command.wait_for:
                    os.write(master, command.wait_for)
            self.starts += 1
            encoder = self.codec.encoder()
            values = np.ones((len(board.channels), max(1, round(board.fs / 10))), np.float32) * np.float32(
                12 * board.channels[0].scale
            )
            until = time.monotonic() + seconds
            while self._going.is_set() and time.monotonic() < until:
                os.write(master, encoder.encode(values))
                time.sleep(0.1)
        except OSError:
            pass

    def unplug(self, *, leave_the_name: bool = False) -> None:
        self._going.clear()
        if not leave_the_name:
            self.link.unlink()
        ends, self._ends = self._ends, []
        for end in ends:
            os.close(end)
        if self._thread is not None:
            self._thread.join(10)


@contextmanager
def board_on_a_tty(link: Path, name: str) -> Iterator[Tty]:
    board = Tty(link, name)
    board.plug_in()
    try:
        yield board
    finally:
        if board._ends:
            board.unplug(leave_the_name=True)


@contextmanager
def wired(link: Path, name: str, silent_s: float) -> Iterator[Run]:
    source = {"type": "board", "board": name, "port": str(link), "silent_s": silent_s}
    text = {
        "name": "bed",
        "alarms": {"signal_lost_s": 1.0},
        "source": source,
        "signals": {"A1": "ecg"} if name == "bitalino" else {},
    }
    with Run(open_source(config.StreamConfig.model_validate(text)), text) as run:
        yield run


@pytest.mark.parametrize("name", ["cyton", "bitalino"])
def test_unplugged_and_back_by_the_same_name_with_its_start_commands(name: str, tmp_path: Path) -> None:
    with board_on_a_tty(tmp_path / "by-id", name) as board, wired(board.link, name, 10.0) as run:
        wait_for(lambda: run.runner.counters.samples > 50, "samples")
        board.unplug()
        wait_for(lambda: run.said[-1][0] == "offline", "its absence")
        assert run.said[-1][1].startswith(f"unplugged: {board.link}")
        before = run.runner.counters.samples
        wait_for(lambda: told(run)[-1:] == [("signal_lost", "raised")], "the loss of its signal")
        board.plug_in()
        wait_for(lambda: run.said[-1] == ("online", "back"), "its return")
        wait_for(lambda: told(run).count(("signal_lost", "cleared")) == 1, "that the signal is back")
        wait_for(lambda: run.runner.counters.samples > before + 50, "samples again")
        assert board.starts == 2
        # That it could not be opened meanwhile may have been added to why it is offline.
        assert [state for state, _ in itertools.groupby(one[0] for one in run.said)] == ["online", "offline", "online"]
        assert not run.gaps()[-1].exact
        assert (run.runner.health().source.frames_good or 0) >= run.runner.counters.samples / len(
            board.codec.board.channels
        )


def test_a_board_that_falls_silent_is_silent_not_unplugged(tmp_path: Path) -> None:
    board = Tty(tmp_path / "by-id", "healthypi5")
    board.plug_in(seconds=1.0)
    try:
        with wired(board.link, "healthypi5", 1.0) as run:
            wait_for(lambda: run.said[-1:] and run.said[-1][0] == "offline", "silence")
            assert run.said[-1][1].startswith(f"silent: {board.link}: no sample for 1 s")
    finally:
        board.unplug()


def test_a_link_whose_other_end_closed_is_no_unplugging(tmp_path: Path) -> None:
    with board_on_a_tty(tmp_path / "by-id", "healthypi5") as board, wired(board.link, "healthypi5", 10.0) as run:
        wait_for(lambda: run.runner.counters.samples > 50, "samples")
        (tmp_path / "elsewhere").write_bytes(b"")
        target = board.link
        target.unlink()
        target.symlink_to(tmp_path / "elsewhere")  # the name is still there
        board.unplug(leave_the_name=True)
        wait_for(lambda: run.said[-1][0] == "offline", "its absence")
        assert run.said[-1][1].startswith((f"end of file: {target}", f"read error: {target}"))


def test_a_busy_port_and_one_that_is_not_allowed_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with board_on_a_tty(tmp_path / "by-id", "healthypi5") as board, wired(board.link, "healthypi5", 10.0):
        source = {"type": "board", "board": "healthypi5", "port": str(board.link)}
        stream = config.StreamConfig.model_validate({"name": "two", "source": source})
        with pytest.raises(SourceError, match="cannot be opened") as caught:
            open_source(stream)
        assert "another program" in str(caught.value)

    def forbidden(*_: Any, **__: Any) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", forbidden)
    with pytest.raises(SourceError, match="dialout"):
        open_source(stream)
