"""``edge-train tune``: search for a better plan, on the validation set."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from edge_train.errors import DataError
from edge_train.places import add_places, add_settings, add_task, chosen, places


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "tune",
        help="search for a better plan",
        description="Optuna's search around a task's plan, scored on the validation set; the test set has no part in it. Hopeless"
        " trials are pruned, what failed is not tried again. Stopped (Ctrl-C, or the bound), the same command goes on. The best"
        " plan is written as best.json: edge-train fit TASK --plan best.json.",
    )
    add_task(parser)
    add_settings(parser)
    bound = parser.add_argument_group("bound (at least one)")
    bound.add_argument("--trials", type=int, metavar="N", help="so many in the study, those of earlier calls included")
    bound.add_argument("--minutes", type=float, metavar="M", help="so long, this call")
    parser.add_argument("--epochs", type=int, metavar="N", help="of each trial (default: the plan's)")
    parser.add_argument("--architectures", metavar="NAME,...", help="let the search choose among these, too")
    parser.add_argument(
        "--pruner", choices=("median", "hyperband", "none"), default="median", help="(default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of every trial's fit (default: 0)")
    parser.add_argument("--study", type=Path, metavar="DIR", help="the study's folder (default: BUILD/tune/ARTIFACT)")
    parser.add_argument(
        "--ray",
        nargs="?",
        const="local",
        metavar="ADDRESS",
        help="on Ray Tune: this machine, or the cluster at ADDRESS (auto, ray://HOST:10001)",
    )
    parser.add_argument(
        "--cpus", type=int, metavar="N", help="with --ray on this machine: trials at once (default: all cores)"
    )
    parser.add_argument("--table", action="store_true", help="show what the study holds, and end")
    add_places(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from edge_train.data import windows
    from edge_train.fitting.architectures import ARCHITECTURES
    from edge_train.tuning import report
    from edge_train.tuning.space import space_of
    from edge_train.tuning.study import Bound, open_study, read_study, search, with_epochs

    found, where = chosen(arguments), places(arguments)
    if found.task is None or found.plan is None:
        raise DataError(
            f"{found.artifact} is three kinds of nets fitted apart; tune works on a task's plan (ecg-af-rr, abp-segment, ...)"
        )
    if arguments.trials is None and arguments.minutes is None and not arguments.table:
        raise DataError("tune: for how long? Give --trials N or --minutes M")
    if any(
        value is not None and value <= 0
        for value in (arguments.trials, arguments.minutes, arguments.epochs, arguments.cpus)
    ):
        raise DataError("tune: --trials, --minutes, --epochs and --cpus are above 0")
    names = [name.strip() for name in (arguments.architectures or "").split(",") if name.strip()]
    unknown = [name for name in names if name not in ARCHITECTURES]
    if unknown:
        raise DataError(f"no architecture named {', '.join(unknown)}; there are: {', '.join(ARCHITECTURES)}")
    folder = arguments.study or where.build / "tune" / found.artifact
    if arguments.table:
        study = read_study(folder, found.task, found.artifact)
    else:
        split = windows.load(where.data(found.name))
        base = with_epochs(found.plan, arguments.epochs)
        digest = str(split.facts.get("digest", ""))
        study = open_study(
            folder, found.task, found.artifact, base, space_of(base, names), digest, arguments.pruner, arguments.seed
        )
        ends = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
        bound = Bound(arguments.trials, ends)
        try:
            if arguments.ray is None:
                search(study, split, bound, _say, report.write)
            else:
                from edge_train.tuning import on_ray

                on_ray.search(study, split, bound, _say, report.write, arguments.ray, arguments.cpus)
        finally:
            report.write(study)
            report.draw(study)
    print(report.table(study))
    best = study.best()
    if best is None:
        print("nothing finished yet")
        return
    path = study.write_best()
    print(f"best: validation {best.value:.4f} (trial {best.number}); edge-train fit {found.artifact} --plan {path}")


def _say(text: str) -> None:
    print(text, flush=True)
