"""Two threads draw numbers and say alarms; they are said in the order of their numbers, and a number that never comes delays little."""

from __future__ import annotations

import itertools
import threading
import time

from edge_agent import events
from edge_agent.outputs.in_order import PATIENCE_S, InOrder
from tests.outputs.test_mqtt import header


def alarm(number: int) -> events.Alarm:
    return events.Alarm(
        **header(number), id=str(number), kind="asystole", state="raised", priority="high", silenced=False, channel=None, reason=None,
        confidence=1.0, active=True, acknowledged=False, strip=None,
        since=0, delay_ms=0, evidence={},
    )  # fmt: skip


def test_two_threads_say_their_alarms_in_order() -> None:
    order, numbers, said = InOrder(), itertools.count(), []

    def say() -> None:
        for turn in range(300):
            made = alarm(next(numbers))
            if turn % 7 == 0:
                time.sleep(0.0005)  # overtaken between the number and the saying
            with order.turn(made):
                said.append(made.seq)

    threads = [threading.Thread(target=say) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said == list(range(600))


def test_a_number_that_never_comes_delays_the_next_by_little() -> None:
    order = InOrder()
    began = time.monotonic()
    with order.turn(alarm(3)):
        pass
    assert PATIENCE_S * 0.9 <= time.monotonic() - began < 1.0
    began = time.monotonic()
    for number in (4, 5, 2):  # and one that comes after all is said, too
        with order.turn(alarm(number)):
            pass
    assert time.monotonic() - began < PATIENCE_S
