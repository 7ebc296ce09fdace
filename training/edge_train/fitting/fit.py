"""Fitting a net to a task: balanced, augmented, early stopped, and none of it lost but the epoch that was running.

A run's folder says everything: ``plan.json``, ``history.csv`` (an epoch a line), ``tensorboard/``, ``fit.json`` (plan, seed,
data digest, thresholds, versions, the command) and ``model.weights.h5``. While it runs there is ``checkpoint.npz``; the same
command goes on from there, to the very weights that an uninterrupted run would have had: every epoch's chance is drawn from
(seed, epoch).
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from edge_agent.progress import Progress
from edge_train.arrays import Floats, Ints
from edge_train.data.windows import Split, Windows, check
from edge_train.errors import DataError
from edge_train.files import whole_file, write_json, write_text
from edge_train.fitting.architectures import build
from edge_train.fitting.examples import batches, draw, shaped
from edge_train.measuring import metrics
from edge_train.runtime import command_line, quiet, versions
from edge_train.task import Plan, Task

Say = Callable[[str], None]
Report = Callable[[int, float], None]
"""Told the epoch (from 1) and the validation's score after each: a tuner may raise to stop."""
SAVED = ("loss", "score", "accuracy")


def _silent(_: str) -> None:
    pass


# --- one step -----------------------------------------------------------------------------------------------------------


def _loss(tf: Any, plan: Plan, classes: int) -> Callable[[Any, Any, Any], Any]:
    def loss(logits: Any, y: Any, weight: Any) -> Any:
        soft = y * (1 - plan.smoothing) + plan.smoothing / classes
        log = tf.nn.log_softmax(logits)
        if plan.loss == "focal":  # Lin TY et al., Focal loss for dense object detection, ICCV 2017
            log *= tf.pow(1 - tf.exp(log), plan.extra.get("gamma", 2.0))
        return tf.reduce_mean(weight * -tf.reduce_sum(soft * log, axis=1))

    return loss


def trainer(model: Any, plan: Plan, classes: int) -> tuple[Any, Callable[[list[Floats], Floats, Floats], Any]]:
    """The optimiser, and one step as a graph. Keras's own fit costs as much again for nets this small."""
    tf = quiet()
    optimiser = tf.keras.optimizers.AdamW(
        plan.rate, weight_decay=plan.extra.get("decay", 1e-4), clipnorm=1.0, epsilon=1e-7
    )
    optimiser.build(model.trainable_variables)
    to_logits = tf.keras.Model(model.inputs, model.get_layer("logits").output)
    loss_of = _loss(tf, plan, classes)

    def step(x: Any, y: Any, weight: Any) -> Any:
        with tf.GradientTape() as tape:
            loss = loss_of(to_logits(x, training=True), y, weight)
        optimiser.apply(tape.gradient(loss, model.trainable_variables), model.trainable_variables)
        return loss

    return optimiser, tf.function(step)


def rate_at(plan: Plan, epoch: int) -> float:
    """Half a cosine down to a twentieth, whatever early stopping does."""
    return float(plan.rate * (0.05 + 0.95 * 0.5 * (1 + np.cos(np.pi * epoch / max(1, plan.epochs)))))


def _reseed(model: Any, seed: int, epoch: int) -> None:
    """Dropout's chance, from (seed, epoch): a resumed run draws what an uninterrupted one would have."""
    for i, layer in enumerate(model.layers):
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            generator.state.assign(np.array([seed * 1000 + i, epoch], np.uint32))


# --- predicting ---------------------------------------------------------------------------------------------------------


class Scorer:
    """A model's scores, at the size of batch it was built for; the graph is traced once."""

    def __init__(self, task: Task, model: Any, size: int = 512) -> None:
        tf = quiet()
        self._task = task
        self._size = model.inputs[0].shape[0] or size
        self._call = tf.function(lambda x: model(x, training=False), reduce_retracing=True)

    def __call__(self, windows: Windows) -> Floats:
        made = []
        for first in range(0, len(windows), self._size):
            rows = {name: x[first : first + self._size] for name, x in windows.inputs.items()}
            inputs = shaped(self._task, rows)
            short = self._size - len(inputs[0])  # padded, so that the last batch needs no graph of its own
            if short:
                inputs = [np.concatenate([x, np.zeros((short, *x.shape[1:]), np.float32)]) for x in inputs]
            made.append(np.asarray(self._call(inputs))[: self._size - short])
        return np.concatenate(made) if made else np.zeros((0, len(self._task.labels)), np.float32)


def predict(model: Any, windows: Windows, task: Task) -> Floats:
    """Scores (examples, labels)."""
    return Scorer(task, model)(windows)


def validation_score(task: Task, scores: Floats, truth: Ints) -> float:
    """What early stopping and tuning look at: average precision of the positive label, or macro-F1 of the classes there."""
    if task.positive is not None:
        at = task.labels.index(task.positive)
        return metrics.average_precision(scores[:, at], truth == at)
    table = metrics.confusion(truth, metrics.decide(scores, task.labels, {}), len(task.labels))
    there = table.sum(1) > 0
    return float(np.nanmean(metrics.f1(table)[there]))


def thresholds(task: Task, scores: Floats, windows: Windows) -> dict[str, float]:
    """Chosen on validation: by the task's own rule where it has one (``choose``), else the positive label's best F1."""
    choose = getattr(task, "choose", None)
    if choose is not None:
        chosen: dict[str, float] = choose(scores, windows)
        return chosen
    if task.positive is None:
        return {}
    at = task.labels.index(task.positive)
    best = metrics.best_threshold(scores[:, at], windows.label == at, metrics.f_measure)
    return metrics.two_thresholds(task.labels, task.positive, best) if len(task.labels) == 2 else {task.positive: best}


# --- state of a run -------------------------------------------------------------------------------------------------------


@dataclass
class State:
    """What a checkpoint holds."""

    key: str
    """Plan, seed and data digest: a checkpoint of another run is not gone on from."""
    epoch: int = 0
    best: float = -1.0
    best_epoch: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    smoothed: list[Any] = field(default_factory=list)
    best_weights: list[Any] = field(default_factory=list)


def _key(task: Task, split: Split, plan: Plan, seed: int) -> str:
    return json.dumps([task.name, asdict(plan), seed, split.facts.get("digest", "")], sort_keys=True)


def _save(path: Path, state: State, weights: list[Any], optimiser: Any) -> None:
    arrays: dict[str, Any] = {}
    named = {
        "weights": weights,
        "optimiser": [variable.numpy() for variable in optimiser.variables],
        "smoothed": state.smoothed,
        "best": state.best_weights,
    }
    for name, values in named.items():
        arrays |= {f"{name}_{i}": value for i, value in enumerate(values)}
    facts = {name: getattr(state, name) for name in ("key", "epoch", "best", "best_epoch", "history")}
    with whole_file(path) as aside:
        np.savez(aside, facts=np.array(json.dumps(facts)), **arrays)


def _restore(path: Path, key: str, model: Any, optimiser: Any) -> State | None:
    """The state to go on from; None where there is none or it cannot be read (then the run begins anew)."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            facts = json.loads(str(archive["facts"]))

            def part(name: str) -> list[Any]:
                count = sum(each.startswith(f"{name}_") for each in archive.files)
                return [archive[f"{name}_{i}"] for i in range(count)]

            weights, moments = part("weights"), part("optimiser")
            state = State(**facts, smoothed=part("smoothed"), best_weights=part("best"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile):
        return None  # torn: the run begins anew
    if state.key != key:
        raise DataError(
            f"{path.parent}: holds a run of another plan, seed or data; give another --build folder, or --fresh to begin anew"
        )
    model.set_weights(weights)
    for variable, value in zip(optimiser.variables, moments, strict=True):
        variable.assign(value)
    return state


def _smooth(state: State, weights: list[Any], keep: float) -> list[Any]:
    """Running mean of the weights at the ends of epochs, steadier than the last ones; ``Plan.extra["smooth"]``, 0 for none."""
    if not state.smoothed or keep <= 0:
        state.smoothed = weights
    else:
        state.smoothed = [keep * old + (1 - keep) * new for old, new in zip(state.smoothed, weights, strict=True)]
    return state.smoothed


def _write_history(folder: Path, history: list[dict[str, float]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "history.csv", text.getvalue())


# --- fitting ------------------------------------------------------------------------------------------------------------


def fit(
    task: Task,
    split: Split,
    plan: Plan,
    seed: int,
    folder: Path,
    say: Say = _silent,
    resume: bool = True,
    report: Report | None = None,
    start: list[Any] | None = None,
) -> dict[str, Any]:
    """One run, into ``folder``; a finished one is not made again. ``start``: weights to begin from."""
    key = _key(task, split, plan, seed)
    if resume and (folder / "fit.json").is_file():
        facts: dict[str, Any] = json.loads((folder / "fit.json").read_text())
        if facts.get("key") == key:
            say(f"{folder}: fitted already")
            return facts
        raise DataError(
            f"{folder}: holds a run of another plan, seed or data; give another --build folder, or --fresh to begin anew"
        )
    check(split.train, task.labels, f"{task.name} train")
    check(split.validation, [], f"{task.name} validation")
    if task.positive is not None and not (split.validation.label == task.labels.index(task.positive)).any():
        raise DataError(f"{task.name} validation: no example of class {task.positive}")
    tf = quiet()
    tf.keras.utils.set_random_seed(seed)
    model = build(task, plan)
    if start is not None:
        model.set_weights(start)
    classes = len(task.labels)
    optimiser, step = trainer(model, plan, classes)
    if not resume:
        for name in ("fit.json", "checkpoint.npz"):
            (folder / name).unlink(missing_ok=True)
    state = _restore(folder / "checkpoint.npz", key, model, optimiser) or State(key)
    if state.epoch:
        say(f"{folder}: goes on after epoch {state.epoch}")
    write_json(folder / "plan.json", asdict(plan))
    began = time.process_time()
    scorer = Scorer(task, model)
    with _board(tf, folder) as board:
        for epoch in range(state.epoch, plan.epochs):
            if state.epoch - state.best_epoch >= plan.patience:
                break
            rng = np.random.default_rng([seed, epoch])
            _reseed(model, seed, epoch)
            optimiser.learning_rate.assign(rate_at(plan, epoch))
            rows = draw(split.train, classes, plan, rng)
            loss = _epoch(task, split.train, rows, plan, rng, step, f"epoch {epoch + 1}/{plan.epochs}", state)
            raw = model.get_weights()
            model.set_weights(_smooth(state, raw, plan.extra.get("smooth", 0.0)))
            scores = scorer(split.validation)
            line = _measure(task, scores, split.validation.label, epoch + 1, loss)
            state.epoch = epoch + 1
            state.history.append(line)
            if line["score"] > state.best:
                state.best, state.best_epoch, state.best_weights = line["score"], epoch + 1, model.get_weights()
            model.set_weights(raw)
            _save(folder / "checkpoint.npz", state, raw, optimiser)
            _write_history(folder, state.history)
            with board.as_default():
                for name in SAVED:
                    tf.summary.scalar(name, line[name], step=epoch + 1)
            best = "  best" if state.best_epoch == epoch + 1 else ""
            say(
                f"  epoch {epoch + 1:3d}  loss {loss:.4f}  validation {line['score']:.4f}"
                f"  accuracy {line['accuracy']:.4f}{best}"
            )
            if report is not None:
                report(epoch + 1, line["score"])
    if not state.best_weights:
        raise DataError(f"{folder}: no epoch was trained (epochs = {plan.epochs})")
    model.set_weights(state.best_weights)
    return _finish(task, split, plan, seed, folder, model, state, time.process_time() - began)


@contextlib.contextmanager
def _board(tf: Any, folder: Path) -> Iterator[Any]:
    """Logs for TensorBoard: ``tensorboard --logdir`` on the folder of all runs."""
    try:
        board = tf.summary.create_file_writer(str(folder / "tensorboard"))
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"{folder}: cannot be written ({error})") from None
    try:
        yield board
    finally:
        board.close()


def _epoch(
    task: Task,
    windows: Windows,
    rows: Ints,
    plan: Plan,
    rng: np.random.Generator,
    step: Callable[[list[Floats], Floats, Floats], Any],
    title: str,
    state: State,
) -> float:
    """Mean loss. The terminal shows the running one, and the best validation so far."""
    progress = Progress(title, rows.size)
    so_far = f"best {state.best:.4f}" if state.epoch else ""
    total, done = 0.0, 0
    try:
        for x, y, weight in batches(task, windows, rows, plan, rng):
            loss = float(step(x, y, weight))
            if not np.isfinite(loss):
                raise DataError(
                    f"{task.name}: the loss is no longer a number in {title}; a smaller rate than {plan.rate} may help"
                )
            total += loss * len(y)
            done += len(y)
            progress.step(done, f"loss {total / done:.4f} {so_far}")
    finally:
        progress.close()
    return total / max(1, done)


def _measure(task: Task, scores: Floats, truth: Ints, epoch: int, loss: float) -> dict[str, float]:
    said = metrics.decide(scores, task.labels, {})
    table = metrics.confusion(truth, said, len(task.labels))
    each = metrics.f1(table)
    return {
        "epoch": float(epoch),
        "loss": loss,
        "score": validation_score(task, scores, truth),
        "accuracy": float((said == truth).mean()) if truth.size else 0.0,
        **{f"f1_{label}": float(np.nan_to_num(value)) for label, value in zip(task.labels, each, strict=True)},
    }


def _finish(
    task: Task, split: Split, plan: Plan, seed: int, folder: Path, model: Any, state: State, seconds: float
) -> dict[str, Any]:
    scores = predict(model, split.validation, task)
    facts = {
        "task": task.name,
        "plan": asdict(plan),
        "seed": seed,
        "digest": split.facts.get("digest", ""),
        "validation": state.best,
        "validation_of": f"average precision of {task.positive}" if task.positive else "macro-F1",
        "epochs": state.epoch,
        "best_epoch": state.best_epoch,
        "thresholds": thresholds(task, scores, split.validation),
        "weights": int(model.count_params()),
        "seconds": round(seconds, 1),  # of processor time, since it was last gone on with
        "versions": versions(),
        "command": command_line(),
        "key": state.key,
    }
    with whole_file(folder / "model.weights.h5") as aside:
        # Keras wants this very ending
        scratch = aside.with_name(aside.name + ".weights.h5")
        try:
            model.save_weights(scratch)
            scratch.replace(aside)
        finally:
            scratch.unlink(missing_ok=True)
    write_json(folder / "fit.json", facts)
    (folder / "checkpoint.npz").unlink(missing_ok=True)
    return facts


def plan_of(facts: Mapping[str, Any]) -> Plan:
    """The plan that a fit.json (or plan.json) tells of."""
    stored: dict[str, Any] = dict(facts.get("plan", facts))
    return Plan(**stored)


def load_fit(task: Task, folder: Path, batch: int | None = None) -> tuple[Any, dict[str, Any]]:
    """A fitted float model and its facts."""
    try:
        facts: dict[str, Any] = json.loads((folder / "fit.json").read_text())
        plan = plan_of(facts)
        if facts["task"] != task.name:
            raise DataError(f"{folder}: was fitted for {facts['task']}, not for {task.name}")
        model = build(task, plan, batch)
        model.load_weights(folder / "model.weights.h5")
    except (OSError, KeyError, TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{folder}: no fitted model ({error}); run: edge-train fit {task.name}") from None
    return model, facts
