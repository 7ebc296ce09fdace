"""The units are what systemd takes, confine what they promise, and agree with each other."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT

SYSTEMD = ROOT / "systemd"
SERVICES = ("edge-agent.service", "edge-agent@.service", "edge-bench.service")


def placed(folder: Path, *, devices: bool = False, change: Callable[[str], str] = lambda text: text) -> Path:
    """The units beside each other, as installed; their program is one that is here."""
    for unit in (*SERVICES, "edge-bench.timer"):
        text = re.sub(r"/opt/edge-agent/bin/edge-\w+", "/bin/true", (SYSTEMD / unit).read_text(encoding="utf-8"))
        (folder / unit).write_text(change(text), encoding="utf-8")
    for unit in SERVICES[:2] if devices else ():
        (folder / f"{unit}.d").mkdir()
        shutil.copy(SYSTEMD / "devices.conf", folder / f"{unit}.d" / "50-devices.conf")
    return folder


def complaints(analyze: str, folder: Path) -> str:
    """``systemd-analyze verify`` returns 0 on unknown keys, so what counts is that it says nothing."""
    units = [str(folder / unit) for unit in (*SERVICES, "edge-bench.timer")]
    units = [unit.replace("@.service", "@ward.service") for unit in units]
    said = subprocess.run([analyze, "verify", *units], capture_output=True, text=True, check=False, timeout=60)
    return said.stderr.strip()


def exposure(analyze: str, unit: Path) -> float:
    command = [analyze, "security", "--offline=true", "--no-pager", str(unit)]
    said = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60).stdout
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said)
    assert found is not None, said
    return float(found[1])


@pytest.mark.parametrize("devices", [False, True])
def test_systemd_has_nothing_to_say_against_them(
    tmp_path: Path, program: Callable[[str], str], *, devices: bool
) -> None:
    assert complaints(program("systemd-analyze"), placed(tmp_path, devices=devices)) == ""


def test_a_misspelt_key_would_be_seen(tmp_path: Path, program: Callable[[str], str]) -> None:
    folder = placed(tmp_path, change=lambda text: text.replace("Restart=", "Restrat="))
    assert "Restrat" in complaints(program("systemd-analyze"), folder)


def test_they_are_exposed_no_more_than_promised(tmp_path: Path, program: Callable[[str], str]) -> None:
    analyze = program("systemd-analyze")
    (tmp_path / "plain").mkdir()
    (tmp_path / "devices").mkdir()
    plain, devices = placed(tmp_path / "plain"), placed(tmp_path / "devices", devices=True)
    for unit in SERVICES:
        assert exposure(analyze, plain / unit) <= 1.5, unit
    for unit in SERVICES[:2]:
        assert exposure(analyze, devices / unit) <= 2.0, unit
    # and the figure moves with what the unit says
    (tmp_path / "open").mkdir()
    opened = placed(tmp_path / "open", change=lambda text: re.sub(r"(?m)^(SystemCall|Restrict|Protect).*\n", "", text))
    assert exposure(analyze, opened / SERVICES[0]) > 3


def test_the_template_is_the_service_but_for_its_name() -> None:
    def lines(unit: str) -> list[str]:
        text = (SYSTEMD / unit).read_text(encoding="utf-8")
        return [line for line in text.splitlines() if line and not line.startswith("#")]

    template = [
        line.replace(" (%i)", "").replace("/etc/edge-agent/%i.toml", "/etc/edge-agent/edge-agent.toml")
        .replace("mqtt-password-%i", "mqtt-password")
        .replace("edge-agent/%i", "edge-agent")
        for line in lines("edge-agent@.service")
    ]  # fmt: skip
    assert template == lines("edge-agent.service")


def test_the_rules_know_coral_before_and_after_its_firmware() -> None:
    """One missing id, and the stick is gone as soon as it was used for the first time."""
    rules = (SYSTEMD / "70-edge-agent.rules").read_text(encoding="utf-8")
    lines = [line for line in rules.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
    from edge_agent.inference.tpu.devices import USB_IDS

    for vendor, product in USB_IDS:
        mine = [line for line in lines if f'"{vendor}"' in line and f'"{product}"' in line and "GROUP=" in line]
        assert len(mine) == 1
        assert 'GROUP="plugdev"' in mine[0]
        assert 'MODE="0660"' in mine[0]
    assert any('SUBSYSTEM=="apex"' in line and 'GROUP="apex"' in line for line in lines)
    for line in lines:  # no udevadm verify before systemd 254: at least every word is KEY op "value"
        for word in re.split(r",\s*(?=[A-Z])", line):
            assert re.fullmatch(r'[A-Z]+(\{[\w/]+\})?(==|!=|\+=|:=|=)"[^"]*"', word.strip()), word
    labels = set(re.findall(r'LABEL="(\w+)"', rules))
    assert set(re.findall(r'GOTO="(\w+)"', rules)) == labels


def test_every_group_of_the_drop_in_is_made() -> None:
    """A group that is not there keeps a service from starting (status 216)."""
    users = (SYSTEMD / "sysusers.conf").read_text(encoding="utf-8")
    drop_in = (SYSTEMD / "devices.conf").read_text(encoding="utf-8")
    groups = re.findall(r"(?m)^SupplementaryGroups=(.*)$", drop_in)[0].split()
    assert len(groups) == 3
    assert set(groups) <= set(re.findall(r"(?m)^g (\S+)", users))
    assert re.search(r"(?m)^u edge-agent ", users)


def test_a_silent_board_is_given_up_before_the_watchdog_bites() -> None:
    from edge_agent.sources.settings import SerialSource

    longest = SerialSource.model_json_schema()["properties"]["silent_s"]["maximum"]
    unit = (SYSTEMD / "edge-agent.service").read_text(encoding="utf-8")
    watchdog = int(re.findall(r"(?m)^WatchdogSec=(\d+)$", unit)[0])
    assert longest + 5 <= watchdog


def test_the_timer_means_a_time_of_night(program: Callable[[str], str]) -> None:
    calendar = re.findall(r"(?m)^OnCalendar=(.*)$", (SYSTEMD / "edge-bench.timer").read_text(encoding="utf-8"))[0]
    said = subprocess.run(
        [program("systemd-analyze"), "calendar", calendar], capture_output=True, text=True, check=True, timeout=60
    )
    assert "03:30:00" in said.stdout
