"""Every alarm, once. Priorities after IEC 60601-1-8: high wants somebody at once, medium soon, low to be known.

Those of `RULES` never wait for a model. Those of `VERDICT_RULES` need the beats' classes, and are asked on the verdict lane.
"""

from __future__ import annotations

from edge_agent.alarms.evidence import Evidence
from edge_agent.alarms.judged import Judged
from edge_agent.alarms.rules import arrest, atrial, fibrillation, pressure, rate, technical, ventricular
from edge_agent.alarms.rules.base import Rule

RULES: tuple[Rule[Evidence], ...] = (
    Rule("asystole", "high", arrest.asystole),
    Rule("ventricular_fibrillation", "high", fibrillation.ventricular_fibrillation),
    Rule("ventricular_tachycardia", "high", ventricular.ventricular_tachycardia_unjudged, instead=True),
    Rule("bradycardia", "high", rate.bradycardia),
    Rule("tachycardia", "high", rate.tachycardia),
    Rule("pulse_lost", "high", pressure.pulse_lost),
    Rule("pause", "medium", arrest.pause),
    Rule("atrial_fibrillation", "medium", atrial.atrial_fibrillation, instead=True),
    Rule("hypotension", "medium", pressure.hypotension),
    Rule("hypertension", "medium", pressure.hypertension),
    Rule("signal_lost", "medium", technical.signal_lost),
    Rule("ecg_noise", "low", technical.ecg_noise),
    Rule("lead_off", "low", technical.lead_off),
    Rule("abp_artifact", "low", technical.abp_artifact),
    Rule("abp_damped", "low", technical.abp_damped),
    Rule("tpu_degraded", "low", technical.tpu_degraded),
)

VERDICT_RULES: tuple[Rule[Judged], ...] = (
    Rule("ventricular_tachycardia", "high", ventricular.ventricular_tachycardia),
    Rule("ventricular_run", "medium", ventricular.ventricular_run, refractory_s=30.0),
    Rule("ventricular_couplet", "low", ventricular.ventricular_couplet, refractory_s=60.0),
    Rule("ventricular_bigeminy", "low", ventricular.ventricular_bigeminy, refractory_s=60.0),
    Rule("atrial_fibrillation", "medium", atrial.atrial_fibrillation_judged),
)
