"""From beats and signal to the windows that models ask for, by their manifests alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from edge_agent.inference.feeding import feeding_of
from edge_agent.inference.manifest import FeatureInput, Manifest, ModelInput, RrInput, SignalInput
from edge_agent.journey import Samples, Window
from edge_agent.signal.ring import Overwritten, Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.signal.usual_beat import (
    BEFORE,
    RATE_HZ,
    SAMPLES,
    SHAPE_FEATURES,
    Running,
    UsualBeat,
    interval_is_long,
)
from edge_agent.signal.windows import Cutter, normalise

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pending:
    """A window whose last sample may not have come yet."""

    feeder: Feeder
    sample: int
    """The beat, or the last sample of a sliding window."""
    known: int
    """The newest sample that cutting it needs, the anchor's own ``known`` included."""
    numbers: tuple[Samples | None, ...]
    """The inputs that were ready at the anchor, in the manifest's order; None for those to be cut."""
    abstain: str | None = None
    long: bool = False
    """Whether its interval lets this beat become one of the patient's usual ones."""


Grid = tuple[float, int, int]
"""Rate, samples, samples before the anchor."""
Cut = tuple[Grid, int]
"""Of which channel, by its place in the ring."""
USUAL_GRID: Grid = (RATE_HZ, SAMPLES, BEFORE)


def _grid(part: SignalInput) -> Grid:
    return part.rate_hz, part.samples, part.before


class _Features:
    """What an input of features is made of, looked up once."""

    def __init__(self, part: FeatureInput) -> None:
        self.many = len(part.features)
        self.names = [name for name in part.features if name not in SHAPE_FEATURES]
        """Those known at the beat,"""
        self.places = [i for i, name in enumerate(part.features) if name not in SHAPE_FEATURES]
        """where they belong,"""
        self.shape_places = [i for i, name in enumerate(part.features) if name in SHAPE_FEATURES]
        """and where those belong that its shape will tell;"""
        self.shapes = [SHAPE_FEATURES.index(name) for name in part.features if name in SHAPE_FEATURES]
        """which these are."""
        self.all_shapes = self.shapes == list(range(len(SHAPE_FEATURES)))

    def at_beat(self, rr: RrHistory) -> Samples:
        """0 in place of those that the beat's shape will tell."""
        if not self.shapes:
            return rr.features(self.names)
        numbers = np.zeros(self.many, np.float32)
        if self.names:
            numbers[self.places] = rr.features(self.names)
        return numbers

    def with_shape(self, numbers: Samples, shape: Samples) -> Samples:
        if self.all_shapes and not self.names:
            return shape
        numbers = numbers.copy()
        numbers[self.shape_places] = shape[self.shapes]
        return numbers


class Feeder:
    """Feeds one model from one channel, and from others of its kind where an input names them.

    ``others``: the channels of this kind that the stream has, in order, by name; only where inputs want more than the own one.
    """

    def __init__(
        self, manifest: Manifest, channel: str, channel_index: int, fs: float, others: Mapping[str, int] | None = None
    ) -> None:
        self.manifest = manifest
        self.feeding = feeding_of(manifest)
        self.channel = channel
        self._index = channel_index
        self._fs = fs
        self._beats = 0
        # Inputs on the same grid share what is cut there.
        self._cutters: dict[Cut, Cutter] = {}
        self._from: dict[str, tuple[int, ...]] = {}
        there = {channel: channel_index, **(others or {})}
        names = [channel]
        self._usual: UsualBeat | None = None
        self._running: dict[Grid, Running] = {}
        self._features = {part.name: _Features(part) for part in manifest.inputs if isinstance(part, FeatureInput)}
        for part in manifest.inputs:
            if isinstance(part, SignalInput):
                named = channels_of(part, channel, list(others or there))
                names += named
                self._from[part.name] = tuple(there[name] for name in named)
                for index in self._from[part.name]:
                    self._cutter(_grid(part), index)
                if part.needs_usual:
                    self._running[_grid(part)] = Running(part.samples)
        self.channels = tuple(dict.fromkeys(names))
        """All that its windows are cut from, the own one first."""
        if any(part.needs_usual for part in manifest.inputs if not isinstance(part, RrInput)):
            self._usual = UsualBeat()
            self._cutter(USUAL_GRID, channel_index)
        cutters = self._cutters.values()
        first, end = min((one.first for one in cutters), default=0), max((one.end for one in cutters), default=0)
        self._reach = first, end

    def _cutter(self, grid: Grid, index: int) -> None:
        rate_hz, samples, before = grid
        made = Cutter(fs=self._fs, rate_hz=rate_hz, samples=samples, before=before, normalisation="none")
        self._cutters[grid, index] = made

    @property
    def reach(self) -> tuple[int, int]:
        """How far around its anchor a window reaches: samples before, samples after (end)."""
        return self._reach

    @property
    def stride(self) -> int | None:
        """Samples between two sliding windows; None for windows at beats."""
        anchor = self.manifest.anchor
        return max(1, round(anchor.stride_s * self._fs)) if anchor.kind == "slide" else None

    def at_beat(self, sample: int, known: int, rr: RrHistory) -> Iterator[Pending]:
        """The window that this beat asks for, if any."""
        anchor = self.manifest.anchor
        if anchor.kind == "slide":
            return
        self._beats += 1
        if anchor.kind == "rr" and self._beats % anchor.stride:
            return
        numbers: list[Samples | None] = []
        abstain = None
        for part in self.manifest.inputs:
            if isinstance(part, FeatureInput):
                numbers.append(self._features[part.name].at_beat(rr))
            elif isinstance(part, RrInput):
                sequence = rr.sequence(part.intervals, part.normalisation)
                if sequence is None:
                    abstain = "too few intervals"
                numbers.append(sequence)
            else:
                numbers.append(None)
        long = self._usual is not None and interval_is_long(rr)
        yield Pending(self, sample, max(known, sample + self.reach[1] - 1), tuple(numbers), abstain, long)

    def at_instant(self, end: int) -> Pending:
        """The sliding window that is anchored at ``end``: the index after the last sample that came before it."""
        last = end - 1
        return Pending(self, last, last + max(0, self.reach[1]), (None,) * len(self.manifest.inputs))

    def cut(self, pending: Pending, ring: Ring, quality: tuple[str, ...]) -> Window:
        """The window itself. ``quality``: why the channel is bad just now, empty when it is good or not judged yet."""
        abstain = pending.abstain
        if quality:
            abstain = "quality: " + ", ".join(quality)
        inputs: list[Samples] = []
        if abstain is None:
            windows = self._windows(pending.sample + (self.stride is not None), ring)
            if windows is None:
                abstain = "signal incomplete"
            else:
                shape, learning = None, "no"
                if self._usual is not None:
                    shape, learning = self._usual.feed(windows[USUAL_GRID, self._index], pending.long)
                inputs = [
                    self._input(part, number, windows, shape)
                    for part, number in zip(self.manifest.inputs, pending.numbers, strict=True)
                ]
                if learning != "no":
                    for grid, running in self._running.items():
                        running.take(windows[grid, self._index], afresh=learning == "afresh")
        return Window(
            model=self.manifest.name,
            channel=self.channel,
            sample=pending.sample,
            known=pending.known,
            inputs=() if abstain else tuple(inputs),
            abstain=abstain,
            feeding=self.feeding,
        )

    def _windows(self, anchor: int, ring: Ring) -> dict[Cut, Samples] | None:
        """What this model needs of the signal, as it is; None if some of it is missing."""
        windows = {}
        for (grid, index), cutter in self._cutters.items():
            try:
                window = cutter.cut(ring.view(index, anchor + cutter.first, anchor + cutter.end))
            except Overwritten:
                return None
            if window is None:
                return None
            windows[grid, index] = window
        return windows

    def _input(
        self, part: ModelInput, number: Samples | None, windows: dict[Cut, Samples], shape: Samples | None
    ) -> Samples:
        if isinstance(part, SignalInput):
            return self._signal(part, windows)
        assert number is not None  # at_beat abstains otherwise
        if shape is not None and isinstance(part, FeatureInput) and part.needs_usual:
            return self._features[part.name].with_shape(number, shape)
        return number

    def _signal(self, part: SignalInput, windows: dict[Cut, Samples]) -> Samples:
        grid, usual = _grid(part), None
        if part.needs_usual:
            usual = self._running[grid].mean
        scale, offset = 1.0 if part.scale is None else part.scale, part.offset or 0.0
        rows = []
        for index in self._from[part.name]:
            window = windows[grid, index]
            if part.source == "usual":
                window = np.zeros_like(window) if usual is None else usual
            rows.append(normalise(window, part.normalisation, usual, scale=scale, offset=offset))
        if len(rows) == 1:
            return rows[0]
        return np.concatenate(rows) if part.layout == "channels_first" else np.stack(rows, axis=1).reshape(-1)


def channels_of(part: SignalInput, own: str, there: list[str]) -> list[str]:
    """The names of the channels that an input is cut from; a KeyError for one that the stream has not."""
    if part.channels == "own":
        return [own]
    if part.channels == "all":
        if len(there) != part.channel_count:
            raise KeyError(f"{part.channel_count} channels of {part.signal}, it has {len(there)}")
        return there
    for name in part.channels:
        if name not in there:
            raise KeyError(f"the channel {name!r}")
    return list(part.channels)


def feeders_of(manifest: Manifest, channels: Mapping[str, int], fs: float) -> Iterator[Feeder]:
    """One for each channel that the model runs on. ``channels``: those of its kind that the stream has, in order, by name."""
    wanted = manifest.channels
    names = list(channels)[:1] if wanted == "first" else list(channels) if wanted == "each" else wanted
    for name in names:
        if name not in channels:
            continue
        try:
            yield Feeder(manifest, name, channels[name], fs, channels)
        except KeyError as error:
            log.warning("model %s does not run on channel %s: it wants %s", manifest.name, name, error.args[0])
    if channels and not set(names) & set(channels):
        log.warning("model %s runs on %s; this stream has %s", manifest.name, ", ".join(names), ", ".join(channels))
