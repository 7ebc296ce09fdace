"""The engines that a model can run on here, each opened and proved, and the one that the daemon would take.

The TPU's process is started, proved and asked as the daemon's supervisor does it, but for the measurement alone: stop a daemon that uses
the same TPU first, or it will be said to be absent.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edge_agent.bench.report import Choice
from edge_agent.config import InferenceConfig
from edge_agent.errors import EdgeAgentError, EngineError
from edge_agent.inference.artifact import Artifact, open_engine, verify
from edge_agent.inference.engine import Engine
from edge_agent.inference.tpu import choice, devices
from edge_agent.inference.tpu.engines import NO_FILE
from edge_agent.inference.tpu.failover import RemoteEngine
from edge_agent.inference.tpu.process import Remote, TpuLate, TpuProcess
from edge_agent.journey import Samples

CUSTOM_OPERATOR = b"edgetpu-custom-op"


@dataclass(frozen=True, slots=True)
class Variant:
    """One model on one engine."""

    artifact: Artifact
    engine: Engine
    init_ms: float
    again: Callable[[], Engine]
    """Another one of the same kind."""
    bare: Callable[[], object] | None = None
    """The runtime's own call where it lives in another process: there and back."""
    faults: tuple[str, ...] = ()
    """Why its figures are not what they seem."""

    @property
    def backend(self) -> str:
        return self.engine.backend


class _Tpu:
    """An answer that does not come ends the measurement: there is no CPU behind it here."""

    def __init__(self, artifact: Artifact, remote: Remote, where: str) -> None:
        self._engine: Engine = RemoteEngine(artifact, remote, where)
        self._limit_s = remote.limit_s
        self.backend: str = self._engine.backend

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        try:
            return self._engine.invoke(inputs)
        except TpuLate:
            raise EngineError(f"{self.backend}: no answer in {self._limit_s * 1000:g} ms") from None


@contextlib.contextmanager
def variants(artifact: Artifact, settings: InferenceConfig | None = None) -> Iterator[tuple[list[Variant], Choice]]:
    """The CPU's, then the TPU's where there is one. Why there is none is in the choice's reason."""
    settings = settings or InferenceConfig()
    began = time.perf_counter_ns()
    engine = open_engine(artifact)
    init_ms = (time.perf_counter_ns() - began) / 1e6
    cpu = Variant(artifact, engine, init_ms, lambda: open_engine(artifact))
    if artifact.edgetpu is None:
        yield [cpu], Choice(backend=engine.backend, reason=NO_FILE)
        return
    process: TpuProcess | None = None
    try:
        try:
            process, tpu = _on_tpu(artifact, artifact.edgetpu, settings)
        except EdgeAgentError as error:
            yield [cpu], Choice(backend=engine.backend, reason=f"no TPU: {error.what}")
            return
        yield [cpu, tpu], _choice(artifact, settings, cpu, tpu)
    finally:
        if process is not None:
            process.reap()


def _on_tpu(artifact: Artifact, compiled: bytes, settings: InferenceConfig) -> tuple[TpuProcess, Variant]:
    """In the supervisor's order: library, devices, process, file, golden vectors."""
    tpu = settings.tpu
    library = devices.find_library(tpu.delegate)
    if library is None:
        raise EdgeAgentError(f"no library: {tpu.delegate or devices.LIBRARIES[0]}")
    device = tpu.devices[0]
    missing = devices.missing(tpu.sysfs, device)
    if missing is not None:
        raise EdgeAgentError(missing)
    where = artifact.edgetpu_path
    began = time.perf_counter_ns()
    process = TpuProcess(tpu.python)
    try:
        options = {**tpu.options, **({"device": device} if device else {})}
        remote = process.load(compiled, str(library), options, tpu.load_s, where)
        remote.limit_s = tpu.hang_ms / 1000
        engine = _Tpu(artifact, remote, where)
        off = verify(artifact, engine)
        tolerance = artifact.manifest.golden.tolerance
        if not off <= tolerance:
            raise EdgeAgentError(f"wrong answers: golden outputs differ by {off:.3g}, tolerance {tolerance:.3g}")
    except BaseException:
        process.reap()
        raise
    faults = () if CUSTOM_OPERATOR in compiled else ("no operator on the TPU",)
    init_ms = (time.perf_counter_ns() - began) / 1e6
    return process, Variant(artifact, engine, init_ms, lambda: _Tpu(artifact, remote, where), remote.invoke, faults)


def _choice(artifact: Artifact, settings: InferenceConfig, cpu: Variant, tpu: Variant) -> Choice:
    """By the daemon's own rule, timed as it times."""
    wanted = settings.engines.get(artifact.name, settings.engine)
    if wanted == "cpu":
        return Choice(backend=cpu.backend, reason="as configured")
    cases = list(zip(*artifact.golden_inputs, strict=True))
    timed = choice.measure([cpu.engine.invoke, tpu.engine.invoke], cases)
    chosen = choice.choose(wanted, "cpu", *timed)
    return Choice(backend=(tpu if chosen.engine == "tpu" else cpu).backend, reason=chosen.why)
