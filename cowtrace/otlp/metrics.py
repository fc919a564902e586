"""Turn the metrics of the Prometheus exporter into a request of OTLP."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import (
    AggregationTemporality,
    Metric,
    NumberDataPoint,
)
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from cowtrace import __version__

_UNITS = (("_bytes", "By"), ("_seconds", "s"))  # as UCUM writes them


def resource() -> Resource:
    """Who sends: cowtrace, on this machine."""
    return Resource(
        attributes=attributes(
            {
                "service.name": "cowtrace",
                "service.version": __version__,
                "host.name": os.uname().nodename,
            }
        )
    )


def scope() -> InstrumentationScope:
    return InstrumentationScope(name="cowtrace", version=__version__)


def attributes(words: dict[str, str]) -> list[KeyValue]:
    return [KeyValue(key=key, value=AnyValue(string_value=word)) for key, word in words.items()]


def metrics_request(
    families: Iterable[Any], *, began_ns: int, at_ns: int
) -> ExportMetricsServiceRequest:
    """`families`: of prometheus_client. Counters are sums since `began_ns`; both since the epoch.

    A metric has its name without the `_total` that Prometheus' format puts after counters'.
    """
    request = ExportMetricsServiceRequest()
    block = request.resource_metrics.add(resource=resource())
    metrics = block.scope_metrics.add(scope=scope()).metrics
    for family in families:
        unit = next((unit for end, unit in _UNITS if family.name.endswith(end)), "")
        metric = Metric(name=family.name, description=family.documentation, unit=unit)
        counts = family.type == "counter"
        wanted = f"{family.name}_total" if counts else family.name
        points = [
            _point(sample, began_ns if counts else 0, at_ns)
            for sample in family.samples
            if sample.name == wanted  # not those of when a counter was created
        ]
        if counts:
            cumulative = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
            metric.sum.aggregation_temporality = cumulative
            metric.sum.is_monotonic = True
            metric.sum.data_points.extend(points)
        else:
            metric.gauge.data_points.extend(points)
        if points:
            metrics.append(metric)
    return request


def _point(sample: Any, began_ns: int, at_ns: int) -> NumberDataPoint:
    point = NumberDataPoint(
        attributes=attributes(sample.labels),
        start_time_unix_nano=began_ns,
        time_unix_nano=at_ns,
    )
    if isinstance(sample.value, int):
        point.as_int = int(sample.value)  # not a bool
    else:
        point.as_double = sample.value
    return point
