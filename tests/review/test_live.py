"""The live feed: a slow viewer loses frames, and the streams notice nothing."""

from __future__ import annotations

import asyncio
import base64
import http.client
import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import events
from edge_agent.config import Config, SimulatedSource, StreamConfig
from edge_agent.daemon import Daemon
from edge_agent.errors import OutputError
from edge_agent.review.host import LiveHost, simulated
from edge_agent.review.in_daemon import DaemonPage
from edge_agent.review.live import MOST_EVENTS, MOST_FRAMES, MOST_VIEWERS, Viewer
from edge_agent.review.strips import MOST_FILES, StripKeeper
from edge_agent.sources.base import Signal, StreamInfo
from tests.review.conftest import wait_for


def frames_of(raw: bytes) -> list[tuple[str, Any]]:
    made = []
    for part in raw.decode().split("\n\n"):
        lines = part.split("\n")
        if lines[0].startswith("event: "):
            made.append((lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: "))))
    return made


def listen(port: int, seconds: float) -> list[tuple[str, Any]]:
    link = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    link.request("GET", "/api/live")
    answer = link.getresponse()
    raw = b""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        raw += answer.read1(65536)
    link.close()
    return frames_of(raw)


@pytest.fixture
def host() -> Any:
    made = LiveHost(simulated(4), "d")
    made.start()
    yield made
    made.stop()


def test_samples_arrive_whole_and_in_order(host: LiveHost, serve: Callable[..., Any]) -> None:
    said = listen(serve(feed=host.feed).port, 4)
    assert said[0][0] == "hello"
    assert [one["name"] for one in said[0][1]["streams"]] == ["bed-1", "bed-2", "bed-3", "bed-4"]
    waves = [frame["waves"]["bed-2"] for kind, frame in said if kind == "frame" and "bed-2" in frame["waves"]]
    at = waves[0]["first"]
    for wave in waves:
        assert wave["first"] == at  # nothing missing between two frames
        at += np.frombuffer(base64.b64decode(wave["data"]["II"]), "<i2").size
    fs = said[0][1]["streams"][1]["fs"]
    assert (at - waves[0]["first"]) / fs > 2
    states = [frame["state"]["streams"]["bed-2"] for kind, frame in said if kind == "frame" and "state" in frame]
    assert states[-1]["state"] == "online"
    assert states[-1]["age_s"] < 1
    assert states[-1]["overwritten"] == 0


def test_a_viewer_that_reads_nothing_loses_frames_and_slows_nobody(host: LiveHost) -> None:
    viewers: list[Viewer] = []

    async def stand_still() -> None:
        viewer = host.feed.join()
        assert viewer is not None
        viewers.append(viewer)
        while not done.is_set():  # its loop runs, it takes nothing
            await asyncio.sleep(0.05)

    done = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(stand_still()))
    thread.start()
    try:
        wait_for(lambda: viewers and viewers[0].lost > 5)
        assert len(viewers[0].frames) <= MOST_FRAMES
        runners = host._runners
        before = [one.counters.samples for one in runners]
        time.sleep(2)
        assert all(one.counters.samples - a > 1.5 * 250 for one, a in zip(runners, before, strict=True))
    finally:
        done.set()
        thread.join()


def test_there_is_a_bound_on_viewers_and_events(host: LiveHost) -> None:
    async def many() -> list[Any]:
        return [host.feed.join() for _ in range(MOST_VIEWERS + 2)]

    viewers = asyncio.run(many())
    assert viewers[-1] is None
    assert viewers[MOST_VIEWERS - 1] is not None
    for one in viewers:
        if one is not None:
            host.feed.leave(one)
    assert host.feed._events.maxlen == MOST_EVENTS


def alarm(number: int, sample: int = 5000, **more: Any) -> events.Alarm:
    said: dict[str, Any] = {
        "seq": number, "session": "s", "device": "d", "stream": "bed/../../x", "sample": sample, "time": None, "known": sample,
        "arrived": None, "latency": events.Latency(algorithm_ms=0, queue_ms=None, compute_ms=None), "id": f"../../etc/{number}",
        "kind": "asystole", "state": "raised", "priority": "high", "reason": None,
        "confidence": 1.0, "active": True, "acknowledged": False, "silenced": False, "channel": "II", "strip": None,
        "since": sample, "delay_ms": 0,
        "evidence": {"text": "</text><script>alert(1)</script>"},
    }  # fmt: skip
    return events.Alarm(**(said | more))


def test_figures_that_are_old_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from edge_agent.review import live as module

    feed = module.LiveFeed(lambda: {"bed-1": ("online", None)}, "d", broker=lambda: False)
    said: dict[str, Any] = {
        "seq": 1, "session": "s", "device": "d", "stream": "bed-1", "sample": 5, "time": None, "known": 5, "arrived": None,
        "latency": events.Latency(algorithm_ms=0, queue_ms=None, compute_ms=None), "heart_rate_per_min": 71.0,
        "systolic_mmhg": None, "diastolic_mmhg": None, "mean_mmhg": None, "pulse_rate_per_min": None, "lead_off": False,
    }  # fmt: skip
    feed.event(events.Vitals(**said))
    feed._collect()
    assert feed._state()["streams"]["bed-1"]["vitals"]["heart_rate_per_min"] == 71.0
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + module.VITALS_OLD_S + 1)
    assert feed._state()["streams"]["bed-1"]["vitals"] == {}
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    assert feed._state()["broker_away_s"] > 40


INFO = StreamInfo(fs=250.0, signals=(Signal("II", "ecg", "mV"),))


def test_a_strip_holds_ten_seconds_before_and_after(tmp_path: Path) -> None:
    keeper = StripKeeper(tmp_path / "strips")
    x = np.zeros((1, 250), np.float32)
    one = alarm(1)
    for second in range(20):
        keeper.samples(one.stream, INFO, second * 250, x)
    keeper.alarm(one)
    for second in range(20, 30):
        keeper.step()
        assert keeper.drawn == 0
        keeper.samples(one.stream, INFO, second * 250, x)
    keeper.step()
    assert keeper.drawn == 1
    path = keeper.path(StripKeeper.name(one))
    assert path is not None
    assert path.parent == tmp_path / "strips"
    text = path.read_text()
    assert 'viewBox="-2 0 504.00' in text  # 20 s at 25 mm/s, and a margin
    assert "<script" not in text
    assert [file.name for file in (tmp_path / "strips").iterdir()] == [path.name]


def test_a_source_that_goes_away_gets_its_strip_all_the_same(tmp_path: Path) -> None:
    now = [0.0]
    keeper = StripKeeper(tmp_path / "strips", lambda: now[0])
    one = alarm(1, 2500)
    keeper.samples(one.stream, INFO, 0, np.zeros((1, 2600), np.float32))
    keeper.alarm(one)
    keeper.step()
    assert keeper.drawn == 0
    now[0] = 31.0
    keeper.step()
    assert keeper.drawn == 1


def test_strips_are_bounded(tmp_path: Path) -> None:
    folder = tmp_path / "strips"
    folder.mkdir()
    for n in range(MOST_FILES + 5):
        (folder / f"{n}.svg").touch()
    keeper = StripKeeper(folder)
    keeper.samples("bed/../../x", INFO, 0, np.zeros((1, 8000), np.float32))
    keeper.alarm(alarm(1, 2500))
    keeper.step()
    assert keeper.drawn == 1
    assert len(list(folder.iterdir())) == MOST_FILES


@pytest.mark.parametrize(
    "name", ["../token.json", "x.svg", "..svg", "a/b-00000000.svg", "", "x-00000000.svg\n"], ids=range(6)
)
def test_only_strips_can_be_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "strips").mkdir()
    (tmp_path / "token.json").write_text("{}")
    assert StripKeeper(tmp_path / "strips").path(name) is None


# -- in the daemon ---------------------------------------------------------------------------------------------------


def settings(tmp_path: Path, free_port: int, **review: Any) -> Config:
    return Config.model_validate(
        {
            "device": {"id": "d"},
            "mqtt": {"port": 1},
            "outbox": {"enabled": False},
            "jsonl": {"path": str(tmp_path / "events.jsonl")},
            "recorder": {"folder": str(tmp_path / "recordings"), "mode": "everything"},
            "review": {"enabled": True, "port": free_port, "state": str(tmp_path / "state"), **review},
            "stream": [
                StreamConfig(name="bed-1", source=SimulatedSource(type="simulated", seed=1)).model_dump(mode="json")
            ],
        }
    )


@pytest.fixture
def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


def test_the_daemon_serves_the_page_and_links_its_alarms(tmp_path: Path, free_port: int) -> None:
    daemon = Daemon(settings(tmp_path, free_port), tmp_path / "x.toml")
    page, outputs = daemon._page, daemon._outputs
    assert page is not None
    assert outputs.page is page
    outputs.start()
    for runner in daemon._runners:
        runner.start()
    page.start()
    try:
        outputs.event(alarm(7, 10, stream="bed-1"))
        said = listen(free_port, 3)
        assert {kind for kind, _ in said} >= {"hello", "frame"}
        assert any("bed-1" in frame.get("waves", {}) for _, frame in said)
        found = [one for kind, frame in said if kind == "frame" for one in frame["events"] if one["kind"] == "alarm"]
        found += said[0][1]["state"]["streams"]["bed-1"]["alarms"]
        wanted = f"/strips/{StripKeeper.name(alarm(7, 10, stream='bed-1'))}"
        assert any(one["strip"] == wanted for one in found)
        link = http.client.HTTPConnection("127.0.0.1", free_port, timeout=5)
        link.request("GET", "/api/about")
        assert json.loads(link.getresponse().read())["live"] is True
        link.close()
    finally:
        daemon._shut_down()
    lines = [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert [one["strip"] for one in lines if one.get("schema") == "edge-agent/alarm/1" and one["seq"] == 7] == [wanted]


def test_beyond_loopback_the_daemon_wants_a_token(tmp_path: Path, free_port: int) -> None:
    with pytest.raises(OutputError, match="wants a token") as caught:
        DaemonPage(settings(tmp_path, free_port, host="0.0.0.0"), dict)
    assert "--new-token" in caught.value.remedy
