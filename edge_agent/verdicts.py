"""The second lane of a stream: windows are judged, and what follows from verdicts is said.

Fed with what the pipeline passes on (windows, ticks, gaps), in that order. In a replay it is called inline, live from the
models' own thread; its events depend on that order alone, so they are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from edge_agent import events
from edge_agent.alarms.machine import AlarmMachine
from edge_agent.alarms.ventricular import VentricularRun
from edge_agent.config import AlarmLimits
from edge_agent.journey import Gap, Verdict, Window
from edge_agent.pipeline import UPDATE_S, Tick, alarm_event
from edge_agent.stamp import Moment, Stamp

BEAT_TASK = "ecg-beat"


class VerdictLane:
    def __init__(
        self,
        *,
        fs: float,
        ask: Callable[[Window], Verdict],
        tasks: dict[str, str],
        limits: AlarmLimits,
        stamp: Stamp,
        silences: Mapping[str, int] | None = None,
    ) -> None:
        self._fs = fs
        self._ask = ask
        self._tasks = tasks
        self.limits = limits  # may be replaced while running
        self._stamp = stamp
        self._silences = silences if silences is not None else {}
        # One rule for each channel and model (two models' verdicts on one beat are not two beats), one alarm for the
        # stream: two leads show one tachycardia.
        self._runs: dict[tuple[str, str], VentricularRun] = {}
        self._machine = AlarmMachine()
        self.verdicts = 0
        self.abstentions = 0
        self.missed = False
        """Set from outside when items were turned away: no run of beats may bridge them."""

    def take(self, item: Window | Tick | Gap, moment: Moment) -> Iterator[events.Event]:
        if self.missed:
            self.missed = False
            self._break_runs()
        match item:
            case Window():
                yield from self._window(item, moment)
            case Tick():
                yield from self._alarm(item.known, moment)
            case Gap():
                self._break_runs()

    def _break_runs(self) -> None:
        for run in self._runs.values():
            run.gap()

    def _window(self, window: Window, moment: Moment) -> Iterator[events.Event]:
        verdict = self._ask(window)
        self.verdicts += 1
        self.abstentions += verdict.label is None
        task = self._tasks[window.model]
        live = moment.arrived_ns > 0  # a replay's messages are the same every time: no stopwatch in them
        yield events.Verdict(
            **self._stamp(events.Verdict, window.sample, window.known, moment),  # type: ignore[arg-type]  # the stamp's fields
            channel=window.channel,
            task=task,
            label=verdict.label,
            reason=verdict.reason,
            scores=verdict.scores,
            model=verdict.model,
            version=verdict.version,
            digest=verdict.digest,
            backend=verdict.backend,
            invoke_us=verdict.invoke_us if live and verdict.invoke_us else None,
        )
        if task == BEAT_TASK:
            run = self._runs.setdefault((window.channel, window.model), VentricularRun(self._fs))
            run.verdict(verdict)
            yield from self._alarm(window.known, moment)

    def _alarm(self, now: int, moment: Moment) -> Iterator[events.Event]:
        findings = (run.finding(now, channel, self.limits) for (channel, _), run in self._runs.items())
        finding = next((found for found in findings if found is not None), None)
        kind: events.AlarmKind = "ventricular_tachycardia"
        clear_after, update_after = round(self.limits.clear_s * self._fs), round(UPDATE_S * self._fs)
        transition = self._machine.step(finding, now, clear_after, update_after)
        if transition is not None:
            silenced = now < self._silences.get(kind, 0)
            yield alarm_event(self._stamp, moment, kind, "high", transition, now, self._fs, silenced)
