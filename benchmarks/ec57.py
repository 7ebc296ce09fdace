"""Beat-by-beat comparison of two annotators after ANSI/AAMI EC57, decision for decision as WFDB's ``bxb`` makes it.

The rules are those of ANSI/AAMI EC57:1998 (R2020) as George Moody's ``bxb`` (revision of 27 April 2020) applies them;
this is an independent writing of them over arrays:

* both lists are walked in time; the earlier of the two current beats is paired with the other when that lies within
  150 ms and is not a better partner for the next one, else it is counted as missed (reference) or extra (test);
* the first 5 minutes are for learning. At the boundary, a test beat just before it may still be paired with the first
  scored reference beat, and a test beat just after it that belongs to an unscored reference beat is passed over;
* extra test beats within reference ventricular fibrillation or flutter (``[`` .. ``]``, ends included) are not counted,
  and reference beats within it are not expected;
* beats lost in a shutdown (``~`` with both signals unreadable) are counted as any other, and told apart;
* whatever either annotator says after the record's last sample is not scored, save as a partner for a beat before it.

Departures from ``bxb``: any number of episodes is remembered (it knows the last two); an episode without an end lasts
to the end; with no learning period a test beat at sample 0 is a beat like others (``bxb -f 0`` drops it).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

Indices = NDArray[np.int64]
Span = tuple[int, int]
Confusion = Mapping[tuple[str, str], int]

WINDOW_S = 0.150
LEARNING_S = 300.0
NEVER = 1 << 62
"""Later than any annotation."""

AAMI: Mapping[str, str] = {
    **dict.fromkeys("NLRBejn", "N"),
    **dict.fromkeys("AaJS", "S"),
    **dict.fromkeys("VEr", "V"),
    "F": "F",
    **dict.fromkeys("/fQ?", "Q"),
}
"""WFDB beat code to class, with the escape beats e, j, n in N as the literature on mitdb has it (de Chazal 2004)."""

BXB: Mapping[str, str] = {**AAMI, **dict.fromkeys("ejn", "S")}
"""The same as ``bxb -L`` has it: escape beats are S. Detection is the same under either."""


@dataclass(frozen=True, slots=True)
class Annotations:
    """One annotator's beats, in order, with the stretches that are treated apart."""

    samples: Indices
    labels: tuple[str, ...]
    vf: tuple[Span, ...] = ()
    """Ventricular fibrillation or flutter, both ends included."""
    shutdown: tuple[Span, ...] = ()
    """Neither signal readable, both ends included."""


def beats(samples: ArrayLike, labels: Sequence[str] | None = None) -> Annotations:
    """A detector's output, in any order; without labels every beat is N."""
    at = np.asarray(samples).astype(np.int64).reshape(-1)
    if labels is None:
        return Annotations(np.sort(at), ("N",) * at.size)
    if len(labels) != at.size:
        raise ValueError(f"{at.size} beats but {len(labels)} labels")
    order = np.argsort(at, kind="stable")
    return Annotations(at[order], tuple(labels[i] for i in order))


def from_wfdb(
    samples: Sequence[int] | Indices,
    symbols: Sequence[str],
    subtypes: Sequence[int] | Indices | None = None,
    *,
    fs: float,
    classes: Mapping[str, str] = AAMI,
) -> Annotations:
    """Beats, VF and shutdown from the fields of a WFDB annotation file, which is in time order."""
    window = to_samples(WINDOW_S, fs)
    n = len(symbols)
    kinds = [0] * n if subtypes is None else [int(s) for s in subtypes]
    times = [int(s) for s in samples]
    at: list[int] = []
    labels: list[str] = []
    vf: list[Span] = []
    shutdown: list[Span] = []
    i = 0
    while i < n:
        symbol = symbols[i]
        if symbol in classes:
            at.append(times[i])
            labels.append(classes[symbol])
        elif symbol == "[":
            end = next((k for k in range(i + 1, n) if symbols[k] == "]"), n)
            vf.append((times[i], times[end] if end < n else NEVER))
            i = end  # whatever is annotated within the episode is not a beat to be found
        elif symbol == "~" and _unreadable(kinds[i]):
            if i + 1 == n:
                shutdown.append((times[i], NEVER))
            elif symbols[i + 1] == "~" and not _unreadable(kinds[i + 1]):
                shutdown.append((times[i], times[i + 1]))
                i += 1
            else:  # the AHA database has one mark amid the shutdown; it reaches from the beat before to the next mark
                before = max(at[-1] if at else 0, vf[-1][1] if vf else 0)
                off = times[i + 1] - window
                shutdown.append((min(before + window, off), off))
        i += 1
    return Annotations(np.asarray(at, np.int64), tuple(labels), tuple(vf), tuple(shutdown))


def _unreadable(subtype: int) -> bool:
    return subtype & 0x30 == 0x30


def to_samples(seconds: float, fs: float) -> int:
    """Rounded half up, as WFDB's ``strtim`` does."""
    return math.floor(seconds * fs + 0.5)


@dataclass(frozen=True, slots=True)
class Tally:
    """Counts that add up over records (``sum(tallies, Tally())`` is the gross result)."""

    tp: int = 0
    fn: int = 0
    fp: int = 0
    fn_shutdown: int = 0
    """Of the missed, those in a shutdown of the test annotator."""
    fp_shutdown: int = 0
    """Of the extra, those in a shutdown of the reference."""

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.tp + other.tp,
            self.fn + other.fn,
            self.fp + other.fp,
            self.fn_shutdown + other.fn_shutdown,
            self.fp_shutdown + other.fp_shutdown,
        )

    @property
    def reference(self) -> int:
        """Reference beats scored."""
        return self.tp + self.fn

    @property
    def se(self) -> float:
        """Sensitivity, 0 to 1; NaN where nothing could be found."""
        return ratio(self.tp, self.tp + self.fn)

    @property
    def ppv(self) -> float:
        """Positive predictivity (P+)."""
        return ratio(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> float:
        return ratio(2 * self.tp, 2 * self.tp + self.fn + self.fp)

    @property
    def der(self) -> float:
        """Detection error rate: missed and extra over the reference beats; it may exceed 1."""
        return ratio(self.fn + self.fp, self.tp + self.fn)


@dataclass(frozen=True, slots=True)
class Score:
    """What was paired with what: indices into the two ``samples``, so that anything else can be computed from it."""

    tally: Tally
    confusion: Confusion
    """(reference class, test class) to count; O is an unpaired beat, X an unpaired beat in shutdown."""
    paired_reference: Indices
    paired_test: Indices
    missed: Indices
    extra: Indices
    excused: Indices = field(repr=False)
    """Unpaired test beats within reference VF: not counted."""
    offsets: Indices = field(repr=False)
    """Test minus reference sample, of each pair."""


def score(
    reference: Annotations,
    test: Annotations,
    fs: float,
    *,
    end: int | None = None,
    start_s: float = LEARNING_S,
    window_s: float = WINDOW_S,
) -> Score:
    """Compare ``test`` with ``reference`` from ``start_s`` to sample ``end``: the record's length, or None for the last
    reference beat.

    >>> score(beats([1000, 2000]), beats([1010, 2500]), 360.0, start_s=0.0).tally
    Tally(tp=1, fn=1, fp=0, fn_shutdown=0, fp_shutdown=0)
    """
    start = to_samples(start_s, fs)
    if end is not None and end < start:
        raise ValueError(f"the record ends at sample {end}, before the scored period begins ({start})")
    pairs, missed, unpaired = _walk(reference.samples, test.samples, start, end, to_samples(window_s, fs))
    excused = [j for j in unpaired if _within(int(test.samples[j]), reference.vf)]
    extra = [j for j in unpaired if not _within(int(test.samples[j]), reference.vf)]

    confusion: Counter[tuple[str, str]] = Counter()
    for i, j in pairs:
        confusion[reference.labels[i], test.labels[j]] += 1
    for i in missed:
        confusion[reference.labels[i], "X" if _within(int(reference.samples[i]), test.shutdown) else "O"] += 1
    for j in extra:
        confusion["X" if _within(int(test.samples[j]), reference.shutdown) else "O", test.labels[j]] += 1
    tally = Tally(
        len(pairs),
        len(missed),
        len(extra),
        sum(n for (_, t), n in confusion.items() if t == "X"),
        sum(n for (r, _), n in confusion.items() if r == "X"),
    )
    i_paired, j_paired = (_indices(k) for k in zip(*pairs, strict=True)) if pairs else (_indices(()), _indices(()))
    return Score(
        tally,
        dict(confusion),
        i_paired,
        j_paired,
        _indices(missed),
        _indices(extra),
        _indices(excused),
        test.samples[j_paired] - reference.samples[i_paired],
    )


def _walk(
    reference: Indices, test: Indices, start: int, end: int | None, window: int
) -> tuple[list[tuple[int, int]], list[int], list[int]]:
    """Pairs, missed reference beats and unpaired test beats, by index."""
    R = [*map(int, reference), NEVER, NEVER]  # two, so that the one after the current one can always be asked for
    T = [*map(int, test), NEVER, NEVER]
    n_R = len(reference)
    i, j = bisect_left(R, start), bisect_left(T, start)
    pairs: list[tuple[int, int]] = []
    missed: list[int] = []
    unpaired: list[int] = []

    if start > 0:  # whose is a test beat that lies close to the boundary?
        if j > 0 and R[i] - T[j - 1] <= window and R[i] - T[j - 1] < abs(R[i] - T[j]):
            pairs.append((i, j - 1))
            i += 1
        elif T[j] - start <= window and abs(R[i] - T[j + 1]) < abs(R[i] - T[j]):
            j += 1

    while (R[i] <= end or T[j] <= end) if end is not None else i < n_R:
        r, t = R[i], T[j]
        r_next, t_next = R[i + 1], T[j + 1]
        if t < r:
            rival = abs(r - t_next)
            if r - t <= window and (r - t < rival or abs(r_next - t_next) < rival):
                pairs.append((i, j))
                i, j = i + 1, j + 1
            else:
                unpaired.append(j)
                j += 1
        else:
            rival = abs(t - r_next)
            if t - r <= window and (t - r < rival or abs(t_next - r_next) < rival):
                pairs.append((i, j))
                i, j = i + 1, j + 1
            else:
                missed.append(i)
                i += 1
    return pairs, missed, unpaired


def _within(sample: int, spans: Iterable[Span]) -> bool:
    return any(on <= sample <= off for on, off in spans)


def _indices(values: Iterable[int]) -> Indices:
    return np.fromiter(values, np.int64)


@dataclass(frozen=True, slots=True)
class ClassResult:
    """How well one beat class was told from the others."""

    tp: int
    fn: int
    fp: int

    @property
    def se(self) -> float:
        return ratio(self.tp, self.tp + self.fn)

    @property
    def ppv(self) -> float:
        return ratio(self.tp, self.tp + self.fp)

    @property
    def f1(self) -> float:
        return ratio(2 * self.tp, 2 * self.tp + self.fn + self.fp)


def merge(confusions: Iterable[Confusion]) -> Confusion:
    """Gross confusion over records."""
    total: Counter[tuple[str, str]] = Counter()
    for confusion in confusions:
        total.update(confusion)
    return dict(total)


def class_result(confusion: Confusion, label: str) -> ClassResult:
    """Sensitivity and P+ of a class, with EC57's allowances.

    Calling a fusion or unclassifiable beat V is no false VEB, nor is calling an unclassifiable beat S a false SVEB.
    Beats that were not detected count against the class; extra detections labelled with it count against it too.
    """
    forgiven = {"V": {"F", "Q"}, "S": {"Q"}}.get(label, set())
    tp = confusion.get((label, label), 0)
    fn = sum(n for (r, t), n in confusion.items() if r == label != t)
    fp = sum(n for (r, t), n in confusion.items() if t == label != r and r not in forgiven)
    return ClassResult(tp, fn, fp)


def ratio(part: float, whole: float) -> float:
    return part / whole if whole else math.nan


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of delays or offsets, in seconds."""

    n: int
    mean: float
    sd: float
    p50: float
    p95: float
    p99: float
    largest: float


def distribution(values: ArrayLike) -> Distribution:
    x = np.asarray(values, np.float64).reshape(-1)
    if x.size == 0:
        return Distribution(0, *(math.nan,) * 6)
    p50, p95, p99 = (float(v) for v in np.percentile(x, (50, 95, 99)))
    return Distribution(int(x.size), float(x.mean()), float(x.std()), p50, p95, p99, float(x.max()))
