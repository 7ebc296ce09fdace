"""This package's errors, on the tree of `edge_agent.errors`: the command line prints them without a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

from edge_agent.errors import EdgeAgentError


class DataError(EdgeAgentError, ValueError):
    """Data that is missing or must not be trained on; says which, and what to do."""


def in_words(name: str, main: Callable[[], int | None]) -> int:
    """The exit status of a module's own command (``python -m edge_train...``): no traceback for a refusal, as of edge-train."""
    try:
        return main() or 0
    except EdgeAgentError as error:
        print(f"{name}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"{name}: {error.filename or 'file'}: {error.strerror or error}", file=sys.stderr)
    return 1
