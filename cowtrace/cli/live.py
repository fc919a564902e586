"""Show one subject live: at each interval a table, a line of JSON, or CSV rows."""

from __future__ import annotations

import json
import math
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cowtrace.cli.ended import have_ended
from cowtrace.cli.options import Output
from cowtrace.cli.signals import Held, held
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.objects import head
from cowtrace.model import Snapshot
from cowtrace.tracer import Needs, Tracer

if TYPE_CHECKING:
    from cowtrace.terminal.screen import Screen, View

ENDING = (signal.SIGINT, signal.SIGTERM)
NOTHING_MORE = Needs()
_MOST_ENDED = 2048  # processes
_LOOK_SECONDS = 1.0
_MOST_LOOKING = 4  # times as long as a look took lies between it and the next


@dataclass(frozen=True, slots=True)
class Refresh:
    """The output of one interval. Only the form that is written is computed."""

    snapshot: Snapshot  # of the chosen processes
    view: Callable[[], View]  # imported after the probes are attached: rich takes long to load
    as_object: Callable[[], dict[str, Any]]  # the subject's rows, and fields beside them


def watch(
    live: Tracer,
    refresh: Callable[[Snapshot, Snapshot | None], Refresh],
    rows: str,
    output: Output,
    *,
    out: TextIO | None = None,
    look_seconds: float | None = None,
    needs: Needs = NOTHING_MORE,
    at_end: Callable[[Snapshot], None] | None = None,
    pids: Sequence[int] = (),
) -> None:
    """Show `refresh(now, before)` at each interval, until the last one or a signal; detach.

    Without a COUNT, the interval in which the last of `pids` ended is the last one, too.

    `rows` names the list in the object whose items are the CSV rows. With `look_seconds`,
    also read the maps so often within an interval: a process that ends takes the names of its
    functions with it.
    With `at_end`, draw no tables: it gets the last snapshot after the tracer is detached, while
    signals are still held. A tracer that folds keeps a row of their own for the largest of the
    ended processes only: a fork storm would fill memory with the others.
    """
    stream = out or sys.stdout
    with ExitStack() as stack:
        stack.enter_context(live)
        signals = stack.enter_context(held(*ENDING, signal.SIGWINCH))
        gone = stack.enter_context(have_ended(pids if output.count is None else ()))
        live.confine(needs)
        lines = CsvLines(stream)
        drawn: Screen | None = None
        if output.form == "table" and not at_end:
            from cowtrace.terminal.screen import screen

            drawn = stack.enter_context(screen(stream))
        now: Refresh | None = None
        earlier: Snapshot | None = None
        before: Snapshot | None = None
        resized = drawn.resized if drawn else None
        look = live.snapshot if look_seconds else None
        for _ in ticks(
            signals, output.interval, output.count, resized, look, look_seconds or _LOOK_SECONDS
        ):
            last = gone()
            snapshot = live.snapshot()
            # a signal may end the last interval too early for a rate: then measure it over two
            if before and snapshot.at_ns - before.at_ns < output.interval * 0.5e9:
                before = earlier
            now = refresh(snapshot, before)
            if drawn:
                drawn.show(now.view())
            elif output.form == "csv":
                lines.snapshot(head(now.snapshot) | now.as_object(), rows)
            elif output.form == "json":
                stream.write(json.dumps(head(now.snapshot) | now.as_object()) + "\n")
                stream.flush()
            earlier, before = before, snapshot
            live.fold_ended(_MOST_ENDED)
            if last:
                break
        if now and at_end:
            live.close()
            at_end(now.snapshot)


def ticks(
    signals: Held,
    interval: float,
    count: int | None,
    resized: Callable[[], None] | None = None,
    look: Callable[[], object] | None = None,
    look_seconds: float = _LOOK_SECONDS,
) -> Iterator[None]:
    """Yield at the end of each interval, and once more when a signal ends it early.

    `resized` is called when the terminal's size changes; `look` every
    `look_seconds` within an interval, less often where it takes long.
    """
    deadline = time.monotonic() + interval
    ticked = 0
    pause = look_seconds if look else math.inf
    while count is None or ticked < count:
        info = signals.wait(min(time.monotonic() + pause, deadline))
        if info is None and look and (began := time.monotonic()) < deadline:
            look()
            pause = max(look_seconds, _MOST_LOOKING * (time.monotonic() - began))
            continue
        if info and info.si_signo == signal.SIGWINCH:
            if resized:
                resized()
            continue
        yield
        if info:
            return
        ticked += 1
        # a refresh that took longer than the interval must not be followed by a burst
        deadline = max(deadline + interval, time.monotonic())
