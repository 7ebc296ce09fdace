"""What the recorder notes of a signal, in the order in which it stands in a record's annotations, which are written piece by piece.

The wfdb package writes whole files at their end; a recording that may lose its power at any moment needs one that can be gone on with.
"""

from __future__ import annotations

from dataclasses import dataclass

from edge_agent.annotation_files import mit
from edge_agent.annotation_files.mit import END as END


@dataclass(frozen=True, slots=True, order=True)
class Annotation:
    sample: int
    channel: int
    code: str
    subtype: int = 0
    text: str = ""


class Encoder:
    """Annotations in order of time to bytes; whoever ends the file adds ``END``."""

    def __init__(self) -> None:
        self._encoder = mit.Encoder()

    def encode(self, one: Annotation) -> bytes:
        return self._encoder.encode(mit.Annotation(one.sample, one.code, one.subtype, one.channel, text=one.text))
