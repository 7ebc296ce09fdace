"""What the daemon sends: messages and bytes per patient-hour, by topic.

    python benchmarks/traffic.py RECORD... [--speed 30] [--streams 4] [--beds 30 500] [--out benchmarks/results/traffic.json]

Recordings are streamed through the real daemon (``edge-agent run``, file sources, the shipped models, beats at QoS 1) to a
broker on loopback, and counted where they arrive: at a subscriber. A replay's own payloads would be too small: a live message
also says when its samples arrived and how long each step took. The waveform leaves once a second of the wall's clock, so it
is counted in a run of its own at a patient's speed. Last, the broker's own processor time is measured.

Bytes are those of MQTT 3.1.1: fixed header, topic, packet identifier at QoS 1, payload. TCP, IP and TLS are not in them.
A recording without a date says ``"time":null``; a live stream says the time, so the difference is added. What goes by the
wall's clock, not by the signal (``bridge/health``), is counted at its interval. A Markdown table is printed.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run from a checkout
    sys.path.insert(0, str(ROOT))

from benchmarks import rig  # noqa: E402
from edge_agent.sources.open import open_recording  # noqa: E402

ONCE = ("availability", "bridge/info", "bridge/state")
"""Said at a start, an end or a change, not by the hour."""
HEALTH = "bridge/health"
HEALTH_S = 10
DATED = len('"2026-01-01T00:00:00.000000Z"') - len("null")
PATIENCE_S = 60


@dataclass(slots=True)
class Tally:
    """One topic's messages."""

    messages: int = 0
    payload: int = 0
    wire: int = 0
    """Payload, topic and MQTT's own header."""
    largest: int = 0
    qos: int = 0

    def add(self, topic: str, size: int, qos: int) -> None:
        self.messages += 1
        self.payload += size
        self.wire += packet_bytes(topic, size, qos)
        self.largest = max(self.largest, size)
        self.qos = max(self.qos, qos)


def packet_bytes(topic: str, payload: int, qos: int) -> int:
    """A PUBLISH of MQTT 3.1.1, section 3.3; a topic of ASCII."""
    rest = 2 + len(topic) + (2 if qos else 0) + payload
    length, over = 1, rest >> 7
    while over:
        length, over = length + 1, over >> 7
    return 1 + length + rest


def kind_of(topic: str) -> str:
    """``beat`` of ``base/device/stream/beat``; ``bridge/health`` of the agent's own."""
    _base, _device, stream, kind = topic.split("/")
    return f"bridge/{kind}" if stream == "bridge" else "state (vitals)" if kind == "state" else kind


@contextlib.contextmanager
def listening(
    records: Sequence[Path], speed: float, heard: Callable[[str, bytes, int], None], *, waveform: bool = False
) -> Iterator[subprocess.Popen[bytes]]:
    """A broker, a subscriber to everything, and one daemon with these recordings as its streams."""
    subscribed: queue.SimpleQueue[bool] = queue.SimpleQueue()
    with rig.scratch() as folder, rig.broker(folder) as (port, _name):
        client = paho.Client(CallbackAPIVersion.VERSION2)
        client.on_message = lambda _c, _u, message: heard(message.topic, bytes(message.payload), message.qos)
        client.on_connect = lambda c, *_: c.subscribe(f"edge-agent/{rig.DEVICE}/#", qos=1)
        client.on_subscribe = lambda *_: subscribed.put(True)
        client.connect("127.0.0.1", port)
        client.loop_start()
        subscribed.get(timeout=PATIENCE_S)
        config = folder / "traffic.toml"
        # No window is turned away because the recording runs faster than a patient: a class per beat is what is counted.
        head = f"health_s = {HEALTH_S}\n[inference]\nqueue_windows = 65536\n"
        streams = "".join(stream_text(f"bed{n}", path, speed, waveform) for n, path in enumerate(records, start=1))
        config.write_text(head + rig.config_text(port, streams, qos_beats=1), encoding="utf-8")
        with rig.daemon(config, OMP_NUM_THREADS="1") as process:
            yield process
            if process.poll():
                said = config.with_suffix(".log").read_text(encoding="utf-8", errors="replace").strip()
                raise rig.RigError(f"the daemon ended with status {process.returncode}: {said[-500:]}")
        client.disconnect()
        client.loop_stop()


def count(records: Sequence[Path], speed: float, tallies: dict[str, Tally]) -> None:
    """From the daemon's birth to its goodbye; it ends when its recordings have."""
    ended: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def heard(topic: str, payload: bytes, qos: int) -> None:
        size = len(payload) + (DATED if b'"time":null' in payload else 0)
        tallies[kind_of(topic)].add(topic, size, qos)
        if topic.endswith("/bridge/state") and b"offline" in payload:
            ended.put(True)

    with listening(records, speed, heard) as process:
        process.wait()
        if process.returncode == 0:
            ended.get(timeout=PATIENCE_S)


def count_waveform(records: Sequence[Path], seconds: float) -> tuple[Tally, float]:
    """The waveform alone, at a patient's speed, and how many patient-hours of it."""
    tally = Tally()
    times: list[float] = []
    started = threading.Event()

    def heard(topic: str, payload: bytes, qos: int) -> None:
        if topic.endswith("/waveform") and (not times or times[-1] - times[0] < seconds):
            times.append(time.monotonic())
            tally.add(topic, len(payload) + (DATED if b'"time":null' in payload else 0), qos)
            started.set()

    with listening(records, 1.0, heard, waveform=True):
        if not started.wait(PATIENCE_S):
            raise rig.RigError("no waveform came")
        time.sleep(seconds)
    streams, messages = len(records), tally.messages
    if messages <= streams:
        raise rig.RigError(f"only {messages} waveform messages came")
    # Between n messages lie n - 1 intervals, on each stream.
    return tally, streams * (times[-1] - times[0]) / 3600 * messages / (messages - streams)


def stream_text(name: str, record: Path, speed: float, waveform: bool) -> str:
    return (
        f'[[stream]]\nname = "{name}"\nwaveform = {str(waveform).lower()}\n[stream.source]\ntype = "file"\n'
        f"path = {json.dumps(str(record.resolve()))}\nspeed = {speed:g}\n"
    )


def hours(record: Path) -> float:
    recording = open_recording(record)
    try:
        return (recording.info.samples or 0) / recording.info.fs / 3600
    finally:
        recording.close()


def total(tallies: dict[str, Tally]) -> int:
    return sum(one.messages for one in tallies.values())


def spread(records: Sequence[Path], number: int) -> Sequence[Path]:
    """So many of them, from all over the list."""
    step = max(1, len(records) // number)
    return records[::step][:number]


def batches(records: Sequence[Path], size: int) -> Iterator[Sequence[Path]]:
    for first in range(0, len(records), size):
        yield records[first : first + size]


def per_hour(
    tallies: dict[str, Tally], patient_hours: float, streams: int, waveform: tuple[Tally, float]
) -> dict[str, dict[str, float]]:
    """By topic: messages an hour, bytes a message, bytes an hour; for one patient."""
    found: dict[str, dict[str, float]] = {}
    for kind, one in (*sorted(tallies.items(), key=lambda item: -item[1].wire), ("waveform", waveform[0])):
        rate = one.messages / (waveform[1] if kind == "waveform" else patient_hours)
        if kind == HEALTH:  # by the wall's clock, and one for all the device's streams
            rate = 3600 / HEALTH_S / streams
        if kind in ONCE or not one.messages:
            continue
        wire = one.wire / one.messages
        found[kind] = {
            "messages": rate,
            "payload_bytes": one.payload / one.messages,
            "wire_bytes": wire,
            "bytes": rate * wire,
            "largest_payload": one.largest,
            "qos": one.qos,
        }
    return found


def rows(found: dict[str, dict[str, float]]) -> Iterable[list[str]]:
    def row(name: str, kinds: Sequence[str]) -> list[str]:
        messages, size = (sum(found[kind][key] for kind in kinds) for key in ("messages", "bytes"))
        return [name, f"{messages:,.1f}", "", "", f"{size / 1e6:.3f}"]

    for kind, one in found.items():
        yield [
            kind,
            f"{one['messages']:,.1f}",
            f"{one['payload_bytes']:.0f}",
            f"{one['wire_bytes']:.0f}",
            f"{one['bytes'] / 1e6:.3f}",
        ]
    small = [kind for kind in found if kind != "waveform"]
    yield row("all but the waveform", small)
    yield row("without beats and verdicts too", [kind for kind in small if kind not in ("beat", "verdict")])


def bed_rows(found: dict[str, dict[str, float]], beds: Sequence[int]) -> Iterable[list[str]]:
    """Arithmetic on the table above: every bed sends what the mean bed sent."""
    for title, left_out in (
        ("everything with the waveform", ()),
        ("all but the waveform", ("waveform",)),
        ("without beats and verdicts too", ("waveform", "beat", "verdict")),
    ):
        kinds = [kind for kind in found if kind not in left_out]
        messages, size = (sum(found[kind][key] for kind in kinds) for key in ("messages", "bytes"))
        for number in beds:
            yield [
                title,
                str(number),
                f"{messages * number / 3600:,.1f}",
                f"{size * number / 3600 / 1e3:,.1f}",
                f"{size * number * 24 / 1e9:,.2f}",
            ]


def broker_cost(payload: int, messages: int) -> tuple[str, float]:
    """Processor time of the broker for a message of QoS 1 from one publisher to one subscriber, in microseconds."""
    got = threading.Event()
    counted = itertools.count(1)
    clients = []
    with rig.scratch() as folder, rig.broker(folder) as (port, name):
        # Our one child: the broker.
        pid = int(Path(f"/proc/self/task/{os.getpid()}/children").read_text(encoding="ascii").split()[-1])

        room = threading.Semaphore(500)  # a subscriber's queue in the broker is bounded

        def heard(*_: object) -> None:
            room.release()
            if next(counted) == messages:
                got.set()

        for _ in range(2):
            client = paho.Client(CallbackAPIVersion.VERSION2)
            client.max_inflight_messages_set(1000)
            client.connect("127.0.0.1", port)
            client.loop_start()
            clients.append(client)
        publisher, subscriber = clients
        ready = threading.Event()
        subscriber.on_message = heard
        subscriber.on_subscribe = lambda *_: ready.set()
        subscriber.subscribe("edge-agent/+/+/beat", qos=1)
        if not ready.wait(PATIENCE_S):
            raise rig.RigError("the broker accepted no subscription")
        before = rig.cpu_s(pid)
        for _ in range(messages):
            if not room.acquire(timeout=PATIENCE_S):
                raise rig.RigError("messages were lost")
            publisher.publish("edge-agent/bench/bed1/beat", b"x" * payload, qos=1)
        if not got.wait(PATIENCE_S):
            raise rig.RigError("messages were lost")
        spent = rig.cpu_s(pid) - before
        for client in clients:
            client.disconnect()
            client.loop_stop()
    return name, spent / messages * 1e6


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("records", nargs="+", type=Path, metavar="RECORD", help="WFDB record, .csv or .edf")
    parser.add_argument("--speed", type=float, default=30.0, help="recorded seconds per second (default: %(default)g)")
    parser.add_argument(
        "--streams", type=int, default=4, help="recordings at a time, one daemon (default: %(default)s)"
    )
    parser.add_argument(
        "--waveform-s", type=float, default=30.0, help="the run for the waveform (default: %(default)g)"
    )
    parser.add_argument("--broker-messages", type=int, default=50_000, help="to time the broker (default: %(default)s)")
    parser.add_argument("--beds", type=int, nargs="+", default=[1, 30, 500], help="(default: %(default)s)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    args = parser.parse_args(argv)
    tallies: dict[str, Tally] = defaultdict(Tally)
    patient_hours = sum(hours(record) for record in args.records)
    began = time.monotonic()
    try:
        for batch in batches(args.records, args.streams):
            count(batch, args.speed, tallies)
            print(f"{', '.join(record.name for record in batch)}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        waveform = count_waveform(spread(args.records, args.streams), args.waveform_s)
        cost = broker_cost(round(sum(one.payload for one in tallies.values()) / total(tallies)), args.broker_messages)
    except (rig.RigError, queue.Empty) as error:
        print(f"traffic: {error or 'the broker or the daemon fell silent'}", file=sys.stderr)
        return 1
    found = per_hour(tallies, patient_hours, min(args.streams, len(args.records)), waveform)
    print(f"{len(args.records)} recordings, {patient_hours:.2f} patient-hours\n")
    print(rig.table(["topic", "messages/h", "payload B", "on the wire B", "MB/h"], list(rows(found))))
    print()
    print(rig.table(["what", "beds", "messages/s", "kB/s", "GB/day"], list(bed_rows(found, args.beds))))
    print(f"\n{cost[0]}: {cost[1]:.1f} us of processor time a message, QoS 1, one publisher, one subscriber")
    if args.out is not None:
        args.out.parent.mkdir(parents=True, exist_ok=True)
        report = {
            "measured": datetime.now(UTC).isoformat(timespec="seconds"),
            "records": [f"{record.parent.name}/{record.name}" for record in args.records],
            "patient_hours": patient_hours,
            "streams": args.streams,
            "speed": args.speed,
            "machine": rig.machine(),
            "tallies": {kind: asdict(one) for kind, one in sorted(tallies.items())},
            "per_patient_hour": found,
            "broker": {"name": cost[0], "cpu_us_per_message": cost[1], "messages": args.broker_messages},
        }
        args.out.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
