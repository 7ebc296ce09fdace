"""``--live``: streams of a configuration (or four simulated patients) through the daemon's own runners, for the page alone: no broker."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

from edge_agent import events
from edge_agent.config import InferenceConfig, SimulatedSource, StreamConfig
from edge_agent.errors import SourceError
from edge_agent.pipeline import Pipeline
from edge_agent.review.labelling import judge_of
from edge_agent.review.live import LiveFeed
from edge_agent.review.strips import StripKeeper
from edge_agent.runner import StreamRunner
from edge_agent.sources.base import Source
from edge_agent.sources.open import open_source
from edge_agent.worker import InferenceWorker

QUEUE = 256


def simulated(count: int = 4, speed: float = 1.0) -> list[StreamConfig]:
    return [
        StreamConfig(name=f"bed-{n}", source=SimulatedSource(type="simulated", seed=n, speed=speed, forever=True))
        for n in range(1, count + 1)
    ]


class LiveHost:
    """Owns the runners, the models' thread and the feed."""

    def __init__(
        self,
        streams: list[StreamConfig],
        device: str,
        strips: StripKeeper | None = None,
        heard: Callable[[events.Event], None] | None = None,
        inference: InferenceConfig | None = None,
    ) -> None:
        """Raises EdgeAgentError."""
        names = sorted({name for stream in streams for name in stream.models or ()})
        judge = judge_of(inference or InferenceConfig(), names)
        self._heard = heard
        self.feed = LiveFeed(self._looked_at, device, strips)
        self._worker = InferenceWorker(self._publish, QUEUE)
        self._runners: list[StreamRunner] = []
        for stream in streams:
            source: Source | None = None
            try:
                source = open_source(stream)
            except SourceError:
                if not getattr(stream.source, "wait_for_port", False):
                    for runner in self._runners:
                        runner.stop()
                    raise
            self._runners.append(
                StreamRunner(
                    stream,
                    device=device,
                    session="review",
                    judge=judge,
                    worker=self._worker,
                    publish=self._publish,
                    say_available=lambda *_: None,
                    source=source,
                )
            )

    def _looked_at(self) -> dict[str, tuple[str, Pipeline | None]]:
        return {runner.config.name: (runner.state, runner.pipeline) for runner in self._runners}

    def _publish(self, event: events.Event) -> None:
        self.feed.event(event)
        if self._heard is not None:
            with suppress(Exception):
                self._heard(event)

    def start(self) -> None:
        self._worker.start()
        for runner in self._runners:
            runner.start()
        self.feed.start()

    def stop(self) -> None:
        for runner in self._runners:
            runner.stop()
        for runner in self._runners:
            runner.join(1.0)
        self._worker.stop(0.5)
        self.feed.stop()
