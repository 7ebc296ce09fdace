"""The doctor on machines of our making: a sound one, and each thing that can be wrong."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.config import OutboxConfig
from edge_agent.doctor import Finding, Machine, checks, examine

CONFIG = """
[device]
id = "dev"
[mqtt]
host = "broker.example"
{mqtt}
[outbox]
folder = "/var/lib/edge-agent"
[[stream]]
name = "bed1"
models = []
[stream.source]
type = "serial"
port = "{port}"
fs = 250
columns = ["II"]
wait_for_port = true
"""
SAYS = {
    "timedatectl": "yes\n",
    "vcgencmd": "throttled=0x0\n",
    "systemctl": "ActiveState=active\nStatusText=1 of 1 stream online\nNRestarts=0\n",
}


def write(root: Path, path: str, text: str) -> Path:
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, encoding="utf-8")
    return place


def disk(free_mb: float, flag: int = 0) -> Callable[[Path], os.statvfs_result]:
    blocks = int(free_mb * 1000)
    return lambda _path: os.statvfs_result((1000, 1000, 10**9, blocks, blocks, 10**6, 10**5, 10**5, flag, 255))


def ask(says: dict[str, str]) -> Callable[[Sequence[str]], str | None]:
    return lambda command: says.get(command[0])


@pytest.fixture
def sound(tmp_path: Path) -> Machine:
    """A Pi with a board, everything as it should be."""
    root = tmp_path / "root"
    write(root, "proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.5\0")
    write(root, "proc/meminfo", "MemTotal:        3884436 kB\n")
    write(root, "proc/devices", "Character devices:\n166 ttyACM\n188 ttyUSB\n")
    write(root, "etc/os-release", 'PRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n')
    write(root, "etc/passwd", "root:x:0:0::/root:/bin/sh\nedge-agent:x:998:998::/:/bin/false\n")
    write(root, "etc/group", "root:x:0:\ndialout:x:20:\nplugdev:x:46:\napex:x:997:\n")
    write(root, "etc/systemd/system/edge-agent.service", "")
    write(root, "etc/systemd/system/edge-agent.service.d/50-devices.conf", "")
    write(root, "sys/class/thermal/thermal_zone0/temp", "48000\n")
    write(root, "sys/class/thermal/thermal_zone0/type", "cpu-thermal\n")
    write(root, "sys/bus/usb/devices/.keep", "")
    write(root, "sys/class/rtc/rtc0/name", "rtc\n")
    write(root, "var/lib/edge-agent/x", "")
    write(root, "dev/serial/by-id/usb-board", "")
    path = write(tmp_path, "agent.toml", CONFIG.format(port="/dev/serial/by-id/usb-board", mqtt=""))
    return Machine(
        config_path=path,
        root=root,
        ask=ask(SAYS),
        disk=disk(5000),
        reach=lambda _host, _port: None,
        python=(3, 11),
    )


def of(machine: Machine, check: checks.Check) -> list[Finding]:
    return list(check(machine))


def only(found: list[Finding], state: str) -> Finding:
    (one,) = [one for one in found if one.state == state]
    return one


def test_a_sound_machine_is_fit(sound: Machine) -> None:
    found = examine(sound)
    assert [one for one in found if one.state not in ("good", "note")] == []
    said = {one.subject for one in found}
    assert said >= {
        "device",
        "memory",
        "python",
        "kernel",
        "runtime",
        "config",
        "model",
        "tpu",
        "port",
        "broker",
        "disk",
        "clock",
        "power",
        "heat",
        "service",
    }
    assert "Raspberry Pi 4" in next(one.said for one in found if one.subject == "device")


def test_whatever_is_bad_says_what_to_do(sound: Machine) -> None:
    """All at once: nothing is there."""
    bare = replace(sound, root=sound.root / "nothing", ask=ask({}), disk=disk(1), python=(3, 9), reach=refuse)
    found = examine(bare)
    assert sum(one.state == "bad" for one in found) >= 4
    assert all(one.remedy for one in found if one.state == "bad")


def refuse(_host: str, _port: int) -> None:
    raise ConnectionRefusedError(111, "Connection refused")


def test_python(sound: Machine) -> None:
    assert only(of(replace(sound, python=(3, 9)), checks.python), "bad").said == "3.9 is too old"
    assert of(replace(sound, python=(3, 14)), checks.python)[0].state == "note"
    assert of(replace(sound, pointer_bits=32), checks.device)[0].state == "note"


def test_the_port(sound: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    assert only(of(sound, checks.serial_ports), "good").said == "bed1: /dev/serial/by-id/usb-board"
    monkeypatch.setattr("edge_agent.sources.ports.why_not", lambda _path: "sudo usermod -aG dialout me")
    assert "usermod" in only(of(sound, checks.serial_ports), "bad").remedy
    monkeypatch.setattr("edge_agent.sources.ports.why_not", lambda _path: "")
    monkeypatch.setattr("edge_agent.sources.ports.holder", lambda *_: "minicom (pid 7)")
    assert "held by minicom" in only(of(sound, checks.serial_ports), "bad").said
    monkeypatch.setattr("edge_agent.sources.ports.holder", lambda *_: "edge-agent (pid 7)")  # that is as it should be
    assert [one.state for one in of(sound, checks.serial_ports)] == ["good"]
    (sound.root / "dev/serial/by-id/usb-board").unlink()
    assert "is not there" in only(of(sound, checks.serial_ports), "bad").said


def test_a_driver_that_the_service_could_not_use_later(sound: Machine) -> None:
    write(sound.root, "proc/devices", "Character devices:\n166 ttyACM\n")
    assert "ttyUSB" in only(of(sound, checks.serial_ports), "note").said


def coral(root: Path, ids: tuple[str, str] = ("1a6e", "089a")) -> None:
    for name, text in zip(("idVendor", "idProduct", "busnum", "devnum"), (*ids, "1", "4"), strict=True):
        write(root, f"sys/bus/usb/devices/1-1/{name}", f"{text}\n")


def test_coral_without_its_library_and_rules(sound: Machine) -> None:
    coral(sound.root)
    bad = {one.subject: one for one in of(sound, checks.edge_tpu) if one.state == "bad"}
    assert set(bad) == {"udev", "delegate"}
    assert "install-service" in bad["udev"].remedy
    write(sound.root, "etc/udev/rules.d/70-edge-agent.rules", "1a6e 089a 18d1 9302")
    write(sound.root, "usr/lib/aarch64-linux-gnu/libedgetpu.so.1", "")
    assert [one.state for one in of(sound, checks.edge_tpu)] == ["good", "good"]


def test_the_broker_and_its_secret(sound: Machine) -> None:
    assert "refused" in only(of(replace(sound, reach=refuse), checks.broker), "bad").said
    assert sound.config_path is not None
    mqtt = 'username = "edge"\npassword_credential = "mqtt-password"'
    sound.config_path.write_text(CONFIG.format(port="/dev/serial/by-id/usb-board", mqtt=mqtt), encoding="utf-8")
    fresh = replace(sound)
    found = of(fresh, checks.broker)
    assert "unencrypted" in only(found, "note").said
    assert "is not there" in only(found, "bad").said
    secret = write(sound.root, "etc/edge-agent/mqtt-password", "x")
    secret.chmod(0o644)
    assert "others" in only(of(fresh, checks.broker), "bad").said
    secret.chmod(0o600)
    assert not [one for one in of(fresh, checks.broker) if one.state == "bad"]


def test_the_disk_of_the_service_is_looked_at(sound: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever asks, root mostly, has a state folder of his own: it may be on another disk."""
    assert sound.settings is not None
    settings = sound.settings.model_copy(update={"outbox": OutboxConfig()})
    monkeypatch.setattr(type(sound), "settings", settings)
    for config, place in (
        ("/etc/edge-agent/edge-agent.toml", "/var/lib/edge-agent"),
        ("/etc/edge-agent/ward.toml", "/var/lib/edge-agent/ward"),
    ):
        machine = replace(sound, config_path=Path(config))
        assert only(of(machine, checks.disk), "good").said.endswith(f"free at {place}")


def test_the_disk(sound: Machine) -> None:
    assert [one.state for one in of(sound, checks.disk)] == ["good"]
    assert "10 MB free" in only(of(replace(sound, disk=disk(10)), checks.disk), "bad").said
    assert "read-only" in only(of(replace(sound, disk=disk(5000, os.ST_RDONLY)), checks.disk), "bad").said


def test_the_clock(sound: Machine) -> None:
    assert [one.state for one in of(sound, checks.clock)] == ["good"]
    assert "not set" in only(of(replace(sound, ask=ask({"timedatectl": "no\n"})), checks.clock), "note").said
    (sound.root / "sys/class/rtc/rtc0/name").unlink()
    (sound.root / "sys/class/rtc/rtc0").rmdir()
    assert "battery" in only(of(sound, checks.clock), "note").said


@pytest.mark.parametrize(
    ("said", "state", "word"),
    [
        ("throttled=0x50005", "bad", "under-voltage"),
        ("throttled=0x50000", "note", "under-voltage has occurred"),
        ("throttled=0x80008", "note", "soft temperature limit"),
    ],
)
def test_power(sound: Machine, said: str, state: str, word: str) -> None:
    found = only(of(replace(sound, ask=ask({"vcgencmd": said})), checks.power), state)
    assert word in found.said
    assert found.remedy


def test_heat(sound: Machine) -> None:
    write(sound.root, "sys/class/thermal/thermal_zone0/temp", "84000\n")
    assert "84 C" in only(of(sound, checks.power), "note").said


def test_the_service(sound: Machine) -> None:
    assert [one.state for one in of(sound, checks.service)] == ["good"]
    failed = {"systemctl": "ActiveState=failed\n"}
    assert only(of(replace(sound, ask=ask(failed)), checks.service), "bad").said == "is failed"
    (sound.root / "etc/systemd/system/edge-agent.service.d/50-devices.conf").unlink()
    assert "open no device" in only(of(sound, checks.service), "bad").said
    write(sound.root, "etc/systemd/system/edge-agent.service.d/50-devices.conf", "")
    write(sound.root, "etc/group", "dialout:x:20:\nplugdev:x:46:\n")
    assert "group apex" in only(of(sound, checks.service), "bad").said
    (sound.root / "etc/systemd/system/edge-agent.service").unlink()
    assert "install-service" in only(of(sound, checks.service), "note").remedy


def test_a_bad_model_and_a_bad_configuration(sound: Machine, tmp_path: Path) -> None:
    write(tmp_path, "models/broken/manifest.json", "{}")
    assert sound.config_path is not None
    text = CONFIG.format(port="/dev/serial/by-id/usb-board", mqtt="")
    sound.config_path.write_text(f'{text}\n[inference]\nmodels_dir = "models"\n', encoding="utf-8")
    found = only(of(replace(sound), checks.models), "bad")
    assert found.said.startswith("broken: ")
    sound.config_path.write_text("nonsense = 1\n", encoding="utf-8")
    assert any("nonsense" in one.said for one in of(replace(sound), checks.configuration))


def test_a_check_that_fails_ends_no_other(sound: Machine) -> None:
    def torn(_path: Path) -> os.statvfs_result:
        raise OSError(5, "Input/output error")

    found = examine(replace(sound, disk=torn))
    assert "Input/output error" in only([one for one in found if one.subject == "disk"], "unknown").said
    assert found[-1].subject == "service"


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    bad = write(tmp_path, "bad.toml", "nonsense = 1\n")
    assert main(["doctor", "--json", str(bad)]) == 1
    said = json.loads(capsys.readouterr().out)
    assert said["schema"] == "edge-agent/doctor/1"
    assert said["fit"] is False
    assert main(["doctor", str(bad)]) == 1
    assert "to mend" in capsys.readouterr().out
