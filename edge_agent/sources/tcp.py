"""A TCP listener for lines of numbers: one client at a time, a second one is told so and turned away.

Nothing is queued here: a client that sends faster than its samples are taken is held up by TCP itself, a line without an end is
given up after ``lines.LONGEST_LINE`` bytes, and a client that sends no sample for ``silent_s`` is hung up on.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
from threading import Event

from edge_agent.errors import SourceError, SourceLost
from edge_agent.sources.base import Counts
from edge_agent.sources.byte_source import READ_S, ByteSource, line_decoding, line_info
from edge_agent.sources.settings import TcpSource

log = logging.getLogger(__name__)

AT_ONCE = 4096
WAKE_S = 0.2
BACKLOG = 4
BUSY = b"busy: another client is sending; try again when it has gone\n"


class TcpLink:
    def __init__(self, host: str, port: int) -> None:
        self.name = f"tcp://{host}:{port}"
        self._refused = 0
        self._client: socket.socket | None = None
        self._who = ""
        try:
            family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][0]
            self._listener = socket.create_server((host, port), family=family, backlog=BACKLOG)
        except (OSError, OverflowError) as error:
            raise SourceError(
                f"{self.name}: cannot be listened on ({getattr(error, 'strerror', None) or error})",
                remedy="is the port taken (ss -ltnp), below 1024, or the address not this machine's?",
            ) from None

    def wait(self, stop: Event) -> None:
        while self._client is None and not stop.is_set():
            ready, _, _ = select.select([self._listener], [], [], WAKE_S)
            if ready:
                self._client, self._who = self._accept()

    def _accept(self) -> tuple[socket.socket | None, str]:
        try:
            client, address = self._listener.accept()
        except OSError:  # it changed its mind
            return None, ""
        client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        client.setblocking(False)
        return client, f"{address[0]}:{address[1]}"

    def read(self) -> bytes:
        client = self._client
        if client is None:
            raise SourceLost(f"end of file: {self.name}: no client")
        ready, _, _ = select.select([client, self._listener], [], [], READ_S)
        if self._listener in ready:
            self._turn_away()
        if client not in ready:
            return b""
        try:
            data = client.recv(AT_ONCE)
        except BlockingIOError:
            return b""
        except OSError as error:
            raise SourceLost(f"read error: {self._who} on {self.name}: {error.strerror or error}") from None
        if not data:
            raise SourceLost(f"end of file: {self._who} on {self.name} has hung up")
        return data

    def _turn_away(self) -> None:
        other, who = self._accept()
        if other is None:
            return
        self._refused += 1
        log.warning("%s: %s turned away, %s is sending", self.name, who, self._who)
        with contextlib.suppress(OSError):
            other.send(BUSY)
        other.close()

    def write(self, data: bytes) -> None:
        pass

    def counters(self) -> Counts:
        return {"refused": self._refused}

    def hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def close(self) -> None:
        self.hang_up()
        self._listener.close()


def open_tcp(config: TcpSource) -> ByteSource:
    link = TcpLink(config.host, config.port)
    return ByteSource(
        line_info(config),
        link,
        lambda: line_decoding(config),
        config.silent_s,
        resumes=True,
        waits_for=f"a client on {link.name}",
    )
