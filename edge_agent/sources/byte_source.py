"""Bytes that come by themselves to blocks: from any link (serial line, pipe, socket), through the decoder of a board or of text."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

import numpy as np

from edge_agent.errors import SourceBroken, SourceError, SourceLost
from edge_agent.journey import Block, Samples
from edge_agent.sources.base import Counts, Signal, StreamInfo, guess_kind
from edge_agent.sources.boards.base import Chunk, Command
from edge_agent.sources.holes import Holes
from edge_agent.sources.lines import Decoder, Format
from edge_agent.sources.settings import LineSettings

READ_S = 0.02
"""How long one read waits for bytes: a block's longest wait before it is decoded."""
MOST_FILLED_S = 0.5
"""Damaged lines in a row that are filled in."""
ANSWER_S = 3.0
"""How long a board may take to answer a command."""


class Link(Protocol):
    """Where bytes come from."""

    name: str

    def wait(self, stop: Event) -> None:
        """Until somebody is at the other end, or ``stop``."""

    def read(self) -> bytes:
        """What came within READ_S, perhaps nothing; `SourceLost` when the link broke, EOFError at its orderly end."""

    def write(self, data: bytes) -> None: ...

    def counters(self) -> Counts: ...

    def hang_up(self) -> None:
        """Have done with whoever is at the other end; a link that listens goes on listening."""

    def close(self) -> None: ...


@dataclass(frozen=True)
class Decoding:
    """Bytes of one connection to samples. A new connection takes a new one."""

    decode: Callable[[bytes], list[Chunk]]
    counters: Callable[[], Counts]
    heard_instead: Callable[[], str]
    """What came instead of samples, in words, for whoever asks why there are none."""
    flush: Callable[[], list[Chunk]] = list
    """The samples that were held back, when no more bytes will come."""


@dataclass
class ByteSource:
    """An open link and what its bytes mean."""

    info: StreamInfo
    port: Link
    decoding: Callable[[], Decoding]
    silent_s: float
    start: Sequence[Command] = ()
    stop: Sequence[Command] = ()
    sequence: int | None = None
    """Frames are numbered modulo this."""
    resumes: bool = False
    waits_for: str = ""
    speed: float = 1.0
    _counted: Counts = field(default_factory=dict)
    _now: Decoding | None = None
    _estimated: int = 0
    _ever: bool = False
    """A sample has come."""
    _closed: bool = False

    def blocks(self, stop: Event) -> Iterator[Block]:
        self.port.wait(stop)
        if stop.is_set():
            return
        self._have_done()
        self._now = decoding = self.decoding()
        try:
            self._command(self.start)
            yield from self._blocks(decoding, stop)
        finally:
            self.port.hang_up()

    def _blocks(self, decoding: Decoding, stop: Event) -> Iterator[Block]:
        holes = Holes(self.info.fs, self.sequence)
        heard = time.monotonic()
        first = 0
        over: Exception | None = None
        while not stop.is_set() and over is None:
            data = b""
            try:
                data = self.port.read()
            except (SourceLost, EOFError) as error:
                over = error
            now_ns = time.monotonic_ns()
            came = decoding.decode(data) if data else []
            chunks = holes.look(came, now_ns)
            if over is not None:
                chunks += holes.flush() + decoding.flush()
            if came or chunks:  # what is held back after a hole is not silence
                self._ever = True
                heard = time.monotonic()
            elif time.monotonic() - heard > self.silent_s and over is None:
                raise SourceLost(
                    f"silent: {self.port.name}: no sample for {self.silent_s:g} s ({decoding.heard_instead()})",
                    remedy="is the board running, and is this its baud, kind and format?",
                )
            self._estimated = holes.estimated
            for chunk in chunks:
                first += chunk.lost_before
                block = Block(
                    first=first,
                    fs=self.info.fs,
                    values=chunk.values,
                    lost_before=chunk.lost_before,
                    lost_exact=chunk.lost_before > 0 and chunk.lost_exact,
                    lead_off=chunk.lead_off,
                    arrived_ns=now_ns,
                )
                first = block.end
                yield block
        if isinstance(over, SourceLost):
            raise over
        if over is not None and not self._ever:
            raise SourceBroken(
                f"{self.port.name} ended before the first sample ({decoding.heard_instead()})",
                remedy="is anything written there, and is this its format?",
            )

    def _command(self, commands: Sequence[Command]) -> None:
        for command in commands:
            time.sleep(command.pause_ms / 1000)
            self.port.write(command.send)
            answer, deadline = b"", time.monotonic() + ANSWER_S
            while command.wait_for not in answer:
                if time.monotonic() > deadline:
                    raise SourceLost(
                        f"silent: {self.port.name}: the board did not answer {command.send!r} with {command.wait_for!r}",
                        remedy="is it switched on, and is it that board?",
                    )
                answer += self.port.read()

    def _have_done(self) -> None:
        """A connection is over: what it counted is kept."""
        if self._now is not None:
            self._counted = self._sum()
            self._now, self._estimated = None, 0

    def _sum(self) -> Counts:
        counted, now = self._counted, self._now
        if now is None:
            return counted
        mine = now.counters()
        mine["samples_lost_estimated"] = mine.get("samples_lost_estimated", 0) + self._estimated
        return {name: counted.get(name, 0) + mine.get(name, 0) for name in counted.keys() | mine.keys()}

    def counters(self) -> Counts:
        return self._sum() | self.port.counters()

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(SourceError, EOFError):  # it may be gone already
            self._command(self.stop)
        self.port.close()


def line_decoding(settings: LineSettings) -> Decoding:
    """Lines of text, as the source's settings describe them."""
    scale = tuple(settings.scale) if isinstance(settings.scale, list) else (settings.scale,)
    decoder = Decoder(
        Format(
            tuple(settings.columns), settings.separator, scale, frozenset(settings.lead_off), tuple(settings.comment)
        )
    )
    counters = decoder.counters
    most = max(1, round(MOST_FILLED_S * settings.fs))

    def decode(data: bytes) -> list[Chunk]:
        values, lead_off = decoder.decode(data)
        if any(decoder.damaged):
            values, lead_off = _with_damaged(values, lead_off, decoder.damaged, most)
        chunks, at = [], 0
        for off, group in itertools.groupby(lead_off):
            count = len(list(group))
            chunks.append(Chunk(values[:, at : at + count], lead_off=off))
            at += count
        return chunks

    def counted() -> Counts:
        return {
            "lines_good": counters.lines,
            "lines_bad": counters.bad_lines,
            "bytes_skipped": counters.skipped_bytes,
            "samples_lost_estimated": counters.damaged,
        }

    def heard_instead() -> str:
        if counters.bad_lines:
            return f"{counters.bad_lines} lines were not {len(settings.columns)} numbers"
        return f"{counters.skipped_bytes} bytes without a line's end" if counters.skipped_bytes else "nothing came"

    return Decoding(decode, counted, heard_instead)


def _with_damaged(
    values: Samples, lead_off: list[frozenset[str]], damaged: list[int], most: int
) -> tuple[Samples, list[frozenset[str]]]:
    """A damaged line was a sample, and its time has passed: it stands as one without a value.

    A gap would be as true, but dear: a detector that begins anew at each of them loses beats (with one line in a hundred
    damaged, a tenth of its beats on MIT-BIH record 100 were false; without a value for those samples, none).
    """
    before = np.minimum(damaged, most)
    places = np.repeat(np.arange(len(damaged)), before)
    filled = np.insert(values, places, np.nan, axis=1)
    off = [one for one, count in zip(lead_off, before.tolist(), strict=True) for _ in range(count + 1)]
    return filled, off


def line_info(settings: LineSettings) -> StreamInfo:
    names = [name for name in settings.columns if name != "-"]
    return StreamInfo(fs=settings.fs, signals=tuple(Signal(name, guess_kind(name)) for name in names))
