"""What the beat model's manifest says."""

from __future__ import annotations

from typing import Any

from edge_train.beats import inputs
from edge_train.data import mitdb

VERSION = "0.4.0"


def about(facts: dict[str, Any], seed: int) -> dict[str, Any]:
    """As `edge_train.task.Task.about`."""
    return {
        "version": VERSION,
        "task": "ecg-beat",
        "labels": list(mitdb.LABELS),
        "anchor": {"kind": "beat"},
        "inputs": inputs.INPUTS,
        "output": {"scores": "none"},
        "training": {
            "data": [
                "MIT-BIH Arrhythmia Database 1.0.0 (doi:10.13026/C2F305), DS1 without record 201",
                "VitalDB Arrhythmia Database (annotations only), two thirds of its cases",
                "PhysioNet/CinC Challenge 2017, 1,991 of its strips, and Challenge 2015, lead II of 335 of its records: P waves, without"
                " labels of their beats",
                "40 simulated patients (edge_agent.sources.simulated)",
            ],
            "licence": "MIT-BIH, Challenges: Open Data Commons Attribution License 1.0; VitalDB annotations: MIT",
            "protocol": "between patients, DS1 (201 left out, one man with 202) to DS2; trained where the "
            f"{'reference' if facts.get('oracle') else 'own detector'} has the beats; S by RR intervals (VitalDB) and"
            f" P waves (no labels of beats), its threshold by the mean of DS1's per-record F1; seed {seed}; data {facts['digest']}",
            "command": "make -C training results",
        },
    }
