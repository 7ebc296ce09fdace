"""The settings of the sources: what a ``[stream.source]`` table may hold. ``edge_agent.config`` has them all, and MQTT's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, field_validator, model_validator

from edge_agent.section import DiskPath, Host, Section, valid_host


def _valid_port(port: str) -> str:
    """A device's path, or pyserial's URL of one that is elsewhere."""
    if port.partition("://")[0].lower() in ("socket", "rfc2217"):
        valid_host(urlsplit(port).hostname or "")
    return port


def _missing_port(source: SerialSource | BoardSource) -> Iterator[str]:
    """A port that is promised and not there."""
    if "://" not in source.port and not source.wait_for_port and not Path(source.port).exists():
        yield (
            f"port: {source.port}: no such port; plug the board in, look under "
            "/dev/serial/by-id, or set wait_for_port = true"
        )


Port = Annotated[str, AfterValidator(_valid_port)]
Separator = Literal[",", ";", "tab", "blank"]
Silent = Annotated[float, Field(gt=0, le=20, description="Without a sample for this long, the source counts as lost.")]


class SimulatedSource(Section):
    """The simulated patient."""

    type: Literal["simulated"]
    fs: float = Field(default=250.0, ge=100, le=1000, description="Samples per second.")
    channels: list[Literal["II", "V", "ABP", "PLETH"]] = Field(default=["II", "V", "ABP", "PLETH"], min_length=1)
    script: DiskPath | Literal["demo", "sinus"] = Field(
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

    def missing(self, folder: Path) -> Iterator[str]:
        if isinstance(self.script, Path) and not (folder / self.script).is_file():
            yield f"script: {self.script}: no such file; 'demo' and 'sinus' are built in"


class FileSource(Section):
    """A recording, paced or as fast as it goes."""

    type: Literal["file"]
    path: DiskPath = Field(description="WFDB record (without extension), .csv, .edf, .bdf, or .hdf5 of ICM+.")
    speed: Annotated[float, Field(gt=0, le=1000)] | Literal["max"] = Field(
        default=1.0, description="Recorded seconds per second, or 'max': as fast as detection and models go."
    )
    offset: float = Field(default=0.0, ge=0, description="Start so many seconds after the recording's beginning.")
    fs: float | None = Field(default=None, gt=0, le=100_000, description="Rate of a CSV without a time column.")
    loop: bool = Field(default=False, description="Start again at the end, from the offset.")
    loop_gap_s: float = Field(
        default=1.0,
        ge=0,
        le=60,
        description="The seam of a loop is a gap of this length, so that no beat interval bridges it; 0 joins the ends.",
    )

    @property
    def factor(self) -> float:
        """Recorded seconds per second; infinite for 'max'."""
        return float("inf") if self.speed == "max" else self.speed

    def missing(self, folder: Path) -> Iterator[str]:
        path = folder / self.path
        if not path.is_file() and not Path(f"{path}.hea").is_file():
            yield f"path: {self.path}: no such recording (.csv, .edf, .hdf5, or a WFDB record's .hea)"


class LineSettings(Section):
    """Lines of numbers: what every source of text shares."""

    fs: float = Field(description="Nominal samples per second; compared with what arrives.", ge=1, le=10_000)
    columns: list[str] = Field(min_length=1, description="Name of each column's signal; '-' for one to ignore.")
    separator: Separator = Field(default=",", description="Between the columns.")
    scale: float | list[float] = Field(
        default=1.0, description="Physical units per number: one for all columns, or one each."
    )
    lead_off: list[str] = Field(default=["!"], description="Words that stand for a value while the lead is off.")
    comment: list[str] = Field(
        default=["#"], description="Lines that begin so are remarks: neither samples nor faults."
    )
    silent_s: Silent = 3.0

    @field_validator("comment")
    @classmethod
    def _not_empty(cls, words: list[str]) -> list[str]:
        if any(not word.strip() for word in words):
            raise ValueError("an empty word would make every line a remark")
        return words

    @model_validator(mode="after")
    def _scales(self) -> LineSettings:
        if isinstance(self.scale, list) and len(self.scale) != len(self.columns):
            raise ValueError(f"scale has {len(self.scale)} numbers for {len(self.columns)} columns")
        named = [name for name in self.columns if name != "-"]
        if not named:
            raise ValueError("columns names no signal")
        if len(set(named)) != len(named):
            raise ValueError("columns names a signal twice")
        return self


class SerialSource(LineSettings):
    """A board that writes lines of numbers."""

    type: Literal["serial"]
    port: Port = Field(description="/dev/serial/by-id/..., or any pyserial URL (socket://, rfc2217://, loop://).")
    baud: int = Field(default=115200, ge=300, le=4_000_000)
    wait_for_port: bool = Field(default=False, description="Start although the port is not there yet.")

    def missing(self, folder: Path) -> Iterator[str]:  # noqa: ARG002  # a port is where it is
        return _missing_port(self)


class StdinSource(LineSettings):
    """Lines of numbers on the agent's standard input, at the pace of whoever writes them."""

    type: Literal["stdin"]


class TcpSource(LineSettings):
    """Lines of numbers from whoever connects: one client at a time."""

    type: Literal["tcp"]
    host: Host = Field(
        default="127.0.0.1",
        description="Address to listen on. Nothing is asked of a client: open it to a network that you trust, or not at all.",
    )
    port: int = Field(ge=1, le=65535)


class BoardSource(Section):
    """A board that sends frames of its own."""

    type: Literal["board"]
    board: str = Field(description="healthypi5, cyton, bitalino ...; a wrong name is answered with the known ones.")
    port: Port = Field(description="/dev/serial/by-id/..., or any pyserial URL.")
    baud: int | None = Field(default=None, ge=300, le=4_000_000, description="The board's usual one by default.")
    fs: float | None = Field(default=None, gt=0, le=10_000, description="Where the board can be set to several.")
    gain: int | None = Field(default=None, ge=1, le=64, description="Of the Cyton's amplifiers.")
    inputs: list[int] | None = Field(default=None, min_length=1, description="Of a BITalino: which are sent.")
    ecg: list[str] | None = Field(default=None, description="Of a BITalino: which of them carry the ECG sensor.")
    ecg_mv: float | None = Field(default=None, gt=0, description="Of ProtoCentral's boards: millivolts per count.")
    silent_s: Silent = 3.0
    wait_for_port: bool = Field(default=False, description="Start although the port is not there yet.")

    def missing(self, folder: Path) -> Iterator[str]:  # noqa: ARG002
        return _missing_port(self)

    def options(self) -> dict[str, Any]:
        """What the board's codec is told; what was not set is not said."""
        given = {"fs": self.fs, "gain": self.gain, "inputs": self.inputs, "ecg": self.ecg, "ecg_mv": self.ecg_mv}
        return {
            key: tuple(value) if isinstance(value, list) else value for key, value in given.items() if value is not None
        }


class LslSource(Section):
    """A Lab Streaming Layer inlet (needs pylsl)."""

    type: Literal["lsl"]
    name: str | None = Field(default=None, min_length=1, description="The outlet's name ...")
    stream_type: str | None = Field(default=None, min_length=1, description="... or its type, such as ECG ...")
    source_id: str | None = Field(default=None, min_length=1, description="... or its source id; any that are given.")
    columns: list[str] | None = Field(
        default=None,
        min_length=1,
        description="Names of its channels, '-' to ignore one; those of its header by default.",
    )
    scale: float = Field(default=1.0, description="Physical units per number, where its header names no unit.")
    resolve_s: float = Field(default=3.0, gt=0, le=30, description="How long the outlet is looked for.")
    silent_s: Silent = 3.0
    wait: bool = Field(default=True, description="Start although the outlet is not there yet.")

    @property
    def wait_for_port(self) -> bool:
        return self.wait

    @model_validator(mode="after")
    def _some_name(self) -> LslSource:
        if self.name is None and self.stream_type is None and self.source_id is None:
            raise ValueError("needs a name, a stream_type or a source_id")
        return self
