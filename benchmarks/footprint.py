"""How much memory the daemon takes, and how soon it says its first beat.

    python benchmarks/footprint.py [--starts 5] [--settle 60] [--out benchmarks/results/footprint.json]

One ECG stream and one arterial stream of simulated patients in real time, the shipped models, a broker on loopback
(mosquitto where it is installed, else amqtt). A Markdown table is printed; the figures go to ``--out`` as JSON. Exit
status 1 if a bound is not kept.

The start is taken apart: until systemd would be told READY, until the first sample (the daemon's own time), the signal
that the QRS detector wants before its first beat (it learns the signal's size first; no program can be faster on the
same method), and the way from there to the subscriber.
"""

from __future__ import annotations

import argparse
import json
import queue
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run from a checkout
    sys.path.insert(0, str(ROOT))

from benchmarks import rig  # noqa: E402

RESIDENT_MB = 150.0
FIRST_BEAT_S = 3.0
FS = 250
STEADY_S = 10.0
"""The steady memory is the largest seen over this long, after the time to settle."""

# Where the time until READY goes, measured in a process of its own: the daemon says nothing about it.
PARTS = """
import json, sys, time
began = time.perf_counter()
from pathlib import Path
import edge_agent.cli, edge_agent.config
from edge_agent import config, daemon
from edge_agent.inference.installed.catalogue import Catalogue, open_first
from edge_agent.inference.installed.live import wanted_names
imported = time.perf_counter()
settings = config.load(Path(sys.argv[1]))
read = time.perf_counter()
names = wanted_names([stream.models for stream in settings.stream], catalogue := Catalogue.of(settings.inference))
models = open_first(catalogue, names)
loaded = time.perf_counter()
sources = daemon.open_sources(settings)
opened = time.perf_counter()
print(json.dumps({"imports": imported - began, "configuration": read - imported, "models": loaded - read,
                  "sources": opened - loaded}))
"""


@dataclass(frozen=True, slots=True)
class Start:
    """One start, in seconds since the process was asked for."""

    ready_s: float
    first_sample_s: float
    """When the ECG stream's sample 0 reached the pipeline."""
    learning_s: float
    """Signal from sample 0 to the newest sample that the first beat needed."""
    way_s: float
    """From the arrival of that sample to the subscriber."""
    first_beat_s: float


def one_start(folder: Path, port: int, settle_s: float) -> tuple[Start, dict[str, float]]:
    """Start the daemon, wait for its first beat, and (``settle_s`` above 0) see what memory it comes to."""
    config = folder / "footprint.toml"
    streams = rig.stream_text("ecg", '"II"', script="sinus", seed=1, fs=FS)
    streams += rig.stream_text("abp", '"ABP"', script="sinus", seed=2, fs=FS)
    config.write_text(rig.config_text(port, streams), encoding="utf-8")
    beats: queue.SimpleQueue[tuple[dict[str, Any], datetime]] = queue.SimpleQueue()
    subscribed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _c, _u, message: beats.put((json.loads(message.payload), datetime.now(UTC)))
    client.on_connect = lambda c, *_: c.subscribe(f"edge-agent/{rig.DEVICE}/ecg/beat", qos=1)
    client.on_subscribe = lambda *_: subscribed.put(True)
    client.connect("127.0.0.1", port)
    client.loop_start()
    address = folder / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(60)
        subscribed.get(timeout=10)
        began, began_utc = time.monotonic(), datetime.now(UTC)
        with rig.daemon(config, NOTIFY_SOCKET=str(address)) as process:
            while b"READY=1" not in systemd.recv(4096):
                pass
            ready_s = time.monotonic() - began
            beat, received = beats.get(timeout=60)
            first_beat_s = (received - began_utc).total_seconds()
            arrived = (datetime.fromisoformat(beat["arrived"]) - began_utc).total_seconds()
            learning_s = beat["known"] / FS
            start = Start(ready_s, arrived - learning_s, learning_s, first_beat_s - arrived, first_beat_s)
            memory = _memory(process, began + settle_s) if settle_s else {}
    client.disconnect()
    client.loop_stop()
    return start, memory


def _memory(process: subprocess.Popen[bytes], settled: float) -> dict[str, float]:
    time.sleep(max(0.0, settled - time.monotonic()))
    seen: list[dict[str, float]] = []
    end = time.monotonic() + STEADY_S
    while time.monotonic() < end:
        if process.poll() is not None:
            raise rig.RigError(f"the daemon ended with status {process.returncode}")
        seen.append(rig.memory_mb(process.pid))
        time.sleep(0.5)
    return {key: max(one[key] for one in seen) for key in seen[0]}


def parts_of_the_start(folder: Path) -> dict[str, float]:
    command = [sys.executable, "-c", PARTS, str(folder / "footprint.toml")]
    ended = subprocess.run(command, env=rig.environment(), capture_output=True, text=True, check=True)
    parts: dict[str, float] = json.loads(ended.stdout)
    return parts


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5, help="how often the daemon is started (default %(default)s)")
    parser.add_argument("--settle", type=float, default=60.0, help="seconds before memory counts as steady")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "footprint.json")
    args = parser.parse_args(argv)
    load_before = rig.load()
    with rig.scratch() as folder, rig.broker(folder) as (port, name):
        runs = [one_start(folder, port, 0.0)[0] for _ in range(max(0, args.starts - 1))]
        last, memory = one_start(folder, port, args.settle)
        starts = [*runs, last]
        parts = parts_of_the_start(folder)
    median = {key: statistics.median(asdict(one)[key] for one in starts) for key in asdict(last)}
    worst = max(one.first_beat_s for one in starts)
    kept = memory["resident"] <= RESIDENT_MB and median["first_beat_s"] <= FIRST_BEAT_S
    rows = [
        ["resident memory, steady", f"{memory['resident']:.1f} MB", f"at most {RESIDENT_MB:.0f} MB"],
        ["of that, not shared (PSS)", f"{memory['pss']:.1f} MB" if "pss" in memory else "not known", ""],
        ["resident memory, peak", f"{memory['peak']:.1f} MB", ""],
        ["start to READY", f"{median['ready_s']:.2f} s", ""],
        *([f"- {key}", f"{value:.2f} s", ""] for key, value in parts.items()),
        ["start to the first sample", f"{median['first_sample_s']:.2f} s", ""],
        ["signal until the first beat is known", f"{median['learning_s']:.2f} s", ""],
        ["from there to the subscriber", f"{median['way_s'] * 1000:.1f} ms", ""],
        ["start to the first beat", f"{median['first_beat_s']:.2f} s", f"at most {FIRST_BEAT_S:.0f} s"],
        ["- the slowest of the starts", f"{worst:.2f} s", ""],
    ]
    print(rig.table(["", "measured", "bound"], rows))
    machine = rig.machine()
    print(
        f"\n{len(starts)} starts (medians); broker {name}; load average before {load_before}, after {rig.load()}; {machine}"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "memory_mb": memory,
        "start_median_s": median,
        "starts": [asdict(one) for one in starts],
        "parts_of_ready_s": parts,
        "broker": name,
        "machine": machine,
        "load_before": load_before,
        "load_after": rig.load(),
        "bounds": {"resident_mb": RESIDENT_MB, "first_beat_s": FIRST_BEAT_S},
        "kept": kept,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
