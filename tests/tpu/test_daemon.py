"""The whole daemon with a TPU that is lost: nothing is missing, all of it is said, and nothing is left behind."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from pathlib import Path

from benchmarks import tpu_faults
from edge_agent.inference.loaded import shipped_models
from tests.spine import base_config, listening, running_agent, running_broker, simulated, wait_for
from tests.tpu.stand import ABORT, FAIL, Plan, children, with_file

BEAT = "ecg-beat-aami"


def test_faults_one_after_the_other(tmp_path: Path, program: Callable[[str], str], standin: Path) -> None:
    """A short form of ``python -m benchmarks.tpu_faults``, whose bounds on time are for a machine that does nothing else."""
    assert standin.exists()  # gcc is there
    run = tpu_faults.one_run(
        tmp_path / "run", program("mosquitto"), engine="tpu", faults=8, seconds=0, streams=3, warm_up_s=6, seed=3,
        tell=lambda _: None,
    )  # fmt: skip
    assert run.struck == {"abort": 2, "hang": 2, "fail": 2, "lie": 2}
    assert (run.degraded, run.recovered) == (8, 8)
    assert run.reasons == {"aborted (SIGABRT)": 2, "hung": 2, "failed at a call": 2, "wrong answers": 2}
    assert run.beats > 10
    assert (run.unjudged, run.holes, run.turned_away) == (0, 0, 0)
    assert run.held_after == run.held_before
    assert run.held_before["children"] == 1
    assert sum(len(each) for each in run.failing_ms.values()) == 8


def inference(models: Path, standin: Path, plan: Plan, *, engine: str = "tpu", more: str = "") -> str:
    return f"""
models_dir = "{models}"
engine = "{engine}"
[inference.tpu]
delegate = "{standin}"
options = {{ plan = "{plan.path}" }}
sysfs = "{plan.path.parent / "no-sysfs"}"
retry_s = 0.3
retry_most_s = 0.3
{more}
[requests]
enabled = true
"""


def test_what_is_said_of_it_while_it_is_away_and_after(
    tmp_path: Path, program: Callable[[str], str], standin: Path, plan: Plan
) -> None:
    """A technical alarm, a retained state, the reason in bridge/info, counts in health; and a measurement on demand."""
    models = tmp_path / "models"
    models.mkdir()
    with_file(shipped_models() / BEAT, models)
    with (
        running_broker(program("mosquitto"), tmp_path) as broker,
        listening(broker.port) as listener,
        running_agent(
            tmp_path,
            base_config(
                broker.port, simulated("bed1", source="forever = true"), inference=inference(models, standin, plan)
            ),
        ) as agent,
    ):

        def engine() -> dict[str, object]:
            return listener.of("bridge", "engine")[-1]

        listener.wait("bridge", "engine", state="tpu")
        wait_for(
            lambda: [one for one in listener.of("bed1", "verdict") if one["backend"].startswith("tpu/")],
            "a verdict from the TPU",
        )
        plan["load"] = ABORT  # it cannot come back yet
        plan.strike(ABORT)
        said = listener.wait("bridge", "engine", state="degraded")
        assert said["reason"].startswith("aborted (SIGABRT)")
        assert said["models"][BEAT]["backend"].startswith("cpu/")
        raised = listener.wait("bed1", "alarm", kind="tpu_degraded", state="raised")
        assert raised["priority"] == "low"
        wait_for(lambda: (engine()["last_degraded"] or "").startswith("loading: aborted"), "a try that failed")  # type: ignore[attr-defined]
        (info,) = listener.of("bridge", "info")[-1]["models"]
        assert info["why"].startswith(("loading: aborted", "aborted"))
        plan["load"] = 0
        wait_for(lambda: engine()["state"] == "tpu", "its return")
        listener.wait("bed1", "alarm", kind="tpu_degraded", state="cleared")
        listener._client.publish("edge-agent/dev/bridge/request/measure", b"{}")
        answer = listener.wait("response", "measure", status="ok")
        assert answer["data"] == {"measure": "begun; bridge/engine follows"}
        agent.signal(signal.SIGHUP)
        agent.wait_log("reloaded")
        assert engine()["state"] == "tpu"
        plan.strike(FAIL)  # a lie might meet one of the calls that are timed, and be read by nobody
        wait_for(lambda: engine()["degradations"] == 2 and engine()["state"] == "tpu", "a second return")
        health = wait_for(
            lambda: next(
                (one for one in listener.of("bridge", "health") if one["inference"].get("tpu_recoveries") == 2), None
            ),
            "the counts",
        )
        assert health["inference"]["tpu_faults"] == 2
        assert health["inference"]["tpu_calls"] > 0
        assert (health["inference"]["dropped"], health["inference"]["stuck_s"]) == (0, 0)
        child = children(agent.process.pid)
        assert len(child) == 1
        agent.signal(signal.SIGTERM)
        assert agent.wait() == 0
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in child), "the child's end")
        assert json.loads(json.dumps(engine()))["state"] == "tpu"  # its end was no degradation
        assert "Traceback" not in agent.log
