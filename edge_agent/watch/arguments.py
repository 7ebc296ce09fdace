"""The arguments of ``edge-agent watch``.

Nothing heavy is imported here: every other command of ``edge-agent`` reads this file too.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from edge_agent.commands import positive

if TYPE_CHECKING:
    from edge_agent.watch.wanted import Condition


PRIORITIES = ("high", "medium", "low")
KINDS_HELP = (
    "of alarm, rhythm, quality, gap, mark, availability, state (these seven are the default), beat, verdict, vitals, "
    "summary, waveform, health, info, engine"
)


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Put ``watch`` among the commands."""
    summary = "Show what agents say: a line per message, for people and for scripts."
    parser = commands.add_parser(
        "watch",
        help=summary,
        description=summary,
        epilog="example:\n"
        "  edge-agent watch --host broker.ward --stream bed1\n"
        "  edge-agent watch --priority high --client-id nurses-desk --exec '/usr/local/bin/page-me --loud'\n"
        "  edge-agent watch --until alarm:asystole --timeout 60 && echo seen\n\n"
        "exit status: 0 seen, 3 not seen in time, 1 something went wrong, 130 Ctrl-C",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=_run)
    broker = parser.add_argument_group("the broker")
    broker.add_argument("--host", default="localhost", help="default: %(default)s")
    broker.add_argument("--port", type=_port, help="default: 1883, with TLS 8883")
    broker.add_argument("--base", type=_topic_part, default="edge-agent", help="first part of every topic")
    broker.add_argument("--username", metavar="NAME")
    broker.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="the password alone; or the variable EDGE_AGENT_MQTT_PASSWORD",
    )
    broker.add_argument("--tls", action="store_true", help="trust what the system trusts")
    broker.add_argument("--ca", type=Path, metavar="FILE", help="trust this authority instead (means --tls)")
    broker.add_argument("--cert", type=Path, metavar="FILE", help="a certificate of our own (means --tls)")
    broker.add_argument("--key", type=Path, metavar="FILE", help="its key")
    broker.add_argument(
        "--client-id", type=_client_id, metavar="ID", help="keep the session: alarms missed while away come later"
    )
    chosen = parser.add_argument_group("what is shown")
    chosen.add_argument("--device", type=_names, default=(), metavar="NAME,...", help="default: every device")
    chosen.add_argument("--stream", type=_names, default=(), metavar="NAME,...", help="default: every stream")
    chosen.add_argument("--kind", type=_kinds, metavar="KIND,...", help=KINDS_HELP)
    chosen.add_argument("--all", action="store_true", help="every kind")
    chosen.add_argument(
        "--priority", type=_priorities, default=(), metavar="P,...",
        help="alarms of these priorities; without --kind, alarms alone",
    )  # fmt: skip
    chosen.add_argument("--json", action="store_true", help="a JSON object a line instead")
    chosen.add_argument("--no-color", action="store_true", help="so does the variable NO_COLOR, or no terminal")
    acted = parser.add_argument_group("what is done")
    acted.add_argument(
        "--exec", metavar="COMMAND", help="run this at each alarm's begin and end; the message is its standard input"
    )
    acted.add_argument(
        "--exec-limit", type=positive, default=30.0, metavar="S", help="end it after so long (default: %(default)g)"
    )
    acted.add_argument(
        "--until", type=_condition, action="append", default=[], metavar="WHAT",
        help="end with status 0 at: alarm:asystole, alarm:*:cleared, state:online, verdict:V ... (more than one: any)",
    )  # fmt: skip
    acted.add_argument(
        "--timeout", type=positive, metavar="S", help="end after so long; status 3 if --until never came"
    )


def _run(arguments: argparse.Namespace) -> int:
    from edge_agent.watch.command import watch

    return watch(arguments)


# -- their values ---------------------------------------------------------------------------------------------------------


def _topic_part(text: str) -> str:
    if not text or any(char in text for char in "+#/\0"):
        raise argparse.ArgumentTypeError(f"{text!r} is no single part of a topic")
    return text


def _names(text: str) -> tuple[str, ...]:
    return tuple(_topic_part(name.strip()) for name in text.split(","))


def _listed(text: str, known: tuple[str, ...]) -> tuple[str, ...]:
    found = tuple(name.strip() for name in text.split(","))
    for name in found:
        if name not in known:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(known)}")
    return found


def _kinds(text: str) -> tuple[str, ...]:
    from edge_agent.watch.news import KINDS

    return _listed(text, KINDS)


def _priorities(text: str) -> tuple[str, ...]:
    return _listed(text, PRIORITIES)


def _condition(text: str) -> Condition:
    from edge_agent.watch.wanted import condition

    try:
        return condition(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _client_id(text: str) -> str:
    if not text or len(text.encode()) > 200 or not text.isprintable():
        raise argparse.ArgumentTypeError(f"{text!r} is no client id")
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)
