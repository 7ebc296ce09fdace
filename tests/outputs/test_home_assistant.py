"""Home Assistant: what is announced to it, what is taken away, and what its entities say."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_args

import pytest

from edge_agent.events import AlarmKind
from edge_agent.outputs.home_assistant import MOST_GONE, Announced, discovery, object_id
from tests.outputs.test_hub import ask
from tests.spine import Broker, base_config, listening, retained_now, running_agent, simulated, wait_for

HOME = "homeassistant/device/edge-agent-dev/config"


def test_home_assistant_is_told_again_when_it_starts_again(broker: Broker, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed")) + "\n[home_assistant]\nenabled = true\n"
    with listening(broker.port) as listener, running_agent(tmp_path, text):

        def told() -> int:
            return sum(one.topic == HOME for one in listener.heard)

        wait_for(lambda: told() == 1, "the discovery")
        listener.wait("bed", "state")
        ask(broker.port, "homeassistant/status", b"offline")
        ask(broker.port, "homeassistant/status", b"online")
        wait_for(lambda: told() == 2, "the discovery, again")


BOTH = frozenset({"ecg", "abp"})
SHORT = {
    "avty": "availability", "avty_mode": "availability_mode", "dev_cla": "device_class", "exp_aft": "expire_after",
    "ic": "icon", "json_attr_t": "json_attributes_topic", "stat_cla": "state_class", "stat_t": "state_topic",
    "t": "topic", "uniq_id": "unique_id", "unit_of_meas": "unit_of_measurement", "val_tpl": "value_template",
}  # fmt: skip
"""From the table in Home Assistant's documentation of MQTT discovery."""
LONG = {
    *SHORT.values(), "p", "name", "default_entity_id", "suggested_display_precision", "event_types", "entity_category",
    "device", "origin", "components", "identifiers", "model", "sw_version",
}  # fmt: skip


def in_full(found: dict[str, Any]) -> dict[str, Any]:
    """As Home Assistant reads it."""
    return {SHORT.get(key, key): value for key, value in found.items()}


def announced(device: str, *streams: str, kinds: frozenset[str] | None = BOTH, gone: tuple[str, ...] = ()) -> Any:
    """What Home Assistant reads, in full."""
    payload = discovery("homeassistant", "edge-agent", device, dict.fromkeys(streams, kinds), gone)[1]
    return json.loads(payload, object_hook=in_full)


def test_the_discovery_uses_no_key_that_home_assistant_does_not_know() -> None:
    found = announced("bay7", "bed1")
    components = found.pop("components")
    assert set(found) | set(found["device"]) | set(found["origin"]) <= LONG
    for component in components.values():
        assert set(component) <= LONG


def test_the_discovery_stays_small() -> None:
    def size(many: int) -> int:
        return len(discovery("homeassistant", "edge-agent", "bay7", {f"bed{n}": BOTH for n in range(many)})[1])

    assert size(1) < 5600
    assert size(30) < 155_000


def rendered(template: str, said: dict[str, Any]) -> str:
    jinja2 = pytest.importorskip("jinja2")  # Home Assistant's own
    environment = jinja2.Environment()
    environment.filters["to_json"] = json.dumps
    text: str = environment.from_string(template).render(value_json=said)
    return text


@pytest.mark.parametrize(("off", "expected"), [(True, "ON"), (False, "OFF")])
def test_a_lead_is_off_as_the_retained_state_says_and_not_the_last_alarm(off: bool, expected: str) -> None:
    """An alarm of a session that was killed is never cleared; the state is said anew, and grows old where nobody says it."""
    lead = announced("d", "b")["components"]["b-lead-off"]
    assert lead["state_topic"] == "edge-agent/d/b/state"
    assert lead["expire_after"] > 0
    assert rendered(lead["value_template"], {"lead_off": off}) == expected
    assert rendered(lead["value_template"], {}) == "OFF"  # of an agent that did not say it yet


@pytest.mark.parametrize("state", ["raised", "updated", "cleared", "suppressed"])
def test_an_alarm_is_an_event_that_was_announced(state: str) -> None:
    alarms = announced("d", "b")["components"]["b-alarm"]
    text = rendered(alarms["value_template"], {"kind": "asystole", "state": state, "priority": "high", "id": "x"})
    if state == "suppressed":
        assert text == ""
    else:
        assert json.loads(text)["event_type"] in alarms["event_types"]


def test_every_alarm_and_state_is_an_event_that_was_announced() -> None:
    expected = {f"{kind}_{state}" for kind in get_args(AlarmKind) for state in ("raised", "updated", "cleared")}
    assert set(announced("d", "b")["components"]["b-alarm"]["event_types"]) == expected


def test_what_has_news_while_the_stream_is_away_is_there_while_the_agent_is() -> None:
    """`signal_lost` is raised when the stream is offline: an event of an entity that is not available is no event."""
    components = announced("d", "b")["components"]
    agent = [{"topic": "edge-agent/d/bridge/state", "value_template": "{{ value_json.state }}"}]
    for part in ("alarm", "lead-off", "connected"):
        assert components[f"b-{part}"]["availability"] == agent
    assert len(components["b-heart_rate"]["availability"]) == 2
    assert components["b-heart_rate"]["availability_mode"] == "all"
    connected = components["b-connected"]
    assert connected["device_class"] == "connectivity"
    assert connected["state_topic"] == "edge-agent/d/b/availability"
    assert rendered(connected["value_template"], {"state": "online"}) == "ON"
    assert rendered(connected["value_template"], {"state": "offline"}) == "OFF"


def test_what_no_channel_fills_is_not_announced() -> None:
    def full(kinds: frozenset[str] | None) -> set[str]:
        found = announced("d", "b", kinds=kinds)["components"]
        return {key for key, one in found.items() if len(one) > 1} - {"latency"}

    always, pressures = {"b-connected", "b-alarm"}, {"b-systolic", "b-diastolic", "b-mean"}
    assert full(frozenset({"ecg"})) == always | {"b-heart_rate", "b-lead-off"}
    assert full(frozenset({"abp", "other"})) == always | pressures
    assert full(BOTH) == always | pressures | {"b-heart_rate", "b-lead-off"}
    # Known to have none: taken away. A source that was never open may have been announced in full: nothing is said of that.
    none = announced("d", "b", kinds=frozenset({"ecg"}))["components"]
    assert [none[key] for key in sorted(pressures)] == [{"p": "sensor"}] * 3
    assert set(announced("d", "b", kinds=None)["components"]) == always | {"latency"}


def test_a_stream_that_is_gone_is_taken_away_whole() -> None:
    was = announced("d", "a", "b.1")["components"]
    now = announced("d", "a", gone=("b.1",))["components"]
    assert set(now) == set(was)
    for key, one in was.items():
        assert now[key] == (one if key.startswith("a-") or key == "latency" else {"p": one["p"]})


def test_the_discovery_has_all_that_home_assistant_requires() -> None:
    streams = dict.fromkeys(["bed1", "bed.2", "bed_2"], BOTH)
    topic, payload = discovery("homeassistant", "edge-agent", "bay 7", streams)
    assert re.fullmatch(r"homeassistant/device/[a-zA-Z0-9_-]+/config", topic)
    found = json.loads(payload, object_hook=in_full)
    assert found["device"]["identifiers"]
    assert found["origin"]["name"]
    components = found["components"]
    assert len(components) == 3 * 7 + 1
    unique = [component["unique_id"] for component in components.values()]
    assert len(set(unique)) == len(unique)
    for component in components.values():
        assert component["p"] in ("sensor", "binary_sensor", "event")
        assert re.fullmatch(r"[a-zA-Z0-9_-]+", component["unique_id"])
        assert component["state_topic"].startswith("edge-agent/bay 7/")
        assert all(place["topic"].startswith("edge-agent/bay 7/") for place in component["availability"])
        assert all(place["value_template"] == "{{ value_json.state }}" for place in component["availability"])
    alarms = components["bed1-alarm"]
    assert "asystole_raised" in alarms["event_types"]
    rates = components["bed1-heart_rate"]
    assert rates["expire_after"] > 0
    assert object_id("a.b") != object_id("a_b")


AT_HOME = "\n[home_assistant]\nenabled = true\n"


def test_a_stream_that_was_taken_out_is_cleared_away_at_the_next_start(broker: Broker, tmp_path: Path) -> None:
    text = base_config(broker.port, simulated("bed", source='channels = ["II"]'))
    was = ("edge-agent/dev/gone/state", "edge-agent/dev/gone/availability")
    with (
        listening(broker.port) as listener,
        running_agent(tmp_path, text + "\n" + simulated("gone") + AT_HOME),
    ):
        listener.wait("gone", "state")
        listener.wait("bed", "state")
    # Somebody's own: the agent's own topics, and another device's, are no streams of it.
    others = ("edge-agent/dev/bridge/availability", "edge-agent/dev2/bed9/availability")
    for topic in others:
        ask(broker.port, topic, b"{}", retain=True)
    assert {*was, *others} <= set(retained_now(broker.port))
    with listening(broker.port) as listener, running_agent(tmp_path, text + AT_HOME):
        listener.wait("bed", "state")
        wait_for(lambda: not {*was} & set(retained_now(broker.port)), "the stream that is gone to be cleared")

        def told() -> dict[str, Any]:
            found: dict[str, Any] = retained_now(broker.port)[HOME]["components"]
            return found

        wait_for(lambda: told().get("gone-alarm") == {"p": "event"}, "its entities to be taken away")
        assert {*others, "edge-agent/dev/bed/state", "edge-agent/dev/bridge/state"} <= set(retained_now(broker.port))
        # And of the stream that is there, no pressure: it has no channel of one.
        assert told()["bed-systolic"] == {"p": "sensor"}
        assert len(told()["bed-heart_rate"]) > 1


def test_what_comes_to_be_known_is_announced_once_and_what_others_invent_is_bounded() -> None:
    said: list[tuple[str, bytes]] = []
    told = Announced("homeassistant", "edge-agent", "d", ["a"], lambda *one: said.append(one))
    told.say()
    for kinds in (None, frozenset({"ecg"}), frozenset({"ecg"})):  # not open yet, opened, and asked again and again
        told.now({"a": kinds})
    assert [len(json.loads(payload)["components"]["a-heart_rate"]) > 1 for _, payload in said[1:]] == [True]
    assert "a-heart_rate" not in json.loads(said[0][1])["components"]
    del said[:]
    for topic, payload in (("a", b"{}"), ("bridge", b"{}"), ("", b"{}"), ("gone", b"")):
        told.once_was(f"edge-agent/d/{topic}/availability", payload)
    assert said == []
    for number in range(MOST_GONE + 5):
        told.once_was(f"edge-agent/d/x{number}/availability", b"{}")
        told.once_was(f"edge-agent/d/x{number}/availability", b"{}")
    assert [topic for topic, payload in said if not payload] == [
        f"edge-agent/d/x{number}/{kept}" for number in range(MOST_GONE) for kept in ("availability", "state")
    ]
