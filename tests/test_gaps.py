"""Messages of lost samples: the first at once, the others joined, and no sample of them forgotten."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import pytest

from edge_agent import events
from edge_agent.inference.judge import Judge
from edge_agent.journey import Block
from edge_agent.replay import Settings, run_blocks
from edge_agent.sources.base import Signal, StreamInfo

FS = 250.0
INFO = StreamInfo(FS, (Signal("II", "ecg", "mV"),))
N = round(30 * FS)
X = (np.exp(-(((np.arange(N) % 200 - 100) / 4) ** 2)) + 0.01 * np.sin(np.arange(N))).astype(np.float32)


def blocks(lost: Sequence[tuple[int, int]], cut: int, *, exact: bool = True) -> Iterator[Block]:
    """All but the samples from the first to before the second of each pair."""
    at, before, cause = 0, 0, ""
    for first, end in [*lost, (N, N)]:
        while at < first:
            stop = min(first, at + cut)
            yield Block(at, FS, X[None, at:stop].copy(), lost_before=before, lost_exact=exact, lost_cause=cause)
            at, before, cause = stop, 0, ""
        at, before, cause = end, end - first, "a short frame"


def gaps(lost: Sequence[tuple[int, int]], cut: int = 50, *, exact: bool = True) -> list[events.Gap]:
    said = run_blocks(INFO, blocks(lost, cut, exact=exact), Judge({}), Settings(models=()), "bed")
    return [event for event in said if isinstance(event, events.Gap)]


def test_a_line_that_loses_every_twentieth_sample_says_so_once_a_second() -> None:
    lost = [(at, at + 1) for at in range(100, N - 10, 20)]
    said = gaps(lost)
    assert 28 <= len(said) <= 31
    assert sum(one.lost for one in said) == len(lost)
    assert (said[0].first, said[0].sample, said[0].known, said[0].lost) == (100, 101, 101, 1)  # at once
    assert all(later.known - before.known >= FS for before, later in pairwise(said[:-1]))
    assert all(one.first < one.sample <= one.known for one in said)
    assert all(later.first >= before.sample for before, later in pairwise(said))
    assert {(one.exact, one.cause) for one in said} == {(True, "a short frame")}


@pytest.mark.parametrize("cut", [1, 7, 250])
def test_however_the_samples_are_cut(cut: int) -> None:
    lost = [(100, 101), (130, 140), (2000, 2900), (2950, 2951), (6000, 6001), (7000, 7001), (N - 50, N - 30)]
    assert gaps(lost, cut) == gaps(lost, 10_000)


def test_gaps_that_are_far_apart_are_told_at_once_one_by_one() -> None:
    lost = [(500, 510), (1000, 1900), (3000, 3001)]
    assert [(one.first, one.sample, one.known, one.lost) for one in gaps(lost)] == [
        (first, end, end, end - first) for first, end in lost
    ]


def test_the_end_of_the_signal_waits_for_none() -> None:
    said = gaps([(N - 100, N - 90), (N - 50, N - 45), (N - 20, N - 19)], exact=False)
    assert [(one.first, one.sample, one.lost, one.exact) for one in said] == [
        (N - 100, N - 90, 10, False),
        (N - 50, N - 19, 6, False),
    ]
