"""The HTTP server: uvicorn, with a bound on connections that no flood of idle ones can use up."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge_agent.errors import OutputError

log = logging.getLogger(__name__)

MOST_CONNECTIONS = 200
MOST_GREETING = 100
"""Connections that are in the middle of TLS's greeting, which may never end."""
GREETING_S = 5.0
CERTIFICATE = "review.cert_file and review.key_file (--tls-cert, --tls-key) want a certificate and its key, in PEM"
IDLE_S = 10.0
"""For a request to come whole; and for the next one on the same connection."""


def missing() -> OutputError:
    return OutputError(
        "the page needs packages that are not installed", remedy="in the checkout: pip install '.[review]'"
    )


def check_tls(cert: Path, key: Path) -> None:
    """Raises OutputError: in the server's own words a wrong pair is a line of C, and a passphrase is asked for on the terminal."""

    def refuse() -> str:
        raise OutputError(f"{key}: has a passphrase, which nobody is there to type", remedy="write it without one")

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for file in (cert, key):
        try:
            with file.open("rb"):
                pass
        except OSError as error:
            raise OutputError(f"{file}: {error.strerror or error}", remedy=CERTIFICATE) from None
    try:
        context.load_cert_chain(cert, key, password=refuse)
    except ssl.SSLError as error:
        why = {
            "KEY_VALUES_MISMATCH": f"{key} is not the key of {cert}",
            "KEY_TYPE_MISMATCH": f"{key} is not the key of {cert}",
        }.get(error.reason or "", f"{cert}, {key}: no certificate and key in PEM")
        raise OutputError(why, remedy=CERTIFICATE) from None


def _protocol() -> type[Any]:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    class Bounded(H11Protocol):
        """The oldest idle connection gives way to a new one: a thousand that send nothing keep nobody out."""

        opened: list[Bounded] = []  # noqa: RUF012  # of the server, on purpose
        listening: _Listening | None = None

        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            there = transport.get_extra_info("socket")
            if self.listening is not None and there is not None:
                self.listening.greeted(there.fileno())
            opened = type(self).opened
            opened.append(self)
            if len(opened) > MOST_CONNECTIONS:
                idle = next((one for one in opened if one.idle), self)
                opened.remove(idle)  # at once: many may be accepted before this one's end is told
                idle.transport.abort()
            self._late = self.loop.call_later(IDLE_S, self._nothing_came)

        @property
        def idle(self) -> bool:
            return self.cycle is None or self.cycle.response_complete

        def _nothing_came(self) -> None:
            if self.cycle is None:
                self.transport.abort()

        def connection_lost(self, exc: Exception | None) -> None:
            self._late.cancel()
            if self in type(self).opened:
                type(self).opened.remove(self)
            super().connection_lost(exc)

    return Bounded


class _Listening(socket.socket):
    """Bounds those that have connected and not come as far as HTTP: behind TLS, asyncio says nothing of them."""

    def __init__(self, family: socket.AddressFamily) -> None:
        super().__init__(family, socket.SOCK_STREAM)
        self.greeting: deque[tuple[float, socket.socket]] = deque()

    def accept(self) -> tuple[socket.socket, Any]:
        made, address = super().accept()
        now = time.monotonic()
        while self.greeting and self.greeting[0][1].fileno() < 0:
            self.greeting.popleft()
        if len(self.greeting) >= MOST_GREETING:
            self.greeting = deque(one for one in self.greeting if one[1].fileno() >= 0)
        while self.greeting and (len(self.greeting) >= MOST_GREETING or self.greeting[0][0] < now - GREETING_S):
            with suppress(OSError):
                self.greeting.popleft()[1].shutdown(socket.SHUT_RDWR)
        self.greeting.append((now, made))
        return made, address

    def greeted(self, fileno: int) -> None:
        self.greeting = deque(one for one in self.greeting if one[1].fileno() != fileno)


class PageServer:
    """In a thread of its own."""

    def __init__(self, app: Any, host: str, port: int, *, cert: Path | None = None, key: Path | None = None) -> None:
        """Raises OutputError where the packages, the certificate or the address are not to be had."""
        try:
            import uvicorn
        except ImportError:
            raise missing() from None
        if cert is not None and key is not None:
            check_tls(cert, key)
        self._protocol = _protocol()
        self._server = uvicorn.Server(
            uvicorn.Config(
                app,
                host=host,
                port=port,
                http=self._protocol,
                ws="none",
                loop="asyncio",
                lifespan="off",
                access_log=False,
                server_header=False,
                log_config=None,
                log_level="error",
                timeout_keep_alive=int(IDLE_S),
                timeout_graceful_shutdown=1,
                backlog=256,
                h11_max_incomplete_event_size=16 * 1024,
                ssl_certfile=cert,
                ssl_keyfile=key,
            )
        )
        self._server.config.load()
        self._socket = _Listening(socket.AF_INET6 if ":" in host else socket.AF_INET)
        self._protocol.listening = self._socket
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError as error:
            self._socket.close()
            raise OutputError(
                f"{host}:{port} cannot be listened on ({error.strerror or error})", remedy="choose another port"
            ) from None
        self.host = host
        self.port: int = self._socket.getsockname()[1]
        self.scheme = "https" if cert is not None else "http"
        self._thread = threading.Thread(target=self._run, name="review-server", daemon=True)

    @property
    def url(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}/"

    @property
    def connections(self) -> int:
        """Open just now."""
        return len(self._protocol.opened)

    def _run(self) -> None:
        try:
            asyncio.run(self._server.serve(sockets=[self._socket]))
        except Exception:  # what a thread would say to nobody
            log.exception("the page's server: unexpected fault")

    def start(self, timeout_s: float = 5.0) -> None:
        self._thread.start()
        until = time.monotonic() + timeout_s
        while not self._server.started and self._thread.is_alive() and time.monotonic() < until:
            time.sleep(0.01)
        if not self._server.started:
            raise OutputError(f"{self.url}: the page's server did not start")

    def stop(self, then: Callable[[], None] | None = None) -> None:
        self._server.should_exit = True
        if then is not None:
            then()
        if self._thread.is_alive():
            self._thread.join(3.0)
        self._socket.close()
