"""The ring: what it holds, where it says so, and what it owns up to having lost."""

from __future__ import annotations

import sys
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.journey import Samples
from edge_agent.signal.ring import Overwritten, Ring

ROWS = 2
MODULUS = 1 << 20
"""Values are indices, which float32 holds exactly this far and farther."""


def numbered(first: int, n: int) -> Samples:
    """Samples whose values are their indices (the second row counts downwards), so that any mix-up shows."""
    row = np.arange(first, first + n) % MODULUS
    return np.stack([row, -row]).astype(np.float32)


def test_the_memory_is_fixed() -> None:
    ring = Ring(ROWS, 100)
    ring.push(numbered(0, 30))
    before = ring.view(0, 0, 30)
    for first in range(30, 5000, 70):
        ring.push(numbered(first, 70))
    ring.skip(1000)
    after = ring.view(0, ring.end - 100, ring.end)
    assert after.base is before.base  # the same array from beginning to end
    assert after.base is not None
    assert after.base.nbytes == 2 * ROWS * 100 * 4


def test_a_view_is_contiguous_and_no_copy_even_where_the_buffer_wraps() -> None:
    ring = Ring(ROWS, 64)
    ring.push(numbered(0, 50))
    ring.push(numbered(50, 50))  # wraps at 64
    for channel in range(ROWS):
        view = ring.view(channel, 40, 100)
        assert view.flags.c_contiguous
        assert np.shares_memory(view, ring.view(channel, 60, 70))
        np.testing.assert_array_equal(view, numbered(40, 60)[channel])
    assert not np.shares_memory(ring.view(0, 40, 100), ring.view(1, 40, 100))


def test_indices_are_absolute_from_wherever_the_stream_began() -> None:
    ring = Ring(ROWS, 16, first=1_000_003)
    assert (ring.start, ring.end) == (1_000_003, 1_000_003)
    ring.push(numbered(1_000_003, 5))
    assert (ring.start, ring.end) == (1_000_003, 1_000_008)
    np.testing.assert_array_equal(ring.view(1, 1_000_005, 1_000_008), numbered(1_000_005, 3)[1])


@pytest.mark.parametrize(("first", "end"), [(83, 90), (100, 101), (90, 89), (0, 5)])
def test_what_is_not_there_is_refused(first: int, end: int) -> None:
    ring = Ring(ROWS, 16)
    ring.push(numbered(0, 60))
    ring.push(numbered(60, 40))  # holds 84..99
    with pytest.raises(Overwritten, match=r"84\.\.100"):
        ring.view(0, first, end)
    assert ring.view(0, 84, 100).size == 16


@pytest.mark.parametrize(("channels", "capacity"), [(0, 10), (1, 0), (1, -1)])
def test_a_ring_of_nothing_is_refused(channels: int, capacity: int) -> None:
    with pytest.raises(ValueError, match="cannot hold"):
        Ring(channels, capacity)


def test_a_push_longer_than_the_ring_keeps_the_newest() -> None:
    ring = Ring(ROWS, 10)
    ring.push(numbered(0, 7))
    ring.push(numbered(7, 36))
    assert (ring.start, ring.end) == (33, 43)
    np.testing.assert_array_equal(ring.view(0, 33, 43), numbered(33, 10)[0])


def test_skipped_samples_have_an_index_and_no_value() -> None:
    ring = Ring(ROWS, 10)
    ring.push(numbered(0, 4))
    ring.skip(3)
    ring.push(numbered(7, 2))
    row = ring.view(0, 0, 9)
    assert np.isnan(row).tolist() == [False] * 4 + [True] * 3 + [False] * 2
    assert row[7] == 7
    ring.skip(10**13)  # a day away must not be written sample by sample
    assert ring.end == 10**13 + 9
    assert np.isnan(ring.view(1, ring.end - 10, ring.end)).all()
    ring.skip(0)
    ring.skip(-5)
    assert ring.end == 10**13 + 9


def test_each_reader_has_its_own_place_and_its_own_losses() -> None:
    ring = Ring(ROWS, 10)
    ring.push(numbered(0, 4))
    assert ring.reader("late").next == 4  # a new reader begins at the newest
    ring = Ring(ROWS, 10)
    ring.reader("slow")
    for step in range(5):
        ring.push(numbered(step * 6, 6))
        first, values = ring.take("quick")
        if step == 0:
            assert (first, values.shape) == (6, (ROWS, 0))  # it was new
        else:
            assert first == step * 6
            np.testing.assert_array_equal(values, numbered(step * 6, 6))
    first, values = ring.take("slow")
    assert first == 20
    np.testing.assert_array_equal(values, numbered(20, 10))
    assert ring.reader("slow").lost == 20
    assert ring.reader("quick").lost == 0
    assert ring.take("slow")[1].shape == (ROWS, 0)


def test_take_hands_out_a_copy_in_portions() -> None:
    ring = Ring(ROWS, 10)
    ring.reader("r")
    ring.push(numbered(0, 8))
    first, values = ring.take("r", most=3)
    kept = values.copy()
    ring.push(numbered(8, 10))
    np.testing.assert_array_equal(values, kept)
    assert first == 0
    first, values = ring.take("r", most=4)
    assert (first, ring.reader("r").lost) == (8, 5)
    np.testing.assert_array_equal(values, numbered(8, values.shape[1]))
    rest_first, rest = ring.take("r")
    assert rest_first + rest.shape[1] == 18


operation = st.one_of(
    st.tuples(st.just("push"), st.integers(0, 40)),
    st.tuples(st.just("skip"), st.integers(0, 40)),
    st.tuples(st.sampled_from(["take a", "take b"]), st.one_of(st.none(), st.integers(0, 25))),
)


@given(capacity=st.integers(1, 17), start=st.integers(0, 50), operations=st.lists(operation, max_size=40))
@settings(max_examples=300, deadline=None)
def test_it_behaves_like_an_endless_list(capacity: int, start: int, operations: list[tuple[str, int | None]]) -> None:
    """The naive model keeps every sample ever pushed, by its index."""
    ring = Ring(ROWS, capacity, first=start)
    truth: dict[int, float] = {}
    places = {"a": ring.reader("a").next, "b": ring.reader("b").next}
    had: dict[str, set[int]] = {"a": set(), "b": set()}
    assert set(places.values()) == {start}
    end = start
    for what, n in operations:
        if what == "push":
            assert n is not None
            ring.push(numbered(end, n))
            truth.update({i: float(i) for i in range(end, end + n)})
            end += n
        elif what == "skip":
            assert n is not None
            ring.skip(n)
            truth.update({i: float("nan") for i in range(end, end + n)})
            end += n
        else:
            name = what[-1]
            first, values = ring.take(name, n)
            assert first >= places[name]
            got = range(first, first + values.shape[1])
            if n is not None:
                assert len(got) <= n
            np.testing.assert_array_equal(values[0], np.array([truth[i] for i in got], np.float32))
            np.testing.assert_array_equal(values[1], -values[0])
            had[name].update(got)
            places[name] = first + len(got)
        oldest = max(start, end - capacity)
        assert (ring.start, ring.end) == (oldest, end)
        held = np.array([truth[i] for i in range(oldest, end)], np.float32)
        np.testing.assert_array_equal(ring.view(0, oldest, end), held)
    for name in ("a", "b"):
        first, values = ring.take(name)
        had[name].update(range(first, first + values.shape[1]))
        # Every sample was either handed out or counted as lost: none twice, none silently.
        assert len(had[name]) + ring.reader(name).lost == end - start


@pytest.mark.parametrize("step", [1, 7, 64, 200, 1000], ids="blocks of {}".format)
def test_take_is_never_torn_while_another_thread_pushes(step: int) -> None:
    """Blocks longer than the ring too: what was never written must not be handed out under a new index."""
    ring = Ring(ROWS, 256)
    ring.reader("r")
    stop = threading.Event()
    pushed = [0]

    def write() -> None:
        first = 0
        while not stop.is_set():
            ring.push(numbered(first, step))
            first += step
        pushed[0] = first

    writer = threading.Thread(target=write)
    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # let them meet often
    writer.start()
    torn: list[int] = []
    handed_out = 0
    try:
        enough = time.monotonic() + 0.25
        while ring.reader("r").next < 400 * step or time.monotonic() < enough:
            first, values = ring.take("r")
            handed_out += values.shape[1]
            if not np.array_equal(values, numbered(first, values.shape[1])):
                torn.append(first)
    finally:
        stop.set()
        writer.join()
        sys.setswitchinterval(usual)
    first, values = ring.take("r")
    handed_out += values.shape[1]
    assert not torn
    assert handed_out + ring.reader("r").lost == pushed[0]


@pytest.mark.parametrize("write", ["push", "skip"])
@pytest.mark.parametrize("n", [5, 16, 40])
def test_a_reader_that_comes_in_mid_write_takes_nothing_unwritten(write: str, n: int) -> None:
    """The same without luck: the reader comes at every step that the writer takes, blocks longer than the ring too."""

    class Interrupted(Ring):
        """Calls ``visit`` whenever the writer moves one of its marks."""

        armed = False

        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if self.armed and name in ("_end", "_writing_to"):
                visit(self)

    seen: list[tuple[int, Samples]] = []

    def visit(ring: Ring) -> None:
        """What ``take`` would hand out at this moment, without its waiting for the writer."""
        start, end = ring.start, ring.end
        whole = max(start, ring._writing_to - ring.capacity)
        if end > whole:
            seen.append((whole, np.stack([ring.view(row, whole, end) for row in range(ROWS)]).copy()))

    ring = Interrupted(ROWS, 16)
    truth = np.full(1000, np.nan, np.float32)
    for turn in range(8):
        first = ring.end
        truth[first : first + n] = np.arange(first, first + n)
        ring.armed = True
        ring.push(numbered(first, n))
        ring.armed = False
        if write == "skip" and turn % 2:
            ring.armed = True
            ring.skip(n + 1)
            ring.armed = False
    assert seen
    for first, values in seen:
        np.testing.assert_array_equal(values[0], truth[first : first + values.shape[1]])
        np.testing.assert_array_equal(values[1], -values[0])
