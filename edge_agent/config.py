"""Every setting, once: its type, bounds, default and help.

TOML, read by models that refuse what they do not know. ``load`` says all that is wrong at once: the place, what was found,
what is allowed and, for a misspelt key, the nearest name. This is the only module that reads the environment.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, ValidationError, field_validator, model_validator

from edge_agent.alarms.limits import AlarmLimits as AlarmLimits
from edge_agent.config_problems import Readers, problems
from edge_agent.errors import ConfigError
from edge_agent.inference.settings import InferenceConfig as InferenceConfig
from edge_agent.outputs import sinks
from edge_agent.outputs.settings import HomeAssistantConfig as HomeAssistantConfig
from edge_agent.outputs.settings import JsonlConfig as JsonlConfig
from edge_agent.outputs.settings import MetricsConfig as MetricsConfig
from edge_agent.outputs.settings import OutboxConfig as OutboxConfig
from edge_agent.outputs.settings import RecorderConfig as RecorderConfig
from edge_agent.outputs.settings import RequestsConfig as RequestsConfig
from edge_agent.review.settings import ReviewConfig as ReviewConfig
from edge_agent.section import SET, DiskPath, Host, printable, together, topic_part
from edge_agent.section import Section as Section
from edge_agent.sources.settings import BoardSource as BoardSource
from edge_agent.sources.settings import FileSource as FileSource
from edge_agent.sources.settings import LslSource as LslSource
from edge_agent.sources.settings import SerialSource as SerialSource
from edge_agent.sources.settings import Silent
from edge_agent.sources.settings import SimulatedSource as SimulatedSource
from edge_agent.sources.settings import StdinSource as StdinSource
from edge_agent.sources.settings import TcpSource as TcpSource

T = TypeVar("T", str, int)
SignalKind = Literal["ecg", "abp", "pleth"]
DETECTORS = ("native", "native:rules", "native:rules-fast")
MOST_BYTES = 1 << 20
PASSWORD_VARIABLE = "EDGE_AGENT_MQTT_PASSWORD"


def notify_socket() -> str | None:
    """Where systemd listens, if it started us."""
    return os.environ.get("NOTIFY_SOCKET")


def journal_stream() -> str | None:
    """Device and inode of the standard error that systemd connected to its journal."""
    return os.environ.get("JOURNAL_STREAM")


def colour_wanted() -> bool:
    """See https://no-color.org."""
    return "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def default_device() -> str:
    """The host's name, made a topic part."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).strip("-.") or "edge"


def state_folder() -> Path:
    """What outlives a restart: $STATE_DIRECTORY under systemd."""
    # systemd gives a list where several StateDirectory= are set; the first is ours.
    state = os.environ.get("STATE_DIRECTORY", "").split(":")[0]
    home = os.environ.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state or Path(home, "edge-agent"))


def model_store(inference: InferenceConfig) -> Path:
    """The folder that ``edge-agent models install`` fills."""
    return inference.store if inference.store is not None else state_folder() / "models"


def outbox_file(outbox: OutboxConfig, device: str) -> Path:
    """Where messages wait for the broker."""
    return (outbox.folder or state_folder()) / f"{device}.outbox"


def review_folder(state: Path | None = None) -> Path:
    """Where the page's corrections, exports and strips are: there, or in the state folder."""
    return state or state_folder() / "review"


class DeviceConfig(Section):
    """Who this device is."""

    id: str = Field(default_factory=default_device, description="Names the device in every topic and message.")
    _id = field_validator("id")(topic_part)


class TlsConfig(Section):
    """How the broker proves who it is, and the agent who it is."""

    must_be_there: ClassVar = ("ca_file", "cert_file", "key_file")
    ca_file: DiskPath | None = Field(default=None, description="PEM; the system's certificates by default.")
    cert_file: DiskPath | None = Field(
        default=None, description="The agent's own certificate, PEM, where the broker asks for one."
    )
    key_file: DiskPath | None = Field(default=None, description="Its key, PEM, without a passphrase.")
    check_name: bool = Field(default=True, description="Whether the certificate must be for the host's name.")

    @model_validator(mode="after")
    def _pair(self) -> TlsConfig:
        together(self, "cert_file", "key_file")
        return self

    def context(self) -> ssl.SSLContext:
        """OSError, ssl.SSLError among them, where the files cannot be used."""
        context = ssl.create_default_context(cafile=None if self.ca_file is None else str(self.ca_file))
        if self.cert_file is not None:
            context.load_cert_chain(self.cert_file, self.key_file)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.check_hostname = self.check_name
        return context


class MqttConfig(Section):
    """The broker."""

    must_be_there: ClassVar = ("password_file",)
    secret: ClassVar = ("username", "password_credential", "tls")
    host: Host = Field(default="localhost", description="The broker's name or address.")
    port: int = Field(default=1883, ge=1, le=65535)
    protocol: Literal["3.1.1", "5"] = "3.1.1"
    transport: Literal["tcp", "websockets"] = "tcp"
    websocket_path: str = Field(default="/mqtt", pattern=r"^/[^\s]*$")
    base: str = Field(default="edge-agent", description="First part of every topic.")
    username: str | None = None
    password_file: DiskPath | None = Field(
        default=None,
        description=f"A file that holds the password alone; the variable {PASSWORD_VARIABLE} is another way.",
    )
    password_credential: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]{1,64}$",
        description="Name of a systemd credential (LoadCredential=) that holds the password alone.",
    )
    tls: TlsConfig | None = Field(default=None, description="Encrypted, and the broker's certificate checked.")
    qos_beats: Literal[0, 1] = Field(default=0, description="QoS of beats and verdicts; alarms are always 1.")
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    queue_messages: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Kept in memory where the disk does not take them; the rest is dropped, counted.",
    )
    _base = field_validator("base")(topic_part)

    @model_validator(mode="after")
    def _one_password(self) -> MqttConfig:
        if self.password_file is not None and self.password_credential is not None:
            raise ValueError("password_file and password_credential: one of them")
        return self

    @property
    def password_source(self) -> str:
        """Where the password comes from, for people."""
        if self.password_credential is not None:
            return f"systemd credential {self.password_credential}"
        return str(self.password_file or PASSWORD_VARIABLE)

    def public(self) -> dict[str, Any]:
        path, asks, _ = self.websocket_path.partition("?")
        # some brokers take a token there
        return {**super().public(), "websocket_path": f"{path}?{SET}" if asks else path}

    def password(self) -> str | None:
        """Read when it is needed, kept nowhere."""
        if self.password_credential is not None:
            folder = os.environ.get("CREDENTIALS_DIRECTORY")
            if folder is None:
                raise FileNotFoundError("not started by systemd with LoadCredential=")
            return Path(folder, self.password_credential).read_text(encoding="utf-8").strip()
        if self.password_file is not None:
            return self.password_file.read_text(encoding="utf-8").strip()
        return os.environ.get(PASSWORD_VARIABLE)


class MqttSource(Section):
    """Raw samples that someone else publishes: a sensor too small for a model, or one of many behind a broker."""

    type: Literal["mqtt"]
    topic: str = Field(description="Where the blocks of samples come; TOPIC/info, retained, says what they are.")
    broker: MqttConfig | None = Field(
        default=None, description="A table with the keys of [mqtt] that say where and who; [mqtt] itself by default."
    )
    qos: Literal[0, 1] = Field(default=1, description="1: the broker repeats what was not acknowledged.")
    wait_info_s: float = Field(default=3.0, gt=0, le=60, description="How long the retained TOPIC/info is waited for.")
    reorder_s: float = Field(
        default=0.5, ge=0, le=5, description="How long a missing block is waited for before it counts as lost."
    )
    silent_s: Silent = 3.0
    wait: bool = Field(default=True, description="Start although the broker or the sensor is not there yet.")

    @property
    def wait_for_port(self) -> bool:
        return self.wait

    @field_validator("topic")
    @classmethod
    def _plain(cls, topic: str) -> str:
        if not topic or any(char in topic for char in "+#\0") or topic.startswith(("$", "/")) or topic.endswith("/"):
            raise ValueError("must be one plain topic: without '+' and '#', not beginning or ending with '/'")
        if not printable(topic):
            raise ValueError("must be without control characters")
        return topic


SOURCES: tuple[type[Section], ...] = (
    SimulatedSource,
    FileSource,
    SerialSource,
    BoardSource,
    StdinSource,
    TcpSource,
    MqttSource,
    LslSource,
)
SourceConfig = Annotated[
    SimulatedSource | FileSource | SerialSource | BoardSource | StdinSource | TcpSource | MqttSource | LslSource,
    Field(discriminator="type"),
]


class StreamConfig(Section):
    """One patient's signals from one source."""

    name: str
    source: SourceConfig
    signals: dict[str, SignalKind | Literal["ignore"]] = Field(
        default_factory=dict, description="Kind of a channel by name; the rest are told by name and unit."
    )
    resample: float | None = Field(
        default=None, ge=50, le=4000, description="Bring the whole stream to this rate, whatever the source's is."
    )
    detector: str = Field(default="native", description=f"{', '.join(DETECTORS)}, or ecgdetectors:NAME.")
    models: list[str] | None = Field(default=None, description="Names of the models to run; all that fit by default.")
    alarms: AlarmLimits = Field(default_factory=AlarmLimits)
    waveform: bool = Field(default=False, description="Publish the signal itself, once a second, QoS 0.")
    _name = field_validator("name")(topic_part)

    @field_validator("name")
    @classmethod
    def _not_bridge(cls, name: str) -> str:
        if name == "bridge":
            raise ValueError("'bridge' is the agent's own topic")
        return name

    @field_validator("detector")
    @classmethod
    def _known_detector(cls, detector: str) -> str:
        if detector not in DETECTORS and not detector.startswith("ecgdetectors:"):
            raise ValueError(f"is none of {', '.join(DETECTORS)}, ecgdetectors:NAME")
        return detector


class Config(sinks.Tables):
    """The whole file: these tables, and one for each of `outputs.sinks`."""

    device: DeviceConfig = Field(default_factory=DeviceConfig)
    mqtt: MqttConfig = Field(default_factory=MqttConfig)
    outbox: OutboxConfig = Field(default_factory=OutboxConfig)
    recorder: RecorderConfig | None = Field(default=None, description="Off without this table.")
    metrics: MetricsConfig | None = Field(default=None, description="Off without this table.")
    home_assistant: HomeAssistantConfig = Field(default_factory=HomeAssistantConfig)
    requests: RequestsConfig = Field(default_factory=RequestsConfig)
    review: ReviewConfig = Field(default_factory=ReviewConfig)
    inference: InferenceConfig = Field(default_factory=InferenceConfig)
    health_s: float = Field(default=10.0, ge=1, le=3600, description="Between two health messages.")
    stream: list[StreamConfig] = Field(min_length=1, description="One [[stream]] table for each patient.")

    @field_validator("stream")
    @classmethod
    def _distinct(cls, streams: list[StreamConfig]) -> list[StreamConfig]:
        if clashing := "; ".join(clashes(streams)):
            raise ValueError(clashing)
        return streams

    def anchored(self, folder: Path) -> Self:
        """And a source that names no broker of its own has ours."""
        placed = super().anchored(folder)
        return placed.model_copy(update={"stream": [_with_broker(stream, placed.mqtt) for stream in placed.stream]})

    def missing(self, folder: Path) -> Iterator[str]:
        yield from super().missing(folder)
        for number, stream in enumerate(self.stream):
            yield from (f"stream[{number}] ({stream.name}).{one}" for one in stream.missing(folder))


def clashes(streams: Sequence[StreamConfig]) -> Iterator[str]:
    """What one stream alone can have, and two want."""
    for name in _twice(stream.name for stream in streams):
        yield f"the name {name!r} stands twice"
    if sum(isinstance(stream.source, StdinSource) for stream in streams) > 1:
        yield "two streams read the standard input; there is one"
    for number in _twice(stream.source.port for stream in streams if isinstance(stream.source, TcpSource)):
        yield f"two streams listen on TCP port {number}; give each its own"
    ports = [stream.source.port for stream in streams if isinstance(stream.source, SerialSource | BoardSource)]
    # One device may have several names; what is behind a URL is not ours to know.
    for port in _twice(os.path.realpath(port) for port in ports if port and "://" not in port):
        yield f"two streams read the port {port}; one board is one stream"


def _twice(names: Iterable[T]) -> list[T]:
    return [name for name, many in Counter(names).items() if many > 1]


def _with_broker(stream: StreamConfig, mqtt: MqttConfig) -> StreamConfig:
    source = stream.source
    if not isinstance(source, MqttSource) or source.broker is not None:
        return stream
    return stream.model_copy(update={"source": source.model_copy(update={"broker": mqtt})})


def load(path: Path, *, streams: bool = True, table: str = "inference") -> Config:
    """Read a configuration, or say everything that is wrong with it.

    ``streams=False``: for commands about one ``table`` (models, the broker). A file without any stream does, and whether the files and
    ports are there that the others name is not their business.
    """
    data = parsed(path)
    try:
        config = Config.model_validate(data if streams or "stream" in data else {**data, "stream": [_NO_STREAM]})
    except ValidationError as error:
        raise ConfigError(path, list(_problems(error, data))) from None
    if missing := missing_files(config, path.parent, None if streams else table):
        raise ConfigError(path, missing)
    config = config.anchored(path.parent.resolve())
    if wrong := list(written_over(config, path)):
        raise ConfigError(path, wrong)
    return config


def written_over(config: Config, path: Path) -> Iterator[str]:
    """Outputs that would write into what is read."""
    read = {os.path.realpath(path): "this configuration"}
    for stream in config.stream:
        for key in type(stream.source).model_fields:
            value = getattr(stream.source, key)
            if isinstance(value, Path):
                read[os.path.realpath(value)] = f"what the stream {stream.name} reads"
    for name, key, file in sinks.files(config):
        if what := read.get(os.path.realpath(file)):
            yield f"{name}.{key}: {file.name} is {what}; a file of its own is wanted"


def parsed(path: Path) -> dict[str, Any]:
    """A file's tables, whatever stands in them."""
    try:
        if path.exists() and (not path.is_file() or path.stat().st_size > MOST_BYTES):
            plain = f"is no plain file of at most {MOST_BYTES >> 10} KiB"
            raise ConfigError(path, ["is a folder; the file is wanted" if path.is_dir() else plain])
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        remedy = f"; write one: edge-agent example > {path.name}" if isinstance(error, FileNotFoundError) else ""
        raise ConfigError(path, [f"cannot be read: {error.strerror or error}{remedy}"]) from None
    except UnicodeDecodeError:
        raise ConfigError(path, ["is not text in UTF-8; a configuration is a TOML file"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [f"is not valid TOML: {error}"]) from None
    except RecursionError:
        raise ConfigError(path, ["is not valid TOML: nested too deeply"]) from None


def missing_files(config: Config, folder: Path, table: str | None = None) -> list[str]:
    """What the configuration, or this table of it, names and is not there."""
    try:
        if table is not None:
            return [f"{table}.{one}" for one in getattr(config, table).missing(folder)]
        return list(config.missing(folder))
    except OSError as error:  # a name that no file can have: too long, or through what is no folder
        return [f"{str(error.filename)[:100]}: {error.strerror}"]


_NO_STREAM = {"name": "none", "source": {"type": "simulated"}}


def _problems(error: ValidationError, data: dict[str, Any]) -> Iterator[str]:
    return problems(error, data, Readers(Config, StreamConfig, SOURCES))
