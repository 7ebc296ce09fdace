"""Each board's bytes, commands, rates and scales, put together by hand from the makers' pages."""

from __future__ import annotations

import struct
from dataclasses import astuple

import numpy as np
import pytest

from edge_agent.sources.boards import base, bitalino, cyton, registry
from edge_agent.sources.boards import protocentral_boards as boards
from edge_agent.sources.boards.base import Board, Channel, Chunk, Command, Counters, Units
from edge_agent.sources.boards.protocentral import Layout

# -- every layout, by hand ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layout", "kind", "form", "fields"),
    [
        (boards.V3, 2, "<hhiihBBBBBB", {"ecg": -2, "resp": 3, "ir": -4, "red": 5, "temp": 6, "rr": 7, "spo2": 8, "hr": 9,
                                        "constant_80": 80, "bp_hr": 11, "status": 12}),
        (boards.V5, 2, "<iiBiihBBB", {"ecg": -2, "bioz": 3, "skip": 4, "red": -5, "ir": 6, "temp": -7, "spo2": 8, "hr": 9, "rr": 10}),
        (boards.ADS1292R, 2, "<hhhh", {"ecg": -2, "resp": 3, "hr": 4, "rr": 5}),
        (boards.ADS1292R_9, 2, "<hhhhx", {"ecg": -2, "resp": 3, "rr": 4, "hr": 5}),
        (boards.ADS1292R_OLD, 2, "<hh10xBxBxxx", {"ecg": -2, "resp": 3, "rr": 4, "hr": 5}),
        (boards.MAX30003, 2, "<iii", {"ecg": -2, "rr": 3, "hr": 4}),
        (boards.MAX30003_17, 2, "<5xiii", {"ecg": -2, "rr": 3, "hr": 4}),
        (boards.MAX30001, 2, "<iihh", {"ecg": -2, "bioz": 3, "hr": 4, "rr": 5}),
        (boards.ADS1293, 2, "<iii", {"ch1": -2, "ch2": 3, "ch3": 4}),
        (boards.ADS1293_HR, 2, "<iiih", {"ch1": -2, "ch2": 3, "ch3": 4, "hr": 5}),
    ],
    ids=["V3", "V5", "ADS1292R", "9", "OLD", "MAX30003", "17", "MAX30001", "ADS1293", "HR"],
)  # fmt: skip
def test_bytes_of_a_layout(layout: Layout, kind: int, form: str, fields: dict[str, int]) -> None:
    payload = struct.pack(form, *fields.values())
    frame = b"\x0a\xfa" + struct.pack("<HB", len(payload), kind) + payload + b"\x00\x0b"
    assert layout.pack(fields) == frame
    assert layout.size == len(frame)


def test_what_is_said_of_each_board() -> None:
    """What a reader of the makers' pages would write down: rates, lengths, what a channel is; the first baud is the usual one."""
    said = {
        board.name: (
            board.bauds,
            board.fs,
            board.frame_bytes,
            board.frames_per_s,
            board.filter_delay,
            board.held,
            board.sequence,
        )
        for board in registry.boards()
    }
    assert said == {
        "healthypi3": ((115200, 57600), 125, 27, 125, 80, 4, None),
        "healthypi4": ((115200,), 125, 27, 125, 80, 4, None),
        "healthypi5": ((115200,), 128, 29, 128, 0, 4, None),
        "healthypi5-batched": ((115200,), 128, 57, 16, 0, 4, None),
        "ads1292r": ((57600,), 125, 15, 125, 0, 4, None),
        "ads1292r-old": ((57600,), 125, 27, 125, 80, 4, None),
        "max30003": ((115200, 57600), 128, 19, 128, 0, 4, None),
        "max30001": ((115200, 57600), 128, 19, 128, 0, 4, None),
        "ads1293": ((115200, 57600), 128, 19, 128, 0, 4, None),
        "cyton": ((115200,), 250, 33, 250, 0, 5, 256),
        "cyton-daisy": ((115200,), 125, 33, 250, 0, 5, 256),
        "bitalino": ((115200,), 1000, 8, 1000, 0, 1, 16),
    }
    assert [board.name for board in registry.boards() if board.checked] == ["bitalino"]
    three = registry.codec("healthypi3").board
    assert (three.baud, three.delay_s) == (115200, 84 / 125)
    assert registry.codec("healthypi5-batched", fs=64).board.frames_per_s == 8


def test_scales_to_the_last_digit() -> None:
    def scale(name: str, **options: object) -> float:
        return registry.codec(name, **options).board.channels[0].scale

    assert (
        scale("healthypi3")
        == scale("healthypi4")
        == scale("ads1292r-old")
        == pytest.approx(2420 / 12 / 8388607 * 1024, rel=1e-12)
    )
    assert scale("max30003") == pytest.approx(50 / 2147483648, rel=1e-12)
    assert scale("cyton") == pytest.approx(4500 / 24 / 8388607, rel=1e-12)
    assert scale("cyton", gain=1) == pytest.approx(4500 / 8388607, rel=1e-12)
    sockets = registry.codec("bitalino", ecg=("A1", "A6")).board.channels
    assert [(one.name, one.kind, one.unit, one.zero) for one in (sockets[0], sockets[1], sockets[5])] == [
        ("A1", "ecg", "mV", 512.0), ("A2", "other", "NU", 0.0), ("A6", "ecg", "mV", 32.0),
    ]  # fmt: skip
    assert [sockets[0].scale, sockets[5].scale] == pytest.approx([3 / 1024, 3 / 64], rel=1e-12)


def test_cyton_s_commands_say_the_gain_of_every_channel() -> None:
    for gain, digit in ((1, b"0"), (2, b"1"), (4, b"2"), (6, b"3"), (8, b"4"), (12, b"5")):
        sent = [command.send for command in registry.codec("cyton", gain=gain).board.start]
        assert sent == [
            b"v",
            b"c",
            *(b"x" + key + b"0" + digit + b"0110X" for key in (b"1", b"2", b"3", b"4", b"5", b"6", b"7", b"8")),
            b"b",
        ]
    daisy = registry.codec("cyton-daisy").board
    assert daisy.start == (Command(b"v", 0, b"$$$"), Command(b"C", 0, b"16$$$"), Command(b"b", 100, b""))
    assert registry.codec("cyton").board.start == (
        Command(b"v", 0, b"$$$"),
        Command(b"c", 100, b""),
        Command(b"b", 100, b""),
    )
    assert len(registry.codec("cyton-daisy", gain=8).board.start) == 3 + 16
    assert (
        registry.codec("cyton", fs=500).board.frames_per_s,
        registry.codec("cyton-daisy", fs=500).board.frames_per_s,
    ) == (500, 1000)


def test_bitalino_s_bits_from_the_top() -> None:
    """4 of a count, 4 of a check, I1 I2 O1 O2, four channels of ten bits and two of six, little end first."""
    values = [0x3A5, 0x15A, 0x2C3, 0x13C, 0x2A, 0x15]
    frame = bitalino.pack([[value] for value in values], number=11, digital=0b1010)
    word = int.from_bytes(frame, "little")
    assert word >> 60 == 11
    assert word >> 52 & 15 == 0b1010
    assert [
        word >> shift & mask for shift, mask in ((42, 1023), (32, 1023), (22, 1023), (12, 1023), (6, 63), (0, 63))
    ] == values
    for channels, size in ((1, 3), (2, 4), (3, 6), (4, 7), (5, 8), (6, 8)):
        short = bitalino.pack([[value] for value in values[:channels]], number=11, digital=0b1010)
        assert len(short) == size
        assert bitalino.unpack(short, channels)[0][:, 0].tolist() == values[:channels]


def test_every_flipped_bit_of_a_bitalino_frame_is_noticed() -> None:
    frame = bitalino.pack([[500]] * 6, number=3)
    assert bitalino._check(np.frombuffer(frame, np.uint8)[None])[0] == 0
    for bit in range(64):
        other = bytearray(frame)
        other[bit // 8] ^= 1 << bit % 8
        assert bitalino._check(np.frombuffer(bytes(other), np.uint8)[None])[0] != 0


def test_bitalino_s_sockets_and_rates() -> None:
    for fs, code in ((1, 0x03), (10, 0x43), (100, 0x83), (1000, 0xC3)):
        assert registry.codec("bitalino", fs=fs).board.start[1].send == bytes([code])
    board = registry.codec("bitalino", inputs=(6, 2)).board
    assert board.start[2].send == bytes([0b10001001])
    assert [channel.name for channel in board.channels] == ["A2", "A6"]
    for inputs in ((), (1, 1), (7,), (0,)):
        with pytest.raises(ValueError, match="each once"):
            registry.codec("bitalino", inputs=inputs)


def test_cyton_s_extra_bytes() -> None:
    for footer, timed, moved in (
        (0xC0, False, True),
        (0xC1, False, False),
        (0xC2, False, False),
        (0xC3, True, False),
        (0xC6, True, False),
    ):
        packet = cyton.Packet(1, (0,) * 8, footer, b"\x00\x01\x00\x02\xff\xfd")
        assert packet.acceleration == ((1, 2, -3) if moved else None)
        assert packet.time_ms == (0x0002FFFD if timed else None)
    for footer, good in ((0xBF, False), (0xC0, True), (0xC6, True), (0xC7, False)):
        frame = np.frombuffer(cyton.pack_many([[1] * 8], 0, footer=footer), np.uint8)[None]
        assert bool(cyton._good(frame)[0]) is good
        assert bool(cyton._anywhere(frame[0])[0]) is good


# -- what all boards share ---------------------------------------------------------------------------------------------------------------


def test_numbers_to_values_and_back() -> None:
    channels = (Channel("A", "ecg", "mV", 0.5, 10.0), Channel("B", "other"))
    rows = np.array([[10, 12, -3], [1, 2, 3]])
    values = base.to_values(list(rows), channels)
    assert values.tolist() == [[0.0, 1.0, -6.5], [1.0, 2.0, 3.0]]
    assert Units.of(channels).values(rows).tolist() == values.tolist()
    assert Units.of(channels[1:]).values(rows[1:]).tolist() == [[1.0, 2.0, 3.0]]
    assert base.to_raw(values, channels, [(-100, 100)] * 2).tolist() == rows.tolist()
    assert base.to_raw(values, channels, [(0, 11), (2, 2)]).tolist() == [[10, 11, 0], [2, 2, 2]]
    assert base.to_raw(np.array([[np.nan], [0.6]]), channels, [(-9, 99)] * 2).tolist() == [[0], [1]]


def test_prose_is_told_from_what_is_not() -> None:
    skipped = base.Skipped()
    skipped.add(b"Ready: 5 V\r\n\t~ ")
    assert astuple(skipped) == (15, 0)
    skipped.add(b"\x1f\x7f\x00a\xff")
    assert astuple(skipped) == (20, 4)
    skipped.clear()
    assert astuple(skipped) == (0, 0)


def test_a_lead_that_is_off_has_no_value() -> None:
    channels = (Channel("A", "ecg"), Channel("B", "other"))
    values = base.without(np.ones((2, 3), np.float32), channels, frozenset({"B"}))
    assert np.isnan(values).tolist() == [[False] * 3, [True] * 3]
    assert not np.isnan(base.without(np.ones((2, 3), np.float32), channels, frozenset())).any()


def test_what_a_board_is_by_default() -> None:
    board = Board("x", "", (9600, 4800), 100.0, (Channel("A", "ecg"),), 8, 100.0, filter_delay=3, held=2)
    assert (board.baud, board.delay_s, board.checked, board.sequence, board.start, board.stop) == (
        9600,
        0.05,
        False,
        None,
        (),
        (),
    )
    chunk = Chunk(np.zeros((1, 1), np.float32))
    assert (chunk.lost_before, chunk.lost_exact, chunk.lead_off) == (0, True, frozenset())
    assert Counters() == Counters(0, 0, 0, 0, 0, 0, 0)
