"""From a manifest alone to the windows that a model asks for: which samples, when they are known, and when there are none."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_agent import events
from edge_agent.clock import RecordedClock
from edge_agent.config import AlarmLimits
from edge_agent.inference.artifact import Artifact
from edge_agent.inference.feeder import Feeder
from edge_agent.inference.judge import Judge
from edge_agent.inference.loaded import LoadedModel
from edge_agent.inference.manifest import Manifest
from edge_agent.items import Tick
from edge_agent.journey import Block, Samples, Window
from edge_agent.pipeline import Pipeline
from edge_agent.replay import Settings, run_blocks
from edge_agent.signal.ring import Ring
from edge_agent.signal.rr import RrHistory
from edge_agent.sources.base import Signal, StreamInfo
from edge_agent.sources.simulated.patient import SimulatedPatient
from edge_agent.sources.simulated.script import Episode, Script
from edge_agent.stamp import REPLAYED, Stamp
from tests.inference.tiny import manifest

FS = 250.0


def model(anchor: dict[str, Any], *inputs: dict[str, Any]) -> Manifest:
    files = {"model.tflite": "0" * 64, "golden.npz": "0" * 64}
    return Manifest.model_validate(manifest(anchor=anchor, inputs=list(inputs), files=files))


def signal(samples: int = 100, before: int = 50, rate_hz: float = FS, **more: Any) -> dict[str, Any]:
    return {
        "kind": "signal",
        "name": "ecg",
        "signal": "ecg",
        "rate_hz": rate_hz,
        "samples": samples,
        "before": before,
        "normalisation": "none",
        **more,
    }


RR = {"kind": "rr", "name": "rr", "intervals": 3, "normalisation": "seconds"}
NUMBERS = {"kind": "features", "name": "numbers", "features": ["rr_last_log", "rr_cv16"]}
SHAPE = {"kind": "features", "name": "shape", "features": ["p_correlation", "rr_last_log", "qrs_size_log"]}
BEAT, SLIDE = {"kind": "beat"}, {"kind": "slide", "stride_s": 2.0}


def numbered(n: int, channels: int = 2) -> Ring:
    """Samples whose values are their indices, a thousand apart between channels."""
    ring = Ring(channels, 4000)
    ring.push(np.stack([np.arange(n) + 10_000 * row for row in range(channels)]).astype(np.float32))
    return ring


# -- windows at beats -------------------------------------------------------------------------------------------------


def test_a_beat_s_window_lies_around_it_and_is_known_with_its_last_sample() -> None:
    feeder = Feeder(model(BEAT, signal(100, 30)), "V", 1, FS)
    assert feeder.reach == (-30, 70)
    assert feeder.stride is None
    (pending,) = feeder.at_beat(1000, 1020, RrHistory(FS))
    assert (pending.sample, pending.known) == (1000, 1069)
    window = feeder.cut(pending, numbered(1070), ())
    assert (window.model, window.channel, window.sample, window.known) == ("tiny", "V", 1000, 1069)
    assert window.abstain is None
    np.testing.assert_array_equal(window.inputs[0], 10_000 + np.arange(970, 1070))


def test_a_late_beat_s_window_is_known_no_sooner_than_the_beat() -> None:
    feeder = Feeder(model(BEAT, signal(100, 30)), "II", 0, FS)
    (pending,) = feeder.at_beat(1000, 1200, RrHistory(FS))
    assert pending.known == 1200


def test_another_rate_reaches_as_far_as_its_filter() -> None:
    feeder = Feeder(model(BEAT, signal(100, 50, 125.0)), "II", 0, FS)
    first, end = feeder.reach
    (pending,) = feeder.at_beat(1000, 1001, RrHistory(FS))
    assert pending.known == 1000 + end - 1
    assert first < -100 < 98 < end
    window = feeder.cut(pending, numbered(2000), ())
    np.testing.assert_allclose(window.inputs[0], 1000 + 2 * (np.arange(100) - 50), atol=0.05)


def test_several_inputs_come_in_the_manifest_s_order() -> None:
    feeder = Feeder(model(BEAT, NUMBERS, signal(40, 20), RR, signal(10, 10, name="past")), "II", 0, FS)
    assert feeder.reach == (-20, 20)
    rr = RrHistory(FS)
    for at in (100, 300, 520, 700):
        rr.beat(at)
    (pending,) = feeder.at_beat(700, 710, rr)
    rr.beat(1000)  # what comes later must not change what was asked
    window = feeder.cut(pending, numbered(800), ())
    numbers, ecg, intervals, past = window.inputs
    np.testing.assert_allclose(numbers[0], np.log(180 / 220), rtol=1e-5)
    np.testing.assert_array_equal(ecg, np.arange(680, 720))
    np.testing.assert_allclose(intervals, [0.8, 0.88, 0.72])
    np.testing.assert_array_equal(past, np.arange(690, 700))


def test_the_first_beats_have_features_of_nothing_and_are_asked_all_the_same() -> None:
    feeder = Feeder(model(BEAT, signal(), NUMBERS), "II", 0, FS)
    (pending,) = feeder.at_beat(100, 110, RrHistory(FS))
    window = feeder.cut(pending, numbered(400), ())
    assert window.abstain is None
    assert window.inputs[1].tolist() == [0, 0]


# -- beside the patient's usual beat ----------------------------------------------------------------------------------

USUAL: dict[str, Any] = {"source": "usual", "name": "usual"}


def beating(steps: Sequence[int], size: Sequence[float]) -> tuple[Ring, list[int]]:
    """QRS complexes of these sizes, each so many samples after the last."""
    at = (300 + np.cumsum(steps)).tolist()
    x = np.zeros(at[-1] + 300)
    t = np.arange(-90, 90) / FS
    for r, s in zip(at, size, strict=True):
        x[r - 90 : r + 90] += s * (np.exp(-0.5 * (t / 0.02) ** 2) + 0.2 * np.exp(-0.5 * ((t + 0.16) / 0.02) ** 2))
    ring = Ring(1, x.size)
    ring.push(x[None].astype(np.float32) + 5)
    return ring, at


def asked(about: Manifest, ring: Ring, at: Sequence[int], gap_before: int | None = None) -> list[Window]:
    feeder, rr = Feeder(about, "II", 0, FS), RrHistory(FS)
    found = []
    for number, beat in enumerate(at):
        if number == gap_before:
            rr.gap()
        rr.beat(beat)
        (pending,) = feeder.at_beat(beat, beat + 10, rr)
        found.append(feeder.cut(pending, ring, ()))
    return found


def test_the_usual_beat_is_the_mean_of_those_before() -> None:
    ring, at = beating([200] * 8, [1.0, 1.2, 0.8, 1.0, 1.4, 1.0, 1.0, 2.0])
    found = asked(model(BEAT, signal(100, 50), signal(100, 50, **USUAL)), ring, at)
    assert not found[0].inputs[1].any(), "nothing is usual before the first beat"
    for number in range(1, 8):
        mean = np.mean([window.inputs[0] for window in found[:number]], axis=0)
        np.testing.assert_allclose(found[number].inputs[1], mean, atol=1e-5)


def test_a_beat_is_measured_by_the_usual_one() -> None:
    ring, at = beating([200] * 6, [1.0] * 5 + [3.0])
    scaled: dict[str, Any] = {"normalisation": "usual"}
    about = model(BEAT, signal(100, 50, **scaled), signal(100, 50, **USUAL, **scaled), SHAPE)
    *_, fifth, last = asked(about, ring, at)
    np.testing.assert_allclose(fifth.inputs[0], fifth.inputs[1], atol=1e-4)
    np.testing.assert_allclose(last.inputs[0], 3 * last.inputs[1], atol=1e-3)
    assert last.inputs[1].std() == pytest.approx(1, abs=1e-5)
    assert abs(last.inputs[0].mean()) < 1e-5
    assert last.inputs[2].tolist() == pytest.approx([1, 0, np.log(3)], abs=1e-4)


def test_before_there_is_a_usual_beat_a_beat_is_measured_by_itself() -> None:
    ring, at = beating([200], [1.0])
    (first,) = asked(model(BEAT, signal(100, 50, normalisation="usual"), SHAPE), ring, at)
    assert first.inputs[0].std() == pytest.approx(1, abs=1e-5)
    assert not first.inputs[1].any()


def test_early_beats_are_not_usual() -> None:
    ring, at = beating([200, 200, 200, 200, 100, 300, 200, 200], [1, 1, 1, 1, 1.5, 1, 1, 1])
    found = asked(model(BEAT, signal(100, 50, **USUAL)), ring, at)
    np.testing.assert_allclose(found[7].inputs[0], found[4].inputs[0], atol=0.005)  # an early one would add 0.06


def test_a_beat_that_is_not_asked_about_is_not_learned_from() -> None:
    ring, at = beating([200] * 4, [1.0, 1.0, 3.0, 1.0])
    feeder, rr = Feeder(model(BEAT, signal(100, 50, **USUAL)), "II", 0, FS), RrHistory(FS)
    for number, beat in enumerate(at):
        rr.beat(beat)
        (pending,) = feeder.at_beat(beat, beat + 10, rr)
        window = feeder.cut(pending, ring, ("noise",) if number == 2 else ())
    assert np.ptp(window.inputs[0]) == pytest.approx(1, abs=0.01)


def test_after_a_gap_the_patient_is_the_same() -> None:
    ring, at = beating([200] * 6, [1.0] * 6)
    found = asked(model(BEAT, SHAPE, signal(100, 50, **USUAL)), ring, at, gap_before=4)
    assert found[4].inputs[0][0] == pytest.approx(1, abs=1e-4)
    assert found[4].inputs[0][1] == 0


def test_numbers_of_the_shape_reach_as_far_as_they_are_worked_out() -> None:
    feeder = Feeder(model(BEAT, SHAPE), "II", 0, FS)
    first, end = feeder.reach
    assert -0.52 < first / FS < -0.4
    assert 0.3 < (end - 1) / FS <= 0.4


@pytest.mark.parametrize("part", [SHAPE, signal(100, 50, **USUAL), signal(100, 50, normalisation="usual")])
@pytest.mark.parametrize("anchor", [SLIDE, {"kind": "rr"}])
def test_the_usual_beat_is_for_windows_at_beats(anchor: dict[str, Any], part: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"windows at beats only|takes (signal|rr)"):
        model(anchor, part)


# -- windows of intervals ---------------------------------------------------------------------------------------------


def test_intervals_are_a_window_once_there_are_enough() -> None:
    feeder = Feeder(model({"kind": "rr"}, RR), "II", 0, FS)
    assert feeder.reach == (0, 0)
    rr = RrHistory(FS)
    found = []
    for at in (0, 200, 400, 650, 800):
        rr.beat(at)
        (pending,) = feeder.at_beat(at, at + 20, rr)
        assert pending.known == at + 20
        found.append(feeder.cut(pending, numbered(1000), ()))
    assert [window.abstain for window in found] == ["too few intervals"] * 3 + [None] * 2
    assert found[0].inputs == ()
    np.testing.assert_allclose(found[4].inputs[0], [0.8, 1.0, 0.6])


def test_only_every_stride_th_beat_asks() -> None:
    feeder = Feeder(model({"kind": "rr", "stride": 4}, RR), "II", 0, FS)
    asked = [number for number in range(1, 13) if list(feeder.at_beat(200 * number, 200 * number, RrHistory(FS)))]
    assert asked == [4, 8, 12]


# -- sliding windows --------------------------------------------------------------------------------------------------


def test_a_sliding_window_ends_where_it_stands() -> None:
    feeder = Feeder(model(SLIDE, signal(500, 500)), "II", 0, FS)
    assert feeder.stride == 500
    assert list(feeder.at_beat(700, 710, RrHistory(FS))) == []
    window = feeder.cut(feeder.at_instant(1000), numbered(1000), ())
    assert (window.sample, window.known) == (999, 999)  # its last sample, and nothing after it is waited for
    np.testing.assert_array_equal(window.inputs[0], np.arange(500, 1000))


# -- no window --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("anchor", [BEAT, SLIDE])
def test_a_bad_signal_is_not_asked_about(anchor: dict[str, Any]) -> None:
    feeder = Feeder(model(anchor, signal(50, 50)), "II", 0, FS)
    pending = feeder.at_instant(400) if anchor is SLIDE else next(feeder.at_beat(400, 410, RrHistory(FS)))
    window = feeder.cut(pending, numbered(500), ("noise", "hum"))
    assert (window.abstain, window.inputs) == ("quality: noise, hum", ())


@pytest.mark.parametrize("at", [20, 990])
def test_a_window_over_the_edge_of_the_signal_is_incomplete(at: int) -> None:
    feeder = Feeder(model(BEAT, signal(100, 50)), "II", 0, FS)
    (pending,) = feeder.at_beat(at, at + 10, RrHistory(FS))
    window = feeder.cut(pending, numbered(1000), ())
    assert (window.abstain, window.inputs) == ("signal incomplete", ())


def test_a_window_over_missing_samples_is_incomplete() -> None:
    feeder = Feeder(model(BEAT, signal(100, 50)), "II", 0, FS)
    ring = numbered(1000)
    ring.skip(1)
    ring.push(np.zeros((2, 300), np.float32))
    for at, abstain in ((949, None), (951, "signal incomplete"), (1050, "signal incomplete"), (1051, None)):
        (pending,) = feeder.at_beat(at, at + 10, RrHistory(FS))
        assert feeder.cut(pending, ring, ()).abstain == abstain, at


def test_what_has_been_overwritten_is_incomplete() -> None:
    feeder = Feeder(model(BEAT, signal(100, 50)), "II", 0, FS)
    (pending,) = feeder.at_beat(500, 510, RrHistory(FS))
    ring = numbered(1000)
    ring.push(np.zeros((2, 3500), np.float32))
    assert feeder.cut(pending, ring, ()).abstain == "signal incomplete"


# -- through the whole pipeline ---------------------------------------------------------------------------------------


class Sum:
    """A model that answers with what it was given: five numbers of its first input."""

    backend = "cpu/fake"

    def invoke(self, inputs: tuple[Samples, ...]) -> Samples:
        return np.resize(np.concatenate(inputs), 5).astype(np.float32)


def judge(about: Manifest) -> Judge:
    made = Artifact(Path("tiny"), about, "0" * 64, b"", (), np.zeros((1, 5), np.float32))
    return Judge({"tiny": LoadedModel(made, Sum())})


def patient_blocks(seconds: float, step: int, channels: Sequence[str] = ("II", "ABP")) -> Iterable[Block]:
    patient = SimulatedPatient(FS, channels, Script((Episode(name="sinus", duration_s=seconds),)), 3)
    return iter(lambda: patient.read(step), None)


INFO = StreamInfo(fs=FS, signals=(Signal("II", "ecg", "mV"), Signal("ABP", "abp", "mmHg")))


def verdicts(about: Manifest, seconds: float, step: int = 250) -> list[events.Verdict]:
    made = run_blocks(INFO, iter(patient_blocks(seconds, step)), judge(about), Settings(), "test")
    return [event for event in made if isinstance(event, events.Verdict)]


MODELS = {
    "beat": model(BEAT, signal(90, 45, 125.0)),
    "slide": model(SLIDE, signal(1000, 1000)),
    "slide, resampled": model(SLIDE, signal(500, 500, 100.0)),
    "pressure": model(SLIDE, signal(500, 500, signal="abp")),
    "rr": model({"kind": "rr", "stride": 3}, RR),
    "usual": model(
        BEAT,
        SHAPE,
        signal(63, 36, 90.0, normalisation="usual"),
        signal(63, 36, 90.0, name="usual", source="usual", normalisation="usual"),
        signal(100, 50, 125.0, name="other", source="usual"),
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_manifest_is_all_it_takes(name: str) -> None:
    about = MODELS[name]
    found = verdicts(about, 30)
    said = [verdict for verdict in found if verdict.label is not None]
    assert len(said) >= 5
    assert {verdict.channel for verdict in found} == {"ABP" if name == "pressure" else "II"}
    for verdict in found:
        assert verdict.known >= verdict.sample
        assert (verdict.label is None) == (verdict.reason is not None)
        assert len(verdict.scores) == (5 if verdict.label or verdict.reason == "score too low" else 0)
    if about.anchor.kind == "slide":
        assert {b.sample - a.sample for a, b in itertools.pairwise(found)} == {500}
        assert all(verdict.known - verdict.sample <= 40 for verdict in said)
    again = verdicts(about, 30, step=37)  # whatever the cuts
    assert [verdict.model_dump(exclude={"seq"}) for verdict in again] == [
        verdict.model_dump(exclude={"seq"}) for verdict in found
    ]


@pytest.mark.parametrize("seconds", [10.0, 12.5])
def test_a_window_that_the_signal_fills_to_its_last_sample_is_asked(seconds: float) -> None:
    """A strip of ten seconds is one window of ten seconds."""
    n = round(seconds * FS)
    found = verdicts(model({"kind": "slide", "stride_s": seconds}, signal(n, n)), seconds)
    assert [verdict.reason for verdict in found] == [None]
    assert found[0].latency.algorithm_ms == 0


def test_what_still_waits_when_the_signal_ends_abstains() -> None:
    found = verdicts(model(BEAT, signal(500, 100)), 20)  # 1.6 s after the beat
    assert found[-1].reason == "signal ended"
    assert found[-1].label is None
    assert sum(verdict.reason == "signal ended" for verdict in found) <= 3
    assert any(verdict.label for verdict in found)


def test_a_gap_makes_the_windows_over_it_incomplete_and_no_others() -> None:
    def cut(blocks: Iterable[Block]) -> Iterable[Block]:
        for block in blocks:
            if not 2500 <= block.first < 2750:
                yield block

    about = model({"kind": "slide", "stride_s": 1.0}, signal(250, 250))
    made = run_blocks(INFO, iter(cut(patient_blocks(20, 50))), judge(about), Settings(), "test")
    found = [event for event in made if isinstance(event, (events.Verdict, events.Gap))]
    (gap,) = [event for event in found if isinstance(event, events.Gap)]
    assert (gap.first, gap.lost) == (2500, 250)
    reasons = {event.sample: event.reason for event in found if isinstance(event, events.Verdict)}
    assert {sample for sample, reason in reasons.items() if reason == "signal incomplete"} == {
        sample for sample in reasons if 2500 <= sample < 2750
    }
    assert len(reasons) == 20


def test_a_model_is_asked_on_every_channel_of_its_kind_and_on_no_other() -> None:
    info = StreamInfo(
        fs=FS,
        signals=(Signal("II", "ecg"), Signal("V", "ecg"), Signal("ABP", "abp"), Signal("X", "other")),
    )
    stamp = Stamp(device="d", stream="s", session="t", fs=FS, clock=RecordedClock(FS, None))
    pipeline = Pipeline(info, models=[MODELS["slide"]], limits=AlarmLimits(), detector="native", stamp=stamp)
    made = list(pipeline.feed(Block(0, FS, np.zeros((4, 1100), np.float32)), REPLAYED))
    assert sorted(item.channel for item in made if isinstance(item, Window)) == ["II", "V"]
    assert sum(isinstance(item, Tick) for item in made) == 17
