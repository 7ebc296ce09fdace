"""Windows out of a recording by the manifest alone, cut by the daemon's own feeder: for corrections and for attribution."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_agent.errors import EdgeAgentError
from edge_agent.inference.feeder import Feeder
from edge_agent.inference.manifest import FeatureInput, Manifest, SignalInput
from edge_agent.signal.qrs import make_qrs_detector
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.sources.open import open_recording, record_name
from edge_train.arrays import Floats, Ints
from edge_train.data.windows import Windows
from edge_train.errors import DataError
from edge_train.reference import Reference

Doubles = NDArray[np.float64]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Signal:
    """One channel of a recording."""

    record: str
    channel: str
    unit: str
    fs: float
    values: Floats
    """NaN where there is none."""
    began_us: int = 0
    """Microseconds since 1970 of sample 0; 0 where the recording does not say."""


@dataclass(frozen=True, slots=True)
class Cut:
    """The windows that the daemon would have asked the model about."""

    sample: Ints
    """Anchor of each: the beat, or the last sample of a sliding window."""
    inputs: dict[str, Floats]
    """By the manifest's names, a flat row each."""
    silent: Ints
    """Anchors for which it would have asked nothing: too near the record's ends, or samples missing."""

    def __len__(self) -> int:
        return int(self.sample.size)


def read_signal(path: Path, kind: str, channel: str | None = None, remedy: str = "") -> Signal:
    """The channel so named, or the record's first of that kind; ``remedy`` is for whoever can name one."""
    try:
        recording = open_recording(path)
    except EdgeAgentError as error:
        raise DataError(str(error)) from None
    try:
        info = recording.info
        names = list(info.named(kind)) if channel is None else [channel]  # type: ignore[arg-type]  # a manifest's kinds are Kinds
        there = [signal.name for signal in info.signals]
        if not names:
            raise DataError(f"{path}: no {kind} among its channels ({', '.join(there)}){remedy}")
        if names[0] not in there:
            raise DataError(f"{path}: no channel {names[0]!r}; there are: {', '.join(there)}")
        index = info.index[names[0]]
        parts, at = [], 0
        while True:
            x = recording.read(at, 1 << 20)
            if not x.shape[1]:
                break
            parts.append(np.asarray(x[index], np.float32))
            at += x.shape[1]
    except EdgeAgentError as error:
        raise DataError(str(error)) from None
    finally:
        recording.close()
    if not parts:
        raise DataError(f"{path}: holds no samples")
    began_us = 0 if info.began is None else (info.began - EPOCH) // timedelta(microseconds=1)
    return Signal(record_name(path), names[0], info.signals[index].unit, info.fs, np.concatenate(parts), began_us)


def detect(signal: Signal) -> Ints:
    """R peaks by the daemon's own detector."""
    detector = make_qrs_detector(signal.fs, signal.channel)
    found = [*detector.feed(signal.values, 0), *detector.flush()]
    return np.array(sorted(beat.sample for beat in found), np.int64)


def at_beats(signal: Signal, beats: Ints, manifest: Manifest, wanted: Ints | None = None) -> Cut:
    """A window at each of ``beats`` (or of those that are ``wanted``); all of them are the rhythm's history."""
    if manifest.anchor.kind == "slide":
        raise DataError(f"{manifest.name} slides over time; it has no beats")
    feeder, ring = _feeder(signal, manifest)
    chosen = None if wanted is None else set(wanted.tolist())
    history = RrHistory(signal.fs)
    sample: list[int] = []
    silent: list[int] = []
    rows: list[tuple[Floats, ...]] = []
    for beat in beats.tolist():
        history.beat(beat)
        for pending in feeder.at_beat(beat, beat, history):
            window = feeder.cut(pending, ring, ())  # of every beat: the feeder learns the usual one from them
            if chosen is not None and beat not in chosen:
                continue
            if window.abstain:
                silent.append(beat)
            else:
                sample.append(beat)
                rows.append(window.inputs)
    return _cut(manifest, sample, silent, rows)


def sliding(signal: Signal, manifest: Manifest) -> Cut:
    """Every window on the daemon's grid of absolute samples."""
    if manifest.anchor.kind != "slide":
        raise DataError(f"{manifest.name} is asked at beats; it does not slide")
    feeder, ring = _feeder(signal, manifest)
    stride = feeder.stride
    assert stride is not None
    sample: list[int] = []
    silent: list[int] = []
    rows: list[tuple[Floats, ...]] = []
    for end in range(-feeder.reach[0], signal.values.size + 1, stride):
        pending = feeder.at_instant(end)
        window = feeder.cut(pending, ring, ())
        if window.abstain:
            silent.append(pending.sample)
        else:
            sample.append(pending.sample)
            rows.append(window.inputs)
    return _cut(manifest, sample, silent, rows)


def _feeder(signal: Signal, manifest: Manifest) -> tuple[Feeder, Ring]:
    ring = Ring(1, max(1, signal.values.size))
    ring.push(signal.values[None])
    return Feeder(manifest, signal.channel, 0, signal.fs), ring


def _cut(manifest: Manifest, sample: list[int], silent: list[int], rows: list[tuple[Floats, ...]]) -> Cut:
    columns = zip(*rows, strict=True) if rows else [[] for _ in manifest.inputs]
    inputs = {part.name: np.array(column, np.float32) for part, column in zip(manifest.inputs, columns, strict=True)}
    return Cut(np.array(sample, np.int64), inputs, np.array(silent, np.int64))


def stretch_of(manifest: Manifest, fs: float) -> tuple[float, float]:
    """What the signal inputs span, in samples relative to the anchor: first, and the one after the last."""
    spans = [
        (-part.before * fs / part.rate_hz, (part.samples - part.before) * fs / part.rate_hz)
        for part in manifest.inputs
        if isinstance(part, SignalInput)
    ]
    return min((first for first, _ in spans), default=0.0), max((end for _, end in spans), default=0.0)


def grid(part: SignalInput, anchor: int, fs: float) -> Doubles:
    """Where each number of a signal input stands in the stream, in samples of the stream (not whole where rates differ)."""
    return np.asarray(anchor + (np.arange(part.samples) - part.before) * (fs / part.rate_hz), np.float64)


def anchor_of(manifest: Manifest, sample: int) -> int:
    """The feeder counts a sliding window from the index after its last sample."""
    return sample + (manifest.anchor.kind == "slide")


def saturated(inputs: dict[str, Floats], manifest: Manifest, tflite: bytes) -> dict[str, Floats]:
    """Numbers that are no signal, limited to what the int8 file's input can hold: so the float model sees what the device's does."""
    ranges = _ranges(tflite, manifest)
    return {
        part.name: np.clip(inputs[part.name], *ranges[part.name]).astype(np.float32)
        if isinstance(part, FeatureInput)
        else inputs[part.name]
        for part in manifest.inputs
    }


def _ranges(tflite: bytes, manifest: Manifest) -> dict[str, tuple[float, float]]:
    ranges = {}
    for part, tensor in zip(manifest.inputs, Reference(tflite).inputs, strict=True):
        if tensor.dtype == np.float32:
            ranges[part.name] = (-np.inf, np.inf)
        else:
            limits = np.iinfo(tensor.dtype)
            ranges[part.name] = (
                float(limits.min - tensor.zero_point) * tensor.scale,
                float(limits.max - tensor.zero_point) * tensor.scale,
            )
    return ranges


def as_windows(cut: Cut, label: Ints, group: str, record: str) -> Windows:
    return Windows(
        cut.inputs,
        label,
        np.array([group] * len(cut)),
        np.array([f"{record}:{at}" for at in cut.sample.tolist()]),
    )
