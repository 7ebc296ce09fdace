"""Every message that leaves the device, once. The JSON schemas in ``docs/schema/`` are made from this file.

Additions keep a schema's version; removals and changed meanings raise it.

All times of samples are UTC and ``null`` where the source does not know them (a recording without a date). Numbers that were
not measured are ``null``, never 0.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema


def iso_utc(time: datetime) -> str:
    """RFC 3339 with microseconds and a Z."""
    return time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


Utc = Annotated[
    datetime,
    PlainSerializer(iso_utc, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
Rounded = Annotated[float, PlainSerializer(lambda x: round(x, 4), return_type=float, when_used="json")]

Priority = Literal["high", "medium", "low"]
AlarmKind = Literal[
    "asystole",
    "bradycardia",
    "tachycardia",
    "ventricular_tachycardia",
    "atrial_fibrillation",
    "hypotension",
    "hypertension",
    "ecg_noise",
    "lead_off",
    "abp_artifact",
]


class Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, serialize_by_alias=True)

    def payload(self) -> bytes:
        """The JSON that travels."""
        return self.model_dump_json(by_alias=True).encode()


class Latency(Message):
    """How old the news is, by part."""

    algorithm_ms: Rounded = Field(description="From the sample itself to the newest sample that was needed to know.")
    queue_ms: Rounded | None = Field(
        description="From the arrival of that sample to the start of its processing; null in a replay."
    )
    compute_ms: Rounded | None = Field(description="From the start of processing to this message; null in a replay.")


class Event(Message):
    """What every message about a stream's signal begins with."""

    schema_: str = Field(default="", alias="schema", description="Name and version of this message.")
    seq: int = Field(description="Counts the stream's messages within a session: repeats and gaps can be told.")
    session: str = Field(description="Changes at every start of the agent; 'replay' for a replay.")
    device: str
    stream: str
    sample: int = Field(description="Where in the signal, in samples since the stream began.")
    time: Utc | None = Field(description="That sample's time, UTC.")
    known: int = Field(description="The newest sample that was needed to know.")
    arrived: Utc | None = Field(description="When that sample reached the process, UTC; null in a replay.")
    latency: Latency


class Beat(Event):
    """A heartbeat was found in an ECG channel. Its class comes in a verdict with the same channel and sample."""

    schema_: Literal["edge-agent/beat/1"] = Field(default="edge-agent/beat/1", alias="schema")
    channel: str
    confidence: Rounded
    rr_ms: Rounded | None = Field(description="From the beat before; null after a gap.")


class Verdict(Event):
    """What a model said of a window, or why it said nothing."""

    schema_: Literal["edge-agent/verdict/1"] = Field(default="edge-agent/verdict/1", alias="schema")
    channel: str
    task: str
    label: str | None = Field(description="null for an abstention.")
    reason: str | None = Field(description="Of the abstention.")
    scores: dict[str, Rounded]
    model: str
    version: str
    digest: str = Field(description="SHA-256 of the model's manifest.")
    backend: str
    invoke_us: Rounded | None = Field(description="Time inside the engine; null for an abstention and in a replay.")


class Rhythm(Event):
    """The rhythm changed."""

    schema_: Literal["edge-agent/rhythm/1"] = Field(default="edge-agent/rhythm/1", alias="schema")
    channel: str
    rhythm: Literal["N", "AFIB", "unknown"] = Field(
        description="WFDB rhythm codes without the bracket; N: not fibrillating."
    )
    since: int = Field(description="Sample of the first beat of this rhythm, as far as the beats show.")
    evidence: dict[str, Any]


class Quality(Event):
    """A channel's worth changed: became good, or bad for these reasons."""

    schema_: Literal["edge-agent/quality/1"] = Field(default="edge-agent/quality/1", alias="schema")
    channel: str
    good: bool
    score: Rounded
    reasons: list[str]


class Vitals(Event):
    """The latest numbers; null where there is no trustworthy one."""

    schema_: Literal["edge-agent/vitals/1"] = Field(default="edge-agent/vitals/1", alias="schema")
    heart_rate_per_min: Rounded | None = Field(
        description="Median of the last beats' intervals. IEEE 11073 MDC_ECG_HEART_RATE."
    )
    systolic_mmhg: Rounded | None = Field(description="MDC_PRESS_BLD_ART_SYS.")
    diastolic_mmhg: Rounded | None = Field(description="MDC_PRESS_BLD_ART_DIA.")
    mean_mmhg: Rounded | None = Field(description="MDC_PRESS_BLD_ART_MEAN.")
    pulse_rate_per_min: Rounded | None = Field(
        description="From the pressure (or pleth) pulses. MDC_BLD_PULS_RATE_INV."
    )


class Alarm(Event):
    """An alarm began or ended."""

    schema_: Literal["edge-agent/alarm/1"] = Field(default="edge-agent/alarm/1", alias="schema")
    id: str = Field(description="The same in the raise and the clear of one episode.")
    kind: AlarmKind
    state: Literal["raised", "cleared"]
    priority: Priority = Field(description="After IEC 60601-1-8.")
    channel: str | None
    since: int = Field(description="Sample from which the evidence counts.")
    delay_ms: Rounded = Field(
        description="From the sample at which the definition was met to the newest sample needed to know."
    )
    evidence: dict[str, Any]


class Gap(Event):
    """Samples that never came."""

    schema_: Literal["edge-agent/gap/1"] = Field(default="edge-agent/gap/1", alias="schema")
    first: int = Field(description="First lost sample; the last is sample - 1.")
    lost: int
    cause: str


class Waveform(Event):
    """A stretch of the signal itself. Off by default, QoS 0; nothing is lost when one is."""

    schema_: Literal["edge-agent/waveform/1"] = Field(default="edge-agent/waveform/1", alias="schema")
    fs: float
    overwritten: int = Field(
        description="Samples that the ring buffer lost before they could be sent, since the start."
    )
    channels: dict[str, list[Rounded | None]] = Field(
        description="Values from sample onwards; null where there is none."
    )


class Availability(Message):
    """Whether a stream delivers. Retained."""

    schema_: Literal["edge-agent/availability/1"] = Field(default="edge-agent/availability/1", alias="schema")
    device: str
    stream: str
    state: Literal["online", "offline"]
    reason: str
    time: Utc


class BridgeState(Message):
    """Whether the agent is there. Retained; the will says offline."""

    state: Literal["online", "offline"]


class StreamHealth(Message):
    state: str
    samples: int
    lost_samples: int
    beats: int
    verdicts: int
    abstentions: int
    restarts: int
    fs_nominal: float | None
    fs_measured: Rounded | None


class Health(Message):
    """How the process and its links are. Retained, at an interval."""

    schema_: Literal["edge-agent/health/1"] = Field(default="edge-agent/health/1", alias="schema")
    device: str
    session: str
    time: Utc
    uptime_s: Rounded
    resident_mb: Rounded | None
    broker: dict[str, int | bool | str]
    inference: dict[str, int]
    streams: dict[str, StreamHealth]


class ModelInfo(Message):
    name: str
    version: str
    digest: str
    backend: str
    task: str


class Info(Message):
    """What runs here. Retained."""

    schema_: Literal["edge-agent/info/1"] = Field(default="edge-agent/info/1", alias="schema")
    device: str
    session: str
    version: str
    models: list[ModelInfo]
    config: dict[str, Any] = Field(description="Without secrets.")


# The signal's own events by topic; the order is the order of docs/mqtt.md.
TOPICS: dict[type[Event], str] = {
    Beat: "beat",
    Verdict: "verdict",
    Rhythm: "rhythm",
    Quality: "quality",
    Vitals: "state",
    Alarm: "alarm",
    Gap: "gap",
    Waveform: "waveform",
}

ALL_MESSAGES: tuple[type[Message], ...] = (*TOPICS, Availability, BridgeState, Health, Info)
