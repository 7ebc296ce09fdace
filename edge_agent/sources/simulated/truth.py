"""What is true of the simulated samples: beats, pulses, episodes and the alarms that a correct agent raises."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from edge_agent.sources.simulated.ecg import ECG_LEADS
from edge_agent.sources.simulated.script import Episode, Span

KEPT_S = 3600.0
"""Truth older than this is dropped, so that an endless patient stays small."""


@dataclass(frozen=True, slots=True)
class TrueBeat:
    """A ventricular beat."""

    sample: int
    """The QRS's largest deflection in the patient's first ECG channel."""
    label: str
    """N (any conducted beat), S (premature or supraventricular), V (ventricular), Q (paced)."""
    rhythm: str
    shape: str = "normal"
    """Which QRS: normal, lbbb, rbbb, paced, pvc_a, pvc_b, vt_a, vt_b."""


@dataclass(frozen=True, slots=True)
class TruePulse:
    """A pressure pulse in the artery, whatever the line then made of it."""

    sample: int
    """The foot of the upstroke."""
    systolic: float
    diastolic: float
    """At the foot."""
    mean: float
    """From this foot to the next, or for 3 s."""
    beat: int
    """The R peak (sample) of the beat that ejected it."""
    stroke: float
    """Stroke volume as a share of the usual."""
    line: str | None = None
    """The line's fault at the foot, if any: the samples then do not show this pulse as it is."""


@dataclass(frozen=True, slots=True)
class TrueEpisode:
    """A stretch of the script in samples."""

    name: str
    rhythm: str
    first: int
    end: int
    """Index after its last sample, as scripted."""
    expected: tuple[str, ...]
    """Alarms that a correct agent raises for this stretch (some time after `first`, perhaps shortly after `end`)."""
    tolerated: tuple[str, ...]
    """Alarms that it may raise: their definition is met in part, or another alarm's name covers them."""
    episode: Episode


class Truth:
    """The truth up to the last sample read, an hour of it at most."""

    def __init__(self, fs: float) -> None:
        self._fs = fs
        self.kept_s: float | None = None
        """An hour, where nothing else is said."""
        self._beats: deque[TrueBeat] = deque()
        self._pulses: deque[TruePulse] = deque()
        self._pulse_known: deque[int] = deque()
        self._episodes: deque[TrueEpisode] = deque()
        self._read = 0

    @property
    def beats(self) -> tuple[TrueBeat, ...]:
        return tuple(beat for beat in self._beats if beat.sample < self._read)

    @property
    def pulses(self) -> tuple[TruePulse, ...]:
        """Those that have ended: their numbers are of whole pulses."""
        return tuple(pulse for pulse, end in zip(self._pulses, self._pulse_known, strict=True) if end <= self._read)

    @property
    def episodes(self) -> tuple[TrueEpisode, ...]:
        """Those that have begun."""
        return tuple(episode for episode in self._episodes if episode.first < self._read)

    def add_beat(self, beat: TrueBeat) -> None:
        self._beats.append(beat)

    def add_pulse(self, pulse: TruePulse, end: int) -> None:
        self._pulses.append(pulse)
        self._pulse_known.append(end)

    def add_episode(self, episode: TrueEpisode) -> None:
        self._episodes.append(episode)

    def read_up_to(self, sample: int) -> None:
        """Samples below `sample` have been handed out."""
        self._read = sample
        oldest = sample - (KEPT_S if self.kept_s is None else self.kept_s) * self._fs
        while self._beats and self._beats[0].sample < oldest:
            self._beats.popleft()
        while self._pulses and self._pulses[0].sample < oldest:
            self._pulses.popleft()
            self._pulse_known.popleft()
        while self._episodes and self._episodes[0].end < oldest:
            self._episodes.popleft()


VENTRICULAR = frozenset({"ventricular_run", "ventricular_couplet", "ventricular_bigeminy"})
PULSELESS_S = 12.0
"""Of electrical activity without a pulse: what was ejected before must first have run off."""

LEAST_SNR_DB = 12.0
"""From here on whoever looks at the strip sees every QRS (noise of a tenth of its height): every alarm is expected, and none of noise.
Below it a clinical alarm that is true may still come, and need not."""


class Expectation:
    """Walks the episodes in order and says which alarms each calls for.

    The definitions are the Challenge 2015's (asystole 4 s, below 40 /min over 5 beats, above 140 /min over 17, five
    ventricular beats above 100 /min, 4 s of ventricular flutter or fibrillation), MAP below 65 mmHg for a minute, and
    45 s of atrial fibrillation. A stretch too close to a limit to call is tolerated rather than expected.
    """

    def __init__(self, channels: Sequence[str]) -> None:
        self._ecg = frozenset(channels) & frozenset(ECG_LEADS)
        self._all = frozenset(channels)
        self._pressure = "ABP" in self._all
        self._runs: dict[str, float] = {}

    def _run(self, name: str, holds: bool, span: Span) -> float:
        """How long `name` has held at the end of this span."""
        self._runs[name] = self._runs.get(name, 0.0) + span.end_s - span.start_s if holds else 0.0
        return self._runs[name]

    def of(self, span: Span) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(expected, tolerated) of the next span."""
        episode = span.episode
        expected: set[str] = set()
        tolerated: set[str] = set()
        self._rhythm(span, expected, tolerated)
        visible = bool(self._ecg - episode.lead_off)
        noisy = self._noisy(episode)
        if noisy:
            tolerated |= expected
            expected.clear()
        if not visible:
            expected.clear()
            tolerated.clear()
        length_s = span.end_s - span.start_s
        if visible and noisy and episode.snr_db is not None:
            loud = episode.snr_db <= 0.0 and length_s >= 10.0 and set(episode.noise) != {"wander"}
            (expected if loud else tolerated).add("ecg_noise")
        if self._all & episode.lead_off:
            expected.add("lead_off")
        if self._pressure and "ABP" in episode.lead_off:
            tolerated.add("abp_artifact")
        elif self._pressure:
            self._arterial(span, expected, tolerated)
        return tuple(sorted(expected)), tuple(sorted(tolerated - expected))

    @staticmethod
    def _noisy(episode: Episode) -> bool:
        return episode.snr_db is not None and episode.snr_db < LEAST_SNR_DB

    def _rhythm(self, span: Span, expected: set[str], tolerated: set[str]) -> None:
        episode = span.episode
        rhythm, rate = episode.rhythm, episode.rate_per_min
        beats_s = 60.0 / rate if rate else 1.0

        def judge(kind: str, run_s: float, sure_s: float, perhaps_s: float) -> None:
            if run_s >= sure_s:
                expected.add(kind)
            elif run_s >= perhaps_s:
                tolerated.add(kind)

        still = self._run("asystole", rhythm == "asystole", span)
        judge("asystole", still, 4.5, 2.0)
        if still < 4.5:
            judge("pause", still, 3.2, 1.0)
        else:  # a pause on its way to an asystole
            tolerated.add("pause")
        if still:  # five beats with a pause among them may be fewer than 40 a minute
            tolerated.add("bradycardia")
        chaos = rhythm in ("vf", "vflutter")
        judge("ventricular_fibrillation", self._run("vf", chaos, span), 5.0, 2.0)
        if chaos:
            # No QRS for three seconds is a pause before four of them are a fibrillation. An asystole is another thing.
            tolerated |= {"pause", "ventricular_tachycardia", "tachycardia", "bradycardia"} | VENTRICULAR
        fast_vt = rhythm == "vt" and rate >= 105.0
        judge("ventricular_tachycardia", self._run("vt", fast_vt, span), 6.0 * beats_s + 1.0, 3.0 * beats_s)
        if rhythm == "vt":
            tolerated |= {"ventricular_tachycardia", "tachycardia"} if rate > 95.0 else set()
            # A fast tachycardia and a slow flutter are the same picture; only its name is in doubt, not what must be done.
            tolerated |= {"ventricular_fibrillation"} if rate >= 135.0 else set()
            tolerated |= VENTRICULAR
        bigeminal = self._run("bigeminy", rhythm == "bigeminy", span)
        judge("ventricular_bigeminy", bigeminal, 10.0 * beats_s + 2.0, 0.1)
        if rhythm in ("bigeminy", "trigeminy", "couplets") or episode.pvc_per_min:
            tolerated |= VENTRICULAR
        if rhythm in (
            "af",
            "flutter",
            "paced",
            "lbbb",
            "rbbb",
        ):  # broad or early: a model may call single beats ventricular
            tolerated |= VENTRICULAR
        judge("atrial_fibrillation", self._run("af", rhythm == "af", span), 45.0, 10.0)
        if rhythm == "flutter":
            tolerated.add("atrial_fibrillation")
        carried = not chaos and rhythm not in ("vt", "asystole")
        irregular = rhythm in ("af", "flutter", "bigeminy", "trigeminy", "couplets")
        slow = self._run("slow", carried and rate <= (32.0 if irregular else 38.0), span)
        judge("bradycardia", slow, 6.0 * beats_s + 2.0, 3.0 * beats_s)
        if carried and rate <= (60.0 if irregular else 42.0):
            tolerated.add("bradycardia")
        fast = self._run("fast", carried and rate >= (160.0 if irregular else 145.0), span)
        judge("tachycardia", fast, 18.0 * beats_s + 2.0, 8.0 * beats_s)
        if carried and rate >= (115.0 if irregular else 135.0):
            tolerated.add("tachycardia")

    def _arterial(self, span: Span, expected: set[str], tolerated: set[str]) -> None:
        episode = span.episode
        length_s = span.end_s - span.start_s
        fault = episode.line
        shown = fault in (None, "drift")
        low = self._run("low", shown and episode.ejects and episode.rhythm != "vt" and episode.mean_mmhg < 63.0, span)
        weak = not episode.ejects or episode.rhythm == "vt"
        if weak:
            tolerated.add("pulse_lost")
        carried = episode.rhythm not in ("vt", "asystole", "vf", "vflutter") and bool(self._ecg - episode.lead_off)
        if episode.pulseless and carried and shown and length_s >= PULSELESS_S and not self._noisy(episode):
            expected.add("pulse_lost")
        # Beats that eject little take some pressure with them.
        share = 1.0 if episode.rhythm in ("sinus", "paced", "lbbb", "rbbb", "svt") and not episode.pvc_per_min else 0.8
        lowish = self._run("lowish", shown and (weak or share * episode.mean_mmhg < 68.0), span)
        high = self._run("high", shown and episode.ejects and episode.mean_mmhg > 135.0, span)
        highish = self._run("highish", shown and (episode.mean_mmhg > 105.0 or episode.systolic_mmhg > 150.0), span)
        for kind, sure_s, perhaps_s in (("hypotension", low, lowish), ("hypertension", high, highish)):
            if sure_s >= 75.0 and fault is None:
                expected.add(kind)
            elif perhaps_s > 0.0:
                tolerated.add(kind)
        if weak:
            tolerated |= {"abp_artifact", "abp_damped"}
        if fault == "drift":
            tolerated |= {"abp_artifact", "hypertension"}
        elif fault is not None and length_s >= {"flush": 5.0, "disconnected": 6.0}.get(fault, 10.0):
            # Without pulses to be damped or clipped there is nothing to see of the fault.
            kind = "abp_damped" if fault == "damped" else "abp_artifact"
            (tolerated if weak and fault in ("damped", "clipped") else expected).add(kind)
            tolerated |= {"abp_damped", "abp_artifact"}  # at its edges a damped line is a clipped or a drifting one
        elif fault is not None or (episode.pulse_snr_db is not None and episode.pulse_snr_db < 12.0):
            tolerated |= {"abp_artifact", "abp_damped"}
