"""The scorer against cases made by hand, each with the count that EC57 as bxb applies it gives."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import ec57
from benchmarks.ec57 import Annotations, Tally, beats, class_result, from_wfdb, score

FS = 360.0
WINDOW = 54
MINUTE_5 = 108_000
END = 650_000


def counts(
    reference: list[int] | Annotations, test: list[int] | Annotations, start_s: float = 0.0, end: int | None = END
) -> tuple[int, int, int]:
    """Paired, missed, extra."""
    r = reference if isinstance(reference, Annotations) else beats(reference)
    t = test if isinstance(test, Annotations) else beats(test)
    tally = score(r, t, FS, end=end, start_s=start_s).tally
    return tally.tp, tally.fn, tally.fp


@pytest.mark.parametrize("side", [-1, 1])
def test_match_window_includes_150_ms_and_not_a_sample_more(side: int) -> None:
    assert counts([1000], [1000 + side * WINDOW]) == (1, 0, 0)
    assert counts([1000], [1000 + side * (WINDOW + 1)]) == (0, 1, 1)


@pytest.mark.parametrize(("fs", "window"), [(360.0, 54), (250.0, 38), (128.0, 19), (1000.0, 150)])
def test_match_window_is_rounded_half_up_at_every_rate(fs: float, window: int) -> None:
    for offset, paired in ((window, 1), (window + 1, 0)):
        assert score(beats([5000]), beats([5000 + offset]), fs, end=9000, start_s=0.0).tally.tp == paired


@pytest.mark.parametrize(
    ("test", "partner", "spare"),
    [([990, 1020], 990, 1020), ([980, 1010], 1010, 980), ([960, 1030], 1030, 960), ([1000, 1001], 1000, 1001)],
)
def test_of_two_detections_for_one_beat_the_nearer_is_paired_and_the_other_extra(
    test: list[int], partner: int, spare: int
) -> None:
    reference, found = beats([1000]), beats(test)
    s = score(reference, found, FS, end=END, start_s=0.0)
    assert found.samples[s.paired_test].tolist() == [partner]
    assert found.samples[s.extra].tolist() == [spare]
    assert s.tally == Tally(1, 0, 1)


def test_of_two_detections_equally_near_the_later_is_paired() -> None:
    s = score(beats([1000]), beats([970, 1030]), FS, end=END, start_s=0.0)
    assert s.offsets.tolist() == [30]


@pytest.mark.parametrize(("test", "partner"), [(1020, 1000), (1040, 1060), (1030, 1060)])
def test_one_detection_between_two_beats_counts_for_the_nearer(test: int, partner: int) -> None:
    reference = beats([1000, 1060])
    s = score(reference, beats([test]), FS, end=END, start_s=0.0)
    assert reference.samples[s.paired_reference].tolist() == [partner]
    assert s.tally == Tally(1, 1, 0)


def test_a_beat_whose_rival_has_a_better_partner_keeps_its_own() -> None:
    """The case for which bxb was changed in 2002 (match window 37 samples)."""
    s = score(beats([96, 160]), beats([128, 185]), 247.0, end=1000, start_s=0.0)
    assert ec57.to_samples(ec57.WINDOW_S, 247.0) == 37
    assert s.tally == Tally(2, 0, 0)
    mirrored = score(beats([128, 185]), beats([96, 160]), 247.0, end=1000, start_s=0.0)
    assert mirrored.tally == Tally(2, 0, 0)


def with_vf(*spans: tuple[int, int], at: list[int]) -> Annotations:
    return Annotations(np.asarray(at, np.int64), ("N",) * len(at), vf=spans)


def test_extra_beats_in_reference_fibrillation_are_not_counted_ends_included() -> None:
    reference = with_vf((2000, 3000), at=[1000, 4000])
    assert counts(reference, [1000, 1999, 4000]) == (2, 0, 1)
    assert counts(reference, [1000, 2000, 2500, 3000, 4000]) == (2, 0, 0)
    assert counts(reference, [1000, 3001, 4000]) == (2, 0, 1)
    assert score(reference, beats([2500]), FS, end=END, start_s=0.0).excused.tolist() == [0]


def test_every_episode_is_remembered() -> None:
    reference = with_vf((2000, 2100), (3000, 3100), (4000, 4100), at=[1000, 5000])
    assert counts(reference, [1000, 2050, 3050, 4050, 5000]) == (2, 0, 0)


def test_a_beat_in_fibrillation_may_still_be_the_partner_of_one_outside() -> None:
    assert counts(with_vf((2000, 3000), at=[1990]), [2010]) == (1, 0, 0)


def test_beats_and_marks_within_fibrillation_are_read_over() -> None:
    a = from_wfdb([100, 200, 250, 300, 400, 500], ["N", "[", "V", "~", "]", "N"], [0, 0, 0, -1, 0, 0], fs=FS)
    assert a.samples.tolist() == [100, 500]
    assert a.vf == ((200, 400),)
    assert a.shutdown == ()


def test_fibrillation_without_an_end_lasts() -> None:
    a = from_wfdb([100, 200, 300], ["N", "[", "V"], fs=FS)
    assert counts(a, [100, 5000, 600_000]) == (1, 0, 0)


def test_beats_lost_in_a_shutdown_count_and_are_told_apart() -> None:
    shut = from_wfdb([100, 1000, 2000, 3000], ["N", "~", "~", "N"], [0, -1, 0, 0], fs=FS)
    assert shut.shutdown == ((1000, 2000),)
    missed = score(beats([100, 999, 1000, 2000, 2001, 3000]), shut, FS, end=END, start_s=0.0)
    assert missed.tally == Tally(2, 4, 0, fn_shutdown=2)
    assert missed.confusion == {("N", "N"): 2, ("N", "X"): 2, ("N", "O"): 2}
    extra = score(shut, beats([100, 999, 1000, 2000, 2001, 3000]), FS, end=END, start_s=0.0)
    assert extra.tally == Tally(2, 0, 4, fp_shutdown=2)


def test_one_lone_mark_is_a_shutdown_from_the_beat_before_to_the_mark_after() -> None:
    a = from_wfdb([100, 500, 1000], ["N", "~", "N"], [0, 0x30, 0], fs=FS)
    assert a.shutdown == ((100 + WINDOW, 1000 - WINDOW),)
    assert from_wfdb([100, 500], ["N", "~"], [0, 0x30], fs=FS).shutdown == ((500, ec57.NEVER),)
    assert from_wfdb([100, 500, 900], ["N", "~", "~"], [0, 0x10, 0], fs=FS).shutdown == ()


def test_learning_period_is_not_scored() -> None:
    reference = [MINUTE_5 - 400, MINUTE_5, MINUTE_5 + 400]
    assert counts(reference, [], start_s=300.0) == (0, 2, 0)
    assert counts(reference, reference, start_s=300.0) == (2, 0, 0)
    assert counts(reference, [50, 90_000, *reference], start_s=300.0) == (2, 0, 0)
    assert counts(reference, reference) == (3, 0, 0)


def test_detection_just_before_the_boundary_is_paired_with_the_beat_just_after() -> None:
    assert counts([MINUTE_5 + 5, MINUTE_5 + 400], [MINUTE_5 - 5, MINUTE_5 + 400], start_s=300.0) == (2, 0, 0)
    assert counts([MINUTE_5 + 5], [MINUTE_5 + 5 - WINDOW], start_s=300.0) == (1, 0, 0)
    assert counts([MINUTE_5 + 5], [MINUTE_5 + 5 - WINDOW - 1], start_s=300.0) == (0, 1, 0)
    # the one after is nearer: it is the partner, and the one before was in the learning period
    assert counts([MINUTE_5 + 5], [MINUTE_5 - 5, MINUTE_5 + 6], start_s=300.0) == (1, 0, 0)


def test_detection_just_after_the_boundary_of_a_beat_just_before_is_not_extra() -> None:
    reference = [MINUTE_5 - 5, MINUTE_5 + 400]
    assert counts(reference, [MINUTE_5 + 5, MINUTE_5 + 400], start_s=300.0) == (1, 0, 0)
    assert counts(reference, [MINUTE_5 + WINDOW, MINUTE_5 + 400], start_s=300.0) == (1, 0, 0)
    assert counts(reference, [MINUTE_5 + WINDOW + 1, MINUTE_5 + 400], start_s=300.0) == (1, 0, 1)
    # within the window of the boundary, but nearer to the first scored beat than any other: it is that beat's
    assert counts([MINUTE_5 + 60], [MINUTE_5 + 50, MINUTE_5 + 900], start_s=300.0) == (1, 0, 1)


def test_at_the_end_of_the_record() -> None:
    assert counts([END - 10], [END - 5]) == (1, 0, 0)
    assert counts([END - 10], [END + 20]) == (1, 0, 0), "a beat reported after the end is paired with one before it"
    assert counts([END - 10], [END - 10, END + 300]) == (1, 0, 0), "what is said after the end is not scored"
    assert counts([END - 500, END + 1], [END - 500]) == (1, 0, 0), "nor is a reference beat there"
    assert counts([END - 500, END], [END - 500]) == (1, 1, 0), "the last sample's index is within"
    assert counts([END - 500], [END - 500, END]) == (1, 0, 1)


def test_without_a_length_the_last_reference_beat_is_the_end() -> None:
    assert counts([1000, 2000], [1000, 2000, 3000], end=None) == (2, 0, 0)
    assert counts([1000, 2000], [1000, 1500, 2000], end=None) == (2, 0, 1)


def test_empty_inputs() -> None:
    assert counts([], []) == (0, 0, 0)
    assert counts([1000], []) == (0, 1, 0)
    assert counts([], [1000]) == (0, 0, 1)
    assert counts([], [], start_s=300.0, end=None) == (0, 0, 0)
    empty = Tally()
    assert all(math.isnan(v) for v in (empty.se, empty.ppv, empty.f1, empty.der))


def test_a_record_shorter_than_the_learning_period_is_refused() -> None:
    with pytest.raises(ValueError, match="before the scored period"):
        score(beats([10]), beats([10]), FS, end=1000)


def test_statistics() -> None:
    t = Tally(tp=90, fn=10, fp=5)
    assert (t.se, t.ppv, t.der) == (0.9, 90 / 95, 0.15)
    assert t.f1 == pytest.approx(2 * t.se * t.ppv / (t.se + t.ppv))
    assert t.reference == 100
    assert sum([t, t], Tally()) == Tally(180, 20, 10)


def test_classes_of_beats_with_bxbs_allowances() -> None:
    reference = beats([1000 * k for k in range(1, 9)], list("NVVSFQNS"))
    test = beats([1000, 2000, 3000, 4000, 5000, 6000, 7500], list("VVNSVVV"))
    s = score(reference, test, FS, end=9000, start_s=0.0)
    assert s.confusion == {
        ("N", "V"): 1,
        ("V", "V"): 1,
        ("V", "N"): 1,
        ("S", "S"): 1,
        ("F", "V"): 1,
        ("Q", "V"): 1,
        ("N", "O"): 1,
        ("S", "O"): 1,
        ("O", "V"): 1,
    }
    veb = class_result(s.confusion, "V")
    assert (veb.tp, veb.fn, veb.fp) == (1, 1, 2), "F and Q called V are forgiven, N and an extra beat are not"
    sveb = class_result(s.confusion, "S")
    assert (sveb.tp, sveb.fn, sveb.fp) == (1, 1, 0)
    assert ec57.merge([s.confusion, s.confusion])["V", "V"] == 2


def test_codes_of_beats() -> None:
    codes = list("NLRBejnAaJSVErF/fQ?")
    a = from_wfdb(range(100, 100 + len(codes)), codes, fs=FS)
    assert "".join(a.labels) == "NNNNNNNSSSSVVVFQQQQ"
    assert "".join(from_wfdb([1, 2, 3], list("ejn"), fs=FS, classes=ec57.BXB).labels) == "SSS"
    others = list('+|~x!"[]')
    assert from_wfdb(range(len(others)), others, fs=FS).samples.size == 0


def test_distribution() -> None:
    d = ec57.distribution(range(101))
    assert (d.n, d.mean, d.p50, d.p95, d.p99, d.largest) == (101, 50.0, 50.0, 95.0, 99.0, 100.0)
    assert ec57.distribution([]).n == 0


times = st.lists(st.integers(1, 6000), max_size=25, unique=True)


@given(times, times, st.randoms(use_true_random=False))
def test_order_of_the_input_does_not_matter(reference: list[int], test: list[int], random: object) -> None:
    mixed_r, mixed_t = list(reversed(reference)), list(test)
    random.shuffle(mixed_t)  # type: ignore[attr-defined]
    assert counts(mixed_r, mixed_t) == counts(sorted(reference), sorted(test))


@given(times, times, st.integers(0, 400_000))
def test_shift_in_time_does_not_matter(reference: list[int], test: list[int], by: int) -> None:
    late = counts([r + by for r in reference], [t + by for t in test], end=6000 + by)
    assert late == counts(reference, test, end=6000)


@given(times, times)
def test_exchanging_the_annotators_exchanges_missed_and_extra(reference: list[int], test: list[int]) -> None:
    tp, fn, fp = counts(reference, test)
    assert counts(test, reference) == (tp, fp, fn)
    forth, back = Tally(tp, fn, fp), Tally(tp, fp, fn)
    assert forth.f1 == back.f1 or math.isnan(forth.f1)
    assert forth.se == back.ppv or math.isnan(forth.se)


@given(times, times)
def test_every_beat_is_paired_missed_or_extra_once(reference: list[int], test: list[int]) -> None:
    s = score(beats(reference), beats(test), FS, end=END, start_s=0.0)
    assert sorted([*s.paired_reference, *s.missed]) == list(range(len(reference)))
    assert sorted([*s.paired_test, *s.extra]) == list(range(len(test)))
    assert np.all(np.abs(s.offsets) <= WINDOW)
    assert sum(s.confusion.values()) == s.tally.tp + s.tally.fn + s.tally.fp


@given(times, times)
def test_never_more_pairs_than_any_matching_could_have(reference: list[int], test: list[int]) -> None:
    """Walking in time pairs as many as possible without regard to nearness; the nearest-partner rules pair fewer."""
    most, free = 0, sorted(test)
    for r in sorted(reference):
        while free and free[0] < r - WINDOW:
            free.pop(0)
        if free and free[0] <= r + WINDOW:
            free.pop(0)
            most += 1
    assert counts(reference, test)[0] <= most


@given(st.lists(st.integers(0, 1), min_size=1, max_size=12), st.lists(st.integers(-60, 60), min_size=12, max_size=12))
def test_beats_far_apart_are_judged_one_by_one(present: list[int], offsets: list[int]) -> None:
    reference = [1000 * (k + 1) for k in range(len(present))]
    test = [r + o for r, o, p in zip(reference, offsets, present, strict=False) if p]
    near = sum(abs(o) <= WINDOW for o, p in zip(offsets, present, strict=False) if p)
    assert counts(reference, test) == (near, len(reference) - near, len(test) - near)


def test_totals_of_the_mit_bih_arrhythmia_database(mitdb: Path) -> None:
    wfdb = pytest.importorskip("wfdb")
    whole, scored = Tally(), Tally()
    episodes = []
    for path in sorted(mitdb.glob("*.atr")):
        marks = wfdb.rdann(str(path.with_suffix("")), "atr")
        a = from_wfdb(marks.sample, marks.symbol, marks.subtype, fs=FS)
        whole += score(a, a, FS, end=END, start_s=0.0).tally
        scored += score(a, a, FS, end=END).tally
        episodes += list(itertools.product([path.stem], a.vf))
    assert whole == Tally(tp=109_494)
    assert scored == Tally(tp=91_285)
    assert {name for name, _ in episodes} == {"207"}
    assert len(episodes) == 6


def test_a_published_detectors_errors_are_counted_as_bxb_counts_them(mitdb: Path) -> None:
    """sleepecg 0.6 on all 48 records: the official bxb gives F1 99.259 and 1.481 % errors from minute 5, 99.165 whole."""
    wfdb = pytest.importorskip("wfdb")
    sleepecg = pytest.importorskip("sleepecg")
    whole, scored = Tally(), Tally()
    for path in sorted(mitdb.glob("*.atr")):
        marks = wfdb.rdann(str(path.with_suffix("")), "atr")
        a = from_wfdb(marks.sample, marks.symbol, marks.subtype, fs=FS)
        x = wfdb.rdrecord(str(path.with_suffix("")), channels=[0]).p_signal[:, 0]
        found = beats(sleepecg.detect_heartbeats(np.ascontiguousarray(x), FS))
        whole += score(a, found, FS, end=len(x), start_s=0.0).tally
        scored += score(a, found, FS, end=len(x)).tally
    assert (round(100 * scored.f1, 3), round(100 * scored.der, 3)) == (99.259, 1.481)
    assert round(100 * whole.f1, 3) == 99.165
