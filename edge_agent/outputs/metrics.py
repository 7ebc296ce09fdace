"""Metrics for Prometheus, by its official client: the numbers of bridge/health, at the moment of asking."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from edge_agent import events
from edge_agent.errors import OutputError
from edge_agent.outputs.settings import MetricsConfig

log = logging.getLogger(__name__)

QUANTILES = {"p50_ms": "0.5", "p90_ms": "0.9", "p95_ms": "0.95", "p99_ms": "0.99", "p99_9_ms": "0.999"}


class _Collector:
    def __init__(self, health: Callable[[], events.Health]) -> None:
        self._health = health

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        now = self._health()

        def gauge(name: str, text: str, value: float | None) -> Iterator[Any]:
            if value is not None:  # what was not measured is not there
                yield GaugeMetricFamily(f"edge_agent_{name}", text, value=value)

        def counter(name: str, text: str, value: float) -> Any:
            return CounterMetricFamily(f"edge_agent_{name}", text, value=value)

        yield from gauge("uptime_seconds", "Since the start.", now.uptime_s)
        yield from gauge("resident_megabytes", "Memory of the process.", now.resident_mb)
        broker = now.broker
        yield from gauge("broker_connected", "1 while the broker is there.", float(broker.connected))
        yield from gauge("broker_waiting", "QoS 1 messages not acknowledged yet.", broker.waiting)
        yield counter("broker_published", "Messages handed to the network.", broker.published)
        yield counter("broker_dropped", "QoS 0 messages while the broker was away.", broker.dropped)
        yield counter("broker_lost", "QoS 1 messages that could not be kept.", broker.lost)
        if broker.outbox is not None:
            evicted = CounterMetricFamily("edge_agent_outbox_evicted", "Pushed out by a bound.", labels=["rank"])
            for rank, count in broker.outbox.evicted.items():
                evicted.add_metric([rank], count)
            yield evicted
        for name, count in now.inference.items():
            if name == "waiting":
                yield from gauge("inference_waiting", "Windows waiting for the models.", count)
            elif name == "stuck_s":
                yield from gauge("inference_stuck_seconds", "For how long a model has not answered, beyond 5 s.", count)
            else:
                yield counter(f"inference_{name}", "Of the models' queue.", count)
        for field, text in (
            ("samples", "Samples that came."),
            ("lost_samples", "Samples that never came."),
            ("beats", "Beats found."),
            ("verdicts", "Windows judged."),
            ("abstentions", "Windows without a label."),
            ("restarts", "Times the source was opened again."),
        ):
            family = CounterMetricFamily(f"edge_agent_stream_{field}", text, labels=["stream"])
            for stream, health in now.streams.items():
                family.add_metric([stream], getattr(health, field))
            yield family
        online = GaugeMetricFamily("edge_agent_stream_online", "1 while the stream delivers.", labels=["stream"])
        for stream, health in now.streams.items():
            online.add_metric([stream], float(health.state == "online"))
        yield online
        yield from _latency(now, CounterMetricFamily, GaugeMetricFamily)


def _latency(now: events.Health, counter: Any, gauge: Any) -> Iterator[Any]:
    """The last minute's quantiles, as gauges: a histogram's buckets would say less than the HDR histogram knows."""
    family = gauge("edge_agent_latency_seconds", "Of the last minute, by stage.", labels=["stage", "quantile"])
    counts = counter("edge_agent_latency_measured", "Measurements since the start, by stage.", labels=["stage"])
    for stage, spans in now.latency.items():
        if spans.last_minute is not None:
            for field, quantile in QUANTILES.items():
                family.add_metric([stage, quantile], getattr(spans.last_minute, field) / 1000)
        if spans.since_start is not None:
            counts.add_metric([stage], spans.since_start.count)
    yield family
    yield counts


class Metrics:
    """An HTTP server on loopback, unless told otherwise; in a thread of its own."""

    def __init__(self, config: MetricsConfig, health: Callable[[], events.Health]) -> None:
        try:
            from prometheus_client import CollectorRegistry, start_http_server
        except ImportError:
            raise OutputError(
                "metrics: prometheus_client is not installed", remedy="in the checkout: pip install '.[metrics]'"
            ) from None
        registry = CollectorRegistry()
        registry.register(_Collector(health))
        try:
            self._server, self._thread = start_http_server(config.port, addr=config.host, registry=registry)
        except OSError as error:
            raise OutputError(
                f"metrics: {config.host}:{config.port} cannot be listened on ({error.strerror or error})",
                remedy="choose another metrics.port",
            ) from None
        log.info("metrics on http://%s:%d/metrics", config.host, config.port)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(1.0)
