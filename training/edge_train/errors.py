"""This package's errors, on the tree of `edge_agent.errors`: the command line prints them without a traceback."""

from __future__ import annotations

from edge_agent.errors import EdgeAgentError


class DataError(EdgeAgentError, ValueError):
    """Data that is missing or must not be trained on; says which, and what to do."""
