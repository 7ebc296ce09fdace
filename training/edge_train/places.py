"""Where everything lies, and the arguments that say so: the same for every command."""

from __future__ import annotations

import argparse
import json
import math
import os
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from edge_train.errors import DataError
from edge_train.task import Plan
from edge_train.tasks import Chosen, choose

HERE = Path(__file__).resolve().parents[1]
"""The folder training/ of a checkout."""


FETCHED = "public"
"""In the build folder: where `edge-train data get` puts what it fetches."""


def shared_folder(given: Path | None, build: Path = HERE / "build") -> Path:
    """Where the public data lie: as told, else $EDGE_AGENT_SHARED, else ``shared`` beside the checkout, else what was fetched."""
    told = given or os.environ.get("EDGE_AGENT_SHARED")
    folder = Path(told) if told else Path(__file__).resolve().parents[3] / "shared"
    if not told and not (folder / "data").is_dir() and (build / FETCHED / "data").is_dir():
        folder = build / FETCHED
    if not (folder / "data").is_dir():
        raise DataError(f"{folder}: no folder 'data' there; give --shared DIR or set EDGE_AGENT_SHARED")
    return folder / "data"


@dataclass(frozen=True, slots=True)
class Places:
    shared: Path | None
    """As given; ``public()`` finds the folder."""
    build: Path
    models: Path
    results: Path

    def public(self) -> Path:
        """The public data: mitdb, cinc2017, ..."""
        return shared_folder(self.shared, self.build)

    def data(self, task: str) -> Path:
        return self.build / "data" / task

    def runs(self, artifact: str) -> Path:
        return self.build / "runs" / artifact

    def run(self, artifact: str, seed: int) -> Path:
        return self.runs(artifact) / f"seed{seed}"

    def artifact(self, artifact: str) -> Path:
        return self.models / artifact

    def report(self, artifact: str) -> Path:
        return self.results / f"{artifact}.json"


def add_places(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("places").add_argument
    add(
        "--shared",
        type=Path,
        metavar="DIR",
        help="the public data: DIR/data (default: $EDGE_AGENT_SHARED, ../shared, or what data get fetched)",
    )
    add(
        "--build",
        type=Path,
        metavar="DIR",
        default=HERE / "build",
        help="prepared data and runs (default: %(default)s)",
    )
    add("--models", type=Path, metavar="DIR", default=HERE.parent / "models", help="artifacts (default: %(default)s)")
    add("--results", type=Path, metavar="DIR", default=HERE / "results", help="reports (default: %(default)s)")


def places(arguments: argparse.Namespace) -> Places:
    return Places(arguments.shared, arguments.build, arguments.models, arguments.results)


def add_task(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("task", metavar="TASK", help="a task (ecg-beat, ecg-af-rr, ...) or an artifact's name")
    parser.add_argument(
        "--plan",
        metavar="NAME",
        help="which of the task's plans, by its artifact's name (default: the first), or a file (best.json)",
    )


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="settings",
        help="change the plan: architecture=lstm, size=tiny, epochs=5, extra.width=1.5; may be repeated",
    )  # fmt: skip


def chosen(arguments: argparse.Namespace) -> Chosen:
    """The task, its artifact and its plan: by name or from a file (tune's best.json), with what ``--set`` changes."""
    file = arguments.plan if arguments.plan is not None and arguments.plan.endswith(".json") else None
    found = choose(arguments.task, None if file else arguments.plan)
    settings = getattr(arguments, "settings", [])
    if found.plan is None:
        if settings or file:
            raise DataError(
                f"--set, --plan FILE: {found.artifact} is not made by a plan of this kind; its plan is beats.Plan"
            )
        return found
    if file:
        found = _from_file(found, Path(file))
    assert found.plan is not None
    return replace(found, plan=with_settings(found.plan, settings))


def _from_file(found: Chosen, path: Path) -> Chosen:
    try:
        facts = json.loads(path.read_text())
        plan = Plan(**facts.get("plan", facts))
        _check(plan)
        about = facts.get("tuned", {})
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: holds no plan ({error})") from None
    if about.get("task", found.name) != found.name:
        raise DataError(f"{path}: is a plan for {about['task']}, not for {found.name}")
    return replace(found, plan=plan, artifact=about.get("artifact", found.artifact))


def with_settings(plan: Plan, settings: list[str]) -> Plan:
    """A plan with ``key=value`` changes; values are refused that the plan's type does not allow."""
    known = {field.name: getattr(plan, field.name) for field in fields(plan)}
    for setting in settings:
        key, found, value = setting.partition("=")
        try:
            if not found:
                raise ValueError("KEY=VALUE is wanted")
            if key.startswith("extra."):
                plan = replace(plan, extra={**plan.extra, key.removeprefix("extra."): _value(float, value)})
                continue
            if key not in known or key == "extra":
                raise ValueError(f"there are: {', '.join(name for name in known if name != 'extra')}, extra.NAME")
            changed: dict[str, Any] = {key: _value(type(known[key]), value)}
            plan = replace(plan, **changed)
            _check(plan)
        except ValueError as error:
            raise DataError(f"--set {setting}: {error}") from None
    return plan


def _value(kind: type, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise ValueError(f"{'a whole number' if kind is int else 'a number'} is wanted") from None


def _check(plan: Plan) -> None:
    """What no fit can be made with."""
    for name in ("epochs", "patience", "batch", "per_epoch"):
        if getattr(plan, name) < 1:
            raise ValueError(f"{name} is 1 or more")
    if not 0 < plan.rate < math.inf:
        raise ValueError("rate is a number above 0")
    for name in ("dropout", "smoothing"):
        if not 0 <= getattr(plan, name) < 1:
            raise ValueError(f"{name} is 0 or more and below 1")
    for name in ("augment", "mixing"):
        if not 0 <= getattr(plan, name) < math.inf:
            raise ValueError(f"{name} is 0 or more")
    for name, known in get_type_hints(Plan).items():
        if get_origin(known) is Literal and getattr(plan, name) not in get_args(known):
            raise ValueError(f"no {name} named {getattr(plan, name)!r}; there are: {', '.join(get_args(known))}")


# --- seeds that were fitted ---------------------------------------------------------------------------------------------


def seeds(runs: Path) -> dict[int, Path]:
    """The finished runs of an artifact."""
    found = {int(path.parent.name.removeprefix("seed")): path.parent for path in runs.glob("seed*/fit.json")}
    if not found:
        raise DataError(f"{runs}: no fitted seeds there; run: edge-train fit {runs.name}")
    return dict(sorted(found.items()))


def median_seed(runs: Path) -> int:
    """The seed whose validation score is the median: never the best on the test set."""
    scores = {seed: json.loads((path / "fit.json").read_text())["validation"] for seed, path in seeds(runs).items()}
    order = sorted(scores, key=lambda seed: (scores[seed], seed))
    return order[(len(order) - 1) // 2]
