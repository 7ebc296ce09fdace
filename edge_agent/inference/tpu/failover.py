"""One model on two engines: the TPU where it is chosen and well, and the CPU for the very window that it fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from edge_agent.inference.artifact import Artifact, feeds_of
from edge_agent.inference.binding import Bound
from edge_agent.inference.engine import Engine
from edge_agent.inference.tpu.process import Remote, TpuFault, TpuLate, TpuProcess
from edge_agent.journey import Samples

MOST_LATE = 5
"""So many answers in a row that came too late are a fault; fewer are the USB bus."""
GROSS = 4.0
"""An answer that is off by more than this many tolerances is a lie. Below, kernels differ (a mobilenet by 8 steps)."""


@dataclass(slots=True)
class Counters:
    """Of one TPU, since the start."""

    tpu_calls: int = 0
    """Windows that the TPU answered."""
    tpu_late: int = 0
    """Windows that the CPU answered because the TPU took too long, or was busy."""
    tpu_differed: int = 0
    """Windows whose answers differed by more than the tolerance: the CPU's was taken."""
    tpu_faults: int = 0
    """Ends of a working TPU, whatever the reason."""
    tpu_tries: int = 0
    """Times that its process was started."""
    tpu_canaries: int = 0
    """Golden vectors run in between."""


class RemoteEngine:
    """A file on the TPU as an Engine whose answers may be late or missing: TpuLate, TpuFault."""

    def __init__(
        self, artifact: Artifact, remote: Remote, where: str, signature: Mapping[str, int] | None = None
    ) -> None:
        """``signature``: the file's own names of its inputs, where it has any."""
        manifest = artifact.manifest
        self.remote = remote
        self.late = 0
        """Answers in a row that came too late."""
        self.backend = f"tpu/{remote.runtime}"
        self._bound = Bound(
            remote,
            feeds_of(manifest),
            manifest.output_size,
            signature=signature,
            variables=False,
            index=manifest.output.holds == "index",
            where=where,
            arrays=remote.arrays,
        )

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        self.remote.wake()
        return self._bound.run(inputs)


@dataclass(frozen=True, slots=True)
class Seat:
    """A model's place on a TPU that has been proven."""

    engine: RemoteEngine
    lock: threading.Lock
    """Held by whoever speaks with the process."""
    limit_s: float
    """A window waits no longer."""
    tolerance: float
    check: bool
    """The CPU computes every window, too."""
    fault: Callable[[TpuProcess, str], None]
    """Tells the supervisor; returns at once."""
    late: Callable[[], None]
    """The same, of an answer that is waited for."""


class FailoverEngine:
    """An Engine. Called by the models' thread alone; ``seat`` is set by the TPU's supervisor."""

    def __init__(self, cpu: Engine) -> None:
        self.cpu = cpu
        self.backend = cpu.backend
        """Which one gave the last answer."""
        self.seat: Seat | None = None
        self.counters = Counters()
        """Those of the TPU that it is given."""

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        seat = self.seat
        if seat is None:
            return self._on_cpu(inputs)
        if not seat.lock.acquire(blocking=False):  # a golden vector is on its way; nobody waits for it
            self.counters.tpu_late += 1
            return self._on_cpu(inputs)
        try:
            return self._on_both(seat, inputs)
        finally:
            seat.lock.release()

    def _on_both(self, seat: Seat, inputs: tuple[Samples, ...]) -> Samples:
        output = self._on_tpu(seat, inputs)
        if output is None or seat.check:
            reference = self._on_cpu(inputs)
            if output is None or not self._agree(seat, output, reference):
                return reference
        self.counters.tpu_calls += 1
        self.backend = seat.engine.backend
        return output

    def _on_tpu(self, seat: Seat, inputs: tuple[Samples, ...]) -> Samples | None:
        """None where it failed, or is late."""
        process = seat.engine.remote.process
        try:
            if not process.ready():  # it still works on a window that the CPU has answered meanwhile
                self.counters.tpu_late += 1
                return None
            output = seat.engine.invoke(inputs)
        except TpuFault as fault:
            self._give_up(seat, fault.what)
            return None
        except TpuLate:
            self._too_late(seat)
            return None
        seat.engine.late = 0
        return output

    def _agree(self, seat: Seat, output: Samples, reference: Samples) -> bool:
        off = float(np.max(np.abs(output - reference)))
        if off <= seat.tolerance:
            return True
        self.counters.tpu_differed += 1
        if not off <= GROSS * seat.tolerance:
            self._give_up(seat, f"wrong answers: off by {off:.3g} from the CPU, tolerance {seat.tolerance:.3g}")
        return False

    def _on_cpu(self, inputs: tuple[Samples, ...]) -> Samples:
        self.backend = self.cpu.backend
        return self.cpu.invoke(inputs)

    def _give_up(self, seat: Seat, reason: str) -> None:
        if self.seat is seat:
            self.seat = None
        seat.fault(seat.engine.remote.process, reason)

    def _too_late(self, seat: Seat) -> None:
        self.counters.tpu_late += 1
        seat.engine.late += 1
        seat.late()
        if seat.engine.late >= MOST_LATE:
            self._give_up(seat, f"too slow: {MOST_LATE} answers in a row took more than {seat.limit_s * 1000:.3g} ms")
