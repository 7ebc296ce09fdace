"""Every message as a line of JSON in a file, beside MQTT. Bounded: the file is turned over by size and the oldest go.

For whoever collects files, and for looking back without a broker. No promise beyond that: lines wait in memory for up to a second,
and what a full disk refuses is counted, not kept.
"""

from __future__ import annotations

import errno
import logging
import threading
from bisect import bisect_right
from collections import deque
from contextlib import suppress
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from edge_agent.errors import OutputError
from edge_agent.outputs.settings import JsonlConfig

log = logging.getLogger(__name__)

WRITE_EVERY_S = 1.0
IN_MEMORY = 20_000


def somebody_elses(config: JsonlConfig) -> str:
    """Why the file cannot be taken, if it cannot: it would be turned over and removed in its turn, with all that was in it."""
    try:
        if config.path.is_file():
            with config.path.open("rb") as file:
                if file.read(1) not in (b"", b"{"):
                    return "is there already and holds no messages; a file of its own is wanted"
    except OSError:
        return ""  # to open it says more
    return ""


class JsonLines:
    """``put`` may be called from any thread and never waits."""

    def __init__(self, config: JsonlConfig) -> None:
        self._path = config.path
        self._most_bytes = int(config.max_mb * 1e6 / (config.keep + 1))
        self._keep = config.keep
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._file: BinaryIO | None = None
        self._torn = False
        """The file ends within a line."""
        self.fault: str | None = None
        """Why the disk takes no lines just now."""
        self.written = 0
        self.dropped = 0
        if wrong := somebody_elses(config):
            raise OutputError(f"{self._path}: {wrong}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EROFS):
                raise OutputError(f"{self._path}: cannot be written ({error.strerror or error})") from None
            self._say_fault(error)  # the disk's trouble, which may pass, and nothing wrong with the path
        self._thread = threading.Thread(target=self._run, name="jsonl", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, payload: bytes) -> None:
        if len(self._lines) >= IN_MEMORY:
            self.dropped += 1
            return
        self._lines.append(payload)

    def stop(self, timeout_s: float = 1.0) -> None:
        self._stopping = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        else:
            self._close()

    def _open(self) -> BinaryIO:
        self._file = file = self._path.open("ab", buffering=0)
        self._torn = False
        if file.tell():  # a power cut or a full disk may have torn the last line: the next must not be joined to it
            with self._path.open("rb") as old:
                old.seek(-1, 2)
                self._torn = old.read(1) != b"\n"
        return file

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            with suppress(OSError):
                file.close()

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(WRITE_EVERY_S)
            self._write()
        self._write()
        self._close()

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        while lines:
            lines = lines[self._put_down(lines) :]

    def _put_down(self, lines: list[bytes]) -> int:
        """As many as one file has room for, and how many those were; where the disk takes nothing, all of them."""
        taken, tried = 0, len(lines)
        try:
            file = self._file or self._open()
            if file.tell() and file.tell() + len(lines[0]) + 1 > self._most_bytes:
                file = self._turn_over()
            tried = self._fitting(lines, self._most_bytes - file.tell())
            before = b"\n" if self._torn else b""
            data = before + b"\n".join(lines[:tried]) + b"\n"
            count = file.write(data)
            taken = max(0, data.count(b"\n", 0, count) - len(before))
            if count != len(data):  # a disk that is almost full takes a part
                raise OSError(errno.ENOSPC, "no room for all of it")
            self._torn = False
        except (OSError, ValueError) as error:
            self._close()  # opened anew for the next lines: only the file itself says where it ends
            self._say_fault(error)
        else:
            if self.fault is not None:
                log.info("%s: can be written again, %d lines were dropped", self._path, self.dropped)
            self.fault = None
        self.written += taken
        self.dropped += tried - taken
        return tried

    @staticmethod
    def _fitting(lines: list[bytes], room: int) -> int:
        """How many; one at least: a line longer than a file has one of its own."""
        ends = list(accumulate(len(line) + 1 for line in lines))
        return max(1, bisect_right(ends, room))

    def _say_fault(self, error: OSError | ValueError) -> None:
        why = getattr(error, "strerror", None) or str(error)
        if self.fault is None:
            log.error("%s: cannot be written (%s); lines are dropped, counted", self._path, why)
        self.fault = why

    def _turn_over(self) -> BinaryIO:
        """events.jsonl becomes events.jsonl.1, that .2, and the last goes. Tried again after a failure it costs nothing more:
        only what is before the first free number moves."""
        self._close()
        free = next((number for number in range(1, self._keep) if not self._numbered(number).exists()), self._keep)
        for number in range(free, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if not self._keep:
            self._path.unlink(missing_ok=True)
        return self._open()

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")
