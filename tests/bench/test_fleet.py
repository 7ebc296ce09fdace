"""Summaries on a real broker: retained, gathered again, and without a word to the agent that may be running."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge_agent.bench import files, fleet
from edge_agent.bench.cli import main
from edge_agent.config import MqttConfig
from tests.bench.made import OLD, report, result
from tests.bench.test_reports import checked
from tests.spine import Broker, listening, release, retained_now, running_broker, simulated

CONFIG = '[device]\nid = "dev"\n[mqtt]\nhost = "127.0.0.1"\nport = {port}\n{more}' + simulated("bed1")


@pytest.fixture
def broker(program: Callable[[str], str], tmp_path: Path) -> Iterator[Broker]:
    with running_broker(program("mosquitto"), tmp_path) as running:
        yield running


def config(folder: Path, broker: Broker, more: str = "") -> str:
    path = folder / "agent.toml"
    path.write_text(CONFIG.format(port=broker.port, more=more), encoding="utf-8")
    return str(path)


def test_a_fleets_reports_are_published_and_gathered(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = [
        report(result(30), device="pi4"),
        report(result(300, reasons=["throttled"]), device="pi3"),
        report(result(50), device="pi4", model=None),
    ]
    paths = [str(files.write(one, tmp_path)) for one in made]
    settings = config(tmp_path, broker)
    with listening(broker.port) as listener:
        assert main(["publish", *paths, "--config", settings]) == 0
        assert main(["publish", paths[0], "--config", settings]) == 0  # the newest takes the place of the one before
    topics = {one.topic for one in listener.heard}
    assert topics == {
        "edge-agent/pi4/bridge/bench/m",
        "edge-agent/pi3/bridge/bench/m",
        "edge-agent/pi4/bridge/bench/agent",
    }  # and nothing on bridge/state: an agent of that name may be running
    kept = retained_now(broker.port)
    assert kept.keys() == topics
    for data in kept.values():
        checked(data, "bench-summary-1.json")
        assert "histogram" not in json.dumps(data)
    capsys.readouterr()
    assert main(["collect", "--config", settings, "--html", str(tmp_path / "fleet.html")]) == 0
    said = capsys.readouterr().out
    assert "INVALID: throttled" in said
    rows = [line for line in said.splitlines() if line.startswith("| pi")]
    assert len(rows) == 3
    page = (tmp_path / "fleet.html").read_text(encoding="utf-8")
    assert "<svg" in page
    assert "pi3" in page


def test_what_others_put_there_is_passed_over(
    broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    client = paho.Client(CallbackAPIVersion.VERSION2)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    good = files.summary(report(result(), device="pi4")).payload()
    for name, payload in {"a": b"\xff\xfe", "b": b"{}", "c": b"[" * 50_000, "d": good, "e": good[:-40]}.items():
        client.publish(f"edge-agent/{name}/bridge/bench/m", payload, qos=1, retain=True).wait_for_publish(5)
    client.disconnect()
    client.loop_stop()
    release(client)
    assert main(["collect", "--config", config(tmp_path, broker)]) == 0
    out, err = capsys.readouterr()
    assert err.count("passed over") == 4
    assert "pi4" in out


def test_an_empty_broker_and_none_at_all(broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = config(tmp_path, broker)
    assert main(["collect", "--config", settings]) == 1
    assert "no summary on the broker" in capsys.readouterr().err
    broker.stop()
    assert main(["collect", "--config", settings]) == 1
    err = capsys.readouterr().err
    assert f"127.0.0.1:{broker.port}" in err
    assert "Traceback" not in err


def test_a_password_of_the_agents_configuration_is_used(program: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "word").write_text("secret\n")
    with running_broker(program("mosquitto"), tmp_path, passwords={"agent": "secret"}) as broker:
        more = 'username = "agent"\npassword_file = "word"\n'
        path = str(files.write(report(result()), tmp_path))
        assert main(["publish", path, "--config", config(tmp_path, broker, more)]) == 0
        wrong = MqttConfig(host="127.0.0.1", port=broker.port)
        with pytest.raises(OSError, match="refused the connection"):
            fleet.collect(wrong)


@pytest.mark.parametrize("stream", ["", '[[stream]]\nname = "b"\n[stream.source]\ntype = "board"\nboard = "cyton"\n'
                                    'port = "/dev/nothing"\n[inference]\nmodels_dir = "nowhere"\n'])  # fmt: skip
def test_the_boards_need_not_be_there_to_publish(
    stream: str, broker: Broker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = tmp_path / "desk.toml"
    settings.write_text(f'[mqtt]\nhost = "127.0.0.1"\nport = {broker.port}\n{stream}', encoding="utf-8")
    one = files.write(report(result(30)), tmp_path)
    assert main(["publish", str(one), "--config", str(settings)]) == 0, capsys.readouterr().err
    assert main(["collect", "--config", str(settings)]) == 0, capsys.readouterr().err
    settings.write_text('[mqtt]\npassword_file = "nowhere"\n', encoding="utf-8")
    for command in (["publish", str(one)], ["collect"]):
        assert main([*command, "--config", str(settings)]) == 1
        assert "mqtt.password_file: nowhere: no such file" in capsys.readouterr().err


def test_an_old_report_cannot_be_published(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.json"
    path.write_text(json.dumps(OLD))
    assert main(["publish", str(path), "--config", "none.toml"]) == 1
    assert "earlier schema" in capsys.readouterr().err
