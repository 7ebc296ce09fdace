"""A whole stream at another rate: what is too fast for the detectors, or faster than a small machine needs.

The filter's delay (22 samples of the lower rate) is added to the stream's own (``StreamInfo.delay_s``), so times of day are right
and the messages' ``algorithm_ms`` has it. Nothing is filtered across a gap.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from threading import Event

import numpy as np

from edge_agent.journey import Block, Samples
from edge_agent.signal.resample import Resampler, polyphase
from edge_agent.sources.base import Counts, Source, StreamInfo


def at_rate(info: StreamInfo, fs: float) -> StreamInfo:
    filtering = polyphase(info.fs, fs)
    return replace(
        info,
        fs=fs,
        samples=None if info.samples is None else filtering.outputs(info.samples),
        delay_s=info.delay_s + filtering.reach / info.fs,
    )


class Rate:
    """Blocks at one rate in, blocks at another out. The cuts between the blocks change nothing but the cuts."""

    def __init__(self, info: StreamInfo, fs: float) -> None:
        self._info = info
        self._fs = fs
        self._step = polyphase(info.fs, fs).step
        self._resampler: Resampler | None = None
        self._end_in = 0
        self._end = 0
        self._begin_in = 0
        self._begin = 0  # of the run, in and out
        self._off: list[tuple[int, frozenset[str]]] = []  # outputs of the run up to there have these leads off
        self._before: Block | None = None  # what is to be said of the gap before the next output
        self._arrived_ns = 0

    def feed(self, block: Block) -> Iterator[Block]:
        if self._resampler is None or block.first != self._end_in:
            yield from self.flush()
            self._resampler = Resampler(self._info.fs, self._fs)
            self._begin_in = block.first
            self._begin = max(self._end, round(block.first / self._step))
            self._before = block
        self._end_in = block.end
        self._arrived_ns = block.arrived_ns
        values = np.array(block.values, np.float32)
        values[[signal.name in block.lead_off for signal in self._info.signals]] = np.nan
        until = self._begin + math.ceil((block.end - self._begin_in) / self._step)
        if self._off and self._off[-1][1] == block.lead_off:
            self._off[-1] = (until, block.lead_off)
        else:
            self._off.append((until, block.lead_off))
        yield from self._out(self._resampler.feed(values))

    def flush(self) -> Iterator[Block]:
        if self._resampler is not None:
            yield from self._out(self._resampler.flush())
        self._resampler, self._off = None, []

    def _out(self, values: Samples) -> Iterator[Block]:
        at = 0
        while at < values.shape[1]:
            first = self._begin if self._before is not None else self._end
            until, lead_off = self._off[0]
            count = min(values.shape[1] - at, until - first)
            if count <= 0:
                self._off.pop(0)
                continue
            before, self._before = self._before, None
            yield Block(
                first=first,
                fs=self._fs,
                values=values[:, at : at + count],
                lost_before=first - self._end,
                lost_exact=before is not None and before.lost_exact,
                lost_cause="" if before is None else before.lost_cause,
                lead_off=lead_off,
                arrived_ns=self._arrived_ns,
            )
            self._end = first + count
            at += count


def blocks_at_rate(info: StreamInfo, blocks: Iterable[Block], fs: float) -> Iterator[Block]:
    rate = Rate(info, fs)
    for block in blocks:
        yield from rate.feed(block)
    yield from rate.flush()


@dataclass
class ResampledSource:
    """A source at another rate."""

    source: Source
    fs: float

    def __post_init__(self) -> None:
        self._inner = self.source.info
        self.info = at_rate(self._inner, self.fs)
        self.speed = self.source.speed
        self.waits_for = self.source.waits_for

    @property
    def resumes(self) -> bool:
        return self.source.resumes

    @resumes.setter
    def resumes(self, value: bool) -> None:
        self.source.resumes = value

    def blocks(self, stop: Event) -> Iterator[Block]:
        return blocks_at_rate(self._inner, self.source.blocks(stop), self.fs)

    def counters(self) -> Counts:
        return self.source.counters()

    def close(self) -> None:
        self.source.close()
