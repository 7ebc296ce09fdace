"""The command line: the older spellings, Ctrl-C, exit statuses, what is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from edge_agent.bench.arguments import build_parser, plan
from edge_agent.bench.cli import _with_command, main
from edge_agent.bench.files import read
from edge_agent.bench.rig import cpu_s
from edge_agent.bench.run import Plan
from edge_agent.inference.loaded import shipped_models
from tests.bench.test_reports import checked
from tests.spine import wait_for

ROOT = Path(__file__).resolve().parents[2]
QUICK = ["--seconds", "0.05", "--calls", "20", "--warmup-seconds", "0.01", "--warmup-calls", "2", "--quiet"]


def planned(*argv: str) -> Plan:
    return plan(build_parser().parse_args(_with_command(argv)))


def test_the_older_spellings_mean_the_same() -> None:
    new = planned("--device-name", "pi4-usb", "--int8-only", "--models-dir", "models")
    old = planned("--computerType", "pi4-usb", "--quantizedOnly", "True", "--modelsDir", "models")
    assert new == old
    assert new.device == "pi4-usb"
    assert new.int8_only
    assert new.scenarios == ("single", "accuracy")
    assert not planned("--quantizedOnly", "False").int8_only


def test_scenarios_by_name() -> None:
    assert planned().scenarios == ("single",)
    assert planned("--scenario", "all").scenarios == ("single", "paced", "multi", "streams", "pipeline", "accuracy")
    assert planned("--scenario", "soak,single").scenarios == ("single", "soak")
    assert planned("--data", "here").scenarios == ("single", "accuracy")


@pytest.mark.parametrize(
    "argv",
    [
        ["--scenario", "sprint"],
        ["--seconds", "0"],
        ["--seconds", "inf"],
        ["--calls", "-1"],
        ["--device-name", "a/b"],
        ["--quantizedOnly", "Maybe"],
        ["--streams", "10,x"],
        ["compare"],
        ["compare", "a.json", "--fail-if", "p99:20%"],
        ["mesure"],
    ],
    ids=" ".join,
)
def test_what_is_refused(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(argv)
    assert ended.value.code == 2


def test_every_int8_model_of_a_folder_over_its_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As the older benchmark was called; each model's own folder is where its data are looked for."""
    argv = [
        "--computerType",
        "test",
        "--quantizedOnly",
        "True",
        "--models",
        "ecg-af-rr",
        "--out",
        str(tmp_path),
        "--html",
    ]
    assert main([*argv, *QUICK]) == 0
    out = capsys.readouterr().out
    (path,) = tmp_path.glob("summary-test-ecg-af-rr-*.json")
    assert str(path) in out
    checked(json.loads(path.read_text(encoding="utf-8")))
    assert path.with_suffix(".html").read_text(encoding="utf-8").count("<svg") >= 3
    report = read(path).report
    assert report is not None
    assert [one.scenario for one in report.results] == ["single", "single", "accuracy"]


def test_an_unknown_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--models", "nothing", "--out", str(tmp_path), *QUICK]) == 1
    err = capsys.readouterr().err
    assert "no model named 'nothing'" in err
    assert "ecg-beat-aami" in err


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("")
    assert main(["--models", "ecg-af-rr", "--out", str(tmp_path / "file"), *QUICK]) == 1
    assert "--out DIR" in capsys.readouterr().err


def test_ctrl_c_writes_what_was_measured(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge_agent.bench.cli", "--models", "ecg-af-rr", "--seconds", "300"]
    process = subprocess.Popen(
        [*command, "--out", str(tmp_path), "--quiet", "--models-dir", str(shipped_models())],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        wait_for(lambda: (cpu_s(process.pid) or 0) > 4, "the first calls, by the processor time", 150)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=90)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130, err
    assert "Traceback" not in err
    (path,) = tmp_path.glob("*.json")
    assert str(path) in out
    report = read(path).report
    assert report is not None
    call = report.results[0]
    assert not call.valid
    assert call.reasons[0] == "interrupted"
    assert call.latency is not None
    assert call.latency.count > 100
    checked(json.loads(path.read_text(encoding="utf-8")))


def test_strict_and_self_check_have_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = ["--models", "ecg-af-rr", "--out", str(tmp_path), "--seconds", "0.02", "--calls", "10", "--quiet"]
    assert main([*argv, "--calls", "10000000", "--strict"]) == 3  # too few samples, whatever the machine does
    assert "not all of it is VALID" in capsys.readouterr().err
    (path,) = tmp_path.glob("*.json")
    assert any("too few samples" in reason for row in read(path).rows for reason in row.reasons)
