"""The second lane of a stream: windows are judged, and what follows from verdicts is said.

Fed with what the pipeline passes on (windows, ticks, gaps), in that order. In a replay it is called inline, live from the
models' own thread; its events depend on that order alone, so they are the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from edge_agent import events
from edge_agent.alarms.judged import Judged
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.panel import AlarmPanel, Controls
from edge_agent.alarms.rhythm_watch import Change, RhythmWatch
from edge_agent.alarms.rules.registry import VERDICT_RULES
from edge_agent.inference.manifest import BEAT_TASK, RHYTHM_TASK
from edge_agent.items import Tick
from edge_agent.journey import Gap, Verdict, Window
from edge_agent.stamp import Moment, Stamp

INTERVALS_ONLY = frozenset({"N", "AFIB"})
"""Labels of a rhythm model whose word on the order of the intervals counts."""


class VerdictLane:
    def __init__(
        self,
        *,
        fs: float,
        ask: Callable[[Window], Verdict],
        tasks: dict[str, str],
        limits: AlarmLimits,
        stamp: Stamp,
        channels: Sequence[str] = (),
        controls: Controls | None = None,
    ) -> None:
        """``channels``: the ECG's, in order."""
        self._fs = fs
        self._ask = ask
        self.tasks = tasks  # may be replaced while running
        self.limits = limits  # may be replaced while running
        self._stamp = stamp
        self._judged = Judged(fs)
        self._rhythm = RhythmWatch(fs, tuple(channels))
        controls = Controls() if controls is None else controls
        self._alarms = AlarmPanel(VERDICT_RULES, fs=fs, stamp=stamp, controls=controls)
        self.verdicts = 0
        self.abstentions = 0
        self.missed = False
        """Set from outside when items were turned away: no run of beats may bridge them."""

    def take(self, item: Window | Tick | Gap, moment: Moment) -> Iterator[events.Event]:
        if self.missed:
            self.missed = False
            self._judged.gap()
        match item:
            case Window():
                yield from self._window(item, moment)
            case Tick(last=True):
                yield from self._alarms.end(item.known, self.limits, moment, "signal ended")
            case Tick():
                self._judged.scene = item.scene
                absent = item.scene.absent_since
                bad_since = {
                    lead.channel: absent if lead.bad_since is None else lead.bad_since for lead in item.scene.leads
                }
                yield from self._rhythm_changed(self._rhythm.tick(item.known, bad_since), moment)
                yield from self._alarms.step(self._judged, item.known, self.limits, moment, self._judged.scene.standing)
            case Gap():
                self._judged.gap()
                yield from self._rhythm_changed(self._rhythm.gap(item.first, item.sample), moment)

    def _window(self, window: Window, moment: Moment) -> Iterator[events.Event]:
        verdict = self._ask(window)
        self.verdicts += 1
        self.abstentions += verdict.label is None
        task = self.tasks[window.model]
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
            self._judged.verdict(verdict)
            bad, ventricular = window.abstain is not None, verdict.label == "V"
            change = self._rhythm.beat(window.channel, window.sample, window.known, bad=bad, ventricular=ventricular)
            yield from self._rhythm_changed(change, moment)
            yield from self._alarms.step(self._judged, window.known, self.limits, moment, self._judged.scene.standing)
        elif task == RHYTHM_TASK and verdict.scores.keys() <= INTERVALS_ONLY:
            self._rhythm.model(window.channel, window.sample, verdict.label)

    def _rhythm_changed(self, change: Change | None, moment: Moment) -> Iterator[events.Event]:
        if change is not None:
            self._judged.rhythm = change
            yield change.event(self._stamp, moment)
