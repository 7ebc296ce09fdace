"""Logs: to systemd's journal with fields and priorities where systemd started us, to the standard error otherwise.

The journal's own protocol is one datagram of ``FIELD=value`` lines (https://systemd.io/JOURNAL_NATIVE_PROTOCOL), so that no library
is needed for it. What stands at the head of a message (``stream %s``, ``model %s``) becomes a field, and each kind of message has an
id that stays: ``journalctl -u edge-agent EDGE_AGENT_STREAM=bed1``, ``journalctl MESSAGE_ID=...``.

Two rules hold whatever a module logs. A message that repeats itself is counted instead of written, so that a fault at every block
fills no disk. And no signal gets into a log: arrays and bytes are replaced by their size.
"""

from __future__ import annotations

import logging
import os
import re
import socket
import stat
import struct
import sys
import threading
import time
import uuid
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from edge_agent.config import journal_stream
from edge_agent.shown import lines

SOCKET = Path("/run/systemd/journal/socket")
IDENTIFIER = "edge-agent"
NAMESPACE = uuid.UUID("6f6d2d8e-4a0f-5e0b-9a0e-0c8f6a5f0f11")
"""Of the messages' ids; made once, and never to be changed."""
LONGEST_MESSAGE = 32_768
PLAIN = "%(levelname)s %(name)s: %(message)s"
BURST = 5
WINDOW_S = 60.0
MOST_KINDS = 512
"""Kinds of messages that are counted apart; the one unheard of for longest is forgotten."""
_HEAD = re.compile(r"^(stream|model) %s\b")


def priority(level: int) -> int:
    """syslog's: 2 critical, 3 error, 4 warning, 6 information, 7 debug."""
    for least, number in ((logging.CRITICAL, 2), (logging.ERROR, 3), (logging.WARNING, 4), (logging.INFO, 6)):
        if level >= least:
            return number
    return 7


def _harmless(argument: object) -> object:
    """No sample of a patient, whatever a message is given."""
    if type(argument).__module__.partition(".")[0] == "numpy" and hasattr(argument, "tobytes"):
        return f"<{getattr(argument, 'size', 'some')} numbers, not logged>"  # without importing numpy for `edge-agent --help`
    if isinstance(argument, bytes | bytearray | memoryview):
        return f"<{len(argument)} bytes, not logged>"
    if isinstance(argument, list | tuple) and len(argument) > 16 and all(isinstance(x, int | float) for x in argument):
        return f"<{len(argument)} numbers, not logged>"
    return argument


class NoSamples(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if isinstance(record.args, tuple):
            record.args = tuple(map(_harmless, record.args))
        elif isinstance(record.args, Mapping):
            record.args = {key: _harmless(value) for key, value in record.args.items()}
        return True


@dataclass(slots=True)
class _Repeats:
    began_s: float
    said: int = 0
    unsaid: int = 0


class Repeats(logging.Filter):
    """Of one kind of message about one stream or model, a few a minute; the next one says how many were left out."""

    def __init__(self, now: Callable[[], float] = time.monotonic, burst: int = BURST) -> None:
        super().__init__()
        self._now, self._burst = now, burst
        self._kinds: OrderedDict[tuple[object, ...], _Repeats] = OrderedDict()
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        kind = (record.name, record.levelno, str(record.msg), *subject(record).items())
        now = self._now()
        with self._lock:
            repeats = self._kinds.setdefault(kind, _Repeats(now))
            self._kinds.move_to_end(kind)
            if len(self._kinds) > MOST_KINDS:
                self._kinds.popitem(last=False)
            if now - repeats.began_s >= WINDOW_S:
                unsaid, repeats.unsaid = repeats.unsaid, 0
                repeats.began_s, repeats.said = now, 0
                if unsaid:
                    record.template, record.subject = str(record.msg), subject(record)
                    record.msg, record.args = f"{record.getMessage()} (and {unsaid} times before, not written)", ()
            repeats.said += 1
            if repeats.said > self._burst:
                repeats.unsaid += 1
                return False
        return True


def subject(record: logging.LogRecord) -> dict[str, str]:
    """Which stream or model a message is about, where it says so first."""
    known: dict[str, str] | None = getattr(record, "subject", None)
    if known is not None:
        return known
    head = _HEAD.match(str(record.msg))
    if head is None or not isinstance(record.args, tuple) or not record.args:
        return {}
    return {head[1]: str(record.args[0])[:200]}


def datagram(fields: Mapping[str, str]) -> bytes:
    """The protocol: ``KEY=value`` lines, or the key, a length and the bytes where the value has several lines."""
    said = bytearray()
    for key, text in fields.items():
        value = text.encode("utf-8", "replace")
        if b"\n" in value:
            said += key.encode() + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
        else:
            said += key.encode() + b"=" + value + b"\n"
    return bytes(said)


class Shown(logging.Formatter):
    """Without what a terminal would obey: messages quote models, boards and brokers."""

    def format(self, record: logging.LogRecord) -> str:
        return lines(super().format(record))


class JournalHandler(logging.Handler):
    def __init__(self, path: Path = SOCKET, fall_back: TextIO | None = None) -> None:
        super().__init__()
        self.setFormatter(Shown("%(message)s"))  # level and module are fields
        self._path = str(path)
        self._fall_back = fall_back
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        self._socket.setblocking(False)  # a journal that is busy must not hold up a stream

    def fields(self, record: logging.LogRecord) -> dict[str, str]:
        """What the journal is told."""
        template = f"{record.name}: {getattr(record, 'template', record.msg)}"  # before it is filled in: the same for all of a kind
        fields = {
            "MESSAGE": self.format(record)[:LONGEST_MESSAGE],
            "PRIORITY": str(priority(record.levelno)),
            "SYSLOG_IDENTIFIER": IDENTIFIER,
            "MESSAGE_ID": uuid.uuid5(NAMESPACE, template).hex,
            "EDGE_AGENT_MODULE": record.name.removeprefix("edge_agent."),
            "CODE_FILE": record.pathname,
            "CODE_LINE": str(record.lineno),
            "CODE_FUNC": record.funcName,
            "THREAD_NAME": str(record.threadName),
        }
        fields |= {f"EDGE_AGENT_{key.upper()}": value for key, value in subject(record).items()}
        return fields

    def emit(self, record: logging.LogRecord) -> None:
        try:
            fields = self.fields(record)
            try:
                self._socket.sendto(datagram(fields), self._path)
            except OSError:  # gone, busy or too long: the standard error is the journal's too, and knows the priority
                line = fields["MESSAGE"].replace("\n", f"\n<{fields['PRIORITY']}>")
                with suppress(OSError, ValueError):
                    print(f"<{fields['PRIORITY']}>{line}", file=self._fall_back or sys.stderr, flush=True)
        except Exception:  # noqa: BLE001  # as the library's own handlers do: a message that cannot be filled in ends nobody's work
            self.handleError(record)

    def close(self) -> None:
        self._socket.close()
        super().close()


def is_journal(descriptor: int, stream: str | None) -> bool:
    """Whether our standard error is what systemd said it connected to the journal: a redirected one is not."""
    device, _, inode = (stream or "").partition(":")
    if not (device.isdecimal() and inode.isdecimal()):
        return False
    try:
        status = os.fstat(descriptor)
    except OSError:
        return False
    return stat.S_ISSOCK(status.st_mode) and (status.st_dev, status.st_ino) == (int(device), int(inode))


def set_up(*, verbose: bool, path: Path = SOCKET) -> None:
    """Once, at the start of the program."""
    handler: logging.Handler
    if is_journal(2, journal_stream()):
        handler = JournalHandler(path)
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(Shown(PLAIN))
    handler.addFilter(NoSamples())
    if not verbose:
        handler.addFilter(Repeats())
    logging.basicConfig(level=logging.DEBUG if verbose else logging.INFO, handlers=[handler])
