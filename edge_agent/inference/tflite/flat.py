"""Reading FlatBuffers without trusting them: every offset is checked before it is followed.

A few dozen lines in place of a dependency, and of a parser that believes what it reads: a vector that claims more elements
than the file has bytes is refused before anything is reserved for it. Format: https://flatbuffers.dev/internals.
"""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

import numpy as np
from numpy.typing import NDArray

from edge_agent.shown import plain

_U16, _I32, _U32, _U64 = Struct("<H"), Struct("<i"), Struct("<I"), Struct("<Q")
_SCALARS = {
    name: Struct("<" + code)
    for name, code in (
        *(("bool", "?"), ("int8", "b"), ("uint8", "B"), ("int16", "h"), ("int32", "i")),
        *(("uint32", "I"), ("int64", "q"), ("uint64", "Q"), ("float32", "f")),
    )
}


LONGEST_TEXT = 200


class Damaged(ValueError):
    """The bytes do not say what such a file says."""


def _read(data: memoryview, form: Struct, at: int) -> int:
    if at < 0 or at + form.size > len(data):
        raise Damaged(f"an offset leads to byte {at} of {len(data)}")
    return int(form.unpack_from(data, at)[0])


@dataclass(frozen=True, slots=True)
class Table:
    """One table: its fields by slot number, absent ones at their default."""

    data: memoryview
    at: int
    fields: int
    """Where its list of fields (the vtable) is."""
    slots: int

    def _place(self, slot: int) -> int:
        """Of a field's value; 0 where the field is absent."""
        if slot >= self.slots:
            return 0
        offset = _read(self.data, _U16, self.fields + 4 + 2 * slot)
        return self.at + offset if offset else 0

    def has(self, slot: int) -> bool:
        return bool(self._place(slot))

    def number(self, slot: int, kind: str, default: int = 0) -> int:
        at = self._place(slot)
        return _read(self.data, _SCALARS[kind], at) if at else default

    def _indirect(self, slot: int) -> int:
        at = self._place(slot)
        return at + _read(self.data, _U32, at) if at else 0

    def table(self, slot: int) -> Table | None:
        at = self._indirect(slot)
        return _table(self.data, at) if at else None

    def tables(self, slot: int) -> list[Table]:
        at = self._indirect(slot)
        if not at:
            return []
        first, many = _vector(self.data, at, 4)
        places = range(first, first + 4 * many, 4)
        return [_table(self.data, place + _read(self.data, _U32, place)) for place in places]

    def numbers(self, slot: int, kind: str) -> NDArray[np.generic]:
        """A vector of numbers; empty where it is absent."""
        at = self._indirect(slot)
        dtype = np.dtype(kind).newbyteorder("<")
        if not at:
            return np.empty(0, dtype)
        first, many = _vector(self.data, at, dtype.itemsize)
        return np.frombuffer(self.data, dtype, many, first)

    def raw(self, slot: int) -> memoryview | None:
        """A vector of bytes; None where it is absent."""
        at = self._indirect(slot)
        if not at:
            return None
        first, many = _vector(self.data, at, 1)
        return self.data[first : first + many]

    def raws(self, slot: int) -> list[memoryview]:
        """A vector of strings or of vectors of bytes."""
        at = self._indirect(slot)
        if not at:
            return []
        first, many = _vector(self.data, at, 4)
        found = []
        for place in range(first, first + 4 * many, 4):
            begin, size = _vector(self.data, place + _read(self.data, _U32, place), 1)
            found.append(self.data[begin : begin + size])
        return found

    def text(self, slot: int) -> str:
        """Fit to be shown: a tensor's name stands in messages."""
        raw = self.raw(slot)
        return "" if raw is None else plain(bytes(raw[:LONGEST_TEXT]).decode(errors="replace"))


def root(data: bytes | memoryview, identifier: bytes | None) -> Table:
    view = memoryview(data)
    if identifier is not None and (len(view) < 8 or view[4:8] != identifier):
        raise Damaged(f"no {identifier.decode()} identifier")
    return _table(view, _read(view, _U32, 0))


def _table(data: memoryview, at: int) -> Table:
    fields = at - _read(data, _I32, at)
    size = _read(data, _U16, fields)
    if size < 4 or size % 2 or fields + size > len(data):
        raise Damaged(f"a list of fields of {size} bytes at byte {fields} of {len(data)}")
    return Table(data, at, fields, (size - 4) // 2)


def _vector(data: memoryview, at: int, size: int) -> tuple[int, int]:
    """Where its first element is, and how many there are."""
    many = _read(data, _U32, at)
    if at + 4 + many * size > len(data):
        raise Damaged(f"a list of {many} at byte {at} of {len(data)}")
    return at + 4, many


# --- FlexBuffers ----------------------------------------------------------------------------------------------------------

_WIDTHS = {1: _SCALARS["uint8"], 2: _U16, 4: _U32, 8: _U64}
_KEY, _STRING, _MAP, _BLOB = 4, 5, 9, 25


def flex_strings(data: bytes | memoryview) -> dict[str, memoryview]:
    """The strings and blobs of a FlexBuffers map, by key; everything else in it is passed over."""
    view = memoryview(data)
    if len(view) < 3:
        raise Damaged("a FlexBuffer of no bytes")
    width, packed = view[-1], view[-2]
    if width not in _WIDTHS or packed >> 2 != _MAP:
        raise Damaged("no FlexBuffers map")
    here = len(view) - 2 - width
    values = here - _read(view, _WIDTHS[width], here)
    each = 1 << (packed & 3)
    form = _WIDTHS[each]
    many = _read(view, form, values - each)
    keys_at = values - 3 * each
    keys = keys_at - _read(view, form, keys_at)
    key_width = _read(view, form, values - 2 * each)
    if key_width not in _WIDTHS or values + many * (each + 1) > len(view):
        raise Damaged("a FlexBuffers map that leads out of its bytes")
    found: dict[str, memoryview] = {}
    for i in range(many):
        place = keys + i * key_width
        key_at = place - _read(view, _WIDTHS[key_width], place)
        if not 0 <= key_at < len(view):
            raise Damaged("a FlexBuffers key that leads out of its bytes")
        key = bytes(view[key_at : key_at + 64]).split(b"\0")[0].decode(errors="replace")
        kind = _read(view, _WIDTHS[1], values + many * each + i)
        if kind >> 2 in (_STRING, _BLOB):
            place = values + i * each
            at = place - _read(view, form, place)
            wide = 1 << (kind & 3)
            size = _read(view, _WIDTHS[wide], at - wide)
            if at < 0 or at + size > len(view):
                raise Damaged("a FlexBuffers string that leads out of its bytes")
            found[key] = view[at : at + size]
    return found
