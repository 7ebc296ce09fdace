"""JSON from outside, in which every key stands once."""

from __future__ import annotations

import json
from typing import Any

from edge_agent.errors import RequestError


def loads(text: bytes) -> Any:
    """ValueError or RecursionError for what is no JSON, RequestError for a key that stands twice in one object."""
    return json.loads(text, object_pairs_hook=_each_once)


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Whoever wrote a key twice meant one of the two; which, nobody can tell."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise RequestError(f"the key {key[:40]!a} stands twice")
        found[key] = value
    return found
