"""The examples of docs/consumers/, run as they stand against a real mosquitto. Only addresses and folders are put in."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import events
from edge_agent.schemas import schema
from tests.spine import ROOT, Broker, Listener, free_port, listening, wait_for
from tests.test_watch import alarm, payload_of, samples, topic_of
from tests.test_watch_live import PASSWORD, certificates, listens, publishing

FOLDER = ROOT / "docs" / "consumers"
ALARM = topic_of("alarm")
Program = Callable[[str], str]


@contextlib.contextmanager
def running(
    command: list[str], output: Path, *, stop: signal.Signals = signal.SIGKILL, **how: Any
) -> Iterator[subprocess.Popen[bytes]]:
    with output.open("ab") as out:
        process = subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT, **how)
    try:
        yield process
    finally:
        process.send_signal(stop)
        process.wait()


def example(name: str, **changes: str) -> str:
    """A file of the folder with these words in place of its own; each must have been there."""
    text = (FOLDER / name).read_text(encoding="utf-8")
    for old, new in changes.items():
        assert re.search(old, text, re.MULTILINE), f"{name} has no {old}"
        text = re.sub(old, lambda _, new=new: new, text, flags=re.MULTILINE)  # type: ignore[misc]
    return text


def commands() -> list[str]:
    """What the README says to type into a shell."""
    blocks = re.findall(r"```sh\n(.*?)```", (FOLDER / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def subscribers(more: str) -> list[list[str]]:
    return [
        shlex.split(line.split(">>")[0]) for line in commands() if line.startswith("mosquitto_sub") and more in line
    ]


# -- mosquitto_sub, Python -----------------------------------------------------------------------------------------------


def test_the_lines_for_people(broker: Broker, program: Program, tmp_path: Path) -> None:
    program("mosquitto_sub")
    lines = [line for line in subscribers("") if not any("$share" in word for word in line)]
    assert len(lines) == 4
    with contextlib.ExitStack() as stack, publishing(broker.port) as publish:
        for number, line in enumerate(lines):
            stack.enter_context(running([*line, "-p", str(broker.port)], tmp_path / f"out{number}"))
        kept = [str(tmp_path / f"out{number}") for number in range(4)]
        expected = [b"asystole", b"offline", b"heart_rate_per_min", b"asystole"]
        for path, word in zip(kept, expected, strict=True):

            def arrived(path: str = path, word: bytes = word) -> bool:
                publish(ALARM, alarm())
                publish(topic_of("state"), payload_of(samples()["state"]))
                publish(topic_of("vitals"), payload_of(samples()["vitals"]))
                return word in Path(path).read_bytes()

            wait_for(arrived, f"{word!r} in {path}")


def test_the_python_subscriber(broker: Broker, tmp_path: Path) -> None:
    (line,) = [shlex.split(line) for line in commands() if line.startswith("python ")]
    assert line[:4] == ["python", "subscriber.py", "localhost", "1883"]
    assert len([one for one in (FOLDER / "subscriber.py").read_text().splitlines() if one and one[0] not in '#"']) <= 25
    out = tmp_path / "out"
    command = [sys.executable, str(FOLDER / "subscriber.py"), "127.0.0.1", str(broker.port), line[4]]
    with publishing(broker.port) as publish:
        with running(command, out):
            wait_for(lambda: publish(ALARM, alarm(0)) or "asystole" in out.read_text(), "the first alarm")
        publish(ALARM, alarm(1, kind="bradycardia"))  # nobody runs now
        with running(command, out):
            wait_for(lambda: "bradycardia raised" in out.read_text(), "what came meanwhile")
            for seq in (1, 1, 5):
                publish(ALARM, alarm(seq, kind="tachycardia" if seq == 5 else "bradycardia"))
            wait_for(lambda: "tachycardia" in out.read_text(), "the last one")
            for seq in (3, 5, 3, 6):  # one of the three comes after all, late; the others are repeats
                publish(ALARM, alarm(seq, kind="hypotension" if seq == 6 else "lead_off"))
            wait_for(lambda: "hypotension" in out.read_text(), "the one after it")
            for seq in (900_000_000_000, 900_000_000_000):  # a count that nobody can keep a list of
                publish(ALARM, alarm(seq, kind="ecg_noise"))
            publish(ALARM, alarm(7, kind="hypertension", session="s2"))
            wait_for(lambda: "hypertension" in out.read_text(), "another session's")
    text = out.read_text()
    assert "Traceback" not in text
    assert text.count("bradycardia") == 1
    assert text.count("lead_off") == 1
    assert text.count("ecg_noise") == 1
    assert text.count("missing: ") == 2
    assert f"missing: 3 {ALARM}" in text


# -- Node-RED ------------------------------------------------------------------------------------------------------------


def node_red() -> str:
    found = os.environ.get("EDGE_AGENT_NODE_RED")
    if found is None:
        pytest.skip("EDGE_AGENT_NODE_RED names no Node-RED (npm install node-red)")
    return found


def test_the_node_red_flow_is_whole() -> None:
    flow = json.loads((FOLDER / "node-red-flow.json").read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in flow}
    assert len(nodes) == len(flow)
    for node in flow:
        for wires in node.get("wires", []):
            assert set(wires) <= set(nodes)
        assert node.get("broker", "ea-broker") in nodes or node["type"] == "mqtt-broker"
    assert nodes["ea-broker"]["cleansession"] is False
    assert nodes["ea-in"]["qos"] == "1"


def test_the_lights_of_a_killed_agent_go_out_with_its_session(program: Program) -> None:
    """The flow's own function, in node alone: an agent that was killed clears nothing."""
    flow = json.loads((FOLDER / "node-red-flow.json").read_text(encoding="utf-8"))
    nodes = {node["id"]: node for node in flow}
    assert nodes["ea-info"]["topic"] == "edge-agent/+/bridge/info"
    assert nodes["ea-info"]["wires"] == [["ea-light"]]

    def said(session: str, state: str, bed: str = "bed1") -> dict[str, Any]:
        payload = {"id": "a0", "priority": "high", "kind": "asystole", "session": session, "state": state}
        return {"topic": f"edge-agent/icu7/{bed}/alarm", "payload": payload}

    info = {"topic": "edge-agent/icu7/bridge/info", "payload": {"session": "s2"}}
    messages = [
        said("s1", "suppressed"), said("s1", "raised"), said("s1", "raised") | {"topic": "edge-agent/icu8/bed1/alarm"},
        said("s2", "raised", "bed2"), info, info, said("s2", "cleared", "bed2"),
    ]  # fmt: skip
    script = (
        "const kept = {}; const context = { get: (key) => kept[key], set: (key, value) => { kept[key] = value; } };"
        "const take = new Function('msg', 'context', process.argv[1]);"
        "const seen = JSON.parse(process.argv[2]).map((msg) => take(msg, context)).flat(2).filter(Boolean);"
        "console.log(JSON.stringify(seen.map((one) => [one.topic, one.payload.on])));"
    )
    command = [program("node"), "-e", script, nodes["ea-light"]["func"], json.dumps(messages)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert json.loads(ran.stdout) == [
        ["ward/light/icu7/bed1", True], ["ward/light/icu8/bed1", True], ["ward/light/icu7/bed2", True],
        ["ward/light/icu7/bed1", False], ["ward/light/icu7/bed2", False],
    ]  # fmt: skip


def test_the_node_red_flow(broker: Broker, tmp_path: Path) -> None:
    binary = node_red()
    folder = tmp_path / "node-red"
    folder.mkdir()
    flow = example("node-red-flow.json", **{'"port": "1883"': f'"port": "{broker.port}"', '"localhost"': '"127.0.0.1"'})
    (folder / "flows.json").write_text(flow, encoding="utf-8")
    command = [binary, "--userDir", str(folder), "--port", str(free_port()), "flows.json"]
    topic = "ward/light/icu7/bed1"

    def lights(listener: Listener) -> list[bool]:
        return [one.data["on"] for one in listener.heard if one.topic == topic]

    with (
        listening(broker.port) as listener,
        publishing(broker.port) as publish,
        running([*command], tmp_path / "out", stop=signal.SIGTERM),
    ):
        wait_for(lambda: "Connected to broker" in (tmp_path / "out").read_text(), "Node-RED", 120)
        wait_for(lambda: publish(ALARM, alarm(0)) or lights(listener), "the light")
        publish(ALARM, alarm(1, kind="ecg_noise", priority="low"))
        publish(ALARM, alarm(2, kind="ventricular_tachycardia"))
        for _ in range(3):
            publish(ALARM, alarm(3, state="cleared", id="a0"))
        publish(ALARM, alarm(9, kind="ventricular_tachycardia", state="cleared", id="a2"))
        wait_for(lambda: lights(listener)[-1:] == [False], "the light to go out")
        # On, still on with the second alarm and with the first one's end, off: and neither a repeat nor a low one switches it.
        assert lights(listener) == [True, True, True, False]
        wait_for(lambda: "missing: 5 of edge-agent/icu7/bed1/alarm" in (tmp_path / "out").read_text(), "the warning")


# -- Telegraf ------------------------------------------------------------------------------------------------------------


def test_the_telegraf_configuration_names_what_there_is() -> None:
    """Not run: it is held against the schemas."""
    config = tomllib.loads((FOLDER / "telegraf.conf").read_text(encoding="utf-8"))
    inputs = config["inputs"]["mqtt_consumer"]
    of: dict[str, type[events.Message]] = {"state": events.Vitals, "alarm": events.Alarm, "health": events.Health}
    assert len({one["client_id"] for one in inputs}) == len(inputs) == 3
    for one in inputs:
        assert one["persistent_session"] is True
        assert one["qos"] == 1
        (topic,) = one["topics"]
        kind = of[topic.rsplit("/", 1)[-1]]
        assert topic == f"edge-agent/+/{'bridge' if kind is events.Health else '+'}/{topic.rsplit('/', 1)[-1]}"
        fields = set(schema(kind)["properties"])
        fields |= {f"latency_{name}" for name in schema(events.Latency)["properties"]}
        named = {
            *one["tag_keys"],
            *one.get("json_string_fields", ()),
            *one.get("fieldinclude", ()),
            one["json_time_key"],
        }
        assert named <= fields, named - fields
        assert one["json_time_format"] == "2006-01-02T15:04:05.999999Z07:00"


# -- a bridge, an archive, two tenants -------------------------------------------------------------------------------------


def broker_lines(folder: Path, port: int) -> str:
    folder.mkdir(exist_ok=True)
    root = "user root\n" if os.geteuid() == 0 else ""
    return f"{root}listener {port} 127.0.0.1\nallow_anonymous true\nlog_type all\n"


def test_a_bridge_loses_no_alarm_while_the_cluster_is_away(program: Program, tmp_path: Path) -> None:
    mosquitto = program("mosquitto")
    near, far = free_port(), free_port()
    bridge = example(
        "bridge.conf",
        **{
            r"/var/lib/mosquitto/": f"{tmp_path}/near/",
            r"^address .*": f"address 127.0.0.1:{far}",
            r"^bridge_cafile .*": "",
            r"^remote_(username|password) .*": "",
        },
    )
    (tmp_path / "near.conf").write_text(broker_lines(tmp_path / "near", near) + bridge, encoding="utf-8")
    persistent = f"persistence true\npersistence_location {tmp_path}/far/\n"
    (tmp_path / "far.conf").write_text(broker_lines(tmp_path / "far", far) + persistent, encoding="utf-8")
    log, out = tmp_path / "near.log", tmp_path / "out"
    keeper = [sys.executable, str(FOLDER / "subscriber.py"), "127.0.0.1", str(far), "keeper"]

    def up() -> Any:
        return running([mosquitto, "-c", str(tmp_path / "far.conf")], tmp_path / "far.log", stop=signal.SIGTERM)

    with running([mosquitto, "-c", str(tmp_path / "near.conf")], log, stop=signal.SIGTERM):
        wait_for(lambda: listens(near), "the ward's broker")
        with publishing(near) as publish:
            with up():
                wait_for(lambda: listens(far), "the cluster")
                with running(keeper, out):
                    wait_for(
                        lambda: publish(ALARM, alarm(0)) or "asystole" in out.read_text(), "an alarm over the bridge"
                    )
            for seq in range(1, 50):
                publish(ALARM, alarm(seq, kind="tachycardia", channel=str(seq)))
            publish(topic_of("state"), b'{"state":"offline"}', retain=True)
            publish(topic_of("beat"), payload_of(samples()["beat"]))
            with up():
                wait_for(lambda: listens(far), "the cluster again")
                with listening(far) as listener, running(keeper, out):
                    wait_for(lambda: out.read_text().count("tachycardia") >= 49, "all of them")
                    wait_for(lambda: any(one.topic == topic_of("state") for one in listener.heard), "the state")
                    text = out.read_text()
                    assert "missing" not in text
                    assert text.count("tachycardia") == 49
                    assert not any(one.topic.endswith("/beat") for one in listener.heard)


def test_an_archive_that_many_share(broker: Broker, program: Program, tmp_path: Path) -> None:
    program("mosquitto_sub")
    lines = subscribers("$share")
    assert len(lines) == 2
    files = [tmp_path / "archive1", tmp_path / "archive2"]

    def numbers() -> list[list[int]]:
        rows = [[json.loads(line) for line in file.read_text().splitlines()] for file in files]
        return [[row["payload"]["seq"] for row in one if row["topic"] == ALARM] for one in rows]

    with contextlib.ExitStack() as stack, publishing(broker.port) as publish:
        for line, file in zip(lines, files, strict=True):
            stack.enter_context(running([*line, "-p", str(broker.port)], file))
        first = 0

        def both() -> bool:
            nonlocal first
            publish(ALARM, alarm(first))
            first += 1
            return all(numbers())

        wait_for(both, "both members to work")
        for seq in range(first, first + 100):
            publish(ALARM, alarm(seq))
        wait_for(lambda: sum(map(len, numbers())) >= 100 and max(map(max, numbers())) == first + 99, "all of them")
        left, right = (set(one) for one in numbers())
        assert not left & right  # each message went to one member: right for an archive, wrong for a nurse
        assert set(range(first, first + 100)) <= left | right
        assert left
        assert right


def test_two_tenants_on_one_broker(program: Program, tmp_path: Path) -> None:
    mosquitto = program("mosquitto")
    certificates(program("openssl"), tmp_path)
    port = free_port()
    config = example(
        "mosquitto.conf",
        **{
            r"^listener 8883": f"listener {port} 127.0.0.1",
            r"/etc/mosquitto/certs": str(tmp_path),
            r"/etc/mosquitto/passwords": f"{tmp_path}/passwords",
            r"/etc/mosquitto/acl.conf": f"{tmp_path}/acl.conf",
            r"/var/lib/mosquitto/": f"{tmp_path}/",
        },
    )
    (tmp_path / "acl.conf").write_text(example("acl.conf"), encoding="utf-8")
    users = [
        "clinic-a-bed1",
        "clinic-b-bed1",
        "clinic-a-desk",
        "clinic-b-desk",
        "archive",
        "stranger",
        "clinic-a-control",
    ]
    (tmp_path / "passwords").write_text("".join(f"{user}:{PASSWORD}\n" for user in users), encoding="utf-8")
    for name in ("passwords", "acl.conf"):
        (tmp_path / name).chmod(0o600)
    subprocess.run([program("mosquitto_passwd"), "-U", str(tmp_path / "passwords")], check=True)
    root = "user root\n" if os.geteuid() == 0 else ""
    (tmp_path / "tenants.conf").write_text(root + config, encoding="utf-8")
    tls = ["-h", "127.0.0.1", "-p", str(port), "--cafile", str(tmp_path / "ca.pem"), "-P", PASSWORD, "-q", "1"]

    def says(user: str, topic: str, word: str, *more: str) -> bool:
        command = [program("mosquitto_pub"), *tls, "-u", user, "-i", "whatever", "-t", topic, "-m", word, *more]
        subprocess.run(command, check=True, capture_output=True, timeout=20)
        return False  # to be said again and again, until it is heard

    wanted = {"clinic-a-desk": "clinic-a/#", "clinic-b-desk": "#", "archive": "$share/archive/+/#", "stranger": "#"}
    with contextlib.ExitStack() as stack:
        stack.enter_context(running([mosquitto, "-c", str(tmp_path / "tenants.conf")], tmp_path / "log"))
        wait_for(lambda: listens(port), f"mosquitto: {(tmp_path / 'log').read_text()}")
        # Retained, so that they would be heard afterwards, had they been let through.
        says("clinic-a-desk", "clinic-a/bed1/bed/alarm", "display-writes", "-r")
        says("clinic-a-desk", "clinic-a/bed1/bridge/request/silence", "display-asks", "-r")
        says("archive", "clinic-a/bed1/bed/alarm", "archive-writes", "-r")
        says("stranger", "clinic-a/bed1/bed/alarm", "stranger-writes", "-r")
        says("clinic-a-control", "clinic-a/bed1/bed/alarm", "control-writes", "-r")

        def listen(user: str, topic: str) -> None:
            # All with one client id: they would put one another out, were it not the user's name.
            command = [program("mosquitto_sub"), *tls, "-u", user, "-i", "same", "-c", "-v", "-t", topic]
            stack.enter_context(running(command, tmp_path / user))

        for user, topic in wanted.items():
            listen(user, topic)

        def heard(user: str) -> list[str]:
            return [line.split()[-1] for line in (tmp_path / user).read_text().splitlines() if "/" in line]

        def tried(user: str, *readers: str) -> bool:
            says(user, f"{user[:8]}/bed1/bed/x", "try")
            return all(heard(reader) for reader in readers)

        wait_for(lambda: tried("clinic-a-bed1", "clinic-a-desk", "archive"), "the readers of clinic-a")
        wait_for(lambda: tried("clinic-b-bed1", "clinic-b-desk"), "the reader of clinic-b")
        says("clinic-a-bed1", "clinic-a/bed1/bed/alarm", "own")
        says("clinic-a-bed1", "clinic-a/bed2/bed/alarm", "neighbour")
        says("clinic-a-bed1", "clinic-b/bed1/bed/alarm", "other-tenant")
        says("clinic-b-bed1", "clinic-b/bed1/bed/alarm", "b-own")
        says("clinic-a-bed1", "clinic-a/bed1/bed/alarm", "last")
        wait_for(lambda: "last" in heard("clinic-a-desk") and "last" in heard("archive"), "the last one")
        wait_for(lambda: "b-own" in heard("clinic-b-desk"), "the other tenant's")
        listen("clinic-a-bed1", "clinic-a/bed1/bridge/request/#")
        asked = "clinic-a/bed1/bridge/request/info"
        wait_for(lambda: says("clinic-a-control", asked, "asked") or heard("clinic-a-bed1"), "the device to be asked")
        wait_for(lambda: "asked" in heard("clinic-a-desk") and "asked" in heard("archive"), "the asking to be seen")
        for user, expected in (
            ("clinic-a-desk", {"try", "own", "last", "asked"}),
            ("clinic-b-desk", {"try", "b-own"}),
            ("archive", {"try", "own", "last", "b-own", "asked"}),
            ("stranger", set()),
            ("clinic-a-bed1", {"asked"}),
        ):
            assert set(heard(user)) == expected, user
