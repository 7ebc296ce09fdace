"""What the pressure models are worth, kind by kind: the figures of their cards.

    python -m edge_train.abp_report [--artifact NAME] [--seeds]

Every artefact of the test set was put onto a good segment of a record that training never saw, by code that training never used
(`edge_train.abp_probes`). **F1 of a kind** is taken over its segments and the very same segments without the artefact: as many
good as bad ones. Real lines carry artefacts more seldom, so the same recall with the false marks of all good segments is also given
at a prevalence of 5.4 %, the one of 704 in 13,106 hand-marked blocks (F1 there: .23). **Clean minutes** are six good segments in a
row; one mark spoils one.
Intervals: 95 %, records drawn with replacement.

Verdicts come from the daemon's engine with the manifest's thresholds, on windows that its cutter cut.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.judge import LoadedModel, label_of, load_models
from edge_train import abp_probes, metrics, windows
from edge_train.abp_cut import ANOMALOUS, kinds
from edge_train.data import Floats
from edge_train.files import write_json
from edge_train.places import Places, add_places, places
from edge_train.tasks.abp_segment import TASK
from edge_train.windows import Windows

PREVALENCE = 704 / 13_106
MINUTE = 6
DRAWS = 1000
Marks = NDArray[np.bool_]
Say = Callable[[Windows], Marks]


def through_engine(loaded: LoadedModel) -> Say:
    """The artifact as the daemon asks it."""
    manifest = loaded.artifact.manifest
    names = [part.name for part in manifest.inputs]

    def say(asked: Windows) -> Marks:
        rows = zip(*(asked.inputs[name] for name in names), strict=True)
        return np.array([label_of(loaded.engine.invoke(row), manifest)[0] == "anomalous" for row in rows])

    return say


def through_keras(folder: Path) -> Say:
    """The float model before it was converted."""
    from edge_train.training import load_fit, predict

    model, facts = load_fit(TASK, folder)

    def say(asked: Windows) -> Marks:
        scores: Floats = predict(model, asked, TASK)
        return np.asarray(metrics.decide(scores, TASK.labels, facts["thresholds"]) == ANOMALOUS)

    return say


def _place(windows: Windows) -> NDArray[np.str_]:
    """Record and sample, the same for a segment and what was put onto it."""
    return np.array([text.rsplit(":", 1)[0] for text in windows.where.tolist()])


def _real(windows: Windows) -> Marks:
    return np.array([not group.startswith("sim-") for group in windows.group.tolist()])


def _f1(hit: float, false: float, missed: float) -> float:
    return 2 * hit / max(2 * hit + false + missed, 1e-9)


def _interval(rows: NDArray[np.float64], measure: Callable[[NDArray[np.float64]], float], seed: int = 0) -> list[float]:
    """``rows``: sums per record; ``measure`` of the sums of records drawn with replacement."""
    rng = np.random.default_rng(seed)
    found = [measure(rows[rng.integers(0, len(rows), len(rows))].sum(0)) for _ in range(DRAWS)]
    return [round(float(value), 4) for value in np.nanquantile(found, (0.025, 0.975))]


def _by_record(group: NDArray[np.str_], *columns: NDArray[Any]) -> NDArray[np.float64]:
    names, inverse = np.unique(group, return_inverse=True)
    out = np.zeros((names.size, len(columns)))
    for i, column in enumerate(columns):
        np.add.at(out[:, i], inverse, column.astype(np.float64))
    return out


def measure(asked: Windows, marked: Marks) -> dict[str, Any]:
    """All figures of one model on the test set."""
    kind, place, real, group = kinds(asked), _place(asked), _real(asked), asked.group
    clean = asked.label != ANOMALOUS
    normal = clean & real & (kind == "normal")
    twin = {name: bool(mark) for name, mark in zip(place[clean], marked[clean], strict=True)}
    false_share = float(marked[normal].mean())
    by_kind = {}
    for name in abp_probes.KINDS:
        which = real & (kind == name)
        if not which.any():
            continue
        false = np.array([twin[key] for key in place[which].tolist()])
        sums = _by_record(group[which], marked[which], false, ~marked[which])
        hit, wrong, missed = sums.sum(0)
        recall = hit / (hit + missed)
        precise = PREVALENCE * recall / max(PREVALENCE * recall + (1 - PREVALENCE) * false_share, 1e-9)
        by_kind[name] = {
            "segments": int(which.sum()),
            "records": len(sums),
            "recall": float(recall),
            "f1": _f1(hit, wrong, missed),
            "f1_interval": _interval(sums, lambda total: _f1(*total)),
            "f1_at_prevalence": float(2 * precise * recall / max(precise + recall, 1e-9)),
            "trained": name not in abp_probes.UNTRAINED,
        }
    shares = {}
    for name, which in (
        ("normal", normal),
        ("arrhythmic", clean & real & (kind == "arrhythmic")),
        ("weak bad", real & (kind == "bad")),
        ("simulated, good", clean & ~real),
        ("simulated, artefacts put on", ~clean & ~real & np.isin(kind, list(abp_probes.KINDS))),
        *(
            (name, kind == name)
            for name in np.unique(kind[~real]).tolist()
            if name.startswith("sim-") and "+" not in name
        ),
    ):
        if which.any():
            sums = _by_record(group[which], marked[which], np.ones(which.sum()))
            shares[name] = {
                "segments": int(which.sum()),
                "records": len(sums),
                "marked": float(marked[which].mean()),
                "interval": _interval(sums, lambda total: total[0] / max(total[1], 1e-9)),
            }
    return {
        "kinds": by_kind,
        "marked": shares,
        "clean_minutes": {
            "real": minutes(asked, marked, normal),
            "real, arrhythmic too": minutes(asked, marked, clean & real),
            "simulated": minutes(asked, marked, clean & ~real),
        },
    }


def minutes(asked: Windows, marked: Marks, which: Marks) -> dict[str, Any]:
    """Runs of six segments ten seconds apart, none counted twice; a minute with any mark is a false one."""
    record, total, false = [], [], []
    for name in np.unique(asked.group[which]).tolist():
        rows = np.flatnonzero(which & (asked.group == name))
        at = {
            int(text.split(":")[1]): bool(marked[i]) for i, text in zip(rows, asked.where[rows].tolist(), strict=True)
        }
        step = 2500  # ten seconds: everything here is sampled at 250 Hz
        free = 0
        for begin in sorted(at):
            run = [begin + n * step for n in range(MINUTE)]
            if begin >= free and all(sample in at for sample in run):
                free = begin + MINUTE * step
                record.append(name)
                total.append(1.0)
                false.append(float(any(at[sample] for sample in run)))
    if not total:
        return {"minutes": 0}
    sums = _by_record(np.array(record), np.array(false), np.array(total))
    return {
        "minutes": len(total),
        "records": len(sums),
        "false": float(np.sum(false) / len(total)),
        "interval": _interval(sums, lambda t: t[0] / max(t[1], 1e-9)),
    }


def flat(found: Mapping[str, Any]) -> dict[str, float]:
    """The figures alone, by name."""
    made = {f"f1 {name}": float(one["f1"]) for name, one in found["kinds"].items()}
    made |= {f"marked {name}": float(one["marked"]) for name, one in found["marked"].items()}
    made |= {
        f"false minutes {name}": float(one["false"]) for name, one in found["clean_minutes"].items() if one["minutes"]
    }
    return made


def table(found: Mapping[str, Any]) -> str:
    """For people."""
    lines = [f"{'kind':<14}{'segments':>9}{'recall':>9}{'F1 1:1':>9}{'95 %':>18}{'F1 at 5.4 %':>13}"]
    for name, one in found["kinds"].items():
        low, high = one["f1_interval"]
        lines.append(
            f"{name + ('' if one['trained'] else ' *'):<14}{one['segments']:9d}{one['recall']:9.3f}{one['f1']:9.3f}"
            f"{f'{low:.3f} .. {high:.3f}':>18}{one['f1_at_prevalence']:13.3f}"
        )
    lines.append("* never trained on")
    for name, one in found["marked"].items():
        low, high = one["interval"]
        share = f"{100 * one['marked']:.2f} % ({100 * low:.2f} .. {100 * high:.2f})"
        lines.append(f"marked of {name:<30}{one['segments']:6d} segments, {one['records']:3d} records: {share}")
    for name, one in found["clean_minutes"].items():
        if one["minutes"]:
            low, high = one["interval"]
            share = f"{100 * one['false']:.2f} % ({100 * low:.2f} .. {100 * high:.2f})"
            lines.append(f"clean minutes, {name}: {one['minutes']} of {one['records']} records, false {share}")
    return "\n".join(lines)


def spread(found: Mapping[str, Mapping[str, Any]]) -> str:
    """Mean and deviation over seeds."""
    reports = list(found.values())

    def row(name: str, values: list[float], factor: float = 1.0) -> str:
        numbers = factor * np.array(values)
        return f"{name:<44}{numbers.mean():8.3f} +- {numbers.std(ddof=1) if len(numbers) > 1 else 0.0:.3f}"

    lines = [row(f"F1 {name}", [one["kinds"][name]["f1"] for one in reports]) for name in reports[0]["kinds"]]
    lines += [
        row(f"% marked, {name}", [one["marked"][name]["marked"] for one in reports], 100)
        for name in reports[0]["marked"]
    ]
    lines += [
        row(f"% false clean minutes, {name}", [one["clean_minutes"][name]["false"] for one in reports], 100)
        for name, first in reports[0]["clean_minutes"].items()
        if first["minutes"]
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m edge_train.abp_report", description="figures of the pressure models"
    )
    parser.add_argument("--artifact", default="abp-segment", help="default: %(default)s")
    parser.add_argument(
        "--seeds", action="store_true", help="all fitted seeds beside the shipped model, float and int8"
    )
    add_places(parser)
    options = parser.parse_args(arguments)
    where: Places = places(options)
    asked = windows.load(where.data(TASK.name)).test
    loaded = load_models(where.models, [options.artifact])[options.artifact]
    report: dict[str, Any] = {"shipped": measure(asked, through_engine(loaded)(asked))}
    print(table(report["shipped"]))
    if options.seeds:
        for path in sorted(where.runs(options.artifact).glob("seed*")):
            report[f"float {path.name}"] = measure(asked, through_keras(path)(asked))
            packed = load_models(path, [options.artifact])[options.artifact]
            report[f"int8 {path.name}"] = measure(asked, through_engine(packed)(asked))
        for kind in ("int8", "float"):
            each = {name: one for name, one in report.items() if name.startswith(kind)}
            print(f"\n{kind}, {len(each)} seeds\n{spread(each)}")
    write_json(where.results / f"{options.artifact}-kinds.json", report)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
