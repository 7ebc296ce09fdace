"""The command line: what it takes, what it refuses, in one line each."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import toy
from edge_train import places, tasks
from edge_train.cli import main, parser
from edge_train.data.windows import Split
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


def _spoken_of_without_tensorflow(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is refused now is refused before it would be loaded, which takes a quarter of a minute."""
    import sys

    monkeypatch.setitem(sys.modules, "tensorflow", None)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (["--epochs", "0"], "--epochs 0: 1 or more"),
        (["--unfreeze", "0"], "--unfreeze 0: 1 or more"),
        (["--patience", "-1"], "--patience -1: 1 or more"),
        (["--rate", "nan"], "--rate nan: a number above 0"),
        (["--rate", "0"], "--rate 0: a number above 0"),
        (["--hold", "-1"], "--hold -1: a number, 0 or more"),
        (["--allow", "inf"], "--allow inf: a number, 0 or more"),
        (["--seed", "-3"], "--seed -3: 0 or more"),
    ],
)
def test_fine_tuning_by_numbers_that_are_none_is_refused_at_once(
    given: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _spoken_of_without_tensorflow(monkeypatch)
    assert main(["finetune", str(tmp_path), "--corrections", str(tmp_path), *given]) == 1
    assert message in capsys.readouterr().err


def test_fine_tuning_refuses_before_tensorflow_is_loaded(
    toy_artifact: Path,
    toy_places: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import shutil

    from edge_agent.inference.loaded import shipped_models

    _spoken_of_without_tensorflow(monkeypatch)

    def refused(artifact: Path, *more: str) -> str:
        assert main(["finetune", str(artifact), "--corrections", str(tmp_path), *more, *toy_places]) == 1
        return capsys.readouterr().err

    assert "no such model folder" in refused(tmp_path / "nothing")
    assert "holds no corrected segments" in refused(toy_artifact)
    assert "is asked about rhythms" in refused(shipped_models() / "ecg-af-rr")
    assert "no fitted run" in refused(toy_artifact, f"--weights={tmp_path}")
    alone = tmp_path / "alone" / "toy"
    shutil.copytree(toy_artifact, alone)
    assert f"its float model is not at hand ({alone}.keras)" in refused(alone)
    (alone.parent / "toy.keras").write_bytes(b"rubbish")
    assert "not a float model of an artifact" in refused(alone)
    shutil.copy(shipped_models() / "ecg-af-rr.keras", alone.parent / "toy.keras")
    assert "belongs to ecg-af-rr" in refused(alone)


def test_what_a_fit_took_is_told_of_all_of_it(
    toy_places: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its epochs are not all: TensorFlow is loaded, data are read, and processor time is not the clock's."""
    from edge_train.commands import fit

    clock = iter([100.0, 190.0, 200.0, 230.0, 240.0])
    monkeypatch.setattr(fit, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    build = tmp_path / "build"
    build.mkdir()
    (build / "data").symlink_to(Path(toy_places[0].partition("=")[2]) / "data")
    command = ["fit", "toy", "--seed", "4", "--quiet", "--set", "epochs=1", f"--build={build}"]
    assert main(command) == 0
    assert re.search(r" weights, 90 s \(\d+ s of processor time in its epochs\)\n$", capsys.readouterr().out)
    assert main(command) == 0
    assert capsys.readouterr().out.endswith(" weights\n")  # fitted already: nothing took anything


def test_a_part_of_the_data_says_so_and_does_not_ship(
    toy_places: list[str],  # noqa: ARG001 - makes the task known
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[float] = []

    def prepare(_: object, data: Path, oracle: bool, part: float = 1.0) -> Split:  # noqa: ARG001
        asked.append(part)
        return toy.split()

    monkeypatch.setattr(toy.Toy, "prepare", prepare)
    (tmp_path / "shared" / "data").mkdir(parents=True)
    where = [f"--{name}={tmp_path / name}" for name in ("build", "models", "results", "shared")]
    for wrong in ("0", "1.5", "nan", "-0.1"):
        assert main(["data", "prepare", "toy", f"--part={wrong}", *where]) == 1
        assert "a share of the data is above 0, and 1 at most" in capsys.readouterr().err
    assert main(["data", "prepare", "toy", "--part", "0.25", *where]) == 0
    assert asked == [0.25]
    assert json.loads((tmp_path / "build" / "data" / "toy" / "data.json").read_text())["part"] == 0.25
    assert main(["fit", "toy", "--seed", "0", "--quiet", "--set", "epochs=1", *where]) == 0
    assert main(["pack", "toy", *where]) == 1
    assert "fitted on a part of the data (--part 0.25)" in capsys.readouterr().err
    assert not (tmp_path / "models" / "toy").exists()


def test_a_part_is_spread_and_loses_no_kind() -> None:
    from edge_train.data.part import thinned, thinned_by

    assert thinned(range(40), 0.1) == [9, 19, 29, 39]
    assert thinned(range(3), 0.1) == [0]
    assert thinned(range(5), 1.0) == [0, 1, 2, 3, 4]
    for share in (0.1, 0.3, 0.7):
        assert len(thinned(range(1000), share)) == round(1000 * share)
    kinds = "NNNNVNNNNNNNNNNNNNNS"
    found = thinned_by(range(20), 0.2, kinds.__getitem__)
    assert found == [4, 5, 10, 15, 19]
    assert {kinds[i] for i in found} == set("NVS")


def test_a_long_step_says_how_far_it_is_in_a_log(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_train import counted

    clock = [0.0]
    monkeypatch.setattr(counted, "time", SimpleNamespace(monotonic=lambda: clock[0]))
    for _ in counted.counted("soon done", range(4)):
        clock[0] += 1
    assert capsys.readouterr().err == ""
    for _ in counted.counted("records", range(30)):
        clock[0] += 1
    assert capsys.readouterr().err == "records: 5 of 30\nrecords: 15 of 30\nrecords: 25 of 30\n"


@pytest.mark.parametrize("name", tasks.TASKS)
def test_preparing_says_how_far_it_is(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every task's long step is counted: the first item is enough to see that."""
    from importlib import import_module

    class Enough(Exception):
        pass

    def first(title: str, items: Any) -> Any:
        raise Enough(f"{title}: {len(items)}")

    module = import_module(tasks._MODULES[name])
    monkeypatch.setattr(module, "counted", first)
    if name == "ecg-af-rr":
        monkeypatch.setattr(module, "courses", lambda _: [])
    if name == "ecg-af-10s":
        monkeypatch.setattr(module, "labels", lambda _: {f"A{i:05}": i % 4 for i in range(40)})
    if name == "abp-segment":
        monkeypatch.setattr(module.lines, "alarms", lambda _: {})
        monkeypatch.setattr(module.lines, "names", lambda _: [f"a{i}" for i in range(9)])
    (tmp_path / "mitdb").mkdir()
    with pytest.raises(Enough, match=r": \d+$"):
        tasks.task(name).prepare(tmp_path, False)
    assert capsys.readouterr().out == ""


def test_what_was_fetched_is_found_where_nothing_else_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("EDGE_AGENT_SHARED", raising=False)
    monkeypatch.setattr(places, "__file__", str(tmp_path / "a" / "b" / "training" / "edge_train" / "places.py"))
    build = tmp_path / "build"
    with pytest.raises(DataError, match="no folder 'data' there"):
        places.shared_folder(None, build)
    (build / "public" / "data").mkdir(parents=True)
    assert places.shared_folder(None, build) == build / "public" / "data"
    with pytest.raises(DataError, match="told: no folder 'data' there"):  # what was told is not passed over
        places.shared_folder(tmp_path / "told", build)
    (tmp_path / "a" / "shared" / "data").mkdir(parents=True)
    assert places.shared_folder(None, build) == tmp_path / "a" / "shared" / "data"
