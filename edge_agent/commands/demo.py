"""``edge-agent demo``: an embedded broker, a simulated patient, the real daemon, and a subscriber that shows what arrives.

The broker and the daemon are processes of their own, the daemon is started as a user would (``edge-agent run``) with the
shipped configuration, and what is printed is only what came back over MQTT. The script is known, so what was expected can
be held against what was received.
"""

from __future__ import annotations

import contextlib
import json
import math
import queue
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, deque
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.commands.example import example_config
from edge_agent.config import colour_wanted
from edge_agent.errors import EdgeAgentError, OutputError
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import DEMO_SCRIPT
from edge_agent.sources.simulated.truth import TrueEpisode

DEVICE = "demo"
STREAM = "bed1"
FS = 250.0
LATE_S = 15.0
"""Patient seconds after an episode's end in which its alarm still counts: ten for the alarm, some for the way."""
STATUS_EVERY_S = 1.0
ALARMS_KEPT = 10_000  # --forever is meant
_COLOURS = {"high": "\x1b[97;41m", "medium": "\x1b[30;43m", "low": "\x1b[36m", "dim": "\x1b[2m", "good": "\x1b[32m"}


def demo(*, seed: int, speed: float, forever: bool) -> int:
    """0 if every expected alarm came, 1 if not (or if something did not start)."""
    with tempfile.TemporaryDirectory(prefix="edge-agent-demo-") as folder, contextlib.ExitStack() as stack:
        port = free_port()
        stack.enter_context(broker(port, Path(folder)))
        inbox = Inbox()
        client = stack.enter_context(subscriber(port, inbox))
        config = Path(folder) / "demo.toml"
        config.write_text(demo_config(port, seed, speed, forever), encoding="utf-8")
        print(f"broker  mqtt://127.0.0.1:{port}   (mosquitto_sub -p {port} -v -t 'edge-agent/{DEVICE}/#')")
        print(f"topics  edge-agent/{DEVICE}/{STREAM}/beat verdict rhythm alarm quality gap state availability")
        print(f"        edge-agent/{DEVICE}/bridge/state info health")
        print(
            f"script  {sum(e.duration_s for e in DEMO_SCRIPT.episodes):.0f} patient seconds at {speed:g}x, seed {seed}\n"
        )
        agent = stack.enter_context(daemon(config))
        view = View(sys.stdout)
        try:
            _watch(inbox, agent, view)
        except KeyboardInterrupt:
            if not forever:
                return 130
        client.disconnect()
        received = view.received
    return summary(received, forever=forever, seed=seed)


# -- the parts -------------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def broker(port: int, folder: Path) -> Iterator[None]:
    """An embedded MQTT broker on loopback: amqtt, in a process of its own."""
    try:
        import amqtt  # noqa: F401
    except ImportError:
        raise OutputError("the demo's broker is not installed", remedy="pip install amqtt") from None
    with (folder / "broker.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent.commands.demo_broker", str(port)], stdout=log, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + 20
        while not _listens(port):
            if process.poll() is not None or time.monotonic() > deadline:
                text = (folder / "broker.log").read_text(errors="replace").strip().splitlines()
                raise OutputError(f"the embedded broker did not start: {text[-1] if text else 'no reason given'}")
            time.sleep(0.05)
        yield
    finally:
        _end(process, signal.SIGTERM)


def _listens(port: int) -> bool:
    with socket.socket() as sock:
        sock.settimeout(0.2)
        return sock.connect_ex(("127.0.0.1", port)) == 0


@contextlib.contextmanager
def daemon(config: Path) -> Iterator[subprocess.Popen[str]]:
    """The daemon as a user starts it."""
    process = subprocess.Popen(
        [sys.executable, "-m", "edge_agent", "run", str(config)], stderr=subprocess.PIPE, text=True
    )
    try:
        yield process
    finally:
        _end(process, signal.SIGTERM)


def _end(process: subprocess.Popen[Any], how: signal.Signals) -> None:
    if process.poll() is None:
        process.send_signal(how)
        try:
            process.wait(6)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    if process.stderr is not None:
        process.stderr.close()


@dataclass
class Inbox:
    """Messages as they come: topic, payload, UTC of the receipt."""

    messages: queue.SimpleQueue[tuple[str, bytes, datetime]] = field(default_factory=queue.SimpleQueue)


@contextlib.contextmanager
def subscriber(port: int, inbox: Inbox) -> Iterator[paho.Client]:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    ready: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def on_message(_client: Any, _userdata: Any, message: Any) -> None:
        inbox.messages.put((message.topic, message.payload, datetime.now(UTC)))

    client.on_message = on_message

    def on_connect(*_: Any) -> None:
        client.subscribe(f"edge-agent/{DEVICE}/#", qos=1)

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: ready.put(True)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        ready.get(timeout=10)
        yield client
    except queue.Empty:
        raise OutputError("the embedded broker accepted no subscription within 10 s") from None
    finally:
        client.loop_stop()


def demo_config(port: int, seed: int, speed: float, forever: bool) -> str:
    """The shipped configuration with the demo's broker and patient in it."""
    text = example_config()
    changes = {
        "id": f'"{DEVICE}"',
        "host": '"127.0.0.1"',
        "port": str(port),
        "name": f'"{STREAM}"',
        "script": '"demo"',
        "seed": str(seed),
        "speed": f"{speed:g}",
        "fs": f"{FS:g}",
        "forever": str(forever).lower(),
        "qos_beats": "1",
    }
    for key, value in changes.items():
        text, count = re.subn(rf"(?m)^#? ?{key} = .*$", f"{key} = {value}", text, count=1)
        if not count:
            raise EdgeAgentError(f"the shipped configuration has no key {key!r} for the demo to set")
    return text


# -- what is shown ---------------------------------------------------------------------------------------------------


@dataclass
class Received:
    """Everything that the summary needs."""

    messages: int = 0
    alarms: list[dict[str, Any]] = field(default_factory=list)
    labels: Counter[str] = field(default_factory=Counter)
    added_ms: deque[float] = field(default_factory=lambda: deque(maxlen=20_000))
    """From the arrival of the newest sample needed to this subscriber: what the agent and the broker add."""
    last_sample: int = 0


class View:
    """Prints what arrives; on a terminal the last line is a status that renews itself."""

    def __init__(self, out: Any) -> None:
        self._out = out
        self._live = out.isatty()
        self._colour = self._live and colour_wanted()
        self._shown = 0.0
        self._vitals: dict[str, Any] = {}
        self._last_label: dict[tuple[str, str], str] = {}
        self.received = Received()

    def paint(self, how: str, text: str) -> str:
        return f"{_COLOURS[how]}{text}\x1b[0m" if self._colour else text

    def line(self, text: str) -> None:
        self._out.write(("\r\x1b[K" if self._live else "") + text + "\n")
        self._out.flush()

    def message(self, topic: str, payload: bytes, at: datetime) -> None:
        data: dict[str, Any] = json.loads(payload)
        received = self.received
        received.messages += 1
        kind = topic.rsplit("/", 1)[-1]
        if data.get("arrived"):
            received.added_ms.append((at - datetime.fromisoformat(data["arrived"])).total_seconds() * 1000)
        received.last_sample = max(received.last_sample, data.get("sample", 0))
        clock = f"{data.get('sample', received.last_sample) / FS:6.1f} s"
        match kind:
            case "alarm":
                received.alarms.append(data)
                del received.alarms[:-ALARMS_KEPT]
                evidence = " ".join(f"{key}={value}" for key, value in data["evidence"].items())
                name = f" {data['kind'].upper()} {data['state']} "
                how = "good" if data["state"] == "cleared" else data["priority"]
                if data["state"] != "updated":
                    self.line(f"{clock}  {self.paint(how, name)}  {evidence}")
            case "verdict":
                label = data["label"] or "abstained"
                what = "beat" if data["task"] == "ecg-beat" else data["model"]
                if what == "beat":
                    received.labels[label] += 1
                place = (data["channel"], data["model"])
                if label != self._last_label.get(place):  # a line per beat would hide the alarms
                    self._last_label[place] = label
                    score = f"{data['scores'][label]:.2f}" if data["label"] else data["reason"]
                    us = f"{data['invoke_us']:.0f} us" if data["invoke_us"] else ""
                    self.line(f"{clock}  {what} {label} ({score}) on {data['channel']} {us}")
            case "rhythm":
                self.line(f"{clock}  rhythm {data['rhythm']} since {data['since'] / FS:.1f} s")
            case "quality":
                words = "good" if data["good"] else "bad: " + ", ".join(data["reasons"])
                self.line(self.paint("dim", f"{clock}  quality of {data['channel']}: {words}"))
            case "state" if "bridge" not in topic:
                self._vitals = data
            case "availability":
                self.line(self.paint("dim", f"{clock}  availability: {data['state']} ({data['reason']})"))
            case "gap":
                self.line(self.paint("dim", f"{clock}  gap: {data['lost']} samples ({data['cause']})"))
        self.status()

    def status(self) -> None:
        if not self._live or time.monotonic() - self._shown < STATUS_EVERY_S:
            return
        self._shown = time.monotonic()
        vitals, received = self._vitals, self.received

        def number(key: str, digits: int = 0) -> str:
            value = vitals.get(key)
            return "--" if value is None else f"{value:.{digits}f}"

        p50, p99 = percentile(received.added_ms, 50), percentile(received.added_ms, 99)
        self._out.write(
            f"\r\x1b[K{received.last_sample / FS:6.1f} s  HR {number('heart_rate_per_min')}/min  "
            f"ABP {number('systolic_mmhg')}/{number('diastolic_mmhg')} ({number('mean_mmhg')}) mmHg  "
            f"{received.messages} messages  added delay p50 {p50:.1f} p99 {p99:.1f} ms"
        )
        self._out.flush()


def percentile(values: Collection[float], percent: float) -> float:
    """Nearest rank; NaN of nothing."""
    if not values:
        return float("nan")
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def _watch(inbox: Inbox, agent: subprocess.Popen[str], view: View) -> None:
    """Until the daemon has ended (its script is over) and nothing more comes."""
    while True:
        try:
            view.message(*inbox.messages.get(timeout=0.2))
        except queue.Empty:
            if agent.poll() is None:
                continue
            # It is gone; what it said last may still be on its way through the broker.
            try:
                view.message(*inbox.messages.get(timeout=1.0))
            except queue.Empty:
                break
    if agent.returncode:
        said = (agent.stderr.read() if agent.stderr else "").strip().splitlines()
        raise EdgeAgentError("the daemon stopped: " + (said[-1] if said else f"exit status {agent.returncode}"))


def expected_episodes(seed: int) -> list[TrueEpisode]:
    """What the patient's own truth says should have been raised."""
    patient = SimulatedPatient(FS, ("II", "V", "ABP", "PLETH"), DEMO_SCRIPT, seed)
    while patient.read(round(60 * FS)) is not None:
        pass
    return [episode for episode in patient.truth.episodes if episode.expected]


def summary(received: Received, *, forever: bool, seed: int) -> int:
    """Expected against received, and how long it took. 1 if an alarm never came."""
    print(
        f"\n\n{received.messages} messages; verdicts: "
        + ", ".join(f"{k} {v}" for k, v in received.labels.most_common())
    )
    missing = 0
    if not forever:
        print(f"\n{'episode':<26} {'expected alarm':<26} {'received':<28}")
        episodes = expected_episodes(seed)
        for number, episode in enumerate(episodes):
            for kind in episode.expected:
                later = (one.first for one in episodes[number + 1 :] if kind in one.expected)
                came = raised_in(received, kind, episode, next(later, None))
                if came is None:
                    missing += 1
                    text = "NEVER CAME"
                else:
                    text = f"{(came['known'] - episode.first) / FS:5.1f} s after its begin"
                print(f"{episode.name:<26} {kind:<26} {text:<28}")
    added = received.added_ms
    print(
        f"\nfrom the newest sample needed to this subscriber ({len(added)} messages): "
        f"p50 {percentile(added, 50):.2f} ms, p95 {percentile(added, 95):.2f} ms, p99 {percentile(added, 99):.2f} ms"
    )
    if missing:
        print(f"\n{missing} expected alarms never came.")
        return 1
    if not forever:
        print("\nEvery expected alarm came.")
    return 0


def raised_in(received: Received, kind: str, episode: TrueEpisode, before: int | None = None) -> dict[str, Any] | None:
    """The first raise of that kind between the episode's begin and shortly after its end.

    ``before``: where the next episode that calls for this kind begins; a raise from there on is that one's.
    """
    last = episode.end + LATE_S * FS if before is None else min(episode.end + LATE_S * FS, before - 1)
    for alarm in received.alarms:
        in_time = episode.first <= alarm["known"] <= last
        if alarm["kind"] == kind and alarm["state"] == "raised" and in_time:
            return alarm
    return None
