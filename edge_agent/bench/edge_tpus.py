"""The Edge TPUs that a report names, and the library that drives them: what the kernel and the packages show, opened by nobody."""

from __future__ import annotations

from typing import Literal

from edge_agent.bench.report import Tpu
from edge_agent.hardware import Hardware
from edge_agent.inference.tpu.devices import USB_IDS, below, find_library


def tpus(board: Hardware) -> list[Tpu] | None:
    """None where there is no sysfs to look in."""
    devices = board.root / "sys/bus"
    if not devices.is_dir():
        return None
    found = []
    for device in sorted((devices / "usb/devices").glob("*")):
        place = device.relative_to(board.root)
        ids = board.text(f"{place}/idVendor") or "", board.text(f"{place}/idProduct") or ""
        if ids in USB_IDS:
            speed = board.text(f"{place}/speed")
            found.append(
                Tpu(
                    bus="usb",
                    ids=":".join(ids),
                    speed=None if speed is None else f"{speed} Mbit/s",
                    temperature_c=None,  # the stick has no thermometer
                    initialised=USB_IDS[ids],
                )
            )
    for device in sorted((board.root / "sys/class/apex").glob("apex_*")):
        place = device.relative_to(board.root)
        millidegrees = board.number(f"{place}/temp")
        vendor, part = (board.text(f"{place}/device/{name}") for name in ("vendor", "device"))
        known = vendor is not None and part is not None
        found.append(
            Tpu(
                bus="pcie",
                ids=f"{str(vendor).removeprefix('0x')}:{str(part).removeprefix('0x')}" if known else None,
                speed=board.text(f"{place}/device/current_link_speed"),
                temperature_c=None if millidegrees is None else millidegrees / 1000,
                initialised=None,
            )
        )
    return found


def delegate(board: Hardware) -> str | None:
    """The library that the agent would take."""
    found = find_library(None, below(board.root))
    return None if found is None else f"/{found.relative_to(board.root)}"


def tpu_clock(board: Hardware) -> Literal["std", "max"] | None:
    """Debian's package tells which; the library itself does not."""
    kinds: tuple[Literal["max", "std"], ...] = ("max", "std")
    for which in kinds:
        if list((board.root / "var/lib/dpkg/info").glob(f"libedgetpu1-{which}*.list")):
            return which
    return None
