"""The commands of ``edge-agent``; `cli` lists them, with those that other rooms bring (watch, doctor, review, tpu).

``add(commands)`` describes a command, ``run(arguments)`` does it; the shortest (run, check, example, demo) are described in `cli`, and
what they do is here. Descriptions are read for ``edge-agent --help``: a module that has one imports what is heavy where it is used.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

Run = Callable[[argparse.Namespace], int]


def described(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: Run, summary: str, example: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    return parser


def positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value
