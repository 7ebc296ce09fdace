"""CPU and TPU side by side, with the stand-in for the TPU; and what is said where there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge_agent.bench import run as bench_run
from edge_agent.bench.method import Method, Session
from edge_agent.bench.variants import variants
from edge_agent.config import InferenceConfig
from edge_agent.hardware import Hardware
from edge_agent.inference.artifact import load
from edge_agent.inference.loaded import shipped_models
from tests.bench.test_reports import checked
from tests.tpu.conftest import plan, standin  # noqa: F401  # fixtures
from tests.tpu.stand import Plan, children, settings, with_file

MODEL = "ecg-af-rr"
METHOD = Method(warmup_s=0.02, warmup_calls=5, run_s=0.1, run_calls=50)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "models"
    made.mkdir()
    with_file(shipped_models() / MODEL, made)
    return made


def test_both_are_measured_and_the_daemons_choice_stands_beside_them(
    folder: Path,
    tmp_path: Path,
    standin: Path,  # noqa: F811
    plan: Plan,  # noqa: F811
) -> None:
    inference = InferenceConfig(models_dir=folder, tpu=settings(standin, plan, hang_ms=2000))
    wanted = bench_run.Plan(
        device="t", scenarios=("single", "multi"), method=METHOD, inference=inference, out=tmp_path / "out"
    )
    ((report, path),) = bench_run.run(wanted, Session(), Hardware(), print)
    checked(json.loads(path.read_text(encoding="utf-8")))
    backends = {one.backend.split("/")[0] for one in report.results}
    assert backends == {"cpu", "tpu"}
    calls = {one.backend.split("/")[0]: one for one in report.results if one.name == "call"}
    assert calls["tpu"].parts.keys() == {"quantise", "invoke", "dequantise"}
    assert calls["tpu"].loop is not None
    # The stand-in takes any file: none of its operators is for a TPU, and its figures are no TPU's.
    assert "no operator on the TPU" in calls["tpu"].reasons
    assert "no operator on the TPU" not in calls["cpu"].reasons
    assert report.choice is not None
    assert report.choice.backend.startswith(("cpu/", "tpu/"))
    assert "p99" in report.choice.reason
    assert plan["calls"] > 50
    assert not children()  # its process is gone


def test_a_tpu_that_lies_is_not_measured(folder: Path, standin: Path, plan: Plan) -> None:  # noqa: F811
    from tests.tpu.stand import LIE

    plan.strike(LIE, lasting=True)
    inference = InferenceConfig(tpu=settings(standin, plan, hang_ms=2000))
    with variants(load(folder / MODEL), inference) as (found, choice):
        assert len(found) == 1
    assert "wrong answers" in choice.reason
    assert not children()


def test_no_library_no_file(folder: Path, tmp_path: Path, plan: Plan) -> None:  # noqa: F811
    inference = InferenceConfig(tpu=settings(tmp_path / "none.so", plan))
    with variants(load(folder / MODEL), inference) as (found, choice):
        assert [one.backend.split("/")[0] for one in found] == ["cpu"]
        assert choice.reason.startswith("no TPU: no library")
    with variants(load(shipped_models() / MODEL), inference) as (_, choice):
        assert choice.reason == "no model_edgetpu.tflite in the artifact"
