"""The alarms' settings, by stream: limits, durations, and what becomes of each alarm."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Annotated

from pydantic import Field, Strict, ValidationError, field_serializer, model_validator

from edge_agent.events import AlarmKind, Priority
from edge_agent.section import Section, in_words

APART: tuple[tuple[AlarmKind, str, AlarmKind, str], ...] = (
    ("pause", "pause_s", "asystole", "asystole_s"),
    ("bradycardia", "bradycardia_per_min", "tachycardia", "tachycardia_per_min"),
    ("hypotension", "hypotension_mean_mmhg", "hypertension", "hypertension_mean_mmhg"),
    ("hypotension", "hypotension_mean_mmhg", "hypertension", "hypertension_systolic_mmhg"),
    ("hypotension", "hypotension_systolic_mmhg", "hypertension", "hypertension_systolic_mmhg"),
)
"""An alarm's limit that must lie below another's: else the first could never be, or every value would be one of the two. A mean is never
above its systolic pressure, so a low mean is held against a high systolic one, too."""

Kinds = Annotated[frozenset[AlarmKind], Strict(False)]
"""TOML and JSON have a list."""


class AlarmLimits(Section):
    """Limits and durations of the alarms, and what becomes of each."""

    asystole_s: float = Field(default=4.0, ge=2, le=30, description="Pause without a beat.")
    pause_s: float = Field(default=3.0, ge=1.5, le=15, description="A shorter pause, that passes.")
    bradycardia_per_min: float = Field(default=40.0, ge=10, le=120, description="Below this over 5 beats.")
    tachycardia_per_min: float = Field(default=140.0, ge=80, le=300, description="Above this over 17 beats.")
    ventricular_beats: int = Field(default=5, ge=3, le=50, description="Ventricular beats in a row.")
    ventricular_per_min: float = Field(default=100.0, ge=50, le=250, description="Their least rate.")
    fibrillation_s: float = Field(default=4.0, ge=3, le=15, description="Ventricular flutter or fibrillation.")
    pulse_lost_s: float = Field(default=6.0, ge=4, le=30, description="No pulse while the ECG goes on.")
    hypotension_mean_mmhg: float = Field(default=65.0, ge=20, le=150)
    hypotension_systolic_mmhg: float | None = Field(
        default=None, ge=30, le=200, description="Where it is set, a systolic pressure below it counts as well."
    )
    hypertension_systolic_mmhg: float = Field(default=180.0, ge=80, le=300)
    hypertension_mean_mmhg: float | None = Field(
        default=None, ge=60, le=250, description="Where it is set, a mean pressure above it counts as well."
    )
    pressure_duration_s: float = Field(
        default=60.0, ge=5, le=600, description="How long a pressure must stay beyond its limit."
    )
    lead_off_s: float = Field(default=2.0, ge=0.5, le=60)
    noise_s: float = Field(default=8.0, ge=1, le=120)
    abp_artifact_s: float = Field(
        default=4.0, ge=1, le=120, description="The line damped, or otherwise not to be read."
    )
    signal_lost_s: float = Field(default=5.0, ge=1, le=60, description="No samples at all.")
    clear_s: float = Field(
        default=5.0, ge=0, le=120, description="How long a finding must stay away before its alarm clears."
    )
    off: Kinds = Field(default=frozenset(), description="Alarms that are not wanted at all.")
    latching: Kinds = Field(
        default=frozenset(), description="Alarms that stay until they are acknowledged (a request)."
    )
    priorities: dict[AlarmKind, Priority] = Field(
        default_factory=dict, description="Priority by alarm, where it is not the usual one."
    )

    @model_validator(mode="after")
    def _apart(self) -> AlarmLimits:
        for low_kind, low, high_kind, high in APART:
            below, above = getattr(self, low), getattr(self, high)
            if None in (below, above) or self.off & {low_kind, high_kind}:
                continue
            # Many a ward counts an asystole from three seconds: then no pause is left, and that is all.
            equal_is_right = low == "pause_s"
            if below > above or (below == above and not equal_is_right):
                must = "must not be above" if equal_is_right else "must be below"
                raise ValueError(f"{low} ({below:g}) {must} {high} ({above:g}): set the two together")
        return self

    @field_serializer("off", "latching")
    def _in_order(self, kinds: frozenset[str]) -> list[str]:
        return sorted(kinds)


def changed(limits: AlarmLimits, given: object, configured: AlarmLimits) -> AlarmLimits:
    """The same with some of them changed, and those that are given as None as they are ``configured``; ValueError says what is wrong
    with the first that is."""
    if not isinstance(given, Mapping) or not given:
        raise ValueError("an object of one or more limits by name is wanted")
    file = configured.model_dump()
    wanted = {name: file.get(name) if value is None else value for name, value in given.items()}
    try:
        return AlarmLimits.model_validate({**limits.model_dump(), **wanted})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        known = f"; known: {', '.join(AlarmLimits.model_fields)}" if first["type"] == "extra_forbidden" else ""
        found = first["input"]
        shown = f"found {json.dumps(found)[:40]}; " if isinstance(found, str | int | float) and not known else ""
        what = shown + in_words(first, table="an object") + known
        raise ValueError(f"{place[:100]}: {what}" if place else what) from None


def differences(before: AlarmLimits, after: AlarmLimits) -> Iterator[str]:
    """What a change has changed, in words."""
    old, new = before.model_dump(mode="json"), after.model_dump(mode="json")
    return (f"{name} from {json.dumps(old[name])} to {json.dumps(new[name])}" for name in new if new[name] != old[name])
