"""OpenBCI Cyton, 8 channels at 250 samples a second, and with a Daisy board 16 at 125.

    A0 | number u8 | 8 x i24, big-endian | 6 auxiliary bytes | C0..C6

No check of the content: of a flipped bit within a value only the screen (`screen`) knows. The number counts on modulo 256,
so losses are exact.
Scale: 4.5 V / gain / (2^23 - 1) (docs.openbci.com, Cyton Data Format, 'Interpreting the EEG Data').

With a Daisy, odd numbers carry the main board and the even number after it the Daisy: one sample of 16 channels. Half a
sample is a lost sample.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
from edge_agent.sources.boards.screen import with_screen

SIZE = 33
START = 0xA0
FOOTERS = range(0xC0, 0xC7)
ACCELEROMETER = 0xC0
TIMED = range(0xC3, 0xC7)
_I24 = (-(2**23), 2**23 - 1)

GAINS = {1: "0", 2: "1", 4: "2", 6: "3", 8: "4", 12: "5", 24: "6"}
"""Gain to the digit in the channel command (docs.openbci.com, Cyton Board SDK)."""
_CHANNEL_KEYS = "12345678QWERTYUI"


@dataclass(frozen=True, slots=True)
class Packet:
    """Everything in one frame."""

    number: int
    channels: tuple[int, ...]
    footer: int
    aux: bytes

    @property
    def acceleration(self) -> tuple[int, int, int] | None:
        """x, y, z in units of 0.002 g / 16, where the footer says so."""
        if self.footer != ACCELEROMETER:
            return None
        x, y, z = (int.from_bytes(self.aux[at : at + 2], "big", signed=True) for at in (0, 2, 4))
        return x, y, z

    @property
    def time_ms(self) -> int | None:
        """The board's clock, where the footer says so."""
        return int.from_bytes(self.aux[2:], "big") if self.footer in TIMED else None


def unpack(frame: bytes) -> Packet:
    frames = np.frombuffer(frame, np.uint8).reshape(1, SIZE)
    return Packet(frame[1], tuple(values(frames)[0].tolist()), frame[32], frame[26:32])


def pack(packet: Packet) -> bytes:
    channels = np.array([packet.channels])
    return pack_many(channels, packet.number, packet.aux, packet.footer)


def values(frames: Bytes) -> Integers:
    """The channels of frames in rows: (n, 8)."""
    wide = np.zeros((len(frames), 8, 4), np.uint8)
    wide[:, :, :3] = frames[:, 2:26].reshape(len(frames), 8, 3)
    return np.asarray(wide.view(">i4")[:, :, 0] >> 8, np.int64)


def pack_many(channels: ArrayLike, number: int, aux: bytes = bytes(6), footer: int = ACCELEROMETER) -> bytes:
    """The inverse: frames for (n, 8) numbers, counting from ``number``."""
    numbers = np.asarray(channels, np.int64)
    frames = np.empty((len(numbers), SIZE), np.uint8)
    frames[:, 0] = START
    frames[:, 1] = (number + np.arange(len(numbers))) % 256
    wide = np.ascontiguousarray(numbers << 8, ">i4").view(np.uint8).reshape(-1, 8, 4)
    frames[:, 2:26] = wide[:, :, :3].reshape(-1, 24)
    frames[:, 26:32] = list(aux)
    frames[:, 32] = footer
    return frames.tobytes()


def _good(frames: Bytes) -> NDArray[np.bool_]:
    fits = frames[:, 32] - FOOTERS[0] < len(FOOTERS)  # unsigned: smaller ones wrap around
    return np.asarray((frames[:, 0] == START) & fits)


def _number(frames: Bytes) -> Integers:
    return frames[:, 1].astype(np.int64)


def _anywhere(data: Bytes) -> NDArray[np.bool_]:
    offsets = len(data) - SIZE + 1
    return np.asarray((data[:offsets] == START) & (data[32:] - FOOTERS[0] < len(FOOTERS)))


# three of them: 10^-13 of random offsets pass, and one more mistake than two adjacent frames can share
FRAME = Frame(SIZE, 256, cold=3, warm=3, good=_good, number=_number, anywhere=_anywhere, number_at=1, marked=True)


class CytonDecoder:
    def __init__(self, board: Board, daisy: bool) -> None:
        self.counters = Counters()
        self.numbers: dict[str, float] = {}
        self._units = Units.of(board.channels)
        self._frames = NumberedFrames(FRAME, self.counters)
        self._daisy = daisy
        self._main: Bytes = np.empty((0, SIZE), np.uint8)  # a main board's frame that waits for the Daisy's
        self._lost = 0
        self._lost_exact = True
        self._next: int | None = None  # with a Daisy: frames since the first main board's one, lost ones counted
        self._delivered = -1  # with a Daisy: the last sample delivered

    def decode(self, data: bytes) -> list[Chunk]:
        return self._chunks(self._frames.feed(data))

    def flush(self) -> list[Chunk]:
        return self._chunks(self._frames.flush())

    def _chunks(self, runs: list[Run]) -> list[Chunk]:
        if self._daisy:
            return [chunk for run in runs for chunk in self._pairs(run)]
        chunks: list[Chunk] = []
        for run in runs:
            self.counters.lose(run.lost_before, exact=run.lost_exact)
            chunks.append(self._chunk(values(run.frames).T, run.lost_before, run.lost_exact))
        return chunks

    def _pairs(self, run: Run) -> list[Chunk]:
        frames, lost = run.frames, run.lost_before
        self._lost_exact &= run.lost_exact
        if self._next is None:
            first = 0 if frames[0, 1] % 2 else 1
            if len(frames) == first:
                return []
            frames, lost, self._next = frames[first:], 0, 0
        if lost:
            self._main = self._main[:0]
        self._next += lost
        if self._next % 2 and not len(self._main):  # the Daisy's half of a sample whose other half was lost
            frames = frames[1:]
            self._next += 1
        elif len(self._main):
            frames = np.concatenate((self._main, frames))
            self._next -= 1
        pairs = len(frames) // 2
        self._main = frames[2 * pairs :]
        first, self._next = self._next // 2, self._next + len(frames)
        if not pairs:
            return []
        missing, exact = first - self._delivered - 1, self._lost_exact
        self._delivered, self._lost_exact = first + pairs - 1, True
        self.counters.lose(missing, exact=exact)
        rows = values(frames[: 2 * pairs]).reshape(pairs, 16).T
        return [self._chunk(rows, missing, exact)]

    def _chunk(self, rows: Integers, lost: int, exact: bool) -> Chunk:
        return Chunk(self._units.values(rows), lost, exact)


class CytonEncoder:
    def __init__(self, board: Board, daisy: bool) -> None:
        self._board = board
        self._number = 1 if daisy else 0  # the main board's numbers are odd

    def encode(self, values: Samples, lead_off: frozenset[str] = NO_LEADS) -> bytes:  # noqa: ARG002 - it cannot say so
        channels = self._board.channels
        raw = to_raw(values, channels, [_I24] * len(channels)).T.reshape(-1, 8)
        data = pack_many(raw, self._number)
        self._number = (self._number + len(raw)) % 256
        return data


def codec(name: str = "cyton", *, gain: int = 24, fs: float | None = None) -> Codec:
    """``cyton`` or ``cyton-daisy``; the gain is set on every channel when the board is started."""
    if gain not in GAINS:
        raise ValueError(f"gain {gain}: allowed are {', '.join(map(str, GAINS))}")
    daisy = name == "cyton-daisy"
    count = 16 if daisy else 8
    scale = 4500 / gain / (2**23 - 1)
    settings = [
        Command(f"x{key}0{GAINS[gain]}0110X".encode(), wait_for=b"$$$") for key in _CHANNEL_KEYS[:count] if gain != 24
    ]
    # a Daisy that is there is used after a reset, asked for or not
    size = Command(b"C", wait_for=b"16$$$") if daisy else Command(b"c", pause_ms=100)
    board = Board(
        name,
        f"OpenBCI Cyton{' with Daisy' if daisy else ''}, in mV: 4.5 V / gain {gain} / (2^23 - 1)",
        (115200,),
        125 if daisy else 250,
        tuple(Channel(f"CH{at + 1}", "ecg", "mV", scale) for at in range(count)),
        frame_bytes=SIZE,
        frames_per_s=250,
        start=(Command(b"v", wait_for=b"$$$"), size, *settings, Command(b"b", pause_ms=100)),
        stop=(Command(b"s"),),
        held=1,
        sequence=256,
    )
    if fs is not None:
        board = replace(board, fs=fs, frames_per_s=fs * (2 if daisy else 1))
    return with_screen(board, lambda: CytonDecoder(board, daisy), lambda: CytonEncoder(board, daisy))
