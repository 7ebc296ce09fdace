"""From beats and signal to the windows that models ask for, by their manifests alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from edge_agent.inference.manifest import FeatureInput, Manifest, RrInput, SignalInput
from edge_agent.journey import Samples, Window
from edge_agent.signal.ring import Overwritten, Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.signal.windows import Cutter


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


class Feeder:
    """Feeds one model from one channel."""

    def __init__(self, manifest: Manifest, channel: str, channel_index: int, fs: float) -> None:
        self.manifest = manifest
        self.channel = channel
        self._index = channel_index
        self._fs = fs
        self._cutters: list[tuple[str, Cutter] | None] = []
        self._beats = 0
        # Two inputs that cut the same stretch to the same grid share one cutter's table through its cache.
        for part in manifest.inputs:
            self._cutters.append(
                (
                    part.name,
                    Cutter(
                        fs=fs,
                        rate_hz=part.rate_hz,
                        samples=part.samples,
                        before=part.before,
                        normalisation=part.normalisation,
                    ),
                )
                if isinstance(part, SignalInput)
                else None
            )

    @property
    def reach(self) -> tuple[int, int]:
        """How far around its anchor a window reaches: samples before, samples after (end)."""
        cutters = [entry[1] for entry in self._cutters if entry is not None]
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
                numbers.append(rr.features(part.features))
            elif isinstance(part, RrInput):
                sequence = rr.sequence(part.intervals, part.normalisation)
                if sequence is None:
                    abstain = "too few intervals"
                numbers.append(sequence)
            else:
                numbers.append(None)
        yield Pending(self, sample, max(known, sample + self.reach[1] - 1), tuple(numbers), abstain)

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
        anchor = pending.sample + (self.stride is not None)
        if abstain is None:
            for number, entry in zip(pending.numbers, self._cutters, strict=True):
                if entry is None:
                    assert number is not None  # at_beat abstains otherwise
                    inputs.append(number)
                    continue
                cutter = entry[1]
                try:
                    x = ring.view(self._index, anchor + cutter.first, anchor + cutter.end)
                except Overwritten:
                    abstain = "signal incomplete"
                    break
                window = cutter.cut(x)
                if window is None:
                    abstain = "signal incomplete"
                    break
                inputs.append(window)
        return Window(
            model=self.manifest.name,
            channel=self.channel,
            sample=pending.sample,
            known=pending.known,
            inputs=() if abstain else tuple(inputs),
            abstain=abstain,
        )
