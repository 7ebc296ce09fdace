"""From a model's scores to the label that its manifest's rules give, or to the reason why there is none."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite

import numpy as np

from edge_agent.inference.manifest import Manifest
from edge_agent.journey import Samples


def softmax(scores: Samples) -> Samples:
    exponential = np.exp(scores - scores.max())
    return np.asarray(exponential / exponential.sum(), np.float32)


def label_of(scores: Samples, manifest: Manifest) -> tuple[str | None, dict[str, float], str | None]:
    """The label that the manifest's rules give, the scores by label, and why there is none."""
    output, labels = manifest.output, manifest.labels
    if output.holds == "index":
        return _numbered(float(scores[0]), labels)
    if output.scores == "softmax":
        scores = softmax(scores)
    elif output.scores == "sigmoid":
        with np.errstate(over="ignore"):  # exp(89) is infinite in float32, and its inverse the right 0
            scores = np.asarray(1 / (1 + np.exp(-scores)), np.float32)
    values: list[float] = scores.tolist()
    if output.holds == "score":
        values = [1 - values[0], values[0]]
    named = dict(zip(labels, values, strict=True))
    if not isfinite(sum(values)):
        return None, {}, "the scores are no numbers"
    # Of the labels that reach their threshold the best one wins; ties go to the label listed first.
    thresholds = output.thresholds
    allowed = [label for label in labels if named[label] >= thresholds.get(label, 0.0)] if thresholds else labels
    best = max(allowed, key=named.__getitem__, default=None)
    if best is None or named[best] < max(output.abstain_below, 0.0):
        return None, named, "score too low"
    if (
        output.abstain_margin
        and named[best] - max(v for label, v in named.items() if label != best) < output.abstain_margin
    ):
        return None, named, "scores too close"
    return best, named, None


def _numbered(number: float, labels: Sequence[str]) -> tuple[str | None, dict[str, float], str | None]:
    if not 0 <= number < len(labels):
        return None, {}, f"the model says label {number:.0f}, there are {len(labels)}"
    said = labels[int(number)]
    return said, {label: float(label == said) for label in labels}, None
