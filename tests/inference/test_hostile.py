"""Each of these is refused in one line that names the file and says why, soon and without taking memory; the active model goes on."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from edge_agent.errors import ArtifactError
from edge_agent.inference.artifact import load, open_engine
from tests.inference.hostile import HOSTILE, Hostile
from tests.inference.tiny import GOLDEN, write

ROOT = Path(__file__).resolve().parent.parent.parent
WITHIN_S = 5.0
"""Of a machine that is busy with other tests; a tenth of a second is usual."""
MOST_MIB = 300


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


@pytest.mark.parametrize("one", HOSTILE, ids=[one.name for one in HOSTILE])
def test_it_is_refused_and_the_active_model_goes_on(one: Hostile, tmp_path: Path) -> None:
    active = open_engine(load(write(tmp_path / "active")))
    case = tuple(GOLDEN[name][0].astype(np.float32) for name in ("numbers", "rr"))
    before = active.invoke(case)
    path = one.write(tmp_path / "hostile")
    began, memory = time.monotonic(), peak_mib()
    with pytest.raises(ArtifactError) as caught:
        open_engine(load(path))
    assert time.monotonic() - began < WITHIN_S
    assert peak_mib() - memory < MOST_MIB
    first, *rest = str(caught.value).split("\n")
    assert first.startswith(str(path)), first
    for word in one.words:
        assert word in first, first
    assert len(rest) <= 1  # the remedy
    assert first.isprintable()
    assert len(first) < 400 + len(str(path)), "one line that somebody reads"
    np.testing.assert_array_equal(active.invoke(case), before)


def test_there_are_enough_of_them_and_none_twice() -> None:
    assert len({one.name for one in HOSTILE}) == len(HOSTILE) >= 20


def test_what_passes_the_vetting_does_not_kill_the_runtime() -> None:
    """In a process of its own, which says which mutant it is at. Without the vetting one in a thousand ends it, or never answers."""
    command = [sys.executable, "-m", "tests.inference.mutants", "11", "600"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    last = done.stdout.splitlines()[-1:]
    assert done.returncode == 0, (done.returncode, last, done.stderr[-300:])
    assert last[0].startswith("alive"), last
    counts = ast.literal_eval(last[0].removeprefix("alive "))
    assert counts["refused"] > 100
    assert counts["taken"] > 100
