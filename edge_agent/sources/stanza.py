"""The part of a configuration that makes a stream of a board, as text to copy."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any


def board_stanza(board: str, port: str, options: Mapping[str, Any], baud: int | None = None) -> str:
    """``baud``: where it is not the board's usual one."""
    settings = {"type": "board", "board": board, "port": port}
    return _stanza({**settings, **({"baud": baud} if baud else {}), **options})


def lines_stanza(port: str, baud: int, fs: float, columns: Sequence[str], separator: str) -> str:
    return _stanza(
        {"type": "serial", "port": port, "baud": baud, "fs": fs, "columns": list(columns), "separator": separator}
    )


def _stanza(source: Mapping[str, Any]) -> str:
    lines = "".join(f"{key} = {_toml(value)}\n" for key, value in source.items())
    return f'[[stream]]\nname = "bed1"\n\n[stream.source]\n{lines}'


def _toml(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.9g}" if value != int(value) else f"{value:g}"
    return json.dumps(list(value) if isinstance(value, tuple) else value)  # of these, TOML writes what JSON does
