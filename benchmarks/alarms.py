"""False alarms of an intensive care unit, and the true ones among them: PhysioNet/CinC Challenge 2015.

    PYTHONPATH=.:training python -m benchmarks.alarms [--data ../shared/data] [--out FILE.json] [--jobs 2] [--only KIND] [--shake]

Every record is streamed through the daemon's own pipeline with all its ECG leads, ABP and PLETH up to the alarm of the bedside monitor
(150 s in the cut records), and two answers are taken:

* **own**: was that very alarm raised, or still held, by the agent itself in the last 10 s, without being asked;
* **opinion**: what the agent says when it is asked whether the monitor is right. Of ventricular tachycardia a logistic decides, here always
  one that has not seen the record (ten folds by record, dealt anew ten times); the other kinds are rules.

Score = 100 (TP + TN) / (TP + TN + FP + 5 FN), Clifford et al. 2015. *Cannot say* counts as true: somebody has to go and look.
Beside them: every alarm taken for true, and the opinion with the ECG alone, with ABP, with PLETH as well.
``--shake``: each threshold of the rules a fifth lower and higher.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from functools import partial
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent import events
from edge_agent.alarms import opinion as opinions
from edge_agent.alarms.opinion import opinion, ventricular_signs
from edge_agent.alarms.signs import look
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import load_models, shipped_models
from edge_agent.replay import Settings, journey, open_for_replay
from edge_agent.sources.paced import RecordingReader

ALARM_S = 150.0
HELD_S = 10.0
REPEATS = 10
KINDS = {
    "Asystole": "asystole",
    "Bradycardia": "bradycardia",
    "Tachycardia": "tachycardia",
    "Ventricular_Flutter_Fib": "ventricular_fibrillation",
    "Ventricular_Tachycardia": "ventricular_tachycardia",
}
LEARNED = "ventricular_tachycardia"
SIGNALS: Mapping[str, tuple[str, ...]] = {"ECG": (), "+ ABP": ("abp",), "+ PLETH": ("abp", "pleth")}
SHAKEN = (
    "PAUSE_S",
    "SILENT_LOG",
    "WORTH",
    "PLAINLY_BEATING_S",
    "SLOW_PER_MIN",
    "SURELY_NOT_SLOW_PER_MIN",
    "QUICK_PER_MIN",
    "COVERED",
    "HOLE_S",
    "WAVING",
    "ROUND",
    "FIBRILLATION_STEPS",
)


@dataclass(frozen=True, slots=True)
class Row:
    """One record: what was known of it, and all that was said."""

    record: str
    kind: str
    true: bool
    own: bool
    raised: tuple[str, ...]
    """Every clinical alarm that the agent raised or held in the last 10 s."""
    said: dict[str, str]
    """By which signals might speak: true, false, cannot say. Of the learned kind what the point scorecard says."""
    by: str
    numbers: dict[str, list[float]]
    """Of the learned kind: what the combiner weighs."""
    shaken: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    answer_ms: float = 0.0


def alarms(data: Path) -> list[tuple[str, str, bool]]:
    rows = (line.split(",") for line in (data / "ALARMS").read_text().splitlines() if line.strip())
    return [(record.strip(), KINDS[kind.strip()], truth.strip() == "1") for record, kind, truth in rows]


_judges: dict[str, Judge] = {}


def _judge(models: Path | None) -> Judge:
    """Once a process."""
    return _judges.setdefault(str(models), Judge(load_models(models) if models else {}))


def stream(record: tuple[str, str, bool], data: Path, models: Path | None, shake: bool) -> Row:
    """A record up to its alarm, and not a sample further."""
    name, kind, true = record
    began = time.monotonic()
    recording, info = open_for_replay(data / name, Settings(), fs=None, all_leads=True)
    going = journey(info, _judge(models), Settings(), name)
    at = round(ALARM_S * info.fs)
    state: dict[str, tuple[bool, int]] = {}
    reader = RecordingReader(recording)
    done = 0
    while done < at and (block := reader.read(min(round(info.fs), at - done))) is not None:
        done = block.end
        for event in going.feed(block):
            if isinstance(event, events.Alarm) and event.state in ("raised", "updated", "cleared"):
                state[event.kind] = (event.state != "cleared", event.sample)
    recording.close()
    held = tuple(sorted(k for k, (on, since) in state.items() if on or since >= at - HELD_S * info.fs))
    picture = going.pipeline.picture()
    asked = time.perf_counter()
    said = opinion(picture, kind, at)
    answer_ms = (time.perf_counter() - asked) * 1e3
    return Row(
        record=name,
        kind=kind,
        true=true,
        own=kind in held,
        raised=held,
        said={label: opinion(picture, kind, at, signals=signals).answer for label, signals in SIGNALS.items()},
        by=said.by,
        numbers={
            label: list(ventricular_signs(look(picture, at, kinds=signals)).values())
            for label, signals in SIGNALS.items()
        }
        if kind == LEARNED
        else {},
        shaken=_shaken(picture, kind, at) if shake and kind != LEARNED else {},
        seconds=time.monotonic() - began,
        answer_ms=answer_ms,
    )


def _shaken(picture: Any, kind: str, at: int) -> dict[str, str]:
    out: dict[str, str] = {}
    for name in SHAKEN:
        usual = getattr(opinions, name)
        for factor in (0.8, 1.2):
            setattr(opinions, name, usual * factor)
            out[f"{name} x {factor}"] = opinion(picture, kind, at).answer
        setattr(opinions, name, usual)
    return out


# -- scores --------------------------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class Count:
    tp: int = 0
    tn: int = 0
    fp: int = 0
    fn: int = 0

    def see(self, said: bool, true: bool) -> None:
        if said:
            self.tp, self.fp = self.tp + true, self.fp + (not true)
        else:
            self.tn, self.fn = self.tn + (not true), self.fn + true

    @property
    def score(self) -> float:
        right = self.tp + self.tn
        return 100.0 * right / max(1, right + self.fp + 5 * self.fn)

    @property
    def sensitivity(self) -> float:
        return 100.0 * self.tp / max(1, self.tp + self.fn)

    @property
    def specificity(self) -> float:
        return 100.0 * self.tn / max(1, self.tn + self.fp)


Said = Mapping[str, bool]
"""Record to whether its alarm is taken for true."""


def counts(rows: Sequence[Row], said: Said) -> dict[str, Count]:
    found: dict[str, Count] = {}
    for row in rows:
        for kind in (row.kind, "all"):
            found.setdefault(kind, Count()).see(said[row.record], row.true)
    return found


def by_rules(rows: Sequence[Row], label: str) -> dict[str, bool]:
    return {row.record: row.said[label] != "false" for row in rows}


def learned(rows: Sequence[Row], label: str, threshold: float, seed: int) -> dict[str, bool]:
    """What logistics say of records that they have not seen."""
    logistic = _logistic()
    asked = [row for row in rows if row.kind == LEARNED]
    if not asked:
        return {}
    numbers = np.array([row.numbers[label] for row in asked])
    found: NDArray[np.float64] = logistic.cross_validated(numbers, np.array([row.true for row in asked]), seed)
    return {row.record: bool(p >= threshold) for row, p in zip(asked, found, strict=True)}


def _logistic() -> Any:
    try:
        return import_module("edge_train.alarms.logistic")
    except ImportError:
        sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "training"))
        return import_module("edge_train.alarms.logistic")


def report(rows: Sequence[Row], repeats: int) -> dict[str, Any]:
    """Every way of answering, by kind: mean over the ways of dealing the folds, and their deviation."""
    logistic = _logistic()
    found: dict[str, Any] = {
        "every alarm is true": _table([counts(rows, {row.record: True for row in rows})]),
        "own": _table([counts(rows, {row.record: row.own for row in rows})]),
    }
    for label in SIGNALS:
        rules = by_rules(rows, label)
        found[f"opinion, {label}, scorecard"] = _table([counts(rows, rules)])
        dealt = [counts(rows, rules | learned(rows, label, logistic.THRESHOLD, seed)) for seed in range(repeats)]
        found[f"opinion, {label}"] = _table(dealt)
    full = list(SIGNALS)[-1]
    rules = by_rules(rows, full)
    for factor in (0.5, 0.8, 1.2, 1.5):
        threshold = logistic.THRESHOLD * factor
        dealt = [counts(rows, rules | learned(rows, full, threshold, seed)) for seed in range(repeats)]
        found[f"opinion, its threshold x {factor}"] = _table(dealt)
    base = rules | learned(rows, full, logistic.THRESHOLD, 0)
    shaken = sorted({name for row in rows for name in row.shaken})
    for name in shaken:
        moved = {row.record: row.shaken[name] != "false" for row in rows if name in row.shaken}
        found[f"shaken: {name}"] = _table([counts(rows, base | moved)])
    return found


def _table(dealt: Sequence[Mapping[str, Count]]) -> dict[str, Any]:
    out = {}
    for kind in dealt[0]:
        many = [one[kind] for one in dealt]
        out[kind] = {
            "score": round(float(np.mean([one.score for one in many])), 1),
            "deviation": round(float(np.std([one.score for one in many])), 1),
            "least": round(min(one.score for one in many), 1),
            "sensitivity": round(float(np.mean([one.sensitivity for one in many])), 1),
            "specificity": round(float(np.mean([one.specificity for one in many])), 1),
            "tp_tn_fp_fn": [
                round(float(np.mean([getattr(one, part) for one in many])), 1) for part in ("tp", "tn", "fp", "fn")
            ],
        }
    return out


def show(found: Mapping[str, Any]) -> str:
    kinds = [*KINDS.values(), "all"]
    lines = ["| | " + " | ".join(kinds) + " | Se % | Sp % |", "|---" * (len(kinds) + 3) + "|"]
    for way, table in found.items():
        cells = []
        for kind in kinds:
            one = table.get(kind)
            cells.append(
                "-"
                if one is None
                else f"{one['score']:.1f}" + (f" ± {one['deviation']:.1f}" if one["deviation"] else "")
            )
        total = table["all"]
        lines.append(
            f"| {way} | " + " | ".join(cells) + f" | {total['sensitivity']:.1f} | {total['specificity']:.1f} |"
        )
    return "\n".join(lines)


def failures(rows: Iterable[Row]) -> str:
    """What the agent by itself got wrong, for whoever mends the rules."""
    wrong = [row for row in rows if row.own != row.true]
    return "\n".join(
        f"{'missed' if row.true else 'false '} {row.kind:24s} {row.record} opinion: {row.said['+ PLETH']} ({row.by})"
        + (f" raised instead: {', '.join(row.raised)}" if row.raised else "")
        for row in sorted(wrong, key=lambda row: (row.kind, row.true))
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("EDGE_AGENT_SHARED", "../shared")) / "data"
    parser.add_argument("--data", type=Path, default=default, help="the folder that holds challenge2015")
    parser.add_argument(
        "--models", type=Path, default=shipped_models(), help="for the agent's own alarms (default: shipped)"
    )
    parser.add_argument("--no-models", action="store_true", help="quicker; the own alarms that need a model are missed")
    parser.add_argument("--only", choices=sorted(KINDS.values()), help="one kind")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--shake", action="store_true")
    parser.add_argument("--wrong", action="store_true", help="list what the agent by itself got wrong")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    folder = arguments.data / "challenge2015"
    if not (folder / "ALARMS").is_file():
        print(f"{folder}: no records with their ALARMS here", file=sys.stderr)
        return 1
    asked = [one for one in alarms(folder) if arguments.only in (None, one[1])]
    work = partial(stream, data=folder, models=None if arguments.no_models else arguments.models, shake=arguments.shake)
    if arguments.jobs > 1:
        with ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
            rows = list(pool.map(work, asked, chunksize=4))
    else:
        rows = [work(one) for one in asked]
    found = report(rows, arguments.repeats)
    print(f"{len(rows)} records, {sum(row.true for row in rows)} true alarms; an opinion took ", end="")
    times = sorted(row.answer_ms for row in rows)
    print(f"{times[len(times) // 2]:.1f} ms in the median, {times[-1]:.1f} ms at most\n")
    print(show(found))
    if arguments.wrong:
        print("\n" + failures(rows))
    if arguments.out is not None:
        arguments.out.write_text(json.dumps({"ways": found, "records": [asdict(row) for row in rows]}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
