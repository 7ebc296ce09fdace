"""Every message as a line of JSON in a file, beside MQTT. Bounded: the file is turned over by size and the oldest go.

For whoever collects files, and for looking back without a broker. No promise beyond that: lines wait in memory for up to a second,
and what a full disk refuses is counted, not kept.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from pathlib import Path
from typing import BinaryIO

from edge_agent.config import JsonlConfig
from edge_agent.errors import OutputError

log = logging.getLogger(__name__)

WRITE_EVERY_S = 1.0
IN_MEMORY = 20_000


class JsonLines:
    """``put`` may be called from any thread and never waits."""

    def __init__(self, config: JsonlConfig) -> None:
        self._path = config.path
        self._most_bytes = int(config.max_mb * 1e6 / (config.keep + 1))
        self._keep = config.keep
        self._lines: deque[bytes] = deque()
        self._wake = threading.Event()
        self._stopping = False
        self._fault: str | None = None
        self.written = 0
        self.dropped = 0
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file: BinaryIO = self._open()
        except OSError as error:
            raise OutputError(f"{self._path}: cannot be written ({error.strerror or error})") from None
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

    def _open(self) -> BinaryIO:
        file = self._path.open("ab", buffering=0)
        if file.tell():  # a power cut may have torn the last line: what comes next must not be joined to it
            with self._path.open("rb") as old:
                old.seek(-1, 2)
                if old.read(1) != b"\n":
                    file.write(b"\n")
        return file

    def _run(self) -> None:
        while not self._stopping:
            self._wake.wait(WRITE_EVERY_S)
            self._write()
        self._write()
        self._file.close()

    def _write(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        if not lines:
            return
        try:
            if self._file.tell() >= self._most_bytes:
                self._turn_over()
            data = b"\n".join(lines) + b"\n"
            if self._file.write(data) != len(data):  # a disk that is almost full takes a part
                raise OSError("no room for all of it")
        except OSError as error:
            self.dropped += len(lines)
            if self._fault is None:
                log.error("%s: cannot be written (%s); lines are dropped, counted", self._path, error.strerror or error)
            self._fault = str(error)
        else:
            self.written += len(lines)
            if self._fault is not None:
                log.info("%s: can be written again, %d lines were dropped", self._path, self.dropped)
            self._fault = None

    def _turn_over(self) -> None:
        """events.jsonl becomes events.jsonl.1, that .2, and the last goes."""
        self._file.close()
        for number in range(self._keep, 0, -1):
            older = self._numbered(number - 1)
            if older.exists():
                older.replace(self._numbered(number))
        if not self._keep:
            self._path.unlink(missing_ok=True)
        self._file = self._open()

    def _numbered(self, number: int) -> Path:
        return self._path if number == 0 else self._path.with_name(f"{self._path.name}.{number}")
