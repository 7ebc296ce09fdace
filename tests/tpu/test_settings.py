"""What may be configured; and a model that does not answer, which is said."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent import config
from edge_agent import worker as worker_module
from edge_agent.errors import ConfigError
from edge_agent.items import Tick
from edge_agent.stamp import Moment
from edge_agent.worker import InferenceWorker
from tests.spine import wait_for

STREAM = '[[stream]]\nname = "bed1"\n[stream.source]\ntype = "simulated"\n'


def load(folder: Path, text: str) -> config.Config:
    path = folder / "agent.toml"
    path.write_text(f"{text}\n{STREAM}", encoding="utf-8")
    return config.load(path)


def test_nothing_need_be_said(tmp_path: Path) -> None:
    made = load(tmp_path, "").inference
    assert (made.engine, made.engines, made.tpu.devices) == ("auto", {}, [""])
    assert made.tpu.sysfs == Path("/sys")


def test_paths_are_relative_to_the_file(tmp_path: Path) -> None:
    made = load(
        tmp_path, '[inference.tpu]\ndelegate = "lib/libedgetpu.so.1"\npython = "/opt/coral/bin/python"'
    ).inference.tpu
    assert made.delegate == tmp_path / "lib" / "libedgetpu.so.1"
    assert made.python == Path("/opt/coral/bin/python")


@pytest.mark.parametrize("device", ['":1"', '"usb"', '"usb:0"', '"pci:12"', '["usb", "pci"]'])
def test_devices_that_may_be_named(device: str, tmp_path: Path) -> None:
    assert load(tmp_path, f"[inference.tpu]\ndevice = {device}").inference.tpu.devices


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ('[inference]\nengine = "gpu"', "inference.engine"),
        ('[inference.tpu]\ndevice = "usb0"', "inference.tpu.device"),
        ('[inference.tpu]\ndevice = "/dev/apex_0"', "inference.tpu.device"),
        ("[inference.tpu]\nanswer_ms = 600", "hang_ms is less than answer_ms"),
        ("[inference.tpu]\nretry_s = 400", "retry_most_s is less than retry_s"),
        ("[inference.tpu]\nretries = 4", "inference.tpu.retries: unknown key"),
        ('[inference]\nengines = { ecg-af-rr = "fast" }', "inference.engines.ecg-af-rr"),
    ],
)
def test_what_may_not_be_is_named(text: str, place: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(tmp_path, text)
    assert place in str(caught.value)


def test_a_model_that_does_not_answer_is_said(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """No runtime lets itself be interrupted: health and the log are all that can be done."""
    monkeypatch.setattr(worker_module, "STUCK_S", 0.05)
    release, taken = threading.Event(), threading.Event()

    class Lane:
        missed = False

        def take(self, *_: Any) -> Iterator[Any]:
            taken.set()
            release.wait(30)
            yield from ()

    made = InferenceWorker(lambda _: None, 10)
    made.start()
    try:
        assert made.stuck_s == 0
        made.put(Lane(), Tick(1), Moment())  # type: ignore[arg-type]
        assert taken.wait(10)
        with caplog.at_level(logging.ERROR):
            wait_for(lambda: made.stuck_s > 0.05, "it to be noticed")
            assert made.stuck_s > 0.05
        assert len([one for one in caplog.records if "has not answered" in one.message]) == 1
        release.set()
        wait_for(lambda: made.stuck_s == 0, "it to be over")
    finally:
        release.set()
        made.stop()
