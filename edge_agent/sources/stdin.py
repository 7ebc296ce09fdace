"""Lines of numbers on the standard input, at the pace of whoever writes them; its end is the stream's."""

from __future__ import annotations

import os
import select
import stat
import sys
from threading import Event

from edge_agent.errors import SourceError, SourceLost
from edge_agent.sources.base import Counts
from edge_agent.sources.byte_source import READ_S, ByteSource, line_decoding, line_info
from edge_agent.sources.settings import StdinSource

AT_ONCE = 4096


class StdinLink:
    name = "standard input"

    def __init__(self) -> None:
        try:
            self._descriptor = sys.stdin.fileno()
            mode = os.fstat(self._descriptor).st_mode
        except (OSError, ValueError, AttributeError):
            raise SourceError(
                "there is no standard input", remedy='start the agent from a pipe, or use type = "tcp"'
            ) from None
        if stat.S_ISREG(mode):
            raise SourceError(
                "the standard input is a file: nothing sets its pace",
                remedy='name it: type = "file", path = ...; or edge-agent replay FILE',
            )

    def wait(self, stop: Event) -> None:
        pass

    def read(self) -> bytes:
        try:
            ready, _, _ = select.select([self._descriptor], [], [], READ_S)
            if not ready:
                return b""
            data = os.read(self._descriptor, AT_ONCE)
        except (OSError, ValueError) as error:
            raise SourceLost(f"read error: {self.name}: {error}") from None
        if not data:
            raise EOFError
        return data

    def write(self, data: bytes) -> None:
        pass

    def counters(self) -> Counts:
        return {}

    def hang_up(self) -> None:
        pass

    def close(self) -> None:
        pass  # not ours


def open_stdin(config: StdinSource) -> ByteSource:
    return ByteSource(
        line_info(config),
        StdinLink(),
        lambda: line_decoding(config),
        config.silent_s,
        resumes=True,  # a pipe cannot be opened again
        waits_for="lines on the standard input",
    )
