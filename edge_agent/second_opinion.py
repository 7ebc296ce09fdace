"""The request ``verify``: a monitor's alarm on a stream, and what the agent thinks of it.

Answered on the requests' own thread from a copy of the evidence, so that neither detection nor alarms wait for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from edge_agent.alarms.combiner import combiner_of
from edge_agent.alarms.opinion import Combiner
from edge_agent.clock import StreamClock
from edge_agent.errors import EdgeAgentError, RequestError
from edge_agent.inference.loaded import LoadedModel
from edge_agent.pipeline import AHEAD_S, OPINION_WITHIN_S, Pipeline

ARGUMENTS = {"stream", "kind", "time", "sample"}


class SecondOpinion:
    """Remembers the combiner until there are other models."""

    def __init__(self) -> None:
        self._made_of: tuple[str, ...] | None = None
        self._combiner: Combiner | None = None
        self._refused: str | None = None

    def answer(
        self, pipeline: Pipeline, models: Mapping[str, LoadedModel], arguments: Mapping[str, Any]
    ) -> dict[str, Any]:
        kind = arguments.get("kind")
        if not isinstance(kind, str):
            raise RequestError("kind: of the alarm, a text, is wanted")
        combiner = self._of(models)
        now = pipeline.ring.end
        asked = _sample(pipeline.clock, now, arguments)
        if asked is not None:
            if arguments.get("time") is not None:
                _in_reach((now - asked) / pipeline.fs)
            asked = max(0, asked)
        sample, said = pipeline.opinion(kind, asked, combiner)
        return {
            "kind": kind,
            "sample": sample,
            "answer": said.answer,
            "probability": round(said.probability, 3),
            "by": said.by,
            "evidence": said.evidence,
        } | ({} if self._refused is None else {"refused": self._refused})

    def _of(self, models: Mapping[str, LoadedModel]) -> Combiner | None:
        made_of = tuple(model.artifact.digest for model in models.values())
        if made_of != self._made_of:
            self._combiner, self._refused = None, None
            try:
                self._combiner = combiner_of(model.artifact for model in models.values())
            except EdgeAgentError as error:  # then the scorecard answers, and says so
                self._refused = error.what
            self._made_of = made_of
        return self._combiner


def _sample(clock: StreamClock, now: int, arguments: Mapping[str, Any]) -> int | None:
    """The moment asked about; None: now."""
    sample, time = arguments.get("sample"), arguments.get("time")
    if sample is not None and time is not None:
        raise RequestError("time or sample, not both")
    if sample is not None:
        if isinstance(sample, bool) or not isinstance(sample, int) or sample < 0:
            raise RequestError("sample: a whole number from 0 is wanted")
        return sample
    return None if time is None else _at(clock, now, time)


def _at(clock: StreamClock, now: int, text: object) -> int:
    """A time of day as the stream's sample."""
    try:
        asked = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        asked = None
    if asked is None or asked.tzinfo is None:
        raise RequestError("time: a time of day with its zone is wanted, such as 2026-01-31T12:00:00Z")
    begin, newest = clock.utc(0), clock.utc(max(1, now))
    if begin is None or newest is None or newest <= begin:
        raise RequestError("time: the stream's own time of day is not known; ask with sample")
    per_s = max(1, now) / (newest - begin).total_seconds()
    seconds = (asked - begin).total_seconds()
    if abs(seconds) > 1e9:
        raise RequestError("time: not in the time of this stream")
    return round(seconds * per_s)


def _in_reach(ago_s: float) -> None:
    """Whoever asks with a time is answered in seconds; the pipeline knows samples alone."""
    if ago_s > OPINION_WITHIN_S:
        raise RequestError(f"time: {ago_s:.0f} s ago; no more than {OPINION_WITHIN_S:g} s back can be asked about")
    if ago_s < -AHEAD_S:
        raise RequestError(f"time: {-ago_s:.0f} s ahead of the stream; it has not come yet")
