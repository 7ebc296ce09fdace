"""Settings of the outputs beside the broker: the outbox, lines of JSON, recordings, metrics, Home Assistant, requests."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from edge_agent.section import DiskPath, Host, Section, topic_part


class OutboxConfig(Section):
    """Messages of QoS 1 are kept on disk until the broker has them."""

    enabled: bool = Field(default=True, description="false: kept in memory alone, and lost with the process.")
    folder: DiskPath | None = Field(
        default=None,
        description="Default: $STATE_DIRECTORY (systemd), else $XDG_STATE_HOME/edge-agent, else ~/.local/state/edge-agent.",
    )
    max_mb: float = Field(default=64, ge=1, le=100_000, description="Beats are pushed out first, alarms last.")
    beats_offline: Literal["keep", "summary"] = Field(
        default="keep",
        description="With qos_beats = 1 and the broker away: every beat and verdict, or their counts once a minute.",
    )
    beats_wait_s: float = Field(
        default=0.0,
        ge=0,
        le=60,
        description="With qos_beats = 1, beats may wait so long to be written together: an SD card wears less. Alarms never wait.",
    )
    max_age_h: float = Field(default=72, gt=0, le=8760, description="Older beats and events go; alarms stay.")


class JsonlConfig(Section):
    """Every message as a line of JSON in a file, beside MQTT."""

    path: DiskPath = Field(description="The file; older ones beside it are path.1, path.2 ...")
    max_mb: float = Field(default=100, ge=1, le=1_000_000, description="Of all of them together.")
    keep: int = Field(default=4, ge=0, le=100, description="How many older files are kept.")


class RecorderConfig(Section):
    """The last hours of signal, with what was found in it, as WFDB records."""

    folder: DiskPath
    mode: Literal["events", "everything"] = Field(
        default="events", description="What surrounds an alarm, or all of it."
    )
    hours: float = Field(default=24, gt=0, le=24 * 366, description="Older recordings go.")
    max_mb: float = Field(default=1000, ge=1, le=10_000_000, description="Of all of them; the oldest go first.")
    before_s: float = Field(default=30, ge=0, le=600, description="Before an alarm, in events mode.")
    after_s: float = Field(default=30, ge=1, le=3600, description="After it, in events mode.")


class MetricsConfig(Section):
    """Metrics for Prometheus over HTTP, without a password: keep it on loopback or behind a proxy."""

    host: Host = Field(default="127.0.0.1")
    port: int = Field(default=9464, ge=1, le=65535)


class HomeAssistantConfig(Section):
    """Device discovery for Home Assistant on the same broker."""

    enabled: bool = False
    prefix: str = Field(default="homeassistant", description="Its discovery prefix.")
    _prefix = field_validator("prefix")(topic_part)


class RequestsConfig(Section):
    """Requests over MQTT on bridge/request/...: info, reload, measure, mark, silence, acknowledge, limits.

    None of them runs a command or reads a file.
    """

    enabled: bool = False
