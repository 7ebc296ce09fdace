"""A message as it came, read without trusting it: a fault of the sender is one line, never a traceback.

What a newer agent adds to a message is let through: additions keep a schema's version (`edge_agent/events.py`).
"""

from __future__ import annotations

import json
import math
import unicodedata
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn

from pydantic import BaseModel

from edge_agent.events import TOPICS, Availability, EngineState, Health, Info

MOST_BYTES = 1 << 20
MOST_NESTED = 16
MOST_TEXT = 200
MOST_NUMBER = 1 << 63
MOST_VALUE = 1e15
"""Beyond any measure; an integer of JSON may have thousands of digits, and no float holds it."""
MOST_NAME = 100
"""Characters of a device's or stream's name: no configuration allows more."""
MOST_SESSION = 64


def _name(message: type[BaseModel]) -> str:
    """``alarm`` of ``edge-agent/alarm/1``."""
    return str(message.model_fields["schema_"].default).split("/")[1]


def _schema(message: type[BaseModel]) -> str:
    return str(message.model_fields["schema_"].default)


# A kind is called what its schema is called; the agent's own state has none, and the latest vitals travel on `state`.
STREAM_TOPICS = {_name(kind): topic for kind, topic in TOPICS.items()} | {_name(Availability): "availability"}
BRIDGE_TOPICS = {"state": "state", _name(Health): "health", _name(Info): "info", _name(EngineState): "engine"}
KINDS = (*STREAM_TOPICS, *BRIDGE_TOPICS)
_NAMED: tuple[type[BaseModel], ...] = (*TOPICS, Availability, Health, Info, EngineState)
SCHEMAS = {_name(kind): _schema(kind) for kind in _NAMED}
COUNTED = frozenset(_name(kind) for kind in TOPICS)
"""Kinds whose messages carry ``seq`` and ``session``."""


class UnreadableError(ValueError):
    """Why a message cannot be shown."""


@dataclass(frozen=True, slots=True)
class News:
    """Whose and what it is, as its topic says: a broker guards who may write to a topic, not what stands in a message."""

    topic: str
    device: str
    stream: str | None
    """None: it is about the agent itself."""
    kind: str
    data: dict[str, Any]
    retained: bool
    received: datetime

    @property
    def source(self) -> str:
        return self.device if self.stream is None else f"{self.device}/{self.stream}"

    @property
    def time(self) -> datetime | None:
        """When it happened, if the sender knows."""
        text = self.data.get("time")
        try:
            time = datetime.fromisoformat(text) if isinstance(text, str) else None
            return None if time is None or time.tzinfo is None else time.astimezone(UTC)
        except (ValueError, OverflowError):
            return None

    def text(self, key: str, missing: str = "?") -> str:
        """A field as text that is safe to print."""
        value = self.data.get(key)
        return missing if value is None else clean(value if isinstance(value, str) else json.dumps(value))

    def number(self, key: str) -> float | None:
        return number_of(self.data.get(key))


def number_of(value: object) -> float | None:
    """A number that can be written out; None is whatever else stands there."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < MOST_VALUE:
        return None
    return value


def clean(text: str, most: int = MOST_TEXT) -> str:
    """Text from the network, made fit for a terminal, a log and an environment variable.

    Control characters (an escape could rewrite the screen or the keyboard), marks that turn the direction of writing, and
    lone surrogates become a replacement character; what is too long is cut.
    """
    shown = "".join(
        "\ufffd" if unicodedata.category(char)[0] == "C" or unicodedata.category(char) in ("Zl", "Zp") else char
        for char in text[: most + 1]
    )
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def place(topic: str, base: str) -> tuple[str, str | None, str]:
    """Device, stream and kind of a topic."""
    parts = topic.split("/")
    if len(parts) == 4 and parts[0] == base:
        device, stream, last = parts[1:]
        bridge = stream == "bridge"
        for kind, name in (BRIDGE_TOPICS if bridge else STREAM_TOPICS).items():
            if name == last and max(len(device), len(stream)) <= MOST_NAME:
                return device, None if bridge else stream, kind
    raise UnreadableError("no topic that this version knows")


def read(topic: str, payload: bytes, *, base: str, retained: bool, received: datetime) -> News:
    """The message, or `UnreadableError` with the reason."""
    device, stream, kind = place(topic, base)
    if len(payload) > MOST_BYTES:
        raise UnreadableError(f"{len(payload)} bytes: more than {MOST_BYTES} are not read")
    try:
        data = json.loads(payload, parse_constant=_no_constant, parse_float=_finite)
    except (ValueError, RecursionError):
        raise UnreadableError("is not JSON" if payload else "is empty") from None
    if not isinstance(data, dict) or _deeper(data, MOST_NESTED):
        raise UnreadableError("is not a JSON object as agents send them")
    wanted = SCHEMAS.get(kind)
    if wanted is not None and data.get("schema") != wanted:
        found = data.get("schema")
        shown = clean(found, 60) if isinstance(found, str) else "none"
        raise UnreadableError(f"has the schema {shown}; this version knows {wanted}")
    if kind == "state" and data.get("state") not in ("online", "offline"):
        raise UnreadableError("says neither online nor offline")
    if stream is not None and (data.get("device"), data.get("stream")) != (device, stream):
        raise UnreadableError("says that it is of another device or stream than its topic")
    session = data.get("session")
    if kind in COUNTED and not (_is_count(data.get("seq")) and isinstance(session, str)):
        raise UnreadableError("has no seq and session")
    if isinstance(session, str) and len(session) > MOST_SESSION:  # it is remembered
        raise UnreadableError(f"has a session of more than {MOST_SESSION} characters")
    return News(topic, device, stream, kind, data, retained, received)


def _no_constant(text: str) -> NoReturn:
    raise ValueError(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):  # 1e999: JSON has no other word for infinity either
        raise ValueError(text)
    return value


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MOST_NUMBER


def _deeper(value: object, levels: int) -> bool:
    """What is nested for its own sake would exhaust whoever writes it out again."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return levels == 0 or any(_deeper(one, levels - 1) for one in inner if isinstance(one, dict | list))
