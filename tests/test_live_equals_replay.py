"""Live equals replayed: the events do not depend on how the samples were cut, nor on whether a wire was in between."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.journey import Block, Samples
from edge_agent.replay import Settings, run_blocks
from edge_agent.sources.base import Signal, StreamInfo, guess_kind
from edge_agent.sources.open import open_recording
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import DEMO_SCRIPT, Episode, Script
from tests.spine import (
    ROOT,
    base_config,
    csv_lines,
    listening,
    pty_board,
    running_agent,
    running_broker,
    serial_stream,
    wait_for,
)

FS = 250.0
CHANNELS = ("II", "V", "ABP", "PLETH")
MIXES = (("II",), ("V", "II"), ("ABP",), ("PLETH",), ("II", "ABP"), ("ABP", "PLETH"), CHANNELS)
BEGAN = datetime(2024, 2, 29, 23, 59, 30, tzinfo=UTC)


@functools.cache
def judge() -> Judge:
    return Judge(load_models(shipped_models()))


class Stretch:
    """A recording that can be handed out in any cuts: samples, where leads are off, and what was lost."""

    def __init__(self, info: StreamInfo, values: Samples, off: Sequence[frozenset[str]]) -> None:
        self.info = info
        self.values = values
        self.off = off

    def blocks(self, cuts: Sequence[int], lost: Sequence[tuple[int, int]]) -> Iterator[Block]:
        """``cuts``: lengths, used over and over; ``lost``: (first, end) of samples that never come."""
        at, turn, n = 0, 0, self.values.shape[1]
        dropped = np.zeros(n, bool)
        for first, end in lost:
            dropped[first:end] = True
        while at < n:
            if dropped[at]:
                at += 1
                continue
            end = at + 1
            while end < min(n, at + cuts[turn % len(cuts)]) and not dropped[end] and self.off[end] == self.off[at]:
                end += 1
            turn += 1
            yield Block(at, self.info.fs, self.values[:, at:end].copy(), lead_off=self.off[at])
            at = end


def events_of(stretch: Stretch, cuts: Sequence[int], lost: Sequence[tuple[int, int]]) -> list[bytes]:
    """Whole payloads, in order."""
    travelled = run_blocks(stretch.info, stretch.blocks(cuts, lost), judge(), Settings(), "bed")
    return [event.payload() for event in travelled]


def info_of(channels: Sequence[str], fs: float) -> StreamInfo:
    return StreamInfo(fs, tuple(Signal(name, guess_kind(name)) for name in channels), began=BEGAN)


def read_whole(patient: SimulatedPatient) -> tuple[Samples, list[frozenset[str]]]:
    parts: list[Samples] = []
    off: list[frozenset[str]] = []
    while (block := patient.read(round(10 * patient.fs))) is not None:
        parts.append(block.values)
        off += [block.lead_off] * block.values.shape[1]
    return np.concatenate(parts, axis=1), off


@functools.cache
def afternoon() -> tuple[Samples, list[frozenset[str]]]:
    """All of the demo's script, every channel."""
    return read_whole(SimulatedPatient(FS, CHANNELS, DEMO_SCRIPT, seed=11))


def start_of(episode: str) -> float:
    """Seconds before the episode of that name in the demo's script."""
    names = [one.name for one in DEMO_SCRIPT.episodes]
    return sum(one.duration_s for one in DEMO_SCRIPT.episodes[: names.index(episode)])


Fault = tuple[int, int]
"""Where it begins, in samples, and how long it lasts."""


def part_of_afternoon(
    channels: Sequence[str], first_s: float, length_s: float, off_too: Sequence[tuple[str, Fault]] = ()
) -> Stretch:
    """``off_too``: leads that come off beyond those of the script."""
    values, off = afternoon()
    first = min(round(first_s * FS), values.shape[1] - round(length_s * FS))
    end = first + round(length_s * FS)
    rows = [CHANNELS.index(name) for name in channels]
    leads = [one & frozenset(channels) for one in off[first:end]]
    for name, (at, length) in off_too:
        if name in channels:
            leads[at : at + length] = [one | {name} for one in leads[at : at + length]]
    return Stretch(info_of(channels, FS), values[rows, first:end], leads)


def spans(faults: Sequence[Fault]) -> list[tuple[int, int]]:
    return [(first, first + length) for first, length in faults]


LENGTH_S = 28.0
WHOLE = [10**9]
seconds = st.floats(0, DEMO_SCRIPT.duration_s, allow_nan=False)
# One sample at a time is dear: a few samples, half a second to ten, or a mixture of both.
some_cuts = st.one_of(
    st.lists(st.integers(1, 40), min_size=1, max_size=8),
    st.lists(st.integers(125, 2500), min_size=1, max_size=8),
    st.lists(st.one_of(st.integers(1, 9), st.integers(200, 2500)), min_size=2, max_size=9),
)
faults = st.tuples(st.integers(0, 7000), st.sampled_from([1, 2, 7, 124, 251, 1000, 3333]))
some_gaps = st.lists(faults, max_size=3)
some_off = st.lists(st.tuples(st.sampled_from(CHANNELS), faults), max_size=3)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(channels=st.sampled_from(MIXES), first_s=seconds, cuts=some_cuts, gaps=some_gaps, off=some_off)
@example(channels=CHANNELS, first_s=start_of("asystole") - 15, cuts=[1], gaps=[], off=[])
@example(channels=("II", "ABP"), first_s=start_of("lead off") - 8, cuts=[3], gaps=[(2200, 7)], off=[])
@example(channels=("II",), first_s=160.0, cuts=[1, 2500], gaps=[(0, 500), (3000, 1)], off=[("II", (2990, 124))])
def test_the_cuts_change_nothing(
    channels: tuple[str, ...], first_s: float, cuts: list[int], gaps: list[Fault], off: list[tuple[str, Fault]]
) -> None:
    stretch = part_of_afternoon(channels, first_s, LENGTH_S, off)
    assert events_of(stretch, cuts, spans(gaps)) == events_of(stretch, WHOLE, spans(gaps))


def test_a_random_script_in_single_samples() -> None:
    script = Script((Episode("sinus", 6), Episode("vt", 6, "vt", 180), Episode("off", 3, lead_off=frozenset({"V"}))))
    values, off = read_whole(SimulatedPatient(200.0, ("V", "ABP"), script, seed=5))
    stretch = Stretch(info_of(("V", "ABP"), 200.0), values, off)
    assert events_of(stretch, [1], [(1700, 1813)]) == events_of(stretch, WHOLE, [(1700, 1813)])


def test_a_night_without_a_board_is_not_gone_through_tick_by_tick() -> None:
    before, after = part_of_afternoon(("II", "ABP"), 0, 20.0), part_of_afternoon(("II", "ABP"), 0, 12.0)
    night = round(8 * 3600 * FS)

    def events_in(cuts: Sequence[int], away: int) -> list[bytes]:
        blocks = list(before.blocks(cuts, []))
        end = blocks[-1].end + away
        blocks += [replace(block, first=block.first + end) for block in after.blocks(cuts, [])]
        return [event.payload() for event in run_blocks(before.info, iter(blocks), judge(), Settings(), "bed")]

    whole = events_in(WHOLE, night)
    assert len(whole) <= len(events_in(WHOLE, round(100 * FS))) + 2  # the grid of ticks lies anew in each gap
    assert events_in([250, 3], night) == whole
    last = [event for event in map(json.loads, whole) if event["schema"] == "edge-agent/vitals/1"][-1]
    assert last["heart_rate_per_min"]  # and afterwards all is as before
    assert last["sample"] > night


@pytest.mark.parametrize("record", ["203", "217"])  # noise and ventricular runs; paced
def test_recordings_too(mitdb: Path, record: str) -> None:
    recording = open_recording(mitdb / record)
    values = np.array(recording.read(0, round(60 * recording.info.fs)))
    recording.close()
    stretch = Stretch(recording.info, values, [frozenset()] * values.shape[1])
    whole = events_of(stretch, WHOLE, [])
    assert any(b'"edge-agent/verdict/1"' in payload for payload in whole)
    assert events_of(stretch, [5, 1, 36, 2, 911], []) == whole
    lost = [(4000, 4001), (9000, 12345)]
    assert events_of(stretch, [17], lost) == events_of(stretch, WHOLE, lost)


def test_a_replay_says_nothing_of_the_wall_clock() -> None:
    stretch = part_of_afternoon(("II", "ABP"), start_of("asystole") - 10, 20.0)
    first = events_of(stretch, WHOLE, [])
    assert any(b'"asystole"' in payload for payload in first)
    for payload in first:
        event = json.loads(payload)
        assert event["arrived"] is None
        assert event["latency"]["queue_ms"] is None
        assert event["latency"]["compute_ms"] is None
        assert event.get("invoke_us") is None
        assert event["time"].startswith("2024-0")  # the recording's own date
    assert events_of(stretch, WHOLE, []) == first


# -- the same through the whole daemon: board, wire, threads, broker ---------------------------------------------------

FROM_THE_CLOCK = ("seq", "session", "device", "stream", "time", "arrived", "invoke_us")
"""What a live message says of its own circumstances."""


def bare(event: dict[str, Any]) -> str:
    """An event without its circumstances, to compare and to sort by."""
    kept = {key: value for key, value in event.items() if key not in FROM_THE_CLOCK}
    kept["latency"] = {"algorithm_ms": event["latency"]["algorithm_ms"]}
    if "id" in kept:
        kept["id"] = event["id"].removeprefix(f"{event['session']}-{event['stream']}")
    return json.dumps(kept, sort_keys=True)


EPISODES = (
    Episode("sinus", 12, pvc_per_min=15),
    Episode("noise", 14, snr_db=-3.0, noise=("muscle", "motion", "white")),
    Episode("sinus", 12),
    Episode("vt", 12, "vt", 175),
    Episode("sinus", 10),
    Episode("asystole", 9, "asystole"),
    Episode("sinus", 8, line="damped"),
    Episode("af", 30, "af", 115),
    Episode("sinus", 10),
)


def test_a_board_on_a_wire_gives_the_events_of_its_replay(program: Callable[[str], str], tmp_path: Path) -> None:
    values, _ = read_whole(SimulatedPatient(FS, ("II", "V", "ABP"), Script(EPISODES), seed=3))
    lines = csv_lines(("II", "V", "ABP"), values)
    recording = tmp_path / "night.csv"
    recording.write_bytes(b"".join(lines))
    with (
        running_broker(program("mosquitto"), tmp_path) as broker,
        listening(broker.port) as listener,
        pty_board(tmp_path / "board") as board,
    ):
        config = base_config(
            broker.port,
            serial_stream("bed", board.link, ("II", "V", "ABP")),
            mqtt="qos_beats = 1",
            inference="queue_windows = 65536",
        )
        with running_agent(tmp_path, config) as agent:
            listener.wait("bridge", "state", state="online")
            # The file's header is the greeting that such a board begins with: the first line may be half a line.
            board.write_paced(lines, 20 * FS, threading.Event())
            last = values.shape[1] - round(2.5 * FS)

            def all_through() -> bool:
                streams = [one["streams"]["bed"]["samples"] for one in listener.of("bridge", "health")]
                return streams[-1:] == [values.shape[1]]

            wait_for(all_through, "all samples to have gone through")
            wait_for(lambda: any(one["known"] >= last for one in listener.of("bed", "verdict")), "the last verdicts")
            agent.process.terminate()
            assert agent.wait() == 0
            health = listener.of("bridge", "health")[-1]
            assert health["inference"]["dropped"] == 0
            assert health["streams"]["bed"]["samples"] == values.shape[1]
            assert health["streams"]["bed"]["lost_samples"] == 0
        live = [one.data for one in listener.heard if one.stream == "bed" and one.kind != "availability"]
    replayed_file = tmp_path / "events.jsonl"
    command = [sys.executable, "-m", "edge_agent", "replay", str(recording), "--fs", f"{FS:g}", "--all-leads"]
    subprocess.run(
        [*command, "--quiet", "--events", str(replayed_file)], check=True, cwd=ROOT, stdin=subprocess.DEVNULL
    )
    replayed = [json.loads(line) for line in replayed_file.read_text(encoding="utf-8").splitlines()]
    # A board has no end, a file has: what only the end of the file made known is left out.
    live_bare = sorted(bare(event) for event in live if event["known"] < last)
    replayed_bare = sorted(bare(event) for event in replayed if event["known"] < last)
    assert {event["schema"] for event in replayed if event["known"] < last} >= {
        f"edge-agent/{kind}/1" for kind in ("beat", "verdict", "quality", "vitals", "alarm", "rhythm")
    }
    assert live_bare == replayed_bare
    raised = {event["kind"] for event in live if event["schema"] == "edge-agent/alarm/1"}
    assert {"asystole", "ecg_noise"} <= raised  # whatever else a model may say
