"""`cowtrace export`: metrics for Prometheus and OpenTelemetry, and the files that go with them."""

from __future__ import annotations

import click

from cowtrace.cli.export import otlp, prometheus, shipped


@click.group()
def export() -> None:
    """Export metrics to Prometheus or OpenTelemetry; print rules, a dashboard, a schema."""


for command in (
    otlp.otlp,
    prometheus.prometheus,
    *(shipped.dashboard, shipped.rules, shipped.unit, shipped.seccomp, shipped.schema),
):
    export.add_command(command)
