"""Whole streams: any cut, everything once, prose between frames, leads, holes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.serial_faults import coded, damage, decode, noise, own_rows, samples_of
from edge_agent.journey import Samples
from edge_agent.sources.boards import bitalino, cyton, numbered, registry
from edge_agent.sources.boards import protocentral_boards as boards
from edge_agent.sources.boards.base import Chunk, Codec, Counters

Flat = list[tuple[object, ...]]


def flat(chunks: list[Chunk]) -> Flat:
    """Chunks without their borders."""
    events: Flat = []
    for chunk in chunks:
        if chunk.lost_before or not chunk.lost_exact:
            events.append(("lost", chunk.lost_before, chunk.lost_exact))
        events += [(sample.tobytes(), chunk.lead_off) for sample in chunk.values.T]
    return events


def cut(codec: Codec, data: bytes, places: list[int]) -> tuple[Flat, Counters]:
    decoder = codec.frames()
    chunks: list[Chunk] = []
    for start, end in zip([0, *places], [*places, len(data)], strict=True):
        chunks += decoder.decode(data[start:end])
    return flat(chunks + decoder.flush()), decoder.counters


def trouble(name: str, seed: int) -> tuple[Codec, bytes]:
    """A short stream with everything in it: prose, noise, damage, a hole."""
    codec = registry.codec(name)
    encoder = codec.encoder()
    samples = coded(codec, 160)
    first, second, third = (encoder.encode(samples[:, start:end]) for start, end in ((0, 48), (48, 104), (104, 160)))
    spoilt = damage(second, 0.01, seed, "byte").data
    hole = len(third) // 3 + seed % 50
    data = b"Max30003 is ready\r\n" + first + spoilt + noise(300, seed) + third[:hole] + third[hole + 40 :]
    return codec, data


@pytest.mark.parametrize("name", registry.NAMES)
@given(seed=st.integers(0, 2**20), choices=st.data())
@settings(max_examples=15, deadline=None)
def test_any_cut_gives_the_same(name: str, seed: int, choices: st.DataObject) -> None:
    codec, data = trouble(name, seed)
    places = sorted(choices.draw(st.lists(st.integers(0, len(data)), max_size=40)))
    assert cut(codec, data, places) == cut(codec, data, [])


@pytest.mark.parametrize("name", registry.NAMES)
def test_byte_by_byte(name: str) -> None:
    codec, data = trouble(name, 5)
    whole = cut(codec, data, [])
    assert cut(codec, data, list(range(1, len(data)))) == whole
    assert sum(event[0] != "lost" for event in whole[0]) > 100


@pytest.mark.parametrize("name", registry.NAMES)
def test_ten_minutes_once(name: str) -> None:
    codec = registry.codec(name)
    board = codec.board
    count = int(600 * board.fs)
    samples = coded(codec, count)
    encoder = codec.encoder()
    data = b"".join(encoder.encode(samples[:, at : at + 250]) for at in range(0, count, 250))
    assert len(data) == board.frame_bytes * board.frames_per_s * 600
    chunks, counters = decode(codec, data, step=1021)
    assert not any(chunk.lost_before for chunk in chunks)
    received = samples_of(chunks, len(board.channels))
    assert received.shape == samples.shape
    rows = own_rows(board)
    tolerance = np.array([[abs(board.channels[row].scale) * 0.02] for row in rows])
    assert (np.abs(received[rows] - samples[rows]) <= tolerance).all()
    good = count / board.fs * board.frames_per_s
    assert counters == Counters(frames_good=round(good))


@pytest.mark.parametrize("name", registry.NAMES)
def test_prose_is_no_loss(name: str) -> None:
    codec = registry.codec(name)
    encoder = codec.encoder()
    samples = coded(codec, 64)
    parts = [encoder.encode(samples[:, at : at + 16]) for at in range(0, 64, 16)]
    chunks, counters = decode(codec, b"board v3.1\r\nCalibrating...\r\n$$$" + b"[I] temperature 21.5 C\r\n".join(parts))
    received = samples_of(chunks, len(codec.board.channels))
    lost = sum(chunk.lost_before for chunk in chunks)
    if name == "bitalino":
        # nothing marks a start: text may be the head of a frame, so the frames beside it are given up, and said to be
        assert received.shape[1] == 64 - 1 - 2 * 3
        assert lost == 2 * 3
    else:
        assert received.shape[1] == 64
        assert lost == 0
    assert counters.bytes_skipped >= 31 + 3 * 24
    assert counters.samples_lost_estimated == 0


@pytest.mark.parametrize("name", ["healthypi3", "healthypi5", "max30001"])
def test_start_within_a_false_start(name: str) -> None:
    codec = registry.codec(name)
    data = codec.encoder().encode(coded(codec, 3))
    chunks, counters = decode(codec, b"\x0a" + data)
    assert samples_of(chunks, len(codec.board.channels)).shape[1] == 3
    assert counters.bytes_skipped == 1
    # a start, length and type that are right, without their frame: the search goes on behind the start, not the length
    chunks, counters = decode(codec, data[:5] + data)
    assert samples_of(chunks, len(codec.board.channels)).shape[1] == 3
    assert counters.frames_bad == 1


def test_start_within_a_payload() -> None:
    inner = int.from_bytes(b"\x0a\xfa\x14\x00", "little", signed=True)
    data = boards.V3.pack({"ir": [inner, 7], "red": inner}, 2)
    chunks, counters = decode(registry.codec("healthypi3"), data)
    assert samples_of(chunks, 4).shape[1] == 2
    assert counters == Counters(frames_good=2)


@pytest.mark.parametrize("name", registry.NAMES)
def test_joined_in_the_middle(name: str) -> None:
    codec = registry.codec(name)
    samples = coded(codec, 40)
    data = codec.encoder().encode(samples)
    reference = samples_of(decode(codec, data)[0], len(codec.board.channels))
    rows = own_rows(codec.board)
    for start in range(1, codec.board.frame_bytes):
        chunks, _ = decode(codec, data[start:])
        received = samples_of(chunks, len(codec.board.channels))
        assert chunks[0].lost_before == 0
        assert 40 - received.shape[1] <= 8
        np.testing.assert_array_equal(received[rows], reference[rows][:, -received.shape[1] :])


@pytest.mark.parametrize(("name", "most"), [("cyton", 255), ("bitalino", 15), ("cyton-daisy", 127)])
def test_missing_frames_are_counted_exactly(name: str, most: int) -> None:
    codec = registry.codec(name)
    board = codec.board
    data = codec.encoder().encode(coded(codec, 300))
    size = round(board.frame_bytes * board.frames_per_s / board.fs)
    for missing in range(1, most + 1):
        chunks, counters = decode(codec, data[: 20 * size] + data[(20 + missing) * size :])
        received = sum(chunk.values.shape[1] for chunk in chunks)
        lost = sum(chunk.lost_before for chunk in chunks)
        assert received + lost == 300
        assert received >= 300 - missing - 2  # where nothing marks a start, those beside the hole may be a part of it
        assert all(chunk.lost_exact for chunk in chunks)
        assert counters.samples_lost == lost


def test_noise_longer_than_the_numbers() -> None:
    """Whole turns of the number are counted by the bytes, and said to be an estimate."""
    codec = registry.codec("cyton")
    data = codec.encoder().encode(coded(codec, 1500))
    size = codec.board.frame_bytes
    spoilt = data[: 100 * size] + noise(1000 * size, 1) + data[1100 * size :]
    chunks, counters = decode(codec, spoilt)
    assert [chunk.lost_before for chunk in chunks if chunk.lost_before] == [1000]
    assert counters.samples_lost_estimated == 1000


@pytest.mark.parametrize("step", [1, 5, 4096])
def test_long_after_a_fault_more_proof_is_needed(step: int) -> None:
    """Three frames that follow each other are enough where they are expected, and luck where they are not."""
    codec = registry.codec("bitalino")
    size = codec.board.frame_bytes
    data = codec.encoder().encode(coded(codec, 40))
    for filler, trusted in ((3 * size, True), (numbered.WARM_FRAMES * size, False)):
        stream = data[: 20 * size] + b"\x5a" * (filler + 3) + data[20 * size : 24 * size] + b"\xa5" * 400
        delivered = sum(chunk.values.shape[1] for chunk in decode(codec, stream, step)[0])
        assert delivered == (19 + 2 if trusted else 19)


def test_daisy_pairs() -> None:
    codec = registry.codec("cyton-daisy")
    numbers = np.arange(1, 161).repeat(8).reshape(-1, 8)
    data = cyton.pack_many(numbers, 1)
    scale = codec.board.channels[0].scale
    for start in range(4):  # whichever half the stream begins with, a sample is an odd one and the next
        values = samples_of(decode(codec, data[33 * start :])[0], 16) / scale
        halves = np.rint(values[[0, 8]]).astype(int)
        assert (halves[0] % 2 == 1).all()
        assert (halves[1] == halves[0] + 1).all()
        assert halves.shape[1] == (160 - start) // 2
    for hole in range(20, 24):  # half a sample is a lost sample
        chunks, _ = decode(codec, data[: 33 * hole] + data[33 * (hole + 1) :])
        halves = np.rint(samples_of(chunks, 16)[[0, 8]] / scale).astype(int)
        assert (halves[1] == halves[0] + 1).all()
        lost = sum(chunk.lost_before for chunk in chunks)
        assert halves.shape[1] + lost == 80
        assert lost in (1, 2)


def test_leads_off_cut_chunks() -> None:
    codec = registry.codec("healthypi3")
    encoder = codec.encoder()
    samples = coded(codec, 30)
    off, probe = frozenset({"ECG", "RESP"}), frozenset({"IR", "RED"})
    data = (
        encoder.encode(samples[:, :10])
        + encoder.encode(samples[:, 10:20], off)
        + encoder.encode(samples[:, 20:], probe)
    )
    chunks, _ = decode(codec, data)
    assert [(chunk.values.shape[1], chunk.lead_off) for chunk in chunks] == [(10, frozenset()), (10, off), (10, probe)]
    assert np.isnan(chunks[1].values[:2]).all()
    assert np.isfinite(chunks[1].values[2:]).all()
    assert np.isnan(chunks[2].values[2:]).all()
    assert np.isfinite(chunks[2].values[:2]).all()


@pytest.mark.parametrize("name", ["healthypi4", "ads1292r"])
def test_lead_off_of_the_others(name: str) -> None:
    codec = registry.codec(name)
    off = frozenset({"ECG", "RESP"})
    encoder = codec.encoder()
    data = encoder.encode(coded(codec, 5)) + encoder.encode(coded(codec, 3), off)
    chunks, _ = decode(codec, data)
    assert [(chunk.values.shape[1], chunk.lead_off) for chunk in chunks] == [(5, frozenset()), (3, off)]


def test_encoder_says_the_least_that_covers_the_leads() -> None:
    codec = registry.codec("healthypi3")
    chunks, _ = decode(codec, codec.encoder().encode(coded(codec, 2), frozenset({"ECG"})))
    assert chunks[0].lead_off == {"ECG", "RESP"}
    with pytest.raises(ValueError, match="healthypi4 cannot say that IR is off"):
        registry.codec("healthypi4").encoder().encode(coded(codec, 2), frozenset({"IR"}))


def test_v4_lead_status_bits() -> None:
    for status in range(32):
        chunk = decode(registry.codec("healthypi4"), boards.V4.pack({"ecg": 5, "status": status | 0x20}))[0][0]
        assert bool(chunk.lead_off) == bool(status)


def test_what_is_not_measured_is_not_said() -> None:
    decoder = registry.codec("healthypi3").frames()
    decoder.decode(boards.V3.pack({"spo2": 97, "hr": 72, "bp_hr": 66}))
    assert decoder.numbers["spo2"] == 97
    decoder.decode(boards.V3.pack({"spo2": 25, "hr": 73, "bp_hr": 66}))  # -999 in a byte
    assert set(decoder.numbers) == {"heart_rate", "resp_rate", "temperature_c"}
    assert 80 not in decoder.numbers.values()
    assert 66 not in decoder.numbers.values()


def test_impedance_of_half_the_rate_is_held() -> None:
    stale = [1, 0, 0xFF, 0, 0xFF, 0xFF]
    data = boards.V5.pack({"bioz": [9, 10, 0, 20, 0, 0], "skip": stale}, 6)
    for places in ([], list(range(1, len(data)))):
        decoder = registry.codec("healthypi5").frames()
        parts = [decoder.decode(data[a:b]) for a, b in zip([0, *places], [*places, len(data)], strict=True)]
        bioz = samples_of([chunk for part in parts for chunk in part], 4)[1]
        np.testing.assert_array_equal(bioz, np.array([np.nan, 10, 10, 20, 20, 20], np.float32))


@pytest.mark.parametrize("channels", range(1, 7))
def test_bitalino_of_any_width(channels: int) -> None:
    codec = registry.codec("bitalino", inputs=range(1, channels + 1))
    samples = coded(codec, 2000)
    received = samples_of(decode(codec, codec.encoder().encode(samples), step=7)[0], channels)
    np.testing.assert_array_equal(received, samples)


def test_bitalino_ecg_in_millivolts() -> None:
    codec = registry.codec("bitalino", inputs=(2,), ecg=("A2",))
    ecg = np.sin(np.arange(500) / 20, dtype=np.float32)[None]
    received: Samples = samples_of(decode(codec, codec.encoder().encode(ecg))[0], 1)
    assert np.abs(received - ecg).max() <= codec.board.channels[0].scale / 2 + 1e-6
    assert bitalino.SIZES[1] == codec.board.frame_bytes
