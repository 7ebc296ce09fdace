"""Ways to the broker, each with a real mosquitto: TLS and its refusals, websockets, credentials, and a rival of the same name."""

from __future__ import annotations

import logging
import socket
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config import MqttConfig, TlsConfig
from edge_agent.errors import OutputError
from edge_agent.outputs.mqtt import MqttPublisher
from tests.outputs.test_mqtt import DEVICE, gap
from tests.spine import free_port, release, retained_now, running_broker, wait_for

PASSWORD = "correct-horse-battery"


@pytest.fixture
def publishers() -> Iterator[Callable[..., MqttPublisher]]:
    made: list[MqttPublisher] = []

    def make(port: int, **settings: Any) -> MqttPublisher:
        made.append(MqttPublisher(MqttConfig.model_validate({"host": "localhost", "port": port} | settings), DEVICE))
        return made[-1]

    yield make
    for publisher in made:
        publisher.stop(1.0)
        release(publisher.link._client)


@pytest.fixture(scope="session")
def keys(program: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority, a certificate of the broker for localhost, one of an agent, and a stranger's authority."""
    folder = tmp_path_factory.mktemp("keys")
    openssl = program("openssl")

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    for authority in ("ca", "stranger"):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
            "-subj", f"/CN={authority}", "-keyout", f"{authority}.key", "-out", f"{authority}.pem",
            "-addext", "keyUsage=critical,keyCertSign")  # fmt: skip
    for name, subject in (("broker", "localhost"), ("elsewhere", "elsewhere.example"), ("agent", "agent")):
        (folder / "ext").write_text(f"subjectAltName=DNS:{subject}\n")
        run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", f"/CN={subject}",
            "-keyout", f"{name}.key", "-out", f"{name}.csr")  # fmt: skip
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial",
            "-days", "2", "-out", f"{name}.pem", "-extfile", "ext")  # fmt: skip
    return folder


def tls_lines(keys: Path, name: str = "broker", *more: str) -> list[str]:
    return [f"cafile {keys}/ca.pem", f"certfile {keys}/{name}.pem", f"keyfile {keys}/{name}.key", *more]


def delivered(publisher: MqttPublisher) -> bool:
    publisher.start()
    wait_for(lambda: publisher.connected, f"the connection; the link says {publisher.link.state}")
    publisher.event(gap(1))
    return bool(wait_for(lambda: publisher.counters.published and publisher.waiting == 0, "the message to arrive"))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_tls_with_the_right_authority(
    program: Callable[[str], str], publishers: Callable[..., MqttPublisher], keys: Path, tmp_path: Path, protocol: str
) -> None:
    with running_broker(program("mosquitto"), tmp_path, lines=tls_lines(keys)) as broker:
        assert delivered(publishers(broker.port, tls={"ca_file": keys / "ca.pem"}, protocol=protocol))


# paho leaves the socket of a failed handshake to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize(
    ("name", "authority"), [("broker", "stranger"), ("elsewhere", "ca")], ids=["unknown authority", "another's name"]
)
def test_a_broker_that_cannot_prove_itself_gets_nothing(
    program: Callable[[str], str],
    publishers: Callable[..., MqttPublisher],
    keys: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    name: str,
    authority: str,
) -> None:
    caplog.set_level(logging.INFO)
    with running_broker(program("mosquitto"), tmp_path, lines=tls_lines(keys, name)) as broker:
        publisher = publishers(broker.port, tls={"ca_file": keys / f"{authority}.pem"})
        publisher.start()
        wait_for(lambda: "is not to be trusted" in caplog.text, "the distrust in the log")
        assert not publisher.connected
        assert publisher.health().state.startswith("untrusted")
        assert "cannot be reached" not in caplog.text
        if name == "elsewhere":  # and with the name not checked, by the user's own will, it works
            assert delivered(publishers(broker.port, tls={"ca_file": keys / "ca.pem", "check_name": False}))


def test_a_broker_that_wants_a_certificate_of_the_agent(
    program: Callable[[str], str], publishers: Callable[..., MqttPublisher], keys: Path, tmp_path: Path
) -> None:
    lines = tls_lines(keys, "broker", "require_certificate true")
    with running_broker(program("mosquitto"), tmp_path, lines=lines) as broker:
        bare = publishers(broker.port, tls={"ca_file": keys / "ca.pem"})
        bare.start()
        own = {"cert_file": keys / "agent.pem", "key_file": keys / "agent.key"}
        assert delivered(publishers(broker.port, tls={"ca_file": keys / "ca.pem"} | own))
        assert not bare.connected


def test_keys_that_are_none_are_refused_in_one_line(keys: Path, tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("not a key")
    for tls in (
        TlsConfig(ca_file=junk),
        TlsConfig(ca_file=keys / "ca.pem", cert_file=keys / "agent.pem", key_file=keys / "broker.key"),
        TlsConfig(ca_file=tmp_path / "gone.pem"),
    ):
        with pytest.raises(OutputError, match=r"mqtt\.tls: .* cannot be used"):
            MqttPublisher(MqttConfig(tls=tls), DEVICE)


def test_websockets(program: Callable[[str], str], publishers: Callable[..., MqttPublisher], tmp_path: Path) -> None:
    # mosquitto 2.0 wants a plain listener, too.
    lines = ["protocol websockets", f"listener {free_port()} 127.0.0.1"]
    with running_broker(program("mosquitto"), tmp_path, lines=lines) as broker:
        assert delivered(publishers(broker.port, transport="websockets"))


def test_a_password_from_a_systemd_credential(
    program: Callable[[str], str],
    publishers: Callable[..., MqttPublisher],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = {"username": "edge", "password_credential": "mqtt"}
    with pytest.raises(OutputError, match="systemd credential mqtt: the password cannot be read"):
        publishers(1883, **settings)
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "mqtt").write_text(PASSWORD + "\n", encoding="utf-8")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    with running_broker(program("mosquitto"), tmp_path, passwords={"edge": PASSWORD}) as broker:
        assert delivered(publishers(broker.port, **settings))


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_a_rival_of_the_same_name_is_said(
    program: Callable[[str], str],
    publishers: Callable[..., MqttPublisher],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    protocol: str,
) -> None:
    caplog.set_level(logging.INFO)
    with running_broker(program("mosquitto"), tmp_path) as broker:
        for _ in range(2):
            publishers(broker.port, protocol=protocol).start()
        wait_for(lambda: "another device.id" in caplog.text, "the remedy in the log")
    assert f"'edge-agent-{DEVICE}'" in caplog.text


@pytest.mark.parametrize("protocol", ["3.1.1", "5"])
def test_one_message_that_the_broker_does_not_take_keeps_no_other(
    program: Callable[[str], str], publishers: Callable[..., MqttPublisher], tmp_path: Path, protocol: str
) -> None:
    """On 5 the broker says how long a message may be; on 3.1.1 it cuts the connection, again and again."""
    with running_broker(program("mosquitto"), tmp_path, lines=["max_packet_size 2000"]) as broker:
        publisher = publishers(broker.port, protocol=protocol)
        publisher.retain(f"edge-agent/{DEVICE}/bridge/info", b"x" * 3000)
        publisher.retain(f"edge-agent/{DEVICE}/bed/availability", b'{"state":"online"}')
        for number in range(5):
            publisher.event(gap(number))
        publisher.start()
        wait_for(lambda: publisher.counters.refused == 1, "the long one to be given up", 90)
        wait_for(lambda: publisher.connected and not publisher._busy, "all others to be acknowledged", 30)
        assert f"edge-agent/{DEVICE}/bed/availability" in retained_now(broker.port)
        assert publisher.lost == 0


def test_a_refused_message_is_counted_and_no_delivery(
    program: Callable[[str], str],
    publishers: Callable[..., MqttPublisher],
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "acl").write_text(f"topic readwrite edge-agent/{DEVICE}/bridge/#\n")
    with running_broker(program("mosquitto"), tmp_path, lines=[], after=[f"acl_file {tmp_path}/acl"]) as broker:
        publisher = publishers(broker.port, protocol="5")
        publisher.start()
        for number in range(3):
            publisher.event(gap(number))
        # mosquitto 2.0.11 says no and then hangs up; whoever comes back is told no again, until all three were.
        wait_for(lambda: publisher.counters.refused == 3, "the refusals")
        wait_for(lambda: publisher.connected and publisher.waiting == 0, "a connection without them", 60)
        assert publisher.health().refused == 3
        assert "the broker refused it" in caplog.text


def test_what_is_no_broker_is_said(publishers: Callable[..., MqttPublisher], caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def hang_up() -> None:
            for _ in range(2):
                with server.accept()[0] as client:
                    client.recv(100)
                    client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        thread = threading.Thread(target=hang_up, daemon=True)
        thread.start()
        publisher = publishers(server.getsockname()[1], host="127.0.0.1")
        publisher.start()
        wait_for(lambda: "is it an MQTT broker?" in caplog.text, "the remedy in the log")
        assert not publisher.connected
