"""A disk that is full, read-only or not there at the start: everything goes on without it, and health says so."""

from __future__ import annotations

import contextlib
import logging
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.config import Config
from edge_agent.errors import OutputError
from edge_agent.outputs.hub import Outputs
from edge_agent.outputs.jsonl import JsonLines
from edge_agent.outputs.segment import Place, Segment, is_torn
from edge_agent.sources.base import Signal
from tests.spine import Broker, base_config, listening, running_agent, simulated, wait_for


@pytest.mark.parametrize("trouble", ["full", "read-only"])
def test_a_disk_that_fails_keeps_no_agent_from_starting(
    broker: Broker, tmp_path: Path, tiny_disk: Path, trouble: str
) -> None:
    if trouble == "full":
        with contextlib.suppress(OSError), (tiny_disk / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 4096)
    else:
        subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    text = base_config(broker.port, simulated("bed", source='script = "demo"\nspeed = 20'))
    text = text.replace('folder = "."', f'folder = "{tiny_disk}"')
    text += f'\n[recorder]\nfolder = "{tiny_disk}/rec"\n[jsonl]\npath = "{tiny_disk}/events.jsonl"\n'
    with listening(broker.port) as listener, running_agent(tmp_path, text) as agent:
        listener.wait("bed", "alarm", state="raised")
        health = wait_for(lambda: [one.data for one in listener.heard if one.topic.endswith("bridge/health")], "health")
        assert health[-1]["broker"]["outbox"] is None
        assert "cannot be opened" in health[-1]["broker"]["outbox_fault"]
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
    assert "messages are kept in memory alone" in agent.log
    last = [one.data for one in listener.heard if one.topic.endswith("bridge/health")][-1]
    assert (last["jsonl"]["dropped"] > 0, last["jsonl"]["disk"] == "ok") == (True, False)


def settings(tmp_path: Path, **tables: Any) -> Config:
    source = {"type": "simulated"}
    return Config.model_validate(
        {"stream": [{"name": "x", "source": source}], "outbox": {"folder": str(tmp_path / "box")}} | tables
    )


def refuse(*_: object) -> dict[str, Any]:
    raise AssertionError


def test_an_outbox_in_use_is_refused_and_one_that_cannot_be_opened_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = Outputs(settings(tmp_path), refuse)
    health = first.broker_health()
    assert health.outbox is not None
    assert health.outbox_fault is None
    with pytest.raises(OutputError, match="in use by another"):
        Outputs(settings(tmp_path), refuse)
    (tmp_path / "file").write_text("")
    caplog.set_level(logging.ERROR)
    second = Outputs(settings(tmp_path, outbox={"folder": str(tmp_path / "file")}), refuse)
    health = second.broker_health()
    assert health.outbox is None
    assert "cannot be opened" in str(health.outbox_fault)
    assert "messages are kept in memory alone" in caplog.text
    assert Outputs(settings(tmp_path, outbox={"enabled": False}), refuse).broker_health().outbox_fault is None


def test_a_second_agent_is_refused_before_it_touches_the_recordings_of_the_first(tmp_path: Path) -> None:
    tables = {"recorder": {"folder": str(tmp_path / "r")}}
    first = Outputs(settings(tmp_path, **tables), refuse)
    being_written = Segment(Place(tmp_path / "r" / "x" / "a"), (Signal("II", "ecg", "mV"),), 250.0, 0, None)
    being_written.append(0, np.zeros((1, 50), np.float32))
    with pytest.raises(OutputError, match="in use by another"):
        Outputs(settings(tmp_path, **tables), refuse)
    assert is_torn(Place(tmp_path / "r" / "x" / "a"))
    assert (tmp_path / "r" / "x" / "a.edge").stat().st_size == 0
    being_written.close()
    assert first.recorder is not None


def test_recordings_that_cannot_be_opened_leave_the_outbox_to_the_next_try(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="recordings cannot be written"):
        Outputs(settings(tmp_path, recorder={"folder": str(tmp_path / "file")}), refuse)
    assert Outputs(settings(tmp_path), refuse).broker_health().outbox_fault is None


def test_health_counts_the_lines_and_the_recordings_where_they_are_wanted(tmp_path: Path) -> None:
    off = Outputs(settings(tmp_path, outbox={"enabled": False}), refuse)
    assert (off.lines_health(), off.recorder_health()) == (None, None)
    tables = {"jsonl": {"path": str(tmp_path / "l")}, "recorder": {"folder": str(tmp_path / "r")}}
    on = Outputs(settings(tmp_path, outbox={"enabled": False}, **tables), refuse)
    sink = on._sinks["jsonl"]
    assert isinstance(sink, JsonLines)
    assert on.recorder is not None
    sink.written, sink.dropped, sink.fault = 5, 6, "full"
    on.recorder.counters.segments, on.recorder.counters.removed = 7, 8
    lines, recordings = on.lines_health(), on.recorder_health()
    assert lines is not None
    assert recordings is not None
    assert (lines.written, lines.dropped, lines.disk) == (5, 6, "full")
    on.stop(0.1)
    assert (recordings.segments, recordings.removed, recordings.dropped, recordings.disk) == (7, 8, 0, "ok")
