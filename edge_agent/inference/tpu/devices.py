"""Which Edge TPUs this machine has, by what the kernel shows: nothing is opened, no library is asked.

Trying a TPU that is not there costs a process each time, and one that may not be opened blocks libedgetpu for half a minute, so
the cheap question comes first.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

USB_IDS = {("1a6e", "089a"): False, ("18d1", "9302"): True}
"""The same stick: whether its firmware has been loaded, as it is at the first use."""
LIBRARIES = ("libedgetpu.so.1", "libedgetpu.so")
FOLDERS = (
    *("/usr/lib/aarch64-linux-gnu", "/usr/lib/arm-linux-gnueabihf", "/usr/lib/x86_64-linux-gnu"),
    *("/usr/lib", "/usr/lib64", "/usr/local/lib", "/lib", "/opt/edgetpu"),
)


@dataclass(frozen=True, slots=True)
class Found:
    kind: str
    """usb or pci."""
    path: str
    remedy: str = ""
    """What keeps this user from opening it, and what to do about it."""


def below(root: Path) -> tuple[str, ...]:
    """FOLDERS of a system whose files lie below another folder than /."""
    return tuple(str(root / folder.lstrip("/")) for folder in FOLDERS)


def find_library(named: Path | None, folders: tuple[str, ...] = FOLDERS) -> Path | None:
    """The delegate: the one that was named, or the first in the usual places."""
    if named is not None:
        return named if named.exists() else None
    for folder in folders:
        for name in LIBRARIES:
            path = Path(folder, name)
            if path.exists():
                return path
    return None


def devices(sysfs: Path = Path("/sys"), dev: Path = Path("/dev")) -> list[Found] | None:
    """What is plugged in; None where the kernel does not show it (a container without /sys)."""
    usb, apex = sysfs / "bus" / "usb" / "devices", sysfs / "class" / "apex"
    if not usb.is_dir() and not apex.is_dir():
        return None
    found = [_usb(device, dev) for device in _entries(usb) if _ids(device) in USB_IDS]
    found += [Found("pci", str(dev / one.name), _may_not(dev / one.name, "apex")) for one in _entries(apex)]
    return found


def wanted(found: list[Found], device: str) -> list[Found]:
    """Those that ``device`` may mean, in libedgetpu's words: "", ":N", "usb", "usb:N", "pci", "pci:N"."""
    kind, _, index = device.partition(":")
    those = [one for one in found if not kind or one.kind == kind]
    return those[int(index) : int(index) + 1] if index else those


def missing(sysfs: Path, device: str) -> str | None:
    """Why there is nothing that ``device`` may mean, or none that may be opened; None where it may be tried."""
    found = devices(sysfs)
    if found is None:
        return None
    those = wanted(found, device)
    if not those:
        return f"absent: no Edge TPU{f' {device}' if device else ''} on USB or PCIe"
    return f"refused: {those[0].remedy}" if all(one.remedy for one in those) else None


def temperature_c(sysfs: Path = Path("/sys")) -> float | None:
    """Of the hottest one; None where none tells (a USB stick has no thermometer)."""
    degrees = []
    for apex in _entries(sysfs / "class" / "apex"):
        try:
            degrees.append(int((apex / "temp").read_text(encoding="ascii")) / 1000)
        except (OSError, ValueError):
            continue
    return max(degrees, default=None)


def _entries(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(folder.iterdir())
    except OSError:
        return


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        return ""


def _ids(device: Path) -> tuple[str, str]:
    return _read(device / "idVendor"), _read(device / "idProduct")


def _usb(device: Path, dev: Path) -> Found:
    bus, number = _read(device / "busnum"), _read(device / "devnum")
    remedy = ""
    if bus.isdecimal() and number.isdecimal():
        remedy = _may_not(dev / "bus" / "usb" / f"{int(bus):03}" / f"{int(number):03}", "plugdev")
    return Found("usb", device.name, remedy)


def _may_not(node: Path, group: str) -> str:
    """Only where the kernel is sure: a node that is not there proves nothing."""
    if not node.exists() or os.access(node, os.R_OK | os.W_OK):
        return ""
    return f"{node} may not be opened by this user: install the udev rules and add the user to the group {group}"
