"""What the fibrillation models are worth: through the daemon's windows and engine, on people they have not seen.

    python -m edge_train.af.figures rr MODELS-DIR ... --data ../shared/data      # held-out fifth of VitalDB and LTAFDB
    python -m edge_train.af.figures mitdb MODELS-DIR ... --data ../shared/data   # MIT-BIH, own detector
    python -m edge_train.af.figures strips MODELS-DIR ... --data ../shared/data  # CinC 2017, each model on its own test fold

Each MODELS-DIR is an artifact's folder; several are seeds (or folds), and mean and deviation over them are printed.

    python -m edge_train.af.figures mitdb-strips MODELS-DIR ... --data ../shared/data   # MIT-BIH, ten seconds at a time

By window: the truth is the rhythm of most of a window's intervals. By time: a verdict holds from its newest beat to the next
verdict (at most ten seconds), the truth is the rhythm at each instant; what a model says late after an onset counts against it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.inference.artifact import load, open_engine
from edge_agent.inference.labels import label_of
from edge_agent.inference.loaded import LoadedModel
from edge_agent.signal.qrs import make_qrs_detector
from edge_agent.signal.rr import RrHistory
from edge_train.af.courses import CLOCK_HZ, Course, courses, fifths, sequences
from edge_train.af.rr import CLIP, TEST_FIFTH
from edge_train.arrays import Floats, Ints
from edge_train.data.mitdb import read_record
from edge_train.errors import in_words

HOLDS_S = 10.0
Doubles = NDArray[np.float64]
Bools = NDArray[np.bool_]
BOOTSTRAPS = 1000
LTAFDB_COUNTS = 0.1
"""Where both databases are pooled: LTAFDB has a day of a patient, VitalDB twenty minutes."""


@dataclass(frozen=True, slots=True)
class Tally:
    """Seconds (or windows): fibrillation said and not said, none not said and said."""

    hit: float = 0.0
    missed: float = 0.0
    quiet: float = 0.0
    false: float = 0.0

    def __add__(self, other: Tally) -> Tally:
        return Tally(*(getattr(self, name) + getattr(other, name) for name in ("hit", "missed", "quiet", "false")))

    @property
    def sensitivity(self) -> float:
        return 100 * self.hit / (self.hit + self.missed) if self.hit + self.missed else float("nan")

    @property
    def specificity(self) -> float:
        return 100 * self.quiet / (self.quiet + self.false) if self.quiet + self.false else float("nan")


def tally(truth: Bools, said: Bools, weight: Doubles | None = None) -> Tally:
    w = np.ones(truth.size) if weight is None else weight
    return Tally(*(float(w[rows].sum()) for rows in (truth & said, truth & ~said, ~truth & ~said, ~truth & said)))


def opened(folder: Path) -> LoadedModel:
    artifact = load(folder)
    return LoadedModel(artifact, open_engine(artifact))


def fibrillating(model: LoadedModel) -> Callable[[Floats], Bools]:
    """Rows to whether the daemon would say AFIB."""
    manifest = model.artifact.manifest

    def say(rows: Floats) -> Bools:
        return np.array([label_of(model.engine.invoke((row,)), manifest)[0] == "AFIB" for row in rows], bool)

    return say


def by_entropy(threshold: float) -> Callable[[Floats], Bools]:
    """The rhythm follower's measure on the last 30 intervals (its windows are in seconds), for comparison."""
    from edge_agent.alarms.rhythm import INTERVALS, cosen

    def say(rows: Floats) -> Bools:
        return np.array([cosen(row[-INTERVALS:].astype(np.float64)) > threshold for row in rows], bool)

    return say


def in_time(newest_s: Doubles, said: Bools, edges_s: Doubles, truth: Bools) -> Tally:
    """``truth[i]`` holds from ``edges_s[i]`` to the next edge; verdicts hold until the next one, ``HOLDS_S`` at most."""
    ends = np.minimum(np.append(newest_s[1:], newest_s[-1:] + HOLDS_S), newest_s + HOLDS_S)
    cuts = np.unique(np.concatenate([newest_s, ends, edges_s]))
    middle, length = (cuts[1:] + cuts[:-1]) / 2, np.diff(cuts)
    verdict = np.searchsorted(newest_s, middle, side="right") - 1
    spoken = (verdict >= 0) & (middle < ends[np.maximum(verdict, 0)])
    place = np.searchsorted(edges_s, middle, side="right") - 1
    known = spoken & (place >= 0) & (place < len(edges_s) - 1)
    return tally(truth[np.clip(place[known], 0, len(truth) - 1)], said[verdict[known]], length[known])


# --- RR intervals: the held-out fifth ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Patient:
    """One held-out patient's windows."""

    name: str
    rows: Floats
    seconds: Floats
    """The same windows, not normalised."""
    truth: Bools
    newest_s: Doubles
    edges_s: Doubles
    rhythm: Bools


def held_out(data: Path, intervals: int, stride: int) -> list[Patient]:
    found = courses(data)
    dealt = fifths(found)
    return [_patient(one, intervals, stride) for one in found if dealt[one.patient] == TEST_FIFTH]


def _patient(course: Course, intervals: int, stride: int) -> Patient:
    made = sequences(course, intervals, stride)
    plain = sequences(course, intervals, stride, "seconds")
    at_s = course.at / CLOCK_HZ
    return Patient(
        course.patient,
        np.clip(made.rows, -CLIP, CLIP),
        plain.rows,
        made.share > 0.5,
        at_s[made.beat],
        at_s,
        course.fibrillates,
    )


def of_patients(
    patients: Sequence[Patient], say: Callable[[Floats], Bools], seconds: bool
) -> dict[str, tuple[Tally, Tally]]:
    """Patient to the tally by window and by time."""
    made = {}
    for one in patients:
        said = say(one.seconds if seconds else one.rows)
        made[one.name] = (tally(one.truth, said), in_time(one.newest_s, said, one.edges_s, one.rhythm))
    return made


def rr_report(folders: Sequence[Path], data: Path) -> dict[str, Any]:
    models = [opened(folder) for folder in folders]
    anchor = models[0].artifact.manifest.anchor
    patients = held_out(data, models[0].artifact.golden_inputs[0].shape[1], getattr(anchor, "stride", 1))
    sayers = {str(folder): fibrillating(model) for folder, model in zip(folders, models, strict=True)}
    report: dict[str, Any] = {"patients": len(patients), "models": {}}
    for name, say, seconds in (
        *((name, say, False) for name, say in sayers.items()),
        *((f"entropy > {at}", by_entropy(at), True) for at in (-1.4, -1.2)),
    ):
        found = of_patients(patients, say, seconds)
        report["models"][name] = _summary(found)
    return report


def _summary(found: dict[str, tuple[Tally, Tally]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for i, how in enumerate(("window", "time")):
        for database in ("vitaldb", "ltafdb"):
            made[f"{database} by {how}"] = _pooled([found[name][i] for name in found if name.startswith(database)])
        made[f"both by {how}"] = _pooled(
            [_scaled(one[i], LTAFDB_COUNTS if name.startswith("ltafdb") else 1.0) for name, one in found.items()]
        )
    errors = sorted(((one.missed + one.false, name) for name, (one, _) in found.items()), reverse=True)[:12]
    made["worst"] = [[name, total, found[name][0].missed, found[name][0].false] for total, name in errors]
    return made


def _pooled(tallies: Sequence[Tally]) -> dict[str, Any]:
    return _with_interval(tallies, lambda part: sum(part, Tally()))


def _scaled(one: Tally, by: float) -> Tally:
    return Tally(one.hit * by, one.missed * by, one.quiet * by, one.false * by)


def _with_interval(tallies: Sequence[Tally], join: Callable[[list[Tally]], Tally]) -> dict[str, Any]:
    """95 % intervals by a bootstrap of patients."""
    rng = np.random.default_rng(0)
    whole = join(list(tallies))
    drawn = [join([tallies[i] for i in rng.integers(len(tallies), size=len(tallies))]) for _ in range(BOOTSTRAPS)]

    def interval(values: list[float]) -> list[float]:
        fine = np.array(values)[np.isfinite(values)]
        return [round(float(np.percentile(fine, at)), 2) for at in (2.5, 97.5)] if fine.size else []

    return {
        "se": round(whole.sensitivity, 2),
        "se_interval": interval([one.sensitivity for one in drawn]),
        "sp": round(whole.specificity, 2),
        "sp_interval": interval([one.specificity for one in drawn]),
    }


# --- MIT-BIH with the own detector -----------------------------------------------------------------------------------------


def rhythms(path: Path) -> tuple[Doubles, NDArray[np.str_]]:
    """Edges in seconds and the rhythm that begins at each."""
    import wfdb

    annotation = wfdb.rdann(str(path), "atr")
    edges, names = [], []
    for sample, note in zip(annotation.sample, annotation.aux_note, strict=True):
        if note.startswith("("):
            edges.append(int(sample) / float(annotation.fs))
            names.append(note.strip("\0")[1:])
    return np.array(edges), np.array(names, "U8")


def mitdb_report(folders: Sequence[Path], data: Path) -> dict[str, Any]:
    models = [opened(folder) for folder in folders]
    manifest = models[0].artifact.manifest
    intervals, stride = models[0].artifact.golden_inputs[0].shape[1], getattr(manifest.anchor, "stride", 1)
    sayers: dict[str, tuple[Callable[[Floats], Bools], bool]] = {
        str(folder): (fibrillating(model), False) for folder, model in zip(folders, models, strict=True)
    }
    sayers |= {f"entropy > {at}": (by_entropy(at), True) for at in (-1.4, -1.2)}
    tallies: dict[str, dict[str, dict[str, Tally]]] = {name: {} for name in sayers}
    for header in sorted((data / "mitdb").glob("*.hea")):
        record = read_record(header.parent, header.stem)
        rows, plain, newest = _own(record.signals[record.main], record.fs, intervals, stride)
        edges, names = rhythms(header.with_suffix(""))
        edges = np.append(edges, record.signals.shape[1] / record.fs)
        for name, (say, seconds) in sayers.items():
            said = say(plain if seconds else rows)
            flutter = names == "AFL"
            tallies[name][header.stem] = {
                "flutter is fibrillation": in_time(newest, said, edges, (names == "AFIB") | flutter),
                "flutter is not": in_time(newest, said, edges, names == "AFIB"),
                "flutter left out": _without(newest, said, edges, names, flutter),
            }
    return {
        name: {
            how: _pooled([one[how] for one in by_record.values()])
            for how in ("flutter is fibrillation", "flutter is not", "flutter left out")
        }
        | {
            "records": {
                record: [
                    round(value / 60, 1)
                    for value in (
                        one["flutter is fibrillation"].hit,
                        one["flutter is fibrillation"].missed,
                        one["flutter is fibrillation"].false,
                    )
                ]
                for record, one in by_record.items()
                if one["flutter is fibrillation"].hit
                + one["flutter is fibrillation"].missed
                + one["flutter is fibrillation"].false
                > 30
            }
        }
        for name, by_record in tallies.items()
    }


def _own(x: Floats, fs: float, intervals: int, stride: int) -> tuple[Floats, Floats, Doubles]:
    """Windows by the daemon's own detector and history."""
    detector = make_qrs_detector(fs, "ecg")
    beats = sorted(beat.sample for beat in [*detector.feed(x, 0), *detector.flush()])
    history = RrHistory(fs)
    rows, plain, newest = [], [], []
    for i, beat in enumerate(beats):
        history.beat(beat)
        if i % stride == 0:
            row, seconds = history.sequence(intervals, "log_median"), history.sequence(intervals, "seconds")
            if row is not None and seconds is not None:
                rows.append(row)
                plain.append(seconds)
                newest.append(beat / fs)
    return (
        np.clip(np.array(rows, np.float32).reshape(-1, intervals), -CLIP, CLIP),
        np.array(plain, np.float32).reshape(-1, intervals),
        np.array(newest),
    )


def _without(newest: Doubles, said: Bools, edges: Doubles, names: NDArray[np.str_], left_out: Bools) -> Tally:
    """Flutter's time counts neither way."""
    whole = in_time(newest, said, edges, names == "AFIB")
    if not left_out.any():
        return whole
    inside = in_time(newest, said, edges, left_out)
    return Tally(whole.hit, whole.missed, whole.quiet - inside.missed, whole.false - inside.hit)


# --- recordings of the Challenge 2017 --------------------------------------------------------------------------------------


def strips_report(folders: Sequence[Path], data: Path) -> dict[str, Any]:
    """Each model on the fold that its manifest says it has not seen; all of them together are every recording once."""
    from edge_train.af import strips
    from edge_train.af.ten_seconds import ASKED_S, by_set, cutter

    found = strips.labels(data)
    truth: list[int] = []
    scores: list[Floats] = []
    each: dict[str, Any] = {}
    windows, too_short = 0, 0
    for folder in folders:
        model = opened(folder)
        fold = _fold(model.artifact.manifest.training.protocol)
        rows_truth: list[int] = []
        rows_score: list[Floats] = []
        for name in by_set(found, fold)["test"]:
            strip = strips.read(data, name, found[name])
            rows, _ = strips.cut(strip, cutter(strip.fs), ASKED_S)
            if not len(rows):
                too_short += 1
                continue
            windows += len(rows)
            said = np.array([model.engine.invoke((row,)) for row in rows], np.float32)
            rows_score.append(strips.aggregate(said, np.full(len(rows), name))[1][0])
            rows_truth.append(strip.label)
        each[str(folder)] = strip_measures(np.array(rows_truth), np.array(rows_score), intervals=False)
        truth += rows_truth
        scores += rows_score
    pooled = strip_measures(np.array(truth), np.array(scores), intervals=True)
    return {"models": each, "all": pooled, "windows": windows, "too_short": too_short}


def mitdb_strips_report(folders: Sequence[Path], data: Path) -> dict[str, Any]:
    """Windows of MIT-BIH, which the 10-second model has never seen; the truth is the rhythm in its middle."""
    from edge_train.af.strips import Strip, cut
    from edge_train.af.ten_seconds import ASKED_S, RATE_HZ, SAMPLES, cutter

    models = [opened(folder) for folder in folders]
    tallies: dict[str, dict[str, dict[str, Tally]]] = {str(folder): {} for folder in folders}
    for header in sorted((data / "mitdb").glob("*.hea")):
        record = read_record(header.parent, header.stem)
        rows, ends = cut(Strip(record.name, record.fs, record.signals[record.main], 0), cutter(record.fs), ASKED_S)
        edges, names = rhythms(header.with_suffix(""))
        middle = ends / record.fs - SAMPLES / RATE_HZ / 2
        there = names[np.maximum(np.searchsorted(edges, middle, side="right") - 1, 0)]
        flutter = there == "AFL"
        for folder, model in zip(folders, models, strict=True):
            said = fibrillating(model)(rows)
            tallies[str(folder)][record.name] = {
                "flutter is fibrillation": tally((there == "AFIB") | flutter, said),
                "flutter is not": tally(there == "AFIB", said),
                "flutter left out": tally((there == "AFIB")[~flutter], said[~flutter]),
            }
    hows = ("flutter is fibrillation", "flutter is not", "flutter left out")
    return {
        name: {how: _pooled([one[how] for one in by_record.values()]) for how in hows}
        | {"false": {record: one[hows[0]].false for record, one in by_record.items() if one[hows[0]].false > 10}}
        for name, by_record in tallies.items()
    }


def _fold(protocol: str) -> int:
    """The fold that a model's manifest says it has not seen."""
    import re

    told = re.search(r"fold (\d)", protocol)
    if told is None:
        raise ValueError(f"the manifest does not say which fold was tested on: {protocol!r}")
    return int(told.group(1))


def strip_measures(truth: Ints, scores: Floats, intervals: bool) -> dict[str, Any]:
    """F1 by recording, as the recordings are here and weighted to the whole set's proportions."""
    from edge_train.af.strips import CODES, WHOLE_SET

    count = np.bincount(truth, minlength=len(CODES))
    weight = (np.array(WHOLE_SET) / np.maximum(count, 1))[truth]

    def measured(rows: Ints, w: Doubles) -> list[float]:
        table = np.zeros((len(CODES), len(CODES)))
        np.add.at(table, (truth[rows], scores[rows].argmax(1)), w[rows])
        two = rows[truth[rows] < 2]
        pair = np.zeros((2, 2))
        np.add.at(pair, (truth[two], scores[two][:, :2].argmax(1)), w[two])
        f1 = [200 * table[i, i] / max(1e-9, table[i].sum() + table[:, i].sum()) for i in range(len(CODES))]
        return [*f1, float(np.mean(f1[:3])), 200 * pair[1, 1] / max(1e-9, pair[1].sum() + pair[:, 1].sum())]

    names = [*(f"F1 {code}" for code in CODES), "mean F1 N A O", "F1 A against N"]
    everything = np.arange(truth.size)
    made: dict[str, Any] = {}
    for how, w in (("as here", np.ones(truth.size)), ("whole set's proportions", weight)):
        values = measured(everything, w)
        made[how] = dict(zip(names, (round(value, 2) for value in values), strict=True))
        if intervals:
            rng = np.random.default_rng(0)
            drawn = np.array([measured(rng.integers(truth.size, size=truth.size), w) for _ in range(BOOTSTRAPS)])
            low, high = np.percentile(drawn, [2.5, 97.5], axis=0)
            made[how + ", intervals"] = {
                name: [round(float(a), 2), round(float(b), 2)] for name, a, b in zip(names, low, high, strict=True)
            }
    table = np.zeros((len(CODES), len(CODES)), int)
    np.add.at(table, (truth, scores.argmax(1)), 1)
    return made | {"confusion": table.tolist()}


REPORTS: dict[str, Callable[[Sequence[Path], Path], dict[str, Any]]] = {
    "rr": rr_report,
    "mitdb": mitdb_report,
    "strips": strips_report,
    "mitdb-strips": mitdb_strips_report,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=tuple(REPORTS))
    parser.add_argument("models", nargs="+", type=Path, metavar="MODELS-DIR")
    parser.add_argument("--data", type=Path, default=Path("../shared/data"))
    arguments = parser.parse_args()
    print(json.dumps(REPORTS[arguments.what](arguments.models, arguments.data), indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(in_words("edge_train.af.figures", main))
