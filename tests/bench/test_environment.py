"""What is read of a device: from the files of a Raspberry Pi, and of a machine that shows nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.bench import edge_tpus
from edge_agent.bench.environment import Conditions, environment, reasons, state
from edge_agent.hardware import Hardware, Times

CPUINFO = """processor\t: 0
BogoMIPS\t: 108.00
CPU implementer\t: 0x41
CPU part\t: 0xd08

processor\t: 1
CPU implementer\t: 0x41
CPU part\t: 0xd08

processor\t: 2
processor\t: 3

Revision\t: c03115
Serial\t\t: 10000000deadbeef
Model\t\t: Raspberry Pi 4 Model B Rev 1.5
"""
FILES = {
    "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.5\0",
    "proc/cpuinfo": CPUINFO,
    "proc/meminfo": "MemTotal:        3884380 kB\nMemFree: 1 kB\nMemAvailable:    2048000 kB\n",
    "proc/loadavg": "0.42 0.30 0.20 1/200 999\n",
    "proc/stat": "cpu  1000 0 500 98000 100 0 50 0 0 0\ncpu0 250 0 125 24500 25 0 12 0 0 0\n",
    "proc/sys/kernel/osrelease": "6.6.31+rpt-rpi-v8\n",
    "etc/os-release": 'NAME="Debian GNU/Linux"\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n',
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor": "ondemand\n",
    "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq": "1500000\n",
    "sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq": "1800000\n",
    "sys/class/thermal/thermal_zone0/temp": "61835\n",
    "sys/class/thermal/thermal_zone0/type": "cpu-thermal\n",
    "sys/bus/usb/devices/2-1/idVendor": "18d1\n",
    "sys/bus/usb/devices/2-1/idProduct": "9302\n",
    "sys/bus/usb/devices/2-1/speed": "5000\n",
    "sys/bus/usb/devices/1-1/idVendor": "2109\n",
    "sys/bus/usb/devices/1-1/idProduct": "3431\n",
    "usr/lib/aarch64-linux-gnu/libedgetpu.so.1": "",
    "var/lib/dpkg/info/libedgetpu1-std:arm64.list": "/usr/lib\n",
}


def vcgencmd(flags: str) -> Callable[[Sequence[str]], str | None]:
    def ask(command: Sequence[str]) -> str | None:
        if list(command) == ["vcgencmd", "get_throttled"]:
            return f"throttled={flags}\n"
        return "BuildLabel(COMPILER=6.3.0), RuntimeVersion(14)\n" if "edgetpu" in " ".join(command) else None

    return ask


@pytest.fixture
def pi(tmp_path: Path) -> Hardware:
    for name, text in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return Hardware(tmp_path, vcgencmd("0x0"))


def change(board: Hardware, path: str, text: str) -> None:
    file = board.root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")


def test_a_raspberry_pi_with_a_stick(pi: Hardware) -> None:
    found = environment("pi4-usb", board=pi, models={"m": "d" * 64})
    assert found.board == "Raspberry Pi 4 Model B Rev 1.5"
    assert found.revision == "c03115"
    assert found.cpu == "implementer 0x41 part 0xd08"
    assert found.cores == 4
    assert found.virtual is None  # ARM's cpuinfo does not say
    assert (found.governor, found.frequency_mhz, found.frequency_most_mhz) == ("ondemand", 1500, 1800)
    assert found.memory_mb == 3793
    assert found.kernel == "6.6.31+rpt-rpi-v8"
    assert found.os == "Debian GNU/Linux 12 (bookworm)"
    assert found.temperature_c == {"cpu-thermal": 61.835}
    assert found.throttled_before == []
    assert found.load_1min == 0.42
    assert found.delegate == "/usr/lib/aarch64-linux-gnu/libedgetpu.so.1"
    assert found.libedgetpu == "BuildLabel(COMPILER=6.3.0), RuntimeVersion(14)"
    assert found.tpu_clock == "std"
    assert found.tpus is not None
    (stick,) = found.tpus
    assert (stick.bus, stick.ids, stick.speed, stick.initialised) == ("usb", "18d1:9302", "5000 Mbit/s", True)
    assert stick.temperature_c is None  # it has no thermometer
    assert found.models == {"m": "d" * 64}
    assert "deadbeef" not in found.model_dump_json()  # nobody asked for the board's serial number


def test_a_stick_before_its_firmware_and_a_card_on_pcie(pi: Hardware) -> None:
    change(pi, "sys/bus/usb/devices/2-1/idVendor", "1a6e\n")
    change(pi, "sys/bus/usb/devices/2-1/idProduct", "089a\n")
    change(pi, "sys/class/apex/apex_0/temp", "47550\n")
    change(pi, "sys/class/apex/apex_0/device/vendor", "0x1ac1\n")
    change(pi, "sys/class/apex/apex_0/device/device", "0x089a\n")
    change(pi, "sys/class/apex/apex_0/device/current_link_speed", "5.0 GT/s PCIe\n")
    tpus = edge_tpus.tpus(pi)
    assert tpus is not None
    stick, card = tpus
    assert stick.initialised is False
    assert (card.bus, card.ids, card.speed, card.temperature_c) == ("pcie", "1ac1:089a", "5.0 GT/s PCIe", 47.55)
    assert state(pi, 1.0).tpu_temperature_c == 47.55


def test_what_cannot_be_read_is_null(tmp_path: Path) -> None:
    found = environment("bare", board=Hardware(tmp_path, lambda _: None))
    for name in (
        "board", "revision", "cpu", "cores", "virtual", "governor", "frequency_mhz", "frequency_most_mhz", "memory_mb",
        "kernel", "os", "delegate", "libedgetpu", "tpu_clock", "tpus", "throttled_before", "throttled_after", "load_1min",
        "configuration_sha256",
    ):  # fmt: skip
        assert getattr(found, name) is None, name
    assert found.temperature_c == {}
    seen = state(Hardware(tmp_path, lambda _: None), 0.0)
    assert seen.throttled is None
    assert seen.frequency_mhz is None


@pytest.mark.parametrize("text", ["", "throttled=", "throttled=zz", 'error=1 error_msg="Command not registered"'])
def test_throttling_that_is_not_understood_is_not_known(pi: Hardware, text: str) -> None:
    assert replace(pi, ask=lambda _: text).throttled() is None


def test_throttling_by_name(pi: Hardware) -> None:
    flags = replace(pi, ask=vcgencmd("0x50005")).throttled()
    assert flags == ["under-voltage", "throttled", "under-voltage has occurred", "throttling has occurred"]
    change(pi, "sys/devices/platform/soc/soc:firmware/get_throttled", "20002\n")
    assert replace(pi, ask=lambda _: None).throttled() == ["frequency capped", "frequency capping has occurred"]


# -- whether it is to be believed ---------------------------------------------------------------------------------------


def conditions(**more: object) -> Conditions:
    base = Conditions(
        throttled=[], throttle_count=None, times=Times(1000, 0, 100_000), own_s=1.0, monotonic_ns=10**9, utc_ns=10**18
    )
    return replace(base, **more)  # type: ignore[arg-type]


def after(**more: object) -> Conditions:
    """Ten seconds later on four cores, one of them ours."""
    later = {"times": Times(2000, 0, 104_000), "own_s": 11.0, "monotonic_ns": 11 * 10**9, "utc_ns": 10**18 + 10**10}
    return conditions(**{**later, **more})


def performance(board: Hardware) -> Hardware:
    change(board, "sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance\n")
    change(board, "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1800000\n")
    return board


def test_an_idle_machine_at_full_clock_is_valid(pi: Hardware) -> None:
    assert reasons("single", conditions(), after(), performance(pi)) == []


def test_a_governor_spoils_what_is_measured_at_full_clock_alone(pi: Hardware) -> None:
    assert reasons("single", conditions(), after(), pi)[0].startswith("governor (ondemand")
    assert reasons("paced", conditions(), after(), pi) == []


@pytest.mark.parametrize(
    ("before", "later", "said"),
    [
        ({}, {"throttled": ["throttling has occurred"]}, "throttled (throttling has occurred)"),
        ({"throttled": ["under-voltage"]}, {"throttled": ["under-voltage"]}, "throttled (under-voltage)"),
        ({"throttle_count": 3}, {"throttle_count": 5}, "throttled (cores slowed down 2 times)"),
        ({}, {"times": Times(3000, 0, 104_000)}, "other load (25% of the processors)"),
        ({}, {"times": Times(2000, 400, 104_000)}, "other load (10% taken by the host)"),
        ({}, {"utc_ns": 10**18 + 70 * 10**9}, "clock (UTC was set by +60.0 s meanwhile)"),
    ],
)
def test_what_spoils_a_run(pi: Hardware, before: dict[str, object], later: dict[str, object], said: str) -> None:
    assert reasons("single", conditions(**before), after(**later), performance(pi)) == [said]


def test_a_flag_from_long_before_spoils_nothing(pi: Hardware) -> None:
    old = ["under-voltage has occurred"]
    assert reasons("single", conditions(throttled=old), after(throttled=old), performance(pi)) == []


def test_a_processor_below_its_clock_at_the_end(pi: Hardware) -> None:
    change(performance(pi), "sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", "1500000\n")
    assert reasons("single", conditions(), after(), pi) == ["clock (the processor's: 1500 of 1800 MHz at the end)"]
