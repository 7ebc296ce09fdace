"""One episode, one raise, one clear; and what may come between."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.alarms.machine import AlarmMachine, Times, Transition
from edge_agent.alarms.rules.base import Finding

CLEAR_AFTER = 1250
TIMES = Times(CLEAR_AFTER)


def finding(at: int, against: str | None = None) -> Finding:
    return Finding(since=at - 1000, met=at, channel="II", evidence={"at": at}, against=against)


def run(present: dict[int, bool], times: Times = TIMES) -> list[tuple[int, Transition]]:
    machine = AlarmMachine()
    steps = [(now, machine.step(finding(now) if there else None, now, times)) for now, there in present.items()]
    return [(now, transition) for now, transition in steps if transition is not None]


SHORT = Times(30)


def states(machine: AlarmMachine, course: str, times: Times = SHORT, *, latching: bool = False) -> list[str]:
    """A step of ten samples for each letter: ``f`` found, ``a`` found with something against it, ``-`` not; ``K``
    acknowledged and not found."""
    said, acknowledged = [], -1
    for i, letter in enumerate(course):
        now = 10 * i
        if letter == "K":
            acknowledged = now
        found = {"f": finding(now), "a": finding(now, "ABP pulses on")}.get(letter)
        transition = machine.step(found, now, times, latching=latching, acknowledged_at=acknowledged)
        if transition is not None:
            said.append(f"{now} {transition.state} {transition.number}")
    return said


def test_raised_once_and_cleared_once_after_it_has_stayed_away() -> None:
    present = {now: 2000 <= now <= 4000 for now in range(0, 10_000, 62)}
    (raised_at, raised), (cleared_at, cleared) = run(present)
    first = min(now for now, there in present.items() if there)
    last = max(now for now, there in present.items() if there)
    assert (raised_at, raised.state, raised.number) == (first, "raised", 1)
    assert raised.finding == finding(first)
    assert (cleared.state, cleared.number, cleared.reason, cleared.active) == ("cleared", 1, None, False)
    assert cleared.finding == finding(last)  # the newest evidence, not the first
    assert last + CLEAR_AFTER <= cleared_at < last + CLEAR_AFTER + 62


def test_a_flicker_shorter_than_clear_s_is_one_episode() -> None:
    present = {now: not 3000 < now < 3000 + CLEAR_AFTER - 62 for now in range(2000, 6000, 62)}
    assert [transition.state for _, transition in run(present)] == ["raised"]


def test_the_clear_comes_exactly_at_clear_s_and_not_before() -> None:
    machine = AlarmMachine()
    assert machine.step(finding(100), 100, TIMES) is not None
    assert machine.step(None, 100 + CLEAR_AFTER - 1, TIMES) is None
    assert machine.raised
    cleared = machine.step(None, 100 + CLEAR_AFTER, TIMES)
    assert cleared is not None
    assert cleared.state == "cleared"
    assert not machine.raised
    assert machine.step(None, 100_000, TIMES) is None


def test_without_a_clear_time_it_clears_at_once() -> None:
    said = run({10: True, 20: False, 30: True}, Times(0))
    assert [transition.state for _, transition in said] == ["raised", "cleared", "raised"]


def test_episodes_are_numbered() -> None:
    present = {now: (now // 5000) % 2 == 1 for now in range(0, 30_000, 62)}
    found = [(transition.state, transition.number) for _, transition in run(present)]
    assert found == [(state, number) for number in (1, 2, 3) for state in ("raised", "cleared")][: len(found)]
    assert len(found) >= 5


@given(st.lists(st.booleans(), max_size=200), st.integers(0, 600))
def test_raises_and_clears_alternate(present: list[bool], clear_after: int) -> None:
    steps = dict(enumerate(present))
    found = run({62 * i: there for i, there in steps.items()}, Times(clear_after))
    assert [transition.state for _, transition in found] == (["raised", "cleared"] * len(found))[: len(found)]
    for now, transition in found:
        if transition.state == "cleared":
            quiet = [there for i, there in steps.items() if now - clear_after < 62 * i <= now]
            assert not any(quiet)
        else:
            assert steps[now // 62]


@given(
    st.text("fa-K", max_size=80),
    st.booleans(),
    st.sampled_from([Times(0), Times(30), Times(30, 20, 20, 100), Times(30, contested_after=70)]),
)
def test_whatever_happens_an_episode_is_raised_once_at_most(course: str, latching: bool, times: Times) -> None:
    said = [one.split() for one in states(AlarmMachine(), course, times, latching=latching)]
    for number in {one[2] for one in said}:
        mine = [state for _, state, other in said if other == number]
        assert mine.count("raised") <= 1
        assert mine.count("suppressed") <= 1
        assert mine.count("cleared") <= 1
        if "cleared" in mine:
            assert mine[-1] == "cleared"
            assert "raised" in mine
        assert mine[0] in ("raised", "suppressed")


def test_evidence_that_changes_is_said_again_but_not_too_often() -> None:
    machine = AlarmMachine()
    said = []
    for now in range(0, 1000, 10):
        found = Finding(channel="II", since=0, met=0, evidence={"rate": now // 250}) if now < 700 else None
        transition = machine.step(found, now, Times(50, 100))
        if transition is not None:
            said.append((now, transition.state, transition.finding.evidence["rate"]))
    assert said == [(0, "raised", 0), (250, "updated", 1), (500, "updated", 2), (740, "cleared", 2)]


def test_what_does_not_change_is_not_said_again() -> None:
    machine = AlarmMachine()
    found = Finding(channel=None, since=0, met=0, evidence={})
    assert [machine.step(found, now, Times(5, 1)) is not None for now in range(5)] == [True, *[False] * 4]


# -- pending ----------------------------------------------------------------------------------------------------------


def test_it_is_pending_until_it_has_lasted() -> None:
    machine = AlarmMachine()
    assert states(machine, "--f", Times(30, confirm=20)) == []
    assert machine.state == "pending"
    assert states(AlarmMachine(), "--f-ffff", Times(30, confirm=20)) == ["60 raised 1"]  # begun anew after the hole


def test_not_again_before_its_refractory_time_is_over() -> None:
    course = "f---" + "f" * 20  # cleared at 30
    assert states(AlarmMachine(), course, Times(30, refractory=100)) == ["0 raised 1", "30 cleared 1", "130 raised 2"]
    assert states(AlarmMachine(), course)[-1] == "40 raised 2"


# -- suppressed ---------------------------------------------------------------------------------------------------------


def test_what_another_signal_speaks_against_is_said_once_and_not_raised() -> None:
    assert states(AlarmMachine(), "-aaaaa-aaa----") == ["10 suppressed 1"]


def test_it_is_raised_when_what_was_against_it_falls_away() -> None:
    assert states(AlarmMachine(), "aaafff----") == ["0 suppressed 1", "30 raised 1", "80 cleared 1"]


def test_one_error_of_another_signal_does_not_make_two_alarms_of_one() -> None:
    """It is remembered for longer than a finding may be missing."""
    twice = Times(30, contested_after=60)
    assert states(AlarmMachine(), "ffaaaaaff", SHORT) == [
        "0 raised 1",
        "40 cleared 1",
        "50 suppressed 2",
        "70 raised 2",
    ]
    assert states(AlarmMachine(), "ffaaaaaff", twice) == ["0 raised 1"]
    assert states(AlarmMachine(), "ffaaaaaaaf", twice) == [
        "0 raised 1",
        "70 cleared 1",
        "80 suppressed 2",
        "90 raised 2",
    ]
    assert states(AlarmMachine(), "ff------f", twice) == ["0 raised 1", "40 cleared 1", "80 raised 2"]


def test_a_raised_alarm_that_something_comes_to_speak_against_clears_and_says_why() -> None:
    machine = AlarmMachine()
    said = [
        machine.step(finding(now, None if now < 50 else "ABP pulses on"), now, Times(30)) for now in range(0, 100, 10)
    ]
    told = [(one.state, one.reason) for one in said if one is not None]
    assert told == [("raised", None), ("cleared", "ABP pulses on"), ("suppressed", "ABP pulses on")]


def test_a_second_episode_is_suppressed_anew() -> None:
    assert states(AlarmMachine(), "aa-----aa") == ["0 suppressed 1", "70 suppressed 2"]


# -- latching -----------------------------------------------------------------------------------------------------------


def test_a_latching_alarm_stays_until_it_is_acknowledged() -> None:
    machine = AlarmMachine()
    assert states(machine, "ff--------", latching=True) == [
        "0 raised 1",
        "40 updated 1",
    ]  # it says that its finding has gone
    assert machine.state == "latched"
    cleared = machine.step(None, 200, Times(30), latching=True, acknowledged_at=195)
    assert cleared is not None
    assert (cleared.state, cleared.acknowledged, cleared.active) == ("cleared", True, False)


def test_acknowledged_while_it_goes_on_it_clears_by_itself() -> None:
    machine = AlarmMachine()
    machine.step(finding(0), 0, Times(30), latching=True)
    told = machine.step(finding(10), 10, Times(30), latching=True, acknowledged_at=5)
    assert told is not None
    assert (told.state, told.acknowledged, told.active) == ("updated", True, True)
    later = [machine.step(None, now, Times(30), latching=True, acknowledged_at=5) for now in range(20, 60, 10)]
    assert [one.state for one in later if one is not None] == ["cleared"]


def test_an_acknowledgement_is_of_this_episode_alone() -> None:
    machine = AlarmMachine()
    assert states(machine, "fK----ff------", latching=True) == [
        "0 raised 1", "10 updated 1", "30 cleared 1", "60 raised 2", "100 updated 2",
    ]  # fmt: skip
    assert machine.state == "latched"


def test_a_finding_that_returns_to_a_latched_alarm_is_the_same_episode() -> None:
    assert states(AlarmMachine(), "f----f---", latching=True) == [
        "0 raised 1", "30 updated 1", "50 updated 1", "80 updated 1",
    ]  # fmt: skip


def test_the_end_ends_everything() -> None:
    machine = AlarmMachine()
    machine.step(finding(0), 0, Times(30), latching=True)
    told = machine.end(20, "signal ended")
    assert told is not None
    assert (told.state, told.reason) == ("cleared", "signal ended")
    assert machine.end(30, "signal ended") is None
