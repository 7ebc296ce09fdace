"""The application: which address answers what. Everything a request may name is looked up, nothing becomes a path."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent import __version__
from edge_agent.errors import EdgeAgentError, OutputError
from edge_agent.review import picture
from edge_agent.review.corrections import Conflict, Refused, wish
from edge_agent.review.explain import explain
from edge_agent.review.guard import Guard, Token
from edge_agent.review.library import Library, Open, about
from edge_agent.review.live import LiveFeed
from edge_agent.review.merged import FILTERS, SEGMENT_S
from edge_agent.review.pyramid import FINEST, STEP, TILE
from edge_agent.review.serve import missing
from edge_agent.review.strip_of import strip_of
from edge_agent.review.strips import StripKeeper

try:
    from starlette.applications import Starlette
    from starlette.requests import ClientDisconnect, Request
    from starlette.responses import JSONResponse, Response, StreamingResponse
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
MOST_BEATS = 4000
MOST_BINS = 2000
WORKERS = 3
PING_S = 5.0
_WHOLE = re.compile(r"[0-9]{1,12}")


class Bad(ValueError):
    """A request that makes no sense; its text is the answer."""


@lru_cache(maxsize=64)
def static_files() -> Mapping[str, tuple[str, bytes]]:
    """Read once: a request names one of these, or nothing."""
    return {path.name: (TYPES[path.suffix], path.read_bytes()) for path in PAGE.iterdir() if path.suffix in TYPES}


def whole_number(request: Request, name: str, low: int, high: int) -> int:
    said = request.query_params.get(name)
    if said is None or not _WHOLE.fullmatch(said) or not low <= int(said) <= high:
        raise Bad(f"{name}: a whole number from {low} to {high} is wanted")
    return int(said)


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
            Route("/api/tile", self._threaded(self._tile)),
            Route("/api/beats", self._threaded(self._beats)),
            Route("/api/overview", self._threaded(self._overview)),
            Route("/api/next", self._threaded(self._next)),
            Route("/api/detail", self._threaded(self._detail)),
            Route("/api/strip.svg", self._threaded(self._strip)),
            Route("/api/changes", self._threaded(self._changes)),
            Route("/api/export.rev", self._threaded(self._download)),
            Route("/api/export.artf", self._threaded(self._download)),
            Route("/api/explain", self._explain),
            Route("/api/correct", self._correct, methods=["POST"]),
            Route("/api/step", self._step, methods=["POST"]),
            Route("/api/export", self._export, methods=["POST"]),
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

    async def _body(self, request: Request) -> Any:
        try:
            return json.loads(await request.body())
        except (ValueError, RecursionError, ClientDisconnect):
            raise Bad("the body is not JSON") from None

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
            said = await self._body(request)
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
        path = self._strips.path(request.path_params["name"]) if self._strips is not None else None
        if path is None:
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
        opened = self._record(request)
        waves = opened.waves
        merged, journal = opened.merged()
        return JSONResponse(
            {
                "name": opened.name,
                "fs": waves.fs,
                "samples": waves.samples,
                "began": None if waves.began is None else waves.began.isoformat(),
                "signals": [{"name": one.name, "kind": one.kind, "unit": one.unit} for one in waves.signals],
                "levels": opened.pyramid.levels,
                "step": STEP,
                "tile": TILE,
                "finest": FINEST,
                "segment_s": SEGMENT_S,
                "reference": bool(opened.reference[0].size),
                "said": opened.said,
                **self._progress(opened, merged.counts(), journal.seq),
            }
        )

    def _progress(self, opened: Open, counts: dict[str, int], seq: int) -> dict[str, Any]:
        found = opened.found
        return {
            "seq": seq,
            "version": found.version,
            "counts": counts,
            "models": {"state": found.state, "reached": found.reached, "why": found.why},
            "pyramid": opened.pyramid.reached,
        }

    def _changes(self, request: Request) -> Response:
        """What others did since, and how far the models and the pyramid are."""
        opened = self._record(request)
        after = whole_number(request, "after", 0, 10**12)
        merged, journal = opened.merged()
        fresh = [one.plain() for one in journal.operations if one.seq > after][-200:]
        return JSONResponse({**self._progress(opened, merged.counts(), journal.seq), "operations": fresh})

    def _tile(self, request: Request) -> Response:
        opened = self._record(request)
        level = whole_number(request, "level", 0, 40)
        index = whole_number(request, "index", 0, 10**9)
        try:
            tile = opened.pyramid.tile(level, index)
        except ValueError as error:
            raise Bad(str(error)) from None
        both = [tile.low] if level == 0 else [tile.low, tile.high]
        body = np.ascontiguousarray(np.stack(both, axis=1), "<f4").tobytes()
        headers = {"x-whole": "1" if tile.whole else "0"}
        return Response(body, media_type="application/octet-stream", headers=headers)

    def _stretch(self, request: Request, opened: Open, longest_s: float | None = None) -> tuple[int, int]:
        first = whole_number(request, "first", 0, opened.waves.samples)
        end = whole_number(request, "end", first + 1, 10**12)
        end = min(end, opened.waves.samples)
        if longest_s is not None and end - first > longest_s * opened.waves.fs + 1:
            raise Bad(f"at most {longest_s:g} s at once")
        return first, end

    def _beats(self, request: Request) -> Response:
        opened = self._record(request)
        first, end = self._stretch(request, opened)
        merged, journal = opened.merged()
        beats = merged.beats(first, end, MOST_BEATS)
        segments = [one for one in merged.segments if one.first < end and one.end > first]
        return JSONResponse(
            {
                "seq": journal.seq,
                "version": merged.version[0],
                "beats": None if beats is None else [one.plain() for one in beats],
                "segments": [one.plain() for one in segments] if len(segments) <= MOST_BEATS else None,
                "alarms": list(opened.found.alarms(first, end))[:MOST_BEATS],
                "marks": opened.found.marks(first, end)[:MOST_BEATS],
                "reviewed": [[one.value["first"], one.value["end"]] for one in journal.reviewed],
            }
        )

    def _overview(self, request: Request) -> Response:
        opened = self._record(request)
        bins = whole_number(request, "bins", 1, MOST_BINS)
        merged, journal = opened.merged()
        samples, fs = opened.waves.samples, opened.waves.fs
        made = merged.overview(bins, samples, fs)
        vitals = opened.found.vitals
        pressure: list[list[float | None]] = []
        for column in (2, 3):
            row: list[float | None] = [None] * bins
            where = np.minimum(vitals[:, 0] * bins // max(1, samples), bins - 1).astype(int)
            for i in range(bins) if vitals.size and np.isfinite(vitals[:, column]).any() else ():
                part = vitals[where == i, column]
                part = part[np.isfinite(part)]
                row[i] = round(float(np.median(part)), 1) if part.size else None
            pressure.append(row)
        abnormal = [[one.first, one.end] for one in merged.segments if one.abnormal][:MOST_BEATS]
        alarms = [
            [one["sample"], one["until"], one["priority"], one["kind"]] for one in opened.found.alarms(0, samples)
        ][:MOST_BEATS]
        return JSONResponse(
            {
                **made,
                "systolic": pressure[0],
                "diastolic": pressure[1],
                "abnormal": abnormal,
                "alarms": alarms,
                "reviewed": [[one.value["first"], one.value["end"]] for one in journal.reviewed],
            }
        )

    def _next(self, request: Request) -> Response:
        opened = self._record(request)
        which = request.query_params.get("filter", "all")
        if which not in FILTERS:
            raise Bad(f"filter: one of {', '.join(FILTERS)} is wanted")
        at = whole_number(request, "at", 0, 10**12)
        forward = request.query_params.get("way") != "back"
        merged, _ = opened.merged()
        if which == "segments":
            segment = merged.next_segment(at, forward)
            return JSONResponse({"segment": None if segment is None else segment.plain()})
        beat = merged.next(which, at, forward)
        return JSONResponse({"beat": None if beat is None else beat.plain()})

    def _detail(self, request: Request) -> Response:
        opened = self._record(request)
        return JSONResponse({"detail": opened.found.detail(whole_number(request, "sample", 0, 10**12))})

    def _strip(self, request: Request) -> Response:
        opened = self._record(request)
        first, end = self._stretch(request, opened, picture.LONGEST_S)
        text = strip_of(opened, first, end)
        name = "".join(char if char.isalnum() or char in "-_" else "_" for char in opened.name)[:80]
        headers = {"content-disposition": f'inline; filename="{name}-{first}.svg"'} if name.isascii() else {}
        return Response(text, media_type="image/svg+xml", headers=headers)

    async def _explain(self, request: Request) -> Response:
        """One at a time: it loads a model in a process of its own."""
        if self._explaining.locked():
            return JSONResponse({"error": "another beat is being explained: try again"}, 429)

        def run() -> Response:
            opened = self._record(request)
            sample = whole_number(request, "sample", 0, opened.waves.samples)
            return JSONResponse(explain(opened.path, sample))

        async with self._explaining:
            return await self._answer(request, run)

    # -- what changes something ----------------------------------------------------------------------------------

    async def _posted(self, request: Request, run: Callable[[Open, dict[str, Any]], dict[str, Any]]) -> Response:
        try:
            said = await self._body(request)
        except Bad as error:
            return JSONResponse({"error": str(error)}, 400)

        def inside() -> Response:
            if not isinstance(said, dict):
                raise Bad("an object is wanted")
            opened = self._named(said.pop("record", None))
            return JSONResponse(run(opened, said))

        return await self._answer(request, inside)

    async def _correct(self, request: Request) -> Response:
        def run(opened: Open, said: dict[str, Any]) -> dict[str, Any]:
            asked = wish(said)
            for at in (asked.sample, asked.first, None if asked.end is None else asked.end - 1):
                if at is not None and at >= opened.waves.samples:
                    raise Refused(f"sample {at} is beyond the recording's end")
            if asked.channel is not None and asked.channel not in {one.name for one in opened.waves.signals}:
                raise Refused("there is no such channel")
            assert self._library is not None

            def taken() -> None:
                if asked.act in ("add", "move") and asked.sample is not None:
                    merged, _ = opened.merged()
                    there = merged.beats(asked.sample, asked.sample + 1, MOST_BEATS) or []
                    if any(one.id != asked.id and not one.deleted for one in there):
                        raise Refused(f"there is a beat at sample {asked.sample} already")

            return {"operation": self._library.corrections.apply(opened.name, asked, taken).plain()}

        return await self._posted(request, run)

    async def _step(self, request: Request) -> Response:
        def run(opened: Open, said: dict[str, Any]) -> dict[str, Any]:
            act, who, token = said.get("act"), said.get("who"), said.get("token")
            if act not in ("undo", "redo") or not isinstance(who, str) or not isinstance(token, str) or len(token) > 64:
                raise Bad("act (undo or redo), who and token are wanted")
            assert self._library is not None
            operation = self._library.corrections.step(opened.name, token, who, act)
            journal = self._library.corrections.journal(opened.name)
            target = next((one for one in journal.operations if one.seq == operation.value["target"]), None)
            return {"operation": operation.plain(), "target": None if target is None else target.plain()}

        return await self._posted(request, run)

    async def _export(self, request: Request) -> Response:
        def run(opened: Open, _said: dict[str, Any]) -> dict[str, Any]:
            done = opened.export()
            return {
                "annotations": str(done.annotations),
                "marks": str(done.marks),
                "beats": done.beats,
                "corrected": done.corrected,
                "artefacts": done.artefacts,
            }

        return await self._posted(request, run)

    def _download(self, request: Request) -> Response:
        opened = self._record(request)
        done = opened.export()
        path = done.annotations if request.url.path.endswith(".rev") else done.marks
        headers = {"content-disposition": f'attachment; filename="{path.name}"'}
        return Response(path.read_bytes(), media_type="application/octet-stream", headers=headers)

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
