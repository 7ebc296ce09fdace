"""Every alarm, once. Priorities after IEC 60601-1-8: high wants somebody at once, medium soon, low to be known.

Those of `RULES` never wait for a model. Those of `VERDICT_RULES` need the beats' classes, and are asked on the verdict lane.
"""

from __future__ import annotations

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.judged import Judged
from edge_agent.alarms.rules import arrest, atrial, fibrillation, pressure, rate, technical, ventricular
from edge_agent.alarms.rules.base import Rule

ARREST = frozenset({"asystole", "ventricular_fibrillation"})
"""Whatever else is counted while the heart stands or quivers is a name for a part of it: one episode, one alarm."""
RUNS = ARREST | {"ventricular_tachycardia"}

ABP = frozenset({"abp"})
LINES = frozenset({"abp", "pleth"})

RULES: tuple[Rule[Evidence], ...] = (
    Rule("asystole", "high", arrest.asystole),
    Rule("ventricular_fibrillation", "high", fibrillation.ventricular_fibrillation),
    Rule("ventricular_tachycardia", "high", ventricular.ventricular_tachycardia_unjudged, instead=True, under=ARREST),
    Rule("bradycardia", "high", rate.bradycardia, under=ARREST),
    Rule("tachycardia", "high", rate.tachycardia, under=ARREST),
    Rule("pulse_lost", "high", pressure.pulse_lost, needs=LINES, under=ARREST),
    Rule("pause", "medium", arrest.pause, under=ARREST),
    Rule("atrial_fibrillation", "medium", atrial.atrial_fibrillation, instead=True),
    Rule("hypotension", "medium", pressure.hypotension, needs=ABP),
    Rule("hypertension", "medium", pressure.hypertension, needs=ABP),
    Rule("signal_lost", "medium", technical.signal_lost),
    Rule("ecg_noise", "low", technical.ecg_noise),
    Rule("lead_off", "low", technical.lead_off),
    Rule("abp_artifact", "low", technical.abp_artifact, needs=ABP),
    Rule("abp_damped", "low", technical.abp_damped, needs=ABP),
    Rule("tpu_degraded", "low", technical.tpu_degraded),
)

VERDICT_RULES: tuple[Rule[Judged], ...] = (
    Rule("ventricular_tachycardia", "high", ventricular.ventricular_tachycardia, under=ARREST),
    Rule("ventricular_run", "medium", ventricular.ventricular_run, refractory_s=30.0, under=RUNS),
    Rule("ventricular_couplet", "low", ventricular.ventricular_couplet, refractory_s=60.0, under=RUNS),
    Rule("ventricular_bigeminy", "low", ventricular.ventricular_bigeminy, refractory_s=20.0, under=RUNS),
    Rule("atrial_fibrillation", "medium", atrial.atrial_fibrillation_judged),
)
