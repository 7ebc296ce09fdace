"""A line for people: when, whose, what, and the gist. On a terminal the last line renews itself with the latest vitals."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, TextIO

from edge_agent.watch.news import News, UnreadableError, clean, number_of
from edge_agent.watch.sequence import Step

COLOURS = {"high": "\x1b[97;41m", "medium": "\x1b[30;43m", "low": "\x1b[36m", "good": "\x1b[32m", "dim": "\x1b[2m"}
OLD_S = 10.0
STATUS_EVERY_S = 1.0
MOST_VITALS = 100


class Screen:
    """Lines on a text stream."""

    def __init__(self, out: TextIO, *, colour: bool, as_json: bool) -> None:
        self._out = out
        self._colour = colour
        self._json = as_json
        self._live = out.isatty() and not as_json
        self._width = 12
        self._vitals: dict[str, str] = {}
        self._shown = 0.0

    def news(self, news: News, step: Step) -> None:
        """`UnreadableError` where there are no words for it."""
        if self._json:
            self._object(_json(news))
            return
        how, gist = _gist(news)
        notes = [age(news)] if age(news) else []
        notes += ["retained"] if news.retained else []
        notes += ["late"] if step.late else []
        text = gist + (f"  ({', '.join(notes)})" if notes else "")
        label = "VITALS" if news.kind == "vitals" else news.kind.upper() if news.kind == "alarm" else news.kind
        self._line(clock(news.time, news.received), news.source, label, text, "dim" if news.retained else how)

    def hole(self, news: News, step: Step) -> None:
        """Messages that never came."""
        if self._json:
            self._object({"gap": {"topic": news.topic, "session": news.data["session"], "missing": step.missing,
                                  "after": step.after, "received": _iso(news.received)}})  # fmt: skip
            return
        many = f"{step.missing} message{'s' if step.missing != 1 else ''}"
        text = f"gap: {many} missing after number {step.after}"
        self._line(clock(None, news.received), news.source, news.kind, text, "medium")

    def unreadable(self, topic: str, reason: str, received: datetime) -> None:
        if self._json:
            self._object({"unreadable": {"topic": topic, "reason": reason, "received": _iso(received)}})
            return
        self._line(clock(None, received), clean(topic, 80), "unreadable", reason, "dim")

    def vitals(self, news: News) -> None:
        """Remembered for the status line."""
        self._vitals.pop(news.source, None)
        self._vitals[news.source] = f"{clean(news.source, 80)} {_gist(news)[1]}"
        if len(self._vitals) > MOST_VITALS:
            del self._vitals[next(iter(self._vitals))]

    def status(self) -> None:
        """On a terminal, once a second: whose vitals came last."""
        now = time.monotonic()
        if not self._live or not self._vitals or now - self._shown < STATUS_EVERY_S:
            return
        self._shown = now
        text = "   ".join(said for _, said in sorted(self._vitals.items()))
        width = shutil.get_terminal_size().columns - 1
        self._out.write("\r\x1b[K" + text[:width])
        self._out.flush()

    def clear(self) -> None:
        if self._live and self._shown:
            self._out.write("\r\x1b[K")
            self._out.flush()

    def _line(self, when: str, source: str, label: str, text: str, how: str) -> None:
        source = clean(source, 80)
        self._width = max(self._width, min(len(source), 32))
        line = f"{when}  {source:<{self._width}}  {label:<12}  {text}"
        if self._colour and how:
            line = f"{COLOURS[how]}{line}\x1b[0m"
        self._out.write(("\r\x1b[K" if self._live else "") + line + "\n")
        self._out.flush()

    def _object(self, data: dict[str, Any]) -> None:
        # Of printable ASCII alone: every control character is escaped.
        self._out.write(json.dumps(data, ensure_ascii=True) + "\n")
        self._out.flush()


def _json(news: News) -> dict[str, Any]:
    return {
        "topic": news.topic,
        "kind": news.kind,
        "retained": news.retained,
        "received": _iso(news.received),
        "message": news.data,
    }


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def clock(happened: datetime | None, received: datetime) -> str:
    """Local time with milliseconds, the date too if it is not today's; ``~`` before the time of receipt where no other is
    known."""
    try:
        local = (happened or received).astimezone()
    except (OverflowError, OSError, ValueError):
        happened, local = None, received.astimezone()
    today = local.date() == received.astimezone().date()
    text = local.strftime("%H:%M:%S.") + f"{local.microsecond // 1000:03}"
    return ("" if today else local.strftime("%Y-%m-%d ")) + ("~" if happened is None else " ") + text


def age(news: News) -> str:
    """How old news is, where that is news: always for an alarm."""
    if news.time is None:
        return ""
    seconds = (news.received - news.time) / timedelta(seconds=1)
    if seconds < -1.0:
        return f"its clock is {span(-seconds)} ahead"
    return f"{span(max(0.0, seconds))} ago" if news.kind == "alarm" or seconds > OLD_S else ""


def span(seconds: float) -> str:
    if seconds < OLD_S:
        return f"{seconds:.1f} s"
    for unit, length, most in (("s", 1, 90), ("min", 60, 90), ("h", 3600, 48)):
        if seconds < most * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


# -- the gists: a colour and the words ---------------------------------------------------------------------------------

Gist = tuple[str, str]


def _gist(news: News) -> Gist:
    """Whatever somebody thought of to put into a message, it is not the end of the watch."""
    try:
        return GISTS.get(news.kind, _anything)(news)
    except Exception as error:  # noqa: BLE001
        raise UnreadableError(f"cannot be put into words ({type(error).__name__})") from None


def _alarm(news: News) -> Gist:
    raised = news.data.get("state") != "cleared"
    priority = news.data.get("priority")
    how = ("" if not isinstance(priority, str) or priority not in COLOURS else priority) if raised else "good"
    channel = f" on {news.text('channel')}" if news.data.get("channel") is not None else ""
    silenced = ", silenced" if news.data.get("silenced") is True else ""
    return (
        how,
        f"{news.text('priority'):<6} {news.text('kind')} {news.text('state')}{silenced}{channel}{_evidence(news)}",
    )


def _evidence(news: News) -> str:
    evidence = news.data.get("evidence")
    if not isinstance(evidence, dict) or not evidence:
        return ""
    return ": " + clean(", ".join(f"{key} {_short(value)}" for key, value in evidence.items()), 120)


def _short(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else value if isinstance(value, str) else json.dumps(value)


def _beat(news: News) -> Gist:
    rr = news.number("rr_ms")
    return "", f"{news.text('channel')}" + ("" if rr is None else f"  {rr:.0f} ms after the one before")


def _verdict(news: News) -> Gist:
    label = news.data.get("label")
    if not isinstance(label, str):
        return "dim", f"abstained on {news.text('channel')}: {news.text('reason')}"
    scores = news.data.get("scores")
    score = number_of(scores.get(label)) if isinstance(scores, dict) else None
    sure = "" if score is None else f" ({score:.2f})"
    return "", f"{clean(label)}{sure} on {news.text('channel')}, by {news.text('model')}"


def _rhythm(news: News) -> Gist:
    return "", f"{news.text('rhythm')} on {news.text('channel')}{_evidence(news)}"


def _quality(news: News) -> Gist:
    if news.data.get("good") is True:
        return "dim", f"{news.text('channel')} is good"
    reasons = news.data.get("reasons")
    words = ", ".join(str(one) for one in reasons) if isinstance(reasons, list) else ""
    return "dim", f"{news.text('channel')} is bad" + (f": {clean(words)}" if words else "")


def _vitals(news: News) -> Gist:
    return "", _vital_text(news)


def _vital_text(news: News) -> str:
    def value(key: str) -> str:
        found = news.number(key)
        return "--" if found is None else f"{found:.0f}"

    text = f"HR {value('heart_rate_per_min')}/min"
    if any(news.number(key) is not None for key in ("systolic_mmhg", "diastolic_mmhg", "mean_mmhg")):
        text += f" ABP {value('systolic_mmhg')}/{value('diastolic_mmhg')} ({value('mean_mmhg')}) mmHg"
    if news.number("pulse_rate_per_min") is not None:
        text += f" pulse {value('pulse_rate_per_min')}/min"
    return text


def _gap(news: News) -> Gist:
    return "low", f"{news.text('lost')} samples never came: {news.text('cause')}"


def _mark(news: News) -> Gist:
    return "low", f"marked: {news.text('text')}"


def _summary(news: News) -> Gist:
    beats, labels = news.data.get("beats"), news.data.get("labels")
    counts = [*beats.items()] if isinstance(beats, dict) else []
    for one in labels.values() if isinstance(labels, dict) else ():
        counts += [*one.items()] if isinstance(one, dict) else []
    words = ", ".join(f"{name} {_short(count)}" for name, count in counts)
    return "dim", clean(f"while the broker was away: {words or 'nothing'}")


def _available(news: News) -> Gist:
    online = news.data.get("state") == "online"
    reason = f": {news.text('reason')}" if news.data.get("reason") is not None else ""
    who = "the agent is " if news.kind == "state" else ""
    return ("good" if online else "medium"), f"{who}{news.text('state')}{reason}"


def _health(news: News) -> Gist:
    broker = news.data.get("broker")
    plain = broker.items() if isinstance(broker, dict) else ()
    counts = ", ".join(f"{key} {_short(value)}" for key, value in plain if not isinstance(value, dict | list))
    memory, up = news.number("resident_mb"), news.number("uptime_s")
    said = [f"up {span(up)}" if up is not None else "", f"{memory:.0f} MB" if memory is not None else "", counts]
    return "dim", clean(", ".join(part for part in said if part))


def _info(news: News) -> Gist:
    models = news.data.get("models")
    names = [str(one.get("name")) for one in models if isinstance(one, dict)] if isinstance(models, list) else []
    return "dim", f"edge-agent {news.text('version')}, models {clean(', '.join(names)) or 'none'}"


def _engine(news: News) -> Gist:
    return (
        "medium" if news.data.get("state") == "degraded" else "dim"
    ), f"models: {news.text('state')}: {news.text('reason')}"


def _waveform(news: News) -> Gist:
    channels = news.data.get("channels")
    if not isinstance(channels, dict):
        return "dim", "no channels"
    many = max((len(values) for values in channels.values() if isinstance(values, list)), default=0)
    return "dim", f"{many} samples of {clean(', '.join(channels))}"


COMMON = {"schema", "seq", "session", "device", "stream", "sample", "time", "known", "arrived", "latency"}


def _anything(news: News) -> Gist:
    """A kind that has no line of its own yet."""
    return "", clean(", ".join(f"{key} {_short(value)}" for key, value in news.data.items() if key not in COMMON))


GISTS: dict[str, Callable[[News], Gist]] = {
    "alarm": _alarm,
    "beat": _beat,
    "verdict": _verdict,
    "rhythm": _rhythm,
    "quality": _quality,
    "vitals": _vitals,
    "gap": _gap,
    "mark": _mark,
    "summary": _summary,
    "availability": _available,
    "state": _available,
    "health": _health,
    "info": _info,
    "engine": _engine,
    "waveform": _waveform,
}
