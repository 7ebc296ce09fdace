"""ProtoCentral's boards: HealthyPi 3, 4 and 5, and the breakouts ADS1292R, ADS1293, MAX30001, MAX30003.

Where the scales come from: the maker's own firmware, for what was done to the number after the chip, and the chip's data
sheet, for what the number was. Where firmwares differ, the unit stays NU, and `ecg_mv` (mV per count) sets it.

* HealthyPi 3 (github.com/Protocentral/protocentral-healthypi-v3, firmware/healthypi3_streaming) and HealthyPi 4
  (protocentral_healthypi_v4, firmware/src): ADS1292R, channel 2 at gain 12 (CH2SET = 0x60; the comment there says 6),
  reference 2.42 V, 24 bits cut to 16 (/256), slow drift removed, /4, a 161-tap low-pass of gain 1.
* ADS1292R, old firmware (protocentral-ads1292r-arduino, Example-1 before the 9-byte payload): the same chain. The newer
  sketches (8 or 9 bytes) do or do not filter, and shift by 6 or by 8 and 2: not said here.
* MAX30003 (protocentral_max30003, src): gain 20 (CNFG_ECG = 0x805000), the upper 16 of 18 bits shifted up by 16, so full
  scale is 50 mV at 2^31 (V = ADC x 1 V / (2^17 x gain)).
* MAX30001 sends the 18 bits as they are, or shifted up, by the library's version; HealthyPi 5's gain (20, 80 or 160)
  differs between its firmwares; ADS1293's full scale depends on its decimation: not said here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike

from edge_agent.sources.boards.base import NO_LEADS, Board, Channel, Codec, Integers
from edge_agent.sources.boards.protocentral import (
    Dialect,
    Frames,
    Layout,
    ProtocentralDecoder,
    ProtocentralEncoder,
)
from edge_agent.sources.boards.screen import with_screen

_ECG_LEADS = frozenset({"ECG", "RESP"})
_PROBE = frozenset({"IR", "RED"})


def _v3_state(frames: Frames) -> Integers:
    return np.asarray(frames["status"] & 3, np.int64)


def _v3_mark(fields: dict[str, ArrayLike], state: int) -> None:
    fields["status"] = state
    if state & 1:
        fields["ecg"] = fields["resp"] = 0


def _v4_state(frames: Frames) -> Integers:
    return np.asarray((frames["status"] & 0x1F) != 0, np.int64)


def _v4_mark(fields: dict[str, ArrayLike], state: int) -> None:
    fields["status"] = 0x1F * state
    fields["ecg"] = fields["resp"] = 0


def _zeros_state(frames: Frames) -> Integers:
    off = (frames["ecg"] == 0) & (frames["resp"] == 0) & (frames["hr"] == 0) & (frames["rr"] == 0)
    return np.asarray(off, np.int64)


def _zeros_mark(fields: dict[str, ArrayLike], state: int) -> None:
    if state:
        fields.update(dict.fromkeys(("ecg", "resp", "hr", "rr"), 0))


_VITALS = (
    ("heart_rate", "hr", 1.0, None),
    ("resp_rate", "rr", 1.0, None),
    ("spo2", "spo2", 1.0, 25),  # -999 cut to a byte: 'could not be measured'
    ("temperature_c", "temp", 0.01, None),
)

_HEALTHYPI = (
    ("ecg", "<i2", 0),
    ("resp", "<i2", 2),
    ("ir", "<i4", 4),
    ("red", "<i4", 8),
    ("temp", "<i2", 12),
    ("rr", "u1", 14),
    ("spo2", "u1", 15),
    ("hr", "u1", 16),
    ("constant_80", "u1", 17),  # called diastolic pressure by the firmware; it measures none
    ("bp_hr", "u1", 18),
    ("status", "u1", 19),
)
V3 = Layout(20, 2, _HEALTHYPI, {"constant_80": 80})
V4 = Layout(20, 2, _HEALTHYPI, {"constant_80": 80, "bp_hr": 120})
V5 = Layout(
    22,
    2,
    (
        ("ecg", "<i4", 0),
        ("bioz", "<i4", 4),
        ("skip", "u1", 8),
        ("red", "<i4", 9),
        ("ir", "<i4", 13),
        ("temp", "<i2", 17),
        ("spo2", "u1", 19),
        ("hr", "u1", 20),
        ("rr", "u1", 21),
    ),
)
V5_ECG = Layout(50, 3, (("ecg", "(8,)<i4", 0), ("resp", "(4,)<i4", 32), ("hr", "u1", 48), ("rr", "u1", 49)))
V5_PPG = Layout(19, 4, (("ppg", "(8,)<i2", 0), ("temp", "<i2", 16), ("spo2", "u1", 18)))
ADS1292R = Layout(8, 2, (("ecg", "<i2", 0), ("resp", "<i2", 2), ("hr", "<i2", 4), ("rr", "<i2", 6)))
# the maker's sketches of 2019 and later (protocentral-ads1292r-arduino, 02-ecg-plot-openview): one byte more
ADS1292R_9 = Layout(9, 2, (("ecg", "<i2", 0), ("resp", "<i2", 2), ("rr", "<i2", 4), ("hr", "<i2", 6)))
ADS1292R_OLD = Layout(20, 2, (("ecg", "<i2", 0), ("resp", "<i2", 2), ("rr", "u1", 14), ("hr", "u1", 16)))
MAX30003 = Layout(12, 2, (("ecg", "<i4", 0), ("rr", "<i4", 4), ("hr", "<i4", 8)))
# protocentral_max30003, Example1 as it is today: five zeros first, left over from when the header was in the same array
MAX30003_17 = Layout(17, 2, (("ecg", "<i4", 5), ("rr", "<i4", 9), ("hr", "<i4", 13)))
MAX30001 = Layout(12, 2, (("ecg", "<i4", 0), ("bioz", "<i4", 4), ("hr", "<i2", 8), ("rr", "<i2", 10)))
_ADS1293_CHANNELS = (("ch1", "<i4", 0), ("ch2", "<i4", 4), ("ch3", "<i4", 8))
ADS1293 = Layout(12, 2, _ADS1293_CHANNELS)
ADS1293_HR = Layout(14, 2, (*_ADS1293_CHANNELS, ("hr", "<i2", 12)))

_ADS1292R_MV = 2420 / 12 / (2**23 - 1) * 256 * 4
_MAX30003_MV = 1000 / 20 / 2**31
_FIR_161 = 80

_RESP = Channel("RESP", "other")
_IR = Channel("IR", "pleth")
_RED = Channel("RED", "other")


def _board(
    name: str,
    description: str,
    bauds: tuple[int, ...],
    fs: float,
    channels: tuple[Channel, ...],
    layout: Layout,
    *,
    batch: int = 1,
    delay: int = 0,
) -> Board:
    return Board(
        name,
        description,
        bauds,
        fs,
        channels,
        frame_bytes=layout.size,
        frames_per_s=fs / batch,
        filter_delay=delay,
    )


_V3_LEADS = (NO_LEADS, _ECG_LEADS, _PROBE, _ECG_LEADS | _PROBE)
_ECG_MV = Channel("ECG", "ecg", "mV", _ADS1292R_MV)
_ECG_NU = Channel("ECG", "ecg")
_RATES = (("heart_rate", "hr", 1.0, None), ("resp_rate", "rr", 1.0, None))
_RR_MS = (("heart_rate", "hr", 1.0, None), ("rr_ms", "rr", 1.0, None))

_KNOWN: tuple[tuple[Board, Dialect], ...] = (
    (
        _board(
            "healthypi3",
            "ProtoCentral HealthyPi v3. ECG in mV by the maker's firmware (ADS1292R, gain 12), after a 161-tap FIR",
            (115200, 57600),  # USB; the Raspberry Pi's UART
            125,
            (_ECG_MV, _RESP, _IR, _RED),
            V3,
            delay=_FIR_161,
        ),
        Dialect((V3,), ("ecg", "resp", "ir", "red"), _VITALS, _V3_LEADS, _v3_state, _v3_mark),
    ),
    (
        _board(
            "healthypi4",
            "ProtoCentral HealthyPi v4 in V3 mode. ECG in mV by the maker's firmware (ADS1292R, gain 12), after a 161-tap FIR",
            (115200,),
            125,
            (_ECG_MV, _RESP, _IR, _RED),
            V4,
            delay=_FIR_161,
        ),
        Dialect((V4,), ("ecg", "resp", "ir", "red"), _VITALS, (NO_LEADS, _ECG_LEADS), _v4_state, _v4_mark),
    ),
    (
        _board(
            "healthypi5",
            "ProtoCentral HealthyPi 5. ECG in counts: the gain differs between firmwares (mV = count x 1000 / (2^17 x gain))",
            (115200,),
            128,
            (_ECG_NU, Channel("BIOZ", "other"), _IR, _RED),
            V5,
        ),
        Dialect((V5,), ("ecg", "bioz", "ir", "red"), _VITALS, held_wave=("bioz", "skip")),
    ),
    (
        _board(
            "healthypi5-batched",
            "ProtoCentral HealthyPi 5, firmware with 8 samples a frame. ECG in counts: the gain differs between firmwares",
            (115200,),
            128,
            (_ECG_NU, _RESP),
            V5_ECG,
            batch=8,
        ),
        Dialect((V5_ECG, V5_PPG), ("ecg", "resp"), _VITALS),
    ),
    (
        _board(
            "ads1292r",
            "ProtoCentral ADS1292R breakout, sketch with 8 or 9 bytes. ECG in counts: sketches differ in shift and filter",
            (57600,),
            125,
            (_ECG_NU, _RESP),
            ADS1292R,
        ),
        Dialect((ADS1292R, ADS1292R_9), ("ecg", "resp"), _RATES, (NO_LEADS, _ECG_LEADS), _zeros_state, _zeros_mark),
    ),
    (
        _board(
            "ads1292r-old",
            "ProtoCentral ADS1292R breakout, sketch with 20 bytes. ECG in mV by the maker's sketch, after a 161-tap FIR",
            (57600,),
            125,
            (_ECG_MV, _RESP),
            ADS1292R_OLD,
            delay=_FIR_161,
        ),
        Dialect((ADS1292R_OLD,), ("ecg", "resp"), _RATES),
    ),
    (
        _board(
            "max30003",
            "ProtoCentral MAX30003 breakout. ECG in mV by the maker's library (gain 20, 18 bits at the top of 32)",
            (115200, 57600),
            128,
            (Channel("ECG", "ecg", "mV", _MAX30003_MV),),
            MAX30003,
        ),
        Dialect((MAX30003, MAX30003_17), ("ecg",), _RR_MS),
    ),
    (
        _board(
            "max30001",
            "ProtoCentral MAX30001 breakout. ECG in counts: versions of the library shift them differently",
            (115200, 57600),
            128,
            (_ECG_NU, Channel("BIOZ", "other")),
            MAX30001,
        ),
        Dialect((MAX30001,), ("ecg", "bioz"), _RR_MS),
    ),
    (
        _board(
            "ads1293",
            "ProtoCentral ADS1293 breakout, three leads. In counts: full scale depends on the chip's decimation",
            (115200, 57600),
            128,
            (Channel("ECG1", "ecg"), Channel("ECG2", "ecg"), Channel("ECG3", "ecg")),
            ADS1293,
        ),
        Dialect((ADS1293, ADS1293_HR), ("ch1", "ch2", "ch3"), (("heart_rate", "hr", 1.0, None),)),
    ),
)

NAMES = tuple(board.name for board, _ in _KNOWN)


def codec(name: str, *, ecg_mv: float | None = None, fs: float | None = None) -> Codec:
    """A board by name; ``ecg_mv`` (mV per count) and ``fs`` where the user's firmware is not the maker's."""
    board, dialect = next((board, dialect) for board, dialect in _KNOWN if board.name == name)
    if ecg_mv is not None:
        channels = tuple(
            replace(channel, unit="mV", scale=ecg_mv) if channel.kind == "ecg" else channel
            for channel in board.channels
        )
        board = replace(board, channels=channels)
    if fs is not None:
        board = replace(board, fs=fs, frames_per_s=board.frames_per_s * fs / board.fs)
    return with_screen(board, lambda: ProtocentralDecoder(board, dialect), lambda: ProtocentralEncoder(board, dialect))
