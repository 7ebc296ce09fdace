"""edge-train: makes the models that Edge Agent runs, measures them on people they have not seen, and packs them."""

from __future__ import annotations

import argparse
import io
import signal
import sys
from collections.abc import Sequence

from edge_agent.errors import EdgeAgentError
from edge_train import commands

STOPPED = 130
"""What shells expect of a command stopped by Ctrl-C."""


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(prog="edge-train", description=__doc__)
    commands.add_all(top.add_subparsers(dest="command", required=True, metavar="COMMAND"))
    return top


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parser().parse_args(argv)
    if isinstance(sys.stdout, io.TextIOWrapper):  # a log shall have an epoch's line when the epoch is over
        sys.stdout.reconfigure(line_buffering=True)
    before = signal.signal(signal.SIGTERM, _interrupt)  # ended like Ctrl-C: what is half done is taken away
    try:
        arguments.run(arguments)
    except EdgeAgentError as error:
        print(f"edge-train: {error}", file=sys.stderr)
        return 1
    except (
        OSError
    ) as error:  # a full disk or a folder that may not be written to; what is written is whole or not there
        print(f"edge-train: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nedge-train: stopped; what is whole is kept, and the same command goes on", file=sys.stderr)
        return STOPPED
    finally:
        signal.signal(signal.SIGTERM, before)
    return 0


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
