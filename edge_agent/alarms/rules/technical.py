"""What keeps the agent from seeing: each bad signal has its own alarm, and no clinical alarm is built on it meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_agent.alarms.evidence import EcgEvidence, Evidence, PressureEvidence, Worth
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules.base import ABP, ARREST, Finding, Rule
from edge_agent.alarms.rules.witness import connected
from edge_agent.events import AlarmKind

QUALITY_S = 0.5
"""From one judgement of a channel to the next."""
AFTER_ARREST_S = 10.0
"""Over so long two detectors are compared (`signal.ecg_quality`): what each took for beats in an arrest counts until then."""
DRIFT_S = 20.0
"""A pressure that truly rises looks like drift for as long (`signal.abp_quality`): only what drifts longer is a fault of the line."""


def lead_off(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """An ECG channel has had no electrode (or does not move at all) for lead_off_s."""
    return _technical(evidence, "lead_off", evidence.ecg, now, limits.lead_off_s, lambda worth: worth.unreadable_since)


def ecg_noise(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """Every lead is too noisy to judge: one good lead is enough to go on. In an arrest that is told the leads were read: what looks
    like noise to a detector of beats counts from when it is forgotten."""
    if any(lead.worth.good for lead in evidence.ecg.values()):
        return None

    def since(worth: Worth) -> int | None:
        if worth.disturbed_since is None or not evidence.arrest_until:
            return worth.disturbed_since
        return max(worth.disturbed_since, evidence.arrest_until + round(AFTER_ARREST_S * evidence.fs))

    return _technical(evidence, "ecg_noise", evidence.ecg, now, limits.noise_s, since)


def abp_artifact(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """The line does not show the patient's pressure: flushed, clipped, drifting, disconnected; the reasons say which."""

    def since(worth: Worth) -> int | None:
        if "damped" in worth.reasons or worth.bad_since is None:
            return None
        return worth.bad_since + (round(DRIFT_S * evidence.fs) if worth.reasons == ("drift",) else 0)

    return _technical(evidence, "abp_artifact", evidence.abp, now, limits.abp_artifact_s, since)


def abp_damped(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """The line is damped: a clot, a kink or a bubble takes the pulse and leaves the mean. It builds up, and at the
    edge of what is damped it comes and goes:
    abp_artifact_s of it within twice that time are enough. Where no beat is seen there is no pulse to be damped."""
    fs, least_s = evidence.fs, limits.abp_artifact_s
    if not _beats_go_on(evidence, now, limits):
        return None

    def since(worth: Worth) -> int | None:
        return None if "damped" not in worth.reasons else max(worth.bad_since or 0, evidence.arrest_until)

    found = _technical(evidence, "abp_damped", evidence.abp, now, least_s, since)
    for name, line in evidence.abp.items():
        if found is not None or "damped" not in line.worth.reasons:
            continue
        lately = [one for one in line.qualities if one.sample > now - 2 * least_s * fs]
        damped = [one for one in lately if "damped" in one.reasons and one.first >= evidence.arrest_until]
        if len(damped) * QUALITY_S >= least_s:
            found = Finding(damped[0].first, damped[-1].sample, name, {"reasons": sorted(line.worth.reasons)})
    return found


def _beats_go_on(evidence: Evidence, now: int, limits: AlarmLimits) -> bool:
    """As far as a lead can tell, if there is one."""
    if evidence.standing & ARREST:
        return False
    leads = [lead for lead in evidence.ecg.values() if connected(lead)]
    since = now - limits.asystole_s * evidence.fs
    return not leads or any(lead.beats and lead.beats[-1] > since for lead in leads)


def _technical(
    evidence: Evidence,
    kind: AlarmKind,
    channels: Mapping[str, EcgEvidence | PressureEvidence],
    now: int,
    least_s: float,
    since_of: Callable[[Worth], int | None],
) -> Finding | None:
    """A channel that has been so for least_s; while the alarm stands, one that is so at all: what comes back before it has cleared
    is the same episode."""
    least = round(least_s * evidence.fs)
    wanted = 0 if kind in evidence.standing else least
    since = {name: since_of(channel.worth) for name, channel in channels.items()}
    found = {name: at for name, at in since.items() if at is not None and now - at >= wanted}
    for name, at in found.items():
        seen: dict[str, object] = {"reasons": sorted(channels[name].worth.reasons)}
        if kind == "lead_off":  # whoever goes to the bed should know of all of them
            seen["channels"] = list(found)
        return Finding(at, at + least, name, seen)
    return None


def signal_lost(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """No samples at all for signal_lost_s: the source has gone, or lost a stretch of them."""
    since = evidence.absent_since
    if since is None or now - since < limits.signal_lost_s * evidence.fs:
        return None
    return Finding(since, since + round(limits.signal_lost_s * evidence.fs), None)


def tpu_degraded(evidence: Evidence, now: int, limits: AlarmLimits) -> Finding | None:
    """The models do not run where they should: on the CPU instead of the Edge TPU, or not at all."""
    if evidence.engine_degraded is None:
        return None
    return Finding(now, now, None, {"engine": evidence.engine_degraded})


RULES: tuple[Rule[Evidence], ...] = (
    Rule("signal_lost", "medium", signal_lost),
    Rule("ecg_noise", "low", ecg_noise),
    Rule("lead_off", "low", lead_off),
    Rule("abp_artifact", "low", abp_artifact, needs=ABP),
    Rule("abp_damped", "low", abp_damped, needs=ABP),
    Rule("tpu_degraded", "low", tpu_degraded),
)
