"""Whole streams in one thread: the daemon's own pipeline and verdict lane, fed with a patient that was simulated beforehand."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from edge_agent.bench.windows import SINUS
from edge_agent.clock import LiveClock
from edge_agent.config import AlarmLimits
from edge_agent.events import Event
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import LoadedModel
from edge_agent.journey import Block, Samples
from edge_agent.pipeline import Pipeline
from edge_agent.sources import raw_blocks
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.stamp import Moment, Stamp
from edge_agent.verdicts import VerdictLane

PATIENTS = 8
"""Different ones; the streams take them in turn, each from another moment on."""
LEAD = "II"
MV_PER_COUNT = (0.001,)


def signals(fs: float, seconds: float, patients: int = PATIENTS) -> list[Samples]:
    """One lead of each patient, a row of samples, to 1 uV as boards have it."""
    rows = []
    for seed in range(patients):
        patient = SimulatedPatient(fs, (LEAD,), SINUS, seed)
        parts: list[Samples] = []
        missing = round(seconds * fs)
        while missing > 0:
            block = patient.read(min(missing, round(fs)))
            assert block is not None  # the script is a day long
            parts.append(block.values)
            missing -= block.values.shape[1]
        rows.append(np.concatenate(parts, axis=1)[0].astype(np.float32))
    return rows


class Journey:
    """One stream: bytes of a sensor in (binary blocks as they come over MQTT, int16), bytes of messages out."""

    def __init__(
        self, number: int, fs: float, row: Samples, first: int, block: int, models: Mapping[str, LoadedModel]
    ) -> None:
        """The stream's sample 0 is ``row[first]``; after its end the row begins anew. ``block``: samples that come at once."""
        info = StreamInfo(fs=fs, signals=(Signal(LEAD, "ecg", "mV"),))
        self._clock = LiveClock(fs)
        stamp = Stamp(device="bench", stream=f"bed{number}", session="bench", fs=fs, clock=self._clock)
        manifests = [model.artifact.manifest for model in models.values()]
        limits = AlarmLimits()
        self._pipeline = Pipeline(info, models=manifests, limits=limits, detector="native", stamp=stamp)
        self._lane = VerdictLane(
            fs=fs,
            ask=Judge(dict(models)).ask,
            tasks={manifest.name: manifest.task for manifest in manifests},
            limits=limits,
            stamp=stamp,
            channels=(LEAD,),
        )
        self._raw = raw_blocks.Info(fs, (LEAD,), ("mV",))
        self._fs, self._row, self._at, self._block = fs, row, first % len(row), block
        self._sent = 0
        self._bytes: bytes = b""
        self.prepare()

    def prepare(self) -> None:
        """The next block's bytes, as a sensor would have sent them: not part of what is timed."""
        at, row = self._at, self._row
        values = row[at : at + self._block]
        if len(values) < self._block:
            values = np.concatenate([values, row[: self._block - len(values)]])
        self._at = (at + self._block) % len(row)
        block = raw_blocks.RawBlock(self._sent, self._sent * self._block, 1, values[None, :])
        self._sent += 1
        self._bytes = raw_blocks.encode_binary(block, self._raw, scale=MV_PER_COUNT)

    def take(self, arrived_ns: int, said: Callable[[int], None]) -> int:
        """The block that arrived at ``arrived_ns``; ``said`` is told the moment of each message. When it began."""
        started_ns = time.monotonic_ns()
        raw = raw_blocks.decode(self._bytes, self._raw)
        block = Block(raw.first, self._fs, raw.values, lead_off=raw.lead_off, arrived_ns=arrived_ns)
        moment = Moment(arrived_ns, started_ns)
        self._clock.arrived(block.end, arrived_ns)
        lane = self._lane
        for item in self._pipeline.feed(block, moment):
            if isinstance(item, Event):
                item.payload()
                said(time.monotonic_ns())
            else:
                for event in lane.take(item, moment):
                    event.payload()
                    said(time.monotonic_ns())
        return started_ns


def warm(journeys: Sequence[Journey], blocks: int) -> None:
    """So much of each stream as fast as it goes, so that histories are as long as a running device's."""
    for journey in journeys:
        for _ in range(blocks):
            journey.take(time.monotonic_ns(), _nobody)
            journey.prepare()


def _nobody(_: int) -> None:
    pass
