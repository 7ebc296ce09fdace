"""Cross-validation of the fibrillation models, from prepared data.

    python -m edge_train.af.folds strips --build DIR --out DIR    # ecg-af-10s: five folds, a packed model of each
    python -m edge_train.af.folds rr --build DIR --out DIR        # ecg-af-rr: its threshold, from four fifths (not the test's)

A model of fold f has seed f. What is finished is not made again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

from edge_train.af import rr as af_rr
from edge_train.af import ten_seconds as af_10s
from edge_train.af.strips import CODES, FOLDS
from edge_train.arrays import Floats
from edge_train.data import windows
from edge_train.data.windows import Split, Windows
from edge_train.errors import in_words


def joined(split: Split) -> Windows:
    return windows.join((split.train, split.validation, split.test))


def strips_split(prepared: Split, fold: int) -> Split:
    """The same windows with another fold as test."""
    everything = joined(prepared)
    names, first = np.unique(everything.group, return_index=True)
    found = {str(name): int(everything.label[at]) for name, at in zip(names, first, strict=True)}
    sets = {
        name: everything.pick(np.isin(everything.group, group)) for name, group in af_10s.by_set(found, fold).items()
    }
    return Split(sets["train"], sets["validation"], sets["test"], prepared.facts | {"fold": fold})


def strips(build: Path, out: Path, folds: list[int]) -> None:
    """Five models, none of which has seen its test fold."""
    from edge_train.fitting.fit import fit, load_fit
    from edge_train.packing.export import representative_windows, to_int8
    from edge_train.packing.gate import int8_loss
    from edge_train.packing.pack import pack

    task = af_10s.TASK
    plan = task.plans[task.name]
    prepared = windows.load(build / "data" / task.name)
    for fold in folds:
        split, run = strips_split(prepared, fold), out / f"fold{fold}"
        facts = fit(task, split, plan, fold, run, lambda text: print(text, flush=True))
        model, _ = load_fit(task, run)
        shown = representative_windows(split.train, 1000, fold)
        tflite = to_int8(load_fit(task, run, batch=1)[0], shown)
        print(int8_loss(model, tflite, split.test, task.labels, facts["thresholds"], "none").brief(), flush=True)
        about = task.about(task.name, split.facts, fold, facts["thresholds"])
        print(pack(tflite, about, {name: cases[:32] for name, cases in shown.items()}, run / task.name), flush=True)


def rr_split(prepared: Split, fifth: int) -> Split:
    """Of the four fifths that are not the test's, one is asked, three and the simulated patients train."""
    dealt: dict[str, int] = prepared.facts["fifths"]
    both = windows.join((prepared.train, prepared.validation))
    asked = np.array([dealt.get(str(group), -1) == fifth for group in both.group])
    return Split(both.pick(~asked), both.pick(asked), prepared.test.pick(np.zeros(0, np.int64)), prepared.facts)


def rr(build: Path, out: Path) -> float:
    """Sensitivity and specificity at each threshold on patients that the net has not seen; the best threshold."""
    from edge_train.fitting.fit import fit, load_fit, predict

    task = af_rr.TASK
    prepared = windows.load(build / "data" / task.name)
    scores: list[Floats] = []
    asked: list[Windows] = []
    for fifth in range(FOLDS):
        if fifth == af_rr.TEST_FIFTH:
            continue
        split, run = rr_split(prepared, fifth), out / f"fifth{fifth}"
        fit(task, split, task.plans[task.name], fifth, run, lambda text: print(text, flush=True))
        scores.append(predict(load_fit(task, run)[0], split.validation, task))
        asked.append(split.validation)
    label = np.concatenate([one.label for one in asked])
    group = np.concatenate([one.group for one in asked])
    found = np.concatenate(scores)[:, 1]
    table = af_rr.operating_points(found, label == 1, group)
    for at, sensitivity, specificity in table[7:-8:8]:
        print(f"threshold {at:.3f}: sensitivity {100 * sensitivity:.2f} %, specificity {100 * specificity:.2f} %")
    best = af_rr.best_point(table)
    print(f"best {best:.3f}")
    return best


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("strips", "rr"))
    parser.add_argument("--build", type=Path, default=Path("build"), help="where the prepared data are")
    parser.add_argument("--out", type=Path, default=Path("build/folds"), help="runs and packed models")
    parser.add_argument("--folds", type=int, nargs="+", default=list(range(FOLDS)))
    arguments = parser.parse_args()
    if arguments.what == "strips":
        strips(arguments.build, arguments.out / "ecg-af-10s", arguments.folds)
    else:
        rr(arguments.build, arguments.out / "ecg-af-rr")
    return 0


if __name__ == "__main__":
    assert len(CODES) == len(af_10s.TASK.labels)
    sys.exit(in_words("edge_train.af.folds", main))
