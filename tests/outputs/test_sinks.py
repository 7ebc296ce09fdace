"""An output is one module and one line: its table is read, checked, placed and hidden, and it gets every message, without more."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import Field, create_model

from edge_agent import config
from edge_agent.errors import ConfigError
from edge_agent.events import BridgeState
from edge_agent.outputs import sinks
from edge_agent.outputs.hub import Outputs
from edge_agent.section import DiskPath, Section


class Kept(Section):
    path: DiskPath
    most: int = Field(default=3, ge=1)


class Heap:
    def __init__(self, table: Kept) -> None:
        self.table, self.heard, self.state = table, list[bytes](), "opened"

    def start(self) -> None:
        self.state = "started"

    def put(self, payload: bytes) -> None:
        self.heard.append(payload)

    def stop(self) -> None:
        self.state = "stopped"


TEXT = """
[outbox]
enabled = false
[heap]
path = "there/heap"
most = {most}
[[stream]]
name = "a"
[stream.source]
type = "simulated"
"""


@pytest.fixture
def with_heap(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if `SINKS` had one line more when the agent was started."""
    monkeypatch.setattr(sinks, "SINKS", {**sinks.SINKS, "heap": sinks.Kind(Kept, Heap)})
    made = create_model("Config", __base__=config.Config, heap=(Kept | None, None))
    monkeypatch.setattr(config, "Config", made)


def read(folder: Path, most: object) -> config.Config:
    (folder / "my.toml").write_text(TEXT.format(most=most))
    return config.load(folder / "my.toml")


@pytest.mark.usefixtures("with_heap")
def test_a_line_in_the_registry_is_all(tmp_path: Path) -> None:
    settings = read(tmp_path, 5)
    assert [(name, key, path) for name, key, path in sinks.files(settings)] == [
        ("heap", "path", tmp_path / "there" / "heap")
    ]
    assert settings.public()["heap"] == {"path": "(set)", "most": 5}
    outputs = Outputs(settings, lambda *_: {})
    heap = outputs._sinks["heap"]
    assert isinstance(heap, Heap)
    assert heap.table.most == 5
    outputs.start()
    outputs.message("bridge/state", BridgeState(state="online"))
    outputs.stop(0.1)
    assert (heap.state, heap.heard) == ("stopped", [BridgeState(state="online").payload()])


@pytest.mark.usefixtures("with_heap")
def test_its_table_is_checked_like_any(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"heap\.most: found 0"):
        read(tmp_path, 0)


def test_every_registered_one_has_its_table() -> None:
    assert set(sinks.SINKS) <= set(config.Config.model_fields)
    assert all(issubclass(kind.table, Section) for kind in sinks.SINKS.values())
