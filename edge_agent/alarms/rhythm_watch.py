"""The stream's rhythm, from the followers of all its leads: one speaks for the stream, the first that can be read.

It runs on both lanes. In the pipeline it has the beats alone; on the verdict lane (where a model classes the beats)
it leaves ventricular beats out and
hears what a rhythm model says of the intervals. Only one of the two is published: `evidence` says by what.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent import events
from edge_agent.alarms.rhythm import RhythmFollower
from edge_agent.stamp import Moment, Stamp

FORGET_S = 60.0
"""After a longer gap, or as long without a good signal, the rhythm is unknown until new beats show it."""
TURN_S = 10.0
"""A lead that has been bad for so long leaves the word to another."""
MODEL_HOLDS_S = 90.0
MODEL_INTERVALS = 64
"""So many a rhythm model looks at. Half of them from the sinus rhythm before, it calls them ordered while the fibrillation goes on."""
NEAR_S = 0.06
"""Two leads' beats are one if they lie so close: further apart the interval would not be the same within the entropy's tolerance."""
WAITS_S = 0.6
"""So long another lead may take to see a beat."""
SEEN = 8


@dataclass(frozen=True, slots=True)
class Change:
    rhythm: str
    channel: str
    since: int
    sample: int
    known: int
    evidence: dict[str, Any]

    def event(self, stamp: Stamp, moment: Moment) -> events.Rhythm:
        return events.Rhythm(
            **stamp(events.Rhythm, self.sample, self.known, moment),  # type: ignore[arg-type]
            channel=self.channel,
            rhythm=self.rhythm,  # type: ignore[arg-type]  # the watch says unknown, N or AFIB
            since=self.since,
            evidence=self.evidence,
        )


class RhythmWatch:
    def __init__(self, fs: float, channels: Sequence[str]) -> None:
        self._fs = fs
        self._followers = {name: RhythmFollower(fs) for name in channels}
        self._since = dict.fromkeys(channels, 0)
        self._speaks = channels[0] if channels else None
        self._ordered: dict[str, tuple[int, bool]] = {}
        """By channel: when a model last spoke, and whether it called the intervals ordered."""
        self._seen: dict[str, deque[int]] = {name: deque(maxlen=SEEN) for name in channels}
        self._doubtful: dict[str, tuple[int, bool]] = {}
        """By channel: the newest beat, if it was seen in noise and has not been looked for in the other leads yet."""
        self.rhythm = "unknown"

    def model(self, channel: str, sample: int, label: str | None) -> None:
        """A rhythm model's word on the intervals up to there. It ends a fibrillation if it saw nothing else."""
        if label is None:
            return
        ordered, follower = label != "AFIB", self._followers.get(channel)
        if ordered and follower is not None and follower.rhythm == "AFIB" and follower.beats_since < MODEL_INTERVALS:
            return
        self._ordered[channel] = (sample, ordered)

    def beat(self, channel: str, sample: int, known: int, *, bad: bool, ventricular: bool = False) -> Change | None:
        if channel not in self._followers:
            return None
        self._decide(channel)
        self._seen[channel].append(sample)
        if bad:
            self._doubtful[channel] = (sample, ventricular)
            return None
        self._take(channel, sample, ventricular)
        return self._say(channel, sample, known) if channel == self._speaks else None

    def _take(self, channel: str, sample: int, ventricular: bool) -> None:
        spoke, ordered = self._ordered.get(channel, (0, False))
        believed = ordered and sample - spoke < MODEL_HOLDS_S * self._fs
        since = self._followers[channel].beat(sample, ventricular=ventricular, ordered=believed)
        if since is not None:
            self._since[channel] = since

    def _decide(self, channel: str) -> None:
        """Intervals between beats seen in noise are no rhythm, unless another lead, whose noise is another, has the same beats and
        none between."""
        sample, ventricular = self._doubtful.pop(channel, (-1, False))
        if sample < 0:
            return
        near = NEAR_S * self._fs
        follower = self._followers[channel]
        others = [beats for name, beats in self._seen.items() if name != channel]
        same = [beats for beats in others if any(abs(beat - sample) <= near for beat in beats)]
        if not same:
            follower.gap()
            return
        if any(follower.last + near < beat < sample - near for beats in same for beat in beats):
            follower.skip()  # one of the two missed a beat, or saw one too many
        self._take(channel, sample, ventricular)

    def tick(self, now: int, bad_since: Mapping[str, int | None]) -> Change | None:
        """A lead that nothing good has come from hands over, and in the end its rhythm is not known any more."""
        for name in [name for name, (at, _) in self._doubtful.items() if now - at > WAITS_S * self._fs]:
            self._decide(name)
        for name, since in bad_since.items():
            if since is not None and now - since > FORGET_S * self._fs and self._followers[name].rhythm != "unknown":
                self._followers[name].forget()
                self._since[name] = now
        speaks = self._speaks
        if speaks is None:
            return None
        since = bad_since.get(speaks)
        if since is not None and now - since > TURN_S * self._fs:
            good = next((name for name, bad in bad_since.items() if bad is None), None)
            if good is not None and self._followers[good].rhythm != "unknown":
                self._speaks = speaks = good
        return self._say(speaks, now, now)

    def gap(self, first: int, end: int) -> Change | None:
        self._doubtful.clear()
        for name, follower in self._followers.items():
            follower.gap()
            self._seen[name].clear()
            if end - first > FORGET_S * self._fs:
                follower.forget()
                self._since[name] = end
        self._ordered.clear()
        return None if self._speaks is None else self._say(self._speaks, end, end)

    def _say(self, channel: str, sample: int, known: int) -> Change | None:
        follower = self._followers[channel]
        if follower.rhythm == self.rhythm:
            return None
        self.rhythm = follower.rhythm
        entropy = None if follower.entropy is None else round(follower.entropy, 3)
        evidence: dict[str, Any] = {"cosen": entropy}
        if channel in self._ordered:
            evidence["model"] = "N" if self._ordered[channel][1] else "AFIB"
        return Change(follower.rhythm, channel, self._since[channel], sample, known, evidence)
