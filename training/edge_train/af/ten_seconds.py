"""Normal, fibrillation, another rhythm or noise, from ten seconds of one ECG lead: ``ecg-af-10s``.

Recordings of the Challenge 2017; patients are not known there, so a recording stands for one. A recording's label is that of
all its windows: in "other" recordings some windows look normal, and are.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.signal.windows import Cutter
from edge_train.af.strips import CODES, cut, files, folds, labels, read
from edge_train.arrays import Floats
from edge_train.counted import counted
from edge_train.data.part import WHOLE, thinned_by
from edge_train.data.windows import Split, Windows
from edge_train.files import digest_of
from edge_train.task import Plan

RATE_HZ = 100.0
SAMPLES = 1000
STRIDE_S = 2.0
"""Of the windows here; the shipped model is asked every five seconds."""
ASKED_S = 5.0
TEST_FOLD = 0
VALIDATION_SHARE = 0.1
"""Of the recordings of the other folds."""


def cutter(fs: float) -> Cutter:
    return Cutter(fs=fs, rate_hz=RATE_HZ, samples=SAMPLES, before=SAMPLES, normalisation="zscore")


class Af10s:
    name: str = "ecg-af-10s"
    labels: tuple[str, ...] = ("N", "AFIB", "O", "noise")
    plans: Mapping[str, Plan] = {
        "ecg-af-10s": Plan(
            architecture="strided",
            balance="none",
            epochs=30,
            patience=30,
            batch=64,
            per_epoch=7_000,
            rate=3e-3,
            dropout=0.3,
            smoothing=0.05,
            extra={"dense": 0, "decay": 1e-3, "smooth": 0.6},
        )
    }
    positive: str | None = None

    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        return {"ecg": (1, SAMPLES, 1)}

    def prepare(
        self,
        data: Path,
        oracle: bool,  # noqa: ARG002 (every task takes it)
        part: float = WHOLE,
        fold: int = TEST_FOLD,
    ) -> Split:
        """``oracle`` changes nothing: no beats are asked for. ``fold`` is the test's."""
        found = labels(data)
        parts = by_set(found, fold)
        made = {
            name: _windows(data, thinned_by(names, part, found.__getitem__), found, name)
            for name, names in parts.items()
        }
        facts = {
            "data": "PhysioNet/CinC Challenge 2017, a quarter of it",
            "sources": digest_of(files(data)),
            "fold": fold,
        }
        return Split(made["train"], made["validation"], made["test"], facts)

    def augment(self, inputs: Mapping[str, Floats], rng: np.random.Generator, strength: float) -> dict[str, Floats]:
        """Slower hearts (a part of the window stretched over all of it), electrodes the other way round, wander, gain, noise."""
        x = _stretched(_zscore(inputs["ecg"]), rng, 0.7 * strength)
        n, samples = x.shape
        t = np.arange(samples, dtype=np.float32) / np.float32(RATE_HZ)
        x *= np.where(rng.random(n) < 0.3 * strength, -1, 1).astype(np.float32)[:, None]
        for share, low, high, fastest in ((0.4, 0.05, 0.8, 0.6), (0.3, 0.05, 0.35, 0.4)):
            chosen = np.flatnonzero(rng.random(n) < share * strength)
            size, hz, phase = (
                rng.uniform(a, b, (chosen.size, 1)).astype(np.float32)
                for a, b in ((low, high), (0.05, fastest), (0, 1))
            )
            wave = size * np.sin(2 * np.pi * (hz * t + phase)).astype(np.float32)
            if fastest == 0.6:
                x[chosen] += wave  # wander
            else:
                x[chosen] *= 1 + wave  # gain
        chosen = np.flatnonzero(rng.random(n) < 0.4 * strength)
        noise = rng.standard_normal((chosen.size, samples), np.float32)
        soft = rng.random(chosen.size) < 0.5
        noise[soft] = (noise[soft] + np.roll(noise[soft], 1, 1) + np.roll(noise[soft], 2, 1)) / np.float32(np.sqrt(3))
        x[chosen] += noise * np.exp(rng.uniform(np.log(0.02), np.log(0.25), (chosen.size, 1))).astype(np.float32)
        return {"ecg": _zscore(x)}

    def about(
        self, artifact: str, facts: Mapping[str, Any], seed: int, thresholds: Mapping[str, float]
    ) -> dict[str, Any]:
        return {
            "task": "ecg-rhythm",
            "labels": list(self.labels),
            "anchor": {"kind": "slide", "stride_s": ASKED_S},
            "inputs": [
                {
                    "kind": "signal",
                    "name": "ecg",
                    "signal": "ecg",
                    "rate_hz": RATE_HZ,
                    "samples": SAMPLES,
                    "before": SAMPLES,
                    "normalisation": "zscore",
                }
            ],
            "output": {"scores": "none", "thresholds": dict(thresholds)},
            "training": {
                "data": [
                    "PhysioNet/CinC Challenge 2017 training set 1.0.0 (label revision 2), 2,128 of 8,528 recordings"
                ],
                "licence": "Open Data Commons Attribution License 1.0",
                "protocol": f"by recording: fold {facts.get('fold', TEST_FOLD)} of five is tested on; seed {seed}; data {facts['digest']}",
                "command": f"edge-train data prepare {self.name} && edge-train fit {artifact} --seed {seed} && edge-train pack {artifact}",
            },
        }


def by_set(found: Mapping[str, int], fold: int) -> dict[str, list[str]]:
    """Recordings of training, validation and test; every class in each by its share."""
    dealt = folds(dict(found))
    rest = sorted(name for name in found if dealt[name] != fold)
    rng = np.random.default_rng([1, fold])
    validation: set[str] = set()
    for label in range(len(CODES)):
        names = [name for name in rest if found[name] == label]
        validation |= {names[i] for i in rng.permutation(len(names))[: round(VALIDATION_SHARE * len(names))]}
    return {
        "train": [name for name in rest if name not in validation],
        "validation": sorted(validation),
        "test": sorted(name for name in found if dealt[name] == fold),
    }


def _windows(data: Path, names: list[str], found: Mapping[str, int], title: str) -> Windows:
    rows, label, group, where = [], [], [], []
    for name in counted(title, names):
        strip = read(data, name, found[name])
        windows, ends = cut(strip, cutter(strip.fs), STRIDE_S)
        if not ends.size:
            continue
        rows.append(windows)
        label += [strip.label] * len(windows)
        group += [name] * len(windows)
        where += [f"{name}:{end}" for end in ends.tolist()]
    return Windows(
        {"ecg": np.concatenate(rows)}, np.array(label, np.int64), np.array(group, "U16"), np.array(where, "U24")
    )


def _zscore(x: Floats) -> Floats:
    spread = x.std(axis=1, keepdims=True)
    return np.asarray((x - x.mean(axis=1, keepdims=True)) / np.where(spread > 0, spread, 1), np.float32)


def _stretched(x: Floats, rng: np.random.Generator, share: float) -> Floats:
    n, samples = x.shape
    part = np.where(rng.random(n) < share, np.exp(-rng.uniform(0, 0.25, n)), 1.0)
    place = (rng.random(n) * (samples - 1) * (1 - part))[:, None] + np.arange(samples) * part[:, None]
    low = np.minimum(place.astype(np.intp), samples - 2)
    between = (place - low).astype(np.float32)
    left = np.take_along_axis(x, low, axis=1)
    return np.asarray(left + (np.take_along_axis(x, low + 1, axis=1) - left) * between, np.float32)


TASK = Af10s()
