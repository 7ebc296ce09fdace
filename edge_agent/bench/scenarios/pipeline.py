"""``pipeline``: from a board's bytes to a subscriber's hands, through everything that a user runs.

Each stream is a board on a pseudo-terminal that prints a line for each sample, when it is due. The daemon is a process of its own,
the broker another. A message says the newest sample that it needed (``known``); when that sample's line was written is known here,
and so is when the message was received. The difference is what the agent and the broker add; the signal that the method itself
waits for (``algorithm``) stands beside it, since no program can be faster than its method.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as paho
from numpy.typing import NDArray
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.bench import rig
from edge_agent.bench.distribution import Series, distribution
from edge_agent.bench.journeys import LEAD, signals
from edge_agent.bench.method import SEGMENTS, Method, Session
from edge_agent.bench.report import PipelineFigures, Result
from edge_agent.bench.scenarios.common import Run
from edge_agent.errors import OutputError
from edge_agent.hardware import Hardware

DEVICE = "bench"
LUMP_S = 0.01
"""A serial driver hands over what came about so often; what is written then is due then."""
FIRST_S = 30.0
AFTER_S = 1.0
"""After the last line: what is on its way may come."""
KINDS = ("beat", "verdict", "alarm", "rhythm", "quality", "state")
MEASURED = (
    "of every message: from the newest line that it needed, written to the board's port, to the subscriber's receipt"
)


@dataclass(frozen=True, slots=True)
class Plan:
    streams: int = 4
    fs: float = 360.0
    seconds: float = 30.0
    warm_s: float = 8.0
    """Not counted: detectors learn, and what happens once at the start happens."""
    qos: int = 0
    """Of beats and verdicts; 0 is how the agent ships."""
    limit_ms: float = 20.0


@dataclass(frozen=True, slots=True)
class _Heard:
    topic: str
    payload: bytes
    ns: int


def pipeline(
    plan: Plan, method: Method, session: Session, board: Hardware, *, models_dir: Path | None = None
) -> Result:
    with tempfile.TemporaryDirectory(prefix="edge-bench-") as name:
        folder = Path(name)
        with rig.broker(folder) as (port, broker), rig.terminals(plan.streams) as ports:
            config = folder / "bench.toml"
            config.write_text(_config(plan, port, [path for _, path in ports], models_dir), encoding="utf-8")
            heard: list[_Heard] = []
            client = _subscriber(port, heard)
            try:
                with rig.daemon(config) as process:
                    return _measured(
                        plan, method, session, board, [fd for fd, _ in ports], heard, process, broker, config
                    )
            finally:
                client.disconnect()
                client.loop_stop()
                client._reset_sockets()  # paho keeps a pair of its own until it is collected


def _config(plan: Plan, port: int, ports: list[str], models_dir: Path | None) -> str:
    streams = "".join(
        f'[[stream]]\nname = "bed{i}"\n[stream.source]\ntype = "serial"\nport = "{path}"\nfs = {plan.fs:g}\n'
        f'columns = ["{LEAD}"]\n'
        for i, path in enumerate(ports)
    )
    inference = "" if models_dir is None else f"[inference]\nmodels_dir = {json.dumps(str(models_dir.resolve()))}\n"
    return (
        f'[device]\nid = "{DEVICE}"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\nqos_beats = {plan.qos}\n'
        f'[outbox]\nfolder = "."\n{inference}{streams}'
    )


def _subscriber(port: int, heard: list[_Heard]) -> paho.Client:
    ready: queue.SimpleQueue[bool] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _c, _u, message: heard.append(
        _Heard(message.topic, bytes(message.payload), time.monotonic_ns())
    )
    client.on_connect = lambda connected, *_: connected.subscribe(f"edge-agent/{DEVICE}/#", qos=1)
    client.on_subscribe = lambda *_: ready.put(True)
    client.connect("127.0.0.1", port)
    client.loop_start()
    try:
        ready.get(timeout=10)
    except queue.Empty:
        raise OutputError("the broker did not answer within 10 s") from None
    return client


def _measured(
    plan: Plan,
    method: Method,
    session: Session,
    board: Hardware,
    masters: list[int],
    heard: list[_Heard],
    process: subprocess.Popen[bytes],
    broker: str,
    config: Path,
) -> Result:
    lines = [
        [f"{value:.4f}\n".encode() for value in row.tolist()]
        for row in signals(plan.fs, plan.warm_s + plan.seconds + 1, plan.streams)
    ]
    _wait_online(heard, process, config)
    for master in masters:
        os.write(master, b"\n")  # the first line may have been joined in its middle: it is skipped
    run = Run("pipeline", replace(method, deadline_ms=plan.limit_ms), session, board)
    written, began_ns, used = _write(plan, session, masters, lines, process)
    time.sleep(AFTER_S)
    after_s = rig.cpu_s(process.pid)
    if process.poll() is not None:
        raise OutputError(f"the daemon ended with status {process.returncode}: {_last(config)}")
    seconds = (time.monotonic_ns() - began_ns) / 1e9 - AFTER_S
    ages, parts, by_kind, algorithm, lost = _ages(plan, list(heard), written, began_ns)
    children_s = 0.0 if after_s is None else after_s  # it still runs: not among those that have ended
    faults = run.faults(own_children_s=children_s)
    if lost:
        faults.append(f"{lost} samples were lost")
    kinds = {kind: found for kind, ns in by_kind.items() if (found := distribution(ns)) is not None}
    waited = distribution(algorithm)
    if waited is None:
        raise OutputError(f"no message came from the daemon: {_last(config)}")
    wall = (time.monotonic_ns() - began_ns) / 1e9
    return run.result(
        name=f"{plan.streams} streams",
        backend=broker,
        measured=MEASURED,
        series=ages,
        seconds=seconds,
        least=min(method.run_calls, 100),
        faults=faults,
        parts=parts,
        pipeline=PipelineFigures(
            streams=plan.streams,
            broker=broker,
            qos=plan.qos,
            lost_samples=lost,
            algorithm=waited,
            by_kind=kinds,
            daemon_core_share=None if after_s is None or used is None else (after_s - used) / wall,
        ),
    )


def _last(config: Path) -> str:
    lines = config.with_suffix(".log").read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def _wait_online(heard: list[_Heard], process: subprocess.Popen[bytes], config: Path) -> None:
    """Until the daemon says how it is: its ports are open then."""
    deadline = time.monotonic() + FIRST_S
    while not any(one.topic.endswith("/bridge/health") for one in list(heard)):
        if process.poll() is not None or time.monotonic() > deadline:
            raise OutputError(f"the daemon did not start: {_last(config)}")
        time.sleep(0.02)


def _write(
    plan: Plan, session: Session, masters: list[int], lines: list[list[bytes]], process: subprocess.Popen[bytes]
) -> tuple[list[NDArray[np.int64]], int, float | None]:
    """Each sample's line when it is due, in lumps; when each was written, the first moment, and what the daemon had used."""
    count = round((plan.warm_s + plan.seconds) * plan.fs)
    written = [np.zeros(count, np.int64) for _ in masters]
    done = [0] * len(masters)
    progress = session.progress("pipeline")
    used = rig.cpu_s(process.pid)
    began = time.monotonic_ns()
    # Boards know nothing of each other: each has its lumps at another moment.
    apart = int(LUMP_S * 1e9) // len(masters)
    for lump in range(int(count / plan.fs / LUMP_S) + 2):
        for i, master in enumerate(masters):
            due_ns = began + lump * int(LUMP_S * 1e9) + i * apart
            wait = due_ns - time.monotonic_ns()
            if wait > 0:
                time.sleep(wait / 1e9)
            upto = min(count, int((time.monotonic_ns() - began - i * apart) * plan.fs / 1e9))
            if upto > done[i]:
                written[i][done[i] : upto] = time.monotonic_ns()
                os.write(master, b"".join(lines[i][done[i] : upto]))
                done[i] = upto
        progress.step(lump * LUMP_S / (count / plan.fs), f"{plan.streams} streams")
        if session.interrupted:
            break
    progress.close()
    return written, began, used


def _ages(
    plan: Plan, heard: list[_Heard], written: list[NDArray[np.int64]], began_ns: int
) -> tuple[Series, dict[str, list[int]], dict[str, list[int]], list[int], int]:
    """Ages of all messages, their parts, ages by kind, the method's own delays, and how many samples were lost."""
    ages = Series()
    parts: defaultdict[str, list[int]] = defaultdict(list)
    by_kind: defaultdict[str, list[int]] = defaultdict(list)
    algorithm: list[int] = []
    lost, cut = 0, 0.0
    from_ns = began_ns + int(plan.warm_s * 1e9)
    for one in heard:
        stream, kind = one.topic.split("/")[-2:]
        if kind == "gap":
            lost += int(json.loads(one.payload)["lost"])
        if kind not in KINDS or not stream.startswith("bed"):
            continue
        said: dict[str, Any] = json.loads(one.payload)
        row = written[int(stream.removeprefix("bed"))]
        known = int(said["known"])
        # The daemon's flush at its end knows nothing of a line that was written later.
        if not 0 <= known < len(row) or row[known] < from_ns:
            continue
        age = one.ns - int(row[known])
        ages.add((age,))
        by_kind[kind].append(age)
        latency = said["latency"]
        inside = 0
        for name in ("queue", "compute"):
            part = latency[f"{name}_ms"]
            if part is not None:
                parts[name].append(max(1, int(part * 1e6)))
                inside += int(part * 1e6)
        parts["port, decode, encode, publish"].append(max(1, age - inside))
        algorithm.append(max(1, int(latency["algorithm_ms"] * 1e6)))
        at_s = (one.ns - began_ns) / 1e9
        if at_s - cut >= plan.seconds / SEGMENTS:
            ages.cut(at_s)
            cut = at_s
    ages.cut(plan.warm_s + plan.seconds)
    return ages, dict(parts), dict(by_kind), algorithm, lost
