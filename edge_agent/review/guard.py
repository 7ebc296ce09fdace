"""Who may ask, and how much: hosts, origins, the token, sizes, and the headers of every answer.

Loopback needs no password, so what protects it is that no other site's page can use it: the Host must be loopback's (DNS rebinding),
the Origin must be our own (CSRF), and what changes something must carry a header that no form and no link can set. Beyond loopback, all of
that and a session, which the token opens.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import os
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from http.cookies import CookieError, SimpleCookie
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edge_agent.errors import OutputError

log = logging.getLogger(__name__)

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

COOKIE = "edge-agent-review"
LOOPBACK = frozenset({"localhost", "127.0.0.1", "[::1]"})
LONGEST_TARGET = 2048
MOST_BODY = 64 * 1024
LONGEST_REFUSED_S = 2.0
"""So long the body of a request that is refused may take to come in."""
SESSION_S = 12 * 3600.0
MOST_SESSIONS = 64
LOGINS_PER_MINUTE = 10
SAID_PER_MINUTE = 20
"""Lines about refusals; the rest is counted."""
OPEN_PATHS = frozenset({"/login", "/favicon.ico", "/static/login.js", "/static/api.js", "/static/style.css"})
PAGES = frozenset({"/", "/live", "/login"})
HEADERS = (
    (
        b"content-security-policy",
        b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; base-uri 'none'; "
        b"form-action 'none'; frame-ancestors 'none'",
    ),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"x-frame-options", b"DENY"),
    (b"cross-origin-opener-policy", b"same-origin"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"permissions-policy", b"camera=(), microphone=(), geolocation=()"),
)


def is_loopback(host: str) -> bool:
    """Whether an address to listen on can only be reached from this machine."""
    return host in ("localhost", "127.0.0.1", "::1")


class Token:
    """Of 160 random bits, so one round of SHA-256 with salt keeps it: there is no guessing it from its digest."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def make(self) -> str:
        """A new one, in place of the old one. Returned once, kept nowhere. Raises OutputError."""
        token, salt = secrets.token_urlsafe(20), secrets.token_hex(16)
        text = json.dumps({"salt": salt, "sha256": _digest(salt, token)})
        fresh = self._path.with_name(self._path.name + ".new")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            handle = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(handle, "w") as file:
                file.write(text)
            fresh.replace(self._path)
        except OSError as error:
            raise OutputError(
                f"{self._path}: {error.strerror or error}", remedy="name another folder with --state"
            ) from None
        return token

    @property
    def is_there(self) -> bool:
        return self._path.is_file()

    def right(self, token: str) -> bool:
        try:
            kept = json.loads(self._path.read_text(encoding="utf-8"))
            return hmac.compare_digest(str(kept["sha256"]), _digest(str(kept["salt"]), token))
        except (OSError, ValueError, KeyError, TypeError):
            return False


def _digest(salt: str, token: str) -> str:
    return hashlib.sha256(f"{salt}:{token}".encode("utf-8", "replace")).hexdigest()


class Sessions:
    """In memory: a restart asks for the token again."""

    def __init__(self) -> None:
        self._until: dict[str, float] = {}
        self._logins: list[float] = []

    def may_try(self) -> bool:
        now = time.monotonic()
        self._logins = [at for at in self._logins if at > now - 60]
        if len(self._logins) >= LOGINS_PER_MINUTE:
            return False
        self._logins.append(now)
        return True

    def open(self) -> str:
        now = time.monotonic()
        self._until = {key: until for key, until in self._until.items() if until > now}
        while len(self._until) >= MOST_SESSIONS:
            self._until.pop(next(iter(self._until)))
        session = secrets.token_urlsafe(32)
        self._until[_digest("", session)] = now + SESSION_S
        return session

    def good(self, session: str) -> bool:
        return self._until.get(_digest("", session), 0.0) > time.monotonic()


async def _take_in(receive: Receive) -> None:
    """The body of a request that is refused, unread but for its length: a line that is closed while bytes of it are still on their way
    is reset, and the reason of the refusal is lost with it. Too long a body is not waited for."""
    left = MOST_BODY
    try:
        async with asyncio.timeout(LONGEST_REFUSED_S):
            while left > 0:
                message = await receive()
                left -= len(message.get("body", b""))
                if not message.get("more_body", False):  # all of it, or who asked has gone
                    return
    except TimeoutError:
        return


class Guard:
    """Around the application; refuses before anything else looks at a request."""

    def __init__(self, app: App, *, token: Token | None, tls: bool, hosts: frozenset[str] = LOOPBACK) -> None:
        """``token``: None for loopback, where only ``hosts`` are answered."""
        self._app, self._token, self._tls = app, token, tls
        self._hosts = hosts
        self.sessions = Sessions()
        self.refused = 0
        self._said: list[float] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return  # no websockets here; the server answers 403
        verdict = self._verdict(scope)
        if verdict is not None:
            if verdict[0] != 413:
                await _take_in(receive)
            await self._refuse(scope, send, *verdict)
            return
        left = MOST_BODY

        async def bounded() -> MutableMapping[str, Any]:
            nonlocal left
            message = await receive()
            left -= len(message.get("body", b""))
            if left < 0:
                raise ValueError("body too large")
            return message

        async def with_headers(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", []), *HEADERS]
            await send(message)

        await self._app(scope, bounded, with_headers)

    def _verdict(self, scope: Scope) -> tuple[int, str] | None:
        """Status and reason of a refusal."""
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        method, path = scope["method"], scope["path"]
        if method not in ("GET", "HEAD", "POST"):
            return 405, "method"
        if len(scope.get("raw_path") or b"") + len(scope["query_string"]) > LONGEST_TARGET:
            return 414, "target too long"
        host = headers.get(b"host", [])
        if len(host) != 1:
            return 400, "host missing"
        said = host[0].decode("latin-1").lower()
        name = said.rsplit(":", 1)[0] if not said.endswith("]") else said
        if self._token is None and name not in self._hosts:
            return 421, "host is not ours"
        wrong = self._from_elsewhere(headers, said, method, path)
        if wrong:
            return 403, wrong
        if method == "POST":
            size = headers.get(b"content-length", [])
            if len(size) != 1 or not size[0].isdigit():
                return 411, "length wanted"
            if len(size[0]) > 9 or int(size[0]) > MOST_BODY:
                return 413, "body too large"
            if headers.get(b"content-type", [b""])[0].split(b";")[0].strip() != b"application/json":
                return 415, "application/json wanted"
            if headers.get(b"x-edge-agent") != [b"1"]:
                return 403, "header x-edge-agent wanted"
        if self._token is not None and path not in OPEN_PATHS and not self._known(headers):
            return (303 if path in PAGES and method == "GET" else 401), "not logged in"
        return None

    def _from_elsewhere(self, headers: dict[bytes, list[bytes]], host: str, method: str, path: str) -> str | None:
        site = headers.get(b"sec-fetch-site", [b"same-origin"])[0]
        if site not in (b"same-origin", b"none"):
            followed = method == "GET" and path in PAGES and headers.get(b"sec-fetch-mode") == [b"navigate"]
            if not followed:  # a link from elsewhere may open the page, and nothing else
                return "from another site"
        for origin in headers.get(b"origin", []):
            parts = urlsplit(origin.decode("latin-1").lower())
            if parts.netloc != host or parts.scheme != ("https" if self._tls else "http"):
                return "another origin"
        return None

    def _known(self, headers: dict[bytes, list[bytes]]) -> bool:
        for line in headers.get(b"cookie", []):
            try:
                cookies = SimpleCookie(line.decode("latin-1"))
            except CookieError:
                continue
            if COOKIE in cookies and self.sessions.good(cookies[COOKIE].value):
                return True
        return False

    def login(self, token: str) -> str | None:
        """The cookie of a new session; None if the token is wrong."""
        if self._token is None or not self._token.right(token):
            return None
        secure = "; Secure" if self._tls else ""
        return f"{COOKIE}={self.sessions.open()}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_S:.0f}{secure}"

    def say(self, scope: Scope, status: int, reason: str) -> None:
        """In the log, at most so many a minute."""
        self.refused += 1
        now = time.monotonic()
        self._said = [at for at in self._said if at > now - 60]
        if len(self._said) < SAID_PER_MINUTE:
            self._said.append(now)
            client = (scope.get("client") or ("?",))[0]
            log.warning("refused %s %.100r of %s: %d, %s", scope["method"], scope["path"], client, status, reason)

    async def _refuse(self, scope: Scope, send: Send, status: int, reason: str) -> None:
        if status != 303:
            self.say(scope, status, reason)
        more = [(b"location", b"/login")] if status == 303 else []
        body = json.dumps({"error": reason}).encode()
        start = {"type": "http.response.start", "status": status}
        told = (b"content-type", b"application/json"), (b"content-length", b"%d" % len(body)), (b"connection", b"close")
        headers = [*told, *more, *HEADERS]
        await send({**start, "headers": headers})
        await send({"type": "http.response.body", "body": body})
