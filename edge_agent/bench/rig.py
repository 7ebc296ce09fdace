"""What the scenario ``pipeline`` stands on: a broker on loopback, the daemon as a process, boards on pseudo-terminals."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pty
import shutil
import socket
import subprocess
import sys
import time
import tty
from collections.abc import Iterator
from pathlib import Path

from edge_agent.errors import OutputError

START_S = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def broker(folder: Path) -> Iterator[tuple[int, str]]:
    """Port and name: mosquitto where it is installed, else the demo's."""
    port = free_port()
    mosquitto = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/sbin")
    if mosquitto is not None:
        conf = folder / "mosquitto.conf"
        lines = [f"listener {port} 127.0.0.1", "allow_anonymous true", "set_tcp_nodelay true", "log_dest none"]
        if os.geteuid() == 0:
            lines.append("user root")  # the account it would change to cannot read our folder
        conf.write_text("\n".join(lines) + "\n", encoding="utf-8")
        name, command = "mosquitto", [mosquitto, "-c", str(conf)]
    elif importlib.util.find_spec("amqtt") is not None:
        name, command = "amqtt", [sys.executable, "-m", "edge_agent.commands.demo_broker", str(port)]
    else:
        raise OutputError("no broker to measure with", remedy="apt install mosquitto, or: pip install amqtt")
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=_environment(), start_new_session=True
    )
    try:
        deadline = time.monotonic() + START_S
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise OutputError(f"{name} did not start on port {port}")
            time.sleep(0.02)
        yield port, name
    finally:
        _end(process)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[bytes]]:
    """``edge-agent run``; its log lies beside the configuration."""
    with config.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "edge_agent", "run", str(config)],
            stderr=log,
            env=_environment(),
            start_new_session=True,  # Ctrl-C is for the measurement, which then ends it in order
        )
    try:
        yield process
    finally:
        _end(process)


def _environment() -> dict[str, str]:
    """This very package, wherever the measurement was started."""
    ours = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [ours, os.environ.get("PYTHONPATH", "")]))}


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def cpu_s(pid: int) -> float | None:
    """Processor time used so far, all threads."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / float(os.sysconf("SC_CLK_TCK"))


@contextlib.contextmanager
def terminals(count: int) -> Iterator[list[tuple[int, str]]]:
    """Pseudo-terminals: what the board writes to, and the port that the daemon opens."""
    opened: list[tuple[int, int]] = []
    try:
        for _ in range(count):
            pair = pty.openpty()
            tty.setraw(pair[1])  # before anyone opens it: a terminal would echo what is written
            opened.append(pair)
        yield [(master, os.ttyname(slave)) for master, slave in opened]
    finally:
        for pair in opened:
            for descriptor in pair:
                with contextlib.suppress(OSError):
                    os.close(descriptor)
