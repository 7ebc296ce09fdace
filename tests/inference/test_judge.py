"""From scores to a label, or to the reason why there is none."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.errors import EngineError
from edge_agent.inference.artifact import Artifact, load
from edge_agent.inference.judge import Judge
from edge_agent.inference.labels import label_of, softmax
from edge_agent.inference.loaded import LoadedModel
from edge_agent.inference.manifest import Manifest
from edge_agent.journey import Samples, Window
from tests.inference.tiny import manifest, write

LABELS = ["N", "S", "V"]


def about(scores: str = "none", **output: Any) -> Manifest:
    files = {"model.tflite": "0" * 64, "golden.npz": "0" * 64}
    return Manifest.model_validate(manifest(labels=LABELS, files=files, output={"scores": scores, **output}))


def floats(*values: float) -> Samples:
    return np.array(values, np.float32)


def test_the_best_score_wins_and_ties_go_to_the_first() -> None:
    assert label_of(floats(0.2, 0.7, 0.1), about())[0] == "S"
    assert label_of(floats(0.4, 0.2, 0.4), about())[0] == "N"
    label, scores, reason = label_of(floats(0.5, 0.25, 0.25), about())
    assert (label, scores, reason) == ("N", {"N": 0.5, "S": 0.25, "V": 0.25}, None)


def test_softmax_and_sigmoid_are_applied_when_the_manifest_asks_for_them() -> None:
    logits = floats(1.0, 2.0, -1.0)
    _, scores, _ = label_of(logits, about("softmax"))
    total = sum(math.exp(x) for x in (1, 2, -1))
    assert list(scores.values()) == pytest.approx([math.exp(x) / total for x in (1, 2, -1)], rel=1e-5)
    _, scores, _ = label_of(logits, about("sigmoid"))
    assert list(scores.values()) == pytest.approx([1 / (1 + math.exp(-x)) for x in (1, 2, -1)], rel=1e-5)
    _, scores, _ = label_of(floats(0.1, 0.2, 0.7), about("none"))
    assert list(scores.values()) == pytest.approx([0.1, 0.2, 0.7])


@given(st.lists(st.floats(-1e4, 1e4, width=32), min_size=3, max_size=3))
def test_large_logits_neither_overflow_nor_warn(logits: list[float]) -> None:
    assert softmax(floats(*logits)).sum() == pytest.approx(1, abs=1e-5)
    for how in ("softmax", "sigmoid"):
        _, scores, _ = label_of(floats(*logits), about(how))
        assert all(0 <= score <= 1 for score in scores.values())


@pytest.mark.parametrize(
    ("scores", "label"),
    [
        ((0.5, 0.0, 0.5), "N"),  # V is not sure enough, N needs nothing
        ((0.3, 0.0, 0.7), "V"),
        ((0.3, 0.0, 0.6), "V"),  # the threshold itself is enough
        ((0.05, 0.9, 0.05), "N"),  # the best that is allowed
    ],
)
def test_a_label_needs_its_threshold(scores: tuple[float, ...], label: str) -> None:
    found, _, _ = label_of(floats(*scores), about(thresholds={"V": float(np.float32(0.6)), "S": 0.95}))
    assert found == label


def test_no_label_reaches_its_threshold() -> None:
    label, scores, reason = label_of(floats(0.5, 0.3, 0.2), about(thresholds=dict.fromkeys(LABELS, 0.6)))
    assert (label, reason) == (None, "score too low")
    assert scores["N"] == 0.5  # said all the same


@pytest.mark.parametrize(("best", "label"), [(0.74, None), (0.75, "N"), (0.76, "N")])
def test_the_band_in_which_nothing_is_said(best: float, label: str | None) -> None:
    found, _, reason = label_of(floats(best, 1 - best, 0), about(abstain_below=0.75))
    assert found == label
    assert reason == (None if label else "score too low")


def test_the_band_is_asked_of_the_label_that_would_be_said() -> None:
    """Not of a higher score whose own threshold keeps it silent."""
    found, _, _ = label_of(floats(0.3, 0.7, 0.0), about(thresholds={"S": 0.9}, abstain_below=0.5))
    assert found is None


def test_scores_that_are_no_numbers_are_no_label() -> None:
    for how in ("none", "sigmoid"):
        label, scores, reason = label_of(floats(np.nan, np.nan, np.nan), about(how))
        assert (label, reason) == (None, "the scores are no numbers")
        assert scores == {}, "a message of NaN is no JSON"


class Fake:
    """An engine that answers what it is told to, or fails."""

    backend = "cpu/fake"

    def __init__(self, answer: Samples | Exception) -> None:
        self.answer = answer
        self.asked: list[tuple[Samples, ...]] = []

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        self.asked.append(inputs)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return load(write(tmp_path, manifest(output={"scores": "none", "abstain_below": 0.5})))


def window(abstain: str | None = None) -> Window:
    inputs = () if abstain else (floats(1, 2), floats(3, 4, 5))
    return Window(model="tiny", channel="II", sample=100, known=150, inputs=inputs, abstain=abstain)


def test_a_verdict_says_who_said_it(artifact: Artifact) -> None:
    engine = Fake(floats(0.1, 0.6, 0.1, 0.1, 0.1))
    asked = window()
    verdict = Judge({"tiny": LoadedModel(artifact, engine)}).ask(asked)
    assert (verdict.label, verdict.reason) == ("b", None)
    assert verdict.scores == pytest.approx({"a": 0.1, "b": 0.6, "c": 0.1, "d": 0.1, "e": 0.1})
    assert (verdict.model, verdict.version, verdict.backend) == ("tiny", "1.0.0", "cpu/fake")
    assert verdict.digest == artifact.digest
    assert verdict.invoke_us > 0
    assert verdict.window is asked
    assert engine.asked == [asked.inputs]


def test_a_window_that_abstains_is_not_asked(artifact: Artifact) -> None:
    engine = Fake(floats(1, 0, 0, 0, 0))
    verdict = Judge({"tiny": LoadedModel(artifact, engine)}).ask(window("quality: noise"))
    assert engine.asked == []
    assert (verdict.label, verdict.reason, verdict.scores) == (None, "quality: noise", {})
    assert verdict.invoke_us == 0


def test_an_engine_that_fails_is_an_abstention_that_says_so(artifact: Artifact) -> None:
    engine = Fake(EngineError("cpu/fake failed at a call: delegate lost", remedy="unplug it and plug it in"))
    judge = Judge({"tiny": LoadedModel(artifact, engine)})
    verdict = judge.ask(window())
    assert (verdict.label, verdict.scores) == (None, {})
    assert verdict.reason == "engine: cpu/fake failed at a call: delegate lost"
    engine.answer = floats(1, 0, 0, 0, 0)
    assert judge.ask(window()).label == "a"  # and the next one is asked again


def test_too_low_a_score_is_an_abstention_with_its_scores(artifact: Artifact) -> None:
    verdict = Judge({"tiny": LoadedModel(artifact, Fake(floats(0.2, 0.2, 0.2, 0.2, 0.2)))}).ask(window())
    assert (verdict.label, verdict.reason) == (None, "score too low")
    assert len(verdict.scores) == 5
    assert verdict.invoke_us > 0
    json.dumps(verdict.scores)  # plain numbers
