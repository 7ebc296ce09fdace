"""Blocks of raw samples: both forms there and back, what is no block, and order out of disorder."""

from __future__ import annotations

import json
import random
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.sources import raw_blocks
from edge_agent.sources.raw_blocks import (
    NO_VALUE,
    BadBlock,
    Info,
    RawBlock,
    counts_to_units,
    decode,
    decode_info,
    encode_binary,
    encode_info,
    encode_json,
)
from edge_agent.sources.sequencer import Ready, Sequencer

INFO = Info(250.0, ("II", "ABP"), ("mV", "mmHg"))


def block(seq: int = 3, n: int = 25, session: int = 9) -> RawBlock:
    t = np.arange(seq * n, seq * n + n)
    values = np.stack([np.sin(t / 9), 80 + t % 40]).astype(np.float32)
    values[0, 3] = np.nan
    return RawBlock(seq, seq * n, session, values, frozenset({"II"}))


def test_every_form_comes_back() -> None:
    one = block()
    exact = decode(encode_binary(one, INFO), INFO)
    np.testing.assert_array_equal(exact.values, one.values)
    assert (exact.seq, exact.first, exact.session, exact.lead_off) == (3, 75, 9, frozenset({"II"}))
    scaled = decode(encode_binary(one, INFO, scale=(0.001, 0.1)), INFO)
    np.testing.assert_allclose(scaled.values[0], one.values[0], atol=0.0006)
    np.testing.assert_allclose(scaled.values[1], one.values[1], atol=0.06)
    written = decode(encode_json(one, INFO), INFO)
    np.testing.assert_allclose(written.values, one.values, atol=1e-5)
    assert (written.seq, written.first, written.session, written.lead_off) == (3, 75, 9, frozenset({"II"}))


def test_the_bytes_are_as_they_are_documented() -> None:
    one = RawBlock(7, 1750, 5, np.array([[0.5, -1.0], [80.0, 90.0]], np.float32), frozenset({"ABP"}))
    data = encode_binary(one, INFO, scale=(0.001, 0.1))
    assert data[:32] == b"EARB" + struct.pack("<BBHIIQfHH", 1, 1, 2, 5, 7, 1750, 250.0, 2, 0b10)
    assert data[32:48] == struct.pack("<4f", 0.001, 0, 0.1, 0)
    assert data[48:] == struct.pack("<4h", 500, 800, -1000, 900)
    assert len(data) == 56


def test_the_info_comes_back() -> None:
    assert decode_info(encode_info(INFO)) == INFO


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"[]",
        b"3",
        b"\xff",
        b'{"fs": 250}',
        b'{"fs": 0, "channels": [{"name": "II"}]}',
        b'{"fs": 250, "channels": []}',
        b'{"fs": 250, "channels": [{"name": "II"}, {"name": "II"}]}',
        b'{"schema": "other", "fs": 250, "channels": [{"name": "II"}]}',
        b'{"fs": 1e400, "channels": [{"name": "II"}]}',
        b"[" * 100_000,
    ],
)
def test_bad_infos(payload: bytes) -> None:
    with pytest.raises(BadBlock):
        decode_info(payload)


def changed(at: int, form: str, value: Any) -> bytes:
    data = bytearray(encode_binary(block(), INFO))
    struct.pack_into(form, data, at, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"EARB", "no header"),
        (changed(4, "<B", 2), "version is 2"),
        (changed(5, "<B", 7), "kind of numbers is 7"),
        (changed(6, "<H", 3), "3 channels at 250 Hz"),
        (changed(24, "<f", 500.0), "at 500 Hz"),
        (changed(24, "<f", float("nan")), "nan Hz"),
        (changed(28, "<H", 26), "do not hold 26 samples"),
        (changed(28, "<H", 0), "do not hold 0 samples"),
        (encode_binary(block(), INFO)[:-1], "do not hold 25 samples"),
        (b"EARB" + bytes(2 << 20), "at most"),
        (b"hello", "neither a binary block nor JSON"),
        (b'{"first": 0, "values": {"II": [1], "ABP": [1]}}', "needs seq, first and values"),
        (b'{"seq": 0, "first": 0}', "needs seq, first and values"),
        (b'{"seq": -1, "first": 0, "values": {"II": [1], "ABP": [1]}}', "its seq is -1"),
        (b'{"seq": true, "first": 0, "values": {"II": [1], "ABP": [1]}}', "its seq is True"),
        (b'{"seq": 0, "first": 0.5, "values": {"II": [1], "ABP": [1]}}', "its first is 0.5"),
        (changed(16, "<Q", 1 << 63), "its first is 9223372036854775808"),
        (changed(16, "<Q", 1 << 53), "not below 2.53"),
        (b'{"seq": 0, "first": 1152921504606846976, "values": {"II": [1], "ABP": [1]}}', "not below 2.53"),
        (b'{"seq": 0, "first": 0, "values": {"II": [1]}}', "its channels are II"),
        (b'{"seq": 0, "first": 0, "values": {"II": [1], "ABP": [1, 2]}}', "not of one length"),
        (b'{"seq": 0, "first": 0, "values": {"II": [], "ABP": []}}', "not of one length"),
        (b'{"seq": 0, "first": 0, "values": {"II": ["x"], "ABP": [1]}}', "needs seq"),
    ],
)
def test_what_is_no_block_says_why(payload: bytes, message: str) -> None:
    with pytest.raises(BadBlock, match=message):
        decode(payload, INFO)


@settings(max_examples=300, deadline=None)
@given(st.one_of(st.binary(max_size=200), st.binary(max_size=200).map(lambda tail: b"EARB\x01" + tail)))
def test_any_bytes_give_a_block_or_a_reason(payload: bytes) -> None:
    try:
        found = decode(payload, INFO)
    except BadBlock:
        return
    assert found.values.shape[0] == 2
    assert not np.isinf(found.values).any()


# -- order ------------------------------------------------------------------------------------------------------------

N = 10


def numbered(first: int) -> RawBlock:
    return RawBlock(first // N, first, 1, np.arange(first, first + N, dtype=np.float32)[None])


def joined(ready: list[Ready]) -> tuple[list[float], int]:
    values = [value for one in ready for value in one.block.values[0].tolist()]
    return values, sum(one.lost_before for one in ready)


@settings(max_examples=200, deadline=None)
@given(
    count=st.integers(1, 60),
    gone=st.sets(st.integers(1, 59), max_size=8),
    twice=st.sets(st.integers(0, 59), max_size=8),
    seed=st.integers(0, 10**6),
)
def test_disorder_within_patience_is_put_right(count: int, gone: set[int], twice: set[int], seed: int) -> None:
    rng = random.Random(seed)
    sent = [i for i in range(count) if i not in gone]
    sent = sorted([*sent, *(i for i in sent if i in twice)])
    moved = sorted(sent[1:], key=lambda i: i + rng.uniform(0, 3.9))  # up to three places late
    order = [sent[0], *moved]
    sequencer = Sequencer(patience_ns=6)
    ready: list[Ready] = []
    for now, number in enumerate(order):
        ready += sequencer.put(numbered(number * N), now) + sequencer.look(now)
    ready += sequencer.look(10**9) + sequencer.look(2 * 10**9) + sequencer.look(3 * 10**9)
    for later in range(4, 12):
        ready += sequencer.look(later * 10**9)
    values, lost = joined(ready)
    there = sorted(set(sent))
    assert sorted(values) == values  # in order
    assert len(set(values)) == len(values)  # each once
    assert lost == sequencer.counters.samples_lost
    assert len(values) + lost == (there[-1] + 1) * N - 0  # and nothing unaccounted for
    if not twice:
        assert set(values) <= {float(v) for i in there for v in range(i * N, i * N + N)}


def test_what_is_missing_is_counted_exactly() -> None:
    sequencer = Sequencer(patience_ns=100)
    ready = sequencer.put(numbered(500), 0)
    assert joined(ready) == ([float(v) for v in range(500, 510)], 0)  # it begins wherever the sensor is
    assert sequencer.put(numbered(540), 10) == []
    assert sequencer.look(109) == []
    ready = sequencer.look(110)
    assert [(one.block.first, one.lost_before, one.arrived_ns) for one in ready] == [(540, 30, 10)]
    assert sequencer.put(numbered(510), 120) == []  # too late
    assert sequencer.counters.duplicates == 1


def test_it_holds_no_more_than_so_many() -> None:
    sequencer = Sequencer(patience_ns=10**18)
    sequencer.put(numbered(0), 0)
    ready = [one for i in range(2, 500) for one in sequencer.put(numbered(i * N), i)]
    assert len(sequencer._waiting) <= 64
    assert sequencer.counters.samples_lost == N
    assert len(ready) > 400


def test_json_is_what_a_person_would_write() -> None:
    text = json.dumps({"seq": 0, "first": 0, "values": {"ABP": [80, None], "II": [0.1, 0.2]}})
    found = decode(text.encode(), INFO)
    np.testing.assert_allclose(found.values, [[0.1, 0.2], [80, np.nan]])


def test_samples_that_the_sensor_itself_lost_are_not_waited_for() -> None:
    sequencer = Sequencer(patience_ns=10**9)
    sequencer.put(numbered(0), 0)
    (one,) = sequencer.put(RawBlock(1, 35, 1, np.zeros((1, N), np.float32)), 1)
    assert (one.block.first, one.lost_before) == (35, 25)


def test_a_block_that_comes_twice_while_it_waits_is_counted() -> None:
    sequencer = Sequencer(patience_ns=100)
    sequencer.put(numbered(0), 0)
    assert sequencer.put(numbered(20), 1) + sequencer.put(numbered(20), 2) == []
    assert [one.block.first for one in sequencer.put(numbered(10), 3)] == [10, 20]
    assert (sequencer.counters.duplicates, sequencer.counters.reordered) == (1, 1)


def test_an_index_beyond_what_the_clock_allows_leaps() -> None:
    def at(first: int) -> RawBlock:
        return RawBlock(1, first, 1, np.zeros((1, N), np.float32))

    second, fs, hour = 10**9, 250.0, 3600 * 250
    sequencer = Sequencer(patience_ns=0)
    assert not sequencer.leaps(at(10**13), 0, fs)  # where it begins is its own affair
    sequencer.put(numbered(0), 7 * second)
    assert not sequencer.leaps(at(N + hour), 7 * second, fs)
    assert sequencer.leaps(at(N + hour + 1), 7 * second, fs)
    assert not sequencer.leaps(at(N + hour + 10 * 250), 17 * second, fs)
    assert not sequencer.leaps(at(0), 7 * second, fs)


@pytest.mark.skipif(not raw_blocks.KERNEL, reason="the compiled kernel is not built here")
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("begin", [0, 17])
def test_the_compiled_half_gives_the_bits_of_the_plain_one(channels: int, begin: int) -> None:
    rng = np.random.default_rng(channels)
    counts = rng.integers(NO_VALUE, 32768, (50, channels)).astype("<i2")
    counts[:4, 0] = NO_VALUE, NO_VALUE + 1, 0, 32767
    payload = bytes(begin) + counts.tobytes()
    for scale, offset in ((0.001, 0.0), (1 / 3, -1e-7), (1e35, 0.0), (0.0, 3.4e38)):
        factors = np.array([[scale * (c + 1), offset] for c in range(channels)])
        quick, plain = (counts_to_units(payload, begin, factors, 50, compiled=compiled) for compiled in (True, False))
        np.testing.assert_array_equal(quick, plain)
        assert np.isnan(quick[0, 0])
        assert not np.isinf(quick).any()
    for wrong in (49, 51):
        with pytest.raises(ValueError, match="do not fit"):
            counts_to_units(payload, begin, factors, wrong, compiled=True)


def test_numbers_that_cannot_be_are_no_values_and_are_counted() -> None:
    text = b'{"seq": 1, "first": 0, "values": {"II": [0.5, 1e300, Infinity], "ABP": [null, NaN, -1e39]}}'
    found = decode(text, INFO)
    np.testing.assert_array_equal(found.values, np.array([[0.5, np.nan, np.nan], [np.nan] * 3], np.float32))
    assert found.implausible == 3  # null and NaN say themselves that there is none
    given = np.array([[0.5, np.inf, np.nan], [80.0, -np.inf, 90.0]], np.float32)
    exact = decode(encode_binary(RawBlock(1, 0, 5, given), INFO), INFO)
    np.testing.assert_array_equal(exact.values, np.where(np.isinf(given), np.nan, given))
    assert exact.implausible == 2
    assert decode(encode_binary(block(), INFO), INFO).implausible == 0
