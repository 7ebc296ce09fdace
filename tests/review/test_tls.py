"""The page over TLS, with a certificate of our own: the token, the session, live; and keys that do not fit."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from edge_agent.errors import OutputError
from edge_agent.review.guard import Token
from edge_agent.review.host import LiveHost, simulated
from edge_agent.review.serve import MOST_CONNECTIONS, MOST_GREETING, PageServer
from edge_agent.review.web import Page
from tests.review.conftest import wait_for

pytest.importorskip("cryptography")


def certificate(folder: Path, name: str = "page", passphrase: bytes | None = None) -> tuple[Path, Path]:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject).issuer_name(subject).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    cert_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    cert_file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    shut = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    key_file.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, shut))
    return cert_file, key_file


@pytest.fixture
def secure(tmp_path: Path) -> Iterator[tuple[PageServer, str, Path]]:
    """A live page over TLS, its token and its certificate."""
    cert, key = certificate(tmp_path)
    token = Token(tmp_path / "token.json")
    secret = token.make()
    host = LiveHost(simulated(1), "d")
    page = Page(library=None, feed=host.feed, token=token, tls=True)
    server = PageServer(page.guard, "127.0.0.1", 0, cert=cert, key=key)
    host.start()
    server.start()
    yield server, secret, cert
    server.stop(host.stop)
    page.close()


def asked(server: PageServer, cert: Path, path: str, method: str = "GET", body: Any = None, **headers: str) -> Any:
    link = http.client.HTTPSConnection(
        "localhost", server.port, timeout=20, context=ssl.create_default_context(cafile=str(cert))
    )
    said = {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        said |= {"content-type": "application/json", "x-edge-agent": "1"}
    link.request(method, path, None if body is None else json.dumps(body), said)
    return link, link.getresponse()


def test_token_session_and_live(secure: tuple[PageServer, str, Path]) -> None:
    server, secret, cert = secure
    assert server.url.startswith("https://")
    link, answer = asked(server, cert, "/api/live")
    assert answer.status == 401
    link.close()
    link, answer = asked(server, cert, "/login", "POST", {"token": "wrong"})
    assert answer.status == 403
    link.close()
    origin = f"https://localhost:{server.port}"
    link, answer = asked(server, cert, "/login", "POST", {"token": secret}, origin=origin)
    assert answer.status == 200
    cookie = answer.headers["set-cookie"]
    assert {"Secure", "HttpOnly", "SameSite=Strict"} <= {part.strip() for part in cookie.split(";")}
    link.close()
    link, answer = asked(server, cert, "/api/live", cookie=cookie.split(";")[0])
    raw = b""
    until = time.monotonic() + 15
    while raw.count(b"event: frame") < 3 and time.monotonic() < until:
        raw += answer.read1(65536)
    link.close()
    assert raw.count(b"event: frame") >= 3
    link, answer = asked(
        server, cert, "/api/about", cookie=cookie.split(";")[0], origin=origin.replace("https", "http")
    )
    assert answer.status == 403  # the same place without TLS is another origin
    link.close()


def test_what_is_not_tls_is_cut_off_and_keeps_nobody_out(secure: tuple[PageServer, str, Path]) -> None:
    server, _, cert = secure
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as one:
        one.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        with suppress(ConnectionResetError):
            assert b"HTTP" not in one.recv(1000)
    held = []
    try:
        for _ in range(300):  # they say nothing at all: TLS waits for its greeting
            held.append(socket.create_connection(("127.0.0.1", server.port), timeout=10))
        began = time.monotonic()
        link, answer = asked(server, cert, "/login")
        assert answer.status == 200
        link.close()
        assert time.monotonic() - began < 5
        wait_for(lambda: len(server._socket.greeting) <= MOST_GREETING, 5)
        assert server.connections <= MOST_CONNECTIONS
        closed = sum(_is_closed(one) for one in held)
        assert closed >= 300 - MOST_GREETING - 1
    finally:
        for one in held:
            one.close()


def _is_closed(one: socket.socket) -> bool:
    one.settimeout(0.05)
    try:
        return one.recv(1) == b""
    except TimeoutError:
        return False
    except OSError:
        return True


def _mismatch(folder: Path) -> tuple[Path, Path]:
    return certificate(folder)[0], certificate(folder, "other")[1]


def _nothing_there(folder: Path) -> tuple[Path, Path]:
    return folder / "none.pem", certificate(folder)[1]


def _no_pem(folder: Path) -> tuple[Path, Path]:
    cert, key = certificate(folder)
    cert.write_text("no certificate\n")
    return cert, key


def _swapped(folder: Path) -> tuple[Path, Path]:
    cert, key = certificate(folder)
    return key, cert


def _shut(folder: Path) -> tuple[Path, Path]:
    return certificate(folder, passphrase=b"secret")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_mismatch, r"other\.key is not the key of .*page\.pem"),
        (_nothing_there, r"none\.pem: No such file"),
        (_no_pem, "no certificate and key in PEM"),
        (_swapped, "no certificate and key in PEM"),
        (_shut, r"page\.key: has a passphrase"),
    ],
    ids=["mismatch", "missing", "no-pem", "swapped", "passphrase"],
)
def test_keys_that_do_not_fit_are_said_in_a_line(
    spoil: Callable[[Path], tuple[Path, Path]], message: str, tmp_path: Path
) -> None:
    cert, key = spoil(tmp_path)
    with pytest.raises(OutputError, match=message) as caught:
        PageServer(None, "127.0.0.1", 0, cert=cert, key=key)
    assert caught.value.remedy
    assert "\n" not in caught.value.what
