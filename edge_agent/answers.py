"""What a request over MQTT is answered; `outputs.requests` says how it came."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from edge_agent import events, second_opinion
from edge_agent.alarms.limits import changed, differences
from edge_agent.errors import RequestError
from edge_agent.inference.installed.live import LiveModels
from edge_agent.pipeline import Pipeline
from edge_agent.runner import StreamRunner

log = logging.getLogger(__name__)

LONGEST_MARK = 200
LONGEST_SILENCE_S = 3600
_ARGUMENTS = {
    "info": set(), "reload": set(), "measure": set(), "mark": {"stream", "text"}, "silence": {"stream", "kind", "seconds"},
    "acknowledge": {"stream", "kind"}, "limits": {"stream", "limits"}, "verify": second_opinion.ARGUMENTS,
}  # fmt: skip


class Answers:
    """On the requests' own thread."""

    def __init__(
        self,
        runners: Sequence[StreamRunner],
        models: LiveModels,
        publish: Callable[[events.Event], None],
        *,
        reload: Callable[[], None],
        info: Callable[[], events.Info],
    ) -> None:
        self._runners, self._models, self._publish = runners, models, publish
        self._reload, self._info = reload, info
        self._second = second_opinion.SecondOpinion()

    def __call__(self, kind: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        unknown = set(arguments) - _ARGUMENTS[kind]
        if unknown:
            raise RequestError(f"unknown: {', '.join(sorted(map(repr, unknown))[:5])}")
        match kind:
            case "reload":
                self._reload()
                return {"reload": "begun; bridge/info follows"}
            case "measure":
                if not self._models.engines.measure_again():
                    raise RequestError("no model has a file for the TPU: there is nothing to choose from")
                return {"measure": "begun; bridge/engine follows"}
            case "mark":
                return self._mark(self._pipeline(arguments.get("stream")), arguments.get("text", ""))
            case "silence":
                pipeline = self._pipeline(arguments.get("stream"))
                return self._silence(pipeline, arguments.get("kind"), arguments.get("seconds"))
            case "acknowledge":
                pipeline, alarm = self._pipeline(arguments.get("stream")), _alarm_kind(arguments.get("kind"))
                at = pipeline.acknowledge(alarm)
                return {"kind": alarm, "acknowledged": at is not None, "from_sample": at}
            case "limits":
                return self._limits(arguments.get("stream"), arguments.get("limits"))
            case "verify":
                pipeline = self._pipeline(arguments.get("stream"))
                return self._second.answer(pipeline, self._models.judge.models, arguments)
            case _:
                return self._info().model_dump(mode="json", by_alias=True)

    def _pipeline(self, stream: object) -> Pipeline:
        for runner in self._runners:
            if runner.config.name == stream and runner.pipeline is not None:
                return runner.pipeline
        there = ", ".join(runner.config.name for runner in self._runners)
        raise RequestError(f"stream: no such stream, or not open yet; there are: {there}")

    def _mark(self, pipeline: Pipeline, text: object) -> dict[str, Any]:
        if not isinstance(text, str) or len(text) > LONGEST_MARK or not text.isprintable() or not text.strip():
            raise RequestError(f"text: 1 to {LONGEST_MARK} printable characters are wanted, and not only blanks")
        mark = pipeline.mark(text)
        self._publish(mark)
        return {"sample": mark.sample, "seq": mark.seq}

    @staticmethod
    def _silence(pipeline: Pipeline, kind: object, seconds: object) -> dict[str, Any]:
        alarm = _alarm_kind(kind)
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_SILENCE_S:
            raise RequestError(f"seconds: 0 to {LONGEST_SILENCE_S} are wanted; 0 ends a silence")
        return {"kind": alarm, "until_sample": pipeline.silence(alarm, seconds)}

    def _limits(self, stream: object, given: object) -> dict[str, Any]:
        """Until the next reload or restart, which take what the file says; a limit given as null is the file's again."""
        pipeline = self._pipeline(stream)
        runner = next(one for one in self._runners if one.pipeline is pipeline)
        try:
            limits = changed(before := runner.config.alarms, given, runner.configured)
        except ValueError as error:
            raise RequestError(f"limits: {error}") from None
        runner.set_limits(limits)
        what = "; ".join(differences(before, limits)) or "nothing, they were so before"
        log.info("%s: alarm limits changed by request: %s", runner.config.name, what)
        return {"limits": limits.model_dump(mode="json")}


def _alarm_kind(kind: object) -> str:
    kinds = get_args(events.AlarmKind)
    if kind not in kinds:
        raise RequestError(f"kind: one of {', '.join(kinds)} is wanted")
    return str(kind)
