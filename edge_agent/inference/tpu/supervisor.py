"""One TPU, looked after by a thread of its own: started, proven, timed, watched, given up and tried again.

The models' thread never waits for any of it. It asks whoever has a seat; this thread gives seats after the golden vectors passed,
and takes them away.
"""

from __future__ import annotations

import logging
import math
import os
import select
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from edge_agent.errors import ArtifactError
from edge_agent.inference.artifact import open_engine, verify
from edge_agent.inference.tflite.vet import vetted
from edge_agent.inference.tpu import devices
from edge_agent.inference.tpu.choice import Timing, choose, measure
from edge_agent.inference.tpu.failover import Counters, RemoteEngine, Seat
from edge_agent.inference.tpu.member import Member, State, Status
from edge_agent.inference.tpu.process import ENDED, TpuFault, TpuHung, TpuLate, TpuProcess
from edge_agent.inference.tpu.settings import TpuConfig

log = logging.getLogger(__name__)

LOOK_S = 5.0
"""Between two looks at the thermometer."""
COOLER_C = 5.0
"""Below its limit before a TPU that was too hot is used again."""
CHEAP_CPU_US = 2000.0
"""A model whose CPU variant takes less is computed on both, as long as the TPU is used."""
SLOWEST = 5.0
"""A window waits at least so many times the TPU's own median: its tail is what must not be waited for."""
STEADY = 10.0
"""A TPU that stayed well so many times as long as it had been held off is trusted as at the start."""
IDLE_S = 3600.0
NOBODY = "no model has a file for the TPU"
PENDING = "the TPU is being loaded and proven"


class Supervisor:
    def __init__(self, settings: TpuConfig, device: str, say: Callable[[], None]) -> None:
        """``say``: called from this thread whenever ``status`` has changed."""
        self.counters = Counters()
        self.members: dict[str, Member] = {}
        self.status = Status("cpu", NOBODY, datetime.now(UTC))
        self.tried = True
        """Nothing is to be tried for the first time."""
        self.degradations = self.recoveries = 0
        self.last_reason: str | None = None
        self._settings, self._device, self._say = settings, device, say
        self._hung = f"hung: no answer in {settings.hang_ms:g} ms"
        self._process: TpuProcess | None = None
        self._loaded, self._unreaped = dict[str, RemoteEngine](), list[TpuProcess]()
        self._lock = threading.Lock()  # speaking with the process
        self._wake_fd = -1  # before the start and after the end
        self._mail = threading.Lock()
        # Left by other threads, taken by this one:
        self._stopping = False
        self._fresh: dict[str, Member] | None = None
        self._measure = False
        self._fault: tuple[TpuProcess, str] | None = None
        # Of this thread alone:
        self._was_in_use = self._was_hot = False
        self._seated = False
        self._settled = False  # timed, and nobody wants it
        self._failures = 0
        self._due = self._up_since = self._next_canary = 0.0
        self._canary = 0
        self._at = ""  # the model whose file is being loaded or proven
        self._aside_due = math.inf  # when files that were set aside are tried again
        self._thread = threading.Thread(target=self._run, name=f"tpu{device.replace(':', '-')}", daemon=True)

    # -- from any thread -----------------------------------------------------------------------------------------

    def start(self) -> None:
        self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._thread.start()

    def stop(self, timeout_s: float = 2.0) -> None:
        self._stopping = True
        process = self._process
        if process is not None:
            process.kill()  # so that nothing there is waited for
        self._wake()
        if self._thread.is_alive():
            self._thread.join(timeout_s)
        if not self._thread.is_alive() and self._wake_fd >= 0:
            os.close(self._wake_fd)
            self._wake_fd = -1

    def take(self, members: Mapping[str, Member]) -> None:
        """From now on these models, and no others."""
        for member in members.values():
            member.engine.counters = self.counters
        self.tried = not members
        with self._mail:
            self._fresh = dict(members)
        self._wake()

    def measure_again(self) -> None:
        with self._mail:
            self._measure = True
        self._wake()

    def _failed(self, process: TpuProcess, reason: str) -> None:
        """Of a process in use; from the models' thread."""
        with self._mail:
            if self._fault is None:
                self._fault = (process, reason)
        process.kill()
        self._wake()

    def _wake(self) -> None:
        if self._wake_fd >= 0:
            os.eventfd_write(self._wake_fd, 1)

    # -- the thread ----------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while not self._stopping:
            try:
                pause_s = self._step()
            except Exception as error:  # a fault of ours must leave the CPU in charge, and be seen
                log.exception("looking after the TPU met an unexpected fault")
                self._down(f"unexpected fault: {type(error).__name__}: {error}")
                pause_s = self._settings.retry_s
            self._wait(pause_s)
        self._drop()
        for process in self._unreaped:
            process.reap()

    def _wait(self, pause_s: float) -> None:
        """Until then, or until somebody calls, or the process ends."""
        poll = select.poll()
        poll.register(self._wake_fd, select.POLLIN)
        process = self._process
        if process is not None:
            poll.register(process.fileno(), 0)  # POLLHUP comes unasked
        for fd, _ in poll.poll(max(0, round(pause_s * 1000) + 1)):
            if fd == self._wake_fd:
                os.eventfd_read(self._wake_fd)
            elif process is not None:
                self._failed(process, ENDED)

    def _step(self) -> float:
        """What is due now; seconds until the next."""
        self._unreaped = [process for process in self._unreaped if not process.reap()]
        with self._mail:
            fresh, self._fresh = self._fresh, None
            measuring, self._measure = self._measure, False
            fault, self._fault = self._fault, None
        if fresh is not None:
            self._changed(fresh)
        if fault is not None and fault[0] is self._process:
            self._down(fault[1])
        if not self.members:
            return IDLE_S
        now = time.monotonic()
        if self._process is None:
            if measuring:
                self._settled, self._due = False, now
            elif self._settled:
                return IDLE_S
            if now >= self._due:
                self._begin()
                self.tried = True
        elif measuring:
            self._unseat()
            try:
                self._seat()
            except TpuFault as fault:
                self._down(fault.what)
        elif self._aside_due <= now:
            self._drop()
            self._begin()
        else:
            self._look(self._process, now)
        if self._process is None:
            return IDLE_S if self._settled else max(0.0, self._due - time.monotonic())
        next_look = min(self._next_canary, self._aside_due, time.monotonic() + LOOK_S)
        waited_s = self._process.waited_s
        if waited_s:
            next_look = min(next_look, time.monotonic() + self._settings.hang_ms / 1000 - waited_s)
        return max(0.0, next_look - time.monotonic())

    def _changed(self, fresh: dict[str, Member]) -> None:
        engines = {name: member.engine for name, member in self.members.items()}
        if {name: member.engine for name, member in fresh.items()} == engines:
            return
        self._drop()
        self.members = fresh
        self._settled = False
        if not self._failures:
            self._due = 0.0
        if not fresh:
            self._was_in_use = False
            self._set("cpu", NOBODY)
        elif self.status.state != "degraded":
            self._set("cpu", PENDING)

    # -- starting ------------------------------------------------------------------------------------------------

    def _begin(self) -> None:
        settings = self._settings
        library = devices.find_library(settings.delegate)
        if library is None:
            self._absent(f"absent: no library: {settings.delegate or 'libedgetpu.so.1, in the usual places'}")
            return
        missing = devices.missing(settings.sysfs, self._device)
        if missing is not None:
            self._absent(missing)
            return
        hot = devices.temperature_c(settings.sysfs)
        limit_c = settings.max_temp_c - (COOLER_C if self._was_hot else 0.0)
        if hot is not None and hot >= limit_c:
            self._absent(f"too hot: {hot:.1f} C, used again below {limit_c:.1f} C")
            return
        self._was_hot = False
        aside: dict[str, str] = {}
        self._aside_due = math.inf
        while not self._stopping:
            try:
                self._load(library, aside)
                self._seat(bool(aside))
                return
            except TpuFault as fault:
                if not self._set_aside(fault, aside):
                    return

    def _load(self, library: Path, aside: Mapping[str, str]) -> None:
        """A process with all files but those; TpuFault."""
        settings, self._loaded, self._at = self._settings, {}, ""
        self.counters.tpu_tries += 1
        process = self._process = TpuProcess(settings.python)
        options = {**settings.options, **({"device": self._device} if self._device else {})}
        for name, member in self.members.items():
            member.fault = f"{name}: {aside[name]}" if name in aside else ""
            if member.fault or self._stopping:
                continue
            where, self._at = member.artifact.edgetpu_path, name
            try:
                file = member.vetted = member.vetted or vetted(member.tflite, where, compiled=True)
                remote = process.load(
                    member.tflite, str(library), options, settings.load_s, where, variables=file.variables
                )
                self._loaded[name] = RemoteEngine(member.artifact, remote, where, file.signature)
            except ArtifactError as error:
                member.fault = error.what

    def _set_aside(self, fault: TpuFault, aside: dict[str, str]) -> bool:
        """One file that ends the process must not take the TPU from the others; what takes it from all of them is no file's fault."""
        if isinstance(fault, TpuHung) or not self._at or len(aside) + 1 == len(self.members):
            self._down(next(iter(aside.values()), fault.what))
            return False
        process = self._process
        aside[self._at] = process.epitaph() if process is not None and fault.what == ENDED else fault.what
        log.warning("models: %s: %s; trying the TPU without it", self._at, aside[self._at])
        self._drop()
        return True

    def _seat(self, without_some: bool = False) -> None:
        """Prove, time and choose; then the models' thread may ask. TpuFault."""
        try:
            with self._lock:  # a window that found its seat a moment ago is still on its way, or goes to the CPU
                seats = self._proven()
        except TpuLate:
            raise TpuHung(self._hung) from None
        for name, seat in seats.items():
            self.members[name].engine.seat = seat
        faults = [member.fault for member in self.members.values() if member.fault]
        if faults and not seats:
            self._down(faults[0])
            return
        self._up_since = time.monotonic()
        if without_some:
            self._failures += 1
            self._aside_due = self._up_since + self._hold_s()
        self._next_canary = self._up_since + self._settings.canary_s
        self._was_in_use = self._seated = bool(seats)
        if faults:
            self._set("degraded", faults[0])
        elif seats:
            chosen = [one for one in self.members.values() if one.choice.engine == "tpu"]
            self._set("tpu", "; ".join(f"{one.artifact.name}: {one.choice.why}" for one in chosen))
        else:
            self._drop()
            self._settled, self._failures = True, 0
            self._set("cpu", "; ".join(f"{one.artifact.name}: {one.choice.why}" for one in self.members.values()))

    def _proven(self) -> dict[str, Seat]:
        """Seats for the models that compute rightly there, and are to run there. TpuFault, TpuLate."""
        seats = {}
        for name, engine in self._loaded.items():
            member, self._at = self.members[name], name
            tolerance = member.artifact.manifest.golden.tolerance
            engine.remote.limit_s = self._settings.hang_ms / 1000
            off = verify(member.artifact, engine)
            if not off <= tolerance:
                member.fault = f"wrong answers: {name}'s golden outputs differ by {off:.3g}, tolerance {tolerance:.3g}"
                continue
            cases = list(zip(*member.artifact.golden_inputs, strict=True))
            member.beside = member.beside or open_engine(member.artifact)
            member.cpu, member.tpu = measure([member.beside.invoke, engine.invoke], cases)
            member.choice = choose(member.wanted, member.choice.engine, member.cpu, member.tpu)
            if member.choice.engine == "tpu":
                seats[name] = self._seat_for(engine, member, member.cpu, member.tpu)
        return seats

    def _seat_for(self, engine: RemoteEngine, member: Member, cpu: Timing, tpu: Timing) -> Seat:
        settings = self._settings
        limit_ms = min(max(settings.answer_ms, SLOWEST * tpu.p50_us / 1000), settings.hang_ms)
        engine.remote.limit_s = limit_ms / 1000
        return Seat(
            engine=engine,
            lock=self._lock,
            limit_s=limit_ms / 1000,
            tolerance=member.artifact.manifest.golden.tolerance,
            check=settings.check == "all" or (settings.check == "auto" and cpu.p99_us < CHEAP_CPU_US),
            fault=self._failed,
            late=self._wake,
        )

    # -- watching ------------------------------------------------------------------------------------------------

    def _look(self, process: TpuProcess, now: float) -> None:
        settings = self._settings
        if process.waited_s > settings.hang_ms / 1000:
            # The models' thread may have taken a late answer this moment.
            with self._lock:
                hangs = self._still_waits(process)
            if hangs:
                self._down(self._hung)
                return
        hot = devices.temperature_c(settings.sysfs)
        if hot is not None and hot >= settings.max_temp_c:
            self._was_hot = True
            self._down(f"too hot: {hot:.1f} C, limit {settings.max_temp_c:.1f} C")
            return
        if now >= self._next_canary:
            self._next_canary = now + settings.canary_s
            try:
                self._sing(process)
            except TpuFault as fault:
                self._down(fault.what)
                return
        if self._failures and now - self._up_since > STEADY * self._hold_s():
            self._failures = 0
        process.tidy()

    def _still_waits(self, process: TpuProcess) -> bool:
        try:
            return not process.ready()
        except TpuFault:
            return False  # it ended, which is noticed by itself

    def _sing(self, process: TpuProcess) -> None:
        """A golden vector, so that a TPU that computes wrongly is found. Windows that come meanwhile go to the CPU."""
        self._canary += 1
        for name, member in self.members.items():
            seat = member.engine.seat
            if seat is None:
                continue
            number = self._canary % len(member.artifact.golden_outputs)
            inputs = tuple(array[number] for array in member.artifact.golden_inputs)
            with self._lock:
                if not process.ready():
                    return
                try:
                    seat.engine.remote.limit_s = self._settings.hang_ms / 1000
                    output = seat.engine.invoke(inputs)
                except TpuLate:
                    raise TpuFault(self._hung) from None
                finally:
                    seat.engine.remote.limit_s = seat.limit_s
            self.counters.tpu_canaries += 1
            off = float(np.max(np.abs(output - member.artifact.golden_outputs[number])))
            if not off <= seat.tolerance:
                raise TpuFault(
                    f"wrong answers: {name}'s golden output differs by {off:.3g}, tolerance {seat.tolerance:.3g}"
                )

    # -- giving up -----------------------------------------------------------------------------------------------

    def _unseat(self) -> None:
        for member in self.members.values():
            member.engine.seat = None

    def _drop(self) -> None:
        """End the process. Whoever waits for it finds that out, and then lets go of the lock."""
        self._unseat()
        process = self._process
        if process is None:
            return
        process.kill()
        with self._lock:
            self._process, self._loaded = None, {}
            if not process.reap():
                self._unreaped.append(process)
                log.error("the TPU's process %d does not end: the kernel holds it", process.pid)

    def _hold_s(self) -> float:
        settings = self._settings
        return float(min(settings.retry_most_s, settings.retry_s * 2.0 ** min(30, self._failures - 1)))

    def _down(self, reason: str) -> None:
        """It worked or nearly did, and failed: held off longer each time."""
        self._unseat()
        process = self._process
        if process is not None and reason == ENDED:
            reason = process.epitaph()
            if (devices.missing(self._settings.sysfs, self._device) or "").startswith("absent"):
                reason = f"unplugged: {reason}"
        self._drop()
        self.counters.tpu_faults += self._seated
        self._seated = False
        self._failures += 1
        self._due = time.monotonic() + self._hold_s()
        self._degraded(reason)

    def _absent(self, reason: str) -> None:
        """Nothing was tried; asking again costs next to nothing."""
        self._due = time.monotonic() + self._settings.retry_s
        self._degraded(reason)

    def _degraded(self, reason: str) -> None:
        """Where the TPU is a mere possibility, that it is not there is no defect."""
        expected = self._was_in_use or any(member.wanted == "tpu" for member in self.members.values())
        self._set("degraded" if expected or self.status.state == "degraded" else "cpu", reason)

    def _set(self, state: State, reason: str) -> None:
        before = self.status
        if self._stopping or (state == before.state and reason == before.reason):  # our own end is no news of the TPU
            return
        if state == "degraded":
            self.last_reason = reason
        if state != before.state:
            self.degradations += state == "degraded"
            self.recoveries += before.state == "degraded"
            say = log.warning if "degraded" in (state, before.state) else log.info
            say("models: %s%s: %s", state, f" ({self._device})" if self._device else "", reason)
        self.status = Status(state, reason, datetime.now(UTC) if state != before.state else before.since)
        self._say()
