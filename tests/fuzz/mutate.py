"""Inputs from sound ones: what cards, lines and enemies make of them. The same for the same seed.

Three hundred million of them are wanted, so a change costs about a microsecond: one draw of 64 bits, cut up.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

LONGEST = 64 << 10
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_BYTES = (b"\0", b"\xff", b"\x7f", b"\x80", b"\n", b"\r\n", b'"', b"\\", b"{", b"[", b"<", b"&", b"%s", b"..", b"/", b",", b";",
          b"\xef\xbb\xbf")  # fmt: skip
_NUMBERS = (b"0", b"-1", b"1e999", b"-1e-999", b"nan", b"99999999999999999999", b"2147483648", b"4294967296", b"0x10", b"1_0",
            b"\xd9\xa1")  # fmt: skip
_WORDS = (2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**16 - 1, 2**15, 0, 1)
_PIECES = tuple(
    piece[:wide]
    for word in _WORDS
    for piece in (word.to_bytes(8, "little"), word.to_bytes(8, "big"))
    for wide in (2, 4, 8)
)


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """One to six changes to one of the seeds; now and then nothing but chance."""
    bits = chance.getrandbits(40)
    if bits & 31 == 0:
        return chance.randbytes(bits >> 5 & 255)
    data = bytearray(seeds[(bits >> 5 & 0xFFFF) % len(seeds)])
    for _ in range(1 + (bits >> 21 & 0xFF) % 6):
        _change(data, seeds, chance.getrandbits(64))
    return bytes(data) if len(data) <= LONGEST else bytes(data[:LONGEST])


def _change(data: bytearray, seeds: Sequence[bytes], bits: int) -> None:
    size = len(data)
    at = (bits & 0xFFFFFF) % (size + 1)
    more = bits >> 32  # 32 bits for what each change wants
    # Most of a large binary file is weights: its head and its tail are where the structure is.
    if size > 400 and bits >> 24 & 3 == 0:
        at = at & 127 if bits & 0x8000000 else size - 1 - (at & 127)
    kind = (bits >> 28 & 15) % 11  # 0 to 4 twice as often
    if kind == 0:
        if size:
            data[at % size] ^= 1 << (more & 7)
    elif kind == 1:
        if size:
            data[at % size] = more & 255
    elif kind == 2:
        del data[at : at + (1, 1, 2, 4, 4, 16, 16, 256)[more & 7]]
    elif kind == 3:
        data[at:at] = (more >> 3).to_bytes(4, "little") if more & 1 else (more >> 8 & 255).to_bytes(1, "little")
    elif kind == 4:
        data[at:at] = _BYTES[(more & 0xFFFF) % len(_BYTES)] * (500 if more >> 16 & 31 == 0 else 1 + (more >> 21 & 3))
    elif kind == 5:
        piece = data[at : at + 1 + (more & 63)]
        data[at:at] = piece * (50 if more >> 16 & 31 == 0 else 1 + (more >> 21 & 1))
    elif kind == 6:
        del data[at:]
    elif kind == 7:
        other = seeds[(more & 0xFF) % len(seeds)]
        cut = (more >> 8) % (len(other) + 1)
        data[at:] = other[cut : cut + 4096]
    elif kind == 8:
        word = _PIECES[(more & 0xFFFF) % len(_PIECES)]
        data[at : at + len(word)] = word
    elif kind == 9:
        found = _NUMBER.search(data, at, at + 200) or _NUMBER.search(data, 0, 200)
        if found:
            first, end = found.span()
            data[first:end] = _NUMBERS[(more & 0xFFFF) % len(_NUMBERS)]
    else:
        data[at : at + 4] = (0x20202020 + (more & 0x3F3F3F3F)).to_bytes(4, "little")
