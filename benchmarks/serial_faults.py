"""Bytes spoilt on purpose, and what a decoder then says, judged against what was sent.

A byte in a thousand is hit, half of them dropped, half flipped: one bit inverted (``bit``) or the byte replaced by another
(``byte``). The samples are coded so that each is known from its value: channel c of sample i is (i x an odd number) modulo
what the field holds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from edge_agent.journey import Samples
from edge_agent.sources.boards.base import Board, Chunk, Codec, Counters

Flip = Literal["bit", "byte"]
CLOSE = 4
NEAR = 40
WINDOW = 900
"""Samples ahead in which a sample is looked for: codes repeat after 1024 at the earliest."""
_ODD = (10921, 30013, 20011, 25013, 11027, 15083, 17077, 27011)


def coded(codec: Codec, count: int) -> Samples:
    """Samples that tell their index."""
    board = codec.board
    index = np.arange(count, dtype=np.int64)
    rows = []
    for at, channel in enumerate(board.channels):
        code = index * _ODD[at % len(_ODD)] + 577 * at
        if board.name == "bitalino":
            raw = code % (1024 if at < 4 else 64)
        elif board.name == "max30003":
            raw = (code % 65536 - 32768) << 16
        else:
            raw = code % 65536 - 32768
        rows.append((raw - channel.zero) * channel.scale)
    return np.array(rows, np.float32)


@dataclass(frozen=True)
class Damaged:
    data: bytes
    hit: NDArray[np.bool_]
    """Of the bytes sent: which were dropped or flipped."""


def damage(data: bytes, rate: float, seed: int, flip: Flip = "bit", dropped: float = 0.5) -> Damaged:
    """``rate`` of the bytes are hit; ``dropped`` of these vanish, the others are flipped."""
    rng = np.random.default_rng(seed)
    sent = np.frombuffer(data, np.uint8)
    hit = rng.random(len(sent)) < rate
    drop = hit & (rng.random(len(sent)) < dropped)
    change = (1 << rng.integers(0, 8, len(sent))) if flip == "bit" else rng.integers(1, 256, len(sent))
    spoilt = np.where(hit, sent ^ change, sent).astype(np.uint8)
    return Damaged(spoilt[~drop].tobytes(), hit)


@dataclass(frozen=True)
class Outcome:
    """What came of a damaged stream."""

    sent: int
    delivered: int
    wrong_ecg: int
    """ECG values that differ from what was sent, in samples that are otherwise where they belong."""
    ecg_values: int
    misframed: int
    """Samples that are no sample sent, not even one with a flipped byte: put together from the wrong bytes."""
    out_of_order: int
    """Delivered again, or after a later one."""
    gaps_right: int
    """Chunks that say right how many samples were lost before them."""
    gaps: int
    """Chunks that come after a loss, or say so."""
    late: int
    """Frames intact, with two intact ones before and one after, and not delivered."""
    spared: int
    """Frames intact and not delivered, of ``intact``."""
    intact: int
    counters: Counters


def decode(codec: Codec, data: bytes, step: int = 4096) -> tuple[list[Chunk], Counters]:
    """Without the screen: the samples here are codes, no ECG."""
    decoder = codec.frames()
    chunks = [chunk for at in range(0, len(data), step) for chunk in decoder.decode(data[at : at + step])]
    return chunks + decoder.flush(), decoder.counters


def own_rows(board: Board) -> list[int]:
    """Channels whose every sample has bytes of its own (HealthyPi 5's BIOZ is held, the batched one's RESP repeated)."""
    shared = {"healthypi5": "BIOZ", "healthypi5-batched": "RESP"}.get(board.name)
    return [row for row, channel in enumerate(board.channels) if channel.name != shared]


def judge(codec: Codec, sent: Samples, data: bytes, damaged: Damaged) -> Outcome:
    board = codec.board
    rows = own_rows(board)
    ecg = [row for row in rows if board.channels[row].kind == "ecg"] or rows
    chunks, counters = decode(codec, damaged.data)
    truth = decode(codec, data)[0]
    reference = np.concatenate([chunk.values for chunk in truth], axis=1)[rows]
    assert reference.shape[1] == sent.shape[1]
    next_one = wrong = misframed = out_of_order = right = gaps = 0
    delivered = np.zeros(sent.shape[1], bool)
    for chunk in chunks:
        first: int | None = None
        before = next_one
        for at, sample in enumerate(chunk.values[rows].T):
            after = chunk.values[rows, at + 1] if at + 1 < chunk.values.shape[1] else None
            index, exact = _find(sample, after, reference, next_one)
            if index is None:
                misframed += 1
                continue
            if delivered[index]:
                out_of_order += 1
            delivered[index] = True
            if first is None:
                first = index - at
            next_one = index + 1
            if not exact:
                differs = (sample != reference[:, index]) & ~np.isnan(sample)
                differing = [row for row, differ in zip(rows, differs, strict=True) if differ]
                wrong += len(set(differing) & set(ecg))
        if first is not None and (first != before or chunk.lost_before):
            gaps += 1
            right += int(chunk.lost_before == first - before)
    return Outcome(
        sent=sent.shape[1],
        delivered=int(delivered.sum()),
        wrong_ecg=wrong,
        ecg_values=int(delivered.sum()) * len(ecg),
        misframed=misframed,
        out_of_order=out_of_order,
        gaps_right=right,
        gaps=gaps,
        **_frames(board, damaged.hit, delivered),
        counters=counters,
    )


def _find(sample: Samples, after: Samples | None, reference: Samples, start: int) -> tuple[int | None, bool]:
    """The sample sent that this is, and whether it is exactly that. NaN (a lead said to be off) is no contradiction.

    A flipped value may be that of another sample: the sample ``after`` it must be that one's next, or it must be near.
    """
    for window in (NEAR, WINDOW):
        agree = _agree(sample, reference[:, start : start + window])
        same = np.flatnonzero(agree == len(sample))
        if after is not None and len(same):
            follows = _agree(after, reference[:, start + 1 : start + 1 + window])
            same = np.array(
                [at for at in same if at < CLOSE or (at < len(follows) and follows[at] == len(sample))], int
            )
        if len(same):
            return start + int(same[0]), True
        # with a flipped byte: all channels but one agree; where there is but one, the place is the one expected
        if len(sample) == 1 and len(agree):
            return start, False
        close = np.flatnonzero(agree >= (len(sample) - 1 if len(sample) < 4 else (len(sample) + 1) // 2))
        if len(sample) == 2:  # one of two agrees by chance too, but not next to where it should be
            close = close[close < CLOSE]
        if len(close):
            return start + int(close[0]), False
    return None, False


def _agree(sample: Samples, reference: Samples) -> NDArray[np.int64]:
    return np.asarray(((reference == sample[:, None]) | np.isnan(sample)[:, None]).sum(axis=0))


def _frames(board: Board, hit: NDArray[np.bool_], delivered: NDArray[np.bool_]) -> dict[str, int]:
    size = board.frame_bytes
    intact = ~hit[: len(hit) // size * size].reshape(-1, size).any(axis=1)
    changes = np.flatnonzero(np.diff(np.concatenate(([0], intact.astype(np.int8), [0]))))
    late = spared = 0
    for start, end in zip(changes[::2], changes[1::2], strict=True):
        missing = ~_frames_delivered(board, delivered, int(start), int(end))
        # the first two may be needed to find the rhythm, the last one may be held to be part of the fault after it
        late += int(missing[2:-1].sum())
        spared += int(missing.sum())
    return {"late": late, "spared": spared, "intact": int(intact.sum())}


def _frames_delivered(board: Board, delivered: NDArray[np.bool_], start: int, end: int) -> NDArray[np.bool_]:
    """Which of some frames came out, whatever number of samples a frame has."""
    frames = np.arange(start, end)
    if board.name == "cyton-daisy":  # half a sample each; where the other half was hit there is none
        sample = frames // 2
        whole = (2 * sample >= start) & (2 * sample + 1 < end)
        return np.asarray(delivered[np.minimum(sample, len(delivered) - 1)] | ~whole)
    per_frame = round(board.fs / board.frames_per_s)
    return np.asarray(delivered[np.minimum(frames * per_frame, len(delivered) - 1)])


def noise(count: int, seed: int) -> bytes:
    return np.random.default_rng(seed).integers(0, 256, count, np.uint8).tobytes()


def samples_of(chunks: Sequence[Chunk], channels: int) -> Samples:
    if not chunks:
        return np.empty((channels, 0), np.float32)
    return np.concatenate([chunk.values for chunk in chunks], axis=1)
