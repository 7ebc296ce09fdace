"""The application: which address answers what. Everything a request may name is looked up, nothing becomes a path."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

from edge_agent import __version__
from edge_agent.errors import EdgeAgentError, OutputError
from edge_agent.review import reading, writing
from edge_agent.review.asking import Bad, body, whole_number
from edge_agent.review.corrections import Conflict, Corrections, Refused
from edge_agent.review.explain import explain
from edge_agent.review.guard import Guard, Token
from edge_agent.review.library import Library, Open, about
from edge_agent.review.live import LiveFeed
from edge_agent.review.serve import missing
from edge_agent.review.strips import StripKeeper

try:
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
    from starlette.routing import Route
except ImportError:
    raise missing() from None

log = logging.getLogger(__name__)

PAGE = Path(__file__).resolve().parent / "page"
TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
}
WORKERS = 3
PING_S = 5.0
Read = Callable[[Open, Request], Response]
Write = Callable[[Corrections, Open, dict[str, Any]], dict[str, Any]]
READ: Mapping[str, Read] = {
    "/api/changes": reading.changes,
    "/api/tile": reading.tile,
    "/api/beats": reading.beats,
    "/api/overview": reading.overview,
    "/api/next": reading.following,
    "/api/detail": reading.detail,
    "/api/strip.svg": reading.strip,
    "/api/export.rev": reading.beats_file,
    "/api/export.artf": reading.marks_file,
}
WRITE: Mapping[str, Write] = {
    "/api/correct": writing.correct,
    "/api/step": writing.step,
    "/api/export": writing.export,
}


@lru_cache(maxsize=64)
def static_files() -> Mapping[str, tuple[str, bytes]]:
    """Read once: a request names one of these, or nothing."""
    return {path.name: (TYPES[path.suffix], path.read_bytes()) for path in PAGE.iterdir() if path.suffix in TYPES}


class Page:
    """The handlers."""

    def __init__(
        self,
        *,
        library: Library | None,
        feed: LiveFeed | None,
        strips: StripKeeper | None = None,
        token: Token | None = None,
        tls: bool = False,
    ) -> None:
        self._library, self._feed, self._strips = library, feed, strips
        self._pool = ThreadPoolExecutor(WORKERS, "review-worker")
        self._explaining = asyncio.Semaphore(1)
        routes = [
            Route("/", self._shell("review.html" if library is not None else "live.html")),
            Route("/live", self._shell("live.html")),
            Route("/favicon.ico", self._no_icon),
            Route("/login", self._login, methods=["GET", "POST"]),
            Route("/static/{name}", self._static),
            Route("/strips/{name}", self._strip_of_alarm),
            Route("/api/about", self._threaded(self._about)),
            Route("/api/open", self._threaded(self._opened)),
            *(Route(path, self._reads(run)) for path, run in READ.items()),
            *(Route(path, self._writes(run), methods=["POST"]) for path, run in WRITE.items()),
            Route("/api/explain", self._explain),
            Route("/api/live", self._live),
        ]
        self.guard = Guard(
            Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found}), token=token, tls=tls
        )

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    # -- how a handler is called ---------------------------------------------------------------------------------

    def _threaded(self, run: Callable[[Request], Response]) -> Callable[[Request], Any]:
        async def handler(request: Request) -> Response:
            return await self._answer(request, lambda: run(request))

        return handler

    def _reads(self, run: Read) -> Callable[[Request], Any]:
        return self._threaded(lambda request: run(self._record(request), request))

    def _writes(self, run: Write) -> Callable[[Request], Any]:
        async def handler(request: Request) -> Response:
            try:
                said = await body(request)
            except Bad as error:
                return JSONResponse({"error": str(error)}, 400)

            def inside() -> Response:
                if not isinstance(said, dict):
                    raise Bad("an object is wanted")
                opened = self._named(said.pop("record", None))
                assert self._library is not None
                return JSONResponse(run(self._library.corrections, opened, said))

            return await self._answer(request, inside)

        return handler

    async def _answer(self, request: Request, run: Callable[[], Response]) -> Response:
        try:
            made = await asyncio.get_running_loop().run_in_executor(self._pool, run)
        except Bad as error:
            self.guard.say(dict(request.scope), 400, str(error))
            return JSONResponse({"error": str(error)}, 400)
        except Refused as error:
            return JSONResponse({"error": str(error)}, 400)
        except Conflict as error:
            return JSONResponse({"error": str(error), "latest": error.latest.plain()}, 409)
        except KeyError:
            self.guard.say(dict(request.scope), 404, "no such recording")
            return JSONResponse({"error": "no such recording"}, 404)
        except OutputError as error:
            log.error("%s", error)
            return JSONResponse({"error": error.what}, 507)
        except EdgeAgentError as error:
            return JSONResponse({"error": str(error)}, 422)
        made.headers.setdefault("cache-control", "no-store")
        return made

    def _record(self, request: Request) -> Open:
        return self._named(request.query_params.get("record"))

    def _named(self, name: object) -> Open:
        if self._library is None or not isinstance(name, str):
            raise KeyError(name)
        return self._library.open(name)

    # -- pages and files -----------------------------------------------------------------------------------------

    def _shell(self, name: str) -> Callable[[Request], Any]:
        async def page(_request: Request) -> Response:
            kind, body = static_files()[name]
            return Response(body, media_type=kind, headers={"cache-control": "no-cache"})

        return page

    async def _static(self, request: Request) -> Response:
        found = static_files().get(request.path_params["name"])
        if found is None:
            return await _not_found(request, None)
        return Response(found[1], media_type=found[0], headers={"cache-control": "no-cache"})

    async def _no_icon(self, _request: Request) -> Response:
        return Response(status_code=204)

    async def _login(self, request: Request) -> Response:
        if request.method == "GET":
            return Response(static_files()["login.html"][1], media_type=TYPES[".html"])
        try:
            said = await body(request)
            token = said.get("token") if isinstance(said, dict) else None
        except Bad:
            token = None
        if not self.guard.sessions.may_try():
            self.guard.say(dict(request.scope), 429, "too many tries")
            return JSONResponse({"error": "too many tries: wait a minute"}, 429)
        cookie = self.guard.login(token) if isinstance(token, str) else None
        if cookie is None:
            self.guard.say(dict(request.scope), 403, "wrong token")
            return JSONResponse({"error": "that is not the token"}, 403)
        return JSONResponse({"ok": True}, headers={"set-cookie": cookie})

    async def _strip_of_alarm(self, request: Request) -> Response:
        name = request.path_params["name"]
        path = self._strips.path(name) if self._strips is not None else None
        if path is None:
            if self._strips is not None and self._strips.is_awaited(name):
                words = "This strip is drawn ten seconds after the alarm; it will appear here."
                return PlainTextResponse(words, 202, {"refresh": "2", "cache-control": "no-store"})
            return await _not_found(request, None)
        try:
            return Response(path.read_bytes(), media_type="image/svg+xml")
        except OSError:
            return await _not_found(request, None)

    # -- recordings ----------------------------------------------------------------------------------------------

    def _about(self, _request: Request) -> Response:
        names = self._library.names() if self._library is not None else {}
        return JSONResponse(
            {
                "version": __version__,
                "live": self._feed is not None,
                "records": [about(name, path) for name, path in names.items()],
            }
        )

    def _opened(self, request: Request) -> Response:
        name = request.query_params.get("record")
        if self._library is not None and name is not None:
            self._library.renew(name)
        return reading.about(self._record(request), request)

    async def _explain(self, request: Request) -> Response:
        """One at a time: it loads a model in a process of its own."""
        if self._explaining.locked():
            return JSONResponse({"error": "another beat is being explained: try again"}, 429)

        def run() -> Response:
            opened = self._record(request)
            sample = whole_number(request, "sample", 0, opened.waves.samples)
            return JSONResponse(explain(opened.path, sample, opened.inference))

        async with self._explaining:
            return await self._answer(request, run)

    # -- live ----------------------------------------------------------------------------------------------------

    async def _live(self, request: Request) -> Response:
        if self._feed is None:
            return JSONResponse({"error": "there is nothing live here"}, 404)
        viewer = self._feed.join()
        if viewer is None:
            self.guard.say(dict(request.scope), 503, "too many viewers")
            return JSONResponse({"error": "too many viewers"}, 503)
        feed = self._feed

        async def frames() -> AsyncIterator[bytes]:
            told = 0
            try:
                yield b"retry: 1000\n\n"
                while True:
                    try:
                        await asyncio.wait_for(viewer.wake.wait(), PING_S)
                    except TimeoutError:
                        yield b": still here\n\n"
                        continue
                    viewer.wake.clear()
                    while viewer.frames:
                        yield viewer.frames.popleft()
                    if viewer.lost != told:
                        told = viewer.lost
                        yield f'event: lost\ndata: {{"frames":{told}}}\n\n'.encode()
            finally:
                feed.leave(viewer)

        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        return StreamingResponse(frames(), media_type="text/event-stream", headers=headers)


async def _not_found(request: Request, _error: Any) -> Response:
    return JSONResponse({"error": f"nothing at {request.url.path[:100]}"}, 404)
