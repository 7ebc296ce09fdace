"""Byte for byte: the makers' layouts, both ways, and the commands."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.sources.boards import bitalino, cyton, registry
from edge_agent.sources.boards import protocentral_boards as boards
from edge_agent.sources.boards.base import Chunk
from edge_agent.sources.boards.protocentral import Layout

HEALTHYPI = bytes.fromhex("0a fa 14 00 02 85 ff c8 01 a0 86 01 00 fe ff ff ff 42 0e 10 61 48 50 78 00 00 0b")
HEALTHYPI_FIELDS = {"ecg": -123, "resp": 456, "ir": 100000, "red": -2, "temp": 3650, "rr": 16, "spo2": 97, "hr": 72}
HEALTHYPI5 = bytes.fromhex("0a fa 16 00 02 18 fc ff ff d0 07 00 00 00 e0 93 04 00 fc ff ff ff 42 0e 61 48 10 00 0b")
HEALTHYPI5_FIELDS = {
    "ecg": -1000,
    "bioz": 2000,
    "red": 300000,
    "ir": -4,
    "temp": 3650,
    "spo2": 97,
    "hr": 72,
    "rr": 16,
}
ADS1292R = bytes.fromhex("0a fa 08 00 02 85 ff c8 01 48 00 10 00 00 0b")
CYTON = bytes.fromhex(
    "a0 07 00 00 01 ff ff ff 7f ff ff 80 00 00 00 03 e8 ff fc 18 00 00 00 01 e2 40 00 10 ff f0 01 f4 c0"
)
CYTON_CHANNELS = (1, -1, 8388607, -8388608, 1000, -1000, 0, 123456)

PROTOCENTRAL = [
    pytest.param("healthypi3", boards.V3, HEALTHYPI, {**HEALTHYPI_FIELDS, "bp_hr": 120}, id="healthypi3"),
    pytest.param("healthypi4", boards.V4, HEALTHYPI, HEALTHYPI_FIELDS, id="healthypi4"),
    pytest.param("healthypi5", boards.V5, HEALTHYPI5, HEALTHYPI5_FIELDS, id="healthypi5"),
    pytest.param("ads1292r", boards.ADS1292R, ADS1292R, {"ecg": -123, "resp": 456, "hr": 72, "rr": 16}, id="ads1292r"),
]


def only(chunks: list[Chunk]) -> Chunk:
    assert len(chunks) == 1
    return chunks[0]


@pytest.mark.parametrize(("board", "layout", "frame", "fields"), PROTOCENTRAL)
def test_protocentral_vectors(board: str, layout: Layout, frame: bytes, fields: Mapping[str, int]) -> None:
    assert layout.pack(fields) == frame
    unpacked = layout.unpack(frame)
    assert {name: int(unpacked[name][0]) for name in fields} == dict(fields)

    codec = registry.codec(board)
    decoder = codec.frames()
    chunk = only(decoder.decode(frame))
    assert chunk.lost_before == 0
    assert chunk.lead_off == frozenset()
    wave = {"ECG": "ecg", "RESP": "resp", "BIOZ": "bioz", "IR": "ir", "RED": "red"}
    raw = [fields[wave[channel.name]] * channel.scale for channel in codec.board.channels]
    np.testing.assert_array_equal(chunk.values[:, 0], np.array(raw, np.float32))
    expected = {"heart_rate": 72.0, "resp_rate": 16.0}
    if "spo2" in fields:
        expected |= {"spo2": 97.0, "temperature_c": 36.5}
    assert decoder.numbers == pytest.approx(expected)

    encoder = codec.encoder()
    encoder.numbers = expected  # type: ignore[attr-defined]
    played = bytearray(encoder.encode(chunk.values))
    if board == "healthypi3":
        played[23] = 120  # a number that is no measurement, and that the encoder leaves at 0
    assert bytes(played) == frame


@pytest.mark.parametrize(
    ("layout", "size"),
    [
        *[(boards.V3, 27), (boards.V4, 27), (boards.V5, 29), (boards.V5_ECG, 57), (boards.V5_PPG, 26)],
        *[(boards.ADS1292R, 15), (boards.ADS1292R_OLD, 27), (boards.MAX30003, 19), (boards.MAX30001, 19)],
        *[(boards.ADS1293, 19), (boards.ADS1293_HR, 21)],
    ],
)
def test_sizes(layout: Layout, size: int) -> None:
    assert layout.size == size
    assert len(layout.pack({})) == size


def test_batched_layout() -> None:
    frame = bytearray(57)
    frame[:5] = bytes.fromhex("0afa320003")
    frame[-2:] = b"\x00\x0b"
    ecg, resp = range(-4000, 4000, 1000), (7, -8, 9, -10)
    for at, value in enumerate(ecg):
        frame[5 + 4 * at : 9 + 4 * at] = value.to_bytes(4, "little", signed=True)
    for at, value in enumerate(resp):
        frame[37 + 4 * at : 41 + 4 * at] = value.to_bytes(4, "little", signed=True)
    frame[53], frame[54] = 72, 16
    ppg = bytes.fromhex("0afa130004") + np.arange(8, dtype="<i2").tobytes() + b"\x42\x0e\x61\x00\x0b"
    decoder = registry.codec("healthypi5-batched").frames()
    chunk = only(decoder.decode(ppg + bytes(frame)))
    np.testing.assert_array_equal(chunk.values, [list(ecg), np.repeat(resp, 2)])
    assert decoder.numbers == pytest.approx({"heart_rate": 72, "resp_rate": 16, "temperature_c": 36.5, "spo2": 97})
    assert decoder.counters.frames_good == 2
    assert boards.V5_ECG.pack({"ecg": [list(ecg)], "resp": [resp], "hr": 72, "rr": 16}) == bytes(frame)
    assert boards.V5_PPG.pack({"ppg": [range(8)], "temp": 3650, "spo2": 97}) == ppg


def test_ads1293_both_forms() -> None:
    plain = boards.ADS1293.pack({"ch1": 8388607, "ch2": -8388608, "ch3": 5})
    longer = boards.ADS1293_HR.pack({"ch1": 1, "ch2": 2, "ch3": -3, "hr": 72})
    decoder = registry.codec("ads1293").frames()
    values = np.concatenate([chunk.values for chunk in decoder.decode(plain + longer)], axis=1)
    np.testing.assert_array_equal(values, [[8388607, 1], [-8388608, 2], [5, -3]])
    assert decoder.numbers == {"heart_rate": 72.0}


def test_cyton_vector() -> None:
    packet = cyton.unpack(CYTON)
    assert (packet.number, packet.channels, packet.acceleration) == (7, CYTON_CHANNELS, (16, -16, 500))
    assert cyton.pack(packet) == CYTON
    stream = CYTON + b"".join(cyton.pack_many([CYTON_CHANNELS], number) for number in (8, 9))
    codec = registry.codec("cyton")
    chunk = only(codec.frames().decode(stream))
    assert chunk.values.shape == (8, 2)  # the third waits for a fourth
    microvolts = np.array(CYTON_CHANNELS) * 0.02235174
    np.testing.assert_allclose(chunk.values[:, 0] * 1000, microvolts, rtol=1e-5)


def test_cyton_footers() -> None:
    timed = cyton.Packet(1, (0,) * 8, 0xC3, b"\x01\x02" + (123456).to_bytes(4, "big"))
    assert timed.time_ms == 123456
    assert timed.acceleration is None
    assert cyton.unpack(cyton.pack(timed)) == timed


@pytest.mark.parametrize(
    ("channels", "frame"), [([1023], "fc bf 92"), ([1, 2, 3, 4, 5, 6], "46 41 c0 00 02 04 b0 96")], ids=["1", "6"]
)
def test_bitalino_vectors(channels: list[int], frame: str) -> None:
    data = bytes.fromhex(frame)
    assert bitalino.pack([[value] for value in channels], number=9, digital=0b1011) == data
    analogue, digital, number = bitalino.unpack(data, len(channels))
    assert analogue[:, 0].tolist() == channels
    assert (digital.tolist(), number.tolist()) == ([0b1011], [9])
    many = bitalino.pack(np.repeat([[value] for value in channels], 10, axis=1), number=9, digital=0b1011)
    assert many.startswith(data)
    codec = registry.codec("bitalino", inputs=range(1, len(channels) + 1))
    decoder = codec.frames()
    chunk = only(decoder.decode(many))
    np.testing.assert_array_equal(chunk.values, np.repeat([[value] for value in channels], 9, axis=1))
    assert decoder.numbers == {"I1": 1, "I2": 0, "O1": 1, "O2": 1}


def slow_crc(frame: bytes) -> int:
    """As the facts say it, bit by bit."""
    crc = 0
    for byte in [*frame[:-1], frame[-1] & 0xF0]:
        for at in range(7, -1, -1):
            crc <<= 1
            if crc & 0x10:
                crc ^= 3
            crc ^= byte >> at & 1
            crc &= 0x1F
    return crc & 0x0F


@given(
    st.integers(1, 6), st.lists(st.integers(0, 1023), min_size=6, max_size=6), st.integers(0, 15), st.integers(0, 15)
)
def test_bitalino_round_trip(channels: int, values: list[int], number: int, digital: int) -> None:
    raw = [[value % (1024 if at < 4 else 64)] for at, value in enumerate(values[:channels])]
    data = bitalino.pack(raw, number, digital)
    assert len(data) == bitalino.SIZES[channels]
    assert data[-1] & 0x0F == slow_crc(data)
    analogue, lines, numbers = bitalino.unpack(data, channels)
    assert (analogue.tolist(), lines.tolist(), numbers.tolist()) == (raw, [digital], [number])


@given(
    st.integers(0, 255),
    st.lists(st.integers(-(2**23), 2**23 - 1), min_size=8, max_size=8),
    st.binary(min_size=6, max_size=6),
)
def test_cyton_round_trip(number: int, channels: list[int], aux: bytes) -> None:
    packet = cyton.Packet(number, tuple(channels), 0xC1, aux)
    assert cyton.unpack(cyton.pack(packet)) == packet


@given(st.binary(min_size=20, max_size=20))
def test_protocentral_round_trip(payload: bytes) -> None:
    frame = b"\x0a\xfa\x14\x00\x02" + payload + b"\x00\x0b"
    fields = boards.V3.unpack(frame)
    assert boards.V3.pack({name: fields[name] for name in fields.dtype.names or ()}) == frame


def test_bitalino_commands() -> None:
    board = registry.codec("bitalino", inputs=(1, 3), fs=100).board
    assert [command.send for command in board.start] == [b"\x00", bytes([2 << 6 | 3]), bytes([1 | 1 << 2 | 1 << 4])]
    assert [command.pause_ms for command in board.start] == [100, 100, 100]
    assert [command.send for command in board.stop] == [b"\x00"]
    assert board.frame_bytes == 4


def test_cyton_commands() -> None:
    board = registry.codec("cyton").board
    assert [command.send for command in board.start] == [b"v", b"c", b"b"]
    assert board.start[0].wait_for == b"$$$"
    assert [command.send for command in board.stop] == [b"s"]
    gained = registry.codec("cyton-daisy", gain=12)
    assert [command.send for command in gained.board.start][2:4] == [b"x1050110X", b"x2050110X"]
    assert gained.board.start[-2].send == b"xI050110X"
    assert gained.board.channels[0].scale == pytest.approx(2 * registry.codec("cyton").board.channels[0].scale)


def test_scales_from_the_makers() -> None:
    """A 1 mV signal, taken through the chip and the firmware by hand."""
    ads1292r = round(1 / (2420 / 12) * (2**23 - 1)) // 256 // 4
    assert ads1292r * registry.codec("healthypi3").board.channels[0].scale == pytest.approx(1, rel=0.03)
    max30003 = round(1 / 1000 * 2**17 * 20) >> 2 << 16
    assert max30003 * registry.codec("max30003").board.channels[0].scale == pytest.approx(1, rel=0.001)
    bitalino_ecg = registry.codec("bitalino", ecg=("A2",)).board.channels[1]
    assert pytest.approx(1 / bitalino_ecg.scale + bitalino_ecg.zero) == (0.5 + 1 * 1100 / 3300) * 1024


def test_filter_delay_is_said() -> None:
    assert {board.name: board.filter_delay for board in registry.boards() if board.filter_delay} == {
        "healthypi3": 80,
        "healthypi4": 80,
        "ads1292r-old": 80,
    }


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("healthypi-5", {}, "healthypi5"),
        ("toaster", {}, "known are"),
        ("cyton", {"gain": 5}, "allowed are 1, 2, 4"),
        ("bitalino", {"fs": 250}, "allowed are 1, 10, 100, 1000"),
        ("bitalino", {"inputs": (0,)}, "1 to 6"),
        ("bitalino", {"inputs": (1,), "ecg": ("A2",)}, "not among"),
        ("max30003", {"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_is_said(name: str, options: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        registry.codec(name, **options)


def test_own_scale_and_rate() -> None:
    board = registry.codec("healthypi5", ecg_mv=1000 / 2**17 / 80, fs=125).board
    assert (board.fs, board.frames_per_s, board.channels[0].unit) == (125, 125, "mV")
    assert [channel.unit for channel in board.channels[1:]] == ["NU", "NU", "NU"]
