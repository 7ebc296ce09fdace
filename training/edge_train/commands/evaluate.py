"""``edge-train evaluate``: the test set, by the float, the int8 and the packed models."""

from __future__ import annotations

import argparse

from edge_train.places import add_places, add_task, chosen, places


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "evaluate",
        help="measure on people that no model has seen",
        description="Measure every fitted seed (float; int8 where it is packed) and the artifact in --models on the test set, int8 through"
        " the daemon's own engine. Writes results/<artifact>.json, its pictures, and its lines of results/output.csv.",
    )
    add_task(parser)
    parser.add_argument("--no-figures", action="store_true", help="no pictures")
    add_places(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    found, where = chosen(arguments), places(arguments)
    if found.task is None:
        from edge_train.beats.results import evaluate_beats

        print(evaluate_beats(found, where, not arguments.no_figures))
        return
    from edge_train.results import brief, evaluate

    print(brief(evaluate(found, where, not arguments.no_figures)))
