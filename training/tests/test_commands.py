"""The command line: what it takes, what it refuses, in one line each."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import toy
from edge_train import places, tasks
from edge_train.cli import main, parser
from edge_train.errors import DataError


def test_every_subcommand_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("data", "fit", "evaluate"):
        with pytest.raises(SystemExit) as stopped:
            parser().parse_args([command, "--help"])
        assert stopped.value.code == 0
    assert "--seeds" in capsys.readouterr().out


def test_settings_change_the_plan_by_its_types() -> None:
    made = places.with_settings(toy.PLAN, ["epochs=7", "rate=0.5", "architecture=lstm", "extra.width=2"])
    assert made == dataclasses.replace(toy.PLAN, epochs=7, rate=0.5, architecture="lstm", extra={"width": 2.0})


@pytest.mark.parametrize(
    "setting",
    [
        "epochs=many", "epoch=3", "epochs", "extra.width=wide", "extra=1", "batch=0", "epochs=0", "rate=nan", "rate=0",
        "dropout=1", "mixing=-1", "loss=hinge", "balance=none ",
    ],
)  # fmt: skip
def test_a_setting_that_is_none_is_refused(setting: str) -> None:
    with pytest.raises(DataError, match=f"--set {setting}"):
        places.with_settings(toy.PLAN, [setting])


def test_a_misspelt_task_is_told_the_nearest(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["fit", "beats-178", "--build", str(tmp_path)]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert "did you mean beats-187?" in message


@pytest.mark.parametrize("name", [tasks.BEAT, *tasks.TASKS])
def test_fitting_without_prepared_data_says_what_to_run(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["fit", name, f"--build={tmp_path}"]) == 1
    message = capsys.readouterr().err
    assert "edge-train data" in message
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("name", [tasks.BEAT, *tasks.TASKS])
def test_missing_public_data_is_one_line(name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """No folder at all, then a folder without the database."""
    for _ in range(2):
        assert main(["data", "prepare", name, f"--shared={tmp_path}", f"--build={tmp_path / 'build'}"]) == 1
        message = capsys.readouterr().err
        assert message.count("\n") == 1, message
        assert str(tmp_path) in message
        assert not (tmp_path / "build").exists()
        (tmp_path / "data").mkdir(exist_ok=True)


def test_an_artifact_s_name_is_its_task_and_plan(toy_task: toy.Toy) -> None:
    found = tasks.choose("ecg-beat-187")
    assert (found.name, found.artifact) == ("beats-187", "ecg-beat-187")
    assert tasks.choose("ecg-beat").artifact == tasks.choose("ecg-beat-aami").artifact == "ecg-beat-aami"
    assert tasks.choose("toy").task is toy_task
    with pytest.raises(DataError, match="no plan 'other'"):
        tasks.choose("toy", "other")


@pytest.mark.usefixtures("toy_task")
def test_a_plan_from_a_file(tmp_path: Path) -> None:
    plan = dataclasses.replace(toy.PLAN, rate=0.004, extra={"width": 0.5})
    path = tmp_path / "best.json"

    def ask() -> tasks.Chosen:
        return places.chosen(parser().parse_args(["fit", "toy", "--plan", str(path), "--set", "epochs=9"]))

    with pytest.raises(DataError, match="holds no plan"):
        ask()
    path.write_text(json.dumps({"plan": dataclasses.asdict(plan), "tuned": {"task": "toy", "artifact": "toy"}}))
    assert ask().plan == dataclasses.replace(plan, epochs=9)
    path.write_text(json.dumps({"plan": {"speed": 3}}))
    with pytest.raises(DataError, match="holds no plan"):
        ask()
    path.write_text(json.dumps({"plan": {}, "tuned": {"task": "ecg-af-rr"}}))
    with pytest.raises(DataError, match="is a plan for ecg-af-rr, not for toy"):
        ask()


def test_every_task_keeps_the_contract() -> None:
    """What the other commands rely on, of each task that is there."""
    from edge_train.packing.pack import whole

    for name in tasks.TASKS:
        found = tasks.task(name)
        assert found.name == name
        assert found.plans
        assert found.positive is None or found.positive in found.labels
        facts = {"digest": "0" * 64, "data": ["x"], "protocol": "x", "positions": "x"}
        for artifact in found.plans:
            about = found.about(artifact, facts, 3, {})
            assert whole(about, artifact)["name"] == artifact
            assert about["labels"] == list(found.labels)
            assert [part["name"] for part in about["inputs"]] == sorted(found.shapes())
            assert "seed 3" in about["training"]["protocol"]


def test_ctrl_c_says_that_the_same_command_goes_on(
    toy_places: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_train.fitting import fit as training

    def stopped(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "fit", stopped)
    assert main(["fit", "toy", "--seed", "9", *toy_places]) == 130
    assert "the same command goes on" in capsys.readouterr().err


def test_evaluate_without_anything_fitted(
    toy_places: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    import shutil

    build = Path(toy_places[0].partition("=")[2])
    shutil.copytree(build / "data", tmp_path / "data")
    assert main(["evaluate", "toy", f"--build={tmp_path}", f"--models={tmp_path}", f"--results={tmp_path}"]) == 1
    assert "edge-train fit toy" in capsys.readouterr().err


@pytest.mark.usefixtures("toy_artifact")
def test_evaluate_measures_what_is_there_and_keeps_other_models_lines(toy_places: list[str], tmp_path: Path) -> None:
    (tmp_path / "output.csv").write_text(
        "modeltag,F1scoremicro,F1scoremacro,TP_0,TP_1,TP_2,TP_3,TP_4\nother/shipped,0.5,0.5,1,,,,\ntoy/old,0.5,0.5,1,,,,\n"
    )
    places_here = [*toy_places[:2], f"--results={tmp_path}"]
    assert main(["evaluate", "toy", "--no-figures", *places_here]) == 0
    tags = [line.split(",")[0] for line in (tmp_path / "output.csv").read_text().splitlines()[1:]]
    assert tags == ["other/shipped", "toy/float/seed0", "toy/int8/seed0", "toy/shipped"]


def test_what_is_no_number_is_said_in_words() -> None:
    with pytest.raises(DataError, match=r"^--set epochs=x: a whole number is wanted"):
        places.with_settings(toy.PLAN, ["epochs=x"])


def test_a_plan_from_a_file_that_no_fit_can_be_made_with(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"batch": 0}))
    with pytest.raises(DataError, match="batch is 1 or more"):
        places.chosen(parser().parse_args(["fit", "ecg-af-rr", "--plan", str(tmp_path / "p.json")]))


@pytest.mark.parametrize("wanted", [["--seeds", "0"], ["--seed", "-1"]])
def test_no_seed_at_all_is_refused(
    wanted: list[str], toy_places: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit", "toy", *wanted, *toy_places]) == 1
    assert "--seeds is 1 or more" in capsys.readouterr().err


@pytest.mark.parametrize("rate", ["0", "nan", "-5", "inf"])
def test_a_rate_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("ecg\n1\n2\n")
    assert main(["data", "prepare", "csv", str(tmp_path / "x.csv"), "--rate", rate, f"--build={tmp_path}"]) == 1
    assert "a number above 0" in capsys.readouterr().err


def test_a_file_with_times_needs_no_rate(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    import numpy as np

    at = np.arange(0, 20, 1 / 250)
    ecg = np.exp(-(((at % 0.8) - 0.4) ** 2) / (2 * 0.012**2))
    lines = [f"{t:.3f},{x:.4f}" for t, x in zip(at, ecg, strict=True)]
    (tmp_path / "timed.csv").write_text("\n".join(["time (s),ecg (mV)", *lines]) + "\n")
    (tmp_path / "bare.csv").write_text("\n".join(["ecg (mV)", *(line.split(",")[1] for line in lines)]) + "\n")
    build = f"--build={tmp_path / 'build'}"
    assert main(["data", "prepare", "csv", str(tmp_path / "timed.csv"), build]) == 0
    assert "at 250 Hz" in capsys.readouterr().out
    assert main(["data", "prepare", "csv", str(tmp_path / "bare.csv"), build]) == 1
    assert "--rate HZ" in capsys.readouterr().err
    assert main(["data", "prepare", "csv", str(tmp_path / "bare.csv"), "--rate", "250", build]) == 0


@pytest.mark.parametrize(
    ("module", "given"),
    [
        ("edge_train.abp.report", ["--build={}"]),
        ("edge_train.af.folds", ["strips", "--build={}"]),
        ("edge_train.af.figures", ["rr", "{}/none", "--data={}"]),
    ],
)
def test_a_module_s_own_command_refuses_without_a_traceback(module: str, given: list[str], tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", module, *(one.format(tmp_path) for one in given)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith(f"{module}: ")
    assert "Traceback" not in done.stderr


HALF_DONE = """
import argparse, os, signal, sys, time
from pathlib import Path
from edge_train import cli
from edge_train.files import whole_folder

def run(_):
    with whole_folder(Path(sys.argv[1]) / "made" / "data") as aside:
        (aside / "half").write_text("done")
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(20)

parser = argparse.ArgumentParser()
parser.add_argument("folder")
parser.set_defaults(run=run)
cli.parser = lambda: parser
sys.exit(cli.main())
"""


def test_what_is_half_done_is_taken_away_by_sigterm_too(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-c", HALF_DONE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "stopped" in done.stderr) == (130, True)
    assert list(tmp_path.iterdir()) == []


def test_corrections_that_are_not_there_are_known_at_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow", None)  # which takes a minute to load on a busy machine
    assert main(["finetune", str(tmp_path), "--corrections", str(tmp_path / "none")]) == 1
    assert "none: there is no such folder of corrections" in capsys.readouterr().err
