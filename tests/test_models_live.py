"""Models that change while an agent runs: no beat is missed, no window goes to the wrong version, and what fails goes back."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.publish as publish
import pytest

from edge_agent import events
from edge_agent.clock import RecordedClock
from edge_agent.config import AlarmLimits
from edge_agent.inference.artifact import load
from edge_agent.inference.installed import signature
from edge_agent.inference.installed.archive import opened
from edge_agent.inference.installed.store import Store
from edge_agent.inference.loaded import by_default, load_models, shipped_models
from edge_agent.inference.manifest import Manifest
from edge_agent.journey import Block, Window
from edge_agent.pipeline import Pipeline
from edge_agent.signal.ring import Ring
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.stamp import REPLAYED, Stamp
from tests.conftest import ROOT
from tests.spine import (
    Agent,
    Broker,
    Listener,
    base_config,
    running_agent,
    simulated,
    wait_for,
)

FS = 250.0
SHIPPED = "ecg-beat-aami"


# -- in the pipeline ---------------------------------------------------------------------------------------------------


def manifests() -> list[Manifest]:
    return [model.artifact.manifest for model in by_default(load_models(shipped_models())).values()]


def signals() -> tuple[StreamInfo, list[Block]]:
    patient = SimulatedPatient(FS, ("II", "ABP"), Script((Episode("sinus", 60),)), seed=5)
    info = StreamInfo(FS, (Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")))
    return info, list(iter(lambda: patient.read(250), None))


def pipeline(info: StreamInfo, models: list[Manifest]) -> Pipeline:
    stamp = Stamp(device="d", stream="s", session="x", fs=FS, clock=RecordedClock(FS, None))
    return Pipeline(info, models=models, limits=AlarmLimits(), detector="native", stamp=stamp)


def windows(made: Pipeline, blocks: list[Block], at: int = -1, models: list[Manifest] | None = None) -> list[Window]:
    found = []
    for number, block in enumerate(blocks):
        if number == at and models is not None:
            made.use(models)
        found += [item for item in made.feed(block, REPLAYED) if isinstance(item, Window)]
    return found


def same(one: Window, other: Window) -> bool:
    return (
        (one.model, one.channel, one.sample, one.known, one.abstain, one.feeding)
        == (other.model, other.channel, other.sample, other.known, other.abstain, other.feeding)
        and len(one.inputs) == len(other.inputs)
        and all(np.array_equal(a, b) for a, b in zip(one.inputs, other.inputs, strict=True))
    )


def relabelled(manifest: Manifest, **changes: Any) -> Manifest:
    return manifest.model_copy(update={"version": "9.0.0", **changes})


@pytest.mark.parametrize("at", [0, 1, 17, 59])
def test_models_that_are_fed_alike_leave_the_windows_as_they_were(at: int) -> None:
    """To the bit: what a feeder has learned of the patient stays."""
    info, blocks = signals()
    plain = windows(pipeline(info, manifests()), blocks)
    swapped = windows(pipeline(info, manifests()), blocks, at, [relabelled(one) for one in manifests()])
    assert len(plain) > 100
    assert len(plain) == len(swapped)
    assert all(same(one, other) for one, other in zip(plain, swapped, strict=True))


def test_a_model_that_is_fed_otherwise_gets_its_windows_from_the_next_block_on() -> None:
    info, blocks = signals()
    old = {one.name: one for one in manifests()}
    slide = old["ecg-af-10s"]
    assert slide.anchor.kind == "slide"
    faster = relabelled(slide, anchor=slide.anchor.model_copy(update={"stride_s": slide.anchor.stride_s / 2}))
    others = [one for name, one in old.items() if name != slide.name]
    found = windows(pipeline(info, list(old.values())), blocks, 30, [*others, faster])
    plain = windows(pipeline(info, list(old.values())), blocks)
    direct = windows(pipeline(info, [*others, faster]), blocks)

    def of(many: list[Window], name: str) -> list[Window]:
        return [one for one in many if one.model == name]

    for one in others:
        assert all(same(a, b) for a, b in zip(of(found, one.name), of(plain, one.name), strict=True))
    before = [one for one in of(found, slide.name) if one.known < 30 * FS]
    after = [one for one in of(found, slide.name) if one.known >= 30 * FS]
    assert all(same(a, b) for a, b in zip(before, [w for w in of(plain, slide.name) if w.known < 30 * FS], strict=True))
    # On the grid of one that ran from the beginning, and with the very same signal.
    assert all(
        same(a, b) for a, b in zip(after, [w for w in of(direct, slide.name) if w.known >= 30 * FS], strict=True)
    )
    assert len(after) > 1.5 * len(before)


def test_a_model_that_reaches_further_makes_the_ring_larger() -> None:
    info, blocks = signals()
    old = {one.name: one for one in manifests()}
    beats = [old[SHIPPED]]
    made = pipeline(info, beats)
    small = made.ring.capacity
    reader = made.ring.reader("waveform")
    found = windows(made, blocks, 30, [*beats, old["ecg-af-10s"]])
    assert made.ring.capacity > small
    assert made.ring.reader("waveform") is reader
    plain = windows(pipeline(info, beats), blocks)
    assert all(
        same(a, b) for a, b in zip([one for one in found if one.model == SHIPPED], plain, strict=True)
    )  # nothing of it was lost on the way
    late = [one for one in found if one.model == "ecg-af-10s"]
    assert late
    assert all(one.abstain is None for one in late[-2:])
    assert late[0].abstain == "signal incomplete"  # its first ten seconds began before there was room for them


def test_a_model_that_goes_is_not_asked_any_more() -> None:
    info, blocks = signals()
    found = windows(pipeline(info, manifests()), blocks, 30, [])
    assert max(one.known for one in found) < 31 * FS
    assert len(found) > 40


def test_a_ring_that_grew_holds_what_it_held() -> None:
    rng = np.random.default_rng(3)
    for pushed in (0, 3, 10, 11, 25, 4000):
        ring, samples = Ring(2, 10), rng.normal(size=(2, pushed)).astype(np.float32)
        for at in range(0, pushed, 4):
            ring.push(samples[:, at : at + 4])
        larger = ring.grown(33)
        assert (larger.start, larger.end) == (ring.start, ring.end)
        for channel in (0, 1):
            held = larger.view(channel, larger.start, larger.end)
            assert np.array_equal(held, samples[channel, ring.start :])
        more = rng.normal(size=(2, 30)).astype(np.float32)
        larger.push(more)
        assert np.array_equal(larger.view(1, larger.end - 30, larger.end), more[1])


# -- in the daemon -----------------------------------------------------------------------------------------------------


def variant(folder: Path, version: str, shipped: str = SHIPPED, **changes: Any) -> Path:
    """A shipped model under another version, or another name."""
    path = folder / version / str(changes.get("name", shipped))
    shutil.copytree(shipped_models() / shipped, path)
    about = json.loads((path / "manifest.json").read_bytes())
    about = {**about, "version": version, **changes}
    (path / "manifest.json").write_text(json.dumps(about), encoding="utf-8")
    return path


def install(store: Store, folder: Path) -> None:
    """Without a proof: for models that fail on the device alone."""
    with opened(folder) as bundle:
        store.install(bundle, signature.ANY, prove=load, underneath=lambda _: None)
    about = json.loads((folder / "manifest.json").read_bytes())
    store.activate(about["name"], about["version"])


def config(broker: Broker, *, inference: str = "", stream: str = 'models = ["ecg-beat-aami", "ecg-af-rr"]') -> str:
    text = base_config(
        broker.port,
        simulated("bed", extra=stream, source='channels = ["II"]\nspeed = 4\nforever = true'),
        inference=f'store = "store"\n{inference}',
    )
    return text + "\n[requests]\nenabled = true\n"


def versions_said(listener: Listener, model: str = SHIPPED) -> list[str]:
    return [one["version"] for one in listener.of("bed", "verdict") if one["model"] == model]


def of_model(info: dict[str, Any], name: str = SHIPPED) -> dict[str, Any]:
    return next((one for one in info["models"] if one["name"] == name), {})


def wait_info(listener: Listener, name: str = SHIPPED, *, note: str = "", **fields: Any) -> dict[str, Any]:
    def found() -> dict[str, Any] | None:
        for info in reversed(listener.of("bridge", "info")):
            told = of_model(info, name)
            if told and all(told[key] == value for key, value in fields.items()) and note in str(told["note"]):
                return told
        return None

    told: dict[str, Any] = wait_for(found, f"{name} with {fields} {note!r} on bridge/info")
    return told


def reload(agent: Agent) -> None:
    before = agent.log.count("reloaded: ")
    agent.signal(signal.SIGHUP)
    wait_for(lambda: agent.log.count("reloaded: ") > before, f"the reload; log:\n{agent.log}")


def every_beat_has_its_verdict(listener: Listener) -> bool:
    """Of those between the first and the last verdict."""
    judged = {one["sample"] for one in listener.of("bed", "verdict") if one["model"] == SHIPPED}
    beats = {one["sample"] for one in listener.of("bed", "beat") if min(judged) <= one["sample"] <= max(judged)}
    return bool(judged) and beats == judged


def test_a_version_is_taken_up_between_two_windows_tried_and_rolled_back(
    broker: Broker, listener: Listener, tmp_path: Path
) -> None:
    """With the commands that an administrator types."""

    def models(*arguments: str | Path) -> str:
        done = subprocess.run(
            [
                sys.executable,
                "-m",
                "edge_agent",
                "models",
                *map(str, arguments),
                "--config",
                str(tmp_path / "agent.toml"),
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout

    with running_agent(tmp_path, config(broker, inference="trial_windows = 40")) as agent:
        first = wait_info(listener, state="active")
        wait_for(lambda: len(versions_said(listener)) > 10, "verdicts")
        models("install", variant(tmp_path, "7.0.0"), "--activate")
        reload(agent)
        assert "model ecg-beat-aami 7.0.0" in agent.log
        wait_info(listener, version="7.0.0", state="trial")
        told = wait_info(listener, version="7.0.0", state="active")
        assert "passed its trial: 40 windows" in told["note"]
        assert told["digest"] != first["digest"]
        assert " active " in models("list")
        models("rollback", SHIPPED)
        reload(agent)
        wait_info(listener, version=first["version"], state="active")
        seen = len(versions_said(listener))
        wait_for(lambda: len(versions_said(listener)) > seen + 5, "more verdicts")
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
        assert "unexpected fault" not in agent.log
    said = versions_said(listener)
    order = [version for at, version in enumerate(said) if at == 0 or said[at - 1] != version]
    assert order == [first["version"], "7.0.0", first["version"]]  # never mixed
    assert every_beat_has_its_verdict(listener)
    health = listener.of("bridge", "health")[-1]
    assert health["inference"]["faults"] == health["inference"]["dropped"] == 0


def test_a_version_that_is_fed_otherwise_is_taken_up_as_well(
    broker: Broker, listener: Listener, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    with running_agent(tmp_path, config(broker)) as agent:
        wait_for(lambda: versions_said(listener, "ecg-af-rr"), "verdicts on the rhythm")
        install(store, variant(tmp_path, "7.0.0", "ecg-af-rr", anchor={"kind": "rr", "stride": 1}))
        seen = len(listener.of("bed", "beat"))
        agent.signal(signal.SIGHUP)
        wait_for(lambda: versions_said(listener, "ecg-af-rr").count("7.0.0") > 40, "verdicts by the new version")
        wait_for(lambda: len(listener.of("bed", "beat")) > seen + 40, "beats")
        assert "unexpected fault" not in agent.log
    fresh = [one for one in listener.of("bed", "verdict") if one["version"] == "7.0.0"]
    old = [one for one in listener.of("bed", "verdict") if one["model"] == "ecg-af-rr" and one["version"] != "7.0.0"]
    assert max(one["sample"] for one in old) < min(one["sample"] for one in fresh)
    beats = sorted(one["sample"] for one in listener.of("bed", "beat"))
    between = [at for at in beats if fresh[0]["sample"] <= at <= fresh[-1]["sample"]]
    assert [one["sample"] for one in fresh] == between  # at every beat, where the old one spoke at every fourth
    assert all(one["reason"] is None or "engine" not in one["reason"] for one in fresh)
    assert every_beat_has_its_verdict(listener)


def test_a_model_that_was_not_there_and_one_that_goes(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with running_agent(tmp_path, config(broker, stream="")) as agent:
        wait_info(listener)
        install(store, variant(tmp_path, "1.0.0", "ecg-af-rr", name="mine"))
        publish.single("edge-agent/dev/bridge/request/reload", "{}", hostname="127.0.0.1", port=broker.port)
        wait_for(lambda: versions_said(listener, "mine"), f"verdicts of a new model; log:\n{agent.log}")
        store.remove("mine")
        reload(agent)
        assert "model mine gone" in agent.log
        seen = len(versions_said(listener))
        wait_for(lambda: len(versions_said(listener)) > seen + 8, "more verdicts of the others")
        assert [of_model(info, "mine") for info in listener.of("bridge", "info")][-1] == {}
        assert "unexpected fault" not in agent.log


def test_a_bad_model_at_a_reload_changes_nothing(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with running_agent(tmp_path, config(broker)) as agent:
        first = wait_info(listener, state="active")
        bad = variant(tmp_path, "7.0.0", golden={"file": "golden.npz", "tolerance": 1e-9})
        install(store, bad)
        reload(agent)
        refused = [line for line in agent.log.splitlines() if "refused" in line]
        assert len(refused) == 1
        assert str(store.place(SHIPPED, "7.0.0")) in refused[0]
        assert "golden outputs differ" in refused[0]
        assert "7.0.0 is rolled back" in agent.log
        wait_info(listener, version=first["version"], state="active", note="golden outputs differ")
        assert store.state(SHIPPED).active is None
        seen = len(versions_said(listener))
        wait_for(lambda: len(versions_said(listener)) > seen + 8, "more verdicts")
    assert set(versions_said(listener)) == {first["version"]}


def test_a_slow_version_is_rolled_back_while_it_runs(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    with running_agent(tmp_path, config(broker, inference="trial_p99_ms = 0.0001")) as agent:
        first = wait_info(listener, state="active")
        install(store, variant(tmp_path, "7.0.0"))
        agent.signal(signal.SIGHUP)
        log = agent.wait_log("7.0.0 failed its trial and is rolled back: ")
        assert "took longer than 0.0001 ms" in log
        told = wait_info(listener, version=first["version"], note="7.0.0 failed its trial and was rolled back")
        wait_for(lambda: versions_said(listener)[-1] == first["version"], "the old version's verdicts")
        assert told["state"] == "active"
    assert "7.0.0" in versions_said(listener)
    assert "7.0.0" in store.state(SHIPPED).failed
    assert every_beat_has_its_verdict(listener)


def test_an_agent_that_is_killed_within_the_trial_twice_goes_back(
    broker: Broker, listener: Listener, tmp_path: Path
) -> None:
    store = Store(tmp_path / "store")
    install(store, variant(tmp_path, "7.0.0"))
    for starts in (1, 2):
        with running_agent(tmp_path, config(broker)) as agent:
            agent.wait_log("running: 1 streams")
            assert store.state(SHIPPED).trial.starts == starts  # type: ignore[union-attr]
            agent.signal(signal.SIGKILL)
            agent.wait()
    with running_agent(tmp_path, config(broker)) as agent:
        agent.wait_log("running: 1 streams")
        assert "did not end well 2 times while this was on trial" in agent.log
        wait_for(lambda: versions_said(listener) and versions_said(listener)[-1] != "7.0.0", "the version before")
        assert store.state(SHIPPED).active is None


def test_a_start_that_fails_for_another_reason_is_no_mark_against_it(broker: Broker, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    install(store, variant(tmp_path, "7.0.0"))
    text = config(broker, stream='models = ["ecg-beat-aami"]\ndetector = "ecgdetectors:nothing_of_that_name"')
    with running_agent(tmp_path, text) as agent:
        assert agent.wait() == 1
    assert store.state(SHIPPED).trial.starts == 0  # type: ignore[union-attr]
    with running_agent(tmp_path, config(broker)) as agent:
        agent.wait_log("running: 1 streams")
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
    assert store.state(SHIPPED).trial.starts == 0  # type: ignore[union-attr]


def test_the_digest_on_the_bridge_is_the_manifests(broker: Broker, listener: Listener, tmp_path: Path) -> None:
    store = Store(tmp_path / "store")
    folder = variant(tmp_path, "7.0.0")
    install(store, folder)
    with running_agent(tmp_path, config(broker)):
        told = wait_info(listener, version="7.0.0")
        assert told["digest"] == hashlib.sha256((folder / "manifest.json").read_bytes()).hexdigest()
        verdict = wait_for(lambda: [v for v in listener.of("bed", "verdict") if v["model"] == SHIPPED], "a verdict")[0]
        assert (verdict["version"], verdict["digest"]) == ("7.0.0", told["digest"])
    assert events.ModelInfo.model_fields["state"].default == "active"
