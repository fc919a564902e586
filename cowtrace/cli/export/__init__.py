"""`cowtrace export`: metrics for Prometheus, and the files that go with them."""

from __future__ import annotations

import click

from cowtrace.cli.export import prometheus, shipped


@click.group()
def export() -> None:
    """Export metrics to Prometheus; print its rules, a dashboard, a schema."""


for command in (
    prometheus.prometheus,
    *(shipped.dashboard, shipped.rules, shipped.unit, shipped.seccomp, shipped.schema),
):
    export.add_command(command)
