"""Talking to systemd: readiness, watchdog and status, without a library (sd_notify(3) is one datagram)."""

from __future__ import annotations

import socket
from pathlib import Path

from edge_agent.config import notify_socket


def notify(*lines: str) -> bool:
    """Send state lines such as ``READY=1``; False where nobody listens."""
    address = notify_socket()
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        try:
            sock.sendto("\n".join(lines).encode(), address)
        except OSError:
            return False
    return True


def resident_mb() -> float | None:
    """Resident memory of this process, where the kernel says it."""
    try:
        with Path("/proc/self/status").open(encoding="ascii") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) / 1024
    except (OSError, ValueError, IndexError):
        return None
    return None
