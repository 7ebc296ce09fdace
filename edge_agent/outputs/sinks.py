"""Outputs beside the broker that take every message as it leaves, by the name of their table in the configuration.

To add one: a module with its table of settings and its class, and a line in `SINKS` (CONTRIBUTING.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from pydantic import Field, create_model

from edge_agent.outputs.jsonl import JsonLines, somebody_elses
from edge_agent.outputs.settings import JsonlConfig
from edge_agent.section import Section


class Sink(Protocol):
    """``put`` may be called from any thread, never waits, and raises nothing: what cannot be taken is counted or told in the log."""

    def start(self) -> None: ...

    def put(self, payload: bytes) -> None:
        """The JSON of one message; its ``schema``, ``device`` and ``stream`` say what it is and whose."""

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Kind:
    table: type[Section]
    """Its settings. Keys that are paths are relative to the configuration, and are not published."""
    open: Callable[[Any], Sink]
    """Opens what the settings name, or raises an `OutputError` that says what to do; starts nothing."""
    wrong: Callable[[Any], str] = lambda _settings: ""
    """Why it would not, as far as that can be seen without opening anything, for ``check``; "" if nothing is seen."""


SINKS: Mapping[str, Kind] = {
    "jsonl": Kind(JsonlConfig, JsonLines, somebody_elses),
}

if TYPE_CHECKING:
    Tables = Section
else:
    Tables = create_model(
        "Tables",
        __base__=Section,
        **{
            name: (kind.table | None, Field(default=None, description="Off without this table."))
            for name, kind in SINKS.items()
        },
    )


def wanted(settings: Tables) -> Iterator[tuple[str, Section]]:
    """Of a configuration: the tables that are there."""
    for name in SINKS:
        table = getattr(settings, name)
        if table is not None:
            yield name, table


def wrong(settings: Tables) -> Iterator[str]:
    """What can be seen of what `opened` would refuse."""
    for name, table in wanted(settings):
        if why := SINKS[name].wrong(table):
            yield f"{name}: {why}"


def opened(settings: Tables) -> dict[str, Sink]:
    return {name: SINKS[name].open(table) for name, table in wanted(settings)}


def files(settings: Tables) -> Iterator[tuple[str, str, Path]]:
    """What they write to: the sink, the key, and the path."""
    for name, table in wanted(settings):
        for key in type(table).model_fields:
            value = getattr(table, key)
            if isinstance(value, Path):
                yield name, key, value
