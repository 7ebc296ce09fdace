"""The stand-in's orders, the kernel's files as a test wants them, and what is left of a test: for tests and benchmarks alike."""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from edge_agent.inference.tpu.settings import TpuConfig

FIELDS = ("call", "after", "lasting", "slow_us", "pace_us", "load", "devices", "calls", "loads", "fired")
NONE, ABORT, HANG, FAIL, LIE, SEGFAULT, SLOW, REFUSE = range(8)


class Plan:
    """``struct plan`` of standin.c, shared with whichever process runs it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(4 * len(FIELDS)))
        with path.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), 0)

    def __enter__(self) -> Plan:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._map.close()

    def __getitem__(self, field: str) -> int:
        return int(struct.unpack_from("i", self._map, 4 * FIELDS.index(field))[0])

    def __setitem__(self, field: str, value: int) -> None:
        struct.pack_into("i", self._map, 4 * FIELDS.index(field), value)

    def fired_since(self, fired: int) -> bool:
        return self["fired"] > fired

    def strike(self, fault: int, *, after: int = 0, lasting: bool = False) -> None:
        """At a call from now on."""
        self["after"], self["lasting"] = after, int(lasting)
        self["call"] = fault


def settings(library: Path, plan: Plan, **more: object) -> TpuConfig:
    """Of a TPU that is tried again at once, on a machine whose kernel shows no devices at all."""
    return TpuConfig.model_validate(
        {
            "delegate": library,
            "options": {"plan": str(plan.path)},
            "sysfs": plan.path.parent / "no-sysfs",
            "retry_s": 0.05,
            "retry_most_s": 0.05,
            "answer_ms": 150,  # a busy machine must not be mistaken for a slow TPU
            "hang_ms": 400,
            "load_s": 10,
            **more,
        }
    )


def with_file(artifact: Path, folder: Path, *, name: str | None = None, tflite: bytes | None = None) -> Path:
    """A copy whose file for the TPU is its plain one: there is no compiler here, and the stand-in takes any."""
    copy = folder / (name or artifact.name)
    shutil.copytree(artifact, copy)
    data = (artifact / "model.tflite").read_bytes() if tflite is None else tflite
    (copy / "model_edgetpu.tflite").write_bytes(data)
    manifest = json.loads((copy / "manifest.json").read_text(encoding="utf-8"))
    manifest["name"] = copy.name
    manifest["files"]["model_edgetpu.tflite"] = hashlib.sha256(data).hexdigest()
    (copy / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    return copy


def usb(sysfs: Path, *ids: str, device: str = "2-1") -> None:
    """A stick with these ids (vendor:product); none: it is pulled out."""
    folder = sysfs / "bus" / "usb" / "devices"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder / device, ignore_errors=True)
    for one in ids:
        vendor, product = one.split(":")
        (folder / device).mkdir()
        (folder / device / "idVendor").write_text(f"{vendor}\n", encoding="ascii")
        (folder / device / "idProduct").write_text(f"{product}\n", encoding="ascii")


def apex(sysfs: Path, celsius: float) -> None:
    """A PCIe TPU that is so warm."""
    folder = sysfs / "class" / "apex" / "apex_0"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "temp.new").write_text(f"{round(celsius * 1000)}\n", encoding="ascii")
    (folder / "temp.new").rename(folder / "temp")


def children(pid: int | None = None) -> set[int]:
    """Processes whose parent this one is, the dead that nobody waited for among them."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError, ValueError):
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
                if int(fields[1]) == (os.getpid() if pid is None else pid):
                    found.add(int(entry.name))
    return found


def held(pid: int | None = None) -> dict[str, int]:
    """What a process holds that must not grow: descriptors, shared memory mapped, children."""
    where = Path("/proc") / str(os.getpid() if pid is None else pid)
    maps = (where / "maps").read_text()
    return {
        "descriptors": len(list((where / "fd").iterdir())),
        "shared maps": sum("memfd:" in line for line in maps.splitlines()),
        "children": len(children(pid)),
    }


@contextlib.contextmanager
def nothing_left() -> Iterator[None]:
    """Fails if what it surrounds leaves a process, a descriptor or shared memory."""
    before = held()
    yield
    after = held()
    assert after == before, f"left behind: {before} before, {after} after"
