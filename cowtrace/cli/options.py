"""Options that several commands share, so that they are named and explained once."""

from __future__ import annotations

import click

PLANS = ("auto", "fentry", "kprobe", "tracepoint")

attach_option = click.option(
    "--attach",
    "plan",
    type=click.Choice(PLANS),
    default="auto",
    show_default=True,
    help="How to attach to the kernel; auto takes the first of the others that it allows.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")

verbose_option = click.option(
    "-v",
    "--verbose",
    is_flag=True,
    help="Also all page faults, the rarer kinds, and where each fault came from.",
)


def notice(text: str) -> None:
    """Say on stderr what the tracer wants known: which plan it took, and why."""
    click.echo(f"cowtrace: {text}", err=True)
