"""What a report holds: schema ``edge-agent/bench/2``. Its JSON schema in ``docs/schema/`` is made from this file.

Additions keep the version. Times are in microseconds unless a name says otherwise; what was not measured, or cannot be read on
this device, is ``null``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, PlainSerializer

from edge_agent.events import Message

Scenario = Literal["single", "paced", "multi", "streams", "pipeline", "accuracy", "soak"]
SCENARIOS: tuple[Scenario, ...] = ("single", "paced", "multi", "streams", "pipeline", "accuracy", "soak")
SCHEMA = "edge-agent/bench/2"
SUMMARY_SCHEMA = "edge-agent/bench-summary/1"

Us = Annotated[float, PlainSerializer(lambda x: round(x, 3), return_type=float, when_used="json")]
Number = Annotated[float, PlainSerializer(lambda x: round(x, 6), return_type=float, when_used="json")]


class Distribution(Message):
    """Times that were measured one by one. A percentile is null where too few were to give it."""

    count: int
    min_us: Us
    mean_us: Us
    p50_us: Us
    p90_us: Us | None
    p95_us: Us | None
    p99_us: Us | None
    p99_9_us: Us | None
    max_us: Us
    histogram: str = Field(
        description="All of them: an HDR histogram of nanoseconds with three digits, V2, base64; any HDR library reads it."
    )


class Segment(Message):
    """A stretch of the run: of these is the timeline made, and the run's own spread."""

    at_s: Number = Field(description="Its end, since the run began.")
    count: int
    p50_us: Us
    p90_us: Us
    p99_us: Us | None
    max_us: Us


class Spread(Message):
    """Standard deviation over the segments; null with fewer than three."""

    p50_us: Us | None
    p90_us: Us | None
    p99_us: Us | None


class Deadline(Message):
    limit_ms: Number
    misses: int
    of: int


class Agreement(Message):
    """Whether the figure comes again: within this run, and in the last run of the same kind that lies beside it."""

    halves_p50_ratio: Number | None = Field(description="Second half over first.")
    previous: str | None = Field(default=None, description="File name of that report.")
    previous_p50_ratio: Number | None = Field(default=None, description="This run over that one.")
    within_5_percent: bool | None = Field(description="Of both ratios that are known.")


class SelfCheck(Message):
    """What measuring adds: the same call of the runtime, timed by a bare loop in turns with edge-bench's own timing."""

    bare_p50_us: Us
    measured_p50_us: Us
    overhead_us: Us
    limit_us: Us
    passed: bool


class Load(Message):
    """One step of the scenario streams."""

    streams: int
    seconds: Number
    held: bool
    why_not: str | None
    messages: int
    cpu_us_per_stream_s: Number = Field(description="Processor time of the process for a second of one stream, live.")
    busy_us_per_stream_s: Number = Field(description="Of that, from taking a block to its last message.")
    warm_us_per_stream_s: Number = Field(
        description="The same as fast as it goes: without the pauses, in which caches and the clock's governor forget."
    )
    core_share: Number = Field(description="Of one core, processor time over time.")
    lost_samples: int
    latency: Distribution = Field(
        description="Of each message: from the block's arrival to its bytes, queue and compute."
    )
    queue: Distribution = Field(description="From the block's arrival to the start of its processing.")


class StreamsFigures(Message):
    carried: int | None = Field(description="The most streams that held; null if the least did not.")
    limit_reached: bool = Field(description="false: the most that was asked for held, and more might.")
    limit_ms: Number
    fs: Number
    block_ms: Number
    core: int | None = Field(description="The core that the process was pinned to; null where that cannot be done.")
    steps: list[Load]
    flatness: Number | None = Field(description="Largest over smallest warm_us_per_stream_s of the steps.")
    parts_us_per_stream_s: dict[str, Number] = Field(description="Where it goes; 'other' is what no stage claims.")
    parts_streams: int
    parts_overhead: Number | None = Field(description="What taking the parts apart costs, as a part of the whole.")


class PipelineFigures(Message):
    streams: int
    broker: str
    qos: int
    lost_samples: int
    algorithm: Distribution = Field(description="Delay of the method itself; it is in no other figure.")
    by_kind: dict[str, Distribution] = Field(description="By kind of message, beyond the method's own delay.")
    daemon_core_share: Number | None


class ClassFigures(Message):
    label: str
    count: int
    sensitivity: Number | None
    precision: Number | None
    f1: Number | None


class AccuracyFigures(Message):
    data: str
    data_sha256: str
    windows: int
    abstained: int
    accuracy: Number | None = Field(description="Of the windows that got a label.")
    macro_f1: Number | None
    kappa: Number | None
    classes: list[ClassFigures]
    confusion: list[list[int]] = Field(description="Rows: what is true; columns: the model's labels, then abstentions.")


class GoldenFigures(Message):
    cases: int
    worst: Number = Field(description="Largest difference from the golden outputs.")
    tolerance: Number
    same_label: int
    passed: bool


class State(Message):
    """What the device was like at one moment of a soak."""

    at_s: Number
    temperature_c: dict[str, Number]
    frequency_mhz: Number | None
    throttled: list[str] | None = Field(description="Flags that are set now; null where they cannot be read.")
    memory_available_mb: Number | None
    resident_mb: Number | None
    load_1min: Number | None
    tpu_temperature_c: Number | None


class Result(Message):
    """One scenario with one engine."""

    scenario: Scenario
    name: str = Field(description="Of the measurement within its scenario: call, window, 4 at once ...")
    backend: str
    measured: str = Field(description="What ``latency`` is, in words.")
    valid: bool
    reasons: list[str] = Field(description="Why not: throttled, governor, too few samples, clock, other load, ...")
    method: dict[str, Any]
    started: str
    seconds: Number
    init_ms: Number | None = Field(
        default=None, description="Loading the model into the engine, and its golden vectors."
    )
    first_us: Us | None = Field(default=None, description="The first call.")
    latency: Distribution | None
    parts: dict[str, Distribution] = Field(default_factory=dict, description="Stages apart, from a run of their own.")
    loop: Distribution | None = Field(
        default=None, description="The runtime's invoke alone in a bare loop, as TFLite's benchmark_model has it."
    )
    deadline: Deadline | None = None
    segments: list[Segment] = Field(default_factory=list)
    spread: Spread | None = None
    agreement: Agreement | None = None
    self_check: SelfCheck | None = None
    streams: StreamsFigures | None = None
    pipeline: PipelineFigures | None = None
    accuracy: AccuracyFigures | None = None
    golden: GoldenFigures | None = None
    soak: list[State] | None = None


class Tpu(Message):
    """One Edge TPU that the kernel sees."""

    bus: Literal["usb", "pcie"]
    ids: str | None
    speed: str | None
    temperature_c: Number | None
    initialised: bool | None = Field(description="USB: its firmware has been loaded since it was plugged in.")


class Environment(Message):
    """What the figures were measured on."""

    device: str
    board: str | None
    revision: str | None
    cpu: str | None
    machine: str | None
    cores: int | None
    cores_allowed: int | None
    virtual: bool | None
    governor: str | None
    frequency_mhz: Number | None
    frequency_most_mhz: Number | None
    memory_mb: int | None
    kernel: str | None
    os: str | None
    python: str
    numpy: str
    runtime: str | None
    delegate: str | None = Field(description="File of the Edge TPU's library.")
    libedgetpu: str | None = Field(description="What it says of its own version.")
    tpu_clock: Literal["std", "max"] | None
    tpus: list[Tpu] | None
    temperature_c: dict[str, Number]
    throttled_before: list[str] | None
    throttled_after: list[str] | None
    load_1min: Number | None
    agent: str
    configuration_sha256: str | None
    models: dict[str, str] = Field(description="Names and digests.")
    time: str


class Choice(Message):
    """Which engine the daemon would take for this model here."""

    backend: str
    reason: str


class Report(Message):
    """One model on one device (or, without a model, the whole agent), as ``reports/summary-*.json`` has it."""

    schema_: Literal["edge-agent/bench/2"] = Field(default="edge-agent/bench/2", alias="schema")
    model: str | None = Field(description="null: the agent with all its models.")
    version: str | None
    digest: str | None
    task: str | None
    environment: Environment
    results: list[Result]
    choice: Choice | None = None


class SummaryRow(Message):
    """A result in short."""

    scenario: Scenario
    name: str
    backend: str
    valid: bool
    reasons: list[str]
    count: int | None
    p50_us: Us | None
    p90_us: Us | None
    p99_us: Us | None
    p99_9_us: Us | None
    max_us: Us | None
    misses: int | None
    carried_streams: int | None = None
    cpu_us_per_stream_s: Number | None = None
    macro_f1: Number | None = None


class BenchSummary(Message):
    """A report in short, on ``BASE/DEVICE/bridge/bench/MODEL``. Retained."""

    schema_: Literal["edge-agent/bench-summary/1"] = Field(default="edge-agent/bench-summary/1", alias="schema")
    device: str
    model: str = Field(description="'agent' for the agent with all its models.")
    version: str | None
    digest: str | None
    time: str
    agent: str
    board: str | None
    cpu: str | None
    governor: str | None
    choice: str | None
    rows: list[SummaryRow]


REPORT_MESSAGES: tuple[type[Message], ...] = (Report, BenchSummary)
