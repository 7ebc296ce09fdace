"""All that is reported of a model on a test set, with intervals by drawing patients anew.

Efron B, Bootstrap methods, Ann. Statist. 1979, over patients and not over windows: a patient's windows resemble each other, and
drawing them singly would give intervals several times too narrow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_train.arrays import Floats, Ints
from edge_train.measuring.metrics import SILENT, Doubles, Table, average_precision, roc_area

DRAWS = 1000
AREA_DRAWS = 200
"""For areas under curves, which cost more."""
BINS = 10
INTERVAL = (2.5, 97.5)


def _ratio(above: Doubles, below: Doubles) -> Doubles:
    return np.where(below > 0, above / np.where(below > 0, below, 1), np.nan)


def rates(tables: NDArray[Any]) -> dict[str, Doubles]:
    """Of confusion tables: measures with the same leading axes.

    The last column is silence, which is a miss. A row more than classes holds what was said where there is nothing (a false
    beat), which counts against precision. A class that is not there has no part in the mean of F1.
    """
    t = tables.astype(np.float64)
    classes = t.shape[-1] - 1
    hit = np.diagonal(t[..., :classes, :classes], axis1=-2, axis2=-1)
    true, said = t[..., :classes, :].sum(-1), t[..., :classes].sum(-2)
    f1 = _ratio(2 * hit, true + said)
    there = true > 0
    mean = np.where(there, np.nan_to_num(f1), 0).sum(-1) / np.maximum(there.sum(-1), 1)
    total = t.sum((-1, -2))
    agreed = _ratio(hit.sum(-1), total)
    # Silence agrees by chance with nothing said of nothing, where the table has such a row.
    chance = (true * said).sum(-1)
    if t.shape[-2] > classes:
        chance = chance + t[..., classes, :].sum(-1) * t[..., classes].sum(-1)
    chance = _ratio(chance, total**2)
    return {
        "recall": _ratio(hit, true),
        "precision": _ratio(hit, said),
        "f1": f1,
        "accuracy": agreed,
        "micro_f1": _ratio(2 * hit.sum(-1), true.sum(-1) + said.sum(-1)),
        "macro_f1": mean,
        "kappa": _ratio(agreed - chance, 1 - chance),
    }


def j_kappa(found: Mapping[str, Doubles], labels: Sequence[str]) -> Doubles | None:
    """Mar T et al., IEEE Trans Biomed Eng 2011: 0.5 kappa + 0.125 (Se_S + Se_V + P+_S + P+_V); None without those classes."""
    if not {"N", "S", "V"} <= set(labels):
        return None
    at = [labels.index("S"), labels.index("V")]
    both = np.nan_to_num(found["recall"][..., at]) + np.nan_to_num(found["precision"][..., at])
    return np.asarray(0.5 * found["kappa"] + 0.125 * both.sum(-1), np.float64)


def calibration(scores: Floats, truth: Ints) -> dict[str, Any]:
    """Expected calibration error of the best score (Guo C et al., ICML 2017), and the bins of its reliability diagram."""
    best, right = scores.max(1).astype(np.float64), scores.argmax(1) == truth
    place = np.minimum((best * BINS).astype(np.int64), BINS - 1)
    bins = []
    error = 0.0
    for i in range(BINS):
        inside = place == i
        many = int(inside.sum())
        if many:
            said, was = float(best[inside].mean()), float(right[inside].mean())
            error += many / len(best) * abs(said - was)
            bins.append({"examples": many, "confidence": said, "accuracy": was})
    return {"ece": error, "bins": bins}


def _by_patient(truth: Ints, said: Ints, patient: NDArray[np.str_], classes: int) -> tuple[list[str], Table]:
    names, inverse = np.unique(patient, return_inverse=True)
    tables = np.zeros((names.size, classes, classes + 1), np.int64)
    np.add.at(tables, (inverse, truth, np.where(said == SILENT, classes, said)), 1)
    return names.tolist(), tables


def draws(patients: int, many: int, seed: int = 0) -> NDArray[np.int64]:
    """How often each patient is in each draw: (many, patients)."""
    rng = np.random.default_rng(seed)
    return rng.multinomial(patients, np.full(patients, 1 / patients), many)


def _interval(values: Doubles) -> list[float] | None:
    fine = values[np.isfinite(values)]
    return [float(x) for x in np.percentile(fine, INTERVAL)] if fine.size else None


def _value(x: Any) -> float | None:
    return float(x) if np.isfinite(x) else None


def of_tables(tables: Table, labels: Sequence[str], names: Sequence[str] = ()) -> dict[str, Any]:
    """Measures of the sum of patients' tables (patients, rows, classes + 1), each with its interval over patients."""
    whole = tables.sum(0)
    drawn = np.tensordot(draws(len(tables), DRAWS), tables, axes=1)
    point, spread = rates(whole), rates(drawn)
    for found in (point, spread):
        joined = j_kappa(found, labels)
        if joined is not None:
            found["j_kappa"] = joined
            found["macro_f1_nsv"] = np.nan_to_num(found["f1"][..., [labels.index(label) for label in "NSV"]]).mean(-1)
    scalars = [name for name in point if point[name].ndim == 0]
    result: dict[str, Any] = {name: _value(point[name]) for name in scalars}
    result["classes"] = {
        label: {
            "examples": int(whole[i].sum()),
            "tp": int(whole[i, i]),
            **{name: _value(point[name][i]) for name in ("recall", "precision", "f1")},
            "intervals": {name: _interval(spread[name][:, i]) for name in ("recall", "precision", "f1")},
        }
        for i, label in enumerate(labels)
    }
    result["intervals"] = {name: _interval(spread[name]) for name in scalars}
    result["confusion"] = whole.tolist()
    if names:
        each = rates(tables)
        result["patients"] = {
            name: {
                "accuracy": _value(each["accuracy"][p]),
                **{
                    label: {
                        "examples": int(tables[p, i].sum()),
                        **{m: _value(each[m][p, i]) for m in ("recall", "precision")},
                    }
                    for i, label in enumerate(labels)
                    if tables[p, i].sum() or tables[p, :, i].sum()
                },
            }
            for p, name in enumerate(names)
        }
    return result


def _areas(score: Floats, truth: NDArray[np.bool_], patient: NDArray[np.str_]) -> dict[str, Any]:
    """Areas under ROC and precision-recall curve, with intervals. A patient drawn twice counts twice."""
    names, inverse = np.unique(patient, return_inverse=True)
    result: dict[str, Any] = {}
    measures: dict[str, Callable[[NDArray[Any], NDArray[Any]], float]] = {
        "roc_area": roc_area,
        "average_precision": average_precision,
    }
    rows = np.split(np.argsort(inverse, kind="stable"), np.cumsum(np.bincount(inverse))[:-1])
    values: dict[str, list[float]] = {name: [] for name in measures}
    for count in draws(names.size, AREA_DRAWS):
        taken = np.concatenate([np.repeat(rows[p], many) for p, many in enumerate(count.tolist()) if many])
        if 0 < truth[taken].sum() < taken.size:
            for name, measure in measures.items():
                values[name].append(measure(score[taken], truth[taken]))
    for name, measure in measures.items():
        result[name] = measure(score, truth)
        result[f"{name}_interval"] = _interval(np.array(values[name]))
    return result


def measure(
    scores: Floats,
    said: Ints,
    truth: Ints,
    patient: NDArray[np.str_],
    labels: Sequence[str],
    positive: str | None = None,
) -> dict[str, Any]:
    """Everything, of one model on one test set. Areas for ``positive``, or for every class that is there."""
    names, tables = _by_patient(truth, said, patient, len(labels))
    result = of_tables(tables, labels, names)
    result["patients_tested"] = len(names)
    result["areas"] = {
        label: _areas(scores[:, i], truth == i, patient)
        for i, label in enumerate(labels)
        if (positive is None or label == positive) and 0 < int((truth == i).sum()) < truth.size
    }
    result["calibration"] = calibration(scores, truth)
    return result


def over_seeds(found: Sequence[Mapping[str, Any]], labels: Sequence[str]) -> dict[str, Any]:
    """Mean and deviation (of the sample) over seeds, of what is worth one."""
    columns: dict[str, list[float]] = {}
    for one in found:
        for name in ("accuracy", "micro_f1", "macro_f1", "macro_f1_nsv", "kappa", "j_kappa"):
            if one.get(name) is not None:
                columns.setdefault(name, []).append(one[name])
        for label in labels:
            for name in ("recall", "precision", "f1"):
                value = one["classes"][label][name]
                columns.setdefault(f"{label} {name}", []).append(0.0 if value is None else value)
        for label, area in one.get("areas", {}).items():
            for name in ("roc_area", "average_precision"):
                columns.setdefault(f"{label} {name}", []).append(area[name])
        for name, value in one.get("own", {}).items():
            if isinstance(value, int | float):
                columns.setdefault(name, []).append(float(value))
    return {
        name: {
            "mean": float(np.mean(values)),
            "deviation": float(np.std(values, ddof=1)) if len(values) > 1 else 0.0,
            "seeds": len(values),
        }
        for name, values in columns.items()
    }
