"""Home Assistant's device discovery: one retained message that describes the agent and its streams.

Nothing else changes for it: the entities read the topics that are published anyway. One message holds all of it, so its keys are
the short forms that Home Assistant has for them (``stat_t`` is ``state_topic``), where it has long had one.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from typing import Any, get_args

from edge_agent import __version__
from edge_agent.events import Alarm, AlarmKind

STALE_AFTER_S = 30
"""Vitals come every two seconds; a stream that says nothing for this long becomes unavailable instead of frozen."""
ALARM_STATES = tuple(one for one in get_args(Alarm.model_fields["state"].annotation) if one != "suppressed")
"""What is suppressed is for who audits, not for a house: it gives an empty text, which Home Assistant takes for no news."""
"""An event of a type that was not announced is dropped with a warning, so all of them are."""
VITALS = (
    ("heart_rate", "Heart rate", "heart_rate_per_min", "bpm", "mdi:heart-pulse"),
    ("systolic", "Systolic pressure", "systolic_mmhg", "mmHg", "mdi:gauge"),
    ("diastolic", "Diastolic pressure", "diastolic_mmhg", "mmHg", "mdi:gauge"),
    ("mean", "Mean pressure", "mean_mmhg", "mmHg", "mdi:gauge"),
)


def object_id(name: str) -> str:
    """Letters, digits, dash and underscore; two names that become alike by that stay apart by their digest."""
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def discovery(prefix: str, base: str, device: str, streams: Sequence[str]) -> tuple[str, bytes]:
    """The topic and the payload."""
    identity = f"edge-agent-{object_id(device)}"
    root = f"{base}/{device}"
    components: dict[str, Any] = {}

    def add(platform: str, key: str, name: str, **more: Any) -> None:
        unique = f"{identity}-{key}"
        components[key] = {
            "p": platform,
            "uniq_id": unique,
            "default_entity_id": f"{platform}.{unique.replace('-', '_').lower()}",
            "name": name,
        } | more

    for stream in streams:
        key = object_id(stream)
        available = [
            {"t": f"{root}/bridge/state", "val_tpl": "{{ value_json.state }}"},
            {"t": f"{root}/{stream}/availability", "val_tpl": "{{ value_json.state }}"},
        ]
        common = {"avty": available, "avty_mode": "all"}
        for part, name, field, unit, icon in VITALS:
            add(
                "sensor",
                f"{key}-{part}",
                f"{stream} {name}",
                stat_t=f"{root}/{stream}/state",
                val_tpl=f"{{{{ value_json.{field} }}}}",
                unit_of_meas=unit,
                stat_cla="measurement",
                suggested_display_precision=0,
                exp_aft=STALE_AFTER_S,
                ic=icon,
                **common,
            )
        add(
            "binary_sensor",
            f"{key}-lead-off",
            f"{stream} lead off",
            stat_t=f"{root}/{stream}/alarm",
            # Other alarms give an empty text, which Home Assistant takes for no news.
            val_tpl=(
                "{% if value_json.kind == 'lead_off' %}"
                "{{ 'ON' if value_json.state != 'cleared' else 'OFF' }}{% endif %}"
            ),
            dev_cla="problem",
            **common,
        )
        add(
            "event",
            f"{key}-alarm",
            f"{stream} alarm",
            stat_t=f"{root}/{stream}/alarm",
            val_tpl=(
                "{% if value_json.state != 'suppressed' %}"
                "{{ {'event_type': value_json.kind ~ '_' ~ value_json.state, 'priority': value_json.priority,"
                " 'id': value_json.id} | to_json }}{% endif %}"
            ),
            event_types=[f"{kind}_{state}" for kind in get_args(AlarmKind) for state in ALARM_STATES],
            ic="mdi:alarm-light",
            **common,
        )
    add(
        "sensor",
        "latency",
        "Latency p99",
        stat_t=f"{root}/bridge/health",
        val_tpl="{{ ((value_json.latency.end_to_end or {}).last_minute or {}).p99_ms }}",
        unit_of_meas="ms",
        stat_cla="measurement",
        entity_category="diagnostic",
        avty=[{"t": f"{root}/bridge/state", "val_tpl": "{{ value_json.state }}"}],
    )
    payload = {
        "device": {
            "identifiers": [identity],
            "name": f"Edge Agent {device}",
            "model": "Edge biosignal agent",
            "sw_version": __version__,
        },
        "origin": {"name": "edge-agent", "sw_version": __version__},
        "components": components,
    }
    return f"{prefix}/device/{identity}/config", json.dumps(payload, separators=(",", ":")).encode()
