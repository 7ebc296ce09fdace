"""Fetching over HTTPS from a server of our own: a good one, and all kinds of bad ones."""

from __future__ import annotations

import hashlib
import http.server
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.errors import ArtifactError, EdgeAgentError, SourceError
from edge_agent.inference.installed.archive import pack
from edge_agent.inference.installed.download import download
from tests.inference.tiny import write

CONTENT = bytes(range(256)) * 1000


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.asked.append(self.path)
        what, _, rest = self.path.partition("?")[0].strip("/").partition("/")
        if what == "good":
            self._send(server.content)
        elif what == "to":
            self.send_response(302)
            self.send_header("Location", rest.replace("@", f"localhost:{server.server_address[1]}"))
            self.end_headers()
        elif what == "round":
            self.send_response(302)
            self.send_header("Location", f"/round/{int(rest) + 1}")
            self.end_headers()
        elif what == "large":
            self._send(b"", promised=1 << 40)
        elif what == "endless":
            self.send_response(200)
            self.end_headers()
            while not server.ending.is_set():
                try:
                    self.wfile.write(bytes(1 << 16))
                except OSError:
                    return
        elif what == "short":
            self._send(CONTENT[:1000], promised=len(CONTENT))
        elif what == "silent":
            server.ending.wait(20)
        elif what == "drip":
            self.send_response(200)
            self.end_headers()
            while not server.ending.wait(0.05):
                try:
                    self.wfile.write(b"x")
                except OSError:
                    return
        else:
            self.send_error(404)

    def _send(self, content: bytes, promised: int | None = None) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(content) if promised is None else promised))
        self.end_headers()
        self.wfile.write(content)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, certificate: Path | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[str] = []
        self.content = CONTENT
        self.ending = threading.Event()
        self._tls: ssl.SSLContext | None = None
        if certificate is not None:
            self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._tls.load_cert_chain(certificate)

    def finish_request(self, request: object, client_address: object) -> None:
        assert isinstance(request, socket.socket)
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        try:
            with self._tls.wrap_socket(request, server_side=True) as secure:
                super().finish_request(secure, client_address)
        except OSError:
            pass

    @property
    def port(self) -> int:
        return int(self.server_address[1])


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Self-signed: each is its own authority."""
    folder = tmp_path_factory.mktemp("certificates")
    made = {}
    for name, subject, days in (("good", "localhost", "2"), ("other", "example.org", "2")):
        path = folder / f"{name}.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
                *("-keyout", str(folder / f"{name}.key"), "-out", str(path), "-days", days),
                *("-subj", f"/CN={subject}", "-addext", f"subjectAltName=DNS:{subject}"),
            ],
            capture_output=True,
            check=True,
        )
        both = folder / f"{name}.both.pem"
        both.write_bytes(path.read_bytes() + (folder / f"{name}.key").read_bytes())
        made[name], made[f"{name}.both"] = path, both
    return made


@pytest.fixture
def serving(certificates: dict[str, Path]) -> Iterator[Callable[[str | None], Server]]:
    servers: list[Server] = []

    def start(name: str | None) -> Server:
        server = Server(certificates[f"{name}.both"] if name else None)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.ending.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def server(serving: Callable[[str | None], Server]) -> Server:
    return serving("good")


@pytest.fixture
def fetch(certificates: dict[str, Path], tmp_path: Path) -> Callable[..., bytes]:
    def go(url: str, **options: object) -> bytes:
        into = tmp_path / "fetched"
        options.setdefault("ca_file", certificates["good"])
        try:
            download(url, into, **options)  # type: ignore[arg-type]
        except EdgeAgentError:
            assert not into.exists()
            raise
        data = into.read_bytes()
        into.unlink()
        return data

    return go


def test_a_good_one(server: Server, fetch: Callable[..., bytes]) -> None:
    url = f"https://localhost:{server.port}"
    assert fetch(f"{url}/good") == CONTENT
    digest = hashlib.sha256(CONTENT).hexdigest()
    assert fetch(f"{url}/good", sha256=digest) == CONTENT
    assert fetch(f"{url}/to/https://@/good", sha256=digest.upper()) == CONTENT
    assert fetch(f"{url}/to/https://@/to/https://@/good") == CONTENT


def test_another_file_than_was_meant(server: Server, fetch: Callable[..., bytes]) -> None:
    with pytest.raises(ArtifactError, match=r"its SHA-256 is [0-9a-f]{12}\.\.\., 000000000000\.\.\. was wanted"):
        fetch(f"https://localhost:{server.port}/good", sha256="0" * 64)
    for bad in ("", "12", "x" * 64):
        with pytest.raises(ArtifactError, match="64 hexadecimal digits"):
            fetch(f"https://localhost:{server.port}/good", sha256=bad)


def test_a_server_that_cannot_prove_who_it_is(
    server: Server, serving: Callable[[str | None], Server], fetch: Callable[..., bytes], certificates: dict[str, Path]
) -> None:
    with pytest.raises(SourceError, match=r"could not prove who it is[\s\S]*--ca-file"):
        fetch(f"https://localhost:{server.port}/good", ca_file=None)
    other = serving("other")
    with pytest.raises(SourceError, match="could not prove who it is"):
        fetch(f"https://localhost:{other.port}/good", ca_file=certificates["other"])  # its name is another
    assert server.asked == other.asked == []


def test_nothing_but_https(
    server: Server, serving: Callable[[str | None], Server], fetch: Callable[..., bytes], tmp_path: Path
) -> None:
    plain = serving(None)
    for url in (
        f"http://localhost:{plain.port}/good",
        f"file://{tmp_path}/x",
        "ftp://localhost/x",
        "https://",
        "https:///x",
    ):
        with pytest.raises(SourceError, match="HTTPS alone"):
            fetch(url)
    for target in (f"http://localhost:{plain.port}/good", "file:///etc/passwd", "ftp://localhost/x"):
        with pytest.raises(SourceError, match=r"which is not HTTPS|is not allowed"):
            fetch(f"https://localhost:{server.port}/to/{target}")
    assert plain.asked == []
    with pytest.raises(SourceError):  # a server that speaks no TLS at all
        fetch(f"https://localhost:{plain.port}/good")
    with pytest.raises(SourceError, match="not a URL"):
        fetch("https://localhost:99999/x")


def test_redirects_come_to_an_end(server: Server, fetch: Callable[..., bytes]) -> None:
    with pytest.raises(SourceError, match="HTTP 302"):
        fetch(f"https://localhost:{server.port}/round/0")
    assert len(server.asked) <= 7


def test_what_is_too_large_is_not_kept(server: Server, fetch: Callable[..., bytes]) -> None:
    with pytest.raises(SourceError, match="is 1099511627776 bytes; 1000000 are the most"):
        fetch(f"https://localhost:{server.port}/large", most_bytes=1_000_000)
    with pytest.raises(SourceError, match="goes on after 1000000 bytes"):
        fetch(f"https://localhost:{server.port}/endless", most_bytes=1_000_000)
    with pytest.raises(SourceError, match="broke off after 1000 of 256000"):
        fetch(f"https://localhost:{server.port}/short")


@pytest.mark.timeout(60)
def test_neither_silence_nor_drops_are_waited_for(server: Server, fetch: Callable[..., bytes]) -> None:
    began = time.monotonic()
    with pytest.raises(SourceError, match="silent for too long"):
        fetch(f"https://localhost:{server.port}/silent", silent_s=0.3)
    with pytest.raises(SourceError, match=r"not here after 0\.5 s"):
        fetch(f"https://localhost:{server.port}/drip", whole_s=0.5)
    assert time.monotonic() - began < 10


def test_what_is_not_there(server: Server, fetch: Callable[..., bytes], tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="HTTP 404"):
        fetch(f"https://localhost:{server.port}/nothing")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        with pytest.raises(SourceError, match="Connection refused"):
            fetch(f"https://localhost:{free.getsockname()[1]}/good")
    with pytest.raises(SourceError, match="not certificates in PEM"):
        fetch(f"https://localhost:{server.port}/good", ca_file=tmp_path / "nowhere.pem")


def test_secrets_in_a_url_are_not_repeated(server: Server, fetch: Callable[..., bytes]) -> None:
    with pytest.raises(SourceError) as caught:
        fetch(f"https://localhost:{server.port}/nothing?token=s3cret")
    assert "s3cret" not in str(caught.value)
    with pytest.raises(SourceError, match="user or password") as caught:
        fetch(f"https://me:s3cret@localhost:{server.port}/good")
    assert "s3cret" not in str(caught.value)


def test_a_model_from_the_network(
    server: Server, certificates: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command itself: fetched, verified, proved, installed; and nothing of another file."""
    pack(write(tmp_path), tmp_path / "tiny.edgemodel")
    server.content = (tmp_path / "tiny.edgemodel").read_bytes()
    digest = hashlib.sha256(server.content).hexdigest()
    store = tmp_path / "store"

    def install(sha256: str) -> int:
        url = f"https://localhost:{server.port}/good?token=s3cret"
        fixed = ["--ca-file", str(certificates["good"]), "--store", str(store)]
        return main(["models", "install", url, "--sha256", sha256, *fixed])

    assert install("0" * 64) == 1
    assert "000000000000... was wanted" in capsys.readouterr().err
    assert not store.exists()
    assert install(digest) == 0
    assert "tiny 1.0.0: installed" in capsys.readouterr().out
    assert (store / "tiny" / "1.0.0" / "model.tflite").is_file()
    server.content = server.content[:-30]
    assert install(hashlib.sha256(server.content).hexdigest()) == 1
    err = capsys.readouterr().err
    assert f"https://localhost:{server.port}/good: " in err
    assert "s3cret" not in err
