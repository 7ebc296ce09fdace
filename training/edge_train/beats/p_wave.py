"""What a beat's P wave says about S, learned from patients whose beats nobody has labelled.

DS1 has seven patients with S: too few to learn it from. Strips and ICU records of some 2,300 others have no labels of their
beats, but where the RR experts are sure, they can stand in for them: a beat that comes much too early, with the usual QRS, in
a rhythm that is otherwise steady, is S; one that comes when it should is N, and so is every beat of a strip that was found
to be sinus rhythm or fibrillation as a whole. The nets see numbers about the P wave alone, no interval, so what they learn
is taken as independent of the rhythm: their log odds are added to the experts' (naive Bayes, weight 1: nothing is fitted).

What is not independent, and is accepted: an early P wave lies on the T wave before it, wherever it comes from.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_agent.signal.usual_beat import SHAPE_FEATURES
from edge_train.arrays import Floats, Ints
from edge_train.beats.cut import ask
from edge_train.beats.drawing import Smoothed, by_root, draw, rate_at
from edge_train.beats.inputs import P_COLUMNS, RR_FEATURES, feeding
from edge_train.beats.nets import CLIPS, Plan, p_net
from edge_train.beats.positions import own_beats
from edge_train.counted import counted
from edge_train.data.mitdb import Record
from edge_train.data.part import WHOLE, thinned, thinned_by
from edge_train.errors import DataError

FILE = "unlabelled.npz"
SINUS, FIBRILLATION, UNKNOWN = "N", "A", "?"
FEWEST_BEATS = 8
LEAST_FINITE = 0.9
"""Share of a record's samples that must be numbers; the others are taken as 0."""
SURE_S, SURE_N = 1.5, -1.5
"""The experts' log odds beyond which they are believed."""
STEADIEST = 0.08
"""Median step of the last half minute, as a part of the mean interval: below it early is not by chance."""


@dataclass(frozen=True, slots=True)
class Unlabelled:
    """Beats where the daemon's own detector sees them."""

    rr: Floats
    shape: Floats
    patient: NDArray[np.str_]
    rhythm: NDArray[np.str_]
    """Of the whole strip, as its reference has it: SINUS, FIBRILLATION or UNKNOWN."""

    def __len__(self) -> int:
        return int(self.patient.size)


def files(shared: Path) -> list[Path]:
    """All that is read, for the digest; refused where it is not there."""
    strips, icu = shared / "cinc2017", shared / "challenge2015"
    found = [path for folder in (strips, icu) for path in folder.glob("*.hea")]
    for folder in (strips, icu):
        if not any(path.parent == folder for path in found):
            raise DataError(f"{folder}: no records there; they are needed (see {shared / 'README.md'})")
    return [path for each in found for path in each.parent.glob(f"{each.stem}.*")] + [strips / "REFERENCE.csv"]


def read(shared: Path, part: float = WHOLE) -> Unlabelled:
    """cinc2017 without its noisy strips, and challenge2015's lead II (the first where there is none)."""
    parts = [made for record in _records(shared, part) if (made := _beats(*record)) is not None]
    if not parts:
        raise DataError(f"{shared}: cinc2017 and challenge2015 hold no beats")
    return Unlabelled(*(np.concatenate([getattr(one, each.name) for one in parts]) for each in fields(Unlabelled)))


def _records(shared: Path, part: float) -> Iterator[tuple[Floats, float, str, str]]:
    import wfdb

    def signals(path: Path) -> Any:
        try:
            return wfdb.rdrecord(str(path.with_suffix("")))
        except (OSError, ValueError) as error:
            raise DataError(f"{path}: record cannot be read ({error}); is the download complete?") from None

    strips, icu = shared / "cinc2017", shared / "challenge2015"
    with (strips / "REFERENCE.csv").open(newline="") as handle:
        wanted = [
            (name, kind) for name, kind in csv.reader(handle) if kind != "~" and (strips / f"{name}.hea").is_file()
        ]
    for name, kind in counted("strips without labels", thinned_by(wanted, part, lambda one: one[1])):
        record = signals(strips / f"{name}.hea")
        rhythm = kind if kind in (SINUS, FIBRILLATION) else UNKNOWN
        yield record.p_signal[:, 0], float(record.fs), f"cinc{name}", rhythm
    for path in counted("records without labels", thinned(sorted(icu.glob("*.hea")), part)):
        record = signals(path)
        lead = record.sig_name.index("II") if "II" in record.sig_name else 0
        yield record.p_signal[:, lead], float(record.fs), f"icu{path.stem}", UNKNOWN


def _beats(signal: Floats, fs: float, patient: str, rhythm: str) -> Unlabelled | None:
    if np.isfinite(signal).mean() < LEAST_FINITE:
        return None
    one = np.ascontiguousarray(np.nan_to_num(signal, nan=0.0)[None], np.float32)
    none = np.zeros(0, np.int64)
    beats = own_beats(Record(patient, fs, one, ("ecg",), none, none), 0)
    if beats.size < FEWEST_BEATS:
        return None
    asked = ask(one[0], fs, beats.tolist(), feeding())
    _, rr, shape, _ = asked.inputs
    n = len(asked.sample)
    return Unlabelled(rr, shape, np.array([patient] * n, "U16"), np.array([rhythm] * n, "U1"))


def store(beats: Unlabelled, folder: Path) -> None:
    np.savez(folder / FILE, **{each.name: getattr(beats, each.name) for each in fields(Unlabelled)})


def load(folder: Path) -> Unlabelled:
    try:
        with np.load(folder / FILE) as archive:
            return Unlabelled(*(archive[each.name] for each in fields(Unlabelled)))
    except (OSError, KeyError) as error:
        raise DataError(f"{folder}: no prepared data ({error}); run: edge-train data") from None


def stand_ins(beats: Unlabelled, odds: Floats) -> Ints:
    """For each beat 1 for S, 0 for N, -1 for neither: from the experts' log odds, the strip's rhythm and the QRS."""

    def shape(name: str) -> Floats:
        return beats.shape[:, SHAPE_FEATURES.index(name)]

    known = beats.shape.any(axis=1) & beats.rr.any(axis=1)
    usual = (shape("qrs_correlation") > 0.9) & (shape("qrs_difference") < 0.5)
    usual &= (np.abs(shape("qrs_size_log")) < 0.3) & (np.abs(shape("qrs_slope_log")) < 0.35)
    steady = beats.rr[:, RR_FEATURES.index("rr_step_30s")] < STEADIEST
    told = beats.rhythm != UNKNOWN
    target = np.full(len(beats), -1, np.int64)
    target[known & (shape("qrs_correlation") > 0.8) & (told | (odds < SURE_N))] = 0
    target[known & usual & steady & ~told & (odds > SURE_S)] = 1
    return target


def answer(nets: Sequence[Any], shape: Floats, clip: float) -> Floats:
    """Log odds of S against N by the P wave alone, the nets' mean."""
    x = np.clip(shape[:, P_COLUMNS], -clip, clip)
    each = [net.predict(x, batch_size=16384, verbose=0) for net in nets]
    logits = np.mean(each, axis=0) if each else np.zeros((len(x), 2))
    return np.asarray(logits[:, 1] - logits[:, 0], np.float32)


def fit(beats: Unlabelled, odds: Floats, plan: Plan, seed: int, member: int, say: Callable[[str], None]) -> Any:
    """One P net. S and N are drawn alike, patients by the root of how many of them they have."""
    from edge_train.runtime import quiet

    target = stand_ins(beats, odds)
    if not ((target == 0).any() and (target == 1).any()):
        raise DataError("no beat without a label that the RR experts are sure of: S or N is missing")
    tf = quiet()
    tf.keras.utils.set_random_seed(5000 + 1000 * seed + member)
    rng = np.random.default_rng([11, seed, member])
    x = np.clip(beats.shape[:, P_COLUMNS], -CLIPS["shape"], CLIPS["shape"])
    model = p_net(plan, member)
    loss = tf.keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=plan.p_smoothing)
    model.compile(tf.keras.optimizers.Adam(plan.p_rate, clipnorm=1.0), loss)
    pools = []
    for which, many in enumerate(plan.p_per_epoch):
        pool = np.flatnonzero(target == which)
        pools.append((pool, by_root(pool, beats.patient), many))
    smoothed = Smoothed()
    for epoch in range(plan.p_epochs):
        model.optimizer.learning_rate.assign(rate_at(plan.p_rate, epoch, plan.p_epochs))
        drawn = draw(pools, rng)
        y = np.eye(2, dtype=np.float32)[target[drawn]]
        fitted = model.fit(x[drawn], y, batch_size=plan.p_batch, epochs=1, shuffle=False, verbose=0)
        smoothed.add(model.get_weights())
        say(f"  P {member} epoch {epoch + 1:3d}  loss {float(fitted.history['loss'][0]):.4f}")
    model.set_weights(smoothed.weights)
    return model
