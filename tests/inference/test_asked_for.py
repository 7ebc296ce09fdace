"""What a configuration asks of an Edge TPU that it cannot have is said: by check, by doctor, in the log of run, on bridge/engine."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from edge_agent.cli import main
from edge_agent.config import InferenceConfig
from edge_agent.doctor.checks import edge_tpu
from edge_agent.doctor.machine import Machine
from edge_agent.inference.asked_for import missing, unmet
from edge_agent.inference.installed.live import LiveModels
from edge_agent.inference.tpu.settings import TpuConfig


def said(settings: InferenceConfig, **compiled: bool) -> str:
    return "\n".join(unmet(settings, compiled))


def test_what_can_be_had_is_not_spoken_of(tmp_path: Path) -> None:
    library, python = tmp_path / "lib.so", tmp_path / "python"
    library.write_bytes(b"")
    python.write_bytes(b"#!")
    python.chmod(0o755)
    tpu = TpuConfig(delegate=library, python=python)
    assert said(InferenceConfig(), a=False) == ""
    assert said(InferenceConfig(tpu=tpu, engine="tpu", engines={"a": "tpu", "b": "cpu"}), a=True, b=False) == ""
    assert said(InferenceConfig(engine="tpu")) == ""  # no model at all: nothing to compute


def test_each_thing_that_is_not_there_is_named(tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    for settings, words in (
        (
            InferenceConfig(tpu=TpuConfig(delegate=Path("/no/lib.so"))),
            ("inference.tpu.delegate: /no/lib.so: no such file",),
        ),
        (InferenceConfig(tpu=TpuConfig(delegate=tmp_path)), ("inference.tpu.delegate", "no such file")),
        (InferenceConfig(tpu=TpuConfig(python=Path("/no/python"))), ("inference.tpu.python: /no/python: no program",)),
        (InferenceConfig(tpu=TpuConfig(python=plain)), ("inference.tpu.python", "no program")),
        (InferenceConfig(engines={"b": "cpu"}), ("inference.engines.b", "no model of that name")),
        (InferenceConfig(engines={"a": "tpu"}), ('inference.engines.a = "tpu"', "model_edgetpu.tflite")),
        (InferenceConfig(engine="tpu"), ('inference.engine = "tpu"', "no model here", "the CPU computes instead")),
    ):
        text = said(settings, a=False)
        assert "\n" not in text
        for word in words:
            assert word in text, text


def test_a_tpu_that_is_not_plugged_in(tmp_path: Path) -> None:
    (tmp_path / "bus" / "usb" / "devices").mkdir(parents=True)
    tpu = TpuConfig(sysfs=tmp_path, device="usb:1", delegate=Path(__file__))
    asked = list(missing(InferenceConfig(engine="tpu", tpu=tpu), {"a": True}))
    assert asked == ['engine = "tpu" of a: no Edge TPU usb:1 on USB or PCIe; the CPU computes instead']
    assert list(missing(InferenceConfig(engine="auto", tpu=tpu), {"a": True})) == []


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(
        '[inference]\nstore = "store"\nengine = "tpu"\ntpu = {delegate = "nowhere.so", python = "nobody"}\n'
        '[[stream]]\nname = "bed"\nmodels = ["ecg-af-rr"]\n[stream.source]\ntype = "simulated"\n',
        encoding="utf-8",
    )
    return path


def test_check_warns_of_it(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(config)]) == 0  # the agent works
    err = capsys.readouterr().err
    assert f"edge-agent: warning: inference.tpu.delegate: {config.parent}/nowhere.so: no such file" in err
    assert "edge-agent: warning: inference.tpu.python: " in err
    assert 'edge-agent: warning: inference.engine = "tpu": no model here' in err


def test_the_doctor_finds_it(config: Path) -> None:
    found = [one for one in edge_tpu(Machine(config_path=config)) if one.state == "bad"]
    assert len(found) >= 3
    assert any("nowhere.so" in one.said for one in found)
    assert any('engine = "tpu"' in one.said for one in found)


def test_run_says_it_in_the_log_and_on_the_engines_topic(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = InferenceConfig(store=tmp_path, engine="tpu", tpu=TpuConfig(delegate=Path("/no/lib.so")))
    with caplog.at_level(logging.WARNING):
        models = LiveModels(settings, [["ecg-af-rr"]])
    assert "inference.tpu.delegate: /no/lib.so: no such file" in caplog.text
    assert 'inference.engine = "tpu": no model here has a file for it' in caplog.text
    message = models.engines.message("device", "session")
    assert message.reason == 'no model has a file for the TPU, though engine = "tpu" is configured'
    assert 'engine = "tpu" is configured' in message.models["ecg-af-rr"].why
    quiet = LiveModels(InferenceConfig(store=tmp_path), [["ecg-af-rr"]])
    assert quiet.engines.message("device", "session").reason == "no model has a file for the TPU"
