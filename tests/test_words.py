"""What is wrong with a value is told in the words of the file that it stands in."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import BaseModel

from edge_agent import config
from edge_agent.errors import ConfigError
from edge_agent.inference import manifest
from edge_agent.inference.tpu import settings
from edge_agent.section import PATTERNS
from tests.test_config import SERIAL, SIMULATED


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            SIMULATED + "[stream.alarms]\noff = 'asystole'",
            "stream[0] (bed1).alarms.off: found 'asystole'; should be a list",
        ),
        (SIMULATED + "[stream.alarms]\noff = true", "stream[0] (bed1).alarms.off: found true; should be a list"),
        ("mqtt = 'here'" + SIMULATED, "mqtt: found 'here'; should be a table"),
        ("health_s = 'x'" + SIMULATED, "health_s: found 'x'; should be a number"),
        (SERIAL + "wait_for_port = 'x'", "stream[0] (bed2).source.wait_for_port: found 'x'; should be true or false"),
        (
            "[mqtt]\nwebsocket_path = 'x'" + SIMULATED,
            "mqtt.websocket_path: found 'x'; should be a path that begins with '/'",
        ),
        (
            SERIAL.replace('columns = ["II", "ABP"]', "columns = []"),
            "stream[0] (bed2).source.columns: should have at least one",
        ),
        (SIMULATED + "script = {a = 1}", "stream[0] (bed1).source.script: should be"),
        (
            "[inference]\ntpu = {device = 'x'}" + SIMULATED,
            "inference.tpu.device: found 'x'; should be 'usb', 'pci',",
        ),
    ],
)
def test_a_mistake_is_told_in_the_file_s_words(text: str, problem: str, tmp_path: Path) -> None:
    """Not in those of who wrote the program."""
    path = tmp_path / "edge.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        config.load(path)
    (found,) = caught.value.problems
    assert found.startswith(problem)
    for python in (
        "frozenset",
        "dictionary",
        "instance",
        "validation",
        "inputs",
        "pattern",
        "Input",
        "String",
        "literal",
    ):
        assert python not in found


def test_every_pattern_has_words() -> None:
    asked = [
        one.pattern
        for module in (config, manifest, settings)
        for model in vars(module).values()
        if isinstance(model, type) and issubclass(model, BaseModel)
        for field in model.model_fields.values()
        for one in field.metadata
        if getattr(one, "pattern", None)
    ]
    assert len(asked) >= 5
    assert set(asked) <= set(PATTERNS)
