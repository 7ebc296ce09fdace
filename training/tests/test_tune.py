"""Searching for a plan: what is asked, what is never asked again, and what survives an interruption."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import toy
from edge_train.cli import main
from edge_train.errors import DataError
from edge_train.fitting.fit import fit, plan_of
from edge_train.tuning import avoid
from edge_train.tuning import report as tune_report
from edge_train.tuning import study as tune
from edge_train.tuning.space import Choice, Real, Space, apply, distance, space_of

SPACE: Space = [
    Choice("loss", ("crossentropy", "focal")),
    Real("rate", 1e-4, 1e-2, log=True),
    Real("dropout", 0.0, 0.6),
]
BOUND = tune.Bound(trials=6)


def _mute(_: object) -> None:
    pass


@pytest.fixture
def study(tmp_path: Path) -> tune.Study:
    return tune.open_study(tmp_path / "study", toy.TASK, "toy", toy.PLAN, SPACE, "toy")


def pretend(monkeypatch: pytest.MonkeyPatch, score: Callable[[Any], float]) -> list[Any]:
    """Trials that take no time: ``score`` of the plan at every epoch."""
    tried: list[Any] = []

    def attempt(_: Any, __: Any, plan: Any, ___: int, folder: Path, report: Any) -> dict[str, Any]:
        tried.append(plan)
        value = score(plan)
        for epoch in range(1, plan.epochs + 1):
            report(epoch, value)
        return {
            "validation": value, "best_epoch": 1, "epochs": plan.epochs, "weights": 1, "seconds": 0.0, "chance": 0.1, "key": folder.name,
        }  # fmt: skip

    monkeypatch.setattr(tune, "attempt", attempt)
    return tried


def test_distance_is_a_part_of_the_range_and_a_choice_is_far() -> None:
    a = {"loss": "focal", "rate": 1e-3, "dropout": 0.0}
    assert distance(SPACE, a, a) == 0
    assert distance(SPACE, a, a | {"rate": 1e-2}) == pytest.approx(0.5 / np.sqrt(3))  # one decade of two
    assert distance(SPACE, a, a | {"loss": "crossentropy"}) == pytest.approx(1 / np.sqrt(3))
    assert distance(SPACE, a, a | {"loss": "crossentropy"}, ("rate",)) == 0


def test_a_plan_takes_the_parameters() -> None:
    plan = apply(toy.PLAN, {"rate": 1e-3, "size": "small", "extra.width": 1.5})
    assert (plan.rate, plan.size, plan.extra) == (1e-3, "small", {"width": 1.5})
    with pytest.raises(DataError, match="no wings"):
        apply(toy.PLAN, {"wings": 2})


def test_nothing_near_a_failure_is_asked_again(study: tune.Study) -> None:
    bad = {"loss": "focal", "rate": 1e-3, "dropout": 0.3}
    for dropout in np.linspace(0, 0.6, 5):  # half of the space, whatever the rate
        study.put_on_list(avoid.Avoided(0, bad | {"dropout": float(dropout)}, "failed", 0.2, ("loss", "dropout")))
    asked = []
    for _ in range(10):
        trial = study.ask()
        asked.append(trial.params)
        study.study.tell(trial, 0.5)
    assert {params["loss"] for params in asked} == {"crossentropy"}
    assert tune_report.turned_down(study) > 1, "the sampler did suggest focal, or this test shows nothing"


def test_a_failure_is_told_and_avoided(study: tune.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    def score(plan: Any) -> float:
        if plan.loss == "focal":
            raise tune.Failure("out of memory", "8 GB")
        return 0.5

    tried = pretend(monkeypatch, score)
    tune.search(study, toy.split(), tune.Bound(trials=10), _mute, _mute)
    assert sum(plan.loss == "focal" for plan in tried) < 10
    failed = [row for row in tune_report.rows(study) if row["state"] == "failed"]
    assert all(row["why"] == "out of memory: 8 GB" for row in failed)
    focal = [each for each in study.avoided if each.why.startswith("out of memory")]
    assert len(focal) == len(failed) == sum(plan.loss == "focal" for plan in tried)
    if focal:
        assert focal[0].names == avoid.BLAMED["out of memory"]
        assert "avoided" in tune_report.table(study)


def test_hopeless_trials_are_pruned_and_the_best_is_written(study: tune.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda plan: 0.9 - plan.dropout)
    tune.search(study, toy.split(), tune.Bound(trials=14), _mute, lambda one: tune_report.write(one) and None)
    states = [row["state"] for row in tune_report.rows(study)]
    assert states.count("pruned") >= 1
    assert states.count("done") >= 4
    best = json.loads((study.folder / "best.json").read_text())
    done = [row for row in tune_report.rows(study) if row["state"] == "done"]
    assert best["tuned"]["validation"] == max(row["validation"] for row in done)
    assert plan_of(best).dropout == min(row["dropout"] for row in done)
    for path in tune_report.draw(study):
        assert path.read_bytes()[:4] == b"\x89PNG"
    assert (study.folder / "history.png").is_file()
    assert len((study.folder / "trials.csv").read_text().splitlines()) == 1 + len(states)


def test_who_learns_nothing_is_avoided(study: tune.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda _: 0.11)  # chance is .1
    tune.search(study, toy.split(), tune.Bound(trials=2), _mute, _mute)
    assert [each.why[:15] for each in study.avoided] == ["learned nothing"] * 2
    assert study.best() is None


def test_an_interrupted_trial_goes_on_from_its_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C in the second epoch, then the same command: the same point, and the weights of an uninterrupted run."""
    plan = replace(toy.PLAN, epochs=3, per_epoch=64)
    folder = tmp_path / "study"
    monkeypatch.setattr(tune, "chance", lambda *_: -1.0)  # some points learn nothing in three epochs: not asked here

    def opened() -> tune.Study:
        return tune.open_study(folder, toy.TASK, "toy", plan, SPACE, "toy", "none")

    real, epochs = tune.attempt, []

    def stopped(task: Any, split: Any, plan: Any, seed: int, where: Path, report: Any) -> dict[str, Any]:
        def at(epoch: int, score: float) -> None:
            epochs.append(epoch)
            if epoch == 2:
                raise KeyboardInterrupt
            report(epoch, score)

        return real(task, split, plan, seed, where, at)

    monkeypatch.setattr(tune, "attempt", stopped)
    with pytest.raises(KeyboardInterrupt):
        tune.search(opened(), toy.split(), tune.Bound(trials=1), _mute, _mute)
    monkeypatch.setattr(tune, "attempt", real)
    study = opened()
    assert study.tried() == 0
    tune.search(study, toy.split(), tune.Bound(trials=1), _mute, _mute)
    done = [row for row in tune_report.rows(study) if row["state"] == "done"]
    first = study.study.trials[0]
    assert [row["trial"] for row in done] == [1]
    assert study.study.trials[1].params == first.params
    where = study.trial_folder(apply(plan, first.params))
    once = fit(toy.TASK, toy.split(), apply(plan, first.params), 0, tmp_path / "once")
    assert json.loads((where / "fit.json").read_text())["validation"] == once["validation"]
    assert len((where / "history.csv").read_text().splitlines()) == 1 + 3


def test_a_killed_process_s_trial_goes_on(study: tune.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    trial = study.ask()  # running, and its process is gone
    params = dict(trial.params)
    tried = pretend(monkeypatch, lambda _: 0.5)
    tune.search(study, toy.split(), tune.Bound(trials=1), _mute, _mute)
    assert apply(toy.PLAN, params) == tried[0]


def test_time_is_a_bound(study: tune.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, lambda _: time.sleep(0.05) or 0.5)  # type: ignore[func-returns-value]
    said: list[str] = []
    tune.search(study, toy.split(), tune.Bound(ends=time.monotonic() + 0.3), said.append, _mute)
    assert 1 <= len(said) <= 7
    assert not [trial for trial in study.study.trials if trial.state.name == "RUNNING"]


def test_a_net_too_big_is_not_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tune, "LARGEST_WEIGHTS", 100)
    with pytest.raises(tune.Failure, match="too big"):
        tune.attempt(toy.TASK, toy.split(), toy.PLAN, 0, tmp_path, lambda *_: None)
    assert not list(tmp_path.iterdir())


def test_a_loss_that_is_no_number_is_a_failure(tmp_path: Path) -> None:
    plan = replace(toy.PLAN, rate=1e30)
    with pytest.raises(tune.Failure, match="not a number"):
        tune.attempt(toy.TASK, toy.split(), plan, 0, tmp_path, lambda *_: None)


def test_data_that_do_not_fit_are_not_blamed_on_the_plan(tmp_path: Path) -> None:
    split = toy.split()
    with pytest.raises(DataError, match="the net takes"):
        tune.attempt(
            toy.TASK, replace(split, train=replace(split.train, inputs={"wave": split.train.inputs["wave"][:, :50]})),
            toy.PLAN, 0, tmp_path, lambda *_: None,
        )  # fmt: skip


def test_another_search_in_the_same_folder_is_refused(study: tune.Study) -> None:
    with pytest.raises(DataError, match="another space"):
        tune.open_study(study.folder, toy.TASK, "toy", toy.PLAN, SPACE[:2], "toy")


def test_the_shipped_space_fits_plans() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        params = {part.name: part.draw(rng) for part in space_of(toy.PLAN, ("conv", "dense"))}
        assert apply(toy.PLAN, params).architecture in ("conv", "dense")
        assert distance(space_of(toy.PLAN, ("conv", "dense")), params, params) == 0


def test_the_command_wants_a_bound(toy_places: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "toy", *toy_places]) == 1
    assert "--trials N or --minutes M" in capsys.readouterr().err


def test_the_command_from_end_to_end(toy_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["tune", "toy", "--study", str(tmp_path / "s"), "--epochs", "1", "--set", "per_epoch=64", *toy_places]
    assert main([*command, "--trials", "1"]) == 0
    assert main([*command, "--trials", "2"]) == 0
    said = capsys.readouterr().out
    assert sum(line.startswith("trial 0: ") for line in said.splitlines()) == 1, (
        "the second call goes on, it does not begin anew"
    )
    assert (tmp_path / "s" / "table.txt").is_file()
    look = ["tune", "toy", "--study", str(tmp_path / "s"), "--table", *toy_places]
    assert main(look) == 0, "a table needs no plan"
    assert "avoided: " in capsys.readouterr().out
    base = tune.read_study(tmp_path / "s", toy.TASK, "toy").base
    assert base == replace(toy.PLAN, epochs=1, per_epoch=64), "best.json is of the plan that was searched around"
    assert main(["tune", "toy", "--study", str(tmp_path / "none"), "--table", *toy_places]) == 1
    assert "no study there; run: edge-train tune toy" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_ray_runs_the_same_study(tmp_path: Path) -> None:
    """Begun without Ray, gone on with by it."""
    ray = pytest.importorskip("ray")
    from edge_train.tuning import on_ray as tune_ray
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(toy)  # type: ignore[no-untyped-call]  # Ray's workers do not have the tests on their path
    plan = replace(toy.PLAN, epochs=2, per_epoch=64)
    study = tune.open_study(tmp_path / "study", toy.TASK, "toy", plan, SPACE, "toy", "none")
    tune.search(study, toy.split(), tune.Bound(trials=1), _mute, _mute)
    said: list[str] = []
    tune_ray.search(
        study, toy.split(), tune.Bound(trials=2), said.append, lambda one: tune_report.write(one) and None, "local", 2
    )
    assert not ray.is_initialized()
    assert study.tried() == 2, said
    done = [row for row in tune_report.rows(study) if row["state"] in ("done", "failed")]
    assert len(done) == 2
    assert study.write_best() is not None


def test_a_cluster_that_is_not_there_is_one_message(
    toy_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("ray")
    command = ["tune", "toy", "--study", str(tmp_path / "s"), "--trials", "1", "--ray", "127.0.0.1:1", *toy_places]
    assert main(command) == 1
    assert "--ray 127.0.0.1:1" in capsys.readouterr().err
