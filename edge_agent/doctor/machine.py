"""What the doctor looks at. Everything outside the process is reached through here, so that tests bring a machine of their own."""

from __future__ import annotations

import os
import socket
import struct
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

from edge_agent import config
from edge_agent.config import BoardSource, Config, SerialSource
from edge_agent.errors import ConfigError
from edge_agent.hardware import Hardware, ask

State = Literal["good", "note", "bad", "unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    subject: str
    state: State
    """bad: the agent would not work as configured. note: it works, and something could be better."""
    said: str
    remedy: str = ""


def _disk(path: Path) -> os.statvfs_result:
    return os.statvfs(path)


def _reach(host: str, port: int) -> None:
    with socket.create_connection((host, port), timeout=3.0):
        pass


@dataclass(frozen=True)
class Machine:
    config_path: Path | None = None
    root: Path = Path("/")
    ask: Callable[[Sequence[str]], str | None] = ask
    disk: Callable[[Path], os.statvfs_result] = _disk
    reach: Callable[[str, int], None] = _reach
    """Opens and closes a connection; OSError where it cannot."""
    python: tuple[int, int] = sys.version_info[:2]
    pointer_bits: int = struct.calcsize("P") * 8

    @cached_property
    def board(self) -> Hardware:
        return Hardware(self.root, self.ask)

    @cached_property
    def loaded(self) -> Config | ConfigError | None:
        """The configuration, what is wrong with it, or None where there is none."""
        if self.config_path is None:
            return None
        try:
            return config.load(self.config_path)
        except ConfigError as error:
            return error

    @property
    def settings(self) -> Config | None:
        return self.loaded if isinstance(self.loaded, Config) else None

    @property
    def serial(self) -> list[tuple[str, str]]:
        """Streams that read a port of this machine: their name and the port."""
        if self.settings is None:
            return []
        return [
            (stream.name, stream.source.port)
            for stream in self.settings.stream
            if isinstance(stream.source, SerialSource | BoardSource) and "://" not in stream.source.port
        ]

    def there(self, *places: str) -> Path | None:
        """The first of these that exists."""
        return next((self.root / place for place in places if (self.root / place).exists()), None)
