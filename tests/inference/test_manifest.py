"""What a manifest alone can say of channels, normalisation, intervals and outputs, and that it is done."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from pydantic import ValidationError

from edge_agent.clock import RecordedClock
from edge_agent.config import AlarmLimits
from edge_agent.errors import ArtifactError
from edge_agent.inference.artifact import load, open_engine, parse_manifest
from edge_agent.inference.feeder import Feeder, feeders_of
from edge_agent.inference.labels import label_of
from edge_agent.inference.loaded import model_names, shipped_models
from edge_agent.inference.manifest import Manifest
from edge_agent.journey import Block, Window
from edge_agent.pipeline import Pipeline
from edge_agent.schemas import manifest_schema
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.stamp import REPLAYED, Stamp
from tests.inference.made import G, Op, T, tflite
from tests.inference.tiny import manifest, packed, write

FS = 250.0
BEAT, SLIDE = {"kind": "beat"}, {"kind": "slide", "stride_s": 2.0}
FILES = {"model.tflite": "0" * 64, "golden.npz": "0" * 64}


def about(*inputs: dict[str, Any], **more: Any) -> Manifest:
    return Manifest.model_validate(manifest(**{"anchor": BEAT, "inputs": list(inputs), "files": FILES, **more}))


def signal(samples: int = 4, before: int = 2, **more: Any) -> dict[str, Any]:
    made = {"kind": "signal", "name": "ecg", "signal": "ecg", "rate_hz": FS, "samples": samples, "before": before}
    return {**made, "normalisation": "none", **more}


def numbered(n: int = 1000, channels: int = 3) -> Ring:
    """Samples whose values are their indices, ten thousand apart between channels."""
    ring = Ring(channels, 2000)
    ring.push(np.stack([np.arange(n) + 10_000 * row for row in range(channels)]).astype(np.float32))
    return ring


LEADS = {"I": 0, "II": 1, "V1": 2}


def window(made: Manifest, own: str = "II", at: int = 500, ring: Ring | None = None) -> Window:
    (feeder,) = [one for one in feeders_of(made, LEADS, FS) if one.channel == own]
    ring = numbered() if ring is None else ring
    if feeder.stride:
        return feeder.cut(feeder.at_instant(at), ring, ())
    (pending,) = feeder.at_beat(at, at, RrHistory(FS))
    return feeder.cut(pending, ring, ())


# -- channels -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("channels", "expected"), [("each", ["I", "II", "V1"]), ("first", ["I"]), (["V1"], ["V1"]), (["V1", "I"], ["V1", "I"])]
)  # fmt: skip
def test_on_which_channels_a_model_runs(channels: Any, expected: list[str]) -> None:
    assert [one.channel for one in feeders_of(about(signal(), channels=channels), LEADS, FS)] == expected


def test_several_leads_in_one_input_in_the_order_asked() -> None:
    made = about(signal(channels=["V1", "I"]), channels="first")
    (inputs,) = window(made, "I").inputs
    np.testing.assert_array_equal(inputs.reshape(4, 2), [[20_498 + i, 498 + i] for i in range(4)])
    made = about(signal(channels=["V1", "I"], layout="channels_first"), channels="first")
    (inputs,) = window(made, "I").inputs
    np.testing.assert_array_equal(inputs.reshape(2, 4)[:, 0], [20_498, 498])
    assert made.inputs[0].size == 8


def test_all_leads_of_a_sliding_window_each_normalised_by_itself() -> None:
    made = about(
        signal(50, 50, channels="all", channel_count=3, normalisation="minmax"), anchor=SLIDE, channels="first"
    )
    found = window(made, "I")
    assert found.abstain is None
    table = found.inputs[0].reshape(50, 3)
    np.testing.assert_array_equal(table.min(axis=0), [0, 0, 0])
    np.testing.assert_array_equal(table.max(axis=0), [1, 1, 1])


def test_its_own_lead_beside_another() -> None:
    made = about(signal(), signal(name="reference", channels=["V1"]), channels=["II"])
    own, reference = window(made).inputs
    assert (own[0], reference[0]) == (10_498, 20_498)


def test_a_sample_missing_in_any_lead_is_no_window() -> None:
    ring = numbered()
    ring._data[2, 499] = np.nan
    made = about(signal(channels=["I", "V1"]), channels=["II"])
    assert window(made, ring=ring).abstain == "signal incomplete"


def test_a_stream_without_the_leads_is_passed_over_and_it_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    assert not list(feeders_of(about(signal(channels=["aVF"]), channels="first"), LEADS, FS))
    assert "wants the channel 'aVF'" in caplog.text
    assert not list(feeders_of(about(signal(channels="all", channel_count=12)), {"I": 0}, FS))
    assert "12 channels of ecg, it has 1" in caplog.text
    assert not list(feeders_of(about(signal(), channels=["aVF"]), LEADS, FS))
    assert "runs on aVF; this stream has I, II, V1" in caplog.text
    caplog.clear()
    assert not list(feeders_of(about(signal(signal="abp"), anchor=SLIDE), {}, FS))
    assert not caplog.text, "a stream of another kind is nothing to speak of"


@pytest.mark.parametrize(("leads", "reason"), [(["V1"], "quality: flat"), (["II"], None)])
def test_a_bad_lead_among_those_it_uses_makes_it_abstain(leads: list[str], reason: str | None) -> None:
    """V1 is flat: whoever uses it says nothing, whoever does not goes on."""
    info = StreamInfo(fs=FS, signals=(Signal("II", "ecg", "mV"), Signal("V1", "ecg", "mV")))
    made = about(signal(100, 50, channels=leads), channels=["II"])
    stamp = Stamp(device="d", stream="s", session="t", fs=FS, clock=RecordedClock(FS, None))
    pipeline = Pipeline(info, models=[made], limits=AlarmLimits(), detector="native", stamp=stamp)
    patient = SimulatedPatient(FS, ("II",), Script((Episode("sinus", 30),)), seed=4)
    found = []
    while (block := patient.read(250)) is not None:
        values = np.concatenate([block.values, np.zeros_like(block.values)])
        found += list(pipeline.feed(Block(block.first, FS, values), REPLAYED))
    windows = [item for item in found if isinstance(item, Window)]
    assert len(windows) > 20
    assert {item.channel for item in windows} == {"II"}
    assert {item.abstain for item in windows[-10:]} == {reason}


# -- normalisation ---------------------------------------------------------------------------------------------------------------


def test_a_fixed_scale_and_offset() -> None:
    (inputs,) = window(about(signal(normalisation="fixed", scale=0.5, offset=10_000))).inputs
    np.testing.assert_array_equal(inputs, [249, 249.5, 250, 250.5])
    (inputs,) = window(about(signal(normalisation="fixed"))).inputs
    np.testing.assert_array_equal(inputs, [10_498, 10_499, 10_500, 10_501])


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("seconds", [1.0, 0.5, 2.0]),
        ("milliseconds", [1000, 500, 2000]),
        ("ratio_median", [1.0, 0.5, 2.0]),
        ("log_median", np.log([1.0, 0.5, 2.0])),
        ("minmax", [1 / 3, 0, 1]),
        ("zscore", (np.array([1, 0.5, 2]) - 3.5 / 3) / np.std([1, 0.5, 2])),
    ],
)
def test_intervals_every_way(how: str, expected: Any) -> None:
    rr = RrHistory(FS)
    for sample in (0, 250, 375, 875):
        rr.beat(sample)
    made = about({"kind": "rr", "name": "rr", "intervals": 3, "normalisation": how}, anchor={"kind": "rr"})
    (pending,) = Feeder(made, "II", 0, FS).at_beat(875, 880, rr)
    np.testing.assert_allclose(pending.numbers[0], expected, rtol=1e-6)  # type: ignore[arg-type]


# -- outputs -----------------------------------------------------------------------------------------------------------------------


def said(output: dict[str, Any], *scores: float, labels: tuple[str, ...] = ("a", "b")) -> tuple[Any, ...]:
    made = about(signal(), labels=list(labels), output=output)
    label, named, reason = label_of(np.array(scores, np.float32), made)
    return label, {name: round(score, 4) for name, score in named.items()}, reason


def test_one_score_is_that_of_the_second_label() -> None:
    one = {"holds": "score", "scores": "none"}
    assert said(one, 0.75) == ("b", {"a": 0.25, "b": 0.75}, None)
    assert said(one, 0.25) == ("a", {"a": 0.75, "b": 0.25}, None)
    assert said({**one, "scores": "sigmoid"}, 0.0) == ("a", {"a": 0.5, "b": 0.5}, None)  # a tie goes to the first
    # a band in between, in which nothing is said
    band = {**one, "thresholds": {"a": 0.7, "b": 0.6}}
    assert [said(band, p)[0] for p in (0.2, 0.29, 0.31, 0.59, 0.6, 0.9)] == ["a", "a", None, None, "b", "b"]


def test_too_close_to_say() -> None:
    how = {"scores": "none", "abstain_margin": 0.2}
    assert said(how, 0.5, 0.4) == (None, {"a": 0.5, "b": 0.4}, "scores too close")
    assert said(how, 0.75, 0.5)[0] == "a"


def test_a_label_s_number() -> None:
    how = {"holds": "index", "scores": "none"}
    assert said(how, 1) == ("b", {"a": 0, "b": 1}, None)
    assert said(how, 2) == (None, {}, "the model says label 2, there are 2")
    assert said(how, -1)[0] is None


def test_a_model_that_ends_in_arg_max_goes_all_the_way(tmp_path: Path) -> None:
    axis = T((1,), "int32", "axis", (), data=np.array([1], np.int32))
    content = tflite(
        G([T((1, 3), name="rr"), axis, T((1,), "int32", scales=())], [Op(56, (0, 1), (2,), 2, 40, ((0, "int8", 2),))], [0], [2])
    )  # fmt: skip
    rr = np.array([[1, 2, 3], [3, 2, 1]], np.float32)
    described = manifest(
        labels=["first", "second", "third"],
        inputs=[{"kind": "rr", "name": "rr", "intervals": 3, "normalisation": "seconds"}],
        output={"holds": "index", "scores": "none"},
        golden={"tolerance": 0.5},
    )
    path = write(tmp_path, described, tflite=content, golden=packed({"rr": rr, "output": np.array([[2.0], [0.0]])}))
    artifact = load(path)
    engine = open_engine(artifact)
    assert [label_of(engine.invoke((row,)), artifact.manifest)[0] for row in rr] == ["third", "first"]


# -- what cannot be ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("inputs", "more", "message"),
    [
        (signal(scale=2.0), {}, "are of the normalisation fixed"),
        (signal(normalisation="fixed", scale=0.0), {}, "a scale of 0"),
        (signal(normalisation="fixed", scale=float("inf")), {}, "finite"),
        (signal(channels="all"), {}, "channel_count goes with channels = all"),
        (signal(channel_count=2), {}, "channel_count goes with channels = all"),
        (signal(channels=["I", "I"]), {}, "channels repeat"),
        (signal(channels=["I"], normalisation="usual"), {}, "the window's own channel"),
        (signal(100_000, 0, channels="all", channel_count=64), {}, "6,400,000 numbers"),
        (signal(), {"channels": ["I", "I"]}, "channels repeat"),
        (signal(), {"output": {"holds": "score", "scores": "none"}}, "of the second of two labels; there are 5"),
        (signal(), {"output": {"holds": "score", "scores": "softmax"}, "labels": ["a", "b"]}, "softmax of one number"),
        (signal(), {"output": {"holds": "index", "scores": "none", "abstain_below": 0.5}}, "has no scores"),
        (signal(tensor=-1), {}, "greater than or equal to 0"),
    ],
)
def test_what_contradicts_itself_is_refused(inputs: dict[str, Any], more: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        about(inputs, **more)


def test_the_published_schema_takes_what_the_agent_takes() -> None:
    judge = Draft202012Validator(manifest_schema())
    for name in model_names(shipped_models()):
        judge.validate(json.loads((shipped_models() / name / "manifest.json").read_text(encoding="utf-8")))
    for made in (signal(channels=["I"], tensor="x"), signal(channels="all", channel_count=3, layout="channels_first")):
        judge.validate(manifest(anchor=BEAT, inputs=[made], files=FILES, quantisation="int8"))
    assert not judge.is_valid(manifest(anchor=BEAT, inputs=[signal(sampels=3)], files=FILES))


def test_the_shipped_manifests_mean_what_they_meant() -> None:
    for name in model_names(shipped_models()):
        made = load(shipped_models() / name).manifest
        assert made.channels == "each"
        assert made.output.holds == "scores"
        assert made.output_size == len(made.labels)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
@pytest.mark.parametrize("place", ["thresholds", "abstain_below"])
def test_a_number_that_is_none_is_refused(place: str, number: str) -> None:
    """A threshold that nothing reaches would silence its class, and nobody would know."""
    made = manifest(anchor=BEAT, inputs=[signal()], files=FILES)
    value = {made["labels"][0]: 0.5} if place == "thresholds" else 0.5
    raw = json.dumps({**made, "output": {**made["output"], place: value}})
    assert parse_manifest(raw.encode(), "here").output
    with pytest.raises(ArtifactError, match="here: "):
        parse_manifest(raw.replace("0.5", number, 1).encode(), "here")
