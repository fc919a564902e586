"""Show one subject live: at each interval a table, a line of JSON, or CSV rows."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cowtrace.cli.choose_screen import Screen, screen
from cowtrace.cli.signals import Held, held
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.objects import head
from cowtrace.model import Snapshot
from cowtrace.tracer import Tracer

if TYPE_CHECKING:
    from cowtrace.terminal.screen import View

ENDING = (signal.SIGINT, signal.SIGTERM)
_LOOK_SECONDS = 1.0  # between two looks; a process that ends takes its function names with it


@dataclass(frozen=True, slots=True)
class Refresh:
    """The output of one interval. Only the form that is written is computed."""

    snapshot: Snapshot  # of the chosen processes
    view: Callable[[], View]
    as_object: Callable[[], dict[str, Any]]  # the subject's rows, and fields beside them


def watch(
    live: Tracer,
    refresh: Callable[[Snapshot, Snapshot | None], Refresh],
    *,
    rows: str,
    interval: float,
    count: int | None,
    as_json: bool,
    as_csv: bool,
    out: TextIO | None = None,
    show: bool = True,
    look: bool = False,
    at_end: Callable[[Snapshot], None] | None = None,
) -> None:
    """Show `refresh(now, before)` at each interval, until `count` of them or a signal; detach.

    `rows` names the list in the object whose items are the CSV rows. `show=False`: draw nothing.
    `look`: see `snapshots`. `at_end` gets the last snapshot after the tracer is detached, while
    signals are still held.
    """
    stream = out or sys.stdout
    with ExitStack() as stack:
        stack.enter_context(live)
        signals = ending_held(stack)
        lines = CsvLines(stream)
        drawn = None if as_json or as_csv or not show else stack.enter_context(screen())
        now: Refresh | None = None
        for snapshot, before in snapshots(live, signals, interval, count, drawn, look=look):
            now = refresh(snapshot, before)
            if drawn:
                drawn.show(now.view())
            elif as_csv:
                lines.snapshot(head(now.snapshot) | now.as_object(), rows)
            elif as_json:
                stream.write(json.dumps(head(now.snapshot) | now.as_object()) + "\n")
                stream.flush()
        if now and at_end:
            live.close()
            at_end(now.snapshot)


def ending_held(stack: ExitStack) -> Held:
    """Hold the signals that end or resize a live view until the stack is closed."""
    return stack.enter_context(held(*ENDING, signal.SIGWINCH))


def ticks(
    signals: Held,
    interval: float,
    count: int | None,
    show: Screen | None,
    look: Callable[[], object] | None = None,
) -> Iterator[None]:
    """One item at the end of each interval, and a last one when a signal ends it early.

    Within a long interval, `look` is called every second.
    """
    deadline = time.monotonic() + interval
    ticked = 0
    while count is None or ticked < count:
        next_look = time.monotonic() + _LOOK_SECONDS
        info = signals.wait(min(next_look, deadline) if look else deadline)
        if info is None and look and time.monotonic() < deadline:
            look()
            continue
        if info and info.si_signo == signal.SIGWINCH:
            if show:
                show.resized()
            continue
        yield
        if info:
            return
        ticked += 1
        # a refresh that took longer than the interval must not be followed by a burst
        deadline = max(deadline + interval, time.monotonic())


def snapshots(
    live: Tracer,
    signals: Held,
    interval: float,
    count: int | None,
    show: Screen | None,
    *,
    look: bool = False,
) -> Iterator[tuple[Snapshot, Snapshot | None]]:
    """Yield at each tick the present snapshot, and the one that rates are measured from.

    With `look`, also read the maps within long intervals: functions of a stack can be named
    only while its process lives.
    """
    earlier: Snapshot | None = None
    before: Snapshot | None = None
    for _ in ticks(signals, interval, count, show, live.snapshot if look else None):
        now = live.snapshot()
        # a signal may end the last interval too early for a rate: then measure it over two
        if before and now.at_ns - before.at_ns < interval * 0.5e9:
            before = earlier
        yield now, before
        earlier, before = before, now
