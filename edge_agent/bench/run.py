"""Which scenarios run for which models, and the reports that come of it: each is written as soon as it is whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from edge_agent.bench import files
from edge_agent.bench.distribution import agreement
from edge_agent.bench.environment import environment
from edge_agent.bench.method import Method, Session
from edge_agent.bench.report import Choice, Report, Result, Scenario
from edge_agent.bench.scenarios import accuracy, multi, paced, pipeline, single, soak, streams
from edge_agent.bench.variants import Variant, variants
from edge_agent.bench.windows import data_file
from edge_agent.config import InferenceConfig
from edge_agent.errors import ArtifactError, EngineError
from edge_agent.hardware import Hardware
from edge_agent.inference.engine import find_runtime
from edge_agent.inference.loaded import LoadedModel, by_default, load_models, model_names, shipped_models

OF_A_MODEL: tuple[Scenario, ...] = ("single", "paced", "multi", "accuracy", "soak")
OF_THE_AGENT: tuple[Scenario, ...] = ("streams", "pipeline")
PACED_S = 60.0


@dataclass(frozen=True, slots=True)
class Plan:
    """What the command line asked for."""

    device: str | None = None
    models_dir: Path | None = None
    models: tuple[str, ...] | None = None
    scenarios: tuple[Scenario, ...] = ("single",)
    int8_only: bool = False
    data: Path | None = None
    most_windows: int | None = None
    method: Method = field(default_factory=Method)
    paced_s: float = PACED_S
    paced_speed: float = 1.0
    soak_s: float = 3600.0
    streams: streams.Plan = field(default_factory=streams.Plan)
    pipeline: pipeline.Plan = field(default_factory=pipeline.Plan)
    configuration: Path | None = None
    inference: InferenceConfig = field(default_factory=InferenceConfig)
    out: Path = Path("reports")


Say = Callable[[str], None]


def run(plan: Plan, session: Session, board: Hardware, say: Say) -> Iterator[tuple[Report, Path]]:
    """Reports as they become whole; after Ctrl-C the one that was being measured, marked, and no more."""
    folder = plan.models_dir or plan.inference.models_dir or shipped_models()
    if plan.data is not None and not plan.data.exists():
        raise ArtifactError(f"{plan.data}: no such folder of data sets", remedy="edge-train data prepare writes one")
    files.can_write(plan.out)
    models = _those_that_load(folder, plan, session, say)
    if plan.int8_only:
        models = {name: model for name, model in models.items() if _int8(model, say)}
    if not models:
        raise ArtifactError(f"{folder}: no model to measure", remedy="--models-dir DIR, --models NAME,...")
    for name, model in models.items():
        if session.interrupted or not set(plan.scenarios) & set(OF_A_MODEL):
            break
        yield from _of_model(plan, name, model, session, board, say)
    if not session.interrupted and set(plan.scenarios) & set(OF_THE_AGENT):
        results = _of_agent(plan, models, session, board)
        if results:
            yield _written(plan, None, results, None, models, board)


def _those_that_load(folder: Path, plan: Plan, session: Session, say: Say) -> dict[str, LoadedModel]:
    """One that is broken is said to be, and the others are measured."""
    there = model_names(folder)
    missing = [name for name in plan.models or () if name not in there]
    if missing:
        load_models(folder, missing)  # says which there are
    models: dict[str, LoadedModel] = {}
    for name in there if plan.models is None else plan.models:
        try:
            models |= load_models(folder, [name])
        except ArtifactError as error:
            _failed(f"{error}", session, say)
    return models


def _failed(what: str, session: Session, say: Say) -> None:
    session.failed.append(what.splitlines()[0])
    say(f"edge-bench: {what}")


def _int8(model: LoadedModel, say: Say) -> bool:
    """A float file in a folder is no int8 model, whatever its name says."""
    interpreter = find_runtime()[1](model_content=model.artifact.tflite, num_threads=1)
    if all(np.issubdtype(detail["dtype"], np.integer) for detail in interpreter.get_input_details()):
        return True
    say(f"{model.artifact.name}: takes floats; left out (int8 only)")
    return False


def _of_model(
    plan: Plan, name: str, model: LoadedModel, session: Session, board: Hardware, say: Say
) -> Iterator[tuple[Report, Path]]:
    results: list[Result] = []
    with variants(model.artifact, plan.inference) as (found, choice):
        for variant in found:
            for scenario in OF_A_MODEL:
                if scenario not in plan.scenarios or session.interrupted:
                    continue
                if scenario != "single" and model.artifact.manifest.anchor.kind == "alarm":
                    continue  # asked when somebody asks, of numbers: there is no window to come at a beat's pace
                try:
                    results += _measure(plan, scenario, variant, session, board, say)
                except (EngineError, ArtifactError) as error:
                    _failed(f"{name}: {scenario} on {variant.backend}: {error.what}", session, say)
    if results:
        yield _written(plan, model, results, choice, {name: model}, board)


def _measure(
    plan: Plan, scenario: Scenario, variant: Variant, session: Session, board: Hardware, say: Say
) -> Sequence[Result]:
    method = plan.method
    match scenario:
        case "single":
            return single.single(variant, method, session, board)
        case "paced":
            slow = replace(method, run_s=plan.paced_s)
            return [paced.paced(variant, slow, session, board, speed=plan.paced_speed)]
        case "multi":
            return multi.multi(variant, method, session, board)
        case "soak":
            return [soak.soak(variant, method, session, board, plan.soak_s)]
        case _:
            data = data_file(variant.artifact.folder if plan.data is None else plan.data, variant.artifact)
            if data is None and plan.data is not None:
                say(f"{variant.artifact.name}: no data set in {plan.data}; golden vectors alone")
            return [accuracy.accuracy(variant, data, method, session, board, most=plan.most_windows)]


def _of_agent(plan: Plan, models: Mapping[str, LoadedModel], session: Session, board: Hardware) -> list[Result]:
    results: list[Result] = []
    wanted = models if plan.models is not None else by_default(models)
    if "streams" in plan.scenarios:
        results += streams.streams(wanted, plan.streams, plan.method, session, board)
    if "pipeline" in plan.scenarios and not session.interrupted:
        results.append(
            pipeline.pipeline(
                plan.pipeline, plan.method, session, board, models_dir=plan.models_dir or plan.inference.models_dir
            )
        )
    return results


def _written(
    plan: Plan,
    model: LoadedModel | None,
    results: list[Result],
    choice: Choice | None,
    models: Mapping[str, LoadedModel],
    board: Hardware,
) -> tuple[Report, Path]:
    digests = {name: one.artifact.digest for name, one in models.items()}
    around = environment(plan.device, board=board, models=digests, configuration=plan.configuration)
    manifest = None if model is None else model.artifact.manifest
    report = Report(
        model=None if manifest is None else manifest.name,
        version=None if manifest is None else manifest.version,
        digest=None if model is None else model.artifact.digest,
        task=None if manifest is None else manifest.task,
        environment=around,
        results=results,
        choice=choice,
    )
    before = files.previous(plan.out, report)
    if before is not None:
        report = report.model_copy(update={"results": [_agreed(one, before) for one in results]})
    return report, files.write(report, plan.out)


def _agreed(result: Result, before: files.Read) -> Result:
    """Whether the last run beside it said the same."""
    same = next((row for row in before.rows if row.key == (result.scenario, result.name, result.backend)), None)
    p50 = None if same is None else same.us.get("p50")
    if p50 is None or result.latency is None:
        return result
    found = agreement(result.segments, result.latency.p50_us, (before.path.name, p50))
    return result.model_copy(update={"agreement": found})
