"""`cowtrace export dashboard`, rules, unit, seccomp, schema: print a file that ships with it."""

from __future__ import annotations

import json
from importlib import resources

import click

from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.text import printable


@click.command(epilog="\b\nExample:\n  cowtrace export dashboard > cowtrace.json")
def dashboard() -> None:
    """Print a Grafana dashboard of the metrics."""
    click.echo(_shipped("grafana.json"), nl=False)


@click.command(epilog="\b\nExample:\n  cowtrace export rules > cowtrace-alerts.yml")
def rules() -> None:
    """Print alert rules for Prometheus.

    They fire for forks whose copies do not level off, and for a trace with losses.
    """
    click.echo(_shipped("alerts.yml"), nl=False)


@click.command(
    epilog="\b\nExample:\n  cowtrace export unit | "
    "sudo tee /etc/systemd/system/cowtrace-exporter.service"
)
def unit() -> None:
    """Print a systemd unit that runs the exporter.

    It runs as a user of its own, with two capabilities.
    """
    click.echo(_shipped("cowtrace-exporter.service"), nl=False)


@click.command(
    epilog="\b\nExample:\n  podman run --rm cowtrace export seccomp > cowtrace-seccomp.json"
)
def seccomp() -> None:
    """Print a seccomp profile for containers.

    podman and docker take it: --security-opt seccomp=cowtrace-seccomp.json
    """
    from cowtrace.tracer.container_profile import profile

    click.echo(json.dumps(profile(), indent=1))


@click.command(
    epilog="\b\nExamples:\n  cowtrace export schema > cowtrace.schema.json\n"
    "  cowtrace export schema maps"
)
@click.argument("command", required=False)
def schema(command: str | None) -> None:
    """Print the JSON Schema of what commands write with --json.

    COMMAND is top, report or vm-list, for example; without it, the schema of all is printed.
    """
    from cowtrace.machine.schema import NAMES, of

    if command is not None and command not in NAMES:
        raise CowtraceError(
            f"no schema is called {printable(command)}",
            hint=f"there are: {', '.join(NAMES)}",
            exit_code=EXIT_USAGE,
        )
    click.echo(json.dumps(of(command), indent=2))


def _shipped(name: str) -> str:
    return (resources.files("cowtrace.prometheus") / name).read_text()
