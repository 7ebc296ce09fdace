"""A stream at another rate: the same in any cuts, gaps and leads off where they were, its delay told."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent import config, events
from edge_agent.inference.judge import Judge
from edge_agent.journey import Block, Samples
from edge_agent.replay import Settings, run_blocks
from edge_agent.signal.resample import polyphase
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.open import open_recording, open_source
from edge_agent.sources.resampled import at_rate, blocks_at_rate

INFO = StreamInfo(1000.0, (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")), samples=6000)
X = np.stack([np.sin(np.arange(6000) / 40), 80 + np.sin(np.arange(6000) / 150)]).astype(np.float32)
OFF = [(1500, 1700)]


def cut(cuts: Sequence[int], gaps: Sequence[tuple[int, int]]) -> Iterator[Block]:
    """Blocks of these sizes in turn; the ECG's lead is off in OFF, samples in gaps never come."""
    edges = {0, 6000, *itertools.chain(*OFF), *itertools.chain(*gaps)}
    at, turn = 0, itertools.cycle(cuts)
    while at < 6000:
        inside = [gap for gap in gaps if gap[0] <= at < gap[1]]
        if inside:
            at = inside[0][1]
            continue
        end = min(at + next(turn), min(edge for edge in edges if edge > at))
        off = frozenset({"II"} if any(a <= at < b for a, b in OFF) else ())
        yield Block(at, 1000.0, X[:, at:end], lost_exact=True, lead_off=off)
        at = end


def joined(blocks: Iterator[Block]) -> tuple[bytes, list[tuple[int, int, frozenset[str]]], int]:
    """Values, stretches (with gaps between them) and the end."""
    values: list[Samples] = []
    stretches: list[tuple[int, int, frozenset[str]]] = []
    end = 0
    for block in blocks:
        assert block.first == end + block.lost_before
        values.append(block.values)
        if stretches and stretches[-1][1] == block.first and stretches[-1][2] == block.lead_off:
            stretches[-1] = (stretches[-1][0], block.end, block.lead_off)
        else:
            stretches.append((block.first, block.end, block.lead_off))
        end = block.end
    return np.concatenate(values, axis=1).tobytes(), stretches, end


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(1, 900), min_size=1, max_size=6),
    gap=st.tuples(st.integers(100, 5000), st.integers(1, 900)),
    fs=st.sampled_from([250.0, 360.0, 128.0, 1200.0]),
)
def test_the_cuts_change_nothing(cuts: list[int], gap: tuple[int, int], fs: float) -> None:
    gaps = [(gap[0], gap[0] + gap[1])]
    assert joined(blocks_at_rate(INFO, cut(cuts, gaps), fs)) == joined(blocks_at_rate(INFO, cut([10**6], gaps), fs))


def test_gaps_and_leads_are_where_they_were() -> None:
    blocks = list(blocks_at_rate(INFO, cut([77], [(3000, 4000)]), 250.0))
    _, stretches, end = joined(iter(blocks))
    off = frozenset({"II"})
    assert stretches == [(0, 375, frozenset()), (375, 425, off), (425, 750, frozenset()), (1000, 1500, frozenset())]
    assert end == 1500
    (gap,) = [block for block in blocks if block.lost_before]
    assert (gap.first, gap.lost_before, gap.lost_exact) == (1000, 250, True)
    first = np.concatenate([block.values for block in blocks if block.end <= 750], axis=1)
    assert np.isnan(first[0, 376:424]).all()
    np.testing.assert_allclose(first[1, 50:-50], X[1, 200:2800:4], atol=1e-3)


def test_the_delay_is_told() -> None:
    info = at_rate(INFO, 250.0)
    assert (info.fs, info.samples) == (250.0, 1500)
    assert info.delay_s == pytest.approx(polyphase(1000, 250).reach / 1000)
    assert 0.08 < info.delay_s < 0.1


def test_a_stream_is_opened_at_the_rate_it_is_told(mitdb: Path) -> None:
    text = {"name": "bed", "resample": 250, "source": {"type": "file", "path": str(mitdb / "100"), "speed": "max"}}
    source = open_source(config.StreamConfig.model_validate(text))
    assert (source.info.fs, source.info.samples) == (250, 451_389)
    source.close()


def test_beats_are_where_they_were(mitdb: Path) -> None:
    recording = open_recording(mitdb / "100")
    x = recording.read(0, 360 * 120)
    info = recording.info
    found = []
    for fs in (360.0, 250.0):
        blocks = iter([Block(0, 360.0, x)])
        told, at = (info, blocks) if fs == 360 else (at_rate(info, fs), blocks_at_rate(info, blocks, fs))
        said = run_blocks(told, iter(at), Judge({}), Settings(), "bed")
        found.append(
            [event.sample / fs for event in said if isinstance(event, events.Beat) and event.channel == "MLII"]
        )
    assert len(found[0]) == len(found[1]) > 140
    np.testing.assert_allclose(found[0], found[1], atol=0.02)
