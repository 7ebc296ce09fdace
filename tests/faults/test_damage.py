"""Files that were damaged, and models that hang, crash or answer nonsense."""

from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import config, events
from edge_agent.config import SimulatedSource, StreamConfig
from edge_agent.errors import ConfigError, EngineError
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.journey import Samples
from edge_agent.outputs.outbox import Bounds, Outbox, Parcel
from edge_agent.runner import StreamRunner
from edge_agent.sources.open import open_source
from edge_agent.worker import InferenceWorker
from tests.faults import times
from tests.faults.test_machine import ends_well, goes_on
from tests.spine import ROOT, Agent, Broker, base_config, listening, running_agent, simulated, wait_for


def spoilt(whole: bytes, chance: random.Random) -> bytes:
    """As cards and power cuts do it: cut off, a stretch of zeros, a stretch of chance, a flipped bit."""
    data = bytearray(whole)
    at = chance.randrange(max(1, len(data)))
    match chance.randrange(4):
        case 0:
            del data[at:]
        case 1:
            data[at : at + 512] = bytes(len(data[at : at + 512]))
        case 2:
            data[at : at + 512] = chance.randbytes(len(data[at : at + 512]))
        case _:
            if data:
                data[at] ^= 1 << chance.randrange(8)
    return bytes(data)


# -- files -----------------------------------------------------------------------------------------------------------


def test_a_damaged_outbox_is_read_or_set_aside_and_never_in_the_way(tmp_path: Path) -> None:
    bounds = Bounds(10**7, 3600)
    sound = tmp_path / "sound.outbox"
    box = Outbox(sound, bounds)
    box.write([Parcel(n, n % 3, f"t/{n}", b"payload %d " % n * 20) for n in range(1, 200)], [])
    running = {ending: Path(f"{sound}{ending}").read_bytes() for ending in ("", "-wal")}
    box.close()
    stopped = {"": sound.read_bytes()}
    assert len(stopped[""]) > 20_000
    chance = random.Random(3)
    aside = kept = 0
    for number in range(times(2000, 60)):
        folder = tmp_path / str(number)
        folder.mkdir()
        whole = running if number % 2 else stopped
        for ending, content in whole.items():
            hit = len(whole) == 1 or chance.random() < 0.7
            (folder / f"dev.outbox{ending}").write_bytes(spoilt(content, chance) if hit else content)
        box = Outbox(folder / "dev.outbox", bounds)  # an exception here would keep the agent from starting
        fresh = Parcel(box.next_number, 2, "t/alarm", b"raised")
        read = box.read(0, 1000)
        kept += len(read) > 0
        for parcel in read:
            assert (type(parcel.topic), type(parcel.payload)) == (str, bytes)
        box.write([fresh], [])
        assert box.read(fresh.number - 1, 10) == [fresh]
        box.close()
        aside += bool(list(folder.glob("*.damaged-*")))
        shutil.rmtree(folder)
    assert aside > 0, "no damage was found: the test proves nothing"
    assert kept > 0


def test_damaged_recordings_are_repaired_or_set_aside_at_the_next_start(broker: Broker, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed", extra="models = []", source="speed = 20"))
    text += f'\n[recorder]\nfolder = "{tmp_path}/rec"\nmode = "everything"\n'
    with listening(broker.port) as listener:
        agent = Agent(tmp_path, text)
        listener.wait("bed", "beat")
        time.sleep(2)
        agent.close()  # kill -9
        chance = random.Random(5)
        whole = {path: path.read_bytes() for path in (tmp_path / "rec").rglob("*") if path.is_file()}
        assert whole
        for _ in range(times(30, 4)):
            for path in list((tmp_path / "rec").rglob("*")):
                if path.is_file():
                    path.unlink()
            for path, content in whole.items():
                path.write_bytes(spoilt(content, chance))
            with running_agent(tmp_path, text) as again:
                again.wait_log("running: 1 streams")
                goes_on(listener, more=1)
                ends_well(again)


def refusal(path: Path) -> list[str] | None:
    """What is wrong with it; any other error than ConfigError is the test's failure."""
    try:
        config.load(path)
    except ConfigError as error:
        return error.problems
    return None


def test_a_damaged_configuration_is_refused_in_words(tmp_path: Path) -> None:
    chance = random.Random(17)
    whole = (ROOT / "config" / "edge-agent.toml").read_bytes()
    path = tmp_path / "agent.toml"
    refused = 0
    for _ in range(times(5000, 300)):
        path.write_bytes(spoilt(whole, chance))
        said = refusal(path)
        refused += said is not None
        assert said is None or (said and all(problem.strip() for problem in said))
    assert refused > 0


def test_a_damaged_artifact_never_runs(broker: Broker, tmp_path: Path) -> None:
    """The agent says which file, and with the shipped models it runs again."""
    models = tmp_path / "models"
    shutil.copytree(shipped_models(), models, ignore=shutil.ignore_patterns("__*"))
    victim = next(models.glob("ecg-beat*/model.tflite"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(bytes(data))
    text = base_config(broker.port, simulated("bed"), inference='models_dir = "models"')
    with running_agent(tmp_path, text) as agent:
        assert agent.wait() == 1
        assert "model.tflite" in agent.log
        assert "Traceback" not in agent.log
    with running_agent(tmp_path, base_config(broker.port, simulated("bed"))) as agent:
        agent.wait_log("running: 1 streams")
        ends_well(agent)


# -- models ----------------------------------------------------------------------------------------------------------


class Crashing:
    """Fails at every call, as a runtime does whose memory is gone."""

    backend = "fake"

    def __init__(self, labels: int) -> None:
        del labels

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:  # noqa: ARG002
        raise EngineError("the interpreter is gone")


class Nonsense:
    """Answers in turn what is no answer."""

    backend = "fake"

    def __init__(self, labels: int) -> None:
        nan, inf = float("nan"), float("inf")
        self._answers: Sequence[Samples] = [
            np.full(labels, nan, np.float32),
            np.full(labels, inf, np.float32),
            np.full(labels, -inf, np.float32),
            np.zeros(0, np.float32),
            np.zeros(labels + 3, np.float32),
            np.full(labels, 1e38, np.float32),
            np.full(labels, -1.0, np.float32),
        ]
        self._at = 0

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:  # noqa: ARG002
        self._at += 1
        return self._answers[self._at % len(self._answers)]


@pytest.mark.parametrize("engine", [Crashing, Nonsense])
def test_a_model_that_crashes_or_answers_nonsense_says_no_label(tmp_path: Path, engine: Callable[[int], Any]) -> None:
    """A hung one: tests/test_daemon.py, and the watchdog's in packaging/nspawn-inside."""
    (tmp_path / "s.toml").write_text("[[episodes]]\nduration_s = 40\n", encoding="utf-8")
    loaded = load_models(shipped_models())
    name = next(name for name, one in loaded.items() if one.artifact.manifest.anchor.kind == "beat")
    labels = len(loaded[name].artifact.manifest.labels)
    said: list[events.Event] = []
    worker = InferenceWorker(said.append, 4096)
    source = SimulatedSource(type="simulated", fs=250, channels=["II"], script=tmp_path / "s.toml", speed=50)
    stream = StreamConfig(name="bed", source=source, models=[name])
    runner = StreamRunner(
        stream,
        device="dev",
        session="s",
        judge=Judge({name: replace(loaded[name], engine=engine(labels))}),
        worker=worker,
        publish=said.append,
        say_available=lambda *_: None,
        source=open_source(stream),
    )
    worker.start()
    runner.start()
    wait_for(lambda: runner.ended.is_set(), "the end of the signal")
    wait_for(lambda: worker.waiting == 0, "every window to be taken")
    worker.stop()
    beats = [event for event in said if isinstance(event, events.Beat)]
    verdicts = [event for event in said if isinstance(event, events.Verdict)]
    assert len(beats) > 30
    assert len(verdicts) > 20
    for verdict in verdicts:
        payload = verdict.payload()  # can be said at all: no NaN is JSON
        assert b"NaN" not in payload
        assert b"Infinity" not in payload
        if engine is Crashing:
            assert verdict.label is None
