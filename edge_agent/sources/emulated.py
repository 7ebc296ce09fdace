"""A board that is not there: the simulated patient's samples as that board would send them, and its answers to commands.

What the channels show: a board's ECG channels are leads II and V of the patient and mixtures of the two; a pleth channel is
the patient's pleth; anything else (impedance, breathing, free inputs) rises and falls 15 times a minute. Where the maker
does not say what a count is worth, the emulator takes `COUNTS_PER_MV`, which its configuration then says too.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from edge_agent.journey import Samples
from edge_agent.sources.boards import bitalino, registry
from edge_agent.sources.boards.base import NO_LEADS, Board, Channel, Codec, Encoder
from edge_agent.sources.boards.cyton import GAINS
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Script

COUNTS_PER_MV: Mapping[str, float] = {
    "healthypi5": 2**17 * 20 / 1000,  # a MAX30001 at gain 20
    "healthypi5-batched": 2**17 * 20 / 1000,
    "max30001": 2**17 * 20 / 1000,
    "ads1292r": 40.0,  # about what the old sketch makes of it
    "ads1293": 20_000.0,
}
_MIXTURES = (
    *((1.0, 0.0), (0.0, 1.0), (0.5, 0.5), (-0.5, 1.0), (0.7, -0.3), (1.2, 0.0), (0.3, 0.8), (0.9, 0.4)),
    *((-1.0, 0.0), (0.0, -1.0), (-0.6, 0.2), (0.8, 0.8), (-0.3, -0.9), (0.4, 0.0), (-0.8, 0.5), (0.1, 0.6)),
)
_BREATHS_PER_S = 0.25
_SLOWEST = 100
"""The patient's least rate; boards that sample slower take every so manieth."""


def options_for(name: str, **given: Any) -> dict[str, Any]:
    """A board's options for the configuration and the codec: what was given, and what the emulator needs besides."""
    options = {key: value for key, value in given.items() if value is not None}
    if name in COUNTS_PER_MV:
        options.setdefault("ecg_mv", 1 / COUNTS_PER_MV[name])
    if name == "bitalino" and "ecg" not in options:
        first = sorted(options.get("inputs", (1, 2, 3, 4, 5, 6)))[0]
        options["ecg"] = [f"A{2 if 2 in options.get('inputs', (2,)) else first}"]
    return options


class Wearer:
    """The simulated patient behind a board's electrodes."""

    def __init__(self, fs: float, script: Script, seed: int, *, forever: bool) -> None:
        self._every = 1 if fs >= _SLOWEST else round(_SLOWEST / fs)
        self._patient = SimulatedPatient(fs * self._every, ("II", "V", "PLETH"), script, seed, forever=forever)
        self.fs = fs
        self.sent = 0

    def samples(self, board: Board, count: int) -> list[tuple[Samples, frozenset[str]]]:
        """The next ``count`` samples as the board's channels, cut where a lead comes off or on; none past the end."""
        parts: list[tuple[Samples, frozenset[str]]] = []
        while count:
            block = self._patient.read(count * self._every)
            if block is None:
                break
            values = block.values[:, -block.first % self._every :: self._every]
            if values.shape[1]:
                parts.append((self._channels(board, values), _off(board, block.lead_off)))
            self.sent += values.shape[1]
            count -= values.shape[1]
        return parts

    def _channels(self, board: Board, values: Samples) -> Samples:
        leads = np.nan_to_num(values[:2])
        breath = np.sin(2 * np.pi * _BREATHS_PER_S * (self.sent + np.arange(values.shape[1])) / self.fs)
        rows = []
        ecgs = 0
        for channel in board.channels:
            if channel.kind == "ecg":
                ii, v = _MIXTURES[ecgs % len(_MIXTURES)]
                rows.append(ii * leads[0] + v * leads[1])
                ecgs += 1
            elif channel.kind == "pleth":
                rows.append(_counts(channel, 100_000 - 20_000 * np.nan_to_num(values[2])))
            elif channel.name == "RED":
                rows.append(_counts(channel, 80_000 - 12_000 * np.nan_to_num(values[2])))
            else:
                # within 6 bits, which is what a BITalino's last two inputs have
                rows.append(_counts(channel, (30 if re.fullmatch(r"A\d", channel.name) else 300) * (1.05 + breath)))
        return np.array(rows, np.float32)

    @property
    def heart_rate(self) -> float | None:
        """Of the last beats, per minute."""
        beats = [beat.sample for beat in self._patient.truth.beats[-5:]]
        if len(beats) < 2 or beats[-1] == beats[0]:
            return None
        return 60 * self.fs * self._every * (len(beats) - 1) / (beats[-1] - beats[0])


def _counts(channel: Channel, numbers: np.ndarray[Any, np.dtype[np.float64]]) -> Samples:
    return np.asarray((numbers - channel.zero) * channel.scale, np.float32)


def _off(board: Board, leads: frozenset[str]) -> frozenset[str]:
    off: set[str] = set()
    if leads & {"II", "V"}:
        off |= {channel.name for channel in board.channels if channel.kind == "ecg"}
    if "PLETH" in leads:
        off |= {channel.name for channel in board.channels if channel.kind == "pleth"}
    return frozenset(off)


@dataclass
class Emulated:
    """What sits at the board's end of the line: bytes in are commands, bytes out are answers and frames."""

    name: str
    options: dict[str, Any]
    codec: Codec = field(init=False)
    streaming: bool = field(init=False)
    heard: bytes = b""
    """Every command so far, for whoever asks what was sent to the board."""
    _encoder: Encoder = field(init=False)
    _unread: bytes = b""

    def __post_init__(self) -> None:
        self.power_on()

    @property
    def board(self) -> Board:
        return self.codec.board

    def frames(self, values: Samples, lead_off: frozenset[str], heart_rate: float | None) -> bytes:
        """The frames for these samples."""
        encoder = self._encoder
        numbers = getattr(encoder, "numbers", None)
        if numbers is not None:
            rate = round(heart_rate or 0)
            numbers.update(heart_rate=rate, resp_rate=60 * _BREATHS_PER_S, spo2=97, temperature_c=36.6)
            numbers["rr_ms"] = round(60_000 / rate) if rate else 0
        try:
            return encoder.encode(values, lead_off)
        except ValueError:  # it cannot say that this is off, and sends what it measures: nothing
            return encoder.encode(values, NO_LEADS)

    def hear(self, data: bytes) -> bytes:
        """Commands in; the board's answers out."""
        self.heard += data
        manner = _MANNERS.get(self.name)
        if manner is None:
            return b""
        self._unread += data
        return manner(self)

    def power_on(self) -> None:
        """Plugged in again: as new."""
        self._unread = b""
        self._build(self.options)
        self.streaming = not self.codec.board.start

    def _build(self, options: dict[str, Any]) -> None:
        self.codec = registry.codec(self.name, **options)
        self._encoder = self.codec.encoder()

    def _next(self, count: int) -> bytes:
        head, self._unread = self._unread[:count], self._unread[count:]
        return head


_RESET = b"OpenBCI V3 8-16 channel\r\nOn Board ADS1299 Device ID: 0x3E\r\n%bLIS3DH Device ID: 0x33\r\nFirmware: v3.1.1\r\n$$$"
_DAISY = b"On Daisy ADS1299 Device ID: 0x3E\r\n"


def _cyton(board: Emulated) -> bytes:
    """docs.openbci.com, Cyton Board SDK. While it streams it answers nothing."""
    answer = b""
    daisy = board.name == "cyton-daisy"
    while board._unread:
        if board._unread.startswith(b"x"):
            if len(board._unread) < 9:
                break
            setting = board._next(9)
            gains = {digit.encode(): gain for gain, digit in GAINS.items()}
            gain = gains.get(setting[3:4])
            if gain is not None and gain != board.options.get("gain", 24):
                board.options = {**board.options, "gain": gain}
                board._build(board.options)
            answer += b"" if board.streaming else b"Success: Channel set for " + setting[1:2] + b"$$$"
            continue
        command = board._next(1)
        if command == b"v":
            board.streaming = False
            board.options = {**board.options, "gain": 24}
            board._build(board.options)
            answer += _RESET % (_DAISY if daisy else b"")
        elif command == b"b" and not board.streaming:
            board._build(board.options)
            board.streaming = True
        elif command == b"s":
            board.streaming = False
        elif command == b"C" and not board.streaming:
            answer += b"16$$$" if daisy else b"no daisy to attach!8$$$"
    return answer


def _bitalino(board: Emulated) -> bytes:
    """The low two bits say what a command is: 3 a rate, 1 a start with its inputs, 0 a stop (idle: the battery light)."""
    answer = b""
    rates = {code: fs for fs, code in bitalino.RATES.items()}
    while board._unread:
        command = board._next(1)[0]
        if command == 0:
            board.streaming = False
        elif board.streaming:
            continue
        elif command == 7:
            answer += b"BITalino_v5.2\n"
        elif command & 3 == 3 and not command & 0x3C:
            board.options = {**board.options, "fs": rates[command >> 6]}
        elif command & 3 == 1 and command > 1:
            inputs = tuple(each for each in range(1, 7) if command & 1 << (1 + each))
            ecg = tuple(socket for socket in board.options.get("ecg", ()) if int(socket[1]) in inputs)
            board.options = {**board.options, "inputs": inputs, "ecg": ecg}
            board._build(board.options)
            board.streaming = True
    return answer


_MANNERS: Mapping[str, Callable[[Emulated], bytes]] = {
    "cyton": _cyton,
    "cyton-daisy": _cyton,
    "bitalino": _bitalino,
}
