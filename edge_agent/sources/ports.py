"""The serial ports there are, what hangs on them, and whether this user may use them.

Nothing is opened for it: to open a port raises DTR, which resets many a board.
"""

from __future__ import annotations

import getpass
import grp
import os
import stat
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

BY_ID = Path("/dev/serial/by-id")
NAMES = (("healthypi", "healthypi5"), ("openbci", "cyton"), ("bitalino", "bitalino"))
"""Words in what a device says of itself, and the board that says them. The USB chips of the others are in everything."""


@dataclass(frozen=True, slots=True)
class Found:
    device: str
    by_id: str | None
    """The path to put into a configuration: it stays the same wherever the board is plugged in."""
    description: str
    serial_number: str | None
    usb: str | None
    """Vendor and product, as `lsusb` writes them."""
    board: str | None
    """Only where the device itself says so; `edge-agent sniff` listens to it."""
    may_open: bool
    remedy: str
    """What to do where it may not be opened."""
    busy: str | None
    """Who has it open, as far as this user can see."""


def find_ports() -> list[Found]:
    from serial.tools import list_ports

    links = by_id_links()
    found = []
    for info in sorted(list_ports.comports(), key=lambda info: info.device):
        words = " ".join(filter(None, (info.description, info.manufacturer, info.product))).lower()
        usb = f"{info.vid:04x}:{info.pid:04x}" if info.vid is not None and info.pid is not None else None
        remedy = why_not(info.device)
        found.append(
            Found(
                device=info.device,
                by_id=links.get(os.path.realpath(info.device)),
                description=info.description if info.description != "n/a" else "",
                serial_number=info.serial_number,
                usb=usb,
                board=next((board for word, board in NAMES if word in words), None),
                may_open=not remedy,
                remedy=remedy,
                busy=holder(info.device),
            )
        )
    return found


def by_id_links(folder: Path = BY_ID) -> dict[str, str]:
    """Real path to the link that always means this device."""
    try:
        return {os.path.realpath(link): str(link) for link in sorted(folder.iterdir())}
    except OSError:
        return {}


def why_not(path: str) -> str:
    """What this user must do before the port can be opened; empty if nothing."""
    if os.access(path, os.R_OK | os.W_OK):
        return ""
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        return "it is not there: edge-agent ports lists those that are"
    except OSError as error:
        return f"{error.strerror}"
    if status.st_mode & (stat.S_IRGRP | stat.S_IWGRP) != stat.S_IRGRP | stat.S_IWGRP:
        return f"its group may not use it either: sudo chmod g+rw {path}"
    try:
        group = grp.getgrgid(status.st_gid)
    except KeyError:
        return f"it belongs to group number {status.st_gid}, which has no name here: sudo chown :dialout {path}"
    user = getpass.getuser()
    if user in group.gr_mem:
        return f"{user} is in the group {group.gr_name} already, but was not at login: log out and in again"
    return f"sudo usermod -aG {group.gr_name} {user}, then log out and in again"


def holder(path: str, proc: Path = Path("/proc")) -> str | None:
    """The first program that has it open. Other users' programs are seen by root alone."""
    try:
        device = Path(path).stat().st_rdev
    except OSError:
        return None
    if not device:
        return None
    for process in _numbered(proc):
        if process.name == str(os.getpid()):
            continue
        try:
            for descriptor in (process / "fd").iterdir():
                try:
                    status = descriptor.stat()
                except OSError:
                    continue
                if stat.S_ISCHR(status.st_mode) and status.st_rdev == device:
                    return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:
            continue
    return None


def _numbered(proc: Path) -> Iterable[Path]:
    try:
        return [entry for entry in proc.iterdir() if entry.name.isdecimal()]
    except OSError:
        return []
