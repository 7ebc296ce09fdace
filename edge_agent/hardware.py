"""What Linux says of the machine: processor, memory, temperatures, throttling. Read below a root, so that tests bring a machine's files.

What cannot be read is None, never guessed. A serial number, a host's address or a user's name is never read.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

Ask = Callable[[Sequence[str]], str | None]
"""Runs a program: what it wrote, or None."""

THROTTLE_BITS = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage has occurred",
    17: "frequency capping has occurred",
    18: "throttling has occurred",
    19: "soft temperature limit has occurred",
}
"""Raspberry Pi's firmware (`vcgencmd get_throttled`); from 16 on: since it was switched on."""
NOW_BITS = 4


def ask(command: Sequence[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


class Times(NamedTuple):
    """Of all processors, in ticks since the machine was started."""

    busy: int
    steal: int
    total: int


@dataclass(frozen=True, slots=True)
class Hardware:
    root: Path = Path("/")
    ask: Ask = ask

    def text(self, path: str) -> str | None:
        try:
            return (self.root / path).read_text(encoding="utf-8", errors="replace").strip("\0\n ") or None
        except OSError:
            return None

    def number(self, path: str) -> float | None:
        text = self.text(path)
        try:
            return None if text is None else float(text)
        except ValueError:
            return None

    def field(self, path: str, *keys: str) -> str | None:
        """Of a file of ``key : value`` lines; the first of ``keys`` that is there."""
        found: dict[str, str] = {}
        for line in (self.text(path) or "").splitlines():
            key, separator, value = line.partition(":")
            if separator:
                found.setdefault(key.strip(), value.strip())
        return next((found[key] for key in keys if found.get(key)), None)

    # -- what it is ----------------------------------------------------------------------------------------------

    def model(self) -> str | None:
        return self.text("proc/device-tree/model") or self.text("sys/class/dmi/id/product_name")

    def revision(self) -> str | None:
        return self.field("proc/cpuinfo", "Revision")

    def cpu(self) -> str | None:
        """x86 names it; ARM gives numbers for the designer and the part."""
        named = self.field("proc/cpuinfo", "model name")
        if named is not None:
            return named
        part = self.field("proc/cpuinfo", "CPU part")
        designer = self.field("proc/cpuinfo", "CPU implementer")
        return None if part is None else f"implementer {designer} part {part}"

    def cores(self) -> int | None:
        text = self.text("proc/cpuinfo") or ""
        many = len(re.findall(r"^processor\s*:", text, re.MULTILINE))
        return many or None

    def virtual(self) -> bool | None:
        flags = self.field("proc/cpuinfo", "flags")
        return None if flags is None else "hypervisor" in flags.split()

    def memory_mb(self, key: str = "MemTotal") -> int | None:
        text = self.field("proc/meminfo", key)
        return None if text is None else int(text.split()[0]) // 1024

    def os(self) -> str | None:
        for line in (self.text("etc/os-release") or "").splitlines():
            if line.startswith("PRETTY_NAME="):
                return line.removeprefix("PRETTY_NAME=").strip('"') or None
        return None

    def kernel(self) -> str | None:
        return self.text("proc/sys/kernel/osrelease")

    # -- how it is -----------------------------------------------------------------------------------------------

    def governor(self) -> str | None:
        return self.text("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")

    def frequency_mhz(self, which: Literal["scaling_cur_freq", "cpuinfo_max_freq"]) -> float | None:
        khz = self.number(f"sys/devices/system/cpu/cpu0/cpufreq/{which}")
        return None if khz is None else khz / 1000

    def load_1min(self) -> float | None:
        text = self.text("proc/loadavg")
        return None if text is None else float(text.split()[0])

    def temperatures_c(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for zone in sorted((self.root / "sys/class/thermal").glob("thermal_zone*")):
            place = zone.relative_to(self.root)
            value = self.number(f"{place}/temp")
            if value is not None:
                name = self.text(f"{place}/type") or zone.name
                found[name if name not in found else f"{name} {zone.name[12:]}"] = value / 1000
        return found

    def throttled(self) -> list[str] | None:
        """Flags by name; an empty list is a board that says that all is well."""
        text = self.ask(["vcgencmd", "get_throttled"]) or self.text(
            "sys/devices/platform/soc/soc:firmware/get_throttled"
        )
        if text is None:
            return None
        number = text.strip().rpartition("=")[2]
        try:
            flags = int(number, 16)
        except ValueError:
            return None
        return [name for bit, name in THROTTLE_BITS.items() if flags >> bit & 1]

    def throttle_count(self) -> int | None:
        """x86: how often the cores were slowed down since the start."""
        counts = [
            self.number(str(path.relative_to(self.root)))
            for path in (self.root / "sys/devices/system/cpu").glob("cpu[0-9]*/thermal_throttle/core_throttle_count")
        ]
        known = [int(count) for count in counts if count is not None]
        return sum(known) if known else None

    def times(self) -> Times | None:
        """First line of /proc/stat: user nice system idle iowait irq softirq steal."""
        words = (self.text("proc/stat") or "").partition("\n")[0].split()
        if len(words) < 9 or words[0] != "cpu":
            return None
        ticks = [int(word) for word in words[1:9]]
        return Times(sum(ticks) - ticks[3] - ticks[4] - ticks[7], ticks[7], sum(ticks))
