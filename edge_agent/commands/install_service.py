"""``edge-agent install-service`` and ``uninstall-service``: the agent under systemd, in one command.

All that is done is worked out first, as a list of steps that can be printed (``--dry-run``), and a step that finds things as they
should be does nothing, so that the command may be repeated: after an upgrade, or after a board was added to the configuration.
Where the Debian package brought the units, only what depends on the configuration is written.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from importlib import resources
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Literal
from urllib.parse import unquote

from edge_agent import commands as room
from edge_agent import config
from edge_agent.commands.example import example_config
from edge_agent.config import BoardSource, Config, SerialSource
from edge_agent.errors import EdgeAgentError, OutputError

SERVICE = "edge-agent.service"
ACCOUNT = "edge-agent"
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
            self.path.unlink(missing_ok=True)  # a step before this one may have taken it along
        folder = self.path.parent
        if folder.name.endswith((".d", ".wants")) and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


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
    return (Path(__file__).resolve().parents[2] / "systemd" / name).read_text(encoding="utf-8")


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


def _links(root: Path, unit: str) -> list[Path]:
    """That have it started at boot. (Not a glob for the name: it would find no link whose unit lies elsewhere than it says.)"""
    folders = (root / "etc/systemd/system").glob("*.wants")
    return sorted(link for folder in folders for link in folder.iterdir() if fnmatchcase(link.name, unit))


def _enabled(root: Path, units: Sequence[str]) -> bool:
    return all(_links(root, unit) for unit in units)


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
    packaged = (root / PACKAGED).exists()
    links = [link for unit in (*UNITS, "edge-agent@*.service") for link in _links(root, unit)]
    running = root == Path("/") and any(map(_active, (SERVICE, "edge-bench.timer", "edge-agent@*.service")))
    units = sorted({SERVICE, "edge-bench.timer"} | {link.name for link in links})
    # Several instances are found by their pattern when they are stopped, and by their links when they are disabled.
    stop = ("systemctl", "stop", SERVICE, "edge-agent@*.service", "edge-bench.timer", "edge-bench.service")
    steps: list[Step] = [
        Run(stop, "in order, with their goodbye", may_fail=True, done=not running),
        Run(("systemctl", "disable", *units), "no more at boot", may_fail=True, done=not links),
        *(Remove(link) for link in links),
    ]
    written = [f"etc/systemd/system/{unit}" for unit in UNITS] + [*OTHERS.values(), *DROP_INS]
    steps += [Remove(root / place) for place in written]
    if purge:
        places = ("etc/edge-agent", "var/lib/edge-agent", "var/lib/edge-agent-bench", "var/log/edge-agent")
        steps += [Remove(root / place) for place in places]
        if not packaged:
            for program, register in (
                ("userdel", "passwd"),
                ("groupdel", "group"),
            ):  # the second where the first left it
                done = not _registered(root / "etc" / register)
                steps.append(Run((program, ACCOUNT), "the account", may_fail=True, done=done))
    changed = not all(step.done for step in steps)
    steps.append(Run(("systemctl", "daemon-reload"), "the units are gone", may_fail=True, done=not changed))
    return steps


def _registered(register: Path) -> bool:
    try:
        return any(line.startswith(f"{ACCOUNT}:") for line in register.read_text(encoding="utf-8").splitlines())
    except OSError:
        return False


def obstacles(prefix: Path) -> list[EdgeAgentError]:
    """What would keep a service from running the agent that is installed there."""
    if not (prefix / "bin" / "edge-agent").exists():
        return [EdgeAgentError(f"{prefix}/bin/edge-agent: not there", remedy=_remedy())]
    hidden = next((place for place in HIDDEN if prefix.is_relative_to(place)), None)
    if hidden is not None:
        return [EdgeAgentError(f"{prefix} lies in {hidden}, of which a service sees nothing", remedy=_remedy())]
    return []


def _remedy() -> str:
    return (
        f"install it for everybody: sudo python3 -m venv {SHIPPED_PREFIX} && "
        f"sudo {SHIPPED_PREFIX}/bin/pip install {_whence()} && sudo {SHIPPED_PREFIX}/bin/edge-agent install-service"
    )


def _whence() -> str:
    """What this agent was installed from, as pip wrote it down: a checkout or a wheel. It is on no package index."""
    try:
        url = json.loads(distribution("edge-biosignal-agent").read_text("direct_url.json") or "{}").get("url", "")
    except (PackageNotFoundError, ValueError):
        url = ""
    if url.startswith("file://"):
        return shlex.quote(unquote(url.removeprefix("file://")))
    checkout = Path(__file__).resolve().parents[2]
    return shlex.quote(str(checkout)) if (checkout / "setup.cfg").is_file() else "edge_biosignal_agent-*.whl"


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
    install = _parser(
        commands, "install-service", run_install, "Run the agent under systemd, from now on and at every boot."
    )
    install.add_argument(
        "--devices",
        choices=("auto", "yes", "no"),
        default="auto",
        help="whether the service may open serial ports and Coral; auto: where the configuration or the machine has one",
    )
    install.add_argument("--no-start", action="store_true", help="enable it for the next boot only")
    install.add_argument("--bench", action="store_true", help="time the models every night (edge-bench.timer)")
    uninstall = _parser(
        commands, "uninstall-service", run_uninstall, "Take the service away; configuration and state stay."
    )
    uninstall.add_argument("--purge", action="store_true", help="configuration, outbox, recordings and logs go too")


def _parser(
    commands: argparse._SubParsersAction[argparse.ArgumentParser], name: str, run: room.Run, summary: str
) -> argparse.ArgumentParser:
    parser = room.described(commands, name, run, summary, f"sudo edge-agent {name} --dry-run")
    parser.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    parser.add_argument("--root", type=Path, default=Path("/"), help=argparse.SUPPRESS)
    return parser


def run_install(arguments: argparse.Namespace) -> int:
    """A plan is shown even where it would not work; it is carried out only where it would."""
    root: Path = arguments.root
    prefix = Path(SHIPPED_PREFIX if (root / PACKAGED).exists() else sys.prefix)
    found = obstacles(prefix)
    if found and not arguments.dry_run:
        raise found[0]
    steps = install_steps(
        root,
        prefix=str(prefix),
        devices=arguments.devices,
        start=not arguments.no_start,
        bench=arguments.bench,
    )
    _go(steps, arguments)
    if found:
        print("this would not work, and without --dry-run nothing of it would be done:", flush=True)
        raise found[0]
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
    if here and not booted:
        wrote = "would be in place, nothing would be" if arguments.dry_run else "are in place, nothing was"
        print(f"systemd is not running here: the files {wrote} started")
