"""``edge-train data``: get public data and check it; cut windows out of it."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np

from edge_train.errors import DataError
from edge_train.places import FETCHED, Places, add_places, places
from edge_train.tasks import BEAT, TASKS, choose


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser("data", help="get public data; cut windows out of it, by patient")
    steps = parser.add_subparsers(dest="step", required=True, metavar="STEP")

    get = steps.add_parser("get", help="a public database, from PhysioNet or a local copy; checked")
    get.add_argument("name", metavar="NAME", help="mitdb, challenge2015, cinc2017, afdb, ltafdb, ...")
    get.add_argument("--from", dest="source", type=Path, metavar="DIR", help="a local copy instead of PhysioNet")
    get.add_argument("--to", type=Path, metavar="DIR", help="where to put it (default: the public data's folder)")
    add_places(get)
    get.set_defaults(run=_get)

    prepare = steps.add_parser(
        "prepare",
        help="windows for a task, cut by the daemon's own code",
        description="Windows for a task as .npz, split by patient; or, as NAME 'csv', of any unlabelled CSV FILE.",
    )
    prepare.add_argument("name", metavar="NAME", help=f"{', '.join((BEAT, *TASKS))}, or csv")
    prepare.add_argument("file", metavar="FILE", nargs="?", type=Path, help="of csv: the file")
    prepare.add_argument("--oracle", action="store_true", help="the reference's beat positions, not the own detector's")
    prepare.add_argument(
        "--part",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="0.1: about a tenth of the data, every class with its share; to see the way through, pack ships nothing made of it",
    )
    prepare.add_argument("--csv", action="store_true", help="write CSV files beside the .npz")
    prepare.add_argument(
        "--from", dest="source", type=Path, metavar="DIR", help="of beats-187: the folder of mitbih_*.csv"
    )
    prepare.add_argument("--column", metavar="NAME", help="of csv: the signal's column, by name or number from 0")
    prepare.add_argument(
        "--rate", type=float, metavar="HZ", help="of csv: samples a second, where it has no column of times"
    )
    add_places(prepare)
    prepare.set_defaults(run=_prepare)


def _get(arguments: argparse.Namespace) -> None:
    from edge_train.data.get import get

    where = places(arguments)
    target = arguments.to or (where.shared or where.build / FETCHED) / "data"
    got = get(arguments.name, target / arguments.name, arguments.source, print)
    print(got.brief())


def _prepare(arguments: argparse.Namespace) -> None:
    where, part = places(arguments), arguments.part
    if not 0 < part <= 1:
        raise DataError(f"--part {part:g}: a share of the data is above 0, and 1 at most")
    if part < 1 and (arguments.source is not None or arguments.name == "csv"):
        raise DataError("--part is of public data; --from and csv are taken whole")
    if arguments.name == "csv":
        _unlabelled(arguments, where)
        return
    found = choose(arguments.name)
    folder = where.data(found.name)
    if found.task is None:
        _beats(where, folder, arguments.oracle, part, arguments.csv)
        return
    from edge_train.data import windows

    if arguments.source is not None:
        prepare_from = getattr(found.task, "prepare_from", None)
        if prepare_from is None:
            raise DataError(f"{found.name}: --from is for beats-187; use --shared")
        split = prepare_from(arguments.source)
    else:
        split = found.task.prepare(where.public(), arguments.oracle, part)
        if part < 1:
            split.facts["part"] = part
    windows.save(folder, split, found.task.labels)
    if arguments.csv:
        windows.save_csv(folder, split, found.task.labels)
    for name, count in windows.load(folder).facts["counts"].items():
        print(f"{folder / name}: " + ", ".join(f"{key} {value}" for key, value in count.items()))


def _beats(where: Places, folder: Path, oracle: bool, part: float, csv: bool) -> None:
    from edge_train.beats import prepare as beat_prepare
    from edge_train.data.windows import write_csv
    from edge_train.files import whole_folder

    public = where.public()
    with whole_folder(folder) as made:
        facts = beat_prepare.prepare(public, made, oracle=oracle, part=part)
        if csv:
            with np.load(made / "mitdb.npz") as beats:
                write_csv(made / "mitdb.csv", {name: beats[name] for name in beats.files})
    print(f"{folder}: {facts['beats']}, digest {facts['digest'][:12]}")


def _unlabelled(arguments: argparse.Namespace, where: Places) -> None:
    from edge_train.data.unlabelled import prepare_csv

    if arguments.file is None:
        raise DataError(
            "data prepare csv wants FILE (--rate HZ where it has no times, --column where there are several)"
        )
    if arguments.rate is not None and not 0 < arguments.rate < math.inf:
        raise DataError(f"--rate {arguments.rate:g}: samples a second are a number above 0")
    made = prepare_csv(arguments.file, arguments.column, arguments.rate, where.build / "data", arguments.csv)
    print(made)
