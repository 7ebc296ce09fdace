"""What breaks: each test makes one fault happen to the real agent and says what must hold; docs/reliability.md has the table.

``EDGE_AGENT_FAULTS=full`` (``make faults``) makes each as often and as long as the table says; without it, a short form for CI.
"""

from __future__ import annotations

import os

FULL = os.environ.get("EDGE_AGENT_FAULTS") == "full"


def times(full: int, short: int) -> int:
    return full if FULL else short
