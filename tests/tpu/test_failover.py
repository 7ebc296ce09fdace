"""The TPU lost in every way that it can be lost: the window that meets it is answered by the CPU, it is said, and it comes back."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from edge_agent.config import InferenceConfig
from edge_agent.inference.artifact import Artifact, load
from edge_agent.inference.judge import LoadedModel, shipped_models
from edge_agent.inference.tpu import supervisor as tpu_supervisor
from edge_agent.inference.tpu.choice import Choice, Timing, choose, measure, timing
from edge_agent.inference.tpu.devices import devices, find_library, temperature_c, wanted
from edge_agent.inference.tpu.engines import NO_FILE, Engines
from edge_agent.inference.tpu.failover import MOST_LATE, FailoverEngine
from edge_agent.journey import Samples
from tests.inference import tiny
from tests.spine import wait_for
from tests.tpu.stand import (
    ABORT,
    FAIL,
    HANG,
    LIE,
    REFUSE,
    SEGFAULT,
    SLOW,
    Plan,
    apex,
    nothing_left,
    settings,
    usb,
    with_file,
)

BEAT = "ecg-beat-aami"


def ignore() -> None:
    """For who does not listen."""


class Bench:
    """One model's engine as the models' thread has it, and what was said of it."""

    def __init__(self, folder: Path, standin: Path, plan: Plan, *, engine: str = "tpu", **tpu: object) -> None:
        self.artifact = load(with_file(shipped_models() / BEAT, folder))
        self.plan = plan
        self.said: list[tuple[str, str]] = []
        config = InferenceConfig.model_validate({"engine": engine, "tpu": settings(standin, plan, **tpu).model_dump()})
        self.engines = Engines(config, self._say)
        engine_made = self.engines.open(self.artifact)
        assert isinstance(engine_made, FailoverEngine)
        self.engine = engine_made
        self.engines.keep({BEAT: LoadedModel(self.artifact, self.engine)})

    def _say(self) -> None:
        message = self.engines.message("dev", "session")
        self.said.append((message.state, message.reason))

    @property
    def state(self) -> str:
        return self.engines.message("dev", "session").state

    def wait(self, state: str) -> str:
        wait_for(lambda: self.state == state, f"state {state}; said so far: {self.said}")
        return self.engines.message("dev", "session").reason

    def wait_said(self, reason: str) -> None:
        wait_for(lambda: any(said.startswith(reason) for _, said in self.said), f"{reason!r} among {self.said}")

    def tried_since(self, loads: int) -> bool:
        return self.plan["loads"] > loads

    def recovered_since(self, recoveries: int) -> bool:
        return self.engines.message("dev", "session").recoveries > recoveries

    def ask(self, case: int = 0) -> tuple[Samples, float]:
        """A golden window, which must be answered rightly whatever happens; and how long it took, in ms."""
        inputs = tuple(array[case] for array in self.artifact.golden_inputs)
        began = time.monotonic()
        output = self.engine.invoke(inputs)
        took_ms = (time.monotonic() - began) * 1000
        off = np.max(np.abs(output - self.artifact.golden_outputs[case]))
        assert off <= self.artifact.manifest.golden.tolerance
        return output, took_ms


@pytest.fixture
def bench(tmp_path: Path, standin: Path, plan: Plan, request: pytest.FixtureRequest) -> Iterator[Bench]:
    more = getattr(request, "param", {})
    with nothing_left():
        made = Bench(tmp_path, standin, plan, **more)
        made.engines.start()
        try:
            yield made
        finally:
            made.engines.stop()


FAULTS = {
    "abort": (ABORT, "aborted (SIGABRT): F stand-in: the device is gone"),
    "hang": (HANG, "hung: no answer in 400 ms"),
    "fail": (FAIL, "failed at a call: "),
    "lie": (LIE, "wrong answers: off by "),
    "segfault": (SEGFAULT, "crashed (SIGSEGV)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_the_window_that_fails_is_answered_by_the_cpu_and_the_tpu_comes_back(name: str, bench: Bench) -> None:
    fault, reason = FAULTS[name]
    bench.wait("tpu")
    bench.ask()
    assert bench.engine.backend.startswith("tpu/")
    bench.plan.strike(fault)
    _, took_ms = bench.ask(1)
    assert bench.plan["fired"] == 1
    assert bench.engine.backend.startswith("cpu/")
    assert took_ms < 2000  # on a busy machine; what it takes on an idle one is benchmarks/tpu_faults.py's to say
    bench.ask(2)
    wait_for(lambda: len(bench.said) >= 3, f"degraded and recovered; said: {bench.said}")
    bench.wait("tpu")
    states = [state for state, _ in bench.said]
    assert states[-2:] == ["degraded", "tpu"]
    assert bench.said[-2][1].startswith(reason)
    message = bench.engines.message("dev", "session")
    assert (message.degradations, message.recoveries) == (1, 1)
    assert message.last_degraded == bench.said[-2][1]
    bench.ask(3)
    assert bench.engine.backend.startswith("tpu/")


@pytest.mark.parametrize("bench", [{"answer_ms": 10}], indirect=True, ids=["10 ms"])
def test_a_window_waits_no_longer_than_its_limit_while_a_call_hangs(bench: Bench) -> None:
    bench.wait("tpu")
    seat = bench.engine.seat
    assert seat is not None
    assert seat.limit_s < 0.15  # 10 ms, or five medians of a busy machine
    bench.plan.strike(HANG)
    took = [bench.ask(case)[1] for case in range(8)]
    assert took[0] >= 10
    assert min(took[1:]) < 5  # nobody waits for the call that hangs a second time
    assert bench.engine.counters.tpu_late >= 2
    assert bench.wait("degraded").startswith("hung")


@pytest.mark.parametrize("bench", [{"hang_ms": 5000}], indirect=True, ids=["hangs after 5 s"])
def test_an_answer_that_is_late_now_and_then_is_no_fault(bench: Bench) -> None:
    bench.wait("tpu")
    seat = bench.engine.seat
    assert seat is not None
    for case in range(4):
        bench.plan["slow_us"] = max(250_000, round(3e6 * seat.limit_s))  # five medians of a busy machine may be much
        bench.plan.strike(SLOW)
        bench.ask(case)
        assert bench.engine.backend.startswith("cpu/")
        wait_for(seat.engine.remote.process.ready, "the late answer")
        bench.ask(case)
        assert bench.engine.backend.startswith("tpu/")
    assert bench.state == "tpu"
    assert bench.engine.counters.tpu_late == 4


@pytest.mark.parametrize("bench", [{"hang_ms": 5000, "answer_ms": 20}], indirect=True, ids=["20 ms"])
def test_one_that_is_always_late_is_given_up(bench: Bench) -> None:
    bench.wait("tpu")
    bench.plan["slow_us"] = 60_000
    bench.plan.strike(SLOW, lasting=True)

    def given_up() -> bool:
        bench.ask()
        return any(state == "degraded" for state, _ in bench.said)

    wait_for(given_up, "its end")
    bench.plan.strike(0)
    reason = next(reason for state, reason in bench.said if state == "degraded")
    assert reason.startswith(f"too slow: {MOST_LATE} answers in a row took more than ")


@pytest.mark.parametrize(
    "bench", [{"check": "canary", "canary_s": 0.2}], indirect=True, ids=["a golden vector every 0.2 s"]
)
def test_silent_corruption_is_found_without_a_second_opinion(bench: Bench) -> None:
    bench.wait("tpu")
    bench.plan.strike(LIE, lasting=True)
    assert bench.wait("degraded").startswith(f"wrong answers: {BEAT}'s golden output differs by ")
    bench.ask()
    assert bench.engine.backend.startswith("cpu/")
    bench.plan.strike(0)
    bench.wait("tpu")


@pytest.mark.parametrize("bench", [{"check": "canary"}], indirect=True, ids=["canary"])
def test_without_a_second_opinion_the_cpu_is_not_asked(bench: Bench) -> None:
    bench.wait("tpu")

    class Unasked:
        backend = "cpu/none"

        def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
            raise AssertionError(f"asked with {len(inputs)} inputs")

    bench.engine.cpu = Unasked()
    bench.ask()


def test_a_tpu_that_dies_while_nobody_asks_is_noticed(bench: Bench) -> None:
    bench.wait("tpu")
    seat = bench.engine.seat
    assert seat is not None
    seat.engine.remote.process.kill()
    reason = bench.wait("degraded")
    assert reason.startswith("was killed (SIGKILL)")
    bench.wait("tpu")


def test_a_start_of_many_shapes(bench: Bench) -> None:
    """Each of these keeps it from coming back, and none of them keeps a window waiting."""
    bench.wait("tpu")
    for fault, reason in ((REFUSE, "refused: "), (ABORT, "loading: aborted"), (SEGFAULT, "loading: crashed")):
        bench.plan["load"] = fault
        bench.plan.strike(FAIL)
        bench.ask()
        bench.wait_said(reason)
        for case in range(5):
            bench.ask(case)
            assert bench.engine.backend.startswith("cpu/")
        bench.plan["load"] = 0
        bench.wait("tpu")


@pytest.mark.parametrize("bench", [{"load_s": 0.5}], indirect=True, ids=["half a second to load"])
def test_a_load_that_hangs_holds_nobody(bench: Bench) -> None:
    bench.wait("tpu")
    bench.plan["load"] = HANG
    bench.plan.strike(FAIL)
    took = [bench.ask(case)[1] for case in range(20)]
    assert sorted(took)[10] < 50
    wait_for(
        lambda: ("degraded", "hung: loading took more than 0.5 s; may this user open the device?") in bench.said, "hung"
    )
    bench.plan["load"] = 0
    bench.wait("tpu")


def test_it_ends_at_once_while_a_load_hangs(tmp_path: Path, standin: Path, plan: Plan) -> None:
    with nothing_left():
        bench = Bench(tmp_path, standin, plan, load_s=60)
        plan["load"] = HANG
        bench.engines.start()
        wait_for(lambda: plan["loads"], "the load")
        began = time.monotonic()
        bench.engines.stop()
        assert time.monotonic() - began < 1.5


# -- what the kernel shows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ids", ["1a6e:089a", "18d1:9302"])
def test_nothing_is_tried_until_a_stick_is_there_under_either_of_its_names(
    ids: str, tmp_path: Path, standin: Path, plan: Plan
) -> None:
    usb(tmp_path / "sys")
    with nothing_left():
        bench = Bench(tmp_path, standin, plan, sysfs=tmp_path / "sys")
        bench.engines.start()
        assert bench.wait("degraded") == "absent: no Edge TPU on USB or PCIe"
        time.sleep(0.3)
        assert plan["loads"] == 0
        usb(tmp_path / "sys", ids)
        bench.wait("tpu")
        usb(tmp_path / "sys")
        plan.strike(ABORT)
        bench.ask()
        wait_for(lambda: any(reason.startswith("unplugged: aborted") for _, reason in bench.said), "unplugged")
        assert bench.wait("degraded")
        loads = plan["loads"]
        time.sleep(0.3)
        assert plan["loads"] == loads
        usb(tmp_path / "sys", "1a6e:089a")
        bench.wait("tpu")
        bench.engines.stop()


def test_absent_where_it_is_a_mere_possibility_is_no_defect(tmp_path: Path, standin: Path, plan: Plan) -> None:
    usb(tmp_path / "sys")
    bench = Bench(tmp_path, standin, plan, engine="auto", sysfs=tmp_path / "sys")
    bench.engines.start()
    wait_for(lambda: bench.said and bench.said[-1][1].startswith("absent"), "absent")
    assert bench.state == "cpu"
    assert bench.engines.degraded is None
    bench.engines.stop()


def test_too_hot(tmp_path: Path, standin: Path, plan: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tpu_supervisor, "LOOK_S", 0.05)
    apex(tmp_path / "sys", 60)
    bench = Bench(tmp_path, standin, plan, sysfs=tmp_path / "sys", max_temp_c=84)
    bench.engines.start()
    bench.wait("tpu")
    apex(tmp_path / "sys", 84.2)
    assert bench.wait("degraded").startswith("too hot: 84.2 C")
    apex(tmp_path / "sys", 81)
    time.sleep(0.3)
    assert bench.state == "degraded"  # not before it has cooled somewhat
    assert bench.ask()[1] < 1000
    apex(tmp_path / "sys", 78.5)
    bench.wait("tpu")
    bench.engines.stop()


def test_devices_as_the_kernel_shows_them(tmp_path: Path) -> None:
    sysfs = tmp_path / "sys"
    assert devices(sysfs) is None
    usb(sysfs, "046d:c077", device="1-1")
    assert devices(sysfs) == []
    usb(sysfs, "18d1:9302", device="2-1")
    apex(sysfs, 40.5)
    found = devices(sysfs)
    assert found is not None
    assert [(one.kind, one.path) for one in found] == [("usb", "2-1"), ("pci", "/dev/apex_0")]
    assert [one.kind for one in wanted(found, "")] == ["usb", "pci"]
    assert [one.kind for one in wanted(found, ":1")] == ["pci"]
    assert [one.kind for one in wanted(found, "usb:0")] == ["usb"]
    assert wanted(found, "usb:1") == []
    assert [one.kind for one in wanted(found, "pci")] == ["pci"]
    assert temperature_c(sysfs) == 40.5
    assert temperature_c(tmp_path) is None


def test_a_device_that_this_user_may_not_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """libedgetpu would block for 26 s before it says so."""
    sysfs, dev = tmp_path / "sys", tmp_path / "dev"
    usb(sysfs, "1a6e:089a")
    stick = sysfs / "bus" / "usb" / "devices" / "2-1"
    (stick / "busnum").write_text("2\n")
    (stick / "devnum").write_text("7\n")
    node = dev / "bus" / "usb" / "002" / "007"
    node.parent.mkdir(parents=True)
    node.touch()
    assert devices(sysfs, dev)[0].remedy == ""  # type: ignore[index]
    monkeypatch.setattr("os.access", lambda *_: False)
    assert "group plugdev" in devices(sysfs, dev)[0].remedy  # type: ignore[index]


def test_the_library_in_the_usual_places(tmp_path: Path) -> None:
    assert find_library(None, (str(tmp_path),)) is None
    (tmp_path / "libedgetpu.so.1").touch()
    assert find_library(None, (str(tmp_path),)) == tmp_path / "libedgetpu.so.1"
    assert find_library(tmp_path / "other.so", (str(tmp_path),)) is None


# -- choice ------------------------------------------------------------------------------------------------------------


def of(p99_us: float) -> Timing:
    return Timing(200, p99_us / 2, p99_us)


@pytest.mark.parametrize(
    ("in_use", "cpu", "tpu", "engine"),
    [
        ("cpu", 100, 79, "tpu"),
        ("cpu", 100, 81, "cpu"),
        ("tpu", 100, 124, "tpu"),
        ("tpu", 100, 126, "cpu"),
    ],
)
def test_who_is_in_use_stays_unless_the_other_is_clearly_faster(
    in_use: str, cpu: float, tpu: float, engine: str
) -> None:
    made = choose("auto", in_use, of(cpu), of(tpu))
    assert made.engine == engine
    assert f"TPU {tpu} us, CPU {cpu} us" in made.why


def test_the_tpu_where_it_is_asked_for_however_slow() -> None:
    assert choose("tpu", "cpu", of(10), of(1000)) == Choice(
        "tpu", "as configured; p99 of 200 calls: TPU 1000 us, CPU 10 us"
    )


def test_timing_is_by_nearest_rank() -> None:
    assert timing([1000 * n for n in range(1, 101)]) == Timing(100, 50.0, 99.0)
    assert timing([5000]) == Timing(1, 5.0, 5.0)


def test_what_takes_long_is_timed_on_fewer_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.inference.tpu.choice.MOST_S", 0.02)
    slow, quick = measure([lambda _: time.sleep(0.01), lambda _: None], [()])
    assert slow.calls == quick.calls < 10
    assert slow.p50_us >= 10_000 > quick.p50_us


@pytest.mark.parametrize("bench", [{"engine": "auto"}], indirect=True, ids=["auto"])
def test_auto_takes_the_cpu_for_a_small_model_says_why_and_keeps_no_process(bench: Bench) -> None:
    bench.plan["pace_us"] = 3000
    wait_for(lambda: "not clearly faster" in bench.said[-1][1] if bench.said else False, f"a choice; {bench.said}")
    assert bench.state == "cpu"
    assert "p99 of " in bench.engines.why(BEAT)
    wait_for(lambda: bench.engine.seat is None, "no seat")
    calls = bench.plan["calls"]
    bench.ask()
    assert bench.plan["calls"] == calls
    assert bench.engine.backend.startswith("cpu/")


@pytest.mark.parametrize("bench", [{"engine": "auto"}], indirect=True, ids=["auto"])
def test_auto_takes_the_tpu_where_it_is_faster_measured_again_on_demand(bench: Bench) -> None:
    bench.plan["pace_us"] = 3000
    wait_for(lambda: "not clearly faster" in bench.said[-1][1] if bench.said else False, "the CPU")

    class Slow:
        backend = "cpu/slow"

        def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
            time.sleep(0.03)
            return bench.engine.cpu.invoke(inputs)

    bench.engines._supervisors[0].members[BEAT].beside = Slow()
    bench.plan["pace_us"] = 0
    assert bench.engines.measure_again()
    assert "the TPU is faster" in bench.wait("tpu")
    bench.ask()
    assert bench.engine.backend.startswith("tpu/")


# -- which models, which TPU -------------------------------------------------------------------------------------------


def test_models_without_a_file_or_by_configuration_stay_on_the_cpu(tmp_path: Path, standin: Path, plan: Plan) -> None:
    plain = load(shipped_models() / "ecg-af-rr")
    both = load(with_file(shipped_models() / BEAT, tmp_path))
    tpu = settings(standin, plan).model_dump()
    engines = Engines(InferenceConfig.model_validate({"engine": "tpu", "engines": {BEAT: "cpu"}, "tpu": tpu}), ignore)
    models = {one.name: LoadedModel(one, engines.open(one)) for one in (plain, both)}
    engines.keep(models)
    assert [engines.why("ecg-af-rr"), engines.why(BEAT)] == [NO_FILE, "as configured"]
    assert not engines.measure_again()
    message = engines.message("dev", "session")
    assert message.state == "cpu"
    assert {one.backend.split("/")[0] for one in message.models.values()} == {"cpu"}
    assert engines.health() == {}


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


# -- flapping ----------------------------------------------------------------------------------------------------------


def test_each_loss_is_followed_by_a_longer_pause(tmp_path: Path, standin: Path, plan: Plan) -> None:
    with nothing_left():
        bench = Bench(tmp_path, standin, plan, retry_s=0.05, retry_most_s=0.4)
        bench.engines.start()
        bench.wait("tpu")
        pauses = []
        for _ in range(5):
            plan.strike(FAIL)
            bench.ask()
            began = time.monotonic()
            loads = plan["loads"]
            wait_for(partial(bench.tried_since, loads), "the next try")
            pauses.append(time.monotonic() - began)
            bench.wait("tpu")
        bench.engines.stop()
    for pause, least in zip(pauses, (0.05, 0.1, 0.2, 0.4, 0.4), strict=True):
        assert pause >= least


def test_windows_go_on_from_another_thread_through_losses_and_returns(bench: Bench) -> None:
    """Nothing is lost and nothing is wrong, whatever moment the loss chooses."""
    bench.wait("tpu")
    done, failed = threading.Event(), []

    def windows() -> None:
        number = 0
        try:
            while not done.is_set():
                bench.ask(number % len(bench.artifact.golden_outputs))
                number += 1
        except AssertionError as error:
            failed.append(error)

    thread = threading.Thread(target=windows)
    thread.start()
    try:
        for fault in (ABORT, LIE, FAIL, HANG):
            told = bench.engines.message("dev", "session").recoveries
            for _ in range(
                5
            ):  # an answer that comes after its window's limit is not read: a lie in it goes unseen, and harms nobody
                bench.plan.strike(fault, after=fault * 3)
                with contextlib.suppress(AssertionError):
                    wait_for(partial(bench.recovered_since, told), f"the return from fault {fault}", 12)
                    break
            assert bench.recovered_since(told), f"no return from fault {fault}"
    finally:
        done.set()
        thread.join()
    assert not failed
    assert bench.plan["fired"] >= 4
