"""BITalino (r)evolution: 1 to 6 channels, 1 to 1000 samples a second, through 115200 baud or Bluetooth.

A frame of 3, 4, 6, 7, 8 or 8 bytes for 1 to 6 channels has no start; read as one little-endian number it is, from its top:
4 bits of a count modulo 16, 4 bits of CRC, I1 I2 O1 O2, four channels of 10 bits, two of 6.

The CRC (x^4 + x + 1) notices every flip of one bit, and of up to 4 neighbouring ones; of a byte replaced by another it
misses 1 in 17.

Scale of an ECG: the sensor's data sheet (PLUX, 'Electrocardiography (ECG) Sensor Data Sheet' for BITalino), (ADC / 2^n -
1/2) x 3.3 V / 1100. What is plugged in where only the user knows, so channels are counts unless named in ``ecg``.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edge_agent.journey import Samples
from edge_agent.sources.boards.base import (
    NO_LEADS,
    Board,
    Bytes,
    Channel,
    Chunk,
    Codec,
    Command,
    Counters,
    Integers,
    Units,
    to_raw,
)
from edge_agent.sources.boards.numbered import Frame, NumberedFrames, Run

SIZES = {1: 3, 2: 4, 3: 6, 4: 7, 5: 8, 6: 8}
RATES = {1: 0, 10: 1, 100: 2, 1000: 3}
_SHIFTS = np.array([42, 32, 22, 12, 6, 0], np.uint64)[:, None]
_MASKS = np.array([0x3FF, 0x3FF, 0x3FF, 0x3FF, 0x3F, 0x3F], np.uint64)[:, None]
_BITS = (10, 10, 10, 10, 6, 6)
_SUPPLY_MV = 3300
_ECG_GAIN = 1100
_PAUSE_MS = 100

COLD_FRAMES = 6
"""4 would let 1 in an hour of random bytes through, 6 lets 1 in 60,000 hours."""
WARM_FRAMES = 3


@cache
def _crc_tables(size: int) -> Bytes:
    """(size, 256): what a byte at a place adds to the CRC, minus what the last byte says that it is. All XORed are 0."""
    tables = np.zeros((size, 256), np.uint8)
    for place in range(size):
        for byte in range(256):
            bits = (byte & 0xF0 if place == size - 1 else byte) << 8 * (size - 1 - place)
            crc = 0
            for at in reversed(range(8 * size)):
                crc <<= 1
                if crc & 0x10:
                    crc ^= 0x13
                crc ^= bits >> at & 1
            tables[place, byte] = crc ^ (byte & 0x0F if place == size - 1 else 0)
    return tables


def _words(frames: Bytes) -> NDArray[np.uint64]:
    wide = np.zeros((len(frames), 8), np.uint8)
    wide[:, 8 - frames.shape[1] :] = frames
    return wide.view("<u8")[:, 0]


def unpack(data: bytes, channels: int) -> tuple[Integers, Integers, Integers]:
    """Whole frames: analogue (channels, n), digital as I1 I2 O1 O2 from the top (n), count (n)."""
    frames = np.frombuffer(data, np.uint8).reshape(-1, SIZES[channels])
    words = _words(frames)
    return analogue(frames, channels), (words >> 52).astype(np.int64) & 15, (words >> 60).astype(np.int64)


def analogue(frames: Bytes, channels: int) -> Integers:
    return np.asarray((_words(frames)[None] >> _SHIFTS[:channels]) & _MASKS[:channels], np.int64)


def pack(analogue: ArrayLike, number: int = 0, digital: ArrayLike = 0) -> bytes:
    """The inverse: frames for (channels, n) numbers, counting from ``number``."""
    slots = np.asarray(analogue, np.uint64)
    channels, count = slots.shape
    size = SIZES[channels]
    words = ((np.arange(count, dtype=np.uint64) + np.uint64(number)) & np.uint64(15)) << np.uint64(60)
    words |= np.asarray(digital, np.uint64) << np.uint64(52)
    words |= np.bitwise_or.reduce((slots & _MASKS[:channels]) << _SHIFTS[:channels], axis=0)
    frames = words.astype("<u8").view(np.uint8).reshape(count, 8)[:, 8 - size :].copy()
    frames[:, -1] |= _check(frames)
    return frames.tobytes()


def _check(frames: Bytes) -> Bytes:
    """0 where the CRC is right."""
    size = frames.shape[1]
    return np.asarray(np.bitwise_xor.reduce(_crc_tables(size)[np.arange(size), frames], axis=1), np.uint8)


def _frame(size: int) -> Frame:
    tables = _crc_tables(size)

    def good(frames: Bytes) -> NDArray[np.bool_]:
        return np.asarray(_check(frames) == 0)

    def number(frames: Bytes) -> Integers:
        return (frames[:, -1] >> 4).astype(np.int64)

    def anywhere(data: Bytes) -> NDArray[np.bool_]:
        offsets = len(data) - size + 1
        check = tables[0][data[:offsets]]
        for place in range(1, size):
            check ^= tables[place][data[place : place + offsets]]
        return np.asarray(check == 0)

    return Frame(size, 16, COLD_FRAMES, WARM_FRAMES, good, number, anywhere, number_at=size - 1, number_shift=4)


class BitalinoDecoder:
    def __init__(self, board: Board) -> None:
        self.counters = Counters()
        self.numbers: dict[str, float] = {}
        self._board = board
        self._units = Units.of(board.channels)
        self._frames = NumberedFrames(_frame(board.frame_bytes), self.counters)

    def decode(self, data: bytes) -> list[Chunk]:
        return [self._chunk(run) for run in self._frames.feed(data)]

    def flush(self) -> list[Chunk]:
        return [self._chunk(run) for run in self._frames.flush()]

    def _chunk(self, run: Run) -> Chunk:
        self.counters.lose(run.lost_before, exact=run.lost_exact)
        channels = self._board.channels
        digital = int(run.frames[-1, -2]) >> 4
        self.numbers.update(I1=digital >> 3 & 1, I2=digital >> 2 & 1, O1=digital >> 1 & 1, O2=digital & 1)
        raw = analogue(run.frames, len(channels))
        return Chunk(self._units.values(raw), run.lost_before, run.lost_exact)


class BitalinoEncoder:
    def __init__(self, board: Board) -> None:
        self._board = board
        self._number = 0

    def encode(self, values: Samples, lead_off: frozenset[str] = NO_LEADS) -> bytes:  # noqa: ARG002 - it cannot say so
        channels = self._board.channels
        limits = [(0, 2**bits - 1) for bits in _BITS[: len(channels)]]
        data = pack(to_raw(values, channels, limits), self._number)
        self._number = (self._number + values.shape[1]) % 16
        return data


def codec(
    name: str = "bitalino",
    *,
    inputs: Sequence[int] = (1, 2, 3, 4, 5, 6),
    fs: int = 1000,
    ecg: Sequence[str] = (),
) -> Codec:
    """``inputs`` are the sockets to send (A1 to A6): the first four with 10 bits; ``ecg`` names those with an ECG sensor."""
    if fs not in RATES:
        raise ValueError(f"fs {fs}: allowed are {', '.join(map(str, RATES))}")
    if not inputs or len(set(inputs)) != len(inputs) or not set(inputs) <= set(range(1, 7)):
        raise ValueError(f"inputs {list(inputs)}: allowed are 1 to 6, each once")
    channels: list[Channel] = []
    for bits, each in zip(_BITS, sorted(inputs), strict=False):
        socket = f"A{each}"
        if socket in ecg:
            channels.append(Channel(socket, "ecg", "mV", _SUPPLY_MV / _ECG_GAIN / 2**bits, zero=2 ** (bits - 1)))
        else:
            channels.append(Channel(socket, "other"))
    missing = set(ecg) - {channel.name for channel in channels}
    if missing:
        raise ValueError(f"ecg {sorted(missing)}: not among the inputs")
    begin = 1 | sum(1 << (1 + each) for each in inputs)
    # a board that a crashed reader left streaming must stop before it takes commands; to an idle one, 0 sets the
    # threshold of its battery light, to what it is anyway
    start = (b"\0", bytes([RATES[fs] << 6 | 3]), bytes([begin]))
    size = SIZES[len(channels)]
    board = Board(
        name,
        "BITalino (r)evolution. In counts, but for the ECG sensor's sockets: (ADC / 2^n - 1/2) x 3.3 V / 1100",
        (115200,),
        fs,
        tuple(channels),
        frame_bytes=size,
        frames_per_s=fs,
        start=tuple(Command(each, pause_ms=_PAUSE_MS) for each in start),
        stop=(Command(b"\0", pause_ms=_PAUSE_MS),),
        held=1,
        sequence=16,
        checked=True,
    )

    def decoder() -> BitalinoDecoder:
        return BitalinoDecoder(board)

    return Codec(board, decoder, lambda: BitalinoEncoder(board), decoder)
