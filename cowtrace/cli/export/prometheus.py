"""`cowtrace export prometheus`: serve metrics."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

from cowtrace import tracer
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, process_options
from cowtrace.cli.chosen import Chosen
from cowtrace.cli.export.watched import Watched, groups_option, private_option, require
from cowtrace.cli.live import ENDING, ticks
from cowtrace.cli.options import attach_option, notice, notices_option
from cowtrace.cli.signals import held
from cowtrace.errors import EXIT_USAGE, CowtraceError
from cowtrace.tracer.confinement import confine_server


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace export prometheus\n"
    "  sudo cowtrace export prometheus --listen :9435 --web-config web.yml"
)
@click.option("--listen", default="127.0.0.1:9435", show_default=True, metavar="HOST:PORT",
              help="Serve /metrics at this address.")  # fmt: skip
@click.option("--web-config", metavar="FILE",
              help="Read TLS and basic auth from FILE, as Prometheus' exporters do.")  # fmt: skip
@click.option("--allow-remote", is_flag=True,
              help="Let other machines read the names of processes and cgroups.")  # fmt: skip
@groups_option
@click.option("--interval", type=click.FloatRange(min=0.1), default=5.0, show_default=True,
              metavar="SECONDS", help="Read the counts every SECONDS.")  # fmt: skip
@private_option
@process_options
@attach_option
@notices_option
def prometheus(
    listen: str,
    web_config: str | None,
    allow_remote: bool,
    groups: int,
    interval: float,
    private: bool,
    choice: Choice,
    plan: str,
    verbose: bool,
) -> None:
    """Serve metrics for Prometheus until Ctrl-C.

    Metrics: faults and bytes by process name, cgroup, kind, source and origin; what live forks
    share and may still cost; faults lost and unclassified; cowtrace's own cost. There are none by
    PID. At most N names and cgroups have metrics of their own: those that fault most now. "(rest)"
    has the sums of all others, "(retired)" those of names that no longer have metrics.

    With --private, also the sums of `cowtrace private`: for root, with -p, --comm or --cgroup.

    A request gets the counts of the last reading, at most SECONDS old, and never waits for one.

    Listens on this machine only, unless the web config requires passwords or client certificates,
    or --allow-remote is given. A web config, its certificates and key are read again when they
    change. -p includes descendants.

    The cost of the BPF programs is included while the kernel measures it: sysctl
    kernel.bpf_stats_enabled=1. Needs prometheus_client: pip install 'cowtrace[prometheus]'.
    """
    require(
        "prometheus_client",
        "prometheus_client",
        "pip install 'cowtrace[prometheus]'; or apt install python3-prometheus-client",
    )
    from prometheus_client import generate_latest

    from cowtrace.prometheus import server, web_process
    from cowtrace.prometheus.reloading import Reloading
    from cowtrace.prometheus.webconfig import WebConfig

    chosen = Chosen(replace(choice, follow=bool(choice.pids))) if private else None
    host, port = server.address(listen)
    local = server.is_loopback(host)

    def demand(config: WebConfig) -> None:
        if not (allow_remote or config.keeps_out or local):
            raise CowtraceError(
                "other machines could read the metrics, and with them names of processes and "
                "cgroups",
                hint="listen on 127.0.0.1, name passwords in a --web-config, or take "
                "--allow-remote",
                exit_code=EXIT_USAGE,
            )
        if config.passwords and not config.tls and not local:
            notice("without a tls_server_config, passwords can be read on their way")

    web = Reloading(Path(web_config), demand, notice) if web_config else None
    if web is None:
        demand(WebConfig())
    listener = server.listening(host, port)
    shown = f"[{host}]" if ":" in host else host or "*"
    shown = f"{'https' if web and web.current.tls else 'http'}://{shown}"
    shown = f"{shown}:{listener.getsockname()[1]}{server.PATH}"
    # Before the probes are attached, whose descriptors its process must not have.
    with web_process.served(listener, host if local else None, web, confine_server) as pages:
        tracing = attach(
            plan, verbose=verbose, details=frozenset({"generation"}), optional=True,
            only=replace(choice.in_tracer(), follow=bool(choice.pids)),
        )  # fmt: skip
        with tracing as live, held(*ENDING) as signals:
            watched = Watched(live, choice, groups, chosen)
            live.confine(tracer.Needs(publishes=True, frames=private))

            def look() -> None:
                watched.count()
                pages.publish(generate_latest(watched))  # type: ignore[arg-type]

            def look_if_crowded() -> None:
                """Between two intervals, so that a storm of processes does not pile up."""
                if watched.crowded:
                    look()

            look()
            notice(shown)
            for _ in ticks(signals, interval, None, look=look_if_crowded):
                look()
