"""How long the daemon takes from its start until systemd would be told READY, with one model and with all that ship.

    python benchmarks/start.py [--starts 7] [--out benchmarks/results/start.json]

A simulated patient in real time, no broker (none is waited for). The parts are measured in processes of their own: imports,
configuration, models, sources. A Markdown table is printed; the figures go to ``--out`` as JSON. Exit status 1 if the bound is not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # run from a checkout
    sys.path.insert(0, str(ROOT))

from benchmarks import footprint, rig  # noqa: E402

READY_S = 1.5
SETS = {
    "none": ([], []),
    "one": (["ecg-beat-aami"], []),
    "four": (["ecg-beat-aami", "ecg-af-rr", "ecg-af-10s"], ["abp-segment"]),
    "five": (["ecg-beat-aami", "ecg-af-rr", "ecg-af-10s"], ["abp-segment", "abp-segment-lstm"]),
}
"""Models of the ECG stream and of the arterial one."""
BOUND_OF = "four"


def config_of(name: str, folder: Path) -> Path:
    ecg, abp = SETS[name]
    text = ""
    for stream, channel, models in (("ecg", '"II"', ecg), ("abp", '"ABP"', abp)):
        stanza = rig.stream_text(stream, channel, script="sinus", seed=1)
        text += stanza.replace("[stream.source]", f"models = {json.dumps(models)}\n[stream.source]")
    path = folder / "footprint.toml"
    path.write_text(rig.config_text(rig.free_port(), text), encoding="utf-8")
    return path


def ready_s(config: Path, folder: Path) -> tuple[float, float]:
    """One start, from the fork to READY=1; and the processor time that it took, which a busy machine hardly changes."""
    address = folder / "notify"
    address.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(address))
        systemd.settimeout(60)
        began = time.monotonic()
        with rig.daemon(config, NOTIFY_SOCKET=str(address)) as process:
            while b"READY=1" not in systemd.recv(4096):
                pass
            return time.monotonic() - began, rig.cpu_s(process.pid)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=7, help="how often each is started (default %(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks" / "results" / "start.json")
    args = parser.parse_args(argv)
    load_before = rig.load()
    found: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    parts: dict[str, dict[str, float]] = {}
    with rig.scratch() as folder:
        for name in SETS:
            config = config_of(name, folder)
            ready_s(config, folder)  # the first one reads the files from disk
            runs = [ready_s(config, folder) for _ in range(args.starts)]
            found[name], cpu[name] = [wall for wall, _ in runs], [spent for _, spent in runs]
            parts[name] = footprint.parts_of_the_start(folder)
    kept = statistics.median(found[BOUND_OF]) <= READY_S
    rows = [
        [
            f"{name} ({len(SETS[name][0]) + len(SETS[name][1])})",
            f"{statistics.median(times):.2f} s",
            f"{max(times):.2f} s",
            f"{statistics.median(cpu[name]):.2f} s",
            *(f"{parts[name][part] * 1000:.0f} ms" for part in parts[name]),
        ]
        for name, times in found.items()
    ]
    print(rig.table(["models", "READY, median", "worst", "processor time", *parts[BOUND_OF]], rows))
    print(
        f"\nbound for four: {READY_S} s; {args.starts} starts each; load before {load_before}, after {rig.load()}; {rig.machine()}"
    )
    args.out.parent.mkdir(parents=True, exist_ok=True)
    result = {
        "ready_s": found,
        "processor_s": cpu,
        "parts_s": parts,
        "machine": rig.machine(),
        "load_before": load_before,
        "load_after": rig.load(),
        "cpus": os.cpu_count(),
        "bound_s": READY_S,
        "kept": kept,
    }
    args.out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
