"""``edge-agent sniff PORT``: listen to a line, name the board, print the configuration to use."""

from __future__ import annotations

import argparse
import dataclasses
import json

from edge_agent.commands import described
from edge_agent.shown import plain

MOST_S = 3600.0
MOST_BAUD = 12_000_000
"""What the fastest USB bridges do."""


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value <= MOST_S:
        raise argparse.ArgumentTypeError(f"{text} is not within 0 and {MOST_S:g}")
    return value


def _baud(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= MOST_BAUD:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {MOST_BAUD}")
    return int(text)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = described(
        commands,
        "sniff",
        run,
        "Listen to a port, name the board, and print the configuration to use.",
        "edge-agent sniff /dev/serial/by-id/usb-FTDI_FT231X_USB_UART_DM00Q0QA-if00-port0 --start",
    )
    parser.add_argument("port", metavar="PORT", help="a device, its by-id path, or any pyserial URL")
    parser.add_argument(
        "--seconds", type=_seconds, default=5.0, metavar="N", help="at each baud (default: %(default)g)"
    )
    parser.add_argument("--baud", type=_baud, help="only this one; by default those of the known boards, in turn")
    parser.add_argument("--start", action="store_true", help="send a quiet port the start commands of boards that wait")
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    from edge_agent.sources.listen import nothing, sniff, stanza  # numpy and pyserial, for those who use them

    heard = sniff(arguments.port, arguments.seconds, arguments.baud, start=arguments.start)
    best = heard[-1]
    if not best.likely:
        raise nothing(arguments.port, heard, start=arguments.start)
    config = stanza(arguments.port, best)
    if arguments.json:
        likely = [dataclasses.asdict(one) for one in best.likely]
        told = {"port": arguments.port, "baud": best.baud, "bytes": len(best.data), "likely": likely, "config": config}
        print(json.dumps(told, indent=2))
        return 0
    print(f"{arguments.port}: {len(best.data)} bytes in {best.seconds:.1f} s at {best.baud} baud")
    for number, one in enumerate(best.likely):
        print(f"{'' if number == 0 else 'or '}{one.name}: {plain(one.evidence)}")
        for warning in one.warnings:
            print(f"  careful: {plain(warning)}")
    print(f"\n{config}", end="")
    return 0
