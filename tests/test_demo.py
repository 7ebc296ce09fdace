"""The demo, as a newcomer runs it; and that it can fail."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import pytest

from edge_agent.commands.demo import FS, LATE_S, Received, View, expected_episodes, percentile, raised_in, summary
from tests.spine import ROOT

SEED = 1


def test_every_expected_alarm_arrives() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "edge_agent", "demo", "--speed", "30", "--seed", str(SEED)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    out = ended.stdout
    assert ended.returncode == 0, out[-2000:] + ended.stderr[-2000:]
    assert "Every expected alarm came." in out
    assert "NEVER CAME" not in out
    for episode in expected_episodes(SEED):
        for kind in episode.expected:
            assert re.search(rf"^{re.escape(episode.name)} +{kind} +-?[0-9.]+ s after its begin", out, re.MULTILINE)
    # What a client of one's own needs to know, and how long the way was.
    assert re.search(r"mqtt://127\.0\.0\.1:\d+", out)
    assert re.search(r"p50 [0-9.]+ ms, p95 [0-9.]+ ms, p99 [0-9.]+ ms", out)
    assert re.search(r"verdicts: .*N \d{2,}", out)
    assert re.search(r"beat V \(0\.\d\d\) on \w+ +\d+ us", out)
    assert ended.stderr == ""


def alarm(kind: str, known: int, state: str = "raised") -> dict[str, Any]:
    return {"kind": kind, "known": known, "state": state}


def all_alarms() -> list[dict[str, Any]]:
    return [alarm(kind, one.first + 500) for one in expected_episodes(SEED) for kind in one.expected]


def test_an_alarm_that_never_came_is_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    alarms = all_alarms()
    assert len(alarms) >= 8
    assert summary(Received(alarms=alarms), forever=False, seed=SEED) == 0
    assert "NEVER CAME" not in capsys.readouterr().out
    for missing in alarms:
        received = Received(alarms=[one for one in alarms if one is not missing])
        assert summary(received, forever=False, seed=SEED) == 1
        assert capsys.readouterr().out.count("NEVER CAME") == 1


def test_only_a_raise_at_its_time_counts() -> None:
    episode = expected_episodes(SEED)[0]
    (kind,) = episode.expected
    late = round(LATE_S * FS)

    def came(*alarms: dict[str, Any]) -> bool:
        return raised_in(Received(alarms=list(alarms)), kind, episode) is not None

    assert came(alarm(kind, episode.first))
    assert came(alarm(kind, episode.end + late))
    assert not came(alarm(kind, episode.first - 1))
    assert not came(alarm(kind, episode.end + late + 1))
    assert not came(alarm(kind, episode.first, "cleared"))
    assert not came(alarm("other", episode.first))
    assert not came()


def test_an_episode_is_not_served_by_the_alarm_of_the_next() -> None:
    """Two faults of one kind follow each other closely: each needs a raise of its own."""
    (flushed,) = (one for one in expected_episodes(SEED) if one.expected == ("abp_artifact",))
    (damped,) = (one for one in expected_episodes(SEED) if one.expected == ("abp_damped",))
    assert flushed.first < damped.end + LATE_S * FS
    received = Received(alarms=[alarm("abp_artifact", flushed.first)])
    assert raised_in(received, "abp_artifact", damped, before=flushed.first) is None
    assert raised_in(received, "abp_artifact", flushed) is not None


def test_percentiles_are_nearest_ranks() -> None:
    values = [float(number) for number in range(1, 101)]
    assert [percentile(values, percent) for percent in (50, 95, 99, 100)] == [50, 95, 99, 100]
    assert percentile([3.0], 99) == 3.0
    assert percentile([], 50) != percentile([], 50)


def test_the_view_counts_what_it_shows() -> None:
    out = io.StringIO()
    view = View(out)
    at = datetime(2024, 1, 1, 0, 0, 1, tzinfo=UTC)
    arrived = "2024-01-01T00:00:00.990000Z"
    verdict = {
        "task": "ecg-beat", "model": "m", "label": "V", "reason": None, "scores": {"V": 0.91}, "channel": "II", "invoke_us": 55.0,
        "sample": 250, "arrived": arrived,
    }  # fmt: skip
    view.message("edge-agent/demo/bed1/verdict", json.dumps(verdict).encode(), at)
    raised = {"kind": "asystole", "state": "raised", "priority": "high", "evidence": {"pause_s": 4}, "sample": 500}
    view.message("edge-agent/demo/bed1/alarm", json.dumps(raised).encode(), at)
    view.message("edge-agent/demo/bridge/state", b'{"state":"online"}', at)
    ended = b'{"state":"offline","reason":"end of recording: the script is over, no fault"}'
    view.message("edge-agent/demo/bed1/availability", ended, at)
    view.message("edge-agent/demo/bed1/gap", b'{"sample":500,"lost":25,"cause":"samples lost"}', at)
    received = view.received
    assert (received.messages, received.labels["V"], received.last_sample) == (5, 1, 500)
    assert list(received.added_ms) == [pytest.approx(10.0)]
    assert [one["kind"] for one in received.alarms] == ["asystole"]
    assert "beat V (0.91) on II 55 us" in out.getvalue()
    assert "ASYSTOLE raised" in out.getvalue()
    assert "   2.0 s  availability: offline (end of recording: the script is over, no fault)" in out.getvalue()
    assert "   2.0 s  gap: 25 samples (samples lost)" in out.getvalue()
