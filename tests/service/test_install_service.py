"""Installing the service: shown before it is done, done once, taken away again."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.commands.install_service import (
    CONFIG,
    DROP_INS,
    OTHERS,
    PACKAGED,
    UNITS,
    Run,
    Step,
    carry_out,
    install_steps,
    obstacles,
    uninstall_steps,
)
from edge_agent.errors import EdgeAgentError
from tests.conftest import ROOT

SERIAL = """
[[stream]]
name = "bed1"
[stream.source]
type = "serial"
port = "/dev/ttyUSB9"
fs = 250
columns = ["II"]
wait_for_port = true
"""


def steps(root: Path, *, devices: str = "auto", tpu: bool = False, prefix: str = "/opt/edge-agent") -> list[Step]:
    assert devices in ("auto", "yes", "no")
    return install_steps(root, prefix=prefix, devices=devices, start=True, bench=False, sees_tpu=lambda: tpu)  # type: ignore[arg-type]


def do(what: list[Step]) -> list[str]:
    said: list[str] = []
    carry_out(what, dry_run=False, run_programs=False, say=said.append)
    return said


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def commands(what: list[Step]) -> list[str]:
    return [" ".join(step.command[:2]) for step in what if isinstance(step, Run) and not step.done]


def test_it_is_shown_first_and_nothing_is_done(tmp_path: Path) -> None:
    said: list[str] = []
    carry_out(steps(tmp_path), dry_run=True, say=said.append)
    assert files(tmp_path) == set()
    assert len(said) == len(steps(tmp_path)) - len(DROP_INS)  # there is none to remove
    assert all(line.startswith("would ") for line in said)


def test_twice_is_as_once(tmp_path: Path) -> None:
    assert commands(steps(tmp_path)) == [
        "systemd-sysusers /etc/sysusers.d/edge-agent.conf",
        "udevadm control",
        "udevadm trigger",
        "systemctl daemon-reload",
        "systemctl enable",
        "systemctl restart",
    ]
    do(steps(tmp_path))
    assert files(tmp_path) == {CONFIG, *(f"etc/systemd/system/{unit}" for unit in UNITS), *OTHERS.values()}
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)}
    again = steps(tmp_path)
    assert do(again) == []
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in files(tmp_path)} == before
    assert commands(again) == ["systemctl enable", "systemctl start"]  # which this machine could not do


def test_what_changed_is_brought_up_to_date_and_the_service_restarted(tmp_path: Path) -> None:
    do(steps(tmp_path))
    unit = tmp_path / "etc/systemd/system/edge-agent.service"
    good = unit.read_text(encoding="utf-8")
    unit.write_text(good.replace("WatchdogSec=30", "WatchdogSec=0"), encoding="utf-8")
    again = steps(tmp_path)
    assert "systemctl restart" in commands(again)
    assert do(again) == [f"replace {unit}"]
    assert unit.read_text(encoding="utf-8") == good


def test_the_configuration_is_never_overwritten_and_a_bad_one_stops_everything(tmp_path: Path) -> None:
    path = tmp_path / CONFIG
    path.parent.mkdir(parents=True)
    path.write_text(SERIAL, encoding="utf-8")
    do(steps(tmp_path))
    assert path.read_text(encoding="utf-8") == SERIAL
    path.write_text("nonsense = 1\n", encoding="utf-8")
    with pytest.raises(EdgeAgentError, match="nonsense"):
        steps(tmp_path)


def test_devices_are_opened_only_where_they_are_wanted(tmp_path: Path) -> None:
    drop_ins = [tmp_path / place for place in DROP_INS]
    do(steps(tmp_path))
    assert not any(path.exists() for path in drop_ins)  # a simulated patient needs none
    (tmp_path / CONFIG).write_text(SERIAL, encoding="utf-8")
    wanted = steps(tmp_path)
    assert "modprobe -a" in commands(wanted)
    do(wanted)
    assert all("DeviceAllow=char-ttyUSB rw" in path.read_text(encoding="utf-8") for path in drop_ins)
    do(steps(tmp_path, devices="no"))
    assert not any(path.parent.exists() for path in drop_ins)
    (tmp_path / CONFIG).unlink()
    do(steps(tmp_path, tpu=True))
    assert all(path.exists() for path in drop_ins)


def test_beside_the_package_only_what_depends_on_the_configuration_is_written(tmp_path: Path) -> None:
    (tmp_path / PACKAGED).parent.mkdir(parents=True)
    (tmp_path / PACKAGED).write_text("", encoding="utf-8")
    do(steps(tmp_path, devices="yes"))
    assert files(tmp_path) == {CONFIG, PACKAGED, *DROP_INS}


def test_it_is_placed_where_the_agent_is(tmp_path: Path) -> None:
    do(steps(tmp_path, prefix="/srv/edge"))
    unit = (tmp_path / "etc/systemd/system/edge-agent.service").read_text(encoding="utf-8")
    assert "ExecStart=/srv/edge/bin/edge-agent run" in unit
    assert "/opt/edge-agent" not in unit


def test_it_is_taken_away_and_state_stays_unless_asked(tmp_path: Path) -> None:
    do(steps(tmp_path, devices="yes"))
    state = tmp_path / "var/lib/edge-agent/dev.outbox"
    state.parent.mkdir(parents=True)
    state.write_text("alarms", encoding="utf-8")
    do(uninstall_steps(tmp_path, purge=False))
    assert files(tmp_path) == {CONFIG, "var/lib/edge-agent/dev.outbox"}
    said: list[str] = []
    carry_out(uninstall_steps(tmp_path, purge=False), dry_run=False, say=said.append)
    assert said == ["nothing to do: everything is as it should be"]
    do(uninstall_steps(tmp_path, purge=True))
    assert files(tmp_path) == set()


def placed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """As installed there, where a service would see it."""
    prefix = tmp_path / "venv"
    (prefix / "bin").mkdir(parents=True)
    (prefix / "bin" / "edge-agent").touch()
    monkeypatch.setattr("sys.prefix", str(prefix))
    monkeypatch.setattr("edge_agent.commands.install_service.HIDDEN", ("/home",))
    return prefix


def test_an_agent_that_a_service_could_not_see_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "not there" in str(obstacles(tmp_path)[0])
    prefix = placed(tmp_path, monkeypatch)
    assert obstacles(prefix) == []
    monkeypatch.setattr("edge_agent.commands.install_service.HIDDEN", (str(tmp_path.parent),))
    (found,) = obstacles(prefix)
    assert "sees nothing" in str(found)
    assert "/opt/edge-agent" in found.remedy
    assert "pip install edge" not in found.remedy  # it is on no index: a checkout or a wheel is named
    assert "setup.cfg" in {path.name for path in ROOT.iterdir()}
    assert str(ROOT) in found.remedy or ".whl" in found.remedy


def test_a_plan_that_would_not_work_is_shown_and_not_done(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A newcomer tries it from an environment in /tmp: he sees what it would do and what is in the way."""
    prefix, root = placed(tmp_path, monkeypatch), tmp_path / "root"
    monkeypatch.setattr("edge_agent.commands.install_service.HIDDEN", (str(tmp_path),))
    assert main(["install-service", "--dry-run", "--devices", "no", "--root", str(root)]) == 1
    said = capsys.readouterr()
    assert f"would write   {root}/etc/systemd/system/edge-agent.service" in said.out
    assert "would run     systemctl enable edge-agent.service" in said.out
    assert "this would not work" in said.out
    assert f"{prefix} lies in" in said.err
    assert main(["install-service", "--devices", "no", "--root", str(root)]) == 1
    assert not root.exists()


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    placed(tmp_path, monkeypatch)
    root = tmp_path / "root"
    assert main(["install-service", "--dry-run", "--devices", "no", "--root", str(root)]) == 0
    assert f"would write   {root}/etc/systemd/system/edge-agent.service" in capsys.readouterr().out
    assert not root.exists()
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert main(["install-service", "--devices", "no"]) == 1
    assert "sudo" in capsys.readouterr().err


def test_taken_away_twice_is_as_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With an instance that starts at boot, too: its link would name a unit that is gone."""
    placed(tmp_path, monkeypatch)
    root = tmp_path / "root"
    do(steps(root))
    wants = root / "etc/systemd/system/multi-user.target.wants"
    wants.mkdir()
    for name, unit in (
        ("edge-agent.service", "edge-agent.service"),
        ("edge-agent@ward.service", "edge-agent@.service"),
    ):
        (wants / name).symlink_to(f"/etc/systemd/system/{unit}")
    planned = [" ".join(step.command) for step in uninstall_steps(root, purge=False) if isinstance(step, Run)]
    assert "systemctl disable edge-agent.service edge-agent@ward.service edge-bench.timer" in planned
    for _ in range(2):
        assert main(["uninstall-service", "--root", str(root)]) == 0
        assert files(root) == {CONFIG}
        assert not wants.exists()
    assert "nothing to do" in capsys.readouterr().out
    assert main(["uninstall-service", "--purge", "--root", str(root)]) == 0
    assert main(["uninstall-service", "--purge", "--root", str(root)]) == 0
    assert files(root) == set()


def test_the_account_goes_with_the_rest(tmp_path: Path) -> None:
    register = tmp_path / "etc/passwd"
    register.parent.mkdir()
    register.write_text("root:x:0:0::/root:/bin/sh\nedge-agent-other:x:999:999::/:/bin/false\n", encoding="utf-8")
    assert not any("userdel" in command for command in commands(uninstall_steps(tmp_path, purge=True)))
    with register.open("a", encoding="utf-8") as file:
        file.write("edge-agent:x:998:998::/:/bin/false\n")
    assert "userdel edge-agent" in commands(uninstall_steps(tmp_path, purge=True))
    assert not any("userdel" in command for command in commands(uninstall_steps(tmp_path, purge=False)))
    (tmp_path / PACKAGED).parent.mkdir(parents=True)
    (tmp_path / PACKAGED).touch()  # what a package made goes with the package
    assert not any("userdel" in command for command in commands(uninstall_steps(tmp_path, purge=True)))


def test_the_units_are_shipped() -> None:
    from edge_agent.commands.install_service import shipped

    for name in (*UNITS, *OTHERS, "devices.conf"):
        assert shipped(name) == (ROOT / "systemd" / name).read_text(encoding="utf-8")
