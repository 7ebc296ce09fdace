"""The beat model: what a beat looks like (a small conv net) and when it came (an RR expert), one file with two inputs.

Between patients, one net that sees both learns the ectopics of the few patients it was trained on. So the two questions
are learned apart: the wave net tells {N or S}, V, F and Q from the beat's shape and the three seconds before it, on
MIT-BIH's DS1; the expert tells S from N by RR features alone, on VitalDB's many patients. The share of {N or S} is divided
by the expert's answer d, the logit of S against N: log p(S) = log p(N or S) + log sigmoid(d), with log sigmoid(d) taken as
-relu(-d), so that additions and dense layers do it all. (Adding d itself to S would make a premature V an S: it raises the
sum of both.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_train import augment
from edge_train.data import (
    BEAT,
    FEATURES,
    FOLDS,
    LABELS,
    PAST,
    Beats,
    Floats,
    Ints,
    RrBeats,
    check_split,
    require_classes,
)

CLIP = 1.0
"""RR features saturate here, in training and (by the range of the int8 input) on the device."""
WAVE = ("NS", "V", "F", "Q")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Plan:
    """What one training does; with the seed and the data's digest, all that is needed to repeat it."""

    filters: tuple[int, ...] = (12, 16, 24, 32)
    kernels: tuple[int, ...] = (9, 5, 5, 3)
    past_filters: tuple[int, ...] = (12, 16, 16)
    past_kernels: tuple[int, ...] = (7, 5, 5)
    dense: int = 16
    expert: tuple[int, ...] = (32, 32)
    epochs: int = 16
    batch: int = 128
    rate: float = 1.5e-3
    smoothing: float = 0.05
    """Of the labels: keeps the logits small, which int8 needs too."""
    mixing: float = 0.6
    """Mixup's alpha: pairs of beats are blended, labels too. 21 patients are few, and this is the net's best protection."""
    per_epoch: tuple[int, ...] = (5000, 2500, 300, 30)
    """Beats of each WAVE class drawn for one epoch."""
    other_leads: float = 0.25
    """Share of the beats drawn that come from the record's other lead."""
    patience: int = 8
    expert_epochs: int = 25
    expert_batch: int = 512
    expert_per_epoch: tuple[int, int] = (60_000, 20_000)
    """Beats drawn for one epoch of the expert: normal, premature."""


def clip(features: Floats) -> Floats:
    return np.clip(features, -CLIP, CLIP).astype(np.float32)


def wave_target(label: Ints) -> Ints:
    """LABELS index to WAVE index: N and S are one here."""
    return np.array([0, 0, 1, 2, 3], np.int64)[label]


def quiet() -> Any:
    """TensorFlow on one thread and deterministic: results repeat bit for bit, and nothing is gained by more for nets this small."""
    import os

    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
    import tensorflow as tf

    try:
        tf.config.threading.set_intra_op_parallelism_threads(1)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    except RuntimeError:
        pass  # already running in this process: as it was set then
    tf.config.experimental.enable_op_determinism()
    return tf


# --- nets -------------------------------------------------------------------------------------------------------------


def _convolve(tf: Any, x: Any, filters: tuple[int, ...], kernels: tuple[int, ...], name: str) -> Any:
    for i, (filter_, kernel) in enumerate(zip(filters, kernels, strict=True)):
        layer = tf.keras.layers.Conv2D(
            filter_, (1, kernel), strides=(1, 2), padding="same", activation="relu6", name=f"{name}{i}"
        )
        x = layer(x)
    return x


def _inputs(tf: Any, batch: int | None = None) -> tuple[Any, Any, Any]:
    """The daemon takes a file's inputs in order of name, and the manifest lists them so."""
    return (
        tf.keras.Input((1, BEAT.samples, 1), batch_size=batch, name="beat"),
        tf.keras.Input((1, PAST.samples, 1), batch_size=batch, name="past"),
        tf.keras.Input((len(FEATURES),), batch_size=batch, name="rr"),
    )


def _wave_body(tf: Any, beat: Any, past: Any, rr: Any, plan: Plan) -> Any:
    """Height-1 2-D operators only: all of them map to the Edge TPU."""
    layers = tf.keras.layers
    x = _convolve(tf, beat, plan.filters, plan.kernels, "beat_conv")
    x = layers.AveragePooling2D((1, 2), name="beat_pool")(x)
    x = layers.Dropout(0.5, name="beat_drop")(layers.Flatten(name="beat_flat")(x))
    shape = layers.Dense(plan.dense, activation="relu6", name="shape")(x)
    x = _convolve(tf, past, plan.past_filters, plan.past_kernels, "past_conv")
    usual = layers.Flatten(name="usual_flat")(layers.AveragePooling2D((1, x.shape[2]), name="usual")(x))
    x = layers.Dropout(0.4, name="past_drop")(layers.Flatten(name="past_flat")(x))
    before = layers.Dense(plan.dense, activation="relu6", name="before")(x)
    context = layers.Dense(8, activation="relu6", name="context")(rr)
    return layers.Concatenate(name="all")([shape, usual, before, context])


def wave_net(plan: Plan) -> Any:
    tf = quiet()
    inputs = _inputs(tf)
    return tf.keras.Model(inputs, tf.keras.layers.Dense(len(WAVE), name="wave")(_wave_body(tf, *inputs, plan)))


def _expert_body(tf: Any, rr: Any, plan: Plan) -> Any:
    x = rr
    for i, width in enumerate(plan.expert):
        x = tf.keras.layers.Dense(width, activation="relu6", name=f"expert{i}")(x)
    return x


def expert_net(plan: Plan) -> Any:
    tf = quiet()
    rr = tf.keras.Input((len(FEATURES),), name="rr")
    out = tf.keras.layers.Dense(1, name="expert")(_expert_body(tf, rr, plan))
    return tf.keras.Model(rr, out)


def whole_net(plan: Plan, batch: int | None = None) -> Any:
    """The net of both. For export, batch 1: a dynamic batch adds operators that the Edge TPU compiler refuses."""
    tf = quiet()
    inputs = _inputs(tf, batch)
    seen = tf.keras.layers.Dense(len(LABELS), name="wave5")(_wave_body(tf, *inputs, plan))
    sides = tf.keras.layers.Dense(2, activation="relu", name="sides")(
        _expert_body(tf, inputs[2], plan)
    )  # relu(d), relu(-d)
    timed = tf.keras.layers.Dense(len(LABELS), use_bias=False, name="timed")(sides)
    total = tf.keras.layers.Add(name="add")([seen, timed])
    return tf.keras.Model(inputs, tf.keras.layers.Softmax(name="scores")(total))


def assemble(plan: Plan, wave: Any, expert: Any, offsets: dict[str, float]) -> Any:
    """Both nets' weights in one; ``offsets`` of the classes go into the biases, so that the largest score decides."""
    model = whole_net(plan)
    for source in (wave, expert):
        for layer in source.layers:
            if layer.weights and layer.name not in ("wave", "expert"):
                model.get_layer(layer.name).set_weights(layer.get_weights())
    kernel, bias = wave.get_layer("wave").get_weights()
    spread = [WAVE.index("NS"), WAVE.index("NS"), 1, 2, 3]
    shift = np.array([offsets.get(label, 0.0) if label != "S" else 0.0 for label in LABELS], np.float32)
    model.get_layer("wave5").set_weights([kernel[:, spread], bias[spread] + shift])
    kernel, bias = expert.get_layer("expert").get_weights()
    both = np.array([1, -1], np.float32)
    model.get_layer("sides").set_weights([kernel * both, (bias + np.float32(offsets.get("S", 0.0))) * both])
    divide = np.zeros((2, len(LABELS)), np.float32)
    divide[0, LABELS.index("N")] = divide[1, LABELS.index("S")] = -1
    model.get_layer("timed").set_weights([divide])
    return model


def load_fit(folder: Path, batch: int | None = None) -> tuple[Any, dict[str, Any]]:
    """A fitted float model and its facts."""
    facts = json.loads((folder / "fit.json").read_text())
    stored: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in facts["plan"].items()}
    plan = Plan(**stored)
    model = whole_net(plan, batch)
    model.load_weights(folder / "model.weights.h5")
    return model, facts


# --- measures ---------------------------------------------------------------------------------------------------------


def average_precision(score: NDArray[Any], truth: NDArray[Any]) -> float:
    """Area under the precision-recall curve; needs no threshold."""
    order = np.argsort(-score, kind="stable")
    hit = truth[order].astype(np.float64)
    if hit.sum() == 0:
        return 0.0
    precision = np.cumsum(hit) / np.arange(1, hit.size + 1)
    return float((precision * hit).sum() / hit.sum())


def best_offset(margin: Floats, truth: NDArray[Any], record: NDArray[np.str_], fewest: int = 10) -> tuple[float, float]:
    """Offset of a class by the mean F1 over the patients who have it; the false alarms of those who have none weigh on each.

    Pooled over beats, one patient would decide (209 has four tenths of DS1's S). ``margin``: the class's logit above the
    best of the others.
    """
    names, count = np.unique(record[truth], return_counts=True)
    having = names[count >= fewest]
    rest = ~np.isin(record, having)
    grid = np.arange(-5, 5.01, 0.1)
    means = []
    for offset in grid:
        said = margin + offset > 0
        false_rate = float((said & ~truth)[rest].sum()) / max(1, int(rest.sum()))
        each = []
        for name in having:
            at = record == name
            hit = float((said & truth)[at].sum())
            wrong = float((said != truth)[at].sum()) + false_rate * float(at.sum())
            each.append(2 * hit / max(1.0, 2 * hit + wrong))
        means.append(float(np.mean(each)) if each else 0.0)
    good = np.flatnonzero(np.array(means) >= max(means) - 0.005)  # the middle of the best stretch, not its edge
    return float(np.median(grid[good])), float(max(means))


def v_margin(logits: Floats) -> Floats:
    return np.asarray(logits[:, 1] - np.delete(logits, 1, axis=1).max(axis=1), np.float32)


# --- fitting ----------------------------------------------------------------------------------------------------------


class _Smoothed:
    """Running mean of the weights at the ends of epochs: steadier than the last ones, at no cost."""

    def __init__(self, keep: float = 0.6) -> None:
        self._keep = keep
        self.weights: list[Any] | None = None

    def add(self, weights: list[Any]) -> list[Any]:
        if self.weights is None:
            self.weights = [w.copy() for w in weights]
        else:
            self.weights = [
                self._keep * old + (1 - self._keep) * new for old, new in zip(self.weights, weights, strict=True)
            ]
        return self.weights


def _draw(
    target: Ints, record: NDArray[np.str_], main: NDArray[np.bool_], plan: Plan, rng: np.random.Generator
) -> Ints:
    """Beats of one epoch: classes in the plan's numbers, patients by the root of how many they have."""
    chosen = []
    for which, many in enumerate(plan.per_epoch):
        for lead, share in ((main, 1 - plan.other_leads), (~main, plan.other_leads)):
            pool = np.flatnonzero((target == which) & lead)
            if pool.size:
                _, inverse, count = np.unique(record[pool], return_inverse=True, return_counts=True)
                weight = 1 / np.sqrt(count[inverse])
                chosen.append(rng.choice(pool, round(many * share), p=weight / weight.sum()))
    order: Ints = rng.permutation(np.concatenate(chosen))
    return order


def _rate_at(plan_rate: float, epoch: int, epochs: int) -> float:
    return plan_rate * (0.05 + 0.95 * 0.5 * (1 + float(np.cos(np.pi * epoch / epochs))))


def model_inputs(beats: Beats, rng: np.random.Generator, how: augment.Strength) -> list[Floats]:
    """What the nets take, of beats as they are (augment.NONE) or as others might be."""
    beat, past = augment.windows(beats, rng, how)
    return [beat[:, None, :, None], past[:, None, :, None], augment.drop_features(clip(beats.features), rng, how)]


def _mix(x: list[Floats], y: Floats, rng: np.random.Generator, alpha: float) -> tuple[list[Floats], Floats]:
    """Zhang H et al., mixup: beyond empirical risk minimization, ICLR 2018; one share for all of a beat's inputs."""
    if alpha <= 0:
        return x, y
    share = rng.beta(alpha, alpha, len(y)).astype(np.float32)
    other = rng.permutation(len(y))

    def blend(a: Floats) -> Floats:
        weight = share.reshape(-1, *[1] * (a.ndim - 1))
        return np.asarray(weight * a + (1 - weight) * a[other], np.float32)

    return [blend(each) for each in x], blend(y)


def fit_wave(
    beats: Beats, plan: Plan, seed: int, say: Say, epochs: int, ask: Beats | None = None
) -> tuple[Any, list[Floats]]:
    """The wave net, and the logits of ``ask`` after every epoch."""
    tf = quiet()
    tf.keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    if ask is not None:
        check_split(sorted(set(beats.record)), sorted(set(ask.record)))
        asked = model_inputs(ask, rng, augment.NONE)
    require_classes(beats.label, ("N", "V"), "training beats")
    target, main = wave_target(beats.label), main_lead_of(beats)
    model = wave_net(plan)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=plan.smoothing)
    model.compile(tf.keras.optimizers.Adam(plan.rate, clipnorm=1.0), loss)
    smoothed, answers = _Smoothed(), []
    for epoch in range(epochs):
        model.optimizer.learning_rate.assign(_rate_at(plan.rate, epoch, plan.epochs))
        drawn = _draw(target, beats.record, main, plan, rng)
        x = model_inputs(beats.pick(drawn), rng, augment.Strength())
        x, y = _mix(x, np.eye(len(WAVE), dtype=np.float32)[target[drawn]], rng, plan.mixing)
        fitted = model.fit(x, y, batch_size=plan.batch, epochs=1, shuffle=False, verbose=0)
        say(f"  wave {epoch + 1:3d}  loss {float(fitted.history['loss'][0]):.4f}")
        raw, mean = model.get_weights(), smoothed.add(model.get_weights())
        model.set_weights(mean)
        if ask is not None:
            answers.append(model.predict(asked, batch_size=1024, verbose=0))
        if epoch < epochs - 1:
            model.set_weights(raw)
    return model, answers


def validate_wave(beats: Beats, plan: Plan, seed: int, say: Say, folds: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Every patient of DS1 is asked once by a net that has not seen him: number of epochs, offset and F1 of V."""
    logits: list[list[Floats]] = []
    asked = []
    for number, fold in enumerate(folds):
        say(f" fold {number + 1} of {len(folds)}")
        aside = np.isin(beats.record, list(fold))
        ask = beats.pick(aside & main_lead_of(beats))
        asked.append(ask)
        logits.append(fit_wave(beats.pick(~aside), plan, seed, say, plan.epochs, ask)[1])
    truth = np.concatenate([wave_target(ask.label) for ask in asked]) == WAVE.index("V")
    record = np.concatenate([ask.record for ask in asked])
    margins = [v_margin(np.concatenate([fold[epoch] for fold in logits])) for epoch in range(plan.epochs)]
    precision = [average_precision(margin, truth) for margin in margins]
    best = int(np.argmax(precision))
    offset, v_f1 = best_offset(margins[best], truth, record)
    return {"epochs": best + 1, "v_offset": offset, "v_f1_by_patient": v_f1, "v_average_precision": precision}


def main_lead_of(beats: Beats) -> NDArray[np.bool_]:
    """Which beats are of MLII: channel 1 in record 114, 0 in the others of DS1."""
    return np.asarray(np.where(beats.record == "114", 1, 0) == beats.lead)


def fit_expert(rr: RrBeats, plan: Plan, seed: int, say: Say) -> tuple[Any, dict[str, Any]]:
    """The RR expert; every seventh patient is kept aside for early stopping."""
    tf = quiet()
    tf.keras.utils.set_random_seed(seed)
    rng = np.random.default_rng(seed)
    people = np.unique(rr.patient)
    kept = np.isin(rr.patient, people[::7])
    features, target = clip(rr.features[~kept]), rr.premature[~kept]
    test, truth = clip(rr.features[kept]), rr.premature[kept] > 0
    pools = []
    for which in (0, 1):
        pool = np.flatnonzero(target == which)
        if not pool.size:
            raise ValueError(f"expert: no {'premature' if which else 'normal'} beat to learn from")
        _, inverse, count = np.unique(rr.patient[~kept][pool], return_inverse=True, return_counts=True)
        weight = 1 / np.sqrt(count[inverse])
        pools.append((pool, weight / weight.sum()))
    model = expert_net(plan)
    loss = tf.keras.losses.BinaryCrossentropy(from_logits=True, label_smoothing=plan.smoothing)
    model.compile(tf.keras.optimizers.Adam(plan.rate, clipnorm=1.0), loss)
    smoothed, best, best_weights = _Smoothed(), (-1.0, 0), None
    for epoch in range(plan.expert_epochs):
        model.optimizer.learning_rate.assign(_rate_at(plan.rate, epoch, plan.expert_epochs))
        drawn = rng.permutation(
            np.concatenate([rng.choice(p, n, p=w) for (p, w), n in zip(pools, plan.expert_per_epoch, strict=True)])
        )
        fitted = model.fit(
            features[drawn], target[drawn], batch_size=plan.expert_batch, epochs=1, shuffle=False, verbose=0
        )
        weights = smoothed.add(model.get_weights())
        raw = model.get_weights()
        model.set_weights(weights)
        score = average_precision(model.predict(test, batch_size=8192, verbose=0)[:, 0], truth)
        model.set_weights(raw)
        say(f"expert {epoch + 1:3d}  loss {float(fitted.history['loss'][0]):.4f}  S average precision {score:.4f}")
        if score > best[0]:
            best, best_weights = (score, epoch), weights
        if epoch - best[1] >= plan.patience:
            break
    model.set_weights(best_weights)
    return model, {"epochs": best[1] + 1, "s_average_precision": best[0]}


def fit(
    beats: Beats, rr: RrBeats, plan: Plan, seed: int, out: Path, say: Say, folds: Sequence[Sequence[str]] = FOLDS
) -> dict[str, Any]:
    """One seed, from prepared data to a float model in ``out``."""
    expert, about_expert = fit_expert(rr, plan, seed, say)
    main = main_lead_of(beats)
    asked = main & np.isin(beats.label, (LABELS.index("N"), LABELS.index("S")))
    logit = expert.predict(clip(beats.features[asked]), batch_size=8192, verbose=0)[:, 0]
    s_offset, s_f1 = best_offset(logit, beats.label[asked] == LABELS.index("S"), beats.record[asked])
    about_wave = validate_wave(beats, plan, seed, say, folds)
    say(" all of DS1")
    wave, _ = fit_wave(beats, plan, seed, say, about_wave["epochs"])
    sampled = np.array(plan.per_epoch, np.float64)
    natural = np.array([(wave_target(beats.label[main]) == i).sum() for i in range(len(WAVE))], np.float64)
    prior = np.log(np.maximum(natural, 1) / natural[0]) - np.log(sampled / sampled[0])
    offsets = {"S": s_offset, "V": about_wave["v_offset"], "F": float(prior[2]), "Q": float(prior[3])}
    model = assemble(plan, wave, expert, offsets)
    out.mkdir(parents=True, exist_ok=True)
    model.save_weights(out / "model.weights.h5")
    facts = {
        "seed": seed,
        "plan": asdict(plan),
        "offsets": offsets,
        "expert": about_expert | {"s_f1_by_patient": s_f1},
        "wave": about_wave,
        "validation": (about_wave["v_f1_by_patient"] + s_f1) / 2,
        "weights": int(model.count_params()),
    }
    (out / "fit.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts
