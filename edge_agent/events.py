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
    """RFC 3339 with microseconds and a Z. (A tenth of ``strftime``'s time.)"""
    return time.isoformat(timespec="microseconds")[:26] + "Z"


Utc = Annotated[
    datetime,
    PlainSerializer(iso_utc, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}, mode="serialization"),
]
Rounded = Annotated[float, PlainSerializer(lambda x: round(x, 4), return_type=float, when_used="json")]

Priority = Literal["high", "medium", "low"]
AlarmKind = Literal[
    "asystole",
    "ventricular_fibrillation",
    "ventricular_tachycardia",
    "bradycardia",
    "tachycardia",
    "pulse_lost",
    "pause",
    "ventricular_run",
    "ventricular_couplet",
    "ventricular_bigeminy",
    "atrial_fibrillation",
    "hypotension",
    "hypertension",
    "ecg_noise",
    "lead_off",
    "abp_artifact",
    "abp_damped",
    "signal_lost",
    "tpu_degraded",
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
    seq: int = Field(
        description="Counts the stream's messages of this kind within a session: repeats and holes can be told."
    )
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
    lead_off: bool = Field(description="Whether the alarm lead_off stands: an ECG electrode is off.")


class Alarm(Event):
    """An alarm began, has changed since it was last said (evidence, priority, silenced, acknowledged), or ended; or would have begun but
    for another signal."""

    schema_: Literal["edge-agent/alarm/1"] = Field(default="edge-agent/alarm/1", alias="schema")
    id: str = Field(description="The same in all messages of one episode.")
    kind: AlarmKind
    state: Literal["raised", "updated", "cleared", "suppressed"] = Field(
        description="suppressed: its definition is met, but another signal says that it is not so; for who audits, not to be sounded."
    )
    priority: Priority = Field(description="After IEC 60601-1-8; the configuration may change it.")
    reason: str | None = Field(
        description="Of a suppression; of a clear that did not come from the finding's end; null otherwise."
    )
    confidence: Rounded = Field(
        description="0 to 1: how many of the signals that could speak agree with it, by the rule's own account."
    )
    active: bool = Field(
        description="false: its finding has ended; in an update, it waits for its acknowledgement (a latching alarm)."
    )
    acknowledged: bool = Field(description="Somebody acknowledged this episode.")
    silenced: bool = Field(description="Somebody silenced this kind for now: to be shown, not to be sounded.")
    channel: str | None
    strip: str | None = Field(
        description="Where on the review page the picture of the ten seconds before and after is; null without the page."
    )
    since: int = Field(description="Sample from which the evidence counts.")
    delay_ms: Rounded = Field(
        description="From the sample at which the definition was met to the newest sample needed to know."
    )
    evidence: dict[str, Any]


class Gap(Event):
    """Samples that never came: the first gap at once, those within a second after it joined into one message."""

    schema_: Literal["edge-agent/gap/1"] = Field(default="edge-agent/gap/1", alias="schema")
    first: int = Field(description="First lost sample; the last is sample - 1.")
    lost: int = Field(description="How many: all between the two, or fewer where several gaps are joined.")
    exact: bool = Field(
        description="true: counted, by sequence numbers or a recording's index; false: estimated from the clock."
    )
    cause: str


class Summary(Event):
    """Beats and verdicts while the broker was away, counted instead of said one by one; by choice (outbox.beats_offline)."""

    schema_: Literal["edge-agent/summary/1"] = Field(default="edge-agent/summary/1", alias="schema")
    first: int = Field(description="Sample of the first of them; the last one's is sample.")
    beats: dict[str, int] = Field(description="By channel.")
    labels: dict[str, dict[str, int]] = Field(description="By model and label; none: abstentions.")


class Mark(Event):
    """Somebody marked this moment, by a request."""

    schema_: Literal["edge-agent/mark/1"] = Field(default="edge-agent/mark/1", alias="schema")
    text: str = Field(description="What they said of it; hostile until proven otherwise.")


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


class SourceHealth(Message):
    """What a stream's source counted, over all its connections; null for what this kind of source has no notion of."""

    frames_good: int | None = Field(default=None, description="Frames, or blocks of samples, that were taken.")
    frames_bad: int | None = Field(default=None, description="Looked like frames, or were due, and were none.")
    lines_good: int | None = Field(default=None, description="Lines of text that were samples.")
    lines_bad: int | None = Field(default=None, description="Lines of text that were not.")
    resyncs: int | None = Field(default=None, description="Frames were found again after bytes that belong to none.")
    bytes_skipped: int | None = None
    samples_lost: int | None = Field(default=None, description="Counted by sequence numbers.")
    samples_lost_estimated: int | None = Field(
        default=None, description="Estimated: from skipped bytes, bad lines, or holes in the arrivals."
    )
    values_implausible: int | None = Field(
        default=None, description="Values that no such signal has, given up as missing."
    )
    duplicates: int | None = Field(default=None, description="Blocks that came again, and were dropped.")
    reordered: int | None = Field(default=None, description="Blocks that came late, and were put in their place.")
    overruns: int | None = Field(
        default=None, description="Times that a buffer before us was full: a driver's, or ours."
    )
    refused: int | None = Field(default=None, description="Clients that were turned away, another one being connected.")


class StreamHealth(Message):
    state: str = Field(description="starting, waiting, online, offline, ended or failed.")
    samples: int
    lost_samples: int
    beats: int
    verdicts: int
    abstentions: int
    restarts: int
    fs_nominal: float | None
    fs_measured: Rounded | None
    fs_deviation_percent: Rounded | None = Field(
        default=None, description="Of the measured rate from the nominal one; null before it was measured long enough."
    )
    source: SourceHealth = Field(default_factory=SourceHealth)


class OutboxHealth(Message):
    """The messages of QoS 1 on disk."""

    messages: int
    bytes: int = Field(description="Of topics and payloads; the file is somewhat larger.")
    evicted: dict[str, int] = Field(description="Pushed out by a bound since the start: beats, events, alarms.")
    disk: str = Field(description="ok, or why messages are kept in memory just now.")


class BrokerHealth(Message):
    """The link to the broker."""

    connected: bool
    state: str = Field(description="connected, or why it is not.")
    connects: int
    published: int
    dropped: int = Field(description="QoS 0 while the broker was away, since the start.")
    lost: int = Field(description="QoS 1 that neither the disk nor the memory could keep, since the start.")
    refused: int = Field(description="QoS 1 that the broker did not take, and will not, since the start.")
    waiting: int = Field(description="QoS 1 that the broker has not acknowledged yet.")
    outbox: OutboxHealth | None = Field(description="null where it is switched off or could not be opened.")
    outbox_fault: str | None = Field(
        default=None, description="Why it could not be opened at the start; messages are in memory alone."
    )


class LinesHealth(Message):
    """The file of lines."""

    written: int
    dropped: int = Field(description="Lines that the disk did not take, since the start.")
    disk: str = Field(description="ok, or why lines are dropped just now.")


class RecorderHealth(Message):
    """The recorder, since the start."""

    segments: int = Field(description="Begun.")
    dropped: int = Field(description="Blocks and events that its queue or the disk did not take.")
    repaired: int = Field(description="Segments that the last run left open.")
    removed: int = Field(description="Segments that a bound cost.")
    disk: str = Field(description="ok, or why nothing is recorded just now.")


class Percentiles(Message):
    """A distribution of milliseconds, from an HDR histogram of two digits."""

    count: int
    p50_ms: Rounded
    p90_ms: Rounded
    p95_ms: Rounded
    p99_ms: Rounded
    p99_9_ms: Rounded
    max_ms: Rounded


class StageLatency(Message):
    last_minute: Percentiles | None = Field(description="null when there was nothing in it.")
    since_start: Percentiles | None


class Health(Message):
    """How the process and its links are. Retained, at an interval."""

    schema_: Literal["edge-agent/health/1"] = Field(default="edge-agent/health/1", alias="schema")
    device: str
    session: str
    time: Utc
    uptime_s: Rounded
    resident_mb: Rounded | None
    broker: BrokerHealth
    inference: dict[str, int] = Field(
        description="Of all streams together, since the start: windows and moments that the models' thread has taken, dropped (its queue"
        " was full: judged by nobody) and met a fault with; those waiting; for how many seconds a call has not ended (stuck_s, from 5 on);"
        " and what the engines count."
    )
    latency: dict[str, StageLatency] = Field(
        description="By stage (algorithm, queue, compute, invoke, end_to_end, acknowledge); those that were measured."
    )
    streams: dict[str, StreamHealth]
    jsonl: LinesHealth | None = Field(default=None, description="null where it is off.")
    recorder: RecorderHealth | None = Field(default=None, description="null where it is off.")


class ModelEngine(Message):
    """Where a model runs."""

    backend: str = Field(description="tpu/... or cpu/..., and the runtime.")
    why: str = Field(description="Why there: the measured times, or what keeps it from the TPU.")
    cpu_p99_us: Rounded | None = Field(description="Of a call, measured on this device; null before that.")
    tpu_p99_us: Rounded | None


class EngineState(Message):
    """Whether models run on the Edge TPU. Retained; said at the start and whenever it changes."""

    schema_: Literal["edge-agent/engine/1"] = Field(default="edge-agent/engine/1", alias="schema")
    device: str
    session: str
    time: Utc
    state: Literal["tpu", "cpu", "degraded"] = Field(
        description="degraded: the CPU does what the TPU was to do, or did until it failed."
    )
    reason: str
    since: Utc = Field(description="When this state began.")
    degradations: int = Field(description="Since the start of the agent.")
    recoveries: int
    last_degraded: str | None = Field(
        description="Reason of the last degradation, over by now or not; null before any."
    )
    models: dict[str, ModelEngine]


class ModelInfo(Message):
    name: str
    version: str
    digest: str
    backend: str
    task: str
    state: Literal["active", "trial"] = Field(
        default="active", description="trial: new here, and sent back if it fails."
    )
    signer: str | None = Field(default=None, description="Id of the trusted key that signed it; null: not looked at.")
    note: str | None = Field(
        default=None, description="What became of the last change: a trial passed or failed, a version refused."
    )
    why: str | None = Field(default=None, description="Why it runs on this backend.")


class Info(Message):
    """What runs here. Retained."""

    schema_: Literal["edge-agent/info/1"] = Field(default="edge-agent/info/1", alias="schema")
    device: str
    session: str
    version: str
    models: list[ModelInfo]
    config: dict[str, Any] = Field(description="Without secrets and paths: (set), where there is one.")


class Response(Message):
    """The answer to a request."""

    schema_: Literal["edge-agent/response/1"] = Field(default="edge-agent/response/1", alias="schema")
    status: Literal["ok", "error"]
    data: dict[str, Any] = Field(default_factory=dict)
    error: str | None = None
    transaction: str | None = Field(default=None, description="As the asker gave it.")


# The signal's own events by topic; the order is the order of docs/mqtt.md.
TOPICS: dict[type[Event], str] = {
    Beat: "beat",
    Verdict: "verdict",
    Rhythm: "rhythm",
    Quality: "quality",
    Vitals: "state",
    Alarm: "alarm",
    Gap: "gap",
    Mark: "mark",
    Summary: "summary",
    Waveform: "waveform",
}

ALL_MESSAGES: tuple[type[Message], ...] = (*TOPICS, Availability, BridgeState, Health, Info, EngineState, Response)
