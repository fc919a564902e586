"""`cowtrace export otlp`: send metrics and profiles to an OpenTelemetry collector."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import click

from cowtrace import tracer
from cowtrace.analysis.new_rows import NewProfile
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, process_options
from cowtrace.cli.chosen import Chosen
from cowtrace.cli.export.watched import Watched, groups_option, private_option, require
from cowtrace.cli.live import ENDING, ticks
from cowtrace.cli.options import attach_option, notice, notices_option
from cowtrace.cli.signals import held
from cowtrace.model import Snapshot
from cowtrace.tracer.confinement import confine_sender

if TYPE_CHECKING:
    from google.protobuf.message import Message

_READ_SECONDS = 5.0  # between two readings, if no message is sent meanwhile
_HEADERS = "OTEL_EXPORTER_OTLP_HEADERS"


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace export otlp --endpoint http://collector:4318\n"
    "  sudo cowtrace export otlp --stacks -p 4711 --interval 10"
)
@click.option("--endpoint", default="http://localhost:4318", show_default=True, metavar="URL",
              envvar="OTEL_EXPORTER_OTLP_ENDPOINT", show_envvar=True,
              help="Send to this collector, by OTLP over HTTP.")  # fmt: skip
@click.option("--header", "headers", multiple=True, metavar="NAME=VALUE",
              help=f"Send this header, too; {_HEADERS} hides it from ps.")  # fmt: skip
@click.option("--stacks", is_flag=True, help="Also send which code copies, as profiles.")
@groups_option
@click.option("--interval", type=click.FloatRange(min=0.1), default=60.0, show_default=True,
              metavar="SECONDS", help="Send every SECONDS.")  # fmt: skip
@private_option
@process_options
@attach_option
@notices_option
def otlp(
    endpoint: str,
    headers: Sequence[str],
    stacks: bool,
    groups: int,
    interval: float,
    private: bool,
    choice: Choice,
    plan: str,
    verbose: bool,
) -> None:
    """Send metrics, and profiles, to an OpenTelemetry collector until Ctrl-C.

    Sends the metrics of `cowtrace export prometheus` to URL/v1/metrics. With --stacks, also what
    the code copied since the last time to URL/v1development/profiles: estimates, from samples of
    copies. Collectors must have that signal enabled.

    Messages that the collector does not take are sent again, with longer and longer pauses.
    Meanwhile the newest 16 MiB are kept. On Ctrl-C, the last counts are sent before it ends.

    https verifies the certificate as Python does: SSL_CERT_FILE names other authorities. Proxies
    and redirects are not followed. -p includes descendants. Needs opentelemetry-proto: pip install
    'cowtrace[otlp]'.
    """
    hint = "pip install 'cowtrace[otlp]'"
    require("prometheus_client", "prometheus_client", hint)
    signal_proto = "opentelemetry.proto.profiles.v1development.profiles_pb2"
    require(signal_proto, "opentelemetry-proto", hint)
    from cowtrace.otlp.endpoint import header, listed_headers, parse
    from cowtrace.otlp.metrics import metrics_request
    from cowtrace.otlp.profiles import profiles_request
    from cowtrace.otlp.sender import sending

    given = (*listed_headers(os.environ.get(_HEADERS, "")), *map(header, headers))
    collector = parse(endpoint, dict(given).items())
    if given and not collector.secure and not collector.is_loopback:
        notice("without https, headers can be read on their way")
    chosen = Chosen(replace(choice, follow=bool(choice.pids))) if private else None
    # Before the probes are attached, whose descriptors its process must not have.
    with sending(collector, confine_sender) as outbox:
        tracing = attach(
            plan, verbose=verbose, details=frozenset({"generation"}), optional=True,
            samples=stacks, only=replace(choice.in_tracer(), follow=bool(choice.pids)),
        )  # fmt: skip
        with tracing as live, held(*ENDING) as signals:
            watched = Watched(live, choice, groups, chosen)
            live.confine(tracer.Needs(publishes=True, frames=private))
            new = NewProfile(watched.cgroups)
            read_at, began_ns, sent_ns, is_behind = time.monotonic(), 0, 0, False

            def read() -> Snapshot:
                nonlocal read_at
                now = watched.count()
                read_at = time.monotonic()
                new.add(now)
                return now

            def look() -> None:
                """Within an interval: a process that ends takes its function names with it."""
                due = read_at + _READ_SECONDS <= time.monotonic()
                if stacks or watched.crowded or due:
                    read()

            def hand_over(signal: str, request: Message) -> None:
                nonlocal is_behind
                if not outbox.send(signal, request) and not is_behind:
                    is_behind = True
                    notice("the process that sends is too slow: messages are dropped")

            def send() -> None:
                nonlocal began_ns, sent_ns
                now = read()
                at_ns = round(watched.began * 1e9)
                # The same in all messages: another one is a reset. Unless the clock goes back.
                if not began_ns or at_ns < began_ns:
                    began_ns = at_ns - (now.at_ns - now.attached_ns)
                request = metrics_request(watched.collect(), began_ns=began_ns, at_ns=at_ns)
                hand_over("metrics", request)
                if found := new.take(now):
                    since_ns = sent_ns or began_ns
                    took_ns = max(0, at_ns - since_ns)
                    hand_over(
                        "profiles", profiles_request(found, began_ns=since_ns, duration_ns=took_ns)
                    )
                sent_ns = at_ns

            send()
            notice(f"sending to {collector.shown}")
            for _ in ticks(signals, interval, None, look=look):
                send()
