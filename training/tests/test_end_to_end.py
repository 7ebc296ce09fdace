"""From made-up beats to verdicts through the daemon's own engine, in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from edge_train import errors
from edge_train.beats import choices as beat_choices
from edge_train.beats import cut, evaluate, positions, vitaldb
from edge_train.beats import model as beats
from edge_train.beats import nets as beat_nets
from edge_train.beats import p_wave as beat_p
from edge_train.beats.about import about as _about
from edge_train.data import mitdb
from edge_train.packing import export
from edge_train.packing.pack import pack

from edge_agent.inference.artifact import load, open_engine
from edge_agent.inference.loaded import load_models

PLAN = beats.Plan(
    members=2, filters=(4, 6, 8), dense=8, context=4, experts=2, expert=(8, 4), epochs=3, batch=16, rate=5e-3, mixing=0.0,
    per_epoch=(500, 500, 40, 40), other_leads=0.0, simulated=0.0,
    expert_epochs=3, expert_batch=32, expert_per_epoch=(400, 400, 400),
    p_nets=2, p_form=(6, 4), p_epochs=2, p_batch=32, p_per_epoch=(200, 200),
)  # fmt: skip

FOLDS = (["a", "b"], ["c", "d"])


def synthetic(name: str, seed: int, n: int = 300) -> mitdb.Record:
    """Narrow beats with P waves, early narrow ones (S), and wide early ones (V)."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(5, n, p=[0.68, 0.1, 0.18, 0.02, 0.02])
    fs, at, sample = 360.0, 1300, []
    for kind in kinds:
        at += round(rng.normal(290, 4) * (0.6 if kind in (1, 2) else 1.0))
        sample.append(at)
    signal = rng.normal(0, 0.01, at + 1000)
    t = np.arange(-150, 200) / fs
    for r, kind in zip(sample, kinds, strict=True):
        width = 0.045 if kind == 2 else 0.03 if kind > 2 else 0.012
        wave = np.exp(-0.5 * (t / width) ** 2) + 0.2 * np.exp(-0.5 * ((t - 0.25) / 0.04) ** 2)
        wave += 0.1 * np.exp(-0.5 * ((t + 0.17) / 0.02) ** 2) if kind == 0 else 0
        signal[r - 150 : r + 200] += wave * (-1.5 if kind == 2 else 1)
    return mitdb.Record(name, fs, signal[None].astype(np.float32), ("MLII",), np.array(sample), kinds.astype(np.int64))


def rr_of(seed: int) -> vitaldb.RrBeats:
    parts = [cut.cut_beats(synthetic(f"p{seed}{i}", seed + i), 0, oracle=True) for i in range(8)]
    joined = cut.join([part.pick(part.label < 3) for part in parts])
    return vitaldb.RrBeats(joined.rr, joined.label, joined.record)


def plain_of(seed: int) -> beat_p.Unlabelled:
    """The same patients, their labels forgotten."""
    parts = [cut.cut_beats(synthetic(f"u{seed}{i}", seed + i), 0, oracle=True) for i in range(4)]
    joined = cut.join(parts)
    return beat_p.Unlabelled(joined.rr, joined.shape, joined.record, np.array([beat_p.UNKNOWN] * len(joined)))


@pytest.fixture(scope="module", autouse=True)
def easily_sure() -> Iterator[None]:
    """Experts of three epochs are not sure of much, and the made-up rhythm is not steady."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(beat_p, "SURE_S", 0.0)
        patch.setattr(beat_p, "SURE_N", 0.0)
        patch.setattr(beat_p, "STEADIEST", 1.0)
        yield


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, cut.Beats]:
    """One seed of a tiny plan, with made-up patients."""
    names = ["a", "b", "c", "d"]
    some = cut.join([cut.cut_beats(synthetic(name, i), 0, oracle=True) for i, name in enumerate(names)])
    out = tmp_path_factory.mktemp("run") / "seed0"
    beats.fit(some, rr_of(100), plain_of(200), PLAN, 0, out, lambda _: None, FOLDS)
    return out, some


def test_data_to_verdicts_through_the_daemon(fitted: tuple[Path, cut.Beats], tmp_path: Path) -> None:
    run, some = fitted
    model, _ = beats.load_fit(run, batch=1)
    shown = beats.representative(some, 200, 0)
    tflite = export.to_int8(model, shown)
    assert export.tpu_problems(tflite) == []
    folder = tmp_path / "ecg-beat-aami"
    made = pack(tflite, _about({"digest": "0" * 64}, 0), {name: cases[:8] for name, cases in shown.items()}, folder)
    assert made["golden_worst_lsb"] <= made["tolerance_lsb"]
    loaded = load_models(tmp_path, ["ecg-beat-aami"])["ecg-beat-aami"]
    record = synthetic("test", 999)
    asked = cut.ask(record.signals[0], record.fs, record.sample.tolist(), loaded.artifact.manifest)
    said = evaluate.through_engine(loaded)(asked)
    plain = evaluate.through_keras(beats.load_fit(run)[0])(asked)
    assert (said == plain).mean() > 0.97
    found = evaluate.measures(evaluate.confusion(record, asked, said))["classes"]
    assert found["N"]["f1"] > 80
    assert found["V"]["f1"] > 80


def test_inputs_in_another_order_are_refused(fitted: tuple[Path, cut.Beats], tmp_path: Path) -> None:
    """The daemon takes a file's inputs in order of name: wrongly ordered, the sizes would differ and packing must refuse."""
    run, some = fitted
    shown = beats.representative(some, 100, 0)
    tflite = export.to_int8(beats.load_fit(run, batch=1)[0], shown)
    about = _about({"digest": "0" * 64}, 0)
    about["inputs"] = about["inputs"][::-1]
    with pytest.raises(errors.DataError, match="list them in that order"):
        pack(tflite, about, {name: cases[:4] for name, cases in shown.items()}, tmp_path / "ecg-beat-aami")
    assert not list(tmp_path.iterdir()), "nothing half-written"


def test_a_changed_byte_is_refused(fitted: tuple[Path, cut.Beats], tmp_path: Path) -> None:
    run, some = fitted
    shown = beats.representative(some, 100, 0)
    tflite = export.to_int8(beats.load_fit(run, batch=1)[0], shown)
    folder = tmp_path / "ecg-beat-aami"
    pack(tflite, _about({"digest": "0" * 64}, 0), {name: cases[:4] for name, cases in shown.items()}, folder)
    open_engine(load(folder))
    damaged = bytearray((folder / "model.tflite").read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / "model.tflite").write_bytes(bytes(damaged))
    with pytest.raises(ValueError, match="SHA-256"):
        load(folder)


def test_the_same_seed_gives_the_same_weights(fitted: tuple[Path, cut.Beats], tmp_path: Path) -> None:
    run, some = fitted
    beats.fit(some, rr_of(100), plain_of(200), PLAN, 0, tmp_path, lambda _: None, FOLDS)
    first, again = beats.load_fit(run)[0], beats.load_fit(tmp_path)[0]
    assert all(np.array_equal(a, b) for a, b in zip(first.get_weights(), again.get_weights(), strict=True))
    assert json.loads((run / "fit.json").read_text()) == json.loads((tmp_path / "fit.json").read_text())


def test_all_nets_agree_with_the_one_they_are_put_into(fitted: tuple[Path, cut.Beats]) -> None:
    _, some = fitted
    waves = [beat_nets.wave_net(PLAN, member) for member in range(2)]
    experts = [beat_nets.expert_net(PLAN, member) for member in range(2)]
    p_nets = [beat_nets.p_net(PLAN, member) for member in range(2)]
    whole = beat_nets.assemble(PLAN, waves, experts, p_nets, {"V": 0.7, "S": 0.3})
    inputs = beat_nets.shaped(beat_nets.flat_inputs(some.pick(np.arange(50))))
    w = np.mean([net.predict(beat_nets.wave_inputs(inputs), verbose=0) for net in waves], axis=0)
    e = np.mean([net.predict(inputs[1], verbose=0) for net in experts], axis=0)
    d = e[:, 1] - e[:, 0] + beat_p.answer(p_nets, inputs[2], beat_nets.CLIPS["shape"]) + 0.3
    logits = np.stack(
        [w[:, 0] - np.maximum(d, 0), w[:, 0] - np.maximum(-d, 0), w[:, 1] + 0.7, w[:, 2], w[:, 3]], axis=1
    )
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    assert np.allclose(whole.predict(inputs, verbose=0), expected, atol=1e-5)


def test_false_alarms_of_patients_without_the_class_count() -> None:
    truth = np.array([True] * 10 + [False] * 30)
    record = np.array(["a"] * 20 + ["b"] * 20)
    said = truth.copy()
    assert beat_choices.f1_by_patient(said, truth, record) == [1.0]
    said[20:] = [True, False] * 10  # half of b's beats: as if half of a's twenty were false too
    assert beat_choices.f1_by_patient(said, truth, record) == [pytest.approx(20 / 30)]


def test_an_offset_is_not_decided_by_the_patient_with_most_beats() -> None:
    """One patient's margins are 2 too low; he has nine tenths of the beats, the others have their say all the same."""
    rng = np.random.default_rng(6)
    truth = rng.random(4000) < 0.3
    record = np.array(["big"] * 3600 + ["b"] * 200 + ["c"] * 200)
    margin = (np.where(truth, 1.0, -1.0) - 2.0 * (record == "big")).astype(np.float32)
    offset, _ = beat_choices.best_offset(margin, truth, record)
    assert -1 < offset < 1


def test_confusion_counts_every_beat_once() -> None:
    record = mitdb.Record(
        "x",
        360.0,
        np.zeros((1, 9000), np.float32),
        ("MLII",),
        np.array([1000, 2000, 3000, 4000]),
        np.array([0, 1, 2, 0]),
    )
    asked = cut.Asked(np.array([1010, 1990, 2500, 3000]), (), np.array([4001]))
    table = evaluate.confusion(record, asked, np.array([0, 0, 2, 2]))
    assert table[0, 0] == 1
    assert table[1, 0] == 1  # S called N
    assert table[2, 2] == 1
    assert table[0, evaluate.NOTHING] == 1  # the model was not asked
    assert table[evaluate.NOTHING, 2] == 1  # no beat there, called V
    assert table.sum() == 5


def test_matching_takes_the_nearest_and_each_once() -> None:
    assert positions.match(np.array([100, 130]), np.array([95, 128, 140]), 54).tolist() == [0, 1, -1]


def test_measures_of_a_known_table() -> None:
    table = np.zeros((6, 6), np.int64)
    table[0, 0], table[1, 1], table[2, 2], table[1, 0], table[5, 2] = 90, 5, 8, 5, 2
    found = evaluate.measures(table)
    assert found["classes"]["S"] == {"beats": 10, "se": 50.0, "ppv": 100.0, "f1": pytest.approx(200 / 3)}
    assert found["classes"]["V"]["ppv"] == 80.0
    assert found["macro_f1_nsv"] == pytest.approx((180 / 185 + 10 / 15 + 16 / 18) / 3 * 100)
