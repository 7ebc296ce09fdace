"""What a pressure model's marks on the test set are worth: kind by kind, and on clean minutes.

Every artefact of the test set was put onto a good segment of a record that training never saw, by code that training never used
(`edge_train.abp.probes`). **F1 of a kind** is taken over its segments and the very same segments without the artefact: as many
good as bad ones. Real lines carry artefacts more seldom, so the same recall with the false marks of all good segments is also given
at a prevalence of 5.4 %, the one of 704 in 13,106 hand-marked blocks (F1 there: .23). **Clean minutes** are six good segments in a
row; one mark spoils one.
Intervals: 95 %, records drawn with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_train.abp import probes
from edge_train.abp.cut import ANOMALOUS, kinds
from edge_train.data.windows import Windows

PREVALENCE = 704 / 13_106
MINUTE = 6
DRAWS = 1000
Marks = NDArray[np.bool_]


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
    for name in probes.KINDS:
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
            "trained": name not in probes.UNTRAINED,
        }
    shares = {}
    for name, which in (
        ("normal", normal),
        ("arrhythmic", clean & real & (kind == "arrhythmic")),
        ("weak bad", real & (kind == "bad")),
        ("simulated, good", clean & ~real),
        ("simulated, artefacts put on", ~clean & ~real & np.isin(kind, list(probes.KINDS))),
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
