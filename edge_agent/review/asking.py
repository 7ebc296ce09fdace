"""What a request says, read with suspicion: whole numbers within bounds, stretches, bodies."""

from __future__ import annotations

import re
from typing import Any

from edge_agent import strict_json
from edge_agent.errors import RequestError
from edge_agent.review.library import Open
from edge_agent.review.serve import missing

try:
    from starlette.requests import ClientDisconnect, Request
except ImportError:
    raise missing() from None

LATEST = 10**12
"""No sample is later."""
_WHOLE = re.compile(r"[0-9]{1,12}")


class Bad(ValueError):
    """A request that makes no sense; its text is the answer."""


def whole_number(request: Request, name: str, low: int, high: int) -> int:
    said = request.query_params.get(name)
    if said is None or not _WHOLE.fullmatch(said) or not low <= int(said) <= high:
        raise Bad(f"{name}: a whole number from {low} to {high} is wanted")
    return int(said)


def stretch(request: Request, opened: Open, longest_s: float | None = None) -> tuple[int, int]:
    """``first`` and ``end``, cut off where the recording ends."""
    first = whole_number(request, "first", 0, opened.waves.samples)
    end = min(whole_number(request, "end", first + 1, LATEST), opened.waves.samples)
    if longest_s is not None and end - first > longest_s * opened.waves.fs + 1:
        raise Bad(f"at most {longest_s:g} s at once")
    return first, end


async def body(request: Request) -> Any:
    """Raises Bad."""
    try:
        return strict_json.loads(await request.body())
    except RequestError as error:
        raise Bad(error.what) from None
    except (ValueError, RecursionError, ClientDisconnect):
        raise Bad("the body is not JSON") from None
