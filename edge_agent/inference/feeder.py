"""From beats and signal to the windows that models ask for, by their manifests alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

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
USUAL_GRID: Grid = (RATE_HZ, SAMPLES, BEFORE)


def _grid(part: SignalInput) -> Grid:
    return part.rate_hz, part.samples, part.before


def _rr_features(part: FeatureInput, rr: RrHistory) -> Samples:
    """Those known at the beat; 0 in place of those that its shape will tell."""
    names = [name for name in part.features if name not in SHAPE_FEATURES]
    if len(names) == len(part.features):
        return rr.features(names)
    numbers = np.zeros(len(part.features), np.float32)
    numbers[[name not in SHAPE_FEATURES for name in part.features]] = rr.features(names)
    return numbers


class Feeder:
    """Feeds one model from one channel."""

    def __init__(self, manifest: Manifest, channel: str, channel_index: int, fs: float) -> None:
        self.manifest = manifest
        self.channel = channel
        self._index = channel_index
        self._fs = fs
        self._beats = 0
        # Inputs on the same grid share what is cut there.
        self._cutters: dict[Grid, Cutter] = {}
        self._usual: UsualBeat | None = None
        self._running: dict[Grid, Running] = {}
        for part in manifest.inputs:
            if isinstance(part, SignalInput):
                self._cutter(_grid(part))
                if part.needs_usual:
                    self._running[_grid(part)] = Running(part.samples)
        if any(part.needs_usual for part in manifest.inputs if not isinstance(part, RrInput)):
            self._usual = UsualBeat()
            self._cutter(USUAL_GRID)

    def _cutter(self, grid: Grid) -> None:
        rate_hz, samples, before = grid
        self._cutters[grid] = Cutter(fs=self._fs, rate_hz=rate_hz, samples=samples, before=before, normalisation="none")

    @property
    def reach(self) -> tuple[int, int]:
        """How far around its anchor a window reaches: samples before, samples after (end)."""
        cutters = self._cutters.values()
        return min((cutter.first for cutter in cutters), default=0), max((cutter.end for cutter in cutters), default=0)

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
                numbers.append(_rr_features(part, rr))
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
                    shape, learning = self._usual.feed(windows[USUAL_GRID], pending.long)
                inputs = [
                    self._input(part, number, windows, shape)
                    for part, number in zip(self.manifest.inputs, pending.numbers, strict=True)
                ]
                if learning != "no":
                    for grid, running in self._running.items():
                        running.take(windows[grid], afresh=learning == "afresh")
        return Window(
            model=self.manifest.name,
            channel=self.channel,
            sample=pending.sample,
            known=pending.known,
            inputs=() if abstain else tuple(inputs),
            abstain=abstain,
        )

    def _windows(self, anchor: int, ring: Ring) -> dict[Grid, Samples] | None:
        """What this model needs of the signal, as it is; None if some of it is missing."""
        windows = {}
        for grid, cutter in self._cutters.items():
            try:
                window = cutter.cut(ring.view(self._index, anchor + cutter.first, anchor + cutter.end))
            except Overwritten:
                return None
            if window is None:
                return None
            windows[grid] = window
        return windows

    def _input(
        self, part: ModelInput, number: Samples | None, windows: dict[Grid, Samples], shape: Samples | None
    ) -> Samples:
        if isinstance(part, SignalInput):
            window = windows[_grid(part)]
            usual = self._running[_grid(part)].mean if part.needs_usual else None
            if part.source == "usual":
                window = np.zeros_like(window) if usual is None else usual
            return normalise(window, part.normalisation, usual)
        assert number is not None  # at_beat abstains otherwise
        if shape is not None and isinstance(part, FeatureInput) and part.needs_usual:
            number = number.copy()
            for i, name in enumerate(part.features):
                if name in SHAPE_FEATURES:
                    number[i] = shape[SHAPE_FEATURES.index(name)]
        return number
