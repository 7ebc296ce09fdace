"""Listening to a line that nobody knows yet: at each baud in turn, and, if asked, with the start commands of boards that wait."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import serial

from edge_agent.errors import SourceError
from edge_agent.sources import ports, recognise
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.base import Command
from edge_agent.sources.recognise import Likely
from edge_agent.sources.stanza import board_stanza, lines_stanza

TEXT_BAUD = 9600
"""Sketches that print a line per sample."""
ANSWER_S = 2.0
BURST_S = 0.5
BACKLOG = 1.5
"""So many times what comes in as long later on."""


@dataclass(frozen=True, slots=True)
class Heard:
    """What came at one baud."""

    baud: int
    data: bytes
    seconds: float
    """From the first to the last read."""
    likely: tuple[Likely, ...]


def sniff(port: str, seconds: float, baud: int | None = None, *, start: bool = False) -> list[Heard]:
    """What was heard at each baud; the last one is where something was recognised, if anything was."""
    heard: list[Heard] = []
    line = open_line(port, baud or registry.boards()[0].baud)
    try:
        bauds = [baud] if baud else _bauds(port)
        for one in bauds:
            line.baudrate = one
            line.reset_input_buffer()
            heard.append(_listen(line, one, seconds))
            if heard[-1].likely:
                return heard
        if start and not any(one.data for one in heard):
            heard += _started(line, seconds, baud)
    except OSError as error:
        raise SourceError(f"{port}: {error}", remedy="was it unplugged, or is another program using it?") from None
    finally:
        line.close()
    return heard


def open_line(port: str, baud: int) -> serial.Serial:
    """Open, or say in one sentence why not."""
    try:
        line = serial.serial_for_url(port, baudrate=baud, timeout=0.05, do_not_open=True)
        if "://" not in port:
            line.exclusive = True
        line.open()
    except (OSError, ValueError) as error:
        number = error.errno if isinstance(error, OSError) else None
        if "://" not in port and not Path(port).exists():
            raise SourceError(f"{port}: no such port", remedy="edge-agent ports lists those that are there") from None
        if number in (errno.EACCES, errno.EPERM):
            raise SourceError(f"{port}: you may not open it", remedy=ports.why_not(port)) from None
        if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error):
            who = ports.holder(port) or "another program"
            raise SourceError(
                f"{port}: is in use by {who}", remedy="end that first: two readers get half each"
            ) from None
        raise SourceError(f"{port}: cannot be opened ({error})", remedy="is it a serial port?") from None
    return line


def _without_baud(port: str) -> bool:
    """A pty and a socket: what is set there changes nothing."""
    return "://" in port or os.path.realpath(port).startswith("/dev/pts/")


def _bauds(port: str) -> list[int]:
    if _without_baud(port):
        return [registry.boards()[0].baud]
    known = dict.fromkeys(baud for board in registry.boards() for baud in board.bauds)
    return [*known, TEXT_BAUD]


def _listen(line: serial.Serial, baud: int, seconds: float) -> Heard:
    data = b""
    arrivals: list[tuple[float, int]] = []
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        more = line.read(max(1, min(4096, line.in_waiting)))
        if more:
            arrivals.append((time.monotonic(), len(more)))
            data += more
    heard_s = arrivals[-1][0] - arrivals[0][0] if arrivals else 0.0
    return Heard(baud, data, heard_s, tuple(recognise.recognise(data, settled_s(arrivals))))


def settled_s(arrivals: Sequence[tuple[float, int]]) -> float:
    """How long so many bytes take: (time, bytes) of each read. A backlog that was waiting comes at once, and says nothing of the rate."""
    if not arrivals:
        return 0.0
    first, last = arrivals[0][0], arrivals[-1][0]
    early = [one for one in arrivals if one[0] <= first + BURST_S]
    at_once, rest = sum(count for _, count in early), sum(count for _, count in arrivals[len(early) :])
    settled = last - early[-1][0]
    if settled < BURST_S or not rest or at_once < BACKLOG * BURST_S * rest / settled:
        return last - first
    return (at_once + rest) * settled / rest


def _started(line: serial.Serial, seconds: float, baud: int | None) -> list[Heard]:
    """Wake the boards that wait for it, one after the other; each is stopped again."""
    heard: list[Heard] = []
    # a Cyton without a Daisy says so; one with it would leave it out if it were asked as one without
    for board in sorted(registry.boards(), key=lambda board: -len(board.channels)):
        if not board.start:
            continue
        line.baudrate = baud or board.baud
        line.reset_input_buffer()
        if _send(line, board.start):
            heard.append(_listen(line, line.baudrate, seconds))
            _send(line, board.stop)
            line.flush()  # to close it would throw away what is not sent yet
            if heard[-1].likely:
                return heard
    return heard


def _send(line: serial.Serial, commands: tuple[Command, ...]) -> bool:
    """Whether the board answered what it should."""
    for command in commands:
        time.sleep(command.pause_ms / 1000)
        line.write(command.send)
        answer, until = b"", time.monotonic() + ANSWER_S
        while command.wait_for not in answer:
            if time.monotonic() > until:
                return False
            answer += line.read(max(1, line.in_waiting))
    return True


def stanza(port: str, heard: Heard) -> str:
    """The configuration for the likeliest."""
    best = heard.likely[0]
    stable = ports.by_id_links().get(os.path.realpath(port), port) if "://" not in port else port
    if best.columns:
        return lines_stanza(stable, heard.baud, best.fs, best.columns, best.separator)
    usual = registry.codec(best.name).board.baud
    own = None if heard.baud == usual or _without_baud(port) else heard.baud
    return board_stanza(best.name, stable, best.options, own)


def nothing(port: str, heard: list[Heard], *, start: bool) -> SourceError:
    """Why nothing was recognised, and what to try."""
    bauds = ", ".join(str(one) for one in dict.fromkeys(one.baud for one in heard))
    most = max(heard, key=lambda one: len(one.data))
    if not most.data:
        waiting = ", ".join(board.name for board in registry.boards() if board.start)
        again = "None of the boards that wait for a command answered." if start else ""
        return SourceError(
            f"{port}: nothing was heard at {bauds} baud",
            remedy="is it switched on, and is this its port? "
            + (again or f"boards that wait for a start command ({waiting}) speak with --start"),
        )
    return SourceError(
        f"{port}: {len(most.data)} bytes were heard at {most.baud} baud, and no board's frames or lines of numbers in them "
        f"(tried: {bauds})",
        remedy="a wrong baud looks like this: try --baud with the one in the board's manual",
    )
