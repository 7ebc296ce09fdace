"""What the daemon itself adds to a message's delay: from the arrival of the newest sample that was needed to its receipt.

    python benchmarks/delay.py [--seconds 120] [--streams 4] [--qos 0] [--out benchmarks/results/delay.json]

Several simulated patients in real time (ECG and arterial pressure each, going through the demo's script), the shipped
models, the daemon as a process, a broker on loopback, and a subscriber in this process. ``arrived`` in each message is
the moment at which the block with that sample was in the daemon; the receipt is the subscriber's callback. A Markdown
table by kind of message is printed; the figures go to ``--out`` as JSON. Exit status 1 if a bound is not kept.

Delays of a few milliseconds measure the machine as much as the daemon: run it on one that does nothing else. The last
line says what a thread of this process had to wait for its turn meanwhile.
"""

from __future__ import annotations

import argparse
import json
import queue
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run from a checkout
    sys.path.insert(0, str(ROOT))

from benchmarks import rig  # noqa: E402

P50_MS, P99_MS = 5.0, 20.0
WARM_UP_S = 5.0
"""The detectors learn, and what happens once at the start happens."""
PERCENTILES = (50, 95, 99, 100)

Message = tuple[str, bytes, datetime]


class Jitter:
    """How late a thread of this process wakes from a sleep of 5 ms: what the machine alone does to any program."""

    def __init__(self) -> None:
        self.late_ms: list[float] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            due = time.monotonic() + 0.005
            time.sleep(0.005)
            self.late_ms.append((time.monotonic() - due) * 1000)

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()


def measure(folder: Path, port: int, args: argparse.Namespace) -> tuple[dict[str, list[float]], float, list[float]]:
    """Delays in ms by kind of message, the daemon's share of one core, and the machine's own lateness."""
    config = folder / "delay.toml"
    streams = "".join(
        rig.stream_text(f"bed{number}", '"II", "ABP"', script="demo", seed=number) for number in range(args.streams)
    )
    config.write_text(rig.config_text(port, streams, args.qos), encoding="utf-8")
    heard: list[Message] = []
    subscribed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.on_message = lambda _c, _u, message: heard.append((message.topic, bytes(message.payload), datetime.now(UTC)))
    client.on_connect = lambda c, *_: c.subscribe(f"edge-agent/{rig.DEVICE}/#", qos=1)
    client.on_subscribe = lambda *_: subscribed.put(True)
    client.connect("127.0.0.1", port)
    client.loop_start()
    subscribed.get(timeout=10)
    with rig.daemon(config) as process:
        deadline = time.monotonic() + 60
        while not any(topic.endswith("/beat") for topic, _, _ in heard):
            if process.poll() is not None or time.monotonic() > deadline:
                raise rig.RigError(f"no beat: {config.with_suffix('.log').read_text()[-500:]}")
            time.sleep(0.05)
        time.sleep(WARM_UP_S)
        del heard[:]
        jitter = Jitter()
        began, used = time.monotonic(), rig.cpu_s(process.pid)
        while time.monotonic() < began + args.seconds:
            time.sleep(0.2)
            if process.poll() is not None:
                raise rig.RigError(f"the daemon ended with status {process.returncode}")
        share = (rig.cpu_s(process.pid) - used) / (time.monotonic() - began)
        messages = list(heard)
        jitter.stop()
    client.disconnect()
    client.loop_stop()
    delays: defaultdict[str, list[float]] = defaultdict(list)
    for topic, payload, received in messages:
        arrived = json.loads(payload).get("arrived")
        if arrived is not None:
            added = (received - datetime.fromisoformat(arrived)).total_seconds() * 1000
            delays[topic.rsplit("/", 1)[-1]].append(added)
    return dict(delays), share, jitter.late_ms


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long is measured (default %(default)g)")
    parser.add_argument("--streams", type=int, default=4, help="how many patients (default %(default)s)")
    parser.add_argument(
        "--qos", type=int, choices=(0, 1), default=0, help="of beats and verdicts (default: as shipped)"
    )
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "delay.json")
    args = parser.parse_args(argv)
    load_before = rig.load()
    with rig.scratch() as folder, rig.broker(folder) as (port, name):
        delays, share, late_ms = measure(folder, port, args)
    everything = [value for values in delays.values() for value in values]
    if not everything:
        raise rig.RigError("nothing was received")
    figures = {
        kind: {"messages": len(values), **{f"p{percent}": rig.percentile(values, percent) for percent in PERCENTILES}}
        for kind, values in [("all", everything), *sorted(delays.items())]
    }
    kept = figures["all"]["p50"] <= P50_MS and figures["all"]["p99"] <= P99_MS
    rows = [
        [kind, str(one["messages"]), *(f"{one[f'p{percent}']:.2f}" for percent in PERCENTILES)]
        for kind, one in figures.items()
    ]
    rows.append(["bound", "", f"{P50_MS:g}", "", f"{P99_MS:g}", ""])
    print(rig.table(["added delay, ms", "messages", "p50", "p95", "p99", "max"], rows))
    machine = rig.machine()
    print(
        f"\n{args.streams} streams for {args.seconds:g} s, QoS {args.qos}, broker {name}; the daemon took "
        f"{share * 100:.1f} % of one core; {machine}"
    )
    late = {f"p{percent}": rig.percentile(late_ms, percent) for percent in PERCENTILES}
    print(
        f"load average before {load_before}, after {rig.load()}; a thread that slept 5 ms woke late by "
        + ", ".join(f"{key} {value:.2f} ms" for key, value in late.items())
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "added_ms": figures,
        "cpu_share": share,
        "machine_late_ms": late,
        "seconds": args.seconds,
        "streams": args.streams,
        "qos": args.qos,
        "broker": name,
        "machine": machine,
        "load_before": load_before,
        "load_after": rig.load(),
        "bounds": {"p50_ms": P50_MS, "p99_ms": P99_MS},
        "kept": kept,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
