"""What the daemon tells systemd."""

from __future__ import annotations

import contextlib
import signal
import socket
import time
from pathlib import Path

from tests.spine import (
    Broker,
    Listener,
    base_config,
    pty_board,
    running_agent,
    serial_stream,
    simulated,
    wait_for,
)
from tests.test_daemon import FS, sinus_lines, writing


class Systemd:
    """The other end of NOTIFY_SOCKET."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(path))
        self._said: list[tuple[float, str]] = []

    def said(self, since: float = 0.0) -> list[str]:
        """What came after that moment of the monotonic clock."""
        with contextlib.suppress(BlockingIOError):
            while True:
                text = self._socket.recv(4096, socket.MSG_DONTWAIT).decode()
                self._said += [(time.monotonic(), line) for line in text.splitlines()]
        return [line for at, line in self._said if at >= since]

    def close(self) -> None:
        self._socket.close()


def test_systemd_hears_of_life_only_while_samples_advance(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    with contextlib.ExitStack() as stack:
        board = stack.enter_context(pty_board(tmp_path / "board"))
        systemd = stack.enter_context(contextlib.closing(Systemd(tmp_path / "notify")))
        text = base_config(broker.port, serial_stream("wired", board.link, ("II",), extra="silent_s = 20"))
        environment = {"NOTIFY_SOCKET": str(systemd.path)}
        agent = stack.enter_context(running_agent(tmp_path, text, environment=environment))
        wait_for(lambda: "READY=1" in systemd.said(), "READY=1")
        with writing(board, sinus_lines(120), FS):
            listener.wait("wired", "availability", state="online")  # before that nobody expects samples
            before = systemd.said().count("WATCHDOG=1")
            wait_for(lambda: systemd.said().count("WATCHDOG=1") >= before + 4, "the watchdog to be fed")
        # The port is open and nothing comes: as when the stream's thread hangs.
        wait_for(lambda: not _fed_within(systemd, 0.8), "the watchdog to go hungry")
        assert not _fed_within(systemd, 1.2)
        board.unplug()  # now the fault is known and said: being killed would not help
        listener.wait("wired", "availability", state="offline")
        wait_for(lambda: _fed_within(systemd, 0.8), "the watchdog to be fed although there is no board")
        agent.signal(signal.SIGTERM)
        assert agent.wait(5.0) == 0
        said = systemd.said()
        assert said.index("READY=1") < said.index("STOPPING=1")
        assert "WATCHDOG=1" not in said[said.index("STOPPING=1") :]


def _fed_within(systemd: Systemd, seconds: float) -> bool:
    since = time.monotonic()
    systemd.said()
    time.sleep(seconds)
    return "WATCHDOG=1" in systemd.said(since)


def test_a_reload_is_told_to_systemd(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    with contextlib.closing(Systemd(tmp_path / "notify")) as systemd:
        environment = {"NOTIFY_SOCKET": str(systemd.path)}
        with running_agent(tmp_path, base_config(broker.port, simulated("bed")), environment=environment) as agent:
            listener.wait("bed", "availability", state="online")
            wait_for(lambda: "READY=1" in systemd.said(), "READY=1")
            before = len(systemd.said())
            agent.signal(signal.SIGHUP)
            wait_for(lambda: "READY=1" in systemd.said()[before:], "the reload's end")
            said = [line for line in systemd.said()[before:] if not line.startswith(("WATCHDOG=", "STATUS="))]
            # Without the time, systemd's Type=notify-reload would wait for it.
            assert [line.split("=")[0] for line in said] == ["RELOADING", "MONOTONIC_USEC", "READY"]
