"""Serial lines (and any pyserial URL): bytes from a port to blocks, through the decoder of a board or of lines of text."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event

import serial

from edge_agent.config import BoardSource, SerialSource
from edge_agent.errors import SourceError, SourceLost
from edge_agent.journey import Block
from edge_agent.sources.base import Signal, StreamInfo, guess_kind
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.base import Chunk, Codec, Command
from edge_agent.sources.lines import Decoder, Format

READ_S = 0.02
"""How long one read waits for bytes: a block's longest wait in the driver."""
ANSWER_S = 3.0
"""How long a board may take to answer a command."""


@dataclass
class SerialSamples:
    """An open port and what its bytes mean."""

    info: StreamInfo
    port: serial.Serial
    decode: Callable[[bytes], list[Chunk]]
    silent_s: float
    heard_instead: Callable[[], str]
    """What came instead of samples, in words, for whoever asks why there are none."""
    start: Sequence[Command] = ()
    stop: Sequence[Command] = ()
    speed: float = 1.0
    _first: int = field(default=0)

    def blocks(self, stop: Event) -> Iterator[Block]:
        self._command(self.start)
        heard = time.monotonic()
        while not stop.is_set():
            data = self._read()
            now_ns = time.monotonic_ns()
            chunks = self.decode(data) if data else []
            if chunks:
                heard = time.monotonic()
            elif time.monotonic() - heard > self.silent_s:
                raise SourceLost(
                    f"{self.port.port}: no sample for {self.silent_s:g} s ({self.heard_instead()})",
                    remedy="is the board running, and is this its baud, kind and format?",
                )
            for chunk in chunks:
                self._first += chunk.lost_before
                block = Block(
                    first=self._first,
                    fs=self.info.fs,
                    values=chunk.values,
                    lost_before=chunk.lost_before,
                    lead_off=chunk.lead_off,
                    arrived_ns=now_ns,
                )
                self._first = block.end
                yield block

    def _read(self) -> bytes:
        try:
            return bytes(self.port.read(max(1, min(4096, self.port.in_waiting))))
        except (OSError, TypeError) as error:  # TypeError: pyserial on a descriptor that close() took away
            raise SourceLost(f"{self.port.port}: {error}") from None

    def _command(self, commands: Sequence[Command]) -> None:
        for command in commands:
            time.sleep(command.pause_ms / 1000)
            try:
                self.port.write(command.send)
            except OSError as error:
                raise SourceLost(f"{self.port.port}: {error}") from None
            answer, deadline = b"", time.monotonic() + ANSWER_S
            while command.wait_for not in answer:
                if time.monotonic() > deadline:
                    raise SourceLost(
                        f"{self.port.port}: the board did not answer {command.send!r} with {command.wait_for!r}",
                        remedy="is it switched on, and is it that board?",
                    )
                answer += self._read()

    def close(self) -> None:
        with contextlib.suppress(SourceError):  # it may be gone already
            self._command(self.stop)
        self.port.close()


def open_lines(config: SerialSource) -> SerialSamples:
    """A board that prints a line of numbers per sample."""
    names = [name for name in config.columns if name != "-"]
    scale = tuple(config.scale) if isinstance(config.scale, list) else (config.scale,)
    decoder = Decoder(Format(tuple(config.columns), config.separator, scale, frozenset(config.lead_off)))

    def decode(data: bytes) -> list[Chunk]:
        values, lead_off = decoder.decode(data)
        chunks, at = [], 0
        for off, group in itertools.groupby(lead_off):
            count = len(list(group))
            chunks.append(Chunk(values[:, at : at + count], lead_off=off))
            at += count
        return chunks

    return SerialSamples(
        StreamInfo(fs=config.fs, signals=tuple(Signal(name, guess_kind(name)) for name in names)),
        open_port(config.port, config.baud),
        decode,
        config.silent_s,
        lambda: f"{decoder.counters.bad_lines} lines were not {len(config.columns)} numbers",
    )


def board_codec(config: BoardSource) -> Codec:
    try:
        return registry.codec(config.board, **config.options())
    except ValueError as error:
        raise SourceError(str(error)) from None


def open_board(config: BoardSource) -> SerialSamples:
    """A board with frames of its own."""
    codec = board_codec(config)
    board, decoder = codec.board, codec.decoder()
    info = StreamInfo(
        fs=board.fs,
        signals=tuple(Signal(channel.name, channel.kind, channel.unit) for channel in board.channels),
        delay_s=board.filter_delay / board.fs,
    )
    return SerialSamples(
        info,
        open_port(config.port, config.baud or board.baud),
        decoder.decode,
        config.silent_s,
        lambda: f"{decoder.counters.frames_good} good frames, {decoder.counters.bytes_skipped} bytes of none",
        board.start,
        board.stop,
    )


def open_port(url: str, baud: int) -> serial.Serial:
    try:
        port = serial.serial_for_url(url, baudrate=baud, timeout=READ_S, do_not_open=True)
        if hasattr(port, "exclusive") and "://" not in url:
            port.exclusive = True  # a second reader would take every other byte
        port.open()
    except (OSError, ValueError) as error:
        raise SourceError(f"{url}: cannot be opened ({error})", remedy=_remedy(error)) from None
    return port


def _remedy(error: Exception) -> str:
    number = getattr(error, "errno", None)
    if number == 13:
        return "not allowed: add the user to the port's group (dialout on Debian), then log in again"
    if number == 2:
        return "no such port: look under /dev/serial/by-id"
    return "is another program using it, and is it a serial port?"
