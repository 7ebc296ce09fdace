"""``edge-agent ports``: the serial ports there are, what hangs on them, and whether this user may use them."""

from __future__ import annotations

import argparse
import dataclasses
import json

from edge_agent.commands import described
from edge_agent.shown import plain
from edge_agent.sources.ports import find_ports


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = described(
        commands,
        "ports",
        run,
        "List the serial ports, what is on them, and whether you may open them.",
        "edge-agent ports",
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def run(arguments: argparse.Namespace) -> int:
    found = find_ports()
    if arguments.json:
        print(json.dumps([dataclasses.asdict(port) for port in found], indent=2))
        return 0
    if not found:
        print("No serial port is there. Is the board plugged in, with a cable that carries data? (dmesg | tail)")
        return 0
    for port in found:
        print(plain(port.by_id or port.device))
        lines = [
            ("device", port.device if port.by_id else None),
            ("is", port.description),
            ("serial number", port.serial_number),
            ("USB", port.usb),
            ("board", port.board and f"{port.board}, by its name; to be sure: edge-agent sniff {port.by_id}"),
            ("open to you", "yes" if port.may_open else f"no: {port.remedy}"),
            ("in use", port.busy or "not that you could see"),
        ]
        for name, value in lines:
            if value:
                print(f"  {name:<14} {plain(value)}")
    return 0
