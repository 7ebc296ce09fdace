"""A recording as CSV, as a test wants it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edge_agent.sources import recording


@pytest.fixture
def write_csv(tmp_path: Path) -> Callable[..., Path]:
    """A file with this text, and where it lies; what is warned of once a file is warned of again."""

    def at(text: str, name: str = "a.csv", **options: Any) -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8", **options)
        return path

    recording.warn.cache_clear()
    return at
