"""What the benchmarks of the whole daemon stand on: a broker on loopback, the daemon as a process, and what Linux says of it."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from edge_agent.bench.rig import broker, free_port

__all__ = ["broker", "free_port"]  # the product's own, by the name under which the benchmarks know them

ROOT = Path(__file__).resolve().parent.parent
DEVICE = "bench"


class RigError(RuntimeError):
    """Something that the measurement needs did not start."""


def environment(**more: str) -> dict[str, str]:
    """This checkout's package, wherever the benchmark was started."""
    return {**os.environ, "PYTHONPATH": str(ROOT), **more}


@contextlib.contextmanager
def daemon(config: Path, **more: str) -> Iterator[subprocess.Popen[bytes]]:
    """``edge-agent run``; its log lies beside the configuration."""
    with config.with_suffix(".log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "edge_agent", "run", str(config)], stderr=log, env=environment(**more)
        )
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="edge-agent-bench-") as folder:
        yield Path(folder)


def config_text(port: int, streams: str, qos_beats: int = 0) -> str:
    """A configuration with the defaults that ship, for a broker on loopback."""
    mqtt = f'[mqtt]\nhost = "127.0.0.1"\nport = {port}\nqos_beats = {qos_beats}\n'
    return f'[device]\nid = "{DEVICE}"\n{mqtt}[outbox]\nfolder = "."\n{streams}'


def stream_text(name: str, channels: str, *, script: str, seed: int, fs: int = 250) -> str:
    """A simulated patient in real time, without end."""
    return (
        f'[[stream]]\nname = "{name}"\n[stream.source]\ntype = "simulated"\nfs = {fs}\nchannels = [{channels}]\n'
        f'script = "{script}"\nseed = {seed}\nforever = true\n'
    )


def memory_mb(pid: int) -> dict[str, float]:
    """Resident memory now and at its peak, and the share that is this process's own (PSS) where the kernel says it."""
    found: dict[str, float] = {}
    wanted = {"VmRSS": "resident", "VmHWM": "peak", "Pss": "pss"}
    for name in ("status", "smaps_rollup"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/{name}").read_text(encoding="ascii").splitlines():
                key, _, value = line.partition(":")
                if key in wanted:
                    found[wanted[key]] = int(value.split()[0]) / 1024
    return found


def cpu_s(pid: int) -> float:
    """Processor time used so far, all threads."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def machine() -> dict[str, str]:
    """Where the figures were measured."""
    model = platform.machine()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.lower().startswith(("model name", "model\t")) and not line.split(":")[1].strip().isdigit():
                model = line.split(":", 1)[1].strip()
                break
    return {"processor": model, "cores": str(os.cpu_count()), "python": platform.python_version()}


def load() -> str:
    """Load averages over 1, 5 and 15 minutes: on a busy machine delays are the machine's."""
    return " ".join(f"{value:.2f}" for value in os.getloadavg())


def percentile(values: list[float], percent: float) -> float:
    """Nearest rank."""
    return sorted(values)[max(0, math.ceil(len(values) * percent / 100) - 1)]


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return "\n".join(lines + ["| " + " | ".join(row) + " |" for row in rows])
