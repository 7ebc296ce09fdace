"""Which engine is taken, and what devices there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge_agent.inference.tpu.choice import Choice, Timing, choose, timing
from edge_agent.inference.tpu.devices import devices, find_library, temperature_c, wanted
from tests.tpu.stand import (
    apex,
    usb,
)


def test_devices_as_the_kernel_shows_them(tmp_path: Path) -> None:
    sysfs = tmp_path / "sys"
    assert devices(sysfs) is None
    usb(sysfs, "046d:c077", device="1-1")
    assert devices(sysfs) == []
    usb(sysfs, "18d1:9302", device="2-1")
    apex(sysfs, 40.5)
    found = devices(sysfs)
    assert found is not None
    assert [(one.kind, one.path) for one in found] == [("usb", "2-1"), ("pci", "/dev/apex_0")]
    assert [one.kind for one in wanted(found, "")] == ["usb", "pci"]
    assert [one.kind for one in wanted(found, ":1")] == ["pci"]
    assert [one.kind for one in wanted(found, "usb:0")] == ["usb"]
    assert wanted(found, "usb:1") == []
    assert [one.kind for one in wanted(found, "pci")] == ["pci"]
    assert temperature_c(sysfs) == 40.5
    assert temperature_c(tmp_path) is None


def test_a_device_that_this_user_may_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libedgetpu would block for 26 s before it says so."""
    sysfs, dev = tmp_path / "sys", tmp_path / "dev"
    usb(sysfs, "1a6e:089a")
    stick = sysfs / "bus" / "usb" / "devices" / "2-1"
    (stick / "busnum").write_text("2\n")
    (stick / "devnum").write_text("7\n")
    node = dev / "bus" / "usb" / "002" / "007"
    node.parent.mkdir(parents=True)
    node.touch()
    assert devices(sysfs, dev)[0].remedy == ""  # type: ignore[index]
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "group plugdev" in devices(sysfs, dev)[0].remedy  # type: ignore[index]


def test_the_library_in_the_usual_places(tmp_path: Path) -> None:
    assert find_library(None, (str(tmp_path),)) is None
    (tmp_path / "libedgetpu.so.1").touch()
    assert find_library(None, (str(tmp_path),)) == tmp_path / "libedgetpu.so.1"
    assert find_library(tmp_path / "other.so", (str(tmp_path),)) is None


def of(p99_us: float) -> Timing:
    return Timing(200, p99_us / 2, p99_us)


@pytest.mark.parametrize(
    ("in_use", "cpu", "tpu", "engine"),
    [
        ("cpu", 100, 79, "tpu"),
        ("cpu", 100, 81, "cpu"),
        ("tpu", 100, 124, "tpu"),
        ("tpu", 100, 126, "cpu"),
    ],
)
def test_who_is_in_use_stays_unless_the_other_is_clearly_faster(
    in_use: str, cpu: float, tpu: float, engine: str
) -> None:
    made = choose("auto", in_use, of(cpu), of(tpu))
    assert made.engine == engine
    assert f"TPU {tpu} us, CPU {cpu} us" in made.why


def test_the_tpu_where_it_is_asked_for_however_slow() -> None:
    assert choose("tpu", "cpu", of(10), of(1000)) == Choice(
        "tpu", "as configured; p99 of 200 calls: TPU 1000 us, CPU 10 us"
    )


def test_timing_is_by_nearest_rank() -> None:
    assert timing([1000 * n for n in range(1, 101)]) == Timing(100, 50.0, 99.0)
    assert timing([5000]) == Timing(1, 5.0, 5.0)
