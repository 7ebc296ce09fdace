"""The beat model: what a beat looks like beside the patient's usual one, and when it came; one file with four inputs.

Between patients, one net that sees everything learns the ectopics of the few patients it was trained on. So two questions are
learned apart and put into one net:

* {N or S}, V, F or Q: a small conv net on the beat and the usual beat as two channels, with numbers about rhythm and shape beside;
  several of them, differing in their seed alone, are averaged. MIT-BIH's DS1.
* S or N: dense nets, the experts, that see the rhythm alone; several are averaged. VitalDB's annotations (many patients, no
  signal). To their log odds those of nets are added that see numbers about the P wave alone, learned from patients without labels
  for their beats (edge_train.beats.model.p_wave). Where S begins is one number, chosen on DS1's patients.

DS1 has seven patients with S: that number is all about S that is learned from them.

The share of {N or S} is divided by the experts' answer d: log p(S) = log p(N or S) + log sigmoid(d), with log sigmoid(d)
taken as -relu(-d), so that additions and dense layers do it all. (Adding d itself to S would make a premature V an S.)
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_train.arrays import Floats, Ints
from edge_train.beats import augment, p_wave
from edge_train.beats.choices import best_offset, f1_by_patient, v_margin
from edge_train.beats.cut import SIMULATED, Beats, require_classes
from edge_train.beats.drawing import Smoothed, by_root, draw, rate_at
from edge_train.beats.nets import CLIPS, WAVE, assemble, expert_net, flat_inputs, shaped, wave_inputs, wave_net
from edge_train.beats.nets import Plan as Plan
from edge_train.beats.nets import load_fit as load_fit
from edge_train.beats.vitaldb import RrBeats
from edge_train.data.mitdb import FOLDS, LABELS, check_split
from edge_train.errors import DataError
from edge_train.measuring.metrics import average_precision
from edge_train.runtime import quiet

Say = Callable[[str], None]


def wave_target(label: Ints) -> Ints:
    """LABELS index to WAVE index: N and S are one here."""
    return np.array([0, 0, 1, 2, 3], np.int64)[label]


def representative(beats: Beats, n: int, seed: int) -> dict[str, Floats]:
    """Inputs that show the converter the range of every tensor: all classes alike, augmented. Flat rows, by name."""
    rng = np.random.default_rng(seed)
    classes = [np.flatnonzero(beats.label == label) for label in np.unique(beats.label)]
    drawn = rng.permutation(np.concatenate([rng.choice(pool, n // len(classes)) for pool in classes]))
    inputs = shaped(augment.vary(flat_inputs(beats.pick(drawn)), rng, augment.Strength()))
    shown = {name: x.reshape(len(x), -1) for name, x in zip(CLIPS, inputs, strict=True)}
    for name, clip in CLIPS.items():
        shown[name][-2], shown[name][-1] = -clip, clip  # so that an input's range is what training clipped to
    return shown


def clear_first(tflite: bytes, shown: dict[str, Floats], looked_at: int = 200, lead: float = 0.8) -> dict[str, Floats]:
    """The same cases, those in front that this file decides clearly: golden vectors are taken from there.

    Where two classes are equally likely, a kernel's one LSB of a logit becomes a dozen of a score, which would tell nothing
    about a machine that computes wrongly.
    """
    from edge_train.reference import Reference

    reference = Reference(tflite)
    cases = list(zip(*(shown[name][:looked_at] for name in CLIPS), strict=True))
    scores = np.sort([reference.invoke(*case) for case in cases], axis=1)
    unclear = scores[:, -1] - scores[:, -2] < lead
    order = np.concatenate([np.argsort(unclear, kind="stable"), np.arange(len(cases), len(shown["beat"]))])
    return {name: x[order] for name, x in shown.items()}


# --- fitting --------------------------------------------------------------------------------------------------------------


def _wave_pools(beats: Beats, target: Ints, plan: Plan) -> list[tuple[Ints, Floats, int]]:
    simulated = beats.copy == SIMULATED
    main = main_lead_of(beats) & ~simulated
    shares = (
        (main, 1 - plan.other_leads - plan.simulated),
        (~main & ~simulated, plan.other_leads),
        (simulated, plan.simulated),
    )
    pools = []
    for which, many in enumerate(plan.per_epoch):
        for source, share in shares:
            pool = np.flatnonzero((target == which) & source)
            if pool.size and share > 0:
                pools.append((pool, by_root(pool, beats.record), round(many * share)))
    return pools


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


def fit_wave(beats: Beats, plan: Plan, seed: int, member: int, say: Say) -> Any:
    """One wave net."""
    tf = quiet()
    tf.keras.utils.set_random_seed(1000 * seed + member)
    rng = np.random.default_rng([seed, member])
    require_classes(beats.label, ("N", "V"), "training beats")
    target = wave_target(beats.label)
    pools = _wave_pools(beats, target, plan)
    model = wave_net(plan, member)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=plan.smoothing)
    model.compile(tf.keras.optimizers.Adam(plan.rate, clipnorm=1.0), loss)
    smoothed = Smoothed()
    for epoch in range(plan.epochs):
        model.optimizer.learning_rate.assign(rate_at(plan.rate, epoch, plan.epochs))
        drawn = draw(pools, rng)
        x = wave_inputs(shaped(augment.vary(flat_inputs(beats.pick(drawn)), rng, augment.Strength())))
        x, y = _mix(x, np.eye(len(WAVE), dtype=np.float32)[target[drawn]], rng, plan.mixing)
        fitted = model.fit(x, y, batch_size=plan.batch, epochs=1, shuffle=False, verbose=0)
        say(f"  wave {member} epoch {epoch + 1:3d}  loss {float(fitted.history['loss'][0]):.4f}")
        smoothed.add(model.get_weights())
    model.set_weights(smoothed.weights)
    return model


def validate_wave(beats: Beats, plan: Plan, seed: int, say: Say, folds: Sequence[Sequence[str]]) -> dict[str, Any]:
    """Every patient of DS1 is asked once by a net that has not seen him: offset and F1 of V."""
    margins, truths, records = [], [], []
    for number, fold in enumerate(folds):
        say(f" fold {number + 1} of {len(folds)}")
        aside = np.isin(beats.record, list(fold))
        check_split(sorted(set(beats.record[~aside & (beats.copy >= 0)])), sorted(fold))
        ask = beats.pick(aside & main_lead_of(beats) & (beats.copy == 0))
        model = fit_wave(beats.pick(~aside), plan, seed, number % plan.members, say)
        margins.append(v_margin(model.predict(wave_inputs(shaped(flat_inputs(ask))), batch_size=4096, verbose=0)))
        truths.append(ask.label == LABELS.index("V"))
        records.append(ask.record)
    margin, truth = np.concatenate(margins), np.concatenate(truths)
    offset, v_f1 = best_offset(margin, truth, np.concatenate(records))
    said, chance = margin + plan.v_offset > 0, truth.sum()
    pooled = 2 * float((said & truth).sum()) / max(1.0, float(said.sum() + chance))
    return {
        "v_best_offset": offset,
        "v_f1_by_patient": v_f1,
        "v_f1_pooled": pooled,
        "v_average_precision": average_precision(margin, truth),
    }


def main_lead_of(beats: Beats) -> NDArray[np.bool_]:
    """Which beats are of MLII: channel 1 in record 114, 0 in the others of DS1."""
    return np.asarray(np.where(beats.record == "114", 1, 0) == beats.lead)


def _answer(expert: Any, rr: Floats) -> Floats:
    """S against N by rhythm alone."""
    logits = expert.predict(np.clip(rr, -CLIPS["rr"], CLIPS["rr"]), batch_size=16384, verbose=0)
    return np.asarray(logits[:, 1] - logits[:, 0], np.float32)


def fit_expert(rr: RrBeats, plan: Plan, seed: int, member: int, say: Say) -> tuple[Any, float]:
    """One RR expert and its average precision (S against N) on every fifth patient, who is kept aside."""
    tf = quiet()
    tf.keras.utils.set_random_seed(2000 + 1000 * seed + member)
    rng = np.random.default_rng([7, seed, member])
    kept = np.isin(rr.patient, np.unique(rr.patient)[::5])
    require_classes(rr.label[~kept], ("N", "S"), "VitalDB")
    features = np.clip(rr.features, -CLIPS["rr"], CLIPS["rr"])
    pools = []
    for which, many in enumerate(plan.expert_per_epoch):
        pool = np.flatnonzero((rr.label == which) & ~kept)
        if pool.size:
            pools.append((pool, by_root(pool, rr.patient), many))
    model = expert_net(plan, member)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=plan.expert_smoothing)
    model.compile(tf.keras.optimizers.Adam(plan.rate, clipnorm=1.0), loss)
    smoothed = Smoothed()
    for epoch in range(plan.expert_epochs):
        model.optimizer.learning_rate.assign(rate_at(plan.rate, epoch, plan.expert_epochs))
        drawn = draw(pools, rng)
        target = np.eye(3, dtype=np.float32)[rr.label[drawn]]
        fitted = model.fit(features[drawn], target, batch_size=plan.expert_batch, epochs=1, shuffle=False, verbose=0)
        smoothed.add(model.get_weights())
        say(f"  expert {member} epoch {epoch + 1:3d}  loss {float(fitted.history['loss'][0]):.4f}")
    model.set_weights(smoothed.weights)
    asked = kept & (rr.label < 2)
    return model, average_precision(_answer(model, rr.features[asked]), rr.label[asked] == LABELS.index("S"))


def choose_premature(experts: Sequence[Any], waves: Sequence[Any], beats: Beats) -> dict[str, float]:
    """Where S begins, on DS1's patients; and how that does on each of them when the others alone choose it."""
    ask = beats.pick((beats.copy == 0) & main_lead_of(beats) & (beats.label < 2))
    margin = np.mean([_answer(expert, ask.rr) for expert in experts], axis=0)
    margin = margin + p_wave.answer(waves, ask.shape, CLIPS["shape"])
    truth = ask.label == LABELS.index("S")
    if not truth.any():
        raise DataError("DS1: no example of class S")
    aside = margin.copy()
    for name in np.unique(ask.record):
        rows = ask.record != name
        if truth[rows].any():
            aside[~rows] += best_offset(margin[rows], truth[rows], ask.record[rows])[0]
    said = aside > 0
    each = f1_by_patient(said, truth, ask.record)
    return {
        "s_offset": best_offset(margin, truth, ask.record)[0],
        "s_f1_by_patient": float(np.mean(each)) if each else 0.0,
        "s_f1_pooled": 2 * float((said & truth).sum()) / max(1.0, float(said.sum() + truth.sum())),
    }


def fit(
    beats: Beats,
    rr: RrBeats,
    plain: p_wave.Unlabelled,
    plan: Plan,
    seed: int,
    out: Path,
    say: Say,
    folds: Sequence[Sequence[str]] = FOLDS,
) -> dict[str, Any]:
    """One seed, from prepared data to a float model in ``out``."""
    experts, precision = zip(*(fit_expert(rr, plan, seed, member, say) for member in range(plan.experts)), strict=True)
    odds = np.asarray(np.mean([_answer(expert, plain.rr) for expert in experts], axis=0), np.float32)
    p_nets = [p_wave.fit(plain, odds, plan, seed, member, say) for member in range(plan.p_nets)]
    about_s = choose_premature(experts, p_nets, beats)
    about_v = validate_wave(beats, plan, seed, say, folds) if plan.validate else {}
    waves = [fit_wave(beats, plan, seed, member, say) for member in range(plan.members)]
    offsets = {"S": about_s["s_offset"], "V": plan.v_offset}
    model = assemble(plan, waves, experts, p_nets, offsets)
    out.mkdir(parents=True, exist_ok=True)
    model.save_weights(out / "model.weights.h5")
    facts = {
        "seed": seed,
        "plan": asdict(plan),
        "offsets": offsets,
        "expert": about_s | {"s_average_precision": [float(one) for one in precision]} | _stand_ins(plain, odds),
        "wave": about_v,
        "validation": about_s["s_f1_by_patient"],
        "weights": int(model.count_params()),
    }
    (out / "fit.json").write_text(json.dumps(facts, indent=1) + "\n")
    return facts


def _stand_ins(plain: p_wave.Unlabelled, odds: Floats) -> dict[str, int]:
    target = p_wave.stand_ins(plain, odds)
    return {
        "p_stand_ins_n": int((target == 0).sum()),
        "p_stand_ins_s": int((target == 1).sum()),
        "p_patients_s": int(np.unique(plain.patient[target == 1]).size),
    }
