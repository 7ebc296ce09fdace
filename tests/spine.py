"""What the end-to-end tests are made of: a real broker, a listener, the real daemon, and a board on a pseudo-terminal."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.journey import Samples

ROOT = Path(__file__).resolve().parent.parent
PATIENCE_S = 30.0
"""Long enough for a busy machine; a test that works never waits for it."""


def wait_for(condition: Callable[[], Any], what: str, timeout_s: float = PATIENCE_S) -> Any:
    """The condition's first true value; fails by name when none comes."""
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout_s:g} s in vain for: {what}")
        time.sleep(0.02)


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


class Broker:
    """A mosquitto of our own on a free loopback port. With ``keep`` its sessions outlive a restart."""

    def __init__(
        self,
        mosquitto: str,
        folder: Path,
        *,
        passwords: dict[str, str] | None = None,
        keep: bool = False,
        lines: Sequence[str] = (),
        after: Sequence[str] = (),
    ) -> None:
        self.port = free_port()
        self._command = [mosquitto, "-c", str(folder / "mosquitto.conf")]
        self._log = folder / "mosquitto.log"
        lines = [
            f"listener {self.port} 127.0.0.1",
            *lines,  # of the listener, so they come next
            "max_queued_messages 0",
            "max_inflight_messages 0",
            "set_tcp_nodelay true",
            "log_dest stdout",
        ]
        if os.geteuid() == 0:
            lines.append("user root")  # the account mosquitto would change to cannot read our folder
        if keep:
            lines += ["persistence true", f"persistence_location {folder}/"]
        if passwords is None:
            lines.append("allow_anonymous true")
        else:
            secret = folder / "passwords"
            secret.write_text("".join(f"{name}:{word}\n" for name, word in passwords.items()), encoding="utf-8")
            secret.chmod(0o600)
            subprocess.run([f"{mosquitto}_passwd".replace("/sbin/", "/bin/"), "-U", str(secret)], check=True)
            lines += ["allow_anonymous false", f"password_file {secret}"]
        lines += after
        (folder / "mosquitto.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> Broker:
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(self._command, stdout=log, stderr=subprocess.STDOUT)
        wait_for(self._listens, f"mosquitto on port {self.port}; it said: {self._log.read_text()[-500:]}")
        return self

    def stop(self, *, politely: bool = False) -> None:
        """``politely``: it writes its sessions to the disk first."""
        process, self.process = self.process, None
        if process is not None:
            process.terminate() if politely else process.kill()
            process.wait()

    def _listens(self) -> bool:
        with socket.socket() as sock:
            return sock.connect_ex(("127.0.0.1", self.port)) == 0


@contextlib.contextmanager
def running_broker(mosquitto: str, folder: Path, **settings: Any) -> Iterator[Broker]:
    broker = Broker(mosquitto, folder, **settings)
    try:
        yield broker.start()
    finally:
        broker.stop()


@dataclass(frozen=True)
class Heard:
    """One message as it came."""

    topic: str
    payload: bytes
    retained: bool

    @property
    def kind(self) -> str:
        return self.topic.rsplit("/", 1)[-1]

    @property
    def stream(self) -> str:
        return self.topic.split("/")[-2]

    @property
    def data(self) -> dict[str, Any]:
        value: dict[str, Any] = json.loads(self.payload)
        return value


def release(client: paho.Client) -> None:
    """Close the sockets that paho keeps until its client is collected: pytest would complain of them, now and then."""
    client._reset_sockets()


class Listener:
    """Subscribes to everything, and keeps it in order. With a ``name`` the broker keeps what it misses."""

    def __init__(
        self, port: int, *, username: str | None = None, password: str | None = None, name: str | None = None
    ) -> None:
        self._heard: list[Heard] = []
        self._ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name or "", clean_session=name is None)
        if username is not None:
            self._client.username_pw_set(username, password)
        self._client.reconnect_delay_set(1, 1)
        self._client.on_message = self._on_message
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda *_: self._ready.put(True)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()
        self._ready.get(timeout=PATIENCE_S)

    def _on_message(self, _client: Any, _userdata: Any, message: Any) -> None:
        self._heard.append(Heard(message.topic, message.payload, bool(message.retain)))

    @property
    def heard(self) -> list[Heard]:
        return list(self._heard)

    def of(self, stream: str, kind: str) -> list[dict[str, Any]]:
        return [one.data for one in self.heard if one.stream == stream and one.kind == kind]

    def wait(self, stream: str, topic: str, /, **fields: Any) -> dict[str, Any]:
        """The first message of that stream on that topic with these fields."""

        def found() -> dict[str, Any] | None:
            for data in self.of(stream, topic):
                if all(data.get(key) == value for key, value in fields.items()):
                    return data
            return None

        result: dict[str, Any] = wait_for(found, f"{stream}/{topic} with {fields}")
        return result

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()
        release(self._client)


@contextlib.contextmanager
def listening(
    port: int, *, username: str | None = None, password: str | None = None, name: str | None = None
) -> Iterator[Listener]:
    listener = Listener(port, username=username, password=password, name=name)
    try:
        yield listener
    finally:
        listener.close()


def retained_now(port: int, *, username: str | None = None, password: str | None = None) -> dict[str, dict[str, Any]]:
    """What the broker keeps, by topic: asked for with a fresh subscription."""
    with listening(port, username=username, password=password) as listener:
        # Retained messages come right after the subscription's acknowledgement, in one stretch.
        before = -1
        while len(listener.heard) != before:
            before = len(listener.heard)
            time.sleep(0.15)
        return {one.topic: one.data for one in listener.heard if one.retained}


class Agent:
    """``edge-agent run`` in a process of its own, its standard error kept."""

    def __init__(
        self, folder: Path, config: str, *, environment: dict[str, str] | None = None, verbose: bool = False
    ) -> None:
        self.config = folder / "agent.toml"
        self.config.write_text(config, encoding="utf-8")
        self._log = folder / "agent.log"
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", *(["-v"] if verbose else []), "run", str(self.config)],
                stderr=log,
                stdout=subprocess.PIPE,
                env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **(environment or {})},
            )

    @property
    def log(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace")

    def wait_log(self, text: str, timeout_s: float = PATIENCE_S) -> str:
        wait_for(lambda: text in self.log, f"{text!r} in the daemon's log, which is:\n{self.log}", timeout_s)
        return self.log

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        return self.process.wait(timeout_s)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def running_agent(
    folder: Path, config: str, *, environment: dict[str, str] | None = None, verbose: bool = False
) -> Iterator[Agent]:
    agent = Agent(folder, config, environment=environment, verbose=verbose)
    try:
        yield agent
    finally:
        agent.close()


class PtyBoard:
    """A board on a pseudo-terminal, behind a link that stays when the board is unplugged and comes back elsewhere."""

    def __init__(self, link: Path) -> None:
        self.link = link
        self._master = self._slave = -1

    def plug_in(self) -> None:
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)  # before anyone opens it: a terminal would echo what is written
        fresh = self.link.with_name(self.link.name + ".new")
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(os.ttyname(self._slave))
        fresh.replace(self.link)

    def unplug(self) -> None:
        self.link.unlink(missing_ok=True)
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1

    def write(self, data: bytes) -> None:
        """All of it, at the reader's pace: nothing is lost on a pseudo-terminal."""
        view = memoryview(data)
        while view:
            view = view[os.write(self._master, view[:2048]) :]

    def write_paced(self, lines: Sequence[bytes], lines_per_s: float, stop: threading.Event) -> None:
        """A line at a time on average, in lumps of some 10 ms."""
        began, done = time.monotonic(), 0
        while done < len(lines) and not stop.wait(0.01):
            due = min(len(lines), int((time.monotonic() - began) * lines_per_s))
            self.write(b"".join(lines[done:due]))
            done = due


@contextlib.contextmanager
def pty_board(link: Path) -> Iterator[PtyBoard]:
    board = PtyBoard(link)
    board.plug_in()
    try:
        yield board
    finally:
        board.unplug()


def csv_lines(names: Sequence[str], values: Samples, digits: int = 4) -> list[bytes]:
    """A header, then a line for each sample: what a board prints, and what a file holds."""
    lines = [(",".join(names) + "\n").encode()]
    lines += [(",".join(f"{value:.{digits}f}" for value in row) + "\n").encode() for row in values.T.tolist()]
    return lines


def base_config(port: int, streams: str, *, mqtt: str = "", inference: str = "") -> str:
    """A configuration for a broker on loopback."""
    return f"""
health_s = 1
[device]
id = "dev"
[mqtt]
host = "127.0.0.1"
port = {port}
{mqtt}
[outbox]
folder = "."
[inference]
{inference}
{streams}
"""


def simulated(name: str, *, extra: str = "", source: str = "") -> str:
    """A stream of the simulated patient."""
    return f"""
[[stream]]
name = "{name}"
{extra}
[stream.source]
type = "simulated"
{source}
"""


def serial_stream(name: str, link: Path, columns: Sequence[str], fs: float = 250, *, extra: str = "") -> str:
    listed = ", ".join(f'"{column}"' for column in columns)
    return f"""
[[stream]]
name = "{name}"
[stream.source]
type = "serial"
port = "{link}"
fs = {fs:g}
columns = [{listed}]
{extra}
"""
