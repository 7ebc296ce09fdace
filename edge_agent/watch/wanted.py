"""Which messages are shown, and which one ends the watch."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, get_args

from paho.mqtt.client import topic_matches_sub

from edge_agent.events import Alarm, Availability, BridgeState, Message
from edge_agent.watch.news import BRIDGE_TOPICS, KINDS, STREAM_TOPICS, News

USUAL = ("alarm", "rhythm", "quality", "gap", "mark", "availability", "state")
"""What people want to read. Beats, verdicts and vitals are asked for by name: a ward of them is no text."""


def _values(message: type[Message], field: str) -> tuple[str, ...]:
    return get_args(message.model_fields[field].annotation)


# What the parts of a condition may be; None where nobody can list them all.
PARTS: dict[str, tuple[tuple[str, ...] | None, ...]] = {
    "alarm": (_values(Alarm, "kind"), _values(Alarm, "state"), _values(Alarm, "priority")),
    "verdict": (None,),
    "rhythm": (None,),
    "quality": (("good", "bad"),),
    "availability": (_values(Availability, "state"),),
    "state": (_values(BridgeState, "state"),),
}


def parts_of(news: News) -> tuple[str, ...]:
    """What a condition is held against."""
    data: dict[str, Any] = news.data
    match news.kind:
        case "alarm":
            found = [data.get("kind"), data.get("state"), data.get("priority")]
        case "verdict":
            found = [data.get("label") or "abstained"]
        case "rhythm":
            found = [data.get("rhythm")]
        case "quality":
            found = ["good" if data.get("good") is True else "bad"]
        case "availability" | "state":
            found = [data.get("state")]
        case _:
            found = []
    return tuple(str(one) for one in found)


@dataclass(frozen=True, slots=True)
class Condition:
    """``alarm:asystole``, ``alarm:*:cleared``, ``verdict:V``, ``state:online``, ``gap``."""

    kind: str
    patterns: tuple[str, ...]

    def met(self, news: News) -> bool:
        found = parts_of(news)
        return news.kind == self.kind and all(
            fnmatchcase(part, pattern) for part, pattern in zip(found, self.patterns, strict=False)
        )


def condition(text: str) -> Condition:
    """Refuses with `ValueError` what could never come true: a misspelt alarm would be waited for in vain."""
    kind, *patterns = text.split(":")
    if kind not in KINDS:
        raise ValueError(f"{text!r}: no kind is called {kind!r}{_guess(kind, KINDS)}")
    allowed = PARTS.get(kind, ())
    if len(patterns) > len(allowed):
        raise ValueError(f"{text!r}: after {kind} come at most {len(allowed)} parts")
    for pattern, values in zip(patterns, allowed, strict=False):
        if values is not None and not any(fnmatchcase(value, pattern) for value in values):
            raise ValueError(f"{text!r}: {pattern!r} is none of {', '.join(values)}{_guess(pattern, values)}")
    if kind == "alarm" and len(patterns) < 2:  # the end of an alarm is not what "until asystole" means
        patterns = [patterns[0] if patterns else "*", "raised"]
    return Condition(kind, tuple(patterns))


def _guess(word: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """The filters. An empty tuple lets everything through."""

    base: str
    kinds: tuple[str, ...] = USUAL
    devices: tuple[str, ...] = ()
    streams: tuple[str, ...] = ()
    priorities: tuple[str, ...] = ()
    until: tuple[Condition, ...] = ()

    def whose(self, news: News) -> bool:
        """Of a device and stream that was asked for; what the agent says of itself is of no stream."""
        return (not self.devices or news.device in self.devices) and (
            not self.streams or news.stream is None or news.stream in self.streams
        )

    def shown(self, news: News) -> bool:
        if news.kind not in self.kinds or not self.whose(news):
            return False
        return news.kind != "alarm" or not self.priorities or news.data.get("priority") in self.priorities

    def ends(self, news: News) -> bool:
        if news.kind == "alarm" and self.priorities and news.data.get("priority") not in self.priorities:
            return False
        return self.whose(news) and any(one.met(news) for one in self.until)

    def topics(self, also: Sequence[str] = ()) -> list[str]:
        """The narrowest subscriptions that bring all of it, so that the broker sends nothing in vain.

        None is within another: a broker may send a message once for each subscription that matches it.
        """
        kinds = dict.fromkeys((*self.kinds, *(one.kind for one in self.until), *also))
        found = []
        for device in self.devices or ("+",):
            for kind in kinds:
                if kind in STREAM_TOPICS:
                    topic = STREAM_TOPICS[kind]
                    found += [f"{self.base}/{device}/{stream}/{topic}" for stream in self.streams or ("+",)]
                else:
                    found.append(f"{self.base}/{device}/bridge/{BRIDGE_TOPICS[kind]}")
        return [one for one in found if not any(other != one and topic_matches_sub(other, one) for other in found)]
