"""Settings of the Edge TPU: ``[inference.tpu]``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_agent.section import DiskPath, Section

EngineName = Literal["auto", "cpu", "tpu"]
Device = Annotated[str, Field(pattern=r"^((usb|pci)?(:[0-9]{1,2})?)$")]


class TpuConfig(Section):
    """The Edge TPU, wherever a model holds a file that was compiled for it."""

    delegate: DiskPath | None = Field(
        default=None, description="libedgetpu.so.1; looked for in the usual places by default."
    )
    device: Device | list[Device] = Field(
        default="",
        description='"" (the first), ":N", "usb", "usb:N", "pci", "pci:N"; a list of them shares the models out.',
    )
    options: dict[str, str] = Field(default_factory=dict, description="For the delegate: Performance, Usb.* ...")
    python: DiskPath | None = Field(
        default=None,
        description="A Python with numpy and the TFLite runtime that this libedgetpu was built for; the agent's own by default.",
    )
    load_s: float = Field(default=20.0, ge=0.1, le=120, description="For loading one file; then the process is killed.")
    answer_ms: float = Field(
        default=10.0, ge=1, le=1000, description="A window waits so long for the TPU, then the CPU answers it."
    )
    hang_ms: float = Field(
        default=500.0, ge=10, le=60_000, description="A call that takes longer hangs: the process is killed."
    )
    check: Literal["auto", "all", "canary"] = Field(
        default="auto",
        description="all: the CPU computes every window, too, and its answer goes where they differ; canary: golden vectors only;"
        " auto: all where the CPU takes less than 2 ms.",
    )
    canary_s: float = Field(default=30.0, ge=0.1, le=3600, description="Between two golden vectors while it is in use.")
    max_temp_c: float = Field(default=84.0, ge=30, le=105, description="Of a PCIe TPU; above it the CPU takes over.")
    retry_s: float = Field(default=5.0, ge=0.05, le=3600, description="Before it is tried again; doubled each time.")
    retry_most_s: float = Field(default=300.0, ge=0.05, le=86_400, description="But no longer than this.")
    sysfs: DiskPath = Field(default=Path("/sys"), description="Where the kernel shows its devices.")

    @model_validator(mode="after")
    def _in_order(self) -> TpuConfig:
        if self.hang_ms < self.answer_ms:
            raise ValueError("hang_ms is less than answer_ms")
        if self.retry_most_s < self.retry_s:
            raise ValueError("retry_most_s is less than retry_s")
        return self

    @property
    def devices(self) -> list[str]:
        return [self.device] if isinstance(self.device, str) else self.device or [""]
