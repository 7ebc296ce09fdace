"""What a TPU's supervisor knows of each model, and what it says of itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from edge_agent.inference.artifact import Artifact
from edge_agent.inference.engine import Engine
from edge_agent.inference.tflite.file import Tflite
from edge_agent.inference.tpu.choice import Choice, Timing
from edge_agent.inference.tpu.failover import FailoverEngine
from edge_agent.inference.tpu.settings import EngineName

State = Literal["tpu", "cpu", "degraded"]


@dataclass(slots=True)
class Member:
    """A model that may run on this TPU."""

    artifact: Artifact
    tflite: bytes
    """Compiled for it."""
    engine: FailoverEngine
    wanted: EngineName
    choice: Choice = field(default_factory=lambda: Choice("cpu", "the TPU is not proven yet"))
    fault: str = ""
    """Why this model alone has no seat."""
    cpu: Timing | None = None
    tpu: Timing | None = None
    # Kept, since a TPU that comes back must not take time from the streams that it can do without:
    vetted: Tflite | None = None
    """The file, once it was read and found fit to be run."""
    beside: Engine | None = None
    """A second CPU engine to be timed against the TPU: the other one is the models' thread's."""


@dataclass(frozen=True, slots=True)
class Status:
    state: State
    reason: str
    since: datetime
