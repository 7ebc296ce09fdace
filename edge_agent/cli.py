"""``edge-agent``: the command line. Exit status 0, 1 for what went wrong, 2 for usage."""

from __future__ import annotations

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent import __version__, doctor, watch
from edge_agent.commands import described, install_service, models, ports, positive, replay, simulate, sniff
from edge_agent.errors import EdgeAgentError
from edge_agent.inference.tpu import command as tpu_cli
from edge_agent.process import journal
from edge_agent.review import command as review
from edge_agent.shown import lines, plain


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="edge-agent",
        description="Heartbeats, classes and alarms from ECG and arterial pressure, over MQTT.",
        epilog="example:\n  edge-agent demo",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"edge-agent {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="say more on the standard error")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", dest="command")

    run = described(commands, "run", _run, "Run the daemon.", "edge-agent run /etc/edge-agent/edge-agent.toml")
    run.add_argument("config", type=Path, metavar="CONFIG")

    check = described(
        commands, "check", _check, "Say all that is wrong with a configuration.", "edge-agent check my.toml"
    )
    check.add_argument("config", type=Path, metavar="CONFIG")

    described(commands, "example", _example, "Print a configuration to start from.", "edge-agent example > my.toml")

    demo = described(
        commands,
        "demo",
        _demo,
        "Show the whole journey: broker, simulated patient, daemon, subscriber.",
        "edge-agent demo --seed 7",
    )
    demo.add_argument("--seed", type=_natural, default=1, help="of the simulated patient (default: %(default)s)")
    demo.add_argument("--speed", type=positive, default=6.0, help="patient seconds per second (default: %(default)g)")
    demo.add_argument("--forever", action="store_true", help="start the script again at its end, until Ctrl-C")

    for module in (replay, watch, simulate, ports, sniff, models, tpu_cli, doctor, install_service, review):
        module.add(commands)
    return parser


def _natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0")
    return int(text)


def _run(arguments: argparse.Namespace) -> int:
    from edge_agent.process import memory

    memory.settle()  # before there are threads
    from edge_agent import config
    from edge_agent.daemon import Daemon

    status = Daemon(config.load(arguments.config), arguments.config).run()
    # Python gives handlers back as it takes itself down: one more signal then would make of an end in order a death by a signal.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    return status


def _check(arguments: argparse.Namespace) -> int:
    from edge_agent.commands.check import check

    good = check(arguments.config)
    for text in good.warnings:
        print(f"edge-agent: warning: {plain(text)}", file=sys.stderr)
    print(
        lines(
            f"{arguments.config}: good: {good.streams} stream{'s' * (good.streams != 1)}, models {', '.join(good.models) or 'none'}"
        )
    )
    return 0


def _example(_arguments: argparse.Namespace) -> int:
    from edge_agent.commands.example import example_config

    print(example_config(), end="")
    return 0


def _demo(arguments: argparse.Namespace) -> int:
    from edge_agent.commands.demo import demo

    return demo(seed=arguments.seed, speed=arguments.speed, forever=arguments.forever)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = build_parser().parse_args(argv)
    journal.set_up(verbose=arguments.verbose)
    try:
        status: int = arguments.run(arguments)
    except EdgeAgentError as error:
        print(f"edge-agent: {lines(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # the reader of our output has gone (`| head`)
        sys.stderr.close()
        return 1
    except OSError as error:  # what no module foresaw: a folder that may not be entered, a name too long
        what = f"{error.filename}: {error.strerror}" if error.filename and error.strerror else error
        print(f"edge-agent: {lines(what)}", file=sys.stderr)
        return 1
    return status


if __name__ == "__main__":
    sys.exit(main())
