"""Every board through a real tty: its start commands answered, each sample once, and what happens when it goes."""

from __future__ import annotations

import os
import threading
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest

from edge_agent.config import BoardSource, SerialSource
from edge_agent.errors import SourceError, SourceLost
from edge_agent.journey import Block
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.base import Codec
from edge_agent.sources.byte_source import ByteSource
from edge_agent.sources.serial_port import open_board, open_lines

SECONDS = 20.0


class Board:
    """The other end of a pty: answers the start commands, then sends."""

    def __init__(self, codec: Codec | None = None) -> None:
        self.master, slave = os.openpty()
        tty.setraw(slave)
        self.path = os.ttyname(slave)
        self._ends = [self.master, slave]
        self._lock = threading.Lock()
        self._codec = codec
        self.heard = b""

    def answer(self) -> None:
        """As the real one: every command that waits for something gets it."""
        for command in self._codec.board.start if self._codec else ():
            if command.send:
                self.heard += os.read(self.master, len(command.send))
            if command.wait_for:
                os.write(self.master, b"board says " + command.wait_for)

    def send(self, data: bytes) -> None:
        at = 0
        while at < len(data):
            at += os.write(self.master, data[at : at + 700])

    def unplug(self) -> None:
        """Once, whoever comes first: the test's timer or its end."""
        with self._lock:
            ends, self._ends = self._ends, []
        for end in ends:
            os.close(end)


@contextmanager
def plugged(codec: Codec | None = None) -> Iterator[Board]:
    board = Board(codec)
    try:
        yield board
    finally:
        board.unplug()


def config(name: str, port: str, silent_s: float = 1.0) -> BoardSource:
    return BoardSource(type="board", board=name, port=port, silent_s=silent_s)


def wave(codec: Codec) -> np.ndarray:
    """Something that no two samples share, within what every board's fields hold."""
    board = codec.board
    t = np.arange(round(SECONDS * board.fs))
    rows = []
    for number, channel in enumerate(board.channels):
        counts = 12 + (t * (3 + number) + number) % 40  # even a BITalino's six bits hold it
        rows.append((counts - channel.zero) * channel.scale)
    return np.array(rows, np.float32)


@pytest.mark.parametrize("name", registry.NAMES)
def test_each_sample_comes_once(name: str) -> None:
    codec = registry.codec(name)
    values = wave(codec)
    data = codec.encoder().encode(values)
    want = codec.decoder()
    expected = np.concatenate([chunk.values for chunk in [*want.decode(data), *want.flush()]], axis=1)
    with plugged(codec) as board:

        def play() -> None:
            board.answer()
            board.send(data)

        source = open_board(config(name, board.path))  # opening throws away what the tty held
        player = threading.Thread(target=play, daemon=True)
        player.start()
        blocks: list[Block] = []
        with pytest.raises(SourceLost, match="no sample for 1 s"):  # silence ends it
            blocks += _collect(source, blocks)
        player.join(10)
    got = np.concatenate([block.values for block in blocks], axis=1)
    held = codec.board.held  # the last sample waits for a frame that never comes
    assert got.shape[1] == expected.shape[1] - held
    np.testing.assert_array_equal(got, expected[:, : got.shape[1]])
    assert [block.first for block in blocks] == [0, *(block.end for block in blocks[:-1])]
    assert board.heard == b"".join(command.send for command in codec.board.start)


def _collect(source: ByteSource, into: list[Block]) -> list[Block]:
    try:
        into.extend(source.blocks(threading.Event()))
    finally:
        source.close()
    return []


def test_lost_frames_are_counted_where_they_are_numbered() -> None:
    codec = registry.codec("cyton")
    values = wave(codec)[:, :1000]
    frame = codec.board.frame_bytes
    data = codec.encoder().encode(values)
    with plugged(codec) as board:

        def play() -> None:
            board.answer()
            board.send(data[: 400 * frame] + data[407 * frame :])

        threading.Thread(target=play, daemon=True).start()
        blocks: list[Block] = []
        with pytest.raises(SourceLost):
            _collect(open_board(config("cyton", board.path)), blocks)
    (place,) = [i for i, block in enumerate(blocks) if block.lost_before]
    # Seven never came, and the one before them was not confirmed by the frame that should have followed it.
    assert (blocks[place - 1].end, blocks[place].lost_before, blocks[place].first) == (399, 8, 407)
    assert blocks[-1].end == 1000 - codec.board.held


def test_a_board_that_does_not_answer_its_start_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.sources.byte_source.ANSWER_S", 0.3)
    with plugged() as board, pytest.raises(SourceLost, match="did not answer"):
        _collect(open_board(config("cyton", board.path)), [])


def test_an_unplugged_board_is_lost_not_silent() -> None:
    codec = registry.codec("healthypi5")
    data = codec.encoder().encode(wave(codec)[:, :200])
    with plugged(codec) as board:
        source = open_board(config("healthypi5", board.path, silent_s=20.0))
        board.send(data)
        threading.Timer(0.3, board.unplug).start()
        began = time.monotonic()
        blocks: list[Block] = []
        with pytest.raises(SourceLost):
            _collect(source, blocks)
        assert time.monotonic() - began < 5
        assert blocks[-1].end == 200


def test_filters_on_the_board_make_its_samples_older() -> None:
    with plugged() as board:
        source = open_board(config("healthypi4", board.path))
        source.close()
    assert source.info.delay_s == pytest.approx((80 + 4) / 125)  # and the screen looks four samples ahead


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"board": "cyten"}, "meant 'cyton'"),
        ({"board": "cyton", "gain": 5}, "gain 5: allowed are"),
        ({"board": "healthypi5", "inputs": [1]}, "inputs"),
        ({"board": "bitalino", "fs": 250.0}, "fs 250.0: allowed are"),
    ],
)
def test_a_wrong_board_or_option_is_one_clear_message(changes: dict[str, object], message: str) -> None:
    with pytest.raises(SourceError, match=message):
        open_board(BoardSource.model_validate({"type": "board", "port": "/dev/null", **changes}))


def test_lines_through_the_same_door() -> None:
    with plugged() as board:
        lines = b"hello\n" + b"".join(b"%d,!\n" % n if n % 50 > 40 else b"%d,80\n" % n for n in range(500))
        settings = SerialSource(
            type="serial", port=board.path, fs=250, columns=["II", "ABP"], scale=[0.001, 1.0], silent_s=0.5
        )
        blocks: list[Block] = []
        source = open_lines(settings)
        threading.Thread(target=board.send, args=(lines,), daemon=True).start()
        with pytest.raises(SourceLost):
            _collect(source, blocks)
    got = np.concatenate([block.values for block in blocks], axis=1)
    np.testing.assert_allclose(got[0], np.arange(500) / 1000, atol=1e-6)
    off = np.concatenate([np.full(block.values.shape[1], "ABP" in block.lead_off) for block in blocks])
    np.testing.assert_array_equal(off, np.arange(500) % 50 > 40)
