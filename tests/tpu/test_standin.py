"""The stand-in itself: what proves the rest must be sound. And the process that it runs in."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import ArtifactError
from edge_agent.inference import engine
from edge_agent.inference.artifact import Artifact, load, open_engine, verify
from edge_agent.inference.loaded import model_names, shipped_models
from edge_agent.inference.tpu import child as tpu_child
from edge_agent.inference.tpu.devices import find_library
from edge_agent.inference.tpu.failover import RemoteEngine
from edge_agent.inference.tpu.process import CHILD, ENDED, TpuFault, TpuLate, TpuProcess, ask_devices
from edge_agent.journey import Samples
from tests.inference import tiny
from tests.spine import ROOT, wait_for
from tests.tpu.stand import ABORT, FAIL, HANG, LIE, REFUSE, SEGFAULT, SLOW, Plan, children, held, nothing_left

BEAT = shipped_models() / "ecg-beat-aami"


@pytest.fixture
def process() -> Iterator[TpuProcess]:
    with nothing_left():
        made = TpuProcess()
        yield made
        assert made.reap()


def opened(process: TpuProcess, artifact: Artifact, standin: Path, plan: Plan, *, limit_s: float = 5.0) -> RemoteEngine:
    remote = process.load(artifact.tflite, str(standin), {"plan": str(plan.path)}, 10.0, "model_edgetpu.tflite")
    remote.limit_s = limit_s
    return RemoteEngine(artifact, remote, "model_edgetpu.tflite")


def first_case(artifact: Artifact) -> tuple[Samples, ...]:
    return tuple(array[0] for array in artifact.golden_inputs)


@pytest.mark.parametrize("name", model_names(shipped_models()))
def test_it_computes_every_shipped_model_as_the_cpu_does(
    name: str, process: TpuProcess, standin: Path, plan: Plan
) -> None:
    artifact = load(shipped_models() / name)
    there, here = opened(process, artifact, standin, plan), open_engine(artifact)
    assert verify(artifact, there) <= artifact.manifest.golden.tolerance
    for case in zip(*artifact.golden_inputs, strict=True):
        np.testing.assert_allclose(there.invoke(case), here.invoke(case), atol=artifact.manifest.golden.tolerance)
    assert plan["calls"] == 2 * len(artifact.golden_outputs)
    assert there.backend == f"tpu/{engine.find_runtime()[0]}"


def test_several_files_in_one_process_answer_each_for_itself(process: TpuProcess, standin: Path, plan: Plan) -> None:
    artifacts = [load(shipped_models() / name) for name in ("ecg-beat-aami", "ecg-af-rr", "ecg-af-10s")]
    engines = [opened(process, artifact, standin, plan) for artifact in artifacts]
    for _ in range(3):
        for artifact, one in zip(artifacts, engines, strict=True):
            assert verify(artifact, one) <= artifact.manifest.golden.tolerance
    assert plan["loads"] == 3


def test_a_compiled_file_needs_the_delegate_and_runs_with_it(process: TpuProcess, standin: Path, plan: Plan) -> None:
    tflite = tiny.custom("edgetpu-custom-op", tiny.Tensor("a", (1, 2)), tiny.Tensor("b", (1, 3)))
    with pytest.raises(TpuFault, match="unresolved custom op: edgetpu-custom-op"):
        process.load(tflite, str(standin), {"plan": str(plan.path)}, 10.0)
    remote = process.load(tflite, str(standin), {"plan": str(plan.path), "claim": "custom"}, 10.0)
    remote.limit_s = 5.0
    details = remote.get_input_details()
    remote.set_tensor(details[0]["index"], np.array([[1, 2]], np.int8))
    remote.set_tensor(details[1]["index"], np.array([[3, 4, 5]], np.int8))
    remote.invoke()
    assert remote.get_tensor(remote.get_output_details()[0]["index"]).tolist() == [[1, 2, 3, 4, 5]]


@pytest.mark.parametrize(
    ("fault", "epitaph"),
    [(ABORT, "aborted (SIGABRT): F stand-in: the device is gone"), (SEGFAULT, "crashed (SIGSEGV)")],
)
def test_a_library_that_ends_its_process_is_seen_at_once(
    fault: int, epitaph: str, process: TpuProcess, standin: Path, plan: Plan
) -> None:
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan, limit_s=20.0)
    plan.strike(fault)
    began = time.monotonic()
    with pytest.raises(TpuFault, match=ENDED):
        one.invoke(first_case(artifact))
    assert time.monotonic() - began < 5  # a dump may be written; nobody waits the 20 s
    assert process.epitaph() == epitaph


def test_a_call_that_hangs_is_left_after_its_limit(process: TpuProcess, standin: Path, plan: Plan) -> None:
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan, limit_s=0.05)
    plan.strike(HANG)
    began = time.monotonic()
    with pytest.raises(TpuLate):
        one.invoke(first_case(artifact))
    assert 0.05 <= time.monotonic() - began < 2
    assert not process.ready()
    assert process.waited_s >= 0.05


def test_an_answer_that_comes_too_late_is_not_the_next_one_s(process: TpuProcess, standin: Path, plan: Plan) -> None:
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan, limit_s=0.02)
    plan["slow_us"] = 200_000
    plan.strike(SLOW)
    with pytest.raises(TpuLate):
        one.invoke(first_case(artifact))
    wait_for(process.ready, "the late answer")
    one.remote.limit_s = 5.0
    second = tuple(array[1] for array in artifact.golden_inputs)
    np.testing.assert_allclose(one.invoke(second), artifact.golden_outputs[1], atol=artifact.manifest.golden.tolerance)


def test_a_call_that_fails_says_why(process: TpuProcess, standin: Path, plan: Plan) -> None:
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan)
    plan.strike(FAIL)
    with pytest.raises(TpuFault, match=r"failed at a call: .*failed as it was told"):
        one.invoke(first_case(artifact))


def test_a_call_that_is_announced_and_never_made_is_no_call(process: TpuProcess, standin: Path, plan: Plan) -> None:
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan)
    first = one.invoke(first_case(artifact))
    for _ in range(3):
        one.remote.wake()
    assert process.ready()
    np.testing.assert_array_equal(one.invoke(first_case(artifact)), first)
    assert plan["calls"] == 2


def test_what_was_answered_stays_while_the_next_is_computed(process: TpuProcess, standin: Path, plan: Plan) -> None:
    """Answers lie in memory that the next call writes to."""
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan)
    cases = [tuple(array[i] for array in artifact.golden_inputs) for i in range(2)]
    first = one.invoke(cases[0])
    kept = first.copy()
    assert not np.array_equal(one.invoke(cases[1]), kept)
    np.testing.assert_array_equal(first, kept)


def test_looking_out_for_an_answer_ends_and_a_long_call_is_slept_through(
    process: TpuProcess, standin: Path, plan: Plan
) -> None:
    """Processor time, not the clock's: a call of 100 ms is waited for with 0.2 ms of looking at most, or a few scheduling ticks."""
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan)
    one.invoke(first_case(artifact))
    plan["slow_us"] = 100_000
    plan.strike(SLOW, lasting=True)
    began = time.thread_time()
    for _ in range(5):
        one.invoke(first_case(artifact))
    assert time.thread_time() - began < 0.1


def test_a_lie_is_an_answer_like_any_other(process: TpuProcess, standin: Path, plan: Plan) -> None:
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan)
    plan.strike(LIE)
    off = np.abs(one.invoke(first_case(artifact)) - artifact.golden_outputs[0]).max()
    assert off > 8 * artifact.manifest.golden.tolerance


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        (REFUSE, "refused: .*refuses as it was told"),
        (ABORT, r"loading: aborted \(SIGABRT\): F stand-in"),
        (SEGFAULT, r"loading: crashed \(SIGSEGV\)"),
        (HANG, "hung: loading took more than 1 s"),
    ],
)
def test_a_library_that_does_not_load(fault: int, reason: str, process: TpuProcess, standin: Path, plan: Plan) -> None:
    plan["load"], plan["devices"] = fault, 1
    with pytest.raises(TpuFault, match=reason) as caught:
        process.load(load(BEAT).tflite, str(standin), {"plan": str(plan.path)}, 1.0 if fault == HANG else 20.0)
    if fault == REFUSE:
        assert caught.value.what.endswith("(libedgetpu stand-in for tests sees 1 device)")


def test_what_is_no_library_or_no_model_is_refused(
    process: TpuProcess, standin: Path, plan: Plan, tmp_path: Path
) -> None:
    with pytest.raises(TpuFault, match=r"refused: .*cannot open shared object file"):
        process.load(load(BEAT).tflite, str(tmp_path / "libnothing.so"), {}, 10.0)
    with pytest.raises(TpuFault, match="refused: "):
        process.load(b"nothing of the kind" * 100, str(standin), {"plan": str(plan.path)}, 10.0)


def test_a_file_with_other_tensors_than_the_manifest_s(process: TpuProcess, standin: Path, plan: Plan) -> None:
    other = load(shipped_models() / "ecg-af-rr").tflite
    remote = process.load(other, str(standin), {"plan": str(plan.path)}, 10.0)
    with pytest.raises(ArtifactError, match=r"^x/model_edgetpu\.tflite: "):
        RemoteEngine(load(BEAT), remote, "x/model_edgetpu.tflite")


def test_the_end_of_the_parent_is_the_end_of_the_child_even_in_a_call(standin: Path, plan: Plan) -> None:
    program = f"""
import sys, time
from pathlib import Path
from edge_agent.inference.artifact import load
from edge_agent.inference.tpu.process import TpuProcess
artifact = load(Path({str(BEAT)!r}))
process = TpuProcess()
remote = process.load(artifact.tflite, {str(standin)!r}, {{"plan": {str(plan.path)!r}}}, 10.0)
process.begin(0)
print(process.pid, flush=True)
time.sleep(60)
"""
    plan.strike(HANG)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, env=environment) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        wait_for(lambda: plan["fired"], "the call that hangs")
        parent.send_signal(signal.SIGKILL)

    def gone() -> bool:
        try:
            state = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return True
        return state == "Z"  # whoever inherits it has not looked yet

    wait_for(gone, "the child's end")


def test_signals_to_the_whole_group_are_the_parent_s_to_deal_with(
    process: TpuProcess, standin: Path, plan: Plan
) -> None:
    artifact = load(BEAT)
    one = opened(process, artifact, standin, plan)
    os.kill(process.pid, signal.SIGTERM)
    os.kill(process.pid, signal.SIGINT)
    one.invoke(first_case(artifact))


def test_a_dozen_processes_leave_nothing(standin: Path, plan: Plan) -> None:
    artifact = load(BEAT)
    before, ours = held(), children()
    for number in range(12):
        process = TpuProcess()
        one = opened(process, artifact, standin, plan)
        one.invoke(first_case(artifact))
        if number % 3 == 0:
            plan.strike(ABORT)
            with pytest.raises(TpuFault):
                one.invoke(first_case(artifact))
        assert process.reap()
        del one
    assert held() == before
    assert children() == ours


def test_the_devices_are_listed_without_opening_one(standin: Path, tmp_path: Path) -> None:
    found = ask_devices(str(standin))
    assert found == {"version": "stand-in for tests", "devices": []}
    missing = ask_devices(str(tmp_path / "libnothing.so"))
    assert "cannot open shared object file" in missing["error"]


def test_only_google_s_pycoral_is_asked(tmp_path: Path) -> None:
    """PyPI's is an ocean atlas; it would be imported by asking for a part of it."""

    def ask() -> str:
        done = subprocess.run(
            [sys.executable, str(CHILD), "--devices", ""],
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
        )
        return done.stdout.strip()

    package = tmp_path / "pycoral"
    package.mkdir()
    (package / "__init__.py").write_text("raise SystemExit('imported')\n", encoding="utf-8")
    assert ask() == '{"error": "Google\'s pycoral is not installed"}'
    (package / "__init__.py").write_text("", encoding="utf-8")
    (package / "utils").mkdir()
    (package / "utils" / "__init__.py").write_text("", encoding="utf-8")
    (package / "utils" / "edgetpu.py").write_text(
        "def get_runtime_version(): return '16'\ndef list_edge_tpus(): return [{'type': 'usb', 'path': '/sys/x'}]\n",
        encoding="utf-8",
    )
    assert ask() == '{"version": "16", "devices": [{"type": "usb", "path": "/sys/x"}]}'


def test_the_child_is_a_program_of_its_own() -> None:
    """It may run in another Python, which knows nothing of this package."""
    source = CHILD.read_text(encoding="utf-8")
    assert not [line for line in source.splitlines() if line.startswith(("import edge_agent", "from edge_agent"))]
    assert [name for name, _ in tpu_child.RUNTIMES] == [name for name, _ in engine.RUNTIMES]


def test_the_real_library_without_a_device() -> None:
    """Skipped by name where libedgetpu is not installed."""
    library = find_library(None)
    if library is None:
        pytest.skip("libedgetpu is not installed")
    found = ask_devices(str(library))
    assert found.get("version"), found
    if found["devices"]:
        pytest.skip(f"a real device is there: {found['devices']}")
    with nothing_left():
        process = TpuProcess()
        with pytest.raises(TpuFault, match=r"refused: .*sees no device"):
            process.load(load(BEAT).tflite, str(library), {}, 30.0)
        assert process.reap()
