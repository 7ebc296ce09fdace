"""WFDB's binary annotation format, written piece by piece.

The wfdb package writes whole files at their end; a recording that may lose its power at any moment needs one that can be gone on
with. Format: PhysioNet, WFDB Applications Guide, annot(5). Only what is needed here: codes, channel, subtype and text.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

CODES = {"N": 1, "V": 5, "F": 6, "S": 9, "Q": 13, "~": 14, '"': 22, "+": 28}
SKIP, SUBTYPE, CHANNEL, TEXT = 59, 61, 62, 63
END = b"\0\0"
LONGEST_INTERVAL = 1023


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
        self._last = 0
        self._channel = 0

    def encode(self, one: Annotation) -> bytes:
        interval = one.sample - self._last
        self._last = one.sample
        made = bytearray()
        if not 0 <= interval <= LONGEST_INTERVAL:
            high, low = divmod(interval & 0xFFFFFFFF, 0x10000)  # a 32-bit number of the PDP-11: high half first
            made += struct.pack("<HHH", SKIP << 10, high, low)
            interval = 0
        made += struct.pack("<H", CODES[one.code] << 10 | interval)
        if one.subtype:
            made += struct.pack("<H", SUBTYPE << 10 | (one.subtype & 0xFF))
        if one.channel != self._channel:  # it holds until it is changed
            self._channel = one.channel
            made += struct.pack("<H", CHANNEL << 10 | one.channel)
        if one.text:
            text = one.text.encode("utf-8", "replace")[:255]
            made += struct.pack("<H", TEXT << 10 | len(text)) + text + b"\0" * (len(text) % 2)
        return bytes(made)
