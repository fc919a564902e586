"""`cowtrace snoop`: print one line per fault, as it happens."""

from __future__ import annotations

import json
import shutil
import sys
import time

import click

from cowtrace import tracer
from cowtrace.cli.attach import attach
from cowtrace.cli.choice import Choice, filter_options
from cowtrace.cli.live import ENDING, NOTHING_MORE
from cowtrace.cli.options import Form, attach_option, form_options, notice
from cowtrace.cli.signals import held
from cowtrace.machine import detail_objects
from cowtrace.machine.csv import CsvLines
from cowtrace.model import Event
from cowtrace.terminal.events import EventLines
from cowtrace.text import COLUMNS

_WAIT_SECONDS = 0.1
_LAST_POLLS = 3  # faults before the signal can arrive one poll later
_ROUND_SECONDS = 1.0  # how often the tracer's sums and its count of dropped events are read


@click.command(
    epilog="\b\nExamples:\n  sudo cowtrace snoop -p 4711 --kind copied\n"
    "  sudo cowtrace snoop --json -n 1000 > faults.json"
)
@filter_options
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N",
              help="End after N faults; by default on Ctrl-C.")  # fmt: skip
@attach_option
@form_options
@click.option("-v", "--verbose", is_flag=True, help="Show every column in full width.")
def snoop(choice: Choice, count: int | None, plan: str, form: Form, verbose: bool) -> None:
    """Show each copy-on-write fault as it happens.

    Each fault is one line: the time, the process, the name of the thread that wrote (of another
    process if the write is remote), what became of the page, what the page held (SRC: anon, file,
    zero, ksm, thp, huge), what made the write (FROM: user, kern, rem, unsh, fork; in whole words
    with -v), the address of the byte that was written (its last digits are - where the plan shows
    the page alone), its mapping, and the fault's duration if the plan can time it.

    Faults that come faster than they can be written are dropped. Their number is reported on
    stderr; with --json, in an object with the field `dropped`. Ctrl-C ends the command.
    """
    tracing = attach(
        plan, verbose=verbose, events=True, details=frozenset({"latency"}), optional=True,
        only=choice.in_tracer(),
    )  # fmt: skip
    with tracing as live, held(*ENDING) as signals:
        live.confine(NOTHING_MORE)
        lines = EventLines(
            width=shutil.get_terminal_size().columns if sys.stdout.isatty() else COLUMNS,
            wide=verbose,
            timed="latency" in live.probe_plan.details,
        )
        printer = _Printer(lines, form)
        round_ends = time.monotonic() + _ROUND_SECONDS
        polls_left: int | None = None  # counted down after a signal
        while polls_left != 0 and (count is None or printer.shown < count):
            for event in live.events(_WAIT_SECONDS if polls_left is None else 0):
                if choice.takes(event) and (count is None or printer.shown < count):
                    printer.event(event)
            if polls_left is not None:
                polls_left -= 1
            elif signals.wait(time.monotonic()):
                polls_left = _LAST_POLLS
            if time.monotonic() >= round_ends:
                printer.dropped(_dropped(live))
                round_ends = time.monotonic() + _ROUND_SECONDS
            sys.stdout.flush()
        dropped = _dropped(live)
        printer.dropped(dropped)
        sys.stdout.flush()
        notice(f"{printer.shown:,} faults shown, {dropped:,} dropped")


class _Printer:
    """Writes one line per fault, and reports dropped faults in between."""

    def __init__(self, lines: EventLines, form: Form) -> None:
        self.shown = 0
        self._lines = lines
        self._form = form
        self._csv = CsvLines(sys.stdout)
        self._dropped = 0
        if form == "table":
            print(lines.head(), flush=True)

    def event(self, event: Event) -> None:
        self.shown += 1
        if self._form == "table":
            print(self._lines.line(event))
        elif self._form == "json":
            print(json.dumps(detail_objects.event_object(event)))
        else:
            self._csv.write([detail_objects.event_object(event)])

    def dropped(self, in_all: int) -> None:
        """Report how many more were dropped since the last call."""
        more = in_all - self._dropped
        self._dropped = in_all
        if more and self._form == "json":
            print(json.dumps({"dropped": more}))
        elif more:
            sys.stdout.flush()
            notice(f"{more:,} faults dropped: too fast to be written")


def _dropped(live: tracer.Tracer) -> int:
    """The number of faults dropped since attach."""
    return dict(live.snapshot().completeness.detail).get("events dropped", 0)
