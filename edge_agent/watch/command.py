"""Everything in order: link, news, sequence, filters, lines, commands.

Exit status: 0 when ``--until`` was seen (or ``--timeout`` ended a watch that waits for nothing), 3 when it was not seen in
time, 1 for what went wrong, 2 for usage, 130 after Ctrl-C.
"""

from __future__ import annotations

import argparse
import io
import sys
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime

from edge_agent.config import MqttConfig, colour_wanted
from edge_agent.errors import OutputError
from edge_agent.watch.hook import Hook
from edge_agent.watch.link import CONNECT_S, Broker, Done, Link
from edge_agent.watch.news import COUNTED, KINDS, News, UnreadableError, read
from edge_agent.watch.sequence import Sequences, Step
from edge_agent.watch.show import Screen
from edge_agent.watch.wanted import USUAL, Wanted

NOT_IN_TIME = 3
TICK_S = 0.2


@dataclass(slots=True)
class Counts:
    """For the last line."""

    messages: int = 0
    repeats: int = 0
    holes: int = 0
    missing: int = 0
    unreadable: int = 0

    def __str__(self) -> str:
        said = [f"{self.messages} messages"]
        said += [f"{self.repeats} repeats dropped"] if self.repeats else []
        said += [f"{self.missing} missing in {self.holes} gaps"] if self.holes else []
        said += [f"{self.unreadable} unreadable"] if self.unreadable else []
        return ", ".join(said)


@dataclass(slots=True)
class Watch:
    """What happens to a message."""

    wanted: Wanted
    screen: Screen
    hook: Hook | None = None
    sequences: Sequences = field(default_factory=Sequences)
    counts: Counts = field(default_factory=Counts)
    seen: bool = False

    def heard(self, topic: str, payload: bytes, retained: bool) -> None:
        if self.seen:
            raise Done
        received = datetime.now(UTC)
        self.counts.messages += 1
        try:
            news = read(topic, payload, base=self.wanted.base, retained=retained, received=received)
        except UnreadableError as error:
            self._unreadable(topic, error, received)
            return
        step = Step()
        if news.kind in COUNTED:
            step = self.sequences.see((topic, news.data["session"]), news.data["seq"])
            if step.repeat:
                self.counts.repeats += 1
                return
            # Of the vitals only the latest counts: an agent that was cut off says no others afterwards.
            if step.missing and news.kind != "vitals" and self.wanted.whose(news):
                self.counts.holes += 1
                self.counts.missing += step.missing
                self.screen.hole(news, step)
        self.seen = self.wanted.ends(news)
        shown = self.wanted.shown(news)
        try:
            if shown or self.seen:  # what ends the watch is shown, whatever the filters say
                self.screen.news(news, step)
            if news.kind == "vitals" and self.wanted.whose(news):
                self.screen.vitals(news)
        except UnreadableError as error:
            self._unreadable(topic, error, received)
        if shown and self.hook is not None and to_be_acted_on(news):
            self.hook(news)

    def _unreadable(self, topic: str, error: UnreadableError, received: datetime) -> None:
        self.counts.unreadable += 1
        self.screen.unreadable(topic, str(error), received)


def to_be_acted_on(news: News) -> bool:
    """An alarm's begin, unless somebody silenced it (shown, not sounded), and always its end: a light must go out again."""
    state = news.data.get("state")
    return news.kind == "alarm" and (
        state == "cleared" or (state == "raised" and news.data.get("silenced") is not True)
    )


def watch(arguments: argparse.Namespace) -> int:
    """The command."""
    broker, wanted = _broker(arguments), _wanted(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal of ASCII is no reason to stop
    colour = sys.stdout.isatty() and colour_wanted() and not arguments.no_color
    screen = Screen(sys.stdout, colour=colour, as_json=arguments.json)

    def say(text: str) -> None:
        screen.clear()
        print(f"watch: {text}", file=sys.stderr, flush=True)

    hook = Hook(arguments.exec, arguments.exec_limit, say) if arguments.exec is not None else None
    this = Watch(wanted, screen, hook)
    status_line = sys.stdout.isatty() and not arguments.json and not arguments.until
    link = Link(broker, wanted.topics(("vitals",) if status_line else ()), this.heard, say)
    deadline = None if arguments.timeout is None else time.monotonic() + arguments.timeout
    try:
        _follow(this, link, deadline)
        if hook is not None and hook.busy:
            say("waiting for the commands that still run")
            hook.finish()
    finally:
        if hook is not None:
            hook.abandon()
        screen.clear()
        link.close()
        if sys.exc_info()[0] in (None, KeyboardInterrupt):
            say(str(this.counts))
    return 0 if this.seen or not wanted.until else NOT_IN_TIME


def _follow(this: Watch, link: Link, deadline: float | None) -> None:
    while not this.seen:
        left_s = CONNECT_S if deadline is None else deadline - time.monotonic()
        if left_s <= 0:
            return
        link.step(min(TICK_S, left_s), left_s)
        if this.hook is not None:
            this.hook.poll()
        this.screen.status()


def _broker(arguments: argparse.Namespace) -> Broker:
    if arguments.username is None and arguments.password_file is not None:
        raise OutputError("--password-file needs --username")
    if (arguments.cert is None) != (arguments.key is None):
        raise OutputError("--cert and --key go together")
    tls = arguments.tls or arguments.ca is not None or arguments.cert is not None
    password = None
    if arguments.username is not None:
        try:
            password = MqttConfig(username=arguments.username, password_file=arguments.password_file).password()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not text"
            raise OutputError(f"{arguments.password_file}: the password cannot be read ({reason})") from None
    port = arguments.port or (8883 if tls else 1883)
    return Broker(
        arguments.host, port, arguments.username, password, tls, arguments.ca, arguments.cert, arguments.key,
        arguments.client_id,
    )  # fmt: skip


def _wanted(arguments: argparse.Namespace) -> Wanted:
    kinds = arguments.kind or (KINDS if arguments.all else ("alarm",) if arguments.priority else USUAL)
    return Wanted(
        base=arguments.base,
        kinds=tuple(kinds),
        devices=arguments.device,
        streams=arguments.stream,
        priorities=tuple(arguments.priority),
        until=tuple(arguments.until),
    )
