"""``[review]``: the page that the daemon serves."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from edge_agent.section import DiskPath, Host, Section, together


class ReviewConfig(Section):
    """A page that shows the streams live and the recorder's recordings; loopback without a password, beyond it with a token."""

    must_be_there: ClassVar = ("cert_file", "key_file")
    enabled: bool = False
    host: Host = Field(default="127.0.0.1", description="Address to listen on; beyond loopback a token is asked for.")
    port: int = Field(default=8080, ge=1, le=65535)
    recordings: DiskPath | None = Field(
        default=None, description="Folder of recordings to review; default: recorder.folder."
    )
    state: DiskPath | None = Field(
        default=None,
        description="Where corrections, exports and alarms' strips are kept; default: the state folder's review.",
    )
    cert_file: DiskPath | None = Field(default=None, description="TLS: the page's certificate, PEM.")
    key_file: DiskPath | None = Field(default=None, description="Its key, PEM, without a passphrase.")
    models: bool = Field(
        default=True,
        description="Run the models over a recording that is opened, for labels and scores; in a process of its own.",
    )

    @model_validator(mode="after")
    def _pair(self) -> ReviewConfig:
        together(self, "cert_file", "key_file")
        return self
