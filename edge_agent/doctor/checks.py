"""The doctor's checks: a function each, in the order in which they are said."""

from __future__ import annotations

import importlib
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from edge_agent.config import MqttSource, state_folder
from edge_agent.doctor.machine import Finding, Machine
from edge_agent.errors import ConfigError, EdgeAgentError
from edge_agent.inference.tpu import devices as tpu
from edge_agent.outputs import sinks
from edge_agent.sources import ports

PYTHONS = ((3, 11), (3, 13))
LEAST_MEMORY_MB = 400
LEAST_FREE_MB = 200
HOT_C = 80.0
SOCKET_REMEDY = "systemctl status mosquitto; is the host right, and does a firewall let the port through?"
RULES = ("etc/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d")
UNITS = (
    "etc/systemd/system/edge-agent.service",
    "usr/lib/systemd/system/edge-agent.service",
    "lib/systemd/system/edge-agent.service",
)
DROP_INS = (
    "etc/systemd/system/edge-agent.service.d/50-devices.conf",
    "usr/lib/systemd/system/edge-agent.service.d/50-devices.conf",
)
CREDENTIAL = "etc/edge-agent/mqtt-password"
SERVICE_CONFIG, SERVICE_STATE = Path("/etc/edge-agent"), Path("/var/lib/edge-agent")

Check = Callable[[Machine], Iterable[Finding]]


def device(machine: Machine) -> Iterator[Finding]:
    board = machine.board
    said = f"{board.model() or 'unknown'}; {board.os() or 'unknown system'}; {machine.pointer_bits} bits"
    if machine.pointer_bits == 32:
        yield Finding(
            "device", "note", said, "32 bits work with tflite-runtime and numpy<2; docs/install-pi.md has the steps"
        )
    else:
        yield Finding("device", "good", said)
    memory = board.memory_mb()
    if memory is not None:
        enough = memory >= LEAST_MEMORY_MB
        remedy = "" if enough else "run one stream, without a desktop; the agent itself needs about 100 MB"
        yield Finding("memory", "good" if enough else "note", f"{memory} MB", remedy)


def python(machine: Machine) -> Iterator[Finding]:
    version = ".".join(map(str, machine.python))
    if PYTHONS[0] <= machine.python <= PYTHONS[1]:
        yield Finding("python", "good", version)
    elif machine.python < PYTHONS[0]:
        yield Finding("python", "bad", f"{version} is too old", "use Raspberry Pi OS Bookworm (3.11) or Trixie (3.13)")
    else:
        yield Finding("python", "note", f"{version} is newer than what is tested (3.11 to 3.13)")
    from edge_agent.signal.qrs import KERNEL

    if KERNEL:
        yield Finding("kernel", "good", "compiled")
    else:
        yield Finding(
            "kernel", "note", "plain Python: the same results, many times slower",
            "sudo apt install gcc python3-dev, and install the agent again",
        )  # fmt: skip


def runtime(_machine: Machine) -> Iterator[Finding]:
    from edge_agent.inference.engine import find_runtime

    name, _ = find_runtime()  # an EngineError has its remedy
    import numpy as np

    if name == "tflite-runtime" and int(np.__version__.split(".")[0]) >= 2:
        yield Finding("runtime", "bad", "tflite-runtime does not run with numpy 2", "pip install 'numpy<2'")
    else:
        module = importlib.import_module({"ai-edge-litert": "ai_edge_litert"}.get(name, name.replace("-", "_")))
        yield Finding("runtime", "good", f"{name} {getattr(module, '__version__', '')}".strip())


def configuration(machine: Machine) -> Iterator[Finding]:
    loaded = machine.loaded
    if loaded is None:
        yield Finding("config", "note", "none was given", "edge-agent doctor CONFIG looks at what it names, too")
    elif isinstance(loaded, ConfigError):
        for problem in loaded.problems:
            yield Finding("config", "bad", problem, f"edge-agent check {machine.config_path}")
    else:
        yield Finding("config", "good", f"{machine.config_path}: {len(loaded.stream)} streams")


def models(machine: Machine) -> Iterator[Finding]:
    """Opened as the daemon does: signature, digests, shapes and golden vectors."""
    from edge_agent.config import InferenceConfig
    from edge_agent.inference.installed.catalogue import Catalogue, open_first

    catalogue = Catalogue.of(machine.settings.inference if machine.settings is not None else InferenceConfig())
    for name in catalogue.names():
        try:
            opened = open_first(catalogue, [name])[name]
        except EdgeAgentError as error:
            yield Finding(
                "model", "bad", f"{name}: {error.what}", error.remedy or "edge-agent models verify, or install it again"
            )
        else:
            version = opened.artifact.manifest.version
            yield Finding(
                "model", "good", f"{name} {version}: its golden outputs are reproduced ({opened.engine.backend})"
            )


def edge_tpu(machine: Machine) -> Iterator[Finding]:
    yield from _asked_for(machine)
    found = tpu.devices(machine.root / "sys", machine.root / "dev")
    named = machine.settings.inference.tpu.delegate if machine.settings is not None else None
    library = tpu.find_library(named, tpu.below(machine.root))
    if not found:
        said = "none is plugged in" if found is not None else "the kernel does not show what is plugged in"
        yield Finding("tpu", "good", f"{said}: the models run on the CPU")
        return
    for one in found:
        yield Finding("tpu", "bad" if one.remedy else "good", f"{one.kind} {one.path}", one.remedy)
        if one.kind == "usb" and _rules(machine, "1a6e", "9302") is None:
            yield Finding("udev", "bad", "no rule gives Coral to a group", "sudo edge-agent install-service")
    if library is None:
        yield Finding(
            "delegate", "bad", "a TPU is there, libedgetpu is not",
            "install the libedgetpu1-std that was built for this runtime: docs/install-pi.md",
        )  # fmt: skip
    else:
        yield Finding("delegate", "good", str(library))


def _asked_for(machine: Machine) -> Iterator[Finding]:
    """What [inference] asks of the TPU and cannot have."""
    from edge_agent.inference.asked_for import compiled_in, missing
    from edge_agent.inference.installed.catalogue import Catalogue

    if machine.settings is None:
        return
    inference = machine.settings.inference
    if machine.root != Path("/"):
        inference = inference.model_copy(
            update={"tpu": inference.tpu.model_copy(update={"sysfs": machine.root / "sys"})}
        )
    catalogue = Catalogue.of(inference)
    for text in missing(inference, compiled_in((name, catalogue.places(name)[0].folder) for name in catalogue.names())):
        yield Finding("tpu", "bad", text, 'mend the path, or say engine = "auto"; docs/edge-tpu.md')


def _rules(machine: Machine, *words: str) -> Path | None:
    for folder in RULES:
        for file in sorted((machine.root / folder).glob("*.rules")):
            text = file.read_text(encoding="utf-8", errors="replace")
            if all(word in text for word in words):
                return file
    return None


def serial_ports(machine: Machine) -> Iterator[Finding]:
    if not machine.serial:
        return
    drivers = machine.board.text("proc/devices") or ""
    missing = [name for name in ("ttyUSB", "ttyACM") if f" {name}" not in drivers]
    if missing:
        yield Finding(
            "drivers", "note", f"not loaded yet: {', '.join(missing)}; the service could not open such a port when it comes",
            "sudo modprobe -a usbserial cdc_acm, then restart the service; install-service does it at every boot",
        )  # fmt: skip
    for stream, port in machine.serial:
        path = machine.root / port.lstrip("/")
        if not path.exists():
            yield Finding(
                "port",
                "bad",
                f"{stream}: {port} is not there",
                "plug the board in; edge-agent ports lists those there are",
            )
            continue
        why = ports.why_not(str(path))
        holder = ports.holder(str(path), machine.root / "proc")
        if why:
            yield Finding("port", "bad", f"{stream}: {port} may not be opened", why)
        elif holder is not None and not holder.startswith("edge-agent"):
            yield Finding(
                "port", "bad", f"{stream}: {port} is held by {holder}", "stop it: two readers take each other's bytes"
            )
        else:
            yield Finding("port", "good", f"{stream}: {port}")
        if port.startswith(("/dev/ttyUSB", "/dev/ttyACM")):
            yield Finding(
                "port",
                "note",
                f"{stream}: {port} may be another board tomorrow",
                "use its path under /dev/serial/by-id",
            )


def broker(machine: Machine) -> Iterator[Finding]:
    settings = machine.settings
    if settings is None:
        return
    brokers = {(settings.mqtt.host, settings.mqtt.port)}
    brokers |= {
        (s.source.broker.host, s.source.broker.port)
        for s in settings.stream
        if isinstance(s.source, MqttSource) and s.source.broker
    }
    for host, port in sorted(brokers):
        try:
            machine.reach(host, port)
        except OSError as error:
            yield Finding("broker", "bad", f"{host}:{port}: {error.strerror or error}", SOCKET_REMEDY)
        else:
            yield Finding("broker", "good", f"{host}:{port} answers")
    if (
        settings.mqtt.tls is None
        and settings.mqtt.username is not None
        and settings.mqtt.host not in ("localhost", "127.0.0.1", "::1")
    ):
        yield Finding("broker", "note", "the password crosses the network unencrypted", "give [mqtt.tls] a ca_file")
    secret = machine.root / CREDENTIAL
    if secret.exists() and secret.stat().st_mode & (stat.S_IRWXG | stat.S_IRWXO):
        yield Finding("secrets", "bad", f"/{CREDENTIAL} may be read by others", f"sudo chmod 600 /{CREDENTIAL}")
    if settings.mqtt.password_credential is not None and not secret.exists():
        yield Finding("secrets", "bad", f"/{CREDENTIAL} is not there", f"sudo install -m 600 /dev/stdin /{CREDENTIAL}")


def disk(machine: Machine) -> Iterator[Finding]:
    for what, folder, wanted_mb in _places(machine):
        path = machine.root / str(folder).lstrip("/") if machine.root != Path("/") else folder
        there = next(one for one in (path, *path.parents) if one.exists())
        status = machine.disk(there)
        free_mb = status.f_bavail * status.f_frsize / 1e6
        if status.f_flag & 1:  # ST_RDONLY
            yield Finding(
                "disk",
                "bad",
                f"{what}: {folder} is read-only",
                "mount it with rw; a failing SD card turns read-only by itself",
            )
        elif free_mb < LEAST_FREE_MB:
            yield Finding(
                "disk",
                "bad",
                f"{what}: {free_mb:.0f} MB free at {folder}",
                f"free {LEAST_FREE_MB} MB: sudo journalctl --vacuum-size=100M",
            )
        elif status.f_favail == 0 and status.f_files:
            yield Finding(
                "disk", "bad", f"{what}: no file can be made at {folder} (inodes)", "df -i shows where they went"
            )
        elif free_mb < wanted_mb:
            yield Finding(
                "disk",
                "note",
                f"{what}: {free_mb:.0f} MB free, it may grow to {wanted_mb:.0f} MB",
                f"lower its max_mb, or free room at {folder}",
            )
        else:
            yield Finding("disk", "good", f"{what}: {free_mb:.0f} MB free at {folder}")


def _state(machine: Machine) -> Path:
    """The service's where it is the service's configuration: whoever looks at it has a state folder of his own."""
    path = machine.config_path
    if path is None or path.parent != SERVICE_CONFIG:
        return state_folder()
    return SERVICE_STATE if path.stem == "edge-agent" else SERVICE_STATE / path.stem


def _places(machine: Machine) -> Iterator[tuple[str, Path, float]]:
    settings = machine.settings
    if settings is None:
        yield "state", _state(machine), 0
        return
    outbox = settings.outbox
    yield "outbox", outbox.folder if outbox.folder is not None else _state(machine), outbox.max_mb
    if settings.recorder is not None:
        yield "recorder", settings.recorder.folder, settings.recorder.max_mb
    for name, _, path in sinks.files(settings):
        yield name, path.parent, getattr(dict(sinks.wanted(settings))[name], "max_mb", 0)


def clock(machine: Machine) -> Iterator[Finding]:
    said = machine.ask(["timedatectl", "show", "-p", "NTPSynchronized", "--value"])
    if said is None:
        yield Finding(
            "clock",
            "unknown",
            "timedatectl does not say whether the clock is set",
            "chronyc tracking, if chrony sets it",
        )
    elif said.strip() == "yes":
        yield Finding("clock", "good", "set by the network")
    else:
        remedy = "sudo timedatectl set-ntp true; intervals do not depend on it, times in the messages do"
        yield Finding("clock", "note", "not set by the network", remedy)
    if not list((machine.root / "sys/class/rtc").glob("rtc*")):
        yield Finding(
            "clock",
            "note",
            "no battery-backed clock: after a power cut without network the date is wrong",
            "a Pi 5 has a socket for a battery",
        )


def power(machine: Machine) -> Iterator[Finding]:
    flags = machine.board.throttled()
    if flags is None:
        yield Finding("power", "unknown", "this board does not say whether it is throttled")
    elif any("under-voltage" in flag for flag in flags):
        now = "under-voltage" in flags
        yield Finding(
            "power",
            "bad" if now else "note",
            ", ".join(flags),
            "use the board's own power supply and a short cable; Coral alone takes 0.9 A",
        )
    elif flags:
        yield Finding("power", "note", ", ".join(flags), "give it air or a heat sink")
    else:
        yield Finding("power", "good", "never throttled since it was switched on")
    hottest = max(machine.board.temperatures_c().items(), key=lambda one: one[1], default=None)
    coral = tpu.temperature_c(machine.root / "sys")
    if hottest is not None:
        hot = hottest[1] >= HOT_C
        yield Finding(
            "heat",
            "note" if hot else "good",
            f"{hottest[0]} {hottest[1]:.0f} C",
            "give it air or a heat sink" if hot else "",
        )
    if coral is not None:
        yield Finding(
            "heat",
            "note" if coral >= HOT_C else "good",
            f"Coral {coral:.0f} C",
            "it slows down from 85 C" if coral >= HOT_C else "",
        )


def service(machine: Machine) -> Iterator[Finding]:
    unit = machine.there(*UNITS)
    if unit is None:
        yield Finding(
            "service", "note", "not installed", "sudo edge-agent install-service --dry-run shows what it would do"
        )
        return
    passwd, groups = machine.board.text("etc/passwd") or "", machine.board.text("etc/group") or ""
    if "\nedge-agent:" not in f"\n{passwd}":
        yield Finding("service", "bad", "the account edge-agent is not there", "sudo systemd-sysusers")
    devices = bool(machine.serial) or bool(tpu.devices(machine.root / "sys", machine.root / "dev"))
    if devices:
        if machine.there(*DROP_INS) is None:
            yield Finding(
                "service",
                "bad",
                "the unit may open no device, and the configuration wants one",
                "sudo edge-agent install-service",
            )
        for group in ("dialout", "plugdev", "apex"):
            if f"\n{group}:" not in f"\n{groups}":
                yield Finding(
                    "groups",
                    "bad",
                    f"the group {group} is not there, so the service would not start",
                    "sudo systemd-sysusers",
                )
    active = (
        machine.ask(["systemctl", "show", "edge-agent.service", "-p", "ActiveState,StatusText,NRestarts"]) or ""
    ).splitlines()
    says = dict(line.partition("=")[::2] for line in active)
    if not says.get("ActiveState"):
        yield Finding("service", "unknown", "systemd does not say whether it runs")
    elif says["ActiveState"] == "active":
        yield Finding(
            "service",
            "good",
            f"runs: {says.get('StatusText') or 'no word yet'}; restarted {says.get('NRestarts', '?')} times",
        )
    else:
        yield Finding(
            "service",
            "bad",
            f"is {says['ActiveState']}",
            "journalctl -u edge-agent -n 30; sudo systemctl start edge-agent",
        )


CHECKS: tuple[Check, ...] = (
    device, python, runtime, configuration, models, edge_tpu, serial_ports, broker, disk, clock, power, service,
)  # fmt: skip
