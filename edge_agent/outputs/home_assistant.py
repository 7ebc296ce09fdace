"""Home Assistant's device discovery: one retained message that describes the agent and its streams.

Nothing else changes for it: the entities read the topics that are published anyway. One message holds all of it, so its keys are
the short forms that Home Assistant has for them (``stat_t`` is ``state_topic``), where it has long had one.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
import threading
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, get_args

from edge_agent import __version__
from edge_agent.events import Alarm, AlarmKind

log = logging.getLogger(__name__)

STALE_AFTER_S = 30
"""Vitals come every two seconds; a stream that says nothing for this long becomes unavailable instead of frozen."""
ALARM_STATES = tuple(one for one in get_args(Alarm.model_fields["state"].annotation) if one != "suppressed")
"""What is suppressed is for who audits, not for a house: it gives an empty text, which Home Assistant takes for no news."""
"""An event of a type that was not announced is dropped with a warning, so all of them are."""
VITALS = (
    ("ecg", "heart_rate", "Heart rate", "heart_rate_per_min", "bpm", "mdi:heart-pulse"),
    ("abp", "systolic", "Systolic pressure", "systolic_mmhg", "mmHg", "mdi:gauge"),
    ("abp", "diastolic", "Diastolic pressure", "diastolic_mmhg", "mmHg", "mdi:gauge"),
    ("abp", "mean", "Mean pressure", "mean_mmhg", "mmHg", "mdi:gauge"),
)
"""And the kind of channel that each comes from."""
MOST_GONE = 200
"""Streams that are cleared away: whoever may publish here may invent any number of them."""

Kinds = Mapping[str, Collection[str] | None]
"""Of a stream's channels, by its name; None while its source was never open."""


def object_id(name: str) -> str:
    """Letters, digits, dash and underscore; two names that become alike by that stay apart by their digest."""
    plain = re.sub(r"[^a-zA-Z0-9_-]", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def discovery(prefix: str, base: str, device: str, streams: Kinds, gone: Iterable[str] = ()) -> tuple[str, bytes]:
    """The topic and the payload. ``gone``: streams that once were, whose entities are taken away.

    An entity is announced where its stream has the channel that fills it, and taken away where it is known to have none; of a source
    that was never open it is left as it was.
    """
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

    agent = {"t": f"{root}/bridge/state", "val_tpl": "{{ value_json.state }}"}
    for stream in gone:
        for platform, part, _ in _parts():
            components[f"{object_id(stream)}-{part}"] = _taken_away(platform)
    for stream, kinds in streams.items():
        key = object_id(stream)
        there = {"t": f"{root}/{stream}/availability", "val_tpl": "{{ value_json.state }}"}
        for platform, part, needs in _parts():
            if needs and kinds is not None and needs not in kinds:
                components[f"{key}-{part}"] = _taken_away(platform)
        for needs, part, name, field, unit, icon in VITALS:
            if needs in (kinds or ()):
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
                    avty=[agent, there],
                    avty_mode="all",
                )
        if "ecg" in (kinds or ()):
            # Of the state and not of the alarm: that is retained, says it every two seconds, and is true again after a crash.
            add(
                "binary_sensor",
                f"{key}-lead-off",
                f"{stream} lead off",
                stat_t=f"{root}/{stream}/state",
                val_tpl="{{ 'ON' if value_json.lead_off else 'OFF' }}",
                dev_cla="problem",
                exp_aft=STALE_AFTER_S,
                avty=[agent],
            )
        # These two have news just while the stream is offline: the agent alone must be there.
        add(
            "binary_sensor",
            f"{key}-connected",
            f"{stream} connected",
            stat_t=f"{root}/{stream}/availability",
            val_tpl="{{ 'ON' if value_json.state == 'online' else 'OFF' }}",
            json_attr_t=f"{root}/{stream}/availability",
            dev_cla="connectivity",
            entity_category="diagnostic",
            avty=[agent],
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
            avty=[agent],
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
        avty=[agent],
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


def _parts() -> Iterable[tuple[str, str, str]]:
    """Of a stream: the platform, the last part of the key, and the kind of channel without which it is not announced."""
    yield from (("sensor", part, needs) for needs, part, *_ in VITALS)
    yield from (("binary_sensor", "lead-off", "ecg"), ("binary_sensor", "connected", ""), ("event", "alarm", ""))


def _taken_away(platform: str) -> dict[str, str]:
    """Home Assistant takes a component away that comes with its platform alone, and heeds it not if it never had it."""
    return {"p": platform}


class Announced:
    """What Home Assistant was told of the streams, told anew when it changes. From any thread; never waits."""

    def __init__(
        self, prefix: str, base: str, device: str, streams: Iterable[str], retain: Callable[[str, bytes], None]
    ) -> None:
        self._who = (prefix, base, device)
        self._root = f"{base}/{device}"
        self._retain = retain
        self._lock = threading.Lock()
        self._streams: dict[str, Collection[str] | None] = dict.fromkeys(streams)
        self._gone: dict[str, None] = {}

    @property
    def recall(self) -> str:
        """The filter of the topics that tell, retained, of the streams that the agent once had."""
        return f"{self._root}/+/availability"

    def say(self) -> None:
        with self._lock:
            self._say()

    def now(self, streams: Kinds) -> None:
        """What channels there are."""
        with self._lock:
            if streams != self._streams:
                self._streams = dict(streams)
                self._say()

    def once_was(self, topic: str, payload: bytes) -> None:
        """An availability that the broker kept. Of a stream that is not in the configuration any more all is cleared that it keeps."""
        stream = topic.split("/")[-2]
        with self._lock:
            ours = stream in self._streams or stream in self._gone or stream in ("", "bridge")
            if ours or not payload or len(self._gone) >= MOST_GONE:
                return
            self._gone[stream] = None
            self._say()
        log.info(
            "stream %r is not in the configuration any more: what the broker and Home Assistant keep of it is cleared",
            stream,
        )
        for kept in ("availability", "state"):
            self._retain(f"{self._root}/{stream}/{kept}", b"")

    def _say(self) -> None:
        self._retain(*discovery(*self._who, self._streams, self._gone))
