"""Inputs from sound ones: what cards, lines and enemies make of them. Fast, and the same for the same seed."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

LONGEST = 64 << 10
_NUMBER = re.compile(rb"-?\d+(\.\d+)?")
_BYTES = (
    b"\0",
    b"\xff",
    b"\x7f",
    b"\x80",
    b"\n",
    b"\r\n",
    b'"',
    b"\\",
    b"{",
    b"[",
    b"<",
    b"&",
    b"%s",
    b"..",
    b"/",
    b",",
    b";",
    b"\xef\xbb\xbf",
)
_NUMBERS = (
    b"0",
    b"-1",
    b"1e999",
    b"-1e-999",
    b"nan",
    b"99999999999999999999",
    b"2147483648",
    b"4294967296",
    b"0x10",
    b"1_0",
    b"\xd9\xa1",
)
_WORDS = (2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1, 2**16 - 1, 2**15, 0, 1)


def mutated(seeds: Sequence[bytes], chance: random.Random) -> bytes:
    """One to six changes to one of the seeds; now and then nothing but chance."""
    if chance.random() < 0.05:
        return chance.randbytes(chance.randrange(200))
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.randint(1, 6)):
        _change(data, seeds, chance)
    return bytes(data[:LONGEST])


def _change(data: bytearray, seeds: Sequence[bytes], chance: random.Random) -> None:
    size = len(data)
    at = chance.randrange(size + 1)
    # Most of a binary file is weights: its head and its tail are where the structure is.
    if chance.random() < 0.3 and size > 200:
        at = chance.choice((chance.randrange(128), size - chance.randrange(128)))
    match chance.randrange(11):
        case 0 if size:
            data[at % size] ^= 1 << chance.randrange(8)
        case 1 if size:
            data[at % size] = chance.randrange(256)
        case 2:
            del data[at : at + chance.choice((1, 2, 4, 16, 256))]
        case 3:
            data[at:at] = chance.randbytes(chance.randint(1, 8))
        case 4:
            data[at:at] = chance.choice(_BYTES) * chance.choice((1, 1, 1, 3, 500))
        case 5:
            data[at:at] = data[at : at + chance.randint(1, 64)] * chance.choice((1, 2, 50))
        case 6:
            del data[at:]
        case 7:
            other = chance.choice(seeds)
            cut = chance.randrange(len(other) + 1)
            data[at:] = other[cut : cut + 4096]
        case 8:
            word = chance.choice(_WORDS).to_bytes(8, chance.choice(("little", "big")))
            wide = chance.choice((2, 4, 8))
            data[at : at + wide] = word[:wide]
        case 9:
            found = list(_NUMBER.finditer(data[:4096]))
            if found:
                number = chance.choice(found)
                data[number.start() : number.end()] = chance.choice(_NUMBERS)
        case _:
            data[at : at + 4] = bytes(chance.randrange(32, 127) for _ in range(4))
