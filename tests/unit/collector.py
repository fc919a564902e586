"""A collector for tests: an HTTP server that parses what it gets by the official messages."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.profiles.v1development.profiles_service_pb2 import (
    ExportProfilesServiceRequest,
)

REQUESTS: dict[str, Any] = {
    "/v1/metrics": ExportMetricsServiceRequest,
    "/v1development/profiles": ExportProfilesServiceRequest,
}
Points = dict[str, list[tuple[dict[str, str], float]]]


class Collector:
    """What was received. `statuses`: of the next answers; then 200."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_port}"
        self.metrics: list[ExportMetricsServiceRequest] = []
        self.profiles: list[ExportProfilesServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.statuses: list[int] = []
        self.rejected = 0  # data points, of each request
        self.came = threading.Condition()

    def wait(self, what: str, number: int, seconds: float) -> bool:
        """Until so many requests of metrics, or profiles, or headers have come."""
        with self.came:
            return self.came.wait_for(lambda: len(getattr(self, what)) >= number, seconds)

    def points(self) -> Points:
        """Of the last request, by the metric's name: attributes and value."""
        found: Points = {}
        for metric in metrics_of(self.metrics[-1]):
            values = metric.sum if metric.HasField("sum") else metric.gauge
            for point in values.data_points:
                attributes = {each.key: each.value.string_value for each in point.attributes}
                value = point.as_int if point.HasField("as_int") else point.as_double
                found.setdefault(metric.name, []).append((attributes, value))
        return found


def metrics_of(request: ExportMetricsServiceRequest) -> list[Any]:
    (block,) = request.resource_metrics
    (scope,) = block.scope_metrics
    return list(scope.metrics)


@contextmanager
def collecting(tls: ssl.SSLContext | None = None) -> Iterator[Collector]:
    """Listen at a port of the loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            with found.came:
                status = found.statuses.pop(0) if found.statuses else 200
                found.headers.append(dict(self.headers))
                if status == 200:
                    assert self.headers["Content-Type"] == "application/x-protobuf"
                    request = REQUESTS[self.path].FromString(content)
                    is_metrics = self.path == "/v1/metrics"
                    (found.metrics if is_metrics else found.profiles).append(request)
                found.came.notify_all()
            answer = ExportMetricsServiceResponse()
            if found.rejected:
                answer.partial_success.rejected_data_points = found.rejected
                answer.partial_success.error_message = "too\x1bmany"
            body = answer.SerializeToString()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        found = Collector(server)
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
            found.url = f"https://localhost:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield found
        finally:
            server.shutdown()
            thread.join()


def samples_of(request: ExportProfilesServiceRequest) -> dict[str, list[tuple[Any, Any, int]]]:
    """By the type of the profile: functions, the leaf first; attributes; the value."""
    tables = request.dictionary
    strings = tables.string_table
    first = (
        *(tables.mapping_table[0], tables.location_table[0], tables.function_table[0]),
        *(tables.link_table[0], tables.attribute_table[0], tables.stack_table[0]),
    )
    assert not any(each.ByteSize() for each in first)
    assert strings[0] == ""
    found: dict[str, list[tuple[Any, Any, int]]] = {}
    (block,) = request.resource_profiles
    (scope,) = block.scope_profiles
    for profile in scope.profiles:
        assert len(profile.profile_id) == 16
        rows = found.setdefault(strings[profile.sample_type.type_strindex], [])
        for sample in profile.samples:
            (value,) = sample.values
            places = tables.stack_table[sample.stack_index].location_indices
            lines = (tables.location_table[at].lines[0] for at in places)
            functions = (tables.function_table[line.function_index] for line in lines)
            names = tuple(strings[each.name_strindex] for each in functions)
            attributes = {}
            for at in sample.attribute_indices:
                one = tables.attribute_table[at]
                kind = one.value.WhichOneof("value")
                attributes[strings[one.key_strindex]] = getattr(one.value, kind)
            rows.append((names, attributes, value))
    return found
