"""Evidence made by hand, for tests of rules at their limits."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.journey import Beat, Onset, Pulse, Quality, Texture

FS = 250.0
LIMITS = AlarmLimits()


def samples(seconds: float) -> int:
    return round(seconds * FS)


def evidence(*ecg: str, abp: bool = False, pleth: bool = False) -> Evidence:
    """Good signals since sample 0 on these leads."""
    made = Evidence(
        fs=FS,
        ecg={name: EcgEvidence() for name in ecg},
        abp={"ABP": PressureEvidence()} if abp else {},
        pleth={"PLETH": PressureEvidence()} if pleth else {},
    )
    for name in (*ecg, *made.abp, *made.pleth):
        quality(made, name, 2.0)
    return made


def quality(made: Evidence, channel: str, at_s: float, *reasons: str) -> None:
    end = samples(at_s)
    made.quality(Quality(channel, max(0, end - samples(2)), end, end, 0.0 if reasons else 1.0, reasons))


def beats(made: Evidence, channel: str, times_s: list[float]) -> int:
    """Beats at these times; the moment at which the last one is known."""
    at = 0
    for time_s in times_s:
        at = samples(time_s)
        made.beat(Beat(channel, at, at + 60, 1.0))
    return at + 60


def every(interval_s: float, n: int, start_s: float = 3.0) -> list[float]:
    return [start_s + i * interval_s for i in range(n)]


def pulse_at(sample: int, length: int, **changes: object) -> Pulse:
    """One of 120/70 mmHg in so many samples, but for what is said otherwise."""
    one = Pulse(
        "ABP", sample, sample + length + 30, sample + length, 120.0, 70.0, 90.0, 10.0, 60 * FS / length, (), None
    )
    return replace(one, **changes)  # type: ignore[arg-type]


def pulses(
    made: Evidence,
    interval_s: float,
    seconds: float,
    mean: float = 90.0,
    *reasons: str,
    start_s: float = 0.0,
    channel: str = "ABP",
) -> int:
    """A pressure of that mean, pulse after pulse; the last one's end."""
    end = 0
    for i in range(int(seconds / interval_s + 1e-9)):
        first, end = samples(start_s + i * interval_s), samples(start_s + (i + 1) * interval_s)
        made.onset(Onset(channel, first, first + 20))
        made.pulse(Pulse(channel, first, end, end, mean * 1.3, mean * 0.8, mean, 10, 60 / interval_s, reasons))
    return end


SINUS = Texture(
    channel="II", sample=0, known=0, repeats=0.1, period_s=0.4, alike=0.98, slow=0.45, concentration=0.28, peak_hz=3.4,
    peaked=12.0, steady=0.4, size_log=0.0, last_size_log=0.0, unlike_s=0.4, usual=0.95,
)  # fmt: skip
FIBRILLATION = replace(
    SINUS, repeats=0.68, alike=0.5, slow=0.92, concentration=0.6, peak_hz=4.9, peaked=2.6, unlike_s=4.0
)
FLUTTER = replace(FIBRILLATION, repeats=0.95, concentration=0.94, peak_hz=3.2, peaked=1.8)
QUIET = replace(SINUS, alike=0.0, peaked=3.0, concentration=0.5, size_log=-3.0, last_size_log=-3.0, unlike_s=4.0)


def textures(made: Evidence, channel: str, like: Texture, first_s: float, last_s: float) -> int:
    """A texture every quarter second; the last one's end."""
    at = samples(first_s)
    step = samples(0.25)
    for i in range(round((last_s - first_s) * 4) + 1):
        at = samples(first_s) + i * step
        made.texture(replace(like, channel=channel, sample=at, known=at))
    return at
