"""What Prometheus is told: every number of bridge/health under its name, and nothing where nothing was measured."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator

import pytest

from edge_agent import events
from edge_agent.config import MetricsConfig
from edge_agent.errors import OutputError
from edge_agent.outputs.metrics import Metrics
from tests.spine import free_port

pytest.importorskip("prometheus_client")


def health(**changes: object) -> events.Health:
    """One stream that runs and one that waits; a broker with an outbox."""
    stream = {
        "state": "online", "samples": 5000, "lost_samples": 3, "beats": 21, "verdicts": 20, "abstentions": 2, "restarts": 4,
        "fs_nominal": 250.0, "fs_measured": 250.01,
    }  # fmt: skip
    quantiles = {
        "p50_ms": 1.0,
        "p90_ms": 2.0,
        "p95_ms": 3.0,
        "p99_ms": 4.0,
        "p99_9_ms": 5.0,
        "max_ms": 6.0,
        "count": 70,
    }
    made = {
        "device": "d", "session": "s", "time": "2026-01-01T00:00:00Z", "uptime_s": 12.5, "resident_mb": 64.0,
        "broker": {
            "connected": True, "state": "connected", "connects": 1, "waiting": 5, "published": 100, "dropped": 2, "lost": 1, "refused": 0,
            "outbox": {"messages": 5, "bytes": 500, "evicted": {"beats": 7, "events": 0, "alarms": 0}, "disk": "ok"},
        },
        "streams": {"bed": stream, "door": stream | {"state": "waiting", "samples": 0}},
        "inference": {"asked": 9, "dropped": 4, "waiting": 2, "stuck_s": 6},
        "latency": {"beat_total": {"last_minute": quantiles, "since_start": quantiles | {"count": 900}},
                    "alarm_total": {"last_minute": None, "since_start": None}},
    }  # fmt: skip
    return events.Health.model_validate(made | changes)


@pytest.fixture
def asked() -> Iterator[dict[str, object]]:
    """The health that is given, by key `now`, and the port."""
    given: dict[str, object] = {"now": health(), "port": free_port()}

    def now() -> events.Health:
        found = given["now"]
        assert isinstance(found, events.Health)
        return found

    server = Metrics(MetricsConfig.model_validate({"port": given["port"]}), now)
    yield given
    server.stop()


def read(given: dict[str, object]) -> dict[str, float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{given['port']}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if not line.startswith("#"))
    }


def test_every_number_under_its_name(asked: dict[str, object]) -> None:
    assert read(asked) == {
        "edge_agent_uptime_seconds": 12.5,
        "edge_agent_resident_megabytes": 64.0,
        "edge_agent_broker_connected": 1.0,
        "edge_agent_broker_waiting": 5.0,
        "edge_agent_broker_published_total": 100.0,
        "edge_agent_broker_dropped_total": 2.0,
        "edge_agent_broker_lost_total": 1.0,
        'edge_agent_outbox_evicted_total{rank="beats"}': 7.0,
        'edge_agent_outbox_evicted_total{rank="events"}': 0.0,
        'edge_agent_outbox_evicted_total{rank="alarms"}': 0.0,
        "edge_agent_inference_asked_total": 9.0,
        "edge_agent_inference_dropped_total": 4.0,
        "edge_agent_inference_waiting": 2.0,
        "edge_agent_inference_stuck_seconds": 6.0,
        **{
            f'edge_agent_stream_{field}{{stream="{stream}"}}': value
            for stream in ("bed", "door")
            for field, value in (("lost_samples_total", 3.0), ("beats_total", 21.0), ("verdicts_total", 20.0),
                                 ("abstentions_total", 2.0), ("restarts_total", 4.0))
        },
        'edge_agent_stream_samples_total{stream="bed"}': 5000.0,
        'edge_agent_stream_samples_total{stream="door"}': 0.0,
        'edge_agent_stream_online{stream="bed"}': 1.0,
        'edge_agent_stream_online{stream="door"}': 0.0,
        **{
            f'edge_agent_latency_seconds{{quantile="{quantile}",stage="beat_total"}}': value / 1000
            for quantile, value in (("0.5", 1), ("0.9", 2), ("0.95", 3), ("0.99", 4), ("0.999", 5))
        },
        'edge_agent_latency_measured_total{stage="beat_total"}': 900.0,
    }  # fmt: skip


def test_what_was_not_measured_is_not_there(asked: dict[str, object]) -> None:
    made = health()
    broker = made.broker.model_copy(update={"outbox": None, "connected": False})
    asked["now"] = made.model_copy(update={"resident_mb": None, "broker": broker, "inference": {}, "latency": {}})
    found = read(asked)
    assert found["edge_agent_broker_connected"] == 0.0
    assert not [
        name for name in found if "resident" in name or "outbox" in name or "inference" in name or "latency" in name
    ]


def test_a_port_that_is_taken_is_said() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OutputError, match=f"127.0.0.1:{port} cannot be listened on") as caught:
            Metrics(MetricsConfig.model_validate({"port": port}), health)
    assert caught.value.remedy == "choose another metrics.port"
