"""What travels: bytes become blocks, blocks beats, beats windows, windows verdicts (and all of them events).

Each step takes what the step before made and knows nothing of the step after. Everything here is frozen, small and
free of behaviour, so that a step can be tested by making its input by hand.

Two indices are on everything that a step derives from samples:

``sample``
    where in the signal it *is*: the R peak, the foot of the upstroke, the end of a quality second;
``known``
    the newest sample that was needed to say so. It never depends on how the signal was cut into blocks, which is what
    makes a replay give the events of the live run. ``known - sample`` is the delay of the method itself.

All indices are absolute: samples since the stream began, lost ones counted.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.float32]
UNREADABLE = frozenset({"lead_off", "flat", "missing"})
"""Reasons of a `Quality` that leave nothing to read."""


@dataclass(frozen=True, slots=True)
class Block:
    """A stretch of a stream: all its channels at one rate, in physical units (mV, mmHg, NU)."""

    first: int
    """Absolute index of the first sample."""
    fs: float
    """Nominal samples per second."""
    values: Samples
    """Shape (channels, samples). NaN where the source has no valid value."""
    lost_before: int = 0
    """Samples lost just before this block; ``first`` already counts them."""
    lost_exact: bool = False
    """They were counted (by sequence numbers, or by a recording's own index), not estimated."""
    lost_cause: str = ""
    """Why they are missing, where the source knows."""
    lead_off: frozenset[str] = frozenset()
    """Channels whose electrode or line is off for the whole block (a source cuts blocks where this changes)."""
    arrived_ns: int = 0
    """Monotonic clock when the newest byte of this block arrived; 0 when the source does not wait (replay)."""

    @property
    def end(self) -> int:
        """Index after the last sample."""
        return self.first + int(self.values.shape[1])


@dataclass(frozen=True, slots=True)
class Beat:
    """A QRS complex in one ECG channel."""

    channel: str
    sample: int
    """The R peak (largest deflection from the baseline, of either polarity)."""
    known: int
    confidence: float
    """0 to 1: how sure the detector is that this is a beat."""


@dataclass(frozen=True, slots=True)
class Onset:
    """The foot of a pressure (or pleth) upstroke, said as soon as it is sure."""

    channel: str
    sample: int
    known: int


@dataclass(frozen=True, slots=True)
class Pulse:
    """A whole pressure pulse, from its onset to the next (or to the time-out), with its numbers."""

    channel: str
    sample: int
    """The onset."""
    known: int
    end: int
    """The next onset, or where waiting for it was given up."""
    systolic: float
    diastolic: float
    mean: float
    area: float
    """Above the diastolic pressure, over the pulse: mmHg x s."""
    rate_per_min: float | None
    """From this onset to the next; None after a time-out."""
    reasons: tuple[str, ...] = ()
    """Why this pulse is not to be trusted (jSQI's rules, line faults); empty when it is good."""
    alike: float | None = None
    """-1 to 1: correlation of its first 0.4 s with the patient's usual pulse; None while that is not known."""


@dataclass(frozen=True, slots=True)
class Quality:
    """What a channel was worth over the stretch that ends at ``sample``."""

    channel: str
    first: int
    """First sample judged."""
    sample: int
    """Index after the last sample judged."""
    known: int
    score: float
    """0 (nothing to be had) to 1 (clean)."""
    reasons: tuple[str, ...] = ()
    """Empty when good. ECG: lead_off, missing, flat, saturated, noise, wander, hum, disagreement.
    Pressure: lead_off, missing, flat, clipped, damped, flush, drift, noise, calibration."""
    borne: tuple[str, ...] = ()
    """Faults that hide no beats: noise that the beats stand out from, hum. Shapes are another matter."""

    @property
    def good(self) -> bool:
        return not self.reasons

    @property
    def unreadable(self) -> bool:
        """There is nothing to read, as against something that is disturbed."""
        return not UNREADABLE.isdisjoint(self.reasons)

    @property
    def unconnected(self) -> bool:
        """As far as that can be told: values that are missing were lost on the way."""
        return self.unreadable and "missing" not in self.reasons


@dataclass(frozen=True, slots=True)
class Texture:
    """What the last three seconds of an ECG lead look like, whatever the beat detector made of them; four times a second.

    Typical: a sinus rhythm has ``alike`` > .9, ``peaked`` > 6, ``slow`` < .6; ventricular flutter ``alike`` < .6, ``peaked`` < 3,
    ``slow`` > .8, ``repeats`` > .5; movement repeats little and is unsteady.
    """

    channel: str
    sample: int
    """Index after the last sample looked at."""
    known: int
    repeats: float
    """0 to 1: the highest peak of the autocorrelation between 0.2 s and 0.62 s (97 to 300 /min)."""
    period_s: float
    """Where that peak is."""
    alike: float
    """-1 to 1: the best correlation of any instant with the patient's usual beat; 0 while none is known."""
    slow: float
    """0 to 1: the share of 1-20 Hz that lies below 6 Hz."""
    concentration: float
    """0 to 1: the share of 1-20 Hz around the strongest frequency and its double."""
    peak_hz: float
    """The strongest frequency of 1-10 Hz."""
    peaked: float
    """Kurtosis: 1.5 is a sine, 3 is noise; narrow complexes on a quiet line reach 10 and more."""
    steady: float
    """0 to 1: the quietest half second's amplitude against the loudest's."""
    size_log: float
    """Natural logarithm of the amplitude against what is usual (the median of the two minutes before); 0 while that is not known."""
    last_size_log: float
    """The same for the last second alone."""
    unlike_s: float
    """Seconds since anything resembled the patient's usual beat, or since comparing began."""
    usual: float
    """0 to 1: how much the patient's usual beats resemble each other; 0 while no usual beat is known. Under .6 this lead knows no usual
    beat worth comparing with, and ``alike`` and ``unlike_s`` mean little."""


@dataclass(frozen=True, slots=True)
class BeatShape:
    """How a beat of an ECG lead compares with the patient's usual one (the median of the two minutes before) and with its neighbour."""

    channel: str
    sample: int
    """The beat's."""
    known: int
    alike: float
    """-1 to 1: correlation of its QRS with the usual one; 0 while none is known."""
    again: float
    """-1 to 1: correlation of its QRS with that of the beat before."""
    slope_log: float
    """Natural logarithm of its steepness (size aside) against the usual one's; wide beats are below 0."""
    size_log: float
    """The same for its size."""


@dataclass(frozen=True, slots=True)
class Gap:
    """Samples that never came (or were overwritten before they were read)."""

    first: int
    sample: int
    """Index after the last lost sample."""
    cause: str

    @property
    def known(self) -> int:
        return self.sample


@dataclass(frozen=True, slots=True)
class Window:
    """What one model is asked: its inputs, cut and normalised as its manifest says."""

    model: str
    channel: str
    sample: int
    """The anchor: the beat for a beat window, the last sample for a sliding window."""
    known: int
    inputs: tuple[Samples, ...]
    """Float inputs in the manifest's order; empty when the model abstains."""
    abstain: str | None = None
    """Why the model is not asked (poor quality, too little history); None when it is."""
    feeding: str = ""
    """What it was cut for (``inference.feeding``): models may be changed while windows wait. Empty: for whatever runs now."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a model said of a window, or why it said nothing."""

    window: Window
    label: str | None
    """None for an abstention."""
    scores: dict[str, float]
    model: str
    version: str
    digest: str
    backend: str
    reason: str | None = None
    """Of an abstention."""
    invoke_us: float = 0.0
