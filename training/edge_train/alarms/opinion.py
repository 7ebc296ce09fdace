"""The learned part of the second opinion: ``vt-second-opinion``.

The Challenge 2015's ventricular tachycardia alarms go through the daemon's own pipeline up to the alarm, and the daemon's own
code takes the numbers (`edge_agent.alarms.opinion.ventricular_signs`), so what is trained on is what will be asked. The set does
not say which records are of one person, so folds are by record.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edge_agent.alarms.opinion import VENTRICULAR_SIGNS, ventricular_signs
from edge_agent.alarms.signs import look
from edge_agent.clock import RecordedClock
from edge_agent.pipeline import Pipeline
from edge_agent.replay import Settings, open_for_replay
from edge_agent.sources.paced import RecordingReader
from edge_agent.stamp import REPLAYED, Stamp
from edge_train.alarms.logistic import FOLDS, THRESHOLD, Logistic, Table, Truth, cross_validated, fit
from edge_train.errors import DataError

NAME = "vt-second-opinion"
VERSION = "0.1.0"
ALARM_S = 150.0
KIND = "Ventricular_Tachycardia"
LABELS = ("false", "true")
SOURCE = (
    "PhysioNet/CinC Challenge 2015 training set 1.0.0, https://physionet.org/content/challenge-2015/1.0.0/: the ventricular tachycardia"
    " alarms among 353 of its 750 records"
)
LICENCE = (
    "Challenge 2015: open access on PhysioNet. Clifford GD, Silva I, Moody B, et al. The PhysioNet/Computing in Cardiology Challenge 2015:"
    " Reducing False Arrhythmia Alarms in the ICU. CinC 2015:273-276. Goldberger AL et al. PhysioBank, PhysioToolkit, and PhysioNet."
    " Circulation 101(23):e215-e220, 2000"
)


@dataclass(frozen=True, slots=True)
class Examples:
    records: tuple[str, ...]
    numbers: Table
    truth: Truth

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.numbers.astype(np.float32).tobytes() + self.truth.tobytes()).hexdigest()


def examples(data: Path, said: Callable[[str], None]) -> Examples:
    """A row of numbers for each alarm."""
    folder = data / "challenge2015"
    try:
        lines = (folder / "ALARMS").read_text().splitlines()
    except OSError as error:
        raise DataError(f"{folder / 'ALARMS'}: {error.strerror or error}") from None
    rows = [line.split(",") for line in lines if line.strip()]
    asked = [(name.strip(), truth.strip() == "1") for name, kind, truth in rows if kind.strip() == KIND]
    if len({truth for _, truth in asked}) < 2:
        raise DataError(f"{folder}: no true and false alarms of {KIND} there")
    numbers = []
    for done, (name, _) in enumerate(asked, 1):
        numbers.append(list(signs_of(folder / name).values()))
        if done % 25 == 0 or done == len(asked):
            said(f"{done} of {len(asked)} records")
    return Examples(tuple(name for name, _ in asked), np.array(numbers), np.array([truth for _, truth in asked]))


def signs_of(record: Path) -> dict[str, float]:
    """What the daemon sees at the alarm."""
    settings = Settings()
    recording, info = open_for_replay(record, settings, fs=None, all_leads=True)
    try:
        stamp = Stamp(
            device="train",
            stream=record.name,
            session="train",
            fs=info.fs,
            clock=RecordedClock(info.fs, info.began),
            delay_s=0.0,
        )
        pipeline = Pipeline(info, models=(), limits=settings.limits, detector=settings.detector, stamp=stamp)
        at, done = round(ALARM_S * info.fs), 0
        reader = RecordingReader(recording)
        while done < at and (block := reader.read(min(round(info.fs), at - done))) is not None:
            done = block.end
            for _ in pipeline.feed(block, REPLAYED):
                pass
        return ventricular_signs(look(pipeline.picture(), at))
    finally:
        recording.close()


def figures(found: Examples, repeats: int) -> dict[str, Any]:
    """Of records that were not seen, over several ways of dealing the folds."""
    scores, sensitivities, areas = [], [], []
    for seed in range(repeats):
        p = cross_validated(found.numbers, found.truth, seed)
        said = p >= THRESHOLD
        right, missed, false = (
            int((said == found.truth).sum()),
            int((~said & found.truth).sum()),
            int((said & ~found.truth).sum()),
        )
        scores.append(100.0 * right / (right + false + 5 * missed))
        sensitivities.append(100.0 * float(said[found.truth].mean()))
        areas.append(_area(p, found.truth))
    return {
        "records": len(found.truth),
        "true": int(found.truth.sum()),
        "folds": FOLDS,
        "repeats": repeats,
        "score": round(float(np.mean(scores)), 1),
        "score_deviation": round(float(np.std(scores)), 1),
        "sensitivity": round(float(np.mean(sensitivities)), 1),
        "area_under_curve": round(float(np.mean(areas)), 3),
    }


def _area(p: Table, truth: Truth) -> float:
    """Of all pairs of a true and a false alarm, how many are in order."""
    apart = p[truth][:, None] - p[~truth][None, :]
    return float((apart > 0).mean() + 0.5 * (apart == 0).mean())


def tflite(logistic: Logistic) -> bytes:
    """Scaling, cut and weights as a TFLite file: numbers in, the two labels' probabilities out, in float: for the CPU."""
    import tensorflow as tf

    from edge_train.runtime import quiet

    quiet()
    mean = tf.constant(logistic.mean[None], tf.float32)
    scale = tf.constant(1.0 / logistic.deviation[None], tf.float32)
    weights = tf.constant(np.stack((-logistic.weights / 2, logistic.weights / 2), axis=1), tf.float32)
    bias = tf.constant([-logistic.bias / 2, logistic.bias / 2], tf.float32)

    class Net(tf.Module):  # type: ignore[misc]
        @tf.function(input_signature=[tf.TensorSpec([1, len(VENTRICULAR_SIGNS)], tf.float32, "evidence")])  # type: ignore[misc, untyped-decorator, unused-ignore]
        def __call__(self, evidence: Any) -> Any:
            z = tf.minimum(tf.maximum((evidence - mean) * scale, -3.0), 3.0)
            return {"scores": tf.nn.softmax(tf.matmul(z, weights) + bias)}

    net = Net()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([net.__call__.get_concrete_function()], net)
    made: bytes = converter.convert()
    return made


def about(found: Examples, command: str) -> dict[str, Any]:
    return {
        "version": VERSION,
        "task": "alarm",
        "labels": list(LABELS),
        "engine": "cpu",  # a logistic of eight numbers, in floats
        "anchor": {"kind": "alarm", "alarm": "ventricular_tachycardia"},
        "inputs": [{"kind": "evidence", "name": "evidence", "numbers": list(VENTRICULAR_SIGNS)}],
        "output": {"scores": "none", "thresholds": {"true": THRESHOLD}},
        "training": {
            "data": [SOURCE],
            "licence": LICENCE,
            "protocol": f"fitted on all {len(found.truth)} alarms ({int(found.truth.sum())} true); figures by {FOLDS} folds by"
            f" record; data {found.digest}",
            "command": command,
        },
    }


def card(logistic: Logistic, measured: dict[str, Any], size: int) -> str:
    rows = "\n".join(
        f"| `{name}` | {weight:+.2f} | {mean:.2f} | {deviation:.2f} |"
        for name, weight, mean, deviation in zip(
            VENTRICULAR_SIGNS, logistic.weights, logistic.mean, logistic.deviation, strict=True
        )
    )
    return f"""# {NAME} {VERSION}

Is this alarm of a bedside monitor, which says *ventricular tachycardia*, true? Asked when somebody asks (`verify` over MQTT,
`replay --verify`), and only then. A logistic regression over {len(VENTRICULAR_SIGNS)} numbers that the agent takes from the
last 16 s of every ECG lead, arterial and pleth channel, held against the two minutes before. Float32, {size:,} bytes, for the
CPU; said is `true` from a probability of {THRESHOLD:g}, because a missed alarm costs five false ones.

## What it sees

| number | weight (of a standard deviation) | mean | deviation |
|---|---|---|---|
{rows}

Bias {logistic.bias:+.2f}. What each is: `edge_agent/alarms/signs.py` and `opinion.py`; numbers of a signal that is not there are
0. Scaled by mean and deviation and cut off at three deviations inside the file.

## Data and licence

- {SOURCE}: {measured["records"]} of them, {measured["true"]} true.
- {LICENCE}.

## Protocol and figures

Folds by record ({measured["folds"]}, dealt anew {measured["repeats"]} times); the set does not say which records are of one person.
Challenge score {measured["score"]:.1f} (deviation over the ways of dealing {measured["score_deviation"]:.1f}), sensitivity
{measured["sensitivity"]:.1f} %, area under the curve {measured["area_under_curve"]:.3f}. **The numbers themselves were designed on the same
records**; the logistic alone has not seen those that it is measured on. What ships is fitted on all of them.

    edge-train alarm

## Known failures

Missed in cross-validation: a run that hardly differs from a paced or wide rhythm that was there all along, and short runs at a
rate little above the usual. Taken for true: rhythmic movement in all leads, and fast aberrant conduction.

## Not for

Silencing an alarm without somebody who looks. Diagnosis, treatment, or anything that a person's safety depends on. Not a medical device.
"""


__all__ = ["NAME", "Examples", "about", "card", "examples", "figures", "fit", "signs_of", "tflite"]
