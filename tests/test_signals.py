"""A signal may come while the main thread holds the lock that its answer needs."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.conftest import ROOT

INSIDE_THE_LOCK = """
import os, signal, threading
from edge_agent.process import signals

lock, stop = threading.Lock(), threading.Event()
answered = 0

def answer():
    global answered
    with lock:
        answered += 1
        stop.set()

signals.answer({signal.SIGTERM: answer})
with lock:  # as in the midst of Event.wait and Event.set
    for _ in range(5000):  # and again and again, by who will not wait
        os.kill(os.getpid(), signal.SIGTERM)
assert stop.wait(10)
print("over")
"""


def test_an_answer_may_take_the_lock_that_was_held() -> None:
    done = subprocess.run(
        [sys.executable, "-c", INSIDE_THE_LOCK],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "over\n", "")
