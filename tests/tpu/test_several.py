"""Several models, several TPUs: what is lost with one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config import InferenceConfig
from edge_agent.inference.artifact import Artifact, load
from edge_agent.inference.loaded import LoadedModel, shipped_models
from edge_agent.inference.tpu.engines import Engines
from edge_agent.inference.tpu.failover import FailoverEngine
from tests.inference import tiny
from tests.spine import wait_for
from tests.tpu.stand import (
    ABORT,
    Plan,
    nothing_left,
    settings,
    with_file,
)
from tests.tpu.test_failover import BEAT, Bench, ignore


def both_models(folder: Path) -> list[Artifact]:
    return [load(with_file(shipped_models() / name, folder)) for name in (BEAT, "ecg-af-rr")]


def test_two_tpus_share_the_models_and_one_that_is_lost_takes_only_its_own(
    tmp_path: Path, standin: Path, plan: Plan
) -> None:
    tpu = settings(standin, plan, device=[":0", ":1"], retry_s=20, retry_most_s=20).model_dump()
    with nothing_left():
        engines = Engines(InferenceConfig.model_validate({"engine": "tpu", "tpu": tpu}), ignore)
        models = {one.name: LoadedModel(one, engines.open(one)) for one in both_models(tmp_path)}
        engines.keep(models)
        engines.start()
        made = {name: model.engine for name, model in models.items()}
        assert all(isinstance(one, FailoverEngine) for one in made.values())
        wait_for(lambda: all(one.seat for one in made.values() if isinstance(one, FailoverEngine)), "both")
        plan.strike(ABORT)
        artifact = models[BEAT].artifact
        made[BEAT].invoke(tuple(array[0] for array in artifact.golden_inputs))
        wait_for(lambda: engines.degraded, "degraded")
        artifact = models["ecg-af-rr"].artifact
        made["ecg-af-rr"].invoke(tuple(array[0] for array in artifact.golden_inputs))
        assert made["ecg-af-rr"].backend.startswith("tpu/")
        assert engines.message("dev", "session").state == "degraded"
        engines.stop()


@pytest.mark.parametrize("retry_s", [20.0, 0.05])
def test_a_file_that_ends_the_process_does_not_take_the_tpu_from_the_others(
    retry_s: float, tmp_path: Path, standin: Path, plan: Plan
) -> None:
    """At its first call, the one of the two that is first; once, so that it may come back when it is tried again."""
    tpu = settings(standin, plan, retry_s=retry_s, retry_most_s=retry_s).model_dump()
    plan.strike(ABORT)
    with nothing_left():
        engines = Engines(InferenceConfig.model_validate({"engine": "tpu", "tpu": tpu}), ignore)
        models = {one.name: LoadedModel(one, engines.open(one)) for one in both_models(tmp_path)}
        engines.keep(models)
        engines.start()
        made = {name: model.engine for name, model in models.items() if isinstance(model.engine, FailoverEngine)}
        if retry_s > 1:
            wait_for(lambda: engines.degraded, "degraded")
            assert made[BEAT].seat is not None
            assert made["ecg-af-rr"].seat is None
            assert engines.degraded == "ecg-af-rr: aborted (SIGABRT): F stand-in: the device is gone"
            assert engines.why("ecg-af-rr") == engines.degraded
        wait_for(lambda: made[BEAT].seat and (retry_s > 1 or made["ecg-af-rr"].seat), "the seats")
        for name, model in models.items():
            model.engine.invoke(tuple(array[0] for array in model.artifact.golden_inputs))
            assert model.engine.backend.startswith("tpu/" if retry_s < 1 or name == BEAT else "cpu/")
        assert (engines.message("dev", "session").state == "tpu") == (retry_s < 1)
        engines.stop()


def test_what_ends_the_process_whichever_file_it_is_is_no_file_s_fault(
    tmp_path: Path, standin: Path, plan: Plan
) -> None:
    plan["load"] = ABORT
    tpu = settings(standin, plan, retry_s=20, retry_most_s=20).model_dump()
    with nothing_left():
        engines = Engines(InferenceConfig.model_validate({"engine": "tpu", "tpu": tpu}), ignore)
        models = {one.name: LoadedModel(one, engines.open(one)) for one in both_models(tmp_path)}
        engines.keep(models)
        engines.start()
        wait_for(lambda: engines.degraded, "degraded")
        assert (engines.degraded or "").startswith("loading: aborted (SIGABRT)")
        assert engines.health()["tpu_tries"] == 2
        engines.stop()


def test_another_version_of_a_model_takes_its_place(tmp_path: Path, standin: Path, plan: Plan) -> None:
    with nothing_left():
        bench = Bench(tmp_path, standin, plan)
        bench.engines.start()
        bench.wait("tpu")
        first, artifact = bench.engine, bench.artifact
        second = bench.engines.open(artifact)
        assert isinstance(second, FailoverEngine)
        bench.engines.keep({BEAT: LoadedModel(replace(artifact, digest="0" * 64), second)})
        wait_for(lambda: second.seat is not None, "the new one's seat")
        assert first.seat is None
        bench.ask()  # windows that were cut for the first are answered still
        bench.engine = second
        bench.ask()
        bench.engines.stop()


def test_a_file_that_computes_something_else_stays_on_the_cpu(tmp_path: Path, standin: Path, plan: Plan) -> None:
    """Compiled from another training, say: its digest is right, its golden outputs are not."""
    swapped = tiny.joining(tiny.Tensor("serving_default_1:0", (1, 3)), tiny.Tensor("serving_default_0:0", (1, 2)))
    artifact = load(tiny.write(tmp_path, files={"model_edgetpu.tflite": swapped}))
    tpu = settings(standin, plan, retry_s=20, retry_most_s=20).model_dump()
    with nothing_left():
        engines = Engines(InferenceConfig.model_validate({"engine": "tpu", "tpu": tpu}), ignore)
        engines.keep({"tiny": LoadedModel(artifact, engines.open(artifact))})
        engines.start()
        wait_for(lambda: engines.degraded, "degraded")
        assert engines.degraded == "wrong answers: tiny's golden outputs differ by 2.75, tolerance 0.03"
        engines.stop()


@pytest.mark.parametrize("what", ["junk", "dynamic"])
def test_a_file_that_is_none_is_named_and_never_loaded(what: str, tmp_path: Path, standin: Path, plan: Plan) -> None:
    parts = tiny.Tensor("serving_default_0:0", (1, 2), dynamic=True), tiny.Tensor("serving_default_1:0", (1, 3))
    data = b"TFL3" * 100 if what == "junk" else tiny.joining(*parts)
    artifact = load(tiny.write(tmp_path, files={"model_edgetpu.tflite": data}))
    tpu = settings(standin, plan, retry_s=20, retry_most_s=20).model_dump()
    with nothing_left():
        engines = Engines(InferenceConfig.model_validate({"engine": "tpu", "tpu": tpu}), ignore)
        engines.keep({"tiny": LoadedModel(artifact, engines.open(artifact))})
        engines.start()
        wait_for(lambda: engines.degraded, "degraded")
        assert engines.degraded is not None
        assert engines.degraded.startswith(str(artifact.folder / "model_edgetpu.tflite"))
        assert plan["loads"] == 0
        engines.stop()
