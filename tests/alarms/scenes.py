"""Evidence made by hand, with what it would take a minute of signal to show."""

from __future__ import annotations

from collections.abc import Sequence

from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence
from edge_agent.journey import BeatShape, Pulse, Quality, Texture

FS = 250.0
AT = 150 * 250


def texture(at_s: float, lead: str = "II", **changes: float) -> Texture:
    usual = {
        "repeats": 0.1, "period_s": 0.3, "alike": 0.97, "slow": 0.5, "concentration": 0.3, "peak_hz": 6.0, "peaked": 9.0, "steady": 0.2,
        "size_log": 0.0, "last_size_log": 0.0, "unlike_s": 0.4, "usual": 0.95,
    }  # fmt: skip
    sample = round(at_s * FS)
    return Texture(lead, sample, sample, **(usual | changes))


def shape(at_s: float, lead: str = "II", **changes: float) -> BeatShape:
    usual = {"alike": 0.98, "again": 0.98, "slope_log": 0.0, "size_log": 0.0}
    sample = round(at_s * FS)
    return BeatShape(lead, sample, sample + 100, **(usual | changes))


def pulse(
    at_s: float,
    rr_s: float = 0.8,
    name: str = "ABP",
    systolic: float = 120.0,
    diastolic: float = 70.0,
    alike: float | None = 0.97,
) -> Pulse:
    sample, end = round(at_s * FS), round((at_s + rr_s) * FS)
    mean = diastolic + (systolic - diastolic) / 3
    return Pulse(name, sample, end + 30, end, systolic, diastolic, mean, 10.0, 60 / rr_s, (), alike)


def train(begin_s: float, end_s: float, rr_s: float = 0.8, name: str = "ABP", systolic: float = 120.0) -> list[Pulse]:
    return [pulse(begin_s + k * rr_s, rr_s, name, systolic) for k in range(int((end_s - begin_s) / rr_s + 1e-9))]


def sinus_lead(rr_s: float = 0.8, until_s: float = 150.0, lead: str = "II", quality: float = 0.9) -> EcgEvidence:
    """Beating from the beginning to the end."""
    one = EcgEvidence()
    for k in range(int((until_s - 1) / rr_s)):
        one.beats.append(round((0.5 + k * rr_s) * FS))
        one.shapes.append(shape(0.5 + k * rr_s, lead))
    for k in range(12, 600):
        one.textures.append(texture(k / 4, lead))
    for k in range(4, 300):
        one.qualities.append(Quality(lead, round((k / 2 - 2) * FS), round(k / 2 * FS), round(k / 2 * FS) - 1, quality))
    return one


def retextured(lead: EcgEvidence, since_s: float, until_s: float = 150.0, **changes: float) -> EcgEvidence:
    """The lead with these numbers between two times; ``unlike_s`` grows from its value on."""
    new = []
    for old in lead.textures:
        at_s = old.sample / FS
        if since_s <= at_s <= until_s:
            grown = dict(changes)
            if "unlike_s" in changes:
                grown["unlike_s"] = changes["unlike_s"] + at_s - since_s
            new.append(texture(at_s, old.channel, **grown))
        else:
            new.append(old)
    lead.textures.clear()
    lead.textures.extend(new)
    return lead


def line(pulses: Sequence[Pulse]) -> PressureEvidence:
    one = PressureEvidence()
    one.seen.extend(pulses)
    one.pulses.extend(pulses)
    return one


def evidence(
    leads: dict[str, EcgEvidence] | None = None,
    abp: Sequence[Pulse] | None = None,
    pleth: Sequence[Pulse] | None = None,
) -> Evidence:
    return Evidence(
        FS,
        {"II": sinus_lead()} if leads is None else leads,
        {} if abp is None else {"ABP": line(abp)},
        {} if pleth is None else {"PLETH": line(pleth)},
    )
