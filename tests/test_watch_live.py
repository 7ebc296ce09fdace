"""``edge-agent watch`` as a process against a real mosquitto: what it shows, survives, and ends with."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent import events
from edge_agent.config import PASSWORD_VARIABLE
from tests.spine import (
    PATIENCE_S,
    ROOT,
    Broker,
    base_config,
    free_port,
    release,
    running_agent,
    running_broker,
    wait_for,
)
from tests.test_watch import alarm, header, payload_of, printable, samples, topic_of
from tests.watchers import Watcher

PASSWORD = "correct-horse-battery"
Program = Callable[[str], str]


@contextlib.contextmanager
def publishing(port: int, *, username: str | None = None) -> Iterator[Callable[..., None]]:
    """``publish(topic, payload)``, acknowledged."""
    client = paho.Client(CallbackAPIVersion.VERSION2)
    if username is not None:
        client.username_pw_set(username, PASSWORD)
    client.connect("127.0.0.1", port)
    client.loop_start()

    def publish(topic: str, payload: bytes | events.Message, **how: Any) -> None:
        data = payload.payload() if isinstance(payload, events.Message) else payload
        client.publish(topic, data, qos=1, **how).wait_for_publish(PATIENCE_S)

    try:
        yield publish
    finally:
        client.disconnect()
        client.loop_stop()
        release(client)


ALARM = topic_of("alarm")


# -- showing -----------------------------------------------------------------------------------------------------------


def test_what_a_daemon_says_is_shown(broker: Broker, tmp_path: Path, watching: Callable[..., Watcher]) -> None:
    """The real agent at the other end: no line of its is unreadable, and nothing is missing."""
    (tmp_path / "script.toml").write_text(
        '[[episodes]]\nrhythm = "sinus"\nduration_s = 20\n[[episodes]]\nrhythm = "asystole"\nduration_s = 8\n'
        '[[episodes]]\nrhythm = "sinus"\nduration_s = 20\n',
        encoding="utf-8",
    )
    watch = watching(broker.port, "--all", "--until", "alarm:asystole:cleared").ready()
    stream = '[[stream]]\nname = "bed"\n[stream.source]\ntype = "simulated"\nscript = "script.toml"\nspeed = 10\n'
    with running_agent(tmp_path, base_config(broker.port, stream)):
        assert watch.status() == 0
    lines = watch.out.splitlines()
    assert "unreadable" not in watch.out
    assert "missing" not in watch.out
    for kind in ("ALARM", "beat", "verdict", "VITALS", "availability", "state", "info", "health"):
        assert any(f"  {kind} " in line for line in lines), kind
    assert any("asystole raised" in line for line in lines)
    assert printable(watch.out)


def test_lines_for_a_pipe_and_for_a_terminal(broker: Broker, tmp_path: Path, watching: Callable[..., Watcher]) -> None:
    plain = watching(broker.port).ready()
    primary, secondary = pty.openpty()
    command = [sys.executable, "-m", "edge_agent", "watch", "--host", "127.0.0.1", "--port", str(broker.port)]
    shown: dict[str, bytes] = {}
    variables = {key: value for key, value in os.environ.items() if key != "NO_COLOR"}
    for name, more in (("colour", {}), ("none", {"NO_COLOR": "1"})):
        environment = {**variables, "PYTHONPATH": str(ROOT), "TERM": "xterm", **more}
        with (tmp_path / "err").open("wb") as err:
            process = subprocess.Popen([*command, "--until", "alarm"], stdout=secondary, stderr=err, env=environment)
        wait_for(lambda: b"watching" in (tmp_path / "err").read_bytes(), "the subscription")
        with publishing(broker.port) as publish:
            publish(ALARM, alarm(len(shown)))
        assert process.wait(PATIENCE_S) == 0
        text = b""
        while select.select([primary], [], [], 0.3)[0]:
            text += os.read(primary, 65536)
        shown[name] = text
    os.close(primary)
    os.close(secondary)
    assert b"\x1b[97;41m" in shown["colour"]
    assert b"asystole raised" in shown["colour"]
    assert b"asystole raised" in shown["none"]
    assert b"\x1b[97;41m" not in shown["none"]
    assert "\x1b" not in plain.shows("asystole raised", 2)
    assert plain.interrupt() == 130
    assert "2 messages" in plain.err


def test_hostile_messages_are_a_line_each(broker: Broker, watching: Callable[..., Watcher]) -> None:
    watch = watching(broker.port, "--all").ready()
    huge = payload_of(alarm(), evidence={"x": "x" * (8 << 20)})
    evil = [b"\xff\xfe", b"[" * 100_000, b"", b'{"schema":"edge-agent/alarm/9"}', payload_of(alarm(), stream="x"), huge]
    with publishing(broker.port) as publish:
        for payload in evil:
            publish(ALARM, payload)
        publish(ALARM, payload_of(alarm(), kind="\x1b[2J\r\nfake"))
        publish(ALARM, alarm(1))
    out = watch.shows("asystole raised")
    assert out.count("unreadable") == len(evil)
    assert printable(out)
    assert len(out.splitlines()) == len(evil) + 2
    assert watch.interrupt() == 130
    assert f"{len(evil)} unreadable" in watch.err


def test_retained_news_is_marked(broker: Broker, watching: Callable[..., Watcher]) -> None:
    with publishing(broker.port) as publish:
        publish(topic_of("availability"), payload_of(samples()["availability"]), retain=True)
        watch = watching(broker.port).ready()
        assert "retained" in watch.shows("availability")
        publish(topic_of("availability"), payload_of(samples()["availability"], state="offline"), retain=True)
        assert "retained" not in watch.shows("offline").splitlines()[-1]


def test_gaps_and_repeats_are_told(broker: Broker, watching: Callable[..., Watcher]) -> None:
    watch = watching(broker.port, "--json").ready()
    with publishing(broker.port) as publish:
        for seq in (5, 6, 6, 6, 10):
            publish(ALARM, alarm(seq))
        publish(ALARM, alarm(0, session="s2"))
        publish(topic_of("rhythm"), payload_of(samples()["rhythm"], seq=77))
    watch.shows("AFIB")
    lines = [json.loads(line) for line in watch.out.splitlines()]
    assert [line["message"]["seq"] for line in lines if "message" in line] == [5, 6, 10, 0, 77]
    (gap,) = [line["gap"] for line in lines if "gap" in line]
    assert (gap["topic"], gap["missing"], gap["after"]) == (ALARM, 3, 6)
    watch.interrupt()
    assert "2 repeats dropped, 3 missing in 1 gaps" in watch.err


# -- for scripts ---------------------------------------------------------------------------------------------------------


def test_until_and_timeout(broker: Broker, watching: Callable[..., Watcher]) -> None:
    seen = watching(broker.port, "--until", "alarm:asystole", "--timeout", "60", "--kind", "rhythm").ready()
    never = watching(broker.port, "--until", "alarm:asystole", "--stream", "other", "--timeout", "3").ready()
    while_ = watching(broker.port, "--timeout", "3").ready()
    with publishing(broker.port) as publish:
        publish(ALARM, alarm(0, kind="bradycardia", priority="medium"))
        publish(ALARM, alarm(1, state="cleared"))
        time.sleep(0.5)
        assert seen.process.poll() is None
        publish(ALARM, alarm(2))
    assert seen.status() == 0
    assert "asystole raised" in seen.out
    assert "bradycardia" not in seen.out
    assert never.status() == 3
    assert never.out == ""
    assert while_.status() == 0
    assert len(while_.out.splitlines()) == 3


def test_until_is_content_with_what_is_retained(broker: Broker, watching: Callable[..., Watcher]) -> None:
    with publishing(broker.port) as publish:
        publish(topic_of("state"), b'{"state":"online"}', retain=True)
    assert watching(broker.port, "--until", "state:online", "--timeout", "20").status() == 0


def test_timeout_holds_without_a_broker(watching: Callable[..., Watcher]) -> None:
    began = time.monotonic()
    watch = watching(free_port(), "--until", "alarm", "--timeout", "1.5")
    assert watch.status() == 3
    assert 1.5 < time.monotonic() - began < 10
    assert watch.err.count("cannot be reached") == 1


def test_a_command_per_alarm(broker: Broker, tmp_path: Path, watching: Callable[..., Watcher]) -> None:
    act = tmp_path / "act.sh"
    act.write_text(
        f'#!/bin/sh\necho noise\ncat > /dev/null\nsleep 0.4\necho "$EDGE_AGENT_KIND $EDGE_AGENT_STATE $1" >> {tmp_path}/log\n',
        encoding="utf-8",
    )
    act.chmod(0o755)
    until = "alarm:asystole:cleared"
    watch = watching(broker.port, "--priority", "high", "--exec", f"{act} loud", "--until", until, "--json").ready()
    with publishing(broker.port) as publish:
        publish(ALARM, alarm(0))
        publish(ALARM, alarm(1, kind="tachycardia", priority="medium"))
        publish(topic_of("rhythm"), payload_of(samples()["rhythm"]))
        publish(ALARM, alarm(2, state="cleared"))
    assert watch.status() == 0  # and the last alarm's command has run
    assert sorted((tmp_path / "log").read_text().splitlines()) == ["asystole cleared loud", "asystole raised loud"]
    assert "noise" not in watch.out
    assert len([json.loads(line) for line in watch.out.splitlines()]) == 2


def test_a_reader_that_has_gone_is_no_fault(broker: Broker, tmp_path: Path) -> None:
    command = f"{sys.executable} -m edge_agent watch --host 127.0.0.1 --port {broker.port} 2>{tmp_path}/err | head -1"
    process = subprocess.Popen(
        ["sh", "-c", command], env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE
    )
    (tmp_path / "err").touch()
    wait_for(lambda: "watching" in (tmp_path / "err").read_text(), "the subscription")
    with publishing(broker.port) as publish:
        for seq in range(20):
            publish(ALARM, alarm(seq))
            time.sleep(0.02)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert b"asystole" in out
    assert "Traceback" not in (tmp_path / "err").read_text()


# -- the connection ------------------------------------------------------------------------------------------------------


def test_a_broker_that_goes_and_comes_back(broker: Broker, watching: Callable[..., Watcher]) -> None:
    watch = watching(broker.port).ready()
    broker.stop()
    watch.says("lost the broker")
    watch.says("cannot be reached")
    time.sleep(2.5)
    broker.start()
    assert "what came meanwhile is lost (see --client-id)" in watch.says("back at")
    assert watch.err.count("cannot be reached") == 1  # said once, not at every attempt
    with publishing(broker.port) as publish:
        publish(ALARM, alarm())
    watch.shows("asystole raised")
    assert watch.interrupt() == 130


def test_a_broker_that_is_not_there_yet(program: Program, tmp_path: Path, watching: Callable[..., Watcher]) -> None:
    absent = Broker(program("mosquitto"), tmp_path)
    watch = watching(absent.port)
    watch.says("cannot be reached (Connection refused)")
    try:
        absent.start()
        watch.ready()
        with publishing(absent.port) as publish:
            publish(ALARM, alarm())
        watch.shows("asystole raised")
    finally:
        absent.stop()


def test_no_alarm_is_missed_by_a_session_that_is_kept(broker: Broker, watching: Callable[..., Watcher]) -> None:
    """Killed, ended by Ctrl-C, ended by --until in the midst of a burst: the next one goes on where it stopped."""
    name = ("--client-id", "nurses-desk", "--json")
    first = watching(broker.port, *name).ready()
    with publishing(broker.port) as publish:
        publish(ALARM, alarm(0))
        first.shows("asystole")
        first.process.kill()
        first.process.wait()
        publish(ALARM, alarm(1))
        second = watching(broker.port, *name).ready()
        second.says("kept the session")
        second.shows("asystole")
        assert second.interrupt() == 130
        for seq in range(2, 40):
            publish(ALARM, alarm(seq, kind="tachycardia" if seq in (12, 24) else "asystole"))
        watches = [first, second]
        for _ in range(2):
            watches.append(watching(broker.port, *name, "--until", "alarm:tachycardia"))
            assert watches[-1].status() == 0
        watches.append(watching(broker.port, *name).ready())
        watches[-1].shows('"seq": 39')
    shown = [[json.loads(line)["message"]["seq"] for line in one.out.splitlines()] for one in watches]
    everything = [number for numbers in shown for number in numbers]
    assert list(dict.fromkeys(everything)) == list(
        range(40)
    )  # a kill may come before the acknowledgement, and then it repeats
    assert [numbers[-1] for numbers in shown] == [0, 1, 12, 24, 39]
    assert shown[3] + shown[4] == list(range(13, 40))  # an end does not: neither twice, nor never


def test_a_refusal_is_not_an_absence(program: Program, tmp_path: Path, watching: Callable[..., Watcher]) -> None:
    (tmp_path / "wrong").write_text("wrong-password\n", encoding="utf-8")
    (tmp_path / "right").write_text(PASSWORD + "\n", encoding="utf-8")
    with running_broker(program("mosquitto"), tmp_path, passwords={"desk": PASSWORD}) as broker:
        anonymous = watching(broker.port)
        wrong = watching(broker.port, "--username", "desk", "--password-file", str(tmp_path / "wrong"))
        right = watching(
            broker.port, "--username", "desk", "--password-file", str(tmp_path / "right"), "--json"
        ).ready()
        variable = watching(broker.port, "--username", "desk", **{PASSWORD_VARIABLE: PASSWORD}).ready()
        for refused in (anonymous, wrong):
            assert refused.status() == 1
            assert "refused the connection: Not authorized" in refused.err
            assert "cannot be reached" not in refused.err
        with publishing(broker.port, username="desk") as publish:
            publish(ALARM, alarm())
        right.shows("asystole")
        variable.shows("asystole")
        assert (right.interrupt(), variable.interrupt()) == (130, 130)
        everything = "".join(one.out + one.err for one in (anonymous, wrong, right, variable))
    assert PASSWORD not in everything
    assert "wrong-password" not in everything


def test_who_was_let_in_before_is_not_sent_away_by_a_restart(
    program: Program, tmp_path: Path, watching: Callable[..., Watcher]
) -> None:
    with running_broker(program("mosquitto"), tmp_path, passwords={"desk": PASSWORD}) as broker:
        watch = watching(broker.port, "--username", "desk", **{PASSWORD_VARIABLE: PASSWORD}).ready()
        broker.stop()
        secret = tmp_path / "passwords"
        good = secret.read_bytes()
        secret.write_bytes(b"")
        secret.chmod(0o600)
        broker.start()
        watch.says("refused the connection")
        broker.stop()
        secret.write_bytes(good)
        broker.start()
        watch.says("back at")


def listens(port: int) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def certificates(openssl: str, folder: Path) -> None:
    """An authority, and a certificate of it for 127.0.0.1."""

    def run(*arguments: str) -> None:
        subprocess.run([openssl, *arguments], cwd=folder, check=True, capture_output=True)

    new = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2")
    run(*new, "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=test authority")
    run(*new, "-keyout", "other.key", "-out", "other.pem", "-subj", "/CN=another authority")
    signed = ("-CA", "ca.pem", "-CAkey", "ca.key", "-addext", "subjectAltName=IP:127.0.0.1")
    plain = ("-addext", "basicConstraints=critical,CA:FALSE")
    run(*new, *signed, *plain, "-keyout", "server.key", "-out", "server.pem", "-subj", "/CN=broker")


def test_tls(program: Program, tmp_path: Path, watching: Callable[..., Watcher]) -> None:
    certificates(program("openssl"), tmp_path)
    port = free_port()
    lines = [f"listener {port} 127.0.0.1", f"certfile {tmp_path}/server.pem", f"keyfile {tmp_path}/server.key"]
    lines += ["allow_anonymous true", *(["user root"] if os.geteuid() == 0 else [])]
    (tmp_path / "tls.conf").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with subprocess.Popen(
        [program("mosquitto"), "-c", str(tmp_path / "tls.conf")], stderr=subprocess.DEVNULL
    ) as broker:
        try:
            wait_for(lambda: listens(port), "the broker")
            good = watching(port, "--ca", str(tmp_path / "ca.pem"), "--timeout", "2").ready()
            stranger = watching(port, "--ca", str(tmp_path / "other.pem"))
            name = watching(port, "--host", "localhost", "--ca", str(tmp_path / "ca.pem"))
            clear = watching(port, "--timeout", "3")
            assert good.status() == 0
            for refused in (stranger, name):
                assert refused.status() == 1
                assert "its certificate is not accepted" in refused.err
            assert clear.status() == 0
            assert "does it want --tls?" in clear.err
        finally:
            broker.terminate()


def test_tls_with_a_broker_that_speaks_none(broker: Broker, watching: Callable[..., Watcher]) -> None:
    watch = watching(broker.port, "--tls", "--timeout", "3", "--until", "alarm")
    assert watch.status() in (1, 3)
    assert "is this its port for TLS?" in watch.err


def test_a_broker_that_answers_nothing(watching: Callable[..., Watcher]) -> None:
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(5)
        watch = watching(deaf.getsockname()[1], "--timeout", "12", "--until", "alarm")
        watch.says("cannot be reached (no answer within 10 s)")
        assert watch.status() == 3


def test_vitals_of_many_streams(broker: Broker, watching: Callable[..., Watcher]) -> None:
    """A busy ward is read as fast as it comes."""
    watch = watching(broker.port, "--kind", "beat", "--json").ready()
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    for seq in range(3000):
        beat = events.Beat(**header(seq), channel="II", confidence=1.0, rr_ms=None)
        info = client.publish(topic_of("beat"), beat.payload(), qos=1)
    info.wait_for_publish(PATIENCE_S)
    client.disconnect()
    client.loop_stop()
    release(client)
    watch.shows('"seq": 2999')
    assert len(watch.out.splitlines()) == 3000
