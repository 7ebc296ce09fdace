"""The learned part of the second opinion: from an artifact to a function of a few numbers."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

import numpy as np

from edge_agent.alarms.opinion import Combiner
from edge_agent.inference.artifact import Artifact, feeds_of
from edge_agent.inference.engine import CpuEngine
from edge_agent.inference.manifest import EvidenceInput


def combiner_of(artifacts: Iterable[Artifact]) -> Combiner | None:
    """Of the first artifact that is made for it; None if there is none.

    It gets an engine of its own, always on the CPU: a dozen multiplications need no TPU, and must not wait for one that hangs.
    """
    for artifact in artifacts:
        manifest = artifact.manifest
        part = manifest.inputs[0]
        if manifest.anchor.kind != "alarm" or not isinstance(part, EvidenceInput) or len(manifest.inputs) != 1:
            continue
        engine = CpuEngine(artifact.tflite, feeds_of(manifest), manifest.output_size)
        turn = threading.Lock()  # an interpreter serves one at a time

        def ask(numbers: Sequence[float], engine: CpuEngine = engine, turn: threading.Lock = turn) -> float:
            with turn:
                return float(engine.invoke((np.array(numbers, np.float32),))[-1])

        label = manifest.labels[1]
        threshold = manifest.output.thresholds.get(label, 0.5)
        return Combiner(manifest.name, manifest.version, tuple(part.numbers), threshold, ask)
    return None
