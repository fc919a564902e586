"""Show one subject live: at each interval its table on a screen, or a line of JSON, or CSV."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

from cowtrace.cli.choose_screen import screen
from cowtrace.cli.watching import ending_held, snapshots
from cowtrace.machine.csv import CsvLines
from cowtrace.machine.objects import head
from cowtrace.model import Snapshot
from cowtrace.tracer import Tracer

if TYPE_CHECKING:
    from cowtrace.terminal.view import View


@dataclass(frozen=True, slots=True)
class Refresh:
    """What one interval shows. Only the form that was asked for is made."""

    snapshot: Snapshot  # of the processes that were asked for
    view: Callable[[], View]
    as_object: Callable[[], dict[str, Any]]  # the subject's list, and what belongs to it


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

    `rows` is the list of the object that CSV has a line for each item of. `show=False`: draw
    nothing meanwhile. `look`: also read the maps within a long interval, see `snapshots`.
    `at_end` gets the last snapshot once the tracer is detached, while signals are still held.
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
