"""What the simulated patient goes through: a list of episodes, each with a rhythm, a pressure, noise and faults.

A script can be written in TOML (a list of ``[[episodes]]``), drawn at random for tests, or be the demo's.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from typing import Any

import numpy as np

from edge_agent.sources.simulated.bits import Floats, stream_key, uniform

RHYTHM_RATES: dict[str, float] = {
    "sinus": 70.0,
    "lbbb": 75.0,
    "rbbb": 75.0,
    "paced": 70.0,
    "svt": 175.0,
    "af": 95.0,
    "flutter": 100.0,
    "bigeminy": 70.0,
    "trigeminy": 70.0,
    "couplets": 70.0,
    "vt": 170.0,
    "vflutter": 250.0,
    "vf": 300.0,
    "asystole": 0.0,
}
"""Every rhythm and its usual rate per minute (ventricular; of the fibrillation waves for VF)."""

RHYTHMS = tuple(RHYTHM_RATES)
PULSELESS = frozenset({"vf", "vflutter", "asystole"})
"""Rhythms without an ejection."""
NOISES = ("white", "muscle", "wander", "motion", "mains")
LINE_FAULTS = ("damped", "flush", "clipped", "drift", "disconnected")

_RATE_BOUNDS = {"asystole": (0.0, 0.0), "vf": (180.0, 480.0), "vflutter": (150.0, 350.0)}
_DEFAULT_RATE_BOUNDS = (15.0, 250.0)


@dataclass(frozen=True, slots=True)
class Episode:
    """One stretch of the script. The defaults are a clean sinus rhythm at 120/80 mmHg."""

    name: str = "sinus rhythm"
    duration_s: float = 30.0
    rhythm: str = "sinus"
    """One of `RHYTHMS`."""
    rate_per_min: float = 0.0
    """Ventricular rate; 0 is the rhythm's usual one (`RHYTHM_RATES`), which then stands here."""
    variability: float = 0.03
    """Standard deviation of the sinus RR interval over its mean."""
    lf_hf: float = 0.8
    """Power of the RR variability near 0.1 Hz over that at the breathing rate."""
    pvc_per_min: float = 0.0
    """Isolated premature ventricular beats in sinus rhythm, on average."""
    pac_per_min: float = 0.0
    """Premature atrial beats in sinus rhythm, on average."""
    systolic_mmhg: float = 120.0
    """Of a regular rhythm at its own rate. VT, VF and asystole start from this pressure and do what they do to it."""
    diastolic_mmhg: float = 80.0
    pulseless: bool = False
    """Electrical activity without ejection."""
    transit_ms: float = 190.0
    """From the R peak to the foot of the pressure pulse."""
    snr_db: float | None = None
    """Noise of the ECG; None is clean. The signal's power is (peak-to-peak of the patient's normal QRS)^2 / 8, lead by
    lead, as the MIT-BIH Noise Stress Test takes it (Moody 1984), so the noise does not vanish with the rhythm."""
    noise: tuple[str, ...] = ("muscle", "wander")
    """Kinds of `NOISES` that share the noise's power equally."""
    pulse_snr_db: float | None = None
    """Movement noise of ABP and PLETH against the patient's pulse, taken likewise; None is clean."""
    line: str | None = None
    """Fault of the arterial line, one of `LINE_FAULTS`."""
    lead_off: frozenset[str] = frozenset()
    """Channels whose electrode, line or probe is off (they need not all be channels of this patient)."""

    def __post_init__(self) -> None:
        where = f"episode {self.name!r}"
        _one_of(where, "rhythm", self.rhythm, RHYTHMS)
        if self.rate_per_min == 0:
            object.__setattr__(self, "rate_per_min", RHYTHM_RATES[self.rhythm])
        low, high = _RATE_BOUNDS.get(self.rhythm, _DEFAULT_RATE_BOUNDS)
        _between(where, f"rate_per_min of {self.rhythm}", self.rate_per_min, low, high)
        _between(where, "duration_s", self.duration_s, 1.0, 86_400.0)
        _between(where, "variability", self.variability, 0.0, 0.2)
        _between(where, "lf_hf", self.lf_hf, 0.0, 20.0)
        _between(where, "pvc_per_min", self.pvc_per_min, 0.0, 60.0)
        _between(where, "pac_per_min", self.pac_per_min, 0.0, 60.0)
        _between(where, "diastolic_mmhg", self.diastolic_mmhg, 25.0, 160.0)
        _between(where, "systolic_mmhg", self.systolic_mmhg, self.diastolic_mmhg + 10.0, 260.0)
        _between(where, "transit_ms", self.transit_ms, 80.0, 400.0)
        for name, value in (("snr_db", self.snr_db), ("pulse_snr_db", self.pulse_snr_db)):
            if value is not None:
                _between(where, name, value, -20.0, 80.0)
        if isinstance(self.noise, str) or not self.noise:
            raise ValueError(f"{where}: noise must be a list of one or more of {', '.join(NOISES)}")
        for kind in self.noise:
            _one_of(where, "noise", kind, NOISES)
        if len(set(self.noise)) != len(self.noise):
            raise ValueError(f"{where}: noise names a kind twice: {', '.join(self.noise)}")
        if self.line is not None:
            _one_of(where, "line", self.line, LINE_FAULTS)

    @property
    def ejects(self) -> bool:
        """Whether the heart pumps at all."""
        return not self.pulseless and self.rhythm not in PULSELESS

    @property
    def mean_mmhg(self) -> float:
        """Near enough the mean pressure of the settings (two fifths of the pulse above diastolic)."""
        return self.diastolic_mmhg + 0.4 * (self.systolic_mmhg - self.diastolic_mmhg)


def _one_of(where: str, field_name: str, value: object, allowed: Iterable[str]) -> None:
    names = tuple(allowed)
    if value not in names:
        raise ValueError(f"{where}: {field_name} {value!r} is not known; allowed: {', '.join(names)}")


def _between(where: str, field_name: str, value: float, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where}: {field_name} must be a number, not {value!r}")
    if not (math.isfinite(value) and low <= value <= high):
        raise ValueError(f"{where}: {field_name} is {value:g}; allowed: {low:g} to {high:g}")


@dataclass(frozen=True, slots=True)
class Script:
    """Episodes in order."""

    episodes: tuple[Episode, ...]

    def __post_init__(self) -> None:
        if not self.episodes:
            raise ValueError("a script needs at least one episode")

    @property
    def duration_s(self) -> float:
        return math.fsum(episode.duration_s for episode in self.episodes)


@dataclass(frozen=True, slots=True)
class Span:
    """An episode in time. `index` counts on through the repetitions of an endless script."""

    index: int
    episode: Episode
    start_s: float
    end_s: float

    def fade(self, t: Floats, over_s: float, before: bool, after: bool) -> Floats:
        """0 to 1 and back over `over_s` at the span's ends; not where the same goes on `before` or `after` it."""
        level = np.ones(len(t))
        if not before:
            level = np.minimum(level, np.maximum(t - self.start_s, 0.0) / over_s)
        if not after:
            level = np.minimum(level, np.maximum(self.end_s - t, 0.0) / over_s)
        return level


class Timeline:
    """Where each episode of a script lies in time, repeated without end if asked."""

    def __init__(self, script: Script, forever: bool) -> None:
        self._episodes = script.episodes
        self._forever = forever
        self._offsets = [0.0]
        for episode in script.episodes:
            self._offsets.append(self._offsets[-1] + episode.duration_s)

    def span(self, index: int) -> Span | None:
        """The index-th episode; None past the end."""
        count = len(self._episodes)
        cycle, place = divmod(index, count)
        if index < 0 or (cycle and not self._forever):
            return None
        base = cycle * self._offsets[-1]
        end = base + self._offsets[place + 1] if place + 1 < count else (cycle + 1) * self._offsets[-1]
        return Span(index, self._episodes[place], base + self._offsets[place], end)

    def joins(self, span: Span, names: tuple[str, ...]) -> tuple[bool, bool]:
        """Whether the episodes before and after have the same values of these fields."""
        here = [getattr(span.episode, name) for name in names]
        sides = (self.span(span.index - 1), self.span(span.index + 1))
        before, after = (s is not None and [getattr(s.episode, name) for name in names] == here for s in sides)
        return before, after


_FIELDS = {field.name: field for field in fields(Episode)}


def script_from_dict(data: Mapping[str, Any]) -> Script:
    """A script from what a TOML file holds: ``{"episodes": [{"rhythm": "af", "duration_s": 60}, ...]}``.

    Raises ValueError with the place, what was found and what is allowed.
    """
    unknown = sorted(set(data) - {"episodes"})
    if unknown:
        raise ValueError(f"script: {', '.join(unknown)} not known; allowed: episodes")
    listed = data.get("episodes")
    if not isinstance(listed, list | tuple) or not listed:
        raise ValueError("script: episodes must be a list of one or more tables")
    return Script(tuple(_episode_from_dict(number, item) for number, item in enumerate(listed, 1)))


def _episode_from_dict(number: int, item: object) -> Episode:
    where = f"script: episode {number}"
    if not isinstance(item, Mapping):
        raise ValueError(f"{where}: must be a table, not {item!r}")
    unknown = sorted(set(item) - set(_FIELDS))
    if unknown:
        raise ValueError(f"{where}: {', '.join(unknown)} not known; allowed: {', '.join(_FIELDS)}")
    values: dict[str, Any] = {}
    for key, value in item.items():
        values[key] = _typed(f"{where}: {key}", key, value)
    if "noise" in values and "snr_db" not in values:
        raise ValueError(f"{where}: noise without snr_db would be none at all; add one, 12 or so (dB)")
    if "name" not in values:
        values["name"] = values.get("rhythm", "sinus rhythm")
    try:
        return Episode(**values)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None


def _typed(where: str, key: str, value: object) -> object:
    if key in ("name", "rhythm", "line"):
        if not isinstance(value, str):
            raise ValueError(f"{where} must be text, not {value!r}")
        return value
    if key in ("noise", "lead_off"):
        if not isinstance(value, list | tuple | set | frozenset) or not all(isinstance(name, str) for name in value):
            raise ValueError(f"{where} must be a list of names, not {value!r}")
        return frozenset(value) if key == "lead_off" else tuple(value)
    if key == "pulseless":
        if not isinstance(value, bool):
            raise ValueError(f"{where} must be true or false, not {value!r}")
        return value
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(f"{where} must be a number, not {value!r}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"{where} is a number of more than 308 digits") from None


def script_to_dict(script: Script) -> dict[str, Any]:
    """The script as TOML can hold it: what is at its default is left out, except the name."""
    listed = []
    for episode in script.episodes:
        item: dict[str, Any] = {}
        for name, field in _FIELDS.items():
            value = getattr(episode, name)
            default = RHYTHM_RATES[episode.rhythm] if name == "rate_per_min" else field.default
            if name == "noise" and episode.snr_db is None:  # kinds of nothing
                continue
            if name == "name" or default is MISSING or value != default:
                item[name] = sorted(value) if isinstance(value, frozenset) else value
                if isinstance(value, tuple):
                    item[name] = list(value)
        listed.append(item)
    return {"episodes": listed}


DEMO_SCRIPT = Script(
    (
        Episode("sinus rhythm", 25),
        Episode("ventricular beats", 30, pvc_per_min=12),
        Episode("atrial fibrillation", 60, "af", 105, systolic_mmhg=112, diastolic_mmhg=72),
        Episode("sinus recovery", 30),
        Episode("noisy stretch", 20, snr_db=-3.0, noise=("muscle", "motion", "white")),
        Episode("sinus recovery", 15),
        Episode("ventricular tachycardia", 12, "vt", 175),
        Episode("sinus recovery", 20),
        Episode("asystole", 11, "asystole"),
        Episode("sinus recovery", 20),
        Episode("damped line", 20, line="damped"),
        Episode("sinus recovery", 10),
        Episode("flushed line", 10, line="flush"),
        Episode("sinus recovery", 15),
        Episode("hypotension", 85, rate_per_min=88, systolic_mmhg=74, diastolic_mmhg=42),
        Episode("sinus recovery", 20),
        Episode("lead off", 10, lead_off=frozenset({"II"})),
        Episode("sinus recovery", 10),
    )
)
"""Some seven minutes of a bad afternoon, sinus rhythm between its parts so that every alarm can clear."""


_RANDOM_KINDS = (
    "sinus",
    "pvc",
    "pac",
    "bigeminy",
    "couplets",
    "paced",
    "bradycardia",
    "tachycardia",
    "af",
    "vt",
    "vf",
    "asystole",
    "pause",
    "pulseless",
    "hypotension",
    "hypertension",
    "damped",
    "flush",
    "disconnected",
    "lead_off",
    "noise",
)


def random_script(
    seed: int,
    episodes: int = 6,
    snr_db: tuple[float, float] | None = (12.0, 30.0),
    kinds: tuple[str, ...] = _RANDOM_KINDS,
    lead: str = "II",
) -> Script:
    """A script for property tests: `episodes` random events of `kinds`, each between stretches of sinus rhythm.

    Events keep clear of the alarms' limits (a rate of 39 /min asserts nothing), so what is expected of a stretch is
    beyond argument. `snr_db` bounds the noise of all but the ``noise`` events; None is clean.
    """
    for kind in kinds:
        _one_of("random_script", "kind", kind, _RANDOM_KINDS)
    if episodes < 1 or not kinds:
        raise ValueError("random_script needs at least one episode and one kind")
    key = stream_key(seed, "script")
    drawn = 0

    def between(low: float, high: float) -> float:
        nonlocal drawn
        drawn += 1
        return round(low + (high - low) * uniform(key, drawn), 2)

    systolic = between(105, 135)
    base: dict[str, Any] = {
        "rate_per_min": between(60, 90),
        "systolic_mmhg": systolic,
        "diastolic_mmhg": round(systolic * between(0.58, 0.68), 2),
        "transit_ms": between(150, 260),
        "variability": between(0.01, 0.06),
        "lf_hf": between(0.3, 2.0),
    }
    if snr_db is not None:
        base["snr_db"] = between(*snr_db)
        base["noise"] = tuple(kind for kind in NOISES if between(0, 1) < 0.4) or ("muscle",)

    def event(kind: str) -> Episode:
        special: dict[str, dict[str, Any]] = {
            "sinus": {"duration_s": between(20, 60)},
            "pvc": {"duration_s": between(20, 60), "pvc_per_min": between(4, 15)},
            "pac": {"duration_s": between(20, 60), "pac_per_min": between(3, 10)},
            "bigeminy": {"duration_s": between(15, 40), "rhythm": "bigeminy"},
            "couplets": {"duration_s": between(20, 40), "rhythm": "couplets"},
            "paced": {"duration_s": between(20, 60), "rhythm": "paced", "rate_per_min": between(60, 85)},
            "bradycardia": {"duration_s": between(25, 40), "rate_per_min": between(26, 35)},
            "tachycardia": {"duration_s": between(20, 40), "rate_per_min": between(152, 185)},
            "af": {"duration_s": between(70, 120), "rhythm": "af", "rate_per_min": between(75, 115)},
            "vt": {"duration_s": between(9, 25), "rhythm": "vt", "rate_per_min": between(135, 210)},
            "vf": {"duration_s": between(10, 25), "rhythm": "vf", "rate_per_min": between(250, 350)},
            "asystole": {"duration_s": between(9, 20), "rhythm": "asystole"},
            "pause": {"duration_s": between(3.3, 3.6), "rhythm": "asystole"},
            "pulseless": {"duration_s": between(15, 30), "pulseless": True},
            "hypotension": {"duration_s": between(90, 130), "systolic_mmhg": between(66, 78), "diastolic_mmhg": 40.0},
            "hypertension": {
                "duration_s": between(90, 130),
                "systolic_mmhg": between(205, 235),
                "diastolic_mmhg": 122.0,
            },
            "damped": {"duration_s": between(20, 40), "line": "damped"},
            "flush": {"duration_s": between(10, 25), "line": "flush"},
            "disconnected": {"duration_s": between(12, 30), "line": "disconnected"},
            "lead_off": {"duration_s": between(8, 20), "lead_off": frozenset({lead})},
            "noise": {"duration_s": between(20, 40), "snr_db": between(-6, 0), "noise": ("muscle", "motion", "white")},
        }
        merged = base | special[kind]
        if special[kind].get("rhythm") == "asystole":
            del merged["rate_per_min"]
        return Episode(name=kind, **merged)

    def rest() -> Episode:
        return Episode(name="sinus recovery", **(base | {"duration_s": between(25, 45)}))

    out = [rest()]
    for _ in range(episodes):
        out.append(event(kinds[int(between(0, 1) * len(kinds)) % len(kinds)]))
        out.append(rest())
    return Script(tuple(out))
