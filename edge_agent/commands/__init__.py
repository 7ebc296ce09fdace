"""The commands of ``edge-agent``; `cli` lists them, with those that other rooms bring (watch, doctor, review, tpu).

``add(commands)`` describes a command, ``run(arguments)`` does it; the shortest (run, check, example, demo) are described in `cli`, and
what they do is here. Descriptions are read for ``edge-agent --help``: a module that has one imports what is heavy where it is used.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from pathlib import Path

from edge_agent.errors import OutputError

Run = Callable[[argparse.Namespace], int]
RECORD = (".hea", ".dat", ".edge")
"""The files of a WFDB record, by their ending."""


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


def not_an_input(output: Path | None, inputs: Iterable[Path], option: str) -> None:
    """Writing over what is read would empty it. ``inputs``: files, or recordings by the name that their files begin with."""
    if output is None or str(output) == "-" or not output.exists():
        return
    for one in inputs:
        files = (one, *(one.with_name(one.name + ending) for ending in RECORD), *(one.with_suffix(e) for e in RECORD))
        if any(file.exists() and file.samefile(output) for file in files):
            raise OutputError(f"{output}: is what is read", remedy=f"name another file for {option}")
