"""``edge-agent install-service`` and ``uninstall-service``: the agent under systemd, in one command.

All that is done is worked out first, as a list of steps that can be printed (``--dry-run``), and a step that finds things as they
should be does nothing, so that the command may be repeated: after an upgrade, or after a board was added to the configuration.
Where the Debian package brought the units, only what depends on the configuration is written.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

from edge_agent import config
from edge_agent.config import BoardSource, Config, SerialSource
from edge_agent.errors import EdgeAgentError, OutputError
from edge_agent.example import example_config

SERVICE = "edge-agent.service"
CONFIG = "etc/edge-agent/edge-agent.toml"
PACKAGED = "usr/lib/systemd/system/edge-agent.service"
SHIPPED_PREFIX = "/opt/edge-agent"
UNITS = ("edge-agent.service", "edge-agent@.service", "edge-bench.service", "edge-bench.timer")
OTHERS = {
    "sysusers.conf": "etc/sysusers.d/edge-agent.conf",
    "tmpfiles.conf": "etc/tmpfiles.d/edge-agent.conf",
    "modules-load.conf": "etc/modules-load.d/edge-agent.conf",
    "70-edge-agent.rules": "etc/udev/rules.d/70-edge-agent.rules",
}
DROP_INS = tuple(
    f"etc/systemd/system/{unit}.d/50-devices.conf" for unit in ("edge-agent.service", "edge-agent@.service")
)
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp", "/run/user")
"""The unit sees none of these folders (ProtectHome=, PrivateTmp=)."""

Devices = Literal["auto", "yes", "no"]


@dataclass(frozen=True, slots=True)
class Write:
    path: Path
    text: str
    mode: int = 0o644

    @property
    def done(self) -> bool:
        try:
            return self.path.read_text(encoding="utf-8") == self.text
        except OSError:
            return False

    def __str__(self) -> str:
        return f"{'replace' if self.path.exists() else 'write  '} {self.path}"

    def do(self) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        fresh = self.path.with_name(self.path.name + ".new")  # nobody reads half a unit
        fresh.write_text(self.text, encoding="utf-8")
        fresh.chmod(self.mode)
        fresh.replace(self.path)


@dataclass(frozen=True, slots=True)
class Remove:
    path: Path

    @property
    def done(self) -> bool:
        return not os.path.lexists(self.path)

    def __str__(self) -> str:
        return f"remove  {self.path}"

    def do(self) -> None:
        if self.path.is_dir() and not self.path.is_symlink():
            shutil.rmtree(self.path)
        else:
            self.path.unlink()
        if self.path.parent.name.endswith(".d") and not any(self.path.parent.iterdir()):
            self.path.parent.rmdir()


@dataclass(frozen=True, slots=True)
class Run:
    command: tuple[str, ...]
    why: str
    may_fail: bool = False
    done: bool = False

    def __str__(self) -> str:
        return f"run     {' '.join(self.command)}  # {self.why}"

    def do(self) -> None:
        try:
            ran = subprocess.run(self.command, capture_output=True, text=True, check=False, timeout=180)
        except (OSError, subprocess.TimeoutExpired) as error:
            if self.may_fail:
                return
            raise OutputError(f"{' '.join(self.command)}: {error}") from None
        if ran.returncode and not self.may_fail:
            raise OutputError(
                f"{' '.join(self.command)}: {(ran.stderr or ran.stdout).strip() or f'exit status {ran.returncode}'}",
                remedy="journalctl -u edge-agent -n 20 says why, if the service would not start",
            )


Step = Write | Remove | Run


def shipped(name: str) -> str:
    """A file of systemd/, wherever this is installed."""
    installed = resources.files("edge_agent") / "shipped_systemd" / name
    if installed.is_file():
        return installed.read_text(encoding="utf-8")
    return (Path(__file__).resolve().parent.parent / "systemd" / name).read_text(encoding="utf-8")


def wants_devices(settings: Config, sees_tpu: Callable[[], bool]) -> bool:
    """Whether the configuration reads a port, or an Edge TPU is there."""
    if any(isinstance(stream.source, SerialSource | BoardSource) for stream in settings.stream):
        return True
    return sees_tpu()


def _sees_tpu() -> bool:
    from edge_agent.inference.tpu.devices import devices

    return bool(devices())


def install_steps(
    root: Path,
    *,
    prefix: str,
    devices: Devices,
    start: bool,
    bench: bool,
    sees_tpu: Callable[[], bool] = _sees_tpu,
) -> list[Step]:
    """Everything, in order; those that are done among them."""
    path = root / CONFIG
    settings = config.load(path) if path.exists() else None
    if settings is None:  # the example names no device
        wanted = devices == "yes" or (devices == "auto" and sees_tpu())
    else:
        wanted = devices == "yes" or (devices == "auto" and wants_devices(settings, sees_tpu))
    files: list[Step] = []
    if settings is None:
        files.append(Write(path, example_config()))
    if not (root / PACKAGED).exists():
        files += [Write(root / "etc/systemd/system" / unit, _placed(shipped(unit), prefix)) for unit in UNITS]
        files += [Write(root / place, shipped(name)) for name, place in OTHERS.items()]
    if wanted:
        files += [Write(root / place, shipped("devices.conf")) for place in DROP_INS]
    else:
        files += [Remove(root / place) for place in DROP_INS]
    changed = not all(step.done for step in files)
    return [*files, *_afterwards(root, changed=changed, devices=wanted, start=start, bench=bench)]


def _afterwards(root: Path, *, changed: bool, devices: bool, start: bool, bench: bool) -> Iterator[Step]:
    rules = root / OTHERS["sysusers.conf"]
    packaged = not rules.exists() and (root / PACKAGED).exists()
    yield Run(
        ("systemd-sysusers", *(() if packaged else ("/" + OTHERS["sysusers.conf"],))),
        "the account and groups",
        done=not changed,
    )
    yield Run(("udevadm", "control", "--reload"), "the rules for boards and Coral", may_fail=True, done=not changed)
    yield Run(
        ("udevadm", "trigger", "--subsystem-match=usb", "--subsystem-match=tty", "--subsystem-match=apex"),
        "for what is plugged in already", may_fail=True, done=not changed,
    )  # fmt: skip
    if devices:
        yield Run(("modprobe", "-a", "usbserial", "cdc_acm"), "see devices.conf", may_fail=True, done=not changed)
    yield Run(("systemctl", "daemon-reload"), "units are read again", done=not changed)
    units = (SERVICE, *(("edge-bench.timer",) if bench else ()))
    yield Run(("systemctl", "enable", *units), "from now on at every boot", done=_enabled(root, units))
    if start:
        verb = "restart" if changed else "start"
        done = not changed and root == Path("/") and all(map(_active, units))
        yield Run(("systemctl", verb, *units), "and now; waits until it says that it is ready", done=done)


def _enabled(root: Path, units: Sequence[str]) -> bool:
    return all(any((root / "etc/systemd/system").glob(f"*.wants/{unit}")) for unit in units)


def _active(unit: str) -> bool:
    try:
        return subprocess.run(["systemctl", "is-active", "--quiet", unit], check=False, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def _placed(unit: str, prefix: str) -> str:
    """For an agent that was installed elsewhere than where the package puts it."""
    return unit.replace(SHIPPED_PREFIX, prefix)


def uninstall_steps(root: Path, *, purge: bool) -> list[Step]:
    """The service goes; configuration, outbox and recordings stay, unless they shall go too."""
    steps: list[Step] = []
    packaged = (root / PACKAGED).exists()
    units = [unit for unit in UNITS if (root / "etc/systemd/system" / unit).exists()]
    if units or packaged:
        steps.append(Run(("systemctl", "disable", "--now", SERVICE, "edge-bench.timer"), "stop", may_fail=True))
    written = [f"etc/systemd/system/{unit}" for unit in UNITS] + [*OTHERS.values(), *DROP_INS]
    steps += [Remove(root / place) for place in written]
    if purge:
        places = ("etc/edge-agent", "var/lib/edge-agent", "var/lib/edge-agent-bench", "var/log/edge-agent")
        steps += [Remove(root / place) for place in places]
    changed = not all(step.done for step in steps)
    steps.append(Run(("systemctl", "daemon-reload"), "the units are gone", may_fail=True, done=not changed))
    return steps


def prefix_of_this() -> str:
    """Where this agent is installed, if a service could run it there."""
    prefix = Path(sys.prefix)
    if not (prefix / "bin" / "edge-agent").exists():
        raise EdgeAgentError(f"{prefix}/bin/edge-agent: not there", remedy=_REMEDY)
    hidden = next((place for place in HIDDEN if prefix.is_relative_to(place)), None)
    if hidden is not None:
        raise EdgeAgentError(f"{prefix} lies in {hidden}, of which a service sees nothing", remedy=_REMEDY)
    return str(prefix)


_REMEDY = (
    "install it for everybody: sudo python3 -m venv /opt/edge-agent && "
    "sudo /opt/edge-agent/bin/pip install edge-biosignal-agent && sudo /opt/edge-agent/bin/edge-agent install-service"
)


def carry_out(
    steps: Sequence[Step], *, dry_run: bool, run_programs: bool = True, say: Callable[[str], None] = print
) -> None:
    """Say and do what is not done yet."""
    left = [step for step in steps if not step.done]
    for step in left:
        if isinstance(step, Run) and not run_programs and not dry_run:
            continue
        say(f"{'would ' if dry_run else ''}{step}")
        if dry_run:
            continue
        try:
            step.do()
        except PermissionError as error:
            raise OutputError(f"{step}: {error.strerror}", remedy="run it with sudo") from None
    if not left:
        say("nothing to do: everything is as it should be")


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    install = _parser(commands, "install-service", "Run the agent under systemd, from now on and at every boot.")
    install.set_defaults(run=run_install)
    install.add_argument(
        "--devices",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether the service may open serial ports and Coral; auto: where the configuration or the machine has one",
    )
    install.add_argument("--no-start", action="store_true", help="enable it for the next boot only")
    install.add_argument("--bench", action="store_true", help="time the models every night (edge-bench.timer)")
    uninstall = _parser(commands, "uninstall-service", "Take the service away; configuration and state stay.")
    uninstall.set_defaults(run=run_uninstall)
    uninstall.add_argument("--purge", action="store_true", help="configuration, outbox, recordings and logs go too")


def _parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, summary: str
) -> argparse.ArgumentParser:
    parser = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n  sudo edge-agent {name} --dry-run",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    return parser


def run_install(arguments: argparse.Namespace) -> int:
    root: Path = arguments.root
    steps = install_steps(
        root,
        prefix=SHIPPED_PREFIX if (root / PACKAGED).exists() else prefix_of_this(),
        devices=arguments.devices,
        start=not arguments.no_start,
        bench=arguments.bench,
    )
    _go(steps, arguments)
    return 0


def run_uninstall(arguments: argparse.Namespace) -> int:
    _go(uninstall_steps(arguments.root, purge=arguments.purge), arguments)
    if not arguments.purge:
        print("kept: /etc/edge-agent, /var/lib/edge-agent, /var/log/edge-agent (--purge removes them too)")
    return 0


def _go(steps: Sequence[Step], arguments: argparse.Namespace) -> None:
    here = arguments.root == Path("/")
    if here and not arguments.dry_run and os.geteuid() != 0:
        raise OutputError("only root may change services", remedy="run it with sudo, or look first: --dry-run")
    booted = here and Path("/run/systemd/system").is_dir()
    carry_out(steps, dry_run=arguments.dry_run, run_programs=booted)
    if here and not booted and not arguments.dry_run:
        print("systemd is not running here: the files are in place, nothing was started")
