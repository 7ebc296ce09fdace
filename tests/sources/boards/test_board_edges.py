"""One fault at a time, and all that a decoder then says: what came, what is lost, every count."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from benchmarks.serial_faults import coded
from edge_agent.sources.boards import protocentral_boards as boards
from edge_agent.sources.boards import registry
from edge_agent.sources.boards.base import Codec, Counters

Told = list[tuple[int, bool, int, int]]
"""Of what came without a gap: samples lost before it, whether that is exact, its first and its last sample."""


def played(name: str, count: int = 60, **options: object) -> tuple[Codec, np.ndarray, list[bytes]]:
    """A board, samples that tell their index, and the frames that carry them."""
    codec = registry.codec(name, **options)
    samples = coded(codec, count)
    data, size = codec.encoder().encode(samples), codec.board.frame_bytes
    return codec, samples, [data[at : at + size] for at in range(0, len(data), size)]


def told(codec: Codec, data: bytes, samples: np.ndarray, step: int = 7) -> tuple[Told, Counters]:
    decoder = codec.frames()
    chunks = [chunk for at in range(0, len(data), step) for chunk in decoder.decode(data[at : at + step])]
    found: Told = []
    for chunk in chunks + decoder.flush():
        at = [int(np.flatnonzero(samples[0] == value)[0]) for value in chunk.values[0]]
        assert at == list(range(at[0], at[-1] + 1))
        if found and not chunk.lost_before and chunk.lost_exact and at[0] == found[-1][3] + 1:
            found[-1] = (*found[-1][:3], at[-1])
        else:
            found.append((chunk.lost_before, chunk.lost_exact, at[0], at[-1]))
    return found, decoder.counters


def test_what_is_beyond_24_bits_is_played_as_the_end_of_the_scale() -> None:
    codec = registry.codec("cyton")
    sent = np.full((len(codec.board.channels), 4), 1e9, np.float32) * np.array([1, -1, 1, -1], np.float32)
    decoder = codec.frames()
    data = codec.encoder().encode(sent)
    got = np.concatenate([chunk.values for chunk in [*decoder.decode(data), *decoder.flush()]], axis=1)
    scale = codec.board.channels[0].scale
    ends = sorted(np.float32(one * scale) for one in (-(2**23), 2**23 - 1))
    np.testing.assert_allclose(np.sort(got[0])[[0, 1, -2, -1]], np.repeat(ends, 2), rtol=1e-6)


# -- numbered frames ----------------------------------------------------------------------------------------------------------


def spoilt(frames: list[bytes], fault: str) -> bytes:
    """Of sixty or more frames, that fault at the twenty-first."""

    def joined(first: int, last: int | None = None) -> bytes:
        return b"".join(frames[first:last])

    one, size = frames[20], len(frames[0])
    return {
        "none": joined(0),
        "a frame missing": joined(0, 20) + joined(21),
        "five missing": joined(0, 20) + joined(25),
        "its last byte missing": joined(0, 20) + one[:-1] + joined(21),
        "its first byte missing": joined(0, 20) + one[1:] + joined(21),
        "a byte too many": joined(0, 20) + b"\x99" + joined(20),
        "its first byte another": joined(0, 20) + b"\x55" + one[1:] + joined(21),
        "its last byte another": joined(0, 20) + one[:-1] + b"\x01" + joined(21),
        "prose": b"hello there\r\n" + joined(0, 20) + b"text text text\r\n" + joined(20),
        "three of noise": joined(0, 20) + b"\x55" * (3 * size) + joined(23),
        "two faults close by": joined(0, 20) + one[1:] + joined(21, 23) + frames[23][:-1] + joined(24),
        "the last one cut": joined(0, -1) + frames[-1][:-1],
        "from the middle of one": joined(0)[size // 2 :],
        "two alone": joined(0, 2),
        "five alone": joined(0, 5),
        "six alone": joined(0, 6),
    }[fault]


NUMBERED = {
    # good, bad, found again, bytes skipped, lost exactly, lost by estimate
    ("cyton", "none"): ([(0, True, 0, 59)], (60, 0, 0, 0, 0, 0)),
    # the one before has no witness either: its end may be the missing one's
    ("cyton", "a frame missing"): ([(0, True, 0, 18), (2, True, 21, 59)], (58, 2, 1, 33, 2, 0)),
    ("cyton", "five missing"): ([(0, True, 0, 18), (6, True, 25, 59)], (54, 2, 1, 33, 6, 0)),
    ("cyton", "its last byte missing"): ([(0, True, 0, 19), (1, True, 21, 59)], (59, 1, 1, 32, 1, 0)),
    ("cyton", "its first byte missing"): ([(0, True, 0, 19), (1, True, 21, 59)], (59, 1, 1, 32, 1, 0)),
    ("cyton", "a byte too many"): ([(0, True, 0, 59)], (60, 1, 1, 1, 0, 0)),
    ("cyton", "its first byte another"): ([(0, True, 0, 19), (1, True, 21, 59)], (59, 1, 1, 33, 1, 0)),
    ("cyton", "its last byte another"): ([(0, True, 0, 19), (1, True, 21, 59)], (59, 1, 1, 33, 1, 0)),
    ("cyton", "prose"): ([(0, True, 0, 59)], (60, 1, 1, 13 + 16, 0, 0)),
    ("cyton", "three of noise"): ([(0, True, 0, 19), (3, True, 23, 59)], (57, 1, 1, 99, 3, 0)),
    ("cyton", "two faults close by"): ([(0, True, 0, 19), (4, True, 24, 59)], (56, 1, 1, 4 * 33 - 2, 4, 0)),
    ("cyton", "the last one cut"): ([(0, True, 0, 58)], (59, 0, 0, 0, 0, 0)),
    ("cyton", "from the middle of one"): ([(0, True, 1, 59)], (59, 0, 0, 17, 0, 0)),
    ("cyton", "two alone"): ([], (0, 0, 0, 0, 0, 0)),
    ("cyton", "five alone"): ([(0, True, 0, 4)], (5, 0, 0, 0, 0, 0)),
    # nothing marks a start, so both that touch the fault are given up
    ("bitalino", "none"): ([(0, True, 0, 59)], (60, 0, 0, 0, 0, 0)),
    ("bitalino", "a frame missing"): ([(0, True, 0, 18), (3, True, 22, 59)], (57, 3, 1, 16, 3, 0)),
    ("bitalino", "five missing"): ([(0, True, 0, 18), (7, True, 26, 59)], (53, 3, 1, 16, 7, 0)),
    ("bitalino", "its last byte missing"): ([(0, True, 0, 18), (3, True, 22, 59)], (57, 3, 1, 23, 3, 0)),
    ("bitalino", "its first byte missing"): ([(0, True, 0, 18), (3, True, 22, 59)], (57, 3, 1, 23, 3, 0)),
    ("bitalino", "a byte too many"): ([(0, True, 0, 18), (2, True, 21, 59)], (58, 3, 1, 17, 2, 0)),
    ("bitalino", "its first byte another"): ([(0, True, 0, 19), (1, True, 21, 59)], (59, 1, 1, 8, 1, 0)),
    ("bitalino", "its last byte another"): ([(0, True, 0, 19), (1, True, 21, 59)], (59, 1, 1, 8, 1, 0)),
    ("bitalino", "prose"): ([(0, True, 1, 18), (2, True, 21, 59)], (57, 4, 1, 13 + 16 + 3 * 8, 2, 0)),
    ("bitalino", "three of noise"): ([(0, True, 0, 19), (3, True, 23, 59)], (57, 1, 1, 24, 3, 0)),
    ("bitalino", "two faults close by"): ([(0, True, 0, 18), (6, True, 25, 59)], (54, 3, 1, 6 * 8 - 2, 6, 0)),
    ("bitalino", "the last one cut"): ([(0, True, 0, 58)], (59, 0, 0, 0, 0, 0)),
    ("bitalino", "from the middle of one"): ([(0, True, 2, 59)], (58, 1, 0, 12, 0, 0)),
    ("bitalino", "five alone"): ([], (0, 0, 0, 0, 0, 0)),
    ("bitalino", "six alone"): ([(0, True, 0, 5)], (6, 0, 0, 0, 0, 0)),
    # two frames a sample: the other half of a lost one is lost with it
    ("cyton-daisy", "none"): ([(0, True, 0, 59)], (120, 0, 0, 0, 0, 0)),
    ("cyton-daisy", "a frame missing"): ([(0, True, 0, 8), (2, True, 11, 59)], (118, 2, 1, 33, 2, 0)),
    ("cyton-daisy", "five missing"): ([(0, True, 0, 8), (4, True, 13, 59)], (114, 2, 1, 33, 4, 0)),
    ("cyton-daisy", "its last byte missing"): ([(0, True, 0, 9), (1, True, 11, 59)], (119, 1, 1, 32, 1, 0)),
    ("cyton-daisy", "three of noise"): ([(0, True, 0, 9), (2, True, 12, 59)], (117, 1, 1, 99, 2, 0)),
    ("cyton-daisy", "from the middle of one"): ([(0, True, 1, 59)], (119, 0, 0, 17, 0, 0)),
    ("cyton-daisy", "five alone"): ([(0, True, 0, 1)], (5, 0, 0, 0, 0, 0)),
    ("cyton-daisy", "six alone"): ([(0, True, 0, 2)], (6, 0, 0, 0, 0, 0)),
}  # fmt: skip


@pytest.mark.parametrize(("name", "fault"), NUMBERED, ids=lambda one: one.replace(" ", "-"))
def test_one_fault_in_numbered_frames(name: str, fault: str) -> None:
    codec, samples, frames = played(name)
    expected, counts = NUMBERED[name, fault]
    found, counters = told(codec, spoilt(frames, fault), samples)
    assert found == expected
    assert counters == Counters(*counts)


@pytest.mark.parametrize(
    ("missing", "noise", "lost", "exact"),
    [
        (255, 0, 256, True),  # and the one before, so the numbers go on: but it was there, so a whole turn is missing
        (254, 0, 255, True),
        (260, 260, 260, False),  # by the bytes it was more than half a turn: so how many turns is an estimate
        (127, 127, 127, True),
        (128, 128, 128, False),
        (600, 600, 600, False),
    ],
)
def test_whole_turns_are_known_by_the_bytes(missing: int, noise: int, lost: int, exact: bool) -> None:
    codec, samples, frames = played("cyton", 900)
    data = b"".join(frames[:50]) + b"\x99" * (33 * noise) + b"".join(frames[50 + missing :])
    found, counters = told(codec, data, samples, step=1000)
    assert found[1][:2] == (lost, exact)
    assert found[1][2:] == (50 + missing, 899)
    assert (counters.samples_lost, counters.samples_lost_estimated) == ((lost, 0) if exact else (0, lost))


def test_after_a_long_time_of_noise_more_frames_are_asked_for() -> None:
    """Three within 16 frames' length after a fault, six later: BITalino."""
    codec, samples, frames = played("bitalino")
    for noise, follow, comes in ((4, 3, True), (4, 2, False), (40, 5, False), (40, 6, True)):
        data = b"".join(frames[:20]) + b"\x55" * (8 * noise) + b"".join(frames[20 : 20 + follow])
        found, _ = told(codec, data, samples)
        assert (len(found) > 1) is comes


@pytest.mark.parametrize(("noise", "follow", "comes"), [(14, 3, True), (20, 5, False), (20, 6, True)])
def test_how_long_a_fault_is_short_does_not_depend_on_the_cut(noise: int, follow: int, comes: bool) -> None:
    """Half of those 16 frames' lengths have come, and been looked at, before the rest does."""
    codec, samples, frames = played("bitalino")
    data = b"".join(frames[:20]) + b"\x55" * (8 * noise) + b"".join(frames[20 : 20 + follow])
    for step in (8 * 28, 8 * 25, 8 * 20 + 3, len(data)):
        found, _ = told(codec, data, samples, step)
        assert (len(found) > 1) is comes


@pytest.mark.parametrize(("noise", "follow", "comes"), [(120, 3, True), (121, 3, False), (121, 6, True)])
def test_sixteen_frames_lengths_to_the_byte(noise: int, follow: int, comes: bool) -> None:
    """From the second byte of the frame before the fault to the first of those after it."""
    codec, samples, frames = played("bitalino")
    data = b"".join(frames[:20]) + b"\x55" * noise + b"".join(frames[20 : 20 + follow])
    for step in (7, len(data)):
        found, _ = told(codec, data, samples, step)
        assert (len(found) > 1) is comes


@pytest.mark.parametrize("first", [0, 1, 2, 3])
def test_a_daisy_begins_with_a_whole_sample(first: int) -> None:
    codec, samples, frames = played("cyton-daisy")
    found, _ = told(codec, b"".join(frames[first:]), samples)
    assert found == [(0, True, (first + 1) // 2, 59)]


# -- unnumbered frames ------------------------------------------------------------------------------------------------------------


UNNUMBERED = {
    "none": ([(0, True, 0, 59)], (60, 0, 0, 0, 0, 0)),
    "its last byte missing": ([(0, True, 0, 19), (1, False, 21, 59)], (59, 1, 1, 26, 0, 1)),
    "its first byte missing": ([(0, True, 0, 19), (1, False, 21, 59)], (59, 0, 1, 26, 0, 1)),
    "its last byte another": ([(0, True, 0, 19), (1, False, 21, 59)], (59, 1, 1, 27, 0, 1)),
    "a byte too many": ([(0, True, 0, 59)], (60, 0, 1, 1, 0, 0)),
    "prose": ([(0, True, 0, 59)], (60, 0, 1, 29, 0, 0)),
    "three of noise": ([(0, True, 0, 19), (3, False, 23, 59)], (57, 0, 1, 81, 0, 3)),
    "the last one cut": ([(0, True, 0, 58)], (59, 0, 0, 0, 0, 0)),
    "from the middle of one": ([(0, True, 1, 59)], (59, 0, 0, 14, 0, 0)),
}


@pytest.mark.parametrize("fault", UNNUMBERED, ids=lambda one: one.replace(" ", "-"))
def test_one_fault_in_unnumbered_frames(fault: str) -> None:
    codec, samples, frames = played("healthypi3")
    data = spoilt(frames, fault)
    expected, counts = UNNUMBERED[fault]
    if fault == "three of noise":
        data = b"".join(frames[:20]) + b"\x99" * 81 + b"".join(frames[23:])
    found, counters = told(codec, data, samples)
    assert found == expected
    assert counters == Counters(*counts)


@pytest.mark.parametrize(("noise", "lost"), [(1, 0), (2, 0), (3, 1), (13, 1), (40, 1), (41, 2), (67, 2), (68, 3)])
def test_what_lies_between_two_frames_is_so_many_samples(noise: int, lost: int) -> None:
    """By its length; less than half a frame is one, if there are no shorter frames; a byte or two are noise."""
    codec, samples, frames = played("healthypi3")
    found, counters = told(codec, b"".join(frames[:20]) + b"\x99" * noise + b"".join(frames[20:]), samples)
    assert sum(one[0] for one in found) == lost == counters.samples_lost_estimated
    assert counters.resyncs == 1


def test_where_there_are_shorter_frames_little_is_nothing() -> None:
    """A batch of 8 may be lost, or one of the others, which hold no sample."""
    codec, samples, frames = played("healthypi5-batched", 160)
    for noise, lost in ((26, 0), (29, 8), (85, 8), (86, 16)):
        found, _ = told(codec, b"".join(frames[:10]) + b"\x99" * noise + b"".join(frames[10:]), samples)
        assert sum(one[0] for one in found) == lost


def test_a_start_at_the_very_end_waits_for_what_follows() -> None:
    codec, samples, frames = played("healthypi3")
    data = b"".join(frames)
    for step in (1, 26, 27, 28):
        assert told(codec, data, samples, step)[0] == [(0, True, 0, 59)]
    decoder = codec.frames()
    assert decoder.decode(frames[0] + b"\x0a")
    assert decoder.counters.bytes_skipped == 0
    assert decoder.decode(b"\xfa" + frames[1][2:])
    assert decoder.decode(b"\x0a" + frames[2])
    assert decoder.counters.bytes_skipped == 1
    assert decoder.flush() == []


def test_leads_off_are_cut_apart() -> None:
    """The ECG's, the probe's, both: values are gone where they are off, and there only."""
    codec, samples, _ = played("healthypi3", 40)
    encoder = codec.encoder()
    both = frozenset({"ECG", "RESP", "IR", "RED"})
    parts = [frozenset(), frozenset({"ECG"}), frozenset({"IR"}), both, frozenset()]
    data = b"".join(encoder.encode(samples[:, 8 * k : 8 * k + 8], off) for k, off in enumerate(parts))
    chunks = codec.frames().decode(data)
    said = [frozenset(), frozenset({"ECG", "RESP"}), frozenset({"IR", "RED"}), both, frozenset()]
    assert [(chunk.values.shape[1], chunk.lead_off) for chunk in chunks] == [(8, off) for off in said]
    names = [channel.name for channel in codec.board.channels]
    for k, (chunk, off) in enumerate(zip(chunks, said, strict=True)):
        for row, name in enumerate(names):
            if name in off:
                assert np.isnan(chunk.values[row]).all()
            else:
                np.testing.assert_array_equal(chunk.values[row], samples[row, 8 * k : 8 * k + 8])


def test_of_what_is_cut_where_leads_go_off_only_the_first_has_the_loss_before_it() -> None:
    codec, samples, _ = played("healthypi3", 40)
    encoder = codec.encoder()
    parts = [frozenset(), frozenset({"ECG"}), frozenset({"IR"}), frozenset()]
    pieces = [encoder.encode(samples[:, 10 * k : 10 * k + 10], off) for k, off in enumerate(parts)]
    before, rest = pieces[0][: 27 * 4], pieces[0][27 * 7 :] + b"".join(pieces[1:])
    chunks = codec.frames().decode(before + b"\x99" * 81 + rest)
    assert [(chunk.values.shape[1], chunk.lost_before, chunk.lost_exact) for chunk in chunks] == [
        *((4, 0, True), (3, 3, False)),
        *((10, 0, True), (10, 0, True), (10, 0, True)),
    ]


@pytest.mark.parametrize("name", [board.name for board in registry.boards()])
def test_played_in_pieces_it_is_the_same_frames(name: str) -> None:
    """Their numbers go on, and so does what does not fill a frame."""
    codec = registry.codec(name)
    samples = coded(codec, 700)
    whole = codec.encoder().encode(samples)
    encoder, bounds = codec.encoder(), [0, 1, 4, 14, 15, 16, 33, 290, 300, 556, 700]
    parts = [encoder.encode(samples[:, first:last]) for first, last in itertools.pairwise(bounds)]
    assert b"".join(parts) == whole


def test_one_more_than_a_channel_can_say_is_played_as_the_most_it_can() -> None:
    """BITalino: four of ten bits and two of six."""
    codec = registry.codec("bitalino")
    top = np.array([[1024.0], [1024.0], [1024.0], [1024.0], [64.0], [64.0]], np.float32)
    decoder = codec.frames()
    data = codec.encoder().encode(np.repeat(top, 8, axis=1) * np.array([1, 1, 1, 1, -1, -1, -1, -1], np.float32))
    got = np.concatenate([chunk.values for chunk in [*decoder.decode(data), *decoder.flush()]], axis=1)
    assert got[:, 0].tolist() == got[:, 3].tolist() == [1023, 1023, 1023, 1023, 63, 63]
    assert got[:, 4].tolist() == got[:, 7].tolist() == [0] * 6


@pytest.mark.parametrize("said", ["ecg", "resp", "hr", "rr"])
def test_a_frame_of_nothing_but_zeros_alone_says_that_the_leads_are_off(said: str) -> None:
    """A wave may be zero, and a rate not known yet."""
    for layout in (boards.ADS1292R, boards.ADS1292R_9):
        zeros = dict.fromkeys(("ecg", "resp", "hr", "rr"), 0)
        data = layout.pack(zeros) + layout.pack({**zeros, said: 5}) + layout.pack(zeros)
        chunks = registry.codec("ads1292r").frames().decode(data)
        off = frozenset({"ECG", "RESP"})
        assert [chunk.lead_off for chunk in chunks] == [off, frozenset(), off]


@pytest.mark.parametrize(("name", "off"), [("healthypi4", {"ECG"}), ("ads1292r", {"ECG", "RESP"})])
def test_boards_with_one_flag(name: str, off: set[str]) -> None:
    codec, samples, _ = played(name, 10)
    encoder = codec.encoder()
    encoder.numbers = {"heart_rate": 72.0, "resp_rate": 16.0}  # type: ignore[attr-defined]
    data = encoder.encode(samples[:, :5]) + encoder.encode(samples[:, 5:], frozenset(off))
    chunks = codec.frames().decode(data)
    assert [chunk.lead_off for chunk in chunks] == [frozenset(), frozenset({"ECG", "RESP"})]
    assert [chunk.values.shape[1] for chunk in chunks] == [5, 5]


def test_a_board_without_a_flag_cannot_say_so() -> None:
    codec, samples, _ = played("healthypi4", 4)
    with pytest.raises(ValueError, match="healthypi4 cannot say that IR is off"):
        codec.encoder().encode(samples, frozenset({"IR"}))


def test_a_wave_of_half_the_rate_stands_in_between() -> None:
    codec, _, _ = played("healthypi5", 1)
    values = np.arange(4 * 7, dtype=np.float32).reshape(4, 7)
    encoder = codec.encoder()
    data = encoder.encode(values[:, :3]) + encoder.encode(values[:, 3:])
    bioz = np.concatenate([chunk.values[1] for chunk in codec.frames().decode(data)])
    assert bioz.tolist() == [7, 7, 9, 9, 11, 11, 13]
    late = np.concatenate([chunk.values[1] for chunk in codec.frames().decode(data[29:])])
    assert np.isnan(late[0])  # nothing is known before the first
    assert late[1:].tolist() == [9, 9, 11, 11, 13]
    for cut in range(29, len(data), 29):
        in_two = codec.frames()
        parts = [chunk.values[1] for part in (data[:cut], data[cut:]) for chunk in in_two.decode(part)]
        assert np.concatenate(parts).tolist() == bioz.tolist()
    one_by_one = codec.frames()
    assert [
        float(one_by_one.decode(data[at : at + 29])[0].values[1, 0]) for at in range(0, len(data), 29)
    ] == bioz.tolist()


def test_a_number_that_says_invalid_takes_the_old_one_away() -> None:
    decoder = registry.codec("healthypi3").frames()
    decoder.decode(boards.V3.pack({"spo2": 97, "hr": 60, "temp": 3712}))
    assert decoder.numbers == {"heart_rate": 60.0, "resp_rate": 0.0, "spo2": 97.0, "temperature_c": 37.12}
    decoder.decode(boards.V3.pack({"spo2": 25, "hr": 61}))
    assert decoder.numbers == {"heart_rate": 61.0, "resp_rate": 0.0, "temperature_c": 0.0}
