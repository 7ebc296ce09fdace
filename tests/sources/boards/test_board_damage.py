"""A byte in a thousand flipped or dropped; nothing but noise. The whole figures: ``python -m benchmarks.decoders``."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.serial_faults import Outcome, coded, damage, decode, judge, noise, samples_of
from edge_agent.sources.boards import bitalino, registry
from edge_agent.sources.boards.base import Codec

RATE = 1e-3
SECONDS = 120


def spoil(codec: Codec, dropped: float, seed: int) -> Outcome:
    count = int(codec.board.fs * SECONDS)
    samples = coded(codec, count)
    data = codec.encoder().encode(samples)
    return judge(codec, samples, data, damage(data, RATE, seed, "bit", dropped))


@pytest.mark.parametrize("name", registry.NAMES)
def test_dropped_bytes(name: str) -> None:
    """Whole samples or none, each once, in order, and the gaps said; sync again within three good frames."""
    outcome = spoil(registry.codec(name), 1.0, 11)
    assert outcome.gaps > 50
    assert outcome.wrong_ecg == outcome.misframed == outcome.out_of_order == outcome.late == 0
    assert outcome.gaps_right == outcome.gaps
    assert outcome.delivered > 0.9 * outcome.sent


@pytest.mark.parametrize("name", [board.name for board in registry.boards() if board.sequence])
def test_flipped_and_dropped_with_numbers(name: str) -> None:
    """Losses are exact. What the CRC would miss, two flips in a frame, is too rare to be seen here."""
    codec = registry.codec(name)
    outcome = spoil(codec, 0.5, 12)
    assert outcome.misframed == outcome.out_of_order == outcome.late == 0
    assert outcome.gaps_right == outcome.gaps > 100
    assert outcome.counters.samples_lost_estimated == 0
    if codec.board.checked:
        assert outcome.wrong_ecg == 0


@pytest.mark.parametrize("name", [board.name for board in registry.boards() if not board.sequence])
def test_flipped_and_dropped_without_numbers(name: str) -> None:
    """Flips within a value pass, as they must; nothing is put together from the wrong bytes."""
    outcome = spoil(registry.codec(name), 0.5, 13)
    assert outcome.misframed <= 1e-4 * outcome.sent
    assert outcome.out_of_order == outcome.late == outcome.spared == 0
    assert outcome.gaps_right >= 0.98 * outcome.gaps > 20
    # as many values are wrong as have a flipped byte of their own, and no more: 4 bytes at most, flipped by 1 in 2000
    assert 0 < outcome.wrong_ecg <= outcome.ecg_values * 4 * RATE / 2 * 1.5


@pytest.mark.parametrize("step", range(8))
def test_no_byte_of_a_bitalino_frame_may_be_missing(step: int) -> None:
    """A frame short of a byte, completed by its neighbour's, passes the CRC 1 time in 16: never delivered."""
    codec = registry.codec("bitalino")
    samples = coded(codec, 4000)
    data = bytearray(codec.encoder().encode(samples))
    for at in range(8 * 3990 + step, 160, -80):
        del data[at]
    chunks, counters = decode(codec, bytes(data))
    received = samples_of(chunks, 6)
    at = 0
    for sample in received.T:
        while (samples[:, at] != sample).any():
            at += 1
            assert at < samples.shape[1]
        at += 1
    assert counters.samples_lost + received.shape[1] >= 3990 - 10
    assert received.shape[1] >= 4000 - 4 * 399


@pytest.mark.parametrize("name", registry.NAMES)
def test_noise_is_no_signal(name: str) -> None:
    chunks, counters = decode(registry.codec(name), noise(4_000_000, 17))
    assert not chunks
    assert counters.frames_good == 0
    assert counters.bytes_skipped > 3_999_000


def test_noise_would_pass_weaker_rules() -> None:
    """That the test above can fail: single frames of noise do look right."""
    data = np.frombuffer(noise(1_000_000, 17), np.uint8)
    frame = bitalino.codec().board.frame_bytes
    good = bitalino._frame(frame).anywhere(data)
    assert 0.06 < good.mean() < 0.065


@pytest.mark.parametrize("name", registry.NAMES)
def test_noise_takes_no_memory(name: str) -> None:
    codec = registry.codec(name)
    decoder = codec.decoder()
    decoder.decode(codec.encoder().encode(coded(codec, 64)))  # noise after sync is the harder case
    decoder.decode(noise(20_000, 3))
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for seed in range(50):
            decoder.decode(noise(10_000, seed))
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 10_000  # of 500,000; numpy keeps some for itself the first time that it is asked for something


SPECIAL = b"\x0a\xfa\x14\x16\x32\x13\x08\x09\x0c\x0e\x11\x00\x02\x03\x04\x0b\xa0\xc0\xc6\xff$v"


@pytest.mark.parametrize("name", registry.NAMES)
@given(
    parts=st.lists(st.binary(max_size=40) | st.lists(st.sampled_from(SPECIAL), max_size=60).map(bytes), max_size=12),
    real=st.integers(0, 40),
)
@settings(max_examples=60, deadline=None)
def test_anything_goes(name: str, parts: list[bytes], real: int) -> None:
    """No bytes make it fail, and real frames after them are found, whatever they were."""
    codec = registry.codec(name)
    decoder = codec.decoder()
    for part in parts:
        decoder.decode(part)
        assert decoder.counters.bytes_skipped <= sum(map(len, parts))
    data = codec.encoder().encode(coded(codec, 64))
    delivered = 0
    for at in range(0, len(data), 1 + real):
        for chunk in decoder.decode(data[at : at + 1 + real]):
            delivered += chunk.values.shape[1]
            assert chunk.lost_before >= 0
    delivered += sum(chunk.values.shape[1] for chunk in decoder.flush())
    assert 64 - 8 <= delivered <= 66
