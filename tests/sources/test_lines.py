"""Lines of text from a board: whatever the cuts, the same samples; whatever the junk, no sample of it."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.journey import Samples
from edge_agent.sources.lines import LONGEST_LINE, Counters, Decoder, Format

TWO = Format(("II", "ABP"))
Decoded = tuple[Samples, list[frozenset[str]], Counters]


def decode(data: bytes, layout: Format = TWO, cuts: list[int] | None = None) -> Decoded:
    """All samples of these bytes, handed over in pieces that end at the cuts."""
    decoder = Decoder(layout)
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts or []), len(data)]
    parts, off = [], []
    for first, end in itertools.pairwise(edges):
        values, lead_off = decoder.decode(data[first:end])
        assert values.dtype == np.float32
        assert values.shape[1] == len(lead_off)
        parts.append(values)
        off += lead_off
    return np.concatenate(parts, axis=1), off, decoder.counters


def samples_of(data: bytes, layout: Format = TWO) -> list[list[float]]:
    """What comes of these bytes after one whole line to begin with."""
    values, _, _ = decode(b"0,0\n" + data, layout)
    rows: list[list[float]] = values.T.tolist()
    return rows


good_line = st.tuples(st.integers(-9999, 9999), st.floats(-1e5, 1e5, width=32)).map(
    lambda pair: f"{pair[0]},{pair[1]!r}"
)
junk = st.one_of(
    st.binary(max_size=12).map(lambda data: data.replace(b"\n", b"")),
    st.sampled_from(
        [b"", b"!", b"!,3", b"1,2,3", b"1", b"hello", b"1,nan", b"1,inf", b"1e99,2", b"1,2\x00", b"\xff\xfe,1"]
    ),
    st.integers(LONGEST_LINE - 3, LONGEST_LINE + 40).map(lambda n: b"1,2".ljust(n)),
    st.integers(0, 4 * LONGEST_LINE).map(lambda n: b"7" * n),
)
stream = st.lists(good_line.map(str.encode) | junk, max_size=12).flatmap(
    lambda lines: st.sampled_from([b"\n", b"\r\n"]).map(lambda end: end.join(lines) + end)
)


@settings(max_examples=400, deadline=None)
@given(data=stream, cuts=st.lists(st.integers(0, 6000), max_size=20))
def test_every_cut_gives_the_same_samples(data: bytes, cuts: list[int]) -> None:
    whole, whole_off, whole_counters = decode(data)
    cut, cut_off, cut_counters = decode(data, cuts=cuts)
    np.testing.assert_array_equal(whole, cut)
    assert whole_off == cut_off
    assert whole_counters == cut_counters


@settings(deadline=None)
@given(data=stream)
def test_byte_by_byte_too(data: bytes) -> None:
    whole, whole_off, whole_counters = decode(data)
    cut, cut_off, cut_counters = decode(data, cuts=list(range(len(data))))
    np.testing.assert_array_equal(whole, cut)
    assert (whole_off, whole_counters) == (cut_off, cut_counters)


@given(st.binary(max_size=300))
def test_any_bytes_give_numbers_or_nothing(data: bytes) -> None:
    values, off, counters = decode(b"\n" + data)
    assert not np.isinf(values).any()
    assert all(np.isnan(values[["II", "ABP"].index(name), i]) for i, names in enumerate(off) for name in names)
    assert counters.lines == values.shape[1]
    assert counters.lines + counters.bad_lines <= data.count(b"\n")


@given(data=stream)
def test_every_byte_is_accounted_for(data: bytes) -> None:
    """A line is either taken or its bytes are counted as skipped; only an unfinished line waits."""
    _, _, counters = decode(data)
    lines = data.split(b"\n")[:-1]
    taken = len(data) - counters.skipped_bytes
    assert counters.lines + counters.bad_lines <= len(lines)
    assert (taken == 0) == (counters.lines == 0)


def test_numbers_come_out_as_they_went_in() -> None:
    assert samples_of(b"1,2\n-3.5,4e1\n+.25,  7 \r\n") == [[1, 2], [-3.5, 40], [0.25, 7]]


def test_the_first_line_may_have_been_joined_in_its_middle() -> None:
    """'0.123' cut to '123' is a number too: it must not become a sample."""
    values, _, counters = decode(b"123,80\n0.124,81\n")
    assert values.T.tolist() == [pytest.approx([0.124, 81])]
    assert (counters.lines, counters.bad_lines, counters.skipped_bytes) == (1, 0, 7)


@pytest.mark.parametrize(
    "line",
    [
        *[
            b"",
            b"1",
            b"1,2,3",
            b"a,b",
            b"   ",
            b"nan",
            b"1;2",
            b"nan,1,2",
            b"nano,1",
            b"-,1",
            b"1_0,1",
            b"1 2,3",
            b"0x10,1",
            b"1,--2",
        ],
        *[
            b"1e999,1",
            b"1e39,1",
            b"-4e38,1",
            b"\xc2\xb2,1",
            "１,2".encode(),
            b"1,2\x00",
            b"Hello from the board",
            b"e,1",
        ],
    ],
)
def test_what_is_not_two_numbers_is_skipped_and_counted(line: bytes) -> None:
    values, off, counters = decode(b"0,0\n1,2\n" + line + b"\n3,4\n")
    assert values.T.tolist() == [[1, 2], [3, 4]]
    assert off == [frozenset(), frozenset()]
    assert counters.bad_lines == 1
    assert counters.skipped_bytes == 4 + len(line) + 1


@pytest.mark.parametrize("word", [b"nan", b"NaN", b"-nan", b"inf", b"+Inf", b"-inf", b"ovf", b"", b"  "])
def test_a_cell_without_a_number_is_a_sample_without_a_value(word: bytes) -> None:
    """A sensor that says 'nan' while it has nothing must not make time stand still."""
    values, off, counters = decode(b"0,0\n1,2\n" + word + b",80\n3," + word + b"\r\n4,5\n")
    np.testing.assert_array_equal(values.T, np.array([[1, 2], [np.nan, 80], [3, np.nan], [4, 5]], np.float32))
    assert off == [frozenset()] * 4
    assert (counters.lines, counters.bad_lines) == (4, 0)


def test_an_empty_cell_between_tabs_and_an_empty_line_of_one_column() -> None:
    rows = samples_of(b"1\t\r\n\t2\n", Format(("II", "ABP"), separator="tab"))
    assert str(rows) == "[[1.0, nan], [nan, 2.0]]"
    _, _, counters = decode(b"0\n1\n\n\r\nnan\n", Format(("II",)))
    assert (counters.lines, counters.bad_lines) == (2, 2)


def test_a_line_that_never_ends_is_given_up_and_the_next_one_taken() -> None:
    decoder = Decoder(TWO)
    decoder.decode(b"0,0\n")
    for _ in range(1000):
        decoder.decode(b"7" * 100)
        assert len(decoder._rest) <= LONGEST_LINE + 100  # bounded, whatever comes
    values, _ = decoder.decode(b",1\n1,2\n")  # its end is not the beginning of a line
    assert values.T.tolist() == [[1, 2]]
    assert decoder.counters.skipped_bytes == 4 + 100_000 + 3


def test_the_line_before_an_endless_one_is_kept_and_the_endless_one_s_end_is_not() -> None:
    """All in one read: what is skipped is the long line, not the good one before it."""
    decoder = Decoder(TWO)
    decoder.decode(b"0,0\n")
    values, _ = decoder.decode(b"1,2\n" + b"7" * (LONGEST_LINE + 1))
    assert values.T.tolist() == [[1, 2]]
    values, _ = decoder.decode(b"3,4\n5,6\n")  # "...77773,4" is no sample
    assert values.T.tolist() == [[5, 6]]


@pytest.mark.parametrize("length", [LONGEST_LINE, LONGEST_LINE + 1])
def test_the_longest_line(length: int) -> None:
    values, _, counters = decode(b"0,0\n" + b"1,2".ljust(length) + b"\n3,4\n")
    assert values.shape[1] == (2 if length <= LONGEST_LINE else 1)
    assert counters.skipped_bytes == 4 + (0 if length <= LONGEST_LINE else length + 1)


@pytest.mark.parametrize(
    ("separator", "line"),
    [(",", b"1,2"), (";", b"1;2"), ("tab", b"1\t2"), ("blank", b"1 2"), ("blank", b"  1 \t  2 "), (",", b" 1 , 2 ")],
)
def test_separators(separator: str, line: bytes) -> None:
    assert samples_of(line + b"\n", Format(("II", "ABP"), separator)) == [[1, 2]]


@pytest.mark.parametrize(("separator", "line"), [(",", b"1;2"), (";", b"1,2"), ("tab", b"1 2"), ("blank", b"1,2")])
def test_another_separator_is_no_separator(separator: str, line: bytes) -> None:
    assert samples_of(line + b"\n", Format(("II", "ABP"), separator)) == []


def test_scales_and_ignored_columns() -> None:
    layout = Format(("-", "II", "-", "ABP"), scale=(9.0, 0.001, 9.0, 0.5))
    values, _, _ = decode(b"0,0,0,0\nx,1500,,180\n", layout)
    np.testing.assert_allclose(values.T, [[1.5, 90]])  # an ignored column may hold anything
    values, _, _ = decode(b"0,0\n1000,2000\n", Format(("II", "ABP"), scale=(0.001,)))
    np.testing.assert_allclose(values.T, [[1, 2]])
    assert samples_of(b"1e38,1\n", Format(("II", "ABP"), scale=(1000.0,))) == []  # beyond float32 once scaled


@pytest.mark.parametrize(
    ("line", "values", "off"),
    [
        (b"!", [math.nan, math.nan], {"II", "ABP"}),  # one word for the whole line
        (b"!,80", [math.nan, 80], {"II"}),
        (b"0.1, ! ", [0.1, math.nan], {"ABP"}),
        (b"OFF,OFF", [math.nan, math.nan], {"II", "ABP"}),
        (b"0.1,80", [0.1, 80], set()),
    ],
)
def test_lead_off(line: bytes, values: list[float], off: set[str]) -> None:
    found, found_off, counters = decode(
        b"0,0\n" + line + b"\n", Format(("II", "ABP"), lead_off=frozenset({"!", "OFF"}))
    )
    np.testing.assert_allclose(found.T, [values], rtol=1e-6)
    assert found_off == [frozenset(off)]
    assert counters.bad_lines == 0


def test_a_number_may_stand_for_lead_off() -> None:
    layout = Format(("II",), lead_off=frozenset({"-32768"}))
    values, off, _ = decode(b"0\n-32768\n-32767\n", layout)
    assert np.isnan(values[0]).tolist() == [True, False]
    assert off == [frozenset({"II"}), frozenset()]


def test_nothing_gives_nothing() -> None:
    for data in (b"", b"1,2", b"\n"):
        values, off, _ = decode(data)
        assert values.shape == (2, 0)
        assert off == []


@pytest.mark.parametrize(
    ("line", "damaged"),
    [
        *[(line, 1) for line in (b"1", b"1,2,3", b"1x,2", b"1,23,4", b"\xb11,2", b"1,nan"[:3])],
        *[(line, 0) for line in (b"", b"hello", b"HR: 72", b"battery 80 %", b"# 1,2")],
    ],
)
def test_a_damaged_sample_is_told_from_prose(line: bytes, damaged: int) -> None:
    decoder = Decoder(Format(("II", "ABP"), comment=("#",)))
    decoder.decode(b"\n" + line + b"\n1,2\n")
    assert decoder.damaged == [0]  # before the first sample nothing is lost
    decoder.decode(line + b"\n")
    decoder.decode(b"3,4\n5,6\n")
    assert decoder.damaged == [damaged, 0]


def test_remarks_are_neither_samples_nor_faults() -> None:
    values, _, counters = decode(b"\n#1,2\n  // 3,4\n5,6\n", Format(("II", "ABP"), comment=("#", "//")))
    assert values.T.tolist() == [[5, 6]]
    assert (counters.remarks, counters.bad_lines) == (2, 0)
