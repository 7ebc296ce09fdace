"""What publishing costs: events a second to a real mosquitto at QoS 1, processor time an event, and bytes on the disk a day.

    python -m benchmarks.publishing [--events 20000]

The first table publishes beats as fast as they go, for each protocol, with the outbox on disk and without. The second is a day of
one stream as it is, one beat and one verdict a second, scaled up from some minutes: what an SD card has to bear.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
import tempfile
import time
from pathlib import Path

from edge_agent import events
from edge_agent.config import MqttConfig
from edge_agent.outputs.mqtt import MqttPublisher
from edge_agent.outputs.outbox import Bounds, Outbox
from tests.spine import running_broker

DEVICE = "bench"
LEAD = 1500
"""Events that may wait for the broker: a publisher that runs away measures its own memory."""


def beat(number: int) -> events.Beat:
    return events.Beat(
        seq=number, session="20260101T000000-0000", device=DEVICE, stream="bed1", sample=number * 300, time=None,
        known=number * 300 + 120, arrived=None, latency=events.Latency(algorithm_ms=333.3, queue_ms=0.4, compute_ms=0.9),
        channel="II", confidence=0.98, rr_ms=833.3,
    )  # fmt: skip


def written_bytes() -> int:
    """By this process, to the disk, as the kernel counts them."""
    for line in Path("/proc/self/io").read_text().splitlines():
        if line.startswith("write_bytes"):
            return int(line.split()[1])
    raise RuntimeError("no write_bytes in /proc/self/io")


def publish(
    mosquitto: str,
    protocol: str,
    count: int,
    *,
    disk: bool,
    per_s: float | None,
    connected: bool,
    wait_s: float = 0.0,
) -> tuple[float, float, int]:
    """Seconds, processor seconds and bytes written."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as name, running_broker(mosquitto, Path(name)) as broker:
        box = Outbox(Path(name) / "bench.outbox", Bounds(512_000_000, 1e9)) if disk else None
        publisher = MqttPublisher(
            MqttConfig.model_validate(
                {
                    "host": "127.0.0.1",
                    "port": broker.port,
                    "qos_beats": 1,
                    "protocol": protocol,
                    "queue_messages": count + 100,
                }
            ),
            DEVICE,
            box,
            beats_wait_s=wait_s,
        )
        publisher.start()
        while not publisher.connected:
            time.sleep(0.01)
        if not connected:
            broker.stop()
            while publisher.connected:
                time.sleep(0.01)
        made = [beat(number) for number in range(count)]
        wrote, cpu, began = written_bytes(), time.process_time(), time.monotonic()
        for number, event in enumerate(made):
            publisher.event(event)
            if per_s is not None:
                time.sleep(max(0.0, began + (number + 1) / per_s - time.monotonic()))
            elif number % 200 == 199:
                while connected and publisher.waiting > LEAD:
                    time.sleep(0.002)
        while connected and publisher.waiting:
            time.sleep(0.005)
        taken = time.monotonic() - began, time.process_time() - cpu, written_bytes() - wrote
        if publisher.lost or publisher.disk_fault:
            raise RuntimeError(f"lost {publisher.lost}, disk: {publisher.disk_fault}")
        publisher.stop()
        return taken


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--card-seconds", type=int, default=60, help="length of the second measurement")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there, too")
    arguments = parser.parse_args()
    logging.disable()  # of brokers that we stop ourselves
    mosquitto = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    found: dict[str, dict[str, float]] = {}
    print(f"{'MQTT':<8}{'outbox':<10}{'events/s':>10}{'CPU us/event':>14}")
    for protocol in ("3.1.1", "5"):
        for disk in (True, False):
            seconds, cpu, _ = publish(mosquitto, protocol, arguments.events, disk=disk, per_s=None, connected=True)
            kept = "disk" if disk else "memory"
            rate, each_us = arguments.events / seconds, cpu / arguments.events * 1e6
            found[f"{protocol} {kept}"] = {"events_per_s": rate, "cpu_us_per_event": each_us}
            print(f"{protocol:<8}{kept:<10}{rate:>10.0f}{each_us:>14.1f}")
    count = 2 * arguments.card_seconds
    for connected, wait_s in ((True, 0.0), (True, 5.0), (False, 0.0), (False, 5.0)):
        _, _, wrote = publish(mosquitto, "3.1.1", count, disk=True, per_s=2.0, connected=connected, wait_s=wait_s)
        state = f"beats_wait_s = {wait_s:g}, " + ("connected" if connected else "broker away")
        a_day = wrote / arguments.card_seconds * 86_400 / 1e6
        where = f"{'connected' if connected else 'away'} {wait_s:g}"
        found[where] = {"bytes_per_message": wrote / count, "mb_per_day": a_day}
        print(
            f"one stream, 2 messages of QoS 1 a second, {state}: {wrote / count:.0f} bytes a message, {a_day:.0f} MB a day"
        )
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
