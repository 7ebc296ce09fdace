"""Every setting, once: its type, bounds, default and help.

TOML, read by models that refuse what they do not know. ``load`` says all that is wrong at once: the place, what was found,
what is allowed and, for a misspelt key, the nearest name. This is the only module that reads the environment.
"""

from __future__ import annotations

import difflib
import os
import re
import socket
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from edge_agent.errors import ConfigError

SignalKind = Literal["ecg", "abp", "pleth"]
DETECTORS = ("native", "native:rules", "native:rules-fast")
MOST_BYTES = 1 << 20
PASSWORD_VARIABLE = "EDGE_AGENT_MQTT_PASSWORD"


def notify_socket() -> str | None:
    """Where systemd listens, if it started us."""
    return os.environ.get("NOTIFY_SOCKET")


def colour_wanted() -> bool:
    """See https://no-color.org."""
    return "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


class Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _topic_part(name: str) -> str:
    if not name or any(char in name for char in "+#/\0") or name.startswith("$"):
        raise ValueError("must be a plain topic part: not empty, without '+', '#' and '/', not starting with '$'")
    if len(name) > 100:
        raise ValueError("is longer than 100 characters")
    return name


def default_device() -> str:
    """The host's name, made a topic part."""
    return re.sub(r"[^A-Za-z0-9_.-]", "-", socket.gethostname()).strip("-.") or "edge"


class DeviceConfig(Section):
    """Who this device is."""

    id: str = Field(default_factory=default_device, description="Names the device in every topic and message.")
    _id = field_validator("id")(_topic_part)


class MqttConfig(Section):
    """The broker. Messages go nowhere else yet."""

    host: str = Field(default="localhost", min_length=1, description="The broker's name or address.")
    port: int = Field(default=1883, ge=1, le=65535)
    base: str = Field(default="edge-agent", description="First part of every topic.")
    username: str | None = None
    password_file: Path | None = Field(
        default=None,
        description=f"A file that holds the password alone; the variable {PASSWORD_VARIABLE} is the other way.",
    )
    qos_beats: Literal[0, 1] = Field(default=0, description="QoS of beats and verdicts; alarms are always 1.")
    keepalive_s: int = Field(default=30, ge=5, le=3600)
    queue_messages: int = Field(
        default=10_000,
        ge=100,
        le=1_000_000,
        description="Kept in memory while the broker is away; the rest is dropped, counted.",
    )
    _base = field_validator("base")(_topic_part)

    def password(self) -> str | None:
        """Read when it is needed, kept nowhere."""
        if self.password_file is not None:
            return self.password_file.read_text(encoding="utf-8").strip()
        return os.environ.get(PASSWORD_VARIABLE)


class InferenceConfig(Section):
    """Which models may run."""

    models_dir: Path | None = Field(default=None, description="Folder of model folders; the shipped ones by default.")
    queue_windows: int = Field(
        default=256,
        ge=1,
        le=65536,
        description="Windows waiting for the models; beyond it they are dropped, counted on bridge/health.",
    )


class SimulatedSource(Section):
    """The simulated patient."""

    type: Literal["simulated"]
    fs: float = Field(default=250.0, ge=100, le=1000, description="Samples per second.")
    channels: list[Literal["II", "V", "ABP", "PLETH"]] = Field(default=["II", "V", "ABP", "PLETH"], min_length=1)
    script: Path | Literal["demo", "sinus"] = Field(
        default="sinus", description="'demo', 'sinus', or a TOML file of [[episodes]] tables."
    )
    seed: int = Field(default=0, ge=0)
    speed: float = Field(default=1.0, gt=0, le=1000, description="Patient seconds per second.")
    forever: bool = Field(default=False, description="Start the script again at its end.")

    @field_validator("channels")
    @classmethod
    def _each_once(cls, channels: list[str]) -> list[str]:
        if len(set(channels)) != len(channels):
            raise ValueError("names a channel twice")
        return channels


class FileSource(Section):
    """A recording, paced."""

    type: Literal["file"]
    path: Path = Field(description="WFDB record (without extension), .csv, .edf.")
    speed: float = Field(default=1.0, gt=0, le=1000, description="Recorded seconds per second.")
    fs: float | None = Field(default=None, gt=0, le=10_000, description="Rate of a CSV without a time column.")
    loop: bool = Field(default=False, description="Start the recording again at its end.")


class SerialSource(Section):
    """A board that writes lines of numbers."""

    type: Literal["serial"]
    port: str = Field(description="/dev/serial/by-id/..., or any pyserial URL (socket://, rfc2217://, loop://).")
    baud: int = Field(default=115200, ge=300, le=4_000_000)
    fs: float = Field(description="Nominal samples per second; compared with what arrives.", ge=1, le=10_000)
    columns: list[str] = Field(min_length=1, description="Name of each column's signal; '-' for one to ignore.")
    separator: Literal[",", ";", "tab", "blank"] = Field(default=",", description="Between the columns.")
    scale: float | list[float] = Field(
        default=1.0, description="Physical units per number: one for all columns, or one each."
    )
    lead_off: list[str] = Field(default=["!"], description="Words that stand for a value while the lead is off.")
    silent_s: float = Field(
        default=3.0, gt=0, le=20, description="Without a sample for this long, the board counts as lost."
    )
    wait_for_port: bool = Field(default=False, description="Start although the port is not there yet.")

    @model_validator(mode="after")
    def _scales(self) -> SerialSource:
        if isinstance(self.scale, list) and len(self.scale) != len(self.columns):
            raise ValueError(f"scale has {len(self.scale)} numbers for {len(self.columns)} columns")
        named = [name for name in self.columns if name != "-"]
        if not named:
            raise ValueError("columns names no signal")
        if len(set(named)) != len(named):
            raise ValueError("columns names a signal twice")
        return self


class BoardSource(Section):
    """A board that sends frames of its own."""

    type: Literal["board"]
    board: str = Field(description="healthypi5, cyton, bitalino ...; a wrong name is answered with the known ones.")
    port: str = Field(description="/dev/serial/by-id/..., or any pyserial URL.")
    baud: int | None = Field(default=None, ge=300, le=4_000_000, description="The board's usual one by default.")
    fs: float | None = Field(default=None, gt=0, le=10_000, description="Where the board can be set to several.")
    gain: int | None = Field(default=None, ge=1, le=64, description="Of the Cyton's amplifiers.")
    inputs: list[int] | None = Field(default=None, min_length=1, description="Of a BITalino: which are sent.")
    ecg: list[str] | None = Field(default=None, description="Of a BITalino: which of them carry the ECG sensor.")
    ecg_mv: float | None = Field(default=None, gt=0, description="Of ProtoCentral's boards: millivolts per count.")
    silent_s: float = Field(
        default=3.0, gt=0, le=20, description="Without a sample for this long, the board counts as lost."
    )
    wait_for_port: bool = Field(default=False, description="Start although the port is not there yet.")

    def options(self) -> dict[str, Any]:
        """What the board's codec is told; what was not set is not said."""
        given = {"fs": self.fs, "gain": self.gain, "inputs": self.inputs, "ecg": self.ecg, "ecg_mv": self.ecg_mv}
        return {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if value is not None
        }


SOURCES = (SimulatedSource, FileSource, SerialSource, BoardSource)
SourceConfig = Annotated[SimulatedSource | FileSource | SerialSource | BoardSource, Field(discriminator="type")]


class AlarmLimits(Section):
    """Limits and durations of the alarms."""

    asystole_s: float = Field(default=4.0, ge=2, le=30, description="Pause without a beat.")
    bradycardia_per_min: float = Field(default=40.0, ge=10, le=120, description="Below this over 5 beats.")
    tachycardia_per_min: float = Field(default=140.0, ge=80, le=300, description="Above this over 17 beats.")
    ventricular_beats: int = Field(default=5, ge=3, le=50, description="Ventricular beats in a row.")
    ventricular_per_min: float = Field(default=100.0, ge=50, le=250, description="Their least rate.")
    hypotension_mean_mmhg: float = Field(default=65.0, ge=20, le=150)
    hypertension_systolic_mmhg: float = Field(default=180.0, ge=80, le=300)
    pressure_duration_s: float = Field(
        default=60.0, ge=5, le=600, description="How long a pressure must stay beyond its limit."
    )
    lead_off_s: float = Field(default=2.0, ge=0.5, le=60)
    noise_s: float = Field(default=8.0, ge=1, le=120)
    abp_artifact_s: float = Field(default=4.0, ge=1, le=120)
    clear_s: float = Field(
        default=5.0, ge=0, le=120, description="How long a finding must stay away before its alarm clears."
    )


class StreamConfig(Section):
    """One patient's signals from one source."""

    name: str
    source: SourceConfig
    signals: dict[str, SignalKind | Literal["ignore"]] = Field(
        default_factory=dict, description="Kind of a channel by name; the rest are told by name and unit."
    )
    detector: str = Field(default="native", description=f"{', '.join(DETECTORS)}, or ecgdetectors:NAME.")
    models: list[str] | None = Field(default=None, description="Names of the models to run; all that fit by default.")
    alarms: AlarmLimits = Field(default_factory=AlarmLimits)
    waveform: bool = Field(default=False, description="Publish the signal itself, once a second, QoS 0.")
    _name = field_validator("name")(_topic_part)

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


class Config(Section):
    """The whole file."""

    device: DeviceConfig = Field(default_factory=DeviceConfig)
    mqtt: MqttConfig = Field(default_factory=MqttConfig)
    inference: InferenceConfig = Field(default_factory=InferenceConfig)
    health_s: float = Field(default=10.0, ge=1, le=3600, description="Between two health messages.")
    stream: list[StreamConfig] = Field(min_length=1, description="One [[stream]] table for each patient.")

    @field_validator("stream")
    @classmethod
    def _distinct(cls, streams: list[StreamConfig]) -> list[StreamConfig]:
        names = [stream.name for stream in streams]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"the name {twice[0]!r} stands twice")
        return streams

    def public(self) -> dict[str, Any]:
        """As published: no secret and no path to one."""
        shown = self.model_dump(mode="json")
        for key in ("username", "password_file"):
            if shown["mqtt"][key] is not None:
                shown["mqtt"][key] = "(set)"
        return shown


def load(path: Path) -> Config:
    """Read a configuration, or say everything that is wrong with it."""
    try:
        if path.exists() and not path.is_dir() and (not path.is_file() or path.stat().st_size > MOST_BYTES):
            raise ConfigError(path, [f"is no plain file of at most {MOST_BYTES >> 10} KiB"])
        data = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConfigError(
            path, [f"cannot be read: {error.strerror or error}; write one: edge-agent example > {path.name}"]
        ) from None
    except UnicodeDecodeError:
        raise ConfigError(path, ["is not text in UTF-8; a configuration is a TOML file"]) from None
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(path, [f"is not valid TOML: {error}"]) from None
    except RecursionError:
        raise ConfigError(path, ["is not valid TOML: nested too deeply"]) from None
    try:
        config = Config.model_validate(data)
    except ValidationError as error:
        raise ConfigError(path, list(_problems(error, data))) from None
    missing = list(_missing_files(config, path.parent))
    if missing:
        raise ConfigError(path, missing)
    return _anchored(config, path.parent.resolve())


def _anchored(config: Config, folder: Path) -> Config:
    """Relative paths are relative to the configuration file, wherever the daemon was started."""
    streams = []
    for stream in config.stream:
        source = stream.source
        if isinstance(source, FileSource):
            source = source.model_copy(update={"path": folder / source.path})
        elif isinstance(source, SimulatedSource) and isinstance(source.script, Path):
            source = source.model_copy(update={"script": folder / source.script})
        streams.append(stream.model_copy(update={"source": source}))
    mqtt, inference = config.mqtt, config.inference
    if mqtt.password_file is not None:
        mqtt = mqtt.model_copy(update={"password_file": folder / mqtt.password_file})
    if inference.models_dir is not None:
        inference = inference.model_copy(update={"models_dir": folder / inference.models_dir})
    return config.model_copy(update={"stream": streams, "mqtt": mqtt, "inference": inference})


def _missing_files(config: Config, folder: Path) -> Iterator[str]:
    """Files that the configuration names and that are not there."""
    if config.mqtt.password_file is not None and not (folder / config.mqtt.password_file).is_file():
        yield f"mqtt.password_file: {config.mqtt.password_file}: no such file"
    if config.inference.models_dir is not None and not (folder / config.inference.models_dir).is_dir():
        yield f"inference.models_dir: {config.inference.models_dir}: no such folder"
    for number, stream in enumerate(config.stream):
        source, where = stream.source, f"stream[{number}] ({stream.name})"
        if isinstance(source, SimulatedSource) and isinstance(source.script, Path):
            if not (folder / source.script).is_file():
                yield f"{where}.source.script: {source.script}: no such file; 'demo' and 'sinus' are built in"
        elif isinstance(source, FileSource):
            path = folder / source.path
            if not path.is_file() and not Path(f"{path}.hea").is_file():
                yield f"{where}.source.path: {source.path}: no such recording (.csv, .edf, or a WFDB record's .hea)"
        elif isinstance(source, SerialSource | BoardSource) and _port_missing(source):
            yield (
                f"{where}.source.port: {source.port}: no such port; plug the board in, look under "
                "/dev/serial/by-id, or set wait_for_port = true"
            )


def _port_missing(source: SerialSource | BoardSource) -> bool:
    """Whether the configuration promises a port that is not there."""
    return "://" not in source.port and not source.wait_for_port and not Path(source.port).exists()


def _problems(error: ValidationError, data: dict[str, Any]) -> Iterator[str]:
    said: dict[str, str] = {}
    for one in error.errors():
        place = _place(one["loc"], data)
        found = one.get("input")
        if one["type"] == "extra_forbidden":
            said[place] = f"unknown key{_nearest(one['loc'])}"
        elif one["type"] == "missing":
            said[place] = "is missing"
        elif one["type"] in ("union_tag_invalid", "union_tag_not_found"):
            allowed = ", ".join(str(tag) for tag in get_tags())
            kind = found.get("type") if isinstance(found, dict) else None
            said[f"{place}.type"] = f"found {kind!r}, allowed: {allowed}" + _guess(str(kind), list(get_tags()))
        else:
            shown = "" if isinstance(found, dict | list) or found is None else f"found {found!r}; "
            message = one["msg"].removeprefix("Value error, ").replace("Input should be", "should be")
            # A union says no once for each of its branches.
            said[place] = f"{said[place]}, or {message}" if place in said else shown + message
    return (f"{place}: {problem}" for place, problem in said.items())


def get_tags() -> tuple[str, ...]:
    """The source types there are."""
    return tuple(get_args(model.model_fields["type"].annotation)[0] for model in SOURCES)


def _place(loc: tuple[int | str, ...], data: dict[str, Any]) -> str:
    """``stream[1] (bed2).source.port``: as a person would point at it."""
    here: Any = data
    text = ""
    for part in loc:
        if isinstance(part, int):
            here = here[part] if isinstance(here, list) and part < len(here) else {}
            name = here.get("name") if isinstance(here, dict) else None
            text += f"[{part}]" + (f" ({name})" if name else "")
        elif not isinstance(here, dict) or (part in get_tags() and part not in here):
            continue  # pydantic names the union's branch; the file does not
        else:
            here = here.get(part, {})
            text += f".{part}" if text else part
    return text or "the file"


def _nearest(loc: tuple[int | str, ...]) -> str:
    """The known key nearest to an unknown one, among those of its own table."""
    model: Any = Config
    for part in loc[:-1]:
        if isinstance(part, int):
            continue
        tagged = dict(zip(get_tags(), SOURCES, strict=True))
        if part in tagged:
            model = tagged[part]
        elif part == "stream":
            model = StreamConfig
        elif part in getattr(model, "model_fields", {}):
            annotation = model.model_fields[part].annotation
            model = annotation if isinstance(annotation, type) else model
    return _guess(str(loc[-1]), list(getattr(model, "model_fields", {})))


def _guess(word: str, known: list[str]) -> str:
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(known)}"
