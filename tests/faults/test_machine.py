"""The machine around the agent fails: its clock is set, its descriptors and its memory run out, its disk comes and goes."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.faults import times
from tests.spine import (
    ROOT,
    Agent,
    Broker,
    Listener,
    base_config,
    running_agent,
    simulated,
    wait_for,
)

DAY_S = 86_400
DEMO = 'script = "demo"\nspeed = 20\nforever = true'


def health(listener: Listener, after: int = 0) -> dict[str, Any]:
    """The newest, once there are more than so many."""
    wait_for(lambda: len(listener.of("bridge", "health")) > after, "health")
    return listener.of("bridge", "health")[-1]


def goes_on(listener: Listener, stream: str = "bed", more: int = 5) -> None:
    before = len(listener.of(stream, "beat"))
    wait_for(lambda: len(listener.of(stream, "beat")) >= before + more, f"{more} more beats of {stream}")


def ends_well(agent: Agent) -> None:
    agent.signal(signal.SIGTERM)
    assert agent.wait(10) == 0
    assert "Traceback" not in agent.log
    assert "unexpected fault" not in agent.log


# -- the clock -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def clock_shift(tmp_path_factory: pytest.TempPathFactory, program: Callable[[str], str]) -> Path:
    made = tmp_path_factory.mktemp("clock") / "clock_shift.so"
    source = ROOT / "tests" / "faults" / "clock_shift.c"
    command = [program("gcc"), "-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", str(made), str(source), "-ldl"]
    subprocess.run(command, check=True)
    return made


@pytest.mark.parametrize("step_s", [DAY_S, -DAY_S])
def test_a_clock_set_by_a_day_moves_no_interval(
    broker: Broker, listener: Listener, tmp_path: Path, clock_shift: Path, step_s: int
) -> None:
    shift = tmp_path / "shift"
    shift.write_text("0", encoding="ascii")
    environment = {"LD_PRELOAD": str(clock_shift), "CLOCK_SHIFT_FILE": str(shift)}
    text = base_config(broker.port, simulated("bed", extra="models = []"), mqtt="qos_beats = 1")
    text += f'\n[recorder]\nfolder = "{tmp_path}/rec"\nmode = "everything"\n'
    with running_agent(tmp_path, text, environment=environment) as agent:
        goes_on(listener)
        before = listener.of("bed", "beat")[-1]
        shift.write_text(str(step_s), encoding="ascii")
        goes_on(listener, more=8)
        after = listener.of("bed", "beat")[-1]
        # The fault did happen: the agent's own health message carries the time that was set.
        stepped = wait_for(
            lambda: [
                one
                for one in listener.of("bridge", "health")
                if abs(datetime.fromisoformat(one["time"]) - datetime.now(UTC) - timedelta(seconds=step_s))
                < timedelta(minutes=5)
            ],
            "the step to be seen",
        )
        assert stepped
        beats = listener.of("bed", "beat")
        intervals = [beat["rr_ms"] for beat in beats if beat["rr_ms"] is not None]
        assert len(intervals) > 8
        assert max(intervals) < 1500  # a heart at rest, across the step as well
        assert min(intervals) > 500
        assert listener.of("bed", "gap") == []
        assert listener.of("bed", "alarm") == []
        assert [one["seq"] for one in beats] == sorted({one["seq"] for one in beats})
        # Samples are the stream's clock: as many have gone by as seconds did.
        took = (after["sample"] - before["sample"]) / 250
        assert 2 < took < 60
        now = health(listener, after=len(listener.of("bridge", "health")))
        assert now["streams"]["bed"]["restarts"] == 0
        assert now["broker"]["outbox"]["evicted"] == {"beats": 0, "events": 0, "alarms": 0}
        ends_well(agent)


# -- descriptors and memory ------------------------------------------------------------------------------------------


def test_descriptors_run_out_and_come_back(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed", extra="models = []", source=DEMO), mqtt="qos_beats = 1")
    text += f'\n[recorder]\nfolder = "{tmp_path}/rec"\n[jsonl]\npath = "{tmp_path}/events.jsonl"\nmax_mb = 1\n'
    with running_agent(tmp_path, text) as agent:
        listener.wait("bed", "alarm", state="raised")
        hard = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)[1]
        resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (3, hard))  # nothing new can be opened
        with pytest.raises(OSError, match="Too many open files"):  # it is the fault that it should be
            raise_as(agent)
        broker.stop()  # and the connection is lost
        time.sleep(times(20, 4))
        broker.start()
        time.sleep(2)
        assert agent.process.poll() is None
        resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE, (min(1024, hard), hard))
        wait_for(lambda: agent.log.count("connected to the broker") >= 2, "the broker again")
        goes_on(listener)
        now = health(listener, after=len(listener.of("bridge", "health")))
        assert now["broker"]["lost"] == 0  # QoS 1 was kept meanwhile
        open_now = len(list(Path(f"/proc/{agent.process.pid}/fd").iterdir()))
        assert open_now < 60
        ends_well(agent)


def raise_as(agent: Agent) -> None:
    """What the agent meets: opening one more file than its limit allows."""
    soft, hard = resource.prlimit(agent.process.pid, resource.RLIMIT_NOFILE)
    ours = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, ours[1]))
    try:
        os.close(os.open("/dev/null", os.O_RDONLY))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, ours)
    assert hard >= soft


def test_a_process_without_memory_ends_or_goes_on_and_its_state_reopens(
    broker: Broker, listener: Listener, tmp_path: Path
) -> None:
    """No allocation is granted any more: whatever it does, the next start has all that was on the disk."""
    text = base_config(broker.port, simulated("bed", extra="models = []", source=DEMO), mqtt="qos_beats = 1")
    with running_agent(tmp_path, text) as agent:
        listener.wait("bed", "alarm", state="raised")
        used = int(Path(f"/proc/{agent.process.pid}/statm").read_text().split()[0]) * resource.getpagesize()
        resource.prlimit(agent.process.pid, resource.RLIMIT_AS, (used // 2, resource.RLIM_INFINITY))
        deadline = time.monotonic() + times(30, 5)
        while agent.process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.1)
        agent.close()
    with running_agent(tmp_path, text) as agent:
        agent.wait_log("running: 1 streams")
        goes_on(listener)
        assert "damaged" not in agent.log
        ends_well(agent)


# -- the disk --------------------------------------------------------------------------------------------------------


def test_a_disk_that_fills_while_it_runs_and_is_emptied_again(
    broker: Broker, listener: Listener, tmp_path: Path, tiny_disk: Path
) -> None:
    """One that is full or read-only at the start: tests/outputs/test_failing_disk.py."""
    text = base_config(broker.port, simulated("bed", extra="models = []", source=DEMO), mqtt="qos_beats = 1")
    text = text.replace('folder = "."', f'folder = "{tiny_disk}"')
    text += f'\n[jsonl]\npath = "{tiny_disk}/events.jsonl"\nmax_mb = 1\n'
    ballast = tiny_disk / "ballast"
    with running_agent(tmp_path, text) as agent:
        listener.wait("bed", "alarm", state="raised")
        with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
            while True:
                file.write(b"x" * 4096)
        raised = len(listener.of("bed", "alarm"))
        wait_for(
            lambda: [
                one
                for one in listener.of("bridge", "health")
                if (one["broker"]["outbox"] or {}).get("disk", "ok") != "ok" or one["jsonl"]["disk"] != "ok"
            ],
            "health to say what is wrong with the disk",
        )
        wait_for(lambda: len(listener.of("bed", "alarm")) > raised, "alarms nevertheless")
        ballast.unlink()
        goes_on(listener)
        assert health(listener, after=len(listener.of("bridge", "health")))["broker"]["lost"] == 0
        ends_well(agent)


@dataclass
class Disk:
    """A file system of 16 MB in a file."""

    image: Path
    folder: Path

    def mount(self) -> None:
        subprocess.run(["mount", "-o", "loop,errors=remount-ro", self.image, self.folder], check=True)

    def unmount(self) -> None:
        subprocess.run(["umount", self.folder], check=True)

    def goes_bad(self) -> None:
        """As it does when the card gives nonsense: the kernel finds an error and writes no more, whatever is open."""
        device = os.path.realpath(
            subprocess.run(
                ["findmnt", "-no", "SOURCE", self.folder], check=True, capture_output=True, text=True
            ).stdout.strip()
        )
        Path("/sys/fs/ext4", Path(device).name, "trigger_fs_error").write_text("1", encoding="ascii")


@pytest.fixture
def disk(tmp_path: Path, program: Callable[[str], str]) -> Iterator[Disk]:
    made = Disk(tmp_path / "disk.img", tmp_path / "disk")
    made.folder.mkdir()
    with made.image.open("wb") as image:
        image.truncate(16 << 20)
    subprocess.run([program("mkfs.ext4"), "-q", "-F", made.image], check=True, capture_output=True)
    try:
        made.mount()
    except subprocess.CalledProcessError:
        pytest.skip("no file system can be mounted from a file here")
    try:
        yield made
    finally:
        subprocess.run(["umount", "-l", made.folder], check=False, capture_output=True)


def test_a_disk_that_turns_read_only_under_open_files(
    broker: Broker, listener: Listener, tmp_path: Path, disk: Disk, program: Callable[[str], str]
) -> None:
    check = program("e2fsck")
    text = base_config(broker.port, simulated("bed", extra="models = []", source=DEMO), mqtt="qos_beats = 1")
    text = text.replace('folder = "."', f'folder = "{disk.folder}"')
    text += f'\n[jsonl]\npath = "{disk.folder}/events.jsonl"\nmax_mb = 1\n'
    text += f'[recorder]\nfolder = "{disk.folder}/rec"\nmode = "everything"\nmax_mb = 4\n'
    with running_agent(tmp_path, text) as agent:
        listener.wait("bed", "alarm", state="raised")
        disk.goes_bad()
        with pytest.raises(OSError, match="Read-only"):  # the fault did happen
            (disk.folder / "probe").write_bytes(b"x")
        raised = len(listener.of("bed", "alarm"))
        wait_for(
            lambda: [one for one in listener.of("bridge", "health") if one["jsonl"]["disk"] != "ok"],
            "health to say what is wrong with the disk",
        )
        wait_for(lambda: len(listener.of("bed", "alarm")) > raised, "alarms nevertheless")
        goes_on(listener)
        assert health(listener, after=len(listener.of("bridge", "health")))["broker"]["lost"] == 0
        beats = [one["seq"] for one in listener.of("bed", "beat")]
        assert beats == list(range(beats[0], beats[0] + len(beats)))  # none is missing, in their order
        ends_well(agent)
    disk.unmount()
    subprocess.run([check, "-fp", disk.image], check=False, capture_output=True)  # what a boot does
    disk.mount()
    before = len(listener.of("bed", "beat"))
    with running_agent(tmp_path, text) as agent:
        wait_for(lambda: len(listener.of("bed", "beat")) > before, "beats after the next start")
        now = health(listener, after=len(listener.of("bridge", "health")))
        assert now["jsonl"]["disk"] == "ok"
        assert now["broker"]["outbox"]["disk"] == "ok"
        ends_well(agent)
