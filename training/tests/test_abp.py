"""Arterial segments: what is called an artefact, what is called clean, and the way to a verdict of the daemon."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from edge_train.abp import faults as abp_faults
from edge_train.abp import lines as abp_lines
from edge_train.abp import measures as abp_measures
from edge_train.abp import probes as abp_probes
from edge_train.abp import report as abp_report
from edge_train.abp import simulated as abp_simulated
from edge_train.abp.cut import (
    ANOMALOUS,
    INPUTS,
    LENGTH_S,
    NORMAL,
    Rows,
    add_injected,
    add_simulated,
    cut,
    cutters,
    kinds,
)
from edge_train.abp.segment import MOST_FALSE, TASK, set_of
from edge_train.abp.simulated import simulate
from edge_train.data import windows

from edge_agent.inference.feeder import Feeder
from edge_agent.signal.ring import Ring

FS = 250.0
PLACE = abp_faults.Place(2.0, 12.0)


@pytest.fixture(scope="module")
def patient() -> abp_simulated.Simulated:
    return simulate(7)


def clean_line(patient: abp_simulated.Simulated) -> np.ndarray:
    """13 s of undisturbed sinus rhythm."""
    first = next(
        i for i in range(2000, len(patient.abp) - 3250, 250)
        if (patient.truth[i : i + 3250] == 0).all() and (patient.kind[i : i + 3250] == "sinus").all()
    )  # fmt: skip
    return patient.abp[first : first + 3250].astype(np.float64)


@pytest.mark.parametrize("module", [abp_faults, abp_probes], ids=["faults", "probes"])
def test_every_artefact_is_there_and_nowhere_else(module: object, patient: abp_simulated.Simulated) -> None:
    x = clean_line(patient)
    rng = np.random.default_rng(0)
    for name, kind in module.KINDS.items():  # type: ignore[attr-defined]
        made = [abp_faults.inject(x, FS, PLACE, kind, rng) for _ in range(20)]
        assert sum(one is not None for one in made) >= 15, name
        for one in made:
            if one is None:
                continue
            out, (a, b) = one
            assert np.isfinite(out).all(), name
            inside = min(b, PLACE.end_s) - max(a, PLACE.first_s)
            assert inside >= kind.least_s - 1e-6, name
            t = np.arange(len(x)) / FS
            before = np.abs(out - x)[t < a - 2.0]  # bumps and spikes have flanks
            assert before.size == 0 or before.max() < 2.0, name
            changed = np.abs(out - x)[(t >= max(a, 2.0)) & (t < min(b, 12.0))]
            assert np.quantile(changed, 0.97) > 4.0, name


def test_weak_artefacts_are_refused(patient: abp_simulated.Simulated) -> None:
    nothing = abp_faults.Kind(lambda x, *_: x + 1.0, 1.0)
    assert abp_faults.inject(clean_line(patient), FS, PLACE, nothing, np.random.default_rng(0)) is None


def test_evaluation_knows_kinds_that_training_does_not() -> None:
    assert set(abp_probes.KINDS) - set(abp_faults.KINDS) == set(abp_probes.UNTRAINED)
    for name, kind in abp_faults.KINDS.items():
        assert abp_probes.KINDS[name].make is not kind.make


def test_sets_by_record_and_the_test_half() -> None:
    names = [f"{letter}{n}{end}" for letter in "abftv" for n in range(100, 400) for end in "ls"]
    sets = {name: set_of(name) for name in names}
    assert {abp_lines.half_of(name) for name, where in sets.items() if where == "test"} == {"report"}
    for where, least in (("train", 0.4), ("validation", 0.1), ("test", 0.25)):
        assert sum(found == where for found in sets.values()) / len(sets) > least


def test_simulated_truth() -> None:
    """A heart that stops is good, a flush is bad, whatever either does to the pressure."""
    for seed in range(40):
        line = simulate(seed)
        if {"asystole", "flush", "vf"} <= set(line.kind.tolist()):
            break
    for rhythm in ("asystole", "vf"):
        stopped = line.kind == rhythm
        assert (line.truth[stopped] == abp_simulated.GOOD).mean() > 0.95
        assert line.abp[stopped].min() < 40
    flush = line.kind == "flush"
    assert (line.truth[(line.abp > 280) & flush] == abp_simulated.BAD).all()
    bad = line.truth == abp_simulated.BAD
    assert set(line.kind[bad].tolist()) <= {*abp_simulated.FAULTS, "sinus"}
    assert (line.kind[bad] == "sinus").mean() < 0.05


def sine_line(fault: str | None = None, seconds: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Pressure and ECG of a metronome."""
    t = np.arange(round(seconds * FS)) / FS
    phase = t % 0.8
    abp = 75 + 45 * np.exp(-0.5 * ((phase - 0.25) / 0.07) ** 2) + 18 * np.exp(-np.maximum(phase - 0.25, 0) / 0.3)
    ecg = np.exp(-0.5 * ((phase - 0.05) / 0.012) ** 2) + 0.01 * np.sin(2 * np.pi * 0.3 * t)
    late = t > 30
    if fault == "flat":
        abp[late] = 90.0
    if fault == "zero":
        abp[late] = 0.5
    return abp.astype(np.float32), ecg.astype(np.float32)


def test_verdicts_on_a_line() -> None:
    abp, ecg = sine_line()
    line = abp_lines.listen("x", FS, abp, [ecg])
    assert abp_lines.verdict(line, round(20 * FS)) == "normal"
    assert abp_lines.verdict(line, 0) == "unknown"  # the detectors learn first
    for fault in ("flat", "zero"):
        abp, ecg = sine_line(fault)
        line = abp_lines.listen("x", FS, abp, [ecg])
        assert abp_lines.verdict(line, round(15 * FS)) == "normal"
        assert abp_lines.verdict(line, round(20.5 * FS)) == "unknown"  # half a second of it, and what follows is felt
        assert abp_lines.verdict(line, round(26 * FS)) == "bad"
        assert abp_lines.verdict(line, round(40 * FS)) == "bad"
    abp[10_000] = np.nan
    assert abp_lines.verdict(abp_lines.listen("x", FS, abp, [ecg]), round(35 * FS)) == "unknown"


def test_a_pressure_that_runs_off_while_the_ecg_goes_on_is_not_arrhythmia() -> None:
    abp, ecg = sine_line()
    t = np.arange(abp.size) / FS
    runs_off = (t > 24) & (t < 29)
    abp[runs_off] = 30 + (abp[runs_off][0] - 30) * np.exp(-(t[runs_off] - 24) / 2)
    line = abp_lines.listen("x", FS, abp, [ecg])
    assert abp_lines.verdict(line, round(20 * FS)) in ("unknown", "bad")


def test_the_daemon_cuts_what_training_cuts(patient: abp_simulated.Simulated) -> None:
    from edge_train.packing.pack import unpacked

    about = TASK.about("abp-segment", {"data": ["x"], "digest": "0"}, 0, {"normal": 0.0, "anomalous": 0.7})
    manifest = unpacked(about, "abp-segment")
    for fs in (250.0, 125.0, 100.0):
        x = np.repeat(patient.abp[:3000], 3)[: round(30 * fs)]
        feeder = Feeder(manifest, "ABP", 0, fs)
        ring = Ring(1, x.size)
        ring.push(x[None])
        end = round(20 * fs)
        daemon = feeder.cut(feeder.at_instant(end), ring, ())
        ours = cut(x, end, cutters(fs))
        assert ours is not None
        assert daemon.abstain is None
        for part, window in zip(manifest.inputs, daemon.inputs, strict=True):
            assert np.array_equal(window, ours[part.name])
            assert window.size == INPUTS[part.name].samples


def test_level_is_in_mmhg_and_covers_the_segment() -> None:
    x = np.full(round(14 * FS), 90.0, np.float32)
    x[round(3 * FS)] = 1e6  # before the segment: must not be felt by more than the filter's reach
    made = cut(x, round(13 * FS), cutters(FS))
    assert made is not None
    assert np.abs(made["level"][12:] - 90).max() < 0.01
    assert not made["shape"][30:].std() > 0.01
    assert cut(x, round(9.9 * FS), cutters(FS)) is None
    x[round(8 * FS)] = np.nan
    assert cut(x, round(13 * FS), cutters(FS)) is None


def made_windows(seeds: range, rng: np.random.Generator) -> windows.Windows:
    rows = Rows()
    for seed in seeds:
        line = simulate(seed, events=8)
        clean = add_simulated(rows, line, 5.0)
        add_injected(rows, line, clean, {name: abp_faults.KINDS[name] for name in ("flush", "zeroing", "flat")}, 8, rng)
    return rows.windows()


def test_rows_say_whose_they_are() -> None:
    made = made_windows(range(2), np.random.default_rng(0))
    windows.check(made, TASK.labels, "made")
    assert set(made.group.tolist()) == {"sim-0", "sim-1"}
    kind = kinds(made)
    assert {"flush", "zeroing", "flat", "sim-sinus"} <= set(kind.tolist())
    assert (made.label[np.isin(kind, ["flush", "zeroing", "flat"])] == ANOMALOUS).all()
    assert (made.label[kind == "sim-sinus"] == NORMAL).all()
    level = made.inputs["level"]
    assert (level[kind == "flush"].max(1) > 180).all()
    assert level.shape[1] == round(LENGTH_S * INPUTS["level"].rate_hz)


def test_augmentation_keeps_zero_at_zero() -> None:
    rng = np.random.default_rng(0)
    inputs = {
        "level": np.concatenate([np.zeros((40, 250)), np.tile(np.linspace(60, 140, 250), (40, 1))]).astype(np.float32),
        "shape": rng.normal(size=(80, 500)).astype(np.float32),
    }
    out = TASK.augment(inputs, rng, 1.0)
    assert np.abs(out["level"][:40]).max() == 0.0
    assert np.abs(out["level"][40:] - inputs["level"][40:]).max() > 2.0
    assert np.array_equal(TASK.augment(inputs, rng, 0.0)["shape"], inputs["shape"])


def test_threshold_bounds_false_marks() -> None:
    rng = np.random.default_rng(1)
    n = 2000
    label = (np.arange(n) % 2).astype(np.int64)
    score = np.where(label == 1, rng.beta(8, 2, n), rng.beta(2, 6, n)).astype(np.float32)
    made = windows.Windows({}, label, np.array(["a"] * n), np.array([f"a:{i}:normal" for i in range(n)]))
    threshold = TASK.choose(np.stack([1 - score, score], 1), made)["anomalous"]
    false = (score[label == 0] >= threshold).mean()
    assert false <= MOST_FALSE
    assert (score[label == 1] >= threshold).mean() > 0.5


def test_minutes_are_whole_and_counted_once() -> None:
    def asked(places: list[int]) -> windows.Windows:
        where = np.array([f"r:{place}:normal" for place in places])
        return windows.Windows({}, np.zeros(len(places), np.int64), np.array(["r"] * len(places)), where)

    all_of = list(range(0, 2500 * 13, 1250))
    found = abp_measures.minutes(asked(all_of), np.zeros(len(all_of), bool), np.ones(len(all_of), bool))
    assert (found["minutes"], found["false"]) == (2, 0.0)
    marked = np.array([place == 2500 * 7 for place in all_of])
    assert abp_measures.minutes(asked(all_of), marked, np.ones(len(all_of), bool))["false"] == 0.5
    holed = [place for place in all_of if place not in (2500 * 3, 2500 * 3 + 1250)]
    assert abp_measures.minutes(asked(holed), np.zeros(len(holed), bool), np.ones(len(holed), bool))["minutes"] == 1


def test_figures_of_a_perfect_and_of_a_blind_model() -> None:
    rows = {"r1:0:normal": 0, "r1:0:flush": 1, "r2:0:normal": 0, "r2:0:flush": 1, "sim-1:0:sim-sinus": 0}
    label = np.array(list(rows.values()), np.int64)
    where = np.array(list(rows))
    made = windows.Windows({}, label, np.array([text.split(":")[0] for text in rows]), where)
    perfect = abp_measures.measure(made, label == 1)
    assert perfect["kinds"]["flush"]["f1"] == 1.0
    assert perfect["marked"]["normal"]["marked"] == 0.0
    everything = abp_measures.measure(made, np.ones(5, bool))
    assert everything["kinds"]["flush"]["f1"] == pytest.approx(2 / 3)
    assert abp_measures.measure(made, np.zeros(5, bool))["kinds"]["flush"]["f1"] == 0.0


def test_from_segments_to_the_daemons_verdict(tmp_path: Path) -> None:
    """A tiny net, int8, packed, asked through the daemon's engine: the gross faults are told from sinus rhythm."""
    from dataclasses import replace

    from edge_train.fitting.fit import fit, load_fit
    from edge_train.packing.export import representative_windows, to_int8
    from edge_train.packing.pack import pack

    from edge_agent.inference.loaded import load_models

    rng = np.random.default_rng(0)
    split = windows.Split(
        made_windows(range(6), rng), made_windows(range(10, 12), rng), made_windows(range(20, 22), rng),
        {"digest": "0", "data": ["simulated patient"]},
    )  # fmt: skip
    plan = replace(TASK.plans["abp-segment"], size="tiny", epochs=6, per_epoch=2000, batch=32, rate=5e-3, dropout=0.0)
    facts = fit(TASK, split, plan, 0, tmp_path / "run")
    model, _ = load_fit(TASK, tmp_path / "run", batch=1)
    shown = representative_windows(split.train, 100, 0)
    tflite = to_int8(model, shown)
    assert 0.5 <= facts["thresholds"]["anomalous"] <= 0.98
    about = TASK.about("abp-segment", split.facts, 0, {"anomalous": 0.5})  # five patients choose no threshold
    pack(tflite, about, {name: rows[:8] for name, rows in shown.items()}, tmp_path / "models" / "abp-segment")
    say = abp_report.through_engine(load_models(tmp_path / "models")["abp-segment"])
    asked = split.test
    marked = say(asked)
    kind = kinds(asked)
    assert marked[kind == "flush"].mean() > 0.8
    assert marked[kind == "sim-sinus"].mean() < 0.1


def test_the_comparison_has_three_lstm_layers_and_the_same_inputs() -> None:
    assert TASK.build(TASK.plans["abp-segment"]) is None  # by name
    net = TASK.build(TASK.plans["abp-segment-lstm"], 1)
    assert [part.name for part in net.inputs] == sorted(INPUTS)
    assert tuple(net.output.shape) == (1, 2)
    assert sum(layer.name.startswith("lstm") for layer in net.layers) == 3
    assert net.get_layer("steps").output.shape[1] == 50
