"""``edge-agent watch`` in a process of its own, for tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.spine import (
    PATIENCE_S,
    ROOT,
    wait_for,
)


def _heed_interrupts() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Watcher:
    """``edge-agent watch`` in a process of its own, what it prints kept."""

    def __init__(self, folder: Path, port: int, *arguments: str, **environment: str) -> None:
        self._out, self._err = folder / "watch.out", folder / "watch.err"
        command = [sys.executable, "-m", "edge_agent", "-v", "watch", "--host", "127.0.0.1", "--port", str(port)]
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*command, *arguments],
                stdout=out,
                stderr=err,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                # Whoever runs the tests in the background may ignore Ctrl-C, and what is ignored is inherited.
                preexec_fn=_heed_interrupts,
            )

    @property
    def out(self) -> str:
        return self._out.read_text(encoding="utf-8")

    @property
    def err(self) -> str:
        return self._err.read_text(encoding="utf-8")

    def ready(self) -> Watcher:
        self.says("watching ")
        return self

    def says(self, text: str, times: int = 1) -> str:
        wait_for(lambda: self.err.count(text) >= times, f"{text!r} in {self.err!r}")
        return self.err

    def shows(self, text: str, times: int = 1) -> str:
        wait_for(lambda: self.out.count(text) >= times, f"{text!r} in {self.out!r}; and {self.err!r}")
        return self.out

    def status(self) -> int:
        status = self.process.wait(PATIENCE_S)
        assert "Traceback" not in self.err, self.err
        return status

    def interrupt(self) -> int:
        self.process.send_signal(signal.SIGINT)
        return self.status()


@pytest.fixture
def watching(tmp_path: Path) -> Iterator[Callable[..., Watcher]]:
    made: list[Watcher] = []

    def start(port: int, *arguments: str, **environment: str) -> Watcher:
        folder = tmp_path / f"watch{len(made)}"
        folder.mkdir()
        made.append(Watcher(folder, port, *arguments, **environment))
        return made[-1]

    yield start
    for one in made:
        if one.process.poll() is None:
            one.process.kill()
        one.process.wait()
