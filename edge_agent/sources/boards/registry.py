"""Every board that is known, by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from edge_agent.sources.boards import bitalino, cyton, protocentral_boards
from edge_agent.sources.boards.base import Board, Codec

_CODECS: Mapping[str, Callable[..., Codec]] = {
    **{name: partial(protocentral_boards.codec, name) for name in protocentral_boards.NAMES},
    "cyton": partial(cyton.codec, "cyton"),
    "cyton-daisy": partial(cyton.codec, "cyton-daisy"),
    "bitalino": bitalino.codec,
}

NAMES = tuple(_CODECS)


def codec(name: str, **options: Any) -> Codec:
    """A board with its decoder and encoder. Options are those of its family's ``codec``.

    `ValueError` says what is wrong with the name or an option, and what is allowed.
    """
    if name not in _CODECS:
        near = difflib.get_close_matches(name, NAMES, 1)
        raise ValueError(f"board {name!r}" + (f": meant {near[0]!r}?" if near else f": known are {', '.join(NAMES)}"))
    try:
        return _CODECS[name](**options)
    except TypeError as error:
        raise ValueError(f"board {name!r}: {error}") from None


def boards() -> tuple[Board, ...]:
    """All of them, as they are without options."""
    return tuple(codec(name).board for name in NAMES)
