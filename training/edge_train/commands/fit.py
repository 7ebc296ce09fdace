"""``edge-train fit``: train a task's plan, one seed after the other."""

from __future__ import annotations

import argparse
import json
import shutil
import time
from pathlib import Path
from typing import Any

from edge_train.errors import DataError
from edge_train.files import write_json
from edge_train.places import Places, add_places, add_settings, add_task, chosen, places
from edge_train.tasks import Chosen


def add(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "fit",
        help="train",
        description="Train one plan of a task. Stopped (Ctrl-C), it loses at most the epoch that was running: the same command goes on.",
    )
    add_task(parser)
    add_settings(parser)
    parser.add_argument("--seeds", type=int, default=5, metavar="N", help="seeds 0 to N-1 (default 5)")
    parser.add_argument("--seed", type=int, metavar="N", help="this one alone")
    parser.add_argument("--fresh", action="store_true", help="begin anew, whatever the runs' folder holds")
    parser.add_argument("--quiet", action="store_true", help="one line a seed")
    add_places(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    found, where = chosen(arguments), places(arguments)
    if arguments.seeds < 1 or (arguments.seed or 0) < 0:
        raise DataError("fit: --seeds is 1 or more, --seed 0 or more")
    wanted = [arguments.seed] if arguments.seed is not None else list(range(arguments.seeds))
    fit = _beats if found.task is None else _task
    fit(found, where, wanted, arguments)


def _say(text: str) -> None:
    print(text, flush=True)


def _mute(_: str) -> None:
    pass


def _task(found: Chosen, where: Places, wanted: list[int], arguments: argparse.Namespace) -> None:
    from edge_train.data import windows
    from edge_train.fitting.fit import fit

    assert found.task is not None
    assert found.plan is not None
    began = time.monotonic()
    split = windows.load(where.data(found.name))
    for seed in wanted:
        folder = where.run(found.artifact, seed)
        say = _mute if arguments.quiet else _say
        anew = arguments.fresh or not (folder / "fit.json").is_file()
        facts = fit(found.task, split, found.plan, seed, folder, say, resume=not arguments.fresh)
        _say(
            f"{found.artifact} seed {seed}: {facts['validation_of']} {facts['validation']:.4f} (epoch {facts['best_epoch']}"
            f" of {facts['epochs']}), {facts['weights']} weights"
            + (
                f", {time.monotonic() - began:.0f} s ({facts['seconds']:.0f} s of processor time in its epochs)"
                if anew
                else ""
            )
        )
        began = time.monotonic()


def _beats(found: Chosen, where: Places, wanted: list[int], arguments: argparse.Namespace) -> None:
    from edge_train.beats import model as beats
    from edge_train.beats import p_wave, prepare

    prepared, rr, facts = prepare.load_prepared(where.data(found.name))
    plain = p_wave.load(where.data(found.name))
    for seed in wanted:
        folder = where.run(found.artifact, seed)
        if arguments.fresh:
            shutil.rmtree(folder, ignore_errors=True)
        made = _finished(folder, facts["digest"])
        if made is not None:
            _say(f"{folder}: fitted already")
            continue
        began = time.monotonic()
        made = beats.fit(prepared, rr, plain, beats.Plan(), seed, folder, _mute if arguments.quiet else _say)
        _say(f"{found.artifact} seed {seed}: validation {made['validation']:.4f}, {time.monotonic() - began:.0f} s")
        write_json(folder / "data.json", facts)


def _finished(folder: Path, digest: str) -> dict[str, Any] | None:
    """The facts of a run that was finished on these very data."""
    if not ((folder / "fit.json").is_file() and (folder / "data.json").is_file()):
        return None
    if json.loads((folder / "data.json").read_text())["digest"] != digest:
        return None
    facts: dict[str, Any] = json.loads((folder / "fit.json").read_text())
    return facts
