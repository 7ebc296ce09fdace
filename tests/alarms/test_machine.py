"""One episode, one raise, one clear."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.alarms.machine import AlarmMachine, Transition
from edge_agent.alarms.rules import Finding

CLEAR_AFTER = 1250


def finding(at: int) -> Finding:
    return Finding(since=at - 1000, met=at, channel="II", evidence={"at": at})


def run(present: dict[int, bool], clear_after: int = CLEAR_AFTER) -> list[tuple[int, Transition]]:
    machine = AlarmMachine()
    steps = [(now, machine.step(finding(now) if there else None, now, clear_after)) for now, there in present.items()]
    return [(now, transition) for now, transition in steps if transition is not None]


def test_raised_once_and_cleared_once_after_it_has_stayed_away() -> None:
    present = {now: 2000 <= now <= 4000 for now in range(0, 10_000, 62)}
    (raised_at, raised), (cleared_at, cleared) = run(present)
    first = min(now for now, there in present.items() if there)
    last = max(now for now, there in present.items() if there)
    assert (raised_at, raised.state, raised.number) == (first, "raised", 1)
    assert raised.finding == finding(first)
    assert (cleared.state, cleared.number) == ("cleared", 1)
    assert cleared.finding == finding(last)  # the newest evidence, not the first
    assert last + CLEAR_AFTER <= cleared_at < last + CLEAR_AFTER + 62


def test_a_flicker_shorter_than_clear_s_is_one_episode() -> None:
    present = {now: not 3000 < now < 3000 + CLEAR_AFTER - 62 for now in range(2000, 6000, 62)}
    assert [transition.state for _, transition in run(present)] == ["raised"]


def test_the_clear_comes_exactly_at_clear_s_and_not_before() -> None:
    machine = AlarmMachine()
    assert machine.step(finding(100), 100, CLEAR_AFTER) is not None
    assert machine.step(None, 100 + CLEAR_AFTER - 1, CLEAR_AFTER) is None
    assert machine.raised
    cleared = machine.step(None, 100 + CLEAR_AFTER, CLEAR_AFTER)
    assert cleared is not None
    assert cleared.state == "cleared"
    assert not machine.raised
    assert machine.step(None, 100_000, CLEAR_AFTER) is None


def test_without_a_clear_time_it_clears_at_once() -> None:
    assert [transition.state for _, transition in run({10: True, 20: False, 30: True}, 0)] == [
        *["raised", "cleared", "raised"]
    ]


def test_episodes_are_numbered() -> None:
    present = {now: (now // 5000) % 2 == 1 for now in range(0, 30_000, 62)}
    found = [(transition.state, transition.number) for _, transition in run(present)]
    assert found == [(state, number) for number in (1, 2, 3) for state in ("raised", "cleared")][: len(found)]
    assert len(found) >= 5


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 600))
def test_raises_and_clears_alternate(present: list[bool], clear_after: int) -> None:
    steps = dict(enumerate(present))
    found = run({62 * i: there for i, there in steps.items()}, clear_after)
    assert [transition.state for _, transition in found] == (["raised", "cleared"] * len(found))[: len(found)]
    for now, transition in found:
        if transition.state == "cleared":
            quiet = [there for i, there in steps.items() if now - clear_after < 62 * i <= now]
            assert not any(quiet)
        else:
            assert steps[now // 62]


def test_evidence_that_changes_is_said_again_but_not_too_often() -> None:
    machine = AlarmMachine()
    said = []
    for now in range(0, 1000, 10):
        finding = Finding(channel="II", since=0, met=0, evidence={"rate": now // 250}) if now < 700 else None
        transition = machine.step(finding, now, 50, 100)
        if transition is not None:
            said.append((now, transition.state, transition.finding.evidence["rate"]))
    assert said == [(0, "raised", 0), (250, "updated", 1), (500, "updated", 2), (740, "cleared", 2)]


def test_what_does_not_change_is_not_said_again() -> None:
    machine = AlarmMachine()
    finding = Finding(channel=None, since=0, met=0, evidence={})
    assert [machine.step(finding, now, 5, 1) is not None for now in range(5)] == [True, False, False, False, False]
