"""``edge-agent simulate``: a board for whoever has none."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edge_agent.commands import described
from edge_agent.errors import SourceError
from edge_agent.process import signals
from edge_agent.sources.stanza import board_stanza


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = described(
        commands,
        "simulate",
        run,
        "Be a board on a pseudo-terminal: the simulated patient, as that board sends it.",
        "edge-agent simulate --board cyton --pty --link /tmp/cyton",
    )
    parser.add_argument("--list", action="store_true", help="the boards that can be simulated")
    parser.add_argument("--board", metavar="NAME")
    parser.add_argument(
        "--pty", action="store_true", help="on a pseudo-terminal, which is the default and the only way"
    )
    parser.add_argument("--link", type=Path, metavar="PATH", help="a link to the pty, for a name that stays the same")
    parser.add_argument("--script", default="demo", metavar="demo|sinus|FILE", help="default: %(default)s")
    parser.add_argument("--seconds", type=float, metavar="N", help="end after this much signal (default: at Ctrl-C)")
    parser.add_argument("--speed", default="1", metavar="X|max", help="seconds of signal per second (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the patient and of the faults (default: 0)")
    parser.add_argument("--baud", type=int, help="default: the board's usual one")
    board = parser.add_argument_group("the board's own options, as in its configuration")
    board.add_argument("--fs", type=float)
    board.add_argument("--gain", type=int)
    board.add_argument("--inputs", type=_numbers, metavar="1,2,...")
    board.add_argument("--ecg", type=_words, metavar="A2,...")
    board.add_argument("--ecg-mv", type=float, metavar="MV")
    faults = parser.add_argument_group("faults")
    faults.add_argument("--drop", type=float, default=0.0, metavar="P", help="share of bytes lost, e.g. 0.001")
    faults.add_argument("--flip", type=float, default=0.0, metavar="P", help="share of bytes with a bit inverted")
    faults.add_argument("--duplicate", type=float, default=0.0, metavar="P", help="share of bytes that come twice")
    faults.add_argument("--split", action="store_true", help="bytes come in small pieces")
    faults.add_argument("--pause-every", type=float, default=0.0, metavar="S", help="the line stands still every S s")
    faults.add_argument("--pause-for", type=float, default=1.0, metavar="S", help="for so long (default: %(default)g)")
    faults.add_argument("--drift", type=float, default=0.0, metavar="PPM", help="the board's crystal is too fast")
    faults.add_argument("--unplug-at", type=float, default=0.0, metavar="S", help="the port goes away; needs --link")
    faults.add_argument("--back-after", type=float, default=0.0, metavar="S", help="and is back after S s (0: never)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.list:
        return _list()
    port, options = _port(arguments)
    stop = threading.Event()
    with _stopping(stop):
        try:
            _greet(arguments.board, port.path, options)
            port.run(arguments.seconds, stop)
        finally:
            port.close()
    sent, damage = port.sent, port.damage
    said = f"{sent.samples} samples sent"
    for count, what in (
        (sent.unheard, "while nobody listened"),
        (sent.overrun, "lost since the reader was too slow"),
        (damage.dropped, "bytes dropped"),
        (damage.flipped, "bytes flipped"),
        (damage.duplicated, "bytes doubled"),
    ):
        if count:
            said += f", {count} {what}"
    print(said, flush=True)
    return 0


def _list() -> int:
    from edge_agent.sources.boards import registry

    for board in registry.boards():
        waits = "waits for its start command" if board.start else "streams by itself"
        print(f"{board.name:<19} {len(board.channels):2} channels at {board.fs:4g} Hz, {board.baud} baud, {waits}")
    return 0


def _port(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    from edge_agent.config import SimulatedSource
    from edge_agent.sources.emulated import Emulated, options_for
    from edge_agent.sources.emulated_port import EmulatedPort
    from edge_agent.sources.line_faults import Faults
    from edge_agent.sources.open import load_script
    from edge_agent.sources.simulated.patient import CHANNELS

    if arguments.board is None:
        raise SourceError("which board?", remedy="--board NAME; edge-agent simulate --list names them")
    if arguments.unplug_at and arguments.link is None:
        raise SourceError("a pty that comes back has another path", remedy="give it a name that stays: --link PATH")
    speed = None if arguments.speed == "max" else _speed(arguments.speed)
    name = arguments.script
    source = SimulatedSource(type="simulated", script=name if name in ("demo", "sinus") else Path(name))
    script = load_script(source, CHANNELS)
    try:
        given = {key: getattr(arguments, key) for key in ("fs", "gain", "inputs", "ecg", "ecg_mv")}
        options = options_for(arguments.board, **given)
        board = Emulated(arguments.board, options)
        faults = Faults(
            drop=arguments.drop,
            flip=arguments.flip,
            duplicate=arguments.duplicate,
            split=arguments.split,
            pause_every_s=arguments.pause_every,
            pause_for_s=arguments.pause_for,
            drift_ppm=arguments.drift,
            unplug_at_s=arguments.unplug_at,
            back_after_s=arguments.back_after,
            seed=arguments.seed,
        )
    except ValueError as error:
        raise SourceError(str(error)) from None
    port = EmulatedPort(
        board, script, arguments.seed, link=arguments.link, baud=arguments.baud, speed=speed, faults=faults
    )
    return port, options


def _greet(name: str, path: str, options: dict[str, Any]) -> None:
    from edge_agent.sources.boards import registry

    board = registry.codec(name, **options).board
    waits = "; it waits for its start command" if board.start else ""
    print(f"# {name} on {path}, {board.fs:g} Hz{waits}; end with Ctrl-C", flush=True)
    print(board_stanza(name, path, options), flush=True)


@contextlib.contextmanager
def _stopping(stop: threading.Event) -> Iterator[None]:
    """Ctrl-C and a service's stop end it, with its farewell."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signals.answer(dict.fromkeys(before, stop.set))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        sys.stdout.flush()


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 0 < speed <= 1000:
        raise SourceError(f"speed is {text!r}", remedy="a number above 0 (at most 1000), or max")
    return speed


def _numbers(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of numbers like 1,2") from None


def _words(text: str) -> tuple[str, ...]:
    return tuple(each.strip() for each in text.split(","))
