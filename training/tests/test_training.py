"""Nets by name, the loop that fits them, and what it refuses."""

from __future__ import annotations

import dataclasses
import errno
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import toy
from edge_train.data import windows
from edge_train.data.windows import Split, Windows
from edge_train.errors import DataError
from edge_train.fitting import architectures, examples
from edge_train.fitting import fit as training
from edge_train.packing import export
from edge_train.packing.compact import compact
from edge_train.packing.gate import engine_scores
from edge_train.task import Plan


class Spoiled(toy.Toy):
    """With a label that it is about."""

    positive = "spoiled"


TASK = Spoiled()
SPLIT = toy.split()
TINY = dataclasses.replace(toy.PLAN, epochs=3, augment=0.5, mixing=0.2, extra={"smooth": 0.3})


def weights(folder: Path) -> list[np.ndarray]:
    return training.load_fit(TASK, folder)[0].get_weights()


# --- nets -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
@pytest.mark.parametrize("size", ["tiny", "small"])
def test_every_architecture_says_scores_of_a_batch(name: str, size: str) -> None:
    model = architectures.build(toy.TASK, Plan(name, size))
    assert [part.name for part in model.inputs] == ["wave"]
    assert model.layers[-1].name == "scores"
    scores = training.predict(model, SPLIT.test.pick(np.arange(7)), toy.TASK)
    assert scores.shape == (7, 2)
    assert np.allclose(scores.sum(1), 1, atol=1e-5)


@pytest.mark.parametrize("name", architectures.ARCHITECTURES)
def test_every_architecture_becomes_int8_that_answers_alike(name: str) -> None:
    """Those that say they are for the Edge TPU pass its gate, those that do not say so fail it."""
    model = architectures.build(toy.TASK, Plan(name, "tiny"), batch=1)
    tflite = export.to_int8(model, export.representative_windows(SPLIT.train, 60, 0))
    few = SPLIT.test.pick(np.arange(30))
    assert np.abs(engine_scores(tflite, few, ["wave"], 2) - training.predict(model, few, toy.TASK)).mean() < 0.02
    assert (export.tpu_problems(tflite) == []) == architectures.ARCHITECTURES[name].on_tpu


def test_an_lstm_layer_is_one_operator() -> None:
    """And the step it takes is an LSTM's: the float file, in which TFLite's own operator does it, agrees with the layer.

    So does the second window: that operator keeps its state from call to call, and the daemon's engine clears it.
    """
    from edge_train.packing.check_tpu import examine

    model = architectures.build(toy.TASK, Plan("lstm", "medium"), batch=1)
    tflite = export.to_float(model)
    names = [operator.name for operator in examine(tflite).operators]
    assert names.count("UNIDIRECTIONAL_SEQUENCE_LSTM") == 3
    assert len(names) < 12
    few = SPLIT.test.pick(np.arange(10))
    assert np.abs(engine_scores(tflite, few, ["wave"], 2) - training.predict(model, few, toy.TASK)).max() < 1e-5


def test_lstm_and_gru_are_keras_s() -> None:
    """The same weights in Keras's own layers give the same numbers."""
    from edge_train.fitting.recurrent import layers
    from edge_train.runtime import quiet

    tf = quiet()
    x = np.random.default_rng(0).normal(0, 1, (3, 9, 5)).astype(np.float32)
    for name, theirs in (("lstm", tf.keras.layers.LSTM(4)), ("gru", tf.keras.layers.GRU(4, reset_after=False))):
        ours = layers()[name](4)
        ours(x)
        ours.set_weights([w + 0.1 for w in ours.get_weights()])
        theirs(x)
        theirs.set_weights(ours.get_weights())
        assert np.allclose(ours(x), theirs(x), atol=1e-5), name


def test_inputs_stand_in_order_of_name() -> None:
    class Two(toy.Toy):
        def shapes(self) -> Mapping[str, tuple[int, ...]]:
            return {"zeta": (1, 50, 1), "alpha": (3,)}

    model = architectures.build(Two(), Plan("conv", "tiny"))
    assert [part.name for part in model.inputs] == ["alpha", "zeta"]


def test_a_compact_file_is_smaller_and_answers_the_same() -> None:
    model = architectures.build(toy.TASK, Plan("gru", "tiny"), batch=1)
    from edge_train.runtime import quiet

    plain: bytes = quiet().lite.TFLiteConverter.from_keras_model(model).convert()
    small = compact(plain)
    assert len(small) < 0.8 * len(plain)
    few = SPLIT.test.pick(np.arange(5))
    assert np.array_equal(engine_scores(small, few, ["wave"], 2), engine_scores(plain, few, ["wave"], 2))


@pytest.mark.parametrize("change", [{"architecture": "transformer"}, {"size": "huge"}])
def test_an_unknown_net_is_refused(change: dict[str, str]) -> None:
    with pytest.raises(DataError, match="there are"):
        architectures.build(toy.TASK, dataclasses.replace(toy.PLAN, **change))  # type: ignore[arg-type]


# --- the loop -------------------------------------------------------------------------------------------------------------


def test_it_learns_and_the_folder_says_everything(tmp_path: Path) -> None:
    facts = training.fit(TASK, SPLIT, toy.PLAN, 1, tmp_path / "run")
    assert facts["validation"] > 0.95
    scores = training.predict(training.load_fit(TASK, tmp_path / "run")[0], SPLIT.test, TASK)
    assert ((scores[:, 1] >= facts["thresholds"]["spoiled"]) == SPLIT.test.label).mean() > 0.9
    names = {path.name for path in (tmp_path / "run").iterdir()}
    assert names == {"plan.json", "history.csv", "tensorboard", "fit.json", "model.weights.h5"}
    assert list((tmp_path / "run" / "tensorboard").iterdir())
    stored = json.loads((tmp_path / "run" / "fit.json").read_text())
    assert stored["digest"] == "toy"
    assert stored["seed"] == 1
    assert "tensorflow" in stored["versions"]
    assert training.plan_of(stored) == toy.PLAN
    lines = (tmp_path / "run" / "history.csv").read_text().splitlines()
    assert len(lines) == 1 + facts["epochs"]


def test_stopped_and_gone_on_is_the_same_as_not_stopped(tmp_path: Path) -> None:
    training.fit(TASK, SPLIT, TINY, 3, tmp_path / "whole")

    def stop(epoch: int, _: float) -> None:
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.fit(TASK, SPLIT, TINY, 3, tmp_path / "cut", report=stop)
    assert not (tmp_path / "cut" / "fit.json").exists()
    said: list[str] = []
    training.fit(TASK, SPLIT, TINY, 3, tmp_path / "cut", said.append)
    assert "goes on after epoch 2" in said[0]
    assert sum("epoch " in line for line in said) == 2  # that line, and the third epoch
    assert all(
        np.array_equal(a, b) for a, b in zip(weights(tmp_path / "whole"), weights(tmp_path / "cut"), strict=True)
    )
    assert (tmp_path / "whole" / "history.csv").read_text() == (tmp_path / "cut" / "history.csv").read_text()


def test_another_seed_is_another_net_and_the_same_seed_the_same(tmp_path: Path) -> None:
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        training.fit(TASK, SPLIT, dataclasses.replace(TINY, epochs=1), seed, tmp_path / name)
    a, b, c = (weights(tmp_path / name) for name in "abc")
    assert all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))
    assert not all(np.array_equal(x, y) for x, y in zip(a, c, strict=True))


def test_a_finished_run_is_not_made_again_and_another_is_not_overwritten(tmp_path: Path) -> None:
    plan = dataclasses.replace(TINY, epochs=1)
    first = training.fit(TASK, SPLIT, plan, 0, tmp_path)
    assert training.fit(TASK, SPLIT, plan, 0, tmp_path) == first
    for other_plan, seed in ((dataclasses.replace(plan, rate=1e-3), 0), (plan, 1)):
        with pytest.raises(DataError, match="another plan, seed or data"):
            training.fit(TASK, SPLIT, other_plan, seed, tmp_path)
    again = training.fit(TASK, SPLIT, plan, 1, tmp_path, resume=False)
    assert again["seed"] == 1


def test_it_stops_early_and_keeps_the_best_epoch(tmp_path: Path) -> None:
    plan = dataclasses.replace(toy.PLAN, epochs=40, patience=2, rate=1e-2)
    facts = training.fit(TASK, SPLIT, plan, 0, tmp_path)
    assert facts["epochs"] < 40
    assert facts["epochs"] - facts["best_epoch"] == 2
    scores = training.predict(training.load_fit(TASK, tmp_path)[0], SPLIT.validation, TASK)
    assert training.validation_score(TASK, scores, SPLIT.validation.label) == pytest.approx(facts["validation"])


# --- what an epoch is made of -----------------------------------------------------------------------------------------------


def _skewed() -> Windows:
    rows = np.concatenate([np.flatnonzero(SPLIT.train.label == 0), np.flatnonzero(SPLIT.train.label == 1)[:8]])
    return SPLIT.train.pick(rows)


def test_balanced_batches_hold_all_classes_alike() -> None:
    skewed = _skewed()
    rows = examples.draw(skewed, 2, toy.PLAN, np.random.default_rng(0))
    for first in range(0, len(rows) - 32, 32):
        assert skewed.label[rows[first : first + 32]].sum() == 16


def test_as_they_come_every_example_is_drawn_once() -> None:
    skewed = _skewed()
    rows = examples.draw(skewed, 2, dataclasses.replace(toy.PLAN, balance="none"), np.random.default_rng(0))
    assert sorted(rows.tolist()) == list(range(len(skewed)))


def test_weights_make_classes_count_alike() -> None:
    label = np.array([0] * 90 + [1] * 10)
    found = examples.class_weights(label, 2, dataclasses.replace(toy.PLAN, balance="weights"))
    assert found[0] * 90 == pytest.approx(found[1] * 10)
    assert found[label].mean() == pytest.approx(1)


def test_a_patient_with_many_windows_does_not_decide() -> None:
    group = np.array(["a"] * 900 + ["b"] * 100)
    found = examples._patient_weights(group)
    assert found[:900].sum() / found[900:].sum() == pytest.approx(3)


@pytest.mark.parametrize("change", [{"loss": "focal"}, {"balance": "weights"}, {"balance": "none"}, {"mixing": 0.4}])
def test_every_way_of_balancing_learns(change: dict[str, object], tmp_path: Path) -> None:
    plan = dataclasses.replace(toy.PLAN, **change)  # type: ignore[arg-type]
    assert training.fit(TASK, SPLIT, plan, 0, tmp_path)["validation"] > 0.9


# --- bad input ------------------------------------------------------------------------------------------------------------


def _spoiled(part: str, **change: object) -> Split:
    return dataclasses.replace(SPLIT, **{part: dataclasses.replace(getattr(SPLIT, part), **change)})


def test_numbers_that_are_none_are_refused_with_their_place(tmp_path: Path) -> None:
    x = SPLIT.train.inputs["wave"].copy()
    x[5, 7] = np.nan
    with pytest.raises(DataError, match="wave holds numbers that are none, first at a:5"):
        training.fit(TASK, _spoiled("train", inputs={"wave": x}), toy.PLAN, 0, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_class_without_an_example_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no example of class spoiled"):
        training.fit(TASK, _spoiled("train", label=np.zeros_like(SPLIT.train.label)), toy.PLAN, 0, tmp_path)


def test_a_validation_without_the_label_it_is_about_is_refused(tmp_path: Path) -> None:
    clean = np.zeros_like(SPLIT.validation.label)
    with pytest.raises(DataError, match="validation: no example of class spoiled"):
        training.fit(TASK, _spoiled("validation", label=clean), toy.PLAN, 0, tmp_path)


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    large = SPLIT.train.inputs["wave"] * np.float32(1e36)
    with pytest.raises(DataError, match="loss is no longer a number"):
        training.fit(
            TASK, _spoiled("train", inputs={"wave": large}), dataclasses.replace(toy.PLAN, rate=1e6), 0, tmp_path
        )


def test_rows_of_another_length_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="input wave has 90 numbers a row"):
        training.fit(
            TASK, _spoiled("train", inputs={"wave": SPLIT.train.inputs["wave"][:, :90]}), toy.PLAN, 0, tmp_path
        )


def test_a_full_disk_leaves_the_last_checkpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = np.savez
    calls = []

    def full(path: Path, **arrays: object) -> None:
        calls.append(path)
        real(path, **arrays)  # type: ignore[arg-type]
        if len(calls) == 2:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(DataError, match=r"checkpoint\.npz: cannot be written \(No space left on device\)"):
        training.fit(TASK, SPLIT, TINY, 0, tmp_path)
    monkeypatch.undo()
    assert not list(tmp_path.glob(".*")), "nothing half-written"
    said: list[str] = []
    training.fit(TASK, SPLIT, TINY, 0, tmp_path, said.append)
    assert "goes on after epoch 1" in said[0]


def test_a_torn_checkpoint_begins_anew(tmp_path: Path) -> None:
    (tmp_path / "checkpoint.npz").write_bytes(b"PK\x03\x04 half")
    assert training.fit(TASK, SPLIT, dataclasses.replace(TINY, epochs=1), 0, tmp_path)["epochs"] == 1


# --- prepared data ----------------------------------------------------------------------------------------------------------


def test_prepared_data_come_back_as_they_were(tmp_path: Path) -> None:
    windows.save(tmp_path / "toy", SPLIT, TASK.labels)
    found = windows.load(tmp_path / "toy")
    for name in windows.SETS:
        ours, theirs = getattr(SPLIT, name), getattr(found, name)
        assert np.array_equal(ours.inputs["wave"], theirs.inputs["wave"])
        assert ours.where.tolist() == theirs.where.tolist()
    assert found.facts["counts"]["test"] == {"clean": 100, "spoiled": 100, "groups": 4}


def test_a_patient_on_both_sides_is_refused(tmp_path: Path) -> None:
    both = dataclasses.replace(SPLIT, test=dataclasses.replace(SPLIT.test, group=SPLIT.train.group[: len(SPLIT.test)]))
    with pytest.raises(DataError, match="both sides of the split: a0 is in train and in test"):
        windows.save(tmp_path / "toy", both, TASK.labels)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_the_old_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    windows.save(tmp_path / "toy", SPLIT, TASK.labels)
    before = windows.load(tmp_path / "toy").facts
    other = dataclasses.replace(SPLIT, facts={"sources": "new"})

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(np, "savez", full)
        with pytest.raises(DataError, match="No space left"):
            windows.save(tmp_path / "toy", other, TASK.labels)
    assert [path.name for path in tmp_path.iterdir()] == ["toy"]
    assert windows.load(tmp_path / "toy").facts == before


def test_the_digest_is_of_the_windows_themselves(tmp_path: Path) -> None:
    """The code that cuts and labels them changes while the recordings stay: other windows must not pass for the same."""
    said = []
    inputs = {name: x.copy() for name, x in SPLIT.test.inputs.items()}
    inputs["wave"][3, 5] += 0.25
    for test in (SPLIT.test, SPLIT.test, dataclasses.replace(SPLIT.test, inputs=inputs)):
        windows.save(tmp_path / "toy", dataclasses.replace(SPLIT, test=test), TASK.labels)
        said.append(windows.load(tmp_path / "toy").facts["digest"])
    assert said[0] == said[1] != said[2]


def test_half_made_data_are_refused(tmp_path: Path) -> None:
    windows.save(tmp_path / "toy", SPLIT, TASK.labels)
    whole = (tmp_path / "toy" / "train.npz").read_bytes()
    (tmp_path / "toy" / "train.npz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="edge-train data prepare toy"):
        windows.load(tmp_path / "toy")


@pytest.mark.parametrize("stored", ["[]", "{}", '{"digest": null}', "{"])
def test_prepared_data_whose_facts_say_no_digest_are_refused(tmp_path: Path, stored: str) -> None:
    windows.save(tmp_path / "toy", SPLIT, TASK.labels)
    (tmp_path / "toy" / "data.json").write_text(stored)
    with pytest.raises(DataError, match=r"data\.json: .*edge-train data prepare toy"):
        windows.load(tmp_path / "toy")


def test_prepared_data_that_changed_since_are_refused(tmp_path: Path) -> None:
    windows.save(tmp_path / "toy", SPLIT, TASK.labels)
    path = tmp_path / "toy" / "train.npz"
    with np.load(path) as archive:
        arrays = {name: archive[name] for name in archive.files}
    arrays["label"][0] = 7
    np.savez(path, **arrays)
    with pytest.raises(DataError, match=r"prepared data changed since.*edge-train data prepare toy"):
        windows.load(tmp_path / "toy")
    path.unlink()
    with pytest.raises(DataError, match=r"train\.npz: No such file"):
        windows.load(tmp_path / "toy")


def test_beats_that_changed_since_they_were_prepared_are_refused(tmp_path: Path) -> None:
    from edge_train.beats import prepare
    from edge_train.files import digest_of

    for name in prepare.FILES:
        np.savez(tmp_path / name, label=np.zeros(3))
    facts = {"digest": digest_of(tmp_path / name for name in prepare.FILES), "inputs": prepare.INPUTS}
    (tmp_path / "data.json").write_text(json.dumps(facts))
    with pytest.raises(DataError, match=r"damaged .*is not a file in the archive"):
        prepare.load_prepared(tmp_path)
    for name in prepare.FILES:
        whole = (tmp_path / name).read_bytes()
        np.savez(tmp_path / name, label=np.ones(3))
        with pytest.raises(DataError, match="changed since"):
            prepare.load_prepared(tmp_path)
        (tmp_path / name).write_bytes(whole)
