"""``edge-train alarm``: the learned part of the second opinion on alarms, from records to artifact."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from edge_train.files import write_json
from edge_train.places import add_places, places

GOLDEN = 32
REPEATS = 20


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "alarm",
        help="the logistic of the second opinion on ventricular tachycardia alarms",
        description="Streams the Challenge 2015's alarms through the daemon's pipeline, cross-validates a logistic regression by"
        " record, fits it on all of them and packs it, opened by the daemon's own loader.",
    )
    parser.add_argument(
        "--key", type=Path, metavar="FILE", help="sign the manifest with this Ed25519 private key (PEM)"
    )
    add_places(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    from edge_train.alarms import opinion as task
    from edge_train.packing.pack import pack

    where = places(arguments)
    found = task.examples(where.public(), print)
    measured = task.figures(found, REPEATS)
    print(
        f"cross-validated: score {measured['score']} (deviation {measured['score_deviation']}), sensitivity {measured['sensitivity']} %,"
        f" area under the curve {measured['area_under_curve']}"
    )
    logistic = task.fit(found.numbers, found.truth)
    made = task.tflite(logistic)
    shown = {"evidence": np.asarray(found.numbers[:: max(1, len(found.numbers) // GOLDEN)][:GOLDEN], np.float32)}
    card = task.card(logistic, measured, len(made))
    packed = pack(
        made, task.about(found, "edge-train alarm"), shown, where.artifact(task.NAME), card=card, key=arguments.key
    )
    write_json(where.report(task.NAME), {"artifact": task.NAME, **measured, "pack": packed})
    print(f"{where.artifact(task.NAME)}: {packed['bytes']:,} bytes")
