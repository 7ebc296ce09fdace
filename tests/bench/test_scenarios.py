"""Each scenario, short, on the shipped models: what it says is there, keeps to the schema, and follows what happened."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge_agent.bench import run as bench_run
from edge_agent.bench.journeys import Journey, signals
from edge_agent.bench.method import Method, Session
from edge_agent.bench.report import Report, Result
from edge_agent.bench.scenarios import pipeline, streams
from edge_agent.bench.scenarios.accuracy import accuracy
from edge_agent.bench.scenarios.multi import multi
from edge_agent.bench.scenarios.paced import intervals_s, paced
from edge_agent.bench.scenarios.single import single
from edge_agent.bench.scenarios.soak import soak
from edge_agent.bench.variants import Variant, variants
from edge_agent.bench.windows import data_file, golden, read_data
from edge_agent.errors import ArtifactError
from edge_agent.hardware import Hardware
from edge_agent.inference.artifact import load
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.journey import Samples
from tests.bench.test_reports import checked

BEAT = "ecg-beat-aami"
METHOD = Method(warmup_s=0.02, warmup_calls=5, run_s=0.1, run_calls=100)
BOARD = Hardware()
CALL = {"quantise", "invoke", "dequantise"}


@pytest.fixture(scope="module")
def variant() -> Iterator[Variant]:
    with variants(load(shipped_models() / BEAT)) as (found, _):
        yield found[0]


def report_of(*results: Result) -> Report:
    from tests.bench.made import report

    made = report(*results)
    checked(json.loads(json.dumps(made.model_dump(mode="json", by_alias=True))))
    return made


@pytest.mark.parametrize("name", ["ecg-beat-aami", "ecg-af-rr", "abp-segment"])
def test_single_on_each_kind_of_window(name: str) -> None:
    with variants(load(shipped_models() / name)) as (found, choice):
        call, window = single(found[0], METHOD, Session(), BOARD)
    report_of(call, window)
    assert call.latency is not None and window.latency is not None and call.loop is not None  # noqa: PT018
    assert call.latency.count >= 100
    assert call.parts.keys() == CALL
    assert window.parts.keys() >= CALL | {"resample", "verdict"}
    assert call.loop.p50_us < call.latency.p50_us < window.latency.p50_us
    assert sum(part.p50_us for part in call.parts.values()) == pytest.approx(call.latency.p50_us, rel=0.5)
    assert call.init_ms is not None and call.init_ms > 0  # noqa: PT018
    assert call.first_us is not None
    assert call.self_check is not None
    assert choice.backend == found[0].backend
    assert not [one for one in window.reasons if "not judged" in one]


class Slow:
    """An engine that takes its time."""

    backend = "cpu/slow"

    def __init__(self, inner: object, ms: float) -> None:
        self._inner, self._ms = inner, ms

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        time.sleep(self._ms / 1000)
        found: Samples = self._inner.invoke(inputs)  # type: ignore[attr-defined]
        return found


def slowed(variant: Variant, ms: float) -> Variant:
    return replace(variant, engine=Slow(variant.engine, ms), again=lambda: Slow(variant.again(), ms))


def test_what_is_late_is_counted(variant: Variant) -> None:
    method = replace(METHOD, run_calls=20, deadline_ms=3.0)
    (late, *_) = multi(slowed(variant, 2.0), method, Session(), BOARD, (2,))
    assert late.deadline is not None
    assert late.deadline.misses == late.deadline.of >= 20
    assert late.latency is not None
    assert late.latency.p50_us >= 4000


def test_multi_grows_with_the_windows(variant: Variant) -> None:
    found = multi(variant, METHOD, Session(), BOARD, (1, 8))
    report_of(*found)
    one, eight = (result.latency.p50_us for result in found if result.latency is not None)
    assert 4 * one < eight < 16 * one


def test_paced_follows_a_heart(variant: Variant) -> None:
    found = paced(variant, replace(METHOD, run_s=1.0), Session(), BOARD, speed=20.0)
    report_of(found)
    assert found.latency is not None
    assert found.latency.count >= 30
    assert 1.0 <= found.seconds < 10
    assert {"resample", "invoke", "waking (not in the sum)"} <= found.parts.keys()
    gaps = intervals_s(60)
    assert 0.5 < float(np.mean(gaps)) < 1.2
    assert float(np.std(gaps)) > 0.01  # jitter, as hearts have


def test_soak_looks_at_the_device_all_along(variant: Variant) -> None:
    found = soak(variant, METHOD, Session(), BOARD, 1.2)
    report_of(found)
    assert found.soak is not None
    assert 20 <= len(found.soak) <= 62
    assert found.soak[-1].at_s >= 1.2
    assert found.soak[0].resident_mb is not None
    assert len(found.segments) >= 20


def test_an_interrupted_scenario_says_so(variant: Variant) -> None:
    (found,) = multi(variant, METHOD, Session(interrupted=True), BOARD, (1,))
    assert not found.valid
    assert found.reasons[0] == "interrupted"
    assert found.latency is None
    report_of(found)


# -- accuracy ----------------------------------------------------------------------------------------------------------


def write_data(path: Path, variant: Variant, label: object, **spoil: object) -> Path:
    inputs = golden(variant.artifact)
    arrays: dict[str, object] = {
        f"input_{part.name}": np.stack([one[i] for one in inputs])
        for i, part in enumerate(variant.artifact.manifest.inputs)
    }
    np.savez(path, **{**arrays, "label": label, **spoil})  # type: ignore[arg-type]
    return path


def test_accuracy_by_class_follows_the_labels(variant: Variant, tmp_path: Path) -> None:
    labels = variant.artifact.manifest.labels
    said = [labels.index(labels[int(np.argmax(out))]) for out in variant.artifact.golden_outputs]
    path = write_data(tmp_path / "test.npz", variant, np.array(said))
    found = accuracy(variant, data_file(tmp_path, variant.artifact), METHOD, Session(), BOARD)
    report_of(found)
    a = found.accuracy
    assert a is not None
    assert a.accuracy == 1.0
    assert a.macro_f1 == 1.0
    assert a.windows == len(said)
    assert a.data_sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert found.golden is not None
    assert found.golden.passed
    # One window of the first class is now said to be another's: that class loses sensitivity, the other precision.
    wrong = list(said)
    at = wrong.index(said[0])
    other = next(i for i in range(len(labels)) if i != said[0])
    wrong[at] = other
    write_data(path, variant, np.array(wrong))
    spoilt = accuracy(variant, path, METHOD, Session(), BOARD).accuracy
    assert spoilt is not None
    assert spoilt.accuracy == pytest.approx(1 - 1 / len(said))
    assert spoilt.confusion[other][said[0]] == 1
    assert spoilt.classes[said[0]].precision == pytest.approx(1 - 1 / said.count(said[0]))


def test_an_engine_that_computes_wrongly_is_invalid(variant: Variant) -> None:
    class Wrong:
        backend = "cpu/wrong"

        def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
            return variant.engine.invoke(inputs)[::-1].copy()

    found = accuracy(replace(variant, engine=Wrong()), None, METHOD, Session(), BOARD)
    assert not found.valid
    assert found.golden is not None
    assert not found.golden.passed


def test_a_data_set_that_is_none_is_refused_by_name(variant: Variant, tmp_path: Path) -> None:
    many = len(variant.artifact.golden_outputs)
    good = np.zeros(many, int)
    for name, made in {
        "short": {"label": good[:-1]},
        "floats": {"label": good.astype(float)},
        "beyond": {"label": good + 99},
        "shape": {"label": good, "input_beat": np.zeros((many, 3))},
    }.items():
        path = tmp_path / f"{name}.npz"
        write_data(path, variant, **made)
        with pytest.raises(ArtifactError, match=name):
            read_data(path, variant.artifact)
    path = tmp_path / "bare.npz"
    np.savez(path, label=good)
    with pytest.raises(ArtifactError, match="holds no input_"):
        read_data(path, variant.artifact)
    np.savez(path, input_beat=np.zeros((many, 3)), label=np.array([None] * many, object))
    with pytest.raises(ArtifactError, match="it holds Python objects") as caught:
        read_data(path, variant.artifact)
    assert "allow_pickle" not in str(caught.value)
    path.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ArtifactError, match="not a readable"):
        read_data(path, variant.artifact)


# -- streams and pipeline ------------------------------------------------------------------------------------------------

SHORT = streams.Plan(counts=(2, 4), step_s=1.0, warm_s=12.0, limit_ms=500.0)


def ecg_models() -> dict[str, object]:
    return dict(load_models(shipped_models(), [BEAT, "ecg-af-rr", "ecg-af-10s"]))


def test_streams_are_carried_and_taken_apart() -> None:
    before = os.sched_getaffinity(0)
    (found,) = streams.streams(ecg_models(), SHORT, METHOD, Session(), BOARD)  # type: ignore[arg-type]
    assert os.sched_getaffinity(0) == before
    report_of(found)
    s = found.streams
    assert s is not None
    assert s.carried == 4
    assert not s.limit_reached
    assert [step.streams for step in s.steps] == [2, 4]
    assert all(step.messages > 0 and step.lost_samples == 0 for step in s.steps)
    wanted = {
        "decode",
        "detect",
        "quality",
        "resample",
        "quantise",
        "invoke",
        "dequantise",
        "rules",
        "encode",
        "message",
    }
    assert wanted <= s.parts_us_per_stream_s.keys()
    step = s.steps[-1]
    assert step.cpu_us_per_stream_s > 0
    # Nothing of the journey is left out. Stages are timed by the clock on the wall, so what others do meanwhile may be in them.
    assert sum(s.parts_us_per_stream_s.values()) > 0.6 * step.warm_us_per_stream_s


def test_streams_that_come_too_late_do_not_hold(monkeypatch: pytest.MonkeyPatch) -> None:

    take, calls = Journey.take, itertools.count()

    def slow(self: Journey, arrived_ns: int, said: Callable[[int], None]) -> int:
        if next(calls) > 4 * 3:  # beyond the warm-up
            time.sleep(0.06)
        return take(self, arrived_ns, said)

    monkeypatch.setattr(Journey, "take", slow)
    plan = replace(SHORT, counts=(1,), warm_s=3.0, step_s=1.0, limit_ms=20.0)
    (found,) = streams.streams(ecg_models(), plan, METHOD, Session(), BOARD)  # type: ignore[arg-type]
    assert found.streams is not None
    assert found.streams.carried is None
    assert found.streams.limit_reached
    assert "p99 of queue and compute" in (found.streams.steps[0].why_not or "")


def test_a_device_that_falls_behind_loses_samples(monkeypatch: pytest.MonkeyPatch) -> None:

    take = Journey.take

    def slower_than_life(self: Journey, arrived_ns: int, said: Callable[[int], None]) -> int:
        started = take(self, arrived_ns, said)
        time.sleep(0.6)
        return started

    with streams.one_core(None):
        beds = [streams._warmed(0, replace(SHORT, warm_s=2.0), signals(360.0, 20.0, 1), {})]
        monkeypatch.setattr(Journey, "take", slower_than_life)
        load, _ = streams.live(beds, replace(SHORT, step_s=20.0), Session())
    assert not load.held
    assert load.lost_samples > 0
    assert "samples lost" in (load.why_not or "")


def test_from_a_boards_line_to_a_subscriber(program: Callable[[str], str]) -> None:
    program("mosquitto")
    plan = pipeline.Plan(streams=2, seconds=4.0, warm_s=5.0)
    found = pipeline.pipeline(plan, replace(METHOD, run_calls=10), Session(), BOARD)
    report_of(found)
    p = found.pipeline
    assert p is not None
    assert p.broker == "mosquitto"
    assert p.lost_samples == 0
    assert {"beat", "verdict", "state"} <= p.by_kind.keys()
    assert p.by_kind["beat"].count >= 2 * 2
    assert found.latency is not None
    assert 0 < found.latency.p50_us < 500_000
    assert {"queue", "compute", "port, decode, encode, publish"} == found.parts.keys()
    assert p.algorithm.max_us > 200_000  # a beat's own delay is in no other figure


# -- all of it -----------------------------------------------------------------------------------------------------------


def test_a_run_writes_a_report_for_each_model_and_one_for_the_agent(tmp_path: Path) -> None:
    plan = bench_run.Plan(
        device="here",
        models=(BEAT, "ecg-af-rr"),
        scenarios=("single", "accuracy", "streams"),
        method=METHOD,
        streams=replace(SHORT, counts=(1,)),
        out=tmp_path,
    )
    found = list(bench_run.run(plan, Session(show_progress=False), BOARD, lambda _: None))
    assert [report.model for report, _ in found] == [BEAT, "ecg-af-rr", None]
    for report, path in found:
        checked(json.loads(path.read_text(encoding="utf-8")))
        assert report.environment.models
    assert found[-1][1].name.startswith("summary-here-agent-")
    again = list(bench_run.run(replace(plan, models=(BEAT,), scenarios=("single",)), Session(), BOARD, lambda _: None))
    same = again[0][0].results[0].agreement
    assert same is not None
    assert same.previous == found[0][1].name
    assert same.previous_p50_ratio is not None
