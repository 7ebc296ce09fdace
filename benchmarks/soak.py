"""The whole agent for hours, faster than life: memory, descriptors, drift and latency at the end as at the beginning.

    python -m benchmarks.soak --minutes 240 --speed 50      (make soak)
    python -m benchmarks.soak --minutes 10 --speed 50       (make soak-short)

The agent is a process of its own with a broker, outbox, recorder and file of lines, and two simulated patients with every shipped
model. What is promised: after the warm-up memory grows by at most 1 MB per simulated day, no descriptor more is open, the samples' clock
stays with the wall's, and the newest tenth of the latencies is as the first. Exit status 1 where one of them is not kept.

Growth is the median of the slopes between all pairs of looks (Theil 1950, Sen 1968): one page-cache flush or one look at an unlucky
moment must not decide it. A simulated day is one whose samples went through, however much of the speed the machine gave. With few
simulated hours the figure's own spread is larger than the bound: its 95 % interval is told, and the promise counts as broken only where the
whole interval lies above it and memory truly rose by more than one step (`STEP_MB`).
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks import rig

Numbers = npt.NDArray[np.float64]
FS = 250
STREAMS = ("bed1", "bed2")
LOOK_S = 5.0
GROWTH_MB_PER_DAY = 1.0
STEP_MB = 2.0
"""Python's and the C library's allocators take memory from the system a megabyte at a time, and for some fifteen simulated hours they find
their level: less in all is no slope. A four hours' run has six days after its warm-up, so that it is a third of what the promise allows."""
DRIFT_MS_PER_HOUR = 100.0
LATENCY_RATIO, LATENCY_FLOOR_MS = 1.5, 5.0
"""The last tenth's 99th percentile may be so many times the first's, or so much more, whatever is larger: the machine does other things."""


@dataclass(frozen=True, slots=True)
class Look:
    at_s: float
    rss_mb: float
    descriptors: int
    threads: int
    samples: dict[str, int]

    @property
    def days(self) -> float:
        """Of the patients', as far as they truly went through."""
        return sum(self.samples.values()) / len(self.samples) / FS / 86_400


@dataclass(frozen=True, slots=True)
class Slope:
    median: float
    low: float
    high: float


def slope(at_days: Numbers, values: Numbers) -> Slope:
    """Theil and Sen's, with Sen's 95 % interval."""
    count = len(at_days)
    first, second = np.triu_indices(count, 1)
    slopes = np.sort((values[second] - values[first]) / (at_days[second] - at_days[first]))
    spread = 1.96 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18)
    low = max(0, math.floor((len(slopes) - spread) / 2))
    high = min(len(slopes) - 1, math.ceil((len(slopes) + spread) / 2))
    return Slope(float(np.median(slopes)), float(slopes[low]), float(slopes[high]))


class Ears:
    """What the agent says of itself, and how old its beats are."""

    def __init__(self, port: int) -> None:
        self._lock = threading.Lock()
        self._health: dict[str, Any] | None = None
        self._late: list[tuple[float, float]] = []
        self._client = paho.Client(CallbackAPIVersion.VERSION2)
        self._client.on_message = self._heard
        self._client.on_connect = lambda client, *_: client.subscribe([("+/+/+/beat", 0), ("+/+/bridge/health", 0)])
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def _heard(self, _client: Any, _userdata: Any, message: Any) -> None:
        said = json.loads(message.payload)
        with self._lock:
            if message.topic.endswith("health"):
                self._health = said
            else:
                latency = said["latency"]
                self._late.append((time.monotonic(), (latency["queue_ms"] or 0.0) + (latency["compute_ms"] or 0.0)))

    def health(self) -> dict[str, Any] | None:
        with self._lock:
            return self._health

    def late(self) -> list[tuple[float, float]]:
        with self._lock:
            return list(self._late)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()


def look(pid: int, began: float, health: dict[str, Any]) -> Look:
    return Look(
        at_s=time.monotonic() - began,
        rss_mb=rig.memory_mb(pid)["resident"],
        descriptors=len(list(Path(f"/proc/{pid}/fd").iterdir())),
        threads=len(list(Path(f"/proc/{pid}/task").iterdir())),
        samples={name: stream["samples"] for name, stream in health["streams"].items()},
    )


def run(minutes: float, speed: float, folder: Path) -> dict[str, Any]:
    with rig.broker(folder) as (port, broker):
        streams = "".join(
            f'[[stream]]\nname = "{name}"\n[stream.source]\ntype = "simulated"\nfs = {FS}\nchannels = ["II", "ABP"]\n'
            f'script = "demo"\nseed = {number}\nspeed = {speed:g}\nforever = true\n'
            for number, name in enumerate(STREAMS, 1)
        )
        text = (
            f'health_s = 1\n[device]\nid = "soak"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\nqos_beats = 1\n'
            f'[outbox]\nfolder = "{folder}"\nmax_mb = 8\n[jsonl]\npath = "{folder}/events.jsonl"\nmax_mb = 8\n'
            f'[recorder]\nfolder = "{folder}/rec"\nmode = "events"\nmax_mb = 100\n[inference]\nqueue_windows = 4096\n{streams}'
        )
        config = folder / "agent.toml"
        config.write_text(text, encoding="utf-8")
        with rig.daemon(config) as agent:
            ears = Ears(port)
            try:
                return _watch(agent.pid, ears, minutes, speed) | {"broker": broker, "machine": rig.machine()}
            finally:
                ears.close()


def _watch(pid: int, ears: Ears, minutes: float, speed: float) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while ears.health() is None or not ears.late():
        if time.monotonic() > deadline:
            raise rig.RigError("the agent said nothing for a minute")
        time.sleep(0.1)
    began, looks = time.monotonic(), []
    cpu_s = rig.cpu_s(pid)
    while time.monotonic() - began < minutes * 60:
        time.sleep(min(LOOK_S, minutes * 60 / 40))
        health = ears.health()
        assert health is not None
        looks.append(look(pid, began, health))
    cpu_s = rig.cpu_s(pid) - cpu_s
    health = ears.health()
    assert health is not None
    return judge(looks, ears.late(), health, began, speed) | {"cpu_percent": round(100 * cpu_s / (minutes * 60), 1)}


def judge(
    looks: list[Look], late: list[tuple[float, float]], health: dict[str, Any], began: float, speed: float
) -> dict[str, Any]:
    """Figures, and which promise is not kept."""
    warm = [one for one in looks if one.at_s >= looks[-1].at_s / 4]
    memory = np.array([one.rss_mb for one in warm])
    growth = slope(np.array([one.days for one in warm]), memory)
    tenth_of_them = max(1, len(warm) // 10)
    rise_mb = float(np.median(memory[-tenth_of_them:]) - np.median(memory[:tenth_of_them]))
    half = len(warm) // 2
    # A recording that is being written is one more for a while: what stays open is what the last tenth never goes below.
    last = warm[-tenth_of_them:]
    descriptors = [max(one.descriptors for one in warm[:half]), min(one.descriptors for one in last)]
    # Of the signal's time at the speed that was asked for, against the wall's. Health is said once a second, so that a look may be a second
    # old: over all pairs of looks that cancels out, between the first and the last it does not.
    at_s = np.array([one.at_s for one in warm])
    signal_s = {name: np.array([one.samples[name] for one in warm]) / FS / speed for name in STREAMS}
    drifts = {name: 1000 * slope(at_s / 3600, own - at_s).median for name, own in signal_s.items()}
    tenth = looks[-1].at_s / 10
    ages = [
        np.array([ms for at, ms in late if low <= at - began < low + tenth] or [math.nan])
        for low in (tenth, looks[-1].at_s - tenth)
    ]
    p99 = [float(np.percentile(part, 99)) for part in ages]
    # Over a short run that second is a drift by itself.
    allowed_ms = max(DRIFT_MS_PER_HOUR, 2000 * 3600 / (warm[-1].at_s - warm[0].at_s))
    broken = []
    if growth.low > GROWTH_MB_PER_DAY and rise_mb > STEP_MB:
        broken.append(
            f"memory grows by {growth.median:.2f} MB per simulated day (95 %: {growth.low:.2f} to {growth.high:.2f})"
        )
    if descriptors[1] > descriptors[0]:
        broken.append(f"descriptors: {descriptors[0]}, then {descriptors[1]}")
    broken += [f"{name} drifts by {ms:.0f} ms an hour" for name, ms in drifts.items() if abs(ms) > allowed_ms]
    if not p99[1] <= max(LATENCY_RATIO * p99[0], p99[0] + LATENCY_FLOOR_MS):
        broken.append(f"latency (p99): {p99[0]:.1f} ms in the first tenth, {p99[1]:.1f} ms in the last")
    if health["broker"]["lost"] or health["inference"]["faults"]:
        broken.append(f"lost {health['broker']['lost']} messages, {health['inference']['faults']} faults while judging")
    return {
        "simulated_h": round(looks[-1].days * 24, 2),
        "asked_h": round(looks[-1].at_s * speed / 3600, 2),
        "wall_min": round(looks[-1].at_s / 60, 2),
        "speed": speed,
        "growth_mb_per_simulated_day": {key: round(value, 3) for key, value in asdict(growth).items()},
        "rss_mb": {
            "warm": round(warm[0].rss_mb, 1),
            "end": round(warm[-1].rss_mb, 1),
            "rise": round(rise_mb, 2),
            "peak": max(one.rss_mb for one in looks),
        },
        "rss_mb_over_time": [round(one.rss_mb, 1) for one in looks[:: max(1, len(looks) // 20)]],
        "descriptors": {"most_in_first_half": descriptors[0], "least_in_last_tenth": descriptors[1]},
        "threads": {"warm": warm[0].threads, "end": warm[-1].threads},
        "drift_ms_per_hour": {name: round(ms, 1) for name, ms in drifts.items()},
        "latency_p99_ms": {"first_tenth": round(p99[0], 2), "last_tenth": round(p99[1], 2)},
        "beats": len(late),
        "windows_dropped": health["inference"]["dropped"],
        "broken": broken,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--minutes", type=float, default=10.0, help="of wall clock (default: %(default)g)")
    parser.add_argument("--speed", type=float, default=50.0, help="simulated seconds per second (default: %(default)g)")
    parser.add_argument("--out", type=Path, help="write the figures as JSON")
    arguments = parser.parse_args()
    with rig.scratch() as folder:
        found = run(arguments.minutes, arguments.speed, folder)
    text = json.dumps(found, indent=1)
    print(text)
    if arguments.out is not None:
        arguments.out.write_text(text + "\n", encoding="utf-8")
    return int(bool(found["broken"]))


if __name__ == "__main__":
    sys.exit(main())
