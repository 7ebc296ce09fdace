"""A command for each alarm.

The command's words are split once, when the watch starts, and nothing from a message is ever among them: the message comes on
its standard input, as JSON, and in variables. No shell is in between. So many run at a time, so many wait, and none runs
longer than its limit; whatever is not run, or fails, is said.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from edge_agent.config import PASSWORD_VARIABLE
from edge_agent.errors import OutputError
from edge_agent.watch.news import News, clean

MOST_RUNNING = 4
MOST_WAITING = 1000
GRACE_S = 2.0
"""Between asking a command to end and ending it."""
FIELDS = ("kind", "state", "priority", "id", "channel", "time", "seq", "session", "sample")


@dataclass(slots=True)
class _Running:
    process: subprocess.Popen[bytes]
    what: str
    deadline: float
    asked: bool = False


class Hook:
    def __init__(self, command: str, limit_s: float, say: Callable[[str], None]) -> None:
        try:
            self._argv = shlex.split(command)
        except ValueError as error:
            raise OutputError(f"--exec {clean(command)}: {error}") from None
        if not self._argv or shutil.which(self._argv[0]) is None:
            raise OutputError(
                f"--exec: {clean(self._argv[0]) if self._argv else 'it names no command'!r} cannot be run",
                remedy="name a program or script that may be executed; a shell's own words need: sh -c '...'",
            )
        self._limit_s = limit_s
        self._say = say
        self._running: list[_Running] = []
        self._waiting: deque[News] = deque()

    @property
    def busy(self) -> bool:
        return bool(self._running or self._waiting)

    def __call__(self, news: News) -> None:
        if len(self._waiting) >= MOST_WAITING:
            self._say(f"{_what(news)}: the command was not run, {MOST_WAITING} alarms are waiting for it already")
            return
        self._waiting.append(news)
        self.poll()

    def poll(self) -> None:
        """See who has ended, end who takes too long, start who waits. Never waits itself."""
        now = time.monotonic()
        self._running = [one for one in self._running if not self._ended(one, now)]
        while self._waiting and len(self._running) < MOST_RUNNING:
            self._start(self._waiting.popleft(), now)

    def finish(self) -> None:
        """Wait for all of them; each has its limit."""
        while self.busy:
            self.poll()
            time.sleep(0.02)

    def abandon(self) -> None:
        """End those that run, and say what was not run."""
        for one in self._running:
            _signal(one.process, signal.SIGKILL)
            one.process.wait()
            self._say(f"{one.what}: the command was ended")
        for news in self._waiting:
            self._say(f"{_what(news)}: the command was not run")
        self._running.clear()
        self._waiting.clear()

    def _start(self, news: News, now: float) -> None:
        with tempfile.TemporaryFile() as message:  # a pipe could fill up, and we would wait for the command to read
            message.write(json.dumps({"topic": news.topic, "message": news.data}).encode())
            message.seek(0)
            try:
                process = subprocess.Popen(
                    self._argv,
                    stdin=message,
                    stdout=sys.stderr.fileno(),  # ours is for the lines
                    env=_environment(news),
                    start_new_session=True,  # a group of its own: Ctrl-C is for the watch, and a limit for all of it
                )
            except OSError as error:
                self._say(f"{_what(news)}: the command cannot be run: {error.strerror or error}")
                return
        self._running.append(_Running(process, _what(news), now + self._limit_s))

    def _ended(self, one: _Running, now: float) -> bool:
        status = one.process.poll()
        if status is None:
            if now >= one.deadline + GRACE_S:
                _signal(one.process, signal.SIGKILL)
            elif now >= one.deadline and not one.asked:
                one.asked = True
                _signal(one.process, signal.SIGTERM)
                self._say(f"{one.what}: the command took longer than {self._limit_s:g} s and was ended")
            return False
        if status and not one.asked:
            how = f"exit status {status}" if status > 0 else f"signal {-status}"
            self._say(f"{one.what}: the command failed ({how})")
        return True


def _what(news: News) -> str:
    return f"{news.source} {news.text('kind')} {news.text('state')}"


def _environment(news: News) -> dict[str, str]:
    """Ours without the broker's password, and the alarm's fields as plain text."""
    inherited = {key: value for key, value in os.environ.items() if key != PASSWORD_VARIABLE}
    fields = {f"EDGE_AGENT_{field.upper()}": news.text(field, "") for field in FIELDS}
    return (
        inherited
        | fields
        | {
            "EDGE_AGENT_TOPIC": clean(news.topic),
            "EDGE_AGENT_DEVICE": clean(news.device),
            "EDGE_AGENT_STREAM": clean(news.stream or ""),
        }
    )


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
