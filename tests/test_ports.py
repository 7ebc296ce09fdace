"""The list of ports: what is said of each, and what to do where it may not be opened."""

from __future__ import annotations

import getpass
import grp
import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest
from serial.tools import list_ports

from edge_agent import cli
from edge_agent.sources import ports

DONGLE = SimpleNamespace(
    device="/dev/ttyUSB0",
    description="FT231X USB UART",
    manufacturer="FTDI",
    product="FT231X USB UART",
    vid=0x0403,
    pid=0x6015,
    serial_number="DM00Q0QA",
)


@pytest.fixture
def dongle(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    info = SimpleNamespace(**vars(DONGLE))
    monkeypatch.setattr(list_ports, "comports", lambda: [info])
    monkeypatch.setattr(ports, "by_id_links", lambda: {"/dev/ttyUSB0": "/dev/serial/by-id/usb-FTDI-port0"})
    monkeypatch.setattr(ports, "why_not", lambda _: "sudo usermod -aG dialout me, then log out and in again")
    monkeypatch.setattr(ports, "holder", lambda _: "screen (pid 7)")
    return info


def test_what_is_known_is_said(dongle: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["ports"]) == 0
    said = capsys.readouterr().out
    for word in ("/dev/serial/by-id/usb-FTDI-port0", "DM00Q0QA", "0403:6015", "no: sudo usermod", "screen (pid 7)"):
        assert word in said
    assert "board" not in said  # that chip is in everything
    dongle.product = "OpenBCI dongle"
    assert cli.main(["ports", "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["board"], told["may_open"], told["by_id"]) == ("cyton", False, "/dev/serial/by-id/usb-FTDI-port0")


def test_no_port_is_no_error(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(list_ports, "comports", list)
    assert cli.main(["ports"]) == 0
    assert "plugged in" in capsys.readouterr().out


def test_remedies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "ttyUSB0"
    device.touch()
    device.chmod(0o660)
    assert ports.why_not(str(device)) == ""
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setattr(getpass, "getuser", lambda: "ada")
    group = SimpleNamespace(gr_name="dialout", gr_mem=[])
    monkeypatch.setattr(grp, "getgrgid", lambda _: group)
    assert ports.why_not(str(device)) == "sudo usermod -aG dialout ada, then log out and in again"
    group.gr_mem.append("ada")
    assert "log out and in again" in ports.why_not(str(device))
    assert "usermod" not in ports.why_not(str(device))
    device.chmod(0o600)
    assert "chmod g+rw" in ports.why_not(str(device))
    assert "not there" in ports.why_not(str(tmp_path / "none"))


def test_links_by_id(tmp_path: Path) -> None:
    (tmp_path / "ttyUSB0").touch()
    folder = tmp_path / "by-id"
    folder.mkdir()
    (folder / "usb-A-port0").symlink_to("../ttyUSB0")
    assert ports.by_id_links(folder) == {str(tmp_path / "ttyUSB0"): str(folder / "usb-A-port0")}
    assert ports.by_id_links(tmp_path / "none") == {}


def test_who_holds_a_port(tmp_path: Path) -> None:
    master, slave = os.openpty()
    try:
        path = os.ttyname(slave)
        process = tmp_path / "4711"
        (process / "fd").mkdir(parents=True)
        (process / "comm").write_text("screen\n")
        assert ports.holder(path, tmp_path) is None
        (process / "fd" / "5").symlink_to(path)
        assert ports.holder(path, tmp_path) == "screen (pid 4711)"
    finally:
        os.close(master)
        os.close(slave)
    assert ports.holder(str(tmp_path), tmp_path) is None
