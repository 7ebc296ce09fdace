"""An outbox whose clocks a test moves."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge_agent.outputs.outbox import Outbox
from tests.outputs.boxes import WIDE, Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(time, "time", lambda: clock.day)
    monkeypatch.setattr(time, "monotonic", lambda: clock.count)
    return clock


@pytest.fixture
def box(tmp_path: Path, clock: Clock) -> Iterator[Outbox]:  # noqa: ARG001 - the clock is set before the box is opened
    box = Outbox(tmp_path / "dev.outbox", WIDE)
    yield box
    box.close()
