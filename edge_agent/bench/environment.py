"""What the figures were measured on. What cannot be read is None, never guessed."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent import __version__
from edge_agent.config import default_device


def _text(path: str) -> str | None:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
    except OSError:
        return None


def _cpu_model() -> str | None:
    for line in (_text("/proc/cpuinfo") or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model"):
            return value.strip()
    return None


def _memory_mb() -> int | None:
    for line in (_text("/proc/meminfo") or "").splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) // 1024
    return None


def environment(device: str | None) -> dict[str, Any]:
    return {
        "device": device or default_device(),
        "board": _text("/proc/device-tree/model"),
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "governor": _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "memory_mb": _memory_mb(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "os": next(
            (
                line.removeprefix("PRETTY_NAME=").strip('"')
                for line in (_text("/etc/os-release") or "").splitlines()
                if line.startswith("PRETTY_NAME=")
            ),
            None,
        ),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "agent": __version__,
        "load_1min": os.getloadavg()[0],
        "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
