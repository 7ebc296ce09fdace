"""What lets a rule stop early never keeps it from finding something."""

from __future__ import annotations

import random
from collections import deque

import pytest

from edge_agent.alarms.evidence import EcgEvidence, Evidence
from edge_agent.alarms.judged import Judged, JudgedBeat
from edge_agent.alarms.limits import AlarmLimits
from edge_agent.alarms.rules import rate, registry, ventricular
from edge_agent.alarms.rules.base import Rule
from edge_agent.journey import Quality

FS = 250.0


def evidence_of(beats: list[int]) -> Evidence:
    lead = EcgEvidence()
    lead.worth.see(Quality("II", 0, 500, 499, 1.0))
    lead.beats.extend(beats)
    return Evidence(fs=FS, ecg={"II": lead}, abp={}, pleth={})


def test_of_the_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, limits, found = random.Random(1), AlarmLimits(), 0
    for _ in range(3000):
        at, beats = 0, []
        step_s = chance.choice([0.25, 0.35, 0.42, 0.43, 0.8, 1.4, 1.5, 1.6, 2.2])
        for _ in range(chance.randrange(22)):
            at += max(1, round(FS * step_s * chance.choice([1.0, 1.0, 1.0, 0.9, 1.1])))
            beats.append(at)
        now = at + round(FS * chance.choice([0.1, 0.6, 0.7, 1.5, 2.5, 3.9, 4.5]))
        evidence = evidence_of(beats)
        quick = [rule(evidence, now, limits) for rule in (rate.bradycardia, rate.tachycardia)]
        with monkeypatch.context() as whole:
            whole.setattr(rate, "_may_be", lambda *_: True)
            assert quick == [rule(evidence, now, limits) for rule in (rate.bradycardia, rate.tachycardia)]
        found += quick != [None, None]
    assert found > 300, "else this shows nothing"


def test_of_the_couplet(monkeypatch: pytest.MonkeyPatch) -> None:
    chance, limits, found = random.Random(2), AlarmLimits(), 0
    for _ in range(3000):
        judged, at = Judged(FS), 0
        for _ in range(chance.randrange(4, 40)):
            at += round(FS * chance.uniform(0.4, 1.9))
            judged.beats.setdefault(("II", "m"), deque(maxlen=64)).append(
                JudgedBeat(at, chance.choice("NNNNNNNV" if chance.random() < 0.7 else "VVN"))
            )
        now = at + round(FS * chance.choice([0.2, 1.9]))
        quick = ventricular.ventricular_couplet(judged, now, limits)
        with monkeypatch.context() as whole:
            whole.setattr(ventricular, "_lately_ventricular", lambda *_: True)
            assert quick == ventricular.ventricular_couplet(judged, now, limits)
        found += quick is not None
    assert found > 300, "else this shows nothing"


@pytest.mark.parametrize("rule", [rule for rule in registry.RULES if rule.needs], ids=lambda rule: rule.kind)
def test_a_rule_finds_nothing_where_what_it_needs_is_missing(rule: Rule[Evidence]) -> None:
    beats = list(range(100, 30_000, 200))
    for bad in ((), ("noise",), ("lead_off",), ("damped",)):
        evidence = evidence_of(beats)
        evidence.ecg["II"].worth.see(Quality("II", 500, 30_000, 29_999, 0.0, bad))
        assert all(rule.find(evidence, now, AlarmLimits()) is None for now in (700, 20_000, 30_000, 90_000))
