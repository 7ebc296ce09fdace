"""The screen: several impossible samples near each other are each given up, and nothing beside them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.serial_faults import samples_of
from tests.sources.boards.test_screen import beats, chunk, screened


@pytest.mark.parametrize("apart", [9, 10, 11, 17, 40])
@pytest.mark.parametrize("at_once", [1, 8])
def test_two_that_are_found_in_one_look(apart: int, at_once: int) -> None:
    """Of different signs, so that neither is like the other."""
    values = beats(1200)
    spoilt = values.copy()
    first = 650
    spoilt[[first, first + apart]] += np.array([2.0, -3.0], np.float32)
    chunks, counters = screened([chunk(part) for part in np.split(spoilt, 24)], at_once)
    got = samples_of(chunks, 1)[0]
    assert np.flatnonzero(np.isnan(got)).tolist() == [first, first + apart]
    assert counters.values_implausible == 2
    kept = ~np.isnan(got)
    np.testing.assert_array_equal(got[kept], values[kept])
