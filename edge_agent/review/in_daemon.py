"""The page inside the daemon: fed by the hub's events and the rings, never waited for."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from pathlib import Path

from edge_agent import events
from edge_agent.config import Config, review_folder
from edge_agent.errors import OutputError
from edge_agent.pipeline import Pipeline
from edge_agent.review.guard import Token, is_loopback
from edge_agent.review.library import Library
from edge_agent.review.live import LiveFeed
from edge_agent.review.serve import PageServer
from edge_agent.review.strips import StripKeeper

log = logging.getLogger(__name__)


class DaemonPage:
    """Opened by its constructor (EdgeAgentError where it cannot be), then started and stopped with the daemon."""

    def __init__(
        self,
        settings: Config,
        streams: Callable[[], Mapping[str, tuple[str, Pipeline | None]]],
        broker: Callable[[], bool] | None = None,
    ) -> None:
        from edge_agent.review.web import Page

        wanted = settings.review
        state = review_folder(wanted.state)
        token: Token | None = None
        if not is_loopback(wanted.host):
            token = Token(state / "token.json")
            if not token.is_there:
                raise OutputError(
                    f"review.host = {wanted.host}: beyond loopback the page wants a token, and there is none in {state}",
                    remedy=f"make one: edge-agent review --new-token --state {state}",
                )
            if wanted.cert_file is None:
                log.warning("review: without TLS the token and the signal can be read by others on the network")
        strips = StripKeeper(state / "strips")
        self.feed = LiveFeed(streams, settings.device.id, strips, broker)
        self._library = self._recordings(settings, state)
        self._page = Page(
            library=self._library, feed=self.feed, strips=strips, token=token, tls=wanted.cert_file is not None
        )
        self._server = PageServer(
            self._page.guard, wanted.host, wanted.port, cert=wanted.cert_file, key=wanted.key_file
        )

    @staticmethod
    def _recordings(settings: Config, state: Path) -> Library | None:
        folder = settings.review.recordings or (settings.recorder.folder if settings.recorder is not None else None)
        if folder is None or not folder.is_dir():
            return None
        return Library(folder, state, models=settings.review.models, inference=settings.inference)

    @staticmethod
    def linked(event: events.Event) -> events.Event:
        """An alarm, with where its strip will be."""
        if isinstance(event, events.Alarm) and event.state != "suppressed":
            return event.model_copy(update={"strip": f"/strips/{StripKeeper.name(event)}"})
        return event

    def start(self) -> None:
        self.feed.start()
        self._server.start()
        log.info("review: %s", self._server.url)

    def stop(self) -> None:
        self._server.stop(self.feed.stop)
        self._page.close()
        if self._library is not None:
            self._library.close()
