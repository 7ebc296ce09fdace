"""Talking to systemd: readiness, watchdog and status, without a library (sd_notify(3) is one datagram)."""

from __future__ import annotations

import socket

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
