"""The same study on Ray Tune: Ray runs the trials side by side, here or on a cluster; Optuna is asked and told in this process.

Points, avoid-list and pruning are those of `edge_train.tuning.study`, so a study may be begun without Ray and gone on with by it. On a
cluster ``edge_train`` and ``edge_agent`` are shipped with the job; TensorFlow must be there.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any

from edge_train.data.windows import Split
from edge_train.errors import DataError
from edge_train.tuning.study import Bound, Failure, Say, Study, attempt

LOCAL = "local"
REACH_S = 5.0
FACTS = ("validation", "best_epoch", "epochs", "weights", "seconds", "chance")
"""What is told of a finished fit."""


def start(address: str, cpus: int | None) -> Any:
    """Ray itself: on this machine, or a cluster that is there (``auto``, ``ray://HOST:10001``, ``HOST:6379``)."""
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        ray: Any = import_module("ray")
        import_module("ray.tune")  # whether it is whole
    except ImportError as error:
        raise DataError(f"--ray needs Ray Tune ({error}): pip install -e 'training[ray]'") from None
    import edge_agent
    import edge_train

    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address == LOCAL:
            paths = os.pathsep.join(str(Path(str(part.__file__)).parents[1]) for part in (edge_train, edge_agent))
            environment: dict[str, Any] = {"env_vars": {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}}
            ray.init(num_cpus=cpus, include_dashboard=False, runtime_env=environment, **quiet)
        else:
            environment = {"py_modules": [edge_train, edge_agent], "env_vars": {"OMP_NUM_THREADS": "1"}}
            _reach(address)
            ray.init(address=address, runtime_env=environment, **quiet)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001 - of Ray's own kinds, of gRPC's, and of Python's
        raise DataError(f"--ray {address}: no cluster there ({str(error).splitlines()[0][:160]})") from None
    return ray


def _reach(address: str) -> None:
    """Ray itself would wait for minutes for a host that does not answer."""
    host, found, port = address.removeprefix("ray://").rpartition(":")
    if not found or not port.isdigit():
        return  # auto, or a name that Ray knows
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except OSError as error:
        raise DataError(f"--ray {address}: no cluster there ({error.strerror or error})") from None


def trainable(config: dict[str, Any], task: Any = None, split: Split | None = None) -> None:
    """One trial, in Ray's worker: every epoch's score is reported; what goes wrong is told, not thrown."""
    from ray import tune

    from edge_train.fitting.fit import plan_of
    from edge_train.tuning.space import apply

    assert split is not None
    plan = apply(plan_of(config["plan"]), config["params"])
    try:
        facts = attempt(
            task,
            split,
            plan,
            config["seed"],
            Path(config["folder"]),
            lambda epoch, score: tune.report({"epoch": epoch, "score": score}),
        )
    except Failure as failure:
        tune.report({"epoch": 0, "score": 0.0, "failed": failure.kind, "detail": failure.detail})
        return
    # One level deep: Ray gives the searcher nested results flattened.
    tune.report({"epoch": facts["epochs"], "score": facts["validation"], **{key: facts[key] for key in FACTS}})


def search(
    study: Study, split: Split, bound: Bound, say: Say, after: Callable[[Study], object], address: str, cpus: int | None
) -> None:
    """Until the bound; what is running then, or at Ctrl-C, stays to be gone on with."""
    ray = start(address, cpus)
    try:
        revived = study.revive()
        if revived:
            say(f"{revived} trial(s) were interrupted and go on")
        _run(ray, study, split, bound, say, after)
    finally:
        study.revive()
        ray.shutdown()


def _run(ray: Any, study: Study, split: Split, bound: Bound, say: Say, after: Callable[[Study], object]) -> None:
    from ray import tune
    from ray.tune.search import Searcher

    asked: dict[str, Any] = {}
    hopeless: set[str] = set()

    class Asking(Searcher):
        """Ray's searcher that asks the study."""

        def __init__(self) -> None:
            super().__init__(metric="score", mode="max")

        def suggest(self, trial_id: str) -> Any:
            if bound.over(study.tried() + len(asked)):
                return None if asked else Searcher.FINISHED
            trial = study.ask()
            asked[trial_id] = trial
            folder = study.trial_folder(study.plan(trial))
            return {
                "plan": asdict(study.base), "params": dict(trial.params), "seed": study.seed, "folder": str(folder.resolve()),
            }  # fmt: skip

        def on_trial_complete(self, trial_id: str, result: Any = None, error: bool = False) -> None:
            trial = asked.pop(trial_id, None)
            if trial is None:
                return
            result = result or {}
            if error or "epoch" not in result:
                study.failed(trial, Failure("crashed", "its process died; see Ray's logs"))
                said = "failed: its process died"
            elif "failed" in result:
                failure = Failure(result["failed"], result.get("detail", ""))
                study.failed(trial, failure)
                said = f"failed: {failure}"
            elif "validation" in result:
                study.done(trial, {key: result[key] for key in FACTS})
                said = f"validation {result['validation']:.4f} (epoch {result['best_epoch']} of {result['epochs']})"
            elif trial_id in hopeless:
                study.pruned(trial, int(result["epoch"]))
                said = f"pruned after epoch {result['epoch']}"
            else:  # time is up
                study.interrupted(trial.number, dict(trial.params))
                said = f"time is up after epoch {result['epoch']}; the same command goes on with it"
            say(f"trial {trial.number}: {said}")
            after(study)

        def save(self, checkpoint_path: str) -> None:
            """The study is on disk already."""

        def restore(self, checkpoint_path: str) -> None:
            """As above."""

    def stop(trial_id: str, result: Mapping[Any, Any]) -> bool:
        trial = asked.get(trial_id)
        if trial is None or "validation" in result or "failed" in result:
            return False
        if math.isfinite(result["score"]):
            trial.report(result["score"], result["epoch"])
        if trial.should_prune():
            hopeless.add(trial_id)
            return True
        return bound.late()

    cores = int(ray.cluster_resources().get("CPU", 1))
    say(f"Ray: {cores} core(s), so many trials at once")
    # Ray counts trials by itself: enough for those that are asked for again.
    samples = -1 if bound.trials is None else max(1, bound.trials - study.tried()) + 8
    results = tune.Tuner(
        tune.with_resources(tune.with_parameters(trainable, task=study.task, split=split), {"cpu": 1}),
        tune_config=tune.TuneConfig(search_alg=Asking(), num_samples=samples, max_concurrent_trials=cores, reuse_actors=True),
        run_config=tune.RunConfig(
            name="ray", storage_path=str(study.folder.resolve()), stop=stop, verbose=0,
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )  # fmt: skip
    began = time.monotonic()
    results.fit()
    say(f"Ray: {time.monotonic() - began:.0f} s")
