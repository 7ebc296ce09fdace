"""A Lab Streaming Layer inlet, through pylsl: the samples of an outlet in the same network.

LSL numbers nothing, but stamps each sample: where the stamps leap by more than ``LEAP_S`` samples were lost, an estimate.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from threading import Event
from typing import Any

import numpy as np

from edge_agent.errors import SourceError, SourceLost
from edge_agent.journey import Block
from edge_agent.sources.base import Counts, Signal, StreamInfo, guess_kind
from edge_agent.sources.recording import SCALE
from edge_agent.sources.settings import LslSource

BUFFER_S = 10
"""Kept by LSL while the stream's thread is busy."""
WAIT_S = 0.02
AT_ONCE = 512
OPEN_S = 5.0
LEAP_S = 0.1
MICROVOLTS = {"microvolts": "uv", "microvolt": "uv", "millivolts": "mv", "millivolt": "mv", "volts": "v", "volt": "v"}


def library() -> Any:
    try:
        import pylsl
    except ImportError:
        raise SourceError(
            "LSL streams need a library that is not installed", remedy="in the checkout: pip install '.[lsl]'"
        ) from None
    except (RuntimeError, OSError) as error:  # pylsl is there, the C library that it wraps is not
        raise SourceError(
            f"LSL's own library cannot be loaded ({error})", remedy="see github.com/sccn/liblsl"
        ) from None
    return pylsl


class LslSamples:
    speed = 1.0
    resumes = False

    def __init__(self, config: LslSource) -> None:
        self._lsl = library()
        self._config = config
        self.waits_for = f"samples of {_words(config)}"
        self._counts: Counts = {"samples_lost_estimated": 0}
        self._inlet: Any = None
        found = self._find()
        if found.channel_format() == self._lsl.cf_string:
            raise SourceError(f"{self.waits_for}: it sends text", remedy="choose an outlet of numbers")
        if found.nominal_srate() <= 0:
            raise SourceError(f"{self.waits_for}: it has no regular rate", remedy="choose an outlet of samples")
        try:
            self._inlet = self._lsl.StreamInlet(found, max_buflen=BUFFER_S, recover=False)
            self._inlet.open_stream(timeout=OPEN_S)
            names, units = _channels(self._inlet.info(timeout=OPEN_S))
        except RuntimeError as error:  # pylsl's LostError and TimeoutError are such, wherever its version keeps them
            self.close()
            raise SourceError(
                f"{_words(config)} cannot be opened ({error})", remedy="is its computer reachable?"
            ) from None
        if config.columns is not None:
            if len(config.columns) != len(names):
                self.close()
                raise SourceError(
                    f"{_words(config)} has {len(names)} channels, columns names {len(config.columns)}",
                    remedy="'-' ignores one",
                )
            names = list(config.columns)
        self._rows = [i for i, name in enumerate(names) if name != "-"]
        scaled = [SCALE.get(MICROVOLTS.get(units[i], units[i]), (units[i], config.scale)) for i in self._rows]
        self._factors = np.array([[factor] for _, factor in scaled])
        self.info = StreamInfo(
            fs=float(found.nominal_srate()),
            signals=tuple(
                Signal(names[i], guess_kind(names[i], unit), unit)
                for i, (unit, _) in zip(self._rows, scaled, strict=True)
            ),
        )

    def _find(self) -> Any:
        wanted = {"name": self._config.name, "type": self._config.stream_type, "source_id": self._config.source_id}
        terms = [f"{key}='{value}'" for key, value in wanted.items() if value is not None]
        found = self._lsl.resolve_bypred(" and ".join(terms), minimum=1, timeout=self._config.resolve_s)
        if not found:
            raise SourceError(f"there is no {_words(self._config)}", remedy="is it streaming, and in this network?")
        if len(found) > 1:
            raise SourceError(
                f"there are {len(found)} outlets that are {_words(self._config)}", remedy="give a source_id as well"
            )
        return found[0]

    def blocks(self, stop: Event) -> Iterator[Block]:
        first, heard, fs = 0, time.monotonic(), self.info.fs
        stamp: float | None = None  # of the last sample
        while not stop.is_set():
            try:
                samples, stamps = self._inlet.pull_chunk(timeout=WAIT_S, max_samples=AT_ONCE)
            except RuntimeError as error:  # LostError among them
                raise SourceLost(f"{_words(self._config)} has gone ({error})", remedy="start it again") from None
            now_ns = time.monotonic_ns()
            if not stamps:
                if time.monotonic() - heard > self._config.silent_s:
                    raise SourceLost(
                        f"silent: {_words(self._config)}: no sample for {self._config.silent_s:g} s",
                        remedy="is it streaming?",
                    )
                continue
            heard = time.monotonic()
            values = np.asarray(samples, np.float64).T[self._rows] * self._factors
            # A chunk carries the stamp of its last sample, and those before it are a sample apart.
            steps = np.diff([stamps[0] - 1 / fs if stamp is None else stamp, *stamps]) * fs
            stamp = stamps[-1]
            cuts = [0, *(int(i) for i in np.flatnonzero(steps > 1 + LEAP_S * fs) if i or first), len(stamps)]
            for begin, end in zip(sorted(set(cuts))[:-1], sorted(set(cuts))[1:], strict=True):
                lost = round(float(steps[begin])) - 1 if steps[begin] > 1 + LEAP_S * fs and first + begin else 0
                self._counts["samples_lost_estimated"] += lost
                part = np.where(np.isfinite(values[:, begin:end]), values[:, begin:end], np.nan).astype(np.float32)
                block = Block(first=first + lost, fs=fs, values=part, lost_before=lost, arrived_ns=now_ns)
                first = block.end
                yield block

    def counters(self) -> Counts:
        return dict(self._counts)

    def close(self) -> None:
        inlet, self._inlet = self._inlet, None
        if inlet is not None:
            inlet.close_stream()


def _words(config: LslSource) -> str:
    named = [("name", config.name), ("type", config.stream_type), ("source id", config.source_id)]
    return "LSL outlet of " + ", ".join(f"{what} {value!r}" for what, value in named if value is not None)


def _channels(info: Any) -> tuple[list[str], list[str]]:
    """Labels and units, where the outlet's header has them."""
    names, units = [], []
    channel = info.desc().child("channels").child("channel")
    for number in range(1, info.channel_count() + 1):
        label = "" if channel.empty() else channel.child_value("label")
        unit = "" if channel.empty() else channel.child_value("unit")
        names.append(label.strip() or (f"{info.type()}{number}" if info.channel_count() > 1 else info.type() or "ch1"))
        units.append(unit.strip().lower())
        channel = channel.next_sibling("channel")
    return names, units


def open_lsl(config: LslSource) -> LslSamples:
    return LslSamples(config)
