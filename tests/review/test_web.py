"""What a request may and may not do."""

from __future__ import annotations

import http.client
import json
import logging
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent.errors import OutputError, SourceError
from edge_agent.review.guard import LOGINS_PER_MINUTE, Token
from edge_agent.review.library import Library
from edge_agent.review.serve import MOST_CONNECTIONS, PageServer
from tests.review.conftest import wait_for, write_record

Ask = Callable[..., tuple[int, dict[str, str], bytes]]
POST = {"content-type": "application/json", "x-edge-agent": "1"}


def asker(server: PageServer) -> Ask:
    def ask(
        path: str, method: str = "GET", headers: dict[str, str] | None = None, body: bytes | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        link = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
        try:
            link.putrequest(method, path, skip_host="host" in (headers or {}))
            for name, value in (headers or {}).items():
                link.putheader(name, value)
            if body is not None and "content-length" not in (headers or {}):
                link.putheader("content-length", str(len(body)))
            link.endheaders(body)
            answer = link.getresponse()
            told = {name.lower(): value for name, value in answer.getheaders()}
            return answer.status, told, answer.read()
        finally:
            link.close()

    return ask


@pytest.fixture
def ask(serve: Callable[..., Any], recordings: Path, tmp_path: Path) -> Any:
    library = Library(recordings, tmp_path / "state", models=False)
    yield asker(serve(library=library))
    library.close()


def posted(ask: Ask, path: str, data: Any, **headers: str) -> tuple[int, Any]:
    status, _, body = ask(path, "POST", {**POST, **headers}, json.dumps(data).encode())
    return status, json.loads(body)


def label(token: str, **more: Any) -> dict[str, Any]:
    return {"record": "patient", "token": token, "who": "ann", "act": "add", "sample": 1000, "label": "V", **more}


def test_the_page_and_its_parts_are_served_with_their_policy(ask: Ask) -> None:
    for path in ("/", "/static/review.js", "/static/paper.js", "/static/style.css", "/api/about"):
        status, headers, body = ask(path)
        assert status == 200
        assert body
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "script-src 'self'" in policy
        assert "unsafe" not in policy
        assert headers["x-content-type-options"] == "nosniff"
        assert "server" not in headers


def test_nothing_of_the_page_comes_from_elsewhere() -> None:
    from edge_agent.review.web import PAGE

    for path in PAGE.iterdir():
        text = path.read_text(encoding="utf-8")
        for scheme in ("http://", "https://", "//cdn", "innerHTML", "eval("):
            assert scheme not in text, f"{path.name}: {scheme}"
        assert "<script>" not in text
        assert " style=" not in text
        assert " onclick=" not in text


def test_samples_come_as_they_are(ask: Ask, recordings: Path) -> None:
    status, headers, body = ask("/api/tile?record=patient&level=0&index=2")
    assert (status, headers["x-whole"]) == (200, "1")
    values = np.frombuffer(body, "<f4").reshape(2, -1)
    raw = np.fromfile(recordings / "patient.dat", "<i2").reshape(-1, 2)[2048:3072].T
    np.testing.assert_allclose(values, raw / np.array([[1000.0], [50.0]]), atol=1e-5)


@pytest.mark.parametrize(
    "path",
    [
        "/api/open?record=../../etc/passwd",
        "/api/open?record=/etc/passwd",
        "/api/open?record=patient.hea",
        "/api/open?record=..%2f..%2fetc%2fpasswd",
        "/api/open?record=patient%00",
        "/api/open",
        "/static/../web.py",
        "/static/..%2fweb.py",
        "/static/%2e%2e/guard.py",
        "/strips/../token.json",
        "/strips/..%2ftoken.json",
        "/nothing",
        "/..",
    ],
    ids=range(13),
)
def test_nothing_but_the_recordings_can_be_reached(ask: Ask, path: str) -> None:
    status, _, body = ask(path)
    assert status == 404
    assert b"root:" not in body
    assert b"import" not in body


@pytest.mark.parametrize(
    "query",
    [
        "tile?record=patient&level=0&index=99999999999999999999",
        "tile?record=patient&level=99&index=0",
        "tile?record=patient&level=-1&index=0",
        "tile?record=patient&level=1e3&index=0",
        "tile?record=patient&level=0&index=1000000",
        "beats?record=patient&first=0",
        "beats?record=patient&first=5&end=5",
        "beats?record=patient&first=nan&end=inf",
        "beats?record=patient&first=%D9%A3&end=9",
        "overview?record=patient&bins=1000000000",
        "overview?record=patient&bins=0",
        "strip.svg?record=patient&first=0&end=21000000",
        "next?record=patient&at=0&filter=<script>",
        "next?record=patient&at=-1",
    ],
    ids=range(14),
)
def test_ranges_and_types_are_checked(ask: Ask, query: str) -> None:
    if query.startswith("strip"):
        query = query.replace("first=0&end=21000000", "first=0&end=99999999999999")
    status, _, body = ask(f"/api/{query}")
    assert status == 400
    assert len(body) < 500


def test_a_huge_stretch_costs_no_more_than_the_recording_holds(ask: Ask) -> None:
    status, _, body = ask("/api/beats?record=patient&first=0&end=999999999999")
    assert status == 200
    assert len(body) < 100_000


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"origin": "http://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"host": "evil.example"}, 421),
        ({"host": "evil.example:8080"}, 421),
        ({"host": "127.0.0.1.evil.example"}, 421),
    ],
    ids=range(7),
)
def test_other_sites_are_refused(
    ask: Ask, headers: dict[str, str], status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert ask("/api/about", headers=headers)[0] == status
    assert "refused" in caplog.text


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(ask: Ask) -> None:
    from_elsewhere = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    assert ask("/", headers=from_elsewhere)[0] == 200
    assert ask("/api/export.rev?record=patient", headers=from_elsewhere)[0] == 403


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"content-type": "application/json"}, 403),  # what a form or a simple request of another site can send
        ({"content-type": "text/plain", "x-edge-agent": "1"}, 415),
        ({**POST, "content-length": "999999999"}, 413),
        ({**POST, "content-length": "x"}, 411),
        ({**POST, "transfer-encoding": "chunked", "content-length": ""}, 411),
    ],
    ids=range(5),
)
def test_what_changes_something_must_be_the_pages_own(ask: Ask, headers: dict[str, str], status: int) -> None:
    body = json.dumps(label("token-csrf-1")).encode()
    got, _, _ = ask("/api/correct", "POST", headers, None if "content-length" in headers else body)
    assert got in (status, 400)
    assert json.loads(ask("/api/changes?record=patient&after=0")[2])["operations"] == []


def refused_without_its_header(server: PageServer, length: int, body: bytes) -> bytes:
    """All that comes back to a POST whose body follows its head in two parts. The second cannot be sent down a line that was closed."""
    head = f"POST /api/correct HTTP/1.1\r\nhost: 127.0.0.1:{server.port}\r\ncontent-type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=20) as line:
        line.sendall(f"{head}content-length: {length}\r\n\r\n".encode())
        for part in (body[:5], body[5:]):
            time.sleep(0.3)
            line.sendall(part)
        return b"".join(iter(lambda: line.recv(4096), b""))


@pytest.mark.parametrize("sent", [60_000, 10], ids=["whole", "never whole"])
def test_the_reason_of_a_refusal_arrives_though_the_body_was_still_on_its_way(
    serve: Callable[..., Any], recordings: Path, tmp_path: Path, sent: int
) -> None:
    library = Library(recordings, tmp_path / "state", models=False)
    answer = refused_without_its_header(serve(library=library), 60_000, b"x" * sent)
    library.close()
    assert answer.startswith(b"HTTP/1.1 403 ")
    assert answer.endswith(b'{"error": "header x-edge-agent wanted"}')


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"nul", b"[" * 60000, b'{"record": 5}', b'{"record": "patient"}'], ids=range(7)
)
def test_a_body_that_is_none_is_refused(ask: Ask, body: bytes) -> None:
    assert ask("/api/correct", "POST", POST, body)[0] in (400, 404)


def test_a_key_that_stands_twice_is_refused(ask: Ask) -> None:
    """Which of the two labels was meant, nobody can tell."""
    body = json.dumps(label("token-twice-1")).encode().replace(b'"label": "V"', b'"label": "N", "label": "V"')
    status, _, said = ask("/api/correct", "POST", POST, body)
    assert (status, json.loads(said)) == (400, {"error": "the key 'label' stands twice"})
    assert json.loads(ask("/api/changes?record=patient&after=0")[2])["operations"] == []


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"])
def test_other_methods_are_refused(ask: Ask, method: str) -> None:
    assert ask("/api/about", method)[0] == 405


def test_corrections_over_http(ask: Ask) -> None:
    status, said = posted(ask, "/api/correct", label("token-00001"))
    assert status == 200
    added = said["operation"]["thing"]
    again = posted(ask, "/api/correct", label("token-00001"))
    assert again[1] == said
    assert posted(ask, "/api/correct", label("token-00002"))[0] == 400  # there is one already
    later = {"act": "label", "id": added, "sample": 1000, "label": "S", "who": "bob"}
    assert posted(ask, "/api/correct", label("token-00003", **later))[0] == 409
    base = said["operation"]["seq"]
    assert posted(ask, "/api/correct", label("token-00004", **later, base=base))[0] == 200
    assert posted(ask, "/api/correct", label("token-00005", sample=10**9))[0] == 400
    beats = json.loads(ask("/api/beats?record=patient&first=0&end=2000")[2])["beats"]
    assert [(one["id"], one["label"], one["who"]) for one in beats] == [(added, "S", "bob")]
    step = {"record": "patient", "act": "undo", "who": "bob", "token": "token-00006"}
    assert posted(ask, "/api/step", step)[0] == 200
    beats = json.loads(ask("/api/beats?record=patient&first=0&end=2000")[2])["beats"]
    assert [one["label"] for one in beats] == ["V"]


def test_hostile_names_are_text_in_every_picture(tmp_path: Path, serve: Callable[..., Any]) -> None:
    folder = tmp_path / "in"
    name = "<img src=x onerror=alert(1)>&\"'"
    folder.mkdir()
    header = write_record(folder / "plain", seconds=5)
    text = header.read_text().replace(" ABP\n", " <svg onload=alert(1)>\n")
    (folder / f"{name}.hea").write_text(text)
    library = Library(folder, tmp_path / "state", models=False)
    try:
        ask = asker(serve(library=library))
        from urllib.parse import quote

        status, headers, body = ask(f"/api/strip.svg?record={quote(name)}&first=0&end=500")
        assert status == 200
        assert headers["content-type"].startswith("image/svg+xml")
        assert b"<img" not in body
        assert b"<svg onload" not in body
        import xml.etree.ElementTree as ET

        texts = [one.text for one in ET.fromstring(body).iter() if one.tag.endswith("text")]
        assert any(name in (text or "") for text in texts)
        assert any("<svg onload=alert(1)>" in (text or "") for text in texts)
    finally:
        library.close()


def test_links_out_of_the_folder_are_not_followed(tmp_path: Path) -> None:
    write_record(tmp_path / "outside", seconds=5)
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "x.hea").symlink_to(tmp_path / "outside.hea")
    (folder / "y").symlink_to(tmp_path, target_is_directory=True)
    library = Library(folder, tmp_path / "state", models=False)
    assert library.names() == {}
    library.close()


# -- beyond loopback -------------------------------------------------------------------------------------------------


def test_beyond_loopback_nothing_is_said_without_the_token(
    tmp_path: Path, recordings: Path, serve: Callable[..., Any]
) -> None:
    kept = Token(tmp_path / "token.json")
    secret = kept.make()
    assert secret not in (tmp_path / "token.json").read_text()
    assert stat.S_IMODE((tmp_path / "token.json").stat().st_mode) == 0o600
    library = Library(recordings, tmp_path / "state", models=False)
    try:
        ask = asker(serve(library=library, token=kept))
        for path in ("/api/about", "/api/open?record=patient", "/static/review.js", "/api/live", "/strips/x.svg"):
            assert ask(path)[0] == 401, path
        status, headers, _ = ask("/")
        assert (status, headers["location"]) == (303, "/login")
        assert ask("/login")[0] == 200
        assert posted(ask, "/api/correct", label("token-00001"))[0] == 401
        assert posted(ask, "/login", {"token": "wrong"})[0] == 403
        assert posted(ask, "/login", {"token": ["x"]})[0] == 403
        assert posted(ask, "/login", {"token": secret}, origin="http://evil.example")[0] == 403
        status, headers, _ = ask("/login", "POST", POST, json.dumps({"token": secret}).encode())
        assert status == 200
        cookie = headers["set-cookie"]
        for part in ("HttpOnly", "SameSite=Strict"):
            assert part in cookie
        session = {"cookie": cookie.split(";")[0]}
        assert ask("/api/about", headers=session)[0] == 200
        assert ask("/api/about", headers={"cookie": session["cookie"][:-1] + "x"})[0] == 401
        assert ask("/api/about", headers={**session, "origin": "http://evil.example"})[0] == 403
        kept.make()
        assert posted(ask, "/login", {"token": secret})[0] == 403  # the old one is void
        for _ in range(LOGINS_PER_MINUTE):
            last = posted(ask, "/login", {"token": "wrong"})[0]
        assert last == 429
    finally:
        library.close()


# -- many ---------------------------------------------------------------------------------------------------------------


def test_a_thousand_idle_connections_keep_nobody_out(ask: Ask) -> None:
    port = None
    open_ones: list[socket.socket] = []
    try:
        import inspect

        server = inspect.getclosurevars(ask).nonlocals["server"]
        port = server.port
        for _ in range(1000):
            one = socket.create_connection(("127.0.0.1", port), timeout=5)
            one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\n")  # and never an end
            open_ones.append(one)
            if len(open_ones) > 300:  # our own descriptors have a bound, too
                open_ones.pop(0).close()
        began = time.monotonic()
        for _ in range(5):
            assert ask("/api/about")[0] == 200
        assert 50 < server.connections <= MOST_CONNECTIONS
        assert time.monotonic() - began < 5
    finally:
        for one in open_ones:
            one.close()


def test_a_request_that_never_ends_is_cut_off(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    import inspect

    from edge_agent.review import serve as module

    monkeypatch.setattr(module, "IDLE_S", 0.3)
    server = inspect.getclosurevars(ask).nonlocals["server"]
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nX: ")
        assert wait_for(lambda: _closed(one), 5)


def _closed(one: socket.socket) -> bool:
    try:
        return one.recv(1) == b""
    except ConnectionResetError:
        return True


def test_an_address_that_is_taken_is_said_with_its_remedy(serve: Callable[..., Any], library: Library) -> None:
    server = serve(library=library)
    with pytest.raises(OutputError, match="cannot be listened on"):
        PageServer(None, "127.0.0.1", server.port)


def test_a_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no such folder and no such recording"):
        Library(tmp_path / "nothing", tmp_path / "state")
