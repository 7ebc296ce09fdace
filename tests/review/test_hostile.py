"""Names that lie, servers that are killed, ranges that are none."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
import wfdb

from edge_agent.review.corrections import Corrections, Refused, wish
from edge_agent.review.library import Library
from edge_agent.review.live import LiveFeed, _frame
from edge_agent.review.strips import StripKeeper
from tests.review.conftest import FS, write_record
from tests.review.test_live import INFO, alarm
from tests.review.test_web import asker, label, posted

RTL = "\u202e"
LONG = "x" * 240  # a file's name has 255 bytes
NAMES = (
    "<script>alert(1)</script>",
    f"evil{RTL}gnp",
    LONG,
    "a'\"&;$(reboot)`",
    "emoji \N{SNOWMAN}",
    "a..hidden..",
    "%2e%2e",
)
KILLS = int(os.environ.get("EDGE_AGENT_KILLS", "3"))


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """Recordings by such names."""
    folder = tmp_path / "in"
    folder.mkdir()
    header = write_record(folder / "plain", seconds=15)
    for name in NAMES:
        plain = name.replace("/", "_")
        (folder / f"{plain}.hea").write_text(header.read_text())
    (folder / os.fsdecode(b"no-utf8-\xff\xfe.hea")).write_text(header.read_text())
    return folder


def test_every_name_is_served_as_text_and_nothing_else(
    hostile: Path, tmp_path: Path, serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    library = Library(hostile, tmp_path / "state", models=False)
    try:
        ask = asker(serve(library=library))
        status, headers, body = ask("/api/about")
        assert (status, headers["content-type"]) == (200, "application/json")
        names = {one["name"] for one in json.loads(body)["records"]}
        assert {name.replace("/", "_") for name in NAMES} | {"plain"} == names
        assert "not UTF-8" in caplog.text
        for name in names:
            assert ask(f"/api/open?record={quote(name)}")[0] == 200, name
            status, headers, body = ask(f"/api/strip.svg?record={quote(name)}&first=0&end=500")
            assert status == 200, name
            assert b"<script" not in body
            assert RTL.encode() not in body
            said = {
                "record": name,
                "token": secrets.token_hex(8),
                "who": "ann",
                "act": "add",
                "sample": 9,
                "label": "V",
            }
            assert posted(ask, "/api/correct", said)[0] == 200
            status, done = posted(ask, "/api/export", {"record": name})
            assert status == 200
            assert Path(done["annotations"]).parent == tmp_path / "state" / "export" / "beats"
            status, headers, body = ask(f"/api/export.rev?record={quote(name)}")
            assert status == 200
            assert headers["content-disposition"].isascii()
    finally:
        library.close()


@pytest.mark.parametrize("who", ["a\u202eb", "\ud800", "a\x00b", "", " ", "x" * 41, "a\u2028b", 5, None], ids=range(9))
def test_who_must_be_a_printable_name(who: Any, hostile: Path, tmp_path: Path, serve: Callable[..., Any]) -> None:
    library = Library(hostile, tmp_path / "state", models=False)
    try:
        ask = asker(serve(library=library))
        said = label("token-00001") | {"record": "plain", "who": who}
        assert posted(ask, "/api/correct", said)[0] == 400
        step = {"record": "plain", "act": "undo", "who": who, "token": "token-00002"}
        assert posted(ask, "/api/step", step)[0] == 400
    finally:
        library.close()


@pytest.mark.parametrize(
    "query",
    [
        "first=0&end=99999999999999999999",
        "first=-1&end=5",
        "first=5&end=5",
        "first=1e3&end=2e3",
        "first=\uff11&end=2",
        "first=999999999999&end=999999999999",
        "first=0&end=NaN",
        "first=0",
        "first=0&first=1&end=0",
    ],
    ids=range(9),
)
def test_ranges_that_are_none_are_refused_and_logged(
    query: str, hostile: Path, tmp_path: Path, serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    library = Library(hostile, tmp_path / "state", models=False)
    try:
        ask = asker(serve(library=library))
        for path in ("/api/beats", "/api/strip.svg"):
            assert ask(f"{path}?record=plain&{quote(query, safe='=&')}")[0] == 400
        assert "refused" in caplog.text
        assert ask("/api/tile?record=plain&level=40&index=999999999")[0] == 400
        assert ask("/api/overview?record=plain&bins=100000")[0] == 400
    finally:
        library.close()


def test_an_alarm_of_a_hostile_patient_is_kept_under_a_plain_name(tmp_path: Path) -> None:
    keeper = StripKeeper(tmp_path / "strips")
    for n, name in enumerate((*NAMES, "x" * 300, "../../etc")):
        one = alarm(n, 2500, stream=name, id=f"{name}/{n}", evidence={"why": f"{RTL}<script>"})
        keeper.samples(name, INFO, 0, np.zeros((1, 8000), np.float32))
        keeper.alarm(one)
    keeper.step()
    files = list((tmp_path / "strips").iterdir())
    assert len(files) == keeper.drawn == len(NAMES) + 2
    for file in files:
        assert keeper.path(file.name) == file
        assert len(file.name) < 120
        text = file.read_text()
        assert "<script" not in text
        assert RTL not in text
    assert [path.name for path in tmp_path.iterdir()] == ["strips"]


class _Served:
    """An ``edge-agent review`` in a process of its own, which may be killed."""

    def __init__(self, record: Path, state: Path) -> None:
        command = [sys.executable, "-m", "edge_agent", "review", str(record), "--port", "0", "--state", str(state)]
        self.process = subprocess.Popen([*command, "--no-models"], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        self.host = self.process.stdout.readline().split("/")[2]

    def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        link = http.client.HTTPConnection(self.host, timeout=10)
        try:
            headers = {"content-type": "application/json", "x-edge-agent": "1"}
            link.request("POST", path, json.dumps({"record": "plain", "who": "ann", **body}), headers)
            answer = link.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            link.close()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.mark.timeout(30 + 20 * KILLS)
def test_a_server_that_is_killed_amid_edits_loses_none_that_it_answered(hostile: Path, tmp_path: Path) -> None:
    """With undo over each restart. EDGE_AGENT_KILLS says how often."""
    answered: list[int] = []
    undone: set[int] = set()
    for turn in range(KILLS):
        server = _Served(hostile / "plain", tmp_path / "state")
        if answered:
            status, done = server.post("/api/step", {"act": "undo", "token": secrets.token_hex(8)})
            assert status == 200  # what the killed one had taken can still be undone
            undone.add(done["target"]["seq"])
        end = time.monotonic() + 0.2 + 0.05 * (turn % 7)
        timer = threading.Timer(max(0.0, end - time.monotonic()), server.process.kill)
        timer.start()
        try:
            while True:
                sample = len(answered) + turn * 3 + 1
                said = {"token": secrets.token_hex(8), "act": "reviewed", "first": sample, "end": sample + 1}
                status, done = server.post("/api/correct", said)
                assert status == 200
                answered.append(done["operation"]["seq"])
        except (OSError, http.client.HTTPException):
            pass
        timer.join()
        server.kill()
    kept = Corrections(tmp_path / "state" / "corrections.sqlite")
    journal = kept.journal("plain")
    kept.close()
    assert len(answered) > 5 * KILLS
    assert set(answered) <= {one.seq for one in journal.operations}
    assert len([one for one in journal.operations if one.act == "undo"]) == KILLS - 1
    assert {one.seq for one in journal.reviewed} == {
        one.seq for one in journal.operations if one.act == "reviewed"
    } - undone


def test_what_was_not_answered_can_be_sent_again_by_its_token(tmp_path: Path) -> None:
    kept = Corrections(tmp_path / "c.sqlite")
    one = wish({"token": "token-00001", "who": "ann", "act": "add", "sample": 5, "label": "V"})
    first = kept.apply("r", one)
    kept.close()
    again = Corrections(tmp_path / "c.sqlite")
    assert again.apply("r", one) == first
    with pytest.raises(Refused):
        again.apply("other", one)
    again.close()


def test_hostile_words_of_the_stream_reach_the_live_page_as_json(tmp_path: Path) -> None:
    feed = LiveFeed(dict, f"<b>{RTL}", StripKeeper(tmp_path))
    feed.event(alarm(1, 5, stream="\n\nevent: evil\ndata: {}\n\n<script>", evidence={"a": "\n\ndata: x"}))
    frame = feed._collect()
    raw = _frame("frame", frame)
    assert raw.count(b"\n\n") == 1
    assert raw.count(b"event:") - raw.count(b"event: evil") == 1
    assert b"\nevent: evil" not in raw
    assert isinstance(frame["events"][0], dict)


def test_recordings_of_one_name_stay_apart_in_the_export(tmp_path: Path) -> None:
    """Two streams that began together: their files have one name, and the export is one folder."""
    folder = tmp_path / "in"
    for n, stream in enumerate(("bed-1", "bed_1", "b\u00e9d-1")):
        (folder / stream).mkdir(parents=True)
        write_record(folder / stream / "20261121T101500Z-0", seconds=10 + n)
    library = Library(folder, tmp_path / "state", models=False)
    try:
        names = [library.open(name).export().name for name in library.names()]
        assert len(set(names)) == 3
        for name, n in zip(library.names(), (0, 1, 2), strict=True):
            one = library.open(name)
            there = tmp_path / "state" / "export" / "beats" / one.export().name
            read = wfdb.rdrecord(str(there))
            assert read.sig_len == one.waves.samples == round((10 + n) * FS), name
            np.testing.assert_allclose(read.p_signal[:1000].T, one.waves.read(0, 1000), atol=1e-3)
    finally:
        library.close()
