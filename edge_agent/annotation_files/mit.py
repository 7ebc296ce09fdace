"""WFDB annotation files in the MIT format, read and written, with numpy alone.

Format: PhysioNet, WFDB Applications Guide, annot(5) and ecgcodes.h. The wfdb package does this too, but brings pandas with it, which
alone would take most of what the review page's server may use.
"""

from __future__ import annotations

import os
import struct
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_agent.errors import SourceError

# fmt: off
SYMBOLS = {
    0: " ", 1: "N", 2: "L", 3: "R", 4: "a", 5: "V", 6: "F", 7: "J", 8: "A", 9: "S", 10: "E", 11: "j", 12: "/", 13: "Q", 14: "~",
    16: "|", 18: "s", 19: "T", 20: "*", 21: "D", 22: '"', 23: "=", 24: "p", 25: "B", 26: "^", 27: "t", 28: "+", 29: "u", 30: "?",
    31: "!", 32: "[", 33: "]", 34: "e", 35: "n", 36: "@", 37: "x", 38: "f", 39: "(", 40: ")", 41: "r",
}
# fmt: on
CODES = {symbol: code for code, symbol in SYMBOLS.items()}
SKIP, NUM, SUBTYPE, CHANNEL, AUX = 59, 60, 61, 62, 63
LONGEST_INTERVAL = 1023
END = b"\0\0"
_MEMBERS = {"N": "NLRej", "S": "AaJS", "V": "VE", "F": "F", "Q": "/fQ"}
CLASSES = tuple(_MEMBERS)
AAMI = {symbol: label for label, members in _MEMBERS.items() for symbol in members}
"""Codes of beats to the classes of ANSI/AAMI EC57."""
MOST_BYTES = 256 << 20


@dataclass(frozen=True, slots=True)
class Annotation:
    sample: int
    symbol: str
    subtype: int = 0
    channel: int = 0
    number: int = 0
    text: str = ""


def read(path: Path) -> list[Annotation]:
    """Raises SourceError that names the file and what is wrong with it."""
    try:
        if path.stat().st_size > MOST_BYTES:
            raise SourceError(f"{path}: is larger than {MOST_BYTES >> 20} MiB, which no annotation file is")
        return parse(path.read_bytes())
    except SourceError:
        raise
    except OSError as error:
        raise SourceError(f"{path}: cannot be read ({error.strerror or error})") from None
    except ValueError as error:
        raise SourceError(f"{path}: not a WFDB annotation file ({error})", remedy="fetch it again") from None


def parse(raw: bytes) -> list[Annotation]:
    """Raises ValueError. A file that ends without its mark is taken up to its last whole annotation: its writer may be at work."""
    found: list[Annotation] = []
    words: list[int] = np.frombuffer(raw, "<u2", len(raw) // 2).tolist()
    at = sample = channel = number = subtype = 0
    code: int | None = None
    text = ""
    began = 0
    end = len(words)
    while at < end:
        word = words[at]
        kind, value = word >> 10, word & 0x3FF
        at += 1
        if word == 0:
            break
        if kind == SKIP:
            if at + 2 > end:
                break
            skip = words[at] << 16 | words[at + 1]
            sample += skip - (1 << 32) if skip >= 1 << 31 else skip
            at += 2
        elif kind == NUM:
            number = _signed(value)
        elif kind == SUBTYPE:
            subtype = _signed(value)
        elif kind == CHANNEL:
            channel = value & 0xFF
        elif kind == AUX:
            if (at + (value + 1) // 2) > end:
                break
            text = raw[at * 2 : at * 2 + value].split(b"\0")[0].decode("utf-8", "replace")
            at += (value + 1) // 2
        else:
            if code is not None:
                found.append(Annotation(began, SYMBOLS[code], subtype, channel, number, text))
            if kind not in SYMBOLS:
                raise ValueError(f"code {kind} at byte {2 * at - 2}")
            sample += value
            code, began, subtype, text = kind, sample, 0, ""
    if code is not None:
        found.append(Annotation(began, SYMBOLS[code], subtype, channel, number, text))
    return found


def _signed(value: int) -> int:
    return (value & 0xFF) - 256 if value & 0x80 else value & 0xFF


class Encoder:
    """Annotations to bytes, one after the other: for a file that must be whole up to its last one at any moment. ``END`` ends it."""

    def __init__(self) -> None:
        self._last = self._channel = self._number = 0

    def encode(self, one: Annotation) -> bytes:
        made = bytearray()
        interval = one.sample - self._last
        self._last = one.sample
        if not 0 <= interval <= LONGEST_INTERVAL:
            high, low = divmod(interval & 0xFFFFFFFF, 0x10000)  # a 32-bit number of the PDP-11: high half first
            made += struct.pack("<HHH", SKIP << 10, high, low)
            interval = 0
        made += struct.pack("<H", CODES[one.symbol] << 10 | interval)
        if one.subtype:
            made += struct.pack("<H", SUBTYPE << 10 | one.subtype & 0xFF)
        if one.channel != self._channel:  # it holds until it is changed, and so does the number
            self._channel = one.channel
            made += struct.pack("<H", CHANNEL << 10 | one.channel & 0xFF)
        if one.number != self._number:
            self._number = one.number
            made += struct.pack("<H", NUM << 10 | one.number & 0xFF)
        if one.text:
            text = _shortened(one.text)
            made += struct.pack("<H", AUX << 10 | len(text)) + text + b"\0" * (len(text) % 2)
        return bytes(made)


def render(annotations: Iterable[Annotation]) -> bytes:
    """In order of time. Raises ValueError for what the format has no room for."""
    encoder, made = Encoder(), bytearray()
    for one in sorted(annotations, key=lambda one: one.sample):
        if not 0 <= one.sample < 1 << 31:
            raise ValueError(f"sample {one.sample} has no place in an annotation file")
        made += encoder.encode(one)
    return bytes(made) + END


def _shortened(text: str) -> bytes:
    """To the 255 bytes there is room for, no character cut in two."""
    return text.replace("\0", "").encode("utf-8", "replace")[:255].decode("utf-8", "ignore").encode()


def write(path: Path, annotations: Iterable[Annotation]) -> None:
    """Whole or not at all."""
    whole(path, render(annotations))


def whole(path: Path, data: bytes) -> None:
    """A file that is there with all of this in it, or as it was."""
    handle, name = tempfile.mkstemp(prefix=path.name, suffix=".part", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(data)
            out.flush()
            os.fsync(out.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
