"""A sensor's blocks over a real broker through the whole daemon: the beats of the replay, the loss counted, the health told."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from edge_agent import events
from edge_agent.inference.judge import Judge
from edge_agent.journey import Block
from edge_agent.replay import Settings, run_blocks
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.raw_blocks import Info, RawBlock, encode_binary, encode_info
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from tests.sources.test_live_sources import sensing
from tests.spine import base_config, listening, running_agent, running_broker, wait_for

FS, N, GONE = 250.0, 50, range(120, 130)
INFO = Info(FS, ("II", "ABP"), ("mV", "mmHg"))
STREAM = """
[[stream]]
name = "bed"
models = []
[stream.source]
type = "mqtt"
topic = "ward/bed1/raw"
silent_s = 10
wait_info_s = 20
reorder_s = 0.1
"""


def test_a_sensor_s_blocks_give_the_beats_of_their_replay(program: Callable[[str], str], tmp_path: Path) -> None:
    patient = SimulatedPatient(FS, INFO.names, Script((Episode("sinus", 60, pvc_per_min=10),)), 4)
    block = patient.read(round(60 * FS))
    assert block is not None
    pieces = [(i, block.values[:, i * N : (i + 1) * N]) for i in range(block.values.shape[1] // N) if i not in GONE]
    with (
        running_broker(program("mosquitto"), tmp_path) as broker,
        sensing(broker.port) as sensor,
        listening(broker.port) as listener,
        running_agent(tmp_path, base_config(broker.port, STREAM, mqtt="qos_beats = 1")) as agent,
    ):
        listener.wait("bridge", "state", state="online")
        sensor.say("ward/bed1/raw/info", encode_info(INFO), retain=True)
        listener.wait("bed", "availability", reason="waiting for blocks on ward/bed1/raw")
        time.sleep(0.5)  # its subscription is acknowledged with the info; the blocks' own follows at once
        for i, values in pieces:
            sensor.say("ward/bed1/raw", encode_binary(RawBlock(i, i * N, 7, values), INFO))
            time.sleep(0.004)
            if i == GONE.start - 1 or i == GONE.stop:
                time.sleep(0.3)  # the gap is given up before more comes
        health = wait_for(
            lambda: [
                one["streams"]["bed"]
                for one in listener.of("bridge", "health")
                if one["streams"]["bed"]["samples"] == len(pieces) * N
            ],
            "all samples",
        )[-1]
        gap = listener.wait("bed", "gap")
        assert (gap["first"], gap["lost"], gap["exact"]) == (GONE.start * N, len(GONE) * N, True)
        assert health["source"]["frames_good"] == len(pieces)
        assert health["source"]["samples_lost"] == health["lost_samples"] == len(GONE) * N
        assert health["source"]["lines_good"] is None
        agent.process.terminate()
        assert agent.wait() == 0
        live = [(one["channel"], one["sample"]) for one in listener.of("bed", "beat")]
    info = StreamInfo(FS, (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")))
    blocks = [Block(i * N, FS, values) for i, values in pieces]
    said = run_blocks(info, iter(blocks), Judge({}), Settings(models=()), "bed")
    wanted = [(one.channel, one.sample) for one in said if isinstance(one, events.Beat)]
    last = block.values.shape[1] - 3 * FS  # what only the end of a recording makes known
    assert [one for one in live if one[1] < last] == [one for one in wanted if one[1] < last]
    assert len(wanted) > 40
    assert np.isfinite(block.values).all()
