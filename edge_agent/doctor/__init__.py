"""``edge-agent doctor``: is this device fit to run the agent, and if not, what to do about it."""

from __future__ import annotations

import argparse
import dataclasses
import json
from pathlib import Path

from edge_agent.doctor.checks import CHECKS
from edge_agent.doctor.machine import Finding, Machine, State
from edge_agent.errors import EdgeAgentError
from edge_agent.shown import plain

__all__ = ["Finding", "Machine", "State", "add", "examine", "run"]

DEFAULT_CONFIG = Path("/etc/edge-agent/edge-agent.toml")
MARKS: dict[State, str] = {"good": "ok  ", "note": "note", "bad": "BAD ", "unknown": "?   "}


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    summary = "Check this device, and say what to do about what is wrong."
    parser = commands.add_parser(
        "doctor",
        help=summary,
        description=f"{summary} Exit status 1 if something would keep the agent from working.",
        epilog="example:\n  sudo edge-agent doctor /etc/edge-agent/edge-agent.toml",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument(
        "config", type=Path, metavar="CONFIG", nargs="?", help=f"default: {DEFAULT_CONFIG}, where it is there"
    )
    parser.add_argument("--json", action="store_true", help="for programs")


def examine(machine: Machine) -> list[Finding]:
    """All checks, in order. One that meets what it did not expect says so and ends no other."""
    found: list[Finding] = []
    for check in CHECKS:
        try:
            found += check(machine)
        except (OSError, ValueError, EdgeAgentError) as error:
            found.append(Finding(check.__name__, "unknown", f"could not be checked: {' '.join(str(error).split())}"))
    return found


def run(arguments: argparse.Namespace) -> int:
    path = arguments.config
    if path is None and DEFAULT_CONFIG.exists():
        path = DEFAULT_CONFIG
    found = examine(Machine(config_path=path))
    bad = sum(one.state == "bad" for one in found)
    if arguments.json:
        print(
            json.dumps({"schema": "edge-agent/doctor/1", "fit": not bad, "findings": [*map(dataclasses.asdict, found)]})
        )
        return int(bool(bad))
    for one in found:
        print(f"{MARKS[one.state]}  {one.subject:<9} {plain(one.said)}")
        if one.remedy:
            print(f"{'':<17}-> {plain(one.remedy)}")
    print(f"\n{'fit' if not bad else f'{bad} to mend'}: {len(found)} things looked at")
    return int(bool(bad))
