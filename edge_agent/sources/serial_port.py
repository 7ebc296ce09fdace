"""Serial lines, and any pyserial URL."""

from __future__ import annotations

import array
import contextlib
import errno
import time
from dataclasses import asdict
from pathlib import Path
from threading import Event

import serial

from edge_agent.errors import SourceError, SourceLost
from edge_agent.sources.base import Counts, Signal, StreamInfo
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.base import Board, Codec
from edge_agent.sources.byte_source import READ_S, ByteSource, Decoding, line_decoding, line_info
from edge_agent.sources.ports import holder, why_not
from edge_agent.sources.settings import BoardSource, SerialSource

AT_ONCE = 4096
"""Bytes of one read, and what a tty holds."""
VANISH_S = 0.5
"""How long udev may take to remove a device that was pulled out."""
TIOCGICOUNT = 0x545D
"""Linux: how often the driver's buffers ran over, among other things."""


class SerialLink:
    def __init__(self, url: str, baud: int) -> None:
        self.name = url
        self._port = open_port(url, baud)
        # A socket cannot say how much waits in it: asked for many bytes it gives what came until the timeout.
        self._in_lumps = url.startswith("socket://")
        self._full = 0
        self._overruns_before = self._driver_overruns() or 0

    def wait(self, stop: Event) -> None:
        pass

    def read(self) -> bytes:
        try:
            if self._in_lumps:
                return bytes(self._port.read(AT_ONCE))
            waiting = self._port.in_waiting
            if waiting >= AT_ONCE - 1:
                self._full += 1  # a full tty throws away what comes next
            return bytes(self._port.read(max(1, min(AT_ONCE, waiting))))
        except (OSError, TypeError, AttributeError) as error:  # the last two: pyserial, on a descriptor that is gone
            raise SourceLost(f"{self._why(error)}: {self.name}: {error}", remedy="plug it in again") from None

    def write(self, data: bytes) -> None:
        try:
            self._port.write(data)
        except (OSError, TypeError) as error:
            raise SourceLost(f"{self._why(error)}: {self.name}: {error}", remedy="plug it in again") from None

    def _why(self, error: Exception) -> str:
        """Told apart: the port has gone, its other end has closed, or reading failed."""
        if "://" not in self.name:
            deadline = time.monotonic() + VANISH_S
            while time.monotonic() < deadline:
                if not Path(self.name).exists():
                    return "unplugged"
                time.sleep(0.02)
        text = str(error)
        ended = "returned no data" in text or "disconnected" in text or "closed" in text
        return "end of file" if ended else "read error"

    def counters(self) -> Counts:
        driver = self._driver_overruns()
        return {"overruns": self._full + (max(0, driver - self._overruns_before) if driver is not None else 0)}

    def _driver_overruns(self) -> int | None:
        """None where the driver does not count (a pseudo-terminal, a URL)."""
        try:
            import fcntl

            counts = array.array("i", [0] * 20)
            fcntl.ioctl(self._port.fileno(), TIOCGICOUNT, counts)
        except (ImportError, OSError, AttributeError, TypeError, ValueError):
            return None
        return counts[7] + counts[10]  # in the chip, and in the driver

    def hang_up(self) -> None:
        pass

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._port.close()


def open_lines(config: SerialSource) -> ByteSource:
    """A board that prints a line of numbers per sample."""
    return ByteSource(
        line_info(config), SerialLink(config.port, config.baud), lambda: line_decoding(config), config.silent_s
    )


def board_codec(config: BoardSource) -> Codec:
    try:
        return registry.codec(config.board, **config.options())
    except ValueError as error:
        raise SourceError(str(error), remedy="see docs/boards.md") from None


def board_info(board: Board) -> StreamInfo:
    return StreamInfo(
        fs=board.fs,
        signals=tuple(Signal(channel.name, channel.kind, channel.unit) for channel in board.channels),
        delay_s=board.delay_s,
    )


def open_board(config: BoardSource) -> ByteSource:
    """A board with frames of its own."""
    codec = board_codec(config)
    board = codec.board
    return ByteSource(
        board_info(board),
        SerialLink(config.port, config.baud or board.baud),
        lambda: board_decoding(codec),
        config.silent_s,
        board.start,
        board.stop,
        board.sequence,
    )


def board_decoding(codec: Codec) -> Decoding:
    decoder = codec.decoder()
    counters = decoder.counters
    return Decoding(
        decoder.decode,
        lambda: asdict(counters),
        lambda: f"{counters.frames_good} good frames, {counters.bytes_skipped} bytes of none",
        decoder.flush,
    )


def open_port(url: str, baud: int) -> serial.Serial:
    try:
        port = serial.serial_for_url(url, baudrate=baud, timeout=READ_S, do_not_open=True)
        if hasattr(port, "exclusive") and "://" not in url:
            port.exclusive = True  # a second reader would take every other byte
        port.open()
    except (OSError, ValueError) as error:
        raise SourceError(f"{url}: cannot be opened ({error})", remedy=_remedy(url, error)) from None
    return port


def _remedy(url: str, error: Exception) -> str:
    if url.startswith(("socket://", "rfc2217://")):
        return "is the server up, and are its address and port right?"
    if "://" in url:
        return "is the other end there?"
    there = Path(url).exists()
    if getattr(error, "errno", None) in (errno.EACCES, errno.EPERM):
        known = why_not(url) if there else ""
        return known or "not allowed: add the user to the port's group (dialout on Debian), then log in again"
    if not there:
        return "it is not there: edge-agent ports lists those that are"
    if getattr(error, "errno", None) in (errno.EAGAIN, errno.EBUSY):
        return f"{holder(url) or 'another program'} has it open: stop that first"
    return "is it a serial port? edge-agent ports lists those that are"
