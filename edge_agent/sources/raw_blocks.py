"""Blocks of raw samples as they travel over MQTT: JSON for those who write it by hand, binary for those who count bytes.

``TOPIC/info`` (retained JSON) says what the blocks on ``TOPIC`` hold:

    {"schema": "edge-agent/raw-info/1", "fs": 250, "channels": [{"name": "II", "unit": "mV"}, {"name": "ABP", "unit": "mmHg"}]}

A JSON block:

    {"seq": 7, "first": 1750, "session": 5, "values": {"II": [0.01, null], "ABP": [80.1, 80.3]}, "lead_off": ["II"]}

A binary block, little-endian:

    offset  type     what
    0       4 bytes  "EARB"
    4       u8       version, 1
    5       u8       0: float32, 1: int16
    6       u16      channels, 1..16
    8       u32      session: another number after each start of the sensor, so that counting anew is no loss
    12      u32      seq: counts the blocks, modulo 2^32
    16      u64      first: index of the block's first sample since the sensor's start
    24      f32      fs, samples per second
    28      u16      samples, 1..65535
    30      u16      lead off, a bit per channel, bit 0 the first
    32      f32 x 2  int16 only: scale and offset of each channel; value = scale * number + offset
    ...              the samples, channel after channel within each sample; NaN or -32768: no value

``first`` puts the blocks in order and says exactly how many samples are missing; ``seq`` says whether a block is: where ``first``
leaps and ``seq`` does not, the sensor lost the samples itself, and nobody need wait for them.
"""

from __future__ import annotations

import json
import math
import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Samples

KERNEL = True
"""Whether the compiled kernel is there; the plain Python below is its specification."""
try:
    from edge_agent.signal._kernel import counts as counts_compiled
except ImportError:  # no compiler where it was installed
    KERNEL = False

MAGIC = b"EARB"
VERSION = 1
HEAD = struct.Struct("<4sBBHIIQfHH")
MOST_CHANNELS = 16
MOST_BYTES = 1 << 20
FLOAT32, INT16 = 0, 1
NO_VALUE = -32768
FS_TOLERANCE = 1e-4
"""A float32 of a rate."""
MOST_FIRST = 1 << 53
"""Beyond it no JSON reader but Python's counts exactly, and no sensor has been on for so long."""


class BadBlock(ValueError):
    """Not a block, or not one of this stream; says why."""


@dataclass(frozen=True, slots=True)
class Info:
    fs: float
    names: tuple[str, ...]
    units: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class RawBlock:
    seq: int
    first: int
    session: int
    values: Samples
    """(channels, samples)."""
    lead_off: frozenset[str] = frozenset()
    implausible: int = 0
    """Numbers that are infinite or greater than a float32 can be: given up as missing. NaN says itself that there is no value."""

    @property
    def end(self) -> int:
        return self.first + int(self.values.shape[1])


def encode_info(info: Info) -> bytes:
    channels = [{"name": name, "unit": unit} for name, unit in zip(info.names, info.units, strict=True)]
    return json.dumps({"schema": "edge-agent/raw-info/1", "fs": info.fs, "channels": channels}).encode()


def decode_info(payload: bytes) -> Info:
    data = _json(payload)
    try:
        if data.get("schema", "edge-agent/raw-info/1") != "edge-agent/raw-info/1":
            raise BadBlock(f"its schema is {data['schema']!r}")
        fs = float(data["fs"])
        names = tuple(str(channel["name"]) for channel in data["channels"])
        units = tuple(str(channel.get("unit", "")) for channel in data["channels"])
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, BadBlock):
            raise
        raise BadBlock(f"it needs fs and channels with names ({type(error).__name__}: {error})") from None
    if not 0 < fs < 1e6 or not names or len(names) > MOST_CHANNELS or len(set(names)) != len(names):
        raise BadBlock(f"fs {fs:g}, channels {', '.join(names) or 'none'}")
    return Info(fs, names, units)


def encode_json(block: RawBlock, info: Info, digits: int = 5) -> bytes:
    values = {
        name: [None if value != value else round(value, digits) for value in row]
        for name, row in zip(info.names, block.values.tolist(), strict=True)
    }
    body: dict[str, Any] = {"seq": block.seq, "first": block.first, "session": block.session, "values": values}
    if block.lead_off:
        body["lead_off"] = sorted(block.lead_off)
    return json.dumps(body, separators=(",", ":")).encode()


def encode_binary(block: RawBlock, info: Info, *, scale: tuple[float, ...] | None = None) -> bytes:
    """float32; or int16 if each channel's ``scale`` (units per count) is given."""
    channels, samples = block.values.shape
    off = sum(1 << i for i, name in enumerate(info.names) if name in block.lead_off)
    kind = FLOAT32 if scale is None else INT16
    head = HEAD.pack(
        MAGIC,
        VERSION,
        kind,
        channels,
        block.session,
        block.seq % (1 << 32),
        block.first,
        info.fs,
        samples,
        off,
    )
    if scale is None:
        return head + np.ascontiguousarray(block.values.T, "<f4").tobytes()
    numbers = np.rint(np.asarray(block.values, np.float64) / np.array(scale)[:, None])
    numbers = np.where(np.isnan(numbers), NO_VALUE, np.clip(numbers, NO_VALUE + 1, 32767))
    factors = np.array([(one, 0.0) for one in scale], "<f4").tobytes()
    return head + factors + np.ascontiguousarray(numbers.T, "<i2").tobytes()


def decode(payload: bytes, info: Info) -> RawBlock:
    """Either form, told by its first bytes."""
    if len(payload) > MOST_BYTES:
        raise BadBlock(f"{len(payload)} bytes, at most {MOST_BYTES} are taken")
    block = _binary(payload, info) if payload.startswith(MAGIC) else _from_json(payload, info)
    if block.first >= MOST_FIRST:
        raise BadBlock(f"its first is {block.first}, not below 2^53")
    return block


def _binary(payload: bytes, info: Info) -> RawBlock:
    if len(payload) < HEAD.size:
        raise BadBlock(f"{len(payload)} bytes are no header")
    _, version, kind, channels, session, seq, first, fs, samples, off = HEAD.unpack_from(payload)
    if version != VERSION:
        raise BadBlock(f"its version is {version}, {VERSION} is known")
    if kind not in (FLOAT32, INT16):
        raise BadBlock(f"its kind of numbers is {kind}; 0 (float32) and 1 (int16) are known")
    _same(fs, channels, info)
    factors_size = 8 * channels if kind == INT16 else 0
    width = 4 if kind == FLOAT32 else 2
    if not samples or len(payload) != HEAD.size + factors_size + samples * channels * width:
        raise BadBlock(f"{len(payload)} bytes do not hold {samples} samples of {channels} channels")
    begin = HEAD.size + factors_size
    if kind == FLOAT32:
        numbers = np.frombuffer(payload, "<f4", offset=begin).reshape(samples, channels).T
        values = np.where(np.isfinite(numbers), numbers, np.nan).astype(np.float32)
        implausible = int(np.isinf(numbers).sum())
    else:
        values = counts_to_units(payload, begin, _factors(payload[HEAD.size : begin]), samples)
        implausible = 0
    lead_off = frozenset(name for i, name in enumerate(info.names) if off >> i & 1) if off else frozenset()
    return RawBlock(seq, first, session, np.ascontiguousarray(values), lead_off, implausible)


def counts_to_units(
    payload: bytes, begin: int, factors: NDArray[np.float64], samples: int, *, compiled: bool = KERNEL
) -> Samples:
    """Whole numbers of 16 bits, sample by sample from ``begin`` on, times scale and offset of their channel."""
    values: Samples = np.empty((len(factors), samples), np.float32)
    if compiled:
        counts_compiled(payload, begin, factors, values)
        return values
    numbers = np.frombuffer(payload, "<i2", offset=begin).reshape(samples, len(factors)).T
    with np.errstate(over="ignore"):  # a scale of 1e38: what is beyond float32 is no value, as it is in JSON
        values[:] = numbers * factors[:, :1] + factors[:, 1:]
    values[(numbers == NO_VALUE) | np.isinf(values)] = np.nan
    return values


@lru_cache(maxsize=64)
def _factors(packed: bytes) -> NDArray[np.float64]:
    """Scale and offset of each channel: a sensor's are the same in every block."""
    with np.errstate(invalid="ignore"):  # a signalling NaN is refused in the next line
        factors = np.frombuffer(packed, "<f4").reshape(-1, 2).astype(np.float64)
    if not np.isfinite(factors).all():
        raise BadBlock("its scales are no numbers")
    return factors


def _from_json(payload: bytes, info: Info) -> RawBlock:
    data = _json(payload)
    try:
        seq, first, session = (_natural(data.get(name, 0), name) for name in ("seq", "first", "session"))
        given = data["values"]
        if "seq" not in data or "first" not in data:
            raise BadBlock("it needs seq, first and values")
        if set(given) != set(info.names):
            raise BadBlock(f"its channels are {', '.join(map(str, given))}; TOPIC/info says {', '.join(info.names)}")
        if data.get("fs") is not None:
            _same(float(data["fs"]), len(given), info)
        rows = [[math.nan if value is None else float(value) for value in given[name]] for name in info.names]
        lead_off = frozenset(str(name) for name in data.get("lead_off", ()))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, BadBlock):
            raise
        raise BadBlock(f"it needs seq, first and values ({type(error).__name__}: {error})") from None
    if len({len(row) for row in rows}) != 1 or not rows[0]:
        raise BadBlock("its channels are not of one length")
    with np.errstate(over="ignore"):
        values = np.array(rows, np.float64).astype(np.float32)
    implausible = int(np.isinf(values).sum())
    values[~np.isfinite(values)] = np.nan
    return RawBlock(seq % (1 << 32), first, session, values, lead_off & set(info.names), implausible)


def _json(payload: bytes) -> dict[str, Any]:
    try:
        data = json.loads(payload)
    except (ValueError, RecursionError) as error:
        raise BadBlock(f"neither a binary block nor JSON ({error})") from None
    if not isinstance(data, dict):
        raise BadBlock("neither a binary block nor a JSON object")
    return data


def _natural(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 62:
        raise BadBlock(f"its {name} is {value!r}, not a whole number from 0")
    return value


def _same(fs: float, channels: int, info: Info) -> None:
    if channels != len(info.names) or not abs(fs / info.fs - 1) <= FS_TOLERANCE:
        raise BadBlock(f"{channels} channels at {fs:g} Hz; TOPIC/info says {len(info.names)} at {info.fs:g}")
